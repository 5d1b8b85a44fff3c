"""The window engine as the rest of Shopward sees it: batches in, one number per event and declared feature out.

`Windows` owns all state (ids of keys, one row per key, rings of slots) and runs the generated kernels over it: compiled when they
are there, interpreted until then, on the same memory. What comes out depends on the order of events alone, never on how they were
cut into batches.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from types import CodeType
from typing import Any, Literal, Self

import numpy as np

from shopward.batch import LATENESS_MS, SKEW_MS, Batch, Needs
from shopward.errors import StoreFull
from shopward.expr.functions import runtime
from shopward.features import lib, snapshot
from shopward.features.arena import Block as KernelBlock
from shopward.features.arena import address
from shopward.features.codegen import Kernel, derived_kernel, family_kernel, filter_kernel
from shopward.features.columns import BATCH_SLOTS, Block, Columns, Outputs, Scratch, Still, needs_of, row_test
from shopward.features.compile import Background, cache_folder, is_compiled, kernel_file, load
from shopward.features.neighbours import Neighbours
from shopward.features.plan import Plan, Value, make_plan
from shopward.features.state import FamilyMemory, Ids, RingMemory
from shopward.hashing import seed_words, siphash128

SWEEP = 4096  # idle keys are looked for whenever the sequence number passes a multiple of this
SWEEP_PACE = 2  # ids looked at per event and column at most: a round then takes half as many events as there are ids
ROUNDS = 4  # full rounds of looking while a domain's longest window passes

Mode = Literal["auto", "compiled", "interpreted"]


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

    @classmethod
    def part(cls, rulebook: Any, seed: bytes, runs: Callable[[Stage], bool], *, mode: Mode = "compiled") -> Self:
        """Only the stages that `runs` says, for a stream that several processes share (see `features.shards`). Without graph features."""
        self = cls.__new__(cls)
        slack = rulebook.policy.lateness_ms + rulebook.policy.skew_ms
        self._build(rulebook.features, rulebook.schema, seed, mode, None, slack, runs)
        self.neighbours = None
        return self

    def _build(
        self,
        features: dict,
        schema: Any,
        seed: bytes,
        mode: Mode,
        cache_dir: Path | str | None,
        slack: int,
        runs: Callable[[Stage], bool] = lambda stage: True,
    ) -> None:
        self.plan: Plan = make_plan(features, schema)
        self._runs = runs
        self.names: list[str] = list(features)
        self.row_of = {name: k for k, name in enumerate(self.names)}
        self.row_features: list[str] = self.plan.row_features
        self.needs: Needs = needs_of(self.plan)
        self.seed, self.mode, self.slack = seed, mode, slack
        self.swept = 0
        self.version = 0  # changes whenever blocks were rebuilt
        self.still: Still | None = None
        self.placed: Columns | None = None  # whose columns the blocks point at
        self.fresh: dict[int, np.ndarray] = {}
        self._outputs, self.scratch = Outputs(), Scratch()
        self._addresses: dict[tuple, tuple[Any, int]] = {}
        self.row_texts: dict[str, dict[tuple[int, int], str]] = {}  # of string features, by hash
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
        self.neighbours: Neighbours | None = Neighbours(plan) if plan.webs else None

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
        self.stages = [stage for stage in self.stages if self._runs(stage)]
        self._join_blocks()
        self.rowwise = {
            bit: row_test(plan, f.where)
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
        exec(_code(kernel.plain()), space)
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
                stage.outs.append((slot, self.row_of[what[1]]))
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
            table += [stage.address, address(stage.block.words)]
        self._table = np.array(table, np.int64)
        self.table_at = address(self._table)
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
        """The features of every event of the batch, as of that event; state moves on behind them.

        Sequence numbers must rise from batch to batch. After StoreFull the state is between two events: restore a snapshot.
        """
        self.look_for_kernels()
        self.forget_old_texts()
        out = self.block(batch)
        columns = Columns(self, batch, out)
        columns.place(all_found=self.neighbours is not None)
        self._run(batch.seq0, batch.n, batch)
        return out

    def block(self, batch: Batch) -> Block:
        """Where the values of a batch go, still empty: memory that is used again once nobody holds it."""
        return Block(self._outputs.take(len(self.names), batch.n))

    def step(self, batch: Batch, out: Block, given: dict[tuple, Any]) -> Columns:
        """All stages over a batch, into `out`; columns that are `given` are not looked for in the batch."""
        columns = Columns(self, batch, out)
        columns.found.update(given)
        columns.place()
        self._run(batch.seq0, batch.n, batch)
        return columns

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
        """All stages over some rows, then the graph, then again what is derived: it may read the graph."""
        if self.stages:
            self._through(0, lo, hi)
        if self.neighbours is not None:
            assert self.placed is not None
            self.neighbours.update(self.placed, lo, hi)
            if self.plan.derived:
                self._through(len(self.stages) - 1, lo, hi)

    def _through(self, stage: int, lo: int, hi: int) -> None:
        """The stages from one on."""
        self.complete(self._go_on(stage, lo, lo, hi), lo, hi, stage)

    def complete(self, stopped: int, lo: int, hi: int, stage: int = 0) -> None:
        """The rest of the rows after the stages stopped (see `drive`): where one runs out of space it gets more and goes on."""
        row, tries = lo, 0
        while stopped != -1:
            tries = tries + 1 if (stage, row) == (stopped >> 32, stopped & lib.M32) else 0
            stage, row = stopped >> 32, stopped & lib.M32
            self._make_room(self.stages[stage], tries)
            stopped = self._go_on(stage, row, lo, hi)

    def _go_on(self, stage: int, row: int, lo: int, hi: int) -> int:
        """From one stage on, which starts at `row`; what `drive` says."""
        if self.compiled:
            return self.drive(self.table_at, stage, row, lo, hi)
        return self._interpret(stage, row, lo, hi)

    def one_row(self) -> Callable[[], int]:
        """A function that runs all stages over row 0, as long as `version` stays; what it returns is for `complete`."""
        from shopward.features.direct import possible, runner

        if self.compiled and self.stages and self.neighbours is None and possible():
            return runner(self._table)
        return self._one_row

    def _one_row(self) -> int:
        self.rows(0, 1)
        return -1

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

                table_rehash_at(address(old), old_mask, address(new), len(new) - 1)
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

            index_rehash_at(address(old), address(old_header), address(new), address(new_header))
        else:
            lib.index_rehash(*(memoryview(a) for a in (old, old_header, new, new_header)))

    def _point_again(self) -> None:
        for stage in self.stages:
            self._place(stage)

    # --- recycling

    def sweep(self, epoch: int) -> None:
        """Give back what keys hold that cannot matter any more, and have large pages for what has grown."""
        self.swept = epoch
        self._settle()
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

                sweep_at(address(stage.block.words), address(block.words), len(families), ids.horizon, steps)
            else:
                lib.sweep(stage.block.cells, block.cells, len(families), ids.horizon, steps)

    def _settle(self) -> None:
        for ids in self.ids:
            ids.settle()
        for memory in self.families:
            for ring in memory.rings.values():
                ring.settle()

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

    def forget_old_texts(self) -> None:
        """Drop texts of recycled values. Only before an update: what the last one put out can be asked for until then."""
        for d in self.kept:
            ids = self.ids[d]
            if len(ids.texts) > 2 * int(ids.header[lib.LIVE]) + SWEEP:
                self._forget_texts(ids)

    def _forget_texts(self, ids: Ids) -> None:
        known = ids.known.used(ids.count).reshape(-1, lib.IDENTITY)
        live = set(map(tuple, known[known[:, 2] != 0][:, :2].tolist()))
        ids.texts = {pair: text for pair, text in ids.texts.items() if pair in live}

    def text(self, name: str, pairs: np.ndarray) -> list[str | None]:
        """The texts behind a string feature's hashes."""
        kept = (
            self.ids[self._text_features[name]].texts if name in self._text_features else self.row_texts.get(name, {})
        )
        return [kept.get((a, b)) for a, b in np.asarray(pairs).reshape(-1, 2).tolist()]

    def keep_text(self, name: str, values: Sequence[str | None], pairs: np.ndarray) -> None:
        """Remember the texts of a string feature that the caller computes."""
        kept = self.row_texts.setdefault(name, {})
        if len(kept) > 100_000:
            kept.clear()
        for value, pair in zip(values, np.asarray(pairs).reshape(-1, 2).tolist(), strict=True):
            if value is not None:
                kept[tuple(pair)] = value

    # --- snapshots

    def snapshot(self) -> dict[str, np.ndarray]:
        """All state as plain arrays (copies), for `restore`."""
        return {name: array.copy() for name, array in snapshot.parts_of(self).items()}

    def restore(self, parts: dict[str, np.ndarray]) -> None:
        """Become the state that `snapshot` returned. Raises CorruptStore if it belongs to other features or another seed."""
        snapshot.check(self, parts)
        self._make_state()
        self._make_stages()
        snapshot.fill(self, parts)
        if self.compiled:
            self._switch()
        snapshot.rebuild(self)
        self._point_again()
        self.placed = None

    def state_hash(self) -> str:
        """A digest of all state: equal for equal histories, however they were cut into batches."""
        return snapshot.digest_of(self)

    def memory(self) -> dict[str, int]:
        """bytes: memory in use, hash tables and free lists included; keys: ids alive; live_events: slots in use, all rings together.

        All state is walked over; `held` is for those who have no time.
        """
        texts = sum(part.nbytes for name, part in snapshot.parts_of(self).items() if name.endswith(".texts"))
        used = self.held() + texts + (self.neighbours.memory() if self.neighbours else 0)
        slots = sum(int(snapshot.totals(self, memory)[0]) for memory in self.families)
        return {"bytes": used, "keys": sum(int(i.header[lib.LIVE]) for i in self.ids), "live_events": slots}

    def held(self) -> int:
        """Bytes of keys and events in use, told by sizes alone: without texts and graphs, which would have to be walked over."""
        ids = [(i.known.used(i.count), i.free.used(int(i.header[lib.FREE])), i.table) for i in self.ids]
        rows = [memory.rows.used(self.ids[memory.family.domain].count) for memory in self.families]
        rings = [ring for memory in self.families for ring in memory.rings.values()]
        slots = [(ring.slots.used(int(ring.header[0])), *ring.indexes.values()) for ring in rings]
        return sum(array.nbytes for arrays in (*ids, rows, *slots) for array in arrays)

    def close(self) -> None:
        """Stop compiling in the background, if it still does."""
        if self.background is not None:
            self.background.stop()
            self.background = None


@functools.lru_cache(maxsize=1024)
def _code(text: str) -> CodeType:
    """The same rulebook is often built again (each of its tests does)."""
    return compile(text, "<kernel>", "exec")


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
        self._version, self._due = -1, 0
        lists = [what[1] for what in windows.wanted if what[0] == "offsets"]
        if missing := [name for name in lists if name not in batch.lists]:
            raise ValueError(f"the bound batch must hold the list columns {', '.join(missing)}")
        self._moving = windows.plan.amends or bool(windows.rowwise) or bool(lists)

    def run(self) -> None:
        """The features of the event now in the batch; state moves on."""
        windows = self.windows
        if self.batch.seq0 >= self._due or windows.placed is not self._columns or windows.version != self._version:
            self._look(self.batch.seq0)
        if self._moving:
            self._columns.refresh()
        if windows.row_features:
            for name in windows.row_features:
                self._columns.copy_feature(name)
        if (stopped := self._one_row()) != -1:
            windows.complete(stopped, 0, 1)
        if windows.kept:
            windows.keep_texts(self.batch)

    def _look(self, seq: int) -> None:
        """What is not to be done at every event."""
        windows = self.windows
        if windows.placed is not self._columns or windows.version != self._version:
            self._place()
        elif windows.background is not None and not seq & 63:
            windows.look_for_kernels()
            self._place()
        if seq // SWEEP > windows.swept:
            windows.forget_old_texts()
            windows.sweep(seq // SWEEP)
        waiting = windows.background is not None
        self._due = (seq | 63) + 1 if waiting else (windows.swept + 1) * SWEEP

    def _place(self) -> None:
        self._columns.found.clear()
        self._columns.place(all_found=self.windows.neighbours is not None)
        self._one_row = self.windows.one_row()
        self._version = self.windows.version
