"""What one interface was seen to do: who may call it, what goes in, what comes out, how it answers. Counted, never stored raw.

Personal data is recognised in a sample of bodies and kept only masked; everything is bounded, whatever is sent.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache

from shopward.traffic.assets.shapes import shape
from shopward.traffic.leaks import find
from shopward.traffic.requests import Request

SAMPLE_FIRST, SAMPLE_EVERY = 40, 25  # bodies looked into: the first ones, then one of so many
PARAMS_FIRST, PARAMS_EVERY = 2000, 10  # the same of parameters
BODY = 65_536  # characters of a body that are looked into
LOGGED = frozenset(("referer", "user-agent"))  # headers of access logs, which carry no credential and no kind
PARAMS, VALUES, PEOPLE, EXAMPLES = 200, 24, 512, 3
_SESSION = re.compile(r"sess|sid$|^sid|token|auth|jwt|login|passport|remember", re.IGNORECASE)
_API_KEY = re.compile(
    r"^(?:x-)?(?:api|app|access|client|subscription)[-_]?(?:key|token|secret|id)$|^ocp-apim-subscription-key$",
    re.IGNORECASE,
)
_SIGN = re.compile(r"^(?:x-)?(?:[a-z]+-)?sign(?:ature)?$|^hmac$", re.IGNORECASE)
_PERSON = re.compile(
    r'"(?:real_?name|full_?name|first_?name|last_?name|receiver(?:_?name)?|consignee|contact_?name|\u59d3\u540d|\u6536\u8d27\u4eba)"\s*:\s*"([^"*]{2,40})"',
    re.IGNORECASE,
)
_ADDRESS = re.compile(
    r'"(?:[a-z_]*address(?:_?line_?\d?)?|street|\u5730\u5740|\u6536\u8d27\u5730\u5740)"\s*:\s*"([^"*]{8,200})"',
    re.IGNORECASE,
)
NOT_PERSONAL = frozenset(("url", "domain", "ip"))


@dataclass(slots=True)
class Param:
    """A parameter as it was sent."""

    seen: int = 0
    types: Counter = field(default_factory=Counter)
    values: set[str] = field(default_factory=set)

    def add(self, value: str) -> None:
        self.seen += 1
        self.types[kind_of(value)] += 1
        if len(self.values) < VALUES and len(value) <= 24:
            self.values.add(value)

    @property
    def type(self) -> str:
        """The one type that nearly all values have, else string."""
        (top, n), *_ = self.types.most_common(1)
        if {"integer", "number"} >= set(self.types):
            return "number" if "number" in self.types else "integer"
        return top if n >= 0.98 * self.seen else "string"


@dataclass(slots=True)
class Facts:
    """Counts of one interface."""

    calls: int = 0
    first: int | None = None
    last: int | None = None
    statuses: Counter = field(default_factory=Counter)
    auth: Counter = field(default_factory=Counter)
    open_ok: int = 0  # answered 2xx to a request without any credential
    bytes: int = 0
    largest: int = 0
    people: set[str] = field(default_factory=set)
    ips: set[str] = field(default_factory=set)
    params: dict[tuple[str, str], Param] = field(default_factory=dict)
    sensitive: dict[tuple[str, str], int] = field(default_factory=dict)  # (request | response | url, type) -> bodies
    examples: dict[str, list[str]] = field(default_factory=dict)
    keys: Counter = field(default_factory=Counter)  # names at the top of JSON answers
    kinds: Counter = field(default_factory=Counter)
    looked: int = 0
    deprecated: bool = False
    plain_http: int = 0

    def add(self, request: Request) -> None:
        """Take a request."""
        self.calls = calls = self.calls + 1
        ts, status, size = request.ts, request.status, request.bytes
        if ts is not None:
            if self.first is None or ts < self.first:
                self.first = ts
            if self.last is None or ts > self.last:
                self.last = ts
        query = request.target[2]
        ways = auth_of(request)
        for way in ways or _NONE:
            self.auth[way] += 1
        if status is not None:
            self.statuses[status] += 1
            if not ways and 200 <= status < 300:
                self.open_ok += 1
        if size:
            self.bytes += size
            if size > self.largest:
                self.largest = size
        if len(self.people) < PEOPLE and (who := request.account or request.session):
            self.people.add(who)
        if len(self.ips) < PEOPLE and request.ip:
            self.ips.add(request.ip)
        self.kinds[kind(request)] += 1
        if request.raw_response_headers and not self.deprecated:
            self.deprecated = "deprecation" in request.response_headers or "sunset" in request.response_headers
        if (calls <= PARAMS_FIRST or not calls % PARAMS_EVERY) and (query or request.raw_body):
            self._params(request)
        if calls <= SAMPLE_FIRST or not calls % SAMPLE_EVERY:
            self._look(request)

    def _params(self, request: Request) -> None:
        for name, value in request.query[:50]:
            self._param("query", name, value)
        if request.raw_body:
            for one in request.fields()[:200]:
                if one.place in ("form", "json"):
                    self._param(one.place, re.sub(r"\.\d+(?=\.|$)|^\d+\.", "[]", one.name), one.value)

    def _param(self, place: str, name: str, value: str) -> None:
        found = self.params.get((place, name))
        if found is None:
            if len(self.params) >= PARAMS:
                return
            found = self.params[place, name] = Param()
        found.add(value)

    def _look(self, request: Request) -> None:
        """Personal data and secrets in what was sent and what came back."""
        self.looked += 1
        sides = [("url", request.query_string[:BODY])] if request.query_string else []
        if request.raw_body:
            sides.append(("request", request.text[:BODY]))
        if request.response_body:
            sides.append(("response", request.response_body[:BODY]))
            self.keys.update(keys_of(request.response_body) or ())
        for side, text in sides:
            for name, shown in sensitive_in(text).items():
                self.sensitive[side, name] = self.sensitive.get((side, name), 0) + 1
                held = self.examples.setdefault(name, [])
                if len(held) < EXAMPLES and shown not in held:
                    held.append(shown)

    def merge(self, other: Facts) -> None:
        """Take over what was counted for another path of the same template."""
        self.calls += other.calls
        times = [t for t in (self.first, other.first) if t is not None]
        self.first = min(times, default=None)
        self.last = max((t for t in (self.last, other.last) if t is not None), default=None)
        for mine, theirs in (
            (self.statuses, other.statuses),
            (self.auth, other.auth),
            (self.keys, other.keys),
            (self.kinds, other.kinds),
        ):
            mine.update(theirs)
        self.open_ok += other.open_ok
        self.bytes += other.bytes
        self.largest = max(self.largest, other.largest)
        for held, more in ((self.people, other.people), (self.ips, other.ips)):
            held.update(list(more)[: max(0, PEOPLE - len(held))])
        for key, n in other.sensitive.items():
            self.sensitive[key] = self.sensitive.get(key, 0) + n
        for name, shown in other.examples.items():
            kept = self.examples.setdefault(name, [])
            kept.extend(x for x in shown[: EXAMPLES - len(kept)] if x not in kept)
        for key, param in other.params.items():
            self._merge_param(key, param)
        self.looked += other.looked
        self.deprecated |= other.deprecated

    def _merge_param(self, key: tuple[str, str], other: Param) -> None:
        mine = self.params.get(key)
        if mine is None:
            if len(self.params) < PARAMS:
                self.params[key] = other
            return
        mine.seen += other.seen
        mine.types.update(other.types)
        mine.values |= set(list(other.values)[: max(0, VALUES - len(mine.values))])


def sensitive_in(text: str) -> dict[str, str]:
    """Types of personal data and secrets in a text, each with one masked example.

    >>> sensitive_in('{"real_name": "Li Wei", "mobile": "13800138000", "site": "example.com"}')
    {'cn_mobile': '138******00', 'person_name': 'L***'}
    """
    found: dict[str, str] = {}
    for one in find(text):
        if one.type not in NOT_PERSONAL and one.confidence >= 0.7:
            found.setdefault(one.type, one.masked)
    for name, form in (("person_name", _PERSON), ("address", _ADDRESS)):
        held = form.search(text) if '"' in text else None
        if held:
            found[name] = held[1][0] + "***"
    return found


def keys_of(body: str | None) -> frozenset[str] | None:
    """The names at the top of a JSON answer (of its first item, and of `data` inside an envelope), or None.

    >>> sorted(keys_of('{"code": 0, "data": {"id": 1, "name": "x"}}'))
    ['code', 'data', 'data.id', 'data.name']
    """
    import msgspec

    if not body or body[:64].lstrip()[:1] not in ("{", "["):
        return None
    try:
        found = msgspec.json.decode(body.encode("utf-8", "replace"))
    except (msgspec.DecodeError, RecursionError):
        return None
    while isinstance(found, list) and found:
        found = found[0]
    if not isinstance(found, dict):
        return None
    names = set(list(found)[:64])
    inner = found.get("data")
    if isinstance(inner, dict):
        names |= {f"data.{name}" for name in list(inner)[:64]}
    return frozenset(str(n)[:64] for n in names)


def auth_of(request: Request) -> tuple[str, ...]:
    """The credentials a request carried: basic bearer jwt digest aws_signature api_key signature session mtls."""
    logged = request.plain or not request.raw_headers or LOGGED.issuperset(request.headers)
    if logged and not request.query_string:
        return ("session",) if request.account else ()
    ways = []
    said = request.headers.get("authorization", "") if request.raw_headers else ""
    if said:
        scheme, _, value = said.partition(" ")
        low = scheme.lower()
        ways.append(
            "jwt"
            if value.startswith("eyJ")
            else {"bearer": "bearer", "basic": "basic", "digest": "digest", "aws4-hmac-sha256": "aws_signature"}.get(
                low, "authorization"
            )
        )
    if not logged:
        ways += [w for name in request.headers for w in _named(name)]
        if "cookie" in request.headers and any(_SESSION.search(name) for name, _ in request.cookies):
            ways.append("session")
        if any(name in request.headers for name in ("x-client-cert", "x-ssl-client-cert", "x-forwarded-client-cert")):
            ways.append("mtls")
    if request.target[2] and _MAY_NAME.search(request.target[2]):
        ways += [w for name, value in request.query[:30] if value for w in _named(name)]
    if not ways and request.account:
        ways.append("session")  # the log knew who it was
    return tuple(dict.fromkeys(ways))


_MAY_NAME = re.compile(
    r"(?:sign|signature|hmac|key|token|secret|id)(?:[=&\s]|$)|%", re.IGNORECASE
)  # a credential's name ends so
_NONE = ("none",)


@lru_cache(10_000)
def _named(name: str) -> tuple[str, ...]:
    if _SIGN.match(name):
        return ("signature",)
    return ("api_key",) if _API_KEY.match(name) or name.lower() in ("access_token", "auth_token") else ()


def kind(request: Request) -> str:
    """What kind of interface answers: graphql grpc soap websocket static page rpc rest."""
    by_path = _kind_of_path(request.target[1])
    if (
        request.plain
        or by_path == "static"
        or (LOGGED.issuperset(request.headers) and not request.raw_response_headers)
    ):
        return "websocket" if request.status == 101 else by_path
    headers = request.headers
    sent = headers.get("content-type", "")
    if sent.startswith("application/grpc"):
        return "grpc"
    if "soap" in sent or "soapaction" in headers:
        return "soap"
    if request.status == 101 or headers.get("upgrade", "").lower() == "websocket":
        return "websocket"
    if (
        by_path == "rest"
        and request.raw_response_headers
        and "text/html" in request.response_headers.get("content-type", "")
    ):
        return "page"
    return by_path


_ENDINGS = re.compile(r"\.(?:js|mjs|css|map|png|jpe?g|gif|webp|svg|ico|woff2?|ttf|mp4|wasm)$", re.IGNORECASE)


@lru_cache(50_000)
def _kind_of_path(path: str) -> str:
    low = path.lower()
    if low.endswith("/graphql"):
        return "graphql"
    if _ENDINGS.search(path):
        return "static"
    if low.endswith((".html", ".htm", ".php", ".jsp")):
        return "page"
    return "rpc" if "/rpc/" in low or re.search(r"/\w+\.[A-Z]\w+$", path) else "rest"


_DATE = re.compile(r"\d{4}-\d{2}-\d{2}(?:[T ][\d:.]+(?:Z|[+-]\d\d:?\d\d)?)?")
_NUMBER = re.compile(r"-?\d+\.\d+(?:[eE][+-]?\d+)?")


def kind_of(value: str) -> str:
    """The type of a value as text.

    >>> [kind_of(v) for v in ("12", "1.5", "true", "2026-11-21", "550e8400-e29b-41d4-a716-446655440000", "a@b.co", "hello")]
    ['integer', 'number', 'boolean', 'date', 'uuid', 'email', 'string']
    """
    if value.lstrip("-").isdigit() and value.isascii():
        return "integer"
    if value in ("true", "false", "True", "False"):
        return "boolean"
    if value[:1].isdigit() or value[:1] == "-":
        if _NUMBER.fullmatch(value):
            return "number"
        if _DATE.fullmatch(value):
            return "date"
    if len(value) > 64 or not ("@" in value or 31 < len(value) < 37):  # of that length are UUIDs
        return "string"
    found = shape(value)
    return found if found in ("uuid", "email") else "string"
