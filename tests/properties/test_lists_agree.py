"""Lists and lookups: decided one by one, in micro-batches, by kernels, in Python and from a file, a stream gives the same decisions.

The rules write and clear lists that they read, so what an event meets depends on the events just before it in the same batch.
"""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shopward import Engine, Rulebook
from shopward.lists import Entry

SEED, START = bytes(range(16)), 1_767_225_600_000
SCHEMA = """
types: [pay, login]
fields:
  account: {type: string, entity: account}
  device: {type: string, entity: device}
  other: {type: string, entity: device}
  terminal: {type: number, entity: terminal}
  ip: string
  note: string
  amount: money
money: amount
"""
FEATURES = """
account_pays_1h: {entity: account, measure: count, over: 1h, where: type == "pay"}
account_last_device: {entity: account, measure: last(device), over: 1d}
device_kind: {entity: device, lookup: devices.kind}
terminal_known: {entity: terminal, list: known_terminals}
"""
LISTS = """
blocked: {kind: block, entity: device}
pairs: {kind: watch, entity: [account, device]}
terminals: {kind: watch, entity: terminal}
friends: {kind: allow, entity: device}
known_terminals: {kind: allow, entity: terminal}
"""
LOOKUPS = {
    "lookups/devices.yaml": "key: string\ncolumns: {kind: string, weight: number, ours: bool}\nrows:\n"
    "  - {key: d1, kind: tablet, weight: 2.5, ours: true}\n"
    "  - {key: d2, kind: phone, ours: false, valid_until: 2026-01-01T00:30:00Z}\n"
    "  - {key: d2, kind: farm, weight: 1, valid_from: 2026-01-01T00:40:00Z}\n",
    "lookups/floors.yaml": "key: number\ncolumns: {floor: number}\nrows: [{key: 7, floor: 3}, {key: 0.5, floor: 1}]\n",
    "lookups/nets.yaml": "key: ip\ncolumns: {kind: string}\nrows:\n  - {key: 203.0.113.0/24, kind: hosting}\n"
    "  - {key: 203.0.113.7/32, kind: office, valid_until: 2026-01-01T00:30:00Z}\n",
}
RULES = {
    "block": ("account_pays_1h >= 2", "{action: deny, list: {add: blocked, key: device, expires: 20m}}"),
    "is_blocked": ('listed("blocked", device)', "deny"),
    "other_blocked": ('listed("blocked", other) and not listed("friends", device)', "review"),
    "last_blocked": ('amount > 3 and listed("blocked", account_last_device)', "review"),
    "release": (
        'listed("blocked", device) and amount == 1',
        "{action: allow, list: {remove: blocked, key: device}}",
    ),
    "spread": (
        'listed("blocked", device) and other is not None',
        "{action: hold, list: {add: blocked, key: other, expires: 5m}}",
    ),
    "meet": ("amount > 4", "{action: limit, list: {add: pairs, key: [account, device], expires: 1h}}"),
    "met": ('listed("pairs", account, device)', "challenge"),
    "met_elsewhere": ('listed("pairs", account, other)', "challenge"),
    "till": ("amount == 2", "{action: limit, list: {add: terminals, key: terminal}}"),
    "at_till": ('listed("terminals", terminal) or terminal_known', "review"),
    "tablet": ('devices_kind(device) == "tablet" or devices_weight(other) > 2', "review"),
    "ours": ("not devices_ours(device) and device_kind is not None", "review"),
    "floor": ("floors_floor(terminal) >= 1", "review"),
    "hosting": ('nets_kind(ip) == "hosting" and not listed("blocked", device)', "challenge"),
    "noted": ('contains(note, "x") and listed("blocked", device)', "review"),
}
MORE = {
    "is_blocked": "mandatory: true",
    "met": "state: shadow",
    "other_blocked": "percent: 50",
    "tablet": "percent: 30",
}


def rule(id: str, when: str, then: str) -> str:
    quiet = "tests: [{name: quiet, events: [{type: login, ts: 0, account: a}], expect: {fires: false}}]"
    head = f"id: {id}\ntitle: {id}\non: [pay, login]\nwhen: {json.dumps(when)}\nthen: {then}\n{quiet}\n"
    return head + MORE.get(id, "") + "\n"


BOOK = Rulebook.from_files(
    {"schema.yaml": SCHEMA, "features/f.yaml": FEATURES, "lists/l.yaml": LISTS, **LOOKUPS,
     "policy.yaml": "base_currency: USD\ncontrol_percent: 20\nlateness: 10m\n"}
    | {f"rules/{id}.yaml": rule(id, when, then) for id, (when, then) in RULES.items()}
)  # fmt: skip
DEVICES = st.sampled_from(["d1", "d2", "d3", None])
LISTED = [
    Entry(list="friends", key="d3", valid_from=0),
    Entry(list="known_terminals", key="7", valid_from=START + 600_000),
]


@st.composite
def streams(draw) -> list[dict]:
    """Some minutes of a small shop, some events late."""
    t, events = START, []
    for i in range(draw(st.integers(1, 30))):
        t += draw(st.sampled_from([0, 1_000, 60_000, 300_000]))
        late = draw(st.sampled_from([0, 0, 0, 120_000, 900_000]))
        events.append(
            {
                "event_id": f"e{i}", "type": draw(st.sampled_from(["pay", "login"])), "ts": t - late,
                "account": draw(st.sampled_from(["a1", "a4", "a7"])), "device": draw(DEVICES), "other": draw(DEVICES),
                "terminal": draw(st.sampled_from([7, 0.5, 8, None])), "ip": draw(st.sampled_from(["203.0.113.7", "203.0.113.9", "home", None])),
                "note": draw(st.sampled_from(["x", "y", None])), "amount": draw(st.sampled_from([1, 2, 5, None])),
            }
        )  # fmt: skip
    return events


def story(engine: Engine, decisions: list) -> tuple:
    return [msgspec.to_builtins(d) for d in decisions], engine.lists.entries(), engine.state_hash()


def begun(mode: str) -> Engine:
    engine = Engine(BOOK, mode=mode, seed=SEED)  # type: ignore[arg-type]
    engine.write_lists(LISTED)
    return engine


def in_batches(mode: str, events: list[dict], sizes: list[int]) -> tuple:
    engine, found, at = begun(mode), [], 0
    while at < len(events):
        size = sizes[len(found) % len(sizes)]
        found += engine.decide_batch(engine.batch(events[at : at + size]))
        at += size
    return story(engine, found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("stream")


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(events=streams(), sizes=st.lists(st.integers(1, 12), min_size=1, max_size=3))
def test_lists_written_inside_a_batch_are_seen_by_the_next_event(folder, events, sizes):
    one = begun("interpreted")
    expected = story(one, [one.decide(dict(event)) for event in events])
    for mode in ("interpreted", "compiled"):
        assert in_batches(mode, events, sizes) == expected
    assert in_batches("compiled", events, [len(events)]) == expected
    path = folder / "events.ndjson"
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    engine = begun("compiled")
    assert story(engine, [d for batch in engine.read([path]) for d in engine.decide_batch(batch)]) == expected


def test_the_stream_exercises_what_it_is_about():
    """Every rule fires somewhere in one fixed stream, and some events are let through."""
    engine, fired, arms = begun("compiled"), set(), set()
    events = [
        {"event_id": f"e{i}", "type": "pay", "ts": START + i * 60_000, "account": f"a{1 + i % 7}", "device": f"d{1 + i % 3}", "other": f"d{1 + i % 2}",
         "terminal": (7, 0.5, 8)[i % 3], "ip": "203.0.113.9", "note": "x", "amount": (1, 2, 5, None)[i % 4]}
        for i in range(84)
    ]  # fmt: skip
    for decision in engine.decide_batch(engine.batch(events)):
        fired |= {*decision.reasons, *decision.shadow}
        arms.add(decision.arm)
    assert fired == set(RULES) and arms == {"treated", "control"}


def test_two_keys_listed_by_one_event_are_both_seen_by_the_next():
    engine = begun("compiled")
    engine.write_lists([Entry(list="blocked", key="d1", valid_from=0)])
    both = {"type": "pay", "ts": START, "account": "a1", "device": "d1", "other": "d2"}
    twice = [
        {**both, "ts": START + i} for i in range(2)
    ]  # the second pay of an hour: `block` renews d1, `spread` lists d2
    after = [
        {"type": "login", "ts": START + 9, "account": "a4", "device": d, "event_id": d} for d in ("d1", "d2", "d3")
    ]
    decisions = {d.event_id: d.reasons for d in engine.decide_batch(engine.batch([*twice, *after]))}
    assert [("is_blocked" in decisions[d]) for d in ("d1", "d2", "d3")] == [True, True, False]
