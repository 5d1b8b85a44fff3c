"""Backtest of the shipped rulebook with full metrics: decisions a minute, from NDJSON to the report, kernels warm.

The history is a synthetic market with labels. The peer is the plainest way to the same answer: the engine asked event by event, its
decisions joined with the labels in Python.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.report import finish, options
from shopward import Engine, Rulebook, metrics
from shopward.backtest.run import Question, run
from shopward.declare.types import ACTIONS
from shopward.label import read_labels
from shopward.market import generate

PEER_EVENTS = 15_000


def peer(rulebook: Rulebook, events: Path, labels: Path) -> float:
    """Seconds an event of a loop over `Engine.decide` and a dict of labels."""
    truth = {label.event_id: label.label for label in read_labels(labels)}
    engine = Engine(rulebook, mode="compiled")
    lines = events.read_bytes().splitlines()[:PEER_EVENTS]
    engine.decide(json.loads(lines[0]))
    started = time.perf_counter()
    action, fraud, amount = [], [], []
    for line in lines[1:]:
        event = json.loads(line)
        decision = engine.decide(event)
        action.append(ACTIONS.index(decision.action))
        fraud.append(truth.get(decision.event_id) == 1)
        amount.append(event.get("amount") or 0.0)
    metrics.net_saving(np.array(action), np.array(fraud), np.array(amount, float), rulebook.policy)
    return (time.perf_counter() - started) / len(action)


def bench(quick: bool) -> dict:
    """Medians of runs on one file; `run` ends with the report's JSON."""
    rulebook = Rulebook.default()
    with tempfile.TemporaryDirectory(prefix="shopward-bench-") as folder:
        place = Path(folder)
        generate(place, seed=5, days=14, accounts=20_000 if quick else 80_000, access_log=False)
        events, labels = place / "events.ndjson", place / "truth/event_labels.parquet"
        warm = place / "warm.ndjson"
        with events.open("rb") as lines, warm.open("wb") as out:
            out.writelines(line for _, line in zip(range(20_000), lines, strict=False))
        run(Question([warm], rulebook, labels, maturity_ms=0))
        took, n = [], 0
        for _ in range(2 if quick else 3):
            before = time.perf_counter()
            found = run(Question([events], rulebook, labels)).found
            took.append(time.perf_counter() - before)
            n = found["policy"]["events"]
        seconds = statistics.median(took)
        one = peer(rulebook, events, labels)
    return {
        "events": n,
        "rules": len(rulebook.rules),
        "features": len(rulebook.features),
        "seconds": seconds,
        "decisions_a_minute": n / seconds * 60,
        "peer_us_an_event": one * 1e6,
        "ratio_event_by_event": one * n / seconds,
    }


if __name__ == "__main__":
    args = options(__doc__ or "")
    finish("backtest", bench(args.quick), args.json)
