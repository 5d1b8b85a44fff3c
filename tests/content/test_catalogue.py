"""The documents about the shipped rulebook say what it is today."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest

from shopward import Rulebook, techniques
from shopward.rules.catalogue import catalogue, feature_sql, meaning, rule_sql
from shopward.rules.coverage import coverage, markdown

DOCS = Path(__file__).parents[2] / "docs"
FAMILIES = 20  # of the templates that docs/coverage.md compares with


@pytest.fixture(scope="module")
def rulebook() -> Rulebook:
    return Rulebook.default()


def test_the_catalogue_is_up_to_date(rulebook):
    written = (DOCS / "catalogue.md").read_text()
    assert written == catalogue(rulebook), "run: shopward rules catalogue > docs/catalogue.md"


def test_the_catalogue_names_every_feature_and_rule(rulebook):
    text = (DOCS / "catalogue.md").read_text()
    assert [name for name in rulebook.features if f"**`{name}`** " not in text] == []
    assert [id for id in rulebook.rules if f"### `{id}`\n" not in text] == []
    assert "Read by no rule" not in text


def test_the_scale_that_was_promised(rulebook):
    assert len(rulebook.features) >= 150
    assert len(rulebook.rules) >= 80


def test_a_sentence_says_what_is_counted_of_whom_and_when(rulebook):
    assert meaning(rulebook.features["device_coupon_accounts_7d"]) == (
        'How many different `account` with the same device in the last 7d, where `type == "coupon_claim"`: '
        "accounts that claimed coupons on it."
    )
    assert 'where `type == "payment"`, this one excluded' in meaning(rulebook.features["account_payment_mean_90d"])


def test_the_sql_of_the_catalogue_is_sql(rulebook):
    for feature in rulebook.features.values():
        duckdb.extract_statements("SELECT (" + feature_sql(feature, rulebook) + ")")
    for rule in rulebook.rules.values():
        assert len(duckdb.extract_statements(rule_sql(rule))) == 1, rule.id


def test_the_coverage_tables_are_up_to_date(rulebook):
    written = (DOCS / "coverage.md").read_text()
    assert written.endswith(markdown(rulebook)), (
        "run: shopward rules coverage, and put it at the end of docs/coverage.md"
    )


def test_each_strategy_family_of_the_other_catalogue_has_a_live_rule(rulebook):
    text = (DOCS / "coverage.md").read_text().partition("## Techniques with rules")[0]
    rows = re.findall(r"^\| ((?:accounts|orders|visitors): .*?) \| (\d+) \| (.*) \|$", text, re.MULTILINE)
    assert len(rows) == FAMILIES
    assert sum(int(n) for _, n, _ in rows) == 170
    for family, _, cell in rows:
        named = re.findall(r"`([a-z_]+)`", cell)
        assert named and all(rulebook.rules[id].state == "live" for id in named), family


def test_a_blind_spot_is_a_technique_that_shows_and_that_no_rule_names(rulebook):
    found = {c.technique.id: c for c in coverage(rulebook)}
    assert len(found) == len(techniques.all())
    assert "coupon_ring" in found["SW-1011.001"].rules
    assert found["T1451"].state == "open" and found["T1451"].rules == ()
    assert [c.technique.id for c in found.values() if c.state == "unseen" and c.technique.observable] == []


def test_nearly_every_marketplace_technique_has_a_rule(rulebook):
    ours = [c for c in coverage(rulebook) if c.technique.source == "SW"]
    missing = {c.technique.id for c in ours if c.state != "covered"}
    assert missing == {"SW-1053", "SW-1065"}
