"""Price-error snatching: a mistyped price is found by a watcher, told in a group, and ordered empty by accounts in reserve.

The business: a tenth of the price, resold the same week; the shop must deliver or lose its name.
"""

from __future__ import annotations

from dataclasses import dataclass

from shopward.market.campaigns.identities import crew, drops, enter
from shopward.market.campaigns.script import Fields, Kind, Script
from shopward.market.rows import DAY, MINUTE

RESALE = 0.7


@dataclass(frozen=True, slots=True)
class Way:
    pieces: tuple[int, int]
    per_device: int
    orders: int  # of each account
    delay: tuple[float, float]  # minutes after the slip


LOUD = Way((5, 18), 3, 2, (3.0, 25.0))
QUIET = Way((1, 2), 1, 1, (8.0, 60.0))


def plan(script: Script) -> None:
    """Order as many as the price allows before it is put right."""
    way, rng, world = script.way(LOUD, QUIET), script.rng, script.world
    slip = world.slips[int(rng.integers(0, len(world.slips)))]
    pieces = sum(way.pieces) / 2
    most = max(
        1, round(script.target * 100 / (slip.right - slip.wrong) / 3)
    )  # pieces of an order, if three of them are to be the target
    n = int(max(3, min(40, round(script.target * 100 / ((slip.right - slip.wrong) * pieces)))))
    people = crew(script, -(-n // way.orders), way.per_device, 1, warm=True, role="snatcher")
    homes, cards = drops(script, -(-len(people) // 2), "snatcher"), world.new_cards(rng, script.countries(len(people)))
    for i in range(n):
        k = i % len(people)
        who = people[k]
        t = min(slip.start + int(rng.uniform(*way.delay) * MINUTE), slip.end - 5 * MINUTE)
        label: Fields = {"source": "seller_report", "known": slip.end + int(rng.uniform(0.1, 3) * DAY)}
        t = enter(script, t, who, "SW-1015", **label)
        quantity = min(most, int(rng.integers(way.pieces[0], way.pieces[1] + 1)))
        amount = slip.wrong * quantity
        order, t = script.purchase(t, who, slip.product, int(homes[k // 2]), "SW-1015", amount=amount, **label)
        order["quantity"] = quantity
        order["loss"] = (slip.right - slip.wrong) * quantity
        payment = script.pay(t, order, int(cards[k]), "SW-1015", loss=0, **label)
        script.consequences(order, payment)
        script.books.earn(1, (slip.right * RESALE - slip.wrong) * quantity / 100)
    script.uses("OAT-005")


KIND = Kind(
    "price_error_snatching", plan, share=0.0003, haul=500.0, likeness="people who were told by friends, and order one"
)
