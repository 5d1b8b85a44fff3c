"""The honest world has the proportions that docs/market.md states, and breathes as it says."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from shopward.market import generate
from shopward.market.rhythm import MONTHS, busyness, presents, wallet_share

GOLDEN = Path(__file__).with_name("golden.json")


@pytest.fixture(scope="module")
def honest(market):
    return [e for e in market.events if e["event_id"] not in market.fraud]


@pytest.fixture(scope="module")
def by_type(honest):
    groups = defaultdict(list)
    for event in honest:
        groups[event["type"]].append(event)
    return groups


def share(events, **wanted):
    return np.mean([all(e.get(k) == v for k, v in wanted.items()) for e in events])


def test_seven_baskets_in_ten_are_left(by_type):
    bought = {(e["session"], e["product"]) for e in by_type["order"]}
    left = np.mean([(e["session"], e["product"]) not in bought for e in by_type["cart"]])
    assert 0.6 < left < 0.8


def test_goods_go_back_for_the_stated_reasons(by_type):
    assert 0.4 < share(by_type["refund"], reason="changed_mind") < 0.75
    assert 0.7 < share(by_type["return"], condition="as_sent") < 0.95
    assert len(by_type["return"]) < len(by_type["refund"])


def test_parcels_arrive_days_after_they_are_sent_and_nearly_all_do(by_type, market):
    sent = {e["tracking"]: e for e in market.of("shipment")}
    there = {e["tracking"]: e for e in by_type["delivery"] if e["success"]}
    assert len(there) > 500
    assert all(
        number in sent and sent[number]["ts"] < e["ts"] and sent[number]["weight"] == e["weight"]
        for number, e in there.items()
    )
    old = [e["tracking"] for e in by_type["shipment"] if e["ts"] < "2026-01-09"]
    assert np.mean([number in there for number in old]) > 0.9
    assert 0.005 < share(by_type["delivery"], success=False) < 0.06


def test_one_product_in_forty_weighs_next_to_nothing(by_type):
    grams = np.array([e["weight"] for e in by_type["shipment"]])
    assert 0.005 < np.mean(grams < 60) < 0.12 and 250 < np.median(grams) < 1200


def test_clicks_cost_what_they_cost(by_type):
    cost = np.array([e["amount"] for e in by_type["ad_click"]])
    assert 0.3 < np.median(cost) < 0.6
    again = Counter((e["session"], e["ad"]) for e in by_type["ad_click"])
    assert max(again.values()) >= 3  # somebody compares


def test_commission_is_a_share_of_an_order_or_a_reward(by_type, market):
    orders = {e["order_id"]: e for e in market.of("order")}
    for event in by_type["commission"]:
        order = orders[event["order_id"]]
        if event["method"] == "affiliate":
            assert (
                event["amount"] == pytest.approx(order["amount"] * 0.08, abs=0.011)
                and order["affiliate"] == event["affiliate"]
            )
        else:
            assert event["amount"] == 5.0 and event["buyer"] == order["account"]


def test_most_questions_are_answered_and_few_hold_a_number(by_type):
    asked = [e for e in by_type["message"] if e.get("seller") == e["receiver"]]
    answers = [e for e in by_type["message"] if e.get("seller") == e["account"]]
    assert 0.4 < len(answers) / len(asked) < 0.9
    assert share(by_type["message"], has_contact=True) < 0.06


def test_followers_come_through_one_link_to_one_product(by_type):
    crowds = Counter((e["affiliate"], e["product"]) for e in by_type["affiliate_click"])
    assert crowds.most_common(1)[0][1] >= 8


def test_a_mistyped_price_is_put_right_within_hours(by_type, market):
    slips = [e for e in by_type["price_change"] if e["amount"] < 0.4 * e["price_before"]]
    assert slips
    for slip in slips:
        after = [
            e
            for e in by_type["price_change"]
            if e["product"] == slip["product"] and e["ts"] > slip["ts"] and e["amount"] == slip["price_before"]
        ]
        assert after


def test_addresses_change_in_the_middle_of_a_visit_for_some(by_type):
    ips = defaultdict(set)
    for kind in ("login", "cart", "order", "payment"):
        for event in by_type[kind]:
            ips[event["session"]].add(event["ip"])
    assert 0.0008 < np.mean([len(some) > 1 for some in ips.values()]) < 0.05


def test_the_year_has_its_seasons():
    assert busyness(330) > 1.1 * busyness(30)  # the end of November, the beginning of February
    assert presents(0) == 1.0 and presents(350) > 3  # before Christmas
    assert wallet_share(720) > wallet_share(0) + 0.2 and len(MONTHS) == 12
    weeks = [np.mean([busyness(7 * week + day) for day in range(7)]) for week in (3, 4)]
    assert weeks[0] == pytest.approx(weeks[1], rel=0.1)


def test_the_odd_ones_are_named_and_exist(market):
    kinds = defaultdict(set)
    for row in market.truth["lookalikes"]:
        kinds[row["kind"]].add(row["entity"].split(":", 1)[1])
    invited = Counter(
        e.get("referrer") for e in market.of("register") if "referrer" in e and e["event_id"] not in market.fraud
    )
    assert set(invited) & kinds["popular_inviter"]
    assert {e["product"] for e in market.of("price_change")} >= kinds["price_slip"]
    assert {e["product"] for e in market.of("affiliate_click")} & kinds["creators_choice"]
    assert {
        "family_device",
        "library_computer",
        "office_nat",
        "campus_nat",
        "hand_down",
        "traveller",
        "flash_sale",
    } <= set(kinds)


def test_a_known_market_is_what_it_was(tmp_path):
    """Counts of a small market, so that no change of the market goes unseen; after a wanted change write the new ones down."""
    summary = generate(tmp_path, seed=42, days=8, accounts=600, access_log=False)
    found = {
        "by_type": summary.by_type,
        "campaigns": summary.campaigns,
        "fraud_events": summary.fraud_events,
        "loss": round(summary.loss, 2),
    }
    assert found == json.loads(GOLDEN.read_text())
