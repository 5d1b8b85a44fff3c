"""lookups/NAME.yaml: as-of keyed tables. Rows stand in the file itself or in a CSV beside it.

key: string
columns: {country: string}
rows:
  - {key: "411111", country: US, valid_from: 2020-01-01}

With `key: ip` the keys are networks and the narrowest one that holds an address answers; `mmdb: GeoLite2-ASN.mmdb` names a MaxMind
database beside the file that answers what no row does, and `paths` where in its records a column stands:

key: ip
columns: {asn: number}
mmdb: GeoLite2-ASN.mmdb
paths: {asn: autonomous_system_number}
"""

from __future__ import annotations

import csv
import io
import ipaddress
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from shopward.declare.form import Form, is_name
from shopward.declare.tree import At, Mapping, Scalar, data
from shopward.declare.types import Lookup
from shopward.errors import Problem
from shopward.expr import Type
from shopward.expr.check import moment

COLUMN_TYPES: tuple[Type, ...] = ("string", "number", "bool")
MAX_CSV = 256_000_000
ALWAYS = -(2**62)
MOST_PROBLEMS = 20  # of one table; the rest is counted
Row = tuple[int, int | None, dict[str, Any]]


@dataclass(slots=True)
class Found:
    """One row as it was written, with a way to complain about it."""

    values: dict[str, Any]
    wrong: Callable[[str], None]


def read_lookup(name: str, node: At, problems: list[Problem], open_csv: Callable[[str], str | None]) -> Lookup | None:
    """The Lookup of one file. `open_csv` gives the text of a file named beside it, None when there is none."""
    if not isinstance(node, Mapping):
        problems.append(node.problem(f"lookup `{name}` must be a mapping", "key, columns and rows (or file)"))
        return None
    if not is_name(name):
        problems.append(
            node.problem(f"a lookup cannot be called `{name}`", "name the file with lower-case letters, digits and _")
        )
    form = Form(node, f"lookup `{name}`", problems, ("key", "columns", "rows", "file", "mmdb", "paths", "doc"))
    key = form.choice("key", ("string", "number", "ip"), "string")
    columns = _columns(form)
    if form.has("rows") and form.has("file") or not (form.has("rows") or form.has("file") or form.has("mmdb")):
        form.wrong(node, f"{form.what} needs one of `rows` and `file`" + (" (or `mmdb`)" if key == "ip" else ""))
    mmdb, paths = _mmdb(form, key, columns)
    own: list[Problem] = []
    rows = _rows(form, own) if form.has("rows") else _csv_rows(form, own, open_csv) if form.has("file") else ()
    table = _table(rows, key, columns)
    problems.extend(own[:MOST_PROBLEMS])
    if len(own) > MOST_PROBLEMS:
        problems.append(node.problem(f"{len(own) - MOST_PROBLEMS} more rows of lookup `{name}` are wrong"))
    networks = key == "ip"
    return Lookup(name, "string" if networks else key, columns, table, networks, mmdb, paths)  # type: ignore[arg-type]


def _mmdb(form: Form, key: str, columns: dict[str, Type]) -> tuple[str | None, dict[str, str]]:
    """The database's file name, and for each column its place in a record."""
    name = form.text("mmdb") or None
    if name and key != "ip":
        form.wrong("mmdb", "a MaxMind database answers addresses", "set `key: ip`")
    if name and (PurePosixPath(name).name != name or not name.endswith(".mmdb")):
        form.wrong("mmdb", f"`{name}` must be a .mmdb file beside this one")
    inner = form.mapping("paths") if form.has("paths") else None
    paths = {c: node.text for c, node in (inner.node.items if inner else {}).items() if isinstance(node, Scalar)}
    for column in paths:
        if column not in columns:
            form.wrong("paths", f"unknown column `{column}`", f"the columns are {', '.join(columns)}")
    return name, paths


def _columns(form: Form) -> dict[str, Type]:
    inner = form.mapping("columns")
    out: dict[str, Type] = {}
    if inner is None and not form.has("columns"):
        form.required("columns")
    for column, node in (inner.node.items if inner else {}).items():
        text = node.text if isinstance(node, Scalar) else ""
        if not is_name(column) or column in ("key", "valid_from", "valid_until"):
            form.wrong(inner.node.keys[column], f"`{column}` cannot name a column")  # type: ignore[union-attr]
        elif text not in COLUMN_TYPES:
            form.wrong(node, f"unknown type `{text}`", f"one of: {', '.join(COLUMN_TYPES)}")
        else:
            out[column] = text  # type: ignore[assignment]
    return out


def _rows(form: Form, own: list[Problem]) -> Iterator[Found]:
    for node in form.sequence("rows"):
        if isinstance(node, Mapping):
            yield Found(data(node), _teller(own, node.problem))
        else:
            own.append(node.problem("a row must be a mapping", "{key: ..., column: ...}"))


def _csv_rows(form: Form, own: list[Problem], open_csv: Callable[[str], str | None]) -> Iterator[Found]:
    name = form.text("file")
    text = open_csv(name)
    if text is None:
        form.wrong("file", f"there is no file `{name}` beside this one")
        return
    reader = csv.DictReader(io.StringIO(text))
    shown = str(PurePosixPath(form.node.source.file).parent / name)
    try:
        for record in reader:
            cells = {column or "(too many cells)": value or None for column, value in record.items()}
            yield Found(cells, _teller(own, partial(Problem, shown, reader.line_num, 1)))
    except csv.Error as e:
        own.append(Problem(shown, reader.line_num, 1, f"this is not CSV: {e}"))


def _teller(own: list[Problem], problem: Callable[[str], Problem]) -> Callable[[str], None]:
    return lambda message: own.append(problem(message))


def _table(rows: Iterable[Found], key: str, columns: dict[str, Type]) -> dict[str, tuple[Row, ...]]:
    table: dict[str, list[Row]] = {}
    for row in rows:
        parsed = _parsed(row, key, columns)
        if parsed:
            table.setdefault(parsed[0], []).append(parsed[1])
    return {k: tuple(sorted(v, key=lambda r: r[0])) for k, v in table.items()}


def _parsed(row: Found, key: str, columns: dict[str, Type]) -> tuple[str, Row] | None:
    values, wrong = row.values, row.wrong
    for column in values:
        if column not in columns and column not in ("key", "valid_from", "valid_until"):
            return wrong(f"unknown column `{column}`")  # type: ignore[func-returns-value]
    name = key_text(values.get("key"), key)
    if name is None:
        return wrong(f"the key must be a {'network such as 203.0.113.0/24' if key == 'ip' else key}")  # type: ignore[func-returns-value]
    try:
        out = {c: _cell(values.get(c), c, kind) for c, kind in columns.items()}
        start, end = _when(values, "valid_from") or ALWAYS, _when(values, "valid_until")
    except ValueError as e:
        return wrong(str(e))  # type: ignore[func-returns-value]
    if end is not None and end <= start:
        return wrong("valid_until is not after valid_from")  # type: ignore[func-returns-value]
    return name, (start, end, out)


def key_text(value: Any, key: str) -> str | None:
    """The canonical text of a key: as events' keys are written.

    >>> key_text(411111.0, "number"), key_text("411111", "string"), key_text(True, "number")
    ('411111', '411111', None)
    """
    if value is None or value == "" or isinstance(value, bool | list | dict):
        return None
    if key == "string":
        return str(value)
    if key == "ip":
        return _network(str(value))
    try:
        x = float(value)
    except ValueError:
        return None
    return None if x - x else str(int(x)) if x.is_integer() else repr(x)


def _network(text: str) -> str | None:
    """A network as it is written in the table, an address as the network of itself; None when it is neither.

    >>> _network("203.0.113.7/24"), _network("2001:db8::1"), _network("home")
    ('203.0.113.0/24', '2001:db8::1/128', None)
    """
    try:
        return str(ipaddress.ip_network(text.strip(), strict=False))
    except ValueError:
        return None


def _cell(value: Any, column: str, kind: Type) -> Any:
    if value is None:
        return None
    if kind == "string" and isinstance(value, str | int):
        return str(value)
    if kind == "bool" and str(value).lower() in ("true", "false", "1", "0"):
        return str(value).lower() in ("true", "1")
    if kind == "number" and not isinstance(value, bool | list | dict):
        try:
            x = float(value)
        except ValueError:
            x = float("nan")
        if x - x == 0:
            return x
    raise ValueError(f"`{column}` must be a {kind}, not `{str(value)[:40]}`")


def _when(values: dict[str, Any], column: str) -> int | None:
    value = values.get(column)
    if value is None or value == "":
        return None
    at = moment(str(value))
    if at is None:
        raise ValueError(f"`{column}` must be a time such as 2026-01-31, not `{str(value)[:40]}`")
    return at
