"""Reading a log behind its writer: each frame once, as soon as it is whole, without taking the log.

A frame that is not forced to disk yet may be seen, too; should the machine die, the writer's log may end before it. So what follows
a log may be ahead of it by the last, never acknowledged frames, and only within one boot of the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from shopward.errors import CorruptStore
from shopward.store import frames
from shopward.store.files import REAL, Disk
from shopward.store.frames import Frame
from shopward.store.log import Segment, segments

PIECE = 8 << 20  # bytes read at a time


class LogReader:
    """Gives the frames of a log from one number on; `frames()` again gives those that came since."""

    def __init__(self, folder: Path, number: int = 0, disk: Disk = REAL):
        self.folder, self.number, self.disk = folder, number, disk
        self._segment: Segment | None = None
        self._offset = 0

    def frames(self) -> Iterator[Frame]:
        """Frames that are whole in the file now."""
        while True:
            if self._segment is None and not self._enter():
                return
            yield from self._rest()
            if not self._next():
                return

    def _enter(self) -> bool:
        """Find the segment that holds the wanted frame."""
        found = [s for s in segments(self.folder, self.disk) if s.number <= self.number]
        if not found:
            if segments(self.folder, self.disk):
                raise CorruptStore(f"{self.folder}: frame {self.number} was dropped; start again from a snapshot")
            return False
        self._segment, self._offset = found[-1], 0
        return True

    def _rest(self) -> Iterator[Frame]:
        assert self._segment is not None
        piece = PIECE
        while True:
            data = self.disk.read(self._segment.path, self._offset, self._offset + piece)
            start = 0
            for header in frames.frames_in(data):
                if not header.known:
                    raise CorruptStore(f"{self._segment.path}: offset {self._offset + start}: {frames.YOUNGER}")
                start = header.stop
                if header.number >= self.number:
                    self.number = header.number + 1
                    yield frames.decode(data, header)
            self._offset += start
            if not start:
                if len(data) < piece:
                    return
                piece *= 2  # one frame larger than a piece

    def _next(self) -> bool:
        """Go on to the next segment once this one is at its end."""
        assert self._segment is not None
        later = [s for s in segments(self.folder, self.disk) if s.number > self._segment.number]
        if not later or later[0].number > self.number:
            return False
        self._segment, self._offset = later[0], 0
        return True
