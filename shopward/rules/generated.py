"""Small tools of everything that writes Python from checked conditions: the names in one, and turning source into a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shopward.expr.nodes import Name, Node, walk


def define(source: str, name: str, env: dict[str, Any]) -> Callable:
    """Execute generated source (never user text: it was written from checked nodes) and give back one function."""
    space = dict(env)
    exec(compile(source, f"<generated {name}>", "exec"), space)
    return space[name]


def names_in(node: Node) -> list[Name]:
    """The names a node reads, in the order of its text, repetitions included."""
    return [n for n in walk(node) if isinstance(n, Name)]
