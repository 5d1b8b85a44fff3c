"""An event id counts once in a run over files: a file that was exported twice is decided once, and the second copy is counted.

Exact, whatever the size: the newest ids are in memory, older ones in a temporary folder (48 bytes each), see `store.dedup`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from shopward.ingest.chunk import Chunk
from shopward.ingest.texts import MadeIds
from shopward.store.dedup import EVER, NEW, TABLE_ROWS, Dedup
from shopward.store.files import REAL

_ODD = np.int64(-7046029254386353131)  # 2**64 / golden ratio, as a signed word


class Unique:
    """Remembers the ids of one run.

    repeated    events whose id came before; they are left out
    conflicts   those of them that differ in something the rulebook reads
    """

    def __init__(self, seed: bytes, table_rows: int = TABLE_ROWS):
        self.seed, self.repeated = seed, 0
        self._folder = TemporaryDirectory(prefix="shopward-ids-")
        self._known = Dedup(Path(self._folder.name), REAL, lambda: EVER, background=True, table_rows=table_rows)
        self._count = 0

    @property
    def conflicts(self) -> int:
        return self._known.conflicts

    def of(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """The chunks without the events that came before."""
        for chunk in chunks:
            rows = self._fresh(chunk)
            if rows is None:
                yield chunk
            elif len(rows):
                yield chunk.take(rows)

    def close(self) -> None:
        self._known.close()
        self._folder.cleanup()

    def __enter__(self) -> Unique:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _fresh(self, chunk: Chunk) -> np.ndarray | None:
        """The rows to keep; None for all."""
        if isinstance(chunk.ids, MadeIds):  # named after file and row: no two are the same
            return None
        always = np.zeros(chunk.n, np.int64)
        status, _ = self._known.check(chunk.ids.hashes(self.seed), _content(chunk), always, self._count, EVER)
        rows = np.flatnonzero(status == NEW)
        self._count += len(rows)
        self.repeated += chunk.n - len(rows)
        return None if len(rows) == chunk.n else rows


def _content(chunk: Chunk) -> np.ndarray:
    """A hash of every column that somebody reads (of lists: how long they are)."""
    found = chunk.ts * _ODD + chunk.types
    for name in sorted(chunk.numbers):
        found = found * _ODD ^ chunk.numbers[name].view(np.int64)
    for name in sorted(chunk.minor):
        found = found * _ODD ^ chunk.minor[name]
    for name in sorted(chunk.hashes):
        if name != "event_id":
            found = found * _ODD ^ chunk.hashes[name][:, 0]
    for name in sorted(chunk.lists):
        found = found * _ODD ^ np.diff(chunk.lists[name][0])
    return found
