"""What a newcomer gets wrong: every mistake is told in a line, with what would be right, and leaves nothing half done."""

from __future__ import annotations

import json

import pytest

from shopward.cli import main

BOOK = {
    "schema.yaml": "types: [login]\nfields: {account: {type: string, entity: account}, email: {type: string, entity: email, pii: true}}",
    "features/f.yaml": "account_logins_1h: {entity: account, measure: count, over: 1h}",
    "rules/r.yaml": "id: burst\ntitle: Burst\non: [login]\nwhen: account_logins_1h > 20\nthen: challenge\nstate: live\n",
}
EVENT = {"event_id": "e1", "type": "login", "ts": 1_767_225_600_000, "account": "a1", "email": "ann@mail.test"}
LINE = json.dumps(EVENT) + "\n"
TABLE = ",".join(EVENT) + "\n" + ",".join(map(str, EVENT.values())) + "\n"


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A small rulebook `book` beside `events.ndjson`, in the folder that commands run in."""
    monkeypatch.chdir(tmp_path)
    for name, text in BOOK.items():
        path = tmp_path / "book" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "events.ndjson").write_text(LINE)
    return tmp_path


@pytest.fixture
def shopward(capsys):
    """Runs a command in this process: exit code, stdout, stderr."""

    def run(*args):
        with pytest.raises(SystemExit) as end:
            main([str(arg) for arg in args])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return end.value.code or 0, said.out, said.err

    return run


@pytest.mark.parametrize("name, body, said", [
    ("empty.csv", b"", "Empty CSV file"),
    ("ragged.csv", b"event_id,label,label_ts\nann@mail.test,1\n", "Expected 3 columns, got 2"),
    ("latin.csv", b"event_id,label,label_ts,source\ne1,1,2026-01-01,M\xfcller\n", "invalid UTF8"),
    ("broken.parquet", b"PAR1 and no more", "Parquet magic bytes"),
    ("table.xlsx", b"PK", "the ending must be one of .parquet, .csv, .ndjson, .jsonl"),
])  # fmt: skip
def test_a_label_file_that_cannot_be_read_is_named_without_its_cells(book, shopward, name, body, said):
    (book / name).write_bytes(body)
    code, _, err = shopward("decide", "events.ndjson", "--rulebook", "book", "--labels", name)
    assert code == (2 if name.endswith("xlsx") else 3)
    assert name in err and said in err and "ann@" not in err and "ller" not in err


def test_a_folder_of_label_files_is_read_in_the_order_they_became_known(book):
    from shopward.label import read_labels

    (book / "labels").mkdir()
    (book / "labels/2026-01.csv").write_text("event_id,label,label_ts\ne1,1,2026-01-03\ne2,1,2026-01-01\n")
    (book / "labels/2026-02.ndjson").write_text(
        '{"event_id": "e1", "label": 0, "label_ts": "2026-01-03", "source": "kim", "amount": 3}\n'
    )
    found = [(row.event_id, row.label, row.source, row.amount) for row in read_labels(book / "labels")]
    assert found == [("e2", 1, None, None), ("e1", 1, None, None), ("e1", 0, "kim", 3.0)]


@pytest.mark.parametrize("name, body, said", [
    ("array.ndjson", json.dumps([EVENT], indent=1).encode(), "each line holds one JSON object"),
    ("table.ndjson", TABLE.encode(), "each line holds one JSON object"),
    ("utf16.ndjson", LINE.encode("utf-16"), "is this UTF-16"),
    ("utf16.csv", TABLE.encode("utf-16"), "save the file as UTF-8"),
])  # fmt: skip
def test_a_common_mistake_is_told_with_what_would_be_right(book, shopward, name, body, said):
    (book / name).write_bytes(body)
    code, _, err = shopward("decide", name, "--rulebook", "book")
    assert code == 3 and said in err and ":0)" not in err and "ann@" not in err


def test_a_mistyped_data_folder_is_no_new_one(book, shopward):
    (book / "labels.csv").write_text("event_id,label,label_ts\ne1,1,2026-01-03\n")
    for command in (
        ("label", "labels.csv", "--rulebook", "book"), ("list", "show", "blocked_devices"), ("model", "list"),
        ("serve", "token", "list"), ("lake", "stats"), ("lake", "ddl"), ("lake", "compact"), ("report",),
    ):  # fmt: skip
        assert shopward(*command, "--data", "shop-data") == (
            2, "", "shopward: no data folder at shop-data; name one with --data\n",
        )  # fmt: skip
    assert not (book / "shop-data").exists()


def test_a_lake_that_is_not_made_yet_is_told_with_the_command_that_makes_it(book, shopward):
    assert shopward("decide", "events.ndjson", "--rulebook", "book", "--data", "shop")[0] == 0
    code, _, err = shopward("lake", "stats", "--data", "shop")
    assert code == 2 and "run `shopward lake compact --data shop` first" in err


def test_a_list_that_the_rulebook_does_not_have_is_a_usage_error(book, shopward):
    command = ("list", "add", "blocked", "d1", "--data", "shop", "--rulebook", "book")
    assert shopward(*command)[::2] == (
        2, "shopward: list: there is no list `blocked`; this rulebook declares none\n",
    )  # fmt: skip
    assert shopward(*command, "--expires", "soon")[0] == 2


def test_output_goes_where_it_was_asked_for_also_into_a_new_folder(book, shopward):
    shopward("decide", "events.ndjson", "--rulebook", "book", "--data", "shop")
    assert shopward("sql", "select 1 as one", "--data", "shop", "--format", "csv", "--out", "new/a.csv")[0] == 0
    assert shopward("report", "--data", "shop", "--rulebook", "book", "--out", "newer/day.html")[0] == 0
    (book / "mixed.ndjson").write_text(LINE + "{broken\n")
    assert shopward("decide", "mixed.ndjson", "--rulebook", "book", "--dead-letters", "newest/dead.ndjson")[0] == 0
    assert [p.name for p in sorted(book.glob("new*/*"))] == ["a.csv", "day.html", "dead.ndjson"]


def test_a_place_that_cannot_be_written_is_told_in_words(book, shopward):
    code, _, err = shopward("decide", "events.ndjson", "--rulebook", "book", "--out", "events.ndjson/d.csv")
    assert code == 2 and "events.ndjson" in err and "Errno" not in err
    assert (book / "events.ndjson").read_text() == LINE


def test_one_of_something_is_singular(book, shopward):
    assert shopward("decide", "events.ndjson", "--rulebook", "book")[2].startswith("1 event in ")
    assert shopward("rules", "check", "book")[1].startswith("ok: 1 rule, 1 feature, 0 tests, version ")


def test_a_port_that_is_taken_and_a_certificate_that_is_none_are_told_before_anything_is_built(book, shopward):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = shopward("serve", "--port", port, "--data", "shop", "--rulebook", "book")
        assert (code, out) == (2, "") and f"cannot listen on 127.0.0.1 port {port}: address already in use" in err
    command = ("serve", "--port", 0, "--data", "shop", "--tls-cert", "events.ndjson", "--tls-key", "events.ndjson")
    code, _, err = shopward(*command)
    assert code == 2 and "not a certificate and its key as PEM" in err
    assert not (book / "shop").exists()


def test_every_address_of_a_host_is_listened_on_at_one_free_port():
    from shopward.serve.server import listen

    found = listen("localhost", 0)
    assert len({sock.getsockname()[1] for sock in found}) == 1 and found[0].getsockname()[1] > 0
    for sock in found:
        sock.close()


def test_the_audit_is_a_view_and_a_wrong_view_is_told_with_those_there_are(book, shopward):
    from shopward.store.tables import Tables

    shopward("decide", "events.ndjson", "--rulebook", "book", "--data", "shop")
    tables = Tables.open(book / "shop/shopward.db")
    tables.record("user:kim", "token created", "shop")
    tables.close()
    code, out, _ = shopward("sql", "select who, did, subject from audit", "--data", "shop", "--json")
    assert code == 0 and json.loads(out) == {"who": "user:kim", "did": "token created", "subject": "shop"}
    code, _, err = shopward("sql", "select * from event", "--data", "shop")
    assert code == 2 and "there are events, decisions, findings, lists, labels, cases and audit" in err
    assert shopward("sql", " ", "--data", "shop")[0] == 2


def test_a_file_that_holds_no_runs_is_told_with_what_writes_them(book, shopward):
    code, _, err = shopward("model", "compare", "events.ndjson")
    assert code == 3 and "events.ndjson:1: not a recorded run; `shopward model train --trials 20`" in err


def test_a_file_that_is_no_sigma_rule_is_named(book, shopward):
    pytest.importorskip("sigma")
    (book / "access.log").write_text('1.2.3.4 - - [10/Oct/2026:13:55:36 +0000] "GET /a HTTP/1.1" 200 12 "-" "curl/8"\n')
    code, _, err = shopward("traffic", "attacks", "access.log", "--sigma", "book/rules/r.yaml", "--engine", "literals")
    assert (
        code == 2 and "no Sigma rule for web servers or proxies: book/rules/r.yaml: " in err and "attribute" not in err
    )


@pytest.mark.parametrize("verb", ["decide", "features"])
@pytest.mark.parametrize("option", ["--out", "--dead-letters"])
def test_input_is_never_written_over(book, shopward, verb, option):
    code, _, err = shopward(verb, "events.ndjson", "--rulebook", "book", option, "./events.ndjson")
    assert code == 2 and "events.ndjson is read and would be written over: name another file" in err
    assert (book / "events.ndjson").read_text() == LINE


def test_of_two_rulebooks_the_wrong_one_is_named(book, shopward):
    (book / "other" / "rules").mkdir(parents=True)
    (book / "other" / "schema.yaml").write_text(BOOK["schema.yaml"])
    (book / "other" / "rules" / "r.yaml").write_text(BOOK["rules/r.yaml"])
    code, _, err = shopward("backtest", "events.ndjson", "--rulebook", "book", "--against", "other")
    assert code == 2 and "the rulebook in other does not check:" in err and "account_logins_1h" in err
