"""A network beside trees: it finds what only the order of events tells, sees nothing of the future, and does no harm elsewhere."""

from __future__ import annotations

import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shopward import Engine, Rulebook
from shopward.errors import BadData, MissingExtra, UsageError
from shopward.metrics import average_precision
from shopward.models import flows, folder, loading, registry, sequence
from shopward.models.dataset import read_examples
from shopward.models.history import History, Past
from shopward.models.training import Settings, train
from tests.models import shops

pytest.importorskip("lightgbm", reason="needs the ml extra")
UNTIL = shops.START + 30 * shops.DAY


def engine(book: Rulebook) -> Engine:
    return Engine(book, mode="interpreted")


def write_steps(where, seed: int = 1, n: int = 4500, cards: int = 60):
    """Cards pay 10, 20 or 30 at random; fraud follows 10, 20, 30 in this order. How often and how much tell nothing."""
    rng = np.random.default_rng(seed)
    ts = shops.START + np.sort(rng.choice(40 * shops.DAY, n, replace=False))
    card, step = rng.integers(0, cards, n), rng.integers(1, 4, n)
    fraud, last = np.zeros(n, int), {}
    for i in range(n):
        before = last.setdefault(card[i], [])
        fraud[i] = before[-3:] == [1, 2, 3] and rng.random() < 0.9
        before.append(step[i])
    ids = [f"p{i}" for i in range(n)]
    events = {"event_id": ids, "ts": ts, "type": ["payment"] * n, "card": [f"c{i}" for i in card],
              "terminal": [f"t{i % 5}" for i in range(n)], "amount": 10.0 * step, "country": ["de"] * n}  # fmt: skip
    pq.write_table(pa.table(events), where / "events.parquet")
    labels = {"event_id": ids, "label": fraud, "label_ts": ts + shops.DAY}
    pq.write_table(pa.table(labels), where / "labels.parquet")
    return where / "events.parquet", where / "labels.parquet", fraud, ts


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    pytest.importorskip("torch", reason="needs the deep extra")
    root = tmp_path_factory.mktemp("steps")
    events, labels, fraud, ts = write_steps(root)
    book = shops.rulebook(root / "book")
    run = flows.EventRun((events,), labels, UNTIL, shops.DAY, generate=False)
    done = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequence, "BATCH", 128)  # a short lesson is enough here
        patch.setattr(sequence, "EPOCHS", (4, 14))
        for kind in ("forest", "sequence"):
            done[kind] = flows.train_events(run, Rulebook(book), engine, root / kind, Settings(kind=kind, trees=40))
    return root, events, labels, book, done, fraud, ts


def scores(events, labels, model, since):
    tables = list(flows.score_events([events], labels, model, engine, since=since))
    return {
        i: s for t in tables for i, s in zip(t["event_id"].to_pylist(), t["score"].to_pylist(), strict=True)
    }, tables


def test_what_only_the_order_tells_is_found_out_of_time(steps):
    _, events, labels, _, done, fraud, ts = steps
    since = UNTIL + shops.DAY
    truth, found = fraud[ts >= since] == 1, {}
    for kind in done:
        said, _ = scores(events, labels, done[kind].folder, since)
        found[kind] = average_precision(truth, np.array(list(said.values())))
    assert found["forest"] < 0.2 and found["sequence"] > 0.6
    assert done["sequence"].meta["sequence"]["share"] > 0 and done["sequence"].meta["sequence"]["entity"] == "card"
    assert any("last 16 events of the card: share" in note for note in done["sequence"].meta["notes"])


def test_scores_do_not_depend_on_what_came_later(steps, tmp_path):
    _, events, labels, _, done, _, ts = steps
    since, end = UNTIL + shops.DAY, UNTIL + 3 * shops.DAY
    cut = pq.read_table(events).filter(pa.array(ts < end))
    pq.write_table(cut, tmp_path / "events.parquet")
    whole, _ = scores(events, labels, done["sequence"].folder, since)
    part, _ = scores(tmp_path / "events.parquet", labels, done["sequence"].folder, since)
    assert len(part) > 200
    np.testing.assert_allclose([part[i] for i in part], [whole[i] for i in part], rtol=1e-4)


def test_a_changed_network_is_refused(steps, tmp_path):
    import shutil

    shutil.copytree(steps[4]["sequence"].folder, tmp_path / "copy")
    file = tmp_path / "copy" / sequence.FILE
    body = bytearray(file.read_bytes())
    body[len(body) // 2] ^= 1
    file.write_bytes(body)
    with pytest.raises(BadData, match="hash refused"):
        folder.read_model(tmp_path / "copy")
    for wrong in (b"", b"no arrays", np.arange(3).tobytes()):
        with pytest.raises(BadData, match="not the arrays"):
            sequence.from_bytes(wrong, ())


def test_what_was_trained_decides_live_with_the_bits_of_files(steps, tmp_path):
    _, events, labels, _, done, *_ = steps
    book = shops.rulebook(tmp_path / "book")
    registry.deploy(tmp_path / "data", done["sequence"].folder, book, state="champion")
    rulebook = Rulebook(book)
    scorers = {name: loading.load(tmp_path / "data/models" / use.source) for name, use in rulebook.models.items()}
    live = Engine(rulebook, mode="interpreted", models=scorers)
    decided = [d for batch in live.read([events], labels=labels, size=777) for d in live.decide_batch(batch)]
    filed, _ = scores(events, labels, done["sequence"].folder, None)
    assert {d.event_id: d.score for d in decided} == filed


def test_the_history_stands_among_the_reasons(steps):
    _, events, labels, book, done, fraud, ts = steps
    scorer = folder.read_model(done["sequence"].folder)
    rows = np.flatnonzero((fraud == 1) & (ts > UNTIL))[:1]
    one = read_examples(
        engine(Rulebook(book)), [events], labels, scorer.features, rows=rows, texts=scorer.categories, history=scorer.past
    )  # fmt: skip
    reason = scorer.explain(one.matrix[0], one.past[0])[0]
    assert reason.feature == "card_history" and reason.contribution > 1 and "events of the card" in reason.what


def test_drift_is_watched_as_of_any_model(steps):
    _, events, labels, _, done, *_ = steps
    found = flows.monitor_events(
        [events], labels, done["sequence"].folder, engine, since=UNTIL, against=done["forest"].folder
    )
    assert found["events"] > 1000 and found["paired"]["difference"] < 0


# --- what it is made of


def test_torch_and_what_is_served_say_the_same():
    th = pytest.importorskip("torch", reason="needs the deep extra")
    rng = np.random.default_rng(1)
    past, rows = rng.normal(size=(300, 5, 4)).astype(np.float32), rng.normal(size=(300, 3))
    past[rng.random((300, 5)) < 0.3] = np.nan
    net = sequence.fit_net(rows, past, rng.random(300) < 0.3, np.ones(300), ())
    a = {k: th.from_numpy(v) for k, v in net.arrays.items()}
    gru = th.nn.GRU(5, sequence.HIDDEN, batch_first=True)
    gru.load_state_dict({f"{k}_l0": a[k] for k in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")})
    h = gru(th.from_numpy(sequence.steps_of(past, net.arrays, ())))[1][0]
    middle = th.relu(th.cat([h, th.from_numpy(sequence.rows_of(rows, net.arrays))], 1) @ a["weight_1"].T + a["bias_1"])
    wanted = (middle @ a["weight_2"].T + a["bias_2"])[:, 0].detach().numpy()
    np.testing.assert_allclose(net.raw(rows, past), wanted, atol=1e-4)
    kept = sequence.from_bytes(sequence.to_bytes(net), ())
    assert (kept.raw(rows, past) == net.raw(rows, past)).all()


def test_the_same_seed_gives_the_same_bytes(monkeypatch):
    pytest.importorskip("torch", reason="needs the deep extra")
    monkeypatch.setattr(sequence, "EPOCHS", (2, 3))
    rng = np.random.default_rng(5)
    past, rows, fraud = (
        rng.normal(size=(900, 5, 4)).astype(np.float32),
        rng.normal(size=(900, 3)),
        rng.random(900) < 0.3,
    )
    past[:, :, 2] = rng.integers(-1, 30, (900, 5))
    kept = [sequence.to_bytes(sequence.fit_net(rows, past, fraud, np.ones(900), [2], seed=s)) for s in (7, 7, 8)]
    assert kept[0] == kept[1] != kept[2]


def test_a_ring_shows_the_latest_strictly_earlier_events_in_batches_of_any_size():
    rng = np.random.default_rng(2)
    n, k = 400, 3
    keys, ts = rng.integers(0, 5, n), np.sort(rng.integers(0, 150, n)) * 1000
    values, role = np.arange(n, dtype=float)[:, None], rng.integers(1, 3, (n, 1))
    whole = History(k, 1, 1).take(keys, ts, values, role, np.ones(n, bool))
    for i in range(n):
        held = [j for j in range(i) if keys[j] == keys[i] != 0][-k:]
        seen = [j for j in held if ts[j] < ts[i]]
        shown = whole[i][~np.isnan(whole[i, :, 0])]
        assert shown[:, 2].tolist() == [*map(float, seen), float(i)]
        assert shown[:-1, 3].tolist() == [float(role[j, 0] == role[i, 0]) for j in seen]
        np.testing.assert_allclose(shown[:-1, 0], [np.log1p((ts[i] - ts[j]) / 1000) for j in seen], rtol=1e-6)
    rings, parts = History(k, 1, 1), []
    for lo in range(0, n, 37):
        at = slice(lo, lo + 37)
        parts.append(rings.take(keys[at], ts[at], values[at], role[at], np.ones(len(keys[at]), bool)))
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_memory_is_bounded_and_those_not_seen_for_longest_are_forgotten(monkeypatch):
    monkeypatch.setattr("shopward.models.history.MOST_ENTITIES", 100)
    rings = History(2, 1, 0)
    none, one = np.empty((1, 0), np.int64), np.ones(1, bool)
    for i in range(1, 1001):
        rings.take(np.array([i]), np.array([i * 1000]), np.array([[float(i)]]), none, one)
    assert len(rings.slots) <= 100 and len(rings.count) <= 1024
    last = rings.take(np.array([1000]), np.array([2_000_000]), np.array([[0.0]]), none, one)
    first = rings.take(np.array([1]), np.array([2_000_000]), np.array([[0.0]]), none, one)
    assert last[0, 1, 2] == 1000.0 and np.isnan(first[0, 1, 2])


def test_a_network_that_does_not_help_gets_no_say():
    rng = np.random.default_rng(4)
    fraud, ts, one = rng.random(4000) < 0.1, np.arange(4000), np.ones(4000)
    trees_say = fraud * 3.0 + rng.normal(size=4000)
    share, tried = sequence.chosen_share(fraud, one, ts, trees_say, rng.normal(size=4000) * 3)
    assert share == 0.0 and set(tried) == {"0", *(f"{s:g}" for s in sequence.SHARES)}
    half = np.where(ts < 2000, fraud * 6.0, -6.0 * fraud)  # right once, wrong later
    assert sequence.chosen_share(fraud, one, ts, trees_say, half)[0] == 0.0
    assert sequence.chosen_share(fraud, one, ts, trees_say, fraud * 2 + rng.normal(size=4000))[0] > 0


def test_without_torch_the_line_that_installs_it_is_said(tmp_path, monkeypatch):
    events, labels, *_ = write_steps(tmp_path, n=600)
    monkeypatch.setitem(sys.modules, "torch", None)
    run = flows.EventRun((events,), labels, generate=False)
    with pytest.raises(MissingExtra, match=r"pip install 'shopward\[deep\]'") as error:
        book = Rulebook(shops.rulebook(tmp_path / "book"))
        flows.train_events(run, book, engine, tmp_path / "m", Settings(kind="sequence"))
    assert error.value.exit_code == 4


def test_histories_need_events_and_a_role_of_the_schema(tmp_path):
    events, labels, *_ = write_steps(tmp_path, n=600)
    book, run = Rulebook(shops.rulebook(tmp_path / "book")), flows.EventRun((events,), labels, generate=False)
    with pytest.raises(UsageError, match="--history ring: name a role"):
        flows.train_events(run, book, engine, tmp_path / "m", Settings(kind="sequence", history="ring"))
    plain = read_examples(engine(book), [events], labels, ["amount"])
    with pytest.raises(UsageError, match="train it on --events"):
        train(plain, "m", Settings(kind="sequence"))
    seen = read_examples(engine(book), [events], labels, ["amount"], history=Past("card", ("amount",), ("terminal",)))
    assert seen.past.shape == (600, 17, 4) and seen.take(np.arange(5)).past.shape == (5, 17, 4)
