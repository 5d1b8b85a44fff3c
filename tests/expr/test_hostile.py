"""Rule text can execute nothing: whatever is written, the answer is a checked expression or a problem, soon."""

from __future__ import annotations

import ast
import builtins
import random
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shopward.expr import FUNCTIONS, Expr, Known, Scope, check, names_in, runtime, to_python, to_sql
from shopward.expr.nodes import Node
from shopward.expr.place import Place

SCOPE = Scope(
    fields={
        "amount": Known("number"),
        "ok": Known("bool"),
        "s": Known("string"),
        "email": Known("string", pii=True),
        "ts": Known("time"),
    },
    features={"x_7d": "number"},
    lists={"bad": ()},
    lookups={"bins_country": ("bins", "country", "string", "string")},
    types=("label", "order"),
)
HELPERS = {"div", "mod", "floor", "round_even", "least", "greatest", "first", "abs", "listed", "lookup", "nan", "t"}


def judged(source: str) -> Expr | None:
    """The expression, or None after at least one problem that renders."""
    problems: list = []
    expr = check(source, SCOPE, problems=problems, place=Place.of(source, "rules/x.yaml"))
    assert (expr is None) == bool(problems)
    for p in problems:
        text = p.render()
        assert len(text) < 1500 and p.line >= 1 and p.column >= 1
    return expr


def assert_harmless(expr: Expr) -> None:
    """The generated Python holds only names we put there, no attributes but text tests, nothing that loops."""
    allowed = {*SCOPE.fields, *SCOPE.features, *HELPERS, *(f"f_{name}" for name in FUNCTIONS)}
    for n in ast.walk(ast.parse(to_python(expr, mode="value"), mode="eval")):
        assert not isinstance(
            n, ast.Lambda | ast.Subscript | ast.ListComp | ast.GeneratorExp | ast.Await | ast.NamedExpr
        )
        assert not isinstance(n, ast.Name) or n.id in allowed, n.id
        assert not isinstance(n, ast.Attribute) or n.attr in ("startswith", "endswith")
    to_sql_or_not_yet(expr)


def to_sql_or_not_yet(expr: Expr) -> None:
    from shopward.errors import NotYet

    try:
        to_sql(expr)
    except NotYet as e:
        assert "SQL" in str(e)


HOSTILE = [
    "__import__('os').system('touch /tmp/owned')",
    "().__class__.__bases__[0].__subclasses__()",
    "amount.__class__.__mro__[1]",
    "getattr(amount, 'real')",
    "eval('1') > 0",
    "exec('import os') is None",
    "open('/etc/passwd') is None",
    "(lambda: amount)() > 5",
    "[x for x in (1).__class__.__base__.__subclasses__()]",
    "f'{__import__(\"os\")}' == s",
    "(amount := 5) > 1",
    "listed(__import__, s)",
    "listed('bad', s.__class__)",
    "listed(*('bad', s))",
    "contains(**{'s': s})",
    "bins_country(globals()) == 'x'",
    "runtime() > 1",
    "f_lower(s) == 'x'",
    "nan > 1 or div(1, 0) > 0",
    "__builtins__ is None",
    "amount if ok else s",
    "amount;ok",
    "amount\nimport os",
    "amount > 5\\\nor ok",
    "await amount",
    "yield",
    "print(amount) > 1",
    "s == '''multi\nline'''",
    "s == 'a' 'b'",
    "s == b'a'",
    "1j > 0",
    "... is None",
    "amount > 1_000",
    "amount > 0x10",
    "9**9**9 > 1",
    "9" * 8000 + " > 1",
    "9" * 4000 + " > 1",
    "1e" + "9" * 100 + " > amount",
    "-" * 7990 + "amount > 1",
    "not " * 1900 + "ok",
    "(" * 3000 + "ok" + ")" * 3000,
    "[" * 30 + "ok" + "]" * 30,
    "abs(" * 100 + "amount" + ")" * 100,
    "min(" * 35 + "amount" + ", amount + amount)" * 35 + " > 1",
    "round(" * 39 + "amount" + ")" * 39 + " > 1",
    "amount" + " + amount" * 700 + " > 1",
    "amount" + " != amount" * 700,
    "ok" + " == ok" * 30,
    "a" * 1_000_000,
    "(" * 1_000_000,
    "'" * 1_000_000,
    "ok or " * 200_000 + "ok",
    "s in (" + "'a', " * 1500 + ")",
    "\x00",
    "ok\x00",
    "ok \u2028 or ok",
    "ok\u00a0or ok",
    "\ud800",
    "s == '\ud800'",
    "s == '\u202e'",
    "ｏｋ",
    "оk",  # Cyrillic
    "#",
    "# comment only\n",
    "ok # fine\n or ok",
    "",
    "   \n\t ",
    "*" * 100,
    "@" * 100,
    "``", "$amount", "%s", "{0}", "{{amount}}", "${jndi:ldap://x}", "'; drop table events; --", "s == \"'; drop table e; --\"",
]  # fmt: skip


@pytest.mark.parametrize("source", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_ends_in_a_problem_or_a_harmless_expression(source):
    expr = judged(source)
    if expr is not None:
        assert_harmless(expr)


def test_nothing_is_executed_while_hostile_text_is_judged(monkeypatch):
    """Any import, file or process that Python reports while checking is counted; there must be none."""
    touched: list[str] = []
    watching = [False]
    ignored = ("object.__getattr__", "sys._getframe", "gc.", "sys.unraisablehook")

    def hook(event: str, args: tuple) -> None:
        if watching[0] and event not in ("compile",) and not event.startswith(ignored):
            touched.append(f"{event} {args[:1]!r}"[:80])

    for source in HOSTILE:
        judged(source)  # loads whatever the checker itself needs, such as time-zone names
    sys.addaudithook(hook)
    watching[0] = True
    try:
        for source in HOSTILE:
            problems: list = []
            check(source, SCOPE, problems=problems)
    finally:
        watching[0] = False
    assert touched == []


def test_a_million_characters_are_refused_unread():
    problems: list = []
    check("ok or " * 1_000_000 + "ok", SCOPE, problems=problems)
    assert [p.message for p in problems] == ["the expression is 6000002 characters long; the limit is 8000"]


def test_of_many_faults_twenty_are_told():
    problems: list = []
    check(" or ".join(f"amont{i}" for i in range(500)), SCOPE, problems=problems)
    assert len(problems) == 20


def test_generated_code_stays_small():
    """`min` and `%` repeat their arguments, so a short text could mean a huge one; such a text is refused."""
    for source in ("amount" + " % amount" * 20 + " > 1", "min(" * 20 + "amount" + ", amount + amount)" * 20 + " > 1"):
        expr = judged(source)
        assert expr is None or (len(to_python(expr)) < 500_000 and len(to_sql(expr)) < 2_000_000)


def test_runtime_has_no_builtins():
    with pytest.raises(NameError):
        eval("open", runtime())
    assert not {name for name in runtime() if hasattr(builtins, name)} - {"abs"}


PIECES = [
    "amount", "ok", "s", "email", "x_7d", "ts", "score", "5", "0.5", "'a'", '"b"', "None", "True", "(", ")", "[", "]", "{", "}", ",", ".",
    ":", "and", "or", "not", "in", "is", "==", "!=", "<", ">", "=", "+", "-", "*", "/", "//", "%", "**", "if", "else", "lambda", "for",
    "lower(", "min(", "listed(", "'bad'", "bins_country(", "hour(", "coalesce(", "__import__", "#", "\n", " ", "\\", "'", '"', "f'", ":=",
]  # fmt: skip


@settings(max_examples=600, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(PIECES), max_size=14).map(" ".join) | st.text(max_size=60))
def test_random_text_is_judged(source):
    expr = judged(source)
    names_in(source)
    if expr is not None:
        assert isinstance(expr.root, Node)
        assert_harmless(expr)


def test_cut_and_spliced_expressions_are_judged():
    """Pieces of good expressions glued at random places: mostly nonsense that almost parses."""
    good = [
        "amount > 5 and not (ok or s in ('a', \"b\"))", "coalesce(amount, 0) / x_7d >= min(1, 2.5, amount)",
        "listed('bad', s) or bins_country(s) != 'US'", "hour(ts, 'Europe/Berlin') < 6 and ts - ts > 60",
    ]  # fmt: skip
    rng = random.Random(5)
    fine = 0
    for _ in range(3000):
        a, b = rng.choice(good), rng.choice(good)
        expr = judged(a[: rng.randrange(len(a) + 1)] + b[rng.randrange(len(b) + 1) :])
        if expr is not None:
            assert_harmless(expr)
            fine += 1
    assert fine > 20
