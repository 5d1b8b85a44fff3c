"""Rulebooks made from others: a new version with one thing changed, checked as a whole, and the old one as it was."""

from __future__ import annotations

import pytest

from shopward import Rulebook
from shopward.errors import RulebookError, UsageError
from tests.declare.base import BASE


def book(**files: str) -> Rulebook:
    return Rulebook.from_files(BASE | files)


def test_a_threshold_is_swept_without_touching_the_original():
    before = book()
    text = before.rule_text("coupon_fanout")
    swept = [before.with_(rules={"coupon_fanout": text.replace("> 5", f"> {n}")}) for n in (3, 4, 5)]
    assert [b.rules["coupon_fanout"].when.source for b in swept] == [f"device_accounts_24h > {n}" for n in (3, 4, 5)]
    assert len({b.version for b in (before, *swept)}) == 3  # the last one says what the first says
    assert swept[2].version == before.version and before.files == BASE


def test_a_new_rule_gets_a_file_and_goes_away_again():
    before = book()
    more = before.with_(rules={"big": "{id: big, title: B, on: order, when: amount > 5, then: deny, state: draft}"})
    assert list(more.rules) == ["big", "coupon_fanout"] and more.rules["big"].file == "rules/big.yaml"
    assert more.without(rules=["big"]).version == before.version
    assert list(before.without(rules=["coupon_fanout"]).rules) == []


@pytest.mark.parametrize(
    "text", ["{entity: device, measure: count, over: 2h}", "entity: device\nmeasure: count\nover: 2h"]
)
def test_a_feature_is_replaced_where_it_stands(text):
    before = book()
    after = before.with_(features={"account_spend_7d": text})
    assert after.features["account_spend_7d"].over == 7_200_000
    assert (
        list(after.features) == list(before.features)
        and after.features["account_spend_7d"].file == "features/devices.yaml"
    )
    unchanged = [name for name in before.features if name != "account_spend_7d"]
    assert [after.features[n].over for n in unchanged] == [before.features[n].over for n in unchanged]


LAYOUTS = {
    "block": "# first\na: {entity: account, measure: count, over: 1h}\n\nb:\n  entity: account\n  measure: count\n  over: 1h\n# of c\nc: {expr: a + 1}\n",
    "flow": "{a: {entity: account, measure: count, over: 1h}, b: {entity: account, measure: count, over: 1h},\n c: {expr: a + 1}}",
    "one line each": "a: {entity: account, measure: count, over: 1h}\nb: {entity: account,\n    measure: count, over: 1h}\nc: {expr: a + 1}",
    "last": "c: {expr: a + 1}\na: {entity: account, measure: count, over: 1h}\nb: {entity: account, measure: count, over: 1h}",
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_features_come_and_go_in_every_layout(layout):
    before = book(**{"features/x.yaml": layout})
    changed = before.with_(features={"b": "{entity: account, measure: count, over: 3h}"})
    assert changed.features["b"].over == 3 * 3_600_000
    gone = changed.without(features=["b"])
    assert set(gone.features) == set(before.features) - {"b"}
    for name in ("a", "c"):
        assert (gone.features[name].over, gone.features[name].measure) == (
            before.features[name].over,
            before.features[name].measure,
        )
    if "# of c" in layout:
        assert "# of c" in gone.files["features/x.yaml"] and "# first" in gone.files["features/x.yaml"]


def test_the_last_feature_of_a_file_takes_the_file_along():
    before = book(**{"features/x.yaml": "a: {entity: account, measure: count, over: 1h}\n"})
    assert "features/x.yaml" not in before.without(features=["a"]).files


def test_the_result_is_checked_as_a_whole():
    with pytest.raises(RulebookError, match="unknown name `device_accounts_24h`"):
        book().without(features=["device_accounts_24h"])
    with pytest.raises(RulebookError, match="rules/coupon_fanout.yaml:5:7: unknown action `dney`"):
        book().with_(rules={"coupon_fanout": BASE["rules/coupon_fanout.yaml"].replace("deny", "dney")})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda b: b.with_(rules={"x": "id: y"}), "the text given for rule `x` has the id `y`"),
        (lambda b: b.with_(rules={"x": "[1]"}), "has no `id`"),
        (lambda b: b.with_(features={"x": "count"}), "must be a mapping such as"),
        (lambda b: b.with_(features={"X": "{expr: amount}"}), "`X` is not a name for a feature"),
        (lambda b: b.with_(files={"polcy.yaml": None}), "there is no file `polcy.yaml`"),
        (lambda b: b.without(rules=["cupon_fanout"]), "did you mean `coupon_fanout`"),
        (lambda b: b.without(features=["account_spend_8d"]), "did you mean `account_spend_7d`"),
        (lambda b: b.rule_text("nothing"), "there is no rule `nothing`"),
    ],
)
def test_what_cannot_be_changed_so_is_said(change, says):
    with pytest.raises(UsageError, match=says):
        change(book())


def test_whole_files_change_too():
    after = book().with_(files={"policy.yaml": "control_percent: 5", "rules/coupon_fanout.yaml": None})
    assert after.policy.control_percent == 5 and not after.rules
