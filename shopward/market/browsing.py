"""What honest visitors do besides buying: search, fill baskets, follow, like, click ads and links, write messages, ask for samples."""

from __future__ import annotations

import numpy as np

from shopward.market.rows import DAY, MINUTE, SECOND, START, block, stack
from shopward.market.sessions import VIEWS_SAMPLED, Visits, bundled, demand
from shopward.market.texts import QUERIES
from shopward.market.world import World

SEARCHES = 1.6  # a visit; sampled like views
BASKETS = 0.16  # visits that fill a basket and leave it: seven in ten baskets are left
COMMON_TEXTS = 60  # "is this still available?", "thanks": many people write the same words


def browse(world: World, visits: Visits, day: int, rng: np.random.Generator) -> list[np.ndarray]:
    """All of it, around the clocks of the visits."""
    return [
        _searches(visits, rng),
        _baskets(world, visits, rng),
        *_opinions(world, visits, day, rng),
        _ads(world, visits, rng),
        _links(world, visits, rng),
        _messages(world, visits, rng),
        _samples(world, visits, rng),
    ]


def _around(visits: Visits, at: np.ndarray, rng: np.random.Generator, minutes: int = 12) -> np.ndarray:
    """A moment within some minutes after each visit's clock."""
    return visits.clock[at] + rng.integers(2 * SECOND, minutes * MINUTE, len(at))


def _offer(world: World, product: np.ndarray) -> dict[str, np.ndarray]:
    return {"product": product, "seller": world.sellers.account[world.products.seller[product]]}


def _searches(visits: Visits, rng: np.random.Generator) -> np.ndarray:
    at = np.repeat(np.arange(visits.n), rng.poisson(SEARCHES * VIEWS_SAMPLED, visits.n))
    query = (rng.random(len(at)) ** 1.7 * len(QUERIES)).astype(np.int64)
    rows = visits.rows("search", at, t=_around(visits, at, rng), query=query)
    rows["lag"] = bundled(rng, len(at))
    return rows


def _baskets(world: World, visits: Visits, rng: np.random.Generator) -> np.ndarray:
    """Baskets that are left; those that are ordered are written with the order."""
    leaves = np.flatnonzero((rng.random(visits.n) < BASKETS) & (visits.live < 0))
    at = np.repeat(leaves, np.minimum(rng.geometric(0.7, len(leaves)), 6))
    product = demand(world, visits.clock[at], rng)
    pieces = np.minimum(rng.geometric(0.8, len(at)), 12)
    return visits.rows(
        "cart", at, t=_around(visits, at, rng), quantity=pieces, amount=world.products.price[product] * pieces, **_offer(world, product)
    )  # fmt: skip


def _opinions(world: World, visits: Visits, day: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Shops and creators are followed, products and live shows liked; the taps of a live show are sampled."""
    follows = np.flatnonzero((rng.random(visits.n) < np.where(visits.live >= 0, 0.06, 0.012)) & visits.inside)
    product = demand(world, visits.clock[follows], rng)
    shop = world.sellers.account[world.products.seller[product]]
    live = visits.live[follows]
    whom = np.where(live >= 0, world.creators.account[live], shop)
    rows = visits.rows("follow", follows, t=_around(visits, follows, rng), other=whom, room=rooms(live, day))
    likes = np.flatnonzero((rng.random(visits.n) < np.where(visits.live >= 0, 0.3, 0.03)) & visits.inside)
    liked, live = demand(world, visits.clock[likes], rng), visits.live[likes]
    seen = np.where(live >= 0, -1, liked)
    whom = np.where(live >= 0, world.creators.account[live], world.sellers.account[world.products.seller[liked]])
    return [
        rows,
        visits.rows("like", likes, t=_around(visits, likes, rng), other=whom, product=seen, room=rooms(live, day)),
    ]


def rooms(creator: np.ndarray, day: int) -> np.ndarray:
    """A creator's live room of a day, -1 without one."""
    return np.where(creator >= 0, creator * 4096 + day, -1)


def _ads(world: World, visits: Visits, rng: np.random.Generator) -> np.ndarray:
    """One visit in sixteen clicks a paid placement; some come back to it again and again while they compare."""
    once = np.flatnonzero(rng.random(visits.n) < 0.055)
    times = np.where(rng.random(len(once)) < 0.03, rng.integers(3, 7, len(once)), 1)
    at = np.repeat(once, times)
    product = np.repeat(demand(world, visits.clock[once], rng), times)
    cost = np.maximum(5, np.rint(rng.lognormal(np.log(42), 0.6, len(at)))).astype(np.int64)
    return visits.rows(
        "ad_click",
        at,
        t=visits.began[at] + rng.integers(SECOND, 9 * MINUTE, len(at)),
        ad=product,
        amount=cost,
        **_offer(world, product),
    )


def _links(world: World, visits: Visits, rng: np.random.Generator) -> np.ndarray:
    at = np.flatnonzero(visits.via >= 0)
    product = np.where(visits.wish[at] >= 0, visits.wish[at], demand(world, visits.clock[at], rng))
    return visits.rows(
        "affiliate_click", at, t=visits.began[at] + 5 * SECOND, affiliate=visits.via[at], **_offer(world, product)
    )


def _messages(world: World, visits: Visits, rng: np.random.Generator) -> np.ndarray:
    """Questions to shops, most of them answered within hours; a few hold a phone number for the courier."""
    at = np.flatnonzero((rng.random(visits.n) < 0.03) & visits.inside & (visits.live < 0))
    n = len(at)
    product = demand(world, visits.clock[at], rng)
    common = rng.random(n) < 0.25
    text = np.where(
        common, 5_000_000 + (rng.random(n) ** 2 * COMMON_TEXTS).astype(np.int64), 6_000_000 + world.take("text", n)
    )
    contact = np.where(rng.random(n) < 0.025, 1, -1)
    offer = _offer(world, product)
    rows = visits.rows(
        "message", at, t=_around(visits, at, rng), other=offer["seller"], text=text, contact=contact, **offer
    )
    return stack([rows, _answers(world, rows, rng)])


def _answers(world: World, asked: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shops answer from a phone at home; a quarter of the answers are prepared ones, some with the address of a tracking page."""
    rows = asked[rng.random(len(asked)) < 0.72]
    n, who = len(rows), rows["seller"]
    prepared = rng.random(n) < 0.25
    text = np.where(prepared, 5_500_000 + who % 997, 6_000_000 + world.take("text", n))
    return block(
        "message", n, t=rows["t"] + (rng.lognormal(np.log(70), 1.3, n) * MINUTE).astype(np.int64), account=who, other=rows["account"], seller=who,
        product=rows["product"], text=text, device=world.accounts.second[who], ip=world.net.home_ip(
            world.accounts.country[who].astype(np.int64), world.accounts.home[who], (rows["t"] - START) // DAY
        ), session=world.take("session", n), contact=np.where(rng.random(n) < 0.02, 1, -1), link=np.where(prepared & (rng.random(n) < 0.12), 1, -1),
    )  # fmt: skip


def _samples(world: World, visits: Visits, rng: np.random.Generator) -> np.ndarray:
    """Trial sizes at no price: a few visitors take one, and some people collect them."""
    keen = world.accounts.convert[visits.account] > 3
    at = np.flatnonzero((rng.random(visits.n) < np.where(keen, 0.03, 0.003)) & visits.inside & (visits.live < 0))
    product = demand(world, visits.clock[at], rng)
    worth = np.minimum(world.products.price[product], 1500)
    address = world.accounts.address[visits.account[at]]
    return visits.rows(
        "free_sample", at, t=_around(visits, at, rng), amount=worth, address=address, **_offer(world, product)
    )
