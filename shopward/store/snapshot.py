"""The engine's state on disk: named arrays and what they belong to, so that recovery is load + replay of the rest of the log.

A snapshot is written whole or not at all, checked by checksums when it is loaded, and the last two are kept: if the newest is
damaged the one before is taken, and if there is none the whole log is replayed.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from shopward.errors import CorruptStore
from shopward.store.files import REAL, Bytes, Disk, sweep, write_whole

MAGIC = b"SWSNAP01"
ALIGN = 64
KEEP = 2


class Place(msgspec.Struct, frozen=True):
    """Where an array lies in the file, counted from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    crc: int


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot belongs to.

    seq         the next event: every event before it is in the state
    frame       the next frame of the log to replay
    rulebook    the version in force
    seed        the hash seed, hex
    state_hash  the engine's own hash of the state, compared after loading
    extra       whatever else the engine wants back
    """

    seq: int
    frame: int
    rulebook: str = ""
    seed: str = ""
    state_hash: str = ""
    extra: dict[str, Any] = {}


class _Head(msgspec.Struct, frozen=True):
    meta: Meta
    arrays: list[Place]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A loaded snapshot. Arrays are read-only views of the file, paged in when touched.

    `passed_over` tells which newer snapshots were damaged and not used.
    """

    meta: Meta
    arrays: dict[str, np.ndarray]
    path: Path
    passed_over: tuple[str, ...] = field(default=())


def save(folder: Path | str, arrays: dict[str, np.ndarray], meta: Meta, disk: Disk = REAL, keep: int = KEEP) -> Path:
    """Write a snapshot and remove all but the newest `keep`. Raises StoreFull when there is no room; the old ones then stay.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save(folder, {"rows": np.arange(3)}, Meta(seq=41, frame=7))
    ...     found = load(folder)
    ...     path.name, found.meta.seq, found.arrays["rows"].tolist()
    ('000000000041-000000000007.snapshot', 41, [0, 1, 2])
    """
    folder = Path(folder)
    disk.make_folder(folder)
    path = folder / f"{meta.seq:012d}-{meta.frame:012d}.snapshot"
    sweep(disk, folder, ".snapshot")
    write_whole(disk, path, encode(arrays, meta))
    for old in saved(folder, disk)[:-keep]:
        disk.remove(old)
    return path


def load(folder: Path | str, disk: Disk = REAL, upto: int | None = None) -> Snapshot | None:
    """The newest whole snapshot (of at most `upto` frames), or None when there is none.

    Give the log's `next_number` as `upto`, so that a snapshot from beyond the end of the log is not taken.
    """
    passed_over = []
    for path in reversed(saved(Path(folder), disk)):
        try:
            found = read(path, disk)
        except CorruptStore as error:
            passed_over.append(str(error))
            continue
        if upto is not None and found.meta.frame > upto:
            passed_over.append(f"{path}: knows frame {found.meta.frame}, the log ends at {upto}")
            continue
        return Snapshot(found.meta, found.arrays, path, tuple(passed_over))
    return None


def saved(folder: Path, disk: Disk = REAL) -> list[Path]:
    """The snapshots in a folder, oldest first."""
    return [folder / name for name in disk.names(folder) if name.endswith(".snapshot") and not name.startswith(".")]


def read(path: Path, disk: Disk = REAL) -> Snapshot:
    """One snapshot, every checksum verified. Raises CorruptStore naming the file and what is wrong."""
    data = memoryview(disk.map(path))
    try:
        head, start = _head(data)
        arrays = {place.name: _array(data[start:], place) for place in head.arrays}
    except (ValueError, msgspec.MsgspecError) as error:
        raise CorruptStore(f"{path}: not a whole snapshot ({error})") from error
    return Snapshot(head.meta, arrays, path)


def encode(arrays: dict[str, np.ndarray], meta: Meta) -> list[Bytes]:
    """The bytes of a snapshot, as parts to write."""
    places: list[Place] = []
    parts: list[Bytes] = []
    at = 0
    for name, array in arrays.items():
        flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data.cast("B")
        places.append(Place(name, array.dtype.str, array.shape, at, zlib.crc32(flat)))
        gap = -len(flat) % ALIGN
        parts += [flat, bytes(gap)]
        at += len(flat) + gap
    head = msgspec.msgpack.encode(_Head(meta, places))
    start = MAGIC + len(head).to_bytes(8, "little") + zlib.crc32(head).to_bytes(8, "little") + head
    return [start, bytes(-len(start) % ALIGN), *parts]


def _head(data: memoryview) -> tuple[_Head, int]:
    if bytes(data[:8]) != MAGIC:
        raise ValueError("it does not begin like one")
    size = int.from_bytes(data[8:16], "little")
    head = bytes(data[24 : 24 + size])
    if len(head) != size or zlib.crc32(head) != int.from_bytes(data[16:24], "little"):
        raise ValueError("header checksum")
    return msgspec.msgpack.decode(head, type=_Head), -(-(24 + size) // ALIGN) * ALIGN


def _array(data: memoryview, place: Place) -> np.ndarray:
    dtype = np.dtype(place.dtype)
    count = int(np.prod(place.shape, dtype=np.int64))
    raw = data[place.offset : place.offset + count * dtype.itemsize]
    if len(raw) != count * dtype.itemsize or zlib.crc32(raw) != place.crc:
        raise ValueError(f"checksum of array {place.name!r}")
    return np.frombuffer(raw, dtype).reshape(place.shape)
