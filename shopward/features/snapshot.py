"""Snapshots of the window engine: its whole state as plain arrays, and back.

What is state is kept byte for byte, so that an engine that goes on from a snapshot is the same as one that never stopped. Hash tables
and indexes follow from the rest and are rebuilt.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import numpy as np

from shopward.errors import CorruptStore
from shopward.features import lib
from shopward.features.arena import address
from shopward.features.state import FIRST_INDEX, FIRST_TABLE, FamilyMemory, Ids

if TYPE_CHECKING:
    from shopward.features.live import Windows

FORMAT = 1


def parts_of(windows: Windows) -> dict[str, np.ndarray]:
    """The used part of everything that is state (views, not copies)."""
    parts = {"swept": np.array([FORMAT, windows.swept], np.int64)}
    for d, ids in enumerate(windows.ids):
        key = _key(windows, d)
        header = ids.header.copy()
        header[[lib.MASK, lib.LIMIT, lib.ROOM, lib.FRESH]] = 0
        parts[f"{key}.header"] = header
        parts[f"{key}.known"] = ids.known.used(ids.count)
        parts[f"{key}.free"] = ids.free.used(int(ids.header[lib.FREE]))
        if d in windows.kept:
            parts[f"{key}.texts"] = _packed_texts(ids)
    for memory in windows.families:
        name = memory.family.name
        parts[f"rows.{name}"] = memory.rows.used(windows.ids[memory.family.domain].count)
        for j, ring in memory.rings.items():
            header = ring.header.copy()
            header[1] = 0
            parts[f"ring.{name}.{j}.header"] = header
            parts[f"ring.{name}.{j}.slots"] = ring.slots.used(int(ring.header[0]))
    return parts | (windows.neighbours.parts() if windows.neighbours else {})


def _key(windows: Windows, d: int) -> str:
    return f"ids.{d}.{windows.plan.domains[d].kind}.{windows.ids[d].name}"


def digest_of(windows: Windows) -> str:
    """A digest of all state."""
    digest = hashlib.sha256()
    for name, part in parts_of(windows).items():
        digest.update(f"{name}:{part.nbytes};".encode())
        digest.update(np.ascontiguousarray(part).view(np.uint8).data)
    return digest.hexdigest()


def check(windows: Windows, parts: dict[str, np.ndarray]) -> None:
    """Raises CorruptStore if a snapshot was not written for these features and this seed."""
    if set(parts_of(windows)) != set(parts) or int(parts["swept"][0]) != FORMAT:
        raise CorruptStore("this snapshot was written for other features: replay the log instead")
    mine = {int(ids.header[lib.SEED]) for ids in windows.ids}
    if {int(x[lib.SEED]) for name, x in parts.items() if re.match(r"ids.*\.header$", name)} != mine:
        raise CorruptStore("this snapshot was written with another seed: its keys cannot be found again")


def fill(windows: Windows, parts: dict[str, np.ndarray]) -> None:
    """Put a snapshot into an engine whose state is new."""
    windows.swept = int(parts["swept"][1])
    for d, ids in enumerate(windows.ids):
        _fill_ids(ids, _key(windows, d), parts)
    for memory in windows.families:
        _fill_rows(memory, parts)
        windows.ids[memory.family.domain].measure_room()
    if windows.neighbours:
        windows.neighbours.fill(parts)


def _fill_ids(ids: Ids, key: str, parts: dict[str, np.ndarray]) -> None:
    ids.header[:] = parts[f"{key}.header"]
    known, free = parts[f"{key}.known"], parts[f"{key}.free"]
    while ids.known.room < ids.count or ids.free.room < len(free):
        ids.known.enlarge()
        ids.free.enlarge()
    ids.known.array[: len(known)] = known
    ids.free.array[: len(free)] = free
    size = FIRST_TABLE
    while ids.header[lib.LIVE] * 2 > size:
        size *= 2
    ids.new_table(size)
    ids.measure_room()
    if f"{key}.texts" in parts:
        ids.texts = _unpacked_texts(parts[f"{key}.texts"])


def _fill_rows(memory: FamilyMemory, parts: dict[str, np.ndarray]) -> None:
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


def rebuild(windows: Windows) -> None:
    """The hash tables and the indexes of distinct values, from the identities and the slots."""
    for ids in windows.ids:
        if windows.compiled:
            from shopward.features.lib_jit import table_fill_at

            table_fill_at(address(ids.known.array), ids.count, address(ids.table), len(ids.table) - 1)
        else:
            lib.table_fill(memoryview(ids.known.array), ids.count, memoryview(ids.table), len(ids.table) - 1)
    for memory in windows.families:
        _rebuild_indexes(windows, memory)


def _rebuild_indexes(windows: Windows, memory: FamilyMemory) -> None:
    entries = totals(windows, memory)[1:].tolist()
    for ring in memory.rings.values():
        for name in ring.indexes:
            size, wanted = FIRST_INDEX, 2 * entries.pop(0)
            while wanted > size:
                size *= 2
            ring.new_index(name, size)
    block, ids = memory.descriptor(windows.compiled), windows.ids[memory.family.domain].count
    if windows.compiled:
        from shopward.features.lib_jit import index_rows_at

        index_rows_at(address(block.words), ids)
    else:
        lib.index_rows(block.cells, ids)


def totals(windows: Windows, memory: FamilyMemory) -> np.ndarray:
    """Slots in use, and entries per index."""
    out = np.zeros(1 + sum(len(r.indexes) for r in memory.rings.values()), np.int64)
    block, ids = memory.descriptor(windows.compiled), windows.ids[memory.family.domain].count
    if windows.compiled:
        from shopward.features.lib_jit import count_rows_at

        count_rows_at(address(block.words), ids, address(out))
    else:
        lib.count_rows(block.cells, ids, memoryview(out))
    return out


def _packed_texts(ids: Ids) -> np.ndarray:
    """The texts of live values, in id order: how many, then hashes and length of each, then the bytes."""
    known = ids.known.used(ids.count).reshape(-1, lib.IDENTITY)
    rows = [(a, b, ids.texts[(a, b)]) for a, b, seen, _ in known.tolist() if seen and (a, b) in ids.texts]
    data = [text.encode("utf-8", "surrogatepass") for _, _, text in rows]
    table = np.array([(a, b, len(x)) for (a, b, _), x in zip(rows, data, strict=True)], np.int64).reshape(-1, 3)
    head = np.array([len(rows)], np.int64).tobytes() + table.tobytes()
    return np.frombuffer(head + b"".join(data), np.uint8)


def _unpacked_texts(packed: np.ndarray) -> dict[tuple[int, int], str]:
    raw = packed.tobytes()
    n = int(np.frombuffer(raw, np.int64, 1)[0])
    table = np.frombuffer(raw, np.int64, 3 * n, 8).reshape(-1, 3).tolist()
    at, texts = 8 + 24 * n, {}
    for a, b, size in table:
        texts[(a, b)] = raw[at : at + size].decode("utf-8", "surrogatepass")
        at += size
    return texts
