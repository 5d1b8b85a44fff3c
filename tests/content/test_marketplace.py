"""The shipped rulebook: its own tests, its manners towards honest crowds, and one attack from first claim to last order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pandas as pd
import pytest

from shopward import Engine, Rulebook, techniques
from shopward.decision import Decision
from shopward.market import generate
from shopward.rules_test import run_tests


@pytest.fixture(scope="module")
def rulebook() -> Rulebook:
    return Rulebook.default()


class Shop:
    """A shop's day: tell it what happens, it says what the whole rulebook decides."""

    def __init__(self, rulebook: Rulebook):
        self.engine = Engine(rulebook, mode="interpreted")
        self.now = datetime(2026, 1, 5, 9, tzinfo=UTC)
        self.decisions: list[Decision] = []

    def after(self, **span: float) -> Shop:
        self.now += timedelta(**span)
        return self

    def __call__(self, type: str, **fields) -> Decision:
        ts = self.now.isoformat()
        decision = self.engine.decide(
            {"event_id": f"e{len(self.decisions)}", "type": type, "ts": ts, "currency": "USD", **fields}
        )
        self.decisions.append(decision)
        return decision

    def actions(self) -> set[str]:
        return {d.action for d in self.decisions}


@pytest.fixture
def shop(rulebook: Rulebook) -> Shop:
    return Shop(rulebook)


# --- every rule


def test_every_rule_passes_the_tests_it_carries(rulebook):
    results = list(run_tests(rulebook))
    assert [(r.rule, r.test, r.why) for r in results if not r.passed] == []
    assert len(results) >= 50


def test_every_rule_has_a_test_that_fires_and_an_honest_look_alike_that_does_not(rulebook):
    for rule in rulebook.rules.values():
        assert {test.expect["fires"] for test in rule.tests} == {True, False}, rule.id


def test_every_rule_tells_the_analyst_what_to_do_and_what_it_misses(rulebook):
    for rule in rulebook.rules.values():
        assert len(rule.triage) > 60 and len(rule.known_gaps) >= 25 and rule.owner and rule.techniques, rule.id


def test_nothing_is_declared_that_no_rule_reads(rulebook):
    read = {name for rule in rulebook.rules.values() for name in rule.when.features}
    read |= {part for name in read for part in rulebook.features[name].of or ()}
    assert set(rulebook.features) == read
    lists = {name for rule in rulebook.rules.values() for name in (*rule.when.lists, *(w.list for w in rule.writes))}
    assert set(rulebook.lists) == lists


def test_the_four_promised_attacks_are_covered(rulebook):
    covered = {id for rule in rulebook.rules.values() for id in rule.techniques}
    assert {"T1110.004", "F1006.002", "F1012", "SW-1011.001", "SW-1033", "SW-1034"} <= covered
    assert all(techniques.get(id).observable for id in covered)


def test_the_overview_lists_every_rule_as_it_is(rulebook):
    text = (rulebook.path / "README.md").read_text()
    for r in rulebook.rules.values():
        assert f"| `{r.id}` | {r.title} | {r.then} | {', '.join(r.techniques)} |\n" in text, r.id
    assert text.count("\n| `") == len(rulebook.rules)


# --- honest crowds, all rules at once


def test_a_family_on_one_tablet_is_never_bothered(shop):
    for week in range(3):
        for person in ("mum", "dad", "son", "daughter"):
            who = {"account": person, "device": "tablet", "ip": "198.51.100.20"}
            shop("login", **who, success=False, new_device=week == 0)
            shop.after(minutes=1)("login", **who, success=True, new_device=week == 0)
            shop("coupon_claim", **who, coupon=f"week{week}", discount="5.00")
            shop.after(minutes=9)("order", **who, seller="shop1", address="home", amount="40.00", discount="5.00")
            shop("payment", **who, card=f"card-{person}", amount="40.00")
        shop.after(days=7)
    assert shop.actions() == {"allow"}


def test_a_campus_in_a_flash_sale_is_never_bothered(shop):
    campus = {"ip": "198.51.100.1"}
    for i in range(60):
        student = {"account": f"student{i}", "device": f"phone{i}", **campus}
        shop.after(seconds=7)
        if i % 3 == 0:
            shop("register", **student, email=f"student{i}@uni.example")
        if i % 5 == 0:
            shop("login", **student, success=False, new_device=False)
        shop("login", **student, success=True, new_device=i % 3 == 0)
        shop("coupon_claim", **student, coupon="FLASH", discount="20.00")
        shop(
            "order",
            **student,
            seller="flash-shop",
            address="dorm",
            amount="59.00",
            discount="20.00",
            product="headphones",
        )
        shop(
            "payment_failed" if i % 4 == 0 else "payment", **student, card=f"card{i}", card_bin="424242", amount="59.00"
        )
    shop.after(hours=12)(
        "seller_payout", account="flash-shop", seller="flash-shop", bank_account="b1", amount="2400.00"
    )
    assert shop.actions() == {"allow"}


def test_a_customer_with_a_new_phone_who_forgot_the_password_is_never_bothered(shop):
    old, new = {"account": "ann", "device": "old"}, {"account": "ann", "device": "new"}
    for _ in range(4):
        shop("login", **old, success=True, new_device=False)
        shop("order", **old, seller="shop1", address="home", amount="60.00", discount="0.00")
        shop.after(days=3)("payment", **old, card="c1", amount="60.00")
    shop("login", **new, success=False, new_device=True)
    shop.after(minutes=1)("password_reset", **new)
    shop.after(minutes=1)("login", **new, success=True, new_device=True)
    shop("order", **new, seller="shop1", address="home", amount="140.00", discount="0.00")
    shop("payment", **new, card="c1", amount="140.00")
    assert shop.actions() == {"allow"}


def test_a_seller_who_changes_bank_at_the_usual_desk_is_paid(shop):
    for _ in range(6):
        shop("login", account="shop1", device="desk", success=True, new_device=False)
        shop(
            "order",
            account=f"buyer{shop.now.day}",
            device=f"d{shop.now.day}",
            seller="shop1",
            address="x",
            amount="200.00",
            discount="0.00",
        )
        shop.after(days=2)("shipment", account="shop1", seller="shop1", order_id=f"o{shop.now.day}")
    shop("profile_change", account="shop1", device="desk", field_changed="bank_account", bank_account="b2")
    payout = shop.after(days=1)("seller_payout", account="shop1", seller="shop1", bank_account="b2", amount="1200.00")
    assert payout.action == "allow"


# --- attacks, all rules at once


def test_a_coupon_ring_is_refused_at_the_fourth_account_and_its_later_orders_wait(shop):
    phone = {"device": "d1", "ip": "203.0.113.7"}
    claims = []
    for i in range(4):
        shop.after(minutes=5)("register", account=f"ring{i}", **phone, email=f"r{i}@throwaway.example")
        claims.append(
            shop.after(minutes=1)("coupon_claim", account=f"ring{i}", **phone, coupon="WELCOME", discount="10.00")
        )
    assert [c.action for c in claims] == ["allow", "allow", "allow", "deny"]
    assert claims[-1].reasons == ("coupon_ring",)
    order = shop.after(minutes=5)(
        "order", account="ring0", **phone, seller="shop1", address="door", amount="5.00", discount="10.00"
    )
    assert (order.action, order.reasons) == ("review", ("coupon_ring_order", "linked_newcomers"))


def test_a_stuffing_device_is_shut_out_even_when_a_password_works_hours_later(shop):
    for i in range(4):
        last = shop.after(seconds=5)(
            "login", account=f"victim{i}", device="bot", ip="203.0.113.7", success=False, new_device=True
        )
    assert "stuffing_device" in last.reasons
    hit = shop.after(hours=6)(
        "login", account="victim9", device="bot", ip="203.0.113.99", success=True, new_device=True
    )
    assert (hit.action, hit.reasons[0]) == ("deny", "blocklist")


def test_a_stolen_shop_cannot_be_paid_out_to_a_new_account(shop):
    shop("login", account="shop1", device="desk", success=True, new_device=False)
    shop.after(days=30)("login", account="shop1", device="intruder", success=True, new_device=True)
    shop.after(minutes=2)(
        "profile_change", account="shop1", device="intruder", field_changed="bank_account", bank_account="mule"
    )
    payout = shop.after(hours=3)(
        "seller_payout", account="shop1", seller="shop1", bank_account="mule", amount="9000.00"
    )
    assert payout.action == "hold"
    assert payout.evidence[0].entity == "account:shop1"
    assert "SW-1034" in payout.evidence[0].techniques


# --- ten days of a synthetic marketplace


@pytest.fixture(scope="module")
def ten_days(rulebook, tmp_path_factory) -> pd.DataFrame:
    """Every decision of ten days, with the truth beside it."""
    folder = tmp_path_factory.mktemp("market")
    generate(folder, seed=30, days=10, accounts=2000, access_log=False)
    engine = Engine(rulebook, mode="interpreted")
    with (folder / "events.ndjson").open("rb") as lines:
        decisions = [engine.decide(msgspec.json.decode(line)) for line in lines]
    rows = pd.DataFrame([(d.event_id, d.action) for d in decisions], columns=["event_id", "action"]).set_index(
        "event_id"
    )
    labels = pd.read_parquet(folder / "truth" / "event_labels.parquet").set_index("event_id")
    kinds = pd.read_parquet(folder / "truth" / "campaigns.parquet").set_index("id").kind
    rows["fraud"] = labels.label.reindex(rows.index).fillna(0) == 1
    rows["kind"] = labels.campaign.map(kinds).reindex(rows.index)
    return rows


def test_honest_people_are_left_alone(ten_days):
    honest = ten_days[~ten_days.fraud]
    assert len(honest) > 5000
    assert honest.action.isin(("deny", "hold", "challenge")).mean() < 0.002
    assert (honest.action == "review").mean() < 0.002


def test_each_of_the_four_campaigns_meets_a_person_or_a_closed_door(ten_days):
    met = ten_days[ten_days.fraud & ten_days.action.isin(("review", "hold", "deny"))]
    assert set(met.kind) >= {"account_takeover", "card_testing", "coupon_ring", "seller_payout_fraud"}
