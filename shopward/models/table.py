"""Tables of examples, one row each: CSV, NDJSON or Parquet columns as numbers, with a recipe that reads later tables the same way.

Numbers and truths are taken as they are, texts of few values as categories, texts of many as how common they were in training.
Columns that only name a row, and times, are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shopward.errors import BadData, BadEvent, UsageError, table_reason
from shopward.event import parse_time
from shopward.models.dataset import UNKNOWN, Examples

FEW_TEXTS = 64
MOST_COUNTED = 5_000
MOSTLY = 0.9  # share of values that must read as numbers for a text column to be one


def read_table(path: Path) -> Any:
    """An Arrow table from .csv, .ndjson or .parquet; raises UsageError or BadData naming the file."""
    import pyarrow as pa

    if not path.exists():
        raise UsageError(f"{path}: there is no such file")
    if path.suffix not in (".csv", ".ndjson", ".jsonl", ".parquet"):
        raise UsageError(f"{path}: the ending must be .csv, .ndjson or .parquet")
    try:
        table = _load(path)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as wrong:
        raise BadData(f"{path}: {table_reason(wrong)}") from None
    if not table.num_rows:
        raise BadData(f"{path}: no rows")
    twice = {n for n in table.column_names if table.column_names.count(n) > 1}
    if twice:
        raise BadData(f"{path}: two columns are named {', '.join(sorted(twice))}")
    return table


def _load(path: Path) -> Any:
    import pyarrow as pa

    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        return pq.read_table(path)
    if path.suffix == ".csv":
        from pyarrow import csv

        whole = csv.ReadOptions(block_size=1 << 26, use_threads=False)
        try:
            return csv.read_csv(path, read_options=whole)
        except pa.ArrowInvalid as wrong:
            if "conversion error" not in str(wrong):
                raise
            names = csv.open_csv(path).schema.names
            return csv.read_csv(
                path,
                read_options=whole,
                convert_options=csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
            )
    import msgspec

    rows = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                if line.strip():
                    rows.append(msgspec.json.decode(line, type=dict))
            except msgspec.DecodeError as wrong:
                raise BadData(f"{path}:{number}: {wrong}") from None
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({name: _array([row.get(name) for row in rows]) for name in names})


def _array(values: list) -> Any:
    import pyarrow as pa

    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if v is None else str(v) for v in values], pa.string())


def column(table: Any, name: str, option: str) -> Any:
    """A column, or UsageError with the near name."""
    from difflib import get_close_matches

    if name in table.column_names:
        return table[name]
    near = get_close_matches(name, table.column_names, n=1)
    raise UsageError(
        f"{option} {name}: no such column"
        + (f"; did you mean `{near[0]}`?" if near else f" ({', '.join(table.column_names[:8])})")
    )


def labels(values: Any, option: str = "--label") -> np.ndarray:
    """int8[n]: 1, 0, or -1 where empty. Raises BadData naming the first row that is neither."""
    from shopward.label import truth

    out = np.full(len(values), UNKNOWN, np.int8)
    for i, value in enumerate(values.to_pylist()):
        if value is None or value == "" or value != value:
            continue
        try:
            out[i] = truth(value)
        except BadEvent:
            raise BadData(f"{option}: row {i + 1}: expected 0 or 1, found {str(value)[:20]!r}") from None
    return out


def numbers(values: Any, option: str) -> np.ndarray:
    """float64[n], NaN where nothing stands; raises BadData for a column of something else."""
    found, readable = _numbers(values)
    if readable < 1:
        raise BadData(
            f"{option}: {1 - readable:.1%} of the values are no numbers; a number or nothing is expected in each row"
        )
    return found


def times(values: Any, option: str = "--time") -> np.ndarray:
    """int64[n] epoch ms; plain numbers too small for that are taken as they are: only their order matters."""
    import pyarrow as pa

    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        return np.nan_to_num(np.asarray(values.cast(pa.float64()))).astype(np.int64)
    if pa.types.is_timestamp(values.type):
        return np.asarray(values.cast(pa.timestamp("ms"), safe=False).cast(pa.int64()).fill_null(0))
    out = np.zeros(len(values), np.int64)
    for i, value in enumerate(values.to_pylist()):
        try:
            out[i] = parse_time(value)
        except BadEvent as wrong:
            raise BadData(f"{option}: row {i + 1}: {wrong}") from None
    return out


def group_ids(values: Any) -> np.ndarray:
    """int64[n] from 1 on, one number a value; 0 where it is missing."""
    import pyarrow.compute as pc

    coded = pc.dictionary_encode(values.combine_chunks() if hasattr(values, "combine_chunks") else values)
    return np.asarray(coded.indices.fill_null(-1)).astype(np.int64) + 1


@dataclass(slots=True)
class Recipe:
    """How columns become features: name -> {"how": number | category | count, "texts": [...] or {text: count}}."""

    columns: dict[str, dict[str, Any]]
    notes: list[str]

    def matrix(self, table: Any) -> np.ndarray:
        """float64[n, d] of a table with the same columns; BadData names one that is missing."""
        gone = [name for name in self.columns if name not in table.column_names]
        if gone:
            raise BadData(f"the model reads the columns {', '.join(gone[:5])}, which this table lacks")
        out = np.empty((table.num_rows, len(self.columns)))
        for k, (name, how) in enumerate(self.columns.items()):
            out[:, k] = _numbers(table[name])[0] if how["how"] == "number" else _coded(table[name], how)
        return out

    @property
    def categories(self) -> dict[str, tuple[str, ...]]:
        return {n: tuple(c["texts"]) for n, c in self.columns.items() if c["how"] == "category"}


def learn_recipe(table: Any, leave_out: Sequence[str], rows: np.ndarray | None = None) -> Recipe:
    """Decide for each column how it is read, from the rows given (training rows) alone."""
    import pyarrow as pa

    found, notes = {}, []
    for name in table.column_names:
        if name in leave_out:
            continue
        values = table[name] if rows is None else table[name].filter(pa.array(rows))
        kind = values.type
        if pa.types.is_temporal(kind) or pa.types.is_nested(kind):
            notes.append(f"`{name}` left out: {'a time' if pa.types.is_temporal(kind) else 'a nested column'}")
            continue
        numbers, readable = _numbers(values)
        if readable >= MOSTLY and not np.isnan(numbers).all():
            if readable < 1:
                notes.append(f"`{name}`: {1 - readable:.1%} of the values are no numbers and count as missing")
            found[name] = {"how": "number"}
            continue
        how = _texts(name, values, notes)
        if how:
            found[name] = how
    if not found:
        raise BadData("no column can teach a model" + ("; " + "; ".join(notes[:5]) if notes else ""))
    return Recipe(found, notes)


def _texts(name: str, values: Any, notes: list[str]) -> dict[str, Any] | None:
    import pyarrow as pa
    import pyarrow.compute as pc

    counted = pc.value_counts(values.cast(pa.string()).drop_null()).to_pylist()
    counted.sort(key=lambda c: (-c["counts"], c["values"]))
    if not counted:
        notes.append(f"`{name}` left out: no value at all")
        return None
    if len(counted) > 20 and len(counted) > 0.9 * len(values):
        notes.append(f"`{name}` left out: it names rows ({len(counted):,} values in {len(values):,} rows)")
        return None
    if len(counted) <= FEW_TEXTS:
        return {"how": "category", "texts": [c["values"] for c in counted]}
    notes.append(f"`{name}`: {len(counted):,} different texts, read as how common each was in training")
    return {"how": "count", "texts": {c["values"]: c["counts"] for c in counted[:MOST_COUNTED]}}


def _numbers(values: Any) -> tuple[np.ndarray, float]:
    """(float64[n], the share of non-empty values that are numbers)"""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_null(values.type):
        return np.full(len(values), np.nan), 1.0
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        if not (
            pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_decimal(values.type)
        ):
            return np.full(len(values), np.nan), 0.0
        return np.asarray(pc.cast(values, pa.float64()).fill_null(np.nan)), 1.0
    out, bad, given = np.full(len(values), np.nan), 0, 0
    for i, text in enumerate(values.to_pylist()):
        if text is None or text == "":
            continue
        given += 1
        try:
            out[i] = float(text)
        except ValueError:
            bad += 1
    return out, 1.0 if not given else 1 - bad / given


def _coded(values: Any, how: dict[str, Any]) -> np.ndarray:
    import pyarrow as pa

    texts = how["texts"]
    book = {t: float(i) for i, t in enumerate(texts)} if how["how"] == "category" else texts
    other = -1.0 if how["how"] == "category" else 0.0
    return np.array([np.nan if v is None else float(book.get(v, other)) for v in values.cast(pa.string()).to_pylist()])


def examples_of(table: Any, label: str, time: str | None, group: str | None) -> tuple[Examples, Recipe, Any]:
    """Examples from the labelled rows of a table, the recipe that read them, and those rows."""
    import pyarrow as pa

    label_of = labels(column(table, label, "--label"))
    known = label_of != UNKNOWN
    if not known.any():
        raise BadData(f"--label {label}: no row has a label")
    rows = table.filter(pa.array(known)) if not known.all() else table
    recipe = learn_recipe(rows, [c for c in (label, time, group) if c])
    n = rows.num_rows
    ts = times(column(rows, time, "--time")) if time else np.zeros(n, np.int64)
    groups = {group: group_ids(column(rows, group, "--group"))} if group else {}
    ones = np.ones(n)
    notes = list(recipe.notes) + (
        [f"{int((~known).sum()):,} rows without a label were left out"] if not known.all() else []
    )
    examples = Examples(
        tuple(recipe.columns), recipe.matrix(rows), label_of[known], ts, np.zeros(n, np.int64), ones, ones.copy(),
        [str(i) for i in np.flatnonzero(known).tolist()], groups, recipe.categories, notes,
    )  # fmt: skip
    return examples, recipe, rows
