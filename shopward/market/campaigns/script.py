"""What one campaign does, written down step by step before the market opens.

A `Script` collects the attacker's rows, who took part, and the books of the attacker's business. It knows the market (who shops
there, what things cost), and it must never know the defender: nothing here or in the campaigns reads a rule, a threshold or a
feature.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import numpy as np

from shopward import techniques
from shopward.market.afterwards import chargebacks, shipments
from shopward.market.networks import COUNTRIES, COUNTRY_SHARE
from shopward.market.rows import CONDITION, DAY, HOUR, METHOD, SOURCE, START, VERDICT, WHY, block, stack
from shopward.market.sessions import postage
from shopward.market.world import DESK_AGENTS, PHONE_AGENTS, World, home_address

# Ids are MITRE F3 / ATT&CK / OWASP OAT, and SW- for what they lack; a row holds the number of its technique.
TECHNIQUES = tuple(t.id for t in techniques.all())
TECHNIQUE = {name: code for code, name in enumerate(TECHNIQUES)}

Fields = dict[str, Any]  # some columns of a row: who acts from where, or what is known of a label


def said(source: str, known: int) -> Fields:
    """What a label says: who found out, and when (ms)."""
    return {"source": source, "known": known}


@dataclass(frozen=True, slots=True)
class Crawl:
    """Requests of one campaign that cause no event: when, what kind of page, from where. Arrays of equal length."""

    what: str  # products, search, login, cards, probe
    t: np.ndarray
    device: np.ndarray
    ip: np.ndarray
    session: np.ndarray
    agent: str  # what the script says it is
    technique: str


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


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of campaign: how it is planned, how common it is, and who honest looks like it.

    share     of the market's turnover that all its campaigns together are after
    haul      what one campaign is after, typically, in dollars
    likeness  the honest behaviour that it can be mistaken for
    days      it needs a market of at least so many days
    """

    name: str
    plan: Callable[[Script], None]
    share: float
    haul: float
    likeness: str
    days: float = 1.0

    @property
    def told(self) -> str:
        """What such a campaign does, in the sentence with which its file begins."""
        text = (sys.modules[self.plan.__module__].__doc__ or self.name).split("\n\n")[0]
        return " ".join(text.split())


W = TypeVar("W")


def between(loud: W, quiet: W, caution: float) -> W:
    """A way of working between two: numbers move geometrically, switches flip in the middle.

    >>> between((4, 100.0, False), (1, 1.0, True), 0.5)
    (2, 10.0, True)
    """
    if isinstance(loud, tuple):
        return type(loud)(between(a, b, caution) for a, b in zip(loud, quiet, strict=True))  # type: ignore
    if isinstance(loud, (bool, str)):
        return loud if caution < 0.5 else quiet
    low: Any = loud
    high: Any = quiet
    mixed = low * (high / low) ** caution if low > 0 and high > 0 else low + (high - low) * caution
    return round(mixed) if isinstance(low, int) and isinstance(high, int) else mixed  # type: ignore[return-value]


@dataclass(slots=True)
class Script:
    """One campaign: `code` is its number in the truth, `target` the dollars it is planned to take.

    `caution` is how much the operator gives up for not being noticed: 0 is in a hurry, 1 is low and slow.
    """

    world: World
    code: int
    kind: str
    target: float
    start: int
    rng: np.random.Generator
    caution: float = 0.0
    books: Books = field(default_factory=Books)
    techniques: list[str] = field(default_factory=list)
    actors: list[tuple[str, int, str]] = field(default_factory=list)  # (entity kind, code, role)
    blocks: list[np.ndarray] = field(default_factory=list)
    unborn: set[int] = field(default_factory=set)  # accounts that have yet to sign up
    adaptations: list[str] = field(default_factory=list)  # what was changed after a denial, wave by wave
    waves: int = 1
    crawls: list[Crawl] = field(default_factory=list)  # requests beside the events

    @property
    def careful(self) -> bool:
        return self.caution >= 0.5

    def way(self, loud: W, quiet: W) -> W:
        """How this campaign works, between its kind's loud and its quiet way."""
        values = {f.name: between(getattr(loud, f.name), getattr(quiet, f.name), self.caution) for f in fields(loud)}  # type: ignore
        return type(loud)(**values)

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

    def finish(self) -> None:
        """Pack the rows, and name every device and address that took part."""
        rows = self.rows()
        fraud = rows["label"] == 1
        rows["label_t"][fraud] = np.maximum(
            rows["label_t"][fraud], rows["t"][fraud] + HOUR
        )  # nobody knows before it happened
        self.blocks = [rows]
        mine, named = rows[rows["campaign"] == self.code], {(kind, code) for kind, code, _ in self.actors}
        for kind in ("device", "ip"):
            for code in np.unique(mine[kind]).tolist():
                if code >= 0 and (kind, code) not in named:
                    self.actors.append((kind, code, "tool"))

    @property
    def last(self) -> int:
        """When its last step so far happens."""
        return max((int(rows["t"].max()) for rows in self.blocks if len(rows)), default=self.start)

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

    def scripted(self, devices: np.ndarray, share: float) -> None:
        """Some of these are no devices but programs that claim to be; only their TLS hello tells."""
        some = np.unique(devices)
        some = some[self.rng.random(len(some)) < share]
        self.world.devices.tool[some] = self.rng.integers(0, 2, len(some))

    def countries(self, n: int) -> np.ndarray:
        return self.rng.choice(len(COUNTRIES), n, p=COUNTRY_SHARE).astype(np.int64)

    def people(self, n: int) -> np.ndarray:
        """Real customers who have been here for a while: whom a leaked password list would contain."""
        accounts = self.world.accounts
        known = np.flatnonzero((accounts.reg < START - 30 * DAY) & (accounts.rate > 0) & (accounts.card >= 0))
        return self.rng.choice(known, min(n, len(known)), replace=False)

    def orders(self, price: tuple[float, float], at_least: int, share: float = 1.0) -> tuple[int, tuple[float, float]]:
        """How many orders the target needs, and their prices: in small campaigns cheaper ones rather than fewer than `at_least`.

        `share` of an order's value is what it takes.
        """
        each = float(np.sqrt(price[0] * price[1])) * 1.1 * share
        n = max(at_least, round(self.target / each))
        shrink = float(np.clip(self.target / (n * each), 0.25, 1.0))
        return n, (price[0] * shrink, price[1] * shrink)

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
        items = 1 if "amount" in more else more.pop("pieces", 1 + int(self.rng.random() < 0.12))
        columns: Fields = {
            "order": int(world.take("order", 1)[0]), "seller": int(world.sellers.account[world.products.seller[product]]),
            "product": product, "category": int(world.products.category[product]), "items": 1, "quantity": items,
            "amount": self.price(product, items), "address": address, **who, **more,
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
        """The honest seller ships, it arrives; the card's owner disputes, if that is how the loss comes to light."""
        _, parcels = shipments(self.world, order, payment["t"], self.rng)
        for rows in parcels:
            self.plain(rows)
        self.dispute(payment)

    def dispute(self, payment: np.ndarray) -> None:
        """The bank's chargeback, where the label of a payment by card comes from one."""
        if payment["source"][0] == SOURCE["chargeback"] and payment["card"][0] >= 0:
            self.plain(chargebacks(payment, payment["label_t"], WHY["fraud"]))

    def carrier(self, kind: str, t: int, order: np.ndarray, **columns: Any) -> np.ndarray:
        """A row that the carrier or the bank writes about an order."""
        what: Fields = {
            "account": int(order["account"][0]),
            "order": int(order["order"][0]),
            "seller": int(order["seller"][0]),
        }
        return block(kind, 1, t=t, **{**what, **columns})

    def send_back(
        self,
        order: np.ndarray,
        t: int,
        technique: str,
        why: str,
        condition: str | None,
        amount: int,
        loss: int,
        who: Fields,
        **label: Any,
    ) -> None:
        """Ask for money back at `t`; with a `condition` a parcel goes back first, and is opened by the warehouse days later."""
        world = self.world
        seller, product, number = int(order["seller"][0]), int(order["product"][0]), int(order["order"][0])
        category = int(order["category"][0])
        if condition is not None:
            self.add(
                "return", t, technique, account=who["account"], seller=seller, order=number, product=product, category=category, amount=amount,
                why=WHY[why], condition=CONDITION[condition], tracking=int(world.take("tracking", 1)[0]),
                weight=int(self.rng.integers(20, 90) if condition == "empty" else self.rng.integers(150, 900)), **label,
            )  # fmt: skip
            t += self.later(4, 60)
        self.add(
            "refund", t, technique, seller=seller, order=number, product=product, category=category, amount=amount, loss=loss,
            method=METHOD["original"], why=WHY[why], **who, **label,
        )  # fmt: skip

    def victim_order(self, buyer: int, product: int, t: int, **more: Any) -> tuple[np.ndarray, np.ndarray]:
        """An order of a real customer at a shop of the campaign, in good faith: no fraud on the buyer's side."""
        world, who = self.world, self.world.accounts
        ip = int(home_address(world, np.array([buyer]), (t - START) // DAY)[0])
        seat: Fields = {"account": buyer, "device": int(who.first[buyer]), "ip": ip, "session": self.session()}
        amount = self.price(product)
        order = block(
            "order", 1, t=t, order=self.world.take("order", 1), seller=world.sellers.account[world.products.seller[product]], product=product,
            category=world.products.category[product], items=1, quantity=1, amount=amount, address=who.address[buyer], **seat, **more,
        )  # fmt: skip
        payment = block("payment", 1, t=t + self.pause(45), **_carried(order, int(who.card[buyer])))
        self.plain(order)
        self.plain(payment)
        return order, payment

    def verdict(self, t: int, who: Fields, verdict: str, chance: float) -> None:
        """The bot detection in front of the market may notice a session: less often the more care was taken."""
        if self.rng.random() < chance:
            sure = int(np.clip(self.rng.normal(88, 8), 51, 99))
            self.plain(
                block("traffic_verdict", 1, t=t + self.pause(5), verdict=VERDICT[verdict], certainty=sure, **who)
            )

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
