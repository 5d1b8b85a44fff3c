"""Repair of labels before they teach, as `model train` is asked for it, with a record of every row that was touched.

let through   what was stopped teaches nothing; what was let through by chance stands for it (inverse propensity)
twins         of near duplicates the earliest teaches
wrong         rows whose label models of other times contradict do not teach
missing       rows that look like frauds nobody reported teach partly as fraud

Only rows that teach are repaired: rows that judge keep the labels they came with. The methods are those of `denoise.py`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from shopward.errors import BadData
from shopward.event import format_time
from shopward.models.dataset import Examples
from shopward.models.denoise import LEAST_HIDDEN, contradicted, control_weights, doubled, twins, unreported
from shopward.words import count

LABELS = ("missing", "wrong", "both")
FEW = 10  # frauds, or legitimate rows, that are too few to tell others by
FILE = "repairs.csv"


@dataclass(frozen=True, slots=True)
class Repair:
    """What to do before rows teach: `labels` is missing, wrong, both or None; `let_through` names the field of chances."""

    labels: str | None = None
    twins: bool = False
    let_through: str | None = None

    @property
    def missing(self) -> bool:
        return self.labels in ("missing", "both")

    @property
    def wrong(self) -> bool:
        return self.labels in ("wrong", "both")


class Change(NamedTuple):
    """One row that teaches otherwise than it came: the weight it had, and what is left of it as fraud and as legitimate."""

    id: str
    ts: int
    repair: str
    label: int
    amount: float
    weight: float
    as_fraud: float
    as_legitimate: float
    fraud_chance: float = np.nan
    twin_of: str = ""


@dataclass(frozen=True, slots=True)
class Repaired:
    """Examples that may teach, what was changed to make them so, and which share of frauds was taken to be reported."""

    examples: Examples
    changes: tuple[Change, ...] = ()
    reported: float | None = None

    def counts(self) -> dict[str, dict[str, float]]:
        """Per kind of repair: how many rows, what they weighed, and what they weigh as fraud and as legitimate now."""
        kinds = dict.fromkeys(c.repair for c in self.changes)
        return {kind: _sums([c for c in self.changes if c.repair == kind]) for kind in kinds}


def repaired(examples: Examples, repair: Repair | None, seed: int = 7, threads: int = 1) -> Repaired:
    """Examples repaired as asked; the same seed and threads give the same. Labels of one class, or of hardly any fraud, are left as they are.

    >>> day, one = 86_400_000 * np.arange(4), np.ones(4)
    >>> rows = Examples(("x",), np.array([[1.0], [1.0], [2.0], [3.0]]), np.zeros(4, np.int8), day, day, one, one, list("abcd"))
    >>> found = repaired(rows, Repair(twins=True))
    >>> found.examples.ids, [(c.id, c.repair, c.twin_of) for c in found.changes]
    (['a', 'c', 'd'], [('b', 'near_duplicate', 'a')])
    """
    done = Repaired(examples)
    for step in STEPS if repair else ():
        done = step(done, repair, seed, threads)  # type: ignore[arg-type]
    return done


def refuse_few(examples: Examples, repair: Repair) -> None:
    """Raises BadData when there is too little to repair labels by."""
    if repair.labels and _few(examples):
        fraud = int((examples.label == 1).sum())
        raise BadData(
            f"--repair {repair.labels}: {count(fraud, 'fraud')} and {count(len(examples) - fraud, 'legitimate row')} are too few to tell"
            f" others by (at least {FEW} of each)"
        )


def chances(values: np.ndarray, ids: Sequence[str], option: str) -> np.ndarray:
    """The chances of being let through, float64[n], NaN where nobody wanted to stop the row. Raises BadData naming the first wrong one.

    >>> chances(np.array([1.5]), ["e7"], "--let-through p")
    Traceback (most recent call last):
    shopward.errors.BadData: --let-through p: e7: 1.5 is no chance (0 stopped, up to 1 let through with it, empty: nobody wanted to stop it)
    """
    wrong = np.flatnonzero((values < 0) | (values > 1))
    if len(wrong):
        said = "is no chance (0 stopped, up to 1 let through with it, empty: nobody wanted to stop it)"
        raise BadData(f"{option}: {ids[wrong[0]]}: {values[wrong[0]]:g} {said}")
    if not ((values > 0) & (values < 1)).any():
        raise BadData(f"{option}: no row that teaches was let through by chance (a number between 0 and 1)")
    return values


def _few(examples: Examples) -> bool:
    fraud = int((examples.label == 1).sum())
    return min(fraud, len(examples) - fraud) < FEW


# --- steps --------------------------------------------------------------------------------------------------------------------------


def _let_through(done: Repaired, repair: Repair, seed: int, threads: int) -> Repaired:
    rows, chance = done.examples, done.examples.let_through
    if chance is None:
        return done
    stopped, control = chance == 0, (chance > 0) & (chance < 1)
    weight = rows.weight * control_weights(1 - np.nan_to_num(chance, nan=1.0), control)
    changes = _changes("let_through", rows, np.flatnonzero(control), weight) + _dropped("stopped", rows, stopped)
    return _left(done, replace(rows, weight=weight), ~stopped, changes)


def _twins(done: Repaired, repair: Repair, seed: int, threads: int) -> Repaired:
    if not repair.twins:
        return done
    rows, first = done.examples, twins(done.examples)
    again = first != np.arange(len(rows))
    changes = [
        change._replace(twin_of=rows.ids[i])
        for change, i in zip(_dropped("near_duplicate", rows, again), first[again].tolist(), strict=True)
    ]
    return _left(done, rows, ~again, changes)


def _wrong(done: Repaired, repair: Repair, seed: int, threads: int) -> Repaired:
    """Without the rows that are contradicted; where missing frauds are repaired as well, those are left to that step."""
    rows = done.examples
    if not repair.wrong or _few(rows):
        return done
    at, chance = contradicted(rows, seed, threads)
    at = at[rows.label[at] == 1] if repair.missing else at
    keep = np.ones(len(rows), bool)
    keep[at] = False
    return _left(done, rows, keep, _dropped("wrong", rows, at, chance))


def _missing(done: Repaired, repair: Repair, seed: int, threads: int) -> Repaired:
    rows = done.examples
    if not repair.missing or _few(rows):
        return done
    hidden, reported = unreported(rows, seed=seed, threads=threads)
    at = np.flatnonzero(hidden >= LEAST_HIDDEN)
    at = at[np.argsort(-hidden[at], kind="stable")]
    changes = [
        change._replace(as_fraud=change.weight * p, as_legitimate=change.weight * (1 - p), fraud_chance=p)
        for change, p in zip(_changes("missing", rows, at), hidden[at].tolist(), strict=True)
    ]
    return Repaired(doubled(rows, hidden), (*done.changes, *changes), reported)


STEPS: tuple[Callable[[Repaired, Repair, int, int], Repaired], ...] = (_let_through, _twins, _wrong, _missing)


def _left(done: Repaired, rows: Examples, keep: np.ndarray, changes: list[Change]) -> Repaired:
    return replace(done, examples=rows.take(keep), changes=(*done.changes, *changes))


def _changes(kind: str, rows: Examples, at: np.ndarray, weight: np.ndarray | None = None) -> list[Change]:
    """The rows numbered `at`, which weigh `weight` from now on."""
    then, now = rows.weight.tolist(), (rows.weight if weight is None else weight).tolist()
    label = rows.label.tolist()
    return [
        Change(rows.ids[i], int(rows.ts[i]), kind, label[i], float(rows.amount[i]), then[i],
               now[i] * (label[i] == 1), now[i] * (label[i] != 1))
        for i in at.tolist()
    ]  # fmt: skip


def _dropped(kind: str, rows: Examples, at: np.ndarray, chance: np.ndarray | None = None) -> list[Change]:
    """Rows (numbers, or a mask) that teach no more; `chance` float64[n] of being fraud, where it was the reason."""
    at = np.flatnonzero(at) if at.dtype == bool else at
    gone = _changes(kind, rows, at, np.zeros(len(rows)))
    return gone if chance is None else [c._replace(fraud_chance=p) for c, p in zip(gone, chance[at].tolist(), strict=True)]  # fmt: skip


# --- what is told -------------------------------------------------------------------------------------------------------------------


def told(repair: Repair, whole: Repaired, judging: Repaired | None, with_it: float | None, without: float | None) -> dict[str, Any]:  # fmt: skip
    """The record of a repair: what taught the model that is kept (`counts`), and the one that was judged (`judging`).

    with_it, without: average precision out of time of models taught with and without the repair, both on labels as they are.
    """
    return {
        "labels": repair.labels, "near_duplicates": repair.twins, "let_through": repair.let_through,
        "counts": whole.counts(), "reported_share": _six(whole.reported), "judging": judging.counts() if judging else {},
        "judged_on": "labels as they are", "average_precision": _six(with_it), "average_precision_without": _six(without), "rows": FILE,
    }  # fmt: skip


def _six(value: float | None) -> float | None:
    return None if value is None else round(float(value), 6)


def sentences(record: dict[str, Any]) -> list[str]:
    """The record in words, for notes."""
    found = [SAID[kind](one) for kind, one in record["counts"].items()] or ["nothing to repair was found"]
    if record["reported_share"] is not None:
        found.append(f"about {record['reported_share']:.0%} of all frauds are reported where they are plain to see")
    found.append(f"labels that judge and calibrate are as they came{_compared(record)}")
    return [f"repair: {one}" for one in found]


def _compared(record: dict[str, Any]) -> str:
    with_it, without = record["average_precision"], record["average_precision_without"]
    if with_it is None:
        return ""
    idle = record["labels"] and not {"missing", "wrong"} & record["judging"].keys()
    said = "; what taught the judged model held too little to repair labels by" if idle else ""
    return f": average precision {with_it:.4f}, without the repair {without:.4f}{said}"


SAID: dict[str, Callable[[dict[str, float]], str]] = {
    "let_through": lambda c: f"{count(int(c['rows']), 'row')} let through by chance stand for {c['as_fraud'] + c['as_legitimate']:,.0f} like them",
    "stopped": lambda c: f"{count(int(c['rows']), 'stopped row')} not taught: nobody knows what they would have become",
    "near_duplicate": lambda c: f"{count(int(c['rows']), 'near duplicate')} not taught",
    "wrong": lambda c: f"{count(int(c['rows']), 'row')} not taught, since their labels are contradicted ({int(c['frauds']):,} of them frauds)",
    "missing": lambda c: f"{count(int(c['rows']), 'row')} that nobody reported teach partly as fraud, as {c['as_fraud']:,.1f} frauds in all",
}  # fmt: skip


def _sums(changes: Sequence[Change]) -> dict[str, float]:
    sums = {name: round(sum(getattr(c, name) for c in changes), 3) for name in ("weight", "as_fraud", "as_legitimate")}
    return {"rows": len(changes), "frauds": sum(c.label == 1 for c in changes), **sums}


def to_csv(changes: Sequence[Change], key: str) -> str:
    """Every change as a line for review; `key` names the ids.

    >>> print(to_csv([Change("e1", 0, "missing", 0, 12.5, 1.0, 0.25, 0.75, 0.25)], "event_id"), end="")
    event_id,ts,repair,label,amount,weight,as_fraud,as_legitimate,fraud_chance,twin_of
    e1,1970-01-01T00:00:00Z,missing,0,12.5,1,0.25,0.75,0.25,
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow([key, *Change._fields[1:]])
    lines.writerows([c.id, format_time(c.ts), c.repair, c.label, *map(_short, c[4:9]), c.twin_of] for c in changes)
    return text.getvalue()


def _short(value: float) -> str:
    return "" if value != value else f"{value:.10g}"
