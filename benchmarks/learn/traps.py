"""Leaks: each kind put into an honest table, and honest tables. Found with the column named; false alarms; the AUC each one fakes."""

from __future__ import annotations

import numpy as np

from benchmarks.report import finish, options
from shopward.models.audit import audit_table
from tests.models.test_audit import sums, table


def planted(kind: str, seed: int) -> tuple[dict, str]:
    """(a table with one leak, the column to find)"""
    t, rng = table(seed), np.random.default_rng(seed)
    (fu, nu), (fd, nd), y = sums(t, "user"), sums(t, "device"), t["label"]
    if kind == "time artefact":
        gap = rng.exponential(5000, len(y))
        early = (y == 1) & (np.arange(len(y)) < len(y) // 2) & (rng.random(len(y)) < 0.8)
        return {**t, "since_signup": np.where(early, gap % 60, gap)}, "since_signup"
    if kind == "leave-one-out":
        return {**t, "user_enc": np.where(nu > 1, (fu - y) / np.maximum(nu - 1, 1), y.mean())}, "user_enc"
    if kind == "whole-file count":
        return {**t, "user_total": nu}, "user_total"
    if kind == "future labels":
        share = np.where(nu + nd > 2, (fu + fd - 2 * y) / np.maximum(nu + nd - 2, 1), 0.0)
        return {**t, "neighbour_fraud_share": share}, "neighbour_fraud_share"
    again = np.concatenate([rng.choice(np.flatnonzero(y), 200), rng.choice(len(y), 500)])
    more = {k: np.concatenate([v, v[again]]) for k, v in t.items()}
    more["ts"][len(y) :] = rng.integers(t["ts"].min(), t["ts"].max(), len(again))
    order = np.argsort(more["ts"])
    return {k: v[order] for k, v in more.items()}, "(rows)"


def run(quick: bool) -> dict:
    """Five leaks and five honest tables, seeds that no threshold was set on."""
    import pyarrow as pa

    kinds = ("time artefact", "leave-one-out", "whole-file count", "future labels", "duplicates")
    seeds = (11,) if quick else (11, 12, 13)
    result: dict = {"found": 0, "planted": 0, "false_alarms": 0}
    for kind in kinds:
        for seed in seeds:
            t, column = planted(kind, seed)
            found = audit_table(pa.table(t), "label", "ts")
            hit = [f for f in found if f.column == column]
            result["planted"] += 1
            result["found"] += bool(hit)
            result["false_alarms"] += len(found) - len(hit)
            result[f"{kind} {seed}"] = (
                f"{hit[0].kind} {hit[0].metric_with:.3f} -> {hit[0].metric_without:.3f}" if hit else "missed"
            )
    clean = [audit_table(pa.table(table(seed)), "label", "ts") for seed in range(21, 26)]
    return {**result, "clean_tables": len(clean), "clean_alarms": sum(map(len, clean))}


if __name__ == "__main__":
    args = options(__doc__ or "")
    finish("learn/traps", run(args.quick), args.json)
