"""policy.yaml: what mistakes cost, how much review there is, how late events may be. Everything has a default."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import inf

from shopward.declare.form import Form
from shopward.declare.tree import At, Mapping
from shopward.declare.types import ACTIONS, Lookup, Policy
from shopward.errors import Problem
from shopward.expr.place import suggest

_KEYS = (
    "friction_cost",
    "review_cost",
    "review_capacity_per_day",
    "challenge_stop_rate",
    "control_percent",
    "base_currency",
    "lateness",
    "skew",
    "label_maturity",
    "rates",
    "time_budget",
    "fallback",
    "retention",
)
DAY_MS = 86_400_000


def read_policy(
    node: At | None, lookups: dict[str, Lookup], problems: list[Problem], types: Sequence[str] = ()
) -> Policy:
    """The Policy of a parsed policy.yaml, or the default one."""
    default = Policy()
    if not isinstance(node, Mapping):
        if node is not None:
            problems.append(node.problem("policy.yaml must be a mapping"))
        return default
    form = Form(node, "the policy", problems, _KEYS)
    capacity = form.number("review_capacity_per_day", -1, 0, 1e9)
    return Policy(
        friction_cost=form.number("friction_cost", default.friction_cost, 0, inf),
        review_cost=form.number("review_cost", default.review_cost, 0, inf),
        review_capacity_per_day=int(capacity) if capacity >= 0 else None,
        challenge_stop_rate=form.number("challenge_stop_rate", default.challenge_stop_rate, 0, 1),
        control_percent=form.number("control_percent", default.control_percent, 0, 100),
        base_currency=_currency(form, default.base_currency),
        lateness_ms=_short(form, "lateness", default.lateness_ms),
        skew_ms=_short(form, "skew", default.skew_ms),
        label_maturity_ms=form.duration("label_maturity", None, least=0) if form.has("label_maturity") else None,
        rates=_rates(form, lookups),
        time_budget_ms=form.duration("time_budget"),
        fallback=_fallback(form, default.fallback),
        retention=_retention(form, types),
    )


def _currency(form: Form, default: str) -> str:
    code = form.text("base_currency", default)
    if not re.fullmatch("[A-Z]{3}", code):
        form.wrong("base_currency", f"`{code}` is not a currency", "three capital letters, for example EUR")
    return code


def _fallback(form: Form, default: str) -> str:
    action = form.text("fallback", default)
    if action not in ACTIONS:
        form.wrong("fallback", f"`{action}` is not an action", suggest(action, ACTIONS) or ", ".join(ACTIONS))
    elif form.get("fallback") is not None and form.get("time_budget") is None:
        form.wrong("fallback", "`fallback` needs a `time_budget`", "for example time_budget: 50ms")
    return action


def _retention(form: Form, types: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """How long the lake keeps events of a type: whole days, one at least."""
    inner = form.mapping("retention")
    found: dict[str, int] = {}
    for name in inner.node.items if inner else ():
        ms = inner.duration(name, least=DAY_MS)  # type: ignore[union-attr]
        if name not in types:
            inner.wrong(inner.node.keys[name], f"unknown event type `{name}`", suggest(name, types, "the type"))  # type: ignore[union-attr]
        elif ms is not None and (ms < DAY_MS or ms % DAY_MS):
            inner.wrong(name, f"`{name}` must be kept for whole days", "for example 30d")  # type: ignore[union-attr]
        elif ms is not None:
            found[name] = ms
    return tuple(found.items())


def _short(form: Form, key: str, default: int) -> int:
    """At most a week: state is kept that much longer."""
    ms = form.duration(key, default, least=0)
    if ms is not None and ms > 7 * DAY_MS:
        form.wrong(key, f"`{key}` is longer than 7d")
    return default if ms is None else ms


def _rates(form: Form, lookups: dict[str, Lookup]) -> str | None:
    name = form.text("rates")
    if not name:
        return None
    if name not in lookups:
        return form.wrong("rates", f"unknown lookup `{name}`", suggest(name, lookups, "the lookup"))
    if lookups[name].columns.get("rate") != "number":
        form.wrong("rates", f"lookup `{name}` needs a number column `rate`")
    return name
