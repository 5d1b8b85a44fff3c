"""What differs between two rulebooks, in meaning."""

from __future__ import annotations

import json

from click.testing import CliRunner

from shopward import Rulebook
from shopward.cli.rules import rules
from shopward.declare.diff import diff
from tests.rules.books import FEATURES, book, rule
from tests.serve.server import write_rulebook

BIG, MANY = rule("big", "amount > 100 and items >= 3", "review"), rule("many", "account_orders_1h >= 5", "deny")


def test_a_raised_threshold_is_named_with_both_numbers():
    [change] = diff(book(BIG), book(BIG.replace("100", "250")))
    assert (change.part, change.name, change.what) == ("rules", "big", "changed")
    assert change.values["threshold amount >"] == (100.0, 250.0)
    assert "threshold items >=" not in change.values


def test_what_came_and_went_is_told_apart():
    found = diff(book(BIG), book(MANY, features=FEATURES + "more_1h: {entity: account, measure: count, over: 1h}\n"))
    assert [(c.part, c.name, c.what) for c in found] == [
        ("rules", "big", "removed"),
        ("rules", "many", "added"),
        ("features", "more_1h", "added"),
    ]


def test_a_window_a_state_and_a_cost_are_changes():
    longer = FEATURES.replace(
        "account_orders_1h: {entity: account, measure: count, over: 1h",
        "account_orders_1h: {entity: account, measure: count, over: 2h",
    )
    found = diff(
        book(MANY),
        book(
            rule("many", "account_orders_1h >= 5", "deny", more="state: shadow"),
            features=longer,
            policy="review_cost: 9",
        ),
    )
    told = {c.name: c.values for c in found}
    assert told["many"] == {"state": ("live", "shadow")}
    assert told["account_orders_1h"] == {"over": (3_600_000, 7_200_000)}
    assert told["policy.yaml"] == {"review_cost": (0.0, 9.0)}


def test_order_spaces_and_remarks_are_no_change():
    files = Rulebook.default().files
    other = Rulebook.from_files(
        {name: text + ("\n# a remark\n" if name.endswith(".yaml") else "") for name, text in files.items()}
    )
    assert diff(Rulebook.default(), other) == []


def test_the_command_says_it_and_leaves_with_one(tmp_path):
    one, two = (
        write_rulebook(tmp_path / "one", book(BIG)),
        write_rulebook(tmp_path / "two", book(BIG.replace("100", "250"))),
    )
    run = lambda *a: CliRunner().invoke(rules, ["diff", *map(str, a)])  # noqa: E731
    done = run(one, two)
    assert done.exit_code == 1 and "threshold amount >: 100 -> 250\n" in done.stdout
    assert run(one, one).exit_code == 0
    told = json.loads(run(one, two, "--json").stdout)
    assert not told["same"] and told["changes"][0]["values"]["threshold amount >"] == [100.0, 250.0]
