"""Labels that are wrong: how much average precision flipped labels cost, and how much comes back when suspects are left out of training.

Handbook transactions with the book's 15 features, rows and tests as in `missing.py`. At random half of the frauds of teach are labelled
legitimate, and as many legitimate payments are labelled fraud. `cleaned` drops the rows that models of other blocks of time contradict
(`denoise.suspects`). Means over five seeds; the seed chooses which labels are flipped. `kept` is the share of the loss that remains.
Settings were chosen on seeds 100 and 101 and on the second half of June.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np

from benchmarks.learn.missing import payments, precision, teachers
from benchmarks.learn.payments import TABLE, between, day
from benchmarks.report import finish, options
from shopward.models import denoise
from shopward.models.dataset import Examples

FLIPPED = 0.5  # of the frauds, and as many legitimate rows
SEEDS = 5


def flip(part: Examples, share: float, seed: int) -> tuple[Examples, np.ndarray]:
    """The same rows with wrong labels, and which rows have one; a legitimate row that is taken for fraud stands for itself alone."""
    rng, fraud = np.random.default_rng(seed), part.label == 1
    gone = rng.choice(np.flatnonzero(fraud), int(share * fraud.sum()), replace=False)
    false = rng.choice(np.flatnonzero(~fraud), int(share * fraud.sum()), replace=False)
    label, weight, wrong = part.label.copy(), part.weight.copy(), np.zeros(len(part), bool)
    label[gone], label[false], weight[false] = 0, 1, 1.0
    wrong[gone], wrong[false] = True, True
    return replace(part, label=label, weight=weight), wrong


def run(quick: bool) -> dict:
    """--quick: one seed."""
    examples = payments()
    part = teachers(examples)
    test = examples.take(between(examples, day("2018-07-01"), day("2018-07-16")))
    clean, rows = precision(part, test), []
    for seed in range(1 if quick else SEEDS):
        flipped, wrong = flip(part, FLIPPED, seed)
        found = denoise.suspects(flipped, seed=seed)
        keep = np.ones(len(part), bool)
        keep[found] = False
        fraud = flipped.label == 1
        rows.append({
            "naive_ap": precision(flipped, test), "cleaned_ap": precision(flipped.take(keep), test), "suspects": len(found),
            "suspects_wrong": float(wrong[found].mean()), "false_frauds_found": float((~keep)[wrong & fraud].mean()),
            "missed_frauds_found": float((~keep)[wrong & ~fraud].mean()),
        })  # fmt: skip
        print(f"  seed {seed}: " + ", ".join(f"{n} {v:.4f}" for n, v in rows[-1].items()), file=sys.stderr)
    mean = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    loss, left = clean - mean["naive_ap"], clean - mean["cleaned_ap"]
    spread = float(np.std([row["cleaned_ap"] for row in rows]))
    return {"seeds": len(rows), "flipped": FLIPPED, "clean_ap": clean, **mean, "cleaned_std": spread, "naive_loss": loss, "loss_left": left, "kept": left / loss}  # fmt: skip


if __name__ == "__main__":
    args = options(__doc__ or "")
    if not TABLE.exists():
        sys.exit(f"{TABLE} is absent")
    finish("learn/wrong", run(args.quick), args.json)
