"""The engine's other paths give, bit for bit, what the slow reference gives: after a snapshot, in a bound batch, compiled."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shopward.features.live import Windows
from tests.properties.agree import differences, shown
from tests.properties.batches import SEED, batch_of, by_engine
from tests.properties.plans import EDGES, MIXED, PLANS
from tests.properties.reference import compute
from tests.properties.streams import streams

SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=3)


def many(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def wrong(found, events, book) -> list[str]:
    """Where values differ from the reference. The rows of label events are nobody's."""
    expected = shown(compute(events, book.features.values(), book.schema), events)
    return differences(expected, shown(found, events), [e for e in events if e["type"] != "label"])


@pytest.mark.parametrize("plan", PLANS)
@many(6)
@given(data=st.data())
def test_a_stream_may_be_cut_by_a_snapshot_anywhere(plan, data):
    book, events, sizes = PLANS[plan], data.draw(streams(labels=True)), data.draw(SIZES)
    at = data.draw(st.integers(0, len(events)))
    before, whole = (Windows(book, SEED, mode="interpreted") for _ in range(2))
    first = by_engine(before, events[:at], book, sizes)
    after = Windows(book, SEED, mode="interpreted")
    after.restore(before.snapshot())
    then = by_engine(after, events[at:], book, sizes)
    assert wrong({name: first[name] + then[name] for name in first}, events, book) == []
    by_engine(whole, events, book, sizes)
    assert after.state_hash() == whole.state_hash()


@many(25)
@given(events=streams(labels=True))
def test_one_event_at_a_time_in_a_bound_batch_says_the_same(events):
    """The path of a single decision: one batch whose columns are filled anew for each event."""
    windows, columns = Windows(EDGES, SEED, mode="interpreted"), {name: [] for name in EDGES.features}
    bound = None
    for event in events:
        one = batch_of([event], EDGES)
        if bound is None:
            bound = windows.bind(one)
        fill(bound.batch, one)
        bound.run()
        for k, name in enumerate(windows.names):
            text = EDGES.features[name].type == "string"
            columns[name] += windows.text(name, bound.hashes[name]) if text else [bound.values[k]]
    assert wrong(columns, events, EDGES) == []


def fill(bound, one) -> None:
    """Copy one event into the columns of the bound batch."""
    bound.seq0, bound.event_ids, bound.text = one.seq0, one.event_ids, one.text
    for name in ("t", "ts", "types"):
        getattr(bound, name)[:] = getattr(one, name)
    for name in ("numbers", "minor", "hashes"):
        for column, values in getattr(one, name).items():
            np.copyto(getattr(bound, name)[column], values)


def compiled_says_the_same(book, kernels, examples: int) -> None:
    @many(examples)
    @given(data=st.data())
    def check(data):
        events, sizes = data.draw(streams(labels=True)), data.draw(SIZES)
        compiled = Windows(book, SEED, mode="compiled", cache_dir=kernels)
        assert wrong(by_engine(compiled, events, book, sizes), events, book) == []
        interpreted = Windows(book, SEED, mode="interpreted")
        by_engine(interpreted, events, book, [len(events) + 1])
        assert compiled.state_hash() == interpreted.state_hash()

    check()


def test_compiled_kernels_say_the_same_and_leave_the_same_state(tmp_path):
    compiled_says_the_same(MIXED, tmp_path, 30)


@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS)
def test_compiled_kernels_of_every_plan_say_the_same(plan, tmp_path):
    compiled_says_the_same(PLANS[plan], tmp_path, 100)
