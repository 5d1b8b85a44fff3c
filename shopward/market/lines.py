"""A row becomes a line: which fields each event type carries, in which order, and how each is written.

`SHAPES` is the whole format of `events.ndjson`. Every line starts with event_id, ts and type; events that somebody caused through
the site or the app end with the `request_id` of the access-log row that carried them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shopward.market import texts
from shopward.market.networks import COUNTRIES
from shopward.market.rows import CATEGORIES, CHANGES, METHODS, REASONS, TYPES
from shopward.market.texts import Texts, choices, ips, money, numbers, strings
from shopward.market.world import World, user_agents

_WHERE = "session device ip country"
SHAPES = {
    "register": f"account email phone method {_WHERE} user_agent request_id",
    "login": f"account email method success failure_reason new_device {_WHERE} user_agent request_id",
    "password_reset": f"account email method {_WHERE} user_agent request_id",
    "profile_change": f"account seller field_changed email phone address bank_account new_device {_WHERE} request_id",
    "challenge_result": f"account method success {_WHERE} request_id",
    "session_view": f"account seller product category {_WHERE} request_id",
    "coupon_claim": f"account coupon {_WHERE} request_id",
    "order": f"account seller order_id product category items amount currency discount coupon address {_WHERE} user_agent request_id",
    "payment": f"account seller order_id amount currency method card card_bin card_country address {_WHERE} user_agent request_id",
    "payment_failed": f"account seller order_id amount currency method failure_reason card card_bin card_country address {_WHERE} user_agent request_id",
    "refund": f"account seller order_id amount currency method category {_WHERE} request_id",
    "chargeback": "account seller order_id amount currency card card_bin card_country",
    "review": f"account seller order_id product category rating text_hash {_WHERE} request_id",
    "shipment": "account seller order_id items method address",
    "listing": f"account seller product category amount currency quantity text_hash {_WHERE} request_id",
    "seller_onboard": f"account seller email phone address bank_account {_WHERE} request_id",
    "seller_payout": f"account seller amount currency method bank_account {_WHERE} request_id",
    "live_gift": f"account creator amount currency quantity {_WHERE} request_id",
    "creator_payout": f"account creator amount currency method bank_account {_WHERE} request_id",
}  # fmt: skip
SLICE = 1 << 16  # rows rendered at once: bounds memory, not the result
EVENT_REQUESTS = 2  # request numbers 2n belong to event n, odd ones to requests that caused no event

Column = Callable[["Page", str], pa.Array]


@dataclass(slots=True)
class Page:
    """Some rows of one type on their way to text."""

    rows: np.ndarray
    numbers: np.ndarray  # running event numbers
    world: World
    texts: Texts


def events(rows: np.ndarray, first: int, world: World, texts_: Texts) -> Iterator[pa.Buffer]:
    """NDJSON of rows in the order given, in pieces; the first row is event number `first`."""
    for start in range(0, len(rows), SLICE):
        part = rows[start : start + SLICE]
        yield _bytes(_lines(part, first + start, world, texts_))


def _lines(rows: np.ndarray, first: int, world: World, texts_: Texts) -> pa.Array:
    number = np.arange(first, first + len(rows))
    by_type = np.argsort(rows["type"], kind="stable")
    kinds, starts = np.unique(rows["type"][by_type], return_index=True)
    chunks = [
        _typed(TYPES[kind], Page(rows[at], number[at], world, texts_))
        for kind, at in zip(kinds.tolist(), np.split(by_type, starts[1:]), strict=True)
    ]
    place = np.empty(len(rows), dtype=np.int64)
    place[by_type] = np.arange(len(rows))
    return pa.concat_arrays(chunks).take(pa.array(place))


def _typed(kind: str, page: Page) -> pa.Array:
    head = pc.binary_join_element_wise(
        event_ids(page.numbers, '{"event_id":"', '"'), texts.times(page.rows["t"], '"ts":"', f'","type":"{kind}"'), ","
    )
    parts = [head, *(FIELDS[name](page, f'"{name}":') for name in SHAPES[kind].split())]
    body = pc.binary_join_element_wise(*(part.cast(pa.string()) for part in parts), ",", null_handling="skip")
    return pc.binary_join_element_wise(body, pa.scalar("}\n"), "")


def event_ids(running: np.ndarray, before: str = "", after: str = "") -> pa.Array:
    """`e0000000123`: running numbers in order of arrival."""
    return texts.serials(running, before + "e", after)


def _bytes(lines: pa.Array) -> pa.Buffer:
    _, offsets, data = lines.buffers()
    ends = np.frombuffer(offsets, dtype=np.int32)
    return data.slice(int(ends[lines.offset]), int(ends[lines.offset + len(lines)] - ends[lines.offset]))


def _id(column: str, kind: str) -> Column:
    return lambda page, name: page.texts.ids(kind, page.rows[column], name + '"', '"')


def _word(column: str, words: tuple[str, ...]) -> Column:
    return lambda page, name: choices(words, page.rows[column], name + '"', '"')


def _money(column: str) -> Column:
    return lambda page, name: money(page.rows[column], name)


def _number(column: str) -> Column:
    return lambda page, name: numbers(page.rows[column], name)


def _flag(column: str) -> Column:
    return lambda page, name: choices(("false", "true"), page.rows[column], name)


def _country(page: Page, name: str) -> pa.Array:
    return choices(COUNTRIES, page.world.net.country(page.rows["ip"]), name + '"', '"')


def _agent(page: Page, name: str) -> pa.Array:
    device = page.rows["device"]
    agent = np.where(device < 0, -1, page.world.devices.agent[device])
    return choices(user_agents(), agent, name + '"', '"')


def _bin(page: Page, name: str) -> pa.Array:
    card = page.rows["card"]
    return texts.blank(pc.binary_join_element_wise(name + '"', numbers(page.world.cards.bin[card]), '"', ""), card < 0)


def _card_country(page: Page, name: str) -> pa.Array:
    card = page.rows["card"]
    return choices(COUNTRIES, np.where(card < 0, -1, page.world.cards.country[card]), name + '"', '"')


def _currency(page: Page, name: str) -> pa.Array:
    return choices(("USD",), np.zeros(len(page.rows), dtype=np.int8), name + '"', '"')


def _request(page: Page, name: str) -> pa.Array:
    session = page.rows["session"]
    return page.texts.ids("request", np.where(session < 0, -1, page.numbers * EVENT_REQUESTS), name + '"', '"')


FIELDS: dict[str, Column] = {
    "account": _id("account", "account"), "seller": _id("seller", "account"), "creator": _id("creator", "account"),
    "device": _id("device", "device"), "session": _id("session", "session"), "order_id": _id("order", "order"), "card": _id("card", "card"),
    "bank_account": _id("bank", "bank"), "address": _id("address", "address"), "coupon": _id("coupon", "coupon"),
    "product": _id("product", "product"), "text_hash": _id("text", "text"),
    "ip": lambda page, name: strings(ips(page.rows["ip"]), name), "country": _country, "user_agent": _agent,
    "email": lambda page, name: strings(page.texts.emails(page.rows["email"]), name),
    "phone": lambda page, name: strings(page.texts.phones(page.rows["phone"]), name),
    "card_bin": _bin, "card_country": _card_country, "amount": _money("amount"), "discount": _money("discount"), "currency": _currency,
    "items": _number("items"), "quantity": _number("quantity"), "rating": _number("rating"), "success": _flag("success"),
    "new_device": _flag("new_device"), "failure_reason": _word("reason", REASONS), "method": _word("method", METHODS),
    "category": _word("category", CATEGORIES), "field_changed": _word("changed", CHANGES), "request_id": _request,
}  # fmt: skip
