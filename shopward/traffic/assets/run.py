"""Files of requests to files of assets: the table, the map of requests, the OpenAPI document, the findings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import msgspec

from shopward.errors import BadData, UsageError
from shopward.ingest import DeadLetters
from shopward.runs import Rows
from shopward.traffic.assets.inventory import Inventory, compared, documented_in, openapi
from shopward.traffic.assets.tags import FIELDS, add_part, standing
from shopward.traffic.reading import Reading, read_requests

CHUNK = 65_536


def assets_in_files(
    paths: Iterable[Path],
    *,
    out: Path | None = None,
    map_out: Path | None = None,
    decisions: Path | None = None,
    document: Path | None = None,
    openapi_out: Path | None = None,
    data: Path | None = None,
    log_format: str | None = None,
    dead_letters: Path | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """The inventory of the interfaces that requests show; returns a summary with the assets' rows under `assets`.

    `map_out` gets rows `id, asset`; `decisions` is YAML of people's `templates:` and `tags:`; `document` an OpenAPI document to compare
    with; with `data` the table and its history go to `lake/api_assets`, the findings to `lake/findings`.
    Raises BadData when no request could be read, UsageError for decisions or a document that cannot be.
    """
    started = time.perf_counter()
    given, tags = _decided(decisions, data)
    doc = read_document(document) if document else None
    seen = Inventory(given, tags, documented_in(doc) if doc else None)
    dead = DeadLetters(dead_letters)
    reading, found_map = Reading(dead=dead), _Map(map_out)
    try:
        for request in read_requests(list(paths), format=log_format, reading=reading, on_progress=on_progress):
            found_map.add(request.id, seen.add(request))
    finally:
        dead.close()
    if not reading.requests:
        raise BadData(f"no request in {', '.join(map(str, paths))}" + (f"; {dead.why()}" if dead.count else ""))
    assets = seen.assets()
    rows = [asset.row() for asset in assets]
    write_assets(out, rows)
    found_map.write(seen)
    if openapi_out:
        openapi_out.parent.mkdir(parents=True, exist_ok=True)
        openapi_out.write_bytes(msgspec.json.format(msgspec.json.encode(openapi(assets)), indent=1))
    fresh = keep_assets(data, assets, rows) if data else None
    summary: dict[str, Any] = {
        "requests": reading.requests, "assets": rows, "not_there": sum(seen.refused.values()), "dead_letters": dead.count,
        "seconds": round(time.perf_counter() - started, 3),
    }  # fmt: skip
    if doc is not None:
        summary["compared"] = compared(assets, doc)
    if fresh is not None:
        summary["appeared"] = fresh
    return summary


def _decided(decisions: Path | None, data: Path | None) -> tuple[tuple[str, ...], dict[str, dict[str, Any]]]:
    """What people decided: in the lake of the data folder, and over that in a file."""
    kept, tags = standing(data) if data else ((), {})
    given, more = read_decisions(decisions) if decisions else ((), {})
    return (*given, *kept), tags | {name: tags.get(name, {}) | tag for name, tag in more.items()}


class _Map:
    """Which request belongs to which asset; on disk until the assets are known."""

    def __init__(self, out: Path | None):
        self.out = out
        self._held_ids: list[str] = []
        self._held_numbers: list[int] = []
        self._spool: Any = None
        self._writer: Any = None

    def add(self, id: str, number: int) -> None:
        if self.out is None:
            return
        self._held_ids.append(id)
        self._held_numbers.append(number)
        if len(self._held_ids) >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        table = pa.table(
            {"id": pa.array(self._held_ids, pa.string()), "number": pa.array(self._held_numbers, pa.int32())}
        )
        if self._writer is None:
            self._spool = TemporaryFile()  # noqa: SIM115  (closed by `write`)
            self._writer = pa.ipc.new_stream(self._spool, table.schema)
        self._writer.write_table(table)
        self._held_ids, self._held_numbers = [], []

    def write(self, seen: Inventory) -> None:
        if self.out is None:
            return
        import pyarrow as pa

        self._flush()
        self._writer.close()
        self._spool.seek(0)
        names = pa.array([seen.name_of(i) for i in range(len(seen.keys))], pa.string())
        rows = Rows(self.out)
        try:
            for batch in pa.ipc.open_stream(self._spool):
                rows.write(pa.table({"id": batch.column("id"), "asset": names.take(batch.column("number"))}))
            rows.close()
        except BaseException:
            rows.abandon()
            raise
        finally:
            self._spool.close()


def asset_table(rows: list[dict[str, Any]]):
    import pyarrow as pa

    texts, moment = pa.list_(pa.string()), pa.timestamp("ms", "UTC")
    kinds = {
        "found_level": pa.int32(), "confidence": pa.float64(), "auth": texts, "sensitive": texts, "examples": texts, "params": texts, "money_path": pa.bool_(), "level": pa.int32(),
        "risk": pa.int32(), "reasons": texts, "calls": pa.int64(), "first_seen": moment, "last_seen": moment, "statuses": texts, "open_ok": pa.int64(),
        "bytes": pa.int64(), "people": pa.int64(), "ips": pa.int64(), "documented": pa.bool_(),
    }  # fmt: skip
    names = list(rows[0]) if rows else []
    return pa.table({name: pa.array([row.get(name) for row in rows], kinds.get(name, pa.string())) for name in names})


def write_assets(out: Path | None, rows: list[dict[str, Any]]) -> None:
    """The rows of assets as a file."""
    sink = Rows(out)
    try:
        if rows:
            sink.write(asset_table(rows))
        sink.close()
    except BaseException:
        sink.abandon()
        raise


def keep_assets(data: Path, assets: list, rows: list[dict[str, Any]]) -> list[str]:
    """Add this view to the table's history and its findings to the lake; returns the assets that were in no earlier view."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from shopward.store.findings import write_findings

    write_findings(data, _findings(assets))
    folder = data / "lake" / "api_assets"
    known: set[str] = set()
    for file in sorted(folder.glob("date=*/*.parquet")):
        known |= set(pq.read_table(file, columns=["asset"]).column("asset").to_pylist())
    now = time.time()
    table = asset_table(rows)
    table = table.append_column("taken", pa.array([int(now * 1000)] * len(rows), pa.timestamp("ms", "UTC")))
    add_part(folder, table, f"part-{int(now * 1_000_000)}.parquet")
    return sorted({row["asset"] for row in rows} - known)


def _findings(assets: list) -> Iterator:
    for asset in assets:
        yield from asset.findings()


def read_decisions(path: Path) -> tuple[tuple[str, ...], dict[str, dict[str, Any]]]:
    """What people decided: `templates:` a list of paths, `tags:` governance by asset or template. Raises UsageError saying what is wrong.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp(), "assets.yaml")
    >>> _ = file.write_text("templates: ['/pay/callback/{provider}']\\ntags: {'/api/orders': {owner: team-orders, level: 3}}\\n")
    >>> read_decisions(file)
    (('/pay/callback/{provider}',), {'/api/orders': {'owner': 'team-orders', 'level': 3}})
    """
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: {' '.join(str(error).split())[:300]}") from None
    if not isinstance(found, dict) or set(found) - {"templates", "tags"}:
        raise UsageError(f"{path}: expected `templates:` (a list of paths) and `tags:` (by asset or path)")
    templates, tags = found.get("templates") or [], found.get("tags") or {}
    for one in templates if isinstance(templates, list) else [templates]:
        if not isinstance(one, str) or not one.startswith("/"):
            raise UsageError(f"{path}: templates: {one!r}: a template is a path that starts with /")
    for name, tag in tags.items():
        wrong = sorted(set(tag) - set(FIELDS)) if isinstance(tag, dict) else [tag]
        if wrong:
            raise UsageError(f"{path}: tags: {name}: {wrong[0]!r} is no tag; they are {', '.join(FIELDS)}")
        if tag.get("level", 1) not in (1, 2, 3, 4):
            raise UsageError(f"{path}: tags: {name}: level {tag['level']!r}; levels are 1 (public) to 4")
    return tuple(templates), tags


def read_document(path: Path) -> dict[str, Any]:
    """An OpenAPI document, JSON or YAML. Raises UsageError when it is none."""
    import yaml

    try:
        raw = path.read_bytes()
        found = msgspec.json.decode(raw) if raw.lstrip()[:1] == b"{" else yaml.safe_load(raw)
    except (OSError, UnicodeDecodeError, msgspec.DecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: {' '.join(str(error).split())[:300]}") from None
    if not isinstance(found, dict) or not isinstance(found.get("paths"), dict):
        raise UsageError(f"{path}: not an OpenAPI document: there is no `paths`")
    return found
