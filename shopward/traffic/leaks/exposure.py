"""Who was shown too much: ids walked one by one, other people's data, answers with whole crowds in them, exports, secrets in addresses.

For every caller (account, else session, else address) and interface it is counted how many different ids were asked for and how many
different people came back. What makes a finding is the comparison with the other callers of the same interface. Bounded memory:
callers that were long quiet are let go.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from statistics import median

import msgspec

from shopward.evidence import Evidence
from shopward.traffic.assets.shapes import split_path
from shopward.traffic.assets.templates import LONG, Templates, Token
from shopward.traffic.decode import shape
from shopward.traffic.leaks.find import hits
from shopward.traffic.requests import Request

WALKS = 200_000  # callers x interfaces remembered
PLACES = 50_000  # paths remembered with their interfaces
IDS = 5_000  # different ids, and people, counted for one of them
EVENTS = 20  # requests named in a finding
REFUSED = (401, 403, 404)
BODY = 262_144  # characters of an answer that are looked into
PERSONAL = frozenset(
    ("email", "cn_mobile", "phone", "cn_id", "us_ssn", "credit_card", "cn_bank_card", "iban", "passport")
)
WALKED, MORE_THAN_USUAL, IN_ORDER = (
    30,
    10,
    0.6,
)  # ids: at least so many, so many times the median, or such a share in order
CROWD, STRANGERS = 50, 20  # people in one answer; people seen by one caller of an interface for one
EXPORT, EXPORT_TIMES = 20_000_000, 50  # bytes, and times the median caller's


# No personal data or secret is in a query without long digits, an @, a long run of letters, or a name that promises one.
_MAY_TELL = re.compile(
    r"\d{6}|[@:\u0080-\uffff]|%(?:40|3a|e)|[\w/.+-]{16}|pass|pw|secret|token|key|auth|cred|sig|id_?card|plate|phone|mail|mobile|tel",
    re.IGNORECASE,
)
_MAY_NAME_ID = re.compile(r"(?:id|no)(?:[=&\s]|$)|%", re.IGNORECASE)  # an id's name ends so
# Names whose values are judged by their length and randomness, so that one of a shape speaks for no other.
_TOLD = re.compile(
    r"passw|pwd|secret|token|key|credential|session[^&=]{0,40}(?:id|pass|auth)|(?:id|pass|auth)[^&=]{0,40}session|bearer |basic |[^\x00-\x7f]"
    r"|%[89a-f]",
    re.IGNORECASE,
)


class Walk(msgspec.Struct, gc=False):
    """What one caller did with one interface. Most callers ask once, for one id: sets are made for those who do not."""

    calls: int = 0
    id: str | None = None  # the first
    more: set[str] | None = None  # all of them, when there are several
    last: int | None = None
    steps: int = 0  # an id followed by one at most three away
    moves: int = 0
    refused: int = 0
    bytes: int = 0
    people: set[int] | None = None  # hashes
    first_ts: int = 0
    last_ts: int = 0
    event: str = ""
    events: list[str] | None = None  # from the second on

    @property
    def ids(self) -> int:
        """How many different ids were asked for, up to IDS."""
        return len(self.more) if self.more else int(self.id is not None)

    @property
    def seen(self) -> int:
        """How many different people came back, up to IDS."""
        return len(self.people) if self.people else 0

    @property
    def first_events(self) -> tuple[str, ...]:
        """The requests it began with."""
        return (self.event, *(self.events or ()))

    def step(self, value: str) -> None:
        """Take the id that was asked for."""
        if self.id is None:
            self.id = value
        elif self.more is not None:
            if len(self.more) < IDS:
                self.more.add(value)
        elif value != self.id:
            self.more = {self.id, value}
        if value.isdecimal() and len(value) <= 18:
            now, last = int(value), self.last
            if last is not None and now != last:
                self.moves += 1
                self.steps += -3 <= now - last <= 3
            self.last = now


class Exposure:
    """Takes requests with `add`, then gives `findings()`.

    >>> seen = Exposure()
    >>> for i in range(60):
    ...     body = '{"mobile": "138001380%02d"}' % i
    ...     seen.add(Request(id=f"r{i}", method="GET", url=f"/api/orders/{1000 + i}", status=200, ts=i, account="a9", response_body=body))
    ...     seen.add(Request(id=f"q{i}", method="GET", url=f"/api/orders/{7 * i}", status=200, ts=i, account=f"b{i}"))
    >>> [(e.entity, e.feature, e.value, e.usual) for e in seen.findings()]
    [('account:a9', 'ids_walked', 60, 1), ('account:a9', 'people_seen', 60, 0)]
    """

    def __init__(self) -> None:
        self.templates: dict[str, Templates] = {}
        self.walks: OrderedDict[tuple[str, str], Walk] = OrderedDict()
        self.crowds: dict[str, tuple[int, str, int]] = {}  # interface -> most people in one answer, its request, when
        self.secrets: dict[tuple[str, str], tuple[int, str, int]] = {}  # interface, type -> requests, the first, when
        self.forgotten = 0
        self._silent: set[str] = set()  # queries, and shapes of them, that told nothing
        self._places: dict[tuple[str, str, str], tuple[str, str | None]] = {}

    def add(self, request: Request) -> None:
        """Count a request."""
        interface, value = self._places.get(request.place) or self._interface(request)
        who = f"ip:{request.ip}" if request.plain and request.ip and not request.account else caller(request)
        key, walks, ts = (who, interface), self.walks, request.ts
        walk = walks.get(key)
        if walk is None:
            walk = self._new_walk(key, request.id)
        else:
            walks.move_to_end(key)
            if walk.calls < EVENTS:
                walk.events = [*(walk.events or ()), request.id]
        walk.calls += 1
        if request.bytes:
            walk.bytes += request.bytes
        if ts:
            walk.last_ts = ts
            walk.first_ts = walk.first_ts or ts
        query = request.target[2]
        if value is None and query:
            value = _id_in_query(request)
        if value is not None:
            walk.step(value)
        if request.status in REFUSED:
            walk.refused += 1
        elif request.response_body:
            self._people(request, interface, walk)
        if query and query not in self._silent:
            self._secrets(request, interface)

    def _interface(self, request: Request) -> tuple[str, str | None]:
        """The interface a request is for, and the id in its path; remembered, for paths repeat."""
        method, host, path = request.place
        known = self.templates.get(host)
        if known is None:
            known = self.templates.setdefault(host if len(self.templates) < 1000 else "", Templates())
        way = known.way(path)
        place = way.places.get(method)
        if place is None:
            place = way.place(method)
            place.held = f"{method} {host}{_written(way.tokens)}"
        found = place.held, _id_in_path(path, way.tokens)
        if len(path) < LONG:
            if len(self._places) >= PLACES:
                self._places.clear()
            self._places[request.place] = found
        return found

    def _new_walk(self, key: tuple[str, str], event: str) -> Walk:
        walk = self.walks[key] = Walk(event=event)
        if len(self.walks) > WALKS:
            self.walks.popitem(last=False)
            self.forgotten += 1
        return walk

    def _people(self, request: Request, interface: str, walk: Walk) -> None:
        body = (request.response_body or "")[:BODY]
        people = {_hashed(body[start:end]) for kind, start, end, sure in hits(body) if kind in PERSONAL and sure >= 0.8}
        if people:
            walk.people = walk.people or set()
            walk.people |= set(list(people)[: max(0, IDS - len(walk.people))])
        if len(people) > self.crowds.get(interface, (0, "", 0))[0]:
            self.crowds[interface] = (len(people), request.id, request.ts or 0)

    def _secrets(self, request: Request, interface: str) -> None:
        query = request.target[2][:BODY]
        if not _MAY_TELL.search(query):
            self._keep_silent(query)
            return
        same = shape(query) if len(query) < LONG and not _TOLD.search(query) else ""
        if same in self._silent:
            return
        found = hits(query)
        if not found:
            self._keep_silent(same or query)
        for kind, *_ in found:
            if kind.startswith("secret_") or kind in PERSONAL:
                n, first, ts = self.secrets.get((interface, kind), (0, request.id, request.ts or 0))
                self.secrets[interface, kind] = (n + 1, first, ts)

    def _keep_silent(self, query: str) -> None:
        if len(self._silent) >= PLACES:
            self._silent.clear()
        if len(query) < LONG:
            self._silent.add(query)

    def findings(self) -> Iterator[Evidence]:
        """What callers and interfaces stand out, as evidence."""
        by_interface: dict[str, list[tuple[str, Walk]]] = {}
        for (who, interface), walk in self.walks.items():
            by_interface.setdefault(interface, []).append((who, walk))
        for interface, walks in sorted(by_interface.items()):
            usual_ids = median(w.ids for _, w in walks)
            usual_people = median(w.seen for _, w in walks)
            usual_bytes = median(w.bytes for _, w in walks)
            for who, walk in walks:
                yield from _walked(who, interface, walk, usual_ids)
                yield from _saw(who, interface, walk, usual_people)
                yield from _exported(who, interface, walk, usual_bytes, len(walks))
        yield from self._of_interfaces()

    def _of_interfaces(self) -> Iterator[Evidence]:
        for interface, (n, first, ts) in sorted(self.crowds.items()):
            if n >= CROWD:
                yield Evidence(
                    source="traffic:leaks", what=f"one answer of {interface} held the data of {n} people", entity=f"endpoint:{interface}",
                    feature="people_in_an_answer", value=n, threshold=f">= {CROWD}", event_ids=(first,), techniques=("T1213", "OAT-011"), confidence=0.8, ts=ts,
                )  # fmt: skip
        for (interface, kind), (n, first, ts) in sorted(self.secrets.items()):
            yield Evidence(
                source="traffic:leaks", what=f"{kind} in the address of {n} requests to {interface}: logs and referrers keep it",
                entity=f"endpoint:{interface}", feature=f"{kind}_in_address", value=n, event_ids=(first,), techniques=("T1552",), confidence=0.9, ts=ts,
            )  # fmt: skip


def _walked(who: str, interface: str, walk: Walk, usual: float) -> Iterator[Evidence]:
    """Ids asked for one after the other."""
    n = walk.ids
    in_order = walk.steps / walk.moves if walk.moves else 0.0
    many = n >= WALKED and n >= MORE_THAN_USUAL * max(usual, 1)
    if n < WALKED or not (many or in_order >= IN_ORDER):
        return
    said = (
        f"{n} different ids"
        + (f", {in_order:.0%} of them in order" if in_order >= IN_ORDER else "")
        + (f", {walk.refused} refused" if walk.refused else "")
    )
    yield Evidence(
        source="traffic:leaks", what=f"{said} asked for at {interface} (usually {usual:g})", entity=who, feature="ids_walked", value=n,
        threshold=f">= {WALKED}", usual=usual, event_ids=walk.first_events, techniques=("OAT-011", "F1002"),
        confidence=0.9 if in_order >= IN_ORDER and many else 0.7, ts=walk.last_ts,
    )  # fmt: skip


def _saw(who: str, interface: str, walk: Walk, usual: float) -> Iterator[Evidence]:
    """Other people's data through an interface that shows others one person."""
    n = walk.seen
    if n >= STRANGERS and n >= MORE_THAN_USUAL * max(usual, 1) and walk.ids:
        yield Evidence(
            source="traffic:leaks", what=f"saw the data of {n} people through {interface} (usually {usual:g}): ids of others are answered",
            entity=who, feature="people_seen", value=n, threshold=f">= {STRANGERS}", usual=usual, event_ids=walk.first_events,
            techniques=("F1002", "T1213"), confidence=0.9, ts=walk.last_ts,
        )  # fmt: skip


def _exported(who: str, interface: str, walk: Walk, usual: float, callers: int) -> Iterator[Evidence]:
    if walk.bytes >= EXPORT and callers > 2 and walk.bytes >= EXPORT_TIMES * max(usual, 1):
        yield Evidence(
            source="traffic:leaks", what=f"took {walk.bytes:,} bytes from {interface} (usually {usual:,.0f})", entity=who, feature="bytes_taken",
            value=walk.bytes, threshold=f">= {EXPORT}", usual=usual, event_ids=walk.first_events, techniques=("T1119", "OAT-011"),
            confidence=0.7, ts=walk.last_ts,
        )  # fmt: skip


def caller(request: Request) -> str:
    """Who asks, as an entity."""
    if request.account:
        return f"account:{request.account}"
    return f"session:{request.session}" if request.session else f"ip:{request.ip or 'unknown'}"


def _written(tokens: Iterable[Token]) -> str:
    return (
        "".join(f"/{word or '{' + (shape.strip('-_#') or 'id') + '}'}{ending}" for shape, word, ending in tokens) or "/"
    )


def _id_in_path(path: str, tokens: tuple[Token, ...]) -> str | None:
    """The last id in the path."""
    from_end = next((i for i, token in enumerate(reversed(tokens)) if token[0] and token[0] != "!"), None)
    if from_end is None:
        return None
    at = len(tokens) - 1 - from_end
    if "%" in path or ";" in path or "//" in path or path[:1] != "/":
        return split_path(path)[at][0]
    segment = path.split("/", at + 2)[at + 1]
    return segment[: len(segment) - len(tokens[at][2])]


def _id_in_query(request: Request) -> str | None:
    """The first value in the query that looks like an id by its name."""
    if not _MAY_NAME_ID.search(request.target[2]):
        return None
    for name, value in request.query[:20]:
        low = name.lower()
        if (
            (low == "id" or low.endswith(("id", "_no", "no")))
            and value
            and len(value) <= 64
            and any(c.isdigit() for c in value)
        ):
            return value
    return None


def _hashed(value: str) -> int:
    return int.from_bytes(blake2b(value.encode("utf-8", "replace"), digest_size=8).digest(), "little")
