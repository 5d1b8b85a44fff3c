"""The words both forms of feature SQL are written in: columns, numbers, conditions, and why a feature has no SQL.

The table they read has one row per event in arrival order: `seq`, `t` (the stamped time in ms), `event_id`, `type`, and a column for
each field: text as VARCHAR, numbers as DOUBLE, true/false as BOOLEAN, times as BIGINT ms, money and decimals as BIGINT minor units.
"""

from __future__ import annotations

from shopward.declare.schema import IMPLICIT, field_of, speaks_of_labels
from shopward.declare.types import Feature, Field, Schema
from shopward.errors import NotYet
from shopward.event import LABEL_FIELDS
from shopward.expr.nodes import Bool, Compare, Const, Expr, In, Name, Node
from shopward.expr.sql import quoted
from shopward.expr.sql import to_sql as expression


def why_not(feature: Feature) -> str:
    """Why a feature has no SQL, or an empty text.

    >>> why_not(Feature("blocked", ("device",), "list", table="blocked_devices"))
    'it reads the list `blocked_devices` as it was at that moment'
    """
    if not feature.portable:
        return feature.why_not_portable or "it is declared as not portable"
    if feature.measure in ("list", "lookup"):
        return f"it reads the {feature.measure} `{feature.table}` as it was at that moment"
    try:
        for expr in (feature.where, feature.a, feature.b, feature.expr):
            if expr is not None:
                expression(expr)
    except NotYet as reason:
        return str(reason)
    return ""


def column(name: str, table: str = "") -> str:
    """
    >>> column("amount"), column("order", "x")
    ('amount', 'x."order"')
    """
    return f"{table}.{quoted(name)}" if table else quoted(name)


def decided(schema: Schema) -> str:
    """Which rows are shown: not labels, nor what is only observed.

    >>> decided(Schema(("label", "order"), {})), decided(Schema(("label", "order", "hit"), {}, observed=("hit",)))
    ("type <> 'label'", "type NOT IN ('label', 'hit')")
    """
    if not schema.observed:
        return "type <> 'label'"
    return f"type NOT IN ({', '.join(repr(t) for t in ('label', *schema.observed))})"


def field_names(schema: Schema, table: str = "") -> dict[str, str]:
    """How an expression names the fields of `table`: money and decimals are in major units there.

    >>> field_names(Schema(("label",), {"amount": Field("amount", "money", digits=2)}), "x")["amount"]
    '(x.amount / 100)'
    """
    every = {**IMPLICIT, **schema.fields}
    return {name: in_major_units(column(name, table), field) for name, field in every.items()}


def in_major_units(text: str, field: Field) -> str:
    if field.type not in ("money", "decimal") or field.name == "label":
        return text
    return f"({text} / {10**field.digits})" if field.digits else f"{text}::DOUBLE"


def condition(expr: Expr | None, schema: Schema, table: str = "") -> str | None:
    """An expression over the fields of `table`."""
    return None if expr is None else expression(expr, field_names(schema, table))


def number(x: float) -> str:
    """A number as SQL reads it without turning it into a decimal.

    >>> number(3600), number(0.5)
    ('3600', '0.5e0')
    """
    return str(int(x)) if float(x).is_integer() else f"{x!r}e0"


def amount(feature: Feature, schema: Schema, table: str = "") -> str:
    """What a feature aggregates, exactly: minor units, true/false as 1/0."""
    field = field_of(schema, feature.arg or "")
    text = column(field.name, table)
    return f"{text}::BIGINT" if field.type == "bool" else text


def major(text: str, digits: int, whole: str = "::DOUBLE") -> str:
    """Minor units to major units: one division of doubles."""
    return f"{text} / {10**digits}" if digits else f"{text}{whole}"


def spread(n: str, s: str, q: str) -> str:
    """The standard deviation times n, from the exact n*q - s*s: its two halves become doubles one by one, as in every engine."""
    d = f"({n} * {q} - {s} * {s})"
    return f"sqrt(({d} >> 62)::DOUBLE * 4611686018427387904e0 + ({d} & 4611686018427387903)::DOUBLE)"


def unused(name: str, schema: Schema) -> str:
    """A column name that no field has.

    >>> unused("clock", Schema(("label",), {"clock": Field("clock", "string")}))
    'clock_'
    """
    while name in schema.fields:
        name += "_"
    return name


def takes_labels(feature: Feature) -> bool:
    """Can a label event count for the feature? Only then does it matter that a later label replaces an earlier one."""
    spoken = any(speaks_of_labels(expr) for expr in (feature.where, feature.a, feature.b))
    return spoken or feature.arg in LABEL_FIELDS


def counting(feature: Feature, expr: Expr | None, schema: Schema, table: str = "", labels: bool = True) -> str | None:
    """The condition for an event to count: label events count only where the feature speaks of labels.

    `labels` False: the table holds no label events, so nothing need keep them out.
    """
    text = condition(expr, schema, table)
    welcome = feature.arg in LABEL_FIELDS or speaks_of_labels(expr)
    if not labels or welcome or (expr is not None and not may_be_label(expr.root)):
        return text
    events = f"{column('type', table)} <> 'label'"
    return f"{events} AND {text}" if text else events


def may_be_label(node: Node) -> bool:
    """False when the condition can only be true for other event types."""
    match node:
        case (
            Compare(op="==", a=Name(name="type"), b=Const(value=v))
            | Compare(op="==", a=Const(value=v), b=Name(name="type"))
        ):
            return v == "label"
        case In(x=Name(name="type"), items=items, negated=False):
            return any(i.value == "label" for i in items)
        case Bool(op="and", args=args):
            return all(may_be_label(a) for a in args)
        case Bool(op="or", args=args):
            return any(may_be_label(a) for a in args)
    return True
