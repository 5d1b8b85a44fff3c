"""A model's way into decisions, on a marketplace with attackers: trained, audited, in the shadow, for some, for all, and taken back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import shopward
from shopward import Engine, Rulebook
from shopward.cli.model import model
from shopward.market import generate
from shopward.models import folder
from shopward.models.audit import refused

pytest.importorskip("lightgbm", reason="needs the ml extra")
pytestmark = pytest.mark.slow
SHIPPED = Path(shopward.__file__).parent / "rulebooks" / "marketplace"
FEATURES = """
account_logins_1d: {entity: account, measure: count, over: 1d, where: type == "login"}
account_payments_7d: {entity: account, measure: count, over: 7d, where: type == "payment"}
device_accounts_7d: {entity: device, measure: distinct(account), over: 7d}
device_count_1h: {entity: device, measure: count, over: 1h}
account_since_first: {entity: account, measure: since_first, over: 90d}
ip_accounts_1d: {entity: ip, measure: distinct(account), over: 1d}
account_near_7d: {graph: [device, ip], entity: account, measure: neighbours, over: 7d}
account_near_payments_7d: {graph: device, entity: account, measure: mean(account_payments_7d), over: 7d}
account_near_fraud_share_7d: {graph: [device, ip], entity: account, measure: fraud_share, over: 7d, hub: 10}
"""
RISKY = """
id: risky
title: The model says so
on: [order, payment, login, register, password_reset]
when: risk >= 950
then: review
tests: [{name: none, events: [{type: login, ts: 0, account: a}], scores: {market: 0.0}, expect: {fires: false}}]
"""


def run(*args: object) -> dict:
    done = CliRunner().invoke(model, [*map(str, args), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout.splitlines()[-1])


def decided(book: Path, data: Path, events: Path, labels: Path) -> dict:
    """Decisions by event id, in a pure run over the files, with models from the registry."""
    rulebook = Rulebook(book)
    scorers = {name: folder.read_model(data / "models" / use.source) for name, use in rulebook.models.items()}
    engine = Engine(rulebook, mode="interpreted", models=scorers)
    return {d.event_id: d for batch in engine.read([events], labels=labels) for d in engine.decide_batch(batch)}


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """Every step of a deployment on one market; what was decided after each."""
    root = tmp_path_factory.mktemp("deployment")
    generate(root / "market", seed=11, days=8, accounts=400, access_log=False)
    events, labels = root / "market/events.ndjson", root / "market/truth/event_labels.parquet"
    book, data = root / "book", root / "data"
    shutil.copytree(SHIPPED, book, ignore=shutil.ignore_patterns("rules", "features"))
    (book / "features").mkdir()
    (book / "rules").mkdir()
    (book / "features/own.yaml").write_text(FEATURES)
    untouched = {p.relative_to(book): p.read_bytes() for p in book.rglob("*") if p.is_file()}
    trained = run("train", "--events", events, "--labels", labels, "--rulebook", book, "--features", "given", "--out", root / "market_model")  # fmt: skip
    found = {"plain": decided(book, data, events, labels)}
    for step, options in {"shadow": ["--shadow"], "some": ["--percent", "30"], "champion": ["--champion"]}.items():
        run("deploy", root / "market_model", "--data", data, "--rulebook", book, *options)
        if step == "champion":
            (book / "rules/risky.yaml").write_text(RISKY.replace("market:", "market_model:"))
        found[step] = decided(book, data, events, labels)
    run("score", "--events", events, "--labels", labels, "--model", root / "market_model", "--out", root / "scores.parquet")  # fmt: skip
    filed = pq.read_table(root / "scores.parquet").to_pydict()
    (book / "rules/risky.yaml").unlink()
    for _ in range(3):
        run("rollback", "--data", data, "--rulebook", book)
    after = {p.relative_to(book): p.read_bytes() for p in book.rglob("*") if p.is_file()}
    return {"trained": trained, "found": found, "filed": filed, "before": untouched, "after": after}


def test_training_on_a_market_takes_silence_for_honesty(story):
    trained = story["trained"]
    assert any("stand for legitimate ones" in note for note in trained["notes"])
    assert trained["training"]["rows"] > 1000
    assert not refused(trained["audit"])  # a wave of one week may be told as an artefact of time, which is a warning


def test_a_shadow_model_is_kept_beside_the_decision_and_changes_nothing(story):
    plain, shadow = story["found"]["plain"], story["found"]["shadow"]
    assert [d.action for d in shadow.values()] == [d.action for d in plain.values()]
    assert all(d.score is None for d in shadow.values())
    asked = [d for d in shadow.values() if d.scores and d.scores["market_model"] is not None]
    assert len(asked) > 1000


def test_a_percent_of_accounts_gets_the_champion_and_always_the_same(story):
    some, champion = story["found"]["some"], story["found"]["champion"]
    asked = [i for i, d in champion.items() if d.score is not None]
    share = np.mean([some[i].score is not None for i in asked])
    assert 0.15 < share < 0.5
    assert all(some[i].score in (None, champion[i].score) for i in asked)


def test_decisions_score_with_the_same_bits_as_files(story):
    champion, filed = story["found"]["champion"], story["filed"]
    by_id = dict(zip(filed["event_id"], zip(filed["score"], filed["risk"], strict=True), strict=True))
    asked = {i: d for i, d in champion.items() if d.score is not None}
    assert len(asked) > 1000
    assert all(by_id[i] == (d.score, d.risk) for i, d in asked.items())


def says(evidence):
    """Whether it tells what its feature was."""
    return any(f": {evidence.feature} {word} " in f"{evidence.what} " for word in ("=", "is missing"))


def test_a_rule_that_listened_to_the_model_tells_its_reasons(story):
    reviewed = [d for d in story["found"]["champion"].values() if d.action == "review"]
    assert reviewed and all(d.risk >= 950 and d.reasons == ("risky",) for d in reviewed)
    model = [e for e in reviewed[0].evidence if e.source.startswith("model:")]
    assert model and all(e.feature and says(e) for e in model)


def test_rolling_back_leaves_the_rulebook_as_it_was(story):
    assert story["after"] == story["before"]
