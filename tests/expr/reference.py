"""A tiny evaluator of expressions that shares no code with the compilers: three values, None is missing, plain recursion."""

from __future__ import annotations

import math

from shopward.expr.nodes import Arith, Bool, Call, Compare, Const, In, IsNull, Name, Neg, Node, Not


def evaluate(n: Node, row: dict):
    """The value of a node on one event: True, False, a float, a str, or None."""
    if isinstance(n, Const):
        return float(n.value) if type(n.value) in (int, float) else n.value
    if isinstance(n, Name):
        return row.get(n.name)
    if isinstance(n, Not):
        x = evaluate(n.x, row)
        return None if x is None else not x
    if isinstance(n, Bool):
        return _logic(n.op, [evaluate(a, row) for a in n.args])
    if isinstance(n, IsNull):
        return (evaluate(n.x, row) is None) != n.negated
    if isinstance(n, In):
        x = evaluate(n.x, row)
        return None if x is None else (x in [i.value for i in n.items]) != n.negated
    if isinstance(n, Neg):
        x = evaluate(n.x, row)
        return None if x is None else -x
    args = [evaluate(a, row) for a in ((n.a, n.b) if isinstance(n, Compare | Arith) else n.args)]
    if isinstance(n, Call) and n.func == "coalesce":
        return next((a for a in args if a is not None), None)
    if any(a is None for a in args):
        return None
    if isinstance(n, Compare):
        return _compare(n.op, *args)
    return _finite(_arith(n, *args) if isinstance(n, Arith) else _call(n.func, args))


def _logic(op: str, values: list):
    decides = op == "or"
    if decides in values:
        return decides
    return None if None in values else not decides


def _compare(op: str, a, b) -> bool:
    return {
        "==": lambda: a == b, "!=": lambda: a != b, "<": lambda: a < b,
        "<=": lambda: a <= b, ">": lambda: a > b, ">=": lambda: a >= b,
    }[op]()  # fmt: skip


def _arith(n: Arith, a: float, b: float):
    if n.op in ("/", "//", "%") and b == 0:
        return None
    if n.op == "+":
        return a + (b * 1000.0 if n.a.type == "time" else b) if n.b.type != "time" else a * 1000.0 + b
    if n.op == "-" and n.a.type == "time":
        return (a - b) / 1000.0 if n.b.type == "time" else a - b * 1000.0
    if n.op == "//":
        q = a / b
        return math.floor(q) * 1.0 if math.isfinite(q) else q
    if n.op == "%":
        if not math.isfinite(a) or not math.isfinite(b):
            return math.nan
        r = math.fmod(a, b)
        return r + b if r and (r < 0) != (b < 0) else r
    return {"-": lambda: a - b, "*": lambda: a * b, "/": lambda: a / b}[n.op]()


def _call(func: str, args: list):
    if func in ("min", "max"):
        return {"min": min, "max": max}[func](args)
    if func == "abs":
        return abs(args[0])
    if func == "round":
        p = 10.0 ** (args[1] if len(args) > 1 else 0)
        return round(args[0] * p) / p if math.isfinite(args[0] * p) else args[0] * p / p
    if func in ("hour", "weekday", "day"):
        days, ms = divmod(int(args[0]), 86_400_000)
        return {"hour": ms // 3_600_000, "weekday": (days + 3) % 7, "day": days}[func] * 1.0
    if func == "contains":
        return args[1] in args[0]
    if func == "startswith":
        return args[0][: len(args[1])] == args[1]
    if func == "len":
        return float(len(args[0]))
    if func == "prefix":
        return args[0][: int(args[1])]
    if func == "has":
        return args[1] in args[0]
    raise NotImplementedError(func)


def _finite(x):
    return None if isinstance(x, float) and math.isnan(x) else x
