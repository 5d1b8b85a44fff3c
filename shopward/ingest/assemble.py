"""From raw columns to events: every declared field is read as its type, and every record that is odd in any way is read again
slowly and whole, which gives its event or the reason why it is none.

Readers of every format end here, so they all mean the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from shopward.batch import LABEL, NULL, Needs
from shopward.declare.types import Field, Schema
from shopward.entity import network64
from shopward.errors import BadEvent
from shopward.event import LABEL_FIELDS, format_time
from shopward.expr.nodes import Call, Name
from shopward.hashing import hash_strings
from shopward.ingest import columns as cols
from shopward.ingest.chunk import Chunk, Rows
from shopward.ingest.dead import DeadLetters, mask_record
from shopward.ingest.normalise import ORIGINAL, Normaliser
from shopward.ingest.scan import Words, words
from shopward.ingest.texts import Column, Digits, MadeIds, Nothing, Text

MEMORY = 100_000  # inputs of one derived field whose value is remembered
VERDICT, MARKER = "\0verdict", "\0converted"  # what a scanner calls the label column and the signs of converted money


# ---- raw columns: what a reader found under one name


@dataclass(slots=True)
class Spans:
    """Values as bytes: where they start and stop, and their form (see scan)."""

    buf: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    forms: np.ndarray


@dataclass(slots=True)
class Whole:
    """Whole numbers; also times in epoch ms (`moment`) and truth values (`flag`)."""

    values: np.ndarray
    valid: np.ndarray
    moment: bool = False
    flag: bool = False


@dataclass(slots=True)
class Real:
    values: np.ndarray
    valid: np.ndarray


@dataclass(slots=True)
class Items:
    """Lists, as Python values."""

    values: list


@dataclass(slots=True)
class Other:
    """Values only the slow path can read; `present` says where they are."""

    present: np.ndarray


RawColumn = Spans | Whole | Real | Items | Other


@dataclass(slots=True)
class Raw:
    """Some records of one file, by known field. `odd` marks those the scanner gave up on; `row(i)` reads one whole (or raises
    BadEvent); `outline(i)` is what a dead letter shows of a record that cannot be read."""

    file: str
    n: int
    columns: dict[str, RawColumn]
    odd: np.ndarray
    lines: np.ndarray
    row: Callable[[int], Mapping[str, Any]]
    outline: Callable[[int], Any]
    prefix: Callable[[], str]


@dataclass(frozen=True, slots=True)
class _Names:
    """Fields by how their columns are kept."""

    texts: list[str]
    values: list[str]
    minor: list[str]
    lists: list[str]


@dataclass(slots=True)
class _Work:
    """The columns of one chunk while they are being filled."""

    raw: Raw
    ts: np.ndarray
    types: np.ndarray
    values: dict[str, np.ndarray] = field(default_factory=dict)  # numbers, truth values, times
    minor: dict[str, np.ndarray] = field(default_factory=dict)
    texts: dict[str, Column] = field(default_factory=dict)
    lists: dict[str, list] = field(default_factory=dict)
    verdicts: np.ndarray | None = None
    shared: tuple[np.ndarray, ...] = ()  # columns of nothing: values, minor units, hashes


Cover = Callable[
    [str, Text], Text
]  # (field, values) -> the values' pseudonyms; what is not in the buffer stays as it is


class Assembler:
    """Makes chunks for one rulebook: which fields there are, how each is read, and what is kept of them.

    `cover` gives the pseudonyms of a whole column, where the normaliser only gives them one by one.
    """

    def __init__(
        self,
        normaliser: Normaliser,
        needs: Needs,
        seed: bytes,
        dead: DeadLetters,
        *,
        latest: int | None = None,
        records: bool = False,
        cover: Cover | None = None,
    ):
        self.cover = cover
        self.normaliser, self.needs, self.seed, self.dead = normaliser, needs, seed, dead
        self.schema: Schema = normaliser.schema
        self.latest, self.records = latest, records
        normaliser.notes = dead.noted
        self.fields = self.schema.fields
        self.kept = self._kept_texts()
        self.keys = {name: i for i, name in enumerate(self._known())}
        self.columns = self._column_targets()
        self.words, self.begins = self._words(), self._begins()
        self.memory: dict[str, dict[Any, Any]] = {}
        self.types = words([(name.encode(), code) for code, name in enumerate(self.schema.types)])
        self.read = self._read_fields()
        self.shown = frozenset({"event_id", "ts", "type"} | {f.name for f in self.fields.values() if not f.pii})

    def _kept_texts(self) -> frozenset[str]:
        """Text fields whose strings somebody may ask for."""
        texts = {f.name for f in self.fields.values() if f.type == "string"}
        return self.needs.hashes.union(self.needs.text, self.schema.roles, self.schema.order) & texts

    def _read_fields(self) -> frozenset[str]:
        """Fields that end in a column, or that a derived field reads; of all others it is only checked what they hold."""
        needs, normaliser = self.needs, self.normaliser
        columns = self.kept.union(needs.numbers, needs.minor, needs.hashes, needs.lists, needs.text)
        derived = [f.derive.fields for f, _, _ in normaliser.derived if f.derive]
        currency = [self.schema.currency] if normaliser.money and self.schema.currency else []
        return columns.union(currency, normaliser.pii if normaliser.pseudonym is not None else (), *derived)

    def _known(self) -> list[str]:
        """Every field a scanner must find: declared ones, reserved ones, and the label column."""
        names = ["event_id", "ts", "type", "seq", *LABEL_FIELDS, *(f for f in self.fields if f != "seq")]
        return [*names, VERDICT, MARKER]

    def _words(self) -> Words:
        """The names a scanner looks for."""
        return words([(word.encode(), self.keys[name]) for word, name in self.columns.items()])

    def _begins(self) -> Words:
        """The beginnings of those names: `card` when there is a `card_bin`, which an object `card` may complete."""
        begins = {word[:at] for word in self.columns for at, c in enumerate(word) if c == "_"}
        return words([(word.encode(), 0) for word in sorted(begins)])

    def _column_targets(self) -> dict[str, str]:
        """Outside name -> field, under every name it may arrive."""
        targets = {name: name for name in self.keys if not name.startswith("\0")}
        if not self.normaliser.settled:
            targets |= {f.name + ORIGINAL: MARKER for f in self.fields.values() if f.type == "money"}
        targets |= {outside: name for outside, name in self.normaliser.targets.items() if name in self.keys}
        if self.schema.label is not None:
            targets[self.schema.label.field] = VERDICT
        return targets

    # --- the recipe

    def assemble(self, raw: Raw) -> Chunk | None:
        """The events of some raw records; what is none goes to the dead letters. None when nothing is left."""
        work = _Work(raw, np.empty(raw.n, np.int64), np.empty(raw.n, np.int16))
        self._absent(work)
        self._envelope(work)
        for name, column in raw.columns.items():
            if name in self.fields:
                self._field(work, self.fields[name], column)
        self._label_fields(work)
        self._constants(work)
        self._unusual(work)
        self._derive(work)
        self._note_nan(work)
        if self.normaliser.pseudonym is not None:
            self._pseudonyms(work)
        out = self._read_odd(work)
        return self._finish(work, out)

    @cached_property
    def _names(self) -> _Names:
        """The fields that are read, by how their columns are kept."""
        by_type: dict[str, list[str]] = {}
        for name in sorted(self.read & self.fields.keys()):
            by_type.setdefault(self.fields[name].type, []).append(name)
        texts, lists = by_type.pop("string", []), by_type.pop("list", [])
        values = [name for kind in ("number", "bool", "time") for name in by_type.pop(kind, [])]
        return _Names(texts, values, [name for names in by_type.values() for name in names], lists)

    def _absent(self, work: _Work) -> None:
        """Columns of nulls for what is read: those of fields that no record has stay, and fields share them."""
        n, names = work.raw.n, self._names
        nothing, nan, null = Nothing(n), np.full(n, np.nan), np.full(n, NULL, np.int64)
        work.shared = nan, null, nothing.hashes(self.seed)
        work.texts = dict.fromkeys(names.texts, nothing)
        work.values, work.minor = dict.fromkeys(names.values, nan), dict.fromkeys(names.minor, null)
        work.lists = {name: [None] * n for name in names.lists}

    def _own(self, work: _Work) -> None:
        """Before single values are set: no column belongs to two fields any more."""
        nan, null, _ = work.shared
        for columns, shared in ((work.values, nan), (work.minor, null)):
            columns.update({name: values.copy() for name, values in columns.items() if values is shared})
        for name, column in work.texts.items():
            if isinstance(column, Digits | Nothing):
                work.texts[name] = column.as_text()

    def _envelope(self, work: _Work) -> None:
        raw, odd = work.raw, work.raw.odd
        ids = work.texts["event_id"] = self._text(raw.columns.get("event_id"), raw.n, odd)
        if isinstance(ids, Text):
            odd[(ids.starts >= 0) & (ids.starts == ids.stops)] = 1  # an empty id is none
        work.ts = self._time(raw.columns.get("ts"), raw.n, odd)
        work.types = self._types(raw.columns.get("type"), raw.n, odd)
        if self.schema.label is not None:
            truth = self._bool(raw.columns.get(VERDICT), raw.n, odd)
            work.verdicts = np.where(np.isnan(truth), -1, truth).astype(np.int8)
        marker = raw.columns.get(MARKER)
        if marker is not None:
            _mark(marker, odd)

    def _field(self, work: _Work, f: Field, column: RawColumn) -> None:
        n, odd = work.raw.n, work.raw.odd
        if f.derive is not None and not self.normaliser.settled:
            _mark(column, odd)  # the record brings its own value: rare, and it wins
            return
        match f.type:
            case "string":
                how = cols.AS_IS if self.normaliser.settled else cols.HOW[f.normalise]
                work.texts[f.name] = self._text(column, n, odd, how, f.entity is not None)
            case "list":
                work.lists[f.name] = self._list(column, n, odd)
            case "number":
                work.values[f.name] = self._number(column, n, odd)
            case "bool":
                work.values[f.name] = self._bool(column, n, odd)
            case "time":
                work.values[f.name] = _floats(self._time(column, n, odd))
            case _:
                work.minor[f.name] = self._fixed(f, column, n, odd)

    def _label_fields(self, work: _Work) -> None:
        """`label`, `label_event` and `label_source` mean something on label events only."""
        raw = work.raw
        others = work.types != LABEL
        if others.all() and not any(name in raw.columns for name in LABEL_FIELDS):
            work.minor["label"] = work.shared[1]
            work.texts["label_event"], work.texts["label_source"] = Nothing(raw.n), Nothing(raw.n)
            return
        doubt = np.zeros(raw.n, np.uint8)
        label = self._bool(raw.columns.get("label"), raw.n, doubt)
        raw.odd[(doubt > 0) & ~others] = 1
        label[others] = np.nan
        work.minor["label"] = _minor(label)
        for name in ("label_event", "label_source"):
            column = self._text(raw.columns.get(name), raw.n, raw.odd)
            work.texts[name] = _blank(column, others)
        raw.odd[~others & (np.isnan(label) | work.texts["label_event"].missing())] = 1

    def _constants(self, work: _Work) -> None:
        for name, value in self.schema.constants.items():
            if name == "type":
                work.types[work.types == _NO_TYPE] = self.normaliser.codes[value]
            elif self.fields[name].type == "string":
                if name not in work.texts:
                    continue
                work.texts[name] = _fill(work.texts[name], self.normaliser.readers[name](value))
            else:
                self._constant(work, self.fields[name], self.normaliser.readers[name](value))

    def _constant(self, work: _Work, f: Field, value: Any) -> None:
        if f.name not in work.minor and f.name not in work.lists and f.name not in work.values:
            return
        if f.name in work.minor:
            minor = work.minor[f.name]
            work.minor[f.name] = np.where(minor == NULL, round(float(value) * 10**f.digits), minor)
        elif f.name in work.lists:
            work.lists[f.name] = [value if items is None else items for items in work.lists[f.name]]
        else:
            values = work.values[f.name]
            work.values[f.name] = np.where(np.isnan(values), float(value), values)

    def _unusual(self, work: _Work) -> None:
        """Records that need a closer look: no time or type, the future, another currency."""
        odd = work.raw.odd
        odd[(work.ts < 0) | (work.types < 0)] = 1
        if self.latest is not None:
            odd[work.ts > self.latest] = 1
        if self.normaliser.money:
            self._foreign(work)

    def _foreign(self, work: _Work) -> None:
        name, odd = self.schema.currency or "", work.raw.odd
        column = work.texts[name]
        base = self.normaliser.rates.base
        if isinstance(column, Text):
            cols.mark_other(column.buf, column.starts, column.stops, np.frombuffer(base.encode(), np.uint8), odd)
        else:
            odd[~column.missing()] = 1

    # --- fields of each type, column by column

    def _text(
        self, column: RawColumn | None, n: int, odd: np.ndarray, how: int = cols.AS_IS, key: bool = False
    ) -> Column:
        match column:
            case None:
                return Nothing(n)
            case Spans(buf, starts, stops, forms):
                out = np.empty(n, starts.dtype)
                cols.read_texts(buf, starts, stops, forms, how, key, out, odd)
                return Text(buf, out, stops.copy())
            case Whole(values, valid, False, False) if how == cols.AS_IS:
                return Digits(values, valid)
            case Real(values, valid) if how == cols.AS_IS and _integral(values, valid):
                return Digits(np.where(valid, values, 0).astype(np.int64), valid & ~np.isnan(values))
        _mark(column, odd)
        return Nothing(n)

    def _number(self, column: RawColumn | None, n: int, odd: np.ndarray) -> np.ndarray:
        out = np.full(n, np.nan)
        match column:
            case None:
                pass
            case Spans(buf, starts, stops, forms):
                cols.read_numbers(buf, starts, stops, forms, out, odd)
            case Whole(values, valid, False, False):
                out[valid] = values[valid]
            case Real(values, valid):
                out[valid] = values[valid] + 0.0
                odd[np.isinf(out)] = 1
            case _:
                _mark(column, odd)
        return out

    def _fixed(self, f: Field, column: RawColumn | None, n: int, odd: np.ndarray) -> np.ndarray:
        out = np.full(n, NULL, np.int64)
        signed = f.signed or f.type == "decimal"
        match column:
            case None:
                pass
            case Spans(buf, starts, stops, forms):
                cols.read_fixed(buf, starts, stops, forms, f.digits, signed, out, odd)
            case Whole(values, valid, False, False):
                most = cols.LIMIT // 10**f.digits
                fine = valid & (values <= most) & (values >= (-most if signed else 0))
                out[fine] = values[fine] * 10**f.digits
                odd[valid & ~fine] = 1
            case Real(values, valid):
                cols.read_reals(values, valid, f.digits, signed, out, odd)
            case _:
                _mark(column, odd)
        return out

    def _bool(self, column: RawColumn | None, n: int, odd: np.ndarray) -> np.ndarray:
        out = np.full(n, np.nan)
        match column:
            case None:
                pass
            case Spans(buf, starts, stops, forms):
                cols.read_bools(buf, starts, stops, forms, out, odd)
            case Whole(values, valid, False) | Real(values, valid):
                fine = valid & ((values == 0) | (values == 1))
                out[fine] = values[fine]
                odd[valid & ~fine] = 1
            case _:
                _mark(column, odd)
        return out

    def _time(self, column: RawColumn | None, n: int, odd: np.ndarray) -> np.ndarray:
        out = np.empty(n, np.int64)
        if not isinstance(column, Spans):
            out[:] = NULL
        match column:
            case None:
                pass
            case Spans(buf, starts, stops, forms):
                cols.read_times(buf, starts, stops, forms, out, odd)
            case Whole(values, valid, _, False):
                fine = valid & (values >= 0) & (values <= cols.LAST_MS)
                out[fine] = values[fine]
                odd[valid & ~fine] = 1
            case _:
                _mark(column, odd)
        return out

    def _types(self, column: RawColumn | None, n: int, odd: np.ndarray) -> np.ndarray:
        out = np.full(n, _NO_TYPE, np.int16)
        if isinstance(column, Spans):
            t = self.types
            cols.read_words(
                column.buf,
                column.starts,
                column.stops,
                column.forms,
                t.text,
                t.stride,
                t.lengths,
                t.heads,
                t.slots,
                out,
                odd,
            )
        elif column is not None:
            _mark(column, odd)
        return out

    def _list(self, column: RawColumn | None, n: int, odd: np.ndarray) -> list:
        if isinstance(column, Items):
            return [_plain_list(items, i, odd) for i, items in enumerate(column.values)]
        if column is not None:
            _mark(column, odd)
        return [None] * n

    def _note_nan(self, work: _Work) -> None:
        """Counts the NaN of number columns, but for odd records, whose reader counts them."""
        for name, column in work.raw.columns.items():
            if isinstance(column, Real) and (name in work.values or name in work.minor):
                found = np.count_nonzero(column.valid & np.isnan(column.values) & (work.raw.odd == 0))
                if found:
                    self.dead.noted[f"{name}: NaN taken as null"] += int(found)

    # --- derived fields

    def _derive(self, work: _Work) -> None:
        for f, inputs, run in self.normaliser.derived:
            if f.name not in self.read and f.normalise is None:
                continue
            if inputs is not None and all(isinstance(work.texts.get(name), Nothing) for name in inputs):
                continue  # made from nothing: nothing
            found = self._shortcut(work, f, run)
            if found is None:
                self._derive_rows(work, f, run)
            else:
                work.texts[f.name] = found

    def _shortcut(self, work: _Work, f: Field, run: Callable[[Mapping[str, Any]], Any]) -> Text | None:
        """`ip64(x)` and `domain(x)` of plain values are a part of x, found without making strings."""
        root = f.derive.root if f.derive else None
        if not (isinstance(root, Call) and root.func in ("ip64", "domain") and isinstance(root.args[0], Name)):
            return None
        source = work.texts.get(root.args[0].name)
        if f.normalise is not None or not isinstance(source, Text):
            return None
        starts = source.starts.copy()
        doubt = np.zeros(len(source), np.uint8)
        part = cols.part_ip64 if root.func == "ip64" else cols.part_domain
        part(source.buf, starts, source.stops, doubt)
        found = Text(source.buf, starts, source.stops, list(source.extra))
        remembered = self._remembered(f.name)
        for row in np.flatnonzero(doubt).tolist():
            text = source.one(row)
            if text not in remembered:
                quick = network64(text) if root.func == "ip64" and text else None
                remembered[text] = quick or run({root.args[0].name: text}) or None
            found.set(row, remembered[text])
        return found

    def _remembered(self, name: str) -> dict[Any, Any]:
        """What a derived field was for the inputs of late; forgotten when it gets too much."""
        memory = self.memory.setdefault(name, {})
        if len(memory) > MEMORY:
            memory.clear()
        return memory

    def _derive_rows(self, work: _Work, f: Field, run: Callable[[Mapping[str, Any]], Any]) -> None:
        """Row by row, each distinct input once."""
        names = f.derive.fields if f.derive else ()
        inputs = [self._python(work, name) for name in names]
        read, memo, values = self.normaliser.readers[f.name], self._remembered(f.name), []
        for i, key in enumerate(zip(*inputs, strict=True) if inputs else [()] * work.raw.n):
            if key not in memo:
                try:
                    found = run({name: value for name, value in zip(names, key, strict=True) if value is not None})
                    memo[key] = None if found is None else read(found)
                except BadEvent:
                    work.raw.odd[i] = 1
            values.append(memo.get(key))
        self._set_column(work, f, values)

    def _python(self, work: _Work, name: str) -> list:
        """A column as Python values for generated code."""
        if name in work.texts:
            return work.texts[name].to_list()
        if name == "type":
            return [self.schema.types[code] if code >= 0 else None for code in work.types.tolist()]
        if name == "ts":
            return work.ts.tolist()
        if name in work.lists:
            return [None if items is None else tuple(items) for items in work.lists[name]]
        values = _major(work.minor[name], self.fields[name].digits) if name in work.minor else work.values[name]
        return [None if value != value else value for value in values.tolist()]

    def _set_column(self, work: _Work, f: Field, values: list) -> None:
        if f.type == "string":
            work.texts[f.name] = Text.of([value or None if f.entity else value for value in values])
        elif f.type == "list":
            work.lists[f.name] = values
        elif f.name in work.minor:
            scale = 10**f.digits
            work.minor[f.name] = np.array([NULL if v is None else round(v * scale) for v in values], np.int64)
        else:
            work.values[f.name] = np.array([np.nan if v is None else float(v) for v in values], np.float64)

    # --- odd records

    def _read_odd(self, work: _Work) -> np.ndarray | None:
        """Reads every odd record slowly; returns which records are out, None when there are none."""
        odd = np.flatnonzero(work.raw.odd)
        if not len(odd):
            return None
        self._own(work)
        out = np.zeros(work.raw.n, bool)
        for row in odd.tolist():
            try:
                event, verdict = self._event(work.raw, row)
            except BadEvent as why:
                out[row] = True
                self.dead.put(work.raw.file, int(work.raw.lines[row]), why, self._outline(work.raw, row))
            else:
                self._write(work, row, event, verdict)
        return out

    def _event(self, raw: Raw, row: int) -> tuple[dict[str, Any], int | None]:
        event, verdict = self.normaliser.read(raw.row(row))
        if self.latest is not None and event["ts"] > self.latest:
            raise BadEvent(
                f"in the future ({format_time(event['ts'])}); the machine's clock says otherwise", field="ts"
            )
        return event, verdict

    def _outline(self, raw: Raw, row: int) -> Any:
        if self.dead.path is None:
            return None
        try:
            record = raw.row(row)
        except BadEvent:
            return raw.outline(row)
        targets = self.normaliser.targets
        return mask_record({targets.get(name, name): value for name, value in record.items()}, self.shown)

    def _write(self, work: _Work, row: int, event: dict[str, Any], verdict: int | None) -> None:
        work.ts[row] = event["ts"]
        work.types[row] = self.normaliser.codes[event["type"]]
        is_label = work.types[row] == LABEL
        for name, column in work.texts.items():
            value = event.get(name) if is_label or name not in LABEL_FIELDS else None
            column.set(row, value)  # type: ignore[attr-defined]
        for name, values in work.values.items():
            values[row] = np.nan if (value := event.get(name)) is None else value
        for name, minor in work.minor.items():
            value = event.get(name) if is_label or name != "label" else None
            minor[row] = NULL if value is None else round(value * 10 ** self._digits(name))
        for name, lists in work.lists.items():
            lists[row] = event.get(name)
        if work.verdicts is not None:
            work.verdicts[row] = -1 if verdict is None else verdict

    def _digits(self, name: str) -> int:
        return self.fields[name].digits if name in self.fields else 0

    # --- the chunk

    def _finish(self, work: _Work, out: np.ndarray | None) -> Chunk | None:
        raw = work.raw
        ids = work.texts.pop("event_id")
        missing = ids.missing()
        if missing.any():
            ids = _made_ids(ids, missing, raw)
        chunk = Chunk(work.ts, work.types, ids, verdicts=work.verdicts, seq=self._seq(raw))
        needs = self.needs
        chunk.numbers = {name: self._numbers(work, name) for name in needs.numbers}
        chunk.minor = {
            name: work.minor[name] if name in work.minor else _minor(work.values[name]) for name in needs.minor
        }
        chunk.hashes = {name: self._hashes(work, name, ids) for name in needs.hashes}
        chunk.lists = {name: self._hash_lists(work.lists[name]) for name in needs.lists}
        chunk.list_texts = {name: work.lists[name] for name in (needs.text | needs.lists) & work.lists.keys()}
        chunk.texts = {name: work.texts[name] for name in (*self.kept, "label_event", "label_source")}
        if self.records:
            chunk.rows = Rows.of(self._whole(raw), raw.n)
        if out is not None and out.any():
            chunk = chunk.take(np.flatnonzero(~out))
        return chunk if chunk.n else None

    def _seq(self, raw: Raw) -> np.ndarray | None:
        """The order the file itself declares in a column `seq`; NULL where it does not."""
        column = raw.columns.get("seq")
        return None if column is None else self._time(column, raw.n, np.zeros(raw.n, np.uint8))

    def _numbers(self, work: _Work, name: str) -> np.ndarray:
        if name == "ts":
            return work.ts.astype(np.float64)
        if name in work.values:
            return work.values[name]
        nan, null, _ = work.shared
        minor = work.minor[name]
        return nan if minor is null else _major(minor, self._digits(name))

    def _hashes(self, work: _Work, name: str, ids: Column) -> np.ndarray:
        if name == "type":
            return hash_strings(list(self.schema.types), self.seed)[work.types]
        if name == "event_id":
            return ids.hashes(self.seed)
        if name in work.texts:
            column = work.texts[name]
            return work.shared[2] if isinstance(column, Nothing) else column.hashes(self.seed)
        values = self._numbers(work, name)
        return hash_strings([None if v != v else v for v in values.tolist()], self.seed)

    def _hash_lists(self, lists: list) -> tuple[np.ndarray, np.ndarray]:
        lengths = np.array([0 if items is None else len(items) for items in lists], np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return offsets, hash_strings([item for items in lists if items is not None for item in items], self.seed)

    def _pseudonyms(self, work: _Work) -> None:
        replace = self.normaliser.pseudonym
        assert replace is not None
        for name in self.normaliser.pii:
            column = work.texts[name]
            if isinstance(column, Nothing):
                continue
            if self.cover is not None:
                given = column.as_text() if isinstance(column, Digits) else column
                assert isinstance(given, Text)
                starts = np.where(
                    work.raw.odd > 0, -1, given.starts
                )  # odd ones are read, and covered, by the slow path
                work.texts[name] = self.cover(name, Text(given.buf, starts, given.stops))
                continue
            plain = np.flatnonzero(~column.missing() & (work.raw.odd == 0))  # odd ones were replaced by the slow path
            if len(plain):
                text = column.as_text() if isinstance(column, Digits) else column
                for row in plain.tolist():
                    text.set(row, replace(name, text.one(row) or ""))  # type: ignore[attr-defined]
                work.texts[name] = text

    def _whole(self, raw: Raw) -> Callable[[np.ndarray], list[dict]]:
        """Reads whole records on demand."""
        quiet = self.normaliser.quiet()

        def records(rows: np.ndarray) -> list[dict]:
            found = []
            for row in rows.tolist():
                event, _ = quiet.read(raw.row(row))
                found.append(
                    event if "event_id" in event else {"event_id": f"{raw.prefix()}:{raw.lines[row]}", **event}
                )
            return found

        return records


_NO_TYPE = -1


def _mark(column: RawColumn, odd: np.ndarray) -> None:
    """Every record that has a value here is odd."""
    match column:
        case Spans(_, _, _, forms):
            cols.mark_present(forms, odd)
        case Whole(_, valid) | Real(_, valid) | Other(valid):
            odd[valid] = 1
        case Items(values):
            odd[[items is not None for items in values]] = 1


def _integral(values: np.ndarray, valid: np.ndarray) -> bool:
    known = values[valid & ~np.isnan(values)]
    return (
        bool((np.abs(known) < 2.0**53).all() and (known == np.rint(known)).all()) and not np.isnan(values[valid]).any()
    )


def _floats(times: np.ndarray) -> np.ndarray:
    return np.where(times == NULL, np.nan, times.astype(np.float64))


def _minor(values: np.ndarray) -> np.ndarray:
    """0/1 columns as whole numbers."""
    return np.where(np.isnan(values), NULL, np.nan_to_num(values)).astype(np.int64)


def _major(minor: np.ndarray, digits: int) -> np.ndarray:
    out = np.empty(len(minor))
    cols.major_units(minor, 10.0**digits, out)
    return out


def _blank(column: Column, rows: np.ndarray) -> Column:
    """Nulls where `rows` says so."""
    if isinstance(column, Nothing):
        return column
    if isinstance(column, Digits):
        return Digits(column.values, column.valid & ~rows)
    assert isinstance(column, Text)
    return Text(column.buf, np.where(rows, -1, column.starts), column.stops, column.extra)


def _fill(column: Column, text: str) -> Column:
    """The constant where there is nothing."""
    filled = column.as_text() if isinstance(column, Digits | Nothing) else column
    assert isinstance(filled, Text)
    filled.starts[filled.missing()] = -2 - len(filled.extra)
    filled.extra.append(text)
    return filled


def _plain_list(items: Any, row: int, odd: np.ndarray) -> list | None:
    if items is None:
        return None
    if not all(item.__class__ is str and len(item) < 1000 for item in items):
        odd[row] = 1
    return items


def _made_ids(ids: Column, missing: np.ndarray, raw: Raw) -> Column:
    """Records without an id get `<file hash>:<row>`."""
    if missing.all():
        return MadeIds(raw.prefix, raw.lines)
    text = ids.as_text() if isinstance(ids, Digits | Nothing) else ids
    assert isinstance(text, Text)
    for row in np.flatnonzero(missing).tolist():
        text.set(row, f"{raw.prefix()}:{raw.lines[row]}")
    return text
