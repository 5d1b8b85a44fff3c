"""What one request says, in the words of the traffic rulebook: what it is for, who claims to send it, what it asks for and what came back.

    Request, attack verdict -> describe -> an `http_request` event (rulebooks/traffic/schema.yaml)

Names, addresses, numbers and cards that a request carries leave here only as hashes.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from shopward.traffic.assets.shapes import WORD, shape, split_path
from shopward.traffic.attacks.scan import Verdict
from shopward.traffic.leaks.exposure import PERSONAL
from shopward.traffic.leaks.find import hits
from shopward.traffic.requests import Request

_KEY = os.urandom(16)  # the hashes mean something in this process only
BODY = 65_536  # characters of an answer that are looked into
REFUSED = frozenset((401, 402, 403, 423, 429))
_PURPOSES = (
    ("reset", "reset resets forgot otp sms captcha verification verifications code codes".split()),
    ("login", "login logon signin session sessions token authenticate auth".split()),
    ("pay", "pay payment payments charge charges capture".split()),
    ("claim", "claim claims redeem redemptions".split()),
    ("order", "order orders checkout purchase purchases".split()),
    ("cart", "cart carts basket baskets".split()),
    ("register", "register signup registration registrations accounts users members".split()),
)  # fmt: skip
_PURPOSE_OF = {word: purpose for purpose, words in _PURPOSES for word in words}
_WORDS = re.compile(r"[a-z]+")
_WHO = frozenset("email mail username user login name phone mobile tel account identifier msisdn".split())
_CARD = re.compile(r"card|pan$|^pan|instrument|payment_?method", re.IGNORECASE)
_CRAWLER = re.compile(r"bot\b|bot/|crawl|spider|slurp|facebookexternalhit|archiver", re.IGNORECASE)
_PROGRAM = re.compile(
    r"^(?:curl|wget|python|go-http|java|okhttp|apache-httpclient|axios|node|ruby|perl|php|libwww|httpie|postman|insomnia|scrapy|aiohttp|httpx|guzzle|rest|zgrab|masscan|nmap|sqlmap|nikto|nuclei)|headless|phantomjs|selenium|zgrab",
    re.IGNORECASE,
)
_SYSTEMS = (
    ("ios", ("iPhone", "iPad", "iPod", "iOS")), ("android", ("Android",)), ("windows", ("Windows",)), ("macos", ("Macintosh", "Mac OS X")),
    ("linux", ("Linux", "X11", "CrOS")),
)  # fmt: skip
_BROWSERS = (("edge", "Edg"), ("opera", "OPR/"), ("samsung", "SamsungBrowser"), ("firefox", "Firefox/"), ("chrome", "Chrome/"), ("safari", "Safari/"))  # fmt: skip


def describe(request: Request, verdict: Verdict, now: int) -> dict[str, Any]:
    """The request as an event; `now` (epoch ms) is its time when it has none.

    >>> r = Request(id="1", method="POST", url="/api/v1/session", ts=0, status=401, device="d1", body='{"email": "a@example.com"}',
    ...             headers={"user-agent": "python-requests/2.32"})
    >>> verdict = Verdict(id="1", attack=False, score=0.0, classes=(), where="", matched="")
    >>> event = describe(r, verdict, 0)
    >>> [event[k] for k in ("purpose", "refused", "engine", "interface")], len(event["claimed"])
    (['login', True, 'program', 'POST /api/v1/session'], 12)
    """
    interface, purpose, item = place_of(request.method, request.raw_path)
    engine, family = client_of(request.user_agent) if request.raw_headers else (None, None)
    event: dict[str, Any] = {
        "event_id": request.id, "ts": now if request.ts is None else request.ts, "type": "http_request", "method": request.method,
        "interface": interface, "purpose": purpose, "item": item or _item_in_query(request), "status": request.status,
        "refused": request.status in REFUSED, "bytes": request.bytes, "session": request.session, "account": request.account,
        "device": request.device, "ip": request.ip, "ja4": request.ja4, "engine": engine, "family": family,
        "attack_score": verdict.score,
    }  # fmt: skip
    if verdict.classes:
        event |= {"attack": verdict.classes[0], "worked": verdict.worked}
    if purpose in ("login", "register", "reset", "pay"):
        event |= _claims(request, purpose)
    if request.response_body or request.query_string:
        event |= _given_away(request)
    return {name: value for name, value in event.items() if value is not None}


@lru_cache(50_000)
def place_of(method: str, path: str) -> tuple[str, str, str | None]:
    """The interface that a path belongs to by its look, what it is for, and the last id in it.

    >>> place_of("GET", "/api/v1/products/p38f5")
    ('GET /api/v1/products/{}', 'item', 'p38f5')
    >>> [place_of("POST", p)[1] for p in ("/api/v1/orders/o77/payments", "/api/v1/password-resets", "/api/v1/accounts", "/user/login")]
    ['pay', 'reset', 'register', 'login']
    """
    written, words, item = [], [], None
    for segment, ending in split_path(path)[:64]:
        if shape(segment) == WORD:
            written.append(segment[:64] + ending)
            words.append(segment.lower())
        else:
            written.append("{}" + ending)
            item = segment
    return f"{method} /{'/'.join(written)}", _purpose(method, words, item), item


def _purpose(method: str, words: list[str], item: str | None) -> str:
    if method in ("GET", "HEAD"):
        if words and words[-1] in ("search", "find", "query"):
            return "search"
        return "item" if item is not None else "read"
    for word in reversed(words[-2:]):
        for part in _WORDS.findall(word):
            purpose = _PURPOSE_OF.get(part)
            if purpose is not None and not (purpose == "register" and (method != "POST" or word != words[-1])):
                return purpose
    return "act"


@lru_cache(20_000)
def client_of(agent: str) -> tuple[str, str]:
    """What a user agent claims to be: the engine, and the browser or app with its system.

    >>> client_of("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36")
    ('blink', 'chrome/windows')
    >>> client_of("Shop/5.9 (iOS 26.1; iPhone)"), client_of("curl/8.5"), client_of("Mozilla/5.0 (compatible; Searchbot/2.1)"), client_of("")
    (('app', 'shop/ios'), ('program', 'curl'), ('crawler', 'crawler'), ('none', 'none'))
    """
    if not agent:
        return "none", "none"
    name = agent.partition("/")[0].strip().lower()[:32]
    if _CRAWLER.search(agent):
        return "crawler", "crawler"
    if _PROGRAM.search(agent):
        return "program", name
    system = next((s for s, marks in _SYSTEMS if any(m in agent for m in marks)), "")
    if not agent.startswith("Mozilla/"):
        return ("app", f"{name}/{system}") if system else ("program", name)
    browser = next((b for b, mark in _BROWSERS if mark in agent), "other")
    if system == "ios" or browser == "safari":
        return "webkit", f"{browser}/{system}"
    if browser == "other":
        return ("crawler", "crawler") if "http" in agent else ("program", name)
    return ("gecko" if browser == "firefox" else "blink"), f"{browser}/{system}"


def _item_in_query(request: Request) -> str | None:
    for name, value in request.query[:20] if request.query_string else ():
        if name.lower().endswith(("id", "_no", "sku")) and 0 < len(value) <= 64 and any(c.isdigit() for c in value):
            return value
    return None


def _claims(request: Request, purpose: str) -> dict[str, str]:
    """Hashes of the name that a sign-in is for and of the card that a payment uses."""
    found: dict[str, str] = {}
    for field in request.fields() if request.raw_body else ():
        if field.place not in ("json", "form") or not field.value:
            continue
        low = field.name.rpartition(".")[2].lower()
        if purpose == "pay" and _CARD.search(low):
            found.setdefault("card", _hashed(field.value))
        elif purpose != "pay" and low.replace("_", "").replace("-", "") in _WHO:
            found.setdefault("claimed", _hashed(field.value.strip().lower()))
    if purpose != "pay" and "claimed" not in found and request.account:
        found["claimed"] = _hashed(request.account)
    return found


def _given_away(request: Request) -> dict[str, int]:
    """How many people's data came back, and how many secrets the address or the answer held."""
    people: set[str] = set()
    secrets = sum(kind.startswith("secret_") for kind, *_ in hits(request.query_string[:BODY]))
    body = (request.response_body or "")[:BODY]
    for kind, start, end, sure in hits(body) if body else ():
        if kind in PERSONAL and sure >= 0.8:
            people.add(body[start:end])
        secrets += kind.startswith("secret_")
    return ({"people": len(people)} if people else {}) | ({"secrets": secrets} if secrets else {})


def _hashed(value: str) -> str:
    return blake2b(value.encode("utf-8", "replace"), digest_size=6, key=_KEY).hexdigest()
