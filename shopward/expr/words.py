"""Says an expression in plain words, for evidence, reports and the console."""

from __future__ import annotations

from shopward.expr.nodes import MODEL, Arith, Bool, Call, Compare, Const, Expr, In, IsNull, Name, Neg, Node, Not

_IS = {
    "==": "is", "!=": "is not", "<": "is less than", "<=": "is at most", ">": "is more than", ">=": "is at least",
}  # fmt: skip
_OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_VERBS = {
    "contains": ("contains", "does not contain"),
    "has": ("contains", "does not contain"),
    "startswith": ("starts with", "does not start with"),
    "endswith": ("ends with", "does not end with"),
    "matches": ("looks like", "does not look like"),
}


def describe(expr: Expr | Node) -> str:
    """The expression in words; `not` is carried inwards to where it is easiest to read.

    >>> from shopward.expr import Known, Scope, check
    >>> scope = Scope(fields={"device": Known("string"), "amount": Known("number")}, lists={"family": ()})
    >>> describe(check("amount > 1000 and not (listed('family', device) or device is None)", scope))
    'amount is more than 1,000, and device is not on the list family, and device is known'
    >>> describe(check("amount / 2 in (5, 7)", scope))
    'amount / 2 is 5 or 7'
    """
    root = expr.root if isinstance(expr, Expr) else expr
    return _condition(root, True) if root.type == "bool" else _value(root)


def _condition(n: Node, holds: bool) -> str:
    match n:
        case Not():
            return _condition(n.x, not holds)
        case Bool():
            return _joined(n, holds)
        case Compare():
            return f"{_value(n.a)} {_IS[n.op if holds else _OPPOSITE[n.op]]} {_value(n.b)}"
        case IsNull():
            return f"{_value(n.x)} is {'known' if n.negated == holds else 'missing'}"
        case In():
            items = [_value(i) for i in n.items]
            either = f"{', '.join(items[:-1])} or {items[-1]}" if len(items) > 1 else items[0]
            return f"{_value(n.x)} {'is' if n.negated != holds else 'is not'} {either}"
        case Call():
            return _called(n, holds)
        case Const():
            return "always" if n.value == holds else "never"
    return f"{_value(n)} is {'true' if holds else 'false'}"


def _joined(n: Bool, holds: bool) -> str:
    """`a, and b`; a group of the other kind inside stands in brackets."""
    word = "and" if (n.op == "and") == holds else "or"
    parts = []
    for part in _flat(n.args, n.op, holds):
        text = _condition(*part)
        parts.append(f"({text})" if _other_kind(part, word) else text)
    return f", {word} ".join(parts)


def _flat(args: tuple[Node, ...], op: str, holds: bool) -> list[tuple[Node, bool]]:
    """Groups of the same kind inside one another are one group; each part comes with whether it must hold."""
    out: list[tuple[Node, bool]] = []
    for n in args:
        x, wanted = n, holds
        while isinstance(x, Not):
            x, wanted = x.x, not wanted
        same = isinstance(x, Bool) and (x.op == op) == (wanted == holds)
        out.extend(_flat(x.args, x.op, wanted) if same and isinstance(x, Bool) else [(x, wanted)])
    return out


def _other_kind(part: tuple[Node, bool], word: str) -> bool:
    n, holds = part
    return isinstance(n, Bool) and ("and" if (n.op == "and") == holds else "or") != word


def _called(n: Call, holds: bool) -> str:
    values = [_value(a) for a in n.args]
    if n.func == "listed":
        key = " with ".join(values[1:])
        return f"{key} is {'' if holds else 'not '}on the list {n.args[0].value}"  # type: ignore[attr-defined]
    if n.func in _VERBS:
        return f"{values[0]} {_VERBS[n.func][not holds]} {values[1]}"
    return f"{_value(n)} is {'true' if holds else 'false'}"


def _value(n: Node) -> str:
    match n:
        case Const():
            return _constant(n)
        case Name():
            return f'model("{n.name.removeprefix(MODEL)}")' if n.name.startswith(MODEL) else n.name
        case Neg():
            return f"-{_inner(n.x)}"
        case Arith():
            return f"{_inner(n.a)} {n.op} {_inner(n.b)}"
        case Call():
            if n.func == "lookup":
                return f"{n.args[1].value} of {_value(n.args[2])} in {n.args[0].value}"  # type: ignore[attr-defined]
            return f"{n.func}({', '.join(_value(a) for a in n.args)})"
    return f"({_condition(n, True)})"


def _inner(n: Node) -> str:
    return f"({_value(n)})" if isinstance(n, Arith) else _value(n)


def _constant(n: Const) -> str:
    if isinstance(n.value, str):
        return f'"{n.value}"'
    if isinstance(n.value, bool) or n.value is None:
        return str(n.value).lower()
    if n.type == "time":
        from datetime import UTC, datetime

        return datetime.fromtimestamp(n.value / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    return f"{n.value:,.10g}" if abs(n.value) < 1e15 else repr(n.value)
