"""Which events can be judged, and as what: the last word about each, among those old enough that a word would have come.

An event is ripe when its age at the time of judging is at least the maturity: the rulebook's `known_after`, the policy's
`label_maturity`, what the caller says, or else the age by which nine in ten fraud labels of this history had come. Ripe events that
nobody complained about are legitimate. What is not ripe is counted, never judged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shopward.backtest.replay import SEED, History
from shopward.errors import BadData
from shopward.hashing import hash_strings
from shopward.label import LabelColumns

DAY_MS = 86_400_000
USUAL_SHARE = 0.9  # of fraud labels that had come, when the maturity is measured


@dataclass(slots=True)
class Judged:
    """The rows of a history that can be judged, and the truth about them.

    rows      int64[m], rows of the history; fraud bool[m]; amount float64[m], what each is worth; day int64[m], days since 1970
    counts    what was used and what was not, in words
    maturity_ms, maturity_from   how old an event must be, and who says so; as_of: the moment of judging (ms)
    delays    float64, days from event to label, of frauds
    """

    rows: np.ndarray
    fraud: np.ndarray
    amount: np.ndarray
    day: np.ndarray
    counts: dict[str, int]
    maturity_ms: int
    maturity_from: str
    as_of: int
    delays: np.ndarray
    verdict: np.ndarray  # int8[n] of the whole history: 1 fraud, 0 legitimate, -1 nobody said
    first_day: int = field(init=False)
    days: int = field(init=False)

    def __post_init__(self) -> None:
        self.first_day = int(self.day.min()) if len(self.day) else 0
        self.days = int(self.day.max()) - self.first_day + 1 if len(self.day) else 0


def judge(
    history: History,
    *,
    file: LabelColumns | None = None,
    latest: int | None = None,
    as_of: int | None = None,
    maturity_ms: int | None = None,
    unlabelled: str = "legitimate",
) -> Judged:
    """Find the truth about the events of a history.

    file        the label file, for the amounts it gives and for labels the stream did not reach
    latest      the machine's time (ms): labels later than that cannot be known by anybody and are refused
    as_of       the moment of judging; default: the last event or label
    maturity_ms how old an event must be; default: see the top of this page
    unlabelled  what ripe events without a label are: `legitimate`, or `skip` to leave them out
    Raises BadData when there is not one usable label, or nothing is ripe.
    """
    ids, moments, verdicts = history.said
    if not len(ids) and (file is None or not len(file.ts)):
        raise BadData("there are no labels: nothing can be judged (give --labels, or declare `label:` in schema.yaml)")
    places = _Places(history.ids)
    row = places.find(ids)
    counts = {"labels": len(ids), "labels_unknown_event": int((row < 0).sum())}
    worth = _file_amounts(history, file, places, latest, counts)
    as_of = int(max(history.ts.max(), moments.max() if len(moments) else 0)) if as_of is None else as_of
    usable = (row >= 0) & (moments <= as_of)
    counts["labels_after_as_of"] = int(((row >= 0) & (moments > as_of)).sum())
    row, moments, verdicts = row[usable], moments[usable], verdicts[usable]
    counts["labels_before_their_event"] = int((moments < history.ts[row]).sum())
    verdict = np.full(len(history), -1, np.int8)
    verdict[row] = verdicts  # in order of arrival: the last word stands
    counts["labels_replaced"] = len(row) - int((verdict >= 0).sum())
    if not len(row):
        raise BadData(f"not one label can be used: {_why_none(counts)}")
    delays = (moments - history.ts[row])[verdicts > 0] / DAY_MS
    maturity_ms, said_by = _maturity(history, maturity_ms, delays)
    return _ripe(history, verdict, worth, as_of, maturity_ms, said_by, unlabelled, counts, delays)


def _ripe(history, verdict, worth, as_of, maturity_ms, said_by, unlabelled, counts, delays) -> Judged:
    ripe = history.ts + maturity_ms <= as_of
    silent = verdict < 0
    rows = np.flatnonzero(ripe & ~silent) if unlabelled == "skip" else np.flatnonzero(ripe)
    counts |= {
        "events": len(history),
        "judged": len(rows),
        "unripe": int((~ripe).sum()),
        "unripe_fraud": int((~ripe & (verdict == 1)).sum()),
        "unlabelled": int((ripe & silent).sum()),
        "no_amount": int(np.isnan(history.amount[rows]).sum()),
    }
    if not len(rows):
        days = maturity_ms / DAY_MS
        raise BadData(
            f"no event is old enough to be judged: labels take {days:g} days ({said_by}); give more history or --maturity"
        )
    fraud = verdict[rows] == 1
    amount = np.where(fraud & ~np.isnan(worth[rows]), worth[rows], history.amount[rows])
    return Judged(rows, fraud, amount, history.ts[rows] // DAY_MS, counts, maturity_ms, said_by, as_of, delays, verdict)


def _maturity(history: History, given: int | None, delays: np.ndarray) -> tuple[int, str]:
    if given is not None:
        return given, "as asked for"
    if history.policy.label_maturity_ms is not None:
        return history.policy.label_maturity_ms, "policy.yaml: label_maturity"
    if history.schema.label is not None:
        return history.schema.label.known_after_ms, "schema.yaml: known_after"
    if not len(delays):
        return 0, "there is no fraud label to measure by"
    return int(
        np.quantile(delays, USUAL_SHARE) * DAY_MS
    ), f"measured: {USUAL_SHARE:.0%} of the fraud labels had come by then"


class _Places:
    """Finds the row of an event by its id's hash; of a repeated id, the first."""

    def __init__(self, ids: np.ndarray):
        self.order = np.argsort(ids, kind="stable")
        self.ids = ids[self.order]

    def find(self, wanted: np.ndarray) -> np.ndarray:
        """Rows int64, -1 where there is none."""
        if not len(wanted):
            return np.empty(0, np.int64)
        by = np.argsort(wanted, kind="stable")  # in order, so that memory is walked once
        found = np.empty(len(wanted), np.int64)
        found[by] = np.minimum(np.searchsorted(self.ids, wanted[by]), len(self.ids) - 1)
        return np.where(self.ids[found] == wanted, self.order[found], -1)


def _file_amounts(
    history: History, file: LabelColumns | None, places: _Places, latest: int | None, counts: dict
) -> np.ndarray:
    """What the label file says each event is worth (NaN: nothing), and how many of its rows are of no use."""
    worth = np.full(len(history), np.nan)
    if file is None or not len(file.ts):
        return worth
    row = places.find(hash_strings(file.event_ids, SEED)[:, 0].view(np.uint64))
    counts["labels_unknown_event"] += int((row < 0).sum())
    counts["labels_in_the_future"] = 0 if latest is None else int((file.ts > latest).sum())
    if file.amounts is not None:
        told = (row >= 0) & ~np.isnan(file.amounts)
        worth[row[told]] = file.amounts[told]
    return worth


def _why_none(counts: dict[str, int]) -> str:
    said = [
        f"{n:,} {name.removeprefix('labels_').replace('_', ' ')}"
        for name, n in counts.items()
        if n and name != "labels"
    ]
    return "; ".join(said) or "none has come by the moment of judging"


def label_file(path: Path | None) -> LabelColumns | None:
    """The columns of a label file, None without one."""
    from shopward.label import label_columns

    return None if path is None else label_columns(path)
