"""Reads the text of an expression: a small subset of Python's expression syntax, and nothing else.

`and or not`, comparisons, `in (...)`, `is None`, `+ - * / // %`, numbers, strings, names and calls of functions. The text is parsed
by Python's own parser and never executed: each syntax node has a translation here or is refused with a message. Length, depth and
size are limited before parsing, so no text can take long.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from shopward.expr.nodes import Arith, Bool, Call, Compare, Const, In, IsNull, Name, Neg, Node, Not

MAX_LENGTH = 8_000  # characters
MAX_DEPTH = 40  # nested brackets, and depth of the tree
MAX_NODES = 1_000
EXACT = 2**53  # above this, whole numbers are no longer exact


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with characters start..end of the source."""

    start: int
    end: int
    message: str
    hint: str = ""


@dataclass(slots=True)
class Faults:
    """Collects what is wrong, so that all of it can be told at once."""

    found: list[Fault] = field(default_factory=list)

    def add(self, start: int, end: int, message: str, hint: str = "") -> None:
        self.found.append(Fault(start, end, message, hint))


def parse(source: str) -> tuple[Node | None, list[Fault]]:
    """The tree of an expression, types not yet known (every `type` is "null"), and what is wrong with it.

    >>> tree, faults = parse("amount > 5 and not new_device")
    >>> type(tree).__name__, tree.op, faults
    ('Bool', 'and', [])
    >>> parse("__import__('os').system('ls')")[1][0].message
    'this is not part of the language: .system'
    """
    faults = Faults()
    text = _prepare(source, faults)
    if text is None:
        return None, faults.found
    body = _syntax(text, faults)
    if body is None:
        return None, faults.found
    tree = _Translate(text, faults).node(body, 0)
    return (None if faults.found else tree), faults.found


def names_in(source: str) -> set[str]:
    """Every identifier an expression mentions (function names too); empty when it does not parse.

    >>> sorted(names_in("a / coalesce(b, 1)"))
    ['a', 'b', 'coalesce']
    """
    text = _prepare(source, Faults())
    body = _syntax(text, Faults()) if text is not None else None
    return {n.id for n in ast.walk(body) if isinstance(n, ast.Name)} if body else set()


def comment_in(source: str) -> int | None:
    """Where the first comment starts, if there is one.

    >>> comment_in("a == '#1' # note"), comment_in("a == '#1'")
    (10, None)
    """
    return next((p.start() for p in _PIECES.finditer(source[:MAX_LENGTH]) if p.lastgroup == "comment"), None)


# --- before Python's parser sees it ---------------------------------------------------------------------------------------------


def _prepare(source: str, faults: Faults) -> str | None:
    """The source with comments and line breaks blanked (same length), or None when it must not be parsed."""
    if len(source) > MAX_LENGTH:
        faults.add(0, 1, f"the expression is {len(source)} characters long; the limit is {MAX_LENGTH}")
        return None
    if not source.strip():
        faults.add(0, 1, "the expression is empty")
        return None
    text = _scan(source, faults)
    return None if faults.found else text


_PIECES = re.compile(
    r"""(?P<string>"[^"\n]*"|'[^'\n]*')|(?P<open>["'])|(?P<comment>\#[^\n]*)|(?P<gap>\s+)|(?P<other>.)""", re.S
)


def _scan(source: str, faults: Faults) -> str:
    out, depth, after_string = [], 0, False
    for piece in _PIECES.finditer(source):
        kind, text, at = piece.lastgroup, piece.group(), piece.start()
        if kind == "string":
            _check_string(text, at, after_string, faults)
        elif kind == "open":
            faults.add(at, at + 1, "this quote is never closed")
        elif kind in ("comment", "gap"):
            text = " " * len(text)
        else:
            depth += (text in "([{") - (text in ")]}")
            _check_character(text, at, depth, faults)
        out.append(text)
        after_string = kind == "string" or (after_string and kind in ("gap", "comment"))
        if faults.found:
            break
    return "".join(out)


def _check_string(text: str, at: int, after_string: bool, faults: Faults) -> None:
    if after_string:
        faults.add(at, at + len(text), "two texts side by side", "is a comma missing?")
    elif "\\" in text:
        faults.add(at + text.index("\\"), at + text.index("\\") + 1, "no backslashes in texts")
    elif not text.isprintable():
        faults.add(at, at + len(text), "this text holds a control character")


def _check_character(c: str, at: int, depth: int, faults: Faults) -> None:
    if not c.isascii() or not c.isprintable() or c == "\\":
        shown = f"`{c}`" if c.isprintable() else f"U+{ord(c):04X}"
        faults.add(at, at + 1, f"unexpected character {shown}", "names are plain ASCII letters, digits and _")
    elif depth > MAX_DEPTH:
        faults.add(at, at + 1, f"brackets nested deeper than {MAX_DEPTH}")


def _syntax(text: str, faults: Faults) -> ast.expr | None:
    lead = len(text) - len(text.lstrip())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text[lead:].rstrip(), mode="eval").body
    except SyntaxError as e:
        at = lead + e.offset - 1 if e.offset and e.lineno == 1 else len(text.rstrip())
        end = lead + e.end_offset - 1 if e.end_offset and e.end_offset > (e.offset or 0) else at + 1
        faults.add(at, end, *_explain(e.msg or "syntax error", text, at))
    except (ValueError, OverflowError):
        faults.add(lead, len(text), "a number in this expression is too large")
    except (RecursionError, MemoryError):
        faults.add(lead, len(text), "the expression is nested too deeply")
    return None


def _explain(message: str, text: str, at: int) -> tuple[str, str]:
    """Python's words for a syntax error, put into ours where a strategist would not know them."""
    rest = text[at:].lstrip()
    if message.startswith("invalid decimal literal") or re.match(r"\d+(ms|s|m|h|d)\b", rest):
        return "a number followed by letters", 'durations are written duration("24h")'
    if re.match(r"=[^=]", rest) or "Maybe you meant '=='" in message or "cannot assign" in message:
        return "`=` does not compare", "write `==`"
    for theirs, ours in (("&&", "and"), ("||", "or"), ("!", "not")):
        if rest.startswith(theirs) or text[max(0, at - 1) :].startswith(theirs):
            return f"`{theirs}` is not part of the language", f"write `{ours}`"
    if at >= len(text.rstrip()):
        return "the expression ends too early", ""
    return f"this does not read as an expression: {message.split(' (')[0].split('. ')[0]}", ""


# --- from Python's tree to ours ---------------------------------------------------------------------------------------------------

_COMPARE = {ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
_ARITH = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%"}
_REFUSED: dict[type, tuple[str, str]] = {
    ast.Lambda: ("lambda", ""),
    ast.IfExp: ("if ... else", "write the condition with and/or"),
    ast.Subscript: ("[...]", ""),
    ast.JoinedStr: ("f-strings", ""),
    ast.NamedExpr: (":=", "write `==` to compare"),
    **dict.fromkeys(
        (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp), ("a loop (`for`)", "count with a feature")
    ),
    ast.Dict: ("{...}", ""),
    ast.Starred: ("*", ""),
    ast.Await: ("await", ""),
    ast.Yield: ("yield", ""),
    ast.YieldFrom: ("yield", ""),
    ast.Slice: (":", ""),
}
_OPERATORS: dict[type, tuple[str, str]] = {
    ast.BitAnd: ("&", "write `and`"),
    ast.BitOr: ("|", "write `or`"),
    ast.BitXor: ("^", ""),
    ast.Pow: ("**", "write a product"),
    ast.LShift: ("<<", ""),
    ast.RShift: (">>", ""),
    ast.MatMult: ("@", ""),
    ast.Invert: ("~", "write `not`"),
}


class _Translate:
    """One method per kind of syntax node we know; `node` finds it or refuses."""

    def __init__(self, text: str, faults: Faults):
        self.faults, self.count = faults, 0
        self.lead = len(text) - len(text.lstrip())
        body = text[self.lead :]
        self.bytes = None if body.isascii() else body.encode()
        self.known: dict[type, Callable[[Any, int], Node | None]] = {
            ast.Constant: self.constant,
            ast.Name: self.name,
            ast.BoolOp: self.bool_op,
            ast.UnaryOp: self.unary,
            ast.BinOp: self.arith,
            ast.Compare: self.compare,
            ast.Call: self.call,
        }

    def node(self, n: ast.expr, depth: int) -> Node | None:
        self.count += 1
        if depth > MAX_DEPTH or self.count > MAX_NODES:
            if not any("too" in f.message for f in self.faults.found):
                what = "nested too deeply" if depth > MAX_DEPTH else "too large"
                self.faults.add(*self.span(n), f"the expression is {what}", "split it into features")
            return None
        translate = self.known.get(type(n))
        return translate(n, depth + 1) if translate else self.refuse(n)

    def refuse(self, n: ast.expr) -> Any:
        what, hint = _REFUSED.get(type(n), ("", ""))
        start, end = self.span(n)
        if isinstance(n, ast.Attribute):
            what, start = f".{n.attr}", end - len(n.attr) - 1
            if isinstance(n.value, ast.Name):
                hint = f"nested fields are flattened: `{n.value.id}_{n.attr}`"
        elif isinstance(n, ast.Tuple | ast.List | ast.Set):
            what, hint = "a list of values here", "lists stand after `in`"
        self.faults.add(start, end, f"this is not part of the language: {what or type(n).__name__}", hint)

    def span(self, n: ast.AST) -> tuple[int, int]:
        start, end = n.col_offset, n.end_col_offset  # type: ignore[attr-defined]
        if self.bytes is not None:  # Python counts bytes of UTF-8
            start, end = (len(self.bytes[:x].decode(errors="ignore")) for x in (start, end))
        return start + self.lead, end + self.lead

    def all(self, nodes: list[ast.expr], depth: int) -> tuple[Node, ...] | None:
        got = [self.node(n, depth) for n in nodes]
        return None if any(g is None for g in got) else tuple(g for g in got if g)

    def constant(self, n: ast.Constant, depth: int) -> Node | None:
        start, end = self.span(n)
        value = n.value
        if value is None or isinstance(value, bool | str):
            return Const(start, end, "null", value)
        if isinstance(value, int | float):
            if isinstance(value, int) and abs(value) > EXACT or value in (float("inf"), float("-inf")):
                self.faults.add(start, end, "this number is too large to be exact", f"the limit is {EXACT}")
                return None
            return Const(start, end, "null", value)
        self.faults.add(start, end, "this is not part of the language: " + type(value).__name__)
        return None

    def name(self, n: ast.Name, depth: int) -> Node:
        return Name(*self.span(n), "null", "field", n.id)

    def bool_op(self, n: ast.BoolOp, depth: int) -> Node | None:
        args = self.all(n.values, depth)
        return args and Bool(*self.span(n), "null", "and" if isinstance(n.op, ast.And) else "or", args)  # type: ignore[return-value]

    def unary(self, n: ast.UnaryOp, depth: int) -> Node | None:
        if type(n.op) in _OPERATORS:
            return self.operator(n, n.op)
        x = self.node(n.operand, depth)
        if x is None or isinstance(n.op, ast.UAdd):
            return x
        return Not(*self.span(n), "null", x) if isinstance(n.op, ast.Not) else Neg(*self.span(n), "null", x)

    def operator(self, n: ast.expr, op: ast.AST) -> Any:
        what, hint = _OPERATORS[type(op)]
        self.faults.add(*self.span(n), f"this is not part of the language: {what}", hint)

    def arith(self, n: ast.BinOp, depth: int) -> Node | None:
        if type(n.op) in _OPERATORS:
            return self.operator(n, n.op)
        a, b = self.node(n.left, depth), self.node(n.right, depth)
        return Arith(*self.span(n), "null", _ARITH[type(n.op)], a, b) if a and b else None  # type: ignore[arg-type]

    def compare(self, n: ast.Compare, depth: int) -> Node | None:
        """`a < b < c` means `a < b and b < c`; `in` and `is` do not chain."""
        sides = [n.left, *n.comparators]
        if len(n.ops) > 1 and any(type(op) not in _COMPARE for op in n.ops):
            self.faults.add(*self.span(n), "`in` and `is` cannot be chained", "use `and` and brackets")
            return None
        parts = [self.pair(n, a, op, b, depth) for a, op, b in zip(sides, n.ops, sides[1:], strict=False)]
        if any(p is None for p in parts):
            return None
        return parts[0] if len(parts) == 1 else Bool(*self.span(n), "null", "and", tuple(p for p in parts if p))

    def pair(self, n: ast.Compare, a: ast.expr, op: ast.cmpop, b: ast.expr, depth: int) -> Node | None:
        left = self.node(a, depth)
        span = (self.span(a)[0], self.span(b)[1]) if len(n.ops) > 1 else self.span(n)
        if isinstance(op, ast.Is | ast.IsNot):
            return self.is_null(left, isinstance(op, ast.IsNot), b, span)
        if isinstance(op, ast.In | ast.NotIn):
            return self.member(left, isinstance(op, ast.NotIn), b, span)
        right = self.node(b, depth)
        return Compare(*span, "null", _COMPARE[type(op)], left, right) if left and right else None  # type: ignore[arg-type]

    def is_null(self, x: Node | None, negated: bool, b: ast.expr, span: tuple[int, int]) -> Node | None:
        if not (isinstance(b, ast.Constant) and b.value is None):
            self.faults.add(*self.span(b), "`is` only asks for None", "write `==` to compare")
            return None
        return x and IsNull(*span, "null", x, negated)

    def member(self, x: Node | None, negated: bool, b: ast.expr, span: tuple[int, int]) -> Node | None:
        if not isinstance(b, ast.Tuple | ast.List | ast.Set):
            self.faults.add(*self.span(b), "`in` needs a list of constants", _membership_hint(b))
            return None
        items = self.all(b.elts, MAX_DEPTH - 2)
        if items is None or x is None:
            return None
        consts = tuple(c for c in (_signed(i) for i in items) if c)
        if len(consts) < len(items) or not items:
            self.faults.add(*self.span(b), "`in` needs a list of constants", 'for example ("a", "b")')
            return None
        return In(*span, "null", x, consts, negated)

    def call(self, n: ast.Call, depth: int) -> Node | None:
        if not isinstance(n.func, ast.Name):
            if self.node(n.func, depth):
                self.faults.add(*self.span(n.func), "only functions of the language can be called")
            return None
        if n.keywords:
            k = n.keywords[0]
            self.faults.add(*self.span(k), "arguments have no names here", "write the values in order")
            return None
        args = self.all(n.args, depth)
        return None if args is None else Call(*self.span(n), "null", n.func.id, args)


def _membership_hint(b: ast.expr) -> str:
    if isinstance(b, ast.Constant) and isinstance(b.value, str):
        return 'write ("...",) for a list of one, or contains(text, part)'
    if isinstance(b, ast.Name):
        return f"for a list field write has({b.id}, ...)"
    return 'for example ("a", "b")'


def _signed(n: Node) -> Const | None:
    if isinstance(n, Neg) and isinstance(n.x, Const) and isinstance(n.x.value, int | float):
        return Const(n.start, n.end, "null", -n.x.value)
    return n if isinstance(n, Const) else None
