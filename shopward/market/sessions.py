"""An ordinary day: who comes when, from where, on what, and what they do there.

`honest_day` is the recipe. Every step takes all visits of the day at once, moves each visit's clock forward and returns rows;
what an order causes later (parcel, review, refund, dispute) leaves as rows dated in the future.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shopward.market.rows import (
    CATEGORIES,
    CHANGE,
    DAY,
    HOUR,
    METHOD,
    MINUTE,
    REASON,
    SECOND,
    SHIPPED,
    SOURCE,
    START,
    block,
    stack,
)
from shopward.market.world import DESK_AGENTS, PHONE_AGENTS, World, home_address

# Visits per local hour of the day (a shop's day: a lunch bump, a long evening) and per weekday from Monday.
HOURS = np.array(
    [
        1.5,
        0.9,
        0.6,
        0.45,
        0.4,
        0.6,
        1.2,
        2.3,
        3.4,
        4.2,
        4.7,
        5.0,
        5.4,
        5.2,
        4.9,
        4.9,
        5.1,
        5.4,
        5.9,
        6.8,
        7.6,
        7.7,
        6.0,
        3.5,
    ]
)
WEEKDAYS = np.array([1.06, 1.02, 1.0, 1.0, 0.93, 0.94, 1.05])
VIEWS_SAMPLED = 0.12  # one product view in eight becomes an event; the access log has them all

FIRST, SECOND_DEVICE, SHARED, NEXT, GIFT, KIOSK = range(6)
WELCOME, SEASON = 0, 1  # coupon codes; flash sales count on from 2
WELCOME_OFF, WELCOME_MIN = 1000, 2500

RETURNS = np.array([0.083, 0.115, 0.05, 0.07, 0.05, 0.012, 0.061, 0.02, 0.01, 0.0])  # by category, of orders

# why honest payments fail, most often first
DECLINES = (
    ("insufficient_funds", 0.43), ("do_not_honor", 0.26), ("invalid_cvc", 0.12), ("expired_card", 0.08), ("limit_exceeded", 0.07),
    ("invalid_number", 0.04),
)  # fmt: skip


@dataclass(slots=True)
class Visits:
    """The visits of one day, as columns of equal length."""

    account: np.ndarray
    clock: np.ndarray  # where in time each visit is now, ms UTC
    joins: np.ndarray  # registers in this visit
    sale: np.ndarray  # came for the flash sale: its number, -1 otherwise
    live: np.ndarray  # came to watch this creator, -1 otherwise
    device: np.ndarray
    ip: np.ndarray
    session: np.ndarray
    new_device: np.ndarray
    inside: np.ndarray  # logged in

    @property
    def n(self) -> int:
        return len(self.account)

    def rows(self, kind: str, at: np.ndarray, **columns: object) -> np.ndarray:
        """One row of `kind` for each visit in `at`, stamped with the visit's clock unless `t` is given."""
        given: dict[str, object] = {"t": self.clock[at], **columns}
        return block(
            kind, len(at), **{"account": self.account[at], "device": self.device[at], "ip": self.ip[at], "session": self.session[at], **given}
        )  # fmt: skip

    def wait(self, rng: np.random.Generator, at: np.ndarray, median: float, spread: float = 0.7) -> None:
        """Let time pass in these visits: log-normal around `median` seconds, never under one."""
        self.clock[at] += (SECOND * (1 + median * rng.lognormal(0, spread, len(at)))).astype(np.int64)


def honest_day(world: World, day: int, rng: np.random.Generator) -> np.ndarray:
    """All rows that honest buyers, fans and friends start on this day; some are dated later."""
    visits = arrivals(world, day, rng)
    rows = [registrations(world, visits, rng), *logins(world, visits, rng), views(world, visits, rng)]
    claimed, claims = coupons(world, visits, rng)
    rows += [claims, *changes(world, visits, rng), gifts(world, visits, rng)]
    rows += purchases(world, visits, claimed, day, rng)
    return stack(rows)


def arrivals(world: World, day: int, rng: np.random.Generator) -> Visits:
    """Who comes: regulars by their own rate, newcomers to register, the flash-sale crowd, fans when a creator is live."""
    who = world.accounts
    trend = 1 + 0.05 * np.sin(2 * np.pi * day / 29) + 0.0006 * day
    rate = who.rate * (WEEKDAYS[day % 7] * trend)
    regulars = np.repeat(np.arange(who.n), rng.poisson(np.minimum(rate, 12)))
    start = START + day * DAY
    joined_today = np.flatnonzero((who.reg >= start) & (who.reg < start + DAY) & (who.rate > 0))
    crowd, crowd_t, sale = _flash_crowd(world, day, rng)
    fans, fans_t, creator = _fans(world, day, rng)
    account = np.concatenate([regulars, joined_today, crowd, fans])
    clock = np.concatenate([_moments(world, regulars, day, rng), who.reg[joined_today], crowd_t, fans_t])
    n, first = len(account), len(regulars)
    joins = np.zeros(n, dtype=bool)
    joins[first : first + len(joined_today)] = True
    sales, live = np.full(n, -1), np.full(n, -1)
    sales[first + len(joined_today) : n - len(fans)] = sale
    live[n - len(fans) :] = creator
    known = (who.reg[account] < clock) | joins
    order = np.flatnonzero(known)[np.argsort(clock[known], kind="stable")]
    account, clock, joins = account[order], clock[order], joins[order]
    device, slot = _devices(world, account, day, rng)
    new = _first_time(world, account, slot)
    ip = _addresses(world, account, slot, clock, day, rng)
    return Visits(
        account, clock, joins, sales[order], live[order], device, ip, world.take("session", len(order)), new, np.ones(len(order), dtype=bool)
    )  # fmt: skip


def _moments(world: World, account: np.ndarray, day: int, rng: np.random.Generator) -> np.ndarray:
    """A moment of the day for each visit, by the local clock of the visitor."""
    edges = np.concatenate([[0], np.cumsum(HOURS) / HOURS.sum()])
    local = np.interp(rng.random(len(account)), edges, np.arange(25.0))
    hour = (local - world.accounts.zone[account]) % 24
    return START + day * DAY + (hour * HOUR).astype(np.int64)


def _flash_crowd(world: World, day: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    who, when, which = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for number, (sale_day, hour, _) in enumerate(world.flash):
        if sale_day != day:
            continue
        buyers = np.flatnonzero(world.accounts.rate > 0)
        crowd = rng.choice(buyers, max(1, round(len(buyers) * 0.02)), replace=False)
        who.append(crowd)
        when.append(START + day * DAY + (hour * HOUR + rng.exponential(0.45 * HOUR, len(crowd))).astype(np.int64))
        which.append(np.full(len(crowd), number))
    return np.concatenate(who), np.concatenate(when), np.concatenate(which)


def _fans(world: World, day: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A third of the creators are live on a day, at their usual hour; a few fans each come and may give."""
    creators = np.flatnonzero(rng.random(world.creators.n) < 0.33)
    pool = np.flatnonzero(world.accounts.gifter > 0)
    if not len(pool):
        return pool, pool, pool
    size = rng.poisson(
        np.minimum(5 + 90 / (1 + creators), max(2.0, len(pool) / 12))
        * min(1.0, world.accounts.rate.sum() / len(pool) / 3)
    )
    creator = np.repeat(creators, size)
    weight = world.accounts.gifter[pool] ** 0.5
    fan = rng.choice(pool, len(creator), p=weight / weight.sum())
    hour = world.creators.live[creator] - world.accounts.zone[world.creators.account[creator]]
    minutes = (hour % 23) * 60 + rng.uniform(0, 70, len(creator))
    return fan, START + day * DAY + np.minimum(minutes * MINUTE, DAY - HOUR).astype(np.int64), creator


def _devices(world: World, account: np.ndarray, day: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The device of each visit and which of the owner's it is."""
    who, n = world.accounts, len(account)
    u = rng.random(n)
    slot = np.full(n, FIRST)
    slot[(u < 0.24) & (who.second[account] >= 0)] = SECOND_DEVICE
    slot[(u > 0.86) & (who.shared[account] >= 0)] = SHARED
    slot[(u > 0.9) & (who.kiosk[account] >= 0)] = KIOSK
    slot[(u > 0.3) & (u < 0.86) & (who.gift_day[account] <= day)] = GIFT
    slot[(slot == FIRST) & (who.upgrade[account] <= day)] = NEXT
    _forgotten(world, account, slot, rng)
    columns = (who.first, who.second, who.shared, who.next, who.gift, who.kiosk)
    return np.choose(slot, [column[account] for column in columns]), slot


def _forgotten(world: World, account: np.ndarray, slot: np.ndarray, rng: np.random.Generator) -> None:
    """Cookies cleared, app installed anew: the same machine, but nobody can tell. One browser visit in forty, one phone visit in 300."""
    u, who = rng.random(len(account)), world.accounts
    for place, column, chance, agents in (
        (SECOND_DEVICE, who.second, 0.025, DESK_AGENTS),
        (FIRST, who.first, 0.0035, PHONE_AGENTS),
    ):
        gone = np.unique(account[(slot == place) & (u < chance) & (who.reg[account] < START)])
        column[gone] = world.new_devices(rng, len(gone), agents)
        who.known[gone] &= np.uint8(255 - (1 << place))


def _first_time(world: World, account: np.ndarray, slot: np.ndarray) -> np.ndarray:
    """Whether the account has never been on this device before, and remember that it has been now."""
    bit = (1 << slot).astype(np.uint8)
    unseen = (world.accounts.known[account] & bit) == 0
    _, first = np.unique(account * 8 + slot, return_index=True)
    again = np.ones(len(account), dtype=bool)
    again[first] = False
    np.bitwise_or.at(world.accounts.known, account, bit)
    return unseen & ~again


def _addresses(
    world: World, account: np.ndarray, slot: np.ndarray, clock: np.ndarray, day: int, rng: np.random.Generator
) -> np.ndarray:
    """Home, on the road, at work, abroad, through a VPN."""
    who, net, n = world.accounts, world.net, len(account)
    u = rng.random(n)
    country = who.country[account].astype(np.int64)
    ip = home_address(world, account, day)
    phone = (slot == FIRST) | (slot == NEXT) | (slot == GIFT)
    road = phone & (u < 0.42)
    ip[road] = net.pick_mobile(rng, country[road])
    hour = (clock // HOUR + who.zone[account]) % 24
    desk = (who.work[account] >= 0) & (u > 0.62) & (hour > 7) & (hour < 19) | (slot == KIOSK)
    ip[desk] = who.work[account[desk]]
    away = (who.trip[account] <= day) & (who.trip_end[account] > day) & (slot != SHARED) & (slot != KIOSK)
    abroad = who.trip_country[account].astype(np.int64)
    ip[away] = np.where(u[away] < 0.5, net.pick_mobile(rng, abroad[away]), net.pick_home(rng, abroad[away]))
    vpn = (who.vpn[account] == 1) & (u > 0.3)
    ip[vpn] = net.pick_hosting(rng, int(vpn.sum()), 300)
    return ip


def registrations(world: World, visits: Visits, rng: np.random.Generator) -> np.ndarray:
    at = np.flatnonzero(visits.joins)
    who = visits.account[at]
    rows = visits.rows(
        "register", at, email=world.accounts.email[who], phone=world.accounts.phone[who],
        method=rng.choice([METHOD["password"], METHOD["social"], METHOD["otp"]], len(at), p=[0.55, 0.27, 0.18]),
    )  # fmt: skip
    visits.wait(rng, at, 40)
    visits.new_device[at] = False
    return rows


def logins(world: World, visits: Visits, rng: np.random.Generator) -> list[np.ndarray]:
    """Most returning visits are still logged in; the others log in, some after a forgotten password or two."""
    needed = (visits.new_device | (rng.random(visits.n) < 0.4)) & ~visits.joins
    at = np.flatnonzero(needed)
    who = visits.account[at]
    email, new = world.accounts.email[who], visits.new_device[at].astype(np.int64)
    method = rng.choice([METHOD["password"], METHOD["social"], METHOD["otp"]], len(at), p=[0.66, 0.18, 0.16])
    slips = np.where(
        (rng.random(len(at)) < 0.075) & (method != METHOD["social"]), np.minimum(rng.geometric(0.6, len(at)), 6), 0
    )
    out = []
    for turn in range(int(slips.max(initial=0))):
        slip = slips > turn
        typo = slip & (rng.random(len(at)) < 0.1)  # the wrong mail address
        reason = np.where(
            typo,
            REASON["unknown_account"],
            np.where(method == METHOD["otp"], REASON["otp_expired"], REASON["bad_password"]),
        )
        rows = visits.rows(
            "login",
            at[slip],
            email=email[slip],
            method=method[slip],
            success=0,
            reason=reason[slip],
            new_device=new[slip],
        )
        rows["account"][typo[slip]] = -1
        rows["new_device"][typo[slip]] = -1
        rows["email"][typo[slip]] = world.new_emails(rng, int(typo.sum()))
        out.append(rows)
        visits.wait(rng, at[slip], 12)
    reset = (slips >= 2) & (rng.random(len(at)) < 0.35)
    ways = rng.choice([METHOD["email"], METHOD["sms"]], int(reset.sum()), p=[0.7, 0.3])
    out.append(visits.rows("password_reset", at[reset], email=email[reset], method=ways))
    visits.wait(rng, at[reset], 70)
    gave_up = (slips >= 1) & ~reset & (rng.random(len(at)) < 0.1)
    fine = ~gave_up
    visits.inside[at[gave_up]] = False
    out.append(visits.rows("login", at[fine], email=email[fine], method=method[fine], success=1, new_device=new[fine]))
    visits.wait(rng, at[fine], 5)
    out.append(_challenges(visits, at[fine], new[fine], rng))
    return out


def _challenges(visits: Visits, at: np.ndarray, new: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A code by SMS when the device is new, now and then otherwise; honest people pass nearly always."""
    asked = at[rng.random(len(at)) < np.where(new == 1, 0.55, 0.008)]
    passed = rng.random(len(asked)) < 0.94
    rows = visits.rows("challenge_result", asked, method=METHOD["sms"], success=passed.astype(np.int64))
    visits.inside[asked[~passed]] = False
    visits.wait(rng, asked, 25)
    return rows


def views(world: World, visits: Visits, rng: np.random.Generator) -> np.ndarray:
    """Product views, sampled; a share of people look on without logging in."""
    looked = rng.geometric(0.2, visits.n)
    sampled = rng.binomial(looked, VIEWS_SAMPLED)
    at = np.repeat(np.arange(visits.n), sampled)
    product = demand(world, visits.clock[at], rng)
    within = (rng.random(len(at)) * (looked[at] * 35 * SECOND)).astype(np.int64)
    rows = visits.rows(
        "session_view", at, t=visits.clock[at] + within, product=product, seller=world.sellers.account[world.products.seller[product]],
        category=world.products.category[product],
    )  # fmt: skip
    visits.clock += looked * 35 * SECOND
    rows["lag"] = _telemetry(rng, len(at))
    return rows


def _telemetry(rng: np.random.Generator, n: int) -> np.ndarray:
    """Views are sent in bundles: most within seconds, one in eighty waits on a phone without network, up to 50 minutes."""
    lag = rng.exponential(2_500, n)
    late = rng.random(n) < 0.012
    lag[late] = np.minimum(rng.exponential(9 * MINUTE, int(late.sum())), 50 * MINUTE)
    return lag.astype(np.int64)


def coupons(world: World, visits: Visits, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The coupon each visit holds (-1: none) and the claims: newcomers' welcome, the sale's, the season's."""
    chance = np.where(visits.joins, 0.55, np.where(visits.sale >= 0, 0.7, 0.018))
    at = np.flatnonzero((rng.random(visits.n) < chance) & visits.inside)
    coupon = np.where(visits.joins[at], WELCOME, np.where(visits.sale[at] >= 0, 2 + visits.sale[at], SEASON))
    rows = visits.rows("coupon_claim", at, coupon=coupon)
    held = np.full(visits.n, -1)
    held[at] = coupon
    visits.wait(rng, at, 15)
    return held, rows


def changes(world: World, visits: Visits, rng: np.random.Generator) -> list[np.ndarray]:
    """People move house, get new numbers, tidy passwords."""
    at = np.flatnonzero((rng.random(visits.n) < 0.005) & visits.inside & (visits.live < 0))
    what = rng.choice(["address", "phone", "email", "password"], len(at), p=[0.55, 0.15, 0.1, 0.2])
    who, out = visits.account[at], []
    for change, column in (("address", "address"), ("phone", "phone"), ("email", "email"), ("password", "")):
        here = what == change
        rows = visits.rows("profile_change", at[here], changed=CHANGE[change], new_device=visits.new_device[at[here]])
        if column:
            fresh = _new_value(world, rng, column, int(here.sum()))
            getattr(world.accounts, column)[who[here]] = fresh
            rows[column] = fresh
        out.append(rows)
    visits.wait(rng, at, 45)
    return out


def _new_value(world: World, rng: np.random.Generator, column: str, n: int) -> np.ndarray:
    if column == "email":
        return world.new_emails(rng, n)
    return world.take("address", n) if column == "address" else 5_000_000 + rng.integers(0, 4_900_000, n)


def gifts(world: World, visits: Visits, rng: np.random.Generator) -> np.ndarray:
    """Fans give in a live show: one to a few gifts, small ones mostly, from some people very large ones."""
    watching = np.flatnonzero((visits.live >= 0) & visits.inside)
    at = np.repeat(watching, np.minimum(rng.geometric(0.55, len(watching)) - (rng.random(len(watching)) < 0.4), 8))
    base = rng.choice([50, 99, 199, 499, 999, 4999], len(at), p=[0.34, 0.28, 0.2, 0.12, 0.05, 0.01])
    times = np.maximum(1, np.rint(world.accounts.gifter[visits.account[at]] ** 0.5 * rng.lognormal(0, 0.5, len(at))))
    when = visits.clock[at] + rng.integers(0, 25 * MINUTE, len(at))
    amount = np.minimum(base * times.astype(np.int64), 60_000)
    return visits.rows(
        "live_gift", at, t=when, creator=world.creators.account[visits.live[at]], amount=amount, quantity=times
    )


def purchases(world: World, visits: Visits, coupon: np.ndarray, day: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Orders with their payments and everything that follows from them."""
    who = world.accounts
    chance = 0.087 * who.convert[visits.account] * np.where(coupon >= 0, 5.0, 1.0) * np.where(visits.joins, 1.3, 1.0)
    baskets = np.minimum(rng.poisson(np.minimum(chance, 0.9)), 3) * (visits.inside & (visits.live < 0))
    out = []
    for turn in range(int(baskets.max(initial=0))):
        at = np.flatnonzero(baskets > turn)
        orders = _orders(world, visits, at, coupon if turn == 0 else np.full(visits.n, -1), rng)
        visits.wait(rng, at, 45)
        payments, paid = _payments(world, visits, at, orders, rng)
        out += [orders, *payments, *aftermath(world, orders[paid >= 0], paid[paid >= 0], payments[-1], day, rng)]
        visits.wait(rng, at, 200)
    return out


def _orders(world: World, visits: Visits, at: np.ndarray, coupon: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    who, n = visits.account[at], len(at)
    product = _choose(world, visits, at, rng)
    seller, category = world.products.seller[product], world.products.category[product]
    bulk = world.accounts.reseller[who] == 1
    items = np.minimum(rng.geometric(np.where(bulk, 0.16, 0.72), n), 20)
    gross = np.maximum(99, world.products.price[product] * items + postage(rng, category))
    held = coupon[at]
    off = discount(gross, held)
    gift = rng.random(n) < np.where(bulk, 0.5, 0.05)
    address = np.where(gift, world.accounts.address[rng.integers(0, world.accounts.n, n)], world.accounts.address[who])
    return visits.rows(
        "order", at, order=world.take("order", n), seller=world.sellers.account[seller], product=product, category=category, items=items,
        amount=gross - off, discount=np.where(off > 0, off, -1), coupon=np.where(off > 0, held, -1), address=address,
    )  # fmt: skip


def postage(rng: np.random.Generator, category: np.ndarray) -> np.ndarray:
    """What sending costs, minor units: nothing for most, and never for what is not sent."""
    return rng.choice([0, 299, 399, 499, 695], len(category), p=[0.58, 0.12, 0.14, 0.12, 0.04]) * SHIPPED[category]


def _choose(world: World, visits: Visits, at: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What is in the basket: what everybody buys, a neighbour of an old favourite, or what is on sale."""
    one, other = demand(world, visits.clock[at], rng), demand(world, visits.clock[at], rng)
    price = world.products.price
    dear = rng.random(len(at)) < 0.5 + (
        world.accounts.spend[visits.account[at]] - 1
    )  # some people take the dearer of two
    product = np.where(dear == (price[one] > price[other]), one, other)
    favourite = world.accounts.favourite[visits.account[at]]
    loyal = (rng.random(len(at)) < 0.28) & (favourite >= 0)
    near = np.minimum(favourite + rng.integers(0, 3, len(at)), world.first_products - 1)
    loyal &= is_open(world, near, visits.clock[at])
    product[loyal] = near[loyal]
    sale = visits.sale[at]
    first = np.array([first for _, _, first in world.flash])
    in_sale = sale >= 0
    offered = first[sale[in_sale]]
    beside = np.minimum(offered + rng.integers(0, 4, len(offered)), world.first_products - 1)
    product[in_sale] = np.where(is_open(world, beside, visits.clock[at[in_sale]]), beside, offered)
    return product


def demand(world: World, clock: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Products by popularity, of sellers who have opened by then."""
    product = np.searchsorted(world.popularity, rng.random(len(clock)) * 0.999999)
    for _ in range(4):
        closed = np.flatnonzero(~is_open(world, product, clock))
        product[closed] = np.searchsorted(world.popularity, rng.random(len(closed)) * 0.999999)
    product[~is_open(world, product, clock)] = world.evergreen
    return product


def is_open(world: World, product: np.ndarray, clock: np.ndarray) -> np.ndarray:
    return world.sellers.reg[world.products.seller[product]] < clock


def discount(gross: np.ndarray, coupon: np.ndarray) -> np.ndarray:
    """What a coupon takes off: welcome 10.00 from 25.00 on, season 10 % up to 15.00, flash sales 25 % up to 40.00.

    >>> discount(np.array([3000, 2000, 20000, 9000]), np.array([0, 0, 1, 2])).tolist()
    [1000, 0, 1500, 2250]
    """
    welcome = np.where(gross >= WELCOME_MIN, WELCOME_OFF, 0)
    season, sale = np.minimum(gross // 10, 1500), np.minimum(gross // 4, 4000)
    return np.where(coupon < 0, 0, np.where(coupon == WELCOME, welcome, np.where(coupon == SEASON, season, sale)))


def _payments(
    world: World, visits: Visits, at: np.ndarray, orders: np.ndarray, rng: np.random.Generator
) -> tuple[list[np.ndarray], np.ndarray]:
    """Payment attempts; the last block holds the successful ones, `paid` says which of its rows belongs to each order (-1: none)."""
    who, n = visits.account[at], len(at)
    method = rng.choice([METHOD["card"], METHOD["wallet"], METHOD["bank_transfer"]], n, p=[0.76, 0.19, 0.05])
    spare = (world.accounts.card2[who] >= 0) & (rng.random(n) < 0.25)
    card = np.where(method == METHOD["card"], np.where(spare, world.accounts.card2[who], world.accounts.card[who]), -1)
    shared = {name: orders[name] for name in ("order", "seller", "amount", "address")}
    attempting = rng.random(n) < 0.985
    failing = attempting & (rng.random(n) < 0.05)
    out = []
    for _ in range(3):
        if not failing.any():
            break
        reason = rng.choice(
            [REASON[name] for name, _ in DECLINES], int(failing.sum()), p=[share for _, share in DECLINES]
        )
        about_card = np.isin(reason, [REASON[name] for name in ("invalid_cvc", "expired_card", "invalid_number")])
        reason[about_card & (card[failing] < 0)] = REASON["do_not_honor"]
        columns = {name: values[failing] for name, values in shared.items()}
        out.append(
            visits.rows(
                "payment_failed", at[failing], card=card[failing], method=method[failing], reason=reason, **columns
            )
        )
        visits.wait(rng, at[failing], 50)
        attempting &= ~(failing & (rng.random(n) < 0.22))
        failing = failing & attempting & (rng.random(n) < 0.28)
    columns = {name: values[attempting] for name, values in shared.items()}
    good = visits.rows("payment", at[attempting], card=card[attempting], method=method[attempting], **columns)
    _reviewed(good, rng)
    paid = np.full(n, -1)
    paid[attempting] = np.arange(len(good))
    return [*out, good], paid


def _reviewed(payments: np.ndarray, rng: np.random.Generator) -> None:
    """Some honest payments are looked at by hand and found good: those are the known zeros, larger amounts more often."""
    looked = rng.random(len(payments)) < np.clip(payments["amount"] / 1_500_000, 0.002, 0.08)
    payments["label"][looked] = 0
    payments["source"][looked] = SOURCE["review"]
    payments["label_t"][looked] = payments["t"][looked] + (rng.gamma(1.6, 11 * HOUR, int(looked.sum())) + HOUR).astype(
        np.int64
    )


def aftermath(
    world: World, orders: np.ndarray, paid: np.ndarray, payments: np.ndarray, day: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Parcel, review, refund and, rarely, an honest dispute: all dated after the payment."""
    when = payments["t"][paid]
    shipped, parcels = shipments(world, orders, when, rng)
    arrived = np.where(shipped > 0, shipped + (rng.gamma(4, 0.8, len(orders)) * DAY).astype(np.int64), when + HOUR)
    who = orders["account"]
    out = [parcels]
    writes = np.flatnonzero(rng.random(len(orders)) < 0.1)
    out.append(_reviews(world, orders[writes], arrived[writes], day, rng))
    rate = RETURNS[orders["category"]] * np.where(world.accounts.returner[who] == 1, 7.0, 1.0)
    back = np.flatnonzero(rng.random(len(orders)) < np.minimum(rate, 0.6))
    out.append(_refunds(world, orders[back], arrived[back], day, rng))
    unhappy = (rng.random(len(orders)) < 0.0007) & (payments["card"][paid] >= 0)
    out.append(_disputes(payments, paid[unhappy], rng))
    return out


def shipments(
    world: World, orders: np.ndarray, when: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """When each order is handed to a carrier (0: nothing to ship) and the shipment rows."""
    physical = SHIPPED[orders["category"]]
    at = np.where(physical, when + (rng.gamma(1.8, 0.55, len(orders)) * DAY).astype(np.int64) + 2 * HOUR, 0)
    sent = orders[physical]
    letter = rng.random(len(sent)) < 0.18
    rows = block(
        "shipment", len(sent), t=at[physical], lag=rng.exponential(40 * SECOND, len(sent)).astype(np.int64), account=sent["seller"],
        seller=sent["seller"], order=sent["order"], address=sent["address"], items=sent["items"],
        method=np.where(letter, METHOD["letter"], METHOD["parcel"]),
    )  # fmt: skip
    return at, rows


def _later_visit(
    world: World, kind: str, orders: np.ndarray, when: np.ndarray, day: int, rng: np.random.Generator
) -> np.ndarray:
    """Rows of a short visit at a later time, in the hours people are awake, from home."""
    n, who = len(orders), orders["account"]
    ahead = (when - START) // DAY
    moment = START + ahead * DAY + (_moments(world, who, day, rng) - START) % DAY
    moment = np.where(moment < when, moment + DAY, moment)
    return block(
        kind, n, t=moment, account=who, device=orders["device"], ip=home_address(world, who, day), session=world.take("session", n),
        order=orders["order"], seller=orders["seller"],
    )  # fmt: skip


def _reviews(world: World, orders: np.ndarray, arrived: np.ndarray, day: int, rng: np.random.Generator) -> np.ndarray:
    n = len(orders)
    rows = _later_visit(world, "review", orders, arrived + rng.exponential(4 * DAY, n).astype(np.int64), day, rng)
    rows["product"], rows["category"] = orders["product"], orders["category"]
    rows["rating"] = rng.choice([1, 2, 3, 4, 5], n, p=[0.07, 0.04, 0.07, 0.19, 0.63])
    stock = rng.random(n) < 0.07  # "good", "thanks": the same few words from many people
    rows["text"] = np.where(stock, (rng.random(n) ** 3 * 40).astype(np.int64), 1000 + world.take("text", n))
    return rows


def _refunds(world: World, orders: np.ndarray, arrived: np.ndarray, day: int, rng: np.random.Generator) -> np.ndarray:
    n = len(orders)
    rows = _later_visit(world, "refund", orders, arrived + rng.gamma(2, 2.2 * DAY, n).astype(np.int64), day, rng)
    part = np.where(rng.random(n) < 0.18, rng.uniform(0.2, 0.8, n), 1.0)
    rows["amount"] = np.maximum(1, np.rint(orders["amount"] * part)).astype(np.int64)
    rows["method"] = np.where(rng.random(n) < 0.86, METHOD["original"], METHOD["store_credit"])
    rows["category"] = orders["category"]
    return rows


def _disputes(payments: np.ndarray, at: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A chargeback because something did not come: the payment is labelled 0 when the dispute is settled."""
    rows = chargebacks(payments[at], payments["t"][at] + rng.gamma(5, 4.2 * DAY, len(at)).astype(np.int64) + 5 * DAY)
    payments["label"][at] = 0
    payments["source"][at] = SOURCE["dispute"]
    payments["label_t"][at] = rows["t"] + (rng.gamma(3, 2 * DAY, len(at)) + DAY).astype(np.int64)
    return rows


def chargebacks(payments: np.ndarray, when: np.ndarray) -> np.ndarray:
    """The chargeback rows of these payments; they come from the bank, so from no device."""
    columns = {name: payments[name] for name in ("account", "seller", "order", "card", "amount")}
    return block("chargeback", len(payments), t=when, **columns)


assert len(RETURNS) == len(CATEGORIES)
