"""What was decided so long ago that neither the known ids nor the log hold it: asked of the lake, by event id."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from shopward.store import rows

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

EVENTS = """
    SELECT e.* EXCLUDE (date) FROM events e SEMI JOIN asked ON e.event_id = asked.event_id
    QUALIFY row_number() OVER (PARTITION BY e.event_id ORDER BY e.seq DESC) = 1
"""


class Past:
    """The lake (and the log) of a data folder as they were when first asked; what came later is remembered elsewhere.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as data:
    ...     Past(data).events(["e1"]), Past(data).decisions(["e1"])
    ({}, {})
    """

    def __init__(self, data: Path | str):
        self.data = Path(data)
        self._db: duckdb.DuckDBPyConnection | None = None

    def events(self, event_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The newest events with these ids as rows of lake/events: `seq`, `type`, `ts`, their fields; none where there is none."""
        return {row["event_id"]: row for row in self._ask(EVENTS, event_ids)}

    def decisions(self, event_ids: Iterable[str]) -> dict[str, dict[str, Any] | None]:
        """What was decided on them, in the form of the log, evidence included; None for a label event."""
        events = self.events(event_ids)
        found: dict[str, dict[str, Any] | None] = dict.fromkeys(events)
        query = "SELECT d.* EXCLUDE (date) FROM decisions d SEMI JOIN asked ON d.event_id = asked.event_id"
        judged = {row["seq"]: row for row in self._ask(query, found) if row["seq"] == events[row["event_id"]]["seq"]}
        why = self._evidence(sorted(judged))
        for seq, row in judged.items():
            given = {name: row[name] for name in rows.DECISIONS.names if name != "seq"}
            given |= {name: [*(given[name] or ())] for name in ("reasons", "shadow", "labels")}
            said = why.get(seq, {})
            given |= {
                "ts": round(given["ts"].timestamp() * 1000),
                "evidence": [said[f"rule:{rule}"] for rule in given["reasons"] if f"rule:{rule}" in said],
                "shadow_evidence": [said[f"shadow:{rule}"] for rule in given["shadow"] if f"shadow:{rule}" in said],
            }
            found[row["event_id"]] = given
        return found

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _evidence(self, seqs: Sequence[int]) -> dict[int, dict[str, Any]]:
        """By seq and source, as JSON would hold it."""
        query = "SELECT f.* FROM written_findings f SEMI JOIN asked ON f.seq = asked.seq"
        found: dict[int, dict[str, Any]] = {}
        for row in self._ask(query, seqs, "seq"):
            told = msgspec.json.decode(msgspec.json.encode(rows.evidence_of(row)))
            found.setdefault(row["seq"], {})[row["source"]] = told
        return found

    def _ask(self, query: str, values: Iterable[Any], column: str = "event_id") -> list[dict[str, Any]]:
        import pyarrow as pa

        asked = pa.table({column: pa.array([*values], pa.string() if column == "event_id" else pa.int64())})
        if not asked.num_rows:
            return []
        try:
            return self._answer(query, asked)
        except OSError:  # files were merged or let go since: the lake is looked at anew
            self.close()
            return self._answer(query, asked)

    def _answer(self, query: str, asked: pa.Table) -> list[dict[str, Any]]:
        import duckdb

        if self._db is None:
            from shopward.store.query import connect

            self._db = connect(self.data)
        self._db.register("asked", asked)
        try:
            return self._db.sql(query).to_arrow_table().to_pylist()
        except duckdb.IOException as error:
            raise OSError(str(error)) from error
