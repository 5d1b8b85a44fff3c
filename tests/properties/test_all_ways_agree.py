"""One event at a time, micro-batches of any size, SQL for all features, SQL for each, and the slow reference: the same bits.

Random streams full of ties, window edges, late events, missing fields, replaced labels, odd keys and extreme amounts, on a few plans.
Several streams share one SQL statement (it costs more to plan than to run): their keys are made different.
"""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shopward.features import sql
from shopward.features.live import Windows
from tests.properties.agree import differences, shown, table_of
from tests.properties.batches import SEED, by_engine
from tests.properties.plans import PLANS
from tests.properties.reference import compute
from tests.properties.streams import streams

ROLES = ("account", "seller", "device", "card", "event_id", "label_event")
SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=3)


def many(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def apart(events: list[dict], number: int, seq0: int) -> list[dict]:
    """The same stream with keys of its own, following on another."""
    mine = dict.fromkeys(ROLES, f"{number}/")
    return [
        {name: mine[name] + v if name in mine and v is not None else v for name, v in e.items()}
        | {"seq": seq0 + e["seq"]}
        for e in events
    ]


def rows(events: list[dict]) -> list[dict]:
    return [e for e in events if e["type"] != "label"]


def reference(events: list[dict], book) -> dict[str, list]:
    return shown(compute(events, book.features.values(), book.schema), events)


def one_statement(events: list[dict], book) -> dict[str, list]:
    found = sql.run(table_of(events, book.schema), book, threads=1)
    assert found["event_id"].to_pylist() == [e["event_id"] for e in rows(events)]
    return found.drop_columns("event_id").to_pydict()


@pytest.mark.parametrize("plan", PLANS)
@many(10)
@given(data=st.data())
def test_on_random_streams(plan, data):
    book, together, expected = PLANS[plan], [], {name: [] for name in PLANS[plan].features}
    for number in range(4):
        stream = data.draw(streams(labels=plan == "labels" or number % 2 == 0))
        stream = apart(stream, number, len(together))
        truth = reference(stream, book)
        cut, whole = (Windows(book, SEED, mode="interpreted") for _ in range(2))
        assert differences(truth, shown(by_engine(cut, stream, book, data.draw(SIZES)), stream), rows(stream)) == []
        by_engine(whole, stream, book, [len(stream) + 1])
        assert cut.state_hash() == whole.state_hash()
        together += stream
        expected = {name: column + truth[name] for name, column in expected.items()}
    assert differences(expected, one_statement(together, book), rows(together)) == []


@pytest.mark.parametrize("plan", PLANS)
@many(5)
@given(data=st.data())
def test_each_feature_in_its_own_words(plan, data):
    book, events = PLANS[plan], data.draw(streams(labels=True))
    with duckdb.connect(config={"threads": 1}) as db:
        db.register("events", table_of(events, book.schema))
        found = {
            name: [row[1] for row in db.execute(sql.feature_sql(feature, book)).fetchall()]
            for name, feature in book.features.items()
        }
    assert differences(reference(events, book), found, rows(events)) == []
