"""Forgetting a person: afterwards no byte of the data folder holds what was personal, in log, lake, snapshots and tables."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from shopward import Engine
from shopward.cli.lake import lake
from shopward.erase import erase
from shopward.errors import UsageError
from shopward.lists import Entry
from shopward.store.lake import compact
from shopward.store.tables import Tables, audit
from tests.end_to_end.story import START
from tests.rules.books import SCHEMA, book, rule

KIM, OTHER = "kim.erased@private.example", "ada.stays@private.example"


def event(i: int, account: str, email: str) -> dict:
    return {
        "event_id": f"e{i}",
        "type": "login",
        "ts": START + i * 1000,
        "account": account,
        "device": "d1",
        "email": email,
    }


@pytest.fixture
def data(tmp_path):
    assert "email: {type: string, pii: true" in SCHEMA
    with Engine(
        book(rule("big", "amount > 100"), rule("mail", 'mail_domain == "private.example"')),
        data=tmp_path,
        mode="interpreted",
    ) as engine:
        engine.decide_events([event(i, *(("42", KIM), ("7", OTHER))[i % 2]) for i in range(20)])
        engine.label([{"event_id": "e0", "label": 1, "label_ts": START + 60_000, "source": "kim's bank"}])
        engine.write_lists([Entry(list="blocked_devices", key="d9", valid_from=START)])
        engine.snapshot()
        engine.decide(event(20, "42", KIM))
    compact(tmp_path)
    return tmp_path


def holders(data, text: str) -> list[str]:
    return sorted(str(f.relative_to(data)) for f in data.rglob("*") if f.is_file() and text.encode() in f.read_bytes())


def test_no_byte_of_the_folder_holds_the_values_of_an_erased_account(data):
    assert holders(data, KIM) == ["shopward.db"], "before, only the vault has it"
    done = erase(data, "account:42", "user:kim")
    assert (done.events, done.values) == (12, 1)
    assert holders(data, KIM) == [] and holders(data, "kim.erased") == []
    assert holders(data, OTHER) == ["shopward.db"]
    assert erase(data, "account:42", "user:kim").values == 0


def test_the_engine_goes_on_and_the_same_value_is_a_stranger(data):
    with Engine(book(rule("big", "amount > 100")), data=data, mode="interpreted") as engine:
        before = engine.journal.pseudonym("email", KIM)
    erase(data, "account:42", "user:kim")
    with Engine(book(rule("big", "amount > 100")), data=data, mode="interpreted") as engine:
        assert engine.find("e0")["event_id"] == "e0"
        assert engine.journal.pseudonym("email", KIM) != before


def test_it_is_in_the_audit_without_saying_whose(data):
    CliRunner().invoke(lake, ["erase", "--entity", "account:42", "--data", str(data), "--json"])
    with Tables.open(data / "shopward.db") as tables:
        rows = tables.rows(audit.select())
    assert [row["did"] for row in rows] == ["erased", "entity erased"]
    assert KIM not in json.dumps(rows)


def test_what_cannot_be_erased_is_said(data):
    with pytest.raises(UsageError, match="kind of the rulebook .account, device."):
        erase(data, "person:42", "user:kim")
    with (
        Engine(book(rule("big", "amount > 100")), data=data, mode="interpreted"),
        pytest.raises(UsageError, match="in use by process"),
    ):
        erase(data, "account:42", "user:kim")
