"""Ad-click fraud: a competitor's budget is clicked away before noon.

The business: each click costs the competitor half a dollar; when the budget is gone, the next placement is one's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shopward.market.campaigns.script import Kind, Script
from shopward.market.rows import HOUR

VALUE = 0.25  # of the click's cost, to who stands next in line


@dataclass(frozen=True, slots=True)
class Way:
    clicks_per_device: int
    clicks_per_ip: int
    hours: tuple[float, float]
    ads: int
    caught: float


LOUD = Way(40, 50, (3.0, 24.0), 1, 0.2)
QUIET = Way(1, 2, (140.0, 260.0), 8, 0.01)


def plan(script: Script) -> None:
    """Click and leave."""
    way, rng, world = script.way(LOUD, QUIET), script.rng, script.world
    cost = int(rng.integers(40, 95))
    n = max(40, round(script.target * 100 / cost))
    shop = int(rng.integers(0, int(world.products.seller[world.first_products - 1])))
    products = np.flatnonzero(world.products.seller[: world.first_products] == shop)[: way.ads]
    ad = products[rng.integers(0, len(products), n)]
    t = script.start + np.sort(rng.uniform(0, rng.uniform(*way.hours) * HOUR, n)).astype(np.int64)
    devices = script.devices(max(1, n // way.clicks_per_device), phones=script.careful)
    exits = script.homes(script.countries(max(1, n // way.clicks_per_ip)))
    device, ip, session = (
        devices[rng.integers(0, len(devices), n)],
        exits[rng.integers(0, len(exits), n)],
        world.take("session", n),
    )
    spent = np.maximum(5, cost * rng.lognormal(0, 0.15, n)).astype(np.int64)
    script.add(
        "ad_click", t, "OAT-003", n=n, ad=ad, product=ad, seller=int(world.sellers.account[shop]), amount=spent, loss=spent, device=device, ip=ip,
        session=session, source="seller_report",
    )  # fmt: skip
    for i in range(0, n, 10):
        script.verdict(
            int(t[i]),
            {"device": int(device[i]), "ip": int(ip[i]), "session": int(session[i])},
            "automation",
            way.caught,
        )
    script.uses("SW-1024")
    script.books.pay(n * 0.01, "proxies")
    script.books.earn(n, cost / 100 * VALUE)


KIND = Kind(
    "ad_click_fraud",
    plan,
    share=0.0002,
    haul=110.0,
    likeness="shoppers who compare, and come back through the same placement five times",
)
