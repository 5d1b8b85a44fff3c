"""The whole shipped rulebook per event on one core: events of the synthetic marketplace, read once, decided in batches, state warm.

Peer in the same run: the same rules as generated Python over the same feature values, without the features. So `ratio_rules_only`
says how much slower a plain loop over all rules would be, had it the features for nothing.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.report import finish, options
from benchmarks.rules import ours as as_python
from shopward import Engine, Rulebook
from shopward.market import generate

PYTHON_EVENTS = 3_000


def run(quick: bool) -> dict:
    """Events a second of features, and of features, rules and reasons together; reading is timed apart."""
    rulebook = Rulebook.default()
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), seed=5, days=10, accounts=8_000 if quick else 60_000, access_log=False)
        events, labels = [Path(folder) / "events.ndjson"], Path(folder) / "truth" / "event_labels.parquet"
        rounds = [_once(rulebook, events, labels) for _ in range(1 if quick else 3)]
    middle = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
    n, python = middle.pop("events"), _python(rulebook)
    return {
        "events": int(n),
        "features": len(rulebook.features),
        "rules": len(rulebook.rules),
        "events_per_s": n / middle["decide_s"],
        "features_only_per_s": n / middle["compute_s"],
        "read_per_s": n / middle["read_s"],
        "python_rules_per_s": python,
        "ratio_rules_only": n / middle["decide_s"] / python,
    }


def _once(rulebook: Rulebook, events: list[Path], labels: Path) -> dict:
    """CPU seconds (the machine is shared) of reading, of features alone, and of the decision with everything."""
    took = {}
    for name in ("compute", "decide"):
        engine = Engine(rulebook, mode="compiled")
        before = time.process_time()
        batches = list(engine.read(events, labels=labels))
        took["read_s"] = time.process_time() - before
        step = engine.compute if name == "compute" else engine.decide_batch
        before = time.process_time()
        for batch in batches:
            step(batch)
        took[f"{name}_s"] = time.process_time() - before
        took["events"] = sum(batch.n for batch in batches)
    return took


def _python(rulebook: Rulebook) -> float:
    """Events a second of every rule that reads only numbers, in generated Python over ready values."""
    kept = Rulebook.from_files(dict(rulebook.files))
    numbers = {name for name, f in rulebook.features.items() if f.type == "number"}
    kept.rules = {
        r.id: r
        for r in kept.rules.values()
        if set(r.when.features) <= numbers and not r.when.fields and not r.when.lists
    }
    rng = np.random.default_rng(3)
    values = [dict.fromkeys(numbers, 0.0) | {name: float(v) for name, v in zip(numbers, rng.exponential(2.0, len(numbers)), strict=True)} for _ in range(PYTHON_EVENTS)]  # fmt: skip
    fire, before = as_python(kept), time.process_time()
    for value in values:
        fire(value)
    return PYTHON_EVENTS / (time.process_time() - before)


if __name__ == "__main__":
    args = options(__doc__ or "")
    finish("rulebook", run(args.quick), args.json)
