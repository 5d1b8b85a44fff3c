"""What a parameter usually is: learned from the traffic itself, so that a value of another kind weighs more and a usual one less.

Per path and parameter the kinds of values seen so far are counted. A parameter that has been a number two hundred times and now has
quotes in it is strange whatever the quotes say; one that always holds free text with quotes is not. Only requests without a strong
sign teach, so an attacker cannot make his payload the usual value by sending it often from one address alone.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from shopward.traffic.requests import Field, Request

if TYPE_CHECKING:
    from shopward.traffic.attacks.scan import Hit

ENOUGH = 50  # values before a parameter has a usual kind
SHARE = 0.98  # of them that are of the usual kinds
PARAMETERS = 100_000  # kept; the ones not seen for longest go
FROM_ONE = 0.2  # of what is taught may come from one address
_KINDS = (
    ("number", re.compile(r"-?\d{1,18}(?:\.\d{1,9})?")),
    ("id", re.compile(r"[0-9a-fA-F]{8,64}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")),
    ("word", re.compile(r"[\w-]{1,64}")),
    ("words", re.compile(r"[\w .,-]{1,400}")),
)
PLAIN = frozenset({"number", "id", "word"})


def kind_of(value: str) -> str:
    """What a value is by its letters: number, id, word, words or text.

    >>> [kind_of(v) for v in ("12", "3f2a9c1e", "blue-shoes", "blue shoes", "it's")]
    ['number', 'id', 'word', 'words', 'text']
    """
    return next((name for name, pattern in _KINDS if pattern.fullmatch(value)), "text")


class Profile:
    """Kinds of values by (path without numbers, place, name); bounded."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str, str], dict[str, int]] = OrderedDict()
        self._by: dict[tuple[str, str, str], tuple[str | None, int]] = {}

    def weigh(self, request: Request, fields: Sequence[Field], hits: list[Hit]) -> list[Hit]:
        """The hits, with one more for each parameter that is not what it always was; calm requests teach."""
        from shopward.traffic.attacks.scan import Hit, shown

        path = re.sub(r"\d{1,20}", "0", request.path[:200])
        strong = any(h.score >= 0.5 for h in hits)
        for field in fields:
            if field.place not in ("query", "form", "json", "cookie"):
                continue
            key = (path, field.place, field.name[:64])
            kind = kind_of(field.value)
            if self._strange(key, kind):
                place = f"{field.place}:{field.name[:64]}"
                marked = [h for h in hits if h.place == place]
                cls = max(marked, key=lambda h: h.score).cls if marked else "unusual"
                hits.append(
                    Hit(
                        rule="profile",
                        cls=cls,
                        title="A value unlike all before it",
                        score=0.45,
                        place=place,
                        how="",
                        matched=shown(field.value),
                    )
                )
            if not strong:
                self._learn(key, kind, request.ip)
        return hits

    def _strange(self, key: tuple[str, str, str], kind: str) -> bool:
        seen = self._seen.get(key)
        if seen is None or kind != "text":
            return False
        total = sum(seen.values())
        return total >= ENOUGH and sum(n for k, n in seen.items() if k in PLAIN) >= SHARE * total

    def _learn(self, key: tuple[str, str, str], kind: str, who: str | None) -> None:
        seen = self._seen.setdefault(key, {})
        self._seen.move_to_end(key)
        last, run = self._by.get(key, (None, 0))
        run = run + 1 if who is not None and who == last else 0
        self._by[key] = (who, run)
        if run <= max(10, FROM_ONE * sum(seen.values())):
            seen[kind] = seen.get(kind, 0) + 1
        if len(self._seen) > PARAMETERS:
            old, _ = self._seen.popitem(last=False)
            self._by.pop(old, None)
