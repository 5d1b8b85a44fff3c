"""The same 22 features on Spark, local[2], warm: Spark's own RANGE windows against our kernels inside Spark, in one session.

Both read the same Parquet file and write every row: Spark's to its no-op sink, ours to a Parquet file in arrival order (which costs
more). Values of ours are compared with the native engine, bit for bit. Spark's own windows run on 100,000 events only: a frame
is computed again for every row, so a million would take many minutes.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import workload
from benchmarks.features import unique_times
from benchmarks.report import finish, options
from shopward import Rulebook
from shopward.connect.spark import session
from shopward.runs import features_files

COUNTS = {"user": (60, 3600, 86400, 604800), "device": (3600, 86400), "ip": (60, 3600, 86400)}
DISTINCT = (
    ("user", 86400, "card"),
    ("device", 86400, "user"),
    ("device", 604800, "user"),
    ("ip", 3600, "user"),
    ("ip", 86400, "user"),
)


def seconds(go: Callable[[], Any]) -> float:
    before = time.perf_counter()
    go()
    return time.perf_counter() - before


def own_windows(spark: Any, path: Path) -> Callable[[], None]:
    """The 22 window expressions in Spark's own words, over the cached file."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    events = spark.read.parquet(str(path)).withColumn("cents", F.round(F.col("amount") * 100).cast("bigint")).cache()
    events.count()

    def over(key: str, span: int):
        return Window.partitionBy(key).orderBy("ts").rangeBetween(-span * 1000, 0)

    columns = [F.count("*").over(over(key, s)).alias(f"{key}_{s}") for key, spans in COUNTS.items() for s in spans]
    columns += [F.sum("cents").over(over("user", s)).alias(f"spend_{s}") for s in COUNTS["user"][1:]]
    columns += [F.size(F.collect_set(v).over(over(key, s))).alias(f"{key}_{v}_{s}") for key, s, v in DISTINCT]
    columns += [F.sum((F.col("type") == "payment_failed").cast("int")).over(over("card", 3600)).alias("failed")]
    columns += [F.avg("cents").over(over("seller", 604800)).alias("mean")]
    columns += [F.stddev_pop("cents").over(over("seller", 604800)).alias("std")]
    columns += [(F.col("ts") - F.lag("ts").over(Window.partitionBy("user").orderBy("ts"))).alias("idle")]
    columns += [(F.col("ts") - F.min("ts").over(Window.partitionBy("device").orderBy("ts"))).alias("age")]
    return lambda: events.select("event_id", *columns).write.format("noop").mode("overwrite").save()


def ours(path: Path, out: Path, rulebook: Rulebook, engine: str = "spark") -> Callable[[], Any]:
    return lambda: features_files([path], rulebook, engine=engine, out=out)


def run(quick: bool) -> dict:
    import pyarrow.parquet as pq

    warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")
    rulebook = Rulebook.from_files(workload.rulebook_files(()))
    found: dict[str, Any] = {"master": "local[2]"}
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    with tempfile.TemporaryDirectory() as name, session("local[2]") as spark:
        folder = Path(name)
        small, large = folder / "small.parquet", folder / "large.parquet"
        count = 20_000 if quick else 100_000
        pq.write_table(unique_times(workload.table(count)), small)
        go = ours(small, folder / "spark.parquet", rulebook)
        go()
        found |= {"events": count, "seconds": min(seconds(go), seconds(go))}
        ours(small, folder / "native.parquet", rulebook, "native")()
        same = pq.read_table(folder / "spark.parquet").equals(pq.read_table(folder / "native.parquet"))
        assert same, "Spark and the native engine differ"
        peer = own_windows(spark, small)
        peer()
        found["spark_s"] = seconds(peer)
        found["ratio_spark"] = found["spark_s"] / found["seconds"]
        if not quick:
            pq.write_table(workload.table(1_000_000), large)
            took = seconds(ours(large, folder / "large_out.parquet", rulebook))
            found |= {"seconds_1m": took, "events_per_s_1m": 1_000_000 / took}
    return found


if __name__ == "__main__":
    args = options(__doc__ or "")
    finish("spark", run(args.quick), args.json)
