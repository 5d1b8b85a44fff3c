"""Catalogue scraping: prices, stock and pictures copied by script, from one rack of servers or from ten thousand living rooms.

The business: a competitor pays a flat fee for fresh prices; pages cost proxies. What is lost is small for each page and never ends.
Every page is a request of the access log; one in eight is also a sampled view.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shopward.market.campaigns.script import Crawl, Fields, Kind, Script
from shopward.market.rows import HOUR
from shopward.market.sessions import VIEWS_SAMPLED
from shopward.market.texts import QUERIES

LOSS = 2  # minor units per sampled view: eight pages of capacity and of a catalogue that was not free to write
PER_THOUSAND, FEE = 0.9, 6.0  # dollars per thousand pages: proxies; what the customer pays


@dataclass(frozen=True, slots=True)
class Way:
    pages_per_hour: float
    exits: int
    pages_per_session: int
    servers: float
    caught: float  # chance that the bot detection in front notices a session
    agent: str  # what the program says it is; empty: a browser
    scripted: float  # share of browsers that are programs
    order: bool  # page after page in the order of the catalogue
    searches: float


CENTRAL = Way(2500.0, 3, 600, 1.0, 0.4, "python", 1.0, True, 0.05)
LOUD = Way(1200.0, 60, 90, 0.5, 0.2, "", 0.8, True, 0.1)
QUIET = Way(220.0, 1500, 5, 0.0, 0.02, "", 0.1, False, 0.3)


def plan(script: Script) -> None:
    """Half of the careless come from one place; the others, and all careful ones, from many."""
    rng = script.rng
    way = CENTRAL if script.caution < 0.3 and rng.random() < 0.5 else script.way(LOUD, QUIET)
    views = max(120, round(script.target * 100 / LOSS))
    pages = round(views / VIEWS_SAMPLED)
    t = script.start + np.cumsum(rng.exponential(HOUR / way.pages_per_hour, pages)).astype(np.int64)
    t = t[t < script.world.end]
    session, device, ip = _seats(script, way, len(t))
    script.uses("SW-1061", "OAT-011")
    kind = np.where(rng.random(len(t)) < way.searches, 1, 0)
    product = (
        np.arange(len(t)) % script.world.first_products
        if way.order
        else rng.integers(0, script.world.first_products, len(t))
    )
    sampled = rng.random(len(t)) < VIEWS_SAMPLED
    sampled[: min(len(t), 3)] = True
    _views(script, t, session, device, ip, kind, product, sampled)
    for what, code in (("products", 0), ("search", 1)):
        some = (kind == code) & ~sampled
        script.crawls.append(Crawl(what, t[some], device[some], ip[some], session[some], way.agent, "SW-1061"))
    for first in np.flatnonzero(np.diff(session, prepend=-1))[:400].tolist():
        seat = {"device": int(device[first]), "ip": int(ip[first]), "session": int(session[first])}
        script.verdict(int(t[first]) + 60_000, seat, "scraper", way.caught)
    script.books.pay(len(t) / 1000 * PER_THOUSAND, "proxies")
    script.books.earn(1, len(t) / 1000 * FEE)


def _seats(script: Script, way: Way, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Session, device and address of each page; an address serves many sessions, a session a few pages."""
    rng, world = script.rng, script.world
    sessions = -(-n // way.pages_per_session)
    exits = max(1, min(way.exits, sessions))
    pool = np.where(rng.random(exits) < way.servers, script.servers(exits), script.homes(script.countries(exits)))
    devices = script.devices(max(1, min(exits, 400)), phones=False)
    script.scripted(devices, way.scripted)
    of = np.arange(n) // way.pages_per_session
    session = world.take("session", sessions)[of]
    return session, devices[of % len(devices)], pool[rng.integers(0, exits, sessions)[of]]


def _views(script: Script, t: np.ndarray, session: np.ndarray, device: np.ndarray, ip: np.ndarray, kind: np.ndarray, product: np.ndarray, sampled: np.ndarray) -> None:  # fmt: skip
    world, at = script.world, np.flatnonzero(sampled & (kind == 0))
    seats: Fields = {"device": device[at], "ip": ip[at], "session": session[at]}
    script.add(
        "session_view", t[at], "SW-1061", n=len(at), product=product[at], seller=world.sellers.account[world.products.seller[product[at]]],
        category=world.products.category[product[at]], loss=LOSS, **seats,
    )  # fmt: skip
    at = np.flatnonzero(sampled & (kind == 1))
    seats = {"device": device[at], "ip": ip[at], "session": session[at]}
    script.add("search", t[at], "SW-1061", n=len(at), query=script.rng.integers(0, len(QUERIES), len(at)), **seats)


KIND = Kind(
    "catalogue_scraping",
    plan,
    share=0.0001,
    haul=30.0,
    likeness="search engines, price comparison under contract, and people who look for hours",
)
