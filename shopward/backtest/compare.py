"""Two rulebooks (or lists) on the same history: what would change, for whom, and what that is worth, event by event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shopward import metrics
from shopward.backtest.judge import Judged
from shopward.backtest.replay import History, OnSpark, Segments, replay
from shopward.backtest.report import day_text, policy_part
from shopward.backtest.worth import worth
from shopward.declare.types import ACTIONS
from shopward.errors import BadData

if TYPE_CHECKING:
    import pyarrow as pa

    from shopward.declare.rulebook import Rulebook
    from shopward.lists import Entry

PARALLEL_BYTES = 20_000_000  # less than this is read before a second process has started
KINDS = ("new catch", "new insult", "missed", "spared", "stronger on fraud", "weaker on fraud", "other")
NAMES = (
    "capture",
    "capture_by_value",
    "precision",
    "insult_rate",
    "review_rate",
    "approval_rate",
    "loss_bps",
    "net_saving",
)


def both(
    paths: Sequence[Path],
    before: Rulebook,
    after: Rulebook,
    *,
    labels: Path | None = None,
    lists: Sequence[Entry] = (),
    by: Sequence[str] = (),
    skip_bad_files: bool = False,
    spark: OnSpark | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> tuple[History, History]:
    """Replay two rulebooks over the same files, side by side in two processes where that is worth it (on Spark one after the other);
    `lists` hold for the second."""
    if spark is not None:
        told: dict[str, Any] = {
            "labels": labels,
            "by": by,
            "skip_bad_files": skip_bad_files,
            "on_progress": on_progress,
        }
        return aligned(
            replay(paths, before, spark=spark, **told), replay(paths, after, lists=lists, spark=spark, **told)
        )
    if sum(p.stat().st_size for p in _files(paths)) < PARALLEL_BYTES:
        first = replay(paths, before, labels=labels, by=by, skip_bad_files=skip_bad_files, on_progress=on_progress)
        return aligned(
            first,
            replay(
                paths, after, labels=labels, lists=lists, by=by, skip_bad_files=skip_bad_files, on_progress=on_progress
            ),
        )
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as other:
        second = other.submit(_replay_texts, list(paths), after.files, labels, list(lists), list(by), skip_bad_files)
        first = replay(paths, before, labels=labels, by=by, skip_bad_files=skip_bad_files, on_progress=on_progress)
        return aligned(first, second.result())


def _files(paths: Sequence[Path]) -> list[Path]:
    return [f for p in paths for f in (p.rglob("*") if p.is_dir() else [p]) if f.is_file()]


def _replay_texts(paths, texts, labels, lists, by, skip_bad_files) -> History:
    from shopward.declare.rulebook import Rulebook

    return replay(paths, Rulebook.from_files(texts), labels=labels, lists=lists, by=by, skip_bad_files=skip_bad_files)


def aligned(before: History, after: History) -> tuple[History, History]:
    """Both histories over the events that both could read (two schemas may refuse different records)."""
    if np.array_equal(before.ids, after.ids):
        return before, after
    _, mine, yours = np.intersect1d(before.ids, after.ids, return_indices=True)
    if not len(mine):
        raise BadData("the two rulebooks read no event in common: their schemas name events differently")
    order = np.argsort(mine)
    one, two = taken(before, mine[order]), taken(after, yours[order])
    one.notes["events that only this rulebook could read"] = len(before) - len(one)
    two.notes["events that only this rulebook could read"] = len(after) - len(two)
    return one, two


def taken(history: History, rows: np.ndarray) -> History:
    """Some rows of a history."""
    out = copy(history)
    n = len(history)
    for f in fields(History):
        value = getattr(history, f.name)
        if isinstance(value, np.ndarray) and len(value) == n:
            setattr(out, f.name, value[rows])
    out.segments = [Segments(s.field, s.codes[rows], s.words) for s in history.segments]
    out.names = {i: history.names[row] for i, row in enumerate(rows.tolist()) if row in history.names}
    out.notes = dict(history.notes)
    return out


def compare(before: History, after: History, judged: Judged) -> dict[str, Any]:
    """What the second policy does otherwise than the first, on the same events and by the same truth."""
    one, two = _daily(before, judged), _daily(after, judged)
    change = _changes(before, after, judged)
    policy = after.policy
    return {
        "rulebook_version": after.version,
        "policy": policy_part(after, judged, two),
        "difference": {name: _difference(name, one, two, before, after) for name in NAMES},
        "changed_actions": {"all_events": int((before.action != after.action).sum()), "judged": int(change["changed"].sum())},
        "moves": {"from": list(ACTIONS), "to": list(ACTIONS), "events": _moves(before, after)},
        "kinds": {kind: {"events": int(m.sum()), "value": float(np.nan_to_num(judged.amount)[m].sum())} for kind, m in _kinds(before, after, judged).items()},
        "new_insults": int((change["kind_new_insult"]).sum()),
        "insults_spared": int((change["kind_spared"]).sum()),
        "rules": _rules(before, after, judged),
        "days": [
            {"day": day_text(judged.first_day + i), "net_saving_before": float(metrics.saving(one[i], before.policy)),
             "net_saving_after": float(metrics.saving(two[i], policy))}
            for i in range(judged.days)
        ],
    }  # fmt: skip


def _daily(history: History, judged: Judged) -> np.ndarray:
    rows = judged.rows
    return metrics.tally(
        history.action[rows], judged.fraud, judged.amount, history.policy, judged.day - judged.first_day, judged.days
    )


def _difference(name: str, one: np.ndarray, two: np.ndarray, before: History, after: History) -> dict[str, Any]:
    """A metric before and after; the interval of the change is drawn over the same days of both."""
    k = one.shape[1]

    def change(sums: np.ndarray) -> np.ndarray:
        return _measure(name, sums[..., k:], after) - _measure(name, sums[..., :k], before)

    pair = np.concatenate([one, two], axis=1)
    whole = pair.sum(axis=0)
    return {
        "before": float(_measure(name, whole[:k], before)),
        "after": float(_measure(name, whole[k:], after)),
        "change": float(change(whole)),
        "interval": metrics.day_interval(pair, change),
    }


def _measure(name: str, sums: np.ndarray, history: History) -> np.ndarray:
    return metrics.saving(sums, history.policy) if name == "net_saving" else metrics.rate(sums, name)


def _kinds(before: History, after: History, judged: Judged) -> dict[str, np.ndarray]:
    """What each changed, judged event means; bool[m] each, and every changed event is of one kind."""
    one, two, fraud = before.action[judged.rows], after.action[judged.rows], judged.fraud
    was, now = (metrics.stopped_share(a, h.policy) for a, h in ((one, before), (two, after)))
    bothered, bothers = (np.isin(a, (metrics.CHALLENGE, metrics.HOLD, metrics.DENY)) for a in (one, two))
    kinds = {
        "new catch": fraud & (was == 0) & (now > 0),
        "new insult": ~fraud & ~bothered & bothers,
        "missed": fraud & (was > 0) & (now == 0),
        "spared": ~fraud & bothered & ~bothers,
        "stronger on fraud": fraud & (was > 0) & (now > was),
        "weaker on fraud": fraud & (now > 0) & (now < was),
    }
    known = np.any(list(kinds.values()), axis=0)
    return kinds | {"other": (one != two) & ~known}


def _changes(before: History, after: History, judged: Judged) -> dict[str, np.ndarray]:
    kinds = _kinds(before, after, judged)
    changed = before.action[judged.rows] != after.action[judged.rows]
    return {"changed": changed, "kind_new_insult": kinds["new insult"], "kind_spared": kinds["spared"]}


def _moves(before: History, after: History) -> np.ndarray:
    """Events by action before (rows) and after (columns)."""
    n = len(ACTIONS)
    return np.bincount(before.action.astype(np.int64) * n + after.action, minlength=n * n).reshape(n, n)


def _rules(before: History, after: History, judged: Judged) -> list[dict[str, Any]]:
    """Rules of either side: how often each fires now and then, and on how much fraud."""
    sides = [(h, worth(h, judged).alone.sum(axis=1)) for h in (before, after)]
    found = [{r.id: sums[i] for i, r in enumerate(h.rules)} for h, sums in sides]
    out = []
    for rule in sorted(found[0].keys() | found[1].keys()):
        one, two = (side.get(rule) for side in found)
        state = (
            "added" if one is None else "removed" if two is None else "same" if np.array_equal(one, two) else "changed"
        )
        out.append({"id": rule, "state": state, "before": _hits(one), "after": _hits(two)})
    return out


def _hits(sums: np.ndarray | None) -> dict[str, float] | None:
    return None if sums is None else {"fired": sums[0], "fraud": sums[1], "fraud_value": sums[2]}


def rows(before: History, after: History, judged: Judged) -> pa.Table:
    """Every event whose action changes: event_id, ts, type, amount, label, kind, action and rules before and after.

    `label` is null where nobody said; `kind` is null for events that cannot be judged.
    """
    import pyarrow as pa

    changed = np.flatnonzero(before.action != after.action)
    kind = np.full(len(before), -1, np.int8)
    for i, mask in enumerate(_kinds(before, after, judged).values()):
        kind[judged.rows[mask]] = i
    worth_of = before.amount.copy()
    worth_of[judged.rows] = judged.amount
    verdict, amount = judged.verdict[changed], worth_of[changed]
    names = [before.names.get(i) or after.names[i] for i in changed.tolist()]
    return pa.table({
        "event_id": pa.array(names, pa.string()),
        "ts": pa.array(before.ts[changed]).cast(pa.timestamp("ms", "UTC")),
        "type": pa.array([before.schema.types[t] for t in before.types[changed].tolist()], pa.string()),
        "amount": pa.array(amount, mask=np.isnan(amount)),
        "label": pa.array(verdict, mask=verdict < 0),
        "kind": pa.array([KINDS[k] if k >= 0 else None for k in kind[changed].tolist()], pa.string()),
        "action_before": pa.array([ACTIONS[a] for a in before.action[changed].tolist()], pa.string()),
        "action_after": pa.array([ACTIONS[a] for a in after.action[changed].tolist()], pa.string()),
        "rules_before": pa.array([_fired(before, i) for i in changed.tolist()], pa.list_(pa.string())),
        "rules_after": pa.array([_fired(after, i) for i in changed.tolist()], pa.list_(pa.string())),
    })  # fmt: skip


def _fired(history: History, row: int) -> list[str]:
    live = history.hits[row] & history.masks["live"]
    value = sum(int(w) << 64 * i for i, w in enumerate(live))
    return [rule.id for bit, rule in enumerate(history.rules) if value >> bit & 1]
