"""The memory of the window engine: ids of keys and values, one row per key, rings of slots, indexes of distinct values."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from shopward.features import lib
from shopward.features.arena import Area, Block, zeros
from shopward.features.codegen import Kernel, RingNames
from shopward.features.plan import Family

FIRST_TABLE = 1024
FIRST_INDEX = 256
HEADER = 40  # words of a ring arena's header: first unused slot, size, free lists


class Ids:
    """One domain: small numbers for keys or values, and what is needed to recycle them."""

    def __init__(self, name: str, columns: int, seed: bytes):
        self.name, self.columns = name, columns
        self.known = Area(f"the ids of {name}", 8 * lib.IDENTITY)
        self.free = Area(f"the free ids of {name}", 4, np.uint32, reserve=2 << 30)
        self.header = np.zeros(lib.DOMAIN_HEADER, np.int64)
        self.header[lib.NEXT] = 1
        self.header[lib.SEED] = int.from_bytes(hashlib.sha256(seed + b"numbers").digest()[:8], "little", signed=True)
        self.horizon: int | None = None
        self.bounded = True  # no event brings more ids than there are columns
        self.rows: list[Area] = []  # of the families keyed by this domain
        self.new_table(FIRST_TABLE)
        self.texts: dict[tuple[int, int], str] = {}

    def new_table(self, size: int) -> np.ndarray:
        self.table = zeros(size)
        self.header[lib.MASK] = size - 1
        self.header[lib.LIMIT] = size * 5 // 8
        return self.table

    def measure_room(self) -> None:
        areas = [self.known, self.free, *self.rows]
        self.header[lib.ROOM] = min(min(a.room for a in areas), lib.VALUE)

    def settle(self) -> None:
        """Large pages for what has grown."""
        for area in (self.known, self.free, *self.rows):
            area.settle(self.count)

    @property
    def count(self) -> int:
        """One more than the largest id ever given."""
        return int(self.header[lib.NEXT])


class RingMemory:
    """Slots of one ring of all keys, and the indexes for its distinct counts."""

    def __init__(self, names: RingNames, family: str):
        self.names = names
        self.slots = Area(f"the events kept per {family}", 4 * names.stride, np.uint32)
        self.header = np.zeros(HEADER, np.int64)
        self.indexes: dict[str, np.ndarray] = {}
        self.index_headers: dict[str, np.ndarray] = {}
        for value, _ in names.distinct_fields():
            self.index_headers[value.field] = np.zeros(4, np.int64)
            self.new_index(value.field, FIRST_INDEX)
        self.measure_room()

    def new_index(self, name: str, size: int) -> None:
        self.indexes[name] = zeros(2 * size)
        self.index_headers[name][:3] = (0, size - 1, size * 5 // 8)

    def settle(self) -> None:
        """Large pages for what has grown."""
        self.slots.settle(int(self.header[0]))

    def measure_room(self) -> None:
        self.header[1] = min(self.slots.room, lib.M32)


class FamilyMemory:
    """The rows of one family and its rings."""

    def __init__(self, family: Family, kernel: Kernel):
        self.family, self.kernel = family, kernel
        self.rows = Area(f"the rows of {family.name}", 8 * kernel.layout.words)
        self.rings = {r.j: RingMemory(r, family.name) for r in kernel.rings if r.ring.stored}
        self.resume = np.zeros(1, np.int64)
        self._described: tuple[tuple, Block] | None = None

    def descriptor(self, compiled: bool) -> Block:
        """How to walk over a row's rings (see `lib.clear_row`); the same one until memory has moved."""
        held = (
            compiled,
            self.rows.array,
            *(x for m in self.rings.values() for x in (m.slots.array, *m.indexes.values())),
        )
        if self._described is None or any(a is not b for a, b in zip(held, self._described[0], strict=True)):
            self._described = held, self._descriptor(compiled)
        return self._described[1]

    def _descriptor(self, compiled: bool) -> Block:
        parts: list[Any] = [self.rows.array, self.kernel.layout.words, len(self.rings), 0]
        at = self.kernel.layout.at
        for memory in self.rings.values():
            r = memory.names
            fields = r.distinct_fields()
            parts += [memory.slots.array, memory.header, r.stride]
            parts += [at(r.base), at(r.cap), at(r.oldest), at(r.tail), len(fields)]
            for value, window in fields:
                parts += [r.lanes[value], memory.indexes[value.field], memory.index_headers[value.field]]
                parts += [at(r.head(window)), at(r.end)]
        block = Block(len(parts), compiled)
        for slot, part in enumerate(parts):
            block.set(slot, part)
        return block
