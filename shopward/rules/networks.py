"""Which network an address belongs to: rows of a lookup with `key: ip` first, then the user's MaxMind database.

A database has no history: it says today's owner for yesterday's event too. Rows can have one (`valid_from`, `valid_until`).
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from collections.abc import Callable
from functools import lru_cache
from math import nan
from pathlib import Path
from socket import AF_INET, inet_pton
from typing import Any

from shopward.declare.types import Lookup
from shopward.errors import MissingExtra, UsageError

CACHED = 1 << 16  # addresses whose networks are remembered
_Row = tuple[int, int | None, dict[str, Any]]


class Networks:
    """One lookup with network keys, asked by address; the narrowest network with a row in force answers.

    >>> rows = {"203.0.113.0/24": ((0, None, {"kind": "hosting"}),), "203.0.113.7/32": ((0, 1000, {"kind": "office"}),)}
    >>> read = Networks(Lookup("ip", "string", {"kind": "string"}, rows, networks=True), None).reader("kind")
    >>> read("203.0.113.7", 5), read("203.0.113.7", 1000), read("198.51.100.1", 5), read("home", 5)
    ('office', 'hosting', None, None)
    """

    def __init__(self, table: Lookup, folder: Path | None):
        self.table = table
        self._by_length: dict[tuple[int, int], dict[int, tuple[_Row, ...]]] = {}
        for key, rows in table.rows.items():
            network = ipaddress.ip_network(key)
            place = self._by_length.setdefault((network.version, network.prefixlen), {})
            place[int(network.network_address)] = rows
        self._lengths = sorted(self._by_length, key=lambda at: -at[1])
        self._database: Any = _open(table, folder) if table.mmdb else None
        self.holding = lru_cache(CACHED)(self._holding)
        self.record = lru_cache(CACHED)(self._record)

    def reader(self, column: str) -> Callable[[Any, int], Any]:
        """The value of a column for an address as of t (ms); what is missing depends on the column's type."""
        number = self.table.columns[column] in ("number", "time")
        path = tuple(self.table.paths.get(column, column).split("."))

        def read(key: Any, t: int) -> Any:
            value = None if not isinstance(key, str) else self._value(key, t, column, path)
            if number:
                return float(value) if isinstance(value, int | float) else nan
            return value

        return read

    def _value(self, address: str, t: int, column: str, path: tuple[str, ...]) -> Any:
        for rows in self.holding(address):
            at = bisect_right(rows, t, key=lambda row: row[0]) - 1
            if at < 0:
                continue
            until = rows[at][1]
            if until is None or t < until:
                return rows[at][2].get(column)
        found = self.record(address) if self._database is not None else None
        for part in path:
            found = found.get(part) if isinstance(found, dict) else None
        return found if self.table.columns[column] != "string" or found is None else str(found)

    def _holding(self, address: str) -> tuple[tuple[_Row, ...], ...]:
        """The rows of every network that holds an address, narrowest first."""
        version, value = _parsed(address)
        bits, found = 32 if version == 4 else 128, []
        for kind, length in self._lengths:
            if kind == version:
                shift = bits - length
                rows = self._by_length[version, length].get(value >> shift << shift)
                found += [rows] if rows else []
        return tuple(found)

    def _record(self, address: str) -> Any:
        try:
            return self._database.get(address)
        except ValueError:  # no address, or IPv6 in a database of IPv4
            return None


def _parsed(address: str) -> tuple[int, int]:
    """(version, number) of an address; version 0 when it is none.

    >>> _parsed("203.0.113.7"), _parsed("2001:db8::1%eth0")[0], _parsed("203.0.113.07")
    ((4, 3405803783), 6, (0, 0))
    """
    try:
        if ":" not in address:
            return 4, int.from_bytes(inet_pton(AF_INET, address), "big")
        ip = ipaddress.ip_address(address)
    except (ValueError, OSError):
        return 0, 0
    return ip.version, int(ip)


def _open(table: Lookup, folder: Path | None) -> Any:
    """The database beside the lookup's YAML file."""
    if folder is None:
        raise UsageError(f"lookup `{table.name}` reads {table.mmdb}: load the rulebook from its folder, not from texts")
    path = folder / "lookups" / str(table.mmdb)
    if not path.is_file():
        raise UsageError(f"lookup `{table.name}` reads {path}, and there is no such file; put the database there")
    try:
        import maxminddb
    except ImportError:
        raise MissingExtra("mmdb", "maxminddb") from None
    try:
        return maxminddb.open_database(str(path))
    except maxminddb.InvalidDatabaseError as error:
        raise UsageError(f"{path} is not a MaxMind database: {error}") from None
