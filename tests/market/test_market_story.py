"""What must be true of every market: things happen in an order that makes sense, and money adds up."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import shopward
from shopward.errors import UsageError
from shopward.market import generate, iter_events
from shopward.market.lines import SHAPES
from shopward.market.making import Market
from shopward.market.rows import CODE, DAY, START, TYPES


def when(event) -> float:
    return datetime.fromisoformat(event["ts"]).timestamp()


def cents(event, field="amount") -> int:
    return round(event[field] * 100)


def test_an_order_comes_before_its_payment_and_costs_the_same(market):
    orders = {e["order_id"]: e for e in market.of("order")}
    place = {e["event_id"]: i for i, e in enumerate(market.events)}
    payments = market.of("payment", "payment_failed")
    assert len(payments) > 1000
    for payment in payments:
        order = orders[payment["order_id"]]
        assert place[order["event_id"]] < place[payment["event_id"]] and order["ts"] < payment["ts"]
        assert (order["amount"], order["account"], order["seller"]) == (
            payment["amount"],
            payment["account"],
            payment["seller"],
        )


def test_an_order_is_paid_at_most_once(market):
    paid = [e["order_id"] for e in market.of("payment")]
    assert len(paid) == len(set(paid))


def test_parcels_refunds_reviews_and_chargebacks_follow_a_paid_order(market):
    paid = {e["order_id"]: e for e in market.of("payment")}
    for event in market.of("shipment", "refund", "review", "chargeback"):
        assert paid[event["order_id"]]["ts"] < event["ts"]
    refunded = defaultdict(int)
    for event in market.of("refund"):
        refunded[event["order_id"]] += cents(event)
    assert refunded and all(0 < amount <= cents(paid[order]) for order, amount in refunded.items())


def test_nobody_acts_before_signing_up(market):
    first = {}
    for event in market.events:
        if "session" in event and event.get("account"):
            first.setdefault(event["account"], event)
    newcomers = [e["account"] for e in market.of("register")]
    assert len(newcomers) == len(set(newcomers)) > 50
    assert {first[account]["type"] for account in newcomers} == {"register"}


def test_a_new_device_is_one_the_account_was_never_seen_on(market):
    first_session, news = {}, 0
    for event in sorted(market.events, key=lambda e: e["ts"]):
        pair = (event.get("account"), event.get("device"))
        if event["type"] == "login" and not event["success"]:
            continue  # somebody tried; nobody was in
        if event.get("new_device") and event["type"] == "login":
            news += 1
            assert first_session.get(pair, event["session"]) == event["session"]
        first_session.setdefault(pair, event.get("session"))
    assert news > 100


def test_payouts_never_exceed_what_was_earned(market):
    earned, taken = defaultdict(int), defaultdict(int)
    for event in sorted(market.events, key=lambda e: e["ts"]):
        if event["type"] == "payment":
            earned[event["seller"]] += cents(event)
        elif event["type"] == "live_gift":
            earned[event["creator"]] += cents(event)
        elif event["type"] == "commission":
            earned[event["affiliate"]] += cents(event)
        elif event["type"] in ("seller_payout", "creator_payout"):
            taken[event["account"]] += cents(event)
            assert taken[event["account"]] <= earned[event["account"]]
    assert sum(taken.values()) > 0


def test_events_arrive_nearly_in_order_and_never_more_than_an_hour_late(market):
    now, late = 0.0, []
    for event in market.events:
        now = max(now, when(event))
        late.append(now - when(event))
    assert max(late) < 3600
    assert 0 < np.mean(np.array(late) > 60) < 0.03


def test_every_event_has_the_fields_of_its_type_and_the_schema_knows_them(market):
    schema = yaml.safe_load((Path(shopward.__file__).parent / "rulebooks/marketplace/schema.yaml").read_text())
    assert set(TYPES) == set(schema["types"]) - {"http_request"}
    known = set(schema["fields"]) | {"event_id", "ts", "type", "request_id"}
    for event in market.events:
        assert set(event) - {"event_id", "ts", "type"} <= set(SHAPES[event["type"]].split()) <= known
    assert {e["type"] for e in market.events} == set(TYPES)


def test_the_day_breathes_and_the_week_does_too(market):
    local = np.zeros(24)
    for event in market.of("login"):
        if event["country"] == "GB":
            local[int(event["ts"][11:13])] += 1
    assert local[2:5].mean() * 5 < local[19:22].mean()


def test_nothing_looks_like_a_real_person(market):
    phones, mails = set(), set()
    for event in market.events:
        if event.get("ip"):
            assert not ipaddress.ip_address(event["ip"]).is_global
        if "phone" in event:
            phones.add(event["phone"])
        if "email" in event:
            mails.add(event["email"])
        assert event.get("card_bin", "9").startswith("9")  # no card network issues these
    assert all(phone.startswith("+1555") and len(phone) == 12 for phone in phones)
    reserved = (".example", ".test", "@example.com", "@example.org", "@example.net")
    assert len(mails) > 1000 and all(mail.endswith(reserved) for mail in mails)


def test_the_summary_says_what_is_in_the_file(market):
    assert market.summary.events == len(market.events)
    assert market.summary.by_type == {name: len(market.of(name)) for name in TYPES}
    assert market.summary.paid == pytest.approx(sum(e["amount"] for e in market.of("payment")))
    assert abs(market.summary.events / 75_000 - 1) < 0.1


def test_events_in_memory_are_the_events_of_the_file(tmp_path):
    size = {"seed": 5, "days": 2, "accounts": 300, "events": 1500}
    generate(tmp_path, **size)
    import msgspec

    written = msgspec.json.Decoder().decode_lines((tmp_path / "events.ndjson").read_bytes())
    assert list(iter_events(**size)) == written


def test_progress_is_told_after_every_day(tmp_path):
    told = []
    generate(tmp_path, seed=1, days=3, accounts=200, on_progress=told.append)
    assert told == [1, 1, 1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"adversary": "evil"}, "must be normal or hard"),
        ({"accounts": 5}, "at least 100 accounts"),
        ({"days": 0}, "1 to 3650 days"),
        ({"events": 10**9}, "ask for at most"),
    ],
)
def test_impossible_wishes_are_refused_with_a_reason(wrong, message):
    with pytest.raises(UsageError, match=message):
        Market(**{"seed": 1, "days": 3, "accounts": 200, **wrong})


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(100, 260), st.sampled_from(["normal", "hard"]))
def test_any_seed_makes_a_market_that_adds_up(seed, days, accounts, adversary):
    market = Market(seed, days, accounts, adversary)
    rows = np.concatenate([day.rows for day in market.days()])
    arrival = rows["t"] + rows["lag"]
    assert (np.diff(arrival) >= 0).all() and rows["t"].min() >= START and arrival.max() < START + days * DAY
    paid, ordered = rows[rows["type"] == CODE["payment"]], rows[rows["type"] == CODE["order"]]
    assert set(paid["order"]) <= set(ordered["order"]) and len(set(ordered["order"])) == len(ordered)
    money = np.isin(
        rows["type"], [CODE[t] for t in ("order", "payment", "refund", "seller_payout", "live_gift", "creator_payout")]
    )
    assert (rows["amount"][money] > 0).all()
    fraud = rows["label"] == 1
    assert ((rows["campaign"] > 0) == fraud).all() and (rows["label_t"][fraud] > rows["t"][fraud]).all()
    assert (rows["loss"][~fraud] == 0).all()
    people = rows["account"][rows["session"] >= 0]
    assert people.max(initial=0) < market.world.accounts.n
