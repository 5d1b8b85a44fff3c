"""Who lives in the market before anything happens: buyers, sellers, creators, and the things they share.

The shares are the point. Families share a tablet and an address, dormitories and offices an IP, a campus library a computer,
phones are handed down, people travel. Each is a reason why a good rule is sometimes wrong, so each is also written to
`truth/lookalikes.parquet`. Where the numbers come from: docs/market.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from shopward.market import networks
from shopward.market.networks import COUNTRIES, COUNTRY_SHARE, ZONES, Networks, scatter
from shopward.market.rows import CATEGORIES, DAY, HOUR, START, Columns
from shopward.market.texts import BRANDS

NEVER = 32_000  # a day that does not come
EVENTS_PER_SESSION = 2.58  # measured over seeds 1-5; turns a wished number of events into visits
ORDERS_PER_SESSION, MEAN_ORDER = 0.096, 61.0  # expected, for planning what a market of this size attracts

# category: share of products, median price, spread of log price
PRICES = {
    "electronics": (0.13, 79.0, 0.95), "fashion": (0.22, 29.0, 0.60), "beauty": (0.13, 18.0, 0.55), "home": (0.16, 32.0, 0.80),
    "toys": (0.08, 21.0, 0.55), "grocery": (0.09, 11.0, 0.55), "sports": (0.08, 34.0, 0.70), "books": (0.06, 13.0, 0.40),
    "digital": (0.04, 8.0, 0.70), "gift_cards": (0.01, 45.0, 0.45),
}  # fmt: skip

AGENTS = (
    "Mozilla/5.0 (Linux; Android {a}; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{c}.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS {i} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/{v} Mobile/15E148"
    " Safari/604.1",
    "Shopward/{s} (iOS {v}; iPhone)",
    "Shopward/{s} (Android {a}; phone)",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{c}.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{c}.0.0.0 Safari/537.36 Edg/{c}.0.0.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/{v} Safari/605.1.15",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:{c}.0) Gecko/20100101 Firefox/{c}.0",
    "Mozilla/5.0 (iPad; CPU OS {i} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/{v} Mobile/15E148 Safari/604.1",
)
VERSIONS = 6  # of each, newest first
PHONE_AGENTS, DESK_AGENTS, TABLET_AGENT = (0, 1, 2, 3), (4, 5, 6, 7), 8


def user_agents() -> tuple[str, ...]:
    """Every user agent of the market: nine shapes in six versions each, newest first.

    >>> len(user_agents()), user_agents()[12]
    (54, 'Shopward/5.9 (iOS 26.1; iPhone)')
    """
    apple = ("26.1", "26.0", "18.6", "18.5", "17.7", "16.7")
    fill = [
        {"a": 16 - k // 2, "c": 143 - 2 * k, "i": v.replace(".", "_"), "v": v, "s": f"5.{9 - k}"}
        for k, v in enumerate(apple)
    ]
    return tuple(shape.format(**versions) for shape in AGENTS for versions in fill)


@dataclass(frozen=True, slots=True)
class Slip:
    """A price that an honest shop mistyped, for an hour or three."""

    day: int
    start: int
    end: int
    product: int
    wrong: int  # minor units
    right: int


@dataclass(slots=True)
class World:
    """Everything that exists, as tables of codes; campaigns add their own people and things before day 0 begins."""

    days: int
    net: Networks
    accounts: Columns
    devices: Columns
    cards: Columns
    products: Columns
    sellers: Columns
    creators: Columns
    popularity: np.ndarray  # running share of demand per product, ends at 1
    flash: list[tuple[int, float, int]]  # (day, hour, first product of the sale)
    kiosks: np.ndarray  # device per campus
    lookalikes: list[tuple[str, int, str]]  # (entity kind, code, why it looks odd)
    posts: list[tuple[int, float, int, int]] = field(default_factory=list)  # (day, hour, creator, product shown)
    slips: list[Slip] = field(default_factory=list)  # prices mistyped by honest shops
    first_creators: int = 0
    first_products: int = 0  # how many products existed before any campaign
    evergreen: int = 0  # the best-selling product of a seller who was always there
    next: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("order", "session", "bank", "address", "text", "email", "coupon", "document", "tracking", "image"), 0
        )
    )

    @property
    def end(self) -> int:
        return START + self.days * DAY

    def take(self, kind: str, n: int) -> np.ndarray:
        """`n` new codes of something that needs no table (orders, sessions, addresses, ...)."""
        first = self.next[kind]
        self.next[kind] = first + n
        return np.arange(first, first + n)

    def new_emails(self, rng: np.random.Generator, n: int, domains: np.ndarray | None = None) -> np.ndarray:
        """Mail addresses nobody has yet: at the usual providers, or at the given `domains`."""
        if domains is None:
            domains = rng.choice(8, n, p=[0.33, 0.2, 0.12, 0.13, 0.1, 0.08, 0.025, 0.015])
        return self.take("email", n) * 16 + domains

    def new_devices(
        self,
        rng: np.random.Generator,
        n: int,
        kinds: tuple[int, ...] = PHONE_AGENTS,
        old: float = 0.45,
        emulated: float = 0.003,
    ) -> np.ndarray:
        """Devices with a user agent; `old` is the chance to lag one more version behind."""
        version = np.minimum(rng.geometric(1 - old, n) - 1, VERSIONS - 1)
        odd = (rng.random(n) < emulated).astype(np.int8)  # rooted phones, developers, people who play on a computer
        return self.devices.add(n, agent=rng.choice(kinds, n) * VERSIONS + version, emulator=odd)

    def new_cards(self, rng: np.random.Generator, country: np.ndarray) -> np.ndarray:
        """Cards of issuers in the given countries. Bank numbers start with 9, which no card network uses."""
        issuer = np.minimum(rng.geometric(0.22, len(country)) - 1, 24)
        return self.cards.add(len(country), bin=900_000 + country * 1000 + issuer * 37, country=country)

    def strangers(self, rng: np.random.Generator, n: int, **columns: object) -> np.ndarray:
        """Accounts that do nothing by themselves: sellers, creators and everybody a campaign signs up."""
        country = columns.pop("country", rng.choice(len(COUNTRIES), n, p=COUNTRY_SHARE))
        defaults: dict[str, object] = {
            "country": country, "zone": zones(rng, np.asarray(country)), "reg": START - 1, "rate": 0.0, "home": rng.integers(0, 1 << 24, n), "v6": 0,
            "spend": 1.0, "convert": 1.0, "email": self.new_emails(rng, n), "phone": self.accounts.n + np.arange(n), "upgrade": NEVER, "gift_day": NEVER,
            "trip": NEVER, "trip_end": NEVER, "returner": 0, "gifter": 0.0, "vpn": 0, "reseller": 0, "shared": -1, "second": -1, "known": 1, "work": -1, "purse": -1, "referrer": -1,
        }  # fmt: skip
        return self.accounts.add(n, **{**defaults, **columns})


def build(rng: np.random.Generator, days: int, accounts: int, visits_per_day: float) -> World:
    """A market of `accounts` buyers that are expected to come `visits_per_day` times a day in all."""
    country, household = _households(rng, accounts)
    homes = np.bincount(country[np.flatnonzero(np.diff(household, prepend=-1))], minlength=len(COUNTRIES))
    people = np.bincount(country, minlength=len(COUNTRIES))
    offices = people // 60 + 2
    campuses = max(1, round(accounts * 0.05 / 220))
    world = World(
        days=days,
        net=networks.plan(homes, people, offices + campuses),
        accounts=Columns(
            country="i1", zone="i1", reg="i8", rate="f4", home="i8", v6="i1", work="i8", first="i4", second="i4", shared="i4", kiosk="i4",
            card="i4", card2="i4", address="i4", spend="f4", convert="f4", email="i8", phone="i8", upgrade="i2", next="i4", gift_day="i2",
            gift="i4", trip="i2", trip_end="i2", trip_country="i1", returner="i1", gifter="f4", vpn="i1", reseller="i1", known="u1",
            favourite="i4", purse="i4", referrer="i4",
        ),
        devices=Columns(agent="i2", emulator="i1", tool="i1"),
        cards=Columns(bin="i4", country="i1"),
        products=Columns(seller="i4", category="i1", price="i8"),
        sellers=Columns(account="i4", reg="i8", bank="i4", weekday="i1", hour="f4", automatic="i1", rate="f4", weekly="f8", document="i4", brand="i2"),
        creators=Columns(account="i4", bank="i4", weekday="i1", hour="f4", live="f4"),
        popularity=np.empty(0),
        flash=[],
        kiosks=np.empty(0, dtype=np.int64),
        lookalikes=[],
    )  # fmt: skip
    _buyers(world, rng, country, household, visits_per_day)
    _families(world, rng, household)
    _campuses_and_offices(world, rng, offices, campuses)
    _hand_downs(world, rng)
    _oddities(world, rng)
    _sellers(world, rng, visits_per_day)
    _creators(world, rng)
    _flash_sales(world, rng)
    _posts_and_slips(world, rng)
    return world


def zones(rng: np.random.Generator, country: np.ndarray) -> np.ndarray:
    """Hours from UTC for people of these countries."""
    out = np.empty(len(country), dtype=np.int8)
    for code in range(len(COUNTRIES)):
        here = np.flatnonzero(country == code)
        hours, share = zip(*ZONES[code], strict=True)
        out[here] = rng.choice(hours, len(here), p=np.array(share) / sum(share))
    return out


def _households(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Country and household number of each account; people with an account here mostly live alone on the platform."""
    size = rng.choice([1, 2, 3, 4, 5], n, p=[0.66, 0.21, 0.08, 0.04, 0.01])
    household = np.repeat(np.arange(n), size)[:n]
    of_home = rng.choice(len(COUNTRIES), int(household[-1]) + 1, p=COUNTRY_SHARE)
    return of_home[household], household


def _buyers(world: World, rng: np.random.Generator, country: np.ndarray, household: np.ndarray, visits: float) -> None:
    n = len(country)
    rate = rng.lognormal(0, 1.15, n)  # a few come daily, most once a fortnight
    newcomer = rng.random(n) < min(0.4, 0.0036 * world.days)
    reg = START - (rng.exponential(420 * DAY, n) + HOUR).astype(np.int64)
    reg[newcomer] = START + (rng.random(int(newcomer.sum())) * world.days * DAY).astype(np.int64)
    rate[newcomer] *= 1.4
    lived = np.where(newcomer, (world.end - reg) / (world.days * DAY), 1.0)
    rate *= visits / (rate * lived).sum()
    v6 = rng.random(n) < 0.2
    phones = world.new_devices(rng, n)
    desk = np.where(rng.random(n) < 0.46, 1, 0).astype(bool)
    second = np.full(n, -1)
    second[desk] = world.new_devices(rng, int(desk.sum()), DESK_AGENTS)
    card = world.new_cards(rng, np.where(rng.random(n) < 0.97, country, rng.choice(len(COUNTRIES), n, p=COUNTRY_SHARE)))
    spare = rng.random(n) < 0.18
    card2 = np.full(n, -1)
    card2[spare] = world.new_cards(rng, country[spare])
    emails = world.new_emails(rng, n)
    throwaway = rng.random(n) < 0.006
    emails[throwaway] = (emails[throwaway] >> 4 << 4) + rng.integers(8, 12, int(throwaway.sum()))
    world.next["address"] = int(household[-1]) + 1
    world.accounts.add(
        n, country=country, zone=zones(rng, country), reg=reg, rate=rate, home=household, v6=v6[np.searchsorted(household, household)],
        work=-1, first=phones, second=second, shared=-1, kiosk=-1, card=card, card2=card2, address=household,
        spend=rng.lognormal(-0.04, 0.28, n), convert=rng.gamma(2.2, 1 / 2.2, n), email=emails, phone=np.arange(n), upgrade=NEVER, next=-1,
        gift_day=NEVER, gift=-1, trip=NEVER, trip_end=NEVER, trip_country=-1, returner=0, gifter=0.0, vpn=rng.random(n) < 0.03,
        reseller=0, known=np.where(newcomer, 0, np.where(rng.random(n) < 0.93, 0b111, 0b001)), favourite=-1, purse=-1,
        referrer=_inviters(world, rng, newcomer),
    )  # fmt: skip


def _inviters(world: World, rng: np.random.Generator, newcomer: np.ndarray) -> np.ndarray:
    """One newcomer in ten was invited; a third of those by somebody popular, who brings a dozen."""
    n = len(newcomer)
    invited = newcomer & (rng.random(n) < 0.1)
    popular = rng.integers(0, n, max(1, round(invited.sum() / 36)))
    by = np.where(rng.random(n) < 0.33, rng.choice(popular, n), rng.integers(0, n, n))
    world.lookalikes += [("account", who, "popular_inviter") for who in np.unique(popular).tolist()]
    return np.where(invited, by, -1)


def _families(world: World, rng: np.random.Generator, household: np.ndarray) -> None:
    """Half of all households with several accounts share a tablet; in a third, one card pays for everybody."""
    size = np.bincount(household)
    sharing = np.flatnonzero((size > 1) & (rng.random(len(size)) < 0.5))
    tablet = np.full(len(size), -1)
    tablet[sharing] = world.new_devices(rng, len(sharing), (TABLET_AGENT,), old=0.7)
    world.accounts.shared[:] = tablet[household]
    one_purse = (size > 1) & (rng.random(len(size)) < 0.33)
    head = np.searchsorted(household, household)
    world.accounts.card[:] = np.where(one_purse[household], world.accounts.card[head], world.accounts.card)
    world.accounts.purse[:] = np.where(one_purse[household] & (head != np.arange(len(household))), head, -1)
    world.lookalikes += [("device", d, "family_device") for d in tablet[sharing].tolist()]


def _campuses_and_offices(world: World, rng: np.random.Generator, offices: np.ndarray, campuses: int) -> None:
    """Students behind a dormitory's address with a library computer; office workers behind their firm's."""
    accounts, net = world.accounts, world.net
    n = accounts.n
    country = accounts.country.astype(np.int64)
    employed = rng.random(n) < 0.24
    room = (offices[country] * rng.random(n) ** 2.6).astype(np.int64)  # a few big firms, many small ones
    accounts.work[employed] = (net.work[country] + 1 + room)[employed]
    where = rng.choice(len(COUNTRIES), campuses, p=COUNTRY_SHARE)
    where[0] = 0
    student = np.flatnonzero(rng.random(n) < 0.08)
    campus = rng.integers(0, campuses, len(student))
    near = country[student] == where[campus]
    student, campus = student[near], campus[near]
    address = net.work[where[campus]] + 1 + offices[where[campus]] + campus  # behind the offices' addresses
    accounts.work[student] = address
    world.kiosks = world.new_devices(rng, campuses, DESK_AGENTS, old=0.8)
    users = rng.random(len(student)) < 0.3
    accounts.kiosk[student[users]] = world.kiosks[campus[users]]
    _school_class(world, rng, student, campus)
    used = np.unique(campus)
    world.lookalikes += [("device", int(world.kiosks[c]), "library_computer") for c in used.tolist()]
    world.lookalikes += [("ip", ip, "campus_nat") for ip in np.unique(address).tolist()]
    busy, count = np.unique(accounts.work[employed], return_counts=True)
    world.lookalikes += [("ip", ip, "office_nat") for ip in busy[count >= 8].tolist()]


def _school_class(world: World, rng: np.random.Generator, student: np.ndarray, campus: np.ndarray) -> None:
    """On each campus a class signs up in one hour, on the library computer, for a gift."""
    accounts = world.accounts
    new = accounts.reg[student] >= START
    for place in np.unique(campus).tolist():
        some = student[new & (campus == place)][:12]
        if len(some) >= 3:
            hour = int(accounts.reg[some].min())
            accounts.reg[some] = hour + rng.integers(0, HOUR, len(some))
            accounts.kiosk[some] = world.kiosks[place]
            world.lookalikes += [("account", who, "school_class") for who in some.tolist()]


def _hand_downs(world: World, rng: np.random.Generator) -> None:
    """One phone in thirty is replaced each month; a quarter of the old ones get a second life with somebody else."""
    accounts, n = world.accounts, world.accounts.n
    upgraders = np.flatnonzero(rng.random(n) < 0.035 * world.days / 30)
    day = rng.integers(0, world.days, len(upgraders))
    accounts.upgrade[upgraders] = day
    accounts.next[upgraders] = world.new_devices(rng, len(upgraders), old=0.1)
    gives = rng.random(len(upgraders)) < 0.27
    takers = rng.integers(0, n, int(gives.sum()))
    same = upgraders[gives] != takers
    givers, takers, day = upgraders[gives][same], takers[same], day[gives][same]
    accounts.gift_day[takers] = np.minimum(day + 1 + rng.integers(0, 6, len(day)), NEVER)
    accounts.gift[takers] = accounts.first[givers]
    world.lookalikes += [("device", d, "hand_down") for d in accounts.gift[np.unique(takers)].tolist()]


def _oddities(world: World, rng: np.random.Generator) -> None:
    """Travellers, serial returners, resellers and generous gifters."""
    accounts, n = world.accounts, world.accounts.n
    away = np.flatnonzero(rng.random(n) < 0.045 * world.days / 30)
    leave = rng.integers(0, world.days, len(away))
    accounts.trip[away] = leave
    accounts.trip_end[away] = np.minimum(leave + 2 + rng.geometric(0.16, len(away)), NEVER)
    accounts.trip_country[away] = rng.choice(len(COUNTRIES), len(away))
    returners = rng.random(n) < 0.012
    accounts.returner[returners] = 1
    resellers = rng.random(n) < 0.0025
    accounts.reseller[resellers] = 1
    accounts.rate[resellers] *= 3
    accounts.convert[resellers] = 2.5
    fans = rng.random(n) < 0.05
    accounts.gifter[fans] = rng.lognormal(0, 1.3, int(fans.sum()))
    for who, why in ((away, "traveller"), (returners.nonzero()[0], "serial_returner"), (resellers.nonzero()[0], "reseller"),
                     ((accounts.gifter > 5).nonzero()[0], "generous_gifter")):  # fmt: skip
        world.lookalikes += [("account", a, why) for a in who.tolist()]


def _sellers(world: World, rng: np.random.Generator, visits: float) -> None:
    """Sellers with their catalogue; demand follows a Zipf law over products, prices a log-normal one per category."""
    n = max(12, world.accounts.n // 70)
    opens = np.where(
        rng.random(n) < min(0.2, 0.0016 * world.days),
        START + HOUR + (rng.random(n) * world.days * DAY).astype(np.int64),
        0,
    )
    opens[0] = 0
    old = START - (rng.exponential(500 * DAY, n) + 20 * DAY).astype(np.int64)
    account = sell_accounts(world, rng, n, reg=np.where(opens > 0, opens - rng.integers(HOUR // 12, HOUR, n), old))
    world.sellers.add(
        n, account=account, reg=np.where(opens > 0, opens, old), bank=world.take("bank", n), weekday=rng.integers(0, 7, n), hour=rng.uniform(0, 24, n),
        automatic=rng.random(n) < 0.65, rate=rng.gamma(2, 0.45, n), weekly=0.0,
        document=world.take("document", n), brand=np.where(rng.random(n) < 0.35, rng.integers(0, len(BRANDS), n), -1),
    )  # fmt: skip
    _sister_shops(world, rng, opens)
    size = np.minimum(rng.zipf(1.6, n) + 3, 400)
    owner = np.repeat(np.arange(n), size)
    main = rng.choice(len(CATEGORIES), n, p=[share for share, _, _ in PRICES.values()])
    aside = rng.choice(len(CATEGORIES), len(owner), p=[share for share, _, _ in PRICES.values()])
    category = np.where(rng.random(len(owner)) < 0.8, main[owner], aside)
    add_products(world, rng, owner, category)
    weight = (1 / np.arange(3, len(owner) + 3) ** 0.82)[rng.permutation(len(owner))]
    weight[opens[owner] > 0] *= 0.35  # newcomers sell little at first
    world.evergreen = int(np.where(opens[owner] > 0, 0, weight).argmax())
    world.popularity = np.cumsum(weight / weight.sum())
    world.first_products = len(owner)
    revenue = weight / weight.sum() * world.products.price
    scale = visits * 7 * ORDERS_PER_SESSION * 1.2
    world.sellers.weekly[:] = np.bincount(owner, revenue, minlength=n) * scale
    favourite = np.searchsorted(world.popularity, rng.random(world.accounts.n) * 0.999999)
    world.accounts.favourite[:] = favourite


def _sister_shops(world: World, rng: np.random.Generator, opens: np.ndarray) -> None:
    """A firm opens a shop for another of its brands: same papers, same bank account, same computer."""
    sisters = np.flatnonzero((opens > 0) & (rng.random(len(opens)) < 0.15))
    elder = rng.choice(np.flatnonzero(opens == 0), len(sisters))
    sellers, accounts = world.sellers, world.accounts
    sellers.document[sisters], sellers.bank[sisters] = sellers.document[elder], sellers.bank[elder]
    accounts.first[sellers.account[sisters]] = accounts.first[sellers.account[elder]]
    world.lookalikes += [("account", who, "sister_shop") for who in sellers.account[sisters].tolist()]


def sell_accounts(world: World, rng: np.random.Generator, n: int, **columns: object) -> np.ndarray:
    """Accounts to sell or to perform with: a computer, a phone, a home."""
    country = rng.choice(len(COUNTRIES), n, p=COUNTRY_SHARE)
    given: dict[str, object] = {
        "country": country, "first": world.new_devices(rng, n, DESK_AGENTS), "second": world.new_devices(rng, n), "address": world.take("address", n), "card": -1,
        "reg": START - (rng.exponential(500 * DAY, n) + 20 * DAY).astype(np.int64),
    }  # fmt: skip
    return world.strangers(rng, n, **{**given, **columns})


def add_products(world: World, rng: np.random.Generator, seller: np.ndarray, category: np.ndarray) -> np.ndarray:
    """Products with prices as shops write them: .99, .95, .50 or round."""
    table = np.array([(median, spread) for _, median, spread in PRICES.values()])
    median, spread = table[category].T
    price = np.floor(median * np.exp(rng.normal(0, 1, len(category)) * spread))
    ending = rng.choice([-1, -5, 50, 0], len(category), p=[0.55, 0.12, 0.13, 0.2])
    cents = np.clip(price, 2, 2500).astype(np.int64) * 100 + ending
    cents = np.where(
        category == CATEGORIES.index("gift_cards"), rng.choice([1000, 2500, 5000, 10000], len(category)), cents
    )
    return world.products.add(len(category), seller=seller, category=category, price=cents)


def _creators(world: World, rng: np.random.Generator) -> None:
    n = max(6, world.accounts.n // 220)
    world.creators.add(
        n, account=sell_accounts(world, rng, n), bank=world.take("bank", n), weekday=rng.integers(0, 7, n), hour=rng.uniform(0, 24, n),
        live=rng.uniform(15, 23, n),
    )  # fmt: skip
    world.first_creators = n


def _flash_sales(world: World, rng: np.random.Generator) -> None:
    """About one flash sale in nine days: two hours in which a crowd arrives at once, with a coupon."""
    for _ in range(max(1, round(world.days / 9))):
        day = int(rng.integers(min(2, world.days - 1), world.days))
        established = np.flatnonzero(world.sellers.reg[world.products.seller] < START)
        world.flash.append((day, float(rng.uniform(15, 21)), int(rng.choice(established))))
    world.lookalikes += [("product", first, "flash_sale") for _, _, first in world.flash]


def _posts_and_slips(world: World, rng: np.random.Generator) -> None:
    """Two shows of products a week for every thousand buyers, half of them seen by few; a mistyped price every nine days or so."""
    established = np.flatnonzero(world.sellers.reg[world.products.seller] < START)
    for _ in range(max(1, round(world.days / 7 * 2 * min(8, world.accounts.n / 1000)))):
        place = int(rng.integers(0, world.days)), float(rng.uniform(9, 22))
        world.posts.append((*place, int(rng.integers(0, world.creators.n)), int(rng.choice(established))))
    dear = established[world.products.price[established] > 3000]
    for _ in range(max(1, round(world.days / 9))):
        day, product = (
            int(rng.integers(min(1, world.days - 1), world.days)),
            int(rng.choice(dear if len(dear) else established)),
        )
        start = START + day * DAY + int(rng.uniform(7, 19) * HOUR)
        right = int(world.products.price[product])
        wrong = max(99, right // int(rng.choice([10, 10, 100, 5])))
        world.slips.append(Slip(day, start, start + int(rng.uniform(0.7, 3) * HOUR), product, wrong, right))
    world.lookalikes += [("product", product, "creators_choice") for _, _, _, product in world.posts]
    world.lookalikes += [("product", slip.product, "price_slip") for slip in world.slips]


def home_address(world: World, account: np.ndarray, day: int) -> np.ndarray:
    """The IP of each account's home on a day."""
    who = world.accounts
    country = who.country[account].astype(np.int64)
    four = world.net.home_ip(country, who.home[account], day)
    six = world.net.home_ip6(country, scatter(who.home[account]), day, account)
    return np.where(who.v6[account] == 1, six, four)
