"""Tables and graphs in, scores out; and what a table may look like on a bad day."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq
import pytest

from shopward.errors import BadData, UsageError
from shopward.models import flows, folder
from shopward.models.training import Settings

pytest.importorskip("lightgbm", reason="needs the ml extra")
ROOT = Path(__file__).parents[2]
SMALL = Settings(trees=40)


def shopward(*args: object, block: str = "") -> subprocess.CompletedProcess:
    """The command line in a process of its own; `block` names a package that cannot be imported there."""
    start = f"import sys; sys.modules[{block!r}] = None; " if block else ""
    command = [sys.executable, "-c", start + "from shopward.cli import main; main()", *map(str, args)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, timeout=300, check=False)


def columns(n: int = 1500, seed: int = 1) -> dict:
    rng = np.random.default_rng(seed)
    amount, kind = rng.exponential(50, n), rng.choice(["gift", "book", "phone"], n)
    label = (rng.random(n) < 0.05 + 0.4 * ((amount > 100) & (kind == "gift"))).astype(int)
    return {"day": np.sort(rng.integers(0, 90, n)), "amount": amount, "kind": kind, "label": label}


def write(path: Path, table: dict) -> Path:
    pq.write_table(pa.table(table), path)
    return path


@pytest.mark.parametrize("ending", ["csv", "parquet", "ndjson"])
def test_a_table_is_trained_on_and_scored(tmp_path, ending):
    table, source = pa.table(columns()), tmp_path / f"t.{ending}"
    if ending == "csv":
        pc_csv.write_csv(table, source)
    elif ending == "parquet":
        pq.write_table(table, source)
    else:
        source.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    done = shopward("model", "train", source, "--label", "label", "--time", "day", "--out", tmp_path / "m", "--json")
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["metrics"]["roc_auc"] > 0.6
    done = shopward("model", "score", source, "--model", tmp_path / "m", "--out", tmp_path / "s.parquet", "--json")
    assert done.returncode == 0, done.stderr.decode()
    scores = pq.read_table(tmp_path / "s.parquet")
    assert scores["row"].to_pylist() == list(range(1500)) and {"row", "score"} <= set(scores.column_names)


def test_columns_that_say_nothing_are_left_out_with_a_reason(tmp_path):
    t = columns()
    n = len(t["label"])
    rng = np.random.default_rng(3)
    t |= {
        "same": np.ones(n), "nothing": pa.nulls(n), "name": np.array([f"n{i}" for i in range(n)]),
        "wild": np.where(rng.random(n) < 0.1, np.inf, rng.normal(size=n)),
        "mixed": np.where(rng.random(n) < 0.02, "oops", rng.integers(0, 9, n).astype(str)),
        "many": np.array([f"v{i}" for i in rng.integers(0, 400, n)]),
    }  # fmt: skip
    done = flows.train_table(write(tmp_path / "t.parquet", t), "label", tmp_path / "m", SMALL, time_column="day")
    notes = " ".join(done.meta["notes"])
    assert {"same", "nothing", "name"}.isdisjoint(done.meta["features"]) and {"wild", "mixed", "many"} <= set(
        done.meta["features"]
    )
    for said in (
        "`same` left out: always 1",
        "`nothing` left out",
        "`name` left out: it names rows",
        "infinite values",
        "are no numbers",
        "different texts, read as how common",
    ):
        assert said in notes
    scored = flows.score_table(tmp_path / "t.parquet", tmp_path / "m")
    assert np.isfinite(np.asarray(scored["score"])).all()


def test_one_class_three_frauds_and_no_label(tmp_path):
    t = columns()
    with pytest.raises(BadData, match="one class only: all 1,500 rows are legitimate"):
        flows.train_table(
            write(tmp_path / "t.parquet", {**t, "label": np.zeros(1500, int)}), "label", tmp_path / "m", SMALL
        )
    three = np.zeros(1500, int)
    three[[3, 700, 1400]] = 1
    done = flows.train_table(write(tmp_path / "t.parquet", {**t, "label": three}), "label", tmp_path / "m", SMALL)
    assert done.meta["metrics"] == {} and any("3 frauds: too few" in n for n in done.meta["notes"])
    with pytest.raises(BadData, match="no row has a label"):
        flows.train_table(
            write(tmp_path / "t.parquet", {**t, "label": pa.nulls(1500, pa.int64())}), "label", tmp_path / "m", SMALL
        )
    with pytest.raises(BadData, match="row 1: expected 0 or 1, found '7'"):
        flows.train_table(
            write(tmp_path / "t.parquet", {**t, "label": np.full(1500, 7)}), "label", tmp_path / "m", SMALL
        )


def test_nothing_but_useless_columns_is_refused(tmp_path):
    t = {"label": np.arange(200) % 2, "same": np.ones(200)}
    with pytest.raises(BadData, match="no column can teach"):
        flows.train_table(write(tmp_path / "t.parquet", t), "label", tmp_path / "m", SMALL)


def test_wrong_names_and_missing_columns_say_what_is_right(tmp_path):
    path = write(tmp_path / "t.parquet", columns())
    with pytest.raises(UsageError, match="did you mean `label`"):
        flows.train_table(path, "labl", tmp_path / "m", SMALL)
    flows.train_table(path, "label", tmp_path / "m", SMALL)
    with pytest.raises(BadData, match="reads the columns day, amount, which this table lacks"):
        flows.score_table(write(tmp_path / "u.parquet", {"kind": ["gift"]}), tmp_path / "m")
    with pytest.raises(UsageError, match="holds something else"):
        flows.train_table(path, "label", tmp_path, SMALL)
    with pytest.raises(UsageError, match="trained on table, not on events"):
        list(flows.score_events([], None, tmp_path / "m", None))


def test_new_texts_and_missing_values_get_a_score(tmp_path):
    flows.train_table(write(tmp_path / "t.parquet", columns()), "label", tmp_path / "m", SMALL)
    fresh = {"amount": pa.array([None, 5.0, 5.0]), "kind": pa.array(["gift", None, "never seen"]), "day": [1, 2, 3]}
    assert np.isfinite(
        np.asarray(flows.score_table(write(tmp_path / "u.parquet", fresh), tmp_path / "m")["score"])
    ).all()


def test_groups_never_teach_and_judge(tmp_path):
    from shopward.models.table import examples_of
    from shopward.models.training import split_rows

    t = pa.table({**columns(), "card": np.arange(1500) // 5})
    for time in ("day", None):
        settings = Settings(group="card")
        examples, _, _ = examples_of(t, "label", time, "card")
        split = split_rows(examples, settings)
        card = examples.groups["card"]
        assert split.later.any() and not set(card[split.early]) & set(card[split.later])


def test_training_twice_gives_the_same_model(tmp_path):
    path = write(tmp_path / "t.parquet", columns())
    a, b = (flows.train_table(path, "label", tmp_path / d / "m", SMALL) for d in "ab")
    assert (a.folder / "trees.txt").read_bytes() == (b.folder / "trees.txt").read_bytes()


def test_without_the_ml_extra_the_install_line_is_told(tmp_path):
    path = write(tmp_path / "t.parquet", columns())
    done = shopward("model", "train", path, "--label", "label", "--out", tmp_path / "m", block="lightgbm")
    assert done.returncode == 4 and b"pip install 'shopward[ml]'" in done.stderr


def test_scoring_needs_no_ml_extra(tmp_path):
    path = write(tmp_path / "t.parquet", columns())
    flows.train_table(path, "label", tmp_path / "m", SMALL)
    done = shopward("model", "score", path, "--model", tmp_path / "m", "--out", tmp_path / "s.csv", block="lightgbm")
    assert done.returncode == 0, done.stderr.decode()


def test_strict_training_refuses_what_leaks(tmp_path):
    t = columns(3000)
    t["case_id"] = np.argsort(np.argsort(-t["label"] + np.random.default_rng(1).random(3000) * 0.3))
    path = write(tmp_path / "t.parquet", t)
    with pytest.raises(BadData, match="`case_id` .identifier."):
        flows.train_table(path, "label", tmp_path / "m", Settings(trees=40, strict=True), time_column="day")
    assert not (tmp_path / "m").exists()


# --- graphs


def graph(tmp_path: Path, n: int = 900, seed: int = 1) -> tuple[Path, Path, np.ndarray]:
    """Fraudsters who know each other; what they say of themselves tells little."""
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < 0.2).astype(int)
    hint = label * 0.7 + rng.normal(size=n)
    pairs = rng.integers(0, n, (8 * n, 2))
    keep = (label[pairs[:, 0]] == label[pairs[:, 1]]) | (rng.random(8 * n) < 0.2)
    ids = [f"n{i}" for i in range(n)]
    train = (rng.random(n) < 0.5).astype(int)
    nodes = write(
        tmp_path / "nodes.parquet", {"id": ids, "hint": hint, "label": np.where(train == 1, label, 9), "train": train}
    )
    edges = write(
        tmp_path / "edges.parquet", {"src": [ids[i] for i in pairs[keep, 0]], "dst": [ids[i] for i in pairs[keep, 1]]}
    )
    return nodes, edges, label


def test_neighbours_tell_what_a_node_does_not(tmp_path):
    from shopward.models.measure import auc

    nodes, edges, label = graph(tmp_path)
    done = shopward(
        "model",
        "train",
        "--nodes",
        nodes,
        "--edges",
        edges,
        "--label",
        "label",
        "--train-mask",
        "train",
        "--out",
        tmp_path / "m",
    )
    assert done.returncode == 0, done.stderr.decode()
    done = shopward(
        "model", "score", "--nodes", nodes, "--edges", edges, "--model", tmp_path / "m", "--out", tmp_path / "s.parquet"
    )
    assert done.returncode == 0, done.stderr.decode()
    scores = pq.read_table(tmp_path / "s.parquet")
    table = pq.read_table(nodes)
    assert scores["id"].to_pylist() == table["id"].to_pylist()
    rest = np.asarray(table["train"]) == 0
    alone = auc(label[rest] == 1, np.asarray(table["hint"])[rest])
    assert auc(label[rest] == 1, np.asarray(scores["score"])[rest]) > alone + 0.1


def test_edges_to_nowhere_are_left_out_and_counted(tmp_path):
    nodes, edges, _ = graph(tmp_path)
    table = pq.read_table(edges).to_pydict()
    bad = write(tmp_path / "bad.parquet", {"src": [*table["src"], "n1", "ghost"], "dst": [*table["dst"], "n1", "n2"]})
    done = flows.train_nodes(nodes, bad, "label", tmp_path / "m", SMALL, mask="train")
    assert any("edges left out" in n for n in done.meta["notes"])
    with pytest.raises(BadData, match="no edge joins"):
        nowhere = write(tmp_path / "none.parquet", {"src": ["x"], "dst": ["y"]})
        flows.train_nodes(nodes, nowhere, "label", tmp_path / "m", SMALL, mask="train")


def test_a_graph_model_is_a_model_folder_like_any_other(tmp_path):
    nodes, edges, _ = graph(tmp_path)
    done = flows.train_nodes(nodes, edges, "label", tmp_path / "m", SMALL, mask="train")
    assert folder.read_model(tmp_path / "m").version == done.meta["version"] and (tmp_path / "m/card.html").exists()


def test_trials_are_recorded_and_the_best_is_kept(tmp_path):
    path = write(tmp_path / "t.parquet", columns(3000))
    done = shopward(
        "model", "train", path, "--label", "label", "--time", "day", "--out", tmp_path / "m", "--trials", 3, "--json"
    )
    assert done.returncode == 0, done.stderr.decode()
    runs = [json.loads(line) for line in (tmp_path / "m.runs.ndjson").read_text().splitlines()]
    assert [r["trial"] for r in runs] == [0, 1, 2] and len({r["data"] for r in runs}) == 1
    best = max(runs, key=lambda r: r["average_precision"])
    used = json.loads(done.stdout)["training"]["params"]
    assert {k: used[k] for k in best["params"]} == best["params"]
    told = shopward("model", "compare", tmp_path / "m.runs.ndjson")
    assert told.stdout.decode().startswith(f"{best['average_precision']:.4f}")
