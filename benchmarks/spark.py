"""The same 22 features in Spark's own windows, 100,000 events, local[1], against ours on the same events."""

from __future__ import annotations

import os
import sys
import time

from benchmarks import workload
from benchmarks.features import ours, unique_times
from benchmarks.report import finish, options
from shopward import Rulebook
from shopward.errors import MissingExtra

COUNTS = {"user": (60, 3600, 86400, 604800), "device": (3600, 86400), "ip": (60, 3600, 86400)}
DISTINCT = (
    ("user", 86400, "card"),
    ("device", 86400, "user"),
    ("device", 604800, "user"),
    ("ip", 3600, "user"),
    ("ip", 86400, "user"),
)


def spark_seconds(path: str) -> float:
    """Best of two warm runs of the 22 window expressions, written to Spark's no-op sink."""
    try:
        from pyspark.sql import SparkSession, Window
        from pyspark.sql import functions as F
    except ImportError:
        raise MissingExtra("spark", "pyspark") from None
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    spark = (
        SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").config("spark.sql.shuffle.partitions", "1")
        .config("spark.driver.memory", "4g").getOrCreate()
    )  # fmt: skip
    spark.sparkContext.setLogLevel("ERROR")
    events = spark.read.parquet(path).withColumn("cents", F.round(F.col("amount") * 100).cast("bigint")).cache()
    events.count()

    def over(key: str, seconds: int):
        return Window.partitionBy(key).orderBy("ts").rangeBetween(-seconds * 1000, 0)

    def go() -> float:
        columns = [F.count("*").over(over(key, s)).alias(f"{key}_{s}") for key, spans in COUNTS.items() for s in spans]
        columns += [F.sum("cents").over(over("user", s)).alias(f"spend_{s}") for s in COUNTS["user"][1:]]
        columns += [F.size(F.collect_set(v).over(over(key, s))).alias(f"{key}_{v}_{s}") for key, s, v in DISTINCT]
        columns += [F.sum((F.col("type") == "payment_failed").cast("int")).over(over("card", 3600)).alias("failed")]
        columns += [
            F.avg("cents").over(over("seller", 604800)).alias("mean"),
            F.stddev_pop("cents").over(over("seller", 604800)).alias("std"),
        ]
        columns += [(F.col("ts") - F.lag("ts").over(Window.partitionBy("user").orderBy("ts"))).alias("idle")]
        columns += [(F.col("ts") - F.min("ts").over(Window.partitionBy("device").orderBy("ts"))).alias("age")]
        before = time.perf_counter()
        events.select("event_id", *columns).write.format("noop").mode("overwrite").save()
        return time.perf_counter() - before

    go()
    took = min(go(), go())
    spark.stop()
    return took


def run(quick: bool) -> dict:
    import tempfile

    import pyarrow.parquet as pq

    table = unique_times(workload.table(100_000))
    seconds, _, _ = ours(Rulebook.from_files(workload.rulebook_files(())), table)
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(table, f"{folder}/events.parquet")
        spark = spark_seconds(f"{folder}/events.parquet")
    return {"events": len(table), "seconds": seconds, "spark_s": spark, "ratio_spark": spark / seconds}


if __name__ == "__main__":
    args = options(__doc__ or "")
    finish("spark", run(args.quick), args.json)
