"""On long streams the engine agrees with the SQL, which agrees with the reference on short ones."""

from __future__ import annotations

import pytest

from shopward.features import sql
from shopward.features.live import Windows
from tests.properties.agree import differences, shown, table_of
from tests.properties.batches import SEED, by_engine
from tests.properties.long_streams import long_stream
from tests.properties.plans import PLANS


def disagreements(plan: str, events: list[dict], mode: str, sizes: list[int], kernels=None) -> list[str]:
    book = PLANS[plan]
    windows = Windows(book, SEED, mode=mode, cache_dir=kernels)
    found = shown(by_engine(windows, events, book, sizes), events)
    expected = sql.run(table_of(events, book.schema), book, threads=1).drop_columns("event_id").to_pydict()
    return differences(expected, found, [e for e in events if e["type"] != "label"])


@pytest.mark.parametrize("plan", PLANS)
def test_two_thousand_events_of_forty_keys(plan):
    assert disagreements(plan, long_stream(2000, seed=7), "interpreted", [64, 1, 511])[:5] == []


@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS)
def test_thirty_thousand_events_of_keys_that_come_and_go(plan, tmp_path):
    assert disagreements(plan, long_stream(30_000, seed=11, keys=300), "compiled", [4096, 1, 777], tmp_path)[:5] == []
