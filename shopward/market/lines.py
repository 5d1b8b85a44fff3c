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
from shopward.market.rows import CATEGORIES, CHANGES, CONDITIONS, METHODS, REASONS, TYPES, VERDICTS, WHYS
from shopward.market.texts import BRANDS, QUERIES, Texts, choices, ips, money, numbers, strings
from shopward.market.world import World, user_agents

_WHERE = "session device ip country"
_CARD = "card card_bin card_country"
SHAPES = {
    "register": f"account email phone method referrer emulator {_WHERE} user_agent request_id",
    "login": f"account email method success failure_reason new_device emulator {_WHERE} user_agent request_id",
    "password_reset": f"account email phone method {_WHERE} user_agent request_id",
    "profile_change": f"account seller field_changed email phone address bank_account new_device {_WHERE} request_id",
    "challenge_result": f"account method success {_WHERE} request_id",
    "device_bind": f"account new_device {_WHERE} request_id",
    "session_view": f"account seller product category {_WHERE} request_id",
    "search": f"account query {_WHERE} request_id",
    "follow": f"account target live_room {_WHERE} request_id",
    "like": f"account target product live_room {_WHERE} request_id",
    "cart": f"account seller product quantity amount currency promotion {_WHERE} request_id",
    "ad_click": f"account ad seller product amount currency {_WHERE} request_id",
    "affiliate_click": f"account affiliate seller product {_WHERE} request_id",
    "coupon_claim": f"account coupon discount currency emulator {_WHERE} request_id",
    "free_sample": f"account seller product address amount currency {_WHERE} request_id",
    "order": "account seller order_id product category items quantity amount currency discount coupon promotion affiliate address phone"
    f" emulator {_WHERE} user_agent request_id",
    "order_cancel": f"account seller order_id product amount currency reason {_WHERE} request_id",
    "payment": f"account seller order_id amount currency method payer {_CARD} address {_WHERE} user_agent request_id",
    "payment_failed": f"account seller order_id amount currency method failure_reason payer {_CARD} address {_WHERE} user_agent request_id",
    "shipment": "account seller buyer order_id items method tracking weight address",
    "delivery": "account seller order_id tracking weight success address",
    "refund": f"account seller order_id product amount currency method category reason {_WHERE} request_id",
    "return": "account seller order_id product category amount currency reason condition tracking weight",
    "chargeback": f"account seller order_id amount currency reason {_CARD}",
    "review": f"account seller order_id product category rating text_hash {_WHERE} request_id",
    "message": f"account receiver seller product text_hash has_contact has_link {_WHERE} request_id",
    "seller_onboard": f"account seller email phone address bank_account document {_WHERE} request_id",
    "listing": f"account seller product category brand amount currency price_before quantity text_hash image_hash has_contact has_link {_WHERE} request_id",
    "price_change": f"account seller product category amount currency price_before {_WHERE} request_id",
    "stock": f"account seller product quantity {_WHERE} request_id",
    "seller_payout": f"account seller payee amount currency method bank_account {_WHERE} request_id",
    "live_gift": f"account creator live_room payer amount currency quantity {_CARD} emulator {_WHERE} request_id",
    "creator_payout": f"account creator payee amount currency method bank_account {_WHERE} request_id",
    "commission": "account affiliate payee buyer seller order_id amount currency method",
    "traffic_verdict": f"account verdict verdict_score {_WHERE}",
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


def _true(column: str) -> Column:
    """Said only where it is so: these are rare."""
    return lambda page, name: choices(("true",), np.where(page.rows[column] == 1, 0, -1), name)


def _flag(column: str) -> Column:
    return lambda page, name: choices(("false", "true"), page.rows[column], name)


def _country(page: Page, name: str) -> pa.Array:
    return choices(COUNTRIES, page.world.net.country(page.rows["ip"]), name + '"', '"')


def _agent(page: Page, name: str) -> pa.Array:
    device = page.rows["device"]
    agent = np.where(device < 0, -1, page.world.devices.agent[device])
    return choices(user_agents(), agent, name + '"', '"')


def _emulator(page: Page, name: str) -> pa.Array:
    device = page.rows["device"]
    odd = (device >= 0) & (page.world.devices.emulator[device] == 1)
    return choices(("true",), np.where(odd, 0, -1), name)


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
    "product": _id("product", "product"), "text_hash": _id("text", "text"), "image_hash": _id("image", "image"),
    "receiver": _id("other", "account"), "target": _id("other", "account"), "referrer": _id("other", "account"), "buyer": _id("other", "account"),
    "payer": _id("payer", "account"), "payee": _id("payee", "account"), "affiliate": _id("affiliate", "account"),
    "promotion": _id("promotion", "promotion"), "document": _id("document", "document"), "tracking": _id("tracking", "tracking"),
    "ad": _id("ad", "ad"), "live_room": _id("room", "room"), "brand": _word("brand", BRANDS), "query": _word("query", QUERIES),
    "ip": lambda page, name: strings(ips(page.rows["ip"]), name), "country": _country, "user_agent": _agent,
    "email": lambda page, name: strings(page.texts.emails(page.rows["email"]), name),
    "phone": lambda page, name: strings(page.texts.phones(page.rows["phone"]), name),
    "card_bin": _bin, "card_country": _card_country, "amount": _money("amount"), "discount": _money("discount"), "currency": _currency,
    "price_before": _money("before"), "weight": _number("weight"), "condition": _word("condition", CONDITIONS), "reason": _word("why", WHYS),
    "verdict": _word("verdict", VERDICTS), "verdict_score": lambda page, name: money(page.rows["certainty"].astype(np.int64), name),
    "has_contact": _true("contact"), "has_link": _true("link"), "emulator": _emulator,
    "items": _number("items"), "quantity": _number("quantity"), "rating": _number("rating"), "success": _flag("success"),
    "new_device": _flag("new_device"), "failure_reason": _word("reason", REASONS), "method": _word("method", METHODS),
    "category": _word("category", CATEGORIES), "field_changed": _word("changed", CHANGES), "request_id": _request,
}  # fmt: skip
