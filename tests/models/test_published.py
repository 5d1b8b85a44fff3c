"""Public data sets that users bring themselves: files of the same shape, made here, are read, split as published and compared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from pyarrow import csv

from shopward.errors import BadData, UsageError
from shopward.models import published as pub
from shopward.models.training import Settings

pytest.importorskip("lightgbm", reason="needs the ml extra")
pytest.importorskip("scipy", reason="needs the ml extra")
SMALL = Settings(trees=30)
N = 1200


def write(path: Path, columns: dict) -> Path:
    csv.write_csv(pa.table(columns), path)
    return path


def fraud(rng, n: int = N) -> np.ndarray:
    return (rng.random(n) < 0.15).astype(int)


def ieee(folder: Path) -> list[Path]:
    rng = np.random.default_rng(1)
    y, ts = fraud(rng), np.sort(rng.integers(86_400, 15_811_131, N))
    one = write(folder / "train_transaction.csv", {
        "TransactionID": np.arange(2_987_000, 2_987_000 + N), "isFraud": y, "TransactionDT": ts, "TransactionAmt": rng.exponential(80, N) + 100 * y,
        "ProductCD": rng.choice(list("WCRHS"), N), "card1": rng.integers(1000, 1100, N), "card4": rng.choice(["visa", "mastercard"], N),
        "addr1": rng.choice([204.0, 299.0, 325.0], N), "P_emaildomain": rng.choice(["gmail.com", "yahoo.com"], N), "C1": rng.integers(0, 9, N) + 3 * y,
        "D1": rng.integers(0, 100, N), "M4": rng.choice(["M0", "M1", "M2"], N), "V1": rng.normal(size=N),
    })  # fmt: skip
    at = np.sort(rng.choice(N, N // 4, replace=False))
    two = write(
        folder / "train_identity.csv",
        {
            "TransactionID": 2_987_000 + at,
            "id_01": rng.normal(size=len(at)),
            "DeviceType": rng.choice(["mobile", "desktop"], len(at)),
        },
    )
    return [one, two]


def baf(folder: Path) -> list[Path]:
    rng = np.random.default_rng(2)
    y = fraud(rng)
    return [write(folder / "Base.csv", {
        "fraud_bool": y, "income": rng.random(N).round(1), "name_email_similarity": rng.random(N) - 0.3 * y, "prev_address_months_count": rng.integers(-1, 60, N),
        "payment_type": rng.choice(["AA", "AB", "AC"], N), "velocity_6h": rng.normal(5000, 900, N), "credit_risk_score": rng.integers(0, 300, N) + 60 * y,
        "device_os": rng.choice(["linux", "windows", "other"], N), "month": np.sort(rng.integers(0, 8, N)),
    })]  # fmt: skip


def ulb(folder: Path) -> list[Path]:
    rng = np.random.default_rng(3)
    y = fraud(rng)
    v = {f"V{k}": rng.normal(size=N) + (2 * y if k == 14 else 0) for k in range(1, 29)}
    return [
        write(
            folder / "creditcard.csv",
            {"Time": np.sort(rng.integers(0, 172_792, N)), **v, "Amount": rng.exponential(88, N), "Class": y},
        )
    ]


def elliptic(folder: Path) -> list[Path]:
    rng = np.random.default_rng(4)
    y, step, ids = fraud(rng), np.sort(rng.integers(1, 50, N)), rng.permutation(N) + 230_000_000
    x = rng.normal(size=(N, 6)) + y[:, None] * [2, 0, 0, 0, 0, 0]
    lines = [",".join([str(i), str(s), *(f"{v:.5f}" for v in row)]) for i, s, row in zip(ids, step, x, strict=True)]
    (folder / "elliptic_txs_features.csv").write_text("\n".join(lines) + "\n")
    said = np.where(rng.random(N) < 0.3, "unknown", np.where(y == 1, "1", "2"))
    classes = write(folder / "elliptic_txs_classes.csv", {"txId": ids, "class": said})
    ends = rng.integers(0, N, (4 * N, 2))
    edges = write(folder / "elliptic_txs_edgelist.csv", {"txId1": ids[ends[:, 0]], "txId2": ids[ends[:, 1]]})
    return [folder / "elliptic_txs_features.csv", classes, edges]


def reviews(folder: Path, relations=("net_rur", "net_rtr", "net_rsr"), n: int = N) -> list[Path]:
    from scipy.io import savemat
    from scipy.sparse import csc_matrix

    rng = np.random.default_rng(5)
    y = fraud(rng, n)
    x = rng.normal(size=(n, 5)) + y[:, None] * [1.5, 0, 0, 0, 0]
    nets = {}
    for name in relations:
        a, b = rng.integers(0, n, (2, 3 * n))
        nets[name] = csc_matrix((np.ones(6 * n), (np.r_[a, b], np.r_[b, a])), shape=(n, n))
    savemat(
        folder / "reviews.mat", {"features": csc_matrix(x), "label": y[None, :], "homo": nets[relations[0]], **nets}
    )
    return [folder / "reviews.mat"]


def amazon(folder: Path) -> list[Path]:
    return reviews(folder, ("net_upu", "net_usu", "net_uvu"), n=pub.UNLABELLED_AMAZON + N)


FILES = {"ieee-cis": ieee, "baf": baf, "ulb": ulb, "elliptic": elliptic, "yelpchi": reviews, "amazon": amazon}


@pytest.mark.parametrize("name", FILES)
def test_a_set_is_read_and_stands_beside_what_was_published(name, tmp_path):
    found = pub.compare(name, FILES[name](tmp_path), SMALL)
    assert found["metrics"]["roc_auc"] > 0.7 and found["taught"] > found["judged"] * 0.6
    assert all(row["here"] == found["metrics"][row["measure"]] for row in found["published"])
    assert set(FILES) == set(pub.SETS)


def test_time_runs_from_teaching_to_judging(tmp_path):
    for name in ("ieee-cis", "baf", "ulb", "elliptic"):
        folder = tmp_path / name
        folder.mkdir()
        loaded = pub.SETS[name].load(FILES[name](folder))
        ts = loaded.examples.ts
        assert ts[loaded.teach].max() < ts[loaded.judge].min() + (0 if name in ("baf", "elliptic") else 1), name


def test_unlabelled_and_unknown_nodes_neither_teach_nor_judge(tmp_path):
    loaded = pub.elliptic(elliptic(tmp_path))
    used = loaded.teach | loaded.judge
    assert (loaded.examples.label[used] >= 0).all() and (loaded.examples.label == -1).sum() > 100
    first = pub.amazon(amazon(tmp_path))
    assert not (first.teach | first.judge)[: pub.UNLABELLED_AMAZON].any()


def test_minus_one_means_unknown_in_baf(tmp_path):
    found = pub.baf(baf(tmp_path)).examples
    column = found.matrix[:, found.names.index("prev_address_months_count")]
    assert np.isnan(column).any() and np.nanmin(column) >= 0


def test_a_payment_knows_only_its_entitys_past():
    who, ts, amount = np.array([1, 2, 1, 1]), np.array([0, 5, 10, 30]), np.array([4.0, 9.0, 8.0, 6.0])
    x = pub._habits(who, ts, amount)[1]
    assert x[:, 0].tolist() == [0, 0, 1, 2] and x[2, 2] == 2.0 and x[3, 2] == 1.0
    again = pub._habits(who, ts, np.array([4.0, 9.0, 8.0, 600.0]))[1]
    assert np.array_equal(again[:3], x[:3], equal_nan=True)


@pytest.mark.parametrize("name", FILES)
def test_another_file_is_refused_by_name(name, tmp_path):
    (tmp_path / "wrong.csv").write_text("a,b\n1,2\n")
    many = [tmp_path / "wrong.csv"] * (3 if name == "elliptic" else 1)
    with pytest.raises(BadData, match=r"wrong\.csv"):
        pub.compare(name, many)


def test_the_command_prints_the_published_number_beside_the_result(tmp_path):
    from shopward.cli.model import model

    said = CliRunner().invoke(model, ["published", "ulb", "--path", str(ulb(tmp_path)[0])])
    assert said.exit_code == 0 and "published 0.9920" in said.output and "here" in said.output
    told = json.loads(
        CliRunner()
        .invoke(model, ["published", "ulb", "--path", str(ulb(tmp_path)[0]), "--json"])
        .stdout.splitlines()[-1]
    )
    assert told["published"][0]["source"].startswith("amazon-science")
    with pytest.raises(UsageError, match="one of"):
        pub.compare("mnist", [])
    with pytest.raises(UsageError, match="Base.csv"):
        pub.compare("baf", [])
