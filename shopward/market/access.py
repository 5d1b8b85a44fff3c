"""The access log of the same market: one row per HTTP request, in the shape the traffic tools read.

Every event that somebody caused through the site or the app was carried by a request, which has the event's `request_id`. Around
them are the requests that caused no event: pages, search, the cart. Scripts of attackers ask for little beside what they need.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shopward.market import texts
from shopward.market.lines import EVENT_REQUESTS, SLICE, _bytes
from shopward.market.networks import COUNTRIES
from shopward.market.rows import CODE, REASON, SECOND, TYPES
from shopward.market.texts import Texts, choices, ips, numbers, strings
from shopward.market.world import World, user_agents

# event type -> (method, path before its id, column of the id, path after it, status, typical bytes)
CARRIERS: dict[str, tuple[str, str, str, str, int, int]] = {
    "register": ("POST", "/api/v1/accounts", "", "", 201, 420), "login": ("POST", "/api/v1/session", "", "", 200, 610),
    "password_reset": ("POST", "/api/v1/password-resets", "", "", 202, 95),
    "profile_change": ("PATCH", "/api/v1/accounts/", "account", "", 200, 380),
    "challenge_result": ("POST", "/api/v1/challenges", "", "", 200, 120),
    "session_view": ("GET", "/api/v1/products/", "product", "", 200, 5200),
    "coupon_claim": ("POST", "/api/v1/coupons/", "coupon", "/claims", 201, 160), "order": ("POST", "/api/v1/orders", "", "", 201, 840),
    "payment": ("POST", "/api/v1/orders/", "order", "/payments", 201, 310),
    "payment_failed": ("POST", "/api/v1/orders/", "order", "/payments", 402, 180),
    "refund": ("POST", "/api/v1/orders/", "order", "/refunds", 201, 240),
    "review": ("POST", "/api/v1/products/", "product", "/reviews", 201, 260),
    "listing": ("POST", "/api/v1/sellers/", "seller", "/listings", 201, 720),
    "seller_onboard": ("POST", "/api/v1/sellers", "", "", 201, 530),
    "seller_payout": ("POST", "/api/v1/sellers/", "seller", "/payouts", 201, 230),
    "live_gift": ("POST", "/api/v1/live/", "creator", "/gifts", 201, 140),
    "creator_payout": ("POST", "/api/v1/creators/", "creator", "/payouts", 201, 230),
}  # fmt: skip
_ID = {
    "account": "account",
    "seller": "account",
    "creator": "account",
    "product": "product",
    "coupon": "coupon",
    "order": "order",
}

# requests without an event: (method, path, status, bytes, beside these events, how many on average, how many beside an attacker's)
BESIDE: tuple[tuple[str, str, int, int, tuple[str, ...], float, float], ...] = (
    ("GET", "/", 200, 18_400, ("login", "register"), 0.8, 0.1),
    ("GET", "/api/v1/feed?page={n}", 200, 9_100, ("session_view",), 0.8, 0.6),
    ("GET", "/api/v1/search?q={word}&page={n}", 200, 7_300, ("session_view",), 1.0, 0.9),
    ("GET", "/api/v1/products/{product}", 200, 5_200, ("session_view",), 7.0, 1.5),
    ("GET", "/api/v1/me", 200, 640, ("login", "order"), 1.0, 0.5),
    ("POST", "/api/v1/cart/items", 201, 330, ("order",), 1.3, 1.0),
    ("GET", "/api/v1/cart", 200, 1_150, ("order",), 1.1, 0.6),
    ("GET", "/api/v1/shipping/rates?country={country}", 200, 410, ("order",), 0.7, 0.3),
    ("GET", "/api/v1/orders", 200, 3_900, ("refund", "review", "seller_payout"), 1.2, 0.7),
)
WORDS = (
    "phone+case",
    "sneakers",
    "dress",
    "lamp",
    "headphones",
    "yoga+mat",
    "novel",
    "face+cream",
    "puzzle",
    "coffee",
    "gift+card",
    "jacket",
)


def requests(
    rows: np.ndarray, first: int, world: World, texts_: Texts, rng: np.random.Generator, extra: int
) -> Iterator[tuple[pa.Buffer, int]]:
    """NDJSON of the requests behind a day's rows, in order of time; `extra` numbers the ones without an event.

    Yields each piece with the next free `extra`.
    """
    carried = np.flatnonzero(rows["session"] >= 0)
    table = [_carried(rows, carried, first, rng)]
    for kind in range(len(BESIDE)):
        table.append(_beside(rows, kind, world, rng, extra))
        extra += len(table[-1])
    log = np.concatenate(table)
    log = log[np.argsort(log["t"], kind="stable")]
    for start in range(0, len(log), SLICE):
        yield _bytes(_lines(log[start : start + SLICE], rows, world, texts_)), extra


REQUEST = np.dtype(
    [("t", "i8"), ("row", "i8"), ("kind", "i2"), ("number", "i8"), ("status", "i2"), ("bytes", "i4"), ("pick", "i4")]
)


def _carried(rows: np.ndarray, at: np.ndarray, first: int, rng: np.random.Generator) -> np.ndarray:
    log = np.zeros(len(at), dtype=REQUEST)
    types = rows["type"][at]
    log["t"], log["row"], log["kind"] = rows["t"][at] + rows["lag"][at], at, types
    log["number"] = (first + at) * EVENT_REQUESTS
    carriers = [CARRIERS.get(name, ("", "", "", "", 0, 0)) for name in TYPES]
    log["status"] = np.array([c[4] for c in carriers])[types]
    log["status"][_refused(rows[at])] = 401
    log["status"][(rows["reason"][at] == REASON["locked"])] = 423
    log["bytes"] = _sizes(np.array([c[5] for c in carriers])[types], rng)
    return log


def _refused(rows: np.ndarray) -> np.ndarray:
    return (rows["success"] == 0) & np.isin(rows["type"], [CODE["login"], CODE["challenge_result"]])


def _beside(rows: np.ndarray, kind: int, world: World, rng: np.random.Generator, extra: int) -> np.ndarray:
    _, _, status, size, events, many, few = BESIDE[kind]
    near = np.isin(rows["type"], [CODE[name] for name in events]) & (rows["session"] >= 0)
    count = rng.poisson(np.where(rows["campaign"] > 0, few, many) * near * (rows["success"] != 0))
    at = np.repeat(np.arange(len(rows)), count)
    log = np.zeros(len(at), dtype=REQUEST)
    log["t"] = rows["t"][at] + rng.integers(-90 * SECOND, 90 * SECOND, len(at))
    log["row"], log["kind"] = at, len(TYPES) + kind
    log["number"] = (extra + np.arange(len(at))) * EVENT_REQUESTS + 1
    u = rng.random(len(at))
    log["status"] = np.where(
        u < 0.004, 404, np.where(u < 0.0055, 503, np.where((u < 0.12) & (size > 5000), 304, status))
    )
    log["bytes"] = np.where(log["status"] == status, _sizes(np.full(len(at), size), rng), 0)
    log["pick"] = rng.integers(0, 1 << 30, len(at))
    return log


def _sizes(typical: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (typical * rng.lognormal(0, 0.22, len(typical))).astype(np.int64)


def _lines(log: np.ndarray, rows: np.ndarray, world: World, texts_: Texts) -> pa.Array:
    rows = rows[log["row"]]
    device = rows["device"]
    agent = np.where(device < 0, -1, world.devices.agent[device])
    methods = [CARRIERS[name][0] if name in CARRIERS else "" for name in TYPES] + [beside[0] for beside in BESIDE]
    parts = [
        texts_.ids("request", log["number"], '{"id":"', '"'), texts.times(log["t"], '"ts":"', '"'), choices(methods, log["kind"], '"method":"', '"'),
        strings(_urls(log, rows, world, texts_), '"url":'), numbers(log["status"], '"status":'), strings(ips(rows["ip"]), '"ip":'),
        texts_.ids("session", rows["session"], '"session":"', '"'), texts_.ids("account", rows["account"], '"account":"', '"'),
        texts_.ids("device", device, '"device":"', '"'),
        choices(user_agents(), agent, '"headers":{"user-agent":"', '","accept":"application/json","host":"shop.example"}'),
        numbers(log["bytes"], '"bytes":'),
    ]  # fmt: skip
    body = pc.binary_join_element_wise(*(part.cast(pa.string()) for part in parts), ",", null_handling="skip")
    return pc.binary_join_element_wise(body, pa.scalar("}\n"), "")


def _urls(log: np.ndarray, rows: np.ndarray, world: World, texts_: Texts) -> pa.Array:
    kinds = np.flatnonzero(np.bincount(log["kind"], minlength=len(TYPES) + len(BESIDE)))
    where, chunks = [np.flatnonzero(log["kind"] == kind) for kind in kinds], []
    for kind, at in zip(kinds.tolist(), where, strict=True):
        if kind < len(TYPES):
            chunks.append(_event_url(TYPES[kind], rows[at], texts_))
        else:
            chunks.append(_page_url(BESIDE[kind - len(TYPES)][1], log["pick"][at], rows[at], world, texts_))
    place = np.empty(len(log), dtype=np.int64)
    place[np.concatenate(where)] = np.arange(len(log))
    return pa.concat_arrays([chunk.cast(pa.string()) for chunk in chunks]).take(pa.array(place))


def _event_url(kind: str, rows: np.ndarray, texts_: Texts) -> pa.Array:
    _, before, column, after, _, _ = CARRIERS[kind]
    if not column:
        return pa.array([before]).take(pa.array(np.zeros(len(rows), dtype=np.int64)))
    return texts_.ids(_ID[column], np.maximum(rows[column], 0), before, after)


def _page_url(path: str, pick: np.ndarray, rows: np.ndarray, world: World, texts_: Texts) -> pa.Array:
    """Fill `{product}`, `{word}`, `{n}` and `{country}` of a path."""
    fills = {
        "product": lambda: texts_.ids("product", np.searchsorted(world.popularity, (pick % 999_983) / 999_984)),
        "word": lambda: choices(WORDS, pick % len(WORDS)),
        "n": lambda: numbers(1 + (pick >> 8) % 5),
        "country": lambda: choices(COUNTRIES, world.net.country(rows["ip"])),
    }
    pieces: list[object] = []
    for piece in path.replace("}", "{").split("{"):
        pieces.append(fills[piece]() if piece in fills else pa.scalar(piece))
    if len(pieces) == 1:
        return pa.array([path]).take(pa.array(np.zeros(len(pick), dtype=np.int64)))
    return pc.binary_join_element_wise(*pieces, "")
