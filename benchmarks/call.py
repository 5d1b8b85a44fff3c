"""`Engine.decide(dict)` -> Decision: 22 features, 20 rules, no log, one event at a time."""

from __future__ import annotations

import time

import numpy as np

from benchmarks import workload
from benchmarks.report import finish, options
from shopward import Engine, Rulebook


def run(quick: bool) -> dict:
    """Percentiles in microseconds over the last events of the stream, state and caches warm with the earlier ones."""
    n, measured = 300_000, 60_000 if quick else 150_000
    engine = Engine(Rulebook.from_files(workload.rulebook_files()), mode="compiled")
    warm = workload.table(1_000_000)
    head = warm.slice(0, len(warm) - n)
    for batch in engine.read_table(head):
        engine.decide_batch(batch)
    events = warm.slice(len(warm) - n).to_pylist()
    decide, clock = engine.decide, time.perf_counter_ns
    for event in events[: n - measured]:
        decide(event)
    took = np.empty(measured, np.int64)
    fired = np.zeros(measured, np.bool_)
    for i, event in enumerate(events[n - measured :]):
        before = clock()
        decision = decide(event)
        took[i] = clock() - before
        fired[i] = bool(decision.reasons)
    micro = np.percentile(took, [50, 90, 99, 99.9]) / 1000
    return {
        "p50_us": float(micro[0]), "p90_us": float(micro[1]), "p99_us": float(micro[2]), "p999_us": float(micro[3]),
        "decisions_per_s": float(1e9 * len(took) / took.sum()), "share_with_reasons": float(fired.mean()),
        "p50_nothing_fired_us": float(np.median(took[~fired]) / 1000), "p50_with_evidence_us": float(np.median(took[fired]) / 1000),
    }  # fmt: skip


if __name__ == "__main__":
    args = options(__doc__ or "")
    finish("call", run(args.quick), args.json)
