"""Turns a checked expression into DuckDB SQL; SQL's own three-valued logic is ours, so the text stays close to the expression."""

from __future__ import annotations

from collections.abc import Mapping

from shopward.errors import NotYet
from shopward.expr.functions import FUNCTIONS
from shopward.expr.nodes import Arith, Bool, Call, Compare, Const, Expr, In, IsNull, Name, Neg, Node, Not


def to_sql(expr: Expr | Node, names: Mapping[str, str] | None = None, *, tables: bool = False) -> str:
    """SQL text; names not in `names` are columns of that name (numbers as DOUBLE, true/false as BOOLEAN, times as ms).

    With `tables`, lists and lookups are read as tables of that name as of `t`: to be read by people, for nobody keeps them in SQL.
    Raises NotYet where SQL has no equal form (lists, lookups, `ip64`, `simhash`).

    >>> from shopward.expr import Known, Scope, check
    >>> scope = Scope(fields={"amount": Known("number"), "n": Known("number"), "type": Known("string")})
    >>> to_sql(check("type == 'login' and not amount / n > 2.5", scope), {"amount": "(amount / 100)"})
    "(type = 'login' AND NOT (((amount / 100) / nullif(n, 0)) > 2.5e0))"
    """
    return _Sql(names or {}, tables).text(expr.root if isinstance(expr, Expr) else expr)


def quoted(name: str) -> str:
    """A column name, quoted only where it must be.

    >>> quoted("amount"), quoted("order")
    ('amount', '"order"')
    """
    plain = name.isidentifier() and name.isascii() and name == name.lower() and name not in RESERVED
    return name if plain else '"' + name.replace('"', '""') + '"'


_RESERVED = """
    all analyse analyze and any array as asc asymmetric both case cast check collate column constraint create
    default deferrable desc describe distinct do else end except false fetch for foreign from group having
    in initially intersect into lambda lateral leading limit not null offset on only or order pivot pivot_longer pivot_wider placing
    primary qualify references returning select show some summarize symmetric table then to trailing true union
    unique unpivot using variadic when where window with
"""
RESERVED = frozenset(_RESERVED.split())  # DuckDB's reserved words


class _Sql:
    def __init__(self, names: Mapping[str, str], tables: bool = False):
        self.names, self.tables = names, tables

    def text(self, n: Node) -> str:
        match n:
            case Const():
                return _constant(n)
            case Name():
                return self.names.get(n.name) or quoted(n.name)
            case Not():
                return f"NOT {self.inner(n.x)}"
            case Bool():
                return "(" + f" {n.op.upper()} ".join(self.text(a) for a in n.args) + ")"
            case Compare():
                op = {"==": "=", "!=": "<>"}.get(n.op, n.op)
                return f"{self.inner(n.a)} {op} {self.inner(n.b)}"
            case IsNull():
                return f"{self.inner(n.x)} IS {'NOT ' if n.negated else ''}NULL"
            case In():
                items = ", ".join(_constant(i) for i in n.items)
                return f"{self.inner(n.x)} {'NOT ' if n.negated else ''}IN ({items})"
            case Neg():
                return f"(-{self.inner(n.x)})"
            case Arith():
                return self.arith(n)
            case Call():
                return self.call(n)
        raise TypeError(type(n).__name__)

    def inner(self, n: Node) -> str:
        """In brackets when it is a condition inside something that binds tighter."""
        text = self.text(n)
        return f"({text})" if isinstance(n, Compare | IsNull | In | Not) or _is_condition(n) else text

    def arith(self, n: Arith) -> str:
        a, b = self.inner(n.a), self.inner(n.b)
        if n.op in ("/", "//", "%") and not isinstance(n.b, Const):
            b = f"nullif({b}, 0)"
        if n.op == "%":
            rest = f"({a} % {b})"  # with the sign of a, where ours has the sign of b
            return _number(n, f"CASE WHEN ({rest} < 0) <> ({b} < 0) AND {rest} <> 0 THEN {rest} + {b} ELSE {rest} END")
        if n.op == "//":
            return _number(n, f"floor({a} / {b})")
        if n.a.type == n.b.type == "time":
            return f"(({a} - {b}) / 1000)"
        if n.type == "time":
            a, b = (f"{x} * 1000" if t == "number" else x for x, t in ((a, n.a.type), (b, n.b.type)))
        return _number(n, f"({a} {n.op} {b})")

    def call(self, n: Call) -> str:
        if self.tables and n.func in ("listed", "lookup"):
            return self.table(n)
        f = FUNCTIONS.get(n.func)
        if f is None or f.sql is None:
            raise NotYet(f"{why_no_sql(n.func)}, so it has no SQL form")
        text = f.sql(*(self.inner(a) for a in n.args))
        return f"({text})" if not text.endswith(")") or " " in text.split("(")[0] else text

    def table(self, n: Call) -> str:
        """A list or lookup as a table with `valid_from` and `valid_until`."""
        name, *rest = (a.value if isinstance(a, Const) else self.inner(a) for a in n.args)
        when = "t >= valid_from AND (valid_until IS NULL OR t < valid_until)"
        if n.func == "lookup":
            return f"(SELECT {rest[0]} FROM {quoted(str(name))} WHERE key = {rest[1]} AND {when})"
        key = str(rest[0]) if len(rest) == 1 else f"({', '.join(map(str, rest))})"
        return f"({key} IN (SELECT key FROM {quoted(str(name))} WHERE {when}))"


def why_no_sql(func: str) -> str:
    """Why a function keeps an expression from being SQL, in words.

    >>> why_no_sql("listed")
    'it reads a list'
    """
    return {"listed": "it reads a list", "lookup": "it reads a lookup"}.get(func, f"`{func}` is computed by us only")


def _is_condition(n: Node) -> bool:
    return isinstance(n, Call) and n.type == "bool"


def _constant(n: Const) -> str:
    v = n.value
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, str):
        return "'" + v.replace("'", "''") + "'"
    x = float(v or 0)
    if x.is_integer() and abs(x) < 2**53:
        return str(int(x))
    return repr(x) if "e" in repr(x) else f"{x!r}e0"


def _number(n: Arith, text: str) -> str:
    """Infinity minus infinity and its kin are missing, in SQL too; written only where it can happen."""
    a, b = _vast(n.a), _vast(n.b)
    odd = {"*": a or b, "%": a}.get(n.op, a and b)
    return f"nullif({text}, 'nan'::DOUBLE)" if odd else text


def _vast(n: Node) -> bool:
    """Can it be infinite?"""
    if isinstance(n, Arith):
        return n.op != "%"
    if isinstance(n, Neg):
        return _vast(n.x)
    return isinstance(n, Call) and n.func not in ("hour", "weekday", "len", "day") and any(map(_vast, n.args))
