"""Many small files of a day become one, and whoever reads the lake meanwhile sees all of the day, before or after.

A server compacts every few minutes, so a day has hundreds of files, each with a footer to read. `merge` writes a partition anew in
`lake/_merge`, then exchanges the two folders in one step of the file system: a listing finds either the old files or the new one.
A crash or a full disk before that step leaves the lake as it was; what stays in `_merge` is thrown away by the next merge.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from shopward.errors import CorruptStore, UsageError
from shopward.store.files import REAL, room, write_whole
from shopward.store.lake import COMMIT, PART, Commit, parquet_options, recover, take_lock

if TYPE_CHECKING:
    import pyarrow as pa

MERGED = ("events", "decisions", "lists")  # finders write findings at any time, without the lake's lock
SMALL = 32 << 20  # bytes; a larger file is left alone
ENOUGH = 64 << 20  # bytes of files that become one: what is held in memory is some ten times that
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of Linux


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge did."""

    partitions: int = 0
    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0


def merge(data: Path | str, on_progress: Callable[[int], Any] = lambda files: None, small: int = SMALL) -> Merged:
    """Merge the small files of every partition of a data folder's lake; one at a time, safe beside readers and a running server.

    `on_progress` is told how many files each step replaced. Raises UsageError where the file system cannot exchange folders or
    another process compacts, StoreFull when there is no room, CorruptStore for a file that is not readable.
    """
    lake, total = Path(data) / "lake", [0] * 5
    if not lake.is_dir():
        raise UsageError(f"{lake}: there is no such folder; `shopward lake compact` makes it")
    unlock = take_lock(lake)
    try:
        recover(lake)
        shutil.rmtree(lake / "_merge", ignore_errors=True)
        for folder, files in list(_partitions(lake, small)):
            before = sum(path.stat().st_size for path in files)
            after = _merge(lake, folder, files)
            total = [a + b for a, b in zip(total, (1, len(files), 1, before, after), strict=True)]
            on_progress(len(files))
    finally:
        shutil.rmtree(lake / "_merge", ignore_errors=True)
        unlock()
    return Merged(*total)


def _partitions(lake: Path, small: int) -> Iterator[tuple[Path, list[Path]]]:
    """Folders with several small files, and these files in order of their events."""
    for dataset in MERGED:
        for folder in sorted({path.parent for path in (lake / dataset).rglob("part-*.parquet")}):
            files = [p for p in sorted(folder.iterdir()) if PART.fullmatch(p.name) and p.stat().st_size < small]
            while len(files) > 1:
                some: list[Path] = []
                size = 0
                while files and (len(some) < 2 or size < ENOUGH):
                    size += files[0].stat().st_size
                    some.append(files.pop(0))
                yield folder, some


def _merge(lake: Path, folder: Path, files: list[Path]) -> int:
    """One partition anew; the size of its new file."""
    import pyarrow.parquet as pq

    new = lake / "_merge" / folder.relative_to(lake)
    new.mkdir(parents=True)
    table = _whole(files)
    target = new / merged_name([path.name for path in files])
    with room(target):
        for path in folder.iterdir():
            if path not in files:
                os.link(path, new / path.name)
        pq.write_table(table, target, **parquet_options(table))
        _force(target)
        _force(new)
    if pq.read_metadata(target).num_rows != sum(pq.read_metadata(path).num_rows for path in files):
        raise CorruptStore(
            f"{folder}: the merged file has other rows than the files it is made of; nothing was changed"
        )
    _settle(lake, {str(path.relative_to(lake)) for path in files})
    exchange(new, folder)
    _force(folder.parent)
    size = (folder / target.name).stat().st_size
    shutil.rmtree(new)
    return size


def _whole(files: list[Path]) -> pa.Table:
    """The rows of some files; a column that came later is null before, one that grew has its widest type."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for path in files:
        try:
            tables.append(pq.read_table(path, partitioning=None, page_checksum_verification=True))
        except (OSError, pa.ArrowInvalid) as wrong:
            raise CorruptStore(
                f"{path}: not a readable Parquet file ({str(wrong).splitlines()[0]}); restore it from a copy"
            ) from None
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid) as wrong:
        raise CorruptStore(f"{files[0].parent}: {str(wrong).splitlines()[0]}") from None
    return table.sort_by("seq") if "seq" in table.column_names else table


def merged_name(names: list[str]) -> str:
    """What a file made of others is called: the span of their events, and the last of their log frames.

    >>> merged_name(["part-0000000000000000-0000000000000004-000000000000.parquet", "part-0000000000000005-0000000000000009-000000000003.parquet"])
    'part-0000000000000000-0000000000000009-000000000003.parquet'
    """
    parts = [name.removesuffix(".parquet").split("-")[1:] for name in names]
    first, last, frame = min(p[0] for p in parts), max(p[1] for p in parts), max(p[2] for p in parts)
    return f"part-{first}-{last}-{frame}.parquet"


def _settle(lake: Path, gone: set[str]) -> None:
    """Commits no longer wait for files that have had their names for long, so that nobody misses them."""
    for name in REAL.names(lake / "_commits"):
        if COMMIT.fullmatch(name):
            path = lake / "_commits" / name
            commit = msgspec.json.decode(path.read_bytes(), type=Commit)
            kept = [file for file in commit.files if file not in gone]
            if len(kept) < len(commit.files):
                write_whole(REAL, path, [msgspec.json.encode(msgspec.structs.replace(commit, files=kept))])


def exchange(one: Path, other: Path) -> None:
    """Two folders change names in one step. Raises UsageError where the system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        raise UsageError("this system cannot exchange two folders in one step: small files are not merged")
    if libc.renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE):
        wrong = ctypes.get_errno()
        if wrong in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise UsageError(
                f"{other}: this file system cannot exchange two folders in one step: small files are not merged"
            )
        raise OSError(wrong, os.strerror(wrong), str(other))


def _force(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


__all__ = ["Merged", "exchange", "merge", "merged_name"]
