"""Has this event been here before, and where is it? Ids answer a retry for seven days and are found for labels for half a year.

The same id with the same content is a duplicate: the caller gives back the decision already made (by its seq). The same id with
other content is a conflict: the first one counts. The newest ids are in a hash table in memory; when it is full it becomes a
sorted, checksummed run on disk with a filter in front, so that a new id costs one look per run of the last seven days; older
runs are only asked where an event lies (a chargeback comes after months). Runs hold only events that the log already holds on
disk, and whatever they miss is read back from the log, so a crash changes nothing.

The filter is a blocked Bloom filter (F. Putze, P. Sanders, J. Singler, "Cache-, Hash- and Space-Efficient Bloom Filters", 2007).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numba import int64, njit

from shopward.errors import CorruptStore, StoreFull
from shopward.hashing import hash_strings
from shopward.store import snapshot
from shopward.store.files import REAL, Disk, sweep, write_whole
from shopward.store.frames import Frame
from shopward.store.log import Log

NEW, DUPLICATE, CONFLICT = 0, 1, 2
KEEP_MS = 7 * 86_400_000  # so long a retried event gets the answer it got
FIND_MS = 180 * 86_400_000  # so long an event is found for a label
DROP_MS = 86_400_000  # a run is dropped a day after its newest id expired: events may be late
FIND_IDS = 1 << 28  # at most so many ids are kept beyond the seven days (about 12 GB)
TABLE_ROWS = 1 << 19  # ids in memory before they become a run (about 100 MB with the table being written)
PATIENCE = 4  # how often a table may outgrow that while the disk is busy with the one before
MERGE_RUNS = 8  # so many small runs become one
MERGED_ROWS = 1 << 22  # runs from this size on stay as they are
BITS_PER_ID = 12
COLUMNS = ("h1", "h2", "seq", "content", "t")
H1, H2, SEQ, CONTENT, T = range(5)
EVER, NEVER = 1 << 62, -(1 << 62)  # how old an id may be to count as known
UNKNOWN, EXPIRED = -1, -2  # while a batch is being checked
NAME = re.compile(r"(\d{16,})-(\d{16,})\.run")

_jit = njit(nogil=True, error_model="numpy", cache=True)


# ---- in memory


@_jit
def _slot(slots, h1, h2):
    """Where an id is, or the empty slot where it belongs."""
    mask = slots.shape[0] - 1
    at = h1 & mask
    while slots[at, H1] != 0 or slots[at, H2] != 0:
        if slots[at, H1] == h1 and slots[at, H2] == h2:
            break
        at = (at + 1) & mask
    return at


@_jit
def _judge(known, content, t, seq, known_t, keep_ms, status, seqs, i):
    """Row i was seen before as `seq`: duplicate, conflict, or so long ago that it counts as new."""
    if t - known_t > keep_ms:
        status[i] = EXPIRED
    else:
        status[i] = DUPLICATE if known == content else CONFLICT
        seqs[i] = seq


@_jit
def _look(slots, ids, content, t, keep_ms, status, seqs):
    """Find rows still unknown in a table."""
    for i in range(ids.shape[0]):
        if status[i] == UNKNOWN:
            at = _slot(slots, ids[i, 0], ids[i, 1])
            if slots[at, H1] != 0 or slots[at, H2] != 0:
                _judge(slots[at, CONTENT], content[i], t[i], slots[at, SEQ], slots[at, T], keep_ms, status, seqs, i)


@_jit
def _claim(slots, ids, content, t, keep_ms, status, seqs, seq0):
    """Give every row that is not known the next seq and remember it; returns (new rows, slots newly used)."""
    new, used = 0, 0
    for i in range(ids.shape[0]):
        if status[i] >= 0:
            continue
        at = _slot(slots, ids[i, 0], ids[i, 1])
        taken = slots[at, H1] != 0 or slots[at, H2] != 0
        if taken:
            _judge(slots[at, CONTENT], content[i], t[i], slots[at, SEQ], slots[at, T], keep_ms, status, seqs, i)
            if status[i] >= 0:
                continue
        status[i] = NEW
        seqs[i] = seq0 + new
        slots[at, H1], slots[at, H2] = ids[i, 0], ids[i, 1]
        slots[at, SEQ], slots[at, CONTENT], slots[at, T] = seqs[i], content[i], t[i]
        new += 1
        used += 0 if taken else 1
    return new, used


@_jit
def _forget(slots, seq0):
    for i in range(slots.shape[0]):
        if slots[i, SEQ] >= seq0 and (slots[i, H1] != 0 or slots[i, H2] != 0):
            slots[i, T] = NEVER - 1


@_jit
def _move(old, young):
    for i in range(old.shape[0]):
        if old[i, H1] != 0 or old[i, H2] != 0:
            young[_slot(young, old[i, H1], old[i, H2])] = old[i]


class Table:
    """Ids in memory: an open-addressing hash table that doubles when half full."""

    def __init__(self, start: int):
        self.start = self.stop = start  # seqs [start, stop)
        self.count = 0
        self.slots = np.zeros((1 << 12, len(COLUMNS)), np.int64)

    def make_room(self, rows: int) -> None:
        while 2 * (self.count + rows) > len(self.slots):
            old, self.slots = self.slots, np.zeros((2 * len(self.slots), len(COLUMNS)), np.int64)
            _move(old, self.slots)

    def rows(self) -> np.ndarray:
        """The remembered rows, int64[count, 5], sorted by hash."""
        found = self.slots[(self.slots[:, H1] != 0) | (self.slots[:, H2] != 0)]
        return found[np.argsort(found[:, H1])]


# ---- on disk


@_jit
def _bucket(h1, bits):
    return (h1 >> int64(64 - bits)) + (int64(1) << int64(bits - 1))


@_jit
def _fence(h1, bits):
    """fence[b] is the first row whose top `bits` bits are at least b."""
    fence = np.zeros((int64(1) << int64(bits)) + 1, np.int64)
    for i in range(h1.shape[0]):
        fence[_bucket(h1[i], bits) + 1] += 1
    for b in range(1, fence.shape[0]):
        fence[b] += fence[b - 1]
    return fence


@_jit
def _fill(h1, h2, blocks):
    """A filter of `blocks` cache lines of 512 bits; each id sets six bits of one line."""
    words = np.zeros(blocks * 8, np.int64)
    for i in range(h1.shape[0]):
        line = (h2[i] & (blocks - 1)) * 8
        for k in range(6):
            bit = (h1[i] >> int64(9 * k)) & 511
            words[line + (bit >> 6)] |= int64(1) << (bit & 63)
    return words


@_jit
def _passes(words, h1, h2):
    line = (h2 & ((words.shape[0] >> 3) - 1)) * 8
    for k in range(6):
        bit = (h1 >> int64(9 * k)) & 511
        if (words[line + (bit >> 6)] >> (bit & 63)) & 1 == 0:
            return False
    return True


@_jit
def _search(h1, h2, seq, content, t, fence, words, bits, ids, contents, ts, keep_ms, status, seqs):
    """Find rows still unknown in a run."""
    for i in range(ids.shape[0]):
        if status[i] != UNKNOWN or not _passes(words, ids[i, 0], ids[i, 1]):
            continue
        b, found = _bucket(ids[i, 0], bits), -1
        for row in range(fence[b], fence[b + 1]):
            if h1[row] == ids[i, 0] and h2[row] == ids[i, 1] and (found < 0 or seq[row] > seq[found]):
                found = row
        if found >= 0:
            _judge(content[found], contents[i], ts[i], seq[found], t[found], keep_ms, status, seqs, i)


@_jit
def _merge_two(a, b):
    """Two sorted sets of rows as one; of an id in both, the later row."""
    out = np.empty((a.shape[0] + b.shape[0], a.shape[1]), np.int64)
    i, j, n = 0, 0, 0
    while i < a.shape[0] or j < b.shape[0]:
        if j == b.shape[0] or (i < a.shape[0] and a[i, H1] < b[j, H1]):
            row = a[i]
            i += 1
        else:
            row = b[j]
            j += 1
        if n and out[n - 1, H1] == row[H1] and out[n - 1, H2] == row[H2]:
            if row[SEQ] < out[n - 1, SEQ]:
                continue
            n -= 1
        for c in range(out.shape[1]):
            out[n, c] = row[c]
        n += 1
    return out[:n]


@dataclass(frozen=True, slots=True)
class Run:
    """Ids of the events with seqs [start, stop), sorted by hash, in one read-only file."""

    start: int
    stop: int
    newest: int  # t of its newest event
    path: Path
    columns: tuple[np.ndarray, ...]
    fence: np.ndarray
    words: np.ndarray
    bits: int

    @property
    def count(self) -> int:
        return len(self.columns[0])

    def look(self, ids, content, t, status, seqs, keep_ms=KEEP_MS) -> None:
        h1, h2, seq, known, times = self.columns
        _search(h1, h2, seq, known, times, self.fence, self.words, self.bits, ids, content, t, keep_ms, status, seqs)

    def rows(self) -> np.ndarray:
        return np.column_stack(self.columns)


def write_run(folder: Path, start: int, stop: int, rows: np.ndarray, disk: Disk) -> Run:
    """Write rows (int64[n, 5], sorted by hash) as the run of the seqs [start, stop)."""
    bits = max(1, (len(rows) // 16).bit_length())
    blocks = 1 << max(0, (len(rows) * BITS_PER_ID // 512).bit_length())
    arrays = {name: np.ascontiguousarray(rows[:, i]) for i, name in enumerate(COLUMNS)}
    arrays["fence"] = _fence(arrays["h1"], bits)
    arrays["filter"] = _fill(arrays["h1"], arrays["h2"], blocks)
    newest = int(rows[:, T].max()) if len(rows) else 0
    path = folder / f"{start:016d}-{stop:016d}.run"
    meta = snapshot.Meta(seq=stop, frame=0, extra={"newest": newest, "bits": bits})
    write_whole(disk, path, snapshot.encode(arrays, meta))
    return read_run(path, disk)


def read_run(path: Path, disk: Disk) -> Run:
    found = snapshot.read(path, disk)
    columns = tuple(found.arrays[name] for name in COLUMNS)
    extra, name = found.meta.extra, NAME.fullmatch(path.name)
    assert name is not None
    return Run(
        int(name[1]), int(name[2]), extra["newest"], path, columns, found.arrays["fence"], found.arrays["filter"], extra["bits"]
    )  # fmt: skip


# ---- the whole


class Dedup:
    """Remembers event ids. One writer calls `check`; runs are written and merged in the background (or by `maintain`).

    duplicates, conflicts   how many were found so far
    """

    def __init__(self, folder: Path, disk: Disk, durable: Callable[[], int], background: bool, table_rows: int):
        self.folder, self.disk, self.durable = folder, disk, durable
        self.background, self.table_rows, self.find_ids = background, table_rows, FIND_IDS
        self.duplicates = self.conflicts = 0
        self.trouble: StoreFull | None = None  # why the last run could not be written
        self._runs: tuple[Run, ...] = ()  # oldest first, without gaps
        self._table = Table(0)
        self._frozen: Table | None = None  # full, being written as a run
        self._latest = 0
        self._turn = threading.Lock()
        self._worker: threading.Thread | None = None

    @classmethod
    def open(
        cls,
        folder: Path | str,
        log: Log,
        seed: bytes,
        disk: Disk = REAL,
        background: bool = True,
        table_rows: int | None = None,
    ) -> Dedup:
        """Load the runs and read back from the log what they miss. `seed` is the one the ids are hashed with.

        Raises CorruptStore when a run is damaged and the log no longer reaches back far enough to replace it.
        """
        dedup = cls(Path(folder), disk, lambda: log.durable_seq, background, table_rows or TABLE_ROWS)
        disk.make_folder(dedup.folder)
        sweep(disk, dedup.folder, ".run")
        start = dedup._load(log)
        dedup._table = Table(start)
        dedup._remember(log.replay(start), seed)
        return dedup

    def check(
        self, ids: np.ndarray, content: np.ndarray, t: np.ndarray, seq0: int, keep_ms: int = KEEP_MS
    ) -> tuple[np.ndarray, np.ndarray]:
        """Judge a micro-batch: (status int8[n], seq int64[n]).

        ids int64[n, 2] (seeded hashes), content int64[n], t int64[n] stamped ms. A NEW row gets the next seq counted from
        `seq0` and is remembered; a DUPLICATE or CONFLICT row gets the seq of the first event with its id. The caller appends
        the NEW rows to the log with exactly these seqs. An id older than `keep_ms` counts as new; with EVER none does.
        """
        self._freeze_when_full(len(ids))
        status, seqs = np.full(len(ids), UNKNOWN, np.int8), np.full(len(ids), -1, np.int64)
        with self._turn:
            tables, runs = self._tables(), self._runs
        for table in tables:
            _look(table.slots, ids, content, t, keep_ms, status, seqs)
        oldest = int(t.min(initial=EVER)) - keep_ms
        for run in reversed(runs):
            if run.newest >= oldest:
                run.look(ids, content, t, status, seqs, keep_ms)
        new, used = _claim(self._table.slots, ids, content, t, keep_ms, status, seqs, seq0)
        self._table.count += used
        self._table.stop = seq0 + new
        self._latest = max(self._latest, int(t.max(initial=0)))
        found = len(ids) - new
        if found:
            conflicts = int(np.count_nonzero(status == CONFLICT))
            self.conflicts += conflicts
            self.duplicates += found - conflicts
        return status, seqs

    @property
    def horizon(self) -> int:
        """Ids of events older than this (ms) may have been forgotten."""
        return self._latest - FIND_MS

    def forget(self, seq0: int) -> None:
        """Take back what was claimed from `seq0` on, because it did not get into the log after all."""
        _forget(self._table.slots, seq0)
        self._table.stop = min(self._table.stop, max(seq0, self._table.start))

    def find(self, ids: np.ndarray) -> np.ndarray:
        """The seqs of the newest events with these ids (int64[n, 2]), however old; -1 where none is remembered."""
        status, seqs = np.full(len(ids), UNKNOWN, np.int8), np.full(len(ids), -1, np.int64)
        nothing = np.zeros(len(ids), np.int64)
        with self._turn:
            tables, runs = self._tables(), self._runs
        for table in tables:
            _look(table.slots, ids, nothing, nothing, EVER, status, seqs)
        for run in reversed(runs):
            run.look(ids, nothing, nothing, status, seqs, EVER)
        return seqs

    def maintain(self) -> None:
        """Write what is frozen, merge small runs, drop expired ones. Raises StoreFull when there is no room."""
        if self._frozen is not None:
            table = self._frozen
            run = write_run(self.folder, table.start, table.stop, table.rows(), self.disk)
            with self._turn:
                self._runs, self._frozen = (*self._runs, run), None
        self._drop_expired()
        while len(small := self._small_tail()) >= MERGE_RUNS:
            self._merge(small[:MERGE_RUNS])

    def close(self) -> None:
        """Wait for the background work; what is in memory is read back from the log the next time."""
        if self._worker is not None:
            self._worker.join()

    def memory(self) -> dict[str, int]:
        """Bytes of tables in memory, ids in memory, ids in runs, runs."""
        tables = self._tables()
        return {
            "bytes": sum(t.slots.nbytes for t in tables),
            "young": sum(t.count for t in tables),
            "old": sum(run.count for run in self._runs),
            "runs": len(self._runs),
        }

    # ---- inside

    def _tables(self) -> list[Table]:
        return [self._table] if self._frozen is None else [self._table, self._frozen]

    def _remember(self, replayed: Iterable[Frame], seed: bytes) -> None:
        for frame in replayed:
            if frame.kind != "events" or frame.seq0 + frame.n <= self._table.stop:
                continue
            skip = max(self._table.stop - frame.seq0, 0)
            ids, content, t = hash_strings(frame.event_ids(), seed)[skip:], frame.content[skip:], frame.t[skip:]
            self._freeze_when_full(len(ids))
            status = np.full(len(ids), UNKNOWN, np.int8)
            # No limit on age here: what the log accepted is the newest of its id, whatever was remembered before.
            new, used = _claim(
                self._table.slots, ids, content, t, NEVER, status, np.empty(len(ids), np.int64), frame.seq0 + skip
            )
            self._table.count += used
            self._table.stop = frame.seq0 + skip + new
            self._latest = max(self._latest, int(t.max(initial=0)))

    def _freeze_when_full(self, rows: int) -> None:
        table = self._table
        table.make_room(rows)
        if table.count < self.table_rows or table.stop > self.durable():
            return
        if self._worker is not None and self._worker.is_alive():
            if table.count < PATIENCE * self.table_rows:
                return
            self._worker.join()
        if self._frozen is None:
            with self._turn:
                self._frozen, self._table = table, Table(table.stop)
            self._table.make_room(rows)
        self._start_work()

    def _start_work(self) -> None:
        if not self.background:
            self.maintain()
            return
        self._worker = threading.Thread(target=self._work, name="dedup", daemon=True)
        self._worker.start()

    def _work(self) -> None:
        try:
            self.maintain()
            self.trouble = None
        except StoreFull as error:  # the ids stay in memory and the next full table tries again
            self.trouble = error

    def _small_tail(self) -> list[Run]:
        small: list[Run] = []
        for run in reversed(self._runs):
            if run.count >= MERGED_ROWS:
                break
            small.insert(0, run)
        return small

    def _merge(self, small: list[Run]) -> None:
        parts = [run.rows() for run in small]
        while len(parts) > 1:
            pairs = zip(parts[::2], parts[1::2], strict=False)
            parts = [_merge_two(a, b) for a, b in pairs] + parts[len(parts) & ~1 :]
        rows = parts[0][parts[0][:, T] >= self._latest - FIND_MS - DROP_MS]
        merged = write_run(self.folder, small[0].start, small[-1].stop, rows, self.disk)
        with self._turn:
            at = self._runs.index(small[0])
            self._runs = (*self._runs[:at], merged, *self._runs[at + len(small) :])
        self._remove(small)

    def _drop_expired(self) -> None:
        """Runs too old to be asked for, and the oldest ones of those that answer no retry when there are too many of them."""
        expired, old = [], sum(run.count for run in self._runs if run.newest < self._latest - KEEP_MS - DROP_MS)
        for run in self._runs:
            keep = KEEP_MS if old > self.find_ids else FIND_MS
            if run.newest >= self._latest - keep - DROP_MS:
                break
            old -= run.count
            expired.append(run)
        with self._turn:
            self._runs = self._runs[len(expired) :]
        self._remove(expired)

    def _remove(self, runs: Iterable[Run]) -> None:
        for run in runs:
            self.disk.remove(run.path)
            self.disk.sync_folder(self.folder)

    def _load(self, log: Log) -> int:
        """Take the runs that are whole, without gap and not ahead of the log; returns the seq from which the log has to be read."""
        kept: list[Run] = []
        for path in _covering(self.folder, self.disk):
            run = self._try(path)
            if run is None or run.stop > log.next_seq or (kept and run.start != kept[-1].stop):
                self._runs = tuple(kept)
                return self._read_again(path, kept, log)
            kept.append(run)
        self._runs = tuple(kept)
        self._latest = max((run.newest for run in kept), default=0)
        return kept[-1].stop if kept else log.first_seq

    def _try(self, path: Path) -> Run | None:
        try:
            return read_run(path, self.disk)
        except CorruptStore:
            return None

    def _read_again(self, bad: Path, kept: list[Run], log: Log) -> int:
        """Drop a run that cannot be used and all after it; the log still has their ids, or else it is an error."""
        start = kept[-1].stop if kept else log.first_seq
        name = NAME.fullmatch(bad.name)
        if start < log.first_seq or (not kept and name and int(name[1]) < log.first_seq):
            raise CorruptStore(
                f"{bad}: damaged, and the log starts only at event {log.first_seq}; restore it from a copy, "
                "or delete it and accept that older duplicates are not noticed"
            )
        for other in self.disk.names(self.folder):
            if NAME.fullmatch(other) and other >= bad.name:
                self.disk.remove(self.folder / other)
        self.disk.sync_folder(self.folder)
        self._latest = max((run.newest for run in kept), default=0)
        return start


def _covering(folder: Path, disk: Disk) -> list[Path]:
    """The runs by seq, less those that a crash left beside the run they were merged into."""
    found = [(int(m[1]), int(m[2]), m.string) for m in map(NAME.fullmatch, disk.names(folder)) if m]
    kept, stop = [], -1
    for start, end, name in sorted(found, key=lambda run: (run[0], -run[1])):
        if start >= stop:
            kept.append(folder / name)
            stop = end
        else:
            disk.remove(folder / name)
    if len(kept) < len(found):
        disk.sync_folder(folder)
    return kept
