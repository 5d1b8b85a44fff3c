"""Where texts come from: tables with `id` and `text`, or any files and folders of them.

A long file is read in pieces that overlap at line ends, so memory stays bounded and nothing is missed at a seam. What is not text
is counted, not guessed at.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from shopward.errors import BadData, UsageError
from shopward.traffic.leaks.find import Found, find

PIECE = 1 << 20  # characters of a file that are looked at together
OVERLAP = 1 << 13  # characters that the next piece repeats
TABLES = (".ndjson", ".jsonl", ".csv", ".parquet")
SKIPPED = frozenset((".git", ".hg", ".svn", "node_modules", "__pycache__", ".venv"))


@dataclass(slots=True)
class Text:
    """One text: its id, and the line and character that it starts at when it is a piece of a file.

    `until` ends what this piece speaks for; what starts behind it is whole in the next piece.
    """

    id: str
    text: str
    line: int = 1
    offset: int = 0
    until: int | None = None


@dataclass(slots=True)
class Read:
    """What reading met: texts and characters read, and what could not be used, by reason."""

    texts: int = 0
    characters: int = 0
    unusable: dict[str, int] = field(default_factory=dict)

    def refuse(self, reason: str) -> None:
        self.unusable[reason] = self.unusable.get(reason, 0) + 1


def leaks(texts: Iterable[Text]) -> Iterator[tuple[Text, Found, int]]:
    """Each finding with its text and its line, counted from 1.

    >>> [(t.id, f.type, line) for t, f, line in leaks([Text("a", "hello\\ncall 13800138000")])]
    [('a', 'cn_mobile', 2)]
    """
    for text in texts:
        found = find(text.text)
        if not found:
            continue
        ends = [i for i, c in enumerate(text.text) if c == "\n"] if "\n" in text.text else []
        for each in found:
            if text.until is None or each.start < text.until:
                yield text, each, text.line + bisect_right(ends, each.start - 1)


def read_texts(paths: Iterable[Path], met: Read) -> Iterator[Text]:
    """The texts of tables (rows `id, text`), files and folders. Raises UsageError for a path that does not exist."""
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path}: there is no such file or folder")
        if path.is_dir():
            for file, name in _walk(path):
                yield from _file(file, name, met)
        else:
            yield from _file(path, path.name, met)


def _walk(folder: Path) -> Iterator[tuple[Path, str]]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if f not in SKIPPED)
        for name in sorted(names):
            file = Path(root) / name
            if file.is_file() and not file.is_symlink():
                yield file, file.relative_to(folder).as_posix()


def _file(path: Path, name: str, met: Read) -> Iterator[Text]:
    rows = _rows(path, met) if path.suffix in TABLES else None
    for text in rows if rows is not None else _pieces(path, name, met):
        met.texts += 1
        met.characters += len(text.text) if text.until is None else text.until
        yield text


def _rows(path: Path, met: Read) -> Iterator[Text] | None:
    """The rows of a table, or None when it has no column `text`: then its lines are looked at as they are."""
    if path.suffix == ".parquet":
        return _parquet(path, met)
    with path.open("rb") as file:
        first = file.readline(1 << 20)
    if path.suffix == ".csv":
        columns = [c.strip(' "\r\n').lower() for c in first.decode("utf-8-sig", "replace").split(",")]
        return _csv(path, met) if "text" in columns else None
    return _ndjson(path, met) if b'"text"' in first else None


def _ndjson(path: Path, met: Read) -> Iterator[Text]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = msgspec.json.decode(line)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                met.refuse("a line that is not JSON")
                continue
            yield from _row(row, str(number), met)


def _row(row: Any, number: str, met: Read) -> Iterator[Text]:
    text = row.get("text") if isinstance(row, dict) else None
    if not isinstance(text, str):
        met.refuse("a row without a text")
        return
    name = row.get("id")
    yield Text(number if name is None else str(name), text)


def _csv(path: Path, met: Read) -> Iterator[Text]:
    import csv
    import sys

    csv.field_size_limit(min(sys.maxsize, 1 << 27))
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), 1):
            yield from _row({k.strip().lower(): v for k, v in row.items() if k}, str(number), met)


def _parquet(path: Path, met: Read) -> Iterator[Text]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        if "text" not in file.schema_arrow.names:
            raise BadData(f"{path}: there is no column `text` (it has {', '.join(file.schema_arrow.names[:8])})")
        columns = [c for c in ("id", "text") if c in file.schema_arrow.names]
        number = 0
        for batch in file.iter_batches(4096, columns=columns):
            for row in batch.to_pylist():
                number += 1
                yield from _row(row, str(number), met)
    except pa.ArrowInvalid as error:
        raise BadData(f"{path}: not a Parquet file ({error})") from None


def _pieces(path: Path, name: str, met: Read) -> Iterator[Text]:
    """A file as pieces of whole lines (of PIECE characters where a line is longer)."""
    with path.open("rb") as probe:
        if b"\0" in probe.read(8192):
            met.refuse("a file that is not text")
            return
    line, offset, held = 1, 0, ""
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        while more := file.read(PIECE):
            held += more
            if len(held) < PIECE:
                continue
            keep = _seam(held)
            yield Text(name, held, line, offset, keep)
            line += held.count("\n", 0, keep)
            offset += keep
            held = held[keep:]
    if held:
        yield Text(name, held, line, offset)


def _seam(piece: str) -> int:
    """Where the next piece starts: at a line end near the last OVERLAP characters."""
    at = max(0, len(piece) - OVERLAP)
    newline = piece.find("\n", at)
    return newline + 1 if 0 <= newline < len(piece) - 1 else at
