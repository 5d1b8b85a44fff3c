"""The window engine taken apart, so that the keys of one stream can be spread over many processes and give the same values.

    batch -> Splitter: which filters take which event; the columns of each kind of key, cut into bins by key
          -> KeyWindows: the windows of one kind of key over one bin, in arrival order
          -> Gathered: all values of a batch side by side again, and what is derived from them

A key's windows need the events that carry this key and nothing else, so bins share nothing. An event without the key is sent
nowhere. Everything that crosses a process is bytes (`pack`), the same for any system that carries them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heapify, heapreplace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from shopward.batch import LABEL, Batch
from shopward.features.columns import Block, Columns
from shopward.features.live import Mode, Stage, Windows
from shopward.features.plan import Family, Plan, make_plan, ring_ids

if TYPE_CHECKING:
    from shopward.declare.rulebook import Rulebook

BUCKETS = 4096  # per kind of key; bins are made of whole buckets
CARRIED = ("t", "ts", "types", "hash", "number", "minor", "offsets", "elements", "mask")  # columns that are sent along
_ODD = np.uint64(0x9E3779B97F4A7C15)


# ---- bytes


def pack(values: dict[str, Any]) -> bytes:
    """Arrays, lists of texts and numbers by name as bytes.

    >>> unpack(pack({"a": np.arange(3), "b": ["x", None]}))
    {'a': array([0, 1, 2]), 'b': ['x', None]}
    """
    return msgspec.msgpack.encode({name: _plain(value) for name, value in values.items()})


def unpack(data: bytes | memoryview, own: bool = False) -> dict[str, Any]:
    """What `pack` was given; arrays are views into the bytes, not to be changed, unless they are to be the caller's `own`."""
    return {name: _array(value, own) for name, value in msgspec.msgpack.decode(data).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = np.ascontiguousarray(value)
        return {"dtype": value.dtype.str, "shape": value.shape, "data": value.data.cast("B") if value.size else b""}
    if isinstance(value, dict):
        return {"named": {name: _plain(one) for name, one in value.items()}}
    return value


def _array(value: Any, own: bool) -> Any:
    if isinstance(value, dict) and "named" in value:
        return {name: _array(one, own) for name, one in value["named"].items()}
    if isinstance(value, dict):
        found = np.frombuffer(value["data"], value["dtype"]).reshape(value["shape"])
        return found.copy() if own else found
    return value


def pack_batch(batch: Batch, texts: frozenset[str]) -> bytes:
    """A batch with the given text columns."""
    lists = {name: {"offsets": o, "elements": e} for name, (o, e) in batch.lists.items()}
    words = {name: batch.text(name) for name in sorted(texts)}
    return pack(
        {
            "seq0": batch.seq0, "t": batch.t, "ts": batch.ts, "types": batch.types, "event_ids": list(batch.event_ids),
            "numbers": batch.numbers, "minor": batch.minor, "hashes": batch.hashes, "lists": lists, "texts": {"all": words},
        }
    )  # fmt: skip


def unpack_batch(data: bytes | memoryview) -> Batch:
    """The batch again; kernels of rules take arrays only that may be written."""
    found = unpack(data, own=True)
    words = found["texts"]["all"]
    lists = {name: (one["offsets"], one["elements"]) for name, one in found["lists"].items()}
    return Batch(
        len(found["t"]), found["seq0"], found["t"], found["ts"], found["types"], found["event_ids"], found["numbers"],
        found["minor"], found["hashes"], lists, text=words.__getitem__,
    )  # fmt: skip


# ---- which stages belong to which part


def key_domains(plan: Plan) -> list[int]:
    """The domains that features are keyed by, in the order of the plan."""
    return list(dict.fromkeys(family.domain for family in plan.families))


def domains_read(plan: Plan, family: Family) -> set[int]:
    """A family's kind of key and the kinds of values its windows tell apart."""
    found = {family.domain}
    for ring in family.rings:
        found.update(plan.value_domain(value) for value in ring_ids(ring))
        if ring.amendable:
            found.add(plan.domain("labels", ("label_event",)))
    return found


def is_filter(stage: Stage) -> bool:
    """The stage that tells which filters take which event."""
    return stage.kernel is not None and stage.kernel.name == "filters"


def is_derived(stage: Stage) -> bool:
    """The stage of ratios and expressions."""
    return stage.kernel is not None and stage.kernel.name == "derived"


class _OfKey:
    """Picks the stages of one kind of key: composing it, numbering keys and values, its windows, and naming texts."""

    def __init__(self, plan: Plan, domain: int):
        families = [f for f in plan.families if f.domain == domain]
        self.domain, self.read = domain, set[int]().union(*(domains_read(plan, f) for f in families))
        self.names = {r.feature.name for f in families for r in f.reads}

    def __call__(self, stage: Stage) -> bool:
        if stage.name == "compose":
            return stage.slots[0] == ("composed", self.domain)
        if stage.name == "name_values":
            return stage.slots[1][1] in self.names
        family = getattr(stage.owner, "family", None)
        if family is not None:
            return family.domain == self.domain
        numbered = next((what[1] for what in stage.slots if isinstance(what, tuple) and what[0] == "known"), None)
        return numbered in self.read


# ---- bins


@dataclass(frozen=True, slots=True)
class Bins:
    """Which bin the keys of a bucket are in: int16[domains, BUCKETS], -1 where no event has such a key."""

    table: np.ndarray
    count: int

    @classmethod
    def of(cls, counts: np.ndarray, weights: list[int], bins: int) -> Bins:
        """Buckets spread so that bins weigh about the same: heaviest first, each into the lightest bin. So a bucket with a very hot
        key has a bin almost for itself. counts int64[domains, BUCKETS] are events; a domain's `weights` say what one costs.

        >>> counts = np.zeros((1, BUCKETS), np.int64)
        >>> counts[0, :4] = 100, 30, 40, 30
        >>> Bins.of(counts, [1], 2).table[0, :5].tolist()
        [0, 1, 1, 1, -1]
        """
        table = np.full(counts.shape, -1, np.int16)
        cost = counts * np.array(weights, np.int64)[:, None] if len(weights) else counts
        order = np.argsort(-cost, axis=None, kind="stable")
        heap = [(0, i) for i in range(bins)]
        heapify(heap)
        flat_cost, flat = cost.reshape(-1), table.reshape(-1)
        for at in order[: np.count_nonzero(flat_cost)].tolist():
            load, i = heap[0]
            flat[at] = i
            heapreplace(heap, (load + int(flat_cost[at]), i))
        return cls(table, bins)


def _parts(batch: Batch, fields: tuple[str, ...]) -> list[np.ndarray]:
    nothing = np.zeros((batch.n, 2), np.int64)
    return [np.asarray(batch.hashes.get(name, nothing)) for name in fields]


def buckets(plan: Plan, domain: int, batch: Batch) -> list[np.ndarray]:
    """For every role of a kind of key, the bucket of each event's key; -1 where it has none. The first is the one features are read at."""
    wanted = plan.domains[domain]
    parts = _parts(batch, wanted.fields)
    if wanted.kind != "composite":
        return [np.where(part.any(axis=1), part[:, 0] & (BUCKETS - 1), -1) for part in parts]
    mixed = np.zeros(batch.n, np.uint64)
    there = np.ones(batch.n, np.bool_)
    for part in parts:
        mixed = (mixed + np.ascontiguousarray(part[:, 0]).view(np.uint64)) * _ODD
        there &= part.any(axis=1)
    return [np.where(there, (mixed >> np.uint64(40)).astype(np.int64) & (BUCKETS - 1), -1)]


def count_buckets(plan: Plan, batch: Batch, counts: np.ndarray) -> None:
    """Add a batch to counts int64[domains, BUCKETS]."""
    for row, domain in enumerate(key_domains(plan)):
        for found in buckets(plan, domain, batch):
            counts[row] += np.bincount(found[found >= 0], minlength=BUCKETS)


def weights(plan: Plan) -> list[int]:
    """What one event costs, per kind of key: about as much as it has features."""
    return [3 + sum(len(f.reads) + len(f.sequences) for f in plan.families if f.domain == d) for d in key_domains(plan)]


# ---- the three parts


class Splitter:
    """Cuts batches into what each bin needs of them."""

    def __init__(self, rulebook: Rulebook, seed: bytes, bins: Bins, mode: Mode = "compiled"):
        self.windows = Windows.part(rulebook, seed, is_filter, mode=mode)
        self.plan, self.bins = self.windows.plan, bins
        self.masks = [what for what in self.windows.wanted if what[0] == "mask"]
        self.domains = key_domains(self.plan)
        self.keys = [KeyWindows(rulebook, seed, d, mode) for d in self.domains]

    def split(self, batch: Batch) -> Iterator[tuple[int, int, bytes]]:
        """(bin, place of the kind of key, columns) for every bin that has events of this batch."""
        out = Block(np.empty((len(self.windows.names), batch.n)))
        columns = self.windows.step(batch, out, {})
        for k, domain in enumerate(self.domains):
            given = {what: self._column(columns, what) for what in self.keys[k].carried}
            texts = {name: batch.text(name) for name in self.keys[k].texts}
            for number, rows, mine in self._rows(k, domain, batch):
                yield number, k, pack(_taken(given, texts, rows) | {"rows": rows.astype(np.int32), "mine": mine})

    def _column(self, columns: Columns, what: tuple) -> np.ndarray:
        if what[0] == "mask":
            return columns.found[what][: columns.batch.n]
        return getattr(columns, "get_" + what[0])(*what[1:])

    def _rows(self, k: int, domain: int, batch: Batch) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """(bin, rows of the batch, which of them are answered there)."""
        table = self.bins.table[k]
        roles = [np.where(found >= 0, table[found], -1) for found in buckets(self.plan, domain, batch)]
        shown = batch.types != LABEL
        if len(roles) == 1:
            order = np.argsort(roles[0], kind="stable")
            ends = np.searchsorted(roles[0][order], np.arange(self.bins.count + 1))
            for number in range(self.bins.count):
                rows = order[ends[number] : ends[number + 1]]
                if len(rows):
                    yield number, rows, shown[rows]
            return
        for number in np.unique(np.concatenate(roles)).tolist():
            if number >= 0:
                rows = np.flatnonzero(np.logical_or.reduce([role == number for role in roles]))
                yield number, rows, shown[rows] & (roles[0][rows] == number)


def _taken(given: dict[tuple, np.ndarray], texts: dict[str, list], rows: np.ndarray) -> dict[str, Any]:
    """These rows of all columns."""
    found: dict[str, Any] = {}
    for what, column in given.items():
        if what[0] == "offsets":
            elements = given["elements", what[1]]
            lengths = np.diff(column)[rows]
            offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
            at = np.repeat(column[:-1][rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
            found[_word(what)], found[_word(("elements", what[1]))] = offsets, elements[at]
        elif what[0] != "elements":
            found[_word(what)] = column[rows]
    for name, values in texts.items():
        found[f"text {name}"] = [values[i] for i in rows.tolist()]
    return found


def _word(what: tuple) -> str:
    return " ".join(map(str, what))


class KeyWindows:
    """The windows of one kind of key over the events of one bin.

    carried  the columns they read; texts: those whose characters they show
    """

    def __init__(self, rulebook: Rulebook, seed: bytes, domain: int, mode: Mode = "compiled"):
        plan = make_plan(rulebook.features, rulebook.schema)
        stages = _OfKey(plan, domain)
        self.windows = Windows.part(rulebook, seed, stages, mode=mode)
        self.carried = [what for what in self.windows.wanted if what[0] in CARRIED]
        families = [m.family for m in self.windows.families if m.family.domain == domain]
        reads = [r for f in families for r in f.reads]
        names = [r.feature.name for r in reads] + [s.feature.name for f in families for s in f.sequences]
        self.names = [n for n in self.windows.names if n in set(names)]
        self.shown = [n for n in self.names if plan.features[n].type == "string"]
        self.texts = sorted(plan.domains[d].fields[0] for d in self.windows.kept & stages.read)
        self.at = np.array([self.windows.names.index(n) for n in self.names], np.int64)
        self.seq = 0

    def update(self, data: bytes | memoryview) -> bytes:
        """The values at the events that a Splitter cut out, for Gathered; state moves on."""
        found = unpack(data)
        n, windows = len(found["rows"]), self.windows
        texts = {name: found[f"text {name}"] for name in self.texts}
        hashes = {name: found[_word(("hash", name))] for name in self.texts}
        given = {what: found[_word(what)] for what in self.carried}
        lists = {what[1]: (given[what], given["elements", what[1]]) for what in self.carried if what[0] == "offsets"}
        batch = Batch(
            n,
            self.seq,
            found["t"],
            found["t"],
            np.ones(n, np.int16),
            [],
            hashes=hashes,
            lists=lists,
            text=texts.__getitem__,
        )
        windows.forget_old_texts()
        out = Block(np.empty((len(windows.names), n)))
        windows.step(batch, out, given)
        self.seq += n
        mine = np.flatnonzero(found["mine"])
        answer: dict[str, Any] = {"rows": found["rows"][mine], "values": out.values[self.at][:, mine]}
        for name in self.shown:
            pairs = out.hashes[name][mine]
            answer |= {f"hash {name}": pairs, f"text {name}": windows.text(name, pairs)}
        return pack(answer)


class Derived(Windows):
    """What is derived from windows that were computed elsewhere."""

    def forget_row_texts(self) -> None:
        """Texts of string features are those that `keep_text` is told from now on."""
        self._text_features, self.row_texts = {}, {}


class Gathered:
    """Puts the values of a batch side by side again."""

    def __init__(self, rulebook: Rulebook, seed: bytes, mode: Mode = "compiled"):
        self.windows = Derived.part(rulebook, seed, is_derived, mode=mode)
        plan = self.windows.plan
        self.keys = [KeyWindows(rulebook, seed, d, mode) for d in key_domains(plan)]
        self.shown = [n for n in self.windows.names if plan.features[n].type == "string"]

    def begin(self, n: int) -> Block:
        """A block for a batch of n events in which nothing is known yet."""
        self.windows.forget_row_texts()
        hashes = {name: np.zeros((n, 2), np.int64) for name in self.shown}
        return Block(np.full((len(self.windows.names), n), np.nan), hashes)

    def put(self, block: Block, k: int, data: bytes | memoryview) -> None:
        """Values from one bin of the k-th kind of key."""
        found, key = unpack(data), self.keys[k]
        block.values[key.at[:, None], found["rows"][None, :]] = found["values"]
        for name in key.shown:
            block.hashes[name][found["rows"]] = found[f"hash {name}"]
            self.windows.keep_text(name, found[f"text {name}"], found[f"hash {name}"])

    def finish(self, batch: Batch, block: Block) -> Block:
        """The block with ratios and expressions."""
        if self.windows.stages:
            self.windows.step(batch, block, {})
        else:
            for name in self.windows.row_features:
                Columns(self.windows, batch, block).copy_feature(name)
        return block


__all__ = [
    "BUCKETS",
    "Bins",
    "Gathered",
    "KeyWindows",
    "Splitter",
    "count_buckets",
    "domains_read",
    "is_derived",
    "is_filter",
    "key_domains",
    "pack_batch",
    "unpack_batch",
    "weights",
]
