"""Rules out of labels: what was planted is found, what is reported is true, and the drafts test themselves."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from shopward import Rulebook, metrics
from shopward.backtest import judge, replay
from shopward.backtest.draft import drafts
from shopward.backtest.mine import mine
from shopward.cli import cli
from shopward.errors import BadData
from shopward.rules_test import run_tests
from tests.backtest import shop

FEW = {"big": shop.RULES["big"], "friend": shop.RULES["friend"]}  # the shared devices go unseen


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return shop.history(tmp_path_factory.mktemp("mine"), n=6000)


@pytest.fixture(scope="module")
def mined(paths):
    return mine([paths[0]], shop.rulebook(FEW), labels=paths[1], then="deny", most=3)


def test_the_planted_ring_is_found(mined):
    assert mined.found and mined.found[0].type == "payment"
    names = {c.name for m in mined.found for c in m.conditions}
    assert "device_accounts_7d" in names


def test_a_rule_has_at_most_three_conditions_and_reads_like_one_written_by_hand(mined):
    for m in mined.found:
        assert 1 <= len(m.conditions) <= 3
        assert m.when == " and ".join(c.text for c in m.conditions)


def test_what_is_reported_for_the_unseen_days_is_what_a_replay_with_the_rule_adds(mined, paths):
    first = mined.found[0]
    rules = FEW | {"mined_1": f"on: [{first.type}]\nwhen: {first.when}\nthen: deny"}
    before, after = (replay([paths[0]], shop.rulebook(r), labels=paths[1]) for r in (FEW, rules))
    judged = judge(before)
    late = judged.day >= mined.parts[1]
    rows = judged.rows[late]
    saved = [
        metrics.net_saving(h.action[rows], judged.fraud[late], judged.amount[late], h.policy) for h in (before, after)
    ]
    assert first.held_out["net_saving"] == pytest.approx(saved[1] - saved[0])
    bit = next(i for i, r in enumerate(after.rules) if r.id == "mined_1")
    fired = (after.hits[rows, 0] >> np.uint64(bit) & np.uint64(1)).astype(bool)
    assert first.held_out["fired"] == fired.sum()
    assert first.held_out["precision"] == pytest.approx(judged.fraud[late][fired].mean())


def test_the_second_rule_is_worth_what_it_adds_to_the_first(mined, paths):
    assert len(mined.found) >= 2
    rules = {f"mined_{i}": f"on: [{m.type}]\nwhen: {m.when}\nthen: deny" for i, m in enumerate(mined.found[:2], 1)}
    one, two = (replay([paths[0]], shop.rulebook(FEW | dict(list(rules.items())[:n])), labels=paths[1]) for n in (1, 2))
    judged = judge(one)
    late = judged.day >= mined.parts[1]
    rows = judged.rows[late]
    saved = [metrics.net_saving(h.action[rows], judged.fraud[late], judged.amount[late], h.policy) for h in (one, two)]
    assert mined.found[1].held_out["net_saving"] == pytest.approx(saved[1] - saved[0])


def test_drafts_check_and_their_tests_pass_and_no_real_name_is_in_them(mined, paths):
    book = shop.rulebook(FEW)
    texts = drafts(mined, [paths[0]], book, labels=paths[1])
    whole = Rulebook.from_files(book.files | texts)
    keys = {r[k] for r in map(json.loads, paths[0].read_text().splitlines()) for k in ("account", "device", "email")}
    for m in mined.found:
        rule = whole.rules[m.id]
        assert rule.state == "draft" and any(t.expect == {"fires": True} for t in rule.tests)
        results = list(run_tests(whole, (m.id,)))
        assert results and all(r.passed for r in results)
        told = {str(v) for t in rule.tests for e in t.events for v in e.values()}
        assert not told & keys


def test_where_there_is_no_pattern_no_rule_is_made_up(tmp_path):
    rng = np.random.default_rng(9)
    events, labels = [], []
    for i in range(3000):
        ts = shop.START + i * 20 * shop.DAY // 3000
        events.append({"event_id": f"e{i}", "ts": ts, "type": "payment", "account": f"a{rng.integers(900)}", "device": f"d{rng.integers(900)}",
                       "country": "DE", "amount": round(float(rng.uniform(10, 60)), 2)})  # fmt: skip
        labels.append({"event_id": f"e{i}", "label": int(rng.random() < 0.02), "label_ts": ts + shop.DAY})
    shop.write(
        tmp_path,
        {"events.ndjson": "\n".join(map(json.dumps, events)), "labels.ndjson": "\n".join(map(json.dumps, labels))},
    )
    policy = shop.POLICY.replace("label_maturity: 10d", "label_maturity: 1d")
    assert mine([tmp_path / "events.ndjson"], shop.rulebook(FEW, policy), labels=tmp_path / "labels.ndjson").found == []


def test_too_little_to_learn_from_is_said(tmp_path, paths):
    few = tmp_path / "few.ndjson"
    few.write_text("\n".join(paths[1].read_text().splitlines()[:3]))
    with pytest.raises(BadData, match="no event type has 12 frauds of any value"):
        mine([paths[0]], shop.rulebook(FEW), labels=few)


def test_the_command_line_writes_drafts_that_pass_rules_test(tmp_path, paths):
    book = shop.write(tmp_path / "book", shop.files(FEW))
    args = [
        "rules",
        "mine",
        str(paths[0]),
        "--labels",
        str(paths[1]),
        "--rulebook",
        str(book),
        "--then",
        "deny",
        "--most",
        "1",
    ]
    result = CliRunner().invoke(cli, [*args, "--out", str(book), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["rules"]
    assert (book / found[0]["file"]).read_text() == found[0]["yaml"]
    assert CliRunner().invoke(cli, ["rules", "check", str(book)]).exit_code == 0
    assert "0 failed" in CliRunner().invoke(cli, ["rules", "test", str(book)]).output
