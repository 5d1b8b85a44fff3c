"""An ordinary day: who comes when, from where, on what, and what they do there.

`honest_day` is the recipe. Every step takes all visits of the day at once, moves each visit's clock forward and returns rows;
what an order causes later (parcel, review, refund, dispute) leaves as rows dated in the future.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from shopward.market.afterwards import REFERRAL, aftermath, commissions
from shopward.market.rhythm import busyness, moments, presents, wallet_share
from shopward.market.rows import (
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
    WHY,
    block,
    stack,
)
from shopward.market.world import DESK_AGENTS, PHONE_AGENTS, World, home_address

VIEWS_SAMPLED = 0.12  # one product view in eight becomes an event; the access log has them all

FIRST, SECOND_DEVICE, SHARED, NEXT, GIFT, KIOSK = range(6)
WELCOME, SEASON = 0, 1  # coupon codes; flash sales count on from 2
WELCOME_OFF, WELCOME_MIN = 1000, 2500
WORTH = np.array([WELCOME_OFF, 1500, 4000])  # of a coupon at most: welcome, season, flash sale

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
    via: np.ndarray  # came through the link of this affiliate's account, -1 otherwise
    wish: np.ndarray  # came for this product, -1 otherwise
    device: np.ndarray
    ip: np.ndarray
    session: np.ndarray
    new_device: np.ndarray
    inside: np.ndarray  # logged in
    began: np.ndarray  # when each was in and looked around first

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
    from shopward.market.browsing import browse

    visits = arrivals(world, day, rng)
    rows = [registrations(world, visits, rng), *logins(world, visits, rng)]
    visits.began = visits.clock.copy()
    rows.append(views(world, visits, rng))
    claimed, claims = coupons(world, visits, rng)
    rows += [claims, *changes(world, visits, rng), gifts(world, visits, day, rng)]
    rows += browse(world, visits, day, rng)
    rows += purchases(world, visits, claimed, day, rng)
    return stack(rows)


def arrivals(world: World, day: int, rng: np.random.Generator) -> Visits:
    """Who comes: regulars by their own rate, newcomers to register, the flash-sale crowd, fans when a creator is live."""
    who = world.accounts
    rate = who.rate * busyness(day)
    regulars = np.repeat(np.arange(who.n), rng.poisson(np.minimum(rate, 12)))
    start = START + day * DAY
    joined_today = np.flatnonzero((who.reg >= start) & (who.reg < start + DAY) & (who.rate > 0))
    groups = [
        (regulars, moments(world, regulars, day, rng), {}),
        (joined_today, who.reg[joined_today], {"joins": 1}),
        *_flash_crowds(world, day, rng),
        _fans(world, day, rng),
        *_followers(world, day, rng),
        *_bargain_hunters(world, day, rng),
        *_friends(world, day, rng),
    ]
    account = np.concatenate([who for who, _, _ in groups])
    clock = np.concatenate([when for _, when, _ in groups])
    why = {
        name: np.concatenate([np.broadcast_to(g[2].get(name, -1), len(g[0])) for g in groups])
        for name in ("joins", "sale", "live", "via", "wish")
    }
    joins = why.pop("joins") == 1
    linked = (why["via"] < 0) & (rng.random(len(account)) < 0.03) & (why["live"] < 0)
    why["via"] = np.where(
        linked, world.creators.account[rng.integers(0, world.first_creators, len(account))], why["via"]
    )
    known = (world.accounts.reg[account] < clock) | joins
    order = np.flatnonzero(known)[np.argsort(clock[known], kind="stable")]
    account, clock, joins = account[order], clock[order], joins[order]
    device, slot = _devices(world, account, day, rng)
    new = _first_time(world, account, slot)
    ip = _addresses(world, account, slot, clock, day, rng)
    return Visits(
        account, clock, joins, device=device, ip=ip, session=world.take("session", len(order)), new_device=new, inside=np.ones(len(order), dtype=bool), began=clock.copy(),
        **{name: values[order] for name, values in why.items()},
    )  # fmt: skip


Group = tuple[np.ndarray, np.ndarray, dict[str, Any]]  # who comes, when, and what for


def lively(world: World) -> float:
    """How often people come here, beside a market where everybody comes every third day."""
    return float(np.clip(world.accounts.rate.sum() / world.accounts.n / 0.3, 0.05, 4.0))


def _crowd(world: World, n: int, rng: np.random.Generator) -> np.ndarray:
    buyers = np.flatnonzero(world.accounts.rate > 0)
    return rng.choice(buyers, min(max(1, n), len(buyers)), replace=False)


def _flash_crowds(world: World, day: int, rng: np.random.Generator) -> list[Group]:
    """A fiftieth of all buyers comes to a flash sale, most in its first half hour."""
    out: list[Group] = []
    for number, (sale_day, hour, _) in enumerate(world.flash):
        if sale_day == day:
            who = _crowd(world, round(world.accounts.n * 0.02 * lively(world)), rng)
            when = START + day * DAY + (hour * HOUR + rng.exponential(0.45 * HOUR, len(who))).astype(np.int64)
            out.append((who, when, {"sale": number}))
    return out


def _followers(world: World, day: int, rng: np.random.Generator) -> list[Group]:
    """A creator shows a product, and within a day their followers come through one link to that one product."""
    out: list[Group] = []
    for post_day, hour, creator, product in world.posts:
        if post_day == day:
            who = _crowd(world, round(world.accounts.n * rng.uniform(0.002, 0.012) * lively(world)), rng)
            when = START + day * DAY + (hour * HOUR + rng.exponential(2.5 * HOUR, len(who))).astype(np.int64)
            when = np.minimum(when, START + (day + 1) * DAY - 1)
            out.append((who, when, {"via": int(world.creators.account[creator]), "wish": product}))
    return out


def _bargain_hunters(world: World, day: int, rng: np.random.Generator) -> list[Group]:
    """A shop mistypes a price; before it notices, word gets round among honest people, too."""
    out: list[Group] = []
    for slip in world.slips:
        if slip.day == day:
            who = _crowd(world, round(world.accounts.n * 0.0025 * lively(world)), rng)
            out.append(
                (
                    who,
                    slip.start + (rng.beta(2, 1.4, len(who)) * (slip.end - slip.start)).astype(np.int64),
                    {"wish": slip.product},
                )
            )
    return out


def _friends(world: World, day: int, rng: np.random.Generator) -> list[Group]:
    """A new shop's friends come on its second day and look at what it has; some of them buy."""
    start, out = START + day * DAY, []
    opened = np.flatnonzero((world.sellers.reg >= start - DAY) & (world.sellers.reg < start) & (world.sellers.rate > 0))
    for shop in opened.tolist():
        products = np.flatnonzero(world.products.seller[: world.first_products] == shop)
        who = _crowd(world, int(rng.integers(4, 16)), rng)
        out.append((who, moments(world, who, day, rng), {"wish": int(rng.choice(products))}))
    return out


def _fans(world: World, day: int, rng: np.random.Generator) -> Group:
    """A third of the creators are live on a day, at their usual hour; a few fans each come and may give."""
    creators = np.flatnonzero(rng.random(world.first_creators) < 0.33)
    pool = np.flatnonzero(world.accounts.gifter > 0)
    if not len(pool):
        return pool, pool, {}
    size = rng.poisson(np.minimum(5 + 90 / (1 + creators), max(2.0, len(pool) / 12)) * lively(world))
    creator = np.repeat(creators, size)
    weight = world.accounts.gifter[pool] ** 0.5
    fan = rng.choice(pool, len(creator), p=weight / weight.sum())
    hour = world.creators.live[creator] - world.accounts.zone[world.creators.account[creator]]
    minutes = (hour % 23) * 60 + rng.uniform(0, 70, len(creator))
    return fan, START + day * DAY + np.minimum(minutes * MINUTE, DAY - HOUR).astype(np.int64), {"live": creator}


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
        "register", at, email=world.accounts.email[who], phone=world.accounts.phone[who], other=world.accounts.referrer[who],
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
    sms = rng.random(len(at)) < 0.3
    pressing = reset.copy()
    for _ in range(5):  # a code that does not come is asked for again, by some again and again
        ways = np.where(sms[pressing], METHOD["sms"], METHOD["email"])
        phone = np.where(sms[pressing], world.accounts.phone[who[pressing]], -1)
        out.append(visits.rows("password_reset", at[pressing], email=email[pressing], phone=phone, method=ways))
        visits.wait(rng, at[pressing], 70)
        pressing &= rng.random(len(at)) < 0.25
    gave_up = (slips >= 1) & ~reset & (rng.random(len(at)) < 0.1)
    fine = ~gave_up
    visits.inside[at[gave_up]] = False
    out.append(visits.rows("login", at[fine], email=email[fine], method=method[fine], success=1, new_device=new[fine]))
    visits.wait(rng, at[fine], 5)
    out += _challenges(visits, at[fine], new[fine], rng)
    return out


def _challenges(visits: Visits, at: np.ndarray, new: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """A code by SMS when the device is new, now and then otherwise; honest people pass nearly always and then trust the device."""
    asked = at[rng.random(len(at)) < np.where(new == 1, 0.55, 0.008)]
    passed = rng.random(len(asked)) < 0.94
    rows = visits.rows("challenge_result", asked, method=METHOD["sms"], success=passed.astype(np.int64))
    visits.inside[asked[~passed]] = False
    visits.wait(rng, asked, 25)
    trusted = asked[passed & (rng.random(len(asked)) < 0.7)]
    return [rows, visits.rows("device_bind", trusted, new_device=visits.new_device[trusted])]


def views(world: World, visits: Visits, rng: np.random.Generator) -> np.ndarray:
    """Product views, sampled; a share of people look on without logging in."""
    looked = rng.geometric(0.2, visits.n) * np.where(rng.random(visits.n) < 0.002, 20, 1)  # some look for hours
    sampled = rng.binomial(looked, VIEWS_SAMPLED)
    at = np.repeat(np.arange(visits.n), sampled)
    product = demand(world, visits.clock[at], rng)
    within = (rng.random(len(at)) * (looked[at] * 35 * SECOND)).astype(np.int64)
    rows = visits.rows(
        "session_view", at, t=visits.clock[at] + within, product=product, seller=world.sellers.account[world.products.seller[product]],
        category=world.products.category[product],
    )  # fmt: skip
    visits.clock += looked * 35 * SECOND
    rows["lag"] = bundled(rng, len(at))
    return rows


def bundled(rng: np.random.Generator, n: int) -> np.ndarray:
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
    rows = visits.rows("coupon_claim", at, coupon=coupon, discount=WORTH[np.minimum(coupon, 2)])
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


def gifts(world: World, visits: Visits, day: int, rng: np.random.Generator) -> np.ndarray:
    """Fans give in a live show: one to a few gifts, small ones mostly, from some people very large ones."""
    watching = np.flatnonzero((visits.live >= 0) & visits.inside)
    at = np.repeat(watching, np.minimum(rng.geometric(0.55, len(watching)) - (rng.random(len(watching)) < 0.4), 8))
    base = rng.choice([50, 99, 199, 499, 999, 4999], len(at), p=[0.34, 0.28, 0.2, 0.12, 0.05, 0.01])
    times = np.maximum(1, np.rint(world.accounts.gifter[visits.account[at]] ** 0.5 * rng.lognormal(0, 0.5, len(at))))
    when = visits.clock[at] + rng.integers(0, 25 * MINUTE, len(at))
    amount = np.minimum(base * times.astype(np.int64), 60_000)
    who = visits.account[at]
    card = np.where(rng.random(len(at)) < 0.35, world.accounts.card[who], -1)  # the others bought coins before
    return visits.rows(
        "live_gift", at, t=when, creator=world.creators.account[visits.live[at]], amount=amount, quantity=times, room=visits.live[at] * 4096 + day,
        card=card, payer=np.where(rng.random(len(at)) < 0.04, world.accounts.purse[who], -1),
    )  # fmt: skip


def purchases(world: World, visits: Visits, coupon: np.ndarray, day: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Orders with their payments and everything that follows from them."""
    who = world.accounts
    chance = (
        0.087
        * who.convert[visits.account]
        * np.where(coupon >= 0, 5.0, 1.0)
        * np.where(visits.joins, 1.3, 1.0)
        * np.where(visits.wish >= 0, 3.0, 1.0)
    )
    baskets = np.minimum(rng.poisson(np.minimum(chance, 0.9)), 3) * (visits.inside & (visits.live < 0))
    _move(world, visits, rng)
    out = []
    for turn in range(int(baskets.max(initial=0))):
        at = np.flatnonzero(baskets > turn)
        orders = _orders(world, visits, at, coupon if turn == 0 else np.full(visits.n, -1), day, rng)
        out.append(_basket(world, orders, visits.began[at], rng))
        visits.wait(rng, at, 45)
        payments, paid = _payments(world, visits, at, orders, rng)
        fine = paid >= 0
        out += [orders, *payments, *aftermath(world, orders[fine], paid[fine], payments[-1], day, rng)]
        out += [_unpaid(orders[~fine], rng), _referrals(world, orders[fine & visits.joins[at]], rng)]
        visits.wait(rng, at, 200)
    return out


def _orders(
    world: World, visits: Visits, at: np.ndarray, coupon: np.ndarray, day: int, rng: np.random.Generator
) -> np.ndarray:
    who, n = visits.account[at], len(at)
    product = _choose(world, visits, at, rng)
    seller, category = world.products.seller[product], world.products.category[product]
    bulk = world.accounts.reseller[who] == 1
    items = np.minimum(rng.geometric(np.where(bulk, 0.16, 0.72), n), 20)
    gross = np.maximum(99, prices(world, product, visits.clock[at]) * items + postage(rng, category))
    held = coupon[at]
    off = discount(gross, held)
    gift = rng.random(n) < np.where(bulk, 0.5, 0.045 * presents(day))
    address = np.where(gift, world.accounts.address[rng.integers(0, world.accounts.n, n)], world.accounts.address[who])
    return visits.rows(
        "order", at, order=world.take("order", n), seller=world.sellers.account[seller], product=product, category=category,
        items=1 + rng.binomial(items - 1, 0.3), quantity=items, promotion=visits.sale[at], affiliate=visits.via[at], amount=gross - off, discount=np.where(off > 0, off, -1), coupon=np.where(off > 0, held, -1), address=address,
    )  # fmt: skip


def _move(world: World, visits: Visits, rng: np.random.Generator) -> None:
    """In the middle of one visit in fifty the address changes: the train leaves the station, a VPN is turned on."""
    at = np.flatnonzero(rng.random(visits.n) < 0.02)
    country = world.accounts.country[visits.account[at]].astype(np.int64)
    tunnel = rng.random(len(at)) < 0.2
    visits.ip[at] = np.where(tunnel, world.net.pick_hosting(rng, len(at), 300), world.net.pick_mobile(rng, country))


def prices(world: World, product: np.ndarray, clock: np.ndarray) -> np.ndarray:
    """Prices in force at these moments, minor units: the usual ones but for a slip of the shop's keyboard."""
    price = world.products.price[product].copy()
    for slip in world.slips:
        price[(product == slip.product) & (clock >= slip.start) & (clock < slip.end)] = slip.wrong
    return price


def _basket(world: World, orders: np.ndarray, began: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What is ordered was put into the basket first."""
    rows = block("cart", len(orders))
    for name in ("account", "device", "ip", "session", "seller", "product", "quantity", "promotion"):
        rows[name] = orders[name]
    rows["amount"] = prices(world, orders["product"], orders["t"]) * orders["quantity"]
    before = (SECOND * (1 + 40 * rng.lognormal(0, 1.0, len(orders)))).astype(np.int64)
    rows["t"] = np.maximum(orders["t"] - before, began)
    return rows


def _unpaid(orders: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Orders that nobody paid are cancelled by the platform after half an hour or so."""
    rows = block("order_cancel", len(orders), why=WHY["unpaid"])
    for name in ("account", "seller", "order", "product", "amount"):
        rows[name] = orders[name]
    rows["t"] = orders["t"] + 30 * MINUTE + rng.integers(0, 20 * MINUTE, len(orders))
    return rows


def _referrals(world: World, orders: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Who invited a friend is credited for the friend's first order."""
    invited = orders[world.accounts.referrer[orders["account"]] >= 0]
    when = invited["t"] + rng.integers(HOUR, 2 * DAY, len(invited))
    return commissions(
        invited, when, world.accounts.referrer[invited["account"]], np.full(len(invited), REFERRAL), "referral"
    )


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
    wished = visits.wish[at] >= 0
    product[wished] = visits.wish[at[wished]]
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
    wallet = wallet_share(int((visits.clock[at[0]] - START) // DAY)) if n else 0.2
    method = rng.choice([METHOD["card"], METHOD["wallet"], METHOD["bank_transfer"]], n, p=[0.95 - wallet, wallet, 0.05])
    spare = (world.accounts.card2[who] >= 0) & (rng.random(n) < 0.25)
    card = np.where(method == METHOD["card"], np.where(spare, world.accounts.card2[who], world.accounts.card[who]), -1)
    shared = {name: orders[name] for name in ("order", "seller", "amount", "address")}
    shared["payer"] = np.where(rng.random(n) < 0.25, world.accounts.purse[who], -1)
    attempting = rng.random(n) < np.where(world.accounts.reseller[who] == 1, 0.85, 0.985)
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
