"""What people decide about interfaces, with its history: who said what when, what stood there before, and how to take it back.

    tag, decide_template, undo -> rows of lake/asset_tags, only ever added -> standing -> the next inventory

A row never changes. What stands is what the newest row of an asset and field says; undoing adds a row that says what was before.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shopward.errors import UsageError
from shopward.expr.place import suggest
from shopward.traffic.assets.inventory import bare

FIELDS = ("owner", "level", "domain", "lifecycle", "retention")
LIFECYCLES = ("new", "active", "deprecated", "zombie", "shadow", "orphan")
TEMPLATE = "template"  # the field of a path that people decided


def history(data: Path) -> list[dict[str, Any]]:
    """Every decision, oldest first: `id, ts, who, asset, field, before, after, undoes, note`.

    `before` and `after` are texts (None: nothing said), `undoes` is the id of the row that a row takes back.
    """
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = []
    for file in sorted((data / "lake" / "asset_tags").glob("date=*/part-*.parquet")):
        rows += pq.ParquetFile(file).read().to_pylist()
    return sorted(rows, key=lambda row: row["id"])


def standing(data: Path) -> tuple[tuple[str, ...], dict[str, dict[str, Any]]]:
    """What holds now: the templates that people decided, and the tags by asset or template.

    >>> import tempfile
    >>> data = Path(tempfile.mkdtemp())
    >>> _ = decide_template(data, "/pay/callback/{provider}", "kim")
    >>> standing(data), undo(data, "kim")["after"], standing(data)
    ((('/pay/callback/{provider}',), {}), None, ((), {}))
    """
    now: dict[tuple[str, str], str | None] = {}
    for row in history(data):
        now[row["asset"], row["field"]] = row["after"]
    templates = tuple(asset for (asset, field), value in now.items() if field == TEMPLATE and value is not None)
    tags: dict[str, dict[str, Any]] = {}
    for (asset, field), value in now.items():
        if field != TEMPLATE and value is not None:
            tags.setdefault(asset, {})[field] = int(value) if field == "level" else value
    return templates, tags


def tag(data: Path, asset: str, changes: Mapping[str, Any], who: str, note: str = "") -> list[dict[str, Any]]:
    """Set tags of an asset (`METHOD host/template`) or of all assets of a template; a value of None takes a tag away.

    Returns the rows that were added; what says nothing new adds none. Raises UsageError for an asset that no look has shown, and for a
    value that cannot be.
    """
    for field, value in changes.items():
        _check(field, value)
    known = _known(data)
    if asset not in known:
        near = suggest(asset, known, "an asset")
        raise UsageError(
            f"there is no asset `{asset}`" + (f"; {near}" if near else "; `shopward traffic assets --data` shows them")
        )
    with _adding(data) as rows:
        new = [_row(rows, who, asset, field, _text(value), note) for field, value in changes.items()]
        new = _write(data, rows, [row for row in new if row["before"] != row["after"]])
    _refresh(data, asset)
    return new


def decide_template(data: Path, path: str, who: str, keep: bool = True, note: str = "") -> list[dict[str, Any]]:
    """Say that a path is a template: with {parameters} its variants are one interface, without any it stays apart from ids beside it.

    `keep=False` takes that back. It holds from the next look at the traffic on.
    """
    if not path.startswith("/"):
        raise UsageError(f"{path!r}: a template is a path that starts with /")
    with _adding(data) as rows:
        row = _row(rows, who, path, TEMPLATE, path if keep else None, note)
        if not keep and row["before"] is None:
            raise UsageError(f"nobody decided on the template {path}")
        return _write(data, rows, [row] if row["before"] != row["after"] else [])


def undo(data: Path, who: str, asset: str | None = None, id: int | None = None) -> dict[str, Any]:
    """Take back the newest decision that still stands (about an asset), or the one named by its id. Raises UsageError when there is none.

    What was changed again since cannot be taken back before that.
    """
    with _adding(data) as rows:
        gone = {row["undoes"] for row in rows if row["undoes"] is not None}
        open_ = [row for row in rows if row["undoes"] is None and row["id"] not in gone]
        found = [r for r in open_ if (id is None or r["id"] == id) and (asset is None or r["asset"] == asset)]
        if not found:
            raise UsageError("there is no decision to take back" + (f" about {asset}" if asset else ""))
        old = found[-1]
        later = [r for r in open_ if (r["asset"], r["field"]) == (old["asset"], old["field"]) and r["id"] > old["id"]]
        if later:
            raise UsageError(f"{old['asset']}: {old['field']} was changed again by {later[-1]['id']}; undo that first")
        row = _row(rows, who, old["asset"], old["field"], old["before"], "") | {"undoes": old["id"]}
        _write(data, rows, [row])
    _refresh(data, old["asset"])
    return row


def with_tags(row: dict[str, Any], tags: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the governed table as its tags have it."""
    return row | {field: tags[field] for field in FIELDS if field in tags}


def tags_of(name: str, path: str, tags: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The tags of an asset: those of its template, then its own. A parameter that was given another name since is the same.

    >>> tags_of("GET shop/a/{a_id}", "/a/{a_id}", {"/a/{id}": {"owner": "x", "level": 2}, "GET shop/a/{a_id}": {"level": 4}})
    {'owner': 'x', 'level': 4}
    """
    found: dict[str, Any] = {}
    for wanted in (path, name):
        for said in (tags.get(wanted), *(t for key, t in tags.items() if key != wanted and bare(key) == bare(wanted))):
            if said:
                found |= said
                break
    return found


# --- rows


def _check(field: str, value: Any) -> None:
    if field not in FIELDS:
        raise UsageError(f"{field!r} is no tag; they are {', '.join(FIELDS)}")
    if value is None:
        return
    if field == "level" and str(value) not in ("1", "2", "3", "4"):
        raise UsageError(f"level {value!r}; levels are 1 (public) to 4")
    if field == "lifecycle" and value not in LIFECYCLES:
        raise UsageError(f"lifecycle {value!r}; one of {', '.join(LIFECYCLES)}")
    if field == "retention":
        from shopward.declare.durations import parse_duration

        try:
            parse_duration(value)
        except ValueError as wrong:
            raise UsageError(f"retention: {wrong}") from None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _row(rows: list[dict], who: str, asset: str, field: str, after: str | None, note: str) -> dict[str, Any]:
    before = next((r["after"] for r in reversed(rows) if (r["asset"], r["field"]) == (asset, field)), None)
    return {"id": 0, "ts": int(time.time() * 1000), "who": who, "asset": asset, "field": field, "before": before, "after": after, "undoes": None, "note": note}  # fmt: skip


@contextmanager
def _adding(data: Path) -> Iterator[list[dict[str, Any]]]:
    """The history, while nobody else adds to it."""
    folder = data / "lake" / "asset_tags"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield history(data)


def _write(data: Path, rows: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    import pyarrow as pa

    if not new:
        return []
    first = rows[-1]["id"] + 1 if rows else 1
    for i, row in enumerate(new):
        row["id"] = first + i
    kinds = {"id": pa.int64(), "ts": pa.timestamp("ms", "UTC"), "undoes": pa.int64()}
    table = pa.table({name: pa.array([row[name] for row in new], kinds.get(name, pa.string())) for name in new[0]})
    add_part(data / "lake" / "asset_tags", table, f"part-{first:09d}.parquet")
    return new


def add_part(folder: Path, table: Any, name: str) -> None:
    """A file of today in a table of the lake; it appears whole or not at all."""
    import pyarrow.parquet as pq

    place = folder / time.strftime("date=%Y-%m-%d", time.gmtime())
    place.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, place / f".{name}", compression="zstd")
    (place / f".{name}").replace(place / name)


# --- the governed table


def _latest(data: Path) -> dict[str, dict[str, Any]]:
    """The newest row of every asset."""
    import pyarrow.parquet as pq

    found: dict[str, dict[str, Any]] = {}
    for file in sorted((data / "lake" / "api_assets").glob("date=*/part-*.parquet")):
        found |= {row["asset"]: row for row in pq.ParquetFile(file).read().to_pylist()}
    return found


def _known(data: Path) -> list[str]:
    rows = _latest(data)
    return [*rows, *dict.fromkeys(row["template"] for row in rows.values())]


def _refresh(data: Path, asset: str) -> None:
    """Give the assets that a decision is about a newer row in the governed table."""
    import pyarrow as pa

    _, tags = standing(data)
    rows = []
    for name, row in _latest(data).items():
        if asset in (name, row["template"]):
            said = {f: row[f"found_{f}"] for f in ("level", "domain", "lifecycle") if row.get(f"found_{f}") is not None}
            now = with_tags(row | {"owner": None, "retention": None} | said, tags_of(name, row["template"], tags))
            rows.append(now | {"taken": int(time.time() * 1000)})
    if rows:
        from shopward.traffic.assets.run import asset_table

        table = asset_table([{k: v for k, v in row.items() if k != "taken"} for row in rows])
        taken = pa.array([row["taken"] for row in rows], pa.timestamp("ms", "UTC"))
        add_part(
            data / "lake" / "api_assets", table.append_column("taken", taken), f"part-{time.time_ns() // 1000}.parquet"
        )
