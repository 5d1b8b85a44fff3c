"""What rules ask lists and lookups, answered for all events of a batch at once, as of the time of each.

A call such as `listed("blocked", device)` becomes a column with a name of its own, so that the rule around it runs in the kernel.
When a rule writes a list in the middle of a batch, `Answers.renew` says which later events are answered differently from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

from shopward.batch import Batch, Needs
from shopward.declare.needs import ALWAYS
from shopward.expr.nodes import ASKED, Call, Const, Name, Node, Type
from shopward.hashing import NULL_HASH, Pair, siphash128
from shopward.rules.keys import MISSING, UNKNOWN, Keys, grown, words_of, words_of_key, words_of_numbers

if TYPE_CHECKING:
    from shopward.declare.rulebook import Rulebook
    from shopward.features.live import Block, Windows
    from shopward.lists import Key, ListIndex
    from shopward.rules.lookups import Lookups

MANY = np.iinfo(np.int64).min  # instead of a span's end: the key has several spans
MOST_KEYS = 1 << 16  # of one lookup whose answers are kept
BEGINNING = -(1 << 63)


@dataclass(frozen=True, slots=True)
class Asked:
    """One question: is the key (of the values called `keys`) on list `table`, or what does `column` of lookup `table` say about it."""

    table: str
    column: str | None
    keys: tuple[str, ...]
    name: str  # of the column that answers


class Questions:
    """The questions of one rulebook that whole columns can answer."""

    def __init__(self, rulebook: Rulebook, windows: Windows, lists: ListIndex, lookups: Lookups, seed: bytes):
        self.rulebook, self.windows, self.lists, self.lookups, self.seed = rulebook, windows, lists, lookups, seed
        self.asked: dict[tuple, Asked] = {}
        self._feature_at = {name: i for i, name in enumerate(windows.names)}
        self._standing: dict[tuple, Standing] = {}
        self._timelines: dict[tuple, Timeline] = {}

    # --- asking

    def place(self, node: Node) -> Node:
        """The node with the questions in it replaced by the names of their columns."""
        if isinstance(node, Call) and (found := self._asked(node)) is not None:
            return Name(node.start, node.end, node.type, "asked", found.name)
        new: dict[str, Any] = {}
        for part in fields(node):
            value = getattr(node, part.name)
            if isinstance(value, Node):
                new[part.name] = self.place(value)
            elif isinstance(value, tuple):
                new[part.name] = tuple(self.place(x) if isinstance(x, Node) else x for x in value)
        return replace(node, **new) if new else node

    def ask(self, table: str, column: str | None, keys: Sequence[str]) -> Asked:
        """Have a question answered, under the same name however often it is asked."""
        what = (table, column, tuple(keys))
        if what not in self.asked:
            self.asked[what] = Asked(*what, f"{ASKED}{len(self.asked)}")
        return self.asked[what]

    def _asked(self, call: Call) -> Asked | None:
        if call.func not in ("listed", "lookup"):
            return None
        many = 1 if call.func == "listed" else 2
        names, keys = call.args[:many], call.args[many:]
        if not all(isinstance(k, Name) and k.kind in ("field", "feature") and k.name not in ALWAYS for k in keys):
            return None
        table, column = ([str(n.value) for n in names if isinstance(n, Const)] + [None])[:2]  # type: ignore[list-item]
        return self.ask(str(table), column, [k.name for k in keys if isinstance(k, Name)])

    def needs(self, wanted: Iterable[Asked]) -> Needs:
        """The fields that keys are made of: texts as hashes (and as texts, for lookups of keys never seen), numbers as numbers."""
        names = {name for asked in wanted for name in asked.keys if name in self.rulebook.schema.fields}
        numbers = frozenset(name for name in names if self._number(name))
        texts = frozenset(names - numbers)
        return Needs(numbers=numbers, hashes=texts, text=texts)

    # --- answering

    def answer(self, batch: Batch, block: Block, wanted: Sequence[Asked]) -> Answers:
        """The columns of some questions, for every event of a batch."""
        answers = Answers(batch.t)
        for asked in wanted:
            words = self._words(asked.keys, batch, block, answers)
            if asked.column is None:
                answers.hold(asked, self._list(asked), words)
            else:
                answers.columns[asked.name] = self.said(asked, batch, block, words).column()
        return answers

    def held(self, asked: Asked, batch: Batch, block: Block | None) -> np.ndarray:
        """1, 0 or NaN (no key) for every event: is its key on the list?"""
        return self._list(asked).held(self._words(asked.keys, batch, block), batch.t)

    def said(self, asked: Asked, batch: Batch, block: Block | None, words: np.ndarray | None = None) -> Said:
        """What a lookup says about the key of every event."""
        line, (name,) = self._timeline(asked), asked.keys
        found = self._words(asked.keys, batch, block) if words is None else words
        return Said(line, line.positions(found, batch.t, lambda: self._values(name, batch, block)))

    def _words(
        self, keys: tuple[str, ...], batch: Batch, block: Block | None, answers: Answers | None = None
    ) -> np.ndarray:
        known = {} if answers is None else answers.words
        if keys not in known:
            known[keys] = words_of([self._part(name, batch, block) for name in keys], self.seed)
        return known[keys]

    def _part(self, name: str, batch: Batch, block: Block | None) -> np.ndarray:
        if self._number(name):
            return words_of_numbers(self._numbers(name, batch, block), self.seed)
        return batch.hashes[name] if block is None or name not in block.hashes else block.hashes[name]

    def _numbers(self, name: str, batch: Batch, block: Block | None) -> np.ndarray:
        at = self._feature_at.get(name)
        return batch.numbers[name] if at is None or block is None else block.values[at]

    def _values(self, name: str, batch: Batch, block: Block | None) -> Sequence[Any]:
        """The keys themselves, for a lookup that has not seen them."""
        if self._number(name):
            return self._numbers(name, batch, block).tolist()
        if block is not None and name in block.hashes:
            return self.windows.text(name, block.hashes[name])
        return batch.text(name)

    def _number(self, name: str) -> bool:
        feature = self.rulebook.features.get(name)
        return (feature or self.rulebook.schema.fields[name]).type != "string"

    def _list(self, asked: Asked) -> Standing:
        numbers = tuple(self._number(name) for name in asked.keys)
        what = (asked.table, numbers)
        if what not in self._standing:
            self._standing[what] = Standing(self.lists, asked.table, numbers, self.seed)
        return self._standing[what]

    def _timeline(self, asked: Asked) -> Timeline:
        what = (asked.table, asked.column, self._number(asked.keys[0]))
        if what not in self._timelines:
            kind = self.rulebook.lookups[asked.table].columns[str(asked.column)]
            self._timelines[what] = Timeline(self.lookups, asked.table, str(asked.column), kind, self.seed)
        return self._timelines[what]


class Answers:
    """The columns of one batch: `columns[name]` is float64[n] (1, 0 and NaN for yes, no and missing), or int64[n, 2] for texts."""

    def __init__(self, t: np.ndarray):
        self.t = t
        self.columns: dict[str, np.ndarray] = {}
        self.words: dict[tuple[str, ...], np.ndarray] = {}  # keys -> their words
        self._holding: dict[str, dict[int, tuple[Standing, list[tuple[np.ndarray, np.ndarray]]]]] = {}

    def hold(self, asked: Asked, standing: Standing, words: np.ndarray) -> None:
        """Answer a question about a list, and keep what it takes to answer it again."""
        column = self.columns[asked.name] = standing.held(words, self.t)
        _, columns = self._holding.setdefault(asked.table, {}).setdefault(id(standing), (standing, []))
        columns.append((words, column))

    def renew(self, table: str, row: int) -> np.ndarray:
        """Answer for the rows after `row` what the last writes to a list changed; the rows whose answer is another now."""
        found = []
        for standing, columns in self._holding.get(table, {}).values():
            changed = standing.sync()
            for words, column in columns:
                rows = _rows_with(changed, words, row + 1)
                now = standing.held(words[rows], self.t[rows])
                other = rows[(now != column[rows]) & (now == now)]
                column[rows] = now
                found.append(other)
        return np.concatenate(found) if found else np.empty(0, np.int64)


def _rows_with(changed: list[Pair] | None, words: np.ndarray, first: int) -> np.ndarray:
    """The rows from `first` on whose key is among those that changed (None: all)."""
    rest = words[first:]
    if changed is None:
        return np.arange(first, len(words))
    hit = np.zeros(len(rest), np.bool_)
    for a, b in changed:
        hit |= (rest[:, 0] == a) & (rest[:, 1] == b)
    return first + np.flatnonzero(hit)


# --- lists


@njit(cache=True, nogil=True)
def _held(numbers, since, until, t, out):
    several = 0
    for i in range(len(numbers)):
        k = numbers[i]
        if k == MISSING:
            out[i] = nan
        elif k == UNKNOWN:
            out[i] = 0.0
        elif until[k] == MANY:
            several += 1
            out[i] = 2.0
        else:
            out[i] = 1.0 if since[k] <= t[i] < until[k] else 0.0
    return several


class Standing:
    """When each key of one list is on it, by the words that events bring; it follows the list."""

    def __init__(self, lists: ListIndex, name: str, numbers: tuple[bool, ...], seed: bytes):
        self.lists, self.name, self.numbers, self.seed = lists, name, numbers, seed
        self.changes = lists.watch(name)
        self._begin()

    def _begin(self) -> None:
        self.keys, self._at, self._texts = Keys(), {}, []  # type: tuple[Keys, dict[Key, int], list[Key]]
        self._since, self._until = np.empty(64, np.int64), np.empty(64, np.int64)

    def held(self, words: np.ndarray, t: np.ndarray) -> np.ndarray:
        """Is each key on the list at its time? float64[n], NaN where there is no key."""
        self.sync()
        numbers, out = self.keys.find(words), np.empty(len(words))
        if _held(numbers, self._since, self._until, t, out):
            for row in np.flatnonzero(out == 2.0).tolist():
                out[row] = self.lists.contains(self.name, self._texts[numbers[row]], int(t[row]))
        return out

    def sync(self) -> list[Pair] | None:
        """Take over what changed on the list since the last time; the words of those keys, None when it may be any."""
        changed, spans = self.changes.take(), self.lists.spans(self.name)
        if changed is None or self.keys.n > 2 * len(spans) + 1024:
            self._begin()
            self._enter(spans, spans)
        elif changed:
            self._enter(changed, spans)
        return None if changed is None else [w for key in changed if (w := self._words(key)) is not None]

    def _words(self, key: Key) -> Pair | None:
        return words_of_key(key, self.numbers, self.seed)

    def _enter(self, changed: Any, spans: Any) -> None:
        fresh = {key: w for key in changed if key not in self._at and key in spans and (w := self._words(key))}
        for key in fresh:
            self._at[key] = len(self._texts)
            self._texts.append(key)
        self.keys.add(list(fresh.values()))
        self._since, self._until = grown(self._since, self.keys.n), grown(self._until, self.keys.n)
        for key in changed:
            if (k := self._at.get(key)) is not None:
                found = spans.get(key, (0, 0))
                self._since[k], self._until[k] = found if len(found) == 2 else (0, MANY)


# --- lookups


@njit(cache=True, nogil=True)
def _in_force(numbers, first, starts, t, out):
    for i in range(len(numbers)):
        k = numbers[i]
        at = 0
        if k >= 0:
            at = first[k]
            while at + 1 < first[k + 1] and starts[at + 1] <= t[i]:
                at += 1
        out[i] = at


class Timeline:
    """What one column of a lookup says about each key, from when on; worked out when a key is first seen."""

    def __init__(self, lookups: Lookups, table: str, column: str, kind: Type, seed: bytes):
        self.lookups, self.table, self.column, self.seed = lookups, table, column, seed
        self.text = kind == "string"
        self._begin()

    def _begin(self) -> None:
        """Nothing is known; place 0 says that there is no key."""
        self.keys, self.size = Keys(), 1
        self._first, self._starts = np.ones(64, np.int64), np.zeros(64, np.int64)
        self.numbers, self.pairs = np.full(64, nan), np.zeros((64, 2), np.int64)
        self.texts: list[str | None] = [None]

    def positions(self, words: np.ndarray, t: np.ndarray, values: Callable[[], Sequence[Any]]) -> np.ndarray:
        """Where what holds for each key at its time is kept, int64[n]; `values()` gives the keys themselves."""
        found = self.keys.find(words)
        if (unknown := np.flatnonzero(found == UNKNOWN)).size:
            if self.keys.n > MOST_KEYS:
                self._begin()
                unknown = np.flatnonzero(found != MISSING)
            self._learn(words, unknown, values())
            found = self.keys.find(words)
        out = np.empty(len(words), np.int64)
        _in_force(found, self._first, self._starts, t, out)
        return out

    def _learn(self, words: np.ndarray, rows: np.ndarray, values: Sequence[Any]) -> None:
        fresh = dict(zip(map(tuple, words[rows].tolist()), rows.tolist(), strict=True))
        self.keys.add(list(fresh))
        self._first = grown(self._first, self.keys.n + 1)
        for k, row in enumerate(fresh.values(), self.keys.n - len(fresh)):
            value = values[row]
            for start in (BEGINNING, *self.lookups.moments(self.table, value)):
                self._put(start, self.lookups.value(self.table, self.column, value, start))
            self._first[k + 1] = self.size

    def _put(self, start: int, said: Any) -> None:
        at, self.size = self.size, self.size + 1
        self._starts, self.numbers, self.pairs = (grown(x, self.size) for x in (self._starts, self.numbers, self.pairs))
        self._starts[at] = start
        if self.text:
            self.texts.append(said)
            self.pairs[at] = NULL_HASH if said is None else siphash128(said.encode("utf-8", "surrogatepass"), self.seed)
        else:
            self.numbers[at] = nan if said is None else float(said)


@dataclass(frozen=True, slots=True)
class Said:
    """What a lookup said about the events of a batch: places in a timeline."""

    line: Timeline
    at: np.ndarray

    def column(self) -> np.ndarray:
        return self.line.pairs[self.at] if self.line.text else self.line.numbers[self.at]

    def texts(self) -> dict[Pair, str]:
        """The texts that occur, by their hashes."""
        line = self.line
        places = [at for at in np.unique(self.at).tolist() if line.texts[at] is not None]
        return {(int(line.pairs[at, 0]), int(line.pairs[at, 1])): str(line.texts[at]) for at in places}
