"""Numbers for 128-bit keys: a whole column of hashes is looked up at once, and what is kept about a key lies in arrays by its number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from shopward.hashing import Pair, canonical_text, combine, combine_one, siphash128

UNKNOWN, MISSING = -1, -2  # instead of a number: never entered; there is no key


@njit(cache=True, nogil=True)
def _find(table, keys, words, out):
    mask = len(table) - 1
    for i in range(len(words)):
        a, b = words[i, 0], words[i, 1]
        found = MISSING if a == 0 and b == 0 else UNKNOWN
        j = a & mask
        while found == UNKNOWN and table[j] != UNKNOWN:
            k = table[j]
            if keys[k, 0] == a and keys[k, 1] == b:
                found = k
            j = (j + 1) & mask
        out[i] = found


@njit(cache=True, nogil=True)
def _enter(table, keys, first, stop):
    mask = len(table) - 1
    for k in range(first, stop):
        j = keys[k, 0] & mask
        while table[j] != UNKNOWN:
            j = (j + 1) & mask
        table[j] = k


class Keys:
    """Distinct keys, numbered 0, 1, 2, ... as they come.

    >>> keys = Keys()
    >>> keys.add([(5, 6), (7, 8)])
    >>> keys.find(np.array([[7, 8], [0, 0], [5, 7]])).tolist() == [1, MISSING, UNKNOWN]
    True
    """

    def __init__(self) -> None:
        self.n = 0
        self._words = np.empty((64, 2), np.int64)
        self._table = np.full(128, UNKNOWN, np.int64)

    def find(self, words: np.ndarray) -> np.ndarray:
        """The number of each row's key, int64[n]."""
        out = np.empty(len(words), np.int64)
        _find(self._table, self._words, words, out)
        return out

    def add(self, pairs: Sequence[Pair]) -> None:
        """Enter keys that are not there yet, each once."""
        first, stop = self.n, self.n + len(pairs)
        self._words = grown(self._words, stop)
        self._words[first:stop] = np.array(pairs, np.int64).reshape(-1, 2)
        self.n = stop
        if 2 * stop > len(self._table):
            self._table, first = np.full(1 << (4 * stop).bit_length(), UNKNOWN, np.int64), 0
        _enter(self._table, self._words, first, stop)


def grown(array: np.ndarray, size: int) -> np.ndarray:
    """The array, or one with its content and room for `size` rows and as many again."""
    if size <= len(array):
        return array
    out = np.empty((2 * size, *array.shape[1:]), array.dtype)
    out[: len(array)] = array
    return out


# --- what a key's words are: of a text its hash, of a number the hash of its bits, so that a column of numbers needs no text


def words_of_numbers(values: np.ndarray, seed: bytes) -> np.ndarray:
    """The words of a column of numbers, int64[n, 2]; NaN has none.

    >>> words_of_numbers(np.array([7.0, np.nan]), bytes(16)).tolist() == [list(pair_of("7", True, bytes(16))), [0, 0]]
    True
    """
    out = np.ones((len(values), 2), np.int64)
    out[:, 0] = (values + 0.0).view(np.int64)  # -0.0 is 0.0
    out[np.isnan(values)] = 0
    return combine([out], seed)


def pair_of(text: str, number: bool, seed: bytes) -> Pair | None:
    """The words of a key that a list writes as a text; None for a text that no number has.

    >>> pair_of("seven", True, bytes(16)), pair_of("7.0", True, bytes(16))
    (None, None)
    """
    if not number:
        return siphash128(text.encode("utf-8", "surrogatepass"), seed)
    try:
        value = float(text)
    except ValueError:
        return None
    if value != value or canonical_text(value) != text:
        return None
    return combine_one([(int(np.float64(value + 0.0).view(np.int64)), 1)], seed)


def words_of(parts: Sequence[np.ndarray], seed: bytes) -> np.ndarray:
    """The words of keys of one or several parts."""
    return np.ascontiguousarray(parts[0]) if len(parts) == 1 else combine(parts, seed)


def words_of_key(key: str | tuple[str, ...], numbers: Sequence[bool], seed: bytes) -> Pair | None:
    """The words of one key as lists write it; `numbers` says which parts events bring as numbers. None when no event can have it.

    >>> column = np.array([siphash128(b"a1", bytes(16))])
    >>> words_of_key(("a1", "7"), (False, True), bytes(16)) == tuple(words_of([column, words_of_numbers(np.array([7.0]), bytes(16))], bytes(16))[0].tolist())
    True
    """
    texts = (key,) if isinstance(key, str) else key
    if len(texts) != len(numbers):
        return None
    pairs = [pair_of(text, number, seed) for text, number in zip(texts, numbers, strict=True)]
    whole = [pair for pair in pairs if pair is not None]
    if len(whole) < len(pairs):
        return None
    return whole[0] if len(whole) == 1 else combine_one(whole, seed)
