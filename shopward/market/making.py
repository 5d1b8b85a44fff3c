"""A market, day by day: the world is built, the campaigns are planned, then every day is lived and put in order of arrival.

Only one day and what is dated later are in memory, so ten million events need no more room than their busiest days. Every part
has a random stream of its own, spawned from the seed: the access log can be left out without changing a single event.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shopward.errors import UsageError
from shopward.market import world as worlds
from shopward.market.campaigns import Script, schedule
from shopward.market.payouts import Ledger, business_day, settle
from shopward.market.rows import DAY, START, stack
from shopward.market.sessions import honest_day
from shopward.market.texts import Texts
from shopward.market.world import EVENTS_PER_SESSION, MEAN_ORDER, ORDERS_PER_SESSION, World

VISITS_PER_ACCOUNT = 0.3  # a day, when no number of events is asked for
BUSIEST = 4.0  # visits per account and day that are still believable


@dataclass(frozen=True, slots=True)
class Day:
    """What reached the log on one day, in order of arrival; row i is event number `first` + i."""

    number: int
    first: int
    rows: np.ndarray


class Market:
    """One synthetic market. Iterate over `days()` once; the world and the scripts stay for the truth.

    >>> market = Market(seed=1, days=3, accounts=400)
    >>> days = list(market.days())
    >>> [day.number for day in days], days[0].first, len(market.scripts) >= 4
    ([0, 1, 2], 0, True)
    """

    def __init__(self, seed: int, days: int, accounts: int, adversary: str = "normal", events: int | None = None):
        _check(seed, days, accounts, adversary, events)
        self.seed, self.hard = seed, adversary == "hard"
        build, attack, live = np.random.SeedSequence(seed).spawn(3)
        visits = accounts * VISITS_PER_ACCOUNT if events is None else events / days / EVENTS_PER_SESSION
        self.world: World = worlds.build(np.random.default_rng(build), days, accounts, visits)
        turnover = visits * days * ORDERS_PER_SESSION * MEAN_ORDER
        self.scripts: list[Script] = schedule(self.world, turnover, self.hard, attack)
        self.texts = Texts(seed)
        self._streams = live.spawn(days)

    def days(self) -> Iterator[Day]:
        world, ledger = self.world, Ledger(self.world.accounts.n)
        waiting = stack([script.rows() for script in self.scripts])
        waiting = waiting[waiting["t"] < world.end]
        first = 0
        for number, stream in enumerate(self._streams):
            ledger.open(number)
            until = START + (number + 1) * DAY
            waiting = _drawn(waiting, until, ledger)
            honest, business, lag = (np.random.default_rng(s) for s in stream.spawn(3))
            today = stack([business_day(world, ledger, number, business), honest_day(world, number, honest)])
            waiting = _delayed(stack([waiting, today[today["t"] < world.end]]), lag)
            due, waiting = _arrived(waiting, until)
            ledger.book(number, due)
            yield Day(number, first, due)
            first += len(due)


def _check(seed: int, days: int, accounts: int, adversary: str, events: int | None) -> None:
    if adversary not in ("normal", "hard"):
        raise UsageError(f"adversary is {adversary!r}: it must be normal or hard")
    if seed < 0 or not 1 <= days <= 3650 or accounts < 100:
        raise UsageError(
            f"a market needs seed >= 0, 1 to 3650 days and at least 100 accounts (seed {seed}, days {days}, accounts {accounts})"
        )
    most = int(BUSIEST * accounts * days * EVENTS_PER_SESSION)
    if events is not None and not 0 < events <= most:
        raise UsageError(
            f"{accounts} accounts do not make {events} events in {days} days: ask for at most {most}, or for more accounts"
        )


def _drawn(waiting: np.ndarray, until: int, ledger: Ledger) -> np.ndarray:
    """Campaigns' payouts of the day, before anybody else's."""
    today = waiting["t"] < until
    return stack([settle(waiting[today], ledger), waiting[~today]])


def _delayed(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every event takes some time to arrive: 30 to 400 ms where nothing says otherwise."""
    new = rows["lag"] == 0
    rows["lag"][new] = rng.integers(30, 400, int(new.sum()))
    return rows


def _arrived(rows: np.ndarray, until: int) -> tuple[np.ndarray, np.ndarray]:
    arrival = rows["t"] + rows["lag"]
    due = np.flatnonzero(arrival < until)
    due = due[np.argsort(arrival[due], kind="stable")]
    return rows[due], rows[arrival >= until]
