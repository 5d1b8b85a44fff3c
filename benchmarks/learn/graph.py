"""Tolokers, the 10 official splits, through the same code as `shopward model train --nodes --edges`: AUROC and AUPRC on the test nodes.

Published (Platonov et al., ICLR 2023, from memory): GAT-sep 83.78, GCN 83.64 AUROC. The peer in this run is LightGBM on the raw features.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.report import finish, options
from shopward.models import trees
from shopward.models.dataset import Examples
from shopward.models.measure import auc, average_precision
from shopward.models.network import adjacency, neighbourhood
from shopward.models.training import Settings, train

FILE = Path(__file__).parents[3] / "shared" / "data" / "graph_tolokers" / "tolokers.npz"


def examples_of(names: list[str], x: np.ndarray, label: np.ndarray) -> Examples:
    n = len(label)
    zero, one = np.zeros(n, np.int64), np.ones(n)
    return Examples(tuple(names), x, label.astype(np.int8), zero, zero, one, one.copy(), [str(i) for i in range(n)])


def run(quick: bool) -> dict:
    """Means and deviations over the splits, in points."""
    import pyarrow as pa

    file = np.load(FILE)
    x, label, ends = file["node_features"].astype(float), file["node_labels"], file["edges"]
    started = time.perf_counter()
    nodes, edges = pa.table({"id": np.arange(len(x))}), pa.table({"src": ends[:, 0], "dst": ends[:, 1]})
    a, _, _ = adjacency(nodes, edges)
    names, wide = neighbourhood(a, [f"x{i}" for i in range(x.shape[1])], x)
    took = time.perf_counter() - started
    found: dict[str, list[float]] = {"auroc": [], "auprc": [], "raw_auroc": [], "seconds": []}
    for i in range(3 if quick else 10):
        teach, test = file["train_masks"][i], file["test_masks"][i]
        started = time.process_time()
        done = train(examples_of(names, wide[teach], label[teach]), "tolokers", Settings())
        score = done.raw(wide[test][:, [names.index(n) for n in done.features]])
        found["seconds"].append(time.process_time() - started)
        found["auroc"].append(100 * auc(label[test] == 1, score))
        found["auprc"].append(100 * average_precision(label[test] == 1, score))
        raw = trees.fit(
            x[teach],
            label[teach] == 1,
            [f"x{k}" for k in range(x.shape[1])],
            trees=100,
            settings={"feature_fraction": 1.0},
        )
        found["raw_auroc"].append(100 * auc(label[test] == 1, raw.forest.score(x[test])))
    out: dict = {
        "splits": len(found["auroc"]),
        "features": len(names),
        "graph_s": took,
        "seconds_a_split": float(np.mean(found["seconds"])),
    }
    return (
        out
        | {k: float(np.mean(found[k])) for k in ("auroc", "auprc", "raw_auroc")}
        | {"auroc_std": float(np.std(found["auroc"]))}
    )


if __name__ == "__main__":
    args = options(__doc__ or "")
    if not FILE.exists():
        sys.exit(f"{FILE} is absent")
    finish("learn/graph", run(args.quick), args.json)
