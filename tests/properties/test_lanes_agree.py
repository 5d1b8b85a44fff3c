"""Features dealt out to threads, several batches on their way at once: bit for bit what one engine and the slow reference give."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import workload
from benchmarks.features import unique_times
from shopward import Engine, Rulebook
from shopward.backfill import Backfill
from shopward.features.lanes import Lanes, deal
from shopward.features.plan import make_plan
from tests.properties.agree import differences, shown
from tests.properties.batches import SEED, batch_of, cut
from tests.properties.plans import PLANS
from tests.properties.reference import compute
from tests.properties.streams import streams

SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=3)


@pytest.mark.parametrize("plan", PLANS)
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_threads_say_the_same_as_the_reference(plan, data):
    book, events = PLANS[plan], data.draw(streams(labels=True))
    found = by_lanes(book, events, data.draw(SIZES), data.draw(st.integers(1, 4)), data.draw(st.integers(0, 6)))
    expected = shown(compute(events, book.features.values(), book.schema), events)
    assert differences(expected, shown(found, events), [e for e in events if e["type"] != "label"]) == []


def by_lanes(book: Rulebook, events: list[dict], sizes: list[int], threads: int, ahead: int) -> dict[str, list]:
    """Every feature at every event, up to `ahead` batches begun before the first of them is asked for."""
    columns: dict[str, list] = {name: [] for name in book.features}
    lanes, begun = Lanes(book, SEED, threads, "interpreted"), deque()
    try:
        for piece in cut(events, sizes):
            lanes.clear()
            begun.append(lanes.begin(batch_of(piece, book)))
            if len(begun) > ahead:
                take(lanes, begun, book, columns)
        while begun:
            take(lanes, begun, book, columns)
    finally:
        lanes.close()
    return columns


def take(lanes: Lanes, begun: deque, book: Rulebook, columns: dict[str, list]) -> None:
    block = lanes.finish(begun.popleft())
    for row, name in enumerate(book.features):
        if book.features[name].type == "string":
            columns[name] += lanes.back.text(name, block.hashes[name])
        else:
            columns[name] += block.values[row].tolist()


def test_the_shared_workload_on_two_threads_is_the_workload_on_one():
    book, table = Rulebook.from_files(workload.rulebook_files(())), unique_times(workload.table(60_000))
    one, two = np.empty((22, len(table))), np.empty((22, len(table)))
    with Engine(book, mode="compiled") as engine:
        for batch in engine.read_table(table):
            one[:, batch.seq0 : batch.seq0 + batch.n] = engine.compute(batch).values
    with Backfill(book, 2) as engine:
        for batch, block in engine.computed(engine.read([table], size=1000)):
            two[:, batch.seq0 : batch.seq0 + batch.n] = block.values
    assert one.tobytes() == two.tobytes()


def test_every_family_is_in_one_lane_and_lanes_weigh_about_the_same():
    book = Rulebook.from_files(workload.rulebook_files(()))
    plan = make_plan(book.features, book.schema)
    assert [[f.name for f in lane] for lane in deal(plan, 2)] == [["user", "seller", "card"], ["device", "ip"]]
    assert sorted(f.name for lane in deal(plan, 9) for f in lane) == ["card", "device", "ip", "seller", "user"]
    assert len(deal(plan, 9)) == 5
