"""What generated code calls to read tables, as of t: `listed(name, key, t)`, `lookup(table, column, key, t)`, `SAID(name, key, t)`."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from math import nan
from typing import TYPE_CHECKING, Any

from shopward.event import format_time
from shopward.hashing import canonical_text
from shopward.rules.networks import Networks

if TYPE_CHECKING:
    from shopward.declare.rulebook import Rulebook
    from shopward.declare.types import Lookup
    from shopward.lists import Key, ListIndex


class Lookups:
    """Every lookup of a rulebook: what a column says about a key as of a moment."""

    def __init__(self, rulebook: Rulebook):
        self._tables = rulebook.lookups
        self._networks = {name: Networks(t, rulebook.path) for name, t in rulebook.lookups.items() if t.networks}
        self._read = {
            (table.name, column): self._networks[table.name].reader(column)
            if table.networks
            else _reader(table, column)
            for table in rulebook.lookups.values()
            for column in table.columns
        }

    def value(self, table: str, column: str, key: Any, t: float) -> Any:
        """What the column says at t (ms); what is missing depends on its type."""
        return self._read[table, column](key, int(t))

    def moments(self, table: str, key: Any) -> list[int]:
        """The times at which what a lookup says about a key may change, in order."""
        if table in self._networks:
            found = self._networks[table].holding(key) if isinstance(key, str) else ()
        else:
            found = (self._tables[table].rows.get(key if isinstance(key, str) else canonical_text(key), ()),)
        return sorted({t for rows in found for since, until, _ in rows for t in (since, until) if t is not None})


def tables(lookups: Lookups, lists: ListIndex) -> dict[str, Callable[..., Any]]:
    """The readers over a rulebook's lookups and the lists in memory; `SAID` tells who put a key on a list, since when, until when."""

    def listed(name: str, key: Any, t: float) -> bool | None:
        found = _list_key(key)
        return None if found is None else lists.contains(name, found, int(t))

    def said(name: str, key: Any, t: float) -> str:
        found = _list_key(key)
        entry = None if found is None else lists.said(name, found, int(t))
        if entry is None or not entry.provenance:
            return ""
        until = "" if entry.expires is None else f" until {format_time(entry.expires)}"
        return f" ({entry.provenance}, since {format_time(entry.valid_from)}{until})"

    return {"listed": listed, "lookup": lookups.value, "SAID": said}


def _list_key(key: Any) -> Key | None:
    """The key as lists keep it, every part as a text; None when it, or a part of it, is missing.

    >>> _list_key("d1"), _list_key(7.0), _list_key(("a1", 7.0)), _list_key(("a1", float("nan")))
    ('d1', '7', ('a1', '7'), None)
    """
    if isinstance(key, str):
        return key
    if isinstance(key, tuple):
        return None if any(k is None or k != k for k in key) else tuple(map(canonical_text, key))
    return None if key is None or key != key else canonical_text(key)


def _reader(table: Lookup, column: str) -> Callable[[Any, int], Any]:
    """The value of one column for a key as of t; what is missing depends on the column's type."""
    missing = nan if table.columns[column] in ("number", "time") else None
    found = {key: ([row[0] for row in rows], rows) for key, rows in table.rows.items()}

    def read(key: Any, t: int) -> Any:
        if key is None or key != key:
            return missing
        entry = found.get(key if isinstance(key, str) else canonical_text(key))
        at = bisect_right(entry[0], t) - 1 if entry else -1
        if not entry or at < 0:
            return missing
        _, until, values = entry[1][at]
        value = values.get(column) if until is None or t < until else None
        return missing if value is None else float(value) if table.columns[column] in ("number", "time") else value

    return read
