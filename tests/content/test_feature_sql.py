"""The SQL of every feature we ship runs as it is printed, over events as the lake's readers have them."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest

from shopward import Rulebook
from shopward.features import sql
from shopward.features.sql import table_schema

BOOK = Rulebook.default()
REFUSED = sql.refused(BOOK)
NAMES = [name for name in BOOK.features if name not in REFUSED]


@pytest.fixture(scope="module")
def db():
    with duckdb.connect(config={"threads": 1}) as found:
        event = {
            "event_id": "e1",
            "seq": 0,
            "t": 1_767_225_600_000,
            "ts": 1_767_225_600_000,
            "type": BOOK.schema.types[1],
        }
        found.register("events", pa.Table.from_pylist([event], schema=table_schema(BOOK.schema)))
        yield found


def test_most_features_have_sql_and_the_others_say_why():
    assert len(NAMES) > 200 and all(REFUSED.values())


@pytest.mark.parametrize("start", range(0, len(NAMES), 25))
def test_every_feature_in_its_own_words(start, db):
    for name in NAMES[start : start + 25]:
        assert db.execute(sql.feature_sql(BOOK.features[name], BOOK)).fetchall()[0][0] == "e1", name
