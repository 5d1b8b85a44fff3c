"""One feature as one readable SQL statement: what it means, with nothing done for speed.

Every event that carries the key, each with the key's clock; joined with itself: which of them count for which. It costs the square of
the events per key, so `sql.to_sql` uses it only where windows cannot say the same (labels that were replaced, lists).
"""

from __future__ import annotations

from shopward.declare.durations import format_duration
from shopward.declare.schema import field_of
from shopward.declare.types import Feature, Schema
from shopward.features.sql_words import (
    amount,
    column,
    counting,
    decided,
    major,
    number,
    quoted,
    spread,
    takes_labels,
    unused,
)


def statement(feature: Feature, schema: Schema, table: str = "events") -> str:
    """`event_id` and the feature, for every event that is decided on, in arrival order."""
    name = quoted(feature.name)
    return (
        f"-- {feature.name}: {sentence(feature)}\n"
        f"WITH carrying AS (\n{indented(carrying(feature, schema, table, takes_labels(feature)))}\n),\nmeasured AS (\n{indented(measured(feature, schema))}\n)\n"
        f"SELECT event_id, {name}\nFROM {quoted(table)} LEFT JOIN measured USING (seq)\n"
        f"WHERE {decided(schema)}\nORDER BY seq"
    )


def sentence(feature: Feature) -> str:
    """A feature in a few words: its doc, or what it counts.

    >>> sentence(Feature("x", ("account",), "sum", "amount", over=604_800_000, lag=86_400_000))
    'sum(amount) by account over 7d, 24h ago'
    """
    if feature.doc:
        return " ".join(feature.doc.split())
    if feature.a and feature.b:
        within = format_duration(feature.within or 0)
        return (
            f"{feature.a.source} {feature.measure} {feature.b.source} by {' and '.join(feature.entity)} within {within}"
        )
    if feature.graph:
        through = " or ".join(feature.graph.through)
        return f"{feature.graph.said} of those who share a {through} with the {feature.entity[0]} over {format_duration(feature.over or 0)}"
    what = f"{feature.measure}({feature.arg})" if feature.arg else feature.measure
    over = f" over {format_duration(feature.over)}" if feature.over else ""
    ago = f", {format_duration(feature.lag)} ago" if feature.lag else ""
    return f"{what} by {' and '.join(feature.entity)}{over}{ago}"


def carrying(feature: Feature, schema: Schema, table: str, labels: bool) -> str:
    """The events that carry the key, with its clock, and with `labels` when each was replaced by a later label.

    A `via` event stands once for each different key in its roles.
    """
    key, source = keys(feature, schema), quoted(table)
    if feature.via:
        source = f"(SELECT *, unnest(list_distinct([{', '.join(map(column, feature.via))}])) AS {key[0]} FROM {source})"
    by = ", ".join(key)
    shown = [f"max(t) OVER (PARTITION BY {by} ORDER BY seq) AS {unused('clock', schema)}"]
    if labels:
        later = f"lead(seq) OVER (PARTITION BY type, label_event, {by} ORDER BY seq)"
        shown.append(
            f"CASE WHEN type = 'label' AND label_event IS NOT NULL THEN {later} END AS {unused('replaced', schema)}"
        )
    carried = " AND ".join(f"{k} IS NOT NULL" for k in key)
    return "SELECT *,\n       " + ",\n       ".join(shown) + f"\nFROM {source}\nWHERE {carried}"


def keys(feature: Feature, schema: Schema) -> list[str]:
    return [unused("carried", schema)] if feature.via else [column(r) for r in feature.entity]


def measured(feature: Feature, schema: Schema, source: str = "carrying") -> str:
    """The aggregate of the counted events `x` for each event `e`."""
    clock, key = unused("clock", schema), keys(feature, schema)
    on = [f"x.{k} = e.{k}" for k in key] + arrived(feature, schema) + counted(feature, schema, clock)
    only = f"\nWHERE e.{key[0]} = e.{column(feature.entity[0])}" if feature.via else ""
    value = MEASURES[feature.measure](feature, schema)
    return (
        f"SELECT e.seq, {value} AS {quoted(feature.name)}\nFROM {source} AS e LEFT JOIN {source} AS x\n  ON "
        + "\n AND ".join(on)
        + f"{only}\nGROUP BY e.seq, e.{clock}"
    )


def arrived(feature: Feature, schema: Schema) -> list[str]:
    """What `e` can know: nothing that came later, and of several labels for one event the latest."""
    earlier = feature.before or feature.measure in ("first", "last", "since_last", "then")
    seen = [f"x.seq {'<' if earlier else '<='} e.seq"]
    if takes_labels(feature):
        replaced = unused("replaced", schema)
        seen.append(f"(x.{replaced} IS NULL OR x.{replaced} > e.seq)")
    return seen


def counted(feature: Feature, schema: Schema, clock: str) -> list[str]:
    """The window and the filter."""
    if feature.measure == "without":
        return []
    start, end = f"e.{clock}", f"e.{clock}"
    if feature.lag:
        start = end = f"e.{clock} - {feature.lag}"
    over = feature.within if feature.measure == "then" else feature.over
    window = f"x.{clock} BETWEEN {start} - {over} AND {end}" if over is not None else f"x.{clock} <= {end}"
    conditions = [counting(feature, feature.where, schema, "x")]
    if feature.measure == "then":
        conditions = [counting(feature, feature.a, schema, "x"), counting(feature, feature.b, schema, "e")]
    return [window, *(c for c in conditions if c)]


# --- the measures, over the counted events x of each e ------------------------------------------------------------------------------


def _count(f: Feature, schema: Schema) -> str:
    return "count(x.seq)::DOUBLE"


def _rate(f: Feature, schema: Schema) -> str:
    return f"count(x.seq) / {number((f.over or 0) / 1000)}"


def _sum(f: Feature, schema: Schema) -> str:
    return major(f"coalesce(sum({amount(f, schema, 'x')}), 0)::BIGINT", f.digits)


def _mean(f: Feature, schema: Schema) -> str:
    x = amount(f, schema, "x")
    return major(f"sum({x})::BIGINT / count({x})", f.digits, "")


def _std(f: Feature, schema: Schema) -> str:
    x = amount(f, schema, "x")
    return major(f"{spread(f'count({x})', f'sum({x})', f'sum({x}::HUGEINT * {x})')} / count({x})", f.digits, "")


def _value(f: Feature, schema: Schema, text: str) -> str:
    """A picked value as a feature: money in major units, text as it is."""
    field = field_of(schema, f.arg or "")
    return text if field.type == "string" else major(text, field.digits)


def _min(f: Feature, schema: Schema) -> str:
    return _value(f, schema, f"min({amount(f, schema, 'x')})")


def _max(f: Feature, schema: Schema) -> str:
    return _value(f, schema, f"max({amount(f, schema, 'x')})")


def _distinct(f: Feature, schema: Schema) -> str:
    x = column(f.arg or "", "x")
    if field_of(schema, f.arg or "").type == "list":
        return f"coalesce(len(list_distinct(flatten(list({x})))), 0)::DOUBLE"
    return f"count(DISTINCT {x})::DOUBLE"


def _first(f: Feature, schema: Schema) -> str:
    return _value(f, schema, f"arg_min({amount(f, schema, 'x')}, x.seq)")


def _last(f: Feature, schema: Schema) -> str:
    return _value(f, schema, f"arg_max({amount(f, schema, 'x')}, x.seq)")


def _since_first(f: Feature, schema: Schema) -> str:
    clock = unused("clock", schema)
    return f"(e.{clock} - min(x.{clock})) / 1000"


def _since_last(f: Feature, schema: Schema) -> str:
    clock = unused("clock", schema)
    return f"(e.{clock} - max(x.{clock})) / 1000"


def _then(f: Feature, schema: Schema) -> str:
    return "(count(x.seq) > 0)::DOUBLE"


def _without(f: Feature, schema: Schema) -> str:
    """The latest A of the window, strictly before now; has a B come after it?"""
    clock = unused("clock", schema)
    window = f"x.{clock} >= e.{clock} - {f.within} AND x.{clock} < e.{clock}"
    a = f"max(x.seq) FILTER ({window} AND {counting(f, f.a, schema, 'x')})"
    b = f"max(x.seq) FILTER ({counting(f, f.b, schema, 'x')})"
    return f"coalesce({a} >= coalesce({b}, -1), false)::DOUBLE"


MEASURES = {
    "count": _count, "rate": _rate, "sum": _sum, "mean": _mean, "std": _std, "min": _min, "max": _max, "distinct": _distinct,
    "first": _first, "last": _last, "since_first": _since_first, "since_last": _since_last, "then": _then, "without": _without,
}  # fmt: skip


def indented(text: str) -> str:
    return "\n".join("  " + line for line in text.splitlines())
