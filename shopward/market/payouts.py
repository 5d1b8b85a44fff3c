"""The other side of the market: sellers and creators at work, and the money that is theirs to take out.

The ledger is the invariant: a payment becomes a seller's balance three days later, less the fee; a refund takes it back; a payout
never exceeds what is there. The one way around it is somebody else's bank account (see `campaigns.payout_fraud`).
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from shopward.market.rows import CHANGE, CODE, DAY, DRAIN, HOUR, METHOD, MINUTE, START, block, stack
from shopward.market.world import DESK_AGENTS, Columns, World, home_address

SELLER_SHARE, CREATOR_SHARE = 90, 50  # percent of what buyers and fans pay
HOLD_DAYS = 3
SMALLEST_PAYOUT = 2_000


class Ledger:
    """Balances in minor units by account, with money on hold until it matures.

    >>> ledger = Ledger(accounts=3)
    >>> ledger.book(0, block("payment", 1, seller=2, amount=10_000)); ledger.open(2); ledger.available(2)
    0
    >>> ledger.open(3); ledger.take(2), ledger.available(2)
    (9000, 0)
    """

    def __init__(self, accounts: int):
        self.balance = np.zeros(accounts, dtype=np.int64)
        self._held: dict[int, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)

    def open(self, day: int) -> None:
        """Begin a day: what has matured becomes available."""
        for who, amount in self._held.pop(day, []):
            np.add.at(self.balance, who, amount)

    def book(self, day: int, rows: np.ndarray) -> None:
        """Book a day's payments, refunds, gifts and commissions."""
        for kind, role, share in (
            ("payment", "seller", SELLER_SHARE),
            ("live_gift", "creator", CREATOR_SHARE),
            ("commission", "affiliate", 100),
        ):
            some = rows[rows["type"] == CODE[kind]]
            self._held[day + HOLD_DAYS].append((some[role], some["amount"] * share // 100))
        back = rows[rows["type"] == CODE["refund"]]
        np.subtract.at(self.balance, back["seller"], back["amount"] * SELLER_SHARE // 100)

    def available(self, who: int) -> int:
        return max(0, int(self.balance[who]))

    def take(self, who: int, wanted: int | None = None) -> int:
        """Pay out: all there is, or `wanted` if there is so much."""
        amount = self.available(who) if wanted is None else min(wanted, self.available(who))
        self.balance[who] -= amount
        return amount


def settle(rows: np.ndarray, ledger: Ledger) -> np.ndarray:
    """Let campaigns draw on the balances, in time order: what they want, or all there is; where there is next to nothing nobody asks."""
    drawn = np.isin(rows["type"], [CODE["seller_payout"], CODE["creator_payout"]]) & (rows["campaign"] > 0)
    for i in np.flatnonzero(drawn)[np.argsort(rows["t"][drawn], kind="stable")]:
        wanted = int(rows["amount"][i])
        rows["amount"][i] = ledger.take(int(rows["account"][i]), None if wanted == DRAIN else wanted)
        if rows["loss"][i] == DRAIN:
            rows["loss"][i] = rows["amount"][i]
    return rows[~drawn | (rows["amount"] >= 500)]


def business_day(world: World, ledger: Ledger, day: int, rng: np.random.Generator) -> np.ndarray:
    """What sellers and creators do on a day: open, log in, list, change a bank account, ask for their money."""
    sellers, creators = world.sellers, world.creators
    return stack([
        *_openings(world, day, rng),
        *_office_hours(world, day, rng),
        _slips(world, day),
        *_weekly(world, ledger, day, rng, sellers, "seller", sellers.automatic == 1),
        *_weekly(world, ledger, day, rng, creators, "creator", np.ones(creators.n, dtype=bool)),
    ])  # fmt: skip


def _openings(world: World, day: int, rng: np.random.Generator) -> list[np.ndarray]:
    """New sellers: sign up, pass the papers, put up the first products. Campaigns open their own shops in their own way."""
    start, sellers = START + day * DAY, world.sellers
    joined = world.accounts.reg[sellers.account]
    new = np.flatnonzero((joined >= start) & (joined < start + DAY) & (sellers.rate > 0))
    who, session = sellers.account[new], world.take("session", len(new))
    base = {
        "account": who,
        "device": world.accounts.first[who],
        "ip": home_address(world, who, day),
        "session": session,
    }
    stock = [np.flatnonzero(world.products.seller == s)[:4] for s in new.tolist()]
    product = np.concatenate([*stock, np.empty(0, dtype=np.int64)]).astype(np.int64)
    shops = np.repeat(np.arange(len(new)), [len(p) for p in stock])
    return [
        block("register", len(new), t=world.accounts.reg[who], email=world.accounts.email[who], phone=world.accounts.phone[who],
              method=METHOD["password"], **base),
        block("seller_onboard", len(new), t=sellers.reg[new], seller=who, bank=sellers.bank[new], document=sellers.document[new], address=world.accounts.address[who],
              email=world.accounts.email[who], phone=world.accounts.phone[who], **base),
        _listings(world, rng, product, sellers.reg[new][shops] + rng.integers(5 * MINUTE, 6 * HOUR, len(product)),
                  {name: values[shops] for name, values in base.items()}),
    ]  # fmt: skip


def _listings(
    world: World, rng: np.random.Generator, product: np.ndarray, when: np.ndarray, base: dict[str, np.ndarray]
) -> np.ndarray:
    """Listings: own words and pictures mostly; one in six uses the maker's picture, as every shop with that thing does."""
    n = len(product)
    price, category = world.products.price[product], world.products.category[product]
    makers = rng.random(n) < 0.16
    image = np.where(makers, category * 40 + price % 40, 100_000 + world.take("image", n))
    marked_down = rng.random(n) < 0.1
    return block(
        "listing", n, t=when, seller=base["account"], product=product, category=category, brand=world.sellers.brand[world.products.seller[product]],
        amount=price, before=np.where(marked_down, price * 5 // 4, -1), quantity=rng.integers(1, 200, n), text=1000 + world.take("text", n), image=image,
        contact=np.where(rng.random(n) < 0.004, 1, -1), link=np.where(rng.random(n) < 0.003, 1, -1), **base,
    )  # fmt: skip


def _prices_and_stock(
    world: World, rng: np.random.Generator, shop: np.ndarray, t: np.ndarray, base: dict[str, np.ndarray]
) -> list[np.ndarray]:
    """Shops turn at their prices, by a few percent mostly, and count their stock."""
    out = []
    for kind, chance in (("price_change", 0.12), ("stock", 0.2)):
        at = np.flatnonzero(rng.random(len(shop)) < chance)
        product = _own_product(world, shop[at], rng)
        same = {name: values[at] for name, values in base.items()}
        rows = block(
            kind,
            len(at),
            t=t[at] + rng.integers(2 * MINUTE, 30 * MINUTE, len(at)),
            seller=same["account"],
            product=product,
            **same,
        )
        if kind == "price_change":
            price = world.products.price[product]
            rows["category"], rows["before"] = world.products.category[product], price
            rows["amount"] = np.maximum(99, price * rng.choice([0.7, 0.85, 0.9, 0.95, 1.05, 1.1], len(at)))
        else:
            rows["quantity"] = np.where(rng.random(len(at)) < 0.06, 0, rng.geometric(0.02, len(at)))
        out.append(rows)
    return out


def _slips(world: World, day: int) -> np.ndarray:
    """A mistyped price and its correction."""
    out = []
    for slip in world.slips:
        if slip.day != day:
            continue
        shop = int(world.products.seller[slip.product])
        who = world.sellers.account[[shop]]
        base = {
            "account": who,
            "device": world.accounts.second[who],
            "ip": home_address(world, who, day),
            "session": world.take("session", 1),
        }
        for t, new, old in ((slip.start, slip.wrong, slip.right), (slip.end, slip.right, slip.wrong)):
            out.append(block("price_change", 1, t=t, seller=who, product=slip.product, category=world.products.category[slip.product],
                             amount=new, before=old, **base))  # fmt: skip
    return stack(out)


def _office_hours(world: World, day: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Back-office visits between eight and eight, local time."""
    sellers = world.sellers
    shop = np.repeat(np.arange(sellers.n), rng.poisson(sellers.rate))
    t = START + day * DAY + _office_time(world, sellers.account[shop], rng)
    shop, t = shop[sellers.reg[shop] < t - DAY], t[sellers.reg[shop] < t - DAY]
    who = sellers.account[shop]
    base, new = _workplace(world, who, day, rng)
    asks = np.flatnonzero((rng.random(len(shop)) < 0.5) | new)
    lists = np.flatnonzero((rng.random(len(shop)) < 0.1) & ~new)
    moves = np.flatnonzero(rng.random(len(shop)) < 0.0015)
    season = np.flatnonzero((rng.random(len(shop)) < 0.0015) & ~new)  # the whole range at once
    lists = np.sort(np.concatenate([lists, np.repeat(season, 25)]))
    world.lookalikes += [("account", int(who[at]), "season_listing") for at in season.tolist()]
    own = _own_product(world, shop[lists], rng)
    return [
        *_prices_and_stock(world, rng, shop, t, base),
        _login(world, t[asks], {name: values[asks] for name, values in base.items()}, new[asks]),
        _listings(
            world,
            rng,
            own,
            t[lists] + rng.integers(2 * MINUTE, 40 * MINUTE, len(lists)),
            {k: v[lists] for k, v in base.items()},
        ),
        _new_bank(
            world,
            shop[moves],
            t[moves] + 3 * MINUTE,
            {name: values[moves] for name, values in base.items()},
            new[moves],
        ),
    ]


def _office_time(world: World, who: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    local = 8 + 12 * rng.beta(1.6, 1.8, len(who))
    return (((local - world.accounts.zone[who]) % 23.9) * HOUR).astype(np.int64)


def _workplace(
    world: World, who: np.ndarray, day: int, rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Computer or phone, home or road; one visit in 150 is the first on a new machine."""
    n, accounts = len(who), world.accounts
    phone = rng.random(n) < 0.3
    device = np.where(phone, accounts.second[who], accounts.first[who])
    new = rng.random(n) < 0.007
    fresh = world.new_devices(rng, int(new.sum()), DESK_AGENTS, old=0.1)
    device[new] = fresh
    accounts.first[who[new]] = fresh
    road = phone & (rng.random(n) < 0.5)
    ip = home_address(world, who, day)
    ip[road] = world.net.pick_mobile(rng, accounts.country[who[road]].astype(np.int64))
    return {"account": who, "device": device, "ip": ip, "session": world.take("session", n)}, new


def _login(world: World, t: np.ndarray, base: dict[str, np.ndarray], new: np.ndarray) -> np.ndarray:
    email = world.accounts.email[base["account"]]
    return block(
        "login", len(t), t=t, success=1, method=METHOD["password"], email=email, new_device=new.astype(np.int64), **base
    )


def _own_product(world: World, shop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One of the shop's products (listed anew, in another size or colour)."""
    products = world.products.seller[: world.first_products]
    first, last = np.searchsorted(products, shop), np.searchsorted(products, shop, side="right")
    return first + (rng.random(len(shop)) * (last - first)).astype(np.int64)


def _new_bank(
    world: World, shop: np.ndarray, t: np.ndarray, base: dict[str, np.ndarray], new: np.ndarray
) -> np.ndarray:
    """An honest change of bank: what a hijacked shop looks like, too."""
    world.sellers.bank[shop] = world.take("bank", len(shop))
    return block(
        "profile_change", len(shop), t=t, changed=CHANGE["bank_account"], bank=world.sellers.bank[shop], seller=base["account"],
        new_device=new.astype(np.int64), **base,
    )  # fmt: skip


def _weekly(
    world: World, ledger: Ledger, day: int, rng: np.random.Generator, parties: Columns, role: str, automatic: np.ndarray
) -> list[np.ndarray]:
    """Payday: on their weekday those with something to take are paid, automatically or because they log in and ask."""
    due = np.flatnonzero((parties.weekday == day % 7) & (ledger.balance[parties.account] >= SMALLEST_PAYOUT))
    who, auto = parties.account[due], automatic[due]
    amount = np.array([ledger.take(a) for a in who.tolist()], dtype=np.int64)
    t = START + day * DAY + (parties.hour[due] * HOUR).astype(np.int64)
    base, _ = _workplace(world, who, day, rng)
    instant = rng.random(len(due)) < 0.12
    rows = block(
        f"{role}_payout", len(due), t=t, amount=amount, bank=parties.bank[due], method=np.where(instant, METHOD["instant_card"], METHOD["bank_transfer"]),
        payee=who, **{role: who}, **base,
    )  # fmt: skip
    for name in ("device", "ip", "session"):
        rows[name][auto] = -1
    asks = np.flatnonzero(~auto)
    before = t[asks] - rng.integers(MINUTE, 8 * MINUTE, len(asks))
    logins = _login(
        world,
        np.maximum(before, START + day * DAY),
        {name: values[asks] for name, values in base.items()},
        np.zeros(len(asks)),
    )
    return [logins, rows]
