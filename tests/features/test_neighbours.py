"""Graph features: who shares what with whom, as of the event, in one event, a batch, on threads and after a restart."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shopward import Engine, Rulebook
from shopward.errors import NotYet
from shopward.features import sql
from shopward.features.live import Windows
from shopward.graph import Graph, Link
from tests.properties.agree import differences, shown
from tests.properties.batches import SEED, by_engine
from tests.properties.plans import book
from tests.properties.reference import passes
from tests.properties.streams import streams
from tests.properties.test_engine_paths_agree import fill
from tests.properties.test_lanes_agree import batch_of, by_lanes

SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=3)
BOOK = book("""
spend_1h: {entity: account, measure: sum(amount), over: 1h}
near_1h: {graph: device, entity: account, measure: neighbours, over: 1h}
near_1m: {graph: device, entity: account, measure: neighbours, over: 1m}
near_orders_1h: {graph: [device, card], entity: account, measure: neighbours, over: 1h, where: type == "order", hub: 2}
ties_1h: {graph: [device, card], entity: account, measure: degree, over: 1h, hub: 2}
bad_1h: {graph: [device, card], entity: account, measure: frauds, over: 1h, hub: 2}
bad_share_1h: {graph: [device, card], entity: account, measure: fraud_share, over: 1h, hub: 2}
bad_share_1m: {graph: device, entity: account, measure: fraud_share, over: 1m}
spend_near_1h: {graph: device, entity: account, measure: mean(spend_1h), over: 1h}
raw_near_1h: {graph: [device, card], entity: account, measure: mean(score_raw), over: 1h, hub: 2}
most_near_1h: {graph: device, entity: account, measure: max(amount), over: 1h}
least_near_1m: {graph: device, entity: account, measure: min(change), over: 1m}
devices_near_1h: {graph: account, entity: device, measure: neighbours, over: 1h}
share_of_spend: {ratio: [spend_near_1h, spend_1h]}
crowd: {expr: near_1h + ties_1h}
""")
GRAPH = [name for name, f in BOOK.features.items() if f.graph]


# --- the slow and obvious way: walk over everything that has arrived


def truth(events: list[dict]) -> dict[str, list]:
    """Every graph feature at every event."""
    clocks = [max(e["t"] for e in events[: i + 1]) for i in range(len(events))]
    spends = _spends(events)
    return {
        name: [_value(BOOK.features[name], events[: i + 1], clocks, spends) for i in range(len(events))]
        for name in GRAPH
    }


def _spends(events: list[dict]) -> list:
    from tests.properties.reference import compute

    return compute(events, [BOOK.features["spend_1h"]], BOOK.schema)["spend_1h"]


def _value(f, seen, clocks, spends):
    me, graph = seen[-1].get(f.entity[0]), f.graph
    if me is None or seen[-1]["type"] == "label":
        return None
    start = clocks[len(seen) - 1] - f.over
    every = [
        (i, x.get(f.entity[0]), role, x.get(role))
        for i, x in enumerate(seen)
        if x["type"] != "label" and passes(f.where, x, BOOK.schema)
        for role in graph.through
    ]
    ties = [tie for tie in every if None not in tie and clocks[tie[0]] >= start]
    walked = []
    for role in graph.through:
        mine = [thing for _, who, r, thing in ties if who == me and r == role]
        latest = list(dict.fromkeys(reversed(mine)))[: graph.hub]
        walked += [(role, t) for t in latest if len({w for _, w, r, x in ties if (r, x) == (role, t)}) <= graph.hub]
    near = {who for _, who, r, thing in ties if (r, thing) in walked} - {me}
    if graph.measure == "degree":
        return float(len(walked))
    if graph.measure == "neighbours":
        return float(len(near))
    if graph.measure in ("frauds", "fraud_share"):
        bad = float(sum(_is_bad(who, f.entity[0], seen, clocks, start) for who in near))
        return bad if graph.measure == "frauds" else bad / len(near) if near else None
    last = [max(i for i, w, _, _ in ties if w == who) for who in near]
    values = [v for i in last if (v := _carried(graph, seen, spends, i)) is not None]
    return _told(graph.measure, values) if values else None


def _is_bad(who, role, seen, clocks, start) -> bool:
    verdicts = {
        x["label_event"]: (x["label"], clocks[i])
        for i, x in enumerate(seen)
        if x["type"] == "label" and x.get(role) == who
    }
    return any(label == 1 and clock >= start for label, clock in verdicts.values())


def _carried(graph, seen, spends, i):
    if graph.feature:
        return spends[i]
    v, digits = seen[i].get(graph.field), BOOK.schema.fields[graph.field].digits
    return None if v is None else float(v) / 10.0**digits


def _told(measure, values) -> float:
    if measure == "mean":
        total = sum(map(Fraction, values))
        return math.fsum(values) / len(values) if abs(total) < 1e300 else math.fsum(v / len(values) for v in values)
    return (min if measure == "min" else max)(values) + 0.0


def many(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def wrong(found: dict[str, list], events: list[dict]) -> list[str]:
    mine = {name: found[name] for name in GRAPH}
    return differences(shown(truth(events), events), shown(mine, events), [e for e in events if e["type"] != "label"])


@many(60)
@given(data=st.data())
def test_any_cut_of_the_stream_says_what_the_slow_way_says(data):
    events = data.draw(streams(labels=True))
    cut, whole = (Windows(BOOK, SEED, mode="interpreted") for _ in range(2))
    found = by_engine(cut, events, BOOK, data.draw(SIZES))
    assert wrong(found, events) == []
    everything = by_engine(whole, events, BOOK, [len(events) + 1])
    assert cut.state_hash() == whole.state_hash()
    assert (
        differences(shown(found, events), shown(everything, events), [e for e in events if e["type"] != "label"]) == []
    )


@many(15)
@given(data=st.data())
def test_a_snapshot_anywhere_and_threads_change_nothing(data):
    events, sizes = data.draw(streams(labels=True)), data.draw(SIZES)
    at = data.draw(st.integers(0, len(events)))
    before, whole = (Windows(BOOK, SEED, mode="interpreted") for _ in range(2))
    first = by_engine(before, events[:at], BOOK, sizes)
    after = Windows(BOOK, SEED, mode="interpreted")
    after.restore(before.snapshot())
    then = by_engine(after, events[at:], BOOK, sizes)
    assert wrong({name: first[name] + then[name] for name in first}, events) == []
    everything = by_engine(whole, events, BOOK, sizes)
    assert after.state_hash() == whole.state_hash()
    threads = by_lanes(BOOK, events, sizes, 2, 3)
    rows = [e for e in events if e["type"] != "label"]
    assert differences(shown(everything, events), shown(threads, events), rows) == []


@many(15)
@given(events=streams(labels=True))
def test_one_event_at_a_time_says_the_same(events):
    windows, columns, bound = Windows(BOOK, SEED, mode="interpreted"), {name: [] for name in BOOK.features}, None
    for event in events:
        one = batch_of([event], BOOK)
        bound = bound or windows.bind(one)
        fill(bound.batch, one)
        bound.run()
        for k, name in enumerate(windows.names):
            columns[name].append(bound.values[k])
    assert wrong(columns, events) == []
    together = by_engine(Windows(BOOK, SEED, mode="interpreted"), events, BOOK, [50])
    rows = [e for e in events if e["type"] != "label"]
    assert differences(shown(together, events), shown(columns, events), rows) == []


# --- stories, through the whole engine

SHOP = {
    "schema.yaml": """
types: [order]
fields:
  account: {type: string, entity: account}
  device: {type: string, entity: device}
  card: {type: string, entity: card}
  amount: money
""",
    "features/f.yaml": """
account_near_30d: {graph: [device, card], entity: account, measure: neighbours, over: 30d, hub: 3}
account_near_frauds_30d: {graph: [device, card], entity: account, measure: frauds, over: 30d, hub: 3}
account_near_fraud_share_30d: {graph: [device, card], entity: account, measure: fraud_share, over: 30d, hub: 3}
account_near_amount_30d: {graph: [device, card], entity: account, measure: mean(amount), over: 30d, hub: 3}
""",
    "rules/ring.yaml": """
id: near_a_fraud
title: Shares a device or a card with somebody found to be a fraud
on: [order]
when: account_near_frauds_30d > 0
then: deny
tests: [{name: alone, events: [{type: order, ts: 0, account: a, device: d}], expect: {fires: false}}]
""",
}
HOUR = 3_600_000
T0 = 1_767_225_600_000


def order(n: int, account: str, device: str | None = None, card: str | None = None, amount: float = 10.0) -> dict:
    keys = {"account": account, "device": device, "card": card}
    return {"event_id": f"o{n}", "type": "order", "ts": T0 + n * HOUR, "amount": amount, **keys}


ORDERS = [
    order(0, "ann", "d1", amount=20),
    order(1, "bob", "d1", "c1"),
    order(2, "cy", None, "c1", amount=40),
    order(3, "dee", "d9"),
    order(4, "ann", "d1"),
    order(5, "bob", "d1"),
    order(6, "eve", "d1"),
    order(7, "fay", "d1"),
    order(8, "ann", "d1"),
]
LABELS = [{"event_id": "o2", "label": 1, "label_ts": T0 + 4 * HOUR + 1}]


def write(path, rows):
    import json

    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def decided(tmp_path, size: int, labels: list[dict] = LABELS) -> list[tuple]:
    engine = Engine(Rulebook.from_files(SHOP), mode="interpreted")
    told = write(tmp_path / "labels.ndjson", labels) if labels else None
    out = []
    for batch in engine.read([write(tmp_path / "orders.ndjson", ORDERS)], labels=told, size=size):
        found = engine.judge(batch)
        table = engine.features_table(found).to_pylist()
        out += [(d.event_id, d.action, *list(row.values())[1:]) for d, row in zip(found, table, strict=True)]
    return out


def test_whoever_shares_a_card_with_a_fraud_is_denied_once_the_verdict_has_arrived(tmp_path):
    assert decided(tmp_path, 100) == [
        ("o0", "allow", 0.0, 0.0, None, None),
        ("o1", "allow", 1.0, 0.0, 0.0, 20.0),  # bob meets ann on d1
        ("o2", "allow", 1.0, 0.0, 0.0, 10.0),  # cy pays with bob's card
        ("o3", "allow", 0.0, 0.0, None, None),
        ("o4", "allow", 1.0, 0.0, 0.0, 10.0),  # ann knows bob, not those bob knows
        ("o5", "deny", 2.0, 1.0, 0.5, 25.0),  # cy was found to be a fraud a moment ago
        ("o6", "allow", 2.0, 0.0, 0.0, 10.0),
        ("o7", "allow", 0.0, 0.0, None, None),  # the fourth on d1: a hub now, a family's tablet at most
        ("o8", "allow", 0.0, 0.0, None, None),
    ]


def test_one_event_at_a_time_and_batches_decide_alike(tmp_path):
    assert decided(tmp_path, 1) == decided(tmp_path, 3) == decided(tmp_path, 100)
    with Engine(Rulebook.from_files(SHOP), mode="interpreted") as engine:
        alone = [engine.decide(event) for event in ORDERS]
    without = decided(tmp_path, 100, labels=[])
    assert [(d.event_id, d.action) for d in alone] == [row[:2] for row in without]


def test_a_verdict_taken_back_clears_the_neighbours(tmp_path):
    cleared = [*LABELS, {"event_id": "o2", "label": 0, "label_ts": T0 + 4 * HOUR + 2}]
    assert [row[1] for row in decided(tmp_path, 100, cleared)] == ["allow"] * 9


def test_a_restart_goes_on_with_the_same_graph(tmp_path):
    seed = bytes(16)
    whole, rulebook = Engine(Rulebook.from_files(SHOP), mode="interpreted", seed=seed), Rulebook.from_files(SHOP)
    for event in ORDERS:
        whole.decide(event)
    with Engine(rulebook, tmp_path / "data", mode="interpreted", seed=seed) as engine:
        for event in ORDERS[:5]:
            engine.decide(event)
        engine.snapshot()
    with Engine(rulebook, tmp_path / "data", mode="interpreted", seed=seed) as engine:
        for event in ORDERS[5:]:
            engine.decide(event)
        after = engine.windows.neighbours.parts()
    with Engine(rulebook, tmp_path / "other", mode="interpreted", seed=seed) as engine:
        for event in ORDERS:
            engine.decide(event)
        straight = engine.windows.neighbours.parts()
    assert {n: p.size for n, p in after.items()} == {n: p.size for n, p in straight.items()}
    assert len(after["web.0.ties"]) == len(whole.windows.neighbours.parts()["web.0.ties"])


def test_evidence_names_the_account_and_the_count(tmp_path):
    engine = Engine(Rulebook.from_files(SHOP), mode="interpreted")
    told = write(tmp_path / "labels.ndjson", LABELS)
    (batch,) = engine.read([write(tmp_path / "orders.ndjson", ORDERS)], labels=told)
    (found,) = [d for d in engine.judge(batch) if d.action == "deny"]
    assert (found.evidence[0].entity, found.evidence[0].feature, found.evidence[0].value) == (
        "account:bob",
        "account_near_frauds_30d",
        1.0,
    )


def test_a_verdict_counts_to_the_last_millisecond_of_the_window():
    graph = Graph(horizon=HOUR)
    graph.judge("a", "o1", fraud=True, ts=1000)
    assert (graph.at(1000 + HOUR), graph.is_fraud("a", HOUR)) == (1000 + HOUR, True)
    assert (graph.at(1001 + HOUR), graph.is_fraud("a", HOUR)) == (1001 + HOUR, False)


def test_compiled_kernels_beside_the_graph_change_nothing(tmp_path):
    found = []
    for mode in ("interpreted", "compiled"):
        engine = Engine(Rulebook.from_files(SHOP), mode=mode, seed=bytes(16))
        told = write(tmp_path / "labels.ndjson", LABELS)
        batches = list(engine.read([write(tmp_path / "orders.ndjson", ORDERS)], labels=told, size=4))
        computed = [engine.compute(b).values.tobytes() for b in batches]
        more = [{**event, "event_id": f"x{i}", "ts": event["ts"] + 30 * HOUR} for i, event in enumerate(ORDERS)]
        answers = [engine.decide(event).action for event in more]  # the path of a single event, after batches
        found.append((computed, answers, engine.windows.state_hash()))
    assert found[0] == found[1] and "deny" in found[0][1]


# --- bounds


def test_memory_stays_bounded_when_one_account_uses_ever_new_devices():
    graph = Graph(horizon=HOUR, hub=5)
    for i in range(50_000):
        graph.add(Link("a", f"d{i}", "device", i * 1000))
    assert len(graph.entities["a"].ties["device"]) == 6
    assert graph.size() < 2 * 3600 + 4096


def test_a_device_with_ten_thousand_accounts_costs_no_more_than_a_hub():
    graph = Graph(horizon=HOUR, hub=5)
    for i in range(10_000):
        graph.add(Link(f"a{i}", "kiosk", "device", i))
    assert len(graph.things["device"]["kiosk"]) == 6
    assert graph.walk("a9999", HOUR) == ([], 0)
    graph.add(Link("late", "kiosk", "device", 3 * HOUR))
    assert graph.walk("late", HOUR) == ([], 1)  # the crowd has gone: the kiosk is a thing like any other again


# --- other engines


def test_sql_and_spark_refuse_with_the_reason():
    rulebook = Rulebook.from_files(SHOP)
    with pytest.raises(NotYet, match="has no SQL: it walks the graph of who shares what"):
        sql.feature_sql(rulebook.features["account_near_30d"], rulebook)
    assert set(sql.refused(rulebook)) == set(rulebook.features)
    from shopward.connect import spark

    with pytest.raises(NotYet, match="account_near_30d.*use --engine native"):
        spark.refuse(rulebook, decide=True)
    spark.refuse(rulebook, decide=False)
    assert set(spark.left_out(rulebook)) == set(rulebook.features)
