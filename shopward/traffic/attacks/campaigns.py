"""Attacks that belong together: the same payload with other numbers and names, the same sender going through many payloads.

A payload's shape is its text with words, numbers and quoted texts replaced, so that one tool's variations share it. Requests with
one shape, or of one sender in one hour, are one campaign. For each a virtual patch is proposed: a rule that stops its shape at the
places it used, to be read by a person before it is used.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from shopward.traffic.attacks.scan import Verdict
from shopward.traffic.requests import Request

SHAPES = 50_000  # shapes and senders that are kept
COUNTED = 1_000  # senders, paths and shapes counted one by one in a campaign
EXAMPLES = 3
_ATOM = re.compile(
    r"(?P<text>'[^']{0,200}'|\"[^\"]{0,200}\")|(?P<number>0x[0-9a-fA-F]{1,400}|\d{1,400})|(?P<word>[A-Za-z_]\w{0,200})|(?P<space>\s{1,400})"
)
KEPT = frozenset(
    [
        "select",
        "union",
        "all",
        "from",
        "where",
        "and",
        "or",
        "order",
        "by",
        "having",
        "insert",
        "into",
        "update",
        "delete",
        "drop",
        "sleep",
        "benchmark",
        "waitfor",
        "delay",
        "concat",
        "char",
        "script",
        "alert",
        "img",
        "svg",
        "onerror",
        "onload",
        "src",
        "href",
        "javascript",
        "document",
        "cookie",
        "iframe",
        "etc",
        "passwd",
        "cat",
        "ls",
        "id",
        "wget",
        "curl",
        "bash",
        "sh",
        "whoami",
        "php",
        "jndi",
        "ldap",
        "system",
        "exec",
        "eval",
        "proc",
        "self",
        "win",
        "ini",
    ]
)


def shape_of(matched: str) -> str:
    """What stays of a payload when its numbers, texts and names are taken out.

    >>> shape_of("1 UNION SELECT 1,22,'abc' FROM users"), shape_of("9 union  select 7,8,'x' from items")
    ("0 union select 0,0,'' from w", "0 union select 0,0,'' from w")
    """
    return _ATOM.sub(_atom, matched)[:120]


def _atom(found: re.Match[str]) -> str:
    kind = found.lastgroup
    if kind == "word":
        word = found.group().lower()
        return word if word in KEPT else "w"
    return {"text": "''", "number": "0", "space": " "}[kind or ""]


@dataclass(slots=True)
class Campaign:
    """Attacks that belong together, with who, where, when, how it ended, and a patch."""

    first: int = 0
    last: int = 0
    requests: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    senders: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)
    paths: Counter[str] = field(default_factory=Counter)
    shapes: Counter[str] = field(default_factory=Counter)
    worked: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)


class Campaigns:
    """Groups attacks as they come, in bounded memory: shapes and senders are joined when one request has both."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}
        self._found: dict[str, Campaign] = {}
        self.left_out = 0

    def add(self, request: Request, verdict: Verdict) -> None:
        """One attack more."""
        shape = f"shape:{verdict.classes[0]}:{shape_of(verdict.matched)}"
        hour = (request.ts or 0) // 3_600_000
        keys = [shape] + ([f"sender:{request.ip}:{hour}"] if request.ip else [])
        if len(self._parent) >= SHAPES:
            keys = [k for k in keys if k in self._parent]  # no new ones; what is known goes on counting
        if not keys:
            self.left_out += 1
            return
        roots = {self._root(k) for k in keys}
        root = min(roots)
        for other in roots - {root}:
            self._parent[other] = root
            self._found[root] = _joined(self._found.get(root), self._found.pop(other, None))
        self._count(self._found.setdefault(root, Campaign()), request, verdict, shape)

    def _root(self, key: str) -> str:
        at = self._parent.setdefault(key, key)
        while self._parent[at] != at:
            self._parent[at] = self._parent[self._parent[at]]
            at = self._parent[at]
        return at

    def _count(self, campaign: Campaign, request: Request, verdict: Verdict, shape: str) -> None:
        ts = request.ts or 0
        campaign.first = min(campaign.first, ts) if campaign.requests else ts
        campaign.last = max(campaign.last, ts)
        campaign.requests += 1
        campaign.classes.update(verdict.classes)
        _add(campaign.senders, request.ip or "unknown")
        _add(campaign.places, verdict.where)
        _add(campaign.paths, request.path[:200])
        _add(campaign.shapes, shape)
        campaign.worked[verdict.worked] += 1
        if len(campaign.examples) < EXAMPLES and verdict.matched not in campaign.examples:
            campaign.examples.append(verdict.matched)
        if len(campaign.ids) < 100:
            campaign.ids.append(verdict.id)

    def rows(self) -> list[dict[str, Any]]:
        """The campaigns, largest first, each with its proposed rule."""
        found = sorted(self._found.values(), key=lambda c: (-c.requests, c.first))
        return [_row(c) for c in found if c.requests > 1]


def _add(counter: Counter[str], key: str) -> None:
    if key in counter or len(counter) < COUNTED:
        counter[key] += 1


def _joined(a: Campaign | None, b: Campaign | None) -> Campaign:
    if a is None or b is None:
        return a or b or Campaign()
    a.first, a.last, a.requests = min(a.first, b.first), max(a.last, b.last), a.requests + b.requests
    for name in ("classes", "senders", "places", "paths", "shapes", "worked"):
        both = getattr(a, name)
        both.update(getattr(b, name))
        if len(both) > COUNTED:
            setattr(a, name, Counter(dict(both.most_common(COUNTED))))
    a.examples = (a.examples + [e for e in b.examples if e not in a.examples])[:EXAMPLES]
    a.ids = (a.ids + b.ids)[:100]
    return a


def _row(campaign: Campaign) -> dict[str, Any]:
    id = blake2b(min(campaign.shapes, default="").encode() + str(campaign.first).encode(), digest_size=6).hexdigest()
    return {
        "id": id, "requests": campaign.requests, "senders": len(campaign.senders), "first": campaign.first, "last": campaign.last,
        "classes": dict(campaign.classes.most_common()), "paths": dict(campaign.paths.most_common(5)),
        "places": dict(campaign.places.most_common(5)), "worked": dict(campaign.worked), "examples": campaign.examples,
        "request_ids": campaign.ids, "patch": patch_of(campaign, id),
    }  # fmt: skip


def patch_of(campaign: Campaign, id: str) -> dict[str, Any]:
    """A rule in the rules' own form that stops the campaign's commonest shape; a person reads it before it is used."""
    shape = campaign.shapes.most_common(1)[0][0].split(":", 2)[2]
    cls = campaign.classes.most_common(1)[0][0]
    return {
        "id": f"patch_{id}", "class": cls, "title": f"Stops campaign {id}", "score": 0.9, "pattern": _pattern(shape),
        "hits": campaign.examples[:1], "misses": ["an ordinary value"], "places": list(campaign.places)[:5],
    }  # fmt: skip


def _pattern(shape: str) -> str:
    """A shape as a pattern: 0 is any number, w any word, a space any space."""
    pieces = []
    for found in re.finditer(r"''|0|\b[a-z]+\b| |.", shape):
        piece = found.group()
        pieces.append(
            {
                "''": r"""(?:'[^']{0,200}'|"[^"]{0,200}")""",
                "0": r"(?:0x[0-9a-f]{1,64}|\d{1,20})",
                "w": r"\w{1,64}",
                " ": r"\s{1,20}",
            }.get(piece, re.escape(piece))
        )
    return "".join(pieces)
