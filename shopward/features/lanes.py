"""The windows of one stream on several cores of one process, bit for bit what one core gives.

    batch -> front: which filters take which event
          -> lanes: the families of features, dealt out to threads; each thread takes all batches in order
          -> back: ratios and expressions, when all lanes are through with a batch

Families share nothing but the numbers of keys and values, and every lane numbers those that it reads for itself. So lanes never wait
for each other, and while they compute, the next batches are read.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shopward.batch import Batch
from shopward.features.columns import Block
from shopward.features.live import Mode, Stage, Windows
from shopward.features.neighbours import Neighbours
from shopward.features.plan import Family, Plan
from shopward.features.shards import Derived, domains_read, is_derived, is_filter

if TYPE_CHECKING:
    from shopward.declare.rulebook import Rulebook

AHEAD = 3  # batches that may be on their way
NUMBERING = 3  # what numbering the keys of one kind costs, where a feature costs 1

Texts = dict[str, tuple[list[str | None], np.ndarray]]  # string feature -> its values and their hashes


def deal(plan: Plan, lanes: int) -> list[list[Family]]:
    """The families of a plan in at most so many lanes that cost about the same; a lane numbers each kind of key only once.

    The heaviest comes first, each goes where the lane is then the lightest. No lane is empty.
    """
    dealt: list[list[Family]] = [[] for _ in range(lanes)]
    for family in sorted(plan.families, key=lambda f: -_cost(plan, [f])):
        min(dealt, key=lambda lane: _cost(plan, [*lane, family])).append(family)
    return [lane for lane in dealt if lane]


def _cost(plan: Plan, families: list[Family]) -> int:
    numbered: set[int] = set().union(*(domains_read(plan, f) for f in families))
    return NUMBERING * len(numbered) + sum(len(f.reads) + len(f.sequences) for f in families)


class Lane:
    """The windows of some families, on a thread of their own."""

    def __init__(self, rulebook: Rulebook, seed: bytes, plan: Plan, families: list[Family], mode: Mode):
        self.families = {(f.name, f.domain) for f in families}
        self.numbered = set().union(*(domains_read(plan, f) for f in families))
        self.features = {r.feature.name for f in families for r in f.reads}
        self.shown = [name for name in plan.features if name in self.features and plan.features[name].type == "string"]
        self.windows = Windows.part(rulebook, seed, self._runs, mode=mode)
        self.windows.row_features = []  # the front copies them
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="lane")

    def _runs(self, stage: Stage) -> bool:
        """Whether a stage of the whole engine belongs to this lane."""
        if stage.name == "compose":
            return stage.slots[0][1] in self.numbered
        if stage.name == "name_values":
            return stage.slots[1][1] in self.features
        family = getattr(stage.owner, "family", None)
        if family is not None:
            return (family.name, family.domain) in self.families
        return any(isinstance(what, tuple) and what[0] == "known" and what[1] in self.numbered for what in stage.slots)

    def start(self, batch: Batch, block: Block, masks: dict[tuple, np.ndarray]) -> Future[Texts]:
        """Compute a batch after those before it; what the future holds are the values of string features."""
        return self.thread.submit(self._compute, batch, block, masks)

    def _compute(self, batch: Batch, block: Block, masks: dict[tuple, np.ndarray]) -> Texts:
        windows = self.windows
        windows.forget_old_texts()
        windows.step(batch, block, masks)
        return {name: (windows.text(name, block.hashes[name]), block.hashes[name]) for name in self.shown}


@dataclass(slots=True)
class Begun:
    """A batch that is on its way through the lanes."""

    batch: Batch
    block: Block
    texts: dict  # of string features, as the back keeps them
    masks: dict[tuple, np.ndarray]  # which filters take which event
    parts: list[Future[Texts]]


class Lanes:
    """All windows of a rulebook on up to `threads` threads.

    For every batch call `clear()`, then `begin(batch)`; `finish` takes what `begin` gave, in the same order, up to AHEAD later.
    `back` answers for the texts of the batch that was finished last.
    """

    def __init__(self, rulebook: Rulebook, seed: bytes, threads: int, mode: Mode = "compiled"):
        self.front = Windows.part(rulebook, seed, is_filter, mode=mode)
        self.back = Derived.part(rulebook, seed, is_derived, mode=mode)
        plan = self.front.plan
        self.back.neighbours = Neighbours(plan) if plan.webs else None
        self.front._outputs.keep = AHEAD + 3
        self.lanes = [Lane(rulebook, seed, plan, families, mode) for families in deal(plan, threads)]

    def clear(self) -> None:
        """Before the features that need only the event are computed for the next batch: their texts are kept apart."""
        self.back.forget_row_texts()

    def begin(self, batch: Batch) -> Begun:
        """Send a batch to all lanes."""
        front = self.front
        block = front.block(batch)
        found = front.step(batch, block, {}).found
        masks = {what: column[: batch.n].copy() for what, column in found.items() if what[0] == "mask"}
        return Begun(batch, block, self.back.row_texts, masks, [lane.start(batch, block, masks) for lane in self.lanes])

    def finish(self, begun: Begun) -> Block:
        """Wait for the lanes, then derive. Raises what a lane raised: StoreFull."""
        self.back.row_texts = begun.texts
        for part in begun.parts:
            for name, (texts, pairs) in part.result().items():
                self.back.keep_text(name, texts, pairs)
        if self.back.stages or self.back.neighbours:
            self.back.step(begun.batch, begun.block, begun.masks)
        return begun.block

    def close(self) -> None:
        """Stop all threads; what is on its way is dropped."""
        for lane in self.lanes:
            lane.thread.shutdown(wait=True, cancel_futures=True)


__all__ = ["AHEAD", "Begun", "Lane", "Lanes", "deal"]
