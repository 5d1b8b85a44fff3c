"""Everything at once: interfaces, exposure and attacks of a log, over one reading, into one folder.

read_requests -> Looks.take: Inventory.add, Exposure.add, Scanner.scan -> rows, findings, campaigns, one summary
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from shopward.errors import BadData
from shopward.evidence import Evidence
from shopward.ingest import DeadLetters
from shopward.runs import Rows
from shopward.traffic.assets.inventory import Asset, Inventory
from shopward.traffic.assets.run import keep_assets, write_assets
from shopward.traffic.assets.tags import standing
from shopward.traffic.attacks.campaigns import Campaigns
from shopward.traffic.attacks.run import ROWS, row_of, rows_table
from shopward.traffic.attacks.scan import Scanner, Verdict, evidence_of
from shopward.traffic.leaks.exposure import Exposure
from shopward.traffic.leaks.report import write_findings_rows
from shopward.traffic.positions import Positions
from shopward.traffic.reading import Reading, read_requests
from shopward.traffic.requests import Request, event_of


class Looks:
    """The three finders over one stream of requests; what a request is unpacked for one of them is there for the others.

    >>> looks = Looks(Scanner(engine="literals"))
    >>> looks.take(Request(id="1", method="GET", url="/orders/7?q=1%27+or+%271%27%3D%271", status=500, ip="198.51.100.7")).classes
    ('sqli',)
    >>> [a.name for a in looks.inventory.assets()], list(looks.exposure.findings())
    (['GET /orders/{order_id}'], [])
    """

    def __init__(
        self, scanner: Scanner | None = None, inventory: Inventory | None = None, exposure: Exposure | None = None
    ):
        self.scanner = scanner or Scanner()
        self.inventory = inventory or Inventory()
        self.exposure = exposure or Exposure()

    def take(self, request: Request) -> Verdict:
        """Count a request everywhere; its verdict."""
        self.inventory.add(request)
        self.exposure.add(request)
        return self.scanner.scan(request)


@dataclass(slots=True)
class Summary:
    """What a run over everything found."""

    requests: int = 0
    attacks: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    worked: Counter[str] = field(default_factory=Counter)
    campaigns: list[dict[str, Any]] = field(default_factory=list)
    assets: list[dict[str, Any]] = field(default_factory=list)
    appeared: list[str] = field(default_factory=list)
    exposure: list[Evidence] = field(default_factory=list)
    dead_letters: int = 0
    reasons: str = ""
    waiting: int = 0
    engine: str = ""
    seconds: float = 0.0


def scan_files(
    paths: Iterable[Path],
    out: Path | None = None,
    *,
    format: str | None = None,
    data: Path | None = None,
    engine: str | None = None,
    resume: Path | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Summary:
    """Look at files of requests once, for everything.

    The folder `out` gets `attacks.parquet` (requests that are attacks), `assets.parquet`, `exposure.parquet`, `campaigns.json` and
    `dead.ndjson`; `data` takes the evidence and the table of interfaces. With `resume`, a position file, only what logs gained since
    is read, and the positions move on when everything is written. Raises BadData when nothing could be read (with `resume`, nothing
    new is no error).
    """
    started = time.perf_counter()
    positions = Positions(resume) if resume else None
    reading = Reading(dead=DeadLetters(out / "dead.ndjson" if out else None))
    given, tags = standing(data) if data else ((), {})
    run = _Run(Looks(Scanner(engine=engine), Inventory(given, tags)), out, data)
    try:
        for request in read_requests(
            list(paths), format=format, reading=reading, positions=positions, on_progress=on_progress
        ):
            run.take(request)
        run.finish()
    except BaseException:
        run.rows.abandon()
        raise
    finally:
        reading.dead.close()
    summary = run.summary
    summary.dead_letters, summary.reasons, summary.waiting = reading.dead.count, reading.dead.why(), reading.waiting
    if not reading.requests and positions is None:
        raise BadData(
            f"no request in {', '.join(map(str, paths))}" + (f"; {summary.reasons}" if summary.reasons else "")
        )
    if positions is not None:
        positions.save()
    summary.engine, summary.seconds = run.looks.scanner.engine.name, round(time.perf_counter() - started, 3)
    return summary


class _Run:
    """One run's rows not yet written, counts and findings."""

    def __init__(self, looks: Looks, out: Path | None, data: Path | None):
        self.looks, self.out, self.data = looks, out, data
        self.rows = Rows(out / "attacks.parquet" if out else None)
        self.campaigns = Campaigns()
        self.summary = Summary()
        self._held: list[dict[str, Any]] = []
        self._findings: Any = None
        if data is not None:
            from shopward.store.findings import Findings

            self._findings = Findings(data)

    def take(self, request: Request) -> None:
        verdict = self.looks.take(request)
        self.summary.requests += 1
        if verdict.attack:
            self._attack(request, verdict)

    def _attack(self, request: Request, verdict: Verdict) -> None:
        summary = self.summary
        summary.attacks += 1
        summary.classes.update(verdict.classes)
        summary.worked[verdict.worked] += 1
        self.campaigns.add(request, verdict)
        if self._findings is not None:
            self._findings.add(evidence_of(request, verdict, self.looks.scanner.classes))
        if self.out is not None:
            self._held.append(row_of(verdict))
            if len(self._held) >= ROWS:
                self._write()

    def _write(self) -> None:
        self.rows.write(rows_table(self._held))
        self._held = []

    def finish(self) -> None:
        """Everything that is known at the end only: interfaces, who stands out, campaigns."""
        summary = self.summary
        assets: list[Asset] = self.looks.inventory.assets() if summary.requests else []
        summary.assets = [asset.row() for asset in assets]
        summary.exposure = sorted(
            self.looks.exposure.findings(), key=lambda e: (-e.confidence, e.entity, e.feature or "")
        )
        summary.campaigns = self.campaigns.rows()
        self._write()
        self.rows.close(rows_table([]))
        if self.out is not None:
            write_assets(self.out / "assets.parquet", summary.assets)
            write_findings_rows(self.out / "exposure.parquet", summary.exposure)
            (self.out / "campaigns.json").write_bytes(
                msgspec.json.format(msgspec.json.encode(summary.campaigns), indent=2) + b"\n"
            )
        if self.data is not None and summary.requests:
            for evidence in summary.exposure:
                self._findings.add(evidence)
            self._findings.flush()
            summary.appeared = keep_assets(self.data, assets, summary.assets)


def events_of_files(
    paths: Iterable[Path],
    out: Path,
    *,
    format: str | None = None,
    resume: Path | None = None,
    dead_letters: Path | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Write requests as `http_request` events, which `decide`, `features` and `serve` take like any other; a request without its moment
    has no place in time and is a dead letter. Returns counts.
    """
    started = time.perf_counter()
    positions = Positions(resume) if resume else None
    reading = Reading(dead=DeadLetters(dead_letters))
    rows, held, written = Rows(out), [], 0
    try:
        for event in _dated(
            read_requests(list(paths), format=format, reading=reading, positions=positions, on_progress=on_progress),
            reading,
        ):
            held.append(event)
            written += 1
            if len(held) >= ROWS:
                rows.write(_events(held))
                held = []
        rows.write(_events(held))
        rows.close(_events([]))
    except BaseException:
        rows.abandon()
        raise
    finally:
        reading.dead.close()
    if not reading.requests and positions is None:
        raise BadData(f"no request in {', '.join(map(str, paths))}; {reading.dead.why()}")
    if positions is not None:
        positions.save()
    return {
        "events": written, "dead_letters": reading.dead.count, "reasons": reading.dead.why(), "waiting": reading.waiting,
        "seconds": round(time.perf_counter() - started, 3),
    }  # fmt: skip


def _dated(requests: Iterable[Request], reading: Reading) -> Iterator[dict[str, Any]]:
    for request in requests:
        if request.ts is None:
            reading.dead.put(*reading.position, "a request without a moment is no event", "")
        else:
            yield event_of(request)


def _events(held: list[dict[str, Any]]) -> Any:
    import pyarrow as pa

    texts = ("event_id", "type", "method", "path", "host", "ip", "session", "account", "device", "user_agent", "ja4")
    numbers = ("ts", "status", "bytes")
    return pa.Table.from_pylist(
        held, schema=pa.schema([(n, pa.string()) for n in texts] + [(n, pa.int64()) for n in numbers])
    )
