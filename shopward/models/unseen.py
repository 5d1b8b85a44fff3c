"""Attacks the model never saw: leave one campaign (or one family of campaigns) after the other out of training, and see what is caught.

    for each: teach with all others -> threshold at a false-positive rate -> how many of its frauds, and how much of their value, are above

Beside it stands a model that also saw half of the campaign; both are judged on the other half, so the gap is what seeing it was worth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from shopward.errors import BadData, UsageError
from shopward.models.dataset import Examples
from shopward.models.evaluate import FPR
from shopward.models.measure import threshold_at
from shopward.models.table import read_table

MOST = 12  # campaigns that are left out, those worth most first; each costs two trainings
MOST_LEGIT = 60_000  # legitimate rows that teach and judge
LEAST = 2  # frauds of a campaign: one to have been seen, one to be found

Score = Callable[[np.ndarray], np.ndarray]


def unseen_campaigns(
    examples: Examples,
    campaign: Sequence[str | None],
    fit: Callable[[Examples], Score],
    *,
    by: str = "campaign",
    policy_fpr: float | None = None,
    most: int = MOST,
    on_step: Callable[[str], None] = lambda what: None,
) -> dict[str, Any]:
    """What is caught of each campaign by a model that saw all but this one (`unseen`), and by one that saw half of it (`seen`).

    campaign  per row a name, None or "" for none; `by` says what it is. fit: examples -> raw scores of a matrix.
    Recall and share of value at 0.5 % FPR, and where the policy's own rate of disturbed customers is given, at that (`_policy`).
    Every other legitimate row teaches, the others set the threshold. Raises BadData when no campaign has two frauds.

    >>> n, one = 1004, np.ones(1004)
    >>> x, fraud = np.append(np.linspace(0, 1, 1000), [5, 5, 0.5, 0.5])[:, None], np.repeat([0, 1], [1000, 4]).astype(np.int8)
    >>> rows = Examples(("x",), x, fraud, one, one, one, one, [""] * n)
    >>> found = unseen_campaigns(rows, [None] * 1000 + ["big", "big", "sly", "sly"], lambda part: lambda x: x[:, 0])
    >>> for row in found["groups"]: print(row)
    {'campaign': 'big', 'frauds': 2, 'value': 2.0, 'unseen': 1.0, 'unseen_value': 1.0, 'seen': 1.0, 'seen_value': 1.0}
    {'campaign': 'sly', 'frauds': 2, 'value': 2.0, 'unseen': 0.0, 'unseen_value': 0.0, 'seen': 0.0, 'seen_value': 0.0}
    """
    names, code = np.unique(np.array([c or "" for c in campaign], str), return_inverse=True)
    fraud = examples.label == 1
    worth = np.bincount(code[fraud], np.nan_to_num(examples.amount[fraud]), len(names))
    counts = np.bincount(code[fraud], minlength=len(names))
    chosen = [c for c in np.argsort(-worth, kind="stable").tolist() if names[c] and counts[c] >= LEAST]
    if not chosen:
        raise BadData(f"no {by} has {LEAST} frauds that could be left out of training")
    sides = _Sides.of(examples, fraud)
    found = []
    for c in chosen[:most]:
        on_step(f"leaving out {names[c]}")
        row: dict[str, Any] = {by: str(names[c]), "frauds": int(counts[c]), "value": round(float(worth[c]), 2)}
        found.append(row | _one(examples, sides, fraud & (code == c), fit, policy_fpr))
    rates = {"fpr": FPR} | ({} if policy_fpr is None else {"policy_fpr": round(policy_fpr, 6)})
    return {"by": by, **rates, "left_out": len(found), "of": len(chosen), "all": _together(found), "groups": found}


class _Sides:
    """Legitimate rows that teach, and those that set the threshold."""

    def __init__(self, teach: np.ndarray, judge: np.ndarray, weight: float):
        self.teach, self.judge, self.weight = teach, judge, weight

    @classmethod
    def of(cls, examples: Examples, fraud: np.ndarray) -> _Sides:
        legit = np.flatnonzero(~fraud)
        if len(legit) < LEAST:
            raise BadData("hardly a legitimate row: nothing to set a threshold with")
        every = -(-len(legit) // MOST_LEGIT)
        kept = legit[::every]
        return cls(kept[::2], kept[1::2], len(legit) / len(kept[::2]))


def _one(
    examples: Examples, sides: _Sides, mine: np.ndarray, fit: Callable[[Examples], Score], policy_fpr: float | None
) -> dict[str, float]:
    rows = np.flatnonzero(mine)
    others = np.flatnonzero((examples.label == 1) & ~mine)
    judged, out = rows[1::2], {}
    amount = np.nan_to_num(examples.amount[judged])
    for name, more in (("unseen", rows[:0]), ("seen", rows[::2])):
        teach = np.sort(np.concatenate([sides.teach, others, more]))
        if not len(others) and not len(more):
            continue  # the only campaign there is: without it nothing teaches
        part = examples.take(teach)
        part = replace(part, weight=np.where(part.label == 1, part.weight, part.weight * sides.weight))
        raw = fit(part)
        legit, score = raw(examples.matrix[sides.judge]), raw(examples.matrix[judged])
        for suffix, rate in (("", FPR), ("_policy", policy_fpr)):
            if rate is not None:
                at = threshold_at(np.zeros(len(legit), bool), legit, examples.weight[sides.judge], rate)
                hit = score >= at
                out[name + suffix] = round(float(hit.mean()), 6)
                out[f"{name}_value{suffix}"] = round(float(amount[hit].sum() / max(amount.sum(), 1e-300)), 6)
    return out


def _together(found: list[dict[str, Any]]) -> dict[str, float]:
    """Means over campaigns, each counting once, and over all value."""
    out: dict[str, float] = {}
    value = np.array([row["value"] for row in found])
    for key in found[0]:
        if key.startswith(("unseen", "seen")) and all(key in row for row in found):
            weight = value if "_value" in key and value.sum() > 0 else None
            out[key] = round(float(np.average([row[key] for row in found], weights=weight)), 6)
    return out


def groups_of(ids: Sequence[str], labels: Path, column: str, campaigns: Path | None = None) -> list[str | None]:
    """The campaign of each event: `column` of the labels file (rows `event_id`), or of the file of campaigns (rows `id`) it points at.

    Raises UsageError when there is no such column.
    """
    table = read_table(labels)
    known = dict.fromkeys(table.column_names)
    if column not in known and campaigns is None:
        raise UsageError(
            f"--leave-out {column}: {labels} has no such column ({', '.join(known)}); --campaigns FILE tells more of each campaign"
        )
    direct = column if column in known else "campaign"
    for name in ("event_id", direct):
        if name not in known:
            raise UsageError(f"--leave-out {column}: {labels} has no column `{name}`")
    said = dict(zip(table["event_id"].to_pylist(), map(_text, table[direct].to_pylist()), strict=True))
    if column not in known and campaigns is not None:
        other = read_table(campaigns)
        for name in ("id", column):
            if name not in other.column_names:
                raise UsageError(f"--leave-out {column}: {campaigns} has no column `{name}`")
        kinds = dict(zip(map(_text, other["id"].to_pylist()), map(_text, other[column].to_pylist()), strict=True))
        said = {event: kinds.get(c) if c else None for event, c in said.items()}
    return [said.get(event) for event in ids]


def _text(value: Any) -> str | None:
    return None if value is None or value == "" or value != value else str(value)
