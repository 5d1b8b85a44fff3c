"""Random well-typed expressions and random events to try them on."""

from __future__ import annotations

from hypothesis import strategies as st

from shopward.expr import Known, Scope

NUMBERS, BOOLS, TEXTS, TIMES = ("n1", "n2", "n3"), ("b1", "b2"), ("s1", "s2", "s3"), ("ts", "since")
SCOPE = Scope(
    fields={
        **{n: Known("number") for n in NUMBERS},
        **{n: Known("bool") for n in BOOLS},
        **{n: Known("string") for n in TEXTS},
        **{n: Known("time") for n in TIMES},
        "type": Known("string"),
        "tags": Known("list"),
    },
    types=("label", "login", "order"),
)
WORDS = ["", "a", "b", "ab", "it''s", "ü", "%", "a_b", "login"]

_pick = st.sampled_from
_word = _pick(WORDS).map(lambda w: f'"{w}"')
_literal = _pick(["0", "1", "2", "0.5", "-1", "3", "100", "1e3", "2.5", "1e300"])


def numbers(depth: int, text: bool) -> st.SearchStrategy[str]:
    if depth == 0:
        return _pick(NUMBERS) | _literal
    x, t = numbers(depth - 1, text), times(depth - 1, text)
    options = [
        x,
        st.tuples(x, _pick(["+", "-", "*", "/", "//", "%"]), x).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        x.map(lambda a: f"(-{a})"),
        st.tuples(_pick(["min", "max", "coalesce"]), x, x, x).map(lambda p: f"{p[0]}({p[1]}, {p[2]}, {p[3]})"),
        st.tuples(_pick(["min", "max", "coalesce"]), x, x).map(lambda p: f"{p[0]}({p[1]}, {p[2]})"),
        x.map(lambda a: f"abs({a})"),
        st.tuples(x, _pick(["", ", 0", ", 2"])).map(lambda p: f"round({p[0]}{p[1]})"),
        st.tuples(_pick(["hour", "weekday", "day"]), _pick(TIMES)).map(lambda p: f"{p[0]}({p[1]})"),
        st.tuples(t, t).map(lambda p: f"({p[0]} - {p[1]})"),
    ]
    return st.one_of(*options, *([_pick(TEXTS).map(lambda s: f"len({s})")] if text else []))


def times(depth: int, text: bool) -> st.SearchStrategy[str]:
    base = _pick(TIMES)
    if depth == 0:
        return base
    return base | st.tuples(base, _pick("+-"), _pick(["60", "n1", "0.5"])).map(lambda p: f"({p[0]} {p[1]} {p[2]})")


def texts(depth: int, text: bool) -> st.SearchStrategy[str]:
    base = _pick(TEXTS)
    if depth == 0 or not text:
        return base | st.tuples(base, base | _word).map(lambda p: f"coalesce({p[0]}, {p[1]})")
    return (
        base | base.map(lambda s: f"prefix({s}, 1)") | st.tuples(base, _word).map(lambda p: f"coalesce({p[0]}, {p[1]})")
    )


def conditions(depth: int, text: bool) -> st.SearchStrategy[str]:
    """`text`: also functions that need characters (those expressions have no kernel)."""
    x, s, t = numbers(min(depth, 2), text), texts(depth, text), times(min(depth, 1), text)
    order, equal = _pick(["<", "<=", ">", ">=", "==", "!="]), _pick(["==", "!="])
    words = st.lists(_word, min_size=1, max_size=3).map(lambda w: f"({', '.join(w)},)")
    leaves = [
        _pick([*BOOLS, "True", "False"]),
        st.tuples(x, order, x).map(" ".join),
        st.tuples(s, equal, s | _word).map(" ".join),
        st.tuples(t, order, t | st.just('"2026-01-01"')).map(" ".join),
        st.tuples(_pick(NUMBERS + BOOLS + TEXTS + TIMES), _pick(["is None", "is not None"])).map(" ".join),
        st.tuples(s, _pick(["in", "not in"]), words).map(" ".join),
        st.tuples(x.filter(lambda a: "n" in a), _pick(["in", "not in"]), st.just("(0, 1, 2.5)")).map(" ".join),
        st.tuples(_pick(BOOLS), equal, _pick(BOOLS)).map(" ".join),
        _pick(['type == "login"', 'type != "order"', 'type in ("login", "order")', 'type not in ("login",)']),
        _pick(BOOLS).map(lambda b: f"coalesce({b}, True)"),
    ]
    if text:
        leaves.append(st.tuples(_pick(["contains", "startswith"]), s, _word).map(lambda p: f"{p[0]}({p[1]}, {p[2]})"))
        leaves.append(_pick(["has(tags, 'a')", "has(tags, s1)", "tags is None", "len(tags) > 1"]))
    leaf = st.one_of(*leaves)
    if depth == 0:
        return leaf
    c = conditions(depth - 1, text)
    joined = st.tuples(c, _pick(["and", "or"]), c).map(lambda p: f"({p[0]} {p[1]} {p[2]})")
    return (
        leaf
        | joined
        | c.map(lambda a: f"(not {a})")
        | st.tuples(c, c, c).map(lambda p: f"({p[0]} and {p[1]} or not {p[2]})")
    )


_number = st.none() | _pick([0.0, 1.0, -1.0, 2.5, 0.5, 3.0, 1e3, 7.0, -2.5, 1e-3, 1e300]) | st.floats(-1e6, 1e6)
_time = st.none() | st.integers(0, 4_000_000_000_000).map(float) | _pick([0.0, 1767225600000.0])
EVENTS = st.fixed_dictionaries(
    {
        **dict.fromkeys(NUMBERS, _number),
        **{n: st.none() | st.booleans() for n in BOOLS},
        **{
            n: st.none() | _pick([w.replace("''", "'") for w in WORDS]) | st.text(max_size=4, alphabet="abü%_'")
            for n in TEXTS
        },
        **dict.fromkeys(TIMES, _time),
        "type": _pick(["login", "order"]),
        "tags": st.none() | st.lists(_pick(["a", "b", "ü"]), max_size=3),
    }
)
