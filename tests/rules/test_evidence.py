"""Evidence says only what is true: each comparison it tells held for the value it shows, and it is about the thing that was seen."""

from __future__ import annotations

import operator
import re

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shopward import Engine
from tests.rules.books import book, rule
from tests.rules.test_decisions import START, engine, event

OPS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq, "!=": operator.ne}
BLOCKED = 'listed("blocked_devices", device)'


def why(when: str, **fields):
    (evidence,) = engine(rule("r", when)).decide(event(**fields)).evidence
    return evidence


@pytest.mark.parametrize(
    ("when", "what", "value", "threshold"),
    [
        ("items > 10 or (items > 3 and amount > 2)", "r: items = 4 (> 3), amount = 5 (> 2)", 4.0, "> 3"),
        ("items > 100 or amount > 2", "r: amount = 5 (> 2)", 5.0, "> 2"),
        ("not (items > 5)", "r: items = 4 (<= 5)", 4.0, "<= 5"),
        ("not (items > 5 or amount == 6)", "r: items = 4 (<= 5), amount = 5 (!= 6)", 4.0, "<= 5"),
        ("items > 1 and items < 9 and items > 1", "r: items = 4 (> 1), items = 4 (< 9)", 4.0, "> 1"),
        ("10 > items", "r: items = 4 (< 10)", 4.0, "< 10"),
        ("amount > items", "r: amount = 5 (> items = 4)", 5.0, "> 4"),
        ("2 * items > amount", "r: amount = 5 (< 2 * items = 8)", 5.0, "< 8"),
        ("amount / items > 1", "r: amount / items = 1.25 (> 1)", 1.25, "> 1"),
        ('country not in ("DE", "FR")', "r: country = US (not in ('DE', 'FR'))", "US", "not in ('DE', 'FR')"),
        ("card_bin is None", "r: card_bin is missing", None, "is None"),
        ("not success", "r: success = false", False, "is false"),
    ],
)
def test_only_what_held_is_told_and_as_it_held(when, what, value, threshold):
    e = why(when, items=4, amount=5, country="US", success=False)
    assert (e.what, e.value, e.threshold) == (what, value, threshold)


def test_a_listed_device_is_what_the_evidence_is_about():
    e = engine(rule("r", f'{BLOCKED} or listed("friends", account)'))
    e.lists.add("blocked_devices", "d1", 0)
    (found,) = e.decide(event()).evidence
    assert (found.entity, found.feature, found.value) == ("device:d1", None, True)
    assert (found.threshold, found.what) == ("on list blocked_devices", "r: device d1 is on list blocked_devices")


def test_it_says_who_put_the_key_there_since_when_and_until_when():
    e = engine(rule("r", BLOCKED), rule("both", 'listed("friends", account)'))
    e.lists.add("blocked_devices", "d1", START - 60_000, START + 3_600_000, "by hand: three stolen cards")
    e.lists.add("friends", "a1", START - 60_000, provenance="rule:ring", seq=4)
    listed, friend = e.decide(event()).evidence
    since = "since 2025-12-31T23:59:00Z"
    assert listed.what == (
        f"r: device d1 is on list blocked_devices (by hand: three stolen cards, {since} until 2026-01-01T01:00:00Z)"
    )
    assert friend.what == f"both: account a1 is on list friends (rule:ring, {since})"
    assert [x.what for x in e.decide_events([event(1)])[0].evidence] == [listed.what, friend.what], (
        "the same in a batch"
    )


def test_why_a_key_is_listed_survives_that_it_is_taken_off_by_the_same_event():
    clear = rule("clear", BLOCKED, "{action: review, list: {remove: blocked_devices, key: device}}")
    e = engine(clear)
    e.lists.add("blocked_devices", "d1", 0, provenance="kim")
    batch = e.batch([event(1)])
    assert (
        e.decide_batch(batch)[0].evidence[0].what
        == "clear: device d1 is on list blocked_devices (kim, since 1970-01-01T00:00:00Z)"
    )
    assert e.decide(event(2)).evidence == ()


def test_the_list_a_rule_takes_a_key_off_is_still_its_reason():
    clear = rule(
        "clear", f"{BLOCKED} or amount > 900", "{action: review, list: {remove: blocked_devices, key: device}}"
    )
    add = rule("add", "amount > 500", "{action: deny, list: {add: blocked_devices, key: device}}")
    said = "clear: device d1 is on list blocked_devices"
    e = engine(clear, add)
    e.lists.add("blocked_devices", "d1", 0)
    assert e.decide(event(0, amount=5)).evidence[0].what == said
    e.lists.add("blocked_devices", "d1", 0)
    batch, told = e.batch([event(1, amount=5)]), {}
    block = e.compute(batch)
    e.rules.fire(batch, block, lambda rule, row: e.lists.remove("blocked_devices", "d1"), told=told)
    assert told[0, "clear"][0].what == said  # written down while the rule fired: by now the device is off the list


def test_numeric_keys_name_their_entity_as_everywhere_else():
    schema = "types: [login]\nfields: {terminal: {type: number, entity: terminal}}"
    files = {"schema.yaml": schema, "features/f.yaml": "n_1h: {entity: terminal, measure: count, over: 1h}",
             "rules/r.yaml": rule("r", "n_1h > 0", on="[login]").replace("account: a", "terminal: 1")}  # fmt: skip
    from shopward import Rulebook

    e = Engine(Rulebook.from_files(files), mode="interpreted")
    x = {"type": "login", "ts": START, "terminal": 7}
    assert e.decide(x).evidence[0].entity == e.decide_events([x])[0].evidence[0].entity == "terminal:7"


def test_two_people_stay_two_entities_without_being_named():
    schema = "types: [order]\nfields: {email: {type: string, entity: email, pii: true}}"
    from shopward import Rulebook

    text = (
        rule("r", "n_1h > 0", on="[order]").replace("type: login", "type: order").replace("account: a", "email: a@b.c")
    )
    files = {
        "schema.yaml": schema,
        "features/f.yaml": "n_1h: {entity: email, measure: count, over: 1h}",
        "rules/r.yaml": text,
    }
    e = Engine(Rulebook.from_files(files), mode="interpreted")
    entities = [
        e.decide({"type": "order", "ts": START, "email": m}).evidence[0].entity
        for m in ("al@x.de", "ad@x.de", "al@x.de")
    ]
    assert entities[0] == entities[2] != entities[1]
    assert all(re.fullmatch("email:p_[0-9a-f]{32}", one) for one in entities)


def test_a_shadow_rule_leaves_evidence_of_its_own():
    e = engine(rule("s", "amount > 1", "deny", more="state: shadow"), rule("l", "amount > 2"))
    for answer in (e.decide(event(amount=5)), e.decide_events([event(1, amount=5)])[0]):
        assert [x.source for x in answer.evidence] == ["rule:l"]
        assert [(x.source, x.what) for x in answer.shadow_evidence] == [("shadow:s", "s: amount = 5 (> 1)")]


def test_a_decision_can_be_encoded_compared_and_read_back_on_every_path():
    e = engine(rule("l", "amount > 2"))
    other = engine(rule("l", "amount > 2"))
    for answer in (e.decide(event(amount=5)), e.decide_events([event(1, amount=5)])[0], e.decide(event(2, amount=1))):
        again = msgspec.json.decode(msgspec.json.encode(answer), type=type(answer))
        assert again == answer and hash(again) == hash(answer)
        assert msgspec.to_builtins(answer)["reasons"] == answer.reasons
    assert other.decide(event(amount=5)) == other.decide_events([event(amount=5)])[0]


NUMBERS = st.sampled_from([None, 0, 0.5, 1, 3, 3.0000004, 4, 1e7])
ATOMS = st.sampled_from(
    ["items > 3", "items <= 3", "items == 4", "items != 1", "4 > items", "amount >= 1", "amount < items", "items * 2 > amount",
     "items - amount == 0", "success", "success == False", 'country in ("US",)', 'country != "DE"', "country is None",
     "account_orders_1h > 1", "account_spend_24h / items > 1.5", "account_country != country", BLOCKED, "items is not None"]
)  # fmt: skip
CONDITIONS = st.recursive(
    ATOMS,
    lambda c: st.one_of(c.map("not ({})".format), st.tuples(c, st.sampled_from(["and", "or"]), c).map(lambda p: f"({p[0]}) {p[1]} ({p[2]})")),
    max_leaves=6,
)  # fmt: skip


def holds(value, threshold: str) -> bool:
    op, _, bound = threshold.partition(" ")
    if op in OPS:
        return OPS[op](value, eval(bound))
    items = re.fullmatch(r"(not )?in \((.*)\)", threshold)
    if items:
        return (value in eval(f"[{items[2]}]")) != bool(items[1])
    return {"is None": value is None, "is not None": value is not None, "is true": value is True, "is false": value is False,
            "on list blocked_devices": value is True, "not on list blocked_devices": value is False}[threshold]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(CONDITIONS, st.lists(st.tuples(NUMBERS, NUMBERS, st.sampled_from([True, False, None]), st.sampled_from(["US", "DE", None]),
                                      st.sampled_from(["d1", "d2", None])), min_size=1, max_size=6))  # fmt: skip
def test_every_comparison_shown_holds_for_the_value_shown(when, rows):
    e = Engine(book(rule("r", when)), mode="interpreted")
    e.lists.add("blocked_devices", "d1", 0)
    for i, (items, amount, success, country, device) in enumerate(rows):
        amount = None if amount is None else round(amount, 2)
        x = event(i, items=items, amount=amount, success=success, country=country, device=device)
        for found in e.decide(x).evidence:
            assert found.threshold is None or holds(found.value, found.threshold), found
            for left, op, right in re.findall(r" = (\S+) \(([<>=!]=?) (?:[^()=]* = )?([\d.e+-]+)\)", found.what):
                assert OPS[op](float(left), float(right)), found.what
