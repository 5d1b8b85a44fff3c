"""Features searched for among neighbours: a ring that only the devices of its logins tie together, found, written down and decided on."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner

from shopward import Engine, Rulebook
from shopward.cli.model import model
from shopward.errors import UsageError
from shopward.models import flows, folder, registry
from shopward.models.dataset import read_examples
from shopward.models.generate import Candidates, candidates, neighbourly, to_yaml
from shopward.models.training import Settings, train
from tests.models.shops import DAY, START
from tests.models.test_denoise import cards

pytest.importorskip("lightgbm", reason="needs the ml extra")
SCHEMA = """
types: [login, payment]
fields:
  account: {type: string, entity: account}
  device: {type: string, entity: device}
  amount: money
money: amount
"""
HOUR = DAY // 24
SMALL = Settings(trees=60)


def engine(book: Rulebook) -> Engine:
    return Engine(book, mode="interpreted")


def rings(seed: int = 4) -> tuple[list[dict], list[dict]]:
    """Events and labels of 40 days. Everybody pays from whatever device is at hand; the six of a ring logged in on one device before."""
    rng, events, labels = np.random.default_rng(seed), [], []

    def visits(account: str, home: str, joined: int, many: int, fraud: bool) -> None:
        for k in range(many):
            at = joined + k * int(rng.integers(4, 60)) * HOUR
            pay = at + int(rng.integers(1, 5)) * HOUR
            device = home if not fraud and rng.random() < 0.3 else f"d{rng.integers(1 << 40)}"
            name = f"{account}-{k}"
            events.append({"event_id": f"l{name}", "ts": at, "type": "login", "account": account, "device": home})
            events.append({"event_id": f"p{name}", "ts": pay, "type": "payment", "account": account, "device": device,
                           "amount": round(float(rng.uniform(5, 80)), 2)})  # fmt: skip
            labels.append({"event_id": f"p{name}", "label": int(fraud), "label_ts": pay + 2 * DAY})

    for i in range(450):
        visits(f"a{i}", f"home{i if rng.random() < 0.7 else i // 2}", START + int(rng.integers(0, 38 * DAY)), int(rng.integers(1, 6)), False)  # fmt: skip
    for ring in range(30):
        joined = START + int(rng.integers(0, 37 * DAY))
        for i in range(6):
            visits(f"r{ring}-{i}", f"farm{ring}", joined + int(rng.integers(0, 12)) * HOUR, 2, True)
    return sorted(events, key=lambda e: (e["ts"], e["event_id"])), labels


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("rings")
    events, labels = rings()
    names = ("event_id", "ts", "type", "account", "device", "amount")
    pq.write_table(pa.table({n: [e.get(n) for e in events] for n in names}), root / "events.parquet")
    pq.write_table(pa.Table.from_pylist(labels), root / "labels.parquet")
    (root / "book").mkdir()
    (root / "book/schema.yaml").write_text(SCHEMA)
    done = {
        graph: flows.train_events(flows.EventRun((root / "events.parquet",), root / "labels.parquet", graph=graph),
                                  Rulebook(root / "book"), engine, root / name, SMALL)
        for graph, name in ((False, "alone"), (True, "ringed"))
    }  # fmt: skip
    return root, done


def asked(folder: Path) -> dict[str, dict]:
    return {n: one for n, one in yaml.safe_load((folder / "features.yaml").read_text()).items() if "graph" in one}


def test_neighbours_are_found_to_earn_and_few_are_kept(world):
    root, done = world
    precision = {graph: one.meta["metrics"]["average_precision"] for graph, one in done.items()}
    assert precision[True] > precision[False] + 0.1, precision
    kept = [n for n in done[True].meta["features"] if n in asked(root / "ringed")]
    assert 1 <= len(kept) <= 4 and not asked(root / "alone")
    notes = " ".join(done[True].meta["notes"])
    assert re.search(rf"{len(kept)} of \d\d graph features earn beside the others", notes)
    assert "in plain Python: about" in notes and "us an event" in notes


def test_what_they_read_is_written_down_with_them(world):
    root, _ = world
    declared = yaml.safe_load((root / "ringed/features.yaml").read_text())
    book = Rulebook.from_files(
        {"schema.yaml": SCHEMA, "features/model.yaml": (root / "ringed/features.yaml").read_text()}
    )
    assert set(book.features) == set(declared)


def test_a_deployed_model_that_asks_about_neighbours_says_what_it_said_in_files(world, tmp_path):
    root, done = world
    (tmp_path / "book").mkdir()
    (tmp_path / "book/schema.yaml").write_text(SCHEMA)
    registry.deploy(tmp_path / "data", done[True].folder, tmp_path / "book", state="champion")
    live = Engine(
        Rulebook(tmp_path / "book"), mode="interpreted", models={"ringed": folder.read_model(done[True].folder)}
    )
    given = [root / "events.parquet"], root / "labels.parquet"
    said = {
        d.event_id: (d.score, d.risk)
        for batch in live.read(given[0], labels=given[1])
        for d in live.decide_batch(batch)
        if d.type == "payment"
    }
    filed = {
        i: (s, r)
        for t in flows.score_events(*given, done[True].folder, engine)
        for i, s, r in zip(*(t[n].to_pylist() for n in ("event_id", "score", "risk")), strict=True)
    }
    assert len(said) > 1000 and all(filed[i] == both for i, both in said.items())


def test_verdicts_on_neighbours_count_from_their_arrival_in_the_training_table(world, tmp_path):
    root, _ = world
    book = Rulebook(root / "book")
    found = candidates(book.schema, ["payment"], entities=["account", "device"])
    names = [n for n in neighbourly(book.schema, {"account": ["device"]}, found) if "fraud" in n]
    book = Rulebook.from_files({**book.files, "features/all.yaml": to_yaml(found.declared, "All.")})
    until = START + 20 * DAY
    labels = pq.read_table(root / "labels.parquet")
    known = np.asarray(labels["label_ts"]) <= until
    pq.write_table(labels.filter(pa.array(known)), tmp_path / "early.parquet")
    values = {}
    for name, file in (("all", root / "labels.parquet"), ("early", tmp_path / "early.parquet")):
        found_rows = read_examples(engine(book), [root / "events.parquet"], file, names)
        values[name] = found_rows.matrix[found_rows.ts <= until]
        late = found_rows.matrix[found_rows.ts > until + 2 * DAY]
    assert np.nan_to_num(values["all"]).max() > 0 and len(late)
    assert np.array_equal(values["all"], values["early"], equal_nan=True)


def test_without_anything_to_judge_by_no_graph_feature_is_kept():
    rows, _ = cards(9, n=400)
    rows.label = (np.arange(400) < 5).astype(np.int8)
    found = train(rows, "m", Settings(trees=20, dear=("b", "c")))
    assert found.features == ("a",) and any("2 graph features left out" in note for note in found.meta["notes"])


def test_a_name_that_is_taken_is_not_declared_again():
    schema = Rulebook.from_files({"schema.yaml": SCHEMA}).schema
    found = Candidates()
    names = neighbourly(schema, {"account": ["device"]}, found, ["account_near_device_frauds_7d"])
    assert "account_near_device_frauds_7d" not in names and len(names) == len(found.declared) == 11


def test_rows_of_a_table_have_no_neighbours(tmp_path):
    (tmp_path / "t.csv").write_text("a,label\n1,0\n")
    done = CliRunner().invoke(
        model,
        ["train", str(tmp_path / "t.csv"), "--label", "label", "--features", "graph", "--out", str(tmp_path / "m")],
    )
    assert isinstance(done.exception, UsageError) and "--features graph belongs to --events" in str(done.exception)


def test_the_command_line_searches_among_neighbours(world, tmp_path):
    root, _ = world
    given = [
        "--events",
        root / "events.parquet",
        "--labels",
        root / "labels.parquet",
        "--rulebook",
        root / "book",
        "--features",
        "graph",
        "--out",
        tmp_path / "m",
    ]
    done = CliRunner().invoke(model, ["train", *map(str, given), "--json"])
    assert done.exit_code == 0, done.output
    assert any("graph features earn" in note for note in json.loads(done.stdout)["notes"]) and asked(tmp_path / "m")


def test_where_nobody_shares_anything_no_graph_is_tried_and_the_note_says_so(world, tmp_path):
    root, _ = world
    table = pq.read_table(root / "events.parquet")
    own = pa.array([f"of {a}" for a in table["account"].to_pylist()])
    pq.write_table(table.set_column(table.column_names.index("device"), "device", own), tmp_path / "events.parquet")
    run = flows.EventRun((tmp_path / "events.parquet",), root / "labels.parquet", graph=True)
    done = flows.train_events(run, Rulebook(root / "book"), engine, tmp_path / "m", SMALL)
    assert any("no graph features were tried" in note for note in done.meta["notes"]) and not asked(tmp_path / "m")
