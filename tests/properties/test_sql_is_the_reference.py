"""The generated SQL gives, bit for bit, what the slow reference gives, on streams full of ties, edges, late events and nulls."""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shopward.features import sql
from tests.properties.agree import differences, shown, table_of
from tests.properties.plans import PLANS
from tests.properties.reference import compute
from tests.properties.streams import streams


def many(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def reference(events, book):
    every = sql.needed_for(book.features, book.features)
    columns = compute(events, every, book.schema)
    return shown({name: columns[name] for name in book.features}, events)


def by_sql(events, book):
    rows = sql.run(table_of(events, book.schema), book, threads=1)
    assert rows["event_id"].to_pylist() == [e["event_id"] for e in events if e["type"] != "label"]
    return rows.drop_columns("event_id").to_pydict()


@pytest.mark.parametrize("plan", PLANS)
@many(40)
@given(data=st.data())
def test_all_features_in_one_statement(plan, data):
    book = PLANS[plan]
    events = data.draw(streams(labels=plan == "labels" or data.draw(st.booleans())))
    assert differences(reference(events, book), by_sql(events, book), [e for e in events if e["type"] != "label"]) == []


@pytest.mark.parametrize("plan", PLANS)
@many(8)
@given(data=st.data())
def test_each_feature_in_its_own_words(plan, data):
    book = PLANS[plan]
    events = data.draw(streams(labels=plan == "labels" or data.draw(st.booleans())))
    with duckdb.connect(config={"threads": 1}) as db:
        db.register("events", table_of(events, book.schema))
        found = {
            name: [row[1] for row in db.execute(sql.feature_sql(feature, book)).fetchall()]
            for name, feature in book.features.items()
        }
    assert differences(reference(events, book), found, [e for e in events if e["type"] != "label"]) == []
