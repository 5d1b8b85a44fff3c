"""Features of whole files on several cores: one thread reads and writes, the others compute (see `features.lanes`).

Only features: rules do not run, so what a rule writes to a list is not seen. Where a feature reads such a list, `alone` says why one
thread has to do it all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from shopward.batch import Batch
from shopward.decide import Engine
from shopward.features.lanes import AHEAD, Begun, Lanes
from shopward.features.live import Block, Mode, Windows

if TYPE_CHECKING:
    from shopward.declare.rulebook import Rulebook

SIZE = 1 << 13  # events of a batch: threads seldom wait for each other, and its columns stay in the cache


def alone(rulebook: Rulebook) -> str | None:
    """Why the features of a rulebook cannot be computed on several threads; None where they can.

    >>> from shopward import Rulebook
    >>> alone(Rulebook.default()) is None
    True
    """
    written = {w.list: r.id for r in rulebook.rules.values() if r.state == "live" for w in r.writes}
    for f in rulebook.features.values():
        for name in sorted(written.keys() & set(f.lists)):
            return (
                f"feature `{f.name}` reads the list `{name}`, which rule `{written[name]}` writes: an event's features then depend "
                "on what was decided just before it"
            )
    return None


class Backfill(Engine):
    """An engine that computes features on `threads` threads, from empty state."""

    def __init__(self, rulebook: Rulebook, threads: int, *, mode: Mode = "compiled", seed: bytes | None = None):
        self.threads = threads
        super().__init__(rulebook, mode=mode, seed=seed)

    def _windows(self) -> Windows:
        self.lanes = Lanes(self.rulebook, self.seed, self.threads, self.mode)
        return self.lanes.back

    def computed(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Block]]:
        """Every batch with its features, in order; texts of string features can be asked for until the next one is taken."""
        begun: deque[Begun] = deque()
        for batch in batches:
            self.lanes.clear()
            self.row_features.before(batch)
            begun.append(self.lanes.begin(batch))
            if len(begun) > AHEAD:
                yield self._finished(begun.popleft())
        while begun:
            yield self._finished(begun.popleft())

    def _finished(self, begun: Begun) -> tuple[Batch, Block]:
        block = self.lanes.finish(begun)
        self.row_features.after(begun.batch, block)
        self.seq = begun.batch.seq0 + begun.batch.n
        return begun.batch, block

    def close(self) -> None:
        self.lanes.close()
        super().close()
