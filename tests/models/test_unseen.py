"""Leaving one campaign out of training: from the command line to the card, on events and on tables."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from shopward.cli.model import model
from shopward.errors import UsageError
from shopward.models.unseen import groups_of
from tests.models import shops

pytest.importorskip("lightgbm", reason="needs the ml extra")


def run(*args: object) -> dict:
    done = CliRunner().invoke(model, ["train", *map(str, args), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Two families of fraud: amounts far above the habit (two campaigns of them), and one of small test payments in one country."""
    root = tmp_path_factory.mktemp("unseen")
    p = shops.payments(days=30, a_day=120)
    n, rng = len(p["ts"]), np.random.default_rng(3)
    campaign = np.full(n, None, object)
    for name, rows in zip(("big-1", "big-2", "test-1"), np.split(rng.permutation(n)[:180], 3), strict=True):
        campaign[rows] = name
    big = np.isin(campaign, ["big-1", "big-2"])
    p["amount"] = np.where(big, 400.0, np.where(campaign == "test-1", 0.5, np.maximum(p["amount"], 5)))
    ids = [f"p{i}" for i in range(n)]
    pq.write_table(pa.table({
        "event_id": ids, "ts": p["ts"], "type": ["payment"] * n, "card": [f"c{i}" for i in p["card"]],
        "terminal": [f"t{i}" for i in p["terminal"]], "amount": p["amount"], "country": p["country"],
    }), root / "events.parquet")  # fmt: skip
    fraud = [int(c is not None) for c in campaign]
    labels = {"event_id": ids, "label": fraud, "label_ts": p["ts"] + shops.DAY, "campaign": campaign.tolist()}
    pq.write_table(pa.table(labels), root / "labels.parquet")
    kinds = pa.table({"id": ["big-1", "big-2", "test-1"], "kind": ["big", "big", "test"]})
    pq.write_table(kinds, root / "campaigns.parquet")
    return root, ["--events", root / "events.parquet", "--labels", root / "labels.parquet", "--rulebook", shops.rulebook(root / "book"), "--features", "given"]  # fmt: skip


def test_a_campaign_like_another_one_is_caught_without_having_been_seen_and_a_new_method_is_not(shop):
    root, given = shop
    said = run(*given, "--leave-out", "campaign", "--out", root / "m")
    found = {row["campaign"]: row for row in said["unseen"]["groups"]}
    assert list(found) == ["big-1", "big-2", "test-1"] and said["unseen"]["left_out"] == 3
    assert found["big-1"]["unseen"] == found["big-1"]["unseen_value"] == 1.0
    assert found["test-1"]["unseen"] < 0.1 < 0.9 < found["test-1"]["seen"]
    assert said["unseen"]["policy_fpr"] >= 0 and "unseen_policy" in found["big-1"]
    card = (root / "m" / "card.html").read_text()
    assert "Attacks it never saw" in card and "test-1" in card


def test_a_whole_family_is_left_out_when_the_file_of_campaigns_tells_families(shop):
    root, given = shop
    said = run(*given, "--leave-out", "kind", "--campaigns", root / "campaigns.parquet", "--out", root / "k")
    found = {row["kind"]: row for row in said["unseen"]["groups"]}
    assert list(found) == ["big", "test"] and found["big"]["frauds"] == 120
    assert found["big"]["unseen"] < 0.1 < 0.9 < found["big"]["seen"]


def test_a_table_names_its_campaigns_in_a_column_that_is_not_learnt_from(tmp_path):
    rng = np.random.default_rng(1)
    ring = np.repeat(["", "a", "b"], [1000, 60, 60])
    x = rng.normal(size=1120) + np.where(ring == "a", 6, 0)
    y = rng.normal(size=1120) + np.where(ring == "b", 6, 0)
    table = pa.table({"x": x, "y": y, "ring": ring.tolist(), "fraud": (ring != "").astype(int)})
    pq.write_table(table, tmp_path / "t.parquet")
    said = run(tmp_path / "t.parquet", "--label", "fraud", "--leave-out", "ring", "--kind", "logistic", "--out", tmp_path / "m")  # fmt: skip
    assert said["features"] == 2
    assert all(row["unseen"] < 0.2 < 0.8 < row["seen"] for row in said["unseen"]["groups"])


def test_a_column_that_is_not_there_is_told_with_those_that_are(shop):
    root, _ = shop
    with pytest.raises(UsageError, match=r"--leave-out ring: .*no such column \(event_id, label, label_ts, campaign\)"):
        groups_of(["p1"], root / "labels.parquet", "ring")
    with pytest.raises(UsageError, match="campaigns.parquet has no column `ring`"):
        groups_of(["p1"], root / "labels.parquet", "ring", root / "campaigns.parquet")
