"""Requests in, an inventory of interfaces out: one row an asset, judged, with reasons; and which request belongs to which asset.

requests -> Templates and Facts, one pass, bounded memory -> resolve -> merge what is one interface -> judge -> rows, map, OpenAPI
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from shopward.evidence import Evidence
from shopward.traffic.assets.facts import Facts, keys_of
from shopward.traffic.assets.judge import Verdict, evidence, judge, newest_versions
from shopward.traffic.assets.templates import LONG, Template, Templates, Token
from shopward.traffic.requests import Request

HOSTS = 1_000  # different hosts kept apart; attackers make hosts up
NOT_THERE = frozenset((400, 404, 405, 410, 414, 501))  # answers that say: there is no such interface
Key = tuple[str, str, tuple[Token, ...]]


@dataclass(slots=True)
class Asset:
    """One interface: `name` is `METHOD host/template`."""

    name: str
    method: str
    host: str
    template: Template
    facts: Facts
    verdict: Verdict
    tags: dict[str, Any] = field(default_factory=dict)
    documented: bool | None = None

    def row(self) -> dict[str, Any]:
        """The asset as a row of the governed table."""
        facts, verdict = self.facts, self.verdict
        sensitive = sorted({f"{side}:{kind}" for side, kind in facts.sensitive})
        return {
            "asset": self.name, "method": self.method, "host": self.host, "template": self.template.path, "confidence": self.template.confidence,
            "why": self.template.why, "kind": (facts.kinds.most_common(1) or [("rest", 0)])[0][0], "access": verdict.access,
            "auth": sorted(facts.auth), "sensitive": sensitive, "examples": [f"{k}: {v}" for k, shown in sorted(facts.examples.items()) for v in shown[:1]],
            "params": [f"{place}.{name}: {p.type}" for (place, name), p in sorted(facts.params.items())], "domain": self.tags.get("domain", verdict.domain),
            "money_path": verdict.money_path, "level": int(self.tags.get("level", verdict.level)), "lifecycle": self.tags.get("lifecycle", verdict.lifecycle),
            "risk": verdict.risk, "reasons": [text for text, _, _ in verdict.reasons], "calls": facts.calls, "first_seen": facts.first, "last_seen": facts.last,
            "statuses": [f"{code}: {n}" for code, n in sorted(facts.statuses.items())], "open_ok": facts.open_ok, "bytes": facts.bytes, "people": len(facts.people), "ips": len(facts.ips),
            "found_level": verdict.level, "found_domain": verdict.domain, "found_lifecycle": verdict.lifecycle,
            "owner": self.tags.get("owner"), "retention": self.tags.get("retention"), "documented": self.documented,
        }  # fmt: skip

    def findings(self) -> list[Evidence]:
        """Why it is dangerous, as evidence."""
        return evidence(self.name, self.facts, self.verdict)


class Inventory:
    """Takes requests with `add`, then gives `assets()`.

    given      templates that people decided, which win over what is learned (`/pay/callback/{provider}`)
    tags       governance by asset name or template: owner, level, domain, lifecycle, retention
    documented templates (method, path) of an OpenAPI document, to tell what is not in it

    >>> seen = Inventory()
    >>> for i in range(5):
    ...     _ = seen.add(Request(id=str(i), method="GET", url=f"/api/orders/{i}", status=200, ts=i, response_body='{"mobile": "13800138000"}'))
    >>> [(a.name, a.verdict.level, a.verdict.access, a.verdict.reasons[0][0]) for a in seen.assets()]
    [('GET /api/orders/{order_id}', 3, 'public', 'answers hold cn_mobile')]
    """

    def __init__(
        self,
        given: Iterable[str] = (),
        tags: dict[str, dict[str, Any]] | None = None,
        documented: set[tuple[str, str]] | None = None,
    ):
        self.given, self.tags, self.documented = tuple(given), tags or {}, documented
        self.templates: dict[str, Templates] = {}
        self.facts: dict[Key, Facts] = {}
        self.refused: dict[str, int] = {}  # host -> calls of what is not there
        self.keys: list[Key] = []  # by number, for the map
        self._number: dict[Key, int] = {}
        self.start: int | None = None
        self.end: int | None = None

    def add(self, request: Request) -> int:
        """Count a request; returns the number that `name_of` turns into its asset."""
        ts = request.ts
        if ts is not None:
            if self.start is None or ts < self.start:
                self.start = ts
            if self.end is None or ts > self.end:
                self.end = ts
        method, host, path = request.place
        known = self.templates.get(host)
        if known is None:
            host, known = self._new_host(host)
        if request.status in NOT_THERE:
            self.refused[host] = self.refused.get(host, 0) + 1
            return self._numbered((method, host, known.tokens(path)))
        body = request.response_body
        way = known.way(path, keys_of(body) if body and request.status in (None, 200, 201) else None)
        place = way.places.get(method)
        if place is None:
            place = way.place(method)
            place.held = self._interface((method, host, way.tokens))
        place.calls += 1
        if len(path) >= LONG:
            way.settle()
        number, facts = place.held
        facts.add(request)
        return number

    def _new_host(self, host: str) -> tuple[str, Templates]:
        if len(self.templates) >= HOSTS:
            host = "(other hosts)"
        return host, self.templates.setdefault(host, Templates(self.given))

    def _numbered(self, key: Key) -> int:
        number = self._number.get(key)
        if number is None:
            number = self._number[key] = len(self.keys)
            self.keys.append(key)
        return number

    def _interface(self, key: Key) -> tuple[int, Facts]:
        """The number and the facts of a key that is there."""
        facts = self.facts.get(key)
        if facts is None:
            facts = self.facts[key] = Facts()
        return self._numbered(key), facts

    def assets(self) -> list[Asset]:
        """Every interface, the most dangerous first."""
        for templates in self.templates.values():
            templates.resolve()
        merged: dict[tuple[str, str, str], tuple[Template, Facts]] = {}
        for (method, host, tokens), facts in self.facts.items():
            template = self.templates[host].of(tokens)
            held = merged.get((method, host, template.path))
            if held is None:
                held = merged[method, host, template.path] = (template, Facts())
            held[1].merge(facts)
        newest = newest_versions(path for _, _, path in merged)
        found = [self._asset(*place, *what, newest) for place, what in merged.items()]
        return sorted(found, key=lambda a: (-a.verdict.risk, -a.facts.calls, a.name))

    def _asset(
        self, method: str, host: str, path: str, template: Template, facts: Facts, newest: dict[str, int]
    ) -> Asset:
        documented = None if self.documented is None else is_documented(method, path, self.documented)
        verdict = judge(host, path, facts, (self.start, self.end), newest, documented)
        name = f"{method} {host}{path}"
        return Asset(name, method, host, template, facts, verdict, self._tags_of(name, path), documented)

    def _tags_of(self, name: str, path: str) -> dict[str, Any]:
        from shopward.traffic.assets.tags import tags_of

        return tags_of(name, path, self.tags) if self.tags else {}

    def name_of(self, number: int) -> str | None:
        """The asset that a request was counted for (None for what is not there), after `assets`."""
        method, host, tokens = self.keys[number]
        template = self.templates[host].of(tokens)
        return (
            None
            if template.confidence <= 0.5 and (method, host, tokens) not in self.facts
            else f"{method} {host}{template.path}"
        )


def bare(path: str) -> str:
    """A template with its parameters nameless, to compare two."""
    import re

    return re.sub(r"\{[^}]*\}", "{}", path).rstrip("/") or "/"


def is_documented(method: str, path: str, documented: set[tuple[str, str]]) -> bool:
    """Is a learned template in the document? One of its names may be a value there of what the document has as a parameter.

    >>> is_documented("GET", "/users/{user_id}", {("GET", "/users/{}")}), is_documented("GET", "/users/me", {("GET", "/users/{}")})
    (True, True)
    """
    if (method, bare(path)) in documented:
        return True
    mine = bare(path).split("/")
    return any(
        m == method and len(theirs) == len(mine) and all(t in ("{}", s) for t, s in zip(theirs, mine, strict=True))
        for m, theirs in ((m, p.split("/")) for m, p in documented)
    )


def openapi(assets: Iterable[Asset], title: str = "What the traffic shows") -> dict[str, Any]:
    """The inventory as an OpenAPI 3.1 document; governance stands in `x-` fields."""
    paths: dict[str, dict[str, Any]] = {}
    hosts = set()
    for asset in assets:
        if asset.method not in ("GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"):
            continue
        hosts.add(asset.host)
        operations = paths.setdefault(asset.template.path, {})
        held = operations.get(asset.method.lower())
        if held is None or held["x-calls"] < asset.facts.calls:
            operations[asset.method.lower()] = _operation(asset)
    servers = [{"url": f"https://{h}"} for h in sorted(hosts) if h and not h.startswith("(")]
    doc: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1"},
        "paths": dict(sorted(paths.items())),
    }
    return doc | ({"servers": servers} if servers else {})


def _operation(asset: Asset) -> dict[str, Any]:
    import re

    row = asset.row()
    params = [
        {"name": n, "in": "path", "required": True, "schema": {"type": "string"}}
        for n in re.findall(r"\{([^}]*)\}", asset.template.path)
    ]
    body: dict[str, Any] = {}
    for (place, name), p in sorted(asset.facts.params.items()):
        schema = _schema(p.type)
        if place == "query":
            params.append({"name": name, "in": "query", "required": False, "schema": schema})
        else:
            body.setdefault(place, {})[name] = schema
    codes = sorted(asset.facts.statuses) or [200]
    out: dict[str, Any] = {
        "parameters": params, "responses": {str(code): {"description": f"seen {asset.facts.statuses.get(code, 0)} times"} for code in codes},
        **{f"x-{k.replace('_', '-')}": row[k] for k in ("access", "auth", "sensitive", "level", "lifecycle", "domain", "risk", "reasons", "owner", "retention", "calls", "first_seen", "last_seen", "confidence")},
    }  # fmt: skip
    if body:
        media = {"json": "application/json", "form": "application/x-www-form-urlencoded"}
        out["requestBody"] = {
            "content": {media[k]: {"schema": {"type": "object", "properties": v}} for k, v in body.items()}
        }
    if asset.verdict.lifecycle == "deprecated":
        out["deprecated"] = True
    return out


def _schema(kind: str) -> dict[str, str]:
    if kind in ("date", "uuid", "email"):
        return {"type": "string", "format": {"date": "date-time"}.get(kind, kind)}
    return {"type": kind}


def documented_in(document: dict[str, Any]) -> set[tuple[str, str]]:
    """(method, bare path) of every operation of an OpenAPI document, with the servers' base path in front where there is one."""
    base = ""
    for server in document.get("servers") or ():
        _, _, rest = str(server.get("url", "")).partition("://")
        _, slash, path = rest.partition("/")
        base = f"/{path}".rstrip("/") if slash and path.strip("/") else base
    found = set()
    for path, operations in (document.get("paths") or {}).items():
        for method in operations if isinstance(operations, dict) else ():
            if method in ("get", "put", "post", "delete", "options", "head", "patch", "trace"):
                found.add((method.upper(), bare(path)))
                if base:
                    found.add((method.upper(), bare(base + path)))
    return found


def compared(assets: Iterable[Asset], document: dict[str, Any]) -> dict[str, list[str]]:
    """What the traffic and a document do not agree on: undocumented, unused, drifted (a parameter that is not in the document)."""
    documented = documented_in(document)
    assets = list(assets)
    seen = {(a.method, bare(a.template.path)) for a in assets}
    return {
        "undocumented": sorted(a.name for a in assets if not is_documented(a.method, a.template.path, documented)),
        "unused": sorted(
            f"{m.upper()} {path}" for path, m in _operations(document) if not _called(m.upper(), path, seen, document)
        ),
        "drifted": sorted(_drifted(assets, document)),
    }


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for path, operations in (document.get("paths") or {}).items():
        for method in operations if isinstance(operations, dict) else ():
            if method in ("get", "put", "post", "delete", "options", "head", "patch", "trace"):
                yield path, method


def _called(method: str, path: str, seen: set[tuple[str, str]], document: dict[str, Any]) -> bool:
    wanted = {p for m, p in documented_in({**document, "paths": {path: {method.lower(): {}}}}) if m == method}
    return any(m == method and is_documented(method, p, {(method, w) for w in wanted}) for m, p in seen)


def _drifted(assets: list[Asset], document: dict[str, Any]) -> Iterator[str]:
    told: dict[tuple[str, str], set[str]] = {}
    for path, method in _operations(document):
        operation, shared = document["paths"][path][method], document["paths"][path].get("parameters", [])
        names = {
            p.get("name")
            for p in [*shared, *operation.get("parameters", [])]
            if isinstance(p, dict) and p.get("in") == "query"
        }
        if not any(isinstance(p, dict) and "$ref" in p for p in [*shared, *operation.get("parameters", [])]):
            told[method.upper(), bare(path)] = {n for n in names if n}
    for asset in assets:
        known = told.get((asset.method, bare(asset.template.path)))
        if known is not None:
            new = sorted(name for place, name in asset.facts.params if place == "query" and name not in known)
            if new:
                yield f"{asset.name}: {', '.join(new[:10])}"
