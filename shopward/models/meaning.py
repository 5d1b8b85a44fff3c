"""What a feature means, as text: everything its value depends on. Two rulebooks that say the same give the same text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shopward.declare.rulebook import Rulebook
from shopward.declare.types import Feature


def meanings(book: Rulebook, names: Iterable[str]) -> dict[str, str]:
    """name -> meaning, of the features and of all they read; fields are not among them.

    >>> book = Rulebook.from_files({"schema.yaml": "{types: [pay], fields: {card: {type: string, entity: card}, amount: money}}",
    ...     "features/f.yaml": "a: {entity: card, measure: sum(amount), over: 1h}\\nb: {expr: a + 1}"})
    >>> meanings(book, ["b", "amount"])
    {'b': 'expr: a + 1', 'a': 'sum(amount) by card over 3600000 ms'}
    """
    out: dict[str, str] = {}
    todo = [n for n in names if n in book.features]
    while todo:
        name = todo.pop(0)
        if name in out:
            continue
        feature = book.features[name]
        out[name] = meaning(feature)
        todo += [r for r in feature.reads if r in book.features]
    return out


def meaning(f: Feature) -> str:
    """One feature's declaration in a line, without its name, doc and place."""
    if f.expr is not None:
        return f"expr: {f.expr.source}"
    if f.of is not None:
        return f"{f.of[0]} / {f.of[1]}"
    if f.table is not None:
        return f"{f.measure} {f.table} by {', '.join(f.entity)}"
    if f.a is not None and f.b is not None:
        return f"{f.a.source} {f.measure} {f.b.source} within {f.within} ms by {', '.join(f.entity)}"
    if f.graph is not None:
        where = f" where {f.where.source}" if f.where else ""
        through = f"through {', '.join(f.graph.through)}, hubs above {f.graph.hub}"
        return f"{f.graph.said} of the neighbours of {f.entity[0]} {through} over {f.over} ms{where}"
    parts = [f"{f.measure}({f.arg})" if f.arg else f.measure, f"by {', '.join(f.entity)}"]
    parts += [f"via {', '.join(f.via)}"] if f.via else []
    parts.append("over ever" if f.over is None else f"over {f.over} ms")
    parts += [f"lag {f.lag} ms"] if f.lag else []
    parts += [f"where {f.where.source}"] if f.where else []
    parts += ["before the event"] if f.before else []
    return " ".join(parts)


def differences(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Lines that tell what changed, as a diff does."""
    out = []
    for name, was in then.items():
        if now.get(name) != was:
            out += [f"- {name}: {was}", f"+ {name}: {now.get(name, '(gone)')}"]
    return out
