"""How attackers work: one vocabulary for rules, incidents, intelligence and cheat tools.

Ids come from MITRE F3 (fraud), ATT&CK (technical steps that F3 does not carry) and OWASP OAT (automated threats). What they lack,
because they think of banks and of web sites, is our marketplace extension `SW-...`. Ids, names and tactics are theirs; the
descriptions are ours. The table is `techniques.csv` beside this file, one line a technique.

    detections carry ids  ->  incidents, intelligence and tools carry ids  ->  what was seen and is not covered is a blind spot
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shopward.errors import UsageError

Source = Literal["F3", "ATT&CK", "OAT", "SW"]
ChainRole = Literal["recon", "supply", "access", "prepare", "execute", "conceal", "cash-out"]
CHAIN_ROLES: tuple[ChainRole, ...] = ("recon", "supply", "access", "prepare", "execute", "conceal", "cash-out")
# F3's eight tactics, in the order of a fraud; ATT&CK techniques keep the names of ATT&CK's own tactics, OAT and SW use these.
TACTICS = (
    "reconnaissance", "resource-development", "initial-access", "stealth", "defense-impairment", "positioning", "execution",
    "monetization",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Technique:
    """One way of attacking.

    tactics     what it is for, in the words of its source
    chain_role  its place in the trade: who supplies, who gets access, who executes, who conceals, who cashes out
    signals     where we would see it, as `event.field` of the marketplace schema or `request.field` of traffic; empty: we would not
    parent      the broader technique, `F1006` for `F1006.003`; None at the top or when the broader one is not in the table
    related     ids elsewhere that describe the same act or its neighbour

    >>> t = get("SW-1011.001")
    >>> t.name, t.chain_role, t.parent
    ('Coupon abuse: Coupon ring', 'execute', 'SW-1011')
    """

    id: str
    name: str
    source: Source
    tactics: tuple[str, ...]
    chain_role: ChainRole
    signals: tuple[str, ...]
    related: tuple[str, ...]
    description: str
    parent: str | None

    @property
    def observable(self) -> bool:
        """True when some event or request of ours can show it."""
        return bool(self.signals)


class UnknownTechnique(UsageError):
    pass


def get(id: str) -> Technique:
    """The technique with this id.

    >>> get("F1012").name
    'Card Testing'
    >>> get("card testing")
    Traceback (most recent call last):
    shopward.techniques.UnknownTechnique: unknown technique `card testing`: did you mean `F1012` (Card Testing)?
    """
    found = TECHNIQUES.get(id)
    if found is None:
        raise UnknownTechnique(f"unknown technique `{id}`: {_hint(id)}")
    return found


def all() -> tuple[Technique, ...]:  # noqa: A001 (read as techniques.all())
    """Every technique, F3 first, then ATT&CK, OAT and SW.

    >>> len(all()), sum(t.source == "F3" for t in all())
    (251, 123)
    """
    return tuple(TECHNIQUES.values())


def by_tactic(tactic: str) -> tuple[Technique, ...]:
    """The techniques that serve a tactic.

    >>> [t.id for t in by_tactic("defense-impairment") if t.source == "OAT"]
    ['OAT-009', 'OAT-015']
    """
    return tuple(t for t in all() if tactic in t.tactics)


def by_chain_role(role: ChainRole) -> tuple[Technique, ...]:
    """The techniques of one part of the trade.

    >>> [t.id for t in by_chain_role("supply") if t.source == "SW"][:3]
    ['SW-1001', 'SW-1002', 'SW-1003']
    """
    return tuple(t for t in all() if t.chain_role == role)


def covers(detected: Iterable[str], seen: str) -> bool:
    """Whether detections of these techniques look at the one that was seen: the same id, or a detection of its parent.

    A detection of one sub-technique says nothing about its siblings or about the whole.

    >>> covers({"F1006"}, "F1006.003"), covers({"F1006.003"}, "F1006"), covers({"F1006.002"}, "F1006.003")
    (True, False, False)
    """
    return not {seen, get(seen).parent}.isdisjoint(detected)


def _read(path: Path) -> dict[str, Technique]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    ids = {row["id"] for row in rows}
    return {row["id"]: _technique(row, ids) for row in rows}


def _technique(row: dict[str, str], ids: set[str]) -> Technique:
    parent = row["id"].partition(".")[0]
    return Technique(
        id=row["id"],
        name=row["name"],
        source=row["source"],  # type: ignore[arg-type]
        tactics=tuple(row["tactics"].split()),
        chain_role=row["chain_role"],  # type: ignore[arg-type]
        signals=tuple(row["signals"].split()),
        related=tuple(row["related"].split()),
        description=row["description"],
        parent=parent if parent != row["id"] and parent in ids else None,
    )


def _hint(id: str) -> str:
    """The nearest id, or the nearest name when words were given."""
    near = difflib.get_close_matches(id.upper(), TECHNIQUES, n=1, cutoff=0.6)
    if not near:
        names = {t.name.lower(): t.id for t in TECHNIQUES.values()}
        near = [names[n] for n in difflib.get_close_matches(id.lower(), names, n=1, cutoff=0.7)]
    if not near:
        return "ids look like F1012, T1110.004, OAT-008 or SW-1011"
    return f"did you mean `{near[0]}` ({TECHNIQUES[near[0]].name})?"


TECHNIQUES: Mapping[str, Technique] = _read(Path(__file__).with_name("techniques.csv"))  # 251 rows, 3 ms
