"""When people come: the hours of a day, the days of a week, the seasons of a year, and how the market drifts."""

from __future__ import annotations

import numpy as np

from shopward.market.rows import DAY, HOUR, START
from shopward.market.world import World

# Visits per local hour of the day (a shop's day: a lunch bump, a long evening) and per weekday from Monday.
HOURS = np.array([
    1.5, 0.9, 0.6, 0.45, 0.4, 0.6, 1.2, 2.3, 3.4, 4.2, 4.7, 5.0, 5.4, 5.2, 4.9, 4.9, 5.1, 5.4, 5.9, 6.8, 7.6, 7.7, 6.0, 3.5,
])  # fmt: skip
WEEKDAYS = np.array([1.06, 1.02, 1.0, 1.0, 0.93, 0.94, 1.05])
# Visits per calendar month; the weeks before Christmas are the year's peak, the first weeks of the year its trough.
MONTHS = np.array([0.93, 0.94, 0.96, 0.96, 0.98, 0.97, 0.98, 0.97, 0.97, 1.0, 1.18, 1.22])
# Days when people send presents: (month, day, how many days before, how many times the usual number of presents).
FEASTS = ((2, 14, 6, 2.5), (5, 10, 6, 2.0), (11, 27, 3, 1.5), (12, 24, 18, 3.5))


def busyness(day: int) -> float:
    """How busy a day is beside an average one: weekday, season, and a platform that grows by 2 % a month."""
    month = (np.datetime64(START, "ms") + np.timedelta64(day, "D")).astype("datetime64[M]").astype(int) % 12
    growth = 1 + 0.0006 * min(day, 1500)
    return float(WEEKDAYS[day % 7] * MONTHS[month] * growth * (1 + 0.03 * np.sin(2 * np.pi * day / 29)))


def presents(day: int) -> float:
    """How many times as many orders as usual go to somebody else's address.

    >>> presents(0), presents(38)  # 5 January, 12 February
    (1.0, 2.5)
    """
    today = (np.datetime64(START, "ms") + np.timedelta64(day, "D")).astype("datetime64[D]")
    year = int(today.astype("datetime64[Y]").astype(int)) + 1970
    for month, date, before, times in FEASTS:
        feast = np.datetime64(f"{year}-{month:02d}-{date:02d}")
        if 0 <= (feast - today).astype(int) <= before:
            return times
    return 1.0


def wallet_share(day: int) -> float:
    """Wallets replace cards, by a percentage point a month for two years."""
    return 0.19 + 0.01 * min(day, 730) / 30


def moments(world: World, account: np.ndarray, day: int, rng: np.random.Generator) -> np.ndarray:
    """A moment of the day for each visit, by the local clock of the visitor."""
    edges = np.concatenate([[0], np.cumsum(HOURS) / HOURS.sum()])
    local = np.interp(rng.random(len(account)), edges, np.arange(25.0))
    hour = (local - world.accounts.zone[account]) % 24
    return START + day * DAY + (hour * HOUR).astype(np.int64)
