"""Watches requests as they come: lines of a log in; verdicts, list entries and findings for the engine that decides out.

    line -> Request -> attacks, leaks -> an `http_request` event -> the traffic rulebook -> `traffic_verdict` events, entries, findings

Rates, sessions and networks are ordinary features of an ordinary rulebook (rulebooks/traffic), computed by an engine in memory beside
the one that decides. A rule's `label` is the verdict, its `severity` says how sure, and what it puts on a list is put there for all.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec

from shopward.decide import Engine
from shopward.decision import Decision
from shopward.declare.rulebook import Rulebook
from shopward.errors import BadEvent
from shopward.evidence import Evidence
from shopward.features.live import Mode
from shopward.hashing import canonical_text
from shopward.lists import Entry
from shopward.traffic.attacks.scan import Scanner, Verdict, evidence_of
from shopward.traffic.formats import line_reader
from shopward.traffic.live.look import describe
from shopward.traffic.reading import guess, request_of
from shopward.traffic.requests import Request

VERDICT = "traffic_verdict"
SURE = {"low": 0.6, "medium": 0.8, "high": 0.9, "critical": 0.97}  # a rule's severity as a score
AGAIN_MS = 3_600_000  # so long the same verdict about the same client is not told again
TOLD, KNOWN = 100_000, 200_000  # clients and request ids remembered
WHO = ("session", "device", "account", "ip")
NOT_THE_ACCOUNT = frozenset(("login", "register", "reset"))  # whose name is tried is no attacker


@dataclass(slots=True)
class Taken:
    """What a group of lines came to. `events`, `entries` and `findings` still have to be put on disk.

    `refused` are lines that are no request, as (number, reason); `repeated` requests whose id came before; `seen` the others.
    """

    requests: int = 0
    repeated: int = 0
    attacks: int = 0
    refused: list[tuple[int, str]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    findings: list[Evidence] = field(default_factory=list)
    seen: list[Request] = field(default_factory=list)


class Watch:
    """Looks at requests one after the other. For one thread.

    rulebook   of `http_request` events; the shipped one when not given
    scanner    finds attacks

    >>> watch = Watch(mode="interpreted")
    >>> taken = watch.take([(1, b'{"id": "r1", "ts": 0, "method": "GET", "url": "/p?id=1%27%20or%20%271%27=%271", "session": "s1"}')])
    >>> [(e["verdict"], e["session"], e["verdict_score"] > 0.8) for e in taken.events], taken.refused
    ([('attack', 's1', True)], [])
    """

    def __init__(self, rulebook: Rulebook | None = None, *, scanner: Scanner | None = None, mode: Mode = "auto"):
        self.engine = Engine(rulebook or shipped(), mode=mode)
        self.scanner = scanner or Scanner()
        self._told: OrderedDict[tuple, tuple[int, float]] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()

    def take(self, lines: Iterable[tuple[int, bytes | str]], now: int | None = None) -> Taken:
        """Look at numbered lines (a text instead of bytes says what was wrong with one). `now` is epoch ms."""
        taken, requests, numbers = Taken(), [], []
        alike: Counter[bytes] = Counter()
        for number, line in lines:
            found = line if isinstance(line, str) else parsed(line, alike)
            if isinstance(found, str):
                taken.refused.append((number, found))
            else:
                requests.append(found)
                numbers.append(number)
        self.look(requests, taken, now, numbers)
        return taken

    def look(
        self, requests: Sequence[Request], taken: Taken, now: int | None = None, numbers: Sequence[int] = ()
    ) -> None:
        """Look at requests (of these lines), and add to `taken` what they come to."""
        now = int(time.time() * 1000) if now is None else now
        looked = []
        for number, request in zip(numbers or range(1, len(requests) + 1), requests, strict=True):
            taken.requests += 1
            if self._came_before(request.id):
                taken.repeated += 1
                continue
            taken.seen.append(request)
            verdict = self.scanner.scan(request)
            taken.attacks += verdict.attack
            looked.append((number, request, verdict, describe(request, verdict, now)))
        answers = self.engine.decide_events([event for *_, event in looked])
        for (number, request, verdict, event), answer in zip(looked, answers, strict=True):
            if isinstance(answer, BadEvent):
                taken.refused.append((number, str(answer)))
            elif answer is not None and answer.reasons:
                self._tell(request, verdict, event, answer, taken)

    def forget(self, taken: Taken) -> None:
        """What was taken could not be put on disk: when it is sent again it is looked at, and told, again."""
        for request in taken.seen:
            self._known.pop(request.id, None)
        for event in taken.events:
            self._told.pop(_client(event["verdict"], event), None)

    def _came_before(self, id: str) -> bool:
        if id in self._known:
            return True
        self._known[id] = None
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)
        return False

    def _tell(
        self, request: Request, verdict: Verdict, event: dict[str, Any], decision: Decision, taken: Taken
    ) -> None:
        """One event a verdict, with the surest rule; list entries and findings of every rule. Nothing within an hour of the same."""
        rules = [self.engine.rulebook.rules[id] for id in decision.reasons]
        seen = dict(zip(decision.reasons, decision.evidence, strict=False))
        best: dict[str, tuple[float, str]] = {}
        for rule in rules:
            sure = SURE[rule.severity]
            sure = max(sure, verdict.score) if rule.label == "attack" else sure
            if rule.label and sure > best.get(rule.label, (0.0, ""))[0]:
                best[rule.label] = (sure, rule.id)
        for label, (sure, id) in best.items():
            who = _who(request, event, label)
            if self._told_lately(label, who, int(event["ts"]), sure):
                continue
            taken.events.append(
                {"event_id": f"traffic-{label}-{request.id}", "ts": event["ts"], "type": VERDICT, "verdict": label, "verdict_score": round(sure, 4),
                 **who, "traffic_rule": id, "request_id": request.id}
            )  # fmt: skip
            taken.entries += [e for rule in rules if rule.label == label for e in _entries(rule, event)]
            if label == "attack" and verdict.attack:
                taken.findings.append(evidence_of(request, verdict, self.scanner.classes))
            elif id in seen:
                taken.findings.append(
                    msgspec.structs.replace(seen[id], source=f"traffic:{label}", confidence=round(sure, 4))
                )

    def _told_lately(self, label: str, who: dict[str, str], ts: int, sure: float) -> bool:
        key = _client(label, who)
        last = self._told.get(key)
        if last is not None and abs(ts - last[0]) < AGAIN_MS and sure <= last[1]:
            return True
        self._told[key] = (ts, sure)
        self._told.move_to_end(key)
        if len(self._told) > TOLD:
            self._told.popitem(last=False)
        return False

    def close(self) -> None:
        self.engine.close()


def shipped() -> Rulebook:
    """The traffic rulebook that comes with Shopward."""
    from importlib import resources

    return Rulebook(Path(str(resources.files("shopward"))) / "rulebooks" / "traffic")


def parsed(line: bytes, alike: Counter[bytes]) -> Request | str:
    """The request in a line of JSON or of an access log, or what is wrong with it.

    A line without an id is named after its content and how often it came in this group, so sending a group again gives the same names.

    >>> parsed(b'1.2.3.4 - - [10/Oct/2026:13:55:36 +0000] "GET /a HTTP/1.1" 200 12', Counter()).id
    'l-45311fbd6573-1'
    >>> isinstance(parsed(b"what?", Counter()), str)
    True
    """
    line = line.strip()
    try:
        row = line_reader(guess(line))(line)
    except ValueError as wrong:
        return str(wrong)
    if row.get("id") in ("", "-", None):
        digest = blake2b(line, digest_size=6).digest()
        alike[digest] += 1
        row["id"] = f"l-{digest.hex()}-{alike[digest]}"
    return request_of(row, None, 0)


def _who(request: Request, event: dict[str, Any], label: str) -> dict[str, str]:
    found = {name: getattr(request, name) for name in WHO if getattr(request, name)}
    if label == "stuffing" or event["purpose"] in NOT_THE_ACCOUNT:
        found.pop("account", None)
    return found


def _client(label: str, who: dict[str, Any]) -> tuple:
    return label, who.get("device") or who.get("session") or who.get("ip"), who.get("account")


def _entries(rule: Any, event: dict[str, Any]) -> Iterable[Entry]:
    for write in rule.writes:
        parts = [event.get(name) for name in write.key]
        if any(p is None for p in parts):
            continue
        key = canonical_text(parts[0]) if len(parts) == 1 else tuple(map(canonical_text, parts))
        start = int(event["ts"])
        end = None if write.expires_ms is None else start + write.expires_ms
        yield Entry(
            list=write.list,
            key=key,
            valid_from=start,
            expires=end,
            provenance=f"traffic:{rule.id}",
            remove=write.remove,
        )
