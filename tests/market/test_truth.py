"""The truth is complete: every fraudulent event is labelled, belongs to a campaign, and the losses add up."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

import shopward.market
from shopward.market.campaigns import KINDS, TECHNIQUES
from shopward.market.campaigns.script import Books
from shopward.market.making import Market
from shopward.market.rows import CODE


def test_every_kind_of_campaign_takes_part(market, hard):
    for made in (market, hard):
        assert {c["kind"] for c in made.truth["campaigns"]} == set(KINDS)
        assert all(c["events"] > 0 for c in made.truth["campaigns"])


def test_labels_add_up_to_each_campaigns_loss(market, hard):
    for made in (market, hard):
        loss = defaultdict(float)
        for row in made.fraud.values():
            loss[row["campaign"]] += row["amount"]
        for campaign in made.truth["campaigns"]:
            assert campaign["loss"] == pytest.approx(loss[campaign["id"]], abs=0.005)
            assert campaign["loss"] > 0
        assert made.summary.loss == pytest.approx(sum(loss.values()), abs=0.01)


# where the money leaves, for each kind of campaign: the event on which a defence could still have kept it
LEAVES = {
    "account_takeover": {"payment"}, "card_testing": {"payment"}, "coupon_ring": {"order"}, "seller_payout_fraud": {"seller_payout"},
    "payout_bust_out": {"seller_payout"}, "brushing": {"order"}, "fake_reviews": {"review"}, "review_extortion": {"refund"},
    "refund_abuse": {"refund"}, "empty_parcel": {"shipment"}, "triangulation": {"payment"}, "promo_stacking": {"order"},
    "referral_farm": {"commission"}, "bonus_cycling": {"order"}, "shell_sellers": {"shipment"}, "counterfeit_wave": {"shipment"},
    "price_error_snatching": {"order"}, "seckill_bots": {"order"}, "inventory_hoarding": {"order"}, "affiliate_fraud": {"commission"},
    "free_sample_fraud": {"free_sample"}, "gift_laundering": {"live_gift"}, "chargeback_ring": {"payment"}, "catalogue_scraping": {"session_view"},
    "account_farming": {"login"}, "session_hijack": {"payment"}, "message_scams": {"message"}, "sms_pumping": {"register", "password_reset"},
    "ad_click_fraud": {"ad_click"}, "self_dealing": {"order"}, "room_inflation": {"follow"},
}  # fmt: skip


def test_a_loss_is_booked_where_the_money_leaves(market, hard):
    assert set(LEAVES) == set(KINDS)
    for made in (market, hard):
        events, kind = {e["event_id"]: e for e in made.events}, {c["id"]: c["kind"] for c in made.truth["campaigns"]}
        for event_id, row in made.fraud.items():
            event = events[event_id]
            if row["amount"]:
                assert event["type"] in LEAVES[kind[row["campaign"]]]
            if row["amount"] and event["type"] in (
                "payment",
                "seller_payout",
                "refund",
                "live_gift",
                "commission",
                "free_sample",
                "ad_click",
            ):
                assert row["amount"] == event["amount"]


def test_every_step_is_a_labelled_event_and_the_other_way_round(market):
    steps = market.truth["steps"]
    assert {s["event_id"] for s in steps} == set(market.fraud)
    for campaign in market.truth["campaigns"]:
        mine = [s for s in steps if s["campaign"] == campaign["id"]]
        assert [s["order"] for s in mine] == list(range(1, len(mine) + 1))
        assert [s["ts"] for s in mine] == sorted(s["ts"] for s in mine)
        assert (mine[0]["ts"], mine[-1]["ts"]) == (campaign["start"], campaign["end"])
        assert {s["technique"] for s in mine} <= set(campaign["techniques"])


def test_devices_of_attackers_are_named_as_actors(market):
    named = {row["entity"] for row in market.truth["actors"]}
    for event in market.events:
        if event["event_id"] in market.fraud and "device" in event:
            assert f"device:{event['device']}" in named


def test_techniques_are_in_the_taxonomy():
    from shopward.techniques import get

    assert [get(technique).id for technique in TECHNIQUES] == list(TECHNIQUES)


def test_labels_come_late_as_in_life(market):
    events = {e["event_id"]: e for e in market.events}
    waited = defaultdict(list)
    for event_id, row in market.fraud.items():
        delay = row["label_ts"] - datetime.fromisoformat(events[event_id]["ts"])
        waited[row["source"], events[event_id]["type"]].append(delay)
    chargebacks = waited["chargeback", "payment"]
    assert timedelta(days=4.9) < min(chargebacks) and max(chargebacks) < timedelta(days=47)
    reports = waited["account_report", "payment"]
    assert timedelta(hours=1) < min(reports) and max(reports) < timedelta(days=7)
    assert all(delay > timedelta(0) for delays in waited.values() for delay in delays)


def test_some_honest_payments_are_known_to_be_honest(market):
    zeros = [row for row in market.truth["event_labels"] if row["label"] == 0]
    events = {e["event_id"]: e for e in market.events}
    assert {"review"} <= {row["source"] for row in zeros} <= {"review", "dispute"}
    assert {events[row["event_id"]]["type"] for row in zeros} == {"payment"}
    assert all(row["campaign"] is None and row["amount"] is None for row in zeros)
    assert not {row["event_id"] for row in zeros} & set(market.fraud)


@pytest.mark.parametrize("adversary", ["normal", "hard"])
def test_fraud_is_rare_by_value_and_by_count(adversary):
    paid = stolen = fraud = count = 0
    for seed in range(3):
        for day in Market(seed, days=20, accounts=8000, adversary=adversary).days():
            payments = day.rows[day.rows["type"] == CODE["payment"]]
            bad = payments["label"] == 1
            paid, stolen = paid + payments["amount"].sum(), stolen + payments["amount"][bad].sum()
            count, fraud = count + len(payments), fraud + bad.sum()
    assert 0.003 < stolen / paid < 0.015
    assert 0.002 < fraud / count < 0.035  # the careful, and shops that buy from themselves, make small payments


def test_honest_people_make_mistakes_at_honest_rates(market):
    honest = [e for e in market.events if e["event_id"] not in market.fraud]
    types = Counter(e["type"] for e in honest)
    logins = [e for e in honest if e["type"] == "login"]
    assert 0.05 < np.mean([not e["success"] for e in logins]) < 0.14
    assert 0.03 < types["payment_failed"] / (types["payment"] + types["payment_failed"]) < 0.1
    assert 0.01 < np.mean([e.get("new_device", False) for e in logins]) < 0.06
    assert types["password_reset"] > 0 and types["challenge_result"] > 0


def shape(made, kind: str) -> dict[str, float]:
    """How a kind of campaign looks: accounts a device, accounts an address, how long it takes."""
    campaigns = [c for c in made.truth["campaigns"] if c["kind"] == kind]
    return {
        "events_per_device": np.mean([c["events"] / c["devices"] for c in campaigns]),
        "events_per_ip": np.mean([c["events"] / c["ips"] for c in campaigns]),
        "hours": np.mean([(c["end"] - c["start"]) / timedelta(hours=1) for c in campaigns]),
    }


@pytest.mark.parametrize("kind", ["account_takeover", "card_testing", "coupon_ring"])
def test_hard_attackers_are_slower_and_spread_wider(market, hard, kind):
    loud, quiet = shape(market, kind), shape(hard, kind)
    assert quiet["events_per_device"] * 1.5 < loud["events_per_device"]
    assert quiet["events_per_ip"] * 1.5 < loud["events_per_ip"]
    assert quiet["hours"] > 2 * loud["hours"]


def test_hard_card_testers_use_accounts_with_a_past(market, hard):
    def young(made):
        joined = {e["account"] for e in made.of("register")}
        buyers = [
            e["account"]
            for e in made.of("payment", "payment_failed")
            if made.fraud.get(e["event_id"], {}).get("source") == "chargeback"
        ]
        return np.mean([account in joined for account in buyers])

    assert young(market) > young(hard)


def test_attackers_keep_books_that_can_break_even(market, hard):
    for made in (market, hard):
        for campaign in made.truth["campaigns"]:
            assert campaign["cost"] > 0 and campaign["revenue"] > 0
            assert campaign["break_even"] == pytest.approx(
                campaign["cost"] * campaign["successes"] / campaign["revenue"], rel=0.01, abs=0.05
            )


def test_books_without_a_sale_never_break_even():
    books = Books()
    books.pay(10.0, "a list")
    assert books.break_even == float("inf")


def test_attackers_never_read_the_rulebook():
    """Nothing of the market imports what decides."""
    blind = (
        "shopward.rules",
        "shopward.declare",
        "shopward.features",
        "shopward.decide",
        "shopward.rulebooks",
        "shopward.expr",
    )
    files = list(Path(shopward.market.__file__).parent.rglob("*.py"))
    assert len(files) > 10
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else []
            )
            assert not [name for name in names if name.startswith(blind)], path
