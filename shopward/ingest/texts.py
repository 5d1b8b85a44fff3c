"""Columns of text that stay where they were read until somebody wants to see them.

Most text of a stream is only hashed. So a column keeps the buffer it was found in and where each value starts and stops; strings
are made on demand. All kinds are sequences of `str | None` and turn into Arrow arrays without making strings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from shopward.hashing import hash_slices, hash_strings, seed_words
from shopward.ingest.columns import copy_spans

if TYPE_CHECKING:
    import pyarrow as pa

FEW = 32  # below this, strings are cut one by one


class Column(Sequence):
    """What the columns of text share: they look like lists of `str | None`."""

    __slots__ = ()

    def take(self, rows: np.ndarray) -> Column:
        raise NotImplementedError

    def cut(self, start: int, stop: int) -> Column:
        raise NotImplementedError

    def missing(self) -> np.ndarray:
        raise NotImplementedError

    def hashes(self, seed: bytes) -> np.ndarray:
        raise NotImplementedError

    def to_arrow(self) -> pa.Array:
        raise NotImplementedError

    def to_list(self) -> list[str | None]:
        return self.to_arrow().to_pylist()

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            start, stop, step = at.indices(len(self))
            return self.cut(start, stop) if step == 1 else self.to_list()[at]
        if at < 0:
            at += len(self)
        if not 0 <= at < len(self):
            raise IndexError(at)
        return self.one(at)

    def one(self, row: int) -> str | None:
        """One value."""
        return self.cut(row, row + 1).to_list()[0]

    def __iter__(self) -> Iterator[str | None]:
        return iter(self.to_list())

    def __contains__(self, text: object) -> bool:
        return text in self.to_list()

    def __eq__(self, other: object) -> bool:
        return self.to_list() == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self.to_list())

    def __arrow_array__(self, type: pa.DataType | None = None) -> pa.Array:
        array = self.to_arrow()
        return array if type is None else array.cast(type)


class Text(Column):
    """Values as spans of a byte buffer; start -1 is null, -2 - k is `extra[k]` (values that are not in the buffer as they stand)."""

    __slots__ = ("buf", "extra", "starts", "stops")

    def __init__(self, buf: np.ndarray, starts: np.ndarray, stops: np.ndarray, extra: list[str] | None = None):
        self.buf, self.starts, self.stops, self.extra = buf, starts, stops, [] if extra is None else extra

    @classmethod
    def of(cls, values: Sequence[str | None]) -> Text:
        """A column of given strings.

        >>> column = Text.of(["a", None, "Zürich"])
        >>> column, len(column), column[-1], column[1:]
        (['a', None, 'Zürich'], 3, 'Zürich', [None, 'Zürich'])
        """
        parts = [b"" if value is None else value.encode() for value in values]
        ends = np.cumsum([len(part) for part in parts], dtype=np.int64) if parts else np.empty(0, np.int64)
        starts = ends - np.array([len(part) for part in parts], np.int64)
        starts[np.array([value is None for value in values], bool)] = -1
        return cls(np.frombuffer(bytearray(b"".join(parts) + bytes(8)), np.uint8), starts, ends)

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, rows: np.ndarray) -> Text:
        return Text(self.buf, self.starts[rows], self.stops[rows], self.extra)

    def cut(self, start: int, stop: int) -> Text:
        return Text(self.buf, self.starts[start:stop], self.stops[start:stop], self.extra)

    def set(self, row: int, value: str | None) -> None:
        """Replace one value."""
        self.starts[row] = -1
        if value is not None:
            self.starts[row] = -2 - len(self.extra)
            self.extra.append(value)

    def missing(self) -> np.ndarray:
        return self.starts == -1

    def hashes(self, seed: bytes) -> np.ndarray:
        out = np.empty((len(self), 2), np.int64)
        hash_slices(self.buf, self.starts, self.stops, *seed_words(seed), out)
        if self.extra:
            odd = np.flatnonzero(self.starts < -1)
            out[odd] = hash_strings(self.extra, seed)[-2 - self.starts[odd]]
        return out

    def packed(self) -> Text:
        """The same values, one behind the other in a buffer of their own."""
        if self.extra and (self.starts < -1).any():
            return self._packed_with_extra()
        lengths = np.where(self.starts >= 0, self.stops - self.starts, 0)
        out = np.empty(int(lengths.sum()) + 8, np.uint8)
        offsets = np.empty(len(self) + 1, np.int64)
        copy_spans(self.buf, self.starts, self.stops, out, offsets)
        return Text(out, np.where(self.starts < 0, -1, offsets[:-1]), offsets[1:])

    def joined(self) -> bytes:
        """All values, one behind the other."""
        if not len(self):
            return b""
        if (self.starts[1:] == self.stops[:-1]).all() and self.starts[0] >= 0:
            return self.buf[int(self.starts[0]) : int(self.stops[-1])].tobytes()
        packed = self.packed()
        return packed.buf[: int(packed.stops[-1])].tobytes()

    def _packed_with_extra(self) -> Text:
        odd = np.flatnonzero(self.starts < -1)
        added = Text.of([self._extra(int(row)) for row in odd])
        shift = len(self.buf)
        starts, stops = self.starts.astype(np.int64), self.stops.astype(np.int64)
        starts[odd], stops[odd] = added.starts + shift, added.stops + shift
        low = int(starts[starts >= 0].min())
        buf = np.concatenate([self.buf[min(low, shift) :], added.buf])
        return Text(buf, np.where(starts >= 0, starts - min(low, shift), -1), stops - min(low, shift)).packed()

    def _extra(self, row: int) -> str:
        return self.extra[-2 - int(self.starts[row])]

    def to_arrow(self) -> pa.Array:
        import pyarrow as pa

        packed = self.packed()
        n = len(packed)
        offsets = np.zeros(n + 1, np.int64)
        offsets[1:] = packed.stops
        missing = packed.starts < 0
        valid = None
        if missing.any():
            valid = pa.py_buffer(np.packbits(~missing, bitorder="little"))
        return pa.LargeStringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(packed.buf), valid)

    def to_list(self) -> list[str | None]:
        if len(self) > FEW:
            return self.to_arrow().to_pylist()
        return [self.one(row) for row in range(len(self))]

    def one(self, row: int) -> str | None:
        start = int(self.starts[row])
        if start >= 0:
            return self.buf[start : int(self.stops[row])].tobytes().decode()
        return None if start == -1 else self._extra(row)


class Nothing(Column):
    """A column without a single value."""

    __slots__ = ("n",)

    def __init__(self, n: int):
        self.n = n

    def __len__(self) -> int:
        return self.n

    def one(self, row: int) -> None:
        return None

    def take(self, rows: np.ndarray) -> Nothing:
        return Nothing(len(rows))

    def cut(self, start: int, stop: int) -> Nothing:
        return Nothing(stop - start)

    def missing(self) -> np.ndarray:
        return np.ones(self.n, bool)

    def hashes(self, seed: bytes) -> np.ndarray:
        return np.zeros((self.n, 2), np.int64)

    def to_list(self) -> list[str | None]:
        return [None] * self.n

    def to_arrow(self) -> pa.Array:
        import pyarrow as pa

        return pa.nulls(self.n, pa.large_string())

    def as_text(self) -> Text:
        """The same as spans of bytes, so that single values can be set."""
        return Text(_NO_BYTES, np.full(self.n, -1, np.int32), np.full(self.n, -1, np.int32))


PAD = 64  # bytes behind the last text that may be read
_NO_BYTES = np.zeros(PAD, np.uint8)


class Digits(Column):
    """Whole numbers that stand for their decimal text."""

    __slots__ = ("valid", "values")

    def __init__(self, values: np.ndarray, valid: np.ndarray):
        self.values, self.valid = values, valid

    def __len__(self) -> int:
        return len(self.values)

    def one(self, row: int) -> str | None:
        return str(self.values[row]) if self.valid[row] else None

    def take(self, rows: np.ndarray) -> Digits:
        return Digits(self.values[rows], self.valid[rows])

    def cut(self, start: int, stop: int) -> Digits:
        return Digits(self.values[start:stop], self.valid[start:stop])

    def missing(self) -> np.ndarray:
        return ~self.valid

    def hashes(self, seed: bytes) -> np.ndarray:
        import pyarrow as pa

        out = hash_strings(pa.array(self.values), seed)
        out[~self.valid] = 0
        return out

    def to_arrow(self) -> pa.Array:
        import pyarrow as pa

        return pa.array(self.values, mask=~self.valid).cast(pa.large_string())

    def as_text(self) -> Text:
        """The same as spans of bytes."""
        return Text(*spans_of(self.to_arrow()))


class _Memory:
    """Bytes that belong to `owner`, as numpy takes them over."""

    def __init__(self, owner: object, address: int, size: int):
        self.owner = owner
        self.__array_interface__ = {"data": (address, False), "shape": (size,), "typestr": "|u1", "version": 3}


def _bytes_of(data: pa.Buffer | None, low: int, high: int) -> np.ndarray:
    """The bytes from low to high and PAD more to read past them: where they lie if more follow there, else a copy. Never written to."""
    if data is not None and high + PAD <= data.size:
        return np.asarray(_Memory(data, data.address + low, high - low + PAD))
    buf = np.empty(high - low + PAD, np.uint8)
    buf[high - low :] = 0
    if high > low and data is not None:
        buf[: high - low] = np.frombuffer(data, np.uint8)[low:high]
    return buf


def spans_of(array: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(buffer, starts, stops) of an Arrow string array; the buffer is padded, nulls start at -1."""
    import pyarrow as pa

    if array.type != pa.string() and array.type != pa.large_string():
        array = array.cast(pa.large_string())
    _, offsets, data = array.buffers()
    if offsets is None or not len(array):
        return np.zeros(64, np.uint8), np.full(len(array), -1, np.int32), np.zeros(len(array), np.int32)
    wide = np.int32 if array.type == pa.string() else np.int64
    at = np.frombuffer(offsets, wide)[array.offset : array.offset + len(array) + 1]
    low, high = int(at[0]), int(at[-1])
    buf = _bytes_of(data, low, high)
    kind = np.int32 if high - low < 1 << 31 else np.int64
    starts, stops = (np.subtract(part, low, dtype=kind, casting="unsafe") for part in (at[:-1], at[1:]))
    if array.null_count:
        starts[np.asarray(array.is_null())] = -1
    return buf, starts, stops


class Mixed(Column):
    """Values from several columns: row i is row `at[i]` of `parts[which[i]]`."""

    __slots__ = ("at", "parts", "which")

    def __init__(self, parts: tuple[Column, ...], which: np.ndarray, at: np.ndarray):
        self.parts, self.which, self.at = parts, which, at

    def __len__(self) -> int:
        return len(self.at)

    def one(self, row: int) -> str | None:
        return self.parts[self.which[row]].one(int(self.at[row]))

    def take(self, rows: np.ndarray) -> Mixed:
        return Mixed(self.parts, self.which[rows], self.at[rows])

    def cut(self, start: int, stop: int) -> Mixed:
        return Mixed(self.parts, self.which[start:stop], self.at[start:stop])

    def _each(self) -> Iterator[tuple[np.ndarray, Column]]:
        """The rows that come from each part, and their values."""
        for k in np.unique(self.which):
            rows = np.flatnonzero(self.which == k)
            yield rows, self.parts[k].take(self.at[rows])

    def missing(self) -> np.ndarray:
        out = np.empty(len(self), bool)
        for rows, values in self._each():
            out[rows] = values.missing()
        return out

    def hashes(self, seed: bytes) -> np.ndarray:
        out = np.empty((len(self), 2), np.int64)
        for rows, values in self._each():
            out[rows] = values.hashes(seed)
        return out

    def to_arrow(self) -> pa.Array:
        import pyarrow as pa

        found = list(self._each())
        if not found:
            return pa.array([], pa.large_string())
        back = np.argsort(np.concatenate([rows for rows, _ in found]))
        return pa.concat_arrays([values.to_arrow() for _, values in found]).take(pa.array(back))


class LabelIds(Column):
    """The ids of label events as `Label.as_event` makes them, `label:<judged event_id>:<label_ts>:<label>:<source>[:<amount>]`,
    written only when somebody looks.
    """

    __slots__ = ("amounts", "judged", "sources", "ts", "verdicts")

    def __init__(
        self,
        judged: Column,
        ts: np.ndarray,
        verdicts: np.ndarray,
        sources: Column | None = None,
        amounts: np.ndarray | None = None,
    ):
        self.judged, self.ts, self.verdicts, self.sources, self.amounts = judged, ts, verdicts, sources, amounts

    def __len__(self) -> int:
        return len(self.ts)

    def one(self, row: int) -> str:
        source = "" if self.sources is None else self.sources.one(row) or ""
        text = f"label:{self.judged.one(row)}:{self.ts[row]}:{self.verdicts[row]}:{source}"
        return text if self.amounts is None or np.isnan(self.amounts[row]) else f"{text}:{float(self.amounts[row])!r}"

    def take(self, rows: np.ndarray) -> LabelIds:
        sources = None if self.sources is None else self.sources.take(rows)
        return LabelIds(
            self.judged.take(rows),
            self.ts[rows],
            self.verdicts[rows],
            sources,
            None if self.amounts is None else self.amounts[rows],
        )

    def cut(self, start: int, stop: int) -> LabelIds:
        return self.take(np.arange(start, stop))

    def missing(self) -> np.ndarray:
        return np.zeros(len(self), bool)

    def hashes(self, seed: bytes) -> np.ndarray:
        return hash_strings(self.to_arrow(), seed)

    def to_arrow(self) -> pa.Array:
        import pyarrow as pa
        import pyarrow.compute as pc

        text, between = pa.large_string(), pa.scalar(":", pa.large_string())
        said = pa.nulls(len(self), text) if self.sources is None else self.sources.to_arrow().cast(text)
        parts = [
            pa.scalar("label", text),
            self.judged.to_arrow(),
            *(pa.array(x).cast(text) for x in (self.ts, self.verdicts)),
        ]
        ids = pc.binary_join_element_wise(*parts, said.fill_null(""), between)
        if self.amounts is None or np.isnan(self.amounts).all():
            return ids
        amounts = pa.array([None if a != a else repr(a) for a in self.amounts.tolist()], text)
        return pc.binary_join_element_wise(ids, amounts, between, null_handling="skip")


class MadeIds(Column):
    """The ids of records that bring none: `<file hash>:<row>`, written only when somebody looks."""

    __slots__ = ("prefix", "rows")

    def __init__(self, prefix: Callable[[], str], rows: np.ndarray):
        self.prefix, self.rows = prefix, rows

    def __len__(self) -> int:
        return len(self.rows)

    def one(self, row: int) -> str:
        return f"{self.prefix()}:{self.rows[row]}"

    def take(self, rows: np.ndarray) -> MadeIds:
        return MadeIds(self.prefix, self.rows[rows])

    def cut(self, start: int, stop: int) -> MadeIds:
        return MadeIds(self.prefix, self.rows[start:stop])

    def missing(self) -> np.ndarray:
        return np.zeros(len(self), bool)

    def hashes(self, seed: bytes) -> np.ndarray:
        return hash_strings(self.to_arrow(), seed)

    def to_arrow(self) -> pa.Array:
        import pyarrow as pa
        import pyarrow.compute as pc

        text = pa.large_string()
        return pc.binary_join_element_wise(
            pa.scalar(self.prefix(), text), pa.array(self.rows).cast(text), pa.scalar(":", text)
        )


def join(columns: Sequence[Column]) -> Column:
    """One column after the other, nothing copied."""
    columns = [column for column in columns if len(column)] or columns[:1]
    if len(columns) == 1:
        return columns[0]
    parts: list[Column] = []
    which, at = [], []
    for column in columns:
        if isinstance(column, Mixed):
            used, renumbered = np.unique(column.which, return_inverse=True)  # what nobody points to any more may go
            which.append(renumbered.astype(np.int32) + len(parts))
            at.append(column.at)
            parts.extend(column.parts[k] for k in used)
        else:
            which.append(np.full(len(column), len(parts), np.int32))
            at.append(np.arange(len(column)))
            parts.append(column)
    return Mixed(tuple(parts), np.concatenate(which), np.concatenate(at))
