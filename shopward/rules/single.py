"""One event at a time, fast: a Python function written for one rulebook, from a dict to a Decision.

The function checks and hashes just the fields the rulebook reads, writes them into a batch of one, runs the window kernels, and
tests the rules of the event's type. A record that is unusual in any way (nested, other types, needs conversion) is first brought
to the usual form by `normalise`, which also says what is wrong with it.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from shopward.batch import LABEL, NULL, Batch
from shopward.decision import Decision
from shopward.declare.types import Field
from shopward.errors import BadEvent
from shopward.event import MAX_TEXT
from shopward.expr import to_python
from shopward.expr.nodes import Name
from shopward.hashing import siphash128
from shopward.ingest import normalise
from shopward.rules.act import ALLOW, CONTROL, STRENGTH, TREATED, share, strongest
from shopward.rules.compile import define, explain, subject_roles, walk

if TYPE_CHECKING:
    from shopward.decide import Engine

MAX_CACHED = 1 << 16      # texts whose hashes are kept
MAX_MINOR = 10**12
NAN = float("nan")


class Hashes(dict):
    """text -> its two hash words; computes what it does not hold and forgets everything when full."""

    def __init__(self, seed: bytes):
        super().__init__({None: (0, 0)})
        self._seed = seed

    def __missing__(self, text: str) -> tuple[int, int]:
        raw = text.encode()
        if len(raw) > MAX_TEXT:
            raise BadEvent(f"a text longer than {MAX_TEXT} bytes")
        pair = siphash128(raw, self._seed)
        if len(self) >= MAX_CACHED:
            self.clear()
            self[None] = (0, 0)
        self[text] = pair
        return pair


def build(engine: Engine) -> Callable[[dict], Decision]:
    """The function `decide(event)` of an engine without a data folder."""
    return _Builder(engine).function()


class _Builder:
    """Writes the function. Lanes of the batch of one are 8 bytes each: t, ts, type, numbers, minor units, hash words."""

    def __init__(self, engine: Engine):
        self.engine, self.schema, self.rules = engine, engine.schema, engine.rules
        self.needs, self.fields = engine.needs, engine.schema.fields
        self.row_features = engine.row_features.all
        self.numbers = sorted((self.needs.numbers | {f.name for f in self.row_features if not f.text}) - {"ts"})
        self.minor = sorted(self.needs.minor)
        self.texts = sorted((self.needs.hashes | {f.name for f in self.row_features if f.text}) - {"type"})
        self.lists = sorted(self.needs.lists)

    def function(self) -> Callable[[dict], Decision]:
        batch, buffer, pack = self._batch()
        bound = self.engine.windows.bind(batch)
        env = self._env(batch, bound)
        step = define(self._source(), "step", {**env, "BUFFER": buffer, "PACK": pack, "RUN": bound.run, "F": bound.values})
        return self._decide(step)

    def _batch(self) -> tuple[Batch, memoryview, Callable]:
        """A batch of one whose columns all lie in one buffer, and the struct that fills it."""
        lanes = 3 + len(self.numbers) + len(self.minor) + 2 * len(self.texts)
        memory = np.zeros(lanes, np.int64)
        batch = Batch(1, 0, memory[0:1], memory[1:2], memory[2:3].view(np.int16)[:1], [""])
        at = 3
        for name in self.numbers:
            batch.numbers[name] = memory[at : at + 1].view(np.float64)
            at += 1
        for name in self.minor:
            batch.minor[name] = memory[at : at + 1]
            at += 1
        for name in self.texts:
            batch.hashes[name] = memory[at : at + 2].reshape(1, 2)
            at += 2
        layout = struct.Struct(f"=3q{len(self.numbers)}d{len(self.minor) + 2 * len(self.texts)}q")
        return batch, memoryview(memory).cast("B"), layout.pack_into
