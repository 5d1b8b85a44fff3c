"""Which thresholds would do better? Every numeric threshold of the rules, exactly, from one more replay.

A condition with a comparison `x > c` in it is `low or (high and x > c)`, where `high` is the condition with the comparison true and
`low` with it false. Both are replayed as shadow rules and x is noted where `high` holds: from that the policy at every c follows.
The best thresholds are searched on the first two thirds of the days, one change a rule, and judged on the last third.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shopward import metrics
from shopward.backtest.judge import Judged
from shopward.backtest.replay import History, replay
from shopward.backtest.report import day_text
from shopward.backtest.worth import worth
from shopward.declare.types import ACTIONS, Policy, Rule
from shopward.errors import UsageError
from shopward.expr.nodes import Arith, Bool, Compare, Const, IsNull, Name, Neg, Node, Not
from shopward.expr.place import suggest

if TYPE_CHECKING:
    from shopward.decide import Decisions
    from shopward.declare.rulebook import Rulebook

CANDIDATES = 48  # thresholds tried for one comparison
SEARCHED = 2 / 3  # share of the days on which thresholds are chosen
MOST_THRESHOLDS = 48  # swept at once: each is compiled as one or two shadow rules
STEPS = 12  # changes made at most
WORTHWHILE = 0.002  # of the net saving now; smaller gains are noise
_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


@dataclass(slots=True, eq=False)
class Threshold:
    """One comparison `name op value` of a rule. Filled by the replay: judged rows where `high` holds, x there, and `low` there."""

    rule: Rule
    node: Compare
    name: str
    op: str
    value: float
    under_or: bool  # then `low` may hold
    rows: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    x: np.ndarray = field(default_factory=lambda: np.empty(0))
    low: np.ndarray = field(default_factory=lambda: np.empty(0, bool))

    @property
    def text(self) -> str:
        return self.rule.when.source[self.node.start : self.node.end]

    def fires(self, c: float) -> np.ndarray:
        """bool over `rows`: does the rule fire with this threshold?"""
        test = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}[self.op]
        return self.low | test(self.x, c)


def sweep(
    events: Sequence[Path],
    rulebook: Rulebook,
    history: History,
    judged: Judged,
    which: str = "auto",
    *,
    labels: Path | None = None,
    skip_bad_files: bool = False,
    on_progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Curves of the policy over every threshold of the rules in `which` (`auto`: all live ones), and the best set of changes."""
    rules, skipped = _wanted(rulebook, which)
    found = _most_active([t for rule in rules for t in thresholds(rule, rulebook, skipped)], history, judged, skipped)
    if found:
        observe(found, events, rulebook, judged, labels=labels, skip_bad_files=skip_bad_files, on_progress=on_progress)
    state = _State(history, judged)
    split = judged.first_day + int(judged.days * SEARCHED) if judged.days >= 3 else judged.first_day + judged.days
    early = judged.day < split
    capacity = history.policy.review_capacity_per_day
    return {
        "split_day": day_text(split),
        "capacity_words": "no limit on reviews (none is declared)" if capacity is None else f"a capacity of {capacity:,} reviews a day",
        "curves": [_curve(t, state, judged.days) for t in found if len(t.rows)],
        "best": _best(found, state, early, judged, capacity),
        "skipped": skipped,
    }  # fmt: skip


def _wanted(rulebook: Rulebook, which: str) -> tuple[list[Rule], list[dict[str, str]]]:
    rules = [r for r in rulebook.rules.values() if r.state == "live"]
    if which != "auto":
        rules = [r for r in rules if r.id == which]
        if not rules:
            hint = suggest(which, rulebook.rules, "a rule")
            raise UsageError(f"--sweep {which}: no live rule of this name" + (f"; {hint}" if hint else ""))
    skipped = [{"rule": r.id, "why": f"rolled out to {r.percent:g} %"} for r in rules if r.percent < 100]
    return [r for r in rules if r.percent >= 100], skipped


def _most_active(
    found: list[Threshold], history: History, judged: Judged, skipped: list[dict[str, str]]
) -> list[Threshold]:
    """As many thresholds as can be compiled at once, those of the rules first that decide on most events."""
    if len(found) <= MOST_THRESHOLDS:
        return found
    changed = worth(history, judged).margin[:, :, 0].sum(axis=1)
    decides = {r.id: float(n) for r, n in zip(history.rules, changed, strict=True)}
    kept: list[Threshold] = []
    for rule in sorted({t.rule.id for t in found}, key=lambda r: (-decides[r], r)):
        mine = [t for t in found if t.rule.id == rule]
        if decides[rule] and len(kept) + len(mine) <= MOST_THRESHOLDS:
            kept += mine
        else:
            skipped.append(
                {
                    "rule": rule,
                    "why": "others decide more; ask for it by name" if decides[rule] else "decides on nothing here",
                }
            )
    return kept


def thresholds(rule: Rule, rulebook: Rulebook, skipped: list[dict[str, str]]) -> list[Threshold]:
    """The comparisons of a number with a constant in a rule, except below a `not`, where more would mean less."""
    out: list[Threshold] = []
    _collect(rule, rule.when.root, rulebook, out, False)
    if not out:
        skipped.append({"rule": rule.id, "why": "compares no number with a constant"})
    return out


def _collect(rule: Rule, node: Node, rulebook: Rulebook, out: list[Threshold], under_or: bool) -> None:
    if isinstance(node, Bool):
        for arg in node.args:
            _collect(rule, arg, rulebook, out, under_or or node.op == "or")
    if not isinstance(node, Compare) or node.op not in _TURNED:
        return
    if isinstance(node.a, Name) and isinstance(node.b, Const) and _number(node.a, node.b, rulebook):
        out.append(Threshold(rule, node, node.a.name, node.op, float(node.b.value), under_or))  # type: ignore[arg-type]
    elif isinstance(node.b, Name) and isinstance(node.a, Const) and _number(node.b, node.a, rulebook):
        out.append(Threshold(rule, node, node.b.name, _TURNED[node.op], float(node.a.value), under_or))  # type: ignore[arg-type]


def _number(name: Name, const: Const, rulebook: Rulebook) -> bool:
    plain = isinstance(const.value, int | float) and not isinstance(const.value, bool)
    return plain and name.type == "number" and name.kind in ("feature", "field")


def changed(root: Node, target: Node, by: Node) -> Node:
    """The tree with one node (found by identity) put in place of another."""
    if root is target:
        return by
    if isinstance(root, Bool):
        return replace(root, args=tuple(changed(a, target, by) for a in root.args))
    if isinstance(root, Not | Neg | IsNull):
        return replace(root, x=changed(root.x, target, by))
    if isinstance(root, Compare | Arith):
        return replace(root, a=changed(root.a, target, by), b=changed(root.b, target, by))
    return root


# ---- one more replay


def observe(
    found: Sequence[Threshold],
    events: Sequence[Path],
    rulebook: Rulebook,
    judged: Judged,
    *,
    labels: Path | None = None,
    skip_bad_files: bool = False,
    on_progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Replay with a shadow rule for `high` and one for `low` of every threshold, and note what they saw."""
    book = copy(rulebook)
    book.rules = {
        name: rule for name, rule in rulebook.rules.items() if rule.writes
    }  # what others may read must be written
    for i, t in enumerate(found):
        sides = (("high", True), ("low", False)) if t.under_or else (("high", True),)
        for side, value in sides:
            root = changed(t.rule.when.root, t.node, Const(t.node.start, t.node.end, "bool", value))
            name = f"{t.rule.id}__{side}_{i}"
            book.rules[name] = replace(
                t.rule, id=name, when=replace(t.rule.when, root=root), state="shadow", writes=(), tests=()
            )
    place = np.full(int(judged.counts["events"]), -1, np.int64)
    place[judged.rows] = np.arange(len(judged.rows))
    notes: list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = [[] for _ in found]

    def tap(decisions: Decisions, first: int) -> None:
        bit = {rule: b for b, rule in enumerate(decisions.rules.ids)}
        for i, t in enumerate(found):
            high = _bits(decisions.hits, bit[f"{t.rule.id}__high_{i}"])
            mine = np.flatnonzero(high & (place[first : first + len(decisions)] >= 0))
            if len(mine):
                name = f"{t.rule.id}__low_{i}"
                low = _bits(decisions.hits, bit[name])[mine] if name in bit else np.zeros(len(mine), bool)
                notes[i].append((place[first + mine], _values(decisions, t.name, mine), low))

    replay(events, book, labels=labels, tap=tap, named=False, skip_bad_files=skip_bad_files, on_progress=on_progress)
    for t, seen in zip(found, notes, strict=True):
        if seen:
            t.rows, t.x, t.low = (np.concatenate(parts) for parts in zip(*seen, strict=True))


def _bits(hits: np.ndarray, bit: int) -> np.ndarray:
    return (hits[:, bit // 64] >> np.uint64(bit % 64) & np.uint64(1)).astype(bool)


def _values(decisions: Decisions, name: str, mine: np.ndarray) -> np.ndarray:
    column, rows = decisions.rules.column, decisions.rows[mine]
    return decisions.block.values[column[name], rows] if name in column else decisions.batch.numbers[name][rows]


# ---- the policy with one rule on and off


class _State:
    """The judged events, and which live rules fire on which of them."""

    def __init__(self, history: History, judged: Judged):
        self.policy: Policy = history.policy
        self.fraud, self.amount = judged.fraud, np.nan_to_num(judged.amount)
        self.rules = [(i, r) for i, r in enumerate(history.rules) if r.state == "live"]
        self.fired = {r.id: np.flatnonzero(_bits(history.hits[judged.rows], i)) for i, r in self.rules}
        self.rows = len(judged.rows)

    def effect(self, rule: Rule, rows: np.ndarray) -> np.ndarray:
        """What the rule's firing changes at each of these rows, given the others: [net, stopped value, insults, reviews] float64[4, n]."""
        others = _Actions(len(rows))
        place = np.full(self.rows, -1, np.int64)
        place[rows] = np.arange(len(rows))
        for _, other in self.rules:
            if other.id != rule.id:
                at = place[self.fired[other.id]]
                others.fire(other, at[at >= 0])
        off = others.action()
        others.fire(rule, np.arange(len(rows)))
        return self._sums(others.action(), rows) - self._sums(off, rows)

    def total(self, keep: np.ndarray) -> np.ndarray:
        """[net, stopped value, insults, reviews] of the whole policy over the judged rows in `keep`."""
        whole = _Actions(self.rows)
        for _, rule in self.rules:
            whole.fire(rule, self.fired[rule.id])
        return self._sums(whole.action(), np.arange(self.rows))[:, keep].sum(axis=1)

    def _sums(self, action: np.ndarray, rows: np.ndarray) -> np.ndarray:
        fraud = self.fraud[rows]
        stopped = fraud * self.amount[rows] * metrics.stopped_share(action, self.policy)
        insults = np.isin(action, (metrics.CHALLENGE, metrics.HOLD, metrics.DENY)) & ~fraud
        reviews = action == metrics.REVIEW
        net = stopped - self.policy.friction_cost * insults - self.policy.review_cost * reviews
        return np.stack([net, stopped, insults.astype(float), reviews.astype(float)])


class _Actions:
    """Strongest action per row, with overrides and mandatory rules, as `rules.act` decides."""

    def __init__(self, n: int):
        self.best, self.forced, self.freed = np.zeros(n, np.int8), np.zeros(n, np.int8), np.zeros(n, bool)

    def fire(self, rule: Rule, rows: np.ndarray) -> None:
        strength = ACTIONS.index(rule.then)
        self.best[rows] = np.maximum(self.best[rows], strength)
        if rule.mandatory:
            self.forced[rows] = np.maximum(self.forced[rows], strength)
        if rule.override and rule.then == "allow":
            self.freed[rows] = True

    def action(self) -> np.ndarray:
        return np.where(self.freed, self.forced, self.best)


# ---- curves, and the best of them


def candidates(t: Threshold, fraud: np.ndarray) -> np.ndarray:
    """Thresholds worth trying: round numbers between the values seen, densest where the fraud is, and the one in force."""
    free = ~t.low & np.isfinite(t.x)
    x = t.x[free]
    if not len(x):
        return np.array([t.value])
    at = np.linspace(0, 1, CANDIDATES // 2)
    picked = np.concatenate([np.quantile(v, at) for v in (x, x[fraud[t.rows[free]]]) if len(v)])
    whole = bool((x == np.floor(x)).all())
    return np.unique(np.append(np.round(picked) if whole else [float(f"{v:.2g}") for v in picked], t.value))


def _gains(t: Threshold, state: _State, keep: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(thresholds c, [4, c] effects of the rule with threshold c), over the rows in `keep` (bool per judged row)."""
    effect = state.effect(t.rule, t.rows)
    if keep is not None:
        effect = effect * keep[t.rows]
    cs = candidates(t, state.fraud)
    return cs, np.stack([effect[:, t.fires(c)].sum(axis=1) for c in cs], axis=1)


def _now(t: Threshold, cs: np.ndarray) -> int:
    return int(np.flatnonzero(cs == t.value)[0])


def _curve(t: Threshold, state: _State, days: int) -> dict[str, Any]:
    cs, sums = _gains(t, state)
    base = state.total(np.ones(state.rows, bool))[:, None] - sums[:, [_now(t, cs)]]
    whole = base + sums
    fraud_value = float(state.amount[state.fraud].sum())
    honest = max(int((~state.fraud).sum()), 1)
    points = [
        {"threshold": c, "net_saving": w[0], "capture_by_value": w[1] / fraud_value if fraud_value else float("nan"),
         "insult_rate": w[2] / honest, "reviews_per_day": w[3] / max(days, 1)}
        for c, w in zip(cs.tolist(), whole.T, strict=True)
    ]  # fmt: skip
    return {"rule": t.rule.id, "condition": t.text, "name": t.name, "op": t.op, "now": t.value, "points": points}


def _best(
    found: Sequence[Threshold], state: _State, early: np.ndarray, judged: Judged, capacity: int | None
) -> dict[str, Any]:
    """Steepest ascent: again and again the one change that gains most, until none is worth it."""
    days = max(len(np.unique(judged.day[early])), 1)
    before, late_before = state.total(early), state.total(~early)
    changes, open_ = [], [t for t in found if len(t.rows)]
    for _ in range(STEPS):
        now = state.total(early)
        step = max(
            (s for t in open_ if (s := _step(t, state, early, now, days, capacity))), key=lambda s: s[0], default=None
        )
        if step is None or step[0] < WORTHWHILE * max(abs(float(now[0])), 1.0):
            break
        gain, t, c = step
        state.fired[t.rule.id] = np.sort(t.rows[t.fires(c)])
        changes.append(
            {"rule": t.rule.id, "threshold": t.text, "from": t.value, "to": c, "gain": gain, "when": with_value(t, c)}
        )
        open_ = [o for o in open_ if o.rule.id != t.rule.id]  # what was noted of its other thresholds is no longer true
    after, late = state.total(early), state.total(~early)
    return {
        "changes": changes,
        "searched": {"now": before[0], "best": after[0], "reviews_per_day": after[3] / days},
        "held_out": {"now": late_before[0] if (~early).any() else float("nan"), "best": late[0] if (~early).any() else float("nan")},
    }  # fmt: skip


def _step(t: Threshold, state: _State, early: np.ndarray, now: np.ndarray, days: int, capacity: int | None):
    """The best allowed value of one threshold: (gain, threshold, value), or None."""
    cs, sums = _gains(t, state, early)
    gain = sums - sums[:, [_now(t, cs)]]
    reviews = (now[3] + gain[3]) / days
    allowed = np.ones(len(cs), bool) if capacity is None else (reviews <= capacity) | (gain[3] < 0)
    if not allowed.any():
        return None
    best = int(np.where(allowed, gain[0], -np.inf).argmax())
    return (float(gain[0, best]), t, float(cs[best])) if cs[best] != t.value else None


def with_value(t: Threshold, c: float) -> str:
    """The rule's condition with another constant in this comparison."""
    const = t.node.b if isinstance(t.node.b, Const) else t.node.a
    source = t.rule.when.source
    return source[: const.start] + f"{c:g}" + source[const.end :]
