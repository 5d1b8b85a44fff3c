"""Findings of leaks as rows: id, type, start, end, line, confidence, masked, key."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from shopward.errors import BadData
from shopward.runs import Rows
from shopward.traffic.leaks.texts import Read, leaks, read_texts

CHUNK = 8192
EXAMPLES = 2  # masked values a type that a person sees


def write_leaks(
    paths: Iterable[Path],
    out: Path | None,
    min_confidence: float = 0.5,
    on_progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Look through texts and write what was found; returns counts by type, masked examples and what could not be read.

    Raises BadData when nothing could be read at all.
    """
    started, met, rows = time.perf_counter(), Read(), Rows(out)
    types: dict[str, int] = {}
    examples: dict[str, list[str]] = {}
    held: list[dict[str, Any]] = []
    try:
        for text, found, line in leaks(_told(read_texts(paths, met), on_progress)):
            if found.confidence < min_confidence:
                continue
            types[found.type] = types.get(found.type, 0) + 1
            shown = examples.setdefault(found.type, [])
            if len(shown) < EXAMPLES and found.masked not in shown:
                shown.append(found.masked)
            held.append(
                {"id": text.id, "type": found.type, "start": text.offset + found.start, "end": text.offset + found.end,
                 "line": line, "confidence": found.confidence, "masked": found.masked, "key": found.key}
            )  # fmt: skip
            if len(held) >= CHUNK:
                rows.write(_table(held))
                held = []
        rows.write(_table(held))
        rows.close(_table([]))
    except BaseException:
        rows.abandon()
        raise
    if not met.texts:
        raise BadData(
            f"no text in {', '.join(map(str, paths))}" + "".join(f"; {n} x {r}" for r, n in met.unusable.items())
        )
    return {
        "texts": met.texts, "characters": met.characters, "findings": sum(types.values()), "types": types, "examples": examples,
        "unusable": met.unusable, "seconds": round(time.perf_counter() - started, 3),
    }  # fmt: skip


def _told(texts, on_progress):
    for text in texts:
        yield text
        on_progress(1)


def _table(held: list[dict[str, Any]]):
    import pyarrow as pa

    schema = pa.schema(
        {"id": pa.string(), "type": pa.string(), "start": pa.int64(), "end": pa.int64(), "line": pa.int64(),
         "confidence": pa.float64(), "masked": pa.string(), "key": pa.string()}
    )  # fmt: skip
    return pa.Table.from_pylist(held, schema=schema)


def exposure_in_files(
    paths: Iterable[Path],
    out: Path | None = None,
    *,
    data: Path | None = None,
    log_format: str | None = None,
    dead_letters: Path | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Who was shown too much in files of requests: rows entity, feature, what, value, usual, event_ids, techniques, confidence, ts.

    Returns a summary with the evidence under `findings`, the surest first. Raises BadData when no request could be read.
    """
    from shopward.ingest import DeadLetters
    from shopward.traffic.leaks.exposure import Exposure
    from shopward.traffic.reading import Reading, read_requests

    started, seen, dead = time.perf_counter(), Exposure(), DeadLetters(dead_letters)
    reading = Reading(dead=dead)
    try:
        for request in read_requests(list(paths), format=log_format, reading=reading, on_progress=on_progress):
            seen.add(request)
    finally:
        dead.close()
    if not reading.requests:
        raise BadData(f"no request in {', '.join(map(str, paths))}" + (f"; {dead.why()}" if dead.count else ""))
    findings = sorted(seen.findings(), key=lambda e: (-e.confidence, e.entity, e.feature or ""))
    if data is not None:
        from shopward.store.findings import write_findings

        write_findings(data, findings)
    write_findings_rows(out, findings)
    return {
        "requests": reading.requests, "findings": findings, "dead_letters": dead.count, "forgotten": seen.forgotten,
        "seconds": round(time.perf_counter() - started, 3),
    }  # fmt: skip


def write_findings_rows(out: Path | None, findings: list) -> None:
    """Evidence as rows of a file."""
    import pyarrow as pa

    texts = pa.list_(pa.string())
    kinds = {
        "value": pa.float64(),
        "usual": pa.float64(),
        "event_ids": texts,
        "techniques": texts,
        "confidence": pa.float64(),
    }
    names = ("entity", "feature", "what", "value", "usual", "event_ids", "techniques", "confidence")
    columns = {name: pa.array([getattr(e, name) for e in findings], kinds.get(name, pa.string())) for name in names}
    columns["ts"] = pa.array([e.ts for e in findings], pa.timestamp("ms", "UTC"))
    rows = Rows(out)
    try:
        rows.write(pa.table(columns))
        rows.close(pa.table(columns))
    except BaseException:
        rows.abandon()
        raise
