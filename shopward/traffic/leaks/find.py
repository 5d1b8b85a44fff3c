"""What a text gives away: personal data and secrets, each with its place, a confidence and a masked form.

    digits with their groups -> numbers.py    @ :// . : -> names.py    forms, names and randomness -> secrets.py
    plates, passports, names and addresses by key -> here

A type is told by value, check digit and key together: a timestamp is no phone, a version no address of a machine.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise

import msgspec

from shopward.traffic.leaks.checks import iban
from shopward.traffic.leaks.gate import AUTH, COLONS, DOMAIN, FORM, HINT, IBAN, IBAN_TOLD, PAPERS, RUN, asks
from shopward.traffic.leaks.keys import key_before, meaning, words_before
from shopward.traffic.leaks.masks import masked
from shopward.traffic.leaks.names import domains, emails, ipv6, urls
from shopward.traffic.leaks.numbers import numbers
from shopward.traffic.leaks.secrets import secrets

Hit = tuple[str, int, int, float]  # type, start, end, confidence

_WIDE = {ord("\uff10") + i: ord("0") + i for i in range(10)} | {
    ord("\uff0d"): ord("-"),
    ord("\uff20"): ord("@"),
    ord("\uff0e"): ord("."),
}
_HAS_WIDE = re.compile("[\uff10-\uff19\uff20]")
_IBAN = re.compile(r"[A-Z]{2}\d{2} ?[A-Z0-9]{4}(?: ?[A-Z0-9]{4}){1,6}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])")
_IBAN_TOLD = re.compile(
    r"[A-Za-z]{2}\d{2} ?[A-Za-z0-9]{4}(?: ?[A-Za-z0-9]{4}){1,6}(?: ?[A-Za-z0-9]{1,3})?(?![A-Za-z0-9])"
)
_PROVINCES = "\u4eac\u6d25\u6caa\u6e1d\u5180\u8c6b\u4e91\u8fbd\u9ed1\u6e58\u7696\u9c81\u65b0\u82cf\u6d59\u8d63\u9102\u6842\u7518\u664b\u8499\u9655\u5409\u95fd\u8d35\u7ca4\u9752\u85cf\u5ddd\u5b81\u743c"
_PLATE = re.compile(
    f"[{_PROVINCES}][A-HJ-Z][\u00b7\u2022\u30fb ]?(?:[DF][A-HJ-NP-Z0-9]\\d{{4}}|\\d{{5}}[DF]|[A-HJ-NP-Z0-9]{{4}}[A-HJ-NP-Z0-9\u6302\u5b66\u8b66\u6e2f\u6fb3])(?![A-Za-z0-9])"
)
_PASSPORT = re.compile(
    r"(?<![A-Za-z0-9])(?:[A-Z]{1,2}\d{7,8}|\d{9}|[A-Z]\d{2}[A-Z0-9]{6}|[A-Z0-9]{2}\d{7})(?![A-Za-z0-9])"
)
_PASSPORT_CN = re.compile(r"(?<![A-Za-z0-9])(?:E[A-HJ-NP-Z]\d{7}|[EG]\d{8})(?![A-Za-z0-9])")


class Found(msgspec.Struct, frozen=True, gc=False):
    """One piece of personal data or one secret in a text; `start` and `end` count characters, `masked` is safe to show."""

    type: str
    start: int
    end: int
    confidence: float
    masked: str
    key: str | None = None


def find(text: str) -> list[Found]:
    """Personal data and secrets in `text`, in order of place.

    Types: email phone credit_card iban us_ssn ip domain url cn_mobile cn_id cn_bank_card plate passport, and secret_*.

    >>> [(f.type, f.masked) for f in find('{"phone": "13800138000", "order_no": "13900139000", "id": "11010519491231002X"}')]
    [('cn_mobile', '138******00'), ('cn_id', '110*************2X')]
    >>> [f.type for f in find("mail bob@example.com, paid with 4111 1111 1111 1111 from 203.0.113.9 (client version 1.2.3.4)")]
    ['email', 'credit_card', 'ip']
    """
    if not text.isascii() and _HAS_WIDE.search(text):
        text = text.translate(_WIDE)  # one for one, so places stay
    return [
        Found(kind, start, end, confidence, masked(kind, text[start:end]), key_before(text, start))
        for kind, start, end, confidence in hits(text)
    ]


def hits(text: str) -> list[Hit]:
    """Type, start, end and confidence of everything found, overlaps settled, in order of place."""
    may = asks(text)
    lower = text.lower() if may & (HINT | AUTH | IBAN_TOLD | PAPERS) else ""
    found = [*secrets(text, lower, bool(may & FORM), bool(may & (HINT | AUTH)))]
    if "://" in text:
        found += urls(text)
    if "@" in text:
        found += emails(text)
    if may & DOMAIN:
        kinds = ("url", "email")
        found += domains(text, [(hit[1], hit[2]) for hit in found if hit[0] in kinds or hit[0].startswith("secret_")])
    if may & COLONS:
        found += ipv6(text)
    if may & RUN:
        found += numbers(text)
    if may & (IBAN | IBAN_TOLD):
        found += _ibans(text, lower)
    if not text.isascii():
        found += (("plate", *m.span(), 0.95) for m in _PLATE.finditer(text) if any(c.isdigit() for c in m[0]))
    if may & PAPERS:
        found += _passports(text, lower)
    return _settled(found) if len(found) > 1 else found


def _ibans(text: str, lower: str) -> Iterator[Hit]:
    for found in (_IBAN_TOLD if "iban" in lower else _IBAN).finditer(text):
        start = found.start()
        if start and (text[start - 1].isalnum() or text[start - 1] == "_"):
            continue
        value = found[0]
        for cut in range(len(value), 14, -1):  # the groups may run into the next word
            part = value[:cut]
            if part[-1] != " " and iban(part.replace(" ", "")):
                yield "iban", start, start + cut, 0.99
                break


def _passports(text: str, lower: str) -> Iterator[Hit]:
    if "passport" in lower or "\u62a4\u7167" in text:
        for found in _PASSPORT.finditer(text):
            means = meaning(key_before(text, found.start()))
            words = words_before(text, found.start())
            if means == "passport" or (means in ("", "cn_id") and ("passport" in words or "\u62a4\u7167" in words)):
                yield "passport", found.start(), found.end(), 0.92
    elif "cert" in lower or "\u8bc1\u4ef6" in text:
        for found in _PASSPORT_CN.finditer(text):
            if meaning(key_before(text, found.start())) == "cn_id":
                yield "passport", found.start(), found.end(), 0.8


class _Places:
    """Places that do not overlap, in order."""

    def __init__(self) -> None:
        self.hits: list[Hit] = []
        self.starts: list[int] = []

    def over(self, hit: Hit) -> Hit | None:
        """The first kept place that overlaps this one."""
        at = bisect_right(self.starts, hit[1])
        if at and self.hits[at - 1][2] > hit[1]:
            return self.hits[at - 1]
        return self.hits[at] if at < len(self.hits) and self.starts[at] < hit[2] else None

    def keep(self, hit: Hit) -> None:
        at = bisect_right(self.starts, hit[1])
        self.starts.insert(at, hit[1])
        self.hits.insert(at, hit)


def _settled(found: list[Hit]) -> list[Hit]:
    """Of findings that overlap the surer one, then the longer one, stays; an address may hold its domain and its secrets."""
    found.sort(key=_by_place)
    if all(a[2] <= b[1] for a, b in pairwise(found)):
        return found
    outer, inner = _Places(), _Places()
    for hit in sorted(found, key=lambda h: (-_rank(h[0]), -h[3], h[1] - h[2])):
        over = outer.over(hit)
        if over is None:
            outer.keep(hit)
        elif _nested(over, hit) and inner.over(hit) is None:
            inner.keep(hit)
    return sorted(outer.hits + inner.hits, key=_by_place)


def _by_place(hit: Hit) -> tuple[int, int]:
    return hit[1], -hit[2]


def _rank(kind: str) -> int:
    return (
        2
        if kind in ("url", "secret_private_key", "secret_jwt")
        else 1
        if kind.startswith("secret_") and kind != "secret_password"
        else 0
    )


def _nested(outer: Hit, inner: Hit) -> bool:
    if outer[0] != "url" or inner[1] < outer[1] or inner[2] > outer[2]:
        return False
    return inner[0] in ("domain", "ip", "email", "cn_mobile", "cn_id", "phone") or inner[0].startswith("secret_")
