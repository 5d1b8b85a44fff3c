"""Card testing: bought or guessed card numbers are tried on small baskets, the live ones are sold or spent.

The business: an untested card costs a few dollars and is dead three times in four; a proven one is worth five times as much, or a
basket of goods at half price. So the tests must be many and cheap, and the shop with the softest checkout wins them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shopward.market.campaigns.identities import fresh_accounts, log_in, raise_accounts, sign_up
from shopward.market.campaigns.script import Fields, Kind, Script
from shopward.market.networks import COUNTRIES, COUNTRY_SHARE
from shopward.market.rows import CATEGORY, HOUR, REASON, SECOND

RESALE = 0.5
UNTESTED, TESTED = (1.5, 7.0), 22.0  # dollars a card
GOODS = (CATEGORY["electronics"], CATEGORY["sports"], CATEGORY["gift_cards"], CATEGORY["fashion"])
SMALL = (CATEGORY["digital"], CATEGORY["books"], CATEGORY["beauty"], CATEGORY["grocery"])
DECLINES = ("invalid_number", "invalid_cvc", "stolen_card", "do_not_honor", "expired_card", "insufficient_funds")


@dataclass(frozen=True, slots=True)
class Way:
    """How careful the operator is."""

    cards_per_account: tuple[int, int]
    accounts_per_device: int
    accounts_per_ip: int
    pause: tuple[float, float]  # seconds between tests on one account
    spread: tuple[float, float]  # hours the whole testing takes
    small: tuple[float, float]  # dollars of a test basket
    live: tuple[float, float]  # share of cards that still work
    disposable: float
    warm: bool  # accounts signed up long ago and used now and then
    basket: tuple[float, float]


LOUD = Way((6, 28), 3, 4, (8, 50), (2, 14), (1, 9), (0.12, 0.3), 0.5, False, (110, 480))
QUIET = Way((1, 3), 1, 1, (1500, 20000), (60, 260), (6, 32), (0.3, 0.5), 0.02, True, (50, 190))


def plan(script: Script) -> None:
    """Open accounts, test, then spend what lives."""
    way, rng = script.way(LOUD, QUIET), script.rng
    basket = float(np.sqrt(way.basket[0] * way.basket[1])) * 1.15
    spent = max(2, round(script.target / basket))
    live = max(spent, round(spent / rng.uniform(0.35, 0.7)))  # the rest is sold on
    tested = round(live / rng.uniform(*way.live))
    guessed = rng.random() < 0.4 and not script.careful
    cards = _cards(script, tested, guessed)
    alive = np.zeros(tested, dtype=bool)
    alive[rng.choice(tested, live, replace=False)] = True
    proven = _test(script, way, cards, alive)
    script.books.pay(tested * (0.05 if guessed else rng.uniform(*UNTESTED)), "card numbers")
    _spend(script, way, proven[:spent])
    sold = max(0, len(proven) - spent)
    if sold:
        script.books.earn(sold, TESTED)


def _cards(script: Script, n: int, guessed: bool) -> np.ndarray:
    """A mixed list of stolen numbers, or numbers counted up within one issuer's range."""
    rng, world = script.rng, script.world
    if not guessed:
        return world.new_cards(rng, rng.choice(len(COUNTRIES), n, p=COUNTRY_SHARE))
    script.uses("F1038")
    country = rng.integers(0, len(COUNTRIES))
    return world.cards.add(n, bin=900_000 + country * 1000 + int(rng.integers(0, 25)) * 37, country=country)


def _test(script: Script, way: Way, cards: np.ndarray, alive: np.ndarray) -> list[tuple[int, int]]:
    """Try every card once; returns (card, moment it was proven)."""
    rng, proven, done = script.rng, [], 0
    sizes = []
    while done < len(cards):
        sizes.append(min(int(rng.integers(way.cards_per_account[0], way.cards_per_account[1] + 1)), len(cards) - done))
        done += sizes[-1]
    people = _accounts(script, way, len(sizes))
    begins = script.start + np.sort(rng.uniform(0, rng.uniform(*way.spread) * HOUR, len(sizes))).astype(np.int64)
    first = 0
    for person, begin, size in zip(people, begins.tolist(), sizes, strict=True):
        some = slice(first, first + size)
        proven += _one_account(script, way, person, begin, cards[some].tolist(), alive[some].tolist())
        first += size
    return proven


def _accounts(script: Script, way: Way, n: int) -> list[Fields]:
    """Accounts with the device and address they act from: fresh ones, or a stock raised over months."""
    rng = script.rng
    country = script.countries(n)
    devices = script.devices(-(-n // way.accounts_per_device), phones=way.warm)[np.arange(n) // way.accounts_per_device]
    exits = (
        script.homes(country) if way.warm else np.where(rng.random(n) < 0.5, script.servers(n), script.homes(country))
    )
    script.scripted(devices, 0.0 if way.warm else 0.5)
    exits = exits[np.arange(n) // way.accounts_per_ip * way.accounts_per_ip]
    account = (
        raise_accounts(script, country, devices)
        if way.warm
        else fresh_accounts(script, country, devices, way.disposable)
    )
    for kind, codes in (("account", account), ("device", devices), ("ip", exits)):
        script.actor(kind, codes, "tester")
    script.books.pay(n * (6.0 if way.warm else 0.4), "accounts")
    return [
        {"account": a, "device": d, "ip": i}
        for a, d, i in zip(account.tolist(), devices.tolist(), exits.tolist(), strict=True)
    ]


def _one_account(
    script: Script, way: Way, person: Fields, t: int, cards: list[int], alive: list[bool]
) -> list[tuple[int, int]]:
    rng, proven = script.rng, []
    who: Fields = {**person, "session": script.session()}
    found = t + script.later(20, 140)  # the acquirer's early warning
    t = log_in(script, t, who, "F1012", known=found) if way.warm else sign_up(script, t, who, "T1585", known=found)
    address = int(script.world.accounts.address[who["account"]])
    address = address if address >= 0 else int(script.world.take("address", 1)[0])
    for card, works in zip(cards, alive, strict=True):
        product = int(script.goods(*way.small, SMALL, 1)[0])
        order, t = script.purchase(t, who, product, address, "F1012", known=found)
        if works:
            payment = script.pay(t, order, card, "F1012", source="chargeback", known=script.chargeback_at(t))
            script.consequences(order, payment)
            proven.append((card, int(t)))
        else:
            script.decline(
                t, order, card, REASON[str(rng.choice(DECLINES, p=_MIX))], "F1012", known=max(found, t + HOUR)
            )
        t = int(t + rng.uniform(*way.pause) * SECOND)
        who["session"] = script.session() if way.warm else who["session"]
    return proven


_MIX = (0.26, 0.24, 0.14, 0.22, 0.06, 0.08)


def _spend(script: Script, way: Way, proven: list[tuple[int, int]]) -> None:
    """Baskets worth the trouble, from other accounts than the tests."""
    if not proven:
        return
    rng, n = script.rng, len(proven)
    buyers = _accounts(script, way, n)
    drops = script.world.take("address", max(1, n // (1 if script.careful else 3)))
    script.actor("address", drops, "drop")
    for (card, tested), buyer in zip(proven, buyers, strict=True):
        t = tested + (script.later(8, 120) if script.careful else script.later(0.3, 30))
        who: Fields = {**buyer, "session": script.session()}
        label: Fields = {"source": "chargeback", "known": script.chargeback_at(t)}
        t = log_in(script, t, who, "F1028", **label) if way.warm else sign_up(script, t, who, "T1585", **label)
        product = int(script.goods(*way.basket, GOODS, 1)[0])
        script.uses("SW-1043")
        t = script.browse(t, who, product, "F1028", 0.35 if way.warm else 0.12, **label)
        order, t = script.purchase(t, who, product, int(rng.choice(drops)), "F1028", **label)
        if rng.random() < 0.2:
            script.decline(t, order, card, REASON["limit_exceeded"], "F1028", **label)
            continue
        payment = script.pay(t, order, card, "F1028", **label)
        script.consequences(order, payment)
        script.books.earn(1, int(payment["amount"][0]) / 100 * RESALE)


KIND = Kind(
    "card_testing",
    plan,
    share=0.0011,
    haul=800.0,
    likeness="families whose cards fail in turns; first orders from a campus",
)
