"""22 exact features of a million Zipf events from the same Arrow table with string keys, one thread each: ours against DuckDB and Polars.

DuckDB runs the exact forms we know (the statement Shopward generates; RANGE windows on distinct timestamps, with string keys and with
dictionary numbers) and the fastest one counts. Equality of every value is asserted in the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import duckdb
import numpy as np
import pyarrow as pa

from benchmarks import workload
from benchmarks.report import finish, options
from shopward import Engine, Rulebook

HOUR, DAY = 3_600_000, 86_400_000
SPANS = {"1m": 60_000, "1h": HOUR, "24h": DAY, "7d": 7 * DAY}
RANGE_SQL = """
SELECT event_id,
  count(*) OVER user_1m, count(*) OVER user_1h, count(*) OVER user_24h, count(*) OVER user_7d,
  sum(cents) OVER user_1h / 100, sum(cents) OVER user_24h / 100, sum(cents) OVER user_7d / 100,
  count(DISTINCT card) OVER user_24h, (ts - lag(ts) OVER (PARTITION BY user ORDER BY ts)) / 1000,
  count(*) OVER device_1h, count(*) OVER device_24h, count(DISTINCT user) OVER device_24h, count(DISTINCT user) OVER device_7d,
  (ts - min(ts) OVER (PARTITION BY device ORDER BY ts)) / 1000,
  count(*) OVER ip_1m, count(*) OVER ip_1h, count(*) OVER ip_24h, count(DISTINCT user) OVER ip_1h, count(DISTINCT user) OVER ip_24h,
  count(*) FILTER (type = 'payment_failed') OVER card_1h,
  avg(cents) OVER seller_7d / 100, stddev_pop(cents) OVER seller_7d / 100
FROM events WINDOW {windows}
"""


def unique_times(table: pa.Table) -> pa.Table:
    """The same events with ties moved apart by milliseconds, so that RANGE windows are exact too."""
    ts = np.asarray(table["ts"])
    steps = np.arange(len(ts))
    return table.set_column(
        table.schema.get_field_index("ts"), "ts", pa.array(np.maximum.accumulate(ts - steps) + steps)
    )


def range_sql() -> str:
    """The 22 features as plain RANGE windows."""
    keys = {
        "user": ("1m", "1h", "24h", "7d"),
        "device": ("1h", "24h", "7d"),
        "ip": ("1m", "1h", "24h"),
        "card": ("1h",),
        "seller": ("7d",),
    }
    windows = [
        f"{key}_{span} AS (PARTITION BY {key} ORDER BY ts RANGE BETWEEN {SPANS[span]} PRECEDING AND CURRENT ROW)"
        for key, spans in keys.items()
        for span in spans
    ]
    return RANGE_SQL.format(windows=", ".join(windows))


def timed(run: Callable[[], object], clock: Callable[[], float] = time.process_time) -> tuple[float, object]:
    """CPU seconds of this process (the machine is shared), or those of another clock, and the result."""
    before = clock()
    result = run()
    return clock() - before, result


def ours(rulebook: Rulebook, table: pa.Table) -> tuple[float, np.ndarray, dict]:
    """Seconds (the median of five runs, each from empty state into fresh memory), values float64[22, n], and memory of the state."""
    took, memory, out = [], {}, np.empty(0)
    for _ in range(5):
        out = np.empty((len(rulebook.features), len(table)))
        with Engine(rulebook, mode="compiled") as engine:

            def go(engine=engine, out=out) -> None:
                at = 0
                for batch in engine.read_table(table):
                    out[:, at : at + batch.n] = engine.compute(batch).values
                    at += batch.n

            seconds, _ = timed(go)
            took.append(seconds)
            memory = engine.windows.memory()
    return sorted(took)[2], out, memory


def duckdb_seconds(
    table: pa.Table,
    rulebook: Rulebook,
    threads: int = 1,
    clock: Callable[[], float] = time.process_time,
    forms: tuple[str, ...] = ("range", "range_ids"),
) -> tuple[dict[str, float], np.ndarray]:
    """Seconds of the generated statement and the other forms, and the values of the generated one in arrival order."""
    from shopward.features import sql

    db = duckdb.connect()
    db.execute(f"SET threads = {threads}")
    db.register("source", table)
    db.execute(
        "CREATE TABLE events AS SELECT row_number() OVER () - 1 AS seq, ts AS t, ts, event_id, type, user, device, ip, card, seller, "
        "round(amount * 100)::BIGINT AS amount, round(amount * 100)::BIGINT AS cents FROM source"
    )
    took = {}
    took["generated"], _ = timed(lambda: db.execute(f"CREATE TABLE g AS {sql.to_sql(rulebook, labels='none')}"), clock)
    others = {"range": lambda: db.execute(f"CREATE TABLE r AS {range_sql()}"), "range_ids": lambda: _with_ids(db)}
    for form in forms:
        took[form], _ = timed(others[form], clock)
    columns = ", ".join(f"g.{name}::DOUBLE AS {name}" for name in rulebook.features)
    found = db.execute(f"SELECT {columns} FROM g JOIN events USING (event_id) ORDER BY seq").fetchnumpy()
    rows = [np.ma.filled(np.ma.asarray(found[name], float), np.nan) for name in rulebook.features]
    return took, np.array(rows)


def _with_ids(db: duckdb.DuckDBPyConnection) -> None:
    """The RANGE form with keys as dictionary numbers; making them is part of the work."""
    for key in ("user", "device", "ip", "card", "seller"):
        db.execute(f"CREATE TYPE {key}_id AS ENUM (SELECT DISTINCT {key} FROM events)")
    db.execute(
        "CREATE TABLE coded AS SELECT seq, ts, event_id, type, cents, user::user_id AS user, device::device_id AS device, "
        "ip::ip_id AS ip, card::card_id AS card, seller::seller_id AS seller FROM events"
    )
    db.execute(f"CREATE TABLE c AS {range_sql().replace('FROM events', 'FROM coded')}")


def polars_seconds(table: pa.Table) -> float:
    """Seconds of the 22 features in Polars on one thread (exact, except that std is a float algorithm there)."""
    import polars as pl

    frame = pl.from_arrow(table).with_columns(
        pl.from_epoch("ts", time_unit="ms").alias("t"),
        (pl.col("type") == "payment_failed").cast(pl.Int64).alias("failed"),
        pl.lit(1).cast(pl.Int64).alias("one"),
        (pl.col("amount") * 100).round().cast(pl.Int64).alias("cents"),
    )

    def rolling(column: str, span: str, key: str, how: str = "sum") -> pl.Expr:
        return (
            getattr(pl.col(column), f"rolling_{how}_by")("t", window_size=span, closed="both")
            .over(key)
            .alias(f"{key}_{column}_{span}_{how}")
        )

    counts = [("user", ("1m", "1h", "24h", "7d")), ("device", ("1h", "24h")), ("ip", ("1m", "1h", "24h"))]
    expressions = [rolling("one", span, key) for key, spans in counts for span in spans]
    expressions += [rolling("cents", span, "user") for span in ("1h", "24h", "7d")] + [rolling("failed", "1h", "card")]
    expressions += [rolling("cents", "7d", "seller", "mean"), rolling("cents", "7d", "seller", "std")]
    expressions += [
        (pl.col("ts") - pl.col("ts").shift(1).over("user")).alias("idle"),
        (pl.col("ts") - pl.col("ts").first().over("device")).alias("age"),
    ]
    distinct = [
        ("user", "24h", "card"),
        ("device", "24h", "user"),
        ("device", "7d", "user"),
        ("ip", "1h", "user"),
        ("ip", "24h", "user"),
    ]

    def go() -> None:
        frame.with_columns(expressions)
        for key, span, value in distinct:
            frame.sort(key, "t").rolling("t", period=span, group_by=key, closed="both").agg(pl.col(value).n_unique())

    return timed(go)[0]


def run(quick: bool) -> dict:
    """Ratios of CPU seconds; the values of both engines are asserted equal, bit for bit."""
    n = 1_000_000
    rulebook = Rulebook.from_files(workload.rulebook_files(()))
    table = unique_times(workload.table(n))
    seconds, values, memory = ours(rulebook, table)
    peer, expected = duckdb_seconds(table, rulebook)
    different = ~((values == expected) | (np.isnan(values) & np.isnan(expected)))
    assert not different.any(), {
        name: int(d.sum()) for name, d in zip(rulebook.features, different, strict=True) if d.any()
    }
    best = min(peer.values())
    result = {
        "events": n, "seconds": seconds, "events_per_s": n / seconds, **{f"duckdb_{k}_s": v for k, v in peer.items()},
        "ratio_duckdb": best / seconds, **{f"memory_{k}": v for k, v in memory.items()},
    }  # fmt: skip
    if not quick:
        result["polars_s"] = polars_seconds(table)
        result["ratio_polars"] = result["polars_s"] / seconds
    return result


if __name__ == "__main__":
    import os

    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    args = options(__doc__ or "")
    finish("features", run(args.quick), args.json)
