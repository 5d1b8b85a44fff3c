"""Small tools of everything that writes Python from checked conditions: walking a condition, and turning source into a function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields as parts_of
from typing import Any

from shopward.expr.nodes import Name, Node


def define(source: str, name: str, env: dict[str, Any]) -> Callable:
    """Execute generated source (never user text: it was written from checked nodes) and give back one function."""
    space = dict(env)
    exec(compile(source, f"<generated {name}>", "exec"), space)
    return space[name]


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it."""
    yield node
    for part in parts_of(node):
        value = getattr(node, part.name)
        for child in value if isinstance(value, tuple) else (value,):
            if isinstance(child, Node):
                yield from walk(child)


def names_in(node: Node) -> list[Name]:
    """The names a node reads, in the order of its text, repetitions included."""
    return [n for n in walk(node) if isinstance(n, Name)]
