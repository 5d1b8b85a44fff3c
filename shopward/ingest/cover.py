"""Pseudonyms for whole columns: the vault is asked once for a value, then a table in memory knows what stands for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numba import njit

from shopward.ingest.texts import Text

PSEUDONYM = 34  # bytes: `p_` and 32 hex digits
MOST = 1 << 17  # values remembered; then all are forgotten
PAD = 64

_jit = njit(nogil=True, error_model="numpy", cache=True)


@_jit
def _find(slots, pairs, starts, places):
    """places[i]: the number of the pseudonym of row i, -1 where it is not known, -2 where there is nothing. Returns how many are not known."""
    mask, missing = slots.shape[0] - 1, 0
    for i in range(pairs.shape[0]):
        places[i] = -2
        if starts[i] < 0:
            continue
        at = pairs[i, 0] & mask
        while slots[at, 2] != 0 and (slots[at, 0] != pairs[i, 0] or slots[at, 1] != pairs[i, 1]):
            at = (at + 1) & mask
        places[i] = slots[at, 2] - 1
        missing += places[i] < 0
    return missing


@_jit
def _keep(slots, pairs, first):
    """Remember new values: pair k is number first + k."""
    mask = slots.shape[0] - 1
    for k in range(pairs.shape[0]):
        at = pairs[k, 0] & mask
        while slots[at, 2] != 0:
            at = (at + 1) & mask
        slots[at, 0], slots[at, 1], slots[at, 2] = pairs[k, 0], pairs[k, 1], first + k + 1


class Covers:
    """Replaces the values of columns by their pseudonyms.

    many       asks for pseudonyms: (field, values) -> pseudonyms
    erasures   a number that changes when somebody was forgotten; then all is asked for anew
    """

    def __init__(
        self, many: Callable[[str, Sequence[str]], Sequence[str | None]], seed: bytes, erasures: Callable[[], int]
    ):
        self.many, self.seed, self.erasures = many, seed, erasures
        self._forget()

    def _forget(self) -> None:
        self._seen = self.erasures()
        self._slots = np.zeros((4 * MOST, 3), np.int64)
        self._names = np.zeros(1024 * PSEUDONYM + PAD, np.uint8)
        self._count = 0

    def __call__(self, field: str, column: Text) -> Text:
        """The column with pseudonyms for all values that lie in its buffer; what was set singly stays as it is."""
        if self._seen != self.erasures() or self._count > MOST:
            self._forget()
        plain = Text(column.buf, np.where(column.starts < 0, -1, column.starts), column.stops)
        pairs = plain.hashes(self.seed)
        places = np.empty(len(column), np.int64)
        if _find(self._slots, pairs, column.starts, places):
            self._learn(field, column, pairs, places)
            _find(self._slots, pairs, column.starts, places)
        starts = np.where(places >= 0, places * PSEUDONYM, column.starts)
        return Text(self._names, starts, starts + PSEUDONYM, list(column.extra))

    def _learn(self, field: str, column: Text, pairs: np.ndarray, places: np.ndarray) -> None:
        rows = np.flatnonzero(places == -1)
        first = {column.one(row): row for row in rows.tolist()}
        names = "".join(str(name) for name in self.many(field, list(first)))  # type: ignore[arg-type]
        need = (self._count + len(first)) * PSEUDONYM + PAD
        if need > len(self._names):  # batches under way keep looking at the old array
            self._names = np.concatenate([self._names, np.zeros(max(need, len(self._names)), np.uint8)])
        at = self._count * PSEUDONYM
        self._names[at : at + len(names)] = np.frombuffer(names.encode(), np.uint8)
        _keep(self._slots, pairs[list(first.values())], self._count)
        self._count += len(first)
