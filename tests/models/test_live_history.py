"""A network decides live: it is shown the same past, and says the same bits, one event at a time, in batches, after a restart, by replay, in files.

Its weights are drawn, not taught, so neither torch nor LightGBM is needed here.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from shopward import Engine, Rulebook
from shopward.change import Change, Follower
from shopward.decide_one import source_of
from shopward.errors import BadData, NotYet, UsageError
from shopward.models import flows, folder, registry, sequence
from shopward.models.history import History, Past
from shopward.models.watch import families
from shopward.runs import decide_files, features_data
from shopward.store import snapshot

START, MINUTE = 1_767_225_600_000, 60_000
SCHEMA = """
types: [payment, transfer, {note: {decide: false}}]
fields:
  card: {type: string, entity: card}
  terminal: {type: string, entity: terminal}
  amount: money
  items: number
  gift: bool
  country: string
money: amount
"""
RULE = """
id: risky
title: The model says so
on: [payment, transfer]
when: risk >= 1
then: review
tests: [{name: none, events: [{type: payment, ts: 0, card: a}], scores: {net: 0.0}, expect: {fires: false}}]
"""
FILES = {"schema.yaml": SCHEMA, "features/own.yaml": "card_count_2d: {entity: card, measure: count, over: 2d}\n"}
FEATURES, PAST = ("amount", "card_count_2d", "country"), Past(
    "card", ("amount", "items", "gift", "country", "type"), ("terminal",), 4,
    {"country": ("de", "fr"), "type": ("payment", "note")},
)  # fmt: skip
TREES = """tree
num_tree_per_iteration=1
feature_names=amount card_count_2d country

Tree=0
num_leaves=3
split_feature=0 1
threshold=30 3
decision_type=10 10
left_child=-1 -2
right_child=1 -3
leaf_value=-0.3 0.4 0.1
leaf_count=10 10 10
internal_count=30 20

end of trees
"""


def drawn_network(past: Past = PAST) -> sequence.Net:
    texts = [2 + k for k, name in enumerate(past.names) if name in past.texts]
    inputs = 1 + past.width - len(texts) + 2 * len(texts)
    shapes = sequence._shapes(len(FEATURES), past.width, inputs)
    rng = np.random.default_rng(3)
    arrays = {name: rng.normal(size=shape).astype(np.float32) / 3 for name, shape in shapes.items()}
    arrays |= {f"text_{k}": np.arange(2, dtype=np.float32) for k in texts}
    arrays |= {f"{name}_spread": np.ones(shapes[f"{name}_spread"], np.float32) for name in ("row", "step")}
    return sequence.Net(arrays, tuple(texts))


def kept(where: Path, name: str = "net", share: float = 0.8, past: Past = PAST) -> Path:
    """A model folder as training writes it."""
    net, book = drawn_network(past), Rulebook.from_files(FILES)
    about = {
        "entity": past.entity, "names": past.names, "roles": past.roles, "steps": past.steps, "share": share,
        "texts": past.texts, "text_places": net.texts,
    }  # fmt: skip
    meta = {
        "kind": "sequence", "name": name, "features": FEATURES, "categories": {"country": ["de", "fr", "us"]}, "slope": 1.1,
        "shift": -0.2, "bends": [[0.0, 0.0], [0.5, 900.0], [1.0, 1000.0]], "usual": [[1, 20, 60], [1, 2, 5], [None] * 3],
        "metrics": {}, "sequence": about,
        "input": {"how": "events", "types": ["payment", "transfer"], "files": FILES, "meanings": flows.meanings(book, FEATURES)},
    }  # fmt: skip
    folder.save(where / name, meta, {"trees.txt": TREES, sequence.FILE: sequence.to_bytes(net)})
    return where / name


def stream(n: int = 300, seed: int = 5) -> list[dict]:
    """Few cards, some events without one, some of the same millisecond, some late, notes among them, values missing."""
    rng = np.random.default_rng(seed)
    times = START + np.cumsum(rng.choice([0, 0, 1, 5, 40], n)) * MINUTE - rng.choice([0, 0, 0, 30], n) * MINUTE
    found = []
    for i in range(n):
        event = {
            "event_id": f"e{i}", "type": str(rng.choice(["payment", "payment", "transfer", "note"])), "ts": int(times[i]),
            "card": f"c{rng.integers(6)}", "terminal": f"t{rng.integers(3)}", "amount": float(rng.integers(1, 9000)) / 100,
            "items": int(rng.integers(5)), "gift": bool(rng.random() < 0.3), "country": str(rng.choice(["de", "fr", "us", "xx"])),
        }  # fmt: skip
        gone = [name for name in ("card", "terminal", "amount", "items", "gift", "country") if rng.random() < 0.08]
        found.append({name: value for name, value in event.items() if name not in gone})
    return found


EVENTS = stream()


def plain_engine(book: Rulebook) -> Engine:
    return Engine(book, mode="interpreted")


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """A rulebook folder with the network as its champion, the registry it is in, and the events as a file."""
    root = tmp_path_factory.mktemp("shop")
    for name, text in {**FILES, "rules/risky.yaml": RULE.replace("scores: {net: 0.0}, ", "")}.items():
        (root / "book" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "book" / name).write_text(text)
    shutil.copytree(root / "book", root / "plain")
    kept(root)
    registry.deploy(root / "data", root / "net", root / "book", state="champion", percent=100)
    (root / "book/rules/risky.yaml").write_text(RULE)
    (root / "events.ndjson").write_text("".join(json.dumps(e) + "\n" for e in EVENTS))
    return root


@pytest.fixture(scope="module")
def filed(shop) -> dict[str, tuple[float, float]]:
    """What `model score` says of the file."""
    return scored(shop / "events.ndjson", shop / "net")


def scored(events: Path, model: Path, labels: Path | None = None) -> dict[str, tuple[float, float]]:
    tables = [t.to_pydict() for t in flows.score_events([events], labels, model, plain_engine)]
    return {i: (s, r) for t in tables for i, s, r in zip(t["event_id"], t["score"], t["risk"], strict=True)}


def engine(shop: Path, book: str = "book", **options) -> Engine:
    """An engine in memory with the deployed model."""
    rulebook = Rulebook(shop / book)
    scorers = {n: folder.read_model(shop / "data/models" / use.source) for n, use in rulebook.models.items()}
    return Engine(rulebook, mode="interpreted", models=scorers, **options)


def durable(shop: Path, data: Path, book: str = "book") -> Engine:
    if not (data / "models").exists():
        shutil.copytree(shop / "data/models", data / "models")
    return Engine(Rulebook(shop / book), data=data, mode="interpreted")


def said(decisions) -> dict[str, tuple]:
    return {d.event_id: (d.score, d.risk) for d in decisions if d is not None}


def in_batches(e: Engine, cuts: list[int]) -> list:
    found = []
    for lo, hi in zip([0, *cuts], [*cuts, len(EVENTS)], strict=True):
        found += e.decide_events(EVENTS[lo:hi])
    return found


def test_one_by_one_in_batches_after_a_restart_and_in_files_it_says_the_same_bits(shop, filed, tmp_path):
    alone = engine(shop, seed=bytes(16))
    one = [alone.decide(event) for event in EVENTS]
    wanted = {i: v for i, v in filed.items() if EVENTS[int(i[1:])]["type"] != "note"}
    assert said(one) == wanted and len({score for score, _ in wanted.values()}) > 200
    for cuts in ([], [1, 2, 50, 51, 299], [150]):
        together = engine(shop, seed=bytes(16))
        answers = in_batches(together, cuts)
        assert answers == one
        assert together.state_hash() == alone.state_hash()
    first = durable(shop, tmp_path)
    answers = first.decide_events(EVENTS[:100])
    first.close()
    second = durable(shop, tmp_path)
    answers += [second.decide(event) for event in EVENTS[100:180]]
    second.journal.release()  # gone, without a snapshot
    third = durable(shop, tmp_path)
    answers += third.decide_events(EVENTS[180:])
    assert said(answers) == wanted
    third.close()


def test_a_replay_of_the_log_remembers_what_the_snapshot_does(shop, tmp_path):
    first = durable(shop, tmp_path)
    for lo in range(0, 300, 70):
        first.decide_events(EVENTS[lo : lo + 70])
    first.close()
    second = durable(shop, tmp_path)
    from_snapshot = second.state_hash()
    assert from_snapshot == first.state_hash()
    second.journal.release()
    for path in (tmp_path / "state").glob("*.snap*"):
        path.unlink()
    assert snapshot.load(tmp_path / "state") is None
    third = durable(shop, tmp_path)
    assert third.state_hash() == from_snapshot and third.models.pasts.digests() == first.models.pasts.digests()
    third.close()


def test_the_reasons_are_those_of_files_and_name_the_card(shop):
    alone, together = engine(shop, seed=bytes(16)), engine(shop, seed=bytes(16))
    one = [alone.decide(event) for event in EVENTS]
    assert together.decide_events(EVENTS) == one
    told = [e for d in one if d for e in d.evidence if e.feature == "card_history"]
    assert len(told) > 100 and all(e.entity.startswith("card:c") for e in told if "last 0" not in e.what)
    assert any("the last 4 events of the card" in e.what for e in told)
    event = EVENTS[-1] if EVENTS[-1]["type"] != "note" else EVENTS[-2]
    scorer = folder.read_model(shop / "net")
    [*_, part] = flows.stream_examples(
        plain_engine(Rulebook.from_files(FILES)), [shop / "events.ndjson"], None, FEATURES, since=None,
        texts=scorer.categories, history=scorer.past,
    )  # fmt: skip
    row = part.ids.index(event["event_id"])
    reasons = scorer.explain(part.matrix[row], part.past[row])
    evidence = one[row].evidence
    assert [e.feature for e in evidence if e.source == "model:net"] == [r.feature for r in reasons]
    assert all(
        e.what.endswith(r.what) for e, r in zip([e for e in evidence if e.source == "model:net"], reasons, strict=True)
    )


def test_an_event_without_a_card_has_no_past_and_makes_none(shop):
    e = engine(shop)
    event = {"type": "payment", "ts": START, "amount": 20.0, "country": "de"}
    first = e.decide({**event, "event_id": "a"})
    second = e.decide({**event, "event_id": "b", "ts": START + MINUTE})
    [memory] = e.models.pasts.by_meaning.values()
    assert first.score == second.score and memory.history.slots == {}


def test_labels_are_no_events_of_the_card_however_late_they_come(shop, filed, tmp_path):
    lines = [
        {"event_id": e["event_id"], "label": i % 2, "label_ts": e["ts"] + 50 * MINUTE} for i, e in enumerate(EVENTS)
    ]
    (tmp_path / "labels.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert scored(shop / "events.ndjson", shop / "net", tmp_path / "labels.ndjson") == filed
    e = durable(shop, tmp_path / "data")
    answers = [*e.decide_events(EVENTS[:150])]
    before = e.models.pasts.digests()
    assert e.label(lines[:100])["taken"] == 100 and e.models.pasts.digests() == before
    answers += e.decide_events(EVENTS[150:])
    assert said(answers) == {i: v for i, v in filed.items() if i in said(answers)}
    e.close()


def test_an_event_sent_again_is_answered_as_before_and_remembered_once(shop, filed, tmp_path):
    e = durable(shop, tmp_path)
    answers = [*e.decide_events(EVENTS[:200])]
    again = e.decide_events(EVENTS[120:200])
    assert said(again) == said(answers[120:200])
    answers += e.decide_events(EVENTS[200:])
    assert said(answers) == {i: v for i, v in filed.items() if i in said(answers)}
    e.close()
    twice = [*EVENTS[:200], *EVENTS[120:200], *EVENTS[200:]]
    (tmp_path / "twice.ndjson").write_text("".join(json.dumps(event) + "\n" for event in twice))
    assert scored(tmp_path / "twice.ndjson", shop / "net") == filed


@pytest.mark.parametrize(
    "known, mode",
    [
        ("nothing", "interpreted"),
        ("features", "interpreted"),
        ("features", "compiled"),
        ("another history", "interpreted"),
    ],
)
def test_a_network_deployed_on_a_longer_log_knows_what_came_before(shop, filed, tmp_path, known, mode):
    shutil.copytree(shop / "plain", tmp_path / "before")
    shutil.copytree(shop / "data/models", tmp_path / "data/models")
    if known == "another history":
        other = kept(tmp_path, "short", past=Past("terminal", ("amount",), (), 2, {}))
        registry.deploy(tmp_path / "data", other, tmp_path / "before", state="shadow")
    e = Engine(Rulebook(tmp_path / "before"), data=tmp_path / "data", mode=mode)
    e.decide_events(EVENTS[:120])
    if known != "nothing":
        e.close()  # with a snapshot
        e = Engine(Rulebook(tmp_path / "before"), data=tmp_path / "data", mode=mode)
    e.decide_events(EVENTS[120:200])
    change = Change(e, Rulebook(shop / "book"))
    change.warm()
    e.decide_events(EVENTS[200:220])  # while it is warmed
    assert (change._replay.whole > 0) == (known != "nothing"), (
        "windows come from the snapshot, the history from the log"
    )
    change.switch()
    answers = said(e.decide_events(EVENTS[220:]))
    assert len(answers) > 40 and answers == {i: filed[i] for i in answers}
    whole = engine(shop, seed=e.seed)
    whole.decide_events(EVENTS)
    assert e.state_hash() == whole.state_hash()
    e.close()


def test_other_rules_keep_what_the_network_remembers_and_taking_it_back_forgets_it(shop, filed, tmp_path):
    e = durable(shop, tmp_path)
    e.decide_events(EVENTS[:150])
    e.snapshot()
    before = e.models.pasts.digests()
    files = {
        **Rulebook(shop / "book").files,
        "rules/more.yaml": RULE.replace("id: risky", "id: more").replace("risk >= 1", "risk >= 2"),
    }
    for rulebook in (Rulebook.from_files(files), Rulebook(shop / "plain")):
        change = Change(e, rulebook)
        change.warm()
        change.switch()
        if rulebook.models:
            assert e.models.pasts.digests() == before
            answers = e.decide_events(EVENTS[150:200])
            assert said(answers) == {i: filed[i] for i in said(answers)} and any(
                "more" in d.reasons for d in answers if d
            )
    assert not e.models.pasts and e.decide_events(EVENTS[200:])[-1].score is None
    e.close()
    with durable(shop, tmp_path, "plain") as again:
        assert again.state_hash() == e.state_hash()


def test_a_standby_remembers_the_same_and_takes_over(shop, filed, tmp_path):
    first = durable(shop, tmp_path)
    answers = [*first.decide_events(EVENTS[:100])]
    follower = Follower(tmp_path, "interpreted")
    follower.follow()
    answers += first.decide_events(EVENTS[100:150])
    assert said(answers) == {i: filed[i] for i in said(answers)}
    first.journal.release()
    while follower.follow():
        pass
    assert follower.engine.state_hash() == first.state_hash() and follower.take_over()
    follower.engine.decide_events(EVENTS[150:])
    whole = engine(shop, seed=first.seed)
    whole.decide_events(EVENTS)
    assert follower.engine.models.pasts.digests() == whole.models.pasts.digests()
    follower.engine.close()


def test_models_that_remember_the_same_share_one_history_and_a_challenger_is_scored_beside(shop, filed, tmp_path):
    shutil.copytree(shop / "book", tmp_path / "book")
    shutil.copytree(shop / "data", tmp_path / "data")
    kept(tmp_path, "twin", share=0.4)
    kept(tmp_path, "short", past=Past("terminal", ("amount",), (), 2, {}))
    registry.deploy(tmp_path / "data", tmp_path / "twin", tmp_path / "book", state="champion", percent=40)
    registry.deploy(tmp_path / "data", tmp_path / "short", tmp_path / "book", state="shadow")
    e = engine(tmp_path)
    assert len(e.models.pasts.by_meaning) == 2
    answers = [d for d in e.decide_events(EVENTS) if d]
    for name in ("net", "twin", "short"):
        wanted = filed if name == "net" else scored(shop / "events.ndjson", tmp_path / name)
        assert {d.event_id: d.scores[name] for d in answers} == {d.event_id: wanted[d.event_id][0] for d in answers}
    assert {d.model for d in answers} == {"net", "twin"}
    told = {name: found for name, _, found in families(e.models)}
    assert set(told["shopward_model_history_bytes"]) == {'model="net"', 'model="twin"', 'model="short"'}
    assert told["shopward_model_asked"]['model="net"'] == len(answers)
    for _ in range(2):
        registry.rollback(tmp_path / "data", tmp_path / "book")
    assert Rulebook(tmp_path / "book").version == Rulebook(shop / "book").version


def test_a_network_without_a_share_decides_as_plain_trees_and_nothing_is_remembered(shop, tmp_path):
    shutil.copytree(shop / "plain", tmp_path / "book")
    kept(tmp_path, share=0.0)
    registry.deploy(tmp_path / "data", tmp_path / "net", tmp_path / "book", state="champion")
    e = engine(tmp_path)
    assert not e.models.pasts and "REMEMBER" not in source_of(e) and "REMEMBER" in source_of(engine(shop))
    answers = said(e.decide(event) for event in EVENTS)
    wanted = scored(shop / "events.ndjson", tmp_path / "net")
    assert answers == {i: wanted[i] for i in answers}


def test_a_changed_network_is_refused_when_it_is_deployed_and_when_it_is_started(shop, tmp_path):
    shutil.copytree(shop / "plain", tmp_path / "book")
    shutil.copytree(shop / "data", tmp_path / "data")
    model = kept(tmp_path)
    [there] = (tmp_path / "data/models/net").iterdir()
    for place in (model, there):
        body = bytearray((place / sequence.FILE).read_bytes())
        body[len(body) // 2] ^= 1
        (place / sequence.FILE).write_bytes(body)
    before = Rulebook(tmp_path / "book").version
    with pytest.raises(BadData, match=r"network.npz: the file was changed after training \(hash refused\)"):
        registry.deploy(tmp_path / "data", model, tmp_path / "book", state="shadow")
    assert Rulebook(tmp_path / "book").version == before
    with pytest.raises(BadData, match="hash refused"):
        Engine(Rulebook(shop / "book"), data=tmp_path / "data", mode="interpreted")


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("  items: number\n", "", "model `net` reads `items`, which the rulebook does not have"),
        (
            "  items: number\n",
            "  items: string\n",
            "model `net` reads the text `items` and does not say which texts it knows",
        ),
        ("  gift: bool\n", "  gift: {type: string, pii: true}\n", "model `net` reads `gift`, which is personal data"),
        ("terminal: {type: string, entity: terminal}", "terminal: string", "its role `terminal` is none here"),
    ],
)
def test_a_rulebook_whose_events_lack_what_is_remembered_is_left_as_it_is(shop, tmp_path, old, new, message):
    shutil.copytree(shop / "plain", tmp_path / "book")
    assert old in SCHEMA
    (tmp_path / "book/schema.yaml").write_text(SCHEMA.replace(old, new))
    before = Rulebook(tmp_path / "book").version
    with pytest.raises(UsageError, match=message):
        registry.deploy(tmp_path / "data", shop / "net", tmp_path / "book", state="champion")
    assert Rulebook(tmp_path / "book").version == before


def test_arrays_that_do_not_fit_are_refused_before_they_are_used(tmp_path):
    net = drawn_network()
    for name, wrong in (("weight_ih", net.arrays["weight_ih"][:, :-1]), ("bias_1", np.zeros(3, np.float32))):
        body = sequence.to_bytes(sequence.Net({**net.arrays, name: wrong}, net.texts))
        with pytest.raises(BadData, match=f"`{name}` has the shape"):
            sequence.from_bytes(body, net.texts)
    lacking = {name: x for name, x in net.arrays.items() if name != "step_mean"}
    with pytest.raises(BadData, match="without step_mean"):
        sequence.from_bytes(sequence.to_bytes(sequence.Net(lacking, net.texts)), net.texts)
    with pytest.raises(BadData, match="reads 3 features and 8 values"):
        net.raw(np.zeros((2, 2)), np.zeros((2, 5, 8), np.float32))


def test_a_row_has_the_same_bits_in_every_block():
    rng, net = np.random.default_rng(8), drawn_network()
    rows = rng.normal(size=(700, 3)) * 50
    past = (rng.normal(size=(700, 17, 8)) * 9).astype(np.float32)
    past[:, :, 5:7] = rng.integers(-1, 3, (700, 17, 2))
    past[rng.random((700, 17)) < 0.3] = np.nan
    rows[rng.random(rows.shape) < 0.1] = np.nan
    whole = net.raw(rows, past)
    for size in (1, 3, 64, 255):
        parts = [net.raw(np.asfortranarray(rows[i : i + size]), past[i : i + size]) for i in range(0, 700, size)]
        assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_the_kernels_tanh_is_one_to_single_precision():
    x = np.concatenate([np.linspace(-25, 25, 4001), np.geomspace(1e-30, 1e30, 400)]).astype(np.float32)
    x = np.concatenate([x, -x, np.array([0, np.inf, -np.inf], np.float32)])
    found = np.array([sequence._tanh(value) for value in x])
    np.testing.assert_allclose(found, np.tanh(x.astype(np.float64)), rtol=0, atol=6e-8)
    assert np.isnan(sequence._tanh(np.float32(np.nan)))


def test_who_is_forgotten_follows_from_the_order_of_events_alone(monkeypatch):
    monkeypatch.setattr("shopward.models.history.MOST_ENTITIES", 20)
    rng = np.random.default_rng(6)
    n = 2000
    keys, ts = rng.zipf(1.3, n) % 200, np.cumsum(rng.integers(0, 3, n)) * 1000
    values, roles = rng.normal(size=(n, 2)), rng.integers(0, 3, (n, 1))
    values[rng.random((n, 2)) < 0.2] = np.nan
    whole = History(3, 2, 1)
    seen = whole.take(keys, ts, values, roles, np.ones(n, bool))
    for size in (1, 7, 450):
        rings = History(3, 2, 1)
        parts = [rings.take(*(x[i : i + size] for x in (keys, ts, values, roles)), np.ones(len(keys[i : i + size]), bool)) for i in range(0, n, size)]  # fmt: skip
        np.testing.assert_array_equal(np.concatenate(parts), seen)
        assert {k: v.tobytes() for k, v in rings.parts().items()} == {k: v.tobytes() for k, v in whole.parts().items()}
    assert len(whole.slots) <= 20
    half = History(3, 2, 1)
    half.take(keys[:900], ts[:900], values[:900], roles[:900], np.ones(900, bool))
    after = History(3, 2, 1)
    after.fill(half.parts())
    rest = [x[900:] for x in (keys, ts, values, roles)]
    np.testing.assert_array_equal(after.take(*rest, np.ones(n - 900, bool)), seen[900:])


def test_wide_events_leave_room_for_fewer_entities(monkeypatch):
    monkeypatch.setattr("shopward.models.history.ROOM", 1 << 20)
    rings = History(16, 40, 8)
    assert rings.most == (1 << 20) // (140 + 8 + 16 * (8 + 160 + 64))
    n = 5 * rings.most
    rings.take(np.arange(1, n + 1), np.arange(n), np.zeros((n, 40)), np.zeros((n, 8), np.int64), np.zeros(n, bool))
    assert len(rings.slots) <= rings.most


def test_the_features_of_a_folder_with_a_deployed_network_can_be_asked_for(shop, tmp_path):
    with durable(shop, tmp_path / "data") as e:
        answers = e.decide_events(EVENTS[:60])
    assert features_data(tmp_path / "data", out=tmp_path / "features.csv").events == len(said(answers))


def test_spark_refuses_with_the_reason(shop, tmp_path):
    shutil.copytree(shop / "book", tmp_path / "book")
    shutil.copytree(shop / "data/models/net", tmp_path / "book/net")
    with pytest.raises(NotYet, match="model `net` reads the last events of the card.*--engine native"):
        decide_files([shop / "events.ndjson"], Rulebook(tmp_path / "book"), out=tmp_path / "out.csv", engine="spark")
    assert not (tmp_path / "out.csv").exists()
