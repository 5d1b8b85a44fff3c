"""One record becomes one event: names, types, money, derived fields, and clear words for what is wrong."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shopward.declare.types import Field, LabelColumn, Policy, Schema
from shopward.entity import ip64, network64
from shopward.errors import BadEvent
from shopward.event import format_time, parse_time
from shopward.ingest import Normaliser, normalise
from tests.ingest.conftest import book

BOOK = book()
READ = Normaliser.of(BOOK)
LOGIN = {"type": "login", "ts": 1767225600000}


def event(**fields):
    return READ({**LOGIN, **fields})


def reason(record) -> str:
    with pytest.raises(BadEvent) as caught:
        READ(record)
    return str(caught.value)


def test_nested_objects_become_flat_and_unknown_fields_stay():
    got = event(device={"os": {"name": "x"}} if False else "d1", cart={"items": 3, "first": {"sku": "s"}}, colour="red")
    assert got["device"] == "d1" and got["cart_items"] == 3 and got["cart_first_sku"] == "s" and got["colour"] == "red"


def test_a_collision_of_flattened_names_is_an_error():
    assert reason({**LOGIN, "a_b": 1, "a": {"b": 2}}) == "a_b: two fields of the record flatten to this name"
    assert reason({**LOGIN, "account": {"id": 1}}) == "account: expected a string, found an object"


def test_ids_may_be_numbers_and_count_by_their_text():
    assert event(account=17)["account"] == "17"
    assert event(account=17.0)["account"] == "17"
    assert "account" not in event(account=""), "an empty key identifies nobody"
    assert "beyond 64 bits" in reason({**LOGIN, "account": 10**30})


@pytest.mark.parametrize(
    ("given", "minor"),
    [(0.285, 28), (0.275, 28), ("0.125", 12), (0.135, 14), (12, 1200), ("12.5", 1250), (1071.1499999999999, 107115), (0.005, 0), (0.015, 2), ("1e2", 10000)],
)  # fmt: skip
def test_money_is_rounded_half_even_from_its_decimal_text(given, minor):
    assert event(amount=given)["amount"] == minor / 100


@settings(deadline=None)
@given(st.decimals(0, 10**9, places=4))
def test_money_as_number_and_as_text_is_the_same(value):
    assert event(amount=float(value)) == event(amount=repr(float(value)))


def test_money_beyond_the_limit_or_below_zero_is_refused():
    assert reason({**LOGIN, "amount": -1}) == "amount: negative; declare the field `signed: true` if that is meant"
    assert event(balance=-1)["balance"] == -1.0
    assert reason({**LOGIN, "amount": 10_000_000_000.01}) == "amount: over 10,000,000,000, the most one amount may be"
    assert reason({**LOGIN, "amount": 1e308}) == "amount: over 10,000,000,000, the most one amount may be"
    assert reason({**LOGIN, "amount": float("inf")}) == "amount: infinite; expected a number"


def test_nan_is_null_and_counted():
    reader = Normaliser.of(BOOK)
    got = reader({**LOGIN, "amount": float("nan"), "rating": float("nan")})
    assert "amount" not in got and "rating" not in got
    assert dict(reader.notes) == {"amount: NaN taken as null": 1, "rating: NaN taken as null": 1}


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"type": "login"}, "ts: missing; every event says when it happened"),
        ({"ts": 1}, "type: missing; every event says what happened"),
        ({"ts": 1, "type": "logn"}, "type: unknown event type `logn`; did you mean `login`?"),
        ({"ts": 1, "type": 5}, "type: expected the name of an event type, found a number"),
        ({"ts": -1, "type": "login"}, "ts: before 1970 or after 9999"),
        ({"ts": "yesterday", "type": "login"}, "ts: not a time; expected ISO 8601 such as 2026-01-31T12:00:00Z, or epoch milliseconds"),
        ({"ts": 1, "type": "login", "rating": "many"}, "rating: expected a number, found a string that is none"),
        ({"ts": 1, "type": "login", "rating": [1]}, "rating: expected a number, found a list"),
        ({"ts": 1, "type": "login", "success": "perhaps"}, "success: expected true or false, found a string"),
        ({"ts": 1, "type": "login", "tags": "a"}, "tags: expected a list, found a string"),
        ({"ts": 1, "type": "login", "account": ["a"]}, "account: expected a string, found a list"),
        ({"ts": 1, "type": "login", "phone": "12"}, "phone: not a phone number: expected a country code and 7 to 15 digits, such as +15550109999"),
        ({"ts": 1, "type": "login", "note": "x" * 9000}, "note: longer than 8,192 bytes"),
        ({"ts": 1, "type": "login", "note": "\ud800"}, "note: not valid Unicode (half of a surrogate pair)"),
        ({"ts": 1, "type": "label", "label": 1}, "label_event: missing; a label event has `label` (0 or 1) and `label_event` (the judged event_id)"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(record, words):
    assert reason(record) == words


def test_derived_fields_are_computed_before_pseudonyms_and_own_values_win():
    got = event(email=" Ann@Example.COM ", ip="2001:db8:1:2:3::4")
    assert (
        got["email"] == "ann@example.com" and got["mail_domain"] == "example.com" and got["net"] == "2001:db8:1:2::/64"
    )
    assert event(email="a@b.c", mail_domain="other.org")["mail_domain"] == "other.org"
    secret = Normaliser.of(BOOK, pseudonym=lambda field, value: f"p{len(value)}")({**LOGIN, "email": "ann@example.com"})
    assert secret["email"] == "p15" and secret["mail_domain"] == "example.com"


@settings(deadline=None, max_examples=300)
@given(
    st.one_of(
        st.ip_addresses(v=6).map(str),
        st.text(st.sampled_from("0123456789abcdefABCDEF:.% "), max_size=45),
        st.ip_addresses(v=6).map(lambda ip: ip.exploded),
    )
)
def test_the_quick_network_of_an_address_is_the_careful_one(text):
    from shopward.expr.functions import FUNCTIONS

    quick = network64(text)
    assert quick is None or quick == FUNCTIONS["ip64"].run(text) == ip64(text)


def test_doing_it_twice_changes_nothing():
    once = event(
        email="Ann@X.com",
        amount="9.995",
        ip="::ffff:1.2.3.4",
        tags=[1, "b"],
        born="2001-02-03",
        phone="0044 20 7946 0000",
    )
    assert READ(once) == once


def test_outside_names_constants_and_the_label_column():
    schema = Schema(
        ("label", "payment"),
        {"amount": Field("amount", "money", 2), "bin": Field("bin", "string")},
        mapping={"TX_AMOUNT": "amount", "TX_TIME": "ts", "TX_ID": "event_id", "card.bin": "bin"},
        constants={"type": "payment"},
        label=LabelColumn("TX_FRAUD", 1000),
    )
    record = {"TX_AMOUNT": "5.00", "TX_TIME": 7, "TX_ID": 12, "TX_FRAUD": 1, "card": {"bin": 411111}}
    assert Normaliser(schema).read(record) == (
        {"event_id": "12", "ts": 7, "type": "payment", "amount": 5.0, "bin": "411111"},
        1,
    )
    with pytest.raises(BadEvent, match="amount: given twice, the second time as `amount`"):
        normalise({**record, "amount": 4}, schema)
    with pytest.raises(BadEvent, match="TX_FRAUD: expected 0 or 1"):
        normalise({**record, "TX_FRAUD": 3}, schema)


RATES = """
key: string
columns: {rate: number}
rows:
  - {key: EUR, rate: 1.1, valid_from: 2026-01-01}
  - {key: EUR, rate: 1.2345, valid_from: 2026-01-02}
  - {key: JPY, rate: 0.0065, valid_from: 2026-01-01}
"""
TRADE = "{types: [order], fields: {amount: money, fee: money, currency: string}, money: amount, currency: currency}"


def trade_book():
    return book(TRADE, policy="{base_currency: USD, rates: rates}", lookups__rates=RATES)


def test_amounts_are_converted_at_the_rate_of_their_day():
    reader = Normaliser.of(trade_book())
    order = {"type": "order", "amount": "10.01", "currency": "EUR"}
    first = reader({**order, "ts": "2026-01-01T23:59:59Z"})
    assert first["amount"] == 11.01 and first["amount_original"] == "10.01" and first["currency"] == "EUR"
    assert reader({**order, "ts": "2026-01-02"})["amount"] == 12.36  # 12.357345
    assert reader({**order, "ts": "2026-01-02", "currency": "usd"})["amount"] == 10.01
    assert reader({**order, "ts": "2026-01-02", "amount": 10**11, "currency": "JPY"})["amount"] == 650_000_000.0
    assert reader(first) == first, "a converted amount is not converted again"


def test_an_amount_without_a_rate_is_null_and_counted():
    reader = Normaliser.of(trade_book())
    got = reader({"type": "order", "ts": "2025-12-31", "amount": 10, "fee": 1, "currency": "EUR"})
    assert "amount" not in got and got["amount_original"] == 10
    assert dict(reader.notes) == {"amount: no rate for EUR": 1, "fee: no rate for EUR": 1}


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-01-31T12:00:00Z", 1769860800000),
        ("2026-01-31 12:00", 1769860800000),
        ("2026-01-31T12:00:00.123999+00:00", 1769860800123),
        ("2026-01-31T12:00:00-0530", 1769880600000),
        ("2024-02-29", 1709164800000),
        ("1769860800000", 1769860800000),
    ],
)
def test_times_are_read_as_they_are_written(text, ms):
    assert parse_time(text) == ms


def test_python_times_are_taken_too():
    assert parse_time(datetime(2026, 1, 31, 12, tzinfo=UTC)) == parse_time(datetime(2026, 1, 31, 12)) == 1769860800000
    assert parse_time(date(2026, 1, 31)) == 1769817600000


@settings(deadline=None)
@given(st.integers(0, 253_402_300_799_999))
def test_a_written_time_reads_back(ms):
    assert parse_time(format_time(ms)) == ms


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-30",
        "2026-01-31T25:00:00Z",
        "2026-01-31T12:00:00+19:00",
        "31.1.2026",
        "",
        "2026-01-31T12:00:00 PM",
        True,
        [1],
        1e20,
    ],
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(BadEvent):
        parse_time(text)


def test_policy_without_rates_keeps_base_amounts():
    schema = trade_book().schema
    assert (
        Normaliser(schema, Policy(base_currency="EUR"))({"type": "order", "ts": 1, "amount": 5, "currency": "eur"})[
            "amount"
        ]
        == 5.0
    )
