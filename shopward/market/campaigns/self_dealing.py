"""Self-dealing: a shop orders from itself on our coupons, ships labels, praises itself, and lists something else afterwards.

The business: the coupon is the platform's money, the stars sell the next thing, and a few accounts of one's own are enough.
"""

from __future__ import annotations

from dataclasses import dataclass

from shopward.market.campaigns.identities import crew, drops, enter, log_in, moments
from shopward.market.campaigns.script import Fields, Kind, Script, said
from shopward.market.campaigns.shops import Shop, open_shop, take_money
from shopward.market.payouts import HOLD_DAYS
from shopward.market.rows import CATEGORY, DAY, METHOD, MINUTE

OFF = 0.3  # of the price, paid by the platform


@dataclass(frozen=True, slots=True)
class Way:
    orders: int  # of each account
    per_device: int
    own_desk: float  # share of orders made on the machine on which the shop is run
    one_phone: bool  # all accounts verified with one number
    labels: int  # parcels to one tracking number
    sham_door: float  # share of parcels that go back to the shop
    back: float  # share of orders that are refunded
    guesses: int  # coupon codes tried first
    hours: tuple[float, float]
    seen: float  # chance that the traffic of the guessing is noticed
    texts: float  # different words per review


LOUD = Way(13, 2, 0.3, True, 4, 0.5, 0.3, 9, (20.0, 60.0), 0.5, 0.02)
QUIET = Way(2, 1, 0.0, False, 1, 0.0, 0.1, 1, (90.0, 200.0), 0.02, 1.0)


def plan(script: Script) -> None:
    """Open, guess codes, order, send labels, praise, be paid, turn the product into another one."""
    way, rng, world = script.way(LOUD, QUIET), script.rng, script.world
    shop = open_shop(script, "SW-1039", (12, 34), 4)
    script.start = shop.opened
    n = max(4 * way.orders, round(script.target / (23 * OFF)))
    people = crew(script, -(-n // way.orders), way.per_device, way.per_device, warm=False, role="own_buyer")
    if way.one_phone:
        world.accounts.phone[[who["account"] for who in people]] = int(rng.integers(5_000_000, 9_900_000))
    _guess(script, way, shop)
    doors, cards = drops(script, 2 + n // 6, "sham_door"), world.new_cards(rng, script.countries(len(people)))
    tracking = world.take("tracking", -(-n // way.labels))
    bought: list[tuple[Fields, Fields]] = []
    for i, t in enumerate(moments(script, n, way.hours)):
        k = i % len(people)
        at = {**people[k], "device": shop.seat["device"], "ip": shop.seat["ip"]} if rng.random() < way.own_desk else people[k]  # fmt: skip
        if people[k]["account"] in script.unborn:
            at = people[k]
        order = _order(
            script, way, shop, t, at, int(doors[i % len(doors)]), int(cards[k]), int(tracking[i // way.labels])
        )
        bought.append((people[k], order))
    _praise(script, way, bought)
    take_money(script, shop, script.last + HOLD_DAYS * DAY, "SW-1019")
    _turn(script, shop)
    script.books.pay(60 + 0.8 * n, "papers, labels and accounts")


def _guess(script: Script, way: Way, shop: Shop) -> None:
    """Codes that other shops gave away are tried until one takes."""
    seat, t = shop.at(script), shop.opened + MINUTE
    script.verdict(t, seat, "attack", way.seen)
    for code in range(way.guesses):
        t += script.pause(20)
        script.add("coupon_claim", t, "SW-1011.002", coupon=2 + code, discount=1000, **seat, **shop.label)


def _order(script: Script, way: Way, shop: Shop, t: int, who: Fields, door: int, card: int, tracking: int) -> Fields:
    """One order of the shop at itself, down to the label on an envelope."""
    rng, product, label = script.rng, int(script.rng.choice(shop.products)), shop.label
    t = enter(script, t, who, "SW-1039", **label)
    gross = script.price(product)
    off = max(1, int(gross * OFF * rng.uniform(0.8, 1.2)))
    shown: Fields = {"amount": gross - off, "discount": off, "coupon": 2}
    order, t = script.purchase(t, who, product, door, "SW-1019", **shown, **label)
    order["loss"] = off
    script.pay(t, order, card, "SW-1039", loss=0, **label)
    script.add(
        "shipment", t + script.later(1, 20), "SW-1038", account=shop.account, seller=shop.account, other=who["account"], order=int(order["order"][0]),
        items=1, method=METHOD["letter"], tracking=tracking, weight=int(rng.integers(10, 60)),
        address=int(script.world.accounts.address[shop.account]) if rng.random() < way.sham_door else door, **label,
    )  # fmt: skip
    if rng.random() < way.back:
        script.send_back(
            order, t + script.later(20, 60), "SW-1037", "not_as_described", None, gross - off, 0, who, **label
        )
    script.books.earn(1, off / 100)
    return {"order": int(order["order"][0]), "product": product, "category": int(order["category"][0]), "seller": shop.account}  # fmt: skip


def _praise(script: Script, way: Way, bought: list[tuple[Fields, Fields]]) -> None:
    """One evening on which every account writes its reviews."""
    texts = 1000 + script.world.take("text", max(1, round(len(bought) * way.texts)))
    t = script.last + int(script.rng.uniform(0.5, 1.5) * DAY)
    for i, (who, order) in enumerate(sorted(bought, key=lambda pair: pair[0]["account"])):
        t += script.pause(60)
        label = said("trust_audit", t + 9 * DAY)
        script.add("review", t, "SW-1021", rating=5, text=int(texts[i % len(texts)]), **order, **who, **label)


def _turn(script: Script, shop: Shop) -> None:
    """The stars stay, the goods change."""
    seat, product, world = shop.at(script), int(shop.products[0]), script.world
    t = log_in(script, script.last + DAY // 2, seat, "SW-1023", **shop.label)
    now = CATEGORY["electronics"] if int(world.products.category[product]) != CATEGORY["electronics"] else CATEGORY["beauty"]  # fmt: skip
    script.add(
        "listing", t, "SW-1023", seller=shop.account, product=product, category=now, amount=int(world.products.price[product]) * 3, quantity=200,
        text=1000 + int(world.take("text", 1)[0]), image=int(world.take("image", 1)[0]), **seat, **shop.label,
    )  # fmt: skip


KIND = Kind(
    "self_dealing",
    plan,
    share=0.0002,
    haul=300.0,
    likeness="a new shop in its first sale, whose friends come for the coupon",
    days=9,
)
