"""What one campaign does, written down step by step before the market opens.

A `Script` collects the attacker's rows, who took part, and the books of the attacker's business. It knows the market (who shops
there, what things cost), and it must never know the defender: nothing here or in the campaigns reads a rule, a threshold or a
feature.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shopward.market.networks import COUNTRIES, COUNTRY_SHARE
from shopward.market.rows import DAY, HOUR, METHOD, SOURCE, START, block, stack
from shopward.market.sessions import chargebacks, postage, shipments
from shopward.market.world import DESK_AGENTS, PHONE_AGENTS, World

# Every technique a campaign of this market uses; ids are MITRE F3 / ATT&CK, and SW- for what they lack.
TECHNIQUES = (
    "T1110.004", "F1006.002", "T1111", "F1005.004", "F1028", "F1012", "F1038", "T1585", "SW-1003", "SW-1003.001", "SW-1001",
    "SW-1011.001", "SW-1005", "SW-1006", "SW-1007", "T1583.003", "SW-1034", "SW-1009", "SW-1033", "SW-1039", "SW-1038", "F1021",
    "SW-1042", "SW-1043", "T1660",
)  # fmt: skip
TECHNIQUE = {name: code for code, name in enumerate(TECHNIQUES)}

Fields = dict[str, Any]  # some columns of a row: who acts from where, or what is known of a label


@dataclass(slots=True)
class Books:
    """The attacker's books in dollars: what was paid for, and what one success brings after selling it on.

    >>> books = Books(); books.pay(120.0, "proxies"); books.earn(3, 60.0)
    >>> books.cost, books.revenue, books.break_even
    (120.0, 180.0, 2.0)
    """

    cost: float = 0.0
    revenue: float = 0.0
    successes: int = 0

    def pay(self, dollars: float, what: str) -> None:
        self.cost += dollars

    def earn(self, successes: int, each: float) -> None:
        self.successes += successes
        self.revenue += successes * each

    @property
    def break_even(self) -> float:
        """How many successes cover the cost."""
        return self.cost / (self.revenue / self.successes) if self.revenue else float("inf")


@dataclass(slots=True)
class Script:
    """One campaign: `code` is its number in the truth, `target` the dollars it is planned to take."""

    world: World
    code: int
    kind: str
    hard: bool
    target: float
    start: int
    rng: np.random.Generator
    books: Books = field(default_factory=Books)
    techniques: list[str] = field(default_factory=list)
    actors: list[tuple[str, int, str]] = field(default_factory=list)  # (entity kind, code, role)
    blocks: list[np.ndarray] = field(default_factory=list)

    def add(
        self,
        kind: str,
        t: Any,
        technique: str,
        *,
        n: int = 1,
        source: str = "security",
        known: Any = None,
        loss: Any = 0,
        **columns: Any,
    ) -> np.ndarray:
        """`n` fraudulent rows. `known` is when their label arrives (ms); by default one to four days after they happened."""
        rows = block(kind, n, t=t, campaign=self.code, label=1, source=SOURCE[source], loss=loss, **columns)
        rows["label_t"] = rows["t"] + self.rng.integers(DAY, 4 * DAY, n) if known is None else known
        rows["technique"] = TECHNIQUE[technique]
        self.uses(technique)
        self.blocks.append(rows)
        return rows

    def uses(self, *techniques: str) -> None:
        self.techniques += [t for t in techniques if t not in self.techniques]

    def actor(self, kind: str, codes: Any, role: str) -> None:
        self.actors += [(kind, int(code), role) for code in np.unique(np.atleast_1d(codes)) if code >= 0]

    def plain(self, rows: np.ndarray) -> None:
        """Rows the campaign causes but does not commit: a parcel sent by an honest seller, the bank's chargeback."""
        self.blocks.append(rows)

    def rows(self) -> np.ndarray:
        return stack(self.blocks)

    # What attackers can have for money.

    def session(self) -> int:
        return int(self.world.take("session", 1)[0])

    def servers(self, n: int) -> np.ndarray:
        """Rented servers: cheap, fast, and known to be servers."""
        self.uses("T1583.003")
        return self.world.net.pick_hosting(self.rng, n)

    def homes(self, country: np.ndarray) -> np.ndarray:
        """Residential proxies: somebody's home or phone in the right country, at a price per gigabyte."""
        self.uses("SW-1007")
        net, n = self.world.net, len(country)
        return np.where(self.rng.random(n) < 0.7, net.pick_home(self.rng, country), net.pick_mobile(self.rng, country))

    def devices(self, n: int, phones: bool = True) -> np.ndarray:
        return self.world.new_devices(self.rng, n, PHONE_AGENTS if phones else DESK_AGENTS, old=0.55)

    def countries(self, n: int) -> np.ndarray:
        return self.rng.choice(len(COUNTRIES), n, p=COUNTRY_SHARE).astype(np.int64)

    def people(self, n: int) -> np.ndarray:
        """Real customers who have been here for a while: whom a leaked password list would contain."""
        accounts = self.world.accounts
        known = np.flatnonzero((accounts.reg < START - 30 * DAY) & (accounts.rate > 0) & (accounts.card >= 0))
        return self.rng.choice(known, min(n, len(known)), replace=False)

    def goods(self, low: float, high: float, categories: tuple[int, ...], n: int) -> np.ndarray:
        """Products that sell on easily, priced between `low` and `high` dollars, from shops that were always there."""
        world = self.world
        products = np.arange(world.first_products)
        price = world.products.price[: world.first_products] / 100
        old = world.sellers.reg[world.products.seller[: world.first_products]] < START
        fit = products[
            (price >= low)
            & (price <= high)
            & np.isin(world.products.category[: world.first_products], categories)
            & old
        ]
        if not len(fit):  # a small market may lack the wish: take what is nearest in price
            fit = products[old][np.argsort(np.abs(price[old] - (low + high) / 2), kind="stable")[:8]]
        return self.rng.choice(fit, n)

    def later(self, low: float, high: float, n: int | None = None) -> Any:
        """A waiting time in ms, log-uniform between two numbers of hours."""
        hours = np.exp(self.rng.uniform(np.log(low), np.log(high), n))
        return (hours * HOUR).astype(np.int64) if n is not None else int(hours * HOUR)

    def browse(self, t: int, who: Fields, product: int, technique: str, chance: float, **label: Any) -> int:
        """Look at a product on the way, as far as the sample of views shows it; returns when that is over."""
        world = self.world
        seller = int(world.sellers.account[world.products.seller[product]])
        if self.rng.random() < chance:
            category = int(world.products.category[product])
            self.add("session_view", t, technique, product=product, seller=seller, category=category, **who, **label)
        return t + self.pause(70)

    def pause(self, median: float) -> int:
        """How long somebody takes for a step, in ms: log-normal around `median` seconds, as for everybody else."""
        return int(1000 * (1 + median * self.rng.lognormal(0, 0.75)))

    def purchase(
        self, t: int, who: Fields, product: int, address: int, technique: str, **more: Any
    ) -> tuple[np.ndarray, int]:
        """An order of `product` at `t`, sometimes of two; returns its row and the moment of paying."""
        world = self.world
        items = 1 if "amount" in more else 1 + int(self.rng.random() < 0.12)
        columns: Fields = {
            "order": int(world.take("order", 1)[0]), "seller": int(world.sellers.account[world.products.seller[product]]),
            "product": product, "category": int(world.products.category[product]), "items": items, "amount": self.price(product, items),
            "address": address, **who, **more,
        }  # fmt: skip
        row = self.add("order", t, technique, **columns)
        return row, t + self.pause(38)

    def price(self, product: int, items: int = 1) -> int:
        """Price with postage, minor units."""
        products = self.world.products
        return int(products.price[product] * items + postage(self.rng, products.category[[product]])[0])

    def pay(
        self, t: int, order: np.ndarray, card: int, technique: str, loss: int | None = None, **label: Any
    ) -> np.ndarray:
        """Pay an order by card, or by the account's wallet (card -1); by default its whole amount is the loss."""
        columns: Fields = _carried(order, card)
        return self.add("payment", t, technique, loss=columns["amount"] if loss is None else loss, **columns, **label)

    def decline(self, t: int, order: np.ndarray, card: int, reason: int, technique: str, **label: Any) -> np.ndarray:
        return self.add("payment_failed", t, technique, reason=reason, **_carried(order, card), **label)

    def consequences(self, order: np.ndarray, payment: np.ndarray) -> None:
        """The honest seller ships; the card's owner disputes, if that is how the loss comes to light."""
        _, parcels = shipments(self.world, order, payment["t"], self.rng)
        self.plain(parcels)
        if payment["source"][0] == SOURCE["chargeback"] and payment["card"][0] >= 0:
            self.plain(chargebacks(payment, payment["label_t"]))

    def chargeback_at(self, t: int) -> int:
        """When a disputed payment becomes known: 5 to 45 days later, most within three weeks."""
        return t + int(np.clip(self.rng.gamma(2.6, 5.2), 5, 45) * DAY) + int(self.rng.integers(0, DAY))


def _carried(order: np.ndarray, card: int) -> Fields:
    names = ("account", "seller", "order", "amount", "address", "device", "ip", "session")
    return {
        **{name: int(order[name][0]) for name in names},
        "card": card,
        "method": METHOD["card" if card >= 0 else "wallet"],
    }
