"""Reads NDJSON and CSV as blocks of bytes, whatever their size: plain, gzip or zstandard, from a file, a pipe or memory.

A block ends wherever the bytes end; what the scanner could not finish is carried into the next one. A record larger than a record
may be is thrown away up to its end, so memory stays bounded even for a line of a gigabyte.
"""

from __future__ import annotations

import csv
import hashlib
import io
import sys
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from shopward.errors import BadData, BadEvent
from shopward.event import MAX_DEPTH, MAX_RECORD
from shopward.ingest.assemble import Assembler, Raw, Spans
from shopward.ingest.dead import mask_text
from shopward.ingest.scan import NEWLINE, OVERSIZE, PADDING, ROOM, line_end, measure, scan_csv, scan_ndjson

BLOCK = 2 << 20
ROWS = 8192
BOM = b"\xef\xbb\xbf"
PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
STDIN = "-"


# ---- bytes


class Input:
    """Where bytes come from. `name` is what messages call it; `prefix()` names records that have no id of their own."""

    def __init__(
        self, name: str, stream: BinaryIO | io.RawIOBase, path: Path | None = None, content: bytes | None = None
    ):
        self.name, self.stream, self._path, self._content = name, stream, path, content
        self._prefix: str | None = None
        self._head = b""

    def read_into(self, view: memoryview) -> int:
        """Puts what there is by now into the view; 0 at the end."""
        got = self.stream.readinto(view) or 0  # type: ignore[union-attr]
        if not self._head:
            self._head = bytes(view[:got])
        return got

    def close(self) -> None:
        if self._path is not None:
            self.stream.close()

    def known_as(self, prefix: str) -> None:
        """Name the records by this instead of by the content, which is not all there yet."""
        self._prefix = prefix[:12]

    def prefix(self) -> str:
        """12 hex digits of the whole content; of a pipe, which cannot be read twice, of its first block."""
        if self._prefix is None:
            if self._path is not None:
                with self._path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256")
            else:
                digest = hashlib.sha256(self._head if self._content is None else self._content)
            self._prefix = digest.hexdigest()[:12]
        return self._prefix


def open_input(path: Path | str) -> Input:
    """A file (packed ones are unpacked on the way), or `-` for what is piped in. Raises BadData when it cannot be opened."""
    if str(path) == STDIN:
        return Input(
            "stdin", getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
        )  # records count as soon as they are piped in
    path = Path(path)
    try:
        stream = path.open("rb", buffering=0)
    except OSError as wrong:
        raise BadData(f"{path}: cannot be opened: {wrong.strerror}") from None
    head = stream.read(4)
    stream.seek(0)
    for magic, codec in PACKED.items():
        if head.startswith(magic):
            import pyarrow as pa

            stream.close()
            return Input(str(path), _Arrow(pa.input_stream(str(path), compression=codec)), path)
    return Input(str(path), stream, path)


class _Arrow(io.RawIOBase):
    """An Arrow stream as a raw Python one; damaged packed data is BadData."""

    def __init__(self, stream: Any):
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, view: Any) -> int:
        try:
            got = self._stream.read(len(view))
        except OSError as wrong:
            raise BadData(f"damaged compressed data: {wrong}") from None
        view[: len(got)] = got
        return len(got)

    def close(self) -> None:
        self._stream.close()
        super().close()


class _Window:
    """A sliding window over an Input: `buf[at:end]` is what is not read yet, padded with newlines."""

    def __init__(self, source: Input):
        self.source = source
        self.buf = np.full(PADDING, NEWLINE, np.uint8)
        self.at = self.end = 0
        self.finished = False

    def more(self) -> None:
        """Moves what is left to a new buffer (the old one may still be looked at) and reads on."""
        left = self.end - self.at
        buf = np.empty(MAX_RECORD + 2 * BLOCK, np.uint8)  # one size, so that memory given back is used again
        buf[:left] = self.buf[self.at : self.end]
        got = self.source.read_into(memoryview(buf)[left : left + BLOCK])
        self.buf, self.at, self.end = buf, 0, left + got
        buf[self.end : self.end + PADDING] = NEWLINE
        self.finished = got == 0

    def skip_mark(self) -> None:
        if bytes(self.buf[self.at : self.at + 3]) == BOM:
            self.at += 3

    def drop_line(self) -> int:
        """Throws away everything up to the next newline; returns how many bytes."""
        dropped = 0
        while True:
            end = int(line_end(self.buf, self.at, self.end))
            dropped += end - self.at
            self.at = end
            if end < self.end or self.finished:
                return dropped
            self.more()


class Fields:
    """The arrays a scanner fills, used again for every chunk."""

    def __init__(self, fields: int, rows: int = ROWS):
        self.starts = np.empty((fields, rows), np.int32)
        self.stops = np.empty((fields, rows), np.int32)
        self.forms = np.zeros((fields, rows), np.uint8)
        self.status = np.empty(rows, np.uint8)
        self.lines = np.empty((4, rows), np.int64)
        self.seen = np.empty(fields + 1, np.int64)

    def columns(self, names: Mapping[str, int], buf: np.ndarray, n: int) -> dict:
        """The fields that occur at all."""
        found = set(np.flatnonzero(self.forms[:, :n].any(axis=1)).tolist())
        return {
            name: Spans(buf, self.starts[i, :n], self.stops[i, :n], self.forms[i, :n])
            for name, i in names.items()
            if i in found
        }


# ---- NDJSON


def ndjson(source: Input, assembler: Assembler) -> Iterator[Raw]:
    """The records of NDJSON, some thousand at a time."""
    words, window = assembler.words, _Window(source)
    fields = Fields(len(assembler.keys))
    guess = np.full(len(words.lengths) + 1, -1, np.int32)
    known, begins, room = words.place, assembler.begins.place, np.empty(ROOM, np.uint8)
    line = 1

    def load(raw: np.ndarray) -> dict[str, Any]:
        return load_json(raw, assembler.columns)

    window.more()
    window.skip_mark()
    while True:
        rows, at, breaks = scan_ndjson(
            window.buf, window.at, window.end, window.finished, known, words.values, begins, guess, fields.starts, fields.stops,
            fields.forms, fields.seen, fields.status, fields.lines, room,
        )  # fmt: skip
        if rows:
            yield _raw_lines(source, assembler, fields, window.buf, rows, line, load)
        line += breaks
        window.at = at
        if rows or breaks:
            continue
        if window.finished:
            return
        if window.end - window.at > MAX_RECORD:
            size = window.drop_line()
            assembler.dead.put(source.name, line, _oversize(size))
        else:
            window.more()


def _oversize(size: int) -> BadEvent:
    return BadEvent(f"larger than a record may be ({size:,} bytes; at most {MAX_RECORD:,})")


def _raw_lines(
    source: Input, assembler: Assembler, fields: Fields, buf: np.ndarray, n: int, line: int, load: Any
) -> Raw:
    starts, stops = fields.lines[0, :n].copy(), fields.lines[1, :n].copy()
    sizes = (fields.status[:n] == OVERSIZE).tolist()

    def row(i: int) -> Mapping[str, Any]:
        if sizes[i]:
            raise _oversize(int(stops[i] - starts[i]))
        return load(buf[starts[i] : stops[i]])

    def outline(i: int) -> str:
        return mask_text(buf[starts[i] : min(stops[i], starts[i] + 1000)].tobytes())

    odd = (fields.status[:n] > 0).astype(np.uint8)
    columns = fields.columns(assembler.keys, buf, n)
    return Raw(source.name, n, columns, odd, line + fields.lines[2, :n], row, outline, source.prefix)


def load_json(raw: np.ndarray, known: Container[str]) -> dict[str, Any]:
    """One JSON object from its bytes; BadEvent when it is none, too deep, or names a field twice that somebody reads."""
    pairs, depth = measure(np.ascontiguousarray(raw))
    if depth > MAX_DEPTH:
        raise BadEvent(f"nested deeper than {MAX_DEPTH} levels")
    try:
        record = msgspec.json.decode(raw.tobytes())
    except UnicodeDecodeError:
        raise BadEvent("not valid UTF-8") from None
    except msgspec.MsgspecError as wrong:
        raise BadEvent(_json_reason(str(wrong), raw)) from None
    if not isinstance(record, dict):
        raise BadEvent("expected a JSON object")
    if pairs != _pairs(record):
        _find_twins(raw.tobytes(), known)
    return record


def _json_reason(reason: str, raw: np.ndarray) -> str:
    return f"not JSON: {reason.removeprefix('JSON is malformed: ')}{_json_hint(raw.tobytes())}"


def _json_hint(words: bytes) -> str:
    """What would be right, where a common mistake shows."""
    if b"NaN" in words or b"Infinity" in words:
        return "; NaN and Infinity are no JSON, write null"
    if b"\0" in words[:64]:
        return "; is this UTF-16, or no text at all? Expected UTF-8"
    return "" if words.lstrip()[:1] == b"{" else "; each line holds one JSON object"


def _pairs(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(_pairs(v) for v in value.values() if v.__class__ in (dict, list))
    return sum(_pairs(v) for v in value if v.__class__ in (dict, list))


def _find_twins(text: bytes, known: Container[str]) -> None:
    """Raises BadEvent for a field that stands twice, since readers differ on which of them counts. Of plain fields at the top that
    nobody reads the last one is kept."""
    import json

    objects: list[dict[str, Any]] = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        objects.append({name: value for name, value in pairs if name in found or found.update({name: value})})
        return found

    json.loads(text, object_pairs_hook=collect)
    for twins in objects:
        for name, value in twins.items():
            if twins is not objects[-1] or name in known or isinstance(value, dict):
                raise BadEvent("stands twice in the record", field=name[:80])


# ---- CSV


def csv_rows(source: Input, assembler: Assembler) -> Iterator[Raw]:
    """The records of CSV with a header line; cells are text, an empty one is null."""
    window = _Window(source)
    window.more()
    window.skip_mark()
    if window.at == window.end:
        return
    header, comma = _header(window, source.name)
    fields = Fields(len(assembler.keys))
    columns = np.array([assembler.keys.get(assembler.columns.get(name, ""), -1) for name in header], np.int64)
    lists = frozenset(f.name for f in assembler.fields.values() if f.type == "list")
    targets = assembler.columns

    def load(raw: np.ndarray) -> dict[str, Any]:
        return _csv_record(raw.tobytes(), header, chr(comma), lists, targets)

    line = 2
    while True:
        rows, at, breaks = scan_csv(
            window.buf, window.at, window.end, window.finished, comma, columns, fields.starts, fields.stops, fields.forms,
            fields.status, fields.lines,
        )  # fmt: skip
        if rows:
            yield _raw_lines(source, assembler, fields, window.buf, rows, line, load)
        line += breaks
        window.at = at
        if rows or breaks:
            continue
        if window.finished:
            return
        if window.end - window.at > MAX_RECORD:
            assembler.dead.put(source.name, line, _oversize(window.drop_line()))
        else:
            window.more()


def _header(window: _Window, name: str) -> tuple[list[str], int]:
    end = int(line_end(window.buf, window.at, window.end))
    while end == window.end and not window.finished and end - window.at <= MAX_RECORD:
        window.more()
        end = int(line_end(window.buf, window.at, window.end))
    if end - window.at > MAX_RECORD:
        raise BadData(f"{name}: the first line names the columns, this one is {end - window.at:,} bytes long")
    try:
        text = window.buf[window.at : end].tobytes().decode().rstrip("\r")
    except UnicodeDecodeError:
        raise BadData(f"{name}: the header is not UTF-8; save the file as UTF-8") from None
    window.at = min(end + 1, window.end)
    comma = max(",;\t", key=text.count)
    names = [cell.strip() for cell in next(csv.reader([text], delimiter=comma), [])]
    twins = sorted({cell for cell in names if names.count(cell) > 1})
    if twins:
        raise BadData(f"{name}: column `{twins[0]}` stands twice in the header")
    return names, ord(comma)


def _csv_record(
    raw: bytes, header: list[str], comma: str, lists: frozenset[str], targets: Mapping[str, str]
) -> dict[str, Any]:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise BadEvent("not valid UTF-8") from None
    try:
        cells = next(csv.reader(io.StringIO(text, newline=""), delimiter=comma, strict=True))
    except (csv.Error, StopIteration) as wrong:
        raise BadEvent(f"not CSV: {wrong}") from None
    if len(cells) != len(header):
        raise BadEvent(f"{len(cells)} cells where the header has {len(header)}")
    return {
        name: _cell(cell, targets.get(name) in lists) for name, cell in zip(header, cells, strict=True) if cell != ""
    }


def _cell(cell: str, is_list: bool) -> Any:
    """A cell's value; lists are JSON or separated by `|`."""
    if not is_list:
        return cell
    if not cell.startswith("["):
        return cell.split("|")
    try:
        return msgspec.json.decode(cell.encode())
    except msgspec.MsgspecError:
        raise BadEvent("expected a JSON list, or values separated by |") from None
