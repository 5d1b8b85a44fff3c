"""One scan that finds which of many patterns may stand in a text: Hyperscan when it is installed, else our own automaton of literals.

Both only say "perhaps": whatever they name is confirmed by the rule's own pattern, so their answers are the same. Texts are joined
by newlines and scanned at once; a hit across the seam is one of the perhaps.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from shopward.errors import MissingExtra
from shopward.traffic.attacks.rules import Rule

ENGINES = ("hyperscan", "literals")


def engine_for(rules: Sequence[Rule], engine: str | None = None) -> Hyperscan | Literals:
    """The named engine; without a name Hyperscan when it is there. Raises MissingExtra for Hyperscan when it is not."""
    if engine == "literals":
        return Literals(rules)
    try:
        return Hyperscan(rules)
    except ImportError:
        if engine == "hyperscan":
            raise MissingExtra("traffic", "hyperscan") from None
        return Literals(rules)


class Hyperscan:
    """The patterns as one Hyperscan database, kept on disk by the hash of the rules: compiling takes seconds, loading milliseconds."""

    name = "hyperscan"

    def __init__(self, rules: Sequence[Rule]):
        import hyperscan

        self._found: list[int] = []
        self._db = _database(rules, hyperscan)
        self._scratch = hyperscan.Scratch(self._db)

    def scan(self, low: bytes) -> list[int]:
        """Numbers of the rules that may stand in the lower-case text."""
        self._found = []
        self._db.scan(low, match_event_handler=self._hit, scratch=self._scratch)
        return self._found

    def _hit(self, number: int, start: int, end: int, flags: int, context: object) -> None:
        self._found.append(number)


def _database(rules: Sequence[Rule], hs: Any) -> Any:
    patterns = [_widened(rule.pattern).encode() for rule in rules]
    key = hashlib.sha256(b"\0".join([str(hs.__version__).encode(), *patterns])).hexdigest()[:24]
    kept = cache_folder() / f"patterns-{key}.hsdb"
    try:
        return hs.loadb(kept.read_bytes(), hs.HS_MODE_BLOCK)
    except (OSError, hs.error):
        pass
    flags = hs.HS_FLAG_SINGLEMATCH | hs.HS_FLAG_CASELESS | hs.HS_FLAG_DOTALL | hs.HS_FLAG_MULTILINE
    db = hs.Database()
    n = len(patterns)
    db.compile(expressions=patterns, ids=list(range(n)), elements=n, flags=[flags] * n)
    _keep(kept, hs.dumpb(db))
    return db


def _widened(pattern: str) -> str:
    r"""The pattern with longer repeats left open, which is wider and makes a far smaller database; rules confirm themselves.

    >>> _widened(r"a{2}b{0,3}c{1,40}\{2,90}")
    'a{2}b{0,3}c{1,}\\{2,90}'
    """
    return _REPEAT.sub(lambda m: m.group() if int(m.group(2)) <= 4 else f"{{{m.group(1)},}}", pattern)


_REPEAT = re.compile(r"(?<!\\)\{(\d{1,3}),(\d{1,3})\}")


def cache_folder() -> Path:
    """Where compiled patterns are kept: `$SHOPWARD_CACHE`, else the user's cache folder."""
    given = os.environ.get("SHOPWARD_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shopward"


def _keep(path: Path, content: bytes) -> None:
    """Written aside and renamed; a folder that cannot be written only costs the next start some seconds."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(content)
        Path(file.name).replace(path)
    except OSError:
        return


class Literals:
    """An automaton (Aho and Corasick 1975) over the literals of which one must stand in every match of a rule.

    >>> from shopward.traffic.attacks.rules import make
    >>> engine = Literals([make("a", "x", "A", "un[i1]on", 0.5), make("b", "x", "B", "select|insert", 0.5)])
    >>> engine.scan(b"a un1on of select committees"), engine.scan(b"nothing")
    ([0, 1], [])
    """

    name = "literals"

    def __init__(self, rules: Sequence[Any]):
        self._n = len(rules)
        self._classes, self._next, self._first, self._rules = _automaton(rules)

    def scan(self, low: bytes) -> list[int]:
        """Numbers of the rules that may stand in the lower-case text."""
        fired = np.zeros(self._n, np.uint8)
        _walk(np.frombuffer(low, np.uint8), self._classes, self._next, self._first, self._rules, fired)
        return np.flatnonzero(fired).tolist()


def _automaton(rules: Sequence[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    owners: dict[bytes, list[int]] = {}
    for number, rule in enumerate(rules):
        for literal in rule.literals:
            owners.setdefault(literal, []).append(number)
    letters = sorted({b for literal in owners for b in literal})
    classes = np.zeros(256, np.uint8 if len(letters) < 255 else np.uint16)
    for i, letter in enumerate(letters):
        classes[letter] = i + 1
    children: list[dict[int, int]] = [{}]
    ends: list[set[int]] = [set()]
    for literal, numbers in owners.items():
        state = 0
        for byte in literal:
            step = int(classes[byte])
            if step not in children[state]:
                children[state][step] = len(children)
                children.append({})
                ends.append(set())
            state = children[state][step]
        ends[state].update(numbers)
    table = _closed(children, ends, len(letters) + 1)
    first = np.zeros(len(ends) + 1, np.int32)
    first[1:] = np.cumsum([len(e) for e in ends])
    flat = np.array([n for e in ends for n in sorted(e)], np.int32)
    return classes, table, first, flat


def _closed(children: list[dict[int, int]], ends: list[set[int]], width: int) -> np.ndarray:
    """The table of next states, failure links followed beforehand; `ends` take over what their failures end."""
    table = np.zeros((len(children), width), np.int32)
    fail = [0] * len(children)
    waiting = [0]
    for state in waiting:
        if state:
            table[state] = table[fail[state]]
            ends[state] |= ends[fail[state]]
        for step, child in children[state].items():
            fail[child] = int(table[fail[state], step]) if state else 0
            table[state, step] = child
            waiting.append(child)
    return table


@njit(cache=True)
def _walk(text, classes, table, first, rules, fired):
    state = 0
    for byte in text:
        state = table[state, classes[byte]]
        for i in range(first[state], first[state + 1]):
            fired[rules[i]] = 1
