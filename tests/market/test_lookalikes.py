"""The honest world makes good rules wrong: each look-alike is there, and really looks alike."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest


@pytest.fixture(scope="module")
def odd(market):
    kinds = defaultdict(set)
    for row in market.truth["lookalikes"]:
        kinds[row["kind"]].add(row["entity"].split(":", 1)[1])
    return kinds


@pytest.fixture(scope="module")
def people(market):
    """Accounts seen on each device and each ip, honest events only."""
    on = {"device": defaultdict(set), "ip": defaultdict(set)}
    for event in market.events:
        if event["event_id"] not in market.fraud and event.get("account"):
            for key, groups in on.items():
                if key in event:
                    groups[event[key]].add(event["account"])
    return on


def test_families_share_a_tablet(odd, people):
    shared = [len(people["device"][d]) for d in odd["family_device"]]
    assert len(shared) > 50 and sum(n >= 2 for n in shared) > 20 and max(shared) <= 6


def test_a_library_computer_serves_many_students(odd, people):
    assert max(len(people["device"][d]) for d in odd["library_computer"]) >= 6


def test_a_dormitory_is_one_address(odd, people):
    assert max(len(people["ip"][ip]) for ip in odd["campus_nat"]) >= 20


def test_offices_and_phone_carriers_hide_people_too(odd, people):
    assert max(len(people["ip"][ip]) for ip in odd["office_nat"]) >= 8
    carrier = [len(who) for ip, who in people["ip"].items() if ip.startswith("100.")]
    assert max(carrier) >= 50


def test_a_flash_sale_brings_a_crowd_with_coupons(market):
    claims = Counter(
        (e["coupon"], e["ts"][:13]) for e in market.of("coupon_claim") if e["event_id"] not in market.fraud
    )
    typical = sorted(claims.values())[len(claims) // 2]
    assert max(claims.values()) > 8 * typical


def test_phones_are_handed_down(odd, people):
    assert any(len(people["device"][d]) >= 2 for d in odd["hand_down"])


def test_travellers_are_seen_in_two_countries(market, odd):
    places = defaultdict(set)
    for event in market.events:
        if event["event_id"] not in market.fraud and "country" in event:
            places[event.get("account")].add(event["country"])
    abroad = [len(places[a]) > 1 for a in odd["traveller"]]
    assert sum(abroad) > 5


def test_serial_returners_send_back_far_more_than_others(market, hard):
    """They are few, and goods come back days later: both markets together."""
    mine, others = [], []
    for made in (market, hard):
        back = {e["order_id"] for e in made.of("refund")}
        known = {r["entity"].split(":", 1)[1] for r in made.truth["lookalikes"] if r["kind"] == "serial_returner"}
        for payment in made.of("payment"):
            (mine if payment["account"] in known else others).append(payment["order_id"] in back)
    assert sum(mine) / len(mine) > 2 * sum(others) / len(others), (sum(mine), len(mine), sum(others), len(others))


def test_an_honest_seller_changes_banks_and_is_paid_there(market):
    """Only rarely, so over several markets: the same two events that a hijacker leaves."""
    from shopward.market.making import Market
    from shopward.market.rows import CHANGE, CODE

    moved = 0
    for seed in range(3):
        for day in Market(seed, days=10, accounts=4000).days():
            rows = day.rows
            moved += (
                (rows["type"] == CODE["profile_change"])
                & (rows["changed"] == CHANGE["bank_account"])
                & (rows["campaign"] <= 0)
            ).sum()
    assert moved > 0


def test_no_lookalike_is_an_attacker(market, odd):
    guilty = {row["entity"].split(":", 1)[1] for row in market.truth["actors"] if row["role"] != "victim"}
    assert not guilty & (odd["family_device"] | odd["traveller"] | odd["serial_returner"] | odd["hand_down"])
