"""From events and labels to a model that decides: what it may know, and that it says the same in a file and in a decision."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from shopward import Engine, Rulebook
from shopward.errors import BadData, UsageError
from shopward.event import parse_time
from shopward.models import flows, folder, registry
from shopward.models.dataset import census, choose, read_examples
from shopward.models.training import Settings
from tests.models import shops

pytest.importorskip("lightgbm", reason="needs the ml extra")
UNTIL = shops.START + 26 * shops.DAY
SMALL = Settings(trees=60)


def engine(book: Rulebook) -> Engine:
    return Engine(book, mode="interpreted")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    events, labels = shops.write(root)
    book = shops.rulebook(root / "book")
    run = flows.EventRun((events,), labels, UNTIL, 3 * shops.DAY)
    done = flows.train_events(run, Rulebook(book), engine, root / "payments", SMALL)
    return root, events, labels, book, done


def test_it_finds_fraud_out_of_time(world):
    m = world[4].meta["metrics"]
    assert m["roc_auc"] > 0.8 and m["average_precision"] > 0.4
    assert "labels known by then teach" in world[4].meta["training"]["split"]


def test_features_are_generated_written_down_and_earned(world):
    root, *_, done = world
    declared = yaml.safe_load((root / "payments" / "features.yaml").read_text())
    assert any(f.get("where") == 'type == "label" and label == 1' for f in declared.values())
    assert {f["entity"] for f in declared.values() if isinstance(f.get("entity"), str)} == {"card", "terminal"}
    assert set(done.meta["features"]) <= {*declared, "amount", "country", "card_count_2d"}
    assert any("features earn out of time" in note for note in done.meta["notes"])


def test_labels_from_after_t_plus_delay_do_not_exist(world):
    _, events, labels, book, _ = world
    found = census(engine(Rulebook(book)), [events], labels, until=UNTIL, known_by=UNTIL)
    judged = found.label >= 0
    assert judged.sum() > 1000 and found.label_ts[judged].max() <= UNTIL
    assert found.ts[judged].max() <= UNTIL - 3 * shops.DAY
    assert any("became known after" in note for note in found.notes)


def test_changing_labels_after_t_plus_delay_changes_nothing(world, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    _, events, labels, book, done = world
    table = pq.read_table(labels)
    late = np.asarray(table["label_ts"]) > UNTIL + 3 * shops.DAY
    flipped = np.where(late, 1 - np.asarray(table["label"]), np.asarray(table["label"]))
    pq.write_table(table.set_column(1, "label", pa.array(flipped)), tmp_path / "labels.parquet")
    run = flows.EventRun((events,), tmp_path / "labels.parquet", UNTIL, 3 * shops.DAY)
    flows.train_events(run, Rulebook(book), engine, tmp_path / "payments", SMALL)
    assert (tmp_path / "payments/trees.txt").read_text() == (done.folder / "trees.txt").read_text()


def test_scores_in_a_file_and_in_decisions_are_the_same_bits(world, tmp_path):
    _, events, labels, _, done = world
    book = shops.rulebook(tmp_path / "book", rules__risky="id: risky\ntitle: The model says so\non: [payment]\nwhen: risk >= 900\nthen: review\n"
                          "tests: [{name: none, events: [{type: payment, ts: 0, card: c, amount: 1}], expect: {fires: false}}]")  # fmt: skip
    registry.deploy(tmp_path / "data", done.folder, book, state="champion")
    since = shops.START + 30 * shops.DAY
    tables = list(flows.score_events([events], labels, done.folder, engine, since=since))
    filed = {i: s for t in tables for i, s in zip(t["event_id"].to_pylist(), t["score"].to_pylist(), strict=True)}
    wanted = list(filed)[:150]
    live = Engine(Rulebook(book), mode="interpreted", models={"payments": folder.read_model(done.folder)})
    said = {}
    for batch in live.read([events], labels=labels):
        for decision in live.decide_batch(batch):
            said[decision.event_id] = decision
        if wanted[-1] in said:
            break
    assert [said[i].score for i in wanted] == [filed[i] for i in wanted]
    risky = [d for d in said.values() if d.action == "review"]
    assert risky and risky[0].evidence[0].source.startswith(("model:", "rule:"))


def test_scores_before_t_are_not_given(world):
    _, events, labels, _, done = world
    tables = list(flows.score_events([events], labels, done.folder, engine, since=shops.START + 39 * shops.DAY))
    ids = [i for t in tables for i in t["event_id"].to_pylist()]
    p = shops.payments()
    assert ids == [f"p{i}" for i in np.flatnonzero(p["ts"] >= shops.START + 39 * shops.DAY)]


def test_scores_mean_probabilities(world):
    _, events, labels, _, done = world
    tables = list(flows.score_events([events], labels, done.folder, engine, since=shops.START + 30 * shops.DAY))
    score = np.concatenate([np.asarray(t["score"]) for t in tables])
    truth = shops.payments()["fraud"][-len(score) :]
    assert abs(score.mean() - truth.mean()) < 0.5 * truth.mean()
    risk = np.concatenate([np.asarray(t["risk"]) for t in tables])
    assert (np.diff(risk[np.argsort(score)]) >= 0).all() and risk.max() <= 1000


def test_reasons_are_in_the_words_of_the_features(world):
    scorer = folder.read_model(world[4].folder)
    row = np.array([u[1] if u[1] is not None else np.nan for u in world[4].meta["usual"]])
    k = next(i for i, n in enumerate(scorer.features) if n == "amount" or "amount_times" in n)
    row[k] = 50 * max(row[k], 1)
    reasons = scorer.explain(row)
    assert 1 <= len(reasons) <= 5 and all(r.what.startswith(r.feature) for r in reasons)
    assert any("usually" in r.what for r in reasons)


def test_a_feature_that_changed_its_meaning_is_refused_with_the_difference(world, tmp_path):
    _, events, labels, _, done = world
    name = next(n for n in done.meta["input"]["meanings"] if "_count_" in n)
    other = Rulebook.from_files(
        {**shops.FILES, "features/own.yaml": f"{name}: {{entity: card, measure: count, over: 9d}}\n"}
    )
    with pytest.raises(BadData, match="changed their meaning") as error:
        list(flows.score_events([events], labels, done.folder, engine, rulebook=other))
    assert "+ " + name in str(error.value) and "777600000 ms" in str(error.value)


def test_one_class_only_is_refused(world, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    _, events, labels, book, _ = world
    table = pq.read_table(labels)
    pq.write_table(table.set_column(1, "label", pa.array(np.zeros(len(table), int))), tmp_path / "l.parquet")
    with pytest.raises(BadData, match="one class only"):
        flows.train_events(
            flows.EventRun((events,), tmp_path / "l.parquet"), Rulebook(book), engine, tmp_path / "m", SMALL
        )


def test_reports_of_fraud_alone_are_enough_and_said_so(world, tmp_path):
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    _, events, labels, book, _ = world
    table = pq.read_table(labels)
    pq.write_table(table.filter(pc.equal(table["label"], 1)), tmp_path / "l.parquet")
    run = flows.EventRun((events,), tmp_path / "l.parquet", UNTIL, 3 * shops.DAY, generate=False)
    done = flows.train_events(run, Rulebook(book), engine, tmp_path / "m", SMALL)
    assert any("only frauds are reported" in note for note in done.meta["notes"])


def test_labels_from_before_their_event_are_noticed(world, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    _, events, labels, book, _ = world
    table = pq.read_table(labels)
    early = pa.array(np.asarray(table["label_ts"]) - 10 * shops.DAY)
    pq.write_table(table.set_column(2, "label_ts", early), tmp_path / "l.parquet")
    found = census(engine(Rulebook(book)), [events], tmp_path / "l.parquet")
    assert any("older than the event" in note for note in found.notes)


def test_an_export_given_twice_teaches_once_and_is_noted(world):
    _, events, labels, book, _ = world
    once, twice = (census(engine(Rulebook(book)), paths, labels) for paths in ([events], [events, events]))
    assert twice.ids == once.ids and twice.notes[0] == "6,000 events came again: each counts once"
    read = [
        read_examples(engine(Rulebook(book)), paths, labels, ["card_count_2d"])
        for paths in ([events], [events, events])
    ]
    assert read[0].ids == read[1].ids and np.array_equal(read[0].matrix, read[1].matrix, equal_nan=True)


def test_no_label_by_then_says_what_to_check(world, tmp_path):
    _, events, labels, book, _ = world
    run = flows.EventRun((events,), labels, parse_time("2026-01-02"), 0)
    with pytest.raises(BadData, match="--until and --delay"):
        flows.train_events(run, Rulebook(book), engine, tmp_path / "m", SMALL)


def test_groups_must_be_roles(world, tmp_path):
    _, events, labels, book, _ = world
    with pytest.raises(UsageError, match="--group ring"):
        flows.train_events(
            flows.EventRun((events,), labels), Rulebook(book), engine, tmp_path / "m", Settings(group="ring")
        )


def test_logistic_regression_is_served_the_same(world, tmp_path):
    _, events, labels, book, _ = world
    run = flows.EventRun((events,), labels, UNTIL, 3 * shops.DAY)
    done = flows.train_events(run, Rulebook(book), engine, tmp_path / "plain", Settings(kind="logistic"))
    assert done.meta["metrics"]["roc_auc"] > 0.7
    assert folder.read_model(done.folder).version == done.meta["version"]


# --- the registry


def test_a_tampered_model_is_refused(world, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(world[4].folder, copy)
    trees = (copy / "trees.txt").read_text()
    (copy / "trees.txt").write_text(trees.replace("leaf_value=", "leaf_value=9", 1))
    with pytest.raises(BadData, match="hash refused"):
        folder.read_model(copy)
    (copy / "trees.txt").write_text(trees)
    meta = json.loads((copy / "model.json").read_text())
    (copy / "model.json").write_text(json.dumps({**meta, "shift": meta["shift"] + 3}))
    with pytest.raises(BadData, match="changed after training"):
        folder.read_model(copy)
    (copy / "trees.txt").unlink()
    (copy / "model.json").write_text(json.dumps(meta))
    with pytest.raises(BadData, match="missing"):
        folder.read_model(copy)


def test_deploy_and_roll_back(world, tmp_path):
    book = shops.rulebook(tmp_path / "book")
    before = Rulebook(book).version
    done = registry.deploy(tmp_path / "data", world[4].folder, book, state="shadow", owner="kim")
    assert Rulebook(book).models["payments"].state == "shadow"
    with pytest.raises(UsageError, match="no deployment of other"):
        registry.rollback(tmp_path / "data", book, "other")
    registry.deploy(tmp_path / "data", world[4].folder, book, state="champion", percent=5)
    assert Rulebook(book).models["payments"].percent == 5
    registry.rollback(tmp_path / "data", book)
    assert Rulebook(book).models["payments"].state == "shadow"
    registry.rollback(tmp_path / "data", book)
    assert Rulebook(book).version == before and done.version in {
        m["version"] for m in registry.models(tmp_path / "data")
    }
    with pytest.raises(UsageError, match="no deployment"):
        registry.rollback(tmp_path / "data", book)


def test_a_deployed_model_scores_in_a_data_folder(world, tmp_path):
    book = shops.rulebook(tmp_path / "book")
    registry.deploy(tmp_path / "data", world[4].folder, book, state="champion")
    with Engine(Rulebook(book), tmp_path / "data", mode="interpreted") as live:
        said = live.decide(
            {"type": "payment", "ts": shops.START, "card": "c1", "terminal": "t1", "amount": "20.00", "country": "de"}
        )
    assert 0 < said.score < 1 and 0 <= said.risk <= 1000


def test_a_rollback_does_not_undo_what_a_person_wrote_since(world, tmp_path):
    book = shops.rulebook(tmp_path / "book")
    registry.deploy(tmp_path / "data", world[4].folder, book, state="shadow")
    file = book / "models/payments.yaml"
    file.write_text(file.read_text() + "doc: mine now\n")
    with pytest.raises(UsageError, match="changed since the deployment"):
        registry.rollback(tmp_path / "data", book)
    assert "mine now" in file.read_text()


def test_a_rulebook_whose_features_mean_something_else_gets_no_model(world, tmp_path):
    name = next(n for n in world[4].meta["input"]["meanings"] if "_count_" in n)
    book = shops.rulebook(tmp_path / "book", features__other=f"{name}: {{entity: card, measure: count, over: 9d}}\n")
    before = Rulebook(book).version
    with pytest.raises(BadData, match="train the model again"):
        registry.deploy(tmp_path / "data", world[4].folder, book, state="shadow")
    assert Rulebook(book).version == before


def test_drift_is_told_by_feature(world):
    _, events, labels, _, done = world
    calm = flows.monitor_events(
        [events], labels, done.folder, engine, since=shops.START + 20 * shops.DAY, against=done.folder
    )
    assert calm["events"] > 1000 and calm["paired"]["difference"] == 0
    from shopward.models.monitor import drift

    names = done.meta["features"]
    moved = np.full((500, len(names)), 1e9)
    assert {d.state for d in drift(done.meta["profile"], moved, names)} == {"alarm"}


def test_a_few_reviews_beside_reported_frauds_are_not_all_that_is_honest(world, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    _, events, labels, book, _ = world
    table = pq.read_table(labels)
    verdict = np.asarray(table["label"])
    keep = (verdict == 1) | (np.arange(len(verdict)) % 200 == 0)
    pq.write_table(table.filter(pa.array(keep)), tmp_path / "l.parquet")
    found = census(engine(Rulebook(book)), [events], tmp_path / "l.parquet")
    _, label, _ = choose(found, since=None, until=None, most=10_000)
    assert (label == 0).sum() > 20 * (verdict[keep] == 0).sum() and "stand for legitimate" in found.notes[-1]
    _, label, _ = choose(found, since=None, until=None, most=10_000, unlabelled="skip")
    assert (label == 0).sum() == (verdict[keep] == 0).sum()


def test_the_card_and_a_page_of_its_own_tell_how_sure_the_numbers_are(world, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq
    from click.testing import CliRunner

    from shopward.cli.model import model

    _, events, labels, book, done = world
    told = done.meta["evaluation"]
    assert told["headline"]["roc_auc"]["low"] < done.meta["metrics"]["roc_auc"] < told["headline"]["roc_auc"]["high"]
    assert told["first_frauds"]["entities"] > 0 and "How sure that is" in (done.folder / "card.html").read_text()
    since = shops.START + 28 * shops.DAY
    pq.write_table(
        pa.concat_tables(flows.score_events([events], labels, done.folder, engine, since=since)), tmp_path / "s.parquet"
    )
    args = ["evaluate", tmp_path / "s.parquet", "--events", events, "--labels", labels, "--rulebook", book, "--by", "country", "--entity", "card", "--out", tmp_path / "e.html", "--json"]  # fmt: skip
    said = CliRunner().invoke(model, [*map(str, args)])
    assert said.exit_code == 0, said.output
    found = json.loads(said.stdout.splitlines()[-1])
    assert {s["value"] for s in found["segments"]["country"]} == {"de", "fr", "us"} and found["first_frauds"][
        "first"
    ] is not None
    assert "By country" in (tmp_path / "e.html").read_text()


def test_a_server_tells_when_a_deployed_model_decays(world, tmp_path):
    from shopward.models.watch import Ring, families

    _, events, labels, _, done = world
    book = shops.rulebook(tmp_path / "book")
    registry.deploy(tmp_path / "data", done.folder, book, state="champion")
    live = Engine(Rulebook(book), mode="interpreted", models={"payments": folder.read_model(done.folder)})
    assert {name: found for name, _, found in families(live.models)}["shopward_model_asked"] == {
        'model="payments"': 0.0
    }
    for batch in live.read([events], labels=labels, size=500):
        if batch.ts[0] < shops.START + 18 * shops.DAY:  # windows are still filling: that is no decay
            live.models.rings[0] = Ring(len(live.models.scorers[0].features))
        if batch.ts[0] < UNTIL:
            live.decide_batch(batch)
    calm = {name: found for name, _, found in families(live.models)}
    assert calm["shopward_model_asked"]['model="payments"'] > 1000
    assert calm["shopward_model_decayed"] == {'model="payments"': 0.0}
    assert 'model="payments",feature="(score)"' in calm["shopward_model_psi"]
    ring, scorer = live.models.rings[0], live.models.scorers[0]
    ring.add(np.full((len(scorer.features), 9000), 1e6), np.full(9000, 0.97))
    wild = {name: found for name, _, found in families(live.models)}
    assert (
        wild["shopward_model_decayed"] == {'model="payments"': 1.0}
        and wild["shopward_model_alarms"]['model="payments"'] > 3
    )
