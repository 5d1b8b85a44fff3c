"""Labels are repaired before they teach: what a model then finds, what was touched, and that those who judge keep theirs."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from shopward.cli.model import model
from shopward.errors import BadData, UsageError
from shopward.models import flows
from shopward.models.measure import average_precision
from shopward.models.repair import Repair, repaired
from shopward.models.training import Settings, grown, train
from tests.models import shops
from tests.models.test_denoise import cards
from tests.models.test_tables import columns, graph, write

pytest.importorskip("lightgbm", reason="needs the ml extra")
UNTIL, LATER = shops.START + 26 * shops.DAY, "2026-01-31"
QUICK = Settings(trees=60)
FEATURES = """
card_mean_30d: {entity: card, measure: mean(amount), over: 30d, before: true}
times_mean: {expr: amount / card_mean_30d}
card_peak_3d: {entity: card, measure: max(amount), over: 3d}
card_frauds_7d: {entity: card, measure: count, over: 7d, where: type == "label" and label == 1}
terminal_frauds_7d: {entity: terminal, measure: count, over: 7d, where: type == "label" and label == 1}
terminal_frauds_30d: {entity: terminal, measure: count, over: 30d, where: type == "label" and label == 1}
"""


def run(*args: object) -> dict:
    done = CliRunner().invoke(model, [*map(str, args), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout.splitlines()[-1])


def changes(folder: Path) -> list[dict[str, str]]:
    with (folder / "repairs.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def silent(tmp_path_factory):
    """A market where one fraud in seven is reported; a model of the labels as they came, and one of repaired ones."""
    root = tmp_path_factory.mktemp("silent")
    events, labels = shops.write(root, seed=7, a_day=250)
    table, truth = pq.read_table(labels), shops.payments(seed=7, a_day=250)["fraud"]
    gone = truth & (np.random.default_rng(7).random(len(truth)) < 0.85)
    pq.write_table(table.set_column(1, "label", pa.array((truth & ~gone).astype(int))), labels)
    given = ["--events", events, "--labels", labels, "--rulebook", shops.rulebook(root / "book", features__more=FEATURES), "--features", "given", "--until", UNTIL, "--delay", "3d"]  # fmt: skip
    plain = run("train", *given, "--out", root / "plain")
    mended = run("train", *given, "--repair", "missing", "--out", root / "mended")
    return root, events, labels, given, truth, gone, plain, mended


def precision(root: Path, name: str, events: Path, labels: Path, truth: np.ndarray) -> float:
    """Average precision of a model on later payments, by what was really fraud."""
    run("score", "--events", events, "--labels", labels, "--model", root / name, "--from", LATER, "--out", root / "s.parquet")  # fmt: skip
    score = np.asarray(pq.read_table(root / "s.parquet")["score"])
    return average_precision(truth[-len(score) :], score, np.ones(len(score)))


def test_where_frauds_go_unreported_the_repaired_model_finds_more_of_them(silent):
    root, events, labels, _, truth, *_ = silent
    found = {name: precision(root, name, events, labels, truth) for name in ("plain", "mended")}
    assert found["mended"] > 1.1 * found["plain"], found


def test_the_analyst_can_read_which_rows_stand_partly_for_fraud_and_most_of_the_surest_are(silent):
    root, *_, gone, _, mended = silent
    rows, counts = changes(root / "mended"), mended["repair"]["counts"]["missing"]
    assert (
        len(rows) == counts["rows"]
        and {r["repair"] for r in rows} == {"missing"}
        and {r["label"] for r in rows} == {"0"}
    )
    assert sum(float(r["as_fraud"]) for r in rows) == pytest.approx(counts["as_fraud"], abs=1e-3)
    assert [float(r["as_fraud"]) for r in rows] == sorted((float(r["as_fraud"]) for r in rows), reverse=True)
    surest = [int(r["event_id"][1:]) for r in rows[:30]]
    assert gone[surest].mean() > 5 * gone.mean()
    assert 0.1 < mended["repair"]["reported_share"] < 0.4


def test_who_judges_keeps_the_labels_that_came_and_the_report_says_so(silent):
    root, *_, plain, mended = silent
    assert (
        mended["training"]["frauds"] == plain["training"]["frauds"]
        and mended["training"]["rows"] == plain["training"]["rows"]
    )
    told = mended["repair"]
    assert (
        told["judged_on"] == "labels as they are"
        and told["judging"]["missing"]["rows"] < told["counts"]["missing"]["rows"]
    )
    assert told["average_precision_without"] == pytest.approx(plain["metrics"]["average_precision"])
    assert any("labels that judge and calibrate are as they came" in note for note in mended["notes"])
    card = (root / "mended/card.html").read_text()
    assert "Labels that were repaired" in card and "repairs.csv" in card
    assert "repair" not in plain and not (root / "plain/repairs.csv").exists()


def test_the_rows_that_judge_are_the_same_to_the_last_bit():
    rows, _ = cards(7, n=3000)
    plain, mended = (train(rows, "m", replace(QUICK, repair=repair)) for repair in (None, Repair("both", twins=True)))
    assert mended.changes
    for name in ("label", "weight", "matrix", "ts"):
        assert np.array_equal(getattr(plain.later, name), getattr(mended.later, name))
    assert plain.later.ids == mended.later.ids


def test_the_same_seed_repairs_and_trains_the_same():
    rows, _ = cards(7, n=2000)
    first, again, other = (train(rows, "m", replace(QUICK, seed=seed, repair=Repair("both"))) for seed in (7, 7, 8))
    assert first.files == again.files and first.changes == again.changes and first.meta == again.meta
    assert first.files != other.files and first.changes != other.changes


def test_wrong_labels_of_a_table_are_left_out(tmp_path):
    rng, n = np.random.default_rng(2), 3000
    x = rng.normal(size=(n, 3))
    truth = x[:, 0] + x[:, 1] > 1.8
    wrong = rng.random(n) < 0.04
    table = {"day": np.arange(n), "a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "label": (truth ^ wrong).astype(int)}
    said = run("train", write(tmp_path / "t.parquet", table), "--label", "label", "--time", "day", "--repair", "wrong", "--out", tmp_path / "m")  # fmt: skip
    rows = changes(tmp_path / "m")
    at = np.array([int(r["row"]) for r in rows])
    assert said["repair"]["counts"]["wrong"]["rows"] == len(rows) and wrong[at].mean() > 0.6
    assert np.isin(np.flatnonzero(wrong), at).mean() > 0.6
    assert {r["as_fraud"] for r in rows} == {r["as_legitimate"] for r in rows} == {"0"}


def test_of_near_duplicates_the_earliest_teaches(tmp_path):
    table = {k: np.repeat(v, 2) for k, v in columns(800).items()}
    table["amount"] = table["amount"] * np.tile([1.0, 1.000001], 800)
    said = run("train", write(tmp_path / "t.parquet", table), "--label", "label", "--time", "day", "--drop-near-duplicates", "--out", tmp_path / "m")  # fmt: skip
    rows = changes(tmp_path / "m")
    assert said["repair"]["labels"] is None and len(rows) == said["repair"]["counts"]["near_duplicate"]["rows"] >= 750
    assert all(int(r["twin_of"]) < int(r["row"]) for r in rows)


def controlled(root: Path) -> tuple[Path, Path, np.ndarray]:
    """Payments above 100 are stopped but for one in ten; nobody complains of what was stopped. Half of them would have been fraud."""
    p = shops.payments(days=30, a_day=150, seed=5)
    rng, n = np.random.default_rng(5), len(p["ts"])
    amount = np.where(rng.random(n) < 0.15, rng.uniform(100, 300, n), np.minimum(p["amount"], 99))
    big = amount > 100
    fraud, control = np.where(big, rng.random(n) < 0.5, rng.random(n) < 0.02), rng.random(n) < 0.1
    chance, ids = np.where(big, np.where(control, 0.1, 0.0), np.nan), [f"p{i}" for i in range(n)]
    pq.write_table(pa.table({
        "event_id": ids, "ts": p["ts"], "type": ["payment"] * n, "card": [f"c{i}" for i in p["card"]],
        "amount": amount.round(2), "passed": pa.array(chance, mask=np.isnan(chance)),
    }), root / "events.parquet")  # fmt: skip
    heard = np.flatnonzero(fraud & (~big | control))
    pq.write_table(pa.table({"event_id": [ids[i] for i in heard], "label": np.ones(len(heard), int),
                             "label_ts": p["ts"][heard] + shops.DAY}), root / "labels.parquet")  # fmt: skip
    return root / "events.parquet", root / "labels.parquet", big


def test_what_was_let_through_by_chance_stands_for_all_that_was_stopped(tmp_path):
    events, labels, big = controlled(tmp_path)
    book = shops.rulebook(tmp_path / "book")
    schema = (book / "schema.yaml").read_text().replace("  country: string\n", "  passed: number\n")
    (book / "schema.yaml").write_text(schema.replace("  terminal: {type: string, entity: terminal}\n", ""))
    given = ["--events", events, "--labels", labels, "--rulebook", book, "--features", "given"]
    said = run("train", *given, "--let-through", "passed", "--out", tmp_path / "m")
    assert said["features"] == 2  # the amount and the card's count: the chance itself teaches nothing
    counts, stood = said["repair"]["counts"], changes(tmp_path / "m")
    assert counts["let_through"]["as_fraud"] + counts["let_through"]["as_legitimate"] == pytest.approx(
        10 * counts["let_through"]["weight"]
    )
    assert any("stopped events without a label left out" in note for note in said["notes"])
    assert all(big[int(r["event_id"][1:])] for r in stood)
    run("score", "--events", events, "--labels", labels, "--model", tmp_path / "m", "--out", tmp_path / "s.parquet")
    score = np.asarray(pq.read_table(tmp_path / "s.parquet")["score"])
    assert 0.3 < score[big].mean() < 0.7 and score[~big].mean() < 0.06


def test_a_table_may_tell_what_was_let_through_and_stopped_rows_judge_but_do_not_teach(tmp_path):
    table, rng = columns(3000), np.random.default_rng(4)
    risky = (table["amount"] > 100) & (table["kind"] == "gift")
    table["passed"] = np.where(risky, np.where(rng.random(3000) < 0.25, 0.25, 0.0), np.nan)
    path = write(tmp_path / "t.parquet", table)
    said = run("train", path, "--label", "label", "--time", "day", "--let-through", "passed", "--out", tmp_path / "m")
    counts = said["repair"]["counts"]
    assert counts["stopped"]["rows"] == (table["passed"] == 0).sum() and said["training"]["rows"] == 3000
    assert counts["let_through"]["as_fraud"] == 4 * counts["let_through"]["frauds"]
    assert {r["repair"] for r in changes(tmp_path / "m")} == {"let_through", "stopped"}
    run("score", path, "--model", tmp_path / "m", "--out", tmp_path / "s.parquet")
    score = np.asarray(pq.read_table(tmp_path / "s.parquet")["score"])
    assert score[risky].mean() > 1.5 * score[~risky].mean()  # some thirty rows are all that is known of them


def test_nodes_are_repaired_too(tmp_path):
    nodes, edges, label = graph(tmp_path)
    table, rng = pq.read_table(nodes), np.random.default_rng(2)
    seen = np.asarray(table["label"])
    silent = np.where((seen == 1) & (rng.random(len(seen)) < 0.5), 0, seen)
    pq.write_table(table.set_column(table.column_names.index("label"), "label", pa.array(silent)), nodes)
    said = run("train", "--nodes", nodes, "--edges", edges, "--label", "label", "--train-mask", "train", "--repair", "missing", "--out", tmp_path / "m")  # fmt: skip
    surest = [int(r["row"]) for r in changes(tmp_path / "m")[:30]]
    assert said["repair"]["counts"]["missing"]["rows"] > 30 and label[surest].mean() > 0.5


def test_trials_and_models_without_a_campaign_are_taught_with_repaired_rows_too(tmp_path, monkeypatch):
    from shopward.models import training, trials

    taught: list[int] = []
    watch = lambda rows, *how: taught.append(len(rows)) or repaired(rows, *how)  # noqa: E731
    monkeypatch.setattr(trials, "repaired", watch)
    monkeypatch.setattr(training, "repaired", watch)
    rows, _ = cards(8, n=1500)
    settings = Settings(trees=20, trials=1, repair=Repair(twins=True))
    trials.search(rows, settings, tmp_path / "runs.ndjson")
    assert len(taught) == trials.FOLDS
    assert json.loads((tmp_path / "runs.ndjson").read_text())["repair"] == {
        "labels": None,
        "twins": True,
        "let_through": None,
    }
    grown(rows, settings, 20)
    assert len(taught) == trials.FOLDS + 1


def test_too_few_frauds_cannot_tell_others():
    rows, _ = cards(9, n=400)
    rows.label = (np.arange(400) < 5).astype(np.int8)
    with pytest.raises(BadData, match="--repair missing: 5 frauds and 395 legitimate rows are too few"):
        train(rows, "m", Settings(repair=Repair("missing")))


def test_refusals_say_what_would_be_right(tmp_path, silent):
    given = silent[3]
    nodes, edges, _ = graph(tmp_path)
    with pytest.raises(UsageError, match="--let-through is for events and tables"):
        flows.train_nodes(nodes, edges, "label", tmp_path / "m", Settings(repair=Repair(let_through="p")))
    table = write(tmp_path / "t.parquet", {**columns(), "p": np.where(np.arange(1500) == 7, 1.5, 0.5)})
    with pytest.raises(BadData, match="--let-through p: 7: 1.5 is no chance"):
        flows.train_table(table, "label", tmp_path / "m", Settings(repair=Repair(let_through="p")))
    with pytest.raises(UsageError, match="--let-through q: no such column"):
        flows.train_table(table, "label", tmp_path / "m", Settings(repair=Repair(let_through="q")))
    with pytest.raises(BadData, match="no row that teaches was let through by chance"):
        write(tmp_path / "t.parquet", {**columns(), "p": np.ones(1500)})
        flows.train_table(table, "label", tmp_path / "m", Settings(repair=Repair(let_through="p")))
    done = CliRunner().invoke(
        model, ["train", *map(str, given), "--let-through", "country", "--out", str(tmp_path / "m")]
    )
    assert isinstance(done.exception, UsageError) and "not a number field of the schema (there is none)" in str(
        done.exception
    )
