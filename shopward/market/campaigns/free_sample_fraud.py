"""Free-sample hoarding: trial sizes asked for under many names, sent to few doors, sold by the dozen.

The business: no card, no price, a mail address each; a sample of ten dollars brings four.
"""

from __future__ import annotations

from dataclasses import dataclass

from shopward.market.campaigns.identities import crew, drops, enter, moments
from shopward.market.campaigns.script import Kind, Script, said
from shopward.market.rows import CATEGORY, DAY

GOODS = (CATEGORY["beauty"], CATEGORY["grocery"], CATEGORY["toys"], CATEGORY["books"])


@dataclass(frozen=True, slots=True)
class Way:
    asks: int  # of each account
    per_device: int
    per_address: int
    hours: tuple[float, float]
    disposable: float


LOUD = Way(5, 5, 8, (5.0, 40.0), 0.5)
QUIET = Way(1, 1, 2, (150.0, 280.0), 0.0)


def plan(script: Script) -> None:
    """Ask, ask, ask."""
    way, rng, world = script.way(LOUD, QUIET), script.rng, script.world
    n = max(10, round(script.target / 9.5))
    people = crew(
        script,
        -(-n // way.asks),
        way.per_device,
        1 if script.careful else 6,
        warm=False,
        disposable=way.disposable,
        role="sampler",
    )
    homes = drops(script, -(-len(people) // way.per_address), "sampler")
    products = script.goods(7, 15, GOODS, n)
    for i, t in enumerate(moments(script, n, way.hours)):
        k, label = i % len(people), said("promo_audit", t + int(rng.uniform(5, 30) * DAY))
        who, product = people[k], int(products[i])
        t = enter(script, t, who, "SW-1014", **label)
        worth = int(min(1500, world.products.price[product]))
        script.add(
            "free_sample", t, "SW-1014", seller=int(world.sellers.account[world.products.seller[product]]), product=product,
            address=int(homes[k % len(homes)]), amount=worth, loss=worth, **who, **label,
        )  # fmt: skip
        script.books.earn(1, worth / 100 * 0.4)


KIND = Kind(
    "free_sample_fraud",
    plan,
    share=0.0002,
    haul=130.0,
    likeness="people who love samples, and a dormitory with one letter box",
)
