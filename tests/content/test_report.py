"""`shopward report`: the week of a small shop, judged by hand and by the command."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shopward import Engine, Rulebook
from shopward.cli.report import html
from shopward.declare.types import Policy
from shopward.errors import UsageError
from shopward.report import report

RULEBOOK = {
    "schema.yaml": "types: [payment, chargeback]\nfields: {account: {type: string, entity: account}, amount: money, currency: string}\n"
    "money: amount\ncurrency: currency\n",
    "rules/large.yaml": "id: large\ntitle: A large payment\non: [payment]\nwhen: amount > 500\nthen: deny\n",
    "rules/odd.yaml": "id: odd\ntitle: An odd payment\non: [payment]\nwhen: amount > 200 and amount <= 500\nthen: review\n",
    "policy.yaml": "friction_cost: 2\nreview_cost: 3\nreview_capacity_per_day: 5\n",
}
POLICY = Policy(friction_cost=2.0, review_cost=3.0, review_capacity_per_day=5)
START = datetime(2026, 1, 5, 9, tzinfo=UTC)


def payment(n: int, account: str, amount: str, **after: float) -> dict:
    ts = (START + timedelta(**after)).isoformat()
    return {"event_id": f"p{n}", "type": "payment", "ts": ts, "account": account, "amount": amount, "currency": "USD"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """A thief's small payment passes, his large one is denied an hour later; another thief is never seen; one honest denial."""
    data = tmp_path_factory.mktemp("shop") / "data"
    engine = Engine(Rulebook.from_files(RULEBOOK), data, mode="interpreted")
    events = [
        payment(1, "thief", "100.00"),
        payment(2, "thief", "900.00", hours=1),
        payment(3, "ghost", "150.00", hours=2),
        payment(4, "ann", "50.00", days=1),
        payment(5, "ben", "600.00", days=1, hours=1),
        payment(6, "cleo", "300.00", days=2),
        {"event_id": "c1", "type": "chargeback", "ts": (START + timedelta(days=3)).isoformat(), "account": "ghost", "amount": "150.00", "currency": "USD"},
    ]  # fmt: skip
    for event in events:
        engine.decide(event)
    known = (START + timedelta(days=3)).isoformat()
    truth = (("p1", 1), ("p2", 1), ("p3", 1), ("p5", 0))
    taken = engine.label([{"event_id": e, "label": v, "label_ts": known, "source": "analyst"} for e, v in truth])
    assert taken["taken"] == len(truth), taken
    engine.close()
    return data


def test_the_figures_are_those_one_works_out_by_hand(shop):
    found = report(shop, POLICY, 7 * 86_400_000)
    assert (found.events, found.payments, found.gross_value) == (7, 6, 2100.0)
    assert (found.fraud, found.fraud_value, found.loss) == (3, 1150.0, 250.0)
    assert found.loss_bps == round(10_000 * 250 / 2100, 2)
    assert found.capture_by_value == round(900 / 1150, 4)
    assert (found.chargebacks, found.chargeback_ratio) == (1, 0.25)  # four payments were neither denied nor held
    assert (found.insults, found.insult_rate) == (1, 0.25)  # ben; ann, cleo and the chargeback were not disturbed
    assert (found.reviews, found.reviews_per_day) == (1, round(1 / 7, 1))
    assert found.net_saving == 900 - 2 * 1 - 3 * 1
    assert (found.time_to_detect_s, found.detected) == (3600.0, 0.5)


def test_rules_are_ordered_by_what_they_stopped_and_misses_by_what_they_cost(shop):
    found = report(shop, POLICY, 7 * 86_400_000)
    assert [(r["rule"], r["fired"], r["precision"], r["stopped"]) for r in found.rules] == [
        ("large", 2, 0.5, 900.0),
        ("odd", 1, 0.0, 0.0),
    ]
    assert [(m["entity"], m["lost"], m["event_id"], m["action"]) for m in found.misses] == [
        ("ghost", 150.0, "p3", "allow"),
        ("thief", 100.0, "p1", "allow"),
    ]


def test_the_days_add_up_to_the_whole(shop):
    found = report(shop, POLICY, 7 * 86_400_000)
    assert [d["date"] for d in found.days] == ["2026-01-05", "2026-01-06", "2026-01-07", "2026-01-08"]
    assert sum(d["loss"] for d in found.days) == found.loss
    assert sum(d["reviews"] for d in found.days) == found.reviews
    assert found.days[1]["insult_rate"] == 0.5


def test_since_counts_back_from_the_latest_decision(shop):
    last_day = report(shop, POLICY, 86_400_000)
    assert last_day.events == 2 and last_day.fraud == 0 and last_day.loss_bps == 0.0


def test_a_folder_without_decisions_is_told_apart_from_one_without_fraud(tmp_path):
    with pytest.raises(UsageError, match="holds no decisions"):
        report(tmp_path, POLICY, 86_400_000)


def test_the_page_needs_nothing_else_and_names_rules_and_misses(shop):
    page = html(report(shop, POLICY, 7 * 86_400_000), "USD")
    assert "<script" not in page and "http" not in page.replace("http-equiv", "").replace(
        "http://www.w3.org/2000/svg", ""
    )
    assert page.count("<svg") == 5
    assert ">large<" in page and ">ghost<" in page and "1,190.5 bps" in page


def run(*args: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "shopward", "report", *args], capture_output=True, text=True)


def test_the_command_speaks_to_people_to_programs_and_to_a_browser(shop, tmp_path):
    told = run("--data", str(shop), "--since", "7d")
    assert told.returncode == 0, told.stderr
    assert "time to detect" in told.stdout and "1.0 h" in told.stdout
    asked = run("--data", str(shop), "--since", "7d", "--json", "--out", str(tmp_path / "week.html"))
    assert json.loads(asked.stdout)["loss"] == 250.0
    assert (tmp_path / "week.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--data", "nowhere"], "no data folder at nowhere"),
        (["--since", "soon"], "soon"),
        (["--out", "week.pdf"], ".html"),
    ],
)
def test_a_wrong_question_is_answered_with_what_would_be_right(shop, args, said):
    args = args if "--data" in args else ["--data", str(shop), *args]
    asked = run(*args)
    assert asked.returncode == 2 and said in asked.stderr
