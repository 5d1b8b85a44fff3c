"""The window engine as the rest of Shopward sees it: batches in, one number per event and declared feature out.

`Windows` owns all state (ids of keys, one row per key, rings of slots) and runs the generated kernels over it: compiled when they
are there, interpreted until then, on the same memory. What comes out depends on the order of events alone, never on how they were
cut into batches.
"""

from __future__ import annotations

import hashlib
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from typing import Any, Literal

import numpy as np

from shopward.batch import LATENESS_MS, NULL, SKEW_MS, Batch, Needs
from shopward.errors import CorruptStore, StoreFull
from shopward.expr.compile import to_python
from shopward.expr.functions import runtime
from shopward.expr.nodes import Expr
from shopward.features import lib
from shopward.features.arena import Area, address, cell
from shopward.features.arena import Block as KernelBlock
from shopward.features.codegen import Kernel, RingNames, derived_kernel, family_kernel, filter_kernel
from shopward.features.compile import Background, cache_folder, is_compiled, kernel_file, load
from shopward.features.plan import Family, Plan, Value, make_plan
from shopward.hashing import seed_words, siphash128

SWEEP = 4096  # idle keys are looked for whenever the sequence number passes a multiple of this
SWEEP_PACE = 2  # ids looked at per event and column at most: a round then takes half as many events as there are ids
ROUNDS = 4  # full rounds of looking while a domain's longest window passes
FIRST_TABLE = 1024
FIRST_INDEX = 256
HEADER = 40  # words of a ring arena's header: first unused slot, size, free lists
FORMAT = 1  # of snapshots

Mode = Literal["auto", "compiled", "interpreted"]


@dataclass(slots=True)
class Block:
    """The features of a batch: values[k, i] is feature `names[k]` at event i (NaN: null).

    hashes: string feature -> int64[n, 2], as in a Batch. Its row in `values` says only whether there is a value.
    """

    values: np.ndarray
    hashes: dict[str, np.ndarray] = field(default_factory=dict)


class Outputs:
    """Arrays for results, used again once nobody holds them: fresh memory costs more than the features written into it."""

    KEEP = 4

    def __init__(self) -> None:
        self.kept: list[np.ndarray] = []

    def take(self, features: int, n: int) -> np.ndarray:
        """An uninitialised float64[features, n]."""
        size = features * n
        for array in self.kept:
            # Three references are ours: the list, the loop and the call; a view of it anywhere would be a fourth.
            if len(array) >= size and sys.getrefcount(array) <= 3:
                return array[:size].reshape(features, n)
        array = np.empty(max(size, 1))
        self.kept = [array, *self.kept[: self.KEEP - 1]]
        return array[:size].reshape(features, n)


class Scratch:
    """Columns that only live inside one update, kept from one to the next."""

    def __init__(self) -> None:
        self.kept: dict[tuple, np.ndarray] = {}

    def take(self, what: tuple, size: int, dtype: type) -> np.ndarray:
        array = self.kept.get(what)
        if array is None or len(array) < size:
            array = self.kept[what] = np.empty(max(size, 1), dtype)
        return array


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
        self.table = np.zeros(size, np.int64)
        self.header[lib.MASK] = size - 1
        self.header[lib.LIMIT] = size * 5 // 8
        return self.table

    def measure_room(self) -> None:
        areas = [self.known, self.free, *self.rows]
        self.header[lib.ROOM] = min(min(a.room for a in areas), lib.VALUE)

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
        self.indexes[name] = np.zeros(2 * size, np.int64)
        self.index_headers[name][:3] = (0, size - 1, size * 5 // 8)

    def measure_room(self) -> None:
        self.header[1] = min(self.slots.room, lib.M32)


class FamilyMemory:
    def __init__(self, family: Family, kernel: Kernel):
        self.family, self.kernel = family, kernel
        self.rows = Area(f"the rows of {family.name}", 8 * kernel.layout.words)
        self.rings = {r.j: RingMemory(r, family.name) for r in kernel.rings if r.ring.stored}
        self.resume = np.zeros(1, np.int64)

    def descriptor(self, compiled: bool) -> KernelBlock:
        """How to walk over a row's rings (see `lib.clear_row`)."""
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
        block = KernelBlock(len(parts), compiled)
        for slot, part in enumerate(parts):
            block.set(slot, part)
        return block


@dataclass(slots=True)
class Stage:
    """One step of an update: a kernel, what it works on, and where that comes from."""

    name: str
    slots: list[tuple]
    block: KernelBlock
    plain: Callable[[Any, int, int], int]
    address: int = 0
    kernel: Kernel | None = None
    owner: Any = None
    columns: list[tuple[int, tuple]] = field(default_factory=list)  # what changes with every batch
    outs: list[tuple[int, int]] = field(default_factory=list)  # slots that point at a row of the output


class Windows:
    """All features of a rulebook, exact, one update at a time.

    mode "interpreted" never compiles, "compiled" compiles or loads everything now, "auto" starts with whatever is there and
    switches when a background process has compiled the rest.

    >>> from shopward.declare.types import Feature, Field, Schema
    >>> schema = Schema(("label", "login"), {"device": Field("device", "string", entity="device")})
    >>> features = {"device_events_1h": Feature("device_events_1h", ("device",), "count", over=3_600_000)}
    >>> windows = Windows.of(features, schema, bytes(16), mode="interpreted")
    >>> key = np.array([[1, 2], [1, 2], [0, 0]])
    >>> t = np.array([0, 1000, 2000])
    >>> batch = Batch(3, 0, t, t, np.ones(3, np.int16), ["a", "b", "c"], hashes={"device": key})
    >>> windows.update(batch).values.tolist()
    [[1.0, 2.0, nan]]
    """

    def __init__(self, rulebook: Any, seed: bytes, *, mode: Mode = "auto", cache_dir: Path | str | None = None):
        policy = getattr(rulebook, "policy", None)
        slack = (policy.lateness_ms + policy.skew_ms) if policy else LATENESS_MS + SKEW_MS
        self._build(rulebook.features, rulebook.schema, seed, mode, cache_dir, slack)

    @classmethod
    def of(
        cls, features: dict, schema: Any, seed: bytes, *, mode: Mode = "auto", cache_dir: Path | str | None = None
    ) -> Windows:
        """The same from features and a schema alone."""
        self = cls.__new__(cls)
        self._build(features, schema, seed, mode, cache_dir, LATENESS_MS + SKEW_MS)
        return self

    def _build(
        self, features: dict, schema: Any, seed: bytes, mode: Mode, cache_dir: Path | str | None, slack: int
    ) -> None:
        self.plan: Plan = make_plan(features, schema)
        self.names: list[str] = list(features)
        self.row_features: list[str] = self.plan.row_features
        self.needs: Needs = _needs(self.plan)
        self.seed, self.mode, self.slack = seed, mode, slack
        self.swept = 0
        self.version = 0  # changes whenever blocks were rebuilt
        self.placed: Columns | None = None  # whose columns the blocks point at
        self.fresh: dict[int, np.ndarray] = {}
        self._outputs, self.scratch = Outputs(), Scratch()
        self._addresses: dict[tuple, tuple[Any, int]] = {}
        self._row_texts: dict[str, dict[tuple[int, int], str]] = {}
        self._make_state()
        self._make_stages()
        self.compiled = False
        self.background: Background | None = None
        self._files = (
            [kernel_file(s.kernel, cache_folder(cache_dir)) for s in self._generated() if s.kernel is not None]
            if mode != "interpreted"
            else []
        )
        if mode == "compiled" or (mode == "auto" and all(map(is_compiled, self._files))):
            self._switch()
        elif mode == "auto":
            self.background = Background([f for f in dict.fromkeys(self._files) if not is_compiled(f)])

    # --- building

    def _make_state(self) -> None:
        plan = self.plan
        self.ids = [Ids(d.name, len(d.fields) if d.kind == "hash" else 1, self.seed) for d in plan.domains]
        for ids, horizon in zip(self.ids, plan.horizons(), strict=True):
            ids.horizon = None if horizon is None else horizon + self.slack
        for ids, domain in zip(self.ids, plan.domains, strict=True):
            ids.bounded = domain.kind != "list"
        self.families = [FamilyMemory(f, family_kernel(plan, f)) for f in plan.families]
        for memory in self.families:
            self.ids[memory.family.domain].rows.append(memory.rows)
        for ids in self.ids:
            ids.measure_room()

    def _make_stages(self) -> None:
        plan = self.plan
        self.stages: list[Stage] = []
        self._text_features: dict[str, int] = {}
        filters = filter_kernel(plan)
        self._add_generated(filters, None)
        for d, domain in enumerate(plan.domains):
            if domain.kind == "composite":
                self._add(
                    "compose",
                    [("composed", d), len(domain.fields), *self._words(), *(("hash", f) for f in domain.fields)],
                )
        for d in range(len(plan.domains)):
            self._add_ids(d)
        for memory in self.families:
            self._add_generated(memory.kernel, memory)
        for memory in self.families:
            for read in memory.family.reads:
                if read.feature.type == "string" and read.value is not None:
                    d = plan.value_domain(read.value)
                    self._text_features[read.feature.name] = d
                    self._add("name_values", [("known", d), ("out", read.feature.name), ("names", read.feature.name)])
        derived = derived_kernel(plan)
        if derived:
            self._add_generated(derived, None)
        self.kept = set(self._text_features.values())
        self._join_blocks()
        self.rowwise = {
            bit: _row_test(plan, f.where)
            for bit, f in enumerate(plan.filters)
            if f.where is not None and f.where.rowwise
        }

    def _join_blocks(self) -> None:
        """Lay all stages' blocks side by side, so that a batch's columns are set with two numpy assignments."""
        size = sum(len(s.slots) + 1 for s in self.stages)
        self.words = np.zeros(size, np.int64)
        at, columns, outs = 0, [], []
        for stage in self.stages:
            stage.block.words = self.words[at : at + len(stage.slots)]
            columns += [(at + slot, what) for slot, what in stage.columns]
            outs += [(at + slot, row) for slot, row in stage.outs]
            at += len(stage.slots) + 1
        self.wanted = list(dict.fromkeys(what for _, what in columns))
        self.column_words = np.array([at for at, _ in columns], np.int64)
        self.column_of = np.array([self.wanted.index(what) for _, what in columns], np.int64)
        self.out_words = np.array([at for at, _ in outs], np.int64)
        self.out_rows = np.array([row for _, row in outs], np.int64)

    def _words(self) -> list[int]:
        return [int(np.uint64(w).astype(np.int64)) for w in seed_words(self.seed)]

    def _add_ids(self, d: int) -> None:
        domain, ids = self.plan.domains[d], self.ids[d]
        state: list[Any] = [("known", d), ("table", d), ("domain header", d), ("free ids", d), ("t",)]
        if domain.kind == "labels":
            judged = ("hash", "label_event")
            self._add("replaced", [*state, ("replaced",), 0, ("seq0",), 0, ("types",), judged], ids)
        elif domain.kind == "list":
            name = domain.fields[0]
            self._add("assign_lists", [*state, ("ids", d), 0, 1, 0, 0, ("offsets", name), ("elements", name)], ids)
        elif domain.kind in ("number", "minor"):
            minor = domain.kind == "minor"
            column = (domain.kind, domain.fields[0])
            self._add("assign_numbers", [*state, ("ids", d), ("n",), 1, 0, int(minor), column], ids)
        else:
            columns = [("composed", d)] if domain.kind == "composite" else [("hash", f) for f in domain.fields]
            keep = int(any(self.plan.value_domain(v) == d for v in self._text_values()))
            self._add("assign", [*state, ("ids", d), ("n",), len(columns), ("fresh", d), keep, *columns], ids)

    def _text_values(self) -> list[Value]:
        return [
            r.value for f in self.plan.families for r in f.reads if r.feature.type == "string" and r.value is not None
        ]

    def _add(self, name: str, slots: list[Any], owner: Any = None) -> None:
        stage = Stage(name, slots, KernelBlock(len(slots), False), getattr(lib, name), owner=owner)
        self._add_stage(stage)

    def _add_generated(self, kernel: Kernel, owner: Any) -> None:
        space = {**runtime(), **vars(lib), "nan": lib.NAN, "sqrt": sqrt}
        exec(compile(kernel.plain(), f"<kernel {kernel.name}>", "exec"), space)
        stage = Stage(
            kernel.name,
            list(kernel.slots),
            KernelBlock(len(kernel.slots), False),
            space["run"],
            kernel=kernel,
            owner=owner,
        )
        self._add_stage(stage)

    def _add_stage(self, stage: Stage) -> None:
        for slot, what in enumerate(stage.slots):
            if isinstance(what, tuple) and what[0] == "out":
                stage.outs.append((slot, self.names.index(what[1])))
            elif isinstance(what, tuple) and what[0] in BATCH_SLOTS:
                stage.columns.append((slot, what))
        self._place(stage)
        self.stages.append(stage)

    def _place(self, stage: Stage) -> None:
        """Point a stage's block at the state it works on."""
        for slot, what in enumerate(stage.slots):
            if not isinstance(what, tuple):
                stage.block.set(slot, what)
            elif what[0] not in BATCH_SLOTS:
                stage.block.set(slot, self._state(stage, what))

    def _state(self, stage: Stage, what: tuple) -> np.ndarray:
        kind, *names = what
        match kind:
            case "known":
                return self.ids[names[0]].known.array
            case "table":
                return self.ids[names[0]].table
            case "domain header":
                return self.ids[names[0]].header
            case "free ids":
                return self.ids[names[0]].free.array
            case "rows":
                return stage.owner.rows.array
            case "resume":
                return stage.owner.resume
            case "slots":
                return stage.owner.rings[names[0]].slots.array
            case "arena":
                return stage.owner.rings[names[0]].header
            case "index":
                return stage.owner.rings[names[0]].indexes[names[1]]
            case "index header":
                return stage.owner.rings[names[0]].index_headers[names[1]]
            case "constants":
                assert stage.kernel is not None
                return np.array([siphash128(text.encode(), self.seed) for text in stage.kernel.constants], np.int64)
        raise AssertionError(f"nothing known about {what}")

    def _generated(self) -> list[Stage]:
        return [s for s in self.stages if s.kernel is not None]

    # --- compiled and interpreted

    def _switch(self) -> None:
        """From interpreted to compiled kernels; state stays as it is."""
        from shopward.features import lib_jit

        for stage, path in zip(self._generated(), self._files, strict=True):
            stage.address = load(path).entry.address
        for stage in self.stages:
            if stage.kernel is None:
                stage.address = lib_jit.stage_address(stage.name)
            stage.block.switch(True)
        self.drive = lib_jit.drive
        table = [len(self.stages)]
        for stage in self.stages:
            table += [stage.address, _at(stage.block.words)]
        self._table = np.array(table, np.int64)
        self.table_at = self._table.__array_interface__["data"][0]
        self.compiled = True
        self.version += 1

    def look_for_kernels(self) -> None:
        """Switch to the compiled kernels as soon as they are there."""
        if self.background is not None and self.background.done():
            failed, self.background = self.background.failed(), None
            if failed:
                warnings.warn(f"kernels could not be compiled, features stay interpreted: {failed}", stacklevel=3)
            else:
                self._switch()

    def wait_compiled(self) -> None:
        """Return when the compiled kernels are in use."""
        if not self.compiled and self.mode != "interpreted":
            if self.background is not None:
                self.background.wait()
                self.background = None
            self._switch()

    # --- updating

    def update(self, batch: Batch) -> Block:
        """The features of every event of the batch, as of that event; state moves on behind them."""
        self.look_for_kernels()
        out = Block(self._outputs.take(len(self.names), batch.n))
        Columns(self, batch, out).place()
        self._run(batch.seq0, batch.n, batch)
        return out

    def address_of(self, what: tuple, value: Any) -> int:
        """The address of a column; scratch columns are mostly where they were the last time."""
        known = self._addresses.get(what)
        if known is None or known[0] is not value:
            known = self._addresses[what] = (value, address(value))
        return known[1]

    def bind(self, batch: Batch) -> Bound:
        """A fixed batch of one event whose columns the caller fills before every `run()`."""
        return Bound(self, batch)

    def _run(self, seq0: int, n: int, batch: Batch) -> None:
        lo = 0
        while lo < n:
            if (seq0 + lo) // SWEEP > self.swept:
                self.sweep((seq0 + lo) // SWEEP)
            hi = min(n, lo + SWEEP - (seq0 + lo) % SWEEP)
            self.rows(lo, hi)
            self.keep_texts(batch)
            lo = hi

    def rows(self, lo: int, hi: int) -> None:
        """All stages over some rows; where one runs out of space it gets more and goes on."""
        stage, row, tries = 0, lo, 0
        while True:
            stopped = (
                self.drive(self.table_at, stage, row, lo, hi) if self.compiled else self._interpret(stage, row, lo, hi)
            )
            if stopped == -1:
                return
            tries = tries + 1 if (stage, row) == (stopped >> 32, stopped & lib.M32) else 0
            stage, row = stopped >> 32, stopped & lib.M32
            self._make_room(self.stages[stage], tries)

    def _interpret(self, first: int, at: int, lo: int, hi: int) -> int:
        for s in range(first, len(self.stages)):
            stage = self.stages[s]
            row = stage.plain(stage.block.cells, at, hi)
            if row != hi:
                return s << 32 | row
            at = lo
        return -1

    def _make_room(self, stage: Stage, tries: int) -> None:
        if isinstance(stage.owner, Ids):
            self._more_ids(stage.owner, tries)
        else:
            for memory in stage.owner.rings.values():
                self._more_slots(memory, tries)
        self._place(stage)

    def _more_ids(self, ids: Ids, tries: int) -> None:
        header, need = ids.header, 16 << tries if tries else ids.columns
        if header[lib.LIVE] + need > header[lib.LIMIT]:
            old, old_mask = ids.table, int(header[lib.MASK])
            new = ids.new_table(2 * len(old))
            if self.compiled:
                from shopward.features.lib_jit import table_rehash_at

                table_rehash_at(_at(old), old_mask, _at(new), len(new) - 1)
            else:
                lib.table_rehash(memoryview(old), old_mask, memoryview(new), len(new) - 1)
        if header[lib.NEXT] + need > header[lib.ROOM]:
            if header[lib.NEXT] + need > lib.VALUE:
                raise StoreFull(f"more than {lib.VALUE:,} different values of {ids.name} are alive")
            for area in (ids.known, ids.free, *ids.rows):
                while area.room < header[lib.NEXT] + need:
                    area.enlarge()
            ids.measure_room()
            self._point_again()

    def _more_slots(self, memory: RingMemory, tries: int) -> None:
        for name, header in memory.index_headers.items():
            if tries or header[0] * 4 > header[2] * 3:
                self._larger_index(memory, name)
        while 3 * memory.header[0] + 4 > memory.header[1]:  # a ring at most doubles, so this always suffices
            if memory.slots.room >= lib.M32:
                raise StoreFull(f"{memory.slots.name}: more than {lib.M32:,} at once")
            memory.slots.enlarge()
            memory.measure_room()

    def _larger_index(self, memory: RingMemory, name: str) -> None:
        old, old_header = memory.indexes[name], memory.index_headers[name].copy()
        memory.new_index(name, len(old))
        new, new_header = memory.indexes[name], memory.index_headers[name]
        if self.compiled:
            from shopward.features.lib_jit import index_rehash_at

            index_rehash_at(_at(old), _at(old_header), _at(new), _at(new_header))
        else:
            lib.index_rehash(*(memoryview(a) for a in (old, old_header, new, new_header)))

    def _point_again(self) -> None:
        for stage in self.stages:
            self._place(stage)

    # --- recycling

    def sweep(self, epoch: int) -> None:
        """Give back what keys hold that cannot matter any more."""
        self.swept = epoch
        for d, ids in enumerate(self.ids):
            steps = self._steps(ids)
            if not steps:
                continue
            stage = next(s for s in self.stages if s.owner is ids)
            families = [m.descriptor(self.compiled) for m in self.families if m.family.domain == d]
            block = KernelBlock(len(families), self.compiled)
            for slot, family in enumerate(families):
                block.set(slot, family)
            if self.compiled:
                from shopward.features.lib_jit import sweep_at

                sweep_at(_at(stage.block.words), _at(block.words), len(families), ids.horizon, steps)
            else:
                lib.sweep(stage.block.cells, block.cells, len(families), ids.horizon, steps)

    def _steps(self, ids: Ids) -> int:
        """How many ids to look at now: ROUNDS full rounds while the longest window passes, or what arriving keys call for."""
        header = ids.header
        clock, past = int(header[lib.CLOCK]), int(header[lib.SWEPT] or header[lib.BEGAN])
        if ids.horizon is None or ids.count == 1 or clock - int(header[lib.BEGAN]) <= ids.horizon:
            return 0
        header[lib.SWEPT] = clock
        by_time = ids.count * ROUNDS * (clock - past) // ids.horizon + 64
        by_keys = SWEEP * SWEEP_PACE * ids.columns
        return min(by_time, by_keys) if ids.bounded else by_time

    # --- texts

    def keep_texts(self, batch: Batch) -> None:
        """Remember the texts of values that string features may show."""
        for d in self.kept:
            ids = self.ids[d]
            fresh = int(ids.header[lib.FRESH])
            if not fresh:
                continue
            ids.header[lib.FRESH] = 0
            name = self.plan.domains[d].fields[0]
            rows = self.fresh[d][1 : 2 * fresh : 2].tolist()
            texts, pairs = batch.text(name), batch.hashes[name]
            for row in rows:
                ids.texts[(int(pairs[row, 0]), int(pairs[row, 1]))] = texts[row]  # type: ignore[assignment]
            if len(ids.texts) > 2 * int(ids.header[lib.LIVE]) + SWEEP:
                self._forget_texts(ids)

    def _forget_texts(self, ids: Ids) -> None:
        known = ids.known.used(ids.count).reshape(-1, lib.IDENTITY)
        live = set(map(tuple, known[known[:, 2] != 0][:, :2].tolist()))
        ids.texts = {pair: text for pair, text in ids.texts.items() if pair in live}

    def text(self, name: str, pairs: np.ndarray) -> list[str | None]:
        """The texts behind a string feature's hashes."""
        kept = (
            self.ids[self._text_features[name]].texts if name in self._text_features else self._row_texts.get(name, {})
        )
        return [kept.get((a, b)) for a, b in np.asarray(pairs).reshape(-1, 2).tolist()]

    def keep_text(self, name: str, values: Sequence[str | None], pairs: np.ndarray) -> None:
        """Remember the texts of a string feature that the caller computes."""
        kept = self._row_texts.setdefault(name, {})
        if len(kept) > 100_000:
            kept.clear()
        for value, pair in zip(values, np.asarray(pairs).reshape(-1, 2).tolist(), strict=True):
            if value is not None:
                kept[tuple(pair)] = value

    # --- snapshots

    def snapshot(self) -> dict[str, np.ndarray]:
        """All state as plain arrays (copies), for `restore`."""
        return {name: array.copy() for name, array in self._parts().items()}

    def _parts(self) -> dict[str, np.ndarray]:
        """The used part of everything that is state. Hash tables are not: they follow from the rest."""
        parts = {"swept": np.array([FORMAT, self.swept], np.int64)}
        for d, ids in enumerate(self.ids):
            key = f"{d}.{self.plan.domains[d].kind}.{ids.name}"
            header = ids.header.copy()
            header[[lib.MASK, lib.LIMIT, lib.ROOM, lib.FRESH]] = 0
            parts[f"ids.{key}.header"] = header
            parts[f"ids.{key}.known"] = ids.known.used(ids.count)
            parts[f"ids.{key}.free"] = ids.free.used(int(ids.header[lib.FREE]))
            if d in self.kept:
                parts[f"ids.{key}.texts"] = self._packed_texts(ids)
        for memory in self.families:
            name = memory.family.name
            parts[f"rows.{name}"] = memory.rows.used(self.ids[memory.family.domain].count)
            for j, ring in memory.rings.items():
                header = ring.header.copy()
                header[1] = 0
                parts[f"ring.{name}.{j}.header"] = header
                parts[f"ring.{name}.{j}.slots"] = ring.slots.used(int(ring.header[0]))
        return parts

    def _packed_texts(self, ids: Ids) -> np.ndarray:
        """The texts of live values, in id order: hashes, length and bytes."""
        known = ids.known.used(ids.count).reshape(-1, lib.IDENTITY)
        rows = [(a, b, ids.texts[(a, b)]) for a, b, seen, _ in known.tolist() if seen and (a, b) in ids.texts]
        data = [text.encode("utf-8", "surrogatepass") for _, _, text in rows]
        table = np.array([(a, b, len(x)) for (a, b, _), x in zip(rows, data, strict=True)], np.int64).reshape(-1, 3)
        head = np.array([len(rows)], np.int64).tobytes() + table.tobytes()
        return np.frombuffer(head + b"".join(data), np.uint8)

    def restore(self, parts: dict[str, np.ndarray]) -> None:
        """Become the state that `snapshot` returned. Raises CorruptStore if it belongs to other features."""
        self._make_state()
        self._make_stages()
        if set(self._parts()) != set(parts) or int(parts["swept"][0]) != FORMAT:
            raise CorruptStore("this snapshot was written for other features: replay the log instead")
        if any(x[lib.SEED] != self.ids[0].header[lib.SEED] for name, x in parts.items() if re.match(r"ids.*\.header$", name)):
            raise CorruptStore("this snapshot was written with another seed: its keys cannot be found again")
        self.swept = int(parts["swept"][1])
        for d, ids in enumerate(self.ids):
            self._restore_ids(ids, f"{d}.{self.plan.domains[d].kind}.{ids.name}", parts)
        for memory in self.families:
            self._restore_rows(memory, parts)
        for stage in self.stages:
            self._place(stage)
        if self.compiled:
            self._switch()
        for memory in self.families:
            self._restore_indexes(memory)
        self._point_again()

    def _restore_ids(self, ids: Ids, key: str, parts: dict[str, np.ndarray]) -> None:
        ids.header[:] = parts[f"ids.{key}.header"]
        known, free = parts[f"ids.{key}.known"], parts[f"ids.{key}.free"]
        while ids.known.room < ids.count or ids.free.room < len(free):
            ids.known.enlarge()
            ids.free.enlarge()
        ids.known.array[: len(known)] = known
        ids.free.array[: len(free)] = free
        size = FIRST_TABLE
        while ids.header[lib.LIVE] * 2 > size:
            size *= 2
        table = ids.new_table(size)
        _fill_table(table, ids.known.used(ids.count).reshape(-1, lib.IDENTITY))
        if f"ids.{key}.texts" in parts:
            ids.texts = _unpacked_texts(parts[f"ids.{key}.texts"])

    def _restore_rows(self, memory: FamilyMemory, parts: dict[str, np.ndarray]) -> None:
        name = memory.family.name
        rows = parts[f"rows.{name}"]
        while len(memory.rows.array) < len(rows):
            memory.rows.enlarge()
        memory.rows.array[: len(rows)] = rows
        for j, ring in memory.rings.items():
            slots = parts[f"ring.{name}.{j}.slots"]
            while len(ring.slots.array) < len(slots):
                ring.slots.enlarge()
            ring.slots.array[: len(slots)] = slots
            ring.header[:] = parts[f"ring.{name}.{j}.header"]
            ring.measure_room()
        self.ids[memory.family.domain].measure_room()

    def _restore_indexes(self, memory: FamilyMemory) -> None:
        """The indexes of distinct values follow from the slots."""
        totals = self._totals(memory)[1:].tolist()
        for ring in memory.rings.values():
            for name in ring.indexes:
                size, entries = FIRST_INDEX, totals.pop(0)
                while entries * 2 > size:
                    size *= 2
                ring.new_index(name, size)
        block, ids = memory.descriptor(self.compiled), self.ids[memory.family.domain].count
        if self.compiled:
            from shopward.features.lib_jit import index_rows_at

            index_rows_at(_at(block.words), ids)
        else:
            lib.index_rows(block.cells, ids)

    def _totals(self, memory: FamilyMemory) -> np.ndarray:
        """Slots in use, and entries per index."""
        out = np.zeros(1 + sum(len(r.indexes) for r in memory.rings.values()), np.int64)
        block, ids = memory.descriptor(self.compiled), self.ids[memory.family.domain].count
        if self.compiled:
            from shopward.features.lib_jit import count_rows_at

            count_rows_at(_at(block.words), ids, _at(out))
        else:
            lib.count_rows(block.cells, ids, memoryview(out))
        return out

    def state_hash(self) -> str:
        """A digest of all state: equal for equal histories, however they were cut into batches."""
        digest = hashlib.sha256()
        for name, part in self._parts().items():
            digest.update(f"{name}:{part.nbytes};".encode())
            digest.update(np.ascontiguousarray(part).view(np.uint8).data)
        return digest.hexdigest()

    def memory(self) -> dict[str, int]:
        """bytes: memory in use, hash tables and free lists included; keys: ids alive; live_events: slots in use, all rings together."""
        used = sum(part.nbytes for part in self._parts().values())
        used += sum(ids.table.nbytes for ids in self.ids)
        used += sum(x.nbytes for m in self.families for r in m.rings.values() for x in r.indexes.values())
        slots = sum(int(self._totals(memory)[0]) for memory in self.families)
        return {"bytes": used, "keys": sum(int(i.header[lib.LIVE]) for i in self.ids), "live_events": slots}

    def close(self) -> None:
        """Stop compiling in the background, if it still does."""
        if self.background is not None:
            self.background.stop()
            self.background = None


class Columns:
    """Points the kernels' blocks at the columns of one batch, at scratch space and at the output."""

    def __init__(self, windows: Windows, batch: Batch, out: Block):
        self.windows, self.batch, self.out = windows, batch, out
        self.found: dict[tuple, Any] = {}
        self.row = {name: k for k, name in enumerate(windows.names)}

    def place(self) -> None:
        """Set every block, and copy in the features that the caller computed."""
        windows = self.windows
        windows.fresh = {}
        for name in windows.row_features:
            self.copy_feature(name)
        for what in windows.wanted:
            if what not in self.found:
                self.found[what] = getattr(self, "get_" + what[0].replace(" ", "_"))(*what[1:])
        if windows.compiled:
            addresses = np.array([windows.address_of(what, self.found[what]) for what in windows.wanted], np.int64)
            windows.words[windows.column_words] = addresses[windows.column_of]
            windows.words[windows.out_words] = address(self.out.values) + windows.out_rows * self.out.values.strides[0]
        else:
            self.place_cells()
        windows.placed = self

    def place_cells(self) -> None:
        cells = {what: cell(value) for what, value in self.found.items()}
        for stage in self.windows.stages:
            for slot, what in stage.columns:
                stage.block.cells[slot] = cells[what]
            for slot, row in stage.outs:
                stage.block.cells[slot] = cell(self.out.values[row])

    def copy_feature(self, name: str) -> None:
        values, batch = self.out.values[self.row[name]], self.batch
        if self.windows.plan.features[name].type == "string":
            pairs = self.get_hash(name)
            self.out.hashes[name] = pairs
            values[:] = np.where(pairs.any(axis=1), 1.0, lib.NAN)
        else:
            values[:] = batch.numbers.get(name, lib.NAN)

    def get_t(self) -> np.ndarray:
        return np.ascontiguousarray(self.batch.t, np.int64)

    def get_ts(self, _name: str) -> np.ndarray:
        return np.ascontiguousarray(self.batch.ts, np.int64)

    def get_types(self, _name: str = "") -> np.ndarray:
        return np.ascontiguousarray(self.batch.types, np.int16)

    def get_n(self) -> int:
        return self.batch.n

    def get_seq0(self) -> int:
        return self.batch.seq0

    def get_hash(self, name: str) -> np.ndarray:
        column = self.batch.hashes.get(name)
        return np.zeros((self.batch.n, 2), np.int64) if column is None else np.ascontiguousarray(column, np.int64)

    def get_number(self, name: str) -> np.ndarray:
        batch = self.batch
        if name in batch.numbers:
            return np.ascontiguousarray(batch.numbers[name], np.float64)
        if name in batch.minor:
            digits = self.windows.plan.digits(name)
            whole = batch.minor[name]
            return np.where(whole == NULL, lib.NAN, whole / 10.0**digits)
        return np.full(batch.n, lib.NAN)

    def get_minor(self, name: str) -> np.ndarray:
        batch = self.batch
        if name in batch.minor:
            return np.ascontiguousarray(batch.minor[name], np.int64)
        if name == "label" and name in batch.numbers:
            numbers = batch.numbers[name]
            return np.where(np.isnan(numbers), NULL, np.nan_to_num(numbers).astype(np.int64))
        return np.full(batch.n, NULL)

    def get_offsets(self, name: str) -> np.ndarray:
        found = self.batch.lists.get(name)
        return np.zeros(self.batch.n + 1, np.int64) if found is None else np.ascontiguousarray(found[0], np.int64)

    def get_elements(self, name: str) -> np.ndarray:
        found = self.batch.lists.get(name)
        return np.zeros((0, 2), np.int64) if found is None else np.ascontiguousarray(found[1], np.int64)

    def get_composed(self, d: int) -> np.ndarray:
        return self.windows.scratch.take(("composed", d), 2 * self.batch.n, np.int64)

    def get_ids(self, d: int) -> np.ndarray:
        domain = self.windows.plan.domains[d]
        if domain.kind == "list":
            return self.windows.scratch.take(("ids", d), len(self.get_elements(domain.fields[0])), np.uint32)
        return self.windows.scratch.take(("ids", d), self.batch.n * self.windows.ids[d].columns, np.uint32)

    def get_value_ids(self, d: int) -> np.ndarray:
        what = ("ids", d)
        if what not in self.found:
            self.found[what] = self.get_ids(d)
        return self.found[what]

    def get_mask(self, part: int) -> np.ndarray:
        return self.windows.scratch.take(("mask", part), self.batch.n, np.int64)

    def get_rowwise(self, bit: str) -> np.ndarray:
        return self.windows.rowwise[int(bit)](self.batch)

    def refresh(self) -> None:
        """What has to be set anew for every event of a bound batch."""
        lists = {d for d, domain in enumerate(self.windows.plan.domains) if domain.kind == "list"}
        for what in self.windows.wanted:
            if what[0] in MOVING or (what[0] in ("ids", "value ids") and what[1] in lists):
                self.found[what] = getattr(self, "get_" + what[0])(*what[1:]) if what[0] in MOVING else self.get_ids(what[1])
        for stage in self.windows.stages:
            for slot, what in stage.columns:
                if what[0] in MOVING or (what[0] in ("ids", "value ids") and what[1] in lists):
                    stage.block.set(slot, self.found[what])

    def get_replaced(self) -> np.ndarray:
        return self.windows.scratch.take(("replaced",), self.batch.n, np.int64)

    def get_fresh(self, d: int) -> np.ndarray:
        if d not in self.windows.kept:
            return np.zeros(2, np.uint32)
        size = 2 * self.batch.n * self.windows.ids[d].columns
        self.windows.fresh[d] = self.windows.scratch.take(("fresh", d), size, np.uint32)
        return self.windows.fresh[d]

    def get_names(self, name: str) -> np.ndarray:
        if name not in self.out.hashes:
            self.out.hashes[name] = np.empty((self.batch.n, 2), np.int64)
        return self.out.hashes[name]


class Bound:
    """One event at a time with the least to do: fill the batch's columns, call `run()`, read `values`."""

    def __init__(self, windows: Windows, batch: Batch):
        if batch.n != 1:
            raise ValueError(f"a bound batch holds one event, this one {batch.n}")
        self.windows, self.batch = windows, batch
        self.block = Block(np.zeros((len(windows.names), 1)))
        self.values = memoryview(self.block.values.reshape(-1))
        self.hashes = self.block.hashes
        self._columns = Columns(windows, batch, self.block)
        self._version = -1
        lists = [what[1] for what in windows.wanted if what[0] == "offsets"]
        if missing := [name for name in lists if name not in batch.lists]:
            raise ValueError(f"the bound batch must hold the list columns {', '.join(missing)}")
        self._moving = windows.plan.amends or bool(windows.rowwise) or bool(lists)

    def run(self) -> None:
        """The features of the event now in the batch; state moves on."""
        windows = self.windows
        seq = self.batch.seq0
        if windows.placed is not self._columns or windows.version != self._version:
            self._place()
        elif windows.background is not None and not seq & 63:
            windows.look_for_kernels()
            self._place()
        if seq // SWEEP > windows.swept:
            windows.sweep(seq // SWEEP)
        if self._moving:
            self._columns.refresh()
        for name in windows.row_features:
            self._columns.copy_feature(name)
        windows.rows(0, 1)
        if windows.kept:
            windows.keep_texts(self.batch)

    def _place(self) -> None:
        self._columns.found.clear()
        self._columns.place()
        self._version = self.windows.version


BATCH_SLOTS = {
    "t", "ts", "types", "n", "seq0", "hash", "number", "minor", "offsets", "elements", "composed",
    "ids", "value ids", "mask", "rowwise", "replaced", "fresh", "out", "names",
}  # fmt: skip


MOVING = ("seq0", "rowwise", "offsets", "elements")  # what a bound batch may replace between events


def _at(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def _needs(plan: Plan) -> Needs:
    """Every column the windows read."""
    from shopward.declare.needs import feature_needs

    total = Needs()
    for feature in plan.features.values():
        if feature.name not in plan.row_features:
            total |= feature_needs(feature, plan.schema)
        if feature.type == "string" and feature.arg:
            total |= Needs(text=frozenset({feature.arg}))
    return total | Needs(hashes=frozenset({"label_event"} if plan.amends else ()))


def _row_test(plan: Plan, where: Expr) -> Callable[[Batch], np.ndarray]:
    """A `where` that looks at characters, as a function of a batch: 1 where it is true."""
    names = list(where.fields)
    source = f"def test({', '.join([*map(_local, names), 't'])}):\n    return {to_python(where, {n: _local(n) for n in names}, 'true')}\n"
    space = dict(runtime())
    exec(compile(source, "<where>", "exec"), space)
    test = space["test"]

    def run(batch: Batch) -> np.ndarray:
        columns = [_row_column(plan, batch, name) for name in names]
        rows = zip(*columns, batch.t.tolist(), strict=True)
        return np.fromiter((1 if test(*row) else 0 for row in rows), np.int64, batch.n)

    return run


def _local(name: str) -> str:
    return f"f_{name}"


def _row_column(plan: Plan, batch: Batch, name: str) -> list:
    if name == "type":
        return [plan.schema.types[code] for code in batch.types.tolist()]
    if name == "ts":
        return batch.ts.astype(float).tolist()
    if plan.field_type(name) in ("string", "list"):
        return batch.event_ids if name == "event_id" else batch.text(name)
    return batch.numbers[name].tolist()


def _fill_table(table: np.ndarray, known: np.ndarray) -> None:
    """Every live id at its place, in id order."""
    mask = len(table) - 1
    view = memoryview(table)
    live = np.flatnonzero(known[:, 2]).tolist()
    tags = ((known[:, 0] >> 1) & lib.VALUE).tolist()
    for k in live:
        i = tags[k] & mask
        while view[i]:
            i = (i + 1) & mask
        view[i] = tags[k] << 32 | k


def _unpacked_texts(packed: np.ndarray) -> dict[tuple[int, int], str]:
    raw = packed.tobytes()
    n = int(np.frombuffer(raw, np.int64, 1)[0])
    table = np.frombuffer(raw, np.int64, 3 * n, 8).reshape(-1, 3).tolist()
    at, texts = 8 + 24 * n, {}
    for a, b, size in table:
        texts[(a, b)] = raw[at : at + size].decode("utf-8", "surrogatepass")
        at += size
    return texts
