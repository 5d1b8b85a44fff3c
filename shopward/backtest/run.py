"""One backtest from files to findings: replay, judge, report, and what was asked for beside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shopward.backtest import compare
from shopward.backtest.judge import Judged, judge, label_file
from shopward.backtest.replay import History, OnSpark, replay
from shopward.backtest.report import plain, report
from shopward.errors import BadData, BadEvent, table_reason

if TYPE_CHECKING:
    from shopward.declare.rulebook import Rulebook
    from shopward.lists import Entry


@dataclass(slots=True)
class Question:
    """What a backtest is asked. `events` are files or folders; times in ms.

    against    another rulebook; lists: entries that hold in the second run; leave_out: a rule that the second run lacks
    spark      where the replay runs, None: here. A sweep replays here either way
    by         fields to segment by; sweep: `auto`, rule ids, or None
    """

    events: Sequence[Path]
    rulebook: Rulebook
    labels: Path | None = None
    against: Rulebook | None = None
    against_name: str = ""
    lists: Sequence[Entry] = ()
    leave_out: str | None = None
    by: Sequence[str] = ()
    sweep: str | None = None
    as_of: int | None = None
    maturity_ms: int | None = None
    unlabelled: str = "legitimate"
    skip_bad_files: bool = False
    spark: OnSpark | None = None
    on_progress: Callable[[int], None] = field(default=lambda done: None)


@dataclass(slots=True)
class Answer:
    """The findings as JSON, and the events whose action changes (an Arrow table) when two runs were compared."""

    found: dict[str, Any]
    changes: Any = None


def run(question: Question) -> Answer:
    """Answer a question: history run again through the rulebook, in arrival order and from an empty start, and judged.

    `found` has what `shopward backtest --json` prints: `policy`, `rules`, `days` and more, money in the policy's currency, shares
    from 0 to 1. Raises BadData when there is nothing to decide on or nothing to judge by, UsageError for a rule or field that is not there.
    """
    started = time.perf_counter()
    other = _other(question)
    if other is None:
        history, second = (
            replay(
                question.events,
                question.rulebook,
                labels=question.labels,
                by=question.by,
                skip_bad_files=question.skip_bad_files,
                spark=question.spark,
                on_progress=question.on_progress,
            ),
            None,
        )
    else:
        history, second = compare.both(
            question.events, question.rulebook, other, labels=question.labels, lists=question.lists, by=question.by, skip_bad_files=question.skip_bad_files, spark=question.spark, on_progress=question.on_progress
        )  # fmt: skip
    judged = _judged(question, history)
    found = report(history, judged)
    policy = history.policy
    found["policy_costs"] = {
        n: getattr(policy, n)
        for n in ("friction_cost", "review_cost", "challenge_stop_rate", "review_capacity_per_day", "control_percent")
    }
    answer = Answer(found)
    if second is not None:
        found["against"] = plain({"what": _what(question), **compare.compare(history, second, judged)})
        answer.changes = compare.rows(history, second, judged)
    if question.sweep:
        from shopward.backtest.sweep import sweep

        found["sweep"] = plain(
            sweep(
                question.events,
                question.rulebook,
                history,
                judged,
                question.sweep,
                labels=question.labels,
                on_progress=question.on_progress,
            )
        )
    found["seconds"] = round(time.perf_counter() - started, 3)
    return answer


def _judged(question: Question, history: History) -> Judged:
    from shopward.ingest.clock import Clock

    return judge(
        history, file=label_file(question.labels), latest=Clock().latest(), as_of=question.as_of,
        maturity_ms=question.maturity_ms, unlabelled=question.unlabelled,
    )  # fmt: skip


def _other(question: Question) -> Rulebook | None:
    """The rulebook of the second run, None when there is none."""
    book = question.against or question.rulebook
    if question.leave_out:
        return book.without([question.leave_out])
    return book if question.against or question.lists else None


def _what(question: Question) -> str:
    said = [question.against_name] if question.against else []
    said += [f"the rulebook without {question.leave_out}"] if question.leave_out else []
    said += [f"{len(question.lists):,} list entries"] if question.lists else []
    return ", ".join(said)


def read_lists(path: Path) -> list[Entry]:
    """List entries of a file (.ndjson, .csv, .parquet): rows `list, key, [valid_from], [expires], [provenance], [remove]`.

    Without `valid_from` an entry holds from the beginning of time. Raises BadData naming the row that cannot be used.
    """
    from shopward.store.entries import read_entry

    out = []
    for number, row in enumerate(_list_rows(path), 1):
        try:
            out.append(read_entry({k: v for k, v in row.items() if v is not None}, 0))
        except BadEvent as wrong:
            raise BadData(f"{path}: row {number}: {wrong}") from None
    return out


def _list_rows(path: Path) -> list[dict[str, Any]]:
    import msgspec
    import pyarrow as pa

    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            return pq.read_table(path).to_pylist()
        if path.suffix == ".csv":
            from pyarrow import csv

            return csv.read_csv(
                path, convert_options=csv.ConvertOptions(column_types={"key": pa.string()}, strings_can_be_null=True)
            ).to_pylist()
        return [msgspec.json.decode(line) for line in path.read_bytes().splitlines() if line.strip()]
    except (pa.ArrowInvalid, msgspec.DecodeError, UnicodeDecodeError) as wrong:
        raise BadData(f"{path}: {table_reason(wrong)}") from None
