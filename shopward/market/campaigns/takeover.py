"""Account takeover by credential stuffing: a leaked password list is tried until some fit, the best accounts are emptied.

The business: a list costs next to nothing, proxies and captcha solving cost per try, one try in fifty to two hundred fits. A
stored card or wallet buys things that sell on at half their price; somebody receives the parcels for a share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shopward.market.campaigns.script import Fields, Kind, Script, said
from shopward.market.rows import CATEGORY, CHANGE, HOUR, METHOD, REASON

RESALE = 0.52  # of the shop price, after the reshipper's share
PER_TRY = 0.0031  # dollars: list, residential traffic, captcha
RENTED = 9_000_000  # numbers from here on receive codes for anybody who pays
GUESSES, NO_CODE = 0.5, 0.3  # who guesses on after a wrong code; how often the new phone gets one
GOODS = (CATEGORY["electronics"], CATEGORY["fashion"], CATEGORY["sports"], CATEGORY["gift_cards"])


@dataclass(frozen=True, slots=True)
class Way:
    """How careful the operator is."""

    fits: tuple[float, float]  # share of tries with the right password (lists that were checked before fit more often)
    tries_per_hour: tuple[float, float]
    tries_per_ip: tuple[int, int]
    tries_per_device: tuple[int, int]
    servers: float  # share of tries from rented servers
    wait: tuple[float, float]  # hours from a fit to its use
    victims_per_device: int
    local: float  # share of cash-outs from the victim's own country
    price: tuple[float, float]  # dollars per basket
    new_address: float
    new_email: float


LOUD = Way((0.006, 0.02), (220, 900), (15, 60), (40, 200), 0.6, (0.1, 10), 4, 0.35, (70, 420), 0.75, 0.4)
QUIET = Way((0.03, 0.07), (6, 22), (1, 3), (1, 4), 0.05, (10, 110), 1, 0.95, (35, 170), 0.45, 0.08)


def plan(script: Script) -> None:
    """Stuff until enough accounts fit, then cash out the best of them."""
    way, rng = script.way(LOUD, QUIET), script.rng
    basket = float(np.sqrt(way.price[0] * way.price[1])) * 1.25
    wanted = max(2, round(script.target / (basket * 1.15)))
    victims = script.people(max(wanted, round(wanted / rng.uniform(0.35, 0.6))))
    hits = _stuffing(script, way, victims)
    drops = script.world.take("address", max(1, wanted // (2 if script.careful else 4)))
    script.actor("address", drops, "drop")
    hosts = _hosts(script, way, len(hits))
    emptied = 0
    for (victim, fits), host in zip(hits, hosts, strict=True):
        if emptied < wanted:
            emptied += _cash_out(script, way, victim, fits, host, drops)
    script.books.pay(35 + 12 * len(drops), "a list of passwords, addresses to receive at")


def _stuffing(script: Script, way: Way, victims: np.ndarray) -> list[tuple[int, int]]:
    """All the tries in time order; returns (victim, moment) for each that fitted."""
    rng, world = script.rng, script.world
    tries = int(min(len(victims) / rng.uniform(*way.fits), max(60, world.accounts.n * 0.5)))
    pace = rng.uniform(*way.tries_per_hour)
    t = script.start + np.cumsum(rng.exponential(HOUR / pace, tries)).astype(np.int64)
    hit = np.sort(rng.choice(tries, len(victims), replace=False))
    account = np.full(tries, -1)
    known = rng.random(tries) < 0.12  # people who shop here, with a password from elsewhere
    account[known] = rng.choice(script.people(4 * int(known.sum()) + 1), int(known.sum()))
    account[hit] = victims
    email = world.new_emails(rng, tries)
    email[account >= 0] = world.accounts.email[account[account >= 0]]
    device = _shared(script.devices, way.tries_per_device, tries, rng)
    ip = _shared(lambda n: _exits(script, way, n), way.tries_per_ip, tries, rng)
    script.scripted(device, 0.1 if script.careful else 0.8)
    fitted = np.zeros(tries, dtype=bool)
    fitted[hit] = True
    reason = np.where(fitted, -1, np.where(account >= 0, REASON["bad_password"], REASON["unknown_account"]))
    found = int(t[-1]) + script.later(12, 72)  # somebody notices the wave
    script.add(
        "login", t, "T1110.004", n=tries, account=account, email=email, device=device, ip=ip, session=world.take("session", tries),
        method=METHOD["password"], success=fitted.astype(np.int64), reason=reason, new_device=np.where(account >= 0, 1, -1),
        known=np.maximum(found, t + HOUR),
    )  # fmt: skip
    session = script.blocks[-1]["session"]
    for i in range(0, tries, 25):
        seat = {"device": int(device[i]), "ip": int(ip[i]), "session": int(session[i])}
        script.verdict(int(t[i]), seat, "stuffing", 0.02 if script.careful else 0.3)
    script.actor("device", device, "stuffing_device")
    script.actor("ip", ip, "stuffing_exit")
    script.actor("account", victims, "victim")
    script.books.pay(tries * PER_TRY, "tries")
    return list(zip(victims.tolist(), t[hit].tolist(), strict=True))


def _shared(make: object, per: tuple[int, int], n: int, rng: np.random.Generator) -> np.ndarray:
    """`n` values of which each serves a random number of tries; used in turns, as pools are."""
    pool = make(max(2, round(n / rng.uniform(*per))))  # type: ignore[operator]
    return pool[rng.integers(0, len(pool), n)]


def _exits(script: Script, way: Way, n: int) -> np.ndarray:
    servers = script.rng.random(n) < way.servers
    out = script.homes(script.countries(n))
    if servers.any():
        out[servers] = script.servers(int(servers.sum()))
    return out


def _hosts(script: Script, way: Way, n: int) -> list[int]:
    """The machines that shop with the accounts."""
    pool = script.devices(max(1, -(-n // way.victims_per_device)), phones=script.careful)
    script.actor("device", pool, "cash_out_device")
    return pool[np.arange(n) // way.victims_per_device].tolist()


def _cash_out(script: Script, way: Way, victim: int, fits: int, device: int, drops: np.ndarray) -> int:
    """One account: log in, pass or fail a challenge, change what is in the way, buy. Returns 1 if something was bought."""
    rng, accounts = script.rng, script.world.accounts
    t = fits + script.later(*way.wait)
    home = accounts.country[[victim]].astype(np.int64)
    ip = int(script.homes(home if rng.random() < way.local else script.countries(1))[0])
    who: Fields = {"account": victim, "device": device, "ip": ip, "session": script.session()}
    report = t + script.later(9, 130)  # the owner sees a mail, a statement, a parcel that is not theirs
    label: Fields = {"source": "account_report", "known": report}
    script.actor("ip", ip, "cash_out_exit")
    script.add(
        "login",
        t,
        "F1006.002",
        email=int(accounts.email[victim]),
        method=METHOD["password"],
        success=1,
        new_device=1,
        **who,
        **label,
    )
    if rng.random() < 0.5:
        t += script.pause(50)
        passed = rng.random() < (0.6 if script.careful else 0.4)  # a read mailbox, a talked-out code
        script.add("challenge_result", t, "T1111", method=METHOD["sms"], success=int(passed), **who, **label)
        if not passed:
            t = _guess(script, t, who, label)
            if not t:
                return 0
    t += script.pause(60)
    t = _change(script, way, t, who, label)
    return _buy(script, way, t, who, drops, report)


def _guess(script: Script, t: int, who: Fields, label: Fields) -> int:
    """In a hurry: codes are guessed, then a phone of their own is entered to be sent one. Returns when they are in, or 0."""
    rng = script.rng
    if script.careful or rng.random() > GUESSES:
        return 0
    for _ in range(int(rng.integers(2, 5))):
        t += script.pause(20)
        script.add("challenge_result", t, "T1111", method=METHOD["sms"], success=0, **who, **label)
    t += script.pause(60)
    phone = RENTED + int(rng.integers(0, 100_000))
    script.add("profile_change", t, "F1005.004", changed=CHANGE["phone"], phone=phone, new_device=1, **who, **label)
    return t + script.pause(60) if rng.random() < NO_CODE else 0


def _change(script: Script, way: Way, t: int, who: Fields, label: Fields) -> int:
    """A new mail address keeps the owner uninformed."""
    if script.rng.random() < way.new_email:
        fresh = int(script.world.new_emails(script.rng, 1)[0])
        script.add("profile_change", t, "F1005.004", changed=CHANGE["email"], email=fresh, new_device=1, **who, **label)
        t += script.pause(45)
    return t


def _buy(script: Script, way: Way, t: int, who: Fields, drops: np.ndarray, report: int) -> int:
    rng, accounts, bought = script.rng, script.world.accounts, 0
    victim = who["account"]
    label: Fields = {"source": "account_report", "known": report}
    address, home = int(rng.choice(drops)), int(accounts.address[victim])
    if rng.random() < way.new_address:
        script.add(
            "profile_change", t, "F1005.004", changed=CHANGE["address"], address=address, new_device=1, **who, **label
        )
        t += script.pause(55)
    card = int(accounts.card[victim]) if rng.random() < 0.7 else -1
    for product in script.goods(*way.price, GOODS, 1 + int(rng.random() < 0.35)).tolist():
        t = script.browse(t, who, product, "F1028", 0.3, **label)
        digital = script.world.products.category[product] == CATEGORY["gift_cards"]
        script.uses("SW-1042" if digital else "SW-1043")
        order, t = script.purchase(t, who, product, home if digital else address, "F1028", **label)
        if rng.random() < 0.14:
            script.decline(t, order, card, REASON["do_not_honor"], "F1028", **label)
            t += script.pause(90)
            continue
        by_bank = rng.random() < 0.35 and card >= 0
        payment = script.pay(
            t,
            order,
            card,
            "F1028",
            **(said("chargeback", script.chargeback_at(t)) if by_bank else label),
        )
        script.consequences(order, payment)
        script.books.earn(1, int(payment["amount"][0]) / 100 * RESALE)
        bought, t = 1, t + script.pause(300)
    return bought


KIND = Kind(
    "account_takeover",
    plan,
    share=0.0013,
    haul=900.0,
    likeness="travellers on a new phone who forgot their password and send a present",
)
