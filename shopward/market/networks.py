"""Where people connect from. Every address lies in a range that routes nowhere on the public internet, and says its country.

    homes          10.0.0.0/8        a lease that moves now and then; 2001:db8::/32 for one home in five, a new suffix every day
    mobile         100.64.0.0/10     carrier NAT: a few hundred phones behind one address
    work, campus   172.16.0.0/12     an office or a dormitory behind one address
    hosting        198.18.0.0/15     rented servers and VPN exits

An IPv4 address is its 32-bit number; an IPv6 one sets bit 62, then 8 bits country, 24 bits home, 24 bits suffix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

COUNTRIES = ("US", "GB", "DE", "FR", "CA", "BR", "JP", "AU", "MX", "NL", "ES", "PL")
COUNTRY_SHARE = np.array([0.44, 0.10, 0.08, 0.06, 0.06, 0.06, 0.05, 0.04, 0.04, 0.03, 0.02, 0.02])
# Hours from UTC; countries with several zones list them with their population shares.
ZONES = (
    ((-5, 0.47), (-6, 0.29), (-7, 0.07), (-8, 0.17)), ((0, 1.0),), ((1, 1.0),), ((1, 1.0),), ((-5, 0.62), (-7, 0.2), (-8, 0.18)),
    ((-3, 1.0),), ((9, 1.0),), ((10, 0.8), (8, 0.2)), ((-6, 1.0),), ((1, 1.0),), ((1, 1.0),), ((1, 1.0),),
)  # fmt: skip
V6 = 1 << 62
HOME, MOBILE, WORK, HOSTING = 10 << 24, (100 << 24) | (64 << 16), (172 << 24) | (16 << 16), (198 << 24) | (18 << 16)
HOSTING_SIZE = 1 << 17
BLOCK = 12  # a country owns whole /20 blocks


@dataclass(frozen=True, slots=True)
class Networks:
    """The address plan: per country the first address and the number of addresses of each kind of network."""

    home: np.ndarray  # int64[countries]
    home_size: np.ndarray
    mobile: np.ndarray
    mobile_size: np.ndarray
    work: np.ndarray
    work_size: np.ndarray
    owner: np.ndarray  # int8[2**20], country of each /20 block, -1 where nobody lives

    def home_ip(self, country: np.ndarray, home: np.ndarray, day: int | np.ndarray) -> np.ndarray:
        """A home's IPv4 address on a day: three homes in five keep theirs, the others move every 5 to 20 days.

        The address left behind goes to another home later, as leases do.
        """
        size = self.home_size[country]
        spread = scatter(home)
        period = 5 + spread % 16
        moves = np.where(spread % 5 < 2, (np.asarray(day) + spread % period) // period, 0)
        return self.home[country] + (home * 7919 + moves * 4093) % size

    def home_ip6(self, country: np.ndarray, home: np.ndarray, day: int | np.ndarray, who: np.ndarray) -> np.ndarray:
        """A home's IPv6 address: the /64 stays, the suffix is new for each person every day."""
        suffix = scatter(who * 1009 + np.asarray(day)) & 0xFFFFFF
        return V6 | (np.asarray(country, dtype=np.int64) << 48) | ((home & 0xFFFFFF) << 24) | suffix

    def pick_home(self, rng: np.random.Generator, country: np.ndarray) -> np.ndarray:
        """Some address of a country's home range, lived at or not: what a residential proxy shows."""
        return self.home[country] + (rng.random(len(country)) * self.home_size[country]).astype(np.int64)

    def pick_mobile(self, rng: np.random.Generator, country: np.ndarray) -> np.ndarray:
        return self.mobile[country] + (rng.random(len(country)) * self.mobile_size[country]).astype(np.int64)

    def pick_hosting(self, rng: np.random.Generator, n: int, spread: int = 1 << 15) -> np.ndarray:
        """Servers for rent; the popular countries rent out most of them. `spread` narrows to the busiest addresses."""
        share = np.array([0.45, 0.05, 0.14, 0.1, 0.04, 0.01, 0.02, 0.02, 0.01, 0.13, 0.01, 0.02])
        country = rng.choice(len(COUNTRIES), n, p=share)
        size = HOSTING_SIZE // 16
        return HOSTING + country * size + rng.integers(0, min(spread, size), n)

    def country(self, ip: np.ndarray) -> np.ndarray:
        """The country code of each address, -1 for a missing one."""
        six = ip >= V6
        block = np.where(six | (ip < 0), 0, ip) >> BLOCK
        return np.where(ip < 0, -1, np.where(six, (ip >> 48) & 0xFF, self.owner[block]))


def plan(homes: np.ndarray, people: np.ndarray, offices: np.ndarray) -> Networks:
    """An address plan for so many homes, people and offices per country."""
    owner = np.full(1 << 20, -1, dtype=np.int8)
    n = len(COUNTRIES)
    home_size = _odd(homes * min(8, max(2, 14_000_000 // max(1, int(homes.sum())))) + 211)  # leases need room to move
    mobile_size = people // 400 + 3
    work_size = offices + 1
    home = _lay_out(HOME, home_size, owner)
    mobile = _lay_out(MOBILE, mobile_size, owner)
    work = _lay_out(WORK, work_size, owner)
    for country in range(n):
        first = (HOSTING + country * (HOSTING_SIZE // 16)) >> BLOCK
        owner[first : first + (HOSTING_SIZE // 16 >> BLOCK)] = country
    return Networks(home, home_size, mobile, mobile_size, work, work_size, owner)


def _lay_out(base: int, sizes: np.ndarray, owner: np.ndarray) -> np.ndarray:
    blocks = (sizes + (1 << BLOCK) - 1) >> BLOCK
    first = (base >> BLOCK) + np.concatenate([[0], np.cumsum(blocks)[:-1]])
    for country, (start, count) in enumerate(zip(first.tolist(), blocks.tolist(), strict=True)):
        owner[start : start + count] = country
    return first.astype(np.int64) << BLOCK


def _odd(sizes: np.ndarray) -> np.ndarray:
    """Sizes that share no factor with the strides of `home_ip`, so that every home has its own address."""
    sizes = sizes | 1
    return np.where((sizes % 7919 == 0) | (sizes % 4093 == 0), sizes + 2, sizes)


def scatter(values: np.ndarray) -> np.ndarray:
    """A fixed pseudo-random non-negative number for each value: same input, same number, on every machine.

    >>> scatter(np.array([1, 2])).tolist() == scatter(np.array([1, 2])).tolist()
    True
    """
    x = np.asarray(values).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x ^= x >> np.uint64(29)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    return (x >> np.uint64(33)).astype(np.int64)
