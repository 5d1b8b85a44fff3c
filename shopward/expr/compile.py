"""Turns a checked expression into source text: Python for one event, and the same text for kernels over columns.

Conditions have three values (true, false, missing), yet no code for "missing" runs: a condition is generated either as "is it true"
or as "is it false", and `not` switches between the two. A missing number is NaN, which compares False with everything, so
`amount > 5` becomes just `amount > 5.0`. Only `!=`, texts and division need a guard.

What the fragments of `names` must give: numbers and times (ms) as floats with NaN for missing; true/false as 1.0, 0.0, NaN (True,
False, None also work in Python); texts as str or None in Python, as a pair of hash words in kernels ((0, 0) is missing), except
`type`, which in kernels is the event type's code and never missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal

from shopward.expr.nodes import Arith, Bool, Call, Compare, Const, Expr, In, IsNull, Name, Neg, Node, Not

Mode = Literal["auto", "true", "false", "value"]
Pair = tuple[str, str]


def to_python(expr: Expr | Node, names: Mapping[str, str] | None = None, mode: Mode = "auto") -> str:
    """Python source of an expression; names not in `names` stand for themselves.

    `mode` "true" (what "auto" takes for conditions) is a bool that is True iff the value is true, "false" likewise; "value" is the
    value itself (a condition as 1.0, 0.0 or NaN). It runs with `shopward.expr.functions.runtime()` as globals.

    >>> from shopward.expr import Known, Scope, check
    >>> scope = Scope(fields={"a": Known("number"), "b": Known("number"), "s": Known("string")})
    >>> to_python(check("a > 5 and not b > a", scope))
    '(a > 5.0 and b <= a)'
    >>> to_python(check("s != 'x' or a / b > 2", scope), {"a": "F[0]"})
    "((s is not None and s != 'x') or (F[0] / b if b != 0.0 else nan) > 2.0)"
    """
    return _written(_Python(names or {}), expr, mode)


def to_kernel(
    expr: Expr | Node,
    names: Mapping[str, str | Pair],
    const: Callable[[str], Pair],
    types: Mapping[str, int],
    mode: Mode = "auto",
) -> str:
    """Source for a kernel over columns (valid both compiled and as plain Python), with `shopward.expr.kernel` as globals.

    `const(text)` gives the fragments of a constant's two hash words (constants are seeded, so their values are passed at run time);
    `types` are the codes of event types. Not for rowwise expressions.

    >>> from shopward.expr import Known, Scope, check
    >>> scope = Scope(fields={"type": Known("string"), "device": Known("string"), "seller": Known("string")})
    >>> names = {"type": "ty", "device": ("d0", "d1"), "seller": ("s0", "s1")}
    >>> to_kernel(check("type == 'login' and device is not None", scope), names, lambda s: ("C[0]", "C[1]"), {"login": 3})
    '(ty == 3 and (d0 != 0 or d1 != 0))'
    """
    if isinstance(expr, Expr) and expr.rowwise:
        raise ValueError(f"rowwise expressions have no kernel: {expr.source}")
    return _written(_Kernel(names, const, types), expr, mode)


def _written(code: _Code, expr: Expr | Node, mode: Mode) -> str:
    root = expr.root if isinstance(expr, Expr) else expr
    if mode in ("true", "false") or (mode == "auto" and root.type == "bool"):
        return code.false(root) if mode == "false" else code.true(root)
    return code.number(root) if root.type == "bool" else code.value(root)


_OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_SIMPLE = re.compile(r"[\w.]+(\[[\w., ]+\])*")


def simple(text: str) -> bool:
    """Is this fragment cheap enough to be written twice?

    >>> simple("F[3]"), simple("a + b")
    (True, False)
    """
    return _SIMPLE.fullmatch(text) is not None


class _Code:
    """What Python and kernels share: logic and numbers. Texts differ and are below."""

    def __init__(self, names: Mapping):
        self.names = names

    # --- conditions

    def true(self, n: Node) -> str:
        return self.condition(n, True)

    def false(self, n: Node) -> str:
        return self.condition(n, False)

    def condition(self, n: Node, wanted: bool) -> str:
        match n:
            case Const():
                return str(bool(n.value) == wanted)
            case Not():
                return self.condition(n.x, not wanted)
            case Bool():
                word = " and " if (n.op == "and") == wanted else " or "
                return "(" + word.join(self.condition(a, wanted) for a in n.args) + ")"
            case Compare():
                return self.compare(n.op if wanted else _OPPOSITE[n.op], n.a, n.b)
            case IsNull():
                return self.missing(n.x) if n.negated != wanted else self.present(n.x)
            case In():
                return self.member(n, n.negated != wanted)
            case Call():
                return self.truth(n, wanted)
        return f"{self.value(n)} == {'1.0' if wanted else '0.0'}"

    def compare(self, op: str, a: Node, b: Node) -> str:
        if a.type == "string":
            return self.compare_texts(op, a, b)
        if a.type == "bool":
            pairs = [(self.condition(a, w), self.condition(b, w == (op == "=="))) for w in (True, False)]
            return "(" + " or ".join(f"{x} and {y}" for x, y in pairs) + ")"
        x, y = self.value(a), self.value(b)
        return f"({x} < {y} or {x} > {y})" if op == "!=" else f"{x} {op} {y}"

    def missing(self, n: Node) -> str:
        if n.type == "bool":
            return f"not {self.present(n)}"
        x = self.value(n)
        return f"{x} != {x}"

    def present(self, n: Node) -> str:
        if n.type == "bool":
            return f"({self.true(n)} or {self.false(n)})"
        x = self.value(n)
        return f"{x} == {x}"

    def member(self, n: In, wanted: bool) -> str:
        """`wanted`: among the items; otherwise present and not among them."""
        if n.x.type == "string":
            return self.member_text(n, wanted)
        x, items = self.value(n.x), [self.value(i) for i in n.items]
        if wanted:
            return "(" + " or ".join(f"{x} == {i}" for i in items) + ")"
        return "(" + " and ".join([f"{x} == {x}", *(f"{x} != {i}" for i in items)]) + ")"

    def truth(self, n: Call, wanted: bool) -> str:
        return f"{self.value(n)} == {'1.0' if wanted else '0.0'}"

    # --- numbers

    def number(self, n: Node) -> str:
        """A condition as 1.0, 0.0 or NaN."""
        if isinstance(n, Const):
            return "1.0" if n.value else "0.0"
        return f"(1.0 if {self.true(n)} else 0.0 if {self.false(n)} else nan)"

    def value(self, n: Node) -> str:
        match n:
            case Const():
                return self.constant(n)
            case Name():
                return self.names.get(n.name, n.name)
            case Neg():
                return f"(-{self.value(n.x)})"
            case Arith():
                return self.arith(n)
            case Call():
                return self.call(n)
        return self.number(n)

    def constant(self, n: Const) -> str:
        if isinstance(n.value, str):
            return repr(n.value)
        return repr(float(n.value or 0))

    def arith(self, n: Arith) -> str:
        a, b = self.value(n.a), self.value(n.b)
        if n.op in ("/", "//", "%"):
            return self.divide(n, a, b)
        if n.a.type == n.b.type == "time":
            return f"(({a} - {b}) / 1000.0)"
        if n.type == "time":
            a, b = (f"{x} * 1000.0" if t == "number" else x for x, t in ((a, n.a.type), (b, n.b.type)))
        return f"({a} {n.op} {b})"

    def divide(self, n: Arith, a: str, b: str) -> str:
        sign = "%" if n.op == "%" else "/"
        if isinstance(n.b, Const):
            q = f"({a} {sign} {b})"
        elif simple(b):
            q = f"({a} {sign} {b} if {b} != 0.0 else nan)"
        else:
            q = f"{'mod' if n.op == '%' else 'div'}({a}, {b})"
        return f"floor({q})" if n.op == "//" else q

    def call(self, n: Call) -> str:
        args = n.args
        if n.func == "abs":
            return f"abs({self.value(args[0])})"
        if n.func in ("min", "max"):
            return self.extreme(n.func, [self.value(a) for a in args])
        if n.func == "round":
            digits = int(args[1].value) if len(args) > 1 else 0  # type: ignore[attr-defined]
            return f"round_even({self.value(args[0])}, {float(10**digits)!r})"
        if n.func == "coalesce":
            return self.coalesce(n)
        if n.func in _CLOCK and (len(args) == 1 or args[1].value == "UTC"):  # type: ignore[attr-defined]
            return _CLOCK[n.func].format(ts=self.value(args[0]))
        return self.function(n)

    def extreme(self, func: str, xs: list[str]) -> str:
        op, opposite = ("<=", "<") if func == "min" else (">=", ">")
        x = xs[0]
        for y in xs[1:]:
            if simple(x) and simple(y):
                x = f"({x} if {x} {op} {y} else {y} if {y} {opposite} {x} else nan)"
            else:
                x = f"{'least' if func == 'min' else 'greatest'}({x}, {y})"
        return x

    def coalesce(self, n: Call) -> str:
        *rest, last = (self.value(a) for a in n.args)
        for x in reversed(rest):
            last = (
                f"({x} if {x} == {x} else {last})"
                if simple(x) and n.type in ("number", "time")
                else f"first({x}, {last})"
            )
        return last

    # --- texts: written by Python and kernels in their own way

    def compare_texts(self, op: str, a: Node, b: Node) -> str:
        raise NotImplementedError

    def member_text(self, n: In, wanted: bool) -> str:
        raise NotImplementedError

    def function(self, n: Call) -> str:
        raise NotImplementedError


_CLOCK = {
    "hour": "({ts} // 3600000.0 % 24.0)",
    "weekday": "(({ts} // 86400000.0 + 3.0) % 7.0)",
    "day": "({ts} // 86400000.0)",
}
_INLINE = {
    "contains": ("{b} in {a}", "{b} not in {a}"),
    "has": ("{b} in {a}", "{b} not in {a}"),
    "startswith": ("{a}.startswith({b})", "not {a}.startswith({b})"),
    "endswith": ("{a}.endswith({b})", "not {a}.endswith({b})"),
}


class _Python(_Code):
    """Texts are str or None."""

    def missing(self, n: Node) -> str:
        return f"{self.value(n)} is None" if n.type in ("string", "list") else super().missing(n)

    def present(self, n: Node) -> str:
        return f"{self.value(n)} is not None" if n.type in ("string", "list") else super().present(n)

    def compare_texts(self, op: str, a: Node, b: Node) -> str:
        guards = [f"{self.value(x)} is not None" for x in (a, b) if not isinstance(x, Const)]
        test = f"{self.value(a)} {op} {self.value(b)}"
        if op == "==":
            guards = guards[:1] if len(guards) == 2 else []
        return f"({' and '.join([*guards, test])})" if guards else test

    def member_text(self, n: In, wanted: bool) -> str:
        x, items = self.value(n.x), ", ".join(repr(i.value) for i in n.items)
        return f"{x} in {{{items}}}" if wanted else f"({x} is not None and {x} not in {{{items}}})"

    def truth(self, n: Call, wanted: bool) -> str:
        if n.func in _INLINE and isinstance(n.args[1], Const) and simple(self.value(n.args[0])):
            a, b = self.value(n.args[0]), self.value(n.args[1])
            return f"({a} is not None and {_INLINE[n.func][not wanted].format(a=a, b=b)})"
        return f"{self.value(n)} is {wanted}" if n.func != "coalesce" else super().truth(n, wanted)

    def function(self, n: Call) -> str:
        args = [self.value(a) for a in n.args]
        now = self.names.get("t", "t")
        if n.func == "listed":
            keys = args[1] if len(args) == 2 else f"({', '.join(args[1:])})"
            return f"listed({args[0]}, {keys}, {now})"
        if n.func == "lookup":
            return f"lookup({', '.join(args)}, {now})"
        return f"f_{n.func}({', '.join(args)})"


class _Kernel(_Code):
    """Texts are pairs of hash words; the event type is a code."""

    def __init__(self, names: Mapping[str, str | Pair], const: Callable[[str], Pair], types: Mapping[str, int]):
        super().__init__(names)
        self.const, self.types = const, types

    def pair(self, n: Node) -> Pair:
        if isinstance(n, Const):
            return self.const(str(n.value))
        if isinstance(n, Name):
            return self.names[n.name]
        return self.first_pair([self.pair(a) for a in n.args])  # type: ignore[attr-defined]  # coalesce: all that is left

    def first_pair(self, pairs: list[Pair]) -> Pair:
        last = pairs[-1]
        for x in reversed(pairs[:-1]):
            here = _some(x)
            last = (f"({x[0]} if {here} else {last[0]})", f"({x[1]} if {here} else {last[1]})")
        return last

    def missing(self, n: Node) -> str:
        if n.type != "string":
            return super().missing(n)
        a, b = self.pair(n)
        return f"({a} == 0 and {b} == 0)"

    def present(self, n: Node) -> str:
        return _some(self.pair(n)) if n.type == "string" else super().present(n)

    def compare_texts(self, op: str, a: Node, b: Node) -> str:
        if isinstance(a, Const):
            a, b = b, a
        if _is_type(a):
            return f"{self.names['type']} {op} {self.types[b.value]}"  # type: ignore[attr-defined]
        x, y = self.pair(a), self.pair(b)
        guards = [_some(p) for p, node in ((x, a), (y, b)) if not isinstance(node, Const)]
        if op == "==":
            guards = guards[:1] if len(guards) == 2 else []
        return "(" + " and ".join([_same(x, y) if op == "==" else _differ(x, y), *guards]) + ")"

    def member_text(self, n: In, wanted: bool) -> str:
        op = "==" if wanted else "!="
        if _is_type(n.x):
            tests = [f"{self.names['type']} {op} {self.types[i.value]}" for i in n.items]  # type: ignore[index]
        else:
            x, same = self.pair(n.x), _same if wanted else _differ
            tests = [f"({same(x, self.pair(i))})" for i in n.items] + ([] if wanted else [_some(x)])
        return "(" + (" or " if wanted else " and ").join(tests) + ")"

    def function(self, n: Call) -> str:
        raise ValueError(f"{n.func} has no kernel")


def _is_type(n: Node) -> bool:
    return isinstance(n, Name) and n.kind == "field" and n.name == "type"


def _some(p: Pair) -> str:
    return f"({p[0]} != 0 or {p[1]} != 0)"


def _same(x: Pair, y: Pair) -> str:
    return f"{x[0]} == {y[0]} and {x[1]} == {y[1]}"


def _differ(x: Pair, y: Pair) -> str:
    return f"({x[0]} != {y[0]} or {x[1]} != {y[1]})"
