"""Features as DuckDB SQL: the oracle that the engine is tested against, and what a feature means in one statement.

`to_sql` is every portable feature in one SELECT, exact to the last bit and written for speed (sql_windows). `feature_sql` is one
feature written to be read (sql_meaning). `run` puts events into DuckDB and answers a table of features in arrival order.
"""

from __future__ import annotations

from collections.abc import Iterable
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from shopward.batch import NULL, Needs
from shopward.declare.schema import IMPLICIT, field_of
from shopward.declare.types import Feature, Field, Schema
from shopward.errors import NotYet, UsageError
from shopward.features.plan import DERIVED
from shopward.features.sql_meaning import carrying, indented, measured, statement
from shopward.features.sql_windows import Family
from shopward.features.sql_words import decided, expression, field_names, quoted, takes_labels, why_not

if TYPE_CHECKING:
    import pyarrow as pa

    from shopward.batch import Batch
    from shopward.declare.rulebook import Rulebook

Labels = Literal["replaced", "once", "none"]
RESERVED = ("seq", "t")  # columns of the table that are no fields


def feature_sql(feature: Feature, rulebook: Rulebook, table: str = "events") -> str:
    """One feature as a statement to be read: `event_id` and its value, for every event in arrival order.

    >>> from shopward.declare.rulebook import Rulebook
    >>> book = Rulebook.from_files({"schema.yaml": "{types: [login], fields: {account: {type: string, entity: account}}}",
    ...     "features/f.yaml": "logins_24h: {entity: account, measure: count, over: 24h, where: type == 'login'}"})
    >>> print(feature_sql(book.features["logins_24h"], book))
    -- logins_24h: count by account over 24h
    WITH carrying AS (
      SELECT *,
             max(t) OVER (PARTITION BY account ORDER BY seq) AS clock
      FROM events
      WHERE account IS NOT NULL
    ),
    measured AS (
      SELECT e.seq, count(x.seq)::DOUBLE AS logins_24h
      FROM carrying AS e LEFT JOIN carrying AS x
        ON x.account = e.account
       AND x.seq <= e.seq
       AND x.clock BETWEEN e.clock - 86400000 AND e.clock
       AND x.type = 'login'
      GROUP BY e.seq, e.clock
    )
    SELECT event_id, logins_24h
    FROM events LEFT JOIN measured USING (seq)
    WHERE type <> 'label'
    ORDER BY seq
    """
    reason = refused(rulebook).get(feature.name)
    if reason:
        raise no_sql(feature.name, reason)
    check(rulebook)
    if feature.measure in DERIVED:
        return to_sql(rulebook, table, features=[feature.name])
    return statement(feature, rulebook.schema, table)


def to_sql(
    rulebook: Rulebook, table: str = "events", *, features: list[str] | None = None, labels: Labels = "replaced"
) -> str:
    """One SELECT: `event_id` and every portable feature in declared order (or just `features`), for all events that are not labels.

    `labels` says what the table holds: "replaced" anything, "once" no event that is labelled twice, "none" no label events; the less,
    the simpler and faster the statement. Asking by name for a feature that has no SQL raises NotYet with the reason.
    """
    check(rulebook)
    wanted, out = list(rulebook.features) if features is None else features, refused(rulebook)
    for name in features or ():
        if name not in rulebook.features:
            raise UsageError(f"unknown feature `{name}`")
        if name in out:
            raise no_sql(name, out[name])
    wanted = [name for name in wanted if name not in out]
    needed = needed_for(wanted, rulebook.features)
    windowed = [f for f in needed if f.measure not in DERIVED]
    derived = [f for f in needed if f.measure in DERIVED]
    steps, sources = measuring(windowed, rulebook.schema, table, labels)
    steps["gathered"] = gathered(sources, windowed, derived, rulebook.schema, table)
    texts = [f"{quoted(name)} AS (\n{indented(text)}\n)" for name, text in steps.items()]
    shown = ",\n  ".join(["event_id", *map(quoted, wanted)])
    return "WITH " + ",\n".join(texts) + f"\nSELECT\n  {shown}\nFROM gathered\nORDER BY seq"


def no_sql(name: str, reason: str) -> NotYet:
    return NotYet(f"feature `{name}` has no SQL: {reason}")


def refused(rulebook: Rulebook) -> dict[str, str]:
    """The features that SQL cannot compute, each with the reason; what reads one of them is refused with it."""
    out: dict[str, str] = {}
    for f in needed_for(rulebook.features, rulebook.features):
        below = next((name for name in f.reads if name in out), None)
        why = why_not(f) or (f"it reads `{below}`, and {out[below]}" if below else "")
        if why:
            out[f.name] = why
    return out


def needed_for(names: Iterable[str], features: dict[str, Feature]) -> list[Feature]:
    """These features and all that they read, each after what it reads.

    >>> a, b = Feature("a", ("account",), "count", over=1000), Feature("b", (), "ratio", of=("a", "a"))
    >>> [f.name for f in needed_for(["b"], {"b": b, "a": a})]
    ['a', 'b']
    """
    found: dict[str, Feature] = {}

    def need(name: str) -> None:
        if name not in found:
            for below in features[name].reads:
                need(below)
            found[name] = features[name]

    for name in names:
        need(name)
    return list(found.values())


def check(rulebook: Rulebook) -> None:
    """Two columns of the event table are ours."""
    taken = [name for name in (*rulebook.schema.fields, *rulebook.features) if name in RESERVED]
    if taken:
        raise UsageError(
            f"`{taken[0]}` is a column that every event table has: SQL needs another name for your field or feature"
        )


# --- the statement ------------------------------------------------------------------------------------------------------------------


def measuring(features: list[Feature], schema: Schema, table: str, labels: Labels) -> tuple[dict[str, str], list[str]]:
    """The steps that compute the features of keys (name -> SELECT), and the names of the ones that hold results."""
    steps: dict[str, str] = {}
    families: dict[tuple, Family] = {}
    sources: list[str] = []
    for f in features:
        key = (f.entity, f.via)
        if key not in families:
            families[key] = Family(named(f, len(families)), f.entity, f.via, schema, labels != "none")
        family = families[key]
        if joined(f, schema, labels):
            carried = f"{family.name}_carrying"
            steps[carried] = carrying(f, schema, table, labels=True)
            steps[f"of_{f.name}"] = measured(f, schema, quoted(carried))
            sources.append(f"of_{f.name}")
        else:
            family.features.append(f)
    for family in families.values():
        if family.features:
            steps |= family.steps(table)
            sources.append(family.name)
    return steps, sources


def named(f: Feature, number: int) -> str:
    """What the steps of a feature's key are called.

    >>> named(Feature("n", ("account",), "count", via=("account", "seller")), 2)
    'k2_account_via_account_seller'
    """
    return "_".join((f"k{number}", *f.entity, *(("via", *f.via) if f.via else ())))


def joined(f: Feature, schema: Schema, labels: Labels) -> bool:
    """Windows cannot take back a label that was replaced, nor look into lists: such features join events with events."""
    lists = f.measure == "distinct" and field_of(schema, f.arg or "").type == "list"
    return lists or (labels == "replaced" and takes_labels(f))


def gathered(sources: list[str], windowed: list[Feature], derived: list[Feature], schema: Schema, table: str) -> str:
    """Every event with its features; ratios and expressions come after what they read."""
    fields = {name for f in derived if f.expr for name in f.expr.fields} - {"event_id"}
    columns = ["seq", "event_id", *map(quoted, sorted(fields)), *(quoted(f.name) for f in windowed)]
    joins = "".join(f"\nLEFT JOIN {quoted(source)} USING (seq)" for source in sources)
    text = f"SELECT {', '.join(columns)}\nFROM {quoted(table)}{joins}\nWHERE {quoted(table)}.{decided(schema)}"
    names = field_names(schema) | {f.name: feature_name(f) for f in (*windowed, *derived)}
    for f in derived:
        text = f"SELECT *, {worked_out(f, names)} AS {quoted(f.name)}\nFROM (\n{indented(text)}\n)"
    return text


def feature_name(f: Feature) -> str:
    """How an expression names a feature: a true/false one is 1 or 0 in its column."""
    return f"({quoted(f.name)} <> 0)" if f.type == "bool" else quoted(f.name)


def worked_out(f: Feature, names: dict[str, str]) -> str:
    """A ratio or an expression over an event's fields and features."""
    if f.of:
        return f"{quoted(f.of[0])} / nullif({quoted(f.of[1])}, 0)"
    assert f.expr is not None
    text = expression(f.expr, names)
    return text if f.expr.type == "string" else f"({text})::DOUBLE"


# --- running it ---------------------------------------------------------------------------------------------------------------------


def run(
    events: pa.Table | Iterable[Batch],
    rulebook: Rulebook,
    *,
    features: list[str] | None = None,
    threads: int | None = None,
) -> pa.Table:
    """`event_id` and a column per feature, in arrival order: numbers and true/false (1/0) as doubles, texts as strings.

    `events` is a table as `as_table` makes it, or batches (see there).
    """
    import duckdb
    import pyarrow as pa

    table = events if isinstance(events, pa.Table) else as_table(events, rulebook)
    with TemporaryDirectory() as spill, duckdb.connect(config={"temp_directory": spill}) as db:
        if threads:
            db.execute(f"SET threads = {threads:d}")
        db.register("arrived", table)
        db.execute("CREATE TABLE events AS SELECT * FROM arrived")
        statement = to_sql(rulebook, features=features, labels=labels_in(table))
        return db.sql(statement).to_arrow_table()


def labels_in(table: pa.Table) -> Labels:
    """Does it hold label events, and does one replace another?

    >>> import pyarrow as pa
    >>> labels_in(pa.table({"type": ["order", "label", "label"], "label_event": [None, "e1", "e1"]}))
    'replaced'
    """
    import pyarrow.compute as pc

    of = table["label_event"].filter(pc.equal(table["type"], "label")).drop_null()
    if not pc.any(pc.equal(table["type"], "label")).as_py():
        return "none"
    return "replaced" if pc.count_distinct(of).as_py() < len(of) else "once"


def as_table(batches: Iterable[Batch], rulebook: Rulebook) -> pa.Table:
    """The events of batches as the table that the SQL reads, with the columns the features need.

    Fast for batches read with `needs(rulebook)`; batches that keep their records do too.
    """
    import pyarrow as pa

    check(rulebook)
    wanted = columns_read(rulebook)
    shape = table_schema(rulebook.schema, wanted)
    parts = [record_batch(batch, rulebook.schema, wanted, shape) for batch in batches]
    return pa.Table.from_batches(parts, shape)


def needs(rulebook: Rulebook) -> Needs:
    """What a reader has to decode for `as_table`: amounts in minor units, numbers, and text as text.

    >>> from shopward.declare.rulebook import Rulebook
    >>> book = Rulebook.from_files({"schema.yaml": "{types: [order], fields: {account: {type: string, entity: account}, amount: money}}",
    ...     "features/f.yaml": "spend_1h: {entity: account, measure: sum(amount), over: 1h}"})
    >>> needs(book).minor, sorted(needs(book).text)
    (frozenset({'amount'}), ['account', 'label_event'])
    """
    kinds: dict[str, set[str]] = {"minor": set(), "numbers": set(), "text": set()}
    for name, field in columns_read(rulebook).items():
        if name not in ENVELOPE:
            kinds[KINDS.get(field.type, "numbers")].add(name)
    return Needs(**{kind: frozenset(names) for kind, names in kinds.items()})


ENVELOPE = ("event_id", "ts", "type")
KINDS = {"money": "minor", "decimal": "minor", "string": "text", "list": "text"}


def columns_read(rulebook: Rulebook) -> dict[str, Field]:
    """The fields that portable features read, and those every statement reads."""
    out, names = refused(rulebook), {*ENVELOPE, "label_event"}
    for f in rulebook.features.values():
        if f.name not in out:
            names |= {*f.entity, *f.via, *([f.arg] if f.arg else [])}
            names |= {name for expr in (f.where, f.a, f.b, f.expr) if expr for name in expr.fields}
    return {name: field for name, field in columns(rulebook.schema).items() if name in names}


def columns(schema: Schema) -> dict[str, Field]:
    """The fields every event has, and the declared ones."""
    return {**IMPLICIT, **schema.fields}


def table_schema(schema: Schema, fields: dict[str, Field] | None = None) -> pa.Schema:
    """The columns of the event table: all fields, or just these.

    >>> [f"{f.name} {f.type}" for f in table_schema(Schema(("label",), {"amount": Field("amount", "money", digits=2)}))][-2:]
    ['label_source string', 'amount int64']
    """
    import pyarrow as pa

    kinds = {"string": pa.string(), "number": pa.float64(), "bool": pa.bool_(), "list": pa.list_(pa.string())}
    shown = {name: kinds.get(f.type, pa.int64()) for name, f in (fields or columns(schema)).items()}
    return pa.schema({"seq": pa.int64(), "t": pa.int64(), **shown})


def record_batch(batch: Batch, schema: Schema, fields: dict[str, Field], shape: pa.Schema) -> pa.RecordBatch:
    import pyarrow as pa

    arrays = [pa.array(np.arange(batch.seq0, batch.seq0 + batch.n)), pa.array(batch.t)]
    arrays += [
        pa.array(cells(batch, f, schema), shape.field(name).type, from_pandas=True) for name, f in fields.items()
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=shape)


def cells(batch: Batch, field: Field, schema: Schema) -> Any:
    """One column: from the envelope, from the batch's columns, or else from its records."""
    name = field.name
    if name == "event_id":
        return list(batch.event_ids)
    if name == "ts":
        return batch.ts
    if name == "type":
        return np.array(schema.types, object)[batch.types]
    if name in batch.minor:
        return np.ma.masked_equal(batch.minor[name], NULL)
    if name in batch.numbers:
        return in_units(batch.numbers[name], field)
    if KINDS.get(field.type) == "text":
        return batch.text(name)
    return in_units(np.array([r.get(name, np.nan) for r in batch.records()], np.float64), field)


def in_units(values: np.ndarray, field: Field) -> Any:
    """Numbers as their column holds them: amounts as minor units, times as whole ms, true and false as such; NaN is null."""
    if field.type == "number":
        return values
    whole = np.nan_to_num(values * 10.0**field.digits)
    kind = np.bool_ if field.type == "bool" else np.int64
    return np.ma.masked_array(np.rint(whole).astype(kind), np.isnan(values))
