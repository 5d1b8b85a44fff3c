"""The SQL as its readers and callers meet it."""

from __future__ import annotations

import pyarrow as pa
import pytest

from shopward.declare.rulebook import Rulebook
from shopward.errors import NotYet, UsageError
from shopward.features import sql
from tests.properties.agree import differences, table_of
from tests.properties.plans import LABELS, SCHEMA, book
from tests.properties.reference import compute
from tests.properties.stories import ev, rulebook, told

AWKWARD = [
    "clock",
    "carried",
    "replaced",
    "key0",
    "n",
    "x0",
    "p0",
    "d0",
    "v0",
    "w0",
    "tick",
    "here",
    "start0",
    "e",
    "x",
    "k",
    "f0",
    "of_e",
    "events",
]


def test_fields_may_have_the_names_of_our_own_columns():
    fields = "\n".join(f"  {name}: {{type: string, entity: {name}}}" for name in AWKWARD)
    features = "\n".join(
        f"f_{name}: {{entity: {name}, via: [{name}], measure: distinct({other}), over: 1h, where: {other} != 'z'}}\n"
        f"g_{name}: {{entity: [{name}, {other}], measure: last({other}), over: 1h}}\n"
        f"h_{name}: {{entity: {name}, measure: count, over: 1h, lag: 1m, where: type == 'label' or {other} == 'y'}}"
        for name, other in zip(AWKWARD, AWKWARD[1:] + AWKWARD[:1], strict=True)
    )
    events = [ev(f"10:0{i}", **{name: "xyz"[(i + len(name)) % 3] for name in AWKWARD}) for i in range(4)]
    found = told(
        features, *events, schema=f"types: [login]\nfields:\n  account: {{type: string, entity: account}}\n{fields}"
    )
    assert len(found) == 3 * len(AWKWARD)


def test_features_may_have_them_too():
    names = [name for name in AWKWARD if name != "events"]
    features = "\n".join(
        f"{name}: {{entity: account, measure: count, over: {i + 1}m, where: type == 'login'}}"
        for i, name in enumerate(names)
    )
    features += "\nlast_of: {entity: account, measure: last(device), over: 1h}\nall_of: {entity: account, measure: count, over: 1h}"
    found = told(features, ev("10:00", device="d"), ev("10:03"), ev("10:06"))
    assert [found[name][-1] for name in names[:7]] == [1, 1, 2, 2, 2, 3, 3] and found["last_of"] == [None, "d", "d"]


def test_keys_whose_names_run_together_stay_apart():
    fields = "types: [login]\nfields: " + str(dict.fromkeys(("a", "b", "a_b", "via"), "ROLE")).replace(
        "'ROLE'", "{type: string, entity: x}"
    )
    features = """
        pair: {entity: [a, b], measure: count, over: 1h}
        single: {entity: a_b, measure: count, over: 1h}
        united: {entity: a, via: [a, b], measure: count, over: 1h}
        triple: {entity: [a, via, b], measure: count, over: 1h}
    """
    events = [{"type": "login", "ts": i, "a": "1", "b": str(i % 2), "a_b": "1", "via": "1"} for i in range(4)]
    found = told(features, *events, schema=fields.replace("'", ""))
    assert found == {"pair": [1, 1, 2, 2], "single": [1, 2, 3, 4], "united": [1, 2, 3, 4], "triple": [1, 1, 2, 2]}


def test_words_of_sql_are_quoted():
    fields = "types: [select]\nfields: {order: {type: string, entity: order}, group: money, table: bool}"
    event = {"type": "select", "ts": 0, "order": "o'\"", "group": 150, "table": True}
    found = told(
        "having: {entity: order, measure: sum(group), over: 1h, where: table and type == 'select'}",
        event,
        schema=fields,
    )
    assert found["having"] == [1.5]


def test_a_field_called_seq_is_refused_by_name():
    fields = "types: [login]\nfields: {account: {type: string, entity: account}, seq: number}"
    with pytest.raises(UsageError, match="`seq` is a column that every event table has"):
        sql.to_sql(rulebook("n: {entity: account, measure: count, over: 1h}", fields))


def test_what_reads_a_table_is_refused_and_so_is_what_reads_that():
    of = Rulebook.from_files({
        "schema.yaml": SCHEMA,
        "lookups/bins.yaml": "{key: string, columns: {limit: number}, rows: [{key: d1, limit: 3, valid_from: 2020-01-01}]}",
        "features/f.yaml": "limit: {lookup: bins.limit, entity: device}\n"
                           "n_1h: {entity: account, measure: count, over: 1h}\n"
                           "used: {ratio: [n_1h, limit]}\n",
    })  # fmt: skip
    assert list(sql.refused(of)) == ["limit", "used"]
    assert sql.run(table_of([], of.schema), of).column_names == ["event_id", "n_1h"]
    with pytest.raises(NotYet, match="feature `used` has no SQL: it reads `limit`, and it reads a lookup"):
        sql.to_sql(of, features=["used"])


def test_no_events_give_no_rows_but_every_column():
    empty = table_of([], LABELS.schema)
    found = sql.run(empty, LABELS)
    assert found.num_rows == 0 and found.column_names == ["event_id", *LABELS.features]


def test_numbers_come_as_doubles_and_texts_as_texts():
    of = book("n: {entity: account, measure: count, over: 1h}\nd: {entity: account, measure: last(device), over: 1h}\n"
              "b: {entity: account, sequence: {first: success, then: success, within: 1h}}")  # fmt: skip
    types = sql.run(table_of([], of.schema), of).schema.types
    assert types == [pa.string(), pa.float64(), pa.string(), pa.float64()]


def test_the_simpler_statements_say_the_same_where_they_may_be_used():
    """Without label events, and with no event labelled twice, the statement is simpler; it must not be another one."""
    events = [ev(f"10:0{i}", "order", seller="s", device="d") | {"seq": i, "event_id": f"e{i}"} for i in range(4)]
    verdicts = [
        ev(f"10:1{i}", "label", label=i % 2, label_event=f"e{i}", device="d") | {"seq": 4 + i, "event_id": f"v{i}"}
        for i in range(3)
    ]
    later = [ev("10:30", "order", device="d") | {"seq": 9, "event_id": "last"}]
    for stream, holds in ((events + later, "none"), (events + verdicts + later, "once")):
        for e in stream:
            e["t"] = e["ts"]
        table = table_of(stream, LABELS.schema)
        assert sql.labels_in(table) == holds
        rows = [e for e in stream if e["type"] != "label"]
        truth = compute(stream, LABELS.features.values(), LABELS.schema)
        keep = [i for i, e in enumerate(stream) if e["type"] != "label"]
        found = sql.run(table, LABELS).drop_columns("event_id").to_pydict()
        assert differences({n: [c[i] for i in keep] for n, c in truth.items()}, found, rows) == []
