"""The engine taken apart, its keys spread over bins, gives bit for bit what the slow reference gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shopward.declare.rulebook import Rulebook
from shopward.features import shards
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
def test_keys_spread_over_bins_say_the_same_as_one_engine(plan, data):
    book, events, sizes = PLANS[plan], data.draw(streams(labels=True)), data.draw(SIZES)
    found = by_bins(book, events, sizes, data.draw(st.integers(1, 5)))
    expected = shown(compute(events, book.features.values(), book.schema), events)
    assert differences(expected, shown(found, events), [e for e in events if e["type"] != "label"]) == []


def by_bins(book: Rulebook, events: list[dict], sizes: list[int], count: int) -> dict[str, list]:
    """Every feature at every event: every step as other processes would do it, from bytes to bytes, in the order they may come."""
    plan = make_plan(book.features, book.schema)
    texts = frozenset(book.schema.fields)
    chunks = [shards.pack_batch(batch_of(piece, book), texts) for piece in cut(events, sizes)]
    domains = shards.key_domains(plan)
    counts = np.zeros((len(domains), shards.BUCKETS), np.int64)
    for chunk in chunks:
        shards.count_buckets(plan, shards.unpack_batch(chunk), counts)
    bins = shards.Bins.of(counts, shards.weights(plan), count)
    splitter = shards.Splitter(book, SEED, bins, "interpreted")
    sent = [(n, k, c, b) for c, chunk in enumerate(chunks) for n, k, b in splitter.split(shards.unpack_batch(chunk))]
    answers: dict[int, list] = {c: [] for c in range(len(chunks))}
    windows: dict[tuple[int, int], shards.KeyWindows] = {}
    for number, k, c, block in sorted(sent, key=lambda one: one[:3]):
        if (number, k) not in windows:
            windows[number, k] = shards.KeyWindows(book, SEED, domains[k], "interpreted")
        answers[c].append((k, windows[number, k].update(block)))
    return gathered(book, chunks, answers)


def gathered(book: Rulebook, chunks: list[bytes], answers: dict[int, list]) -> dict[str, list]:
    columns: dict[str, list] = {name: [] for name in book.features}
    gather = shards.Gathered(book, SEED, "interpreted")
    for c, chunk in enumerate(chunks):
        batch = shards.unpack_batch(chunk)
        block = gather.begin(batch.n)
        for k, answer in reversed(answers[c]):
            gather.put(block, k, answer)
        gather.finish(batch, block)
        for row, name in enumerate(gather.windows.names):
            shows = name in block.hashes
            columns[name] += gather.windows.text(name, block.hashes[name]) if shows else block.values[row].tolist()
    return columns


def test_a_hot_key_has_a_bin_almost_for_itself():
    counts = np.ones((1, shards.BUCKETS), np.int64)
    counts[0, 77] = 1_000_000
    bins = shards.Bins.of(counts, [1], 4)
    assert np.count_nonzero(bins.table[0] == bins.table[0, 77]) == 1


def test_events_without_the_key_are_sent_nowhere():
    book = PLANS[next(iter(PLANS))]
    plan = make_plan(book.features, book.schema)
    nobody = {"seq": 0, "t": 0, "ts": 0, "type": "login", "event_id": "e0"}
    counts = np.zeros((len(shards.key_domains(plan)), shards.BUCKETS), np.int64)
    shards.count_buckets(plan, batch_of([nobody], book), counts)
    assert not counts.any()
