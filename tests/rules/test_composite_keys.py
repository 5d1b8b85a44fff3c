"""Lists of pairs of which one part is a number: people, rules and old logs mean the same key."""

from __future__ import annotations

import pytest

from shopward import Engine, Rulebook
from shopward.lists import Entry
from tests.rules.books import QUIET
from tests.rules.test_decisions import START

BOOK = Rulebook.from_files(
    {
        "schema.yaml": "types: [pay]\nfields: {account: {type: string, entity: account}, terminal: {type: number, entity: terminal}, amount: money}",
        "lists/l.yaml": "pairs: {kind: block, entity: [account, terminal]}",
        "rules/a.yaml": f"id: on_list\ntitle: L\non: pay\nwhen: listed('pairs', account, terminal)\nthen: deny\n{QUIET}".replace(
            "login", "pay"
        ),
        "rules/b.yaml": "id: writes\ntitle: W\non: pay\nwhen: amount > 100\nthen: {action: review, list: {add: pairs, key: [account, terminal]}}\n"
        + QUIET.replace("login", "pay"),
    }
)


def pay(i: int, terminal: float | None, amount: float = 1.0) -> dict:
    return {"event_id": f"e{i}", "type": "pay", "ts": START + i, "account": "a", "terminal": terminal, "amount": amount}


@pytest.mark.parametrize("batches", [False, True])
@pytest.mark.parametrize("durable", [False, True])
def test_a_pair_written_by_hand_or_by_a_rule_is_the_same_pair(batches, durable, tmp_path):
    e = Engine(BOOK, data=tmp_path if durable else None, mode="interpreted")
    decide = (lambda x: e.decide_events([x])[0]) if batches else e.decide
    assert decide(pay(0, 7)).action == "allow"
    e.write_lists([Entry(list="pairs", key=("a", "7"), valid_from=0)])
    assert decide(pay(1, 7)).action == "deny" and decide(pay(2, 8)).action == "allow"
    assert decide(pay(3, 8.0, amount=500.0)).action == "review"
    assert decide(pay(4, 8)).action == "deny" and decide(pay(5, None)).action == "allow"
    e.write_lists([Entry(list="pairs", key=("a", "8"), valid_from=START + 6, remove=True)])
    assert decide(pay(7, 8)).action == "allow"
    e.close()


def test_an_entry_that_an_old_log_kept_with_a_number_reads_as_text():
    assert Entry.of({"list": "pairs", "key": ["a", 7.0], "valid_from": 0}).key == ("a", "7")
