"""The shape of a checked expression: what the parser yields, the checker types and the three compilers read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal

MODEL = "MODEL_"  # capitals: no field or feature can be called so
ASKED = "ASKED_"  # a column that answers a question to a list or a lookup
Type = Literal["bool", "number", "string", "time", "list", "null"]
# money and decimal(n) fields are numbers in major units inside expressions; durations are numbers of seconds.


@dataclass(frozen=True, slots=True)
class Node:
    """A typed node; `start` and `end` are character offsets into the expression's source."""

    start: int
    end: int
    type: Type


@dataclass(frozen=True, slots=True)
class Const(Node):
    value: bool | float | int | str | None


@dataclass(frozen=True, slots=True)
class Name(Node):
    kind: Literal[
        "field", "feature", "builtin", "asked"
    ]  # builtin: `score`, `risk`, `MODEL_x` for model("x"); asked: `ASKED_n`
    name: str


@dataclass(frozen=True, slots=True)
class Not(Node):
    x: Node


@dataclass(frozen=True, slots=True)
class Bool(Node):
    op: Literal["and", "or"]
    args: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Compare(Node):
    op: Literal["==", "!=", "<", "<=", ">", ">="]
    a: Node
    b: Node


@dataclass(frozen=True, slots=True)
class IsNull(Node):
    x: Node
    negated: bool  # True: `x is not None`


@dataclass(frozen=True, slots=True)
class In(Node):
    x: Node
    items: tuple[Const, ...]
    negated: bool


@dataclass(frozen=True, slots=True)
class Arith(Node):
    op: Literal["+", "-", "*", "/", "//", "%"]
    a: Node
    b: Node


@dataclass(frozen=True, slots=True)
class Neg(Node):
    x: Node


@dataclass(frozen=True, slots=True)
class Call(Node):
    func: str
    args: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Expr:
    """A checked expression.

    `fields`, `features`, `functions`, `lists`, `lookups` and `builtins` are what it reads (sorted, unique).
    `rowwise` is True when it must see characters or tables (string functions, lists, lookups): such an expression is evaluated by
    the generated Python function, row by row; all others also compile to a kernel over columns.
    """

    source: str
    root: Node
    type: Type
    fields: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    lookups: tuple[str, ...] = ()
    rowwise: bool = False
    builtins: tuple[str, ...] = ()


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it."""
    yield node
    for part in fields(node):
        value = getattr(node, part.name)
        for child in value if isinstance(value, tuple) else (value,):
            if isinstance(child, Node):
                yield from walk(child)
