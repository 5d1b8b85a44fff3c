"""Python, kernel text and DuckDB SQL give what a simple three-valued evaluator gives, on random expressions and events."""

from __future__ import annotations

import os

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shopward.expr import Expr, check, runtime, to_kernel, to_python, to_sql
from tests.expr.grammar import BOOLS, EVENTS, NUMBERS, SCOPE, TEXTS, TIMES, conditions, numbers
from tests.expr.reference import evaluate

nan = float("nan")
quick = settings(
    max_examples=int(os.environ.get("EXAMPLES", 150)),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize="EXAMPLES" not in os.environ,
)
CODES = {"label": 0, "login": 1, "order": 2}


def checked(source: str) -> Expr | None:
    """None for sources whose constants alone make them meaningless (x / 0, True == ...)."""
    problems: list = []
    return check(source, SCOPE, problems=problems)


def python_row(event: dict) -> dict:
    """Numbers as floats with NaN, truths as 1.0/0.0/NaN, texts as they are."""
    as_is = (*TEXTS, "type", "tags")
    return {k: v if k in as_is else nan if v is None else float(v) for k, v in event.items()}


def kernel_row(event: dict) -> dict:
    row = python_row(event)
    for name in TEXTS:
        row[name + "_0"], row[name + "_1"] = pair(event[name])
    return row | {"ty": CODES[event["type"]]}


def pair(text: str | None) -> tuple[int, int]:
    return (0, 0) if text is None else (hash(("x", text)), 1)


KERNEL_NAMES = {**{n: (n + "_0", n + "_1") for n in TEXTS}, **{n: n for n in NUMBERS + BOOLS + TIMES}, "type": "ty"}


def kernel_text(expr: Expr, mode: str) -> tuple[str, dict]:
    constants: dict[str, int] = {}

    def const(text: str) -> tuple[str, str]:
        i = constants.setdefault(text, len(constants))
        return f"C[{i}][0]", f"C[{i}][1]"

    text = to_kernel(expr, KERNEL_NAMES, const, CODES, mode)
    return text, {"C": [pair(t) for t in constants]}


def shown(x):
    """NaN and None are both missing."""
    return None if x is None or x != x else x


KINDS = {
    **dict.fromkeys(NUMBERS, pa.float64()), **dict.fromkeys(BOOLS, pa.bool_()), **dict.fromkeys((*TEXTS, "type"), pa.string()),
    **dict.fromkeys(TIMES, pa.int64()), "tags": pa.list_(pa.string()),
}  # fmt: skip


def ask_duckdb(expr: Expr, events: list[dict]) -> list:
    columns = {n: pa.array([e[n] for e in events], kind, from_pandas=False) for n, kind in KINDS.items()}
    database.register("events", pa.table({"i": range(len(events)), **columns}))
    return [r[0] for r in database.execute(f"SELECT {to_sql(expr)} FROM events ORDER BY i").fetchall()]


database = duckdb.connect(config={"threads": 1})


@quick
@given(conditions(3, text=True), st.lists(EVENTS, min_size=3, max_size=6))
def test_a_condition_is_true_in_python_exactly_when_the_reference_says_so(source, events):
    expr = checked(source)
    if expr is None:
        return
    codes = {mode: compile(to_python(expr, mode=mode), "x", "eval") for mode in ("true", "false", "value")}
    for event in events:
        wanted = evaluate(expr.root, event)
        got = {mode: eval(code, runtime(), python_row(event)) for mode, code in codes.items()}
        assert got["true"] is (wanted is True), (source, event)
        assert got["false"] is (wanted is False), (source, event)
        assert shown(got["value"]) == (None if wanted is None else float(wanted)), (source, event)


@quick
@given(conditions(3, text=False), st.lists(EVENTS, min_size=3, max_size=6))
def test_kernel_text_run_as_plain_python_agrees(source, events):
    expr = checked(source)
    if expr is None:
        return
    assert not expr.rowwise, source
    texts = {mode: kernel_text(expr, mode) for mode in ("true", "false", "value")}
    for event in events:
        wanted = evaluate(expr.root, event)
        got = {mode: eval(text, runtime() | extra, kernel_row(event)) for mode, (text, extra) in texts.items()}
        assert (got["true"], got["false"]) == (wanted is True, wanted is False), (source, event)
        assert shown(got["value"]) == (None if wanted is None else float(wanted)), (source, event)


@quick
@given(conditions(3, text=True), st.lists(EVENTS, min_size=4, max_size=8))
def test_duckdb_agrees_on_conditions(source, events):
    expr = checked(source)
    if expr is not None:
        assert ask_duckdb(expr, events) == [evaluate(expr.root, e) for e in events], source


@quick
@given(numbers(3, text=True), st.lists(EVENTS, min_size=4, max_size=8))
def test_numbers_are_equal_to_the_last_bit_in_python_and_duckdb(source, events):
    expr = checked(source)
    if expr is None:
        return
    wanted = [evaluate(expr.root, e) for e in events]
    code = compile(to_python(expr), "x", "eval")
    assert [shown(eval(code, runtime(), python_row(e))) for e in events] == wanted, source
    assert ask_duckdb(expr, events) == wanted, (source, to_sql(expr))


KERNELS = [
    "n1 > n2 and not n2 != n3 or n1 is None",
    "s1 == s2 or s1 != s3 and s2 not in ('a', 'b')",
    "coalesce(s1, s2) == 'ab' or coalesce(b1, b2) == True",
    "(n1 / n2) % 3 > n3 // 2 or type == 'login' and hour(ts) < 6",
    "max(n1, n2, n3) - min(n1, n2 * 2) > round(n1, 2) + abs(n2) or (n1 + n2) / (n2 - n3) > 1",
    "ts - since > 60 or ts + 60 < since or b1 == b2",
]


@pytest.mark.slow
@pytest.mark.parametrize("source", KERNELS)
def test_compiled_kernels_agree(source, tmp_path):
    numba = pytest.importorskip("numba")
    import shopward.expr.kernel as helpers

    expr = check(source, SCOPE)
    (true, extra), (false, _) = kernel_text(expr, "true"), kernel_text(expr, "false")
    names = [*NUMBERS, *BOOLS, *TIMES, "ty", *(f"{s}_{i}" for s in TEXTS for i in (0, 1)), "C"]
    scope = {k: v for k, v in vars(helpers).items() if not k.startswith("__")}
    exec(f"def k({', '.join(names)}):\n    return ({true}), ({false})", scope)
    compiled = numba.njit(error_model="numpy")(scope["k"])
    consts = tuple(extra["C"]) or ((0, 0),)
    for event in _events():
        row = kernel_row(event) | {"C": consts}
        wanted = evaluate(expr.root, event)
        assert compiled(*[row[n] for n in names]) == (wanted is True, wanted is False), event


def _events() -> list[dict]:
    import random

    rng = random.Random(7)
    pick = rng.choice
    return [
        {
            **{n: pick([None, 0.0, 1.0, -1.0, 2.5, 7.0]) for n in NUMBERS},
            **{n: pick([None, True, False]) for n in BOOLS},
            **{n: pick([None, "a", "ab", "b"]) for n in TEXTS},
            **{n: pick([None, 0.0, 1767225600000.0, 1767225601000.0]) for n in TIMES},
            "type": pick(["login", "order"]),
        }
        for _ in range(300)
    ]
