"""The log: every event in the order it was accepted, with what was decided. The source of truth; all else can be rebuilt from it.

An event is acknowledged only after `sync` returned. Frames are appended to segment files; when the last segment ends in a torn
frame (the machine died while writing), the tail is cut at the last whole frame and reported. Damage anywhere else is an error
that names file and place, and is never skipped.

    log = Log.open(data / "log")
    for frame in log.replay(snapshot_seq): ...
    log.append(frame); log.sync()
"""

from __future__ import annotations

import re
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from shopward.errors import CorruptStore, StoreFull, UsageError
from shopward.store import frames
from shopward.store.files import NO_ROOM, REAL, Bytes, Disk, File, full
from shopward.store.frames import Frame, Header

SEGMENT_BYTES = 64 << 20
PENDING_BYTES = 8 << 20  # so much is kept in memory before a write is forced
MARK_BYTES = 64 << 10  # one remembered place per so many bytes, for finding a single event again
SEGMENTS_MARKED = 16  # segments whose places are remembered
NAME = re.compile(r"(\d{12,})-(\d{16,})\.log")


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of the log, named by the numbers of its first frame and first event."""

    number: int
    seq0: int
    path: Path

    @classmethod
    def named(cls, folder: Path, number: int, seq0: int) -> Segment:
        return cls(number, seq0, folder / f"{number:012d}-{seq0:016d}.log")


@dataclass(frozen=True, slots=True)
class Cut:
    """What recovery cut from the end of the log: bytes of frames that were never acknowledged."""

    file: str
    offset: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.file}: cut {self.bytes} bytes of an unfinished write at offset {self.offset}; nothing acknowledged is lost"


class Log:
    """The writer of a log; one per data folder, shared by any number of threads.

    next_seq     the sequence number the next event gets
    next_number  the number the next frame gets
    durable_seq  every event before it is on disk
    cut          what recovery cut from the tail, or None
    """

    def __init__(self, folder: Path, disk: Disk, segment_bytes: int, before_sync: Callable[[], None] | None):
        self.folder, self.disk, self.segment_bytes = folder, disk, segment_bytes
        self.before_sync = before_sync
        self.cut: Cut | None = None
        self.next_seq = self.next_number = self.durable_seq = self._durable_number = 0
        self._turn = threading.Condition()
        self._waiting: list[Frame] = []
        self._held: list[Frame] = []  # taken for writing, not yet on disk
        self._ends: list[int] = []  # where those of them end that are whole in the file already
        self._unwritten = 0  # bytes of both
        self._syncing = False
        self._failure: CorruptStore | UsageError | None = None  # set for good once the disk refused a write
        self._no_room = False
        self._places = Places(disk)
        self._file: File | None = None
        self._unlock: Callable[[], None] = lambda: None

    @classmethod
    def open(
        cls,
        folder: Path | str,
        disk: Disk = REAL,
        segment_bytes: int = SEGMENT_BYTES,
        before_sync: Callable[[], None] | None = None,
    ) -> Log:
        """Open or create the log in `folder` and take it for this process.

        `before_sync` runs before frames are written (the vault commits there, so that no pseudonym is ever on disk without
        the value it stands for). Raises UsageError when another process has the log, CorruptStore when it is damaged.
        """
        log = cls(Path(folder), disk, segment_bytes, before_sync)
        disk.make_folder(log.folder)
        log._unlock = disk.lock(log.folder / "lock")
        try:
            log._recover()
        except BaseException:
            log._unlock()
            raise
        return log

    # ---- writing

    def append(self, frame: Frame) -> int:
        """Take a frame for writing and return its number; it is durable once a later `sync` has returned.

        Raises StoreFull without taking the frame when the disk was full and still is.
        """
        if self._unwritten > PENDING_BYTES:
            self.sync()
        with self._turn:
            self._check_alive()
            if frame.seq0 != self.next_seq:
                raise ValueError(f"frame starts at seq {frame.seq0}, the log is at {self.next_seq}")
            frame = replace(frame, number=self.next_number)
            self._waiting.append(frame)
            self._unwritten += frame.size
            self.next_seq += frame.n
            self.next_number += 1
            return frame.number

    def sync(self) -> None:
        """Return when everything appended so far is on disk. Concurrent callers share one fdatasync.

        Raises StoreFull when there is no room: the frames stay in memory in their order and the next `sync` tries again,
        so an event that was already decided is neither lost nor decided twice while the process lives.
        """
        with self._turn:
            target = self.next_number
            while self._durable_number < target:
                self._check_alive()
                if not self._syncing:
                    break
                self._turn.wait()
            else:
                return
            self._syncing = True
            self._held += self._waiting
            self._waiting = []
        try:
            self._write_held()
        finally:
            with self._turn:
                self._syncing = False
                self._turn.notify_all()

    @property
    def full(self) -> bool:
        """Was there no room at the last write?"""
        return self._no_room

    def check_room(self) -> None:
        """Raise StoreFull if the disk was full at the last write and still is. Ask before deciding on more events."""
        if self._no_room:
            self.sync()

    def close(self) -> None:
        """Write what is waiting and let another process have the log."""
        try:
            if self._failure is None:
                self.sync()
        finally:
            if self._file is not None:
                self._file.close()
                self._file = None
            self._unlock()
            self._failure = UsageError(f"{self.folder}: this log was closed")

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- reading

    def replay(self, from_seq: int = 0, from_number: int = 0) -> Iterator[Frame]:
        """Every durable frame that holds an event from `from_seq` on, and every later switch and list write, in order.

        `from_number` skips frames by their number instead (a snapshot knows the number of the next frame).
        Raises CorruptStore when the start lies outside the log: then it lost what the caller knows it held.
        """
        self._check_inside(from_seq, from_number)
        stop = self._durable_number
        for frame in read(self.folder, self.disk, from_seq, from_number):
            if frame.number >= stop:
                return
            yield frame

    def frame_with(self, seq: int) -> Frame:
        """The frame that holds event `seq`, written or still waiting. Raises KeyError when the log does not hold it."""
        with self._turn:
            young = [f for f in (*self._held, *self._waiting) if f.seq0 <= seq < f.seq0 + f.n]
        return young[0] if young else self._places.find(self._segments(), seq)

    def decision(self, seq: int) -> dict | None:
        """The decision on event `seq` as it was given (None for a label event)."""
        frame = self.frame_with(seq)
        decisions = frame.decided()
        return decisions[seq - frame.seq0] if decisions else None

    @property
    def first_seq(self) -> int:
        """The oldest event the log still holds."""
        segments = self._segments()
        return segments[0].seq0 if segments else 0

    # ---- keeping it small

    def drop_before(self, seq: int, older_than: int | None = None) -> list[str]:
        """Remove whole segments that hold only events before `seq`, oldest first (never the last one); returns their names.

        With `older_than` (ms UTC) only those whose frames were all closed before it. Keep at least the days for which ids are
        remembered, what the newest snapshot needs and what is not in the lake yet.
        """
        found, dropped = self._segments(), []
        for old, young in zip(found, found[1:], strict=False):
            if young.seq0 > seq or (older_than is not None and self._begins(young) > older_than):
                break
            self.disk.remove(old.path)
            self.disk.sync_folder(self.folder)  # one by one: a crash must leave no hole in the order
            dropped.append(old.path.name)
        return dropped

    def _begins(self, segment: Segment) -> int:
        """The clock of a segment's first frame; an empty one begins now."""
        header = frames.header_at(self.disk.read(segment.path, 0, frames.HEADER.size + frames.SECTIONS.size), 0)
        return sys.maxsize if header is None else header.clock

    # ---- inside

    def _segments(self) -> list[Segment]:
        return segments(self.folder, self.disk)

    def _check_alive(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _check_inside(self, from_seq: int, from_number: int) -> None:
        first = self._segments()[0]
        if from_number and first.number <= from_number <= self.next_number and from_seq <= self.next_seq:
            return
        if from_number or not first.seq0 <= from_seq <= self.next_seq:
            asked = f"frame {from_number}" if from_number else f"event {from_seq}"
            raise CorruptStore(
                f"{self.folder}: holds events {first.seq0} to {self.next_seq - 1} (frames {first.number} to "
                f"{self.next_number - 1}), but {asked} was asked for: older ones were dropped, later ones are lost"
            )

    def _recover(self) -> None:
        """Find the end of the log in its last segment and cut what was never acknowledged."""
        found = self._segments()
        if not found:
            self._begin(Segment.named(self.folder, 0, 0))
            return
        last = found[-1]
        data, end = self.disk.read(last.path), 0
        self.next_number, self.next_seq = last.number, last.seq0
        for header in _checked(last, data, last=True):
            self.next_number, self.next_seq, end = header.number + 1, header.seq0 + header.n, header.stop
        self._file = self.disk.appending(last.path)
        if end < len(data):
            self.cut = Cut(str(last.path), end, len(data) - end)
            self._file.truncate(end)
        self._file.sync()  # what a killed process wrote may not be on disk yet
        self.disk.sync_folder(self.folder)
        self._segment, self._end = last, end
        self.durable_seq, self._durable_number = self.next_seq, self.next_number

    def _begin(self, segment: Segment) -> None:
        file = self.disk.appending(segment.path)
        self.disk.sync_folder(self.folder)
        if self._file is not None:
            self._file.close()
        self._file, self._segment, self._end = file, segment, 0

    def _write_held(self) -> None:
        """Write the held frames, force them to disk, and only then forget them."""
        try:
            if self.before_sync is not None:
                self.before_sync()
            self._make_room()
            self._commit(self._held)
        except StoreFull:
            self._no_room = True
            raise
        except OSError as error:
            if error.errno in NO_ROOM:
                self._no_room = True
                raise full(self._segment.path, error) from error
            self._failure = CorruptStore(f"{self._segment.path}: {error}; the disk refused a write, restart to recover")
            raise self._failure from error

    def _make_room(self) -> None:
        """Cut the broken frame that an earlier, failed write may have left, and start a new segment when this one is full.

        Whole frames stay even if they were never forced: somebody may have read them.
        """
        assert self._file is not None
        end = self._ends[-1] if self._ends else self._end
        if self._file.size() != end:
            self._file.truncate(end)
        if end >= self.segment_bytes and not self._ends:
            self._begin(Segment.named(self.folder, self._held[0].number, self._held[0].seq0))

    def _commit(self, held: list[Frame]) -> None:
        assert self._file is not None
        self._write(held[len(self._ends) :])
        try:
            self._file.sync()
        except OSError:
            self._ends = []  # nobody knows what is there: write it again
            raise
        starts = [self._end, *self._ends[:-1]]
        self._places.add(self._segment, [(frame.seq0, at) for frame, at in zip(held, starts, strict=True)])
        with self._turn:
            self._end, self._ends, self._no_room = self._ends[-1], [], False
            self.durable_seq, self._durable_number = held[-1].seq0 + held[-1].n, held[-1].number + 1
            self._unwritten -= sum(frame.size for frame in held)
            self._held = []

    def _write(self, held: list[Frame]) -> None:
        """Append frames, and remember those that are whole in the file even if it ran full."""
        assert self._file is not None
        at, parts, ends = self._ends[-1] if self._ends else self._end, [], []
        for frame in held:
            encoded = frames.encode(frame, frame.number, self._end)
            at += sum(len(part) for part in encoded)
            parts += encoded
            ends.append(at)
        try:
            self._file.append(parts)
        finally:
            size = self._file.size()
            self._ends += [end for end in ends if end <= size]


class Places:
    """Where single events lie: one remembered place per 64 KB of a segment, for the segments asked for lately."""

    def __init__(self, disk: Disk):
        self.disk = disk
        self._marks: OrderedDict[int, list[tuple[int, int]]] = (
            OrderedDict()
        )  # by segment number: (seq0, offset), ascending
        self._lock = threading.Lock()

    def add(self, segment: Segment, marks: list[tuple[int, int]]) -> None:
        with self._lock:
            kept = self._marks.get(segment.number)
            if kept is None and marks and marks[0][1] == 0:
                kept = self._marks[segment.number] = []
                self._trim()
            if kept is not None:
                _thin(kept, marks)

    def find(self, found: list[Segment], seq: int) -> Frame:
        for segment in reversed([s for s in found if s.seq0 <= seq]):
            frame = self._find_in(segment, seq)
            if frame is not None:
                return frame
        raise KeyError(f"event {seq} is not in the log")

    def _find_in(self, segment: Segment, seq: int) -> Frame | None:
        start, stop = self._between(segment, seq)
        data = self.disk.read(segment.path, start, stop)
        for header in frames.frames_in(data):
            if header.seq0 <= seq < header.seq0 + header.n:
                return frames.decode(data, header)
        return None

    def _between(self, segment: Segment, seq: int) -> tuple[int, int | None]:
        """Bytes [start, stop) of the segment that hold the frame with `seq`, if it is there."""
        with self._lock:
            marks = self._marks.get(segment.number)
        if marks is None:
            marks = self._load(segment)
        below = [offset for seq0, offset in marks if seq0 <= seq]
        above = [offset for seq0, offset in marks if seq0 > seq]
        return (below[-1] if below else 0), (above[0] if above else None)

    def _load(self, segment: Segment) -> list[tuple[int, int]]:
        marks: list[tuple[int, int]] = []
        _thin(marks, [(h.seq0, h.offset) for h in frames.frames_in(self.disk.read(segment.path))])
        with self._lock:
            self._marks[segment.number] = marks
            self._trim()
        return marks

    def _trim(self) -> None:
        while len(self._marks) > SEGMENTS_MARKED:
            self._marks.popitem(last=False)


def read(
    folder: Path | str, disk: Disk = REAL, from_seq: int = 0, from_number: int = 0, settle: bool = False
) -> Iterator[Frame]:
    """Frames of a log as a reader sees them, without taking it: ends where the last segment's whole frames end.

    `settle` forces what is read to disk first, so that what is built on it can never be ahead of the log.
    """
    found = segments(Path(folder), disk)
    expected: tuple[int, int] | None = None
    for i, segment in enumerate(found):
        last = i == len(found) - 1
        if not last and (found[i + 1].seq0 < from_seq or found[i + 1].number <= from_number):
            continue
        data = disk.read(segment.path, settle=settle)
        for header in _checked(segment, data, last, expected):
            expected = header.number + 1, header.seq0 + header.n
            if header.seq0 + max(header.n, 1) > from_seq and header.number >= from_number:
                yield frames.decode(data, header)


def segments(folder: Path, disk: Disk = REAL) -> list[Segment]:
    """The files of a log in their order."""
    names = [(NAME.fullmatch(name), name) for name in disk.names(folder)]
    return sorted((Segment(int(m[1]), int(m[2]), folder / name) for m, name in names if m), key=lambda s: s.number)


def _checked(segment: Segment, data: Bytes, last: bool, expected: tuple[int, int] | None = None) -> Iterator[Header]:
    """The segment's frames in order, each checked to follow the one before; raises CorruptStore at damage.

    `expected` is the frame number and event with which the segment has to start (None: the first segment to be read).
    """
    if expected not in (None, (segment.number, segment.seq0)):
        raise CorruptStore(
            f"{segment.path.parent}: a segment is missing before {segment.path.name}; restore it from a copy"
        )
    end, expected = 0, (segment.number, segment.seq0)
    for header in frames.frames_in(data):
        if (header.number, header.seq0) != expected:
            raise CorruptStore(
                f"{segment.path}: offset {header.offset}: frame {header.number} (event {header.seq0}) where frame "
                f"{expected[0]} (event {expected[1]}) belongs; restore this file from a copy"
            )
        if not header.known:
            raise CorruptStore(f"{segment.path}: offset {header.offset}: {frames.YOUNGER}")
        expected, end = (header.number + 1, header.seq0 + header.n), header.stop
        yield header
    if end < len(data) and (not last or frames.survivor(data, end) is not None):
        raise CorruptStore(f"{segment.path}: offset {end}: damaged (checksum); restore this file from a copy")


def _thin(kept: list[tuple[int, int]], marks: list[tuple[int, int]]) -> None:
    for seq0, offset in marks:
        if not kept or offset - kept[-1][1] >= MARK_BYTES:
            kept.append((seq0, offset))
