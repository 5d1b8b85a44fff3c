"""Memory that grows without moving: wide address ranges are reserved at once and become real memory page by page when touched.

Rows, slots and identities live here. Because an address never changes, kernels can hold it. Where a system refuses to
reserve that much, an area starts small and is copied when it grows (its address then changes, which callers are told).
"""

from __future__ import annotations

import contextlib
import mmap

import numpy as np

from shopward.errors import StoreFull

RESERVE = 16 << 30  # bytes of address space per area
SMALL = 1 << 20  # where reserving is refused: the first size
PAGE = 2 << 20  # of large pages, which spare the processor walks through page tables; areas begin at such an address
WORTH = 1 << 20  # an area that uses this much of its first large page may have it whole
HUGE = getattr(mmap, "MADV_HUGEPAGE", 14)  # Linux: large pages, please
COLLAPSE = 25  # Linux 6.1: make one large page of what is there now
NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)  # the Linux value


class Area:
    """Zeroed memory of one kind of item (`item` bytes each), as an array of `dtype`."""

    def __init__(self, name: str, item: int, dtype: type = np.int64, reserve: int = RESERVE):
        self.name, self.item, self.dtype = name, item, dtype
        self._small = _mapped(reserve)  # until its first page is a large one
        size = np.dtype(dtype).itemsize
        self.array: np.ndarray = np.zeros(SMALL // size, dtype) if self._small is None else self._small.array(dtype)

    @property
    def room(self) -> int:
        """How many items fit."""
        return self.array.nbytes // self.item

    def enlarge(self) -> None:
        """Make room for twice as many items; the address changes.

        Raises StoreFull when the machine has no memory left for it.
        """
        try:
            larger: np.ndarray = np.zeros(2 * len(self.array), self.dtype)
        except MemoryError:
            raise StoreFull(f"no memory left for {self.name}: {self.array.nbytes >> 20} MB are in use") from None
        larger[: len(self.array)] = self.array
        self.array = larger

    def settle(self, items: int) -> None:
        """Asks for a large page in place of the small ones at the beginning once `items` items are worth it."""
        if self._small is not None and items * self.item >= WORTH:
            self._small.collapse()
            self._small = None

    def used(self, items: int) -> np.ndarray:
        """The first `items` items."""
        return self.array[: items * self.item // self.array.itemsize]


class Mapping:
    """Private, lazily filled memory of `size` bytes that begins at a large page; all pages but the first may be large ones.

    Raises OSError, ValueError or OverflowError where that much address space is refused.
    """

    def __init__(self, size: int, flags: int):
        self.size, self.area = size, mmap.mmap(-1, size + PAGE, flags=flags)
        self.start = -address(np.frombuffer(self.area, np.uint8)) % PAGE
        self._advise(HUGE, self.start + PAGE, size - PAGE)

    def array(self, dtype: type) -> np.ndarray:
        return np.frombuffer(self.area, dtype, self.size // np.dtype(dtype).itemsize, self.start)

    def collapse(self) -> None:
        """Make the first page a large one with what it holds, where the system can."""
        self._advise(HUGE, self.start, PAGE)
        self._advise(COLLAPSE, self.start, PAGE)

    def _advise(self, advice: int, start: int, length: int) -> None:
        if length > 0 and hasattr(mmap, "MADV_HUGEPAGE"):  # Linux
            with contextlib.suppress(OSError):
                self.area.madvise(advice, start, length)


def _mapped(size: int) -> Mapping | None:
    """None where the system refuses."""
    if not hasattr(mmap, "MAP_PRIVATE"):
        return None
    try:
        return Mapping(size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE)
    except (OSError, ValueError, OverflowError):
        return None


def zeros(size: int) -> np.ndarray:
    """An int64 array of zeros; a large one lies in large pages."""
    mapped = _mapped(8 * size) if 8 * size >= WORTH else None
    if mapped is None:
        return np.zeros(size, np.int64)
    mapped.collapse()
    return mapped.array(np.int64)


class Cell:
    """One area as memoryviews of every word size, for the interpreted engine."""

    __slots__ = ("I", "d", "h", "q")

    def __init__(self, array: np.ndarray):
        raw = memoryview(array).cast("B")
        self.q = raw.cast("q") if len(raw) % 8 == 0 else None
        self.d = raw.cast("d") if len(raw) % 8 == 0 else None
        self.I = raw.cast("I") if len(raw) % 4 == 0 else None  # noqa: E741
        self.h = raw.cast("h") if len(raw) % 2 == 0 else None


class Block:
    """What a kernel works on, as it is handed over: addresses for the compiled engine, memoryviews for the interpreted one."""

    __slots__ = ("cells", "compiled", "held", "words")

    def __init__(self, size: int, compiled: bool, words: np.ndarray | None = None):
        self.held: list = [0] * size
        self.words = np.zeros(max(size, 1), np.int64) if words is None else words
        self.cells: list = [0] * size
        self.compiled = compiled

    def set(self, slot: int, value: np.ndarray | int | Block | None) -> None:
        self.held[slot] = value
        if self.compiled:
            self.words[slot] = address(value)
        else:
            self.cells[slot] = cell(value)

    def switch(self, compiled: bool) -> None:
        """The same block for the other engine."""
        self.compiled = compiled
        for slot, value in enumerate(self.held):
            self.set(slot, value)


def address(value: np.ndarray | int | Block | None) -> int:
    if isinstance(value, Block):
        value = value.words
    return value.__array_interface__["data"][0] if isinstance(value, np.ndarray) else value or 0


def cell(value: np.ndarray | int | Block | None) -> object:
    if isinstance(value, np.ndarray):
        return Cell(value) if value.size else Cell(np.zeros(8, value.dtype))
    if isinstance(value, Block):
        return value.cells
    return value or 0
