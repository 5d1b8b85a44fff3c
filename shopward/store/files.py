"""The few things the store asks of a disk: append, force to disk, rename, truncate, lock.

Everything durable goes through this layer, so the tests can put a disk under the store that forgets whatever was not forced
to it, at any moment, and check that nothing acknowledged is ever lost.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from shopward.errors import StoreFull, UsageError

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
IOV_MAX = 1024  # parts one writev takes on Linux
Bytes = bytes | bytearray | memoryview


class File(Protocol):
    """A file that only grows at its end, or is cut back."""

    def append(self, parts: Sequence[Bytes]) -> None: ...
    def sync(self) -> None: ...
    def truncate(self, size: int) -> None: ...
    def size(self) -> int: ...
    def close(self) -> None: ...


class Disk(Protocol):
    """Files and folders; a name is durable only after `sync_folder`, bytes only after `sync`."""

    def appending(self, path: Path) -> File: ...
    def read(self, path: Path, start: int = 0, stop: int | None = None, settle: bool = False) -> Bytes: ...
    def map(self, path: Path) -> Bytes: ...
    def exists(self, path: Path) -> bool: ...
    def names(self, folder: Path) -> list[str]: ...
    def make_folder(self, folder: Path) -> None: ...
    def rename(self, old: Path, new: Path) -> None: ...
    def remove(self, path: Path) -> None: ...
    def sync_folder(self, folder: Path) -> None: ...
    def lock(self, path: Path) -> Callable[[], None]: ...


class RealFile:
    """A file descriptor opened for appending."""

    def __init__(self, path: Path):
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)

    def append(self, parts: Sequence[Bytes]) -> None:
        left = [memoryview(p).cast("B") for p in parts if len(p)]
        while left:
            written = os.writev(self._fd, left[:IOV_MAX])
            while left and written >= len(left[0]):
                written -= len(left.pop(0))
            if written:
                left[0] = left[0][written:]

    def sync(self) -> None:
        _force(self._fd)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        os.close(self._fd)


class RealDisk:
    """The operating system's files."""

    def appending(self, path: Path) -> RealFile:
        return RealFile(path)

    def read(self, path: Path, start: int = 0, stop: int | None = None, settle: bool = False) -> bytes:
        """Bytes [start, stop) of a file; `settle` forces what was read to disk, so that acting on it is safe."""
        with path.open("rb") as file:
            file.seek(start)
            found = file.read(-1 if stop is None else stop - start)
            if settle:
                _force(file.fileno())
        return found

    def map(self, path: Path) -> memoryview:
        """The whole file as read-only memory, loaded page by page when touched."""
        with path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))

    def exists(self, path: Path) -> bool:
        return path.exists()

    def names(self, folder: Path) -> list[str]:
        return sorted(os.listdir(folder)) if folder.is_dir() else []  # noqa: PTH208 names, not paths

    def make_folder(self, folder: Path) -> None:
        """Create a folder and its parents, each name forced to disk."""
        if folder.is_dir():
            return
        self.make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        self.sync_folder(folder.parent)

    def rename(self, old: Path, new: Path) -> None:
        old.replace(new)

    def remove(self, path: Path) -> None:
        path.unlink()

    def sync_folder(self, folder: Path) -> None:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def lock(self, path: Path) -> Callable[[], None]:
        """Take the folder for this process until the returned function is called or the process ends."""
        import fcntl

        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            raise UsageError(
                f"{path.parent}: in use by process {holder}; stop it, or give another folder (--data DIR)"
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return lambda: os.close(fd)


def _force(fd: int) -> None:
    """Return when the file's bytes are on the disk itself, not only handed to it."""
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(fd)


REAL = RealDisk()


@contextmanager
def room(path: Path) -> Iterator[None]:
    """Turn the operating system's "no space left" into StoreFull, which says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise full(path, error) from error


def full(path: Path, error: OSError) -> StoreFull:
    return StoreFull(f"{path}: {os.strerror(error.errno or 0).lower()}; free some space and send the same events again")


def sweep(disk: Disk, folder: Path, ending: str) -> None:
    """Remove what a crash left of files that were never finished."""
    for name in disk.names(folder):
        if name.startswith(".") and name.endswith(f"{ending}.tmp"):
            disk.remove(folder / name)


def write_whole(disk: Disk, path: Path, parts: Sequence[Bytes]) -> None:
    """Write a file so that after a crash it is there completely under its name, or not at all.

    Raises StoreFull when there is no room; then nothing is left behind.
    """
    temp = path.with_name(f".{path.name}.tmp")
    write_temp(disk, temp, parts)
    disk.rename(temp, path)
    disk.sync_folder(path.parent)


def write_temp(disk: Disk, temp: Path, parts: Sequence[Bytes]) -> None:
    """Write and force a file that is not yet to be seen under its final name."""
    if disk.exists(temp):
        disk.remove(temp)
    with room(temp):
        file = disk.appending(temp)
        try:
            file.append(parts)
            file.sync()
        except OSError:
            with suppress(OSError):
                disk.remove(temp)
            raise
        finally:
            file.close()
