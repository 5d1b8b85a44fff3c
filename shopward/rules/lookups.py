"""What generated code calls to read tables, as of t: `listed(name, key, t)`, `lookup(table, column, key, t)`, `SAID(name, key, t)`."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shopward.event import format_time
from shopward.hashing import canonical_text

if TYPE_CHECKING:
    from shopward.declare.rulebook import Rulebook
    from shopward.declare.types import Lookup
    from shopward.lists import Key, ListIndex


def tables(rulebook: Rulebook, lists: ListIndex) -> dict[str, Callable[..., Any]]:
    """The readers over a rulebook's lookups and the lists in memory; `SAID` tells who put a key on a list, since when, until when."""
    columns = {
        (table.name, column): read
        for table in rulebook.lookups.values()
        for column, read in _readers(table, rulebook.path).items()
    }

    def listed(name: str, key: Any, t: float) -> bool | None:
        found = _list_key(key)
        return None if found is None else lists.contains(name, found, int(t))

    def lookup(table: str, column: str, key: Any, t: float) -> Any:
        return columns[table, column](key, int(t))

    def said(name: str, key: Any, t: float) -> str:
        found = _list_key(key)
        entry = None if found is None else lists.said(name, found, int(t))
        if entry is None or not entry.provenance:
            return ""
        until = "" if entry.expires is None else f" until {format_time(entry.expires)}"
        return f" ({entry.provenance}, since {format_time(entry.valid_from)}{until})"

    return {"listed": listed, "lookup": lookup, "SAID": said}


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


def _readers(table: Lookup, folder: Path | None) -> dict[str, Callable[[Any, int], Any]]:
    """A reader for each column of a table."""
    if not table.networks:
        return {column: _reader(table, column) for column in table.columns}
    from shopward.rules.networks import Networks

    found = Networks(table, folder)
    return {column: found.reader(column) for column in table.columns}


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
