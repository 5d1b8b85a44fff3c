"""The auditor: five traps and worse, each with the column named; and silence on clean tables."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shopward.models.audit import audit_table

pytest.importorskip("lightgbm", reason="needs the ml extra")
ROOT = Path(__file__).parents[2]


def so_far(keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean, count) over earlier rows of the same key."""
    seen: dict = {}
    mean, count = np.full(len(keys), np.nan), np.zeros(len(keys))
    for i, (key, value) in enumerate(zip(keys, values, strict=True)):
        total, n = seen.get(key, (0, 0))
        mean[i], count[i] = total / n if n else np.nan, n
        seen[key] = (total + value, n + 1)
    return mean, count


def table(seed: int, n: int = 12_000) -> dict[str, np.ndarray]:
    """An honest table: risky users and devices, amounts, hours, and what was known of each key so far."""
    rng = np.random.default_rng(seed)
    ts = np.sort(rng.integers(0, 90 * 86_400_000, n)) + 1_700_000_000_000
    user, device = rng.zipf(1.4, n) % 900, rng.integers(0, 450, n)
    amount, hour, age = np.exp(rng.normal(3, 1, n)), (ts // 3_600_000) % 24, rng.exponential(200, n)
    log_odds = (
        -3.6
        + 0.5 * (np.log(amount) - 3)
        + 1.6 * (rng.random(900) < 0.08)[user]
        + 1.2 * (rng.random(450) < 0.05)[device]
    )
    label = (rng.random(n) < 1 / (1 + np.exp(-(log_odds + 0.6 * (hour < 6) - 0.003 * age)))).astype(int)
    user_rate, user_count = so_far(user, label)
    device_rate, device_count = so_far(device, label)
    return {
        "ts": ts, "user": np.array([f"u{u}" for u in user]), "device": np.array([f"d{d}" for d in device]), "amount": amount,
        "hour": hour, "account_age": age, "country": rng.choice(["de", "fr", "us"], n), "user_rate": user_rate,
        "user_count": user_count, "device_rate": device_rate, "device_count": device_count, "label": label,
    }  # fmt: skip


def sums(t: dict, key: str) -> tuple[np.ndarray, np.ndarray]:
    """(frauds, rows) of each row's key in the whole file."""
    _, ids = np.unique(t[key], return_inverse=True)
    return np.bincount(ids, weights=t["label"])[ids], np.bincount(ids)[ids]


def found(t: dict) -> list[tuple[str, str]]:
    return [(f.column, f.kind) for f in audit_table(pa.table(t), "label", "ts")]


@pytest.mark.parametrize("seed", range(5))
def test_clean_tables_raise_no_alarm(seed):
    assert found(table(seed)) == []


def test_a_time_artefact_is_named():
    t, rng = table(2), np.random.default_rng(2)
    gap = rng.exponential(5000, len(t["ts"]))
    early = (t["label"] == 1) & (np.arange(len(gap)) < len(gap) // 2) & (rng.random(len(gap)) < 0.8)
    t["since_signup"] = np.where(early, gap % 60, gap)
    (finding,) = audit_table(pa.table(t), "label", "ts")
    assert (finding.column, finding.kind) == ("since_signup", "time_artefact")
    assert finding.metric_with - finding.metric_without > 0.1


def test_fraud_that_changes_its_ways_is_told_once_and_no_column_is_blamed():
    rng, n = np.random.default_rng(3), 8_000
    fraud, late = rng.random(n) < 0.1, np.arange(n) >= 6_000
    t = {"ts": np.arange(n) * 60_000, "label": fraud.astype(int)}
    for k in range(8):
        t[f"burst_{k}"] = rng.normal(size=n) + np.where(fraud & ~late, 1.2, 0)
        t[f"slow_{k}"] = rng.normal(size=n) + np.where(fraud & late, 1.2, 0)
    (finding,) = audit_table(pa.table(t), "label", "ts")
    assert (finding.column, finding.kind) == ("(period)", "time_artefact") and "8 of 8 columns" in finding.why
    assert finding.metric_with - finding.metric_without > 0.1


@pytest.mark.parametrize("smoothing", [0, 10])
@pytest.mark.parametrize("with_key", [True, False])
def test_leave_one_out_encoding_is_named(smoothing, with_key):
    t = table(1)
    frauds, rows = sums(t, "user")
    rate = t["label"].mean()
    t["user_enc"] = np.where(
        rows > 1, (frauds - t["label"] + smoothing * rate) / np.maximum(rows - 1 + smoothing, 1), rate
    )
    if not with_key:
        t.pop("user")
    assert found(t) == [("user_enc", "leave_one_out")]


def test_an_encoding_over_the_whole_file_is_named():
    t = table(1)
    frauds, rows = sums(t, "user")
    assert found({**t, "user_enc": frauds / rows}) == [("user_enc", "whole_file_encoding")]


@pytest.mark.parametrize("with_key", [True, False])
def test_whole_file_counts_are_named(with_key):
    t = table(1)
    t["user_total"] = sums(t, "user")[1]
    if not with_key:
        t.pop("user")
    assert found(t) == [("user_total", "whole_file_count")]


def test_labels_of_neighbours_from_the_future_are_named():
    t = table(2)
    (f1, n1), (f2, n2) = sums(t, "user"), sums(t, "device")
    t["neighbour_fraud_share"] = np.where(n1 + n2 > 2, (f1 + f2 - 2 * t["label"]) / np.maximum(n1 + n2 - 2, 1), 0.0)
    assert found(t) == [("neighbour_fraud_share", "future_labels")]


def test_duplicates_across_the_split_are_named():
    t, rng = table(1), np.random.default_rng(1)
    again = np.concatenate([rng.choice(np.flatnonzero(t["label"]), 200), rng.choice(len(t["ts"]), 500)])
    more = {k: np.concatenate([v, v[again]]) for k, v in t.items()}
    more["ts"][len(t["ts"]) :] = rng.integers(t["ts"].min(), t["ts"].max(), len(again))
    order = np.argsort(more["ts"])
    assert found({k: v[order] for k, v in more.items()}) == [("(rows)", "duplicates")]


def test_an_identifier_that_gives_labels_away_is_named():
    t, rng = table(1), np.random.default_rng(1)
    number = np.empty(len(t["ts"]), np.int64)
    number[np.argsort(-t["label"] + rng.random(len(number)) * 0.3)] = np.arange(len(number))
    assert found({**t, "row_id": number}) == [("row_id", "identifier")]


def test_a_table_too_small_to_tell_is_left_alone():
    t = {k: v[:60] for k, v in table(1).items()}
    assert found(t) == []


def test_the_command_prints_findings_and_ends_with_1(tmp_path):
    t = table(1, 4000)
    frauds, rows = sums(t, "user")
    pq.write_table(pa.table({**t, "user_enc": (frauds - t["label"]) / np.maximum(rows - 1, 1)}), tmp_path / "t.parquet")
    command = [
        sys.executable,
        "-m",
        "shopward",
        "model",
        "audit",
        str(tmp_path / "t.parquet"),
        "--label",
        "label",
        "--time",
        "ts",
        "--json",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=300, check=False)
    assert done.returncode == 1, done.stderr.decode()
    (finding,) = json.loads(done.stdout)["findings"]
    assert finding["column"] == "user_enc" and {"kind", "metric_with", "metric_without", "why"} <= finding.keys()
