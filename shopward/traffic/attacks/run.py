"""Files of requests in, rows of verdicts out: the work behind `shopward traffic attacks`. One pass, bounded memory."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shopward.errors import BadData
from shopward.runs import Rows, _dead_file
from shopward.traffic.attacks.campaigns import Campaigns
from shopward.traffic.attacks.profile import Profile
from shopward.traffic.attacks.scan import Scanner, Verdict, evidence_of
from shopward.traffic.positions import Positions
from shopward.traffic.reading import Reading, read_requests
from shopward.traffic.requests import Request

ROWS = 4096


@dataclass(slots=True)
class Summary:
    """What a run found. `classes` counts requests by attack class, `worked` by outcome, `protocol` breaks of HTTP."""

    requests: int = 0
    attacks: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    worked: Counter[str] = field(default_factory=Counter)
    protocol: Counter[str] = field(default_factory=Counter)
    oddities: Counter[str] = field(default_factory=Counter)
    sigma: Counter[str] = field(default_factory=Counter)
    campaigns: list[dict[str, Any]] = field(default_factory=list)
    dead_letters: int = 0
    reasons: str = ""
    findings: int = 0
    engine: str = ""
    seconds: float = 0.0


def attacks_in_files(
    paths: Iterable[Path],
    *,
    out: Path | None = None,
    format: str | None = None,
    sigma: Sequence[Path] = (),
    profile: bool = False,
    campaigns: bool = False,
    data: Path | None = None,
    engine: str | None = None,
    dead_letters: Path | None = None,
    skip: int = 0,
    resume: Path | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Summary:
    """Look at every request of the files.

    Rows `id, attack, score, classes, where, matched, worked, why_worked, rules, protocol, sigma` go to `out`; evidence to the lake of
    the `data` folder. `skip` passes over requests already done; with `resume`, a position file, only what logs gained since is read.
    Raises BadData when nothing was usable (with `resume`, nothing new is no error).
    """
    from shopward.ingest.dead import DeadLetters

    started = time.perf_counter()
    scanner = Scanner(engine=engine, profile=Profile() if profile else None)
    watch = _sigma(sigma)
    reading = Reading(dead=DeadLetters(_dead_file(dead_letters, out)))
    positions = Positions(resume) if resume else None
    findings = _findings(data)
    run = _Run(scanner, Rows(out), Campaigns() if campaigns else None, watch, findings)
    try:
        for request in read_requests(
            paths, format=format, reading=reading, skip=skip, positions=positions, on_progress=on_progress
        ):
            run.take(request)
        run.finish()
        if findings is not None:
            findings.flush()
    except BaseException:
        run.rows.abandon()
        raise
    finally:
        reading.dead.close()
    summary = run.summary
    if run.campaigns is not None:
        summary.campaigns = run.campaigns.rows()
    summary.dead_letters, summary.reasons = reading.dead.count, reading.dead.why()
    summary.engine, summary.seconds = scanner.engine.name, round(time.perf_counter() - started, 3)
    if positions is not None:
        positions.save()
    elif not reading.requests:
        raise BadData(
            f"no request in {', '.join(map(str, paths))}" + (f"; {summary.reasons}" if summary.reasons else "")
        )
    return summary


def _findings(data: Path | None) -> Any:
    if data is None:
        return None
    from shopward.store.findings import Findings

    return Findings(data)


def _sigma(folders: Sequence[Path]) -> Any:
    if not folders:
        return None
    from shopward.traffic.attacks.sigma import load_sigma

    return load_sigma(folders)


class _Run:
    """The state of one run: rows not yet written, counts, findings."""

    def __init__(self, scanner: Scanner, rows: Rows, campaigns: Campaigns | None, sigma: Any, findings: Any):
        self.scanner, self.rows, self.campaigns, self.sigma, self.findings = scanner, rows, campaigns, sigma, findings
        self.summary = Summary()
        self._held: list[dict[str, Any]] = []

    def take(self, request: Request) -> None:
        verdict = self.scanner.scan(request)
        named = self.sigma.match(request) if self.sigma is not None else ()
        self._count(verdict, named)
        if verdict.attack:
            if self.campaigns is not None:
                self.campaigns.add(request, verdict)
            if self.findings is not None:
                self.findings.add(evidence_of(request, verdict, self.scanner.classes))
        if self.findings is not None:
            for rule in named:
                self.findings.add(rule.evidence(request))
        if self.rows.path is not None:
            self._held.append(row_of(verdict, named))
            if len(self._held) >= ROWS:
                self._write()

    def _count(self, verdict: Verdict, named: Sequence[Any]) -> None:
        summary = self.summary
        summary.requests += 1
        summary.protocol.update(verdict.protocol)
        summary.oddities.update(o.lstrip("0123456789 ") for o in verdict.oddities)
        summary.sigma.update(rule.title for rule in named)
        if verdict.attack:
            summary.attacks += 1
            summary.classes.update(verdict.classes)
            summary.worked[verdict.worked] += 1
            summary.findings += 1

    def _write(self) -> None:
        self.rows.write(rows_table(self._held))
        self._held = []

    def finish(self) -> None:
        self._write()
        self.rows.close(rows_table([]))


def row_of(verdict: Verdict, sigma: Sequence[Any] = ()) -> dict[str, Any]:
    """A verdict as a row of the output."""
    return {
        "id": verdict.id, "attack": verdict.attack, "score": verdict.score, "classes": list(verdict.classes), "where": verdict.where,
        "matched": verdict.matched, "worked": verdict.worked if verdict.attack else "", "why_worked": verdict.why_worked,
        "rules": [h.rule for h in verdict.hits], "protocol": list(verdict.protocol), "sigma": [r.id for r in sigma],
    }  # fmt: skip


def rows_table(rows: list[dict[str, Any]]) -> Any:
    """Rows of verdicts as a table."""
    import pyarrow as pa

    return pa.Table.from_pylist(rows, schema=_schema())


def _schema() -> Any:
    import pyarrow as pa

    texts = pa.list_(pa.string())
    return pa.schema(
        {
            "id": pa.string(), "attack": pa.bool_(), "score": pa.float64(), "classes": texts, "where": pa.string(), "matched": pa.string(),
            "worked": pa.string(), "why_worked": pa.string(), "rules": texts, "protocol": texts, "sigma": texts,
        }
    )  # fmt: skip
