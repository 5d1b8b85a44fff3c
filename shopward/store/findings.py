"""What finders found, kept in `lake/findings`: every finder calls `write_findings`, everybody reads the view `findings`.

    lake/findings/finder=rule/date=2026-01-31/part-....parquet      finder: the part of `source` before the colon

A finding has an identity (`Evidence.id`). Found again, with the same value or a newer one, it stands once in the view: the newest
counts. Rules need not call anything: compaction brings the evidence of decisions here (that of shadow rules under `finder=shadow`).

>>> import tempfile
>>> ring = Evidence(source="scan:rings", what="3 accounts, one device", entity="device:d1", feature="accounts", value=3,
...                 event_ids=("e1", "e2", "e3"), techniques=("F1018",), ts=1_767_225_600_000)
>>> with tempfile.TemporaryDirectory() as data:
...     write_findings(data, [ring]), write_findings(data, [ring, msgspec.structs.replace(ring, value=4)])
...     [(e.value, e.event_ids) for e in read_findings(data, entity="device:d1")]
(1, 1)
[(4, ('e1', 'e2', 'e3'))]
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from shopward.evidence import Evidence
from shopward.store import rows
from shopward.store.files import REAL, Disk, write_whole
from shopward.store.lake import parquet

HELD = 50_000  # findings in memory before they are written


def write_findings(data: Path | str, findings: Iterable[Evidence], disk: Disk = REAL) -> int:
    """Add findings to the lake of a data folder; returns how many different ones there were. They are on disk when this returns.

    Takes any iterable, of any length, in bounded memory; the folder is made if need be. Safe beside a running server, a compaction
    and other finders. Writing the same findings again changes nothing but when they were last seen. Raises StoreFull.
    """
    with Findings(data, disk) as out:
        for one in findings:
            out.add(one)
    return out.count


class Findings:
    """The same for who finds one by one: `add`, and what was added is on disk after `flush` or at the end of the `with`.

    count   how many different findings were written so far
    """

    def __init__(self, data: Path | str, disk: Disk = REAL, now: Callable[[], float] = time.time):
        self.folder, self.disk, self.now = Path(data) / "lake" / "findings", disk, now
        self.count = 0
        self._held: dict[str, Evidence] = {}

    def add(self, finding: Evidence) -> None:
        self._held[finding.id] = finding
        if len(self._held) >= HELD:
            self.flush()

    def flush(self) -> None:
        """Write what is held, one file a partition; each appears whole or not at all."""
        parts: dict[str, list[tuple[str, Evidence]]] = {}
        for item in self._held.items():
            parts.setdefault(rows.findings_partition(item[1].source, int(item[1].ts) // rows.DAY_MS), []).append(item)
        written = int(self.now() * 1000)
        for place, found in parts.items():
            self._write(self.folder / place, found, written)
        self.count += len(self._held)
        self._held = {}

    def _write(self, folder: Path, found: list[tuple[str, Evidence]], written: int) -> None:
        table = rows.findings_table([(None, written, rows.evidence_row(one)) for _, one in found])
        digest = blake2b(digest_size=8)  # of what is said, not of when: the same again takes the same place
        for column in table.drop_columns(["written"]).to_pylist():
            digest.update(msgspec.msgpack.encode(column))
        self.disk.make_folder(folder)
        write_whole(self.disk, folder / f"part-{digest.hexdigest()}.parquet", [parquet(table)])

    def __enter__(self) -> Findings:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()  # also after an error: what was found was found


def read_findings(
    data: Path | str,
    *,
    entity: str | None = None,
    source: str | None = None,
    technique: str | None = None,
    since: int | None = None,
    until: int | None = None,
    shadow: bool = False,
    limit: int | None = None,
    db: str | None = None,
) -> list[Evidence]:
    """Findings, oldest first: about an entity (`device:d1`), by a source (`rule:ring`, or `rule:` for every rule), of a technique,
    with `since <= ts < until` (ms UTC). Those of shadow rules only with `shadow`. Includes what is only in the log yet.
    """
    from shopward.store.query import connect

    asked: list[tuple[str, Any]] = [
        ("entity = ?", entity), ("list_contains(techniques, ?)", technique), ("epoch_ms(ts) >= ?", since), ("epoch_ms(ts) < ?", until),
        ("starts_with(source, ?)" if source is not None and source.endswith(":") else "source = ?", source),
        ("finder <> ?", None if shadow or (source or "").startswith("shadow:") else "shadow"),
    ]  # fmt: skip
    held = [(text, value) for text, value in asked if value is not None]
    where = " AND ".join(text for text, _ in held) or "true"
    most = "" if limit is None else f" LIMIT {int(limit)}"
    query = f"SELECT * EXCLUDE (finder, date) FROM findings WHERE {where} ORDER BY ts, id{most}"
    with connect(data, db) as connection:
        found = connection.sql(query, params=[value for _, value in held]).to_arrow_table()
    return [rows.evidence_of(row) for row in found.to_pylist()]
