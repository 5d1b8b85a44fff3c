"""One scan that says which finders are worth asking about a text; most texts hold nothing that most of them look for.

With Hyperscan ([traffic]) the scan is one pass over the bytes for all of them. Without it every finder is asked: the answers are the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from threading import local
from typing import Any

from shopward.traffic.leaks.checks import IBAN_LENGTH
from shopward.traffic.leaks.secrets import FORMS, HINTS

FORM, HINT, IBAN, IBAN_TOLD, DOMAIN, COLONS, RUN, PAPERS, AUTH = (1 << i for i in range(9))
ALL = (1 << 9) - 1
_COUNTRIES = "|".join(sorted(IBAN_LENGTH))
_PATTERNS: tuple[tuple[int, str, bool], ...] = (  # what it stands for, its form, whether case matters
    (FORM, "|".join(form for _, form in FORMS), True),
    (HINT, "|".join(map(re.escape, HINTS)), False),
    (IBAN, rf"(?:{_COUNTRIES})\d{{2}} ?[A-Z0-9]{{4}} ?[A-Z0-9]{{4}}", True),
    (IBAN_TOLD, r"iban", False),
    (DOMAIN, r"\.[A-Za-z]{2}", True),
    (COLONS, r"::|(?:[0-9A-Fa-f]{1,4}:){7}", True),
    (RUN, r"\d[\d \-.()/]{6}", True),
    (PAPERS, "passport|cert|\u62a4\u7167|\u8bc1\u4ef6", False),
    (AUTH, r"bearer |basic |key=", False),
)
_threads = local()  # a database scans for one thread at a time


def asks(text: str) -> int:
    """The bits of what may be in a text.

    >>> asks("nothing of interest here") in (0, ALL), bool(asks("call 138 0013 8000") & RUN)
    (True, True)
    """
    scan = getattr(_threads, "scan", None)
    if scan is None:
        scan = _threads.scan = _made()
    return scan(text)


def _made() -> Callable[[str], int]:
    try:
        import hyperscan as hs
    except ImportError:
        return lambda text: ALL
    flags = [hs.HS_FLAG_SINGLEMATCH | (0 if cased else hs.HS_FLAG_CASELESS) for _, _, cased in _PATTERNS]
    database = hs.Database()
    database.compile(
        expressions=[form.encode() for _, form, _ in _PATTERNS], ids=[bit for bit, _, _ in _PATTERNS], flags=flags
    )
    scratch, found = hs.Scratch(database), []

    def note(bit: int, start: int, end: int, more: int, context: Any) -> None:
        found.append(bit)

    def scan(text: str) -> int:
        found.clear()
        database.scan(text.encode("utf-8", "surrogatepass"), match_event_handler=note, scratch=scratch)
        return sum(found)

    return scan
