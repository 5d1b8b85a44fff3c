"""A disk in memory that, when the power fails, forgets whatever was not forced to it.

After `crash` each unforced write may be there, gone, or half there, in any combination; the same for names that were created,
renamed or removed without forcing their folder. It can also be cut off in the middle
of an operation (`operations_left`), run full (`capacity` bytes) or refuse to force (`sync_error`).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from random import Random

from shopward.errors import UsageError


class PowerCut(BaseException):
    """The machine dies in the middle of an operation."""


class Inode:
    """Bytes as the process sees them, bytes as the platter has them, and the writes in between."""

    def __init__(self, content: bytes = b""):
        self.seen = bytearray(content)
        self.durable = bytearray(content)
        self.pending: list[tuple[str, int, bytes]] = []

    def write(self, at: int, data: bytes) -> None:
        self.pending.append(("write", at, data))
        _apply(self.seen, at, data)

    def truncate(self, size: int) -> None:
        self.pending.append(("cut", size, b""))
        _cut(self.seen, size)

    def force(self) -> None:
        self.durable, self.pending = bytearray(self.seen), []

    def after_crash(self, chance: Random) -> Inode:
        content = bytearray(self.durable)
        keep_all_before = chance.randrange(len(self.pending) + 1) if chance.random() < 0.5 else 0
        for i, (what, at, data) in enumerate(self.pending):
            if i >= keep_all_before and chance.random() < 0.5:
                continue
            if what == "cut":
                _cut(content, at)
            else:
                whole = i < keep_all_before or chance.random() < 0.6
                _apply(content, at, data if whole else data[: chance.randrange(len(data) + 1)])
        return Inode(bytes(content))


def _apply(content: bytearray, at: int, data: bytes) -> None:
    if len(content) < at:
        content.extend(bytes(at - len(content)))
    content[at : at + len(data)] = data


def _cut(content: bytearray, size: int) -> None:
    del content[size:]
    content.extend(bytes(size - len(content)))


class Folder:
    def __init__(self, names: dict[str, Inode] | None = None):
        self.seen = dict(names or {})
        self.durable = dict(names or {})
        self.pending: list[tuple[str, str, Inode | str | None]] = []

    def change(self, what: str, name: str, other: Inode | str | None = None) -> None:
        self.pending.append((what, name, other))
        _change(self.seen, what, name, other)

    def force(self) -> None:
        self.durable, self.pending = dict(self.seen), []

    def after_crash(self, chance: Random) -> dict[str, Inode]:
        names = dict(self.durable)
        for change in self.pending:
            if chance.random() < 0.5:
                _change(names, *change)
        return names


def _change(names: dict[str, Inode], what: str, name: str, other) -> None:
    if what == "link":
        names[name] = other
    elif what == "remove":
        names.pop(name, None)
    elif name in names:
        names[other] = names.pop(name)


class ForgetfulFile:
    def __init__(self, disk: ForgetfulDisk, inode: Inode):
        self.disk, self.inode, self.closed = disk, inode, False

    def append(self, parts: Sequence[bytes]) -> None:
        assert not self.closed, "written after close"
        self.disk.tick()
        data = b"".join(bytes(part) for part in parts)
        room = self.disk.room()
        self.inode.write(len(self.inode.seen), data[:room])
        if len(data) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def sync(self) -> None:
        assert not self.closed, "synced after close"
        self.disk.tick()
        if self.disk.sync_error:
            raise OSError(self.disk.sync_error, os.strerror(self.disk.sync_error))
        self.disk.syncs += 1
        self.inode.force()

    def truncate(self, size: int) -> None:
        assert not self.closed, "cut after close"
        self.disk.tick()
        self.inode.truncate(size)

    def size(self) -> int:
        assert not self.closed, "asked after close"
        return len(self.inode.seen)

    def close(self) -> None:
        self.closed = True


class ForgetfulDisk:
    def __init__(self, capacity: int = 1 << 40):
        self.folders: dict[Path, Folder] = {}
        self.locks: set[Path] = set()
        self.capacity, self.sync_error, self.syncs = capacity, 0, 0
        self.operations_left = -1  # until the power is cut; negative: it never is

    def tick(self) -> None:
        if self.operations_left == 0:
            raise PowerCut
        self.operations_left -= 1

    def room(self) -> int:
        used = sum(len(inode.seen) for folder in self.folders.values() for inode in folder.seen.values())
        return max(self.capacity - used, 0)

    def crash(self, chance: Random) -> ForgetfulDisk:
        """The disk as the next process finds it."""
        after, survivors = ForgetfulDisk(self.capacity), {}
        for path, folder in self.folders.items():
            kept = folder.after_crash(chance)
            for inode in kept.values():
                if id(inode) not in survivors:
                    survivors[id(inode)] = inode.after_crash(chance)
            after.folders[path] = Folder({name: survivors[id(inode)] for name, inode in kept.items()})
        return after

    def kill(self) -> ForgetfulDisk:
        """The disk after the process was killed but the machine kept running: everything written is seen, forced or not."""
        self.locks.clear()
        return self

    # ---- the Disk interface

    def appending(self, path: Path) -> ForgetfulFile:
        folder = self.folders[path.parent]
        if path.name not in folder.seen:
            self.tick()
            folder.change("link", path.name, Inode())
        return ForgetfulFile(self, folder.seen[path.name])

    def read(self, path: Path, start: int = 0, stop: int | None = None, settle: bool = False) -> bytes:
        inode = self._inode(path)
        if settle:
            inode.force()
        return bytes(inode.seen[start:stop])

    def map(self, path: Path) -> bytes:
        return bytes(self._inode(path).seen)

    def exists(self, path: Path) -> bool:
        return path in self.folders or (path.parent in self.folders and path.name in self.folders[path.parent].seen)

    def names(self, folder: Path) -> list[str]:
        below = [path.name for path in self.folders if path.parent == folder]
        return sorted([*below, *(self.folders[folder].seen if folder in self.folders else ())])

    def make_folder(self, folder: Path) -> None:
        for path in (folder, *folder.parents):
            self.folders.setdefault(path, Folder())

    def rename(self, old: Path, new: Path) -> None:
        assert old.parent == new.parent, "a rename within one folder is atomic; between two it is not modelled"
        self._inode(old)
        self.tick()
        self.folders[old.parent].change("rename", old.name, new.name)

    def remove(self, path: Path) -> None:
        self._inode(path)
        self.tick()
        self.folders[path.parent].change("remove", path.name)

    def sync_folder(self, folder: Path) -> None:
        self.tick()
        self.folders[folder].force()

    def lock(self, path: Path):
        if path in self.locks:
            raise UsageError(f"{path.parent}: in use by process 1; stop it, or give another folder (--data DIR)")
        self.locks.add(path)
        return lambda: self.locks.discard(path)

    def _inode(self, path: Path) -> Inode:
        folder = self.folders.get(path.parent)
        if folder is None or path.name not in folder.seen:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return folder.seen[path.name]
