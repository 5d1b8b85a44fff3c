"""How far each log was read, kept in a file, so that the next run goes on there: when the log grew, was renamed, or was packed.

A log is known by its first line, which says when and from where its first request came, and not by its name: a log that was rotated
away is read to its end before the new one is begun.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import msgspec

from shopward.errors import BadData
from shopward.ingest.blocks import open_input

FIRST = 1 << 16  # bytes of a first line that are looked at
KEPT = 10_000  # logs remembered; those read longest ago are forgotten
SIBLINGS = 100  # files beside a log that may be the log under an older name
CHUNK = 1 << 20


class Mark(msgspec.Struct):
    """How far one log was read: bytes of its content (unpacked), lines, and the name it had then."""

    path: str
    offset: int = 0
    line: int = 0


class Positions:
    """The marks of a position file; a file that is not there yet is an empty one. Raises BadData for a file that is none.

    >>> import tempfile
    >>> kept = Positions(Path(tempfile.mkdtemp(), "positions.json"))
    >>> kept.marks["3f1c"] = Mark("access.log", 1200, 9)
    >>> kept.save()
    >>> Positions(kept.path).marks["3f1c"].line
    9
    """

    def __init__(self, path: Path):
        self.path = path
        self.marks: dict[str, Mark] = {}
        if path.exists():
            try:
                self.marks = msgspec.json.decode(path.read_bytes(), type=dict[str, Mark])
            except (OSError, msgspec.DecodeError) as wrong:
                raise BadData(f"{path}: no position file of Shopward: {str(wrong)[:120]}") from None

    def save(self) -> None:
        """Written aside and renamed: a run that is cut off leaves the old positions, and its lines are read again."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for old in list(self.marks)[: max(0, len(self.marks) - KEPT)]:
            del self.marks[old]
        aside = self.path.with_name(f".{self.path.name}.part")
        aside.write_bytes(msgspec.json.format(msgspec.json.encode(self.marks), indent=1) + b"\n")
        aside.replace(self.path)

    def mark(self, id: str, path: Path) -> Mark:
        """The mark of a log, now the last one used."""
        mark = self.marks.pop(id, None) or Mark(str(path))
        mark.path = str(path)
        self.marks[id] = mark
        return mark

    def rotated(self, path: Path, id: str) -> Iterator[Path]:
        """The log that had this name when it was last read and has another one now, if it is still there."""
        before = [old for old, mark in self.marks.items() if mark.path == str(path) and old != id]
        if not before:
            return
        beside = sorted(path.parent.glob(f"{path.stem}*"), key=os.path.getmtime, reverse=True)[:SIBLINGS]
        for other in beside:
            if other != path and other.is_file() and (found := first_line_id(other)) in before:
                before.remove(found)
                yield other
        for gone in before:  # its name belongs to the new log now
            self.marks[gone].path = ""


def first_line_id(path: Path) -> str:
    """What a log is known by: 16 hex digits of its first line that is no comment; "" while it has none that is whole."""
    try:
        source = open_input(path)
    except BadData:
        return ""
    try:
        stream = io.BufferedReader(Unpacked(source.read_into), 1 << 16)  # type: ignore[arg-type]
        line = b"#"
        while line.startswith(b"#") or (line and line.isspace()):
            line = stream.readline(FIRST)
        whole = line.endswith(b"\n") or len(line) == FIRST
        return blake2b(line, digest_size=8).hexdigest() if whole else ""
    except BadData:
        return ""
    finally:
        source.close()


class Unpacked(io.RawIOBase):
    """A function that fills a buffer as a raw stream."""

    def __init__(self, fill: Callable[[memoryview], int]):
        self._fill = fill

    def readable(self) -> bool:
        return True

    def readinto(self, view: memoryview) -> int:  # type: ignore[override]
        return self._fill(memoryview(view).cast("B"))


def skip(stream: BinaryIO, size: int) -> None:
    """Pass over bytes of a stream that cannot be entered in its middle."""
    while size > 0 and (got := stream.read(min(size, CHUNK))):
        size -= len(got)
