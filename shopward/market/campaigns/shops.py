"""Shops that campaigns run: opened for the occasion, stocked, and emptied through a payout.

The shop's own rows (sign-up, papers, listings, parcels, payout) are fraud; its real customers' orders are not: they are victims.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shopward.market.campaigns.identities import log_in, sign_up
from shopward.market.campaigns.script import Fields, Script
from shopward.market.rows import CATEGORY, DAY, DRAIN, HOUR, METHOD, START
from shopward.market.world import add_products, sell_accounts

GOODS = (CATEGORY["electronics"], CATEGORY["fashion"], CATEGORY["home"])
MULE_SHARE = 0.35


@dataclass(slots=True)
class Shop:
    """An open shop: its account, where its owner sits, what it offers, and where its money goes."""

    account: int
    seat: Fields
    products: np.ndarray
    bank: int
    opened: int
    label: Fields

    def at(self, script: Script) -> Fields:
        """The owner's seat in a new session."""
        return {**self.seat, "session": script.session()}


def open_shop(
    script: Script, technique: str, price: tuple[float, float], n: int, t: int | None = None, categories: tuple[int, ...] = GOODS,
    bank: int | None = None, document: int | None = None, device: int | None = None, source: str = "payout_audit",
    known: int | None = None, listed: Fields | None = None, one_image: bool = False,
) -> Shop:  # fmt: skip
    """Sign up, hand in papers, put up `n` products between two prices (dollars)."""
    world, rng = script.world, script.rng
    owner = sell_accounts(world, rng, 1, reg=START)
    ip = int(script.homes(world.accounts.country[owner].astype(np.int64))[0])
    if device is not None:
        world.accounts.first[owner] = device
    seat: Fields = {"account": int(owner[0]), "device": int(world.accounts.first[owner[0]]), "ip": ip}
    begin = script.start if t is None else t
    label: Fields = {"source": source, "known": begin + int(rng.uniform(14, 35) * DAY) if known is None else known}
    who = {**seat, "session": script.session()}
    opened = sign_up(script, begin, who, "T1585", **label) + int(rng.uniform(0.2, 20) * HOUR)
    bank = int(world.take("bank", 1)[0]) if bank is None else bank
    _papers(script, opened, who, bank, document, label)
    shop = world.sellers.add(
        1, account=seat["account"], reg=opened, bank=bank, weekday=-1, hour=0.0, automatic=0, rate=0.0, weekly=0.0
    )
    products = add_products(world, rng, np.full(n, int(shop[0])), rng.choice(categories, n))
    world.products.price[products] = (rng.uniform(*price, n).astype(np.int64) + 1) * 100 - 1
    put_up(script, products, opened, who, technique, label, listed, one_image)
    for kind, code in (("account", seat["account"]), ("device", seat["device"]), ("ip", ip), ("bank_account", bank)):
        script.actor(kind, code, "front_shop")
    return Shop(seat["account"], seat, products, bank, opened, label)


def _papers(script: Script, t: int, who: Fields, bank: int, document: int | None, label: Fields) -> None:
    world, account = script.world, who["account"]
    contact: Fields = {name: int(getattr(world.accounts, name)[account]) for name in ("email", "phone", "address")}
    paper = int(world.take("document", 1)[0]) if document is None else document
    script.add("seller_onboard", t, "F1021", seller=account, bank=bank, document=paper, **contact, **who, **label)


def put_up(
    script: Script, products: np.ndarray, t: int, who: Fields, technique: str, label: Fields, more: Fields | None = None, one_image: bool = False
) -> int:  # fmt: skip
    """List products one after another, with own pictures and words or the same ones for all."""
    world, n = script.world, len(products)
    texts, images = 1000 + world.take("text", n), world.take("image", n)
    if one_image:
        texts[:], images[:] = texts[np.arange(n) % 3], images[np.arange(n) % 2]
    for k, product in enumerate(products.tolist()):
        t += script.pause(150)
        script.add(
            "listing", t, technique, seller=who["account"], product=product, category=int(world.products.category[product]),
            amount=int(world.products.price[product]), quantity=int(script.rng.integers(20, 500)), text=int(texts[k]), image=int(images[k]),
            **(more or {}), **who, **label,
        )  # fmt: skip
    return t


def take_money(script: Script, shop: Shop, t: int, technique: str, loss: int = 0, parts: int = 1) -> None:
    """Log in and have the balance paid out, at once or in parts: each takes all there is by then. With `loss=DRAIN` that is what is lost."""
    for _ in range(parts):
        seat = shop.at(script)
        t = log_in(script, t, seat, technique, **shop.label)
        method = METHOD["instant_card"] if script.rng.random() < 0.6 else METHOD["bank_transfer"]
        script.add(
            "seller_payout", t, technique, seller=shop.account, payee=shop.account, bank=shop.bank, amount=DRAIN, loss=loss, method=method, **seat, **shop.label
        )  # fmt: skip
        t += int(script.rng.uniform(0.8, 2.2) * DAY)


def parcel(
    script: Script,
    shop: Shop,
    order: np.ndarray,
    t: int,
    technique: str,
    weight: int,
    loss: int = 0,
    arrives: bool = True,
) -> int:
    """The shop hands over a parcel that is not what was ordered; returns when it arrives. `loss` is what the buyer is cheated of."""
    world, rng = script.world, script.rng
    tracking, address = int(world.take("tracking", 1)[0]), int(order["address"][0])
    what: Fields = {
        "order": int(order["order"][0]),
        "seller": shop.account,
        "tracking": tracking,
        "weight": weight,
        "address": address,
    }
    script.add(
        "shipment", t, technique, account=shop.account, other=int(order["account"][0]), items=int(order["items"][0]),
        method=METHOD["letter" if weight < 120 else "parcel"], loss=loss, **what, **shop.label,
    )  # fmt: skip
    there = t + int(rng.gamma(4, 0.8) * DAY) + 4 * HOUR
    if arrives:
        script.plain(
            script.carrier(
                "delivery", there, order, success=1, **{k: what[k] for k in ("tracking", "weight", "address", "seller")}
            )
        )
    return there
