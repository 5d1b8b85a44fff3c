"""Backtests as stories: what a rule is worth, what may be judged, and what would change."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from shopward import metrics
from shopward.backtest import judge, replay
from shopward.backtest.judge import label_file
from shopward.backtest.report import report
from shopward.backtest.run import Question, read_lists, run
from shopward.backtest.sweep import sweep
from shopward.backtest.worth import ALONE, MARGIN, margin_saving, worth
from shopward.cli import cli
from shopward.decide import Engine
from shopward.declare.types import ACTIONS
from shopward.errors import BadData, UsageError
from shopward.rules.act import strongest
from tests.backtest import shop


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("shop")


@pytest.fixture(scope="module")
def paths(place):
    return shop.history(place)


@pytest.fixture(scope="module")
def seen(paths):
    """The history replayed and judged once for all stories that only look."""
    events, labels = paths
    history = replay([events], shop.rulebook(), labels=labels, by=["country"])
    return history, judge(history, file=label_file(labels))


def _fired(history, row):
    bits = sum(int(w) << 64 * i for i, w in enumerate(history.hits[row]))
    return [r for b, r in enumerate(history.rules) if bits >> b & 1]


def test_a_replay_decides_as_the_engine_decides(seen, paths):
    history, _ = seen
    engine = Engine(shop.rulebook(), mode="interpreted")
    for row, line in enumerate(paths[0].read_text().splitlines()[:400]):
        decision = engine.decide(json.loads(line))
        assert ACTIONS[history.action[row]] == decision.action
        assert sorted(r.id for r in _fired(history, row) if r.state == "live") == sorted(decision.reasons)


def test_marginal_value_is_the_policy_with_the_rule_less_the_policy_without_it(seen):
    history, judged = seen
    found = worth(history, judged)
    policy = history.policy
    for i, rule in enumerate(history.rules):
        less = np.array(
            [
                ACTIONS.index(strongest(r for r in _fired(history, row) if r.state == "live" and r.id != rule.id))
                for row in judged.rows
            ]
        )
        whole = metrics.net_saving(history.action[judged.rows], judged.fraud, judged.amount, policy)
        gained = whole - metrics.net_saving(less, judged.fraud, judged.amount, policy)
        assert margin_saving(found.margin[i].sum(axis=0), policy) == pytest.approx(gained), rule.id
        assert found.margin[i, :, MARGIN.index("changed")].sum() == (less != history.action[judged.rows]).sum()


def test_rules_are_counted_and_overlap_as_a_person_would_count(seen):
    history, judged = seen
    found = worth(history, judged)
    fired = [{i for i, row in enumerate(judged.rows) if rule in _fired(history, row)} for rule in history.rules]
    for i in range(len(fired)):
        assert found.alone[i, :, ALONE.index("fired")].sum() == len(fired[i])
        assert found.alone[i, :, ALONE.index("fraud")].sum() == sum(judged.fraud[j] for j in fired[i])
        assert found.overlap[i].tolist() == [len(fired[i] & other) for other in fired]


def test_only_events_old_enough_are_judged_and_the_rest_is_counted(seen):
    history, judged = seen
    assert judged.maturity_from == "policy.yaml: label_maturity" and judged.maturity_ms == 10 * shop.DAY
    assert (history.ts[judged.rows] + 10 * shop.DAY <= judged.as_of).all()
    assert judged.counts["judged"] + judged.counts["unripe"] == judged.counts["events"] == len(history)
    assert judged.counts["unripe"] > 0


def test_judged_earlier_less_is_known(seen, paths):
    history, judged = seen
    half = shop.START + 20 * shop.DAY
    earlier = judge(history, as_of=half)
    assert (history.ts[earlier.rows] + 10 * shop.DAY <= half).all() and len(earlier.rows) < len(judged.rows)
    assert earlier.counts["labels_after_as_of"] > 0
    truth = {r["event_id"]: r for r in map(json.loads, paths[1].read_text().splitlines())}
    for row, fraud in zip(earlier.rows.tolist(), earlier.fraud.tolist(), strict=True):
        label = truth.get(f"e{row}")
        assert fraud == bool(label and label["label"] and label["label_ts"] <= half)


def test_the_last_word_on_an_event_stands(place, paths):
    _, labels = paths
    rows = [json.loads(line) for line in labels.read_text().splitlines()]
    wrong = next(r for r in rows if r["label"] == 1)
    later = wrong | {"label": 0, "label_ts": wrong["label_ts"] + shop.DAY}
    path = place / "corrected.ndjson"
    path.write_text("\n".join(map(json.dumps, [*rows, later])))
    history = replay([paths[0]], shop.rulebook(), labels=path)
    judged = judge(history, file=label_file(path))
    row = int(wrong["event_id"][1:])
    assert judged.verdict[row] == 0 and judged.counts["labels_replaced"] == 1


def test_labels_from_the_future_and_for_unknown_events_are_counted_not_used(place, paths):
    events, labels = paths
    path = place / "odd.ndjson"
    odd = [
        {"event_id": "nobody", "label": 1, "label_ts": shop.START + shop.DAY},
        {"event_id": "e1", "label": 1, "label_ts": "2199-01-01"},
        {"event_id": "e2000", "label": 0, "label_ts": shop.START - shop.DAY},
    ]
    path.write_text(labels.read_text() + "\n" + "\n".join(map(json.dumps, odd)))
    found = run(Question([events], shop.rulebook(), path)).found
    assert found["labels"]["labels_unknown_event"] == 1
    assert found["labels"]["labels_in_the_future"] == 1
    assert found["labels"]["labels_before_their_event"] == 1
    assert found["labels"]["as_of"] < "2027"


def test_without_labels_there_is_nothing_to_judge(paths, place):
    with pytest.raises(BadData, match="there are no labels"):
        run(Question([paths[0]], shop.rulebook()))
    strangers = place / "strangers.ndjson"
    strangers.write_text('{"event_id": "nobody", "label": 1, "label_ts": "2026-01-02"}')
    with pytest.raises(BadData, match="not one label can be used: 1 unknown event"):
        run(Question([paths[0]], shop.rulebook(), strangers))


def test_too_young_a_history_is_refused_with_the_reason(paths):
    with pytest.raises(BadData, match="no event is old enough to be judged: labels take 90 days"):
        run(Question([paths[0]], shop.rulebook(), paths[1], maturity_ms=90 * shop.DAY))


def test_maturity_is_measured_where_nobody_says_it(paths):
    book = shop.rulebook(policy=shop.POLICY.replace("label_maturity: 10d\n", ""))
    history = replay([paths[0]], book, labels=paths[1])
    judged = judge(history)
    assert judged.maturity_from.startswith("measured")
    rows = [json.loads(line) for line in paths[1].read_text().splitlines()]
    ages = [r["label_ts"] - history.ts[int(r["event_id"][1:])] for r in rows if r["label"]]
    assert judged.maturity_ms == pytest.approx(np.quantile(ages, 0.9), rel=1e-6)


def test_unlabelled_events_can_be_left_out(seen):
    history, judged = seen
    only = judge(history, unlabelled="skip")
    assert len(only.rows) == len(judged.rows) - judged.counts["unlabelled"]
    assert only.fraud.sum() == judged.fraud.sum()


def test_a_label_that_says_what_was_lost_counts_for_that(place, paths):
    rows = [json.loads(line) for line in paths[1].read_text().splitlines()]
    path = place / "worth.ndjson"
    path.write_text("\n".join(json.dumps(r | ({"amount": 7.0} if r["label"] else {})) for r in rows))
    history = replay([paths[0]], shop.rulebook(), labels=path)
    judged = judge(history, file=label_file(path))
    assert set(judged.amount[judged.fraud].tolist()) == {7.0}


def test_the_report_adds_up(seen):
    history, judged = seen
    found = report(history, judged)
    policy = found["policy"]
    assert policy["net_saving"] == pytest.approx(sum(d["net_saving"] for d in found["days"]))
    assert (
        policy["fraud"]
        == sum(t["fraud"] for t in found["types"])
        == sum(s["fraud"] for s in found["segments"]["country"])
    )
    assert {s["name"] for s in found["segments"]["country"]} == {"DE", "FR", "XX"}
    low, high = policy["intervals"]["net_saving"]
    assert low < policy["net_saving"] < high
    status = {r["id"]: r["status"] for r in found["rules"]}
    assert status["never"] == "dead" and status["watched"] == "shadow" and status["shared"] == "alive"
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_control_group_is_judged_by_what_would_have_happened(paths):
    book = shop.rulebook(policy=shop.POLICY + "control_percent: 20\n")
    history = replay([paths[0]], book, labels=paths[1])
    judged = judge(history)
    found = report(history, judged)
    mine = history.control[judged.rows]
    assert 0.1 < mine.mean() < 0.3
    expected = metrics.capture_by_value(
        history.action[judged.rows][mine], judged.fraud[mine], judged.amount[mine], history.policy
    )
    assert found["control"]["capture_by_value"] == pytest.approx(expected) and expected > 0
    assert "control group" in found["bias"]


def test_another_rulebook_event_by_event(paths):
    other = shop.RULES | {
        "big": "on: [payment]\nwhen: amount > 250\nthen: review",
        "shared": "on: [payment]\nwhen: device_accounts_7d >= 6\nthen: deny",
    }
    del other["spree"]
    answer = run(Question([paths[0]], shop.rulebook(), paths[1], shop.rulebook(other), "stricter"))
    against, changes = answer.found["against"], answer.changes.to_pylist()
    assert against["changed_actions"]["all_events"] == len(changes) > 0
    assert against["new_insults"] == sum(c["kind"] == "new insult" for c in changes)
    for c in changes:
        assert c["action_before"] != c["action_after"]
        assert strongest(shop.rulebook().rules[r] for r in c["rules_before"]) == c["action_before"]
        assert strongest(shop.rulebook(other).rules[r] for r in c["rules_after"]) == c["action_after"]
    alone = run(Question([paths[0]], shop.rulebook(other), paths[1])).found
    assert against["difference"]["net_saving"]["after"] == pytest.approx(alone["policy"]["net_saving"])
    assert {r["id"]: r["state"] for r in against["rules"]}["spree"] == "removed"


def test_the_same_rulebook_changes_nothing(paths):
    answer = run(Question([paths[0]], shop.rulebook(), paths[1], shop.rulebook(), "itself"))
    assert answer.changes.num_rows == 0
    assert answer.found["against"]["difference"]["net_saving"]["change"] == 0


def test_two_schemas_that_refuse_different_events_are_compared_on_what_both_read(paths):
    texts = shop.files()
    texts["schema.yaml"] = texts["schema.yaml"].replace("types: [payment, login]", "types: [payment]")
    from shopward import Rulebook

    answer = run(Question([paths[0]], shop.rulebook(), paths[1], Rulebook.from_files(texts), "payments only"))
    assert answer.found["notes"]["events that only this rulebook could read"] > 0
    assert [t["name"] for t in answer.found["types"]] == ["payment"]


def test_leaving_a_rule_out_is_its_marginal_value_when_it_writes_no_list(paths):
    found = run(Question([paths[0]], shop.rulebook(), paths[1], leave_out="shared")).found
    marginal = next(r for r in found["rules"] if r["id"] == "shared")["marginal_net_saving"]
    assert found["against"]["difference"]["net_saving"]["change"] == pytest.approx(-marginal)
    with pytest.raises(UsageError, match="no rule `shard`.*shared"):
        run(Question([paths[0]], shop.rulebook(), paths[1], leave_out="shard"))


def test_what_if_these_accounts_had_been_listed_from_the_tenth_day(place, paths):
    path = place / "lists.csv"
    path.write_text("list,key,valid_from,provenance\nblocked,a7,2026-01-11,kim\nblocked,a9,2026-01-11,kim\n")
    answer = run(Question([paths[0]], shop.rulebook(), paths[1], lists=read_lists(path)))
    for change in answer.changes.to_pylist():
        assert "frozen" in change["rules_after"] and change["ts"].strftime("%Y-%m-%d") >= "2026-01-11"
    assert answer.changes.num_rows > 0
    path.write_text("list,key\nbloked,a7\n")
    with pytest.raises(Exception, match="there is no list `bloked`; did you mean `blocked`"):
        run(Question([paths[0]], shop.rulebook(), paths[1], lists=read_lists(path)))


def test_a_sweep_says_what_a_replay_with_that_threshold_says(seen, paths):
    history, judged = seen
    found = sweep([paths[0]], shop.rulebook(), history, judged, labels=paths[1])
    conditions = {(c["rule"], c["condition"]) for c in found["curves"]}
    assert {
        ("big", "amount > 400"),
        ("shared", "device_accounts_7d >= 4"),
        ("shared", "amount > 50"),
        ("spree", "account_spend_1d > 600"),
    } <= conditions
    for curve in found["curves"]:
        if curve["condition"] not in ("amount > 50", "device_accounts_7d >= 4"):
            continue
        point = curve["points"][len(curve["points"]) // 3]
        new = curve["condition"].rsplit(" ", 1)[0] + f" {point['threshold']:g}"
        rules = shop.RULES | {curve["rule"]: shop.RULES[curve["rule"]].replace(curve["condition"], new)}
        again = replay([paths[0]], shop.rulebook(rules), labels=paths[1])
        real = report(again, judged)["policy"]
        assert point["net_saving"] == pytest.approx(real["net_saving"]), curve["condition"]
        assert point["insult_rate"] == pytest.approx(real["insult_rate"])


def test_the_best_thresholds_are_as_good_as_they_say_and_keep_to_the_review_capacity(seen, paths):
    history, judged = seen
    found = sweep([paths[0]], shop.rulebook(), history, judged, labels=paths[1])
    best = found["best"]
    assert best["changes"] and best["searched"]["best"] > best["searched"]["now"]
    assert best["searched"]["reviews_per_day"] <= history.policy.review_capacity_per_day
    rules = dict(shop.RULES)
    for change in best["changes"]:
        at = rules[change["rule"]].index("when: ") + 6
        end = rules[change["rule"]].index("\n", at)
        rules[change["rule"]] = rules[change["rule"]][:at] + change["when"] + rules[change["rule"]][end:]
    again = replay([paths[0]], shop.rulebook(rules), labels=paths[1])
    late = np.array([d >= int(np.datetime64(found["split_day"]).astype(int)) for d in judged.day])
    rows = judged.rows[late]
    real = metrics.net_saving(again.action[rows], judged.fraud[late], judged.amount[late], history.policy)
    assert best["held_out"]["best"] == pytest.approx(real)


def test_personal_data_makes_no_segments(paths):
    with pytest.raises(UsageError, match="--by email: the field is marked `pii`"):
        replay([paths[0]], shop.rulebook(), by=["email"])
    with pytest.raises(UsageError, match="--by amount: not a text or yes/no field.*country"):
        replay([paths[0]], shop.rulebook(), by=["amount"])


def test_the_command_line_writes_the_report_and_prints_the_contract(place, paths):
    book = shop.write(place / "book", shop.files())
    args = ["backtest", str(paths[0]), "--labels", str(paths[1]), "--rulebook", str(book), "--against", str(book)]
    result = CliRunner().invoke(cli, [*args, "--sweep", "auto", "--out", str(place / "out"), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert {"policy", "rules", "days"} <= found.keys()
    wanted = {
        "id",
        "fired",
        "precision",
        "capture",
        "capture_by_value",
        "insult_rate",
        "net_saving",
        "marginal_net_saving",
    }
    assert all(wanted <= rule.keys() for rule in found["rules"])
    page = (place / "out/report.html").read_text()
    assert (
        page.startswith("<!doctype html>")
        and "<script" not in page
        and "http://" not in page.replace("http://www.w3.org", "")
        and "https://" not in page
    )
    assert json.loads((place / "out/report.json").read_text()) == found
    assert pq.read_table(place / "out/changes.parquet").num_rows == 0


def test_unusable_records_are_counted_and_the_rest_is_judged(place, paths):
    path = place / "dirty.ndjson"
    path.write_text(paths[0].read_text() + '\n{"event_id": "x", "ts": "yesterday", "type": "payment"}\nnot json\n')
    found = run(Question([path], shop.rulebook(), paths[1])).found
    assert found["dead_letters"] == 2 and found["policy"]["events"] == 3000
    assert not math.isnan(found["policy"]["net_saving"])


def test_corrupt_parquet_is_named(place, paths):
    bad = place / "corrupt.parquet"
    bad.write_bytes(b"PAR1 this is not a table PAR1")
    with pytest.raises(BadData, match="corrupt.parquet"):
        run(Question([bad], shop.rulebook(), paths[1]))
    with pytest.raises(BadData, match="corrupt.parquet: .*--skip-bad-files"):
        run(Question([bad, paths[0]], shop.rulebook(), paths[1]))
    found = run(Question([bad, paths[0]], shop.rulebook(), paths[1], skip_bad_files=True)).found
    assert found["policy"]["events"] == 3000 and "corrupt.parquet" in found["dead_reasons"]


def test_an_event_that_comes_twice_is_judged_once(place, paths):
    twice = place / "twice.ndjson"
    twice.write_text(paths[0].read_text() + "\n" + paths[0].read_text().splitlines()[-1])
    found = run(Question([twice], shop.rulebook(), paths[1])).found
    assert found["policy"]["events"] == 3000 and found["notes"]["repeated event ids, left out"] == 1
