"""The access log of the same market: one row per HTTP request, in the shape the traffic tools read.

Every event that somebody caused through the site or the app was carried by a request, which has the event's `request_id`. Around
them are the requests that caused no event: pages, search engines, partners, staff, scanners, and the crawls of campaigns.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shopward.market import texts
from shopward.market.campaigns.script import TECHNIQUE, TECHNIQUES, Script
from shopward.market.endpoints import BESIDE, BROWSER_JA4, CARRIERS, CRAWLED, DAILY, PROGRAMS, TOOLS, Endpoint
from shopward.market.lines import EVENT_REQUESTS, SLICE, _bytes
from shopward.market.networks import COUNTRIES
from shopward.market.rows import CODE, DAY, REASON, SECOND, START, TYPES
from shopward.market.texts import QUERIES, Texts, choices, ips, money, numbers, strings
from shopward.market.world import VERSIONS, World, user_agents

_NONE = Endpoint("", "", 0, 0)
ENDPOINTS: tuple[Endpoint, ...] = (
    *(CARRIERS.get(name, _NONE) for name in TYPES), *(beside[0] for beside in BESIDE), *(daily[0] for daily in DAILY.values()), *CRAWLED.values()
)  # fmt: skip
FIRST_BESIDE, FIRST_DAILY = len(TYPES), len(TYPES) + len(BESIDE)
FIRST_CRAWLED = FIRST_DAILY + len(DAILY)
LABELS = ("good_bot", "monitor", "partner", "staff", "probing", "fraud", "scraping")
LABEL = {name: code for code, name in enumerate(LABELS)}
AGENTS = (*user_agents(), *(agent for agent, _ in PROGRAMS.values()))
PROGRAM = {name: len(user_agents()) + code for code, name in enumerate(PROGRAMS)}
JA4 = (*(BROWSER_JA4[code // VERSIONS] for code in range(len(user_agents()))), *(ja4 for _, ja4 in PROGRAMS.values()))

REQUEST = np.dtype([
    ("t", "i8"), ("row", "i8"), ("kind", "i2"), ("number", "i8"), ("status", "i2"), ("bytes", "i4"), ("pick", "i4"), ("account", "i4"),
    ("device", "i4"), ("ip", "i8"), ("session", "i8"), ("agent", "i2"), ("ja4", "i2"), ("label", "i1"), ("campaign", "i2"), ("technique", "i2"),
])  # fmt: skip


class AccessLog:
    """Writes a market's requests day by day and remembers which were not made by ordinary visitors.

    `extra` is how many requests without an event there were so far.
    """

    def __init__(self, world: World, texts_: Texts, scripts: list[Script]):
        self._world, self._texts, self.extra = world, texts_, 0
        self._crawls = _crawls(scripts)
        self._noted: list[np.ndarray] = []

    def day(self, number: int, rows: np.ndarray, first: int, rng: np.random.Generator) -> Iterator[pa.Buffer]:
        """NDJSON of the requests behind a day's rows, in order of time; the first row is event number `first`."""
        world = self._world
        log = _carried(rows, first, rng)
        parts = [log, *(_beside(rows, kind, rng) for kind in range(len(BESIDE))), *_daily(world, number, len(log), rng)]
        parts.append(self._crawled(number, rng))
        for part in parts[1:]:
            part["number"] = (self.extra + np.arange(len(part))) * EVENT_REQUESTS + 1
            self.extra += len(part)
        log = np.concatenate(parts)
        _dress(log, world)
        log = log[np.argsort(log["t"], kind="stable")]
        self._noted.append(log[["t", "number", "label", "campaign", "technique"]][log["label"] >= 0])
        for start in range(0, len(log), SLICE):
            yield _bytes(_lines(log[start : start + SLICE], rows, world, self._texts))

    def _crawled(self, day: int, rng: np.random.Generator) -> np.ndarray:
        edges = START + np.array([day, day + 1]) * DAY
        low, high = np.searchsorted(self._crawls["t"], edges)
        log = self._crawls[low:high].copy()
        _answer(log, rng)
        return log

    def labels(self) -> pa.Table:
        """Requests that no ordinary visitor made: `request_id, ts, label, attack, campaign, technique`."""
        noted = (
            np.concatenate(self._noted)
            if self._noted
            else np.zeros(0, REQUEST)[["t", "number", "label", "campaign", "technique"]]
        )
        names = [f"campaign-{code:03d}" if code > 0 else None for code in noted["campaign"].tolist()]
        return pa.table({
            "request_id": self._texts.ids("request", noted["number"]),
            "ts": pa.array(np.ascontiguousarray(noted["t"]), pa.timestamp("ms", tz="UTC")),
            "label": choices(LABELS, noted["label"]),
            "attack": pa.array(noted["label"] >= LABEL["probing"]),
            "campaign": pa.array(names, pa.string()),
            "technique": choices(TECHNIQUES, noted["technique"]),
        })  # fmt: skip


def _blank(n: int, **columns: object) -> np.ndarray:
    log = np.zeros(n, dtype=REQUEST)
    for name in ("row", "account", "device", "session", "agent", "ja4", "label", "technique"):
        log[name] = -1
    for name, values in columns.items():
        log[name] = values
    return log


def _who(log: np.ndarray, rows: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Who made the requests: whoever caused the events at `at`."""
    log["row"] = at
    for name in ("account", "device", "ip", "session"):
        log[name] = rows[name][at]
    fraud = (rows["label"][at] == 1) & (rows["campaign"][at] > 0)
    log["label"] = np.where(fraud, LABEL["fraud"], -1)
    log["campaign"] = np.where(fraud, rows["campaign"][at], 0)
    log["technique"] = np.where(fraud, rows["technique"][at], -1)
    return log


def _carried(rows: np.ndarray, first: int, rng: np.random.Generator) -> np.ndarray:
    at = np.flatnonzero((rows["session"] >= 0) & (rows["type"] != CODE["traffic_verdict"]))
    types = rows["type"][at]
    log = _who(
        _blank(len(at), t=rows["t"][at] + rows["lag"][at], kind=types, number=(first + at) * EVENT_REQUESTS), rows, at
    )
    log["status"] = np.array([e.status for e in ENDPOINTS[:FIRST_BESIDE]])[types]
    refused = (rows["success"][at] == 0) & np.isin(types, [CODE["login"], CODE["challenge_result"]])
    log["status"][refused] = 401
    log["status"][rows["reason"][at] == REASON["locked"]] = 423
    log["bytes"] = _sizes(np.array([e.bytes for e in ENDPOINTS[:FIRST_BESIDE]])[types], rng)
    return log


def _beside(rows: np.ndarray, kind: int, rng: np.random.Generator) -> np.ndarray:
    _, events, many, few = BESIDE[kind]
    near = np.isin(rows["type"], [CODE[name] for name in events]) & (rows["session"] >= 0)
    count = rng.poisson(np.where(rows["campaign"] > 0, few, many) * near * (rows["success"] != 0))
    at = np.repeat(np.arange(len(rows)), count)
    t = rows["t"][at] + rng.integers(-90 * SECOND, 90 * SECOND, len(at))
    log = _who(_blank(len(at), t=t, kind=FIRST_BESIDE + kind), rows, at)
    _answer(log, rng)
    return log


def _answer(log: np.ndarray, rng: np.random.Generator) -> None:
    """Status and size: the usual ones, now and then a page that is gone, unchanged, or a server that is busy."""
    usual = np.array([e.status for e in ENDPOINTS])[log["kind"]]
    size = np.array([e.bytes for e in ENDPOINTS])[log["kind"]]
    u = rng.random(len(log))
    cached = (u < 0.12) & (size > 5000) & (log["label"] < 0)
    log["status"] = np.where(
        usual != 200, usual, np.where(u < 0.004, 404, np.where(u < 0.0055, 503, np.where(cached, 304, 200)))
    )
    log["bytes"] = np.where(log["status"] == usual, _sizes(size, rng), 0)
    log["pick"] = rng.integers(0, 1 << 30, len(log))


def _daily(world: World, day: int, visits: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Programs and staff: from their own networks, around the clock or in office hours."""
    out = []
    net = world.net
    office = int(net.work[0]) + 1
    for code, (name, (_, label, rate)) in enumerate(DAILY.items()):
        n = int(rng.poisson(visits / 3000 * rate))
        hours = rng.uniform(13, 23, n) if label == "staff" else rng.uniform(0, 24, n)
        log = _blank(
            n, t=START + day * DAY + (hours * 3_600_000).astype(np.int64), kind=FIRST_DAILY + code, label=LABEL[label]
        )
        program = (
            "search_engine"
            if label == "good_bot"
            else "scanner"
            if label == "probing"
            else label
            if label in PROGRAM
            else "monitor"
        )
        if label == "staff":
            log["ip"] = office
            log["agent"] = 4 * VERSIONS
        else:
            scanners = net.pick_hosting(rng, n)
            log["ip"] = (
                scanners
                if label == "probing"
                else net.pick_hosting(np.random.default_rng(len(name)), 1)[0] + rng.integers(0, 4, n)
            )
            log["agent"] = PROGRAM[program]
        if label == "probing":
            log["technique"] = TECHNIQUE["T1595"]
        _answer(log, rng)
        out.append(log)
    return out


def _crawls(scripts: list[Script]) -> np.ndarray:
    """All pages that campaigns fetch without causing an event, in order of time."""
    parts = [np.zeros(0, dtype=REQUEST)]
    kinds = {name: FIRST_CRAWLED + code for code, name in enumerate(CRAWLED)}
    for script in scripts:
        for crawl in script.crawls:
            columns = {name: getattr(crawl, name) for name in ("t", "device", "ip", "session")}
            log = _blank(len(crawl.t), kind=kinds[crawl.what], label=LABEL["scraping"], campaign=script.code, **columns)
            log["technique"] = TECHNIQUE[crawl.technique]
            if crawl.agent:
                log["agent"] = PROGRAM[crawl.agent]
            parts.append(log)
    log = np.concatenate(parts)
    return log[np.argsort(log["t"], kind="stable")]


def _dress(log: np.ndarray, world: World) -> None:
    """User agent and TLS fingerprint: a device's own, unless a script runs behind the browser it claims to be."""
    device = log["device"]
    known = (device >= 0) & (log["agent"] < 0)
    log["agent"][known] = world.devices.agent[device[known]]
    log["ja4"] = log["agent"]
    tool = np.where(device >= 0, world.devices.tool[device], -1)
    scripted = tool >= 0
    log["ja4"][scripted] = np.array([PROGRAM[name] for name in TOOLS])[tool[scripted]]


def _sizes(typical: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (typical * rng.lognormal(0, 0.22, len(typical))).astype(np.int64)


def _lines(log: np.ndarray, events: np.ndarray, world: World, texts_: Texts) -> pa.Array:
    rows = events[np.maximum(log["row"], 0)]
    parts = [
        texts_.ids("request", log["number"], '{"id":"', '"'), texts.times(log["t"], '"ts":"', '"'),
        choices([e.method for e in ENDPOINTS], log["kind"], '"method":"', '"'), strings(_fill(log, rows, world, texts_, "path"), '"url":'),
        numbers(log["status"], '"status":'), strings(ips(log["ip"]), '"ip":'), texts_.ids("session", log["session"], '"session":"', '"'),
        texts_.ids("account", log["account"], '"account":"', '"'), texts_.ids("device", log["device"], '"device":"', '"'),
        choices(_headers(), log["agent"], '"headers":'), choices(JA4, log["ja4"], '"ja4":"', '"'), numbers(log["bytes"], '"bytes":'),
        strings(_escaped(_fill(log, rows, world, texts_, "body")), '"body":'),
        strings(_escaped(_fill(log, rows, world, texts_, "answer")), '"response_body":'),
    ]  # fmt: skip
    body = pc.binary_join_element_wise(*(part.cast(pa.string()) for part in parts), ",", null_handling="skip")
    return pc.binary_join_element_wise(body, pa.scalar("}\n"), "")


@cache
def _headers() -> tuple[str, ...]:
    """Browsers say more about themselves than programs do."""
    browser = ',"accept":"application/json","accept-language":"en-US,en;q=0.9","accept-encoding":"gzip, br","host":"shop.example"}'
    program = ',"accept":"*/*","host":"shop.example"}'
    people = len(user_agents())
    return tuple(
        f'{{"user-agent":"{agent}"' + (browser if code < people else program) for code, agent in enumerate(AGENTS)
    )


def _escaped(bodies: pa.Array) -> pa.Array:
    return pc.replace_substring(bodies, '"', '\\"')


def _fill(log: np.ndarray, rows: np.ndarray, world: World, texts_: Texts, what: str) -> pa.Array:
    """Path, body or answer of each request with its placeholders filled; null where its endpoint has none."""
    kinds = np.flatnonzero(np.bincount(log["kind"], minlength=len(ENDPOINTS)))
    where, chunks = [np.flatnonzero(log["kind"] == kind) for kind in kinds], []
    for kind, at in zip(kinds.tolist(), where, strict=True):
        template = getattr(ENDPOINTS[kind], what)
        fine = log["status"][at] < 400
        text = _filled(template, log[at], rows[at], world, texts_) if template else pa.nulls(len(at), pa.string())
        chunks.append(
            pc.if_else(pa.array(fine), text, pa.scalar(None, pa.string())) if what == "answer" and template else text
        )
    place = np.empty(len(log), dtype=np.int64)
    place[np.concatenate([*where, np.empty(0, dtype=np.int64)]).astype(np.int64)] = np.arange(len(log))
    return (
        pa.concat_arrays([chunk.cast(pa.string()) for chunk in chunks]).take(pa.array(place))
        if chunks
        else pa.nulls(0, pa.string())
    )


def _filled(template: str, log: np.ndarray, rows: np.ndarray, world: World, texts_: Texts) -> pa.Array:
    pick, who = log["pick"].astype(np.int64), np.maximum(log["account"], 0)
    known = np.where(rows["email"] >= 0, rows["email"], world.accounts.email[who])
    fills = {
        "account": lambda: texts_.ids("account", who), "seller": lambda: texts_.ids("account", np.maximum(rows["seller"], 0)),
        "creator": lambda: texts_.ids("account", np.maximum(rows["creator"], 0)), "affiliate": lambda: texts_.ids("account", np.maximum(rows["affiliate"], 0)),
        "order": lambda: texts_.ids("order", np.maximum(rows["order"], 0)), "product": lambda: texts_.ids("product", np.maximum(rows["product"], 0)),
        "coupon": lambda: texts_.ids("coupon", np.maximum(rows["coupon"], 0)), "card": lambda: pc.fill_null(texts_.ids("card", rows["card"]), "wallet"),
        "amount": lambda: money(np.maximum(rows["amount"], 0)), "email": lambda: texts_.emails(known),
        "phone": lambda: texts_.phones(world.accounts.phone[who]), "query": lambda: _words(np.maximum(rows["query"], 0)),
        "any_product": lambda: texts_.ids("product", np.searchsorted(world.popularity, (pick % 999_983) / 999_984)),
        "order_any": lambda: texts_.ids("order", pick % max(1, world.next["order"])), "word": lambda: _words(pick % len(QUERIES)),
        "n": lambda: numbers(1 + (pick >> 8) % 5), "country": lambda: choices(COUNTRIES, world.net.country(log["ip"])),
    }  # fmt: skip
    pieces: list[object] = []
    for piece in _pieces(template):
        pieces.append(fills[piece[1:-1]]() if piece[1:-1] in fills else pa.scalar(piece))
    if all(isinstance(piece, pa.Scalar) for piece in pieces):
        return pa.array([template]).take(pa.array(np.zeros(len(log), dtype=np.int64)))
    return pc.binary_join_element_wise(*pieces, "")


@cache
def _pieces(template: str) -> tuple[str, ...]:
    import re

    return tuple(piece for piece in re.split(r"(\{[a-z_]+\})", template) if piece)


def _words(codes: np.ndarray) -> pa.Array:
    return choices([word.replace(" ", "+") for word in QUERIES], codes)
