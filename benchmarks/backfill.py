"""The 22 features of a million Zipf events with string keys on two threads, against exact DuckDB windows on two threads: wall time.

Both start from the same Arrow table in memory and are asserted equal in every value. DuckDB's exact forms are those of
`benchmarks.features`, and the fastest counts; copying its columns from Arrow is not part of its time, reading and hashing is part of ours.
The ratio is of wall time, which means something only while nothing else runs; CPU seconds of both are told beside it. Without --quick
also from Parquet file to Parquet file, as `shopward features --threads` runs it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import workload
from benchmarks.features import duckdb_seconds, unique_times
from benchmarks.report import finish, options
from shopward import Engine, Rulebook
from shopward.backfill import SIZE, Backfill
from shopward.runs import features_files

THREADS = 2
RUNS = 3


def both() -> np.ndarray:
    """Wall seconds and CPU seconds until now."""
    return np.array([time.perf_counter(), time.process_time()])


def measured(run: Callable[[np.ndarray], None], features: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Medians of wall and CPU seconds, and the values float64[features, n]."""
    took, values = [], np.zeros((features, n))
    for _ in range(RUNS):
        before = both()
        run(values)
        took.append(both() - before)
    return np.array([median(one) for one in zip(*took, strict=True)]), values


def threaded(rulebook: Rulebook, table: pa.Table) -> Callable[[np.ndarray], None]:
    """Everything from the table to the values, threads started and stopped."""

    def go(out: np.ndarray) -> None:
        with Backfill(rulebook, THREADS) as engine:
            for batch, block in engine.computed(engine.read([table], size=SIZE)):
                out[:, batch.seq0 : batch.seq0 + batch.n] = block.values

    return go


def single(rulebook: Rulebook, table: pa.Table) -> Callable[[np.ndarray], None]:
    def go(out: np.ndarray) -> None:
        with Engine(rulebook, mode="compiled") as engine:
            for batch in engine.read_table(table):
                out[:, batch.seq0 : batch.seq0 + batch.n] = engine.compute(batch).values

    return go


def from_file_to_file(rulebook: Rulebook, table: pa.Table) -> dict[str, float]:
    """Medians of wall seconds on one thread and on two; the files are asserted equal."""
    took: dict[int, list[float]] = {1: [], THREADS: []}
    with tempfile.TemporaryDirectory() as name:
        source, out = Path(name) / "events.parquet", {k: Path(name) / f"on_{k}.parquet" for k in took}
        pq.write_table(table, source)
        for _ in range(RUNS):
            for threads, seconds in took.items():
                before = time.perf_counter()
                features_files([source], rulebook, out=out[threads], threads=threads)
                seconds.append(time.perf_counter() - before)
        assert pq.read_table(out[1]).equals(pq.read_table(out[THREADS]))
    one, two = median(took[1]), median(took[THREADS])
    return {"file_one_thread_s": one, "file_s": two, "ratio_file_one_thread": one / two}


def run(quick: bool) -> dict:
    n = 1_000_000
    rulebook = Rulebook.from_files(workload.rulebook_files(()))
    table = unique_times(workload.table(n))
    features = len(rulebook.features)
    two, values = measured(threaded(rulebook, table), features, n)
    one, alone = measured(single(rulebook, table), features, n)
    assert values.tobytes() == alone.tobytes()
    forms = ("range_ids",) if quick else ("range", "range_ids")
    peer, expected = duckdb_seconds(table, rulebook, THREADS, both, forms)
    different = ~((values == expected) | (np.isnan(values) & np.isnan(expected)))
    assert not different.any(), dict(zip(rulebook.features, different.sum(axis=1).tolist(), strict=True))
    best = min(peer.values(), key=lambda took: float(took[0]))
    return ({} if quick else from_file_to_file(rulebook, table)) | {
        "events": n, "threads": THREADS, "seconds": two[0], "cpu_s": two[1], "events_per_s": n / two[0],
        "one_thread_s": one[0], "one_thread_cpu_s": one[1],
        **{f"duckdb_{form}_s": float(took[0]) for form, took in peer.items()}, "duckdb_cpu_s": float(best[1]),
        "ratio_duckdb": float(best[0]) / two[0], "ratio_duckdb_cpu": float(best[1]) / two[1], "ratio_one_thread": one[0] / two[0],
    }  # fmt: skip


if __name__ == "__main__":
    args = options(__doc__ or "")
    finish("backfill", run(args.quick), args.json)
