"""What every feature means, written the slow and obvious way.

No windows, no state, no cleverness: for each event, walk over all earlier events of the key and count with Python integers.
The engine and the SQL are tested against this file; it is tested by reading it beside docs/feature-maths.md.

An event is a dict: `seq`, `t` (stamped time, ms), `type`, and the schema's fields. Money and decimal fields hold integers of
minor units, lists hold lists of str; a field that is absent or None is null.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from shopward.declare.types import Feature, Field, Schema
from shopward.expr.nodes import Arith, Bool, Call, Compare, Const, Expr, In, IsNull, Name, Neg, Node, Not

Event = Mapping[str, Any]
LABEL_FIELDS = {"label": Field("label", "decimal"), "label_event": Field("label_event", "string")}


def compute(events: list[Event], features: Iterable[Feature], schema: Schema) -> dict[str, list[Any]]:
    """Every feature at every event (label events too), in order; null is None."""
    columns: dict[str, list[Any]] = {}
    for feature in features:
        columns[feature.name] = [value(feature, e, events[: i + 1], schema, columns, i) for i, e in enumerate(events)]
    return columns


def value(feature: Feature, e: Event, seen: list[Event], schema: Schema, columns: dict, i: int) -> Any:
    """One feature at one event `e`; `seen` is everything that has arrived, `e` last."""
    if feature.measure == "ratio":
        a, b = (columns[name][i] for name in feature.of)
        return None if a is None or b is None or b == 0 else a / b
    if feature.measure == "expr":
        return as_number(evaluate(feature.expr.root, e, schema, {n: c[i] for n, c in columns.items() if len(c) > i}))
    key = key_of(feature, e)
    if key is None:
        return None
    past = timeline(feature, key, seen)
    now = past[-1][0]
    if feature.measure in ("then", "without"):
        return float(SEQUENCES[feature.measure](feature, past, now, schema))
    rows = [(clock, x) for clock, x in window(feature, past, now) if counts(feature, x, schema)]
    return MEASURES[feature.measure](feature, rows, now, schema)


# ---------------------------------------------------------------- keys, clocks, windows


def key_of(feature: Feature, e: Event) -> tuple | None:
    key = tuple([e.get(role) for role in feature.entity])
    return None if None in key else key


def carries(feature: Feature, x: Event, key: tuple) -> bool:
    """Does the event have the key in its role, or in one of the `via` roles?"""
    if feature.via:
        return any(x.get(role) == key[0] for role in feature.via)
    return key_of(feature, x) == key


def timeline(feature: Feature, key: tuple, seen: list[Event]) -> list[tuple[int, Event]]:
    """The events that carry the key, each with the key's clock when it arrived: the largest `t` so far."""
    clock, out = -math.inf, []
    for x in seen:
        if carries(feature, x, key):
            clock = max(clock, x["t"])
            out.append((clock, x))
    return [(c, x) for c, x in out if not replaced(x, seen)]


def replaced(x: Event, seen: list[Event]) -> bool:
    """Has a later label for the same event arrived?"""
    if x["type"] != "label" or x.get("label_event") is None:
        return False
    return any(y["seq"] > x["seq"] and y["type"] == "label" and y.get("label_event") == x["label_event"] for y in seen)


def window(feature: Feature, past: list[tuple[int, Event]], now: int) -> list[tuple[int, Event]]:
    """The closed interval [now - lag - over, now - lag] of the key's clock."""
    end = now - feature.lag
    start = -math.inf if feature.over is None else end - feature.over
    e = past[-1][1]
    without_e = feature.before or feature.measure in ("first", "last", "since_last")
    return [(c, x) for c, x in past if start <= c <= end and not (without_e and x is e)]


def counts(feature: Feature, x: Event, schema: Schema) -> bool:
    return passes(feature.where, x, schema, feature.arg in LABEL_FIELDS)


def passes(where: Expr | None, x: Event, schema: Schema, about_labels: bool = False) -> bool:
    """Label events are about an event, not one more event: only what speaks of labels sees them."""
    if x["type"] == "label" and not (about_labels or (where is not None and speaks_of_labels(where.source))):
        return False
    return where is None or evaluate(where.root, x, schema) is True


def speaks_of_labels(source: str) -> bool:
    return re.search(r"\blabel(_event|_source)?\b|\"label\"|'label'", source) is not None


# ---------------------------------------------------------------- measures: (feature, [(clock, event)], now, schema)


def count(feature, rows, now, schema):
    return float(len(rows))


def rate(feature, rows, now, schema):
    return float(len(rows)) / (feature.over / 1000)


def values(feature, rows) -> list:
    found = (x.get(feature.arg) for _, x in rows)
    return [v for v in found if v is not None and not (isinstance(v, float) and math.isnan(v))]


def total(feature, rows, now, schema):
    return float(sum(values(feature, rows))) / 10.0**feature.digits


def mean(feature, rows, now, schema):
    found = values(feature, rows)
    return float(sum(found)) / float(len(found)) / 10.0**feature.digits if found else None


def std(feature, rows, now, schema):
    found = [int(v) for v in values(feature, rows)]
    if not found:
        return None
    n = len(found)
    spread = n * sum(v * v for v in found) - sum(found) ** 2
    return math.sqrt(wide_to_double(spread)) / float(n) / 10.0**feature.digits


def wide_to_double(d: int) -> float:
    """A 128-bit integer as a double, in two halves, so that every engine rounds alike."""
    return float(d >> 62) * 2.0**62 + float(d & (2**62 - 1))


def smallest(feature, rows, now, schema):
    return major(min(values(feature, rows), default=None), feature, schema)


def largest(feature, rows, now, schema):
    return major(max(values(feature, rows), default=None), feature, schema)


def distinct(feature, rows, now, schema):
    found = values(feature, rows)
    if found and isinstance(found[0], (list, tuple)):
        found = [v for items in found for v in items if v is not None]
    return float(len(set(found)))


def first(feature, rows, now, schema):
    return major(next(iter(values(feature, rows)), None), feature, schema)


def last(feature, rows, now, schema):
    return major(next(reversed(values(feature, rows)), None), feature, schema)


def since_first(feature, rows, now, schema):
    return (now - rows[0][0]) / 1000 if rows else None


def since_last(feature, rows, now, schema):
    return (now - rows[-1][0]) / 1000 if rows else None


def major(v, feature, schema):
    """A value as a feature: money in major units, everything else as it is."""
    if v is None or isinstance(v, str):
        return v
    kind = field_of(feature.arg, schema).type
    return float(v) / 10.0 ** field_of(feature.arg, schema).digits if kind in ("money", "decimal") else float(v)


MEASURES = {
    "count": count, "rate": rate, "sum": total, "mean": mean, "std": std, "min": smallest, "max": largest,
    "distinct": distinct, "first": first, "last": last, "since_first": since_first, "since_last": since_last,
}  # fmt: skip


# ---------------------------------------------------------------- sequences


def then(feature, past, now, schema) -> bool:
    """The event is a B, and the latest A before it is at most `within` old."""
    (_, e), earlier = past[-1], past[:-1]
    if not passes(feature.b, e, schema):
        return False
    a = [clock for clock, x in earlier if passes(feature.a, x, schema)]
    return bool(a) and now - a[-1] <= feature.within


def without(feature, past, now, schema) -> bool:
    """Some A lies in [now - within, now) and no B has arrived after it."""
    for i, (clock, x) in enumerate(past):
        if now - feature.within <= clock < now and passes(feature.a, x, schema):
            ended = any(passes(feature.b, y, schema) for _, y in past[i + 1 :])
            if not ended:
                return True
    return False


SEQUENCES = {"then": then, "without": without}


# ---------------------------------------------------------------- expressions, three-valued


def evaluate(node: Node, e: Event, schema: Schema, features: Mapping[str, Any] | None = None) -> Any:
    """The value of an expression: None is null, numbers are floats."""

    def ev(n: Node) -> Any:
        return evaluate(n, e, schema, features)

    match node:
        case Const(value=v):
            return float(v) if isinstance(v, int) and not isinstance(v, bool) else v
        case Name(kind="feature", name=name):
            return features[name]
        case Name(name=name):
            return field_value(name, e, schema)
        case Not(x=x):
            v = ev(x)
            return None if v is None else not truth(v)
        case Bool(op=op, args=args):
            return connect(op, [None if (v := ev(a)) is None else truth(v) for a in args])
        case Compare(op=op, a=a, b=b):
            return compare(op, ev(a), ev(b))
        case IsNull(x=x, negated=negated):
            return (ev(x) is None) != negated
        case In(x=x, items=items, negated=negated):
            v = ev(x)
            return None if v is None else (v in [ev(i) for i in items]) != negated
        case Arith(op=op, a=a, b=b):
            return timed(node, as_number(ev(a)), as_number(ev(b)))
        case Neg(x=x):
            v = as_number(ev(x))
            return None if v is None else -v
        case Call(func=func, args=args):
            return FUNCTIONS[func](*(ev(a) for a in args))
    raise TypeError(f"no meaning for {node!r}")


def truth(v: Any) -> bool:
    return v if isinstance(v, bool) else v != 0


def connect(op: str, args: list[bool | None]) -> bool | None:
    decided = op == "or"
    if decided in args:
        return decided
    return None if None in args else not decided


def compare(op: str, a: Any, b: Any) -> bool | None:
    if a is None or b is None:
        return None
    return {"==": a == b, "!=": a != b}[op] if op in ("==", "!=") else {
        "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[op]  # fmt: skip


def timed(node: Arith, a: float | None, b: float | None) -> float | None:
    """Times are in ms and durations in seconds: time - time is seconds, time + seconds is a time."""
    if a is None or b is None:
        return None
    if node.a.type == node.b.type == "time":
        return (a - b) / 1000
    if node.type == "time":
        a, b = (x * 1000 if n.type == "number" else x for x, n in ((a, node.a), (b, node.b)))
    return arithmetic(node.op, a, b)


def arithmetic(op: str, a: float | None, b: float | None) -> float | None:
    if a is None or b is None or (op in ("/", "//", "%") and b == 0):
        return None
    return {"+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b, "/": lambda: a / b,
            "//": lambda: math.floor(a / b), "%": lambda: a % b}[op]()  # fmt: skip


def field_of(name: str, schema: Schema) -> Field:
    return schema.fields.get(name) or LABEL_FIELDS.get(name) or Field(name, "string")


def field_value(name: str, e: Event, schema: Schema) -> Any:
    """A raw field as expressions see it: money and decimals in major units, NaN is null."""
    v = e.get(name)
    if v is None or (isinstance(v, float) and math.isnan(v)):
        return None
    field = field_of(name, schema)
    if field.type in ("money", "decimal"):
        return float(v) / 10.0**field.digits
    return float(v) if isinstance(v, int) and not isinstance(v, bool) else v


def as_number(v: Any) -> Any:
    return float(v) if isinstance(v, bool) else v


def skip_null(f):
    return lambda *args: None if any(a is None for a in args) else f(*args)


def at(ms: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)


FUNCTIONS = {
    "abs": skip_null(abs),
    "min": skip_null(min),
    "max": skip_null(max),
    "len": skip_null(lambda v: float(len(v))),
    "has": skip_null(lambda items, v: v in items),
    "lower": skip_null(str.lower),
    "contains": skip_null(lambda s, part: part in s),
    "startswith": skip_null(str.startswith),
    "coalesce": lambda a, b: b if a is None else a,
    "hour": skip_null(lambda ms, zone="UTC": float(at(ms).hour)),
    "weekday": skip_null(lambda ms, zone="UTC": float(at(ms).weekday())),
}
