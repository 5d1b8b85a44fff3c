"""What an order causes later: the parcel, its arrival, a review, goods and money that go back, a dispute, a commission.

All rows are dated after the payment; most lie days in the future and wait there.
"""

from __future__ import annotations

import numpy as np

from shopward.market.networks import scatter
from shopward.market.rhythm import moments
from shopward.market.rows import (
    CATEGORIES,
    CONDITION,
    DAY,
    HOUR,
    METHOD,
    SECOND,
    SHIPPED,
    SOURCE,
    START,
    WHY,
    block,
)
from shopward.market.world import World, home_address

RETURNS = np.array([0.083, 0.115, 0.05, 0.07, 0.05, 0.012, 0.061, 0.02, 0.01, 0.0])  # by category, of orders
GRAMS = np.array([900, 450, 250, 1800, 600, 900, 1100, 420, 0, 0])  # a typical parcel by category
COMMISSION = 8  # percent of an order that an affiliate gets
REFERRAL = 500  # for a newcomer's first order, minor units
# why honest people want their money back, and what the warehouse finds in an honest parcel
REASONS = (
    (WHY["changed_mind"], 0.58),
    (WHY["not_as_described"], 0.2),
    (WHY["damaged"], 0.13),
    (WHY["not_received"], 0.09),
)
FOUND = ((CONDITION["as_sent"], 0.84), (CONDITION["used"], 0.1), (CONDITION["damaged"], 0.05), (CONDITION["different"], 0.008),
         (CONDITION["empty"], 0.002))  # fmt: skip


def aftermath(
    world: World, orders: np.ndarray, paid: np.ndarray, payments: np.ndarray, day: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Everything that follows from these paid orders; `paid` is each order's row of `payments`."""
    when = payments["t"][paid]
    regret = (rng.random(len(orders)) < 0.012) & SHIPPED[orders["category"]]
    out = _cancelled(orders[regret], when[regret], rng)
    orders, paid, when = orders[~regret], paid[~regret], when[~regret]
    arrived, parcels = shipments(world, orders, when, rng)
    out += parcels
    writes = np.flatnonzero(rng.random(len(orders)) < 0.1)
    out.append(_reviews(world, orders[writes], arrived[writes], day, rng))
    rate = RETURNS[orders["category"]] * np.where(world.accounts.returner[orders["account"]] == 1, 7.0, 1.0)
    robbed = is_robbed(orders["address"]) & SHIPPED[orders["category"]]
    back = np.flatnonzero(rng.random(len(orders)) < np.minimum(np.where(robbed, 0.25, rate), 0.6))
    out += _returns(world, orders[back], arrived[back], day, rng)
    unhappy = (rng.random(len(orders)) < np.where(robbed, 0.03, 0.0007)) & (payments["card"][paid] >= 0)
    out.append(_disputes(payments, paid[unhappy], rng))
    out.append(_commissions(orders[orders["affiliate"] >= 0], arrived[orders["affiliate"] >= 0]))
    return out


def _cancelled(orders: np.ndarray, when: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """A few think again within hours, or the shop has run out: nothing is sent, the money goes back."""
    n = len(orders)
    shop = rng.random(n) < 0.3
    rows = carried("order_cancel", orders, when + (rng.gamma(1.5, 1.2, n) * HOUR).astype(np.int64))
    rows["why"] = np.where(shop, WHY["out_of_stock"], WHY["changed_mind"])
    for name in ("device", "ip", "session"):
        rows[name] = np.where(shop, -1, orders[name])
    back = carried(
        "refund",
        orders,
        rows["t"] + 30 * SECOND,
        method=METHOD["original"],
        why=rows["why"],
        category=orders["category"],
    )
    return [rows, back]


def carried(kind: str, orders: np.ndarray, t: np.ndarray, **columns: object) -> np.ndarray:
    """Rows about these orders, with what identifies them."""
    same = {name: orders[name] for name in ("account", "seller", "order", "product", "amount")}
    return block(kind, len(orders), t=t, **{**same, **columns})


def parcel_weight(product: np.ndarray, category: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """Grams of an order's parcel; the same product always weighs the same.

    >>> parcel_weight(np.array([5, 5]), np.array([1, 1]), np.array([1, 2])).tolist()[0] > 20
    True
    """
    one = np.where(is_light(product), 20, GRAMS[category] * (0.4 + scatter(product) % 1200 / 1000))
    return (one * np.maximum(pieces, 1) + 30).astype(np.int64)


def is_light(product: np.ndarray) -> np.ndarray:
    """One product in forty weighs next to nothing: stickers, screws, jewellery."""
    return scatter(product) % 40 == 0


def is_robbed(address: np.ndarray) -> np.ndarray:
    """One door in ninety from which parcels are stolen."""
    return scatter(address) % 90 == 7


def shipments(
    world: World, orders: np.ndarray, when: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, list[np.ndarray]]:
    """When each order arrives (an hour after `when` if there is nothing to ship), and the rows of its parcel."""
    physical = SHIPPED[orders["category"]]
    sent, n = orders[physical], int(physical.sum())
    at = when[physical] + (rng.gamma(1.8, 0.55, n) * DAY).astype(np.int64) + 2 * HOUR
    letter = rng.random(n) < 0.18
    tracking = world.take("tracking", n)
    weight = parcel_weight(sent["product"], sent["category"], sent["quantity"])
    what = {
        "tracking": tracking,
        "weight": weight,
        "address": sent["address"],
        "order": sent["order"],
        "seller": sent["seller"],
    }
    rows = block(
        "shipment", n, t=at, lag=_batched(n, rng), account=sent["seller"], other=sent["account"], items=sent["items"],
        method=np.where(letter, METHOD["letter"], METHOD["parcel"]), **what,
    )  # fmt: skip
    there = at + (rng.gamma(4, 0.8, n) * DAY).astype(np.int64) + 4 * HOUR
    missed = np.flatnonzero(rng.random(n) < 0.03)
    tried = block("delivery", len(missed), t=there[missed] - 20 * HOUR, success=0, account=sent["account"][missed],
                  **{name: values[missed] for name, values in what.items()})  # fmt: skip
    tried["t"] = np.maximum(tried["t"], at[missed] + HOUR)
    done = block("delivery", n, t=there, lag=_batched(n, rng), success=1, account=sent["account"], **what)
    lost = rng.random(n) < 0.004  # never arrives
    arrived = when + HOUR
    arrived[physical] = there
    return arrived, [rows, tried, done[~lost]]


def _batched(n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.exponential(40 * SECOND, n).astype(np.int64)


def _later_visit(
    world: World, kind: str, orders: np.ndarray, when: np.ndarray, day: int, rng: np.random.Generator
) -> np.ndarray:
    """Rows of a short visit at a later time, in the hours people are awake, from home."""
    n, who = len(orders), orders["account"]
    ahead = (when - START) // DAY
    moment = START + ahead * DAY + (moments(world, who, day, rng) - START) % DAY
    moment = np.where(moment < when, moment + DAY, moment)
    return block(
        kind, n, t=moment, account=who, device=orders["device"], ip=home_address(world, who, day), session=world.take("session", n),
        order=orders["order"], seller=orders["seller"], product=orders["product"], category=orders["category"],
    )  # fmt: skip


def _reviews(world: World, orders: np.ndarray, arrived: np.ndarray, day: int, rng: np.random.Generator) -> np.ndarray:
    n = len(orders)
    rows = _later_visit(world, "review", orders, arrived + rng.exponential(4 * DAY, n).astype(np.int64), day, rng)
    rows["rating"] = rng.choice([1, 2, 3, 4, 5], n, p=[0.07, 0.04, 0.07, 0.19, 0.63])
    stock = rng.random(n) < 0.07  # "good", "thanks": the same few words from many people
    rows["text"] = np.where(stock, (rng.random(n) ** 3 * 40).astype(np.int64), 1000 + world.take("text", n))
    return rows


def _returns(
    world: World, orders: np.ndarray, arrived: np.ndarray, day: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """The buyer asks for money back; where goods came, most send them back first and the warehouse opens the parcel."""
    n = len(orders)
    rows = _later_visit(world, "refund", orders, arrived + rng.gamma(2, 2.2 * DAY, n).astype(np.int64), day, rng)
    part = np.where(rng.random(n) < 0.18, rng.uniform(0.2, 0.8, n), 1.0)
    rows["amount"] = np.maximum(1, np.rint(orders["amount"] * part)).astype(np.int64)
    rows["method"] = np.where(rng.random(n) < 0.86, METHOD["original"], METHOD["store_credit"])
    rows["why"] = rng.choice([why for why, _ in REASONS], n, p=[share for _, share in REASONS])
    rows["why"][is_robbed(orders["address"]) & SHIPPED[orders["category"]]] = WHY["not_received"]
    sends = np.flatnonzero(SHIPPED[orders["category"]] & (rows["why"] != WHY["not_received"]) & (rng.random(n) < 0.8))
    some = orders[sends]
    goods = carried(
        "return", some, rows["t"][sends] - rng.integers(2 * HOUR, 30 * HOUR, len(sends)), category=some["category"], why=rows["why"][sends],
        condition=rng.choice([found for found, _ in FOUND], len(sends), p=[share for _, share in FOUND]), tracking=world.take("tracking", len(sends)),
        weight=parcel_weight(some["product"], some["category"], some["quantity"]),
    )  # fmt: skip
    goods["t"] = np.maximum(goods["t"], arrived[sends] + HOUR)
    rows["t"][sends] = np.maximum(rows["t"][sends], goods["t"] + HOUR)
    return [goods, rows, _complaints(world, rows, rng)]


def _complaints(world: World, refunds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two in five write to the shop before they ask for their money back."""
    rows = refunds[(rng.random(len(refunds)) < 0.4) & (refunds["why"] != WHY["changed_mind"])]
    n = len(rows)
    same = {name: rows[name] for name in ("account", "device", "ip", "session", "seller", "product")}
    t = rows["t"] - rng.integers(60 * SECOND, 600 * SECOND, n)
    return block("message", n, t=t, other=rows["seller"], text=6_000_000 + world.take("text", n), **same)


def _disputes(payments: np.ndarray, at: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A chargeback because something did not come: the payment is labelled 0 when the dispute is settled."""
    when = payments["t"][at] + rng.gamma(5, 4.2 * DAY, len(at)).astype(np.int64) + 5 * DAY
    why = rng.choice([WHY["not_received"], WHY["not_as_described"], WHY["fraud"]], len(at), p=[0.5, 0.3, 0.2])
    rows = chargebacks(payments[at], when, why)
    payments["label"][at] = 0
    payments["source"][at] = SOURCE["dispute"]
    payments["label_t"][at] = rows["t"] + (rng.gamma(3, 2 * DAY, len(at)) + DAY).astype(np.int64)
    return rows


def chargebacks(payments: np.ndarray, when: np.ndarray, why: object) -> np.ndarray:
    """The chargeback rows of these payments; they come from the bank, so from no device."""
    columns = {name: payments[name] for name in ("account", "seller", "order", "card", "amount")}
    return block("chargeback", len(payments), t=when, why=why, **columns)


def _commissions(orders: np.ndarray, arrived: np.ndarray) -> np.ndarray:
    """Affiliates are credited when the parcel has arrived."""
    return commissions(orders, arrived + HOUR, orders["affiliate"], orders["amount"] * COMMISSION // 100, "affiliate")


def commissions(orders: np.ndarray, when: np.ndarray, to: np.ndarray, amount: np.ndarray, method: str) -> np.ndarray:
    """Credits to the accounts `to` for orders of others."""
    return block(
        "commission", len(orders), t=when, account=to, affiliate=to, payee=to, other=orders["account"], seller=orders["seller"], order=orders["order"],
        amount=np.maximum(amount, 1), method=METHOD[method],
    )  # fmt: skip


assert len(RETURNS) == len(GRAMS) == len(CATEGORIES)
