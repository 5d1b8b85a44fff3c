"""Handbook transactions (April to July): a network over a customer's last payments fused with trees, against the trees alone.

Folds as in `payments.py`: 7 days of training, 7 days until labels are known, 7 days of test, 4 weeks of July; cards known as
compromised leave the test. Both get the same rows and the same search for features; histories go back to April. The difference in
average precision is paired by day. `share` is what the network may say in each fold. `--folds 2,3` runs some of the folds, 0 being the
latest week.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.learn.payments import DAY, TABLE, between, day, features
from benchmarks.report import finish, options
from shopward.metrics import average_precision, roc_auc
from shopward.models.dataset import Examples
from shopward.models.history import Past
from shopward.models.monitor import paired
from shopward.models.training import Settings, train

PAST = Past("customer", ("amount",), ("terminal",))


def scores(part: Examples, test: Examples) -> tuple[dict[str, np.ndarray], float, float]:
    """(scores of the test by trees and by the fusion, the network's share, seconds that the fusion's training took)."""
    alone = train(part, "trees", Settings(select=True))
    started = time.perf_counter()
    both = train(part, "fusion", Settings(select=True, kind="sequence"))
    seconds = time.perf_counter() - started
    rows = test.columns(both.features).matrix
    said = {"trees": alone.raw(test.columns(alone.features).matrix), "fusion": both.raw(rows, test.past)}
    return said, both.meta["sequence"]["share"], seconds


def fold(examples: Examples, start: int) -> dict[str, float]:
    teach = between(examples, start - 14 * DAY, start - 7 * DAY)
    bad = np.unique(examples.groups["customer"][teach & (examples.label == 1)])
    test = examples.take(between(examples, start, start + 7 * DAY) & ~np.isin(examples.groups["customer"], bad))
    said, share, seconds = scores(examples.take(teach), test)
    fraud, days = test.label == 1, test.ts // DAY
    row = {f"{n}_ap": average_precision(fraud, s) for n, s in said.items()}
    row |= {f"{n}_auc": roc_auc(fraud, s) for n, s in said.items()} | {"share": share, "train_s": seconds}
    pair = paired(fraud, days, said["trees"], said["fusion"])
    return row | {f"paired_{k}": float(v) for k, v in pair.items()} | {"fraud_days": len(np.unique(days[fraud]))}


def _tail(folder: Path) -> Path:
    """The payments from the middle of June on, in a file of their own."""
    table = pq.read_table(TABLE)
    pq.write_table(table.filter(pc.greater_equal(table["TX_DATETIME"], datetime(2018, 6, 15))), folder / "tail.parquet")
    return folder / "tail.parquet"


def run(quick: bool, folds: Sequence[int] = range(4)) -> dict:
    """All numbers; --quick takes the last week alone, and histories from the middle of June on."""
    started = time.perf_counter()
    with TemporaryDirectory() as folder:
        examples, _, _ = features(PAST, _tail(Path(folder)) if quick else TABLE)
    print(f"  features: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    found = []
    for k in (0,) if quick else folds:
        found.append(fold(examples, day("2018-07-25") - 7 * k * DAY))
        print(f"  fold {k}: " + ", ".join(f"{n} {v:.4f}" for n, v in found[-1].items()), file=sys.stderr)
    mean = {name: float(np.mean([f[name] for f in found])) for name in found[0]}
    gains = [f["fusion_ap"] - f["trees_ap"] for f in found]
    return {
        "folds": len(found), **mean, "gain_ap": float(np.mean(gains)), "gain_auc": mean["fusion_auc"] - mean["trees_auc"],
        "worst_gain_ap": min(gains), "shares": [f["share"] for f in found], "seconds": time.perf_counter() - started,
    }  # fmt: skip


if __name__ == "__main__":
    chosen = range(4)
    if "--folds" in sys.argv:
        at = sys.argv.index("--folds")
        chosen = [int(k) for k in sys.argv[at + 1].split(",")]
        del sys.argv[at : at + 2]
    args = options(__doc__ or "")
    if not TABLE.exists():
        sys.exit(f"{TABLE} is absent")
    finish("learn/sequence", run(args.quick, chosen), args.json)
