"""Live-gift laundering: stolen cards become gifts, gifts become a creator's earnings, earnings a bank transfer.

The business: half of every gift is the platform's, which is cheaper than other laundries; a creator nobody watches is enough.
"""

from __future__ import annotations

from dataclasses import dataclass

from shopward.market.campaigns.identities import crew, enter, log_in, moments
from shopward.market.campaigns.script import Fields, Kind, Script, said
from shopward.market.payouts import HOLD_DAYS
from shopward.market.rows import DAY, DRAIN, HOUR, METHOD
from shopward.market.world import sell_accounts


@dataclass(frozen=True, slots=True)
class Way:
    gifts: int  # of each account
    per_device: int
    amount: tuple[float, float]
    hours: tuple[float, float]
    round_sums: bool
    rooms: int


LOUD = Way(6, 4, (40.0, 220.0), (2.0, 16.0), True, 1)
QUIET = Way(2, 1, (8.0, 45.0), (70.0, 190.0), False, 4)


def plan(script: Script) -> None:
    """A creator, an audience of one's own, a payout."""
    way, rng, world = script.way(LOUD, QUIET), script.rng, script.world
    creator = int(sell_accounts(world, rng, 1)[0])
    bank = int(world.take("bank", 1)[0])
    number = int(world.creators.add(1, account=creator, bank=bank, weekday=-1, hour=0.0, live=0.0)[0])
    script.actor("account", creator, "creator")
    script.actor("bank_account", bank, "mule")
    n, price = script.orders(way.amount, 5)
    people = crew(script, -(-n // way.gifts), way.per_device, 1 if script.careful else 3, role="giver")
    cards = world.new_cards(rng, script.countries(max(2, n // 2)))
    for i, t in enumerate(moments(script, n, way.hours)):
        who = people[i % len(people)]
        label: Fields = {"source": "chargeback", "known": script.chargeback_at(t)}
        t = enter(script, t, who, "SW-1050", **label)
        dollars = rng.uniform(*price)
        amount = int(dollars // 10 * 1000 + 1000 if way.round_sums else dollars * 100)
        gift: Fields = {
            "creator": creator,
            "room": number * 4096 + i % way.rooms,
            "amount": amount,
            "quantity": 1 + amount // 1000,
        }
        card = int(cards[int(rng.integers(0, len(cards)))])
        script.add("live_gift", t, "SW-1050", card=card, loss=amount, **gift, **who, **label)
        script.books.earn(1, amount / 100 * 0.5 * 0.65)
        if rng.random() < 0.3:
            script.add("like", t + script.pause(30), "SW-1025", other=creator, room=gift["room"], **who, **label)
    script.uses("F1045", "SW-1009")
    seat: Fields = {
        "account": creator, "device": int(world.accounts.first[creator]), "ip": int(script.homes(world.accounts.country[[creator]].astype(int))[0]),
        "session": script.session(),
    }  # fmt: skip
    payday = max(script.last, script.start) + HOLD_DAYS * DAY + int(rng.uniform(3, 30) * HOUR)
    label = said("payout_audit", payday + int(rng.uniform(4, 25) * DAY))
    t = log_in(script, payday, seat, "SW-1050", **label)
    script.add(
        "creator_payout",
        t,
        "F1047",
        creator=creator,
        payee=creator,
        bank=bank,
        amount=DRAIN,
        method=METHOD["instant_card"],
        **seat,
        **label,
    )
    script.books.pay(14.0 * len(cards), "cards")


KIND = Kind("gift_laundering", plan, share=0.0006, haul=700.0, likeness="a small creator with one generous fan")
