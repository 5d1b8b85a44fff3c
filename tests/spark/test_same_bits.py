"""Spark says what one machine says, to the last bit: every measure, every decision, hot keys, labels, repeated ids."""

from __future__ import annotations

import json
import random

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from shopward.backtest.replay import OnSpark, replay
from shopward.cli import cli
from shopward.connect import spark
from shopward.decide import Engine
from shopward.errors import NotYet
from shopward.features.live import Windows
from shopward.runs import decide_files, features_files
from tests.backtest import shop
from tests.properties.agree import differences, shown
from tests.properties.batches import SEED, batch_of, by_engine, cut
from tests.properties.long_streams import long_stream
from tests.properties.plans import MIXED, PLANS, SCHEMA

pytestmark = pytest.mark.slow
HOUR = 3_600_000


def on_spark(of, events: list[dict], size: int) -> dict[str, list]:
    def batches(engine: Engine):
        return (batch_of(piece, of, engine.seed) for piece in cut(events, [size]))

    with spark.run(batches, of, decide=False, mode="interpreted") as ran:
        tables = list(ran.tables)
    return {name: [v for t in tables for v in t[name].to_pylist()] for name in tables[0].column_names}


@pytest.mark.parametrize("plan", PLANS)
def test_every_measure(plan, local):
    """Random keys, ties, late events, labels; a third of the events belong to one hot account."""
    of, events = PLANS[plan], long_stream(900, seed=3)
    found = on_spark(of, events, 250)
    assert found.pop("event_id") == [e["event_id"] for e in events if e["type"] != "label"]
    whole = shown(by_engine(Windows(of, SEED, mode="interpreted"), events, of, [200]), events)
    assert differences(whole, found, [e for e in events if e["type"] != "label"]) == []


def write_events(path, events: list[dict]) -> None:
    path.write_text("\n".join(json.dumps(e) for e in events))


def some_events(n: int, hot: float, seed: int = 5) -> list[dict]:
    """Orders and logins in order of time; a share of them by one account on one device."""
    rng, clock, events = random.Random(seed), 1_767_225_600_000, []
    for i in range(n):
        clock += rng.randrange(2_000)
        mine = rng.random() < hot
        events.append({"event_id": f"e{i}", "ts": clock, "type": rng.choice(["order", "payment", "login"]), "amount": rng.randrange(1, 900) / 4,
                       "account": "a0" if mine else f"a{rng.randrange(500)}", "device": "d0" if mine else f"d{rng.randrange(300)}"})  # fmt: skip
    return events


def test_a_key_with_nearly_all_events_changes_nothing(local, tmp_path):
    write_events(tmp_path / "events.ndjson", some_events(6000, hot=0.9))
    for engine in ("native", "spark"):
        features_files([tmp_path / "events.ndjson"], MIXED, engine=engine, out=tmp_path / f"{engine}.parquet")
    spark_rows, native_rows = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("spark", "native"))
    assert spark_rows.num_rows == 6000 and spark_rows.equals(native_rows)


def test_decisions_repeated_ids_labels_and_dead_letters(local, tmp_path):
    events, labels = shop.history(tmp_path)
    lines = events.read_text().splitlines()
    events.write_text("\n".join([*lines, lines[7], '{"type": "payment"', '{"type": "unheard", "ts": 1}']))
    of = shop.rulebook()
    said = {}
    for engine in ("native", "spark"):
        said[engine] = decide_files([events], of, engine=engine, labels=labels, out=tmp_path / f"{engine}.parquet")
    native, here = said["native"], said["spark"]
    assert pq.read_table(tmp_path / "spark.parquet").equals(pq.read_table(tmp_path / "native.parquet"))
    assert (here.decisions, here.rules, here.labels) == (native.decisions, native.rules, native.labels)
    assert (here.repeated, here.dead_letters) == (native.repeated, native.dead_letters) == (1, 2)


def test_a_backtest_finds_the_same_history_and_the_same_money(local, tmp_path):
    events, labels = shop.history(tmp_path)
    told = {"labels": labels, "by": ["country"]}
    here, there = replay([events], shop.rulebook(), **told), replay([events], shop.rulebook(), spark=OnSpark(), **told)
    for name in ("ids", "ts", "types", "amount", "action", "control", "hits", "entity"):
        assert getattr(here, name).tobytes() == getattr(there, name).tobytes(), name
    assert here.names == there.names and [a.tolist() for a in here.said] == [a.tolist() for a in there.said]
    for one, other in zip(here.segments, there.segments, strict=True):
        assert one.words == other.words and one.codes.tolist() == other.codes.tolist()
    shop.write(tmp_path / "rules", shop.files())
    found = {}
    for engine in ("native", "spark"):
        ran = CliRunner().invoke(cli, ["backtest", str(events), "--labels", str(labels), "--rulebook", str(tmp_path / "rules"), "--leave-out", "spree",
                                       "--engine", engine, "--json"])  # fmt: skip
        assert ran.exit_code == 0, ran.output
        found[engine] = {k: v for k, v in json.loads(ran.stdout).items() if k != "seconds"}
    assert found["spark"] == found["native"]


def test_rules_that_feed_a_list_are_refused_with_the_reason(tmp_path):
    files = shop.files(
        {
            "ring": "on: [payment]\nwhen: amount > 9\nthen: {action: review, list: {add: blocked, key: account, expires: 7d}}",
            "frozen": "on: [payment]\nwhen: listed('blocked', account)\nthen: deny",
        }
    )
    with pytest.raises(
        NotYet, match="rule `frozen` reads the list `blocked`, which rule `ring` writes.*--engine native"
    ):
        spark.refuse(shop.Rulebook.from_files(files), decide=True)


def test_what_is_not_portable_is_left_out_and_said(local, tmp_path):
    write_events(tmp_path / "events.ndjson", some_events(60, hot=0.2))
    texts = {
        "n.yaml": "n_1h: {entity: account, measure: count, over: 1h}",
        "k.yaml": "known: {list: friends, entity: account}",
    }
    files = {"schema.yaml": SCHEMA, "lists/l.yaml": "friends: {kind: allow, entity: account}"}
    of = shop.Rulebook.from_files(files | {f"features/{name}": text for name, text in texts.items()})
    said = features_files([tmp_path / "events.ndjson"], of, engine="spark", out=tmp_path / "o.parquet")
    assert list(said.left_out) == ["known"] and pq.read_table(tmp_path / "o.parquet").column_names == [
        "event_id",
        "n_1h",
    ]
