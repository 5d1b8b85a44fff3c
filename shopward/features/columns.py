"""Points the kernels at the columns of a batch, at scratch space, and at where the answers go."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from shopward.batch import NULL, Batch, Needs
from shopward.expr.compile import to_python
from shopward.expr.functions import runtime
from shopward.expr.nodes import Expr
from shopward.features import lib
from shopward.features.arena import address, cell
from shopward.features.plan import Plan
from shopward.hashing import address_of

if TYPE_CHECKING:
    from shopward.features.live import Windows

BATCH_SLOTS = {
    "t", "ts", "types", "n", "seq0", "hash", "number", "minor", "offsets", "elements", "composed",
    "ids", "value ids", "mask", "rowwise", "replaced", "fresh", "out", "names",
}  # fmt: skip


STILL = {"composed", "ids", "value ids", "mask", "replaced", "fresh"}  # scratch, but for lists
NONE_FRESH = np.zeros(2, np.uint32)
MOVING = ("seq0", "rowwise", "offsets", "elements")  # what a bound batch may replace between events


@dataclass(slots=True)
class Block:
    """The features of a batch: values[k, i] is feature `names[k]` at event i (NaN: null).

    hashes: string feature -> int64[n, 2], as in a Batch. Its row in `values` says only whether there is a value.
    """

    values: np.ndarray
    hashes: dict[str, np.ndarray] = field(default_factory=dict)


def _references(kept: list[np.ndarray], i: int) -> int:
    return sys.getrefcount(kept[i])


class Outputs:
    """Arrays for results, used again once nobody holds them: fresh memory costs more than the features written into it."""

    OURS = _references(
        [np.empty(1)], 0
    )  # what Python counts while only the list holds an array; any view of it adds one

    def __init__(self) -> None:
        self.kept: list[np.ndarray] = []
        self.keep = 4

    def take(self, features: int, n: int) -> np.ndarray:
        """An uninitialised float64[features, n]."""
        size = features * n
        for i in range(len(self.kept)):
            if len(self.kept[i]) >= size and _references(self.kept, i) <= self.OURS:
                return self.kept[i][:size].reshape(features, n)
        self.kept = [np.empty(max(size, 1)), *self.kept[: self.keep - 1]]
        return self.kept[0][:size].reshape(features, n)


class Scratch:
    """Columns that only live inside one update, kept from one to the next."""

    def __init__(self) -> None:
        self.kept: dict[tuple, np.ndarray] = {}
        self.version = 0  # another one: some lie elsewhere now

    def take(self, what: tuple, size: int, dtype: type) -> np.ndarray:
        array = self.kept.get(what)
        if array is None or len(array) < size:
            array = self.kept[what] = np.empty(max(size, 1), dtype)
            self.version += 1
        return array


@dataclass(slots=True)
class Still:
    """Where everything was that a batch of at most `n` events finds at the same place again, and what it does not."""

    n: int
    version: int  # of the scratch columns
    stages: list  # the kernels' blocks that were placed
    addresses: np.ndarray
    fresh: dict[int, np.ndarray]
    moving: list[tuple[int, tuple, str]]  # index into `wanted`, what it is, and which method gets it


class Columns:
    """Points the kernels' blocks at the columns of one batch, at scratch space and at the output."""

    def __init__(self, windows: Windows, batch: Batch, out: Block):
        self.windows, self.batch, self.out = windows, batch, out
        self.found: dict[tuple, Any] = {}
        self._moving: tuple[list[tuple], list[tuple]] | None = None
        self._moving_of: list | None = None

    def place(self, all_found: bool = True) -> None:
        """Set every block, and copy in the features that the caller computed. Without `all_found`, `found` may lack scratch columns."""
        windows = self.windows
        windows.fresh = {}
        for name in windows.row_features:
            self.copy_feature(name)
        if windows.compiled:
            addresses = self._moved() if self._stands(all_found) else self._all()
            windows.words[windows.column_words] = addresses[windows.column_of]
            windows.words[windows.out_words] = address(self.out.values) + windows.out_rows * self.out.values.strides[0]
        else:
            self._find(windows.wanted)
            self.place_cells()
        windows.placed = self

    def _find(self, wanted: list[tuple]) -> None:
        for what in wanted:
            if what not in self.found:
                self.found[what] = getattr(self, _getter(what))(*what[1:])

    def _stands(self, all_found: bool) -> bool:
        """Is there room for this batch where the last one had its scratch columns?"""
        still, windows = self.windows.still, self.windows
        if all_found or self.found or still is None or self.batch.n > still.n:
            return False
        return still.version == windows.scratch.version and still.stages is windows.stages

    def _moved(self) -> np.ndarray:
        """The addresses of all columns when only those of the batch are others."""
        windows = self.windows
        still = windows.still
        assert still is not None
        windows.fresh = still.fresh
        places: dict[int, int] = {}  # several fields may share a column of nothing
        for i, what, get in still.moving:
            value = self.found[what] = getattr(self, get)(*what[1:])
            at = places.get(id(value))
            if at is None:
                at = places[id(value)] = address_of(value) if isinstance(value, np.ndarray) else address(value)
            still.addresses[i] = at
        return still.addresses

    def _all(self) -> np.ndarray:
        windows = self.windows
        self._find(windows.wanted)
        addresses = np.array([windows.address_of(what, self.found[what]) for what in windows.wanted], np.int64)
        lists = {d for d, domain in enumerate(windows.plan.domains) if domain.kind == "list"}
        moving = [
            (i, what, _getter(what))
            for i, what in enumerate(windows.wanted)
            if what[0] not in STILL or (what[0] in ("ids", "value ids") and what[1] in lists)
        ]
        windows.still = Still(self.batch.n, windows.scratch.version, windows.stages, addresses, windows.fresh, moving)
        return addresses

    def place_cells(self) -> None:
        cells = {what: cell(value) for what, value in self.found.items()}
        for stage in self.windows.stages:
            for slot, what in stage.columns:
                stage.block.cells[slot] = cells[what]
            for slot, row in stage.outs:
                stage.block.cells[slot] = cell(self.out.values[row])

    def copy_feature(self, name: str) -> None:
        values, batch = self.out.values[self.windows.row_of[name]], self.batch
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
            name = domain.fields[0]
            given = None if name in self.batch.lists else self.found.get(("elements", name))
            elements = self.get_elements(name) if given is None else given
            return self.windows.scratch.take(("ids", d), len(elements), np.uint32)
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
        if self._moving is None or self._moving_of is not self.windows.stages:
            self._moving, self._moving_of = self._what_moves(), self.windows.stages
        columns, slots = self._moving
        for what, get in columns:
            self.found[what] = get(*what[1:])
        for block, slot, what in slots:
            block.set(slot, self.found[what])

    def _what_moves(self) -> tuple[list[tuple], list[tuple]]:
        """The columns that are others for every event, with how to get them, and the places of blocks that point at them."""
        windows = self.windows
        lists = {d for d, domain in enumerate(windows.plan.domains) if domain.kind == "list"}
        moving = [
            what
            for what in windows.wanted
            if what[0] in MOVING or (what[0] in ("ids", "value ids") and what[1] in lists)
        ]
        getters = [(what, getattr(self, "get_" + what[0]) if what[0] in MOVING else self.get_ids) for what in moving]
        known = set(moving)
        return getters, [(s.block, slot, what) for s in windows.stages for slot, what in s.columns if what in known]

    def get_replaced(self) -> np.ndarray:
        return self.windows.scratch.take(("replaced",), self.batch.n, np.int64)

    def get_fresh(self, d: int) -> np.ndarray:
        if d not in self.windows.kept:
            return NONE_FRESH
        size = 2 * self.batch.n * self.windows.ids[d].columns
        self.windows.fresh[d] = self.windows.scratch.take(("fresh", d), size, np.uint32)
        return self.windows.fresh[d]

    def get_names(self, name: str) -> np.ndarray:
        if name not in self.out.hashes:
            self.out.hashes[name] = np.empty((self.batch.n, 2), np.int64)
        return self.out.hashes[name]


def _getter(what: tuple) -> str:
    """The method of Columns that gets a column."""
    return "get_" + what[0].replace(" ", "_")


def needs_of(plan: Plan) -> Needs:
    """Every column the windows read."""
    from shopward.declare.needs import feature_needs

    total = Needs()
    for feature in plan.features.values():
        if feature.name not in plan.row_features:
            total |= feature_needs(feature, plan.schema)
        if feature.type == "string" and feature.arg:
            total |= Needs(text=frozenset({feature.arg}))
    return total | Needs(hashes=frozenset({"label_event"} if plan.amends else ()))


def row_test(plan: Plan, where: Expr) -> Callable[[Batch], np.ndarray]:
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
