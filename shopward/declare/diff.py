"""What differs between two rulebooks in meaning: not where a line stands, but what is decided otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import msgspec

from shopward.declare.rulebook import Rulebook
from shopward.expr.nodes import Bool, Compare, Const, Expr, Neg, Node, Not

PLACES = ("file", "line")
PARTS = ("rules", "features", "lists", "lookups", "types", "fields", "policy")


class Change(msgspec.Struct, frozen=True):
    """One thing that is there before, after or in both, and which of its properties differ: name -> [before, after]."""

    part: str
    name: str
    what: str  # added, removed or changed
    values: dict[str, tuple[Any, Any]] = {}

    def render(self) -> str:
        """
        >>> print(Change("rules", "big", "changed", {"threshold amount >": (100, 120)}).render())
        rules     changed  big
            threshold amount >: 100 -> 120
        """
        lines = [f"{self.part:<9} {self.what:<8} {self.name}"]
        lines += [f"    {name}: {_shown(a)} -> {_shown(b)}" for name, (a, b) in self.values.items()]
        return "\n".join(lines)


def diff(before: Rulebook, after: Rulebook) -> list[Change]:
    """Every difference in meaning, by part and name. Words that decide nothing (doc, triage) count as changes, too; places do not.

    >>> files = {"schema.yaml": "{types: [order], fields: {account: {type: string, entity: account}, amount: money}}",
    ...          "rules/big.yaml": "{id: big, title: Big, on: order, when: amount > 100, then: review, state: draft}"}
    >>> higher = files | {"rules/big.yaml": files["rules/big.yaml"].replace("100", "120")}
    >>> [c.values for c in diff(Rulebook.from_files(files), Rulebook.from_files(higher))]
    [{'when': ('amount > 100', 'amount > 120'), 'threshold amount >': (100.0, 120.0)}]
    >>> diff(Rulebook.from_files(files), Rulebook.from_files({k: v + "\\n# a remark" for k, v in files.items()}))
    []
    """
    found: list[Change] = []
    for part in PARTS:
        old, new = _named(before, part), _named(after, part)
        for name in [*old, *(n for n in new if n not in old)]:
            if name not in new or name not in old:
                found.append(Change(part, name, "added" if name in new else "removed"))
            elif values := _values(old[name], new[name]):
                found.append(Change(part, name, "changed", values))
    return found


def _named(book: Rulebook, part: str) -> Mapping[str, Any]:
    schema = book.schema
    if part == "types":
        return dict.fromkeys(schema.types, ())
    if part == "fields":
        return schema.fields
    if part == "policy":
        more = {
            "money": schema.money,
            "currency": schema.currency,
            "mapping": schema.mapping,
            "constants": schema.constants,
            "order": schema.order,
        }
        return {"policy.yaml": book.policy} | {f"schema.yaml {name}": value for name, value in more.items()}
    return getattr(book, part)


def _values(old: Any, new: Any) -> dict[str, tuple[Any, Any]]:
    """Properties that differ; of expressions also the thresholds in them."""
    if not is_dataclass(old) or not is_dataclass(new):
        return {} if old == new else {"value": (_plain(old), _plain(new))}
    found: dict[str, tuple[Any, Any]] = {}
    for field in fields(old):
        a, b = getattr(old, field.name), getattr(new, field.name)
        if field.name in PLACES or _plain(a) == _plain(b):
            continue
        if field.name == "rows":  # of a lookup: how many keys differ says more than all of them
            found["keys that differ"] = (len(a), sum(a.get(k) != b.get(k) for k in {*a, *b}))
            continue
        found[field.name] = (_plain(a), _plain(b))
        if isinstance(a, Expr) and isinstance(b, Expr):
            found |= _thresholds(a, b)
    return found


def _thresholds(a: Expr, b: Expr) -> dict[str, tuple[float | None, float | None]]:
    """Comparisons with a number that both or one of two expressions have, where the number differs."""
    old, new = dict(_bounds(a)), dict(_bounds(b))
    return {
        f"threshold {name}": (old.get(name), new.get(name)) for name in [*old, *new] if old.get(name) != new.get(name)
    }


def _bounds(expr: Expr) -> Iterator[tuple[str, float]]:
    """What is compared with which number, by the text of its side: `amount >`, 100."""
    seen: dict[str, int] = {}
    for node in _compares(expr.root):
        for side, other, op in ((node.a, node.b, node.op), (node.b, node.a, FLIPPED[node.op])):
            bound = _number(other)
            if bound is not None and _number(side) is None:
                name = f"{expr.source[side.start : side.end]} {op}"
                seen[name] = seen.get(name, 0) + 1
                yield (name if seen[name] == 1 else f"{name} ({seen[name]})"), bound


FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


def _compares(node: Node) -> Iterator[Compare]:
    if isinstance(node, Compare):
        yield node
    elif isinstance(node, Not):
        yield from _compares(node.x)
    elif isinstance(node, Bool):
        for part in node.args:
            yield from _compares(part)


def _number(node: Node) -> float | None:
    if isinstance(node, Neg):
        inner = _number(node.x)
        return None if inner is None else -inner
    plain = isinstance(node, Const) and isinstance(node.value, int | float) and not isinstance(node.value, bool)
    return float(node.value) if plain else None  # type: ignore[attr-defined]


def _plain(value: Any) -> Any:
    """A value as JSON can say it."""
    if isinstance(value, Expr):
        return value.source
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value) if f.name not in PLACES}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value


def _shown(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= 200 else text[:200] + "..."
