"""Which columns a rulebook reads, so that readers decode nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shopward.batch import Needs
from shopward.declare.schema import field_of
from shopward.declare.types import Feature, Rule, Schema
from shopward.expr import Expr

if TYPE_CHECKING:
    from shopward.declare.rulebook import Rulebook

ALWAYS = ("event_id", "ts", "type")  # every Batch has these outside its columns


def needs(rulebook: Rulebook) -> Needs:
    """Every column that features and rules read: money and decimals that are added up as minor units, texts as hashes, and as text
    where characters are read or values are shown (rowwise expressions, lookup and list keys).

    >>> from shopward.declare.rulebook import Rulebook
    >>> book = Rulebook.from_files({
    ...     "schema.yaml": "{types: [order], fields: {account: {type: string, entity: account}, amount: money, note: string}}",
    ...     "features/f.yaml": "s: {entity: account, measure: sum(amount), over: 1d, where: 'contains(note, \\"x\\")'}",
    ... })
    >>> needs(book)
    Needs(numbers=frozenset(), minor=frozenset({'amount'}), hashes=frozenset({'account'}), lists=frozenset(), text=frozenset({'note'}))
    """
    total = Needs()
    for feature in rulebook.features.values():
        total |= feature_needs(feature, rulebook.schema)
    for rule in rulebook.rules.values():
        total |= rule_needs(rule, rulebook.schema)
    return total


def feature_needs(feature: Feature, schema: Schema) -> Needs:
    """What one feature reads."""
    if feature.measure in ("list", "lookup"):
        return as_text(feature.entity, schema)
    if feature.graph:
        return _graph_needs(feature, schema)
    total = _hashed((*feature.entity, *feature.via), schema)
    if feature.arg:
        total |= argument(feature.arg, schema)
    for expr in (feature.where, feature.a, feature.b, feature.expr):
        if expr:
            total |= expr_needs(expr, schema)
    return total


def _graph_needs(feature: Feature, schema: Schema) -> Needs:
    graph = feature.graph
    assert graph is not None
    total = _hashed((*feature.entity, *graph.through), schema)
    if graph.field:
        total |= argument(graph.field, schema)
    if graph.measure in ("frauds", "fraud_share"):
        total |= argument("label", schema) | Needs(hashes=frozenset({"label_event"}))
    return total | expr_needs(feature.where, schema) if feature.where else total


def rule_needs(rule: Rule, schema: Schema) -> Needs:
    """What one rule reads: its condition, and the keys it writes to lists."""
    total = expr_needs(rule.when, schema)
    for write in rule.writes:
        total |= as_text(write.key, schema)
    return total


def expr_needs(expr: Expr, schema: Schema) -> Needs:
    """What one expression reads."""
    return as_text(expr.fields, schema) if expr.rowwise else _columns(expr.fields, schema)


def argument(name: str, schema: Schema) -> Needs:
    """What it takes to add up a field, or to tell its values apart."""
    f = field_of(schema, name)
    if f.type in ("money", "decimal"):
        return Needs(minor=frozenset({name}))
    return _columns((name,), schema)


def _columns(names: tuple[str, ...], schema: Schema) -> Needs:
    kinds = {n: field_of(schema, n).type for n in names if n not in ALWAYS}
    return Needs(
        numbers=frozenset(n for n, k in kinds.items() if k not in ("string", "list")),
        hashes=frozenset(n for n, k in kinds.items() if k == "string"),
        lists=frozenset(n for n, k in kinds.items() if k == "list"),
    )


def _hashed(names: tuple[str, ...], schema: Schema) -> Needs:
    """Key fields are read as hashes, numbers too."""
    return Needs(hashes=frozenset(names))


def as_text(names: tuple[str, ...], schema: Schema) -> Needs:
    """Fields of a rowwise expression: texts and lists as they are, numbers as numbers."""
    kinds = {n: field_of(schema, n).type for n in names if n not in ALWAYS}
    return Needs(
        numbers=frozenset(n for n, k in kinds.items() if k not in ("string", "list")),
        text=frozenset(n for n, k in kinds.items() if k in ("string", "list")),
    )
