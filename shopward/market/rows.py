"""What one thing that happened looks like while the market is being made: a row of codes, no text.

Every event is one row of one numpy structured array, -1 where a field does not apply. Text is made last (see `texts`), so a
million events are a few hundred megabytes of numbers at most and a day of them is a few. The columns from `campaign` on are
the truth: they never reach `events.ndjson`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
START = 1_767_571_200_000  # 2026-01-05T00:00:00Z, a Monday: day 0 of every market

TYPES = (
    "register", "login", "password_reset", "profile_change", "challenge_result", "session_view", "coupon_claim", "order",
    "payment", "payment_failed", "refund", "chargeback", "review", "shipment", "listing", "seller_onboard", "seller_payout",
    "live_gift", "creator_payout", "device_bind", "search", "follow", "like", "cart", "ad_click", "affiliate_click",
    "free_sample", "order_cancel", "delivery", "return", "message", "price_change", "stock", "commission", "traffic_verdict",
)  # fmt: skip
CODE = {name: code for code, name in enumerate(TYPES)}

METHODS = (
    "password", "otp", "social", "email", "sms", "captcha", "card", "wallet", "bank_transfer", "instant_card", "original",
    "store_credit", "parcel", "letter", "affiliate", "referral",
)  # fmt: skip
METHOD = {name: code for code, name in enumerate(METHODS)}

REASONS = (
    "bad_password", "unknown_account", "otp_expired", "locked", "insufficient_funds", "do_not_honor", "invalid_cvc",
    "expired_card", "stolen_card", "limit_exceeded", "invalid_number",
)  # fmt: skip
REASON = {name: code for code, name in enumerate(REASONS)}

WHYS = ("not_received", "damaged", "not_as_described", "changed_mind", "unpaid", "out_of_stock", "fraud")
WHY = {name: code for code, name in enumerate(WHYS)}  # of refunds, returns, cancellations and disputes

CONDITIONS = ("as_sent", "used", "damaged", "different", "empty")
CONDITION = {name: code for code, name in enumerate(CONDITIONS)}

VERDICTS = ("scraper", "automation", "stuffing", "forged_app", "attack", "leak", "human")
VERDICT = {name: code for code, name in enumerate(VERDICTS)}

CHANGES = ("email", "phone", "password", "bank_account", "address")
CHANGE = {name: code for code, name in enumerate(CHANGES)}

CATEGORIES = (
    "electronics", "fashion", "beauty", "home", "toys", "grocery", "sports", "books", "digital", "gift_cards",
)  # fmt: skip
CATEGORY = {name: code for code, name in enumerate(CATEGORIES)}
SHIPPED = np.array([name not in ("digital", "gift_cards") for name in CATEGORIES])

SOURCES = (
    "chargeback",
    "account_report",
    "promo_audit",
    "payout_audit",
    "security",
    "seller_report",
    "review",
    "dispute",
    "trust_audit",
    "buyer_report",
)
SOURCE = {name: code for code, name in enumerate(SOURCES)}

DRAIN = -2  # an amount: whatever the balance is when the payout runs

EVENT = np.dtype(
    [
        ("t", "i8"),  # when it happened, ms UTC
        ("lag", "i4"),  # how much later it reached the log, ms
        ("type", "i1"),
        ("account", "i4"),
        ("seller", "i4"),
        ("creator", "i4"),
        ("other", "i4"),  # the second account: receiver, target, referrer, or the buyer where `account` is a shop
        ("payer", "i4"),
        ("payee", "i4"),
        ("affiliate", "i4"),
        ("device", "i4"),
        ("ip", "i8"),
        ("session", "i8"),
        ("order", "i4"),
        ("product", "i4"),
        ("category", "i1"),
        ("card", "i4"),
        ("bank", "i4"),
        ("address", "i4"),
        ("coupon", "i4"),
        ("promotion", "i2"),
        ("document", "i4"),
        ("brand", "i2"),
        ("tracking", "i4"),
        ("ad", "i4"),
        ("room", "i4"),
        ("email", "i8"),
        ("phone", "i8"),
        ("amount", "i8"),  # minor units
        ("discount", "i4"),
        ("before", "i4"),  # the price that `amount` replaces
        ("weight", "i4"),  # grams
        ("items", "i4"),
        ("quantity", "i4"),
        ("rating", "i1"),
        ("text", "i8"),
        ("image", "i8"),
        ("query", "i2"),
        ("method", "i1"),
        ("success", "i1"),
        ("reason", "i1"),
        ("why", "i1"),
        ("condition", "i1"),
        ("contact", "i1"),
        ("link", "i1"),
        ("verdict", "i1"),
        ("certainty", "i1"),  # of a verdict, percent
        ("changed", "i1"),
        ("new_device", "i1"),
        ("campaign", "i2"),
        ("label", "i1"),
        ("label_t", "i8"),
        ("source", "i1"),
        ("loss", "i8"),
        ("technique", "i2"),
    ]
)
BLANK = np.full(1, -1, dtype=EVENT)
BLANK["lag"] = 0
BLANK["loss"] = 0


def block(kind: str, n: int, **columns: Any) -> np.ndarray:
    """`n` rows of one event type with the given columns set and everything else empty.

    >>> block("login", 2, t=[10, 20], account=7)[["t", "account", "seller"]].tolist()
    [(10, 7, -1), (20, 7, -1)]
    """
    rows = np.repeat(BLANK, n)
    rows["type"] = CODE[kind]
    for name, values in columns.items():
        rows[name] = values
    return rows


def stack(blocks: list[np.ndarray]) -> np.ndarray:
    """Blocks under one another, in the order given."""
    out, start = np.empty(sum(map(len, blocks)), dtype=EVENT), 0
    for some in blocks:  # np.concatenate would compare all the fields of all the blocks first
        out[start : start + len(some)] = some
        start += len(some)
    return out


class Columns:
    """A growing table of one kind of thing (accounts, devices, cards); a row's number is its code.

    >>> devices = Columns(model="i2", owner="i4")
    >>> devices.add(2, model=5), devices.add(1, model=6, owner=9), devices.model
    (array([0, 1]), array([2]), array([5, 5, 6], dtype=int16))
    """

    def __init__(self, **dtypes: str):
        self._store = {name: np.empty(16, dtype=dtype) for name, dtype in dtypes.items()}
        self.n = 0

    def add(self, n: int, **values: Any) -> np.ndarray:
        """Append `n` rows and return their codes; a column that is not given is -1."""
        self._grow(self.n + n)
        for name, column in self._store.items():
            column[self.n : self.n + n] = values.pop(name, -1)
        if values:
            raise TypeError(f"no such column: {', '.join(values)}")
        self.n += n
        return np.arange(self.n - n, self.n)

    def _grow(self, need: int) -> None:
        for name, column in self._store.items():
            if need > len(column):
                bigger = np.empty(max(need, 2 * len(column)), dtype=column.dtype)
                bigger[: self.n] = column[: self.n]
                self._store[name] = bigger

    def __getattr__(self, name: str) -> np.ndarray:
        try:
            return self.__dict__["_store"][name][: self.__dict__["n"]]
        except KeyError:
            raise AttributeError(name) from None
