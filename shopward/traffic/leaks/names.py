"""Addresses of people and machines that are written with letters: mail, web addresses, domains, IPv6.

Each is found from the one character that it cannot do without (`@`, `://`, `.`, `:`) and grown to both sides, so a text without
them costs nothing and no text costs more than its length.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from functools import cache
from importlib import resources

from shopward.traffic.leaks.checks import ip
from shopward.traffic.leaks.keys import key_before, meaning

Hit = tuple[str, int, int, float]  # type, start, end, confidence

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_LOCAL = _LETTERS + "._%+-"
_HOST = _LETTERS + ".-"
_HEX = "0123456789abcdefABCDEF:."
_HOST_RUN = re.compile(r"[A-Za-z0-9\-]+(?:\.[A-Za-z0-9\-]+)*")
_URL_END = re.compile(r"""[\s"'<>\\^`{}|\u3000-\u303f\uff01-\uff0f\uff1a-\uff1f\u4e00-\u9fff]""")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]{1,20}$")
_DOT = re.compile(r"\.(?=[A-Za-z]{2})")
_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")
# top-level domains that are more often the ending of a file, a method or a sentence without a space
_FILE_LIKE = frozenset(
    """py zip sh rs md mov so pl ps app java js ts cc cs do in is it no am at be by as to my me so id name data
    link call map pub save show open read list java cab dot bar foo page new now tube total int info date ong
    style tab tel security""".split()
)
_PLAIN_TLDS = frozenset(
    """com net org edu gov cn ru de uk fr jp br io co us eu ca au kr xyz top shop site online vip club""".split()
)
MAX_HOST = 253
MAX_URL = 8192


@cache
def top_level() -> frozenset[str]:
    """The top-level domains that exist (ICANN's section of the public suffix list, ASCII)."""
    text = resources.files("shopward.traffic.leaks").joinpath("tlds.txt").read_text(encoding="ascii")
    return frozenset(text.split())


def is_domain(host: str) -> bool:
    """Is it a domain name of the public internet?

    >>> is_domain("shop.example.com"), is_domain("main.c"), is_domain("a..com")
    (True, False, False)
    """
    labels = host.lower().split(".")
    tld = labels[-1]
    if len(labels) < 2 or len(host) > MAX_HOST or not (tld in top_level() or tld.startswith("xn--")):
        return False
    return all(0 < len(label) <= 63 and label[0] != "-" and label[-1] != "-" for label in labels)


def emails(text: str) -> Iterator[Hit]:
    """Mail addresses."""
    at = text.find("@")
    while at >= 0:
        before = text[max(0, at - 64) : at]
        local = before[len(before.rstrip(_LOCAL)) :].lstrip(".%+-")
        host = _HOST_RUN.match(text, at + 1, at + 1 + MAX_HOST)
        if local and host and local[-1] != "." and ".." not in local:
            name = _trimmed(host[0])
            if name and not _is_file(local, name):
                yield "email", at - len(local), at + 1 + len(name), 0.98
        at = text.find("@", at + 1)


def _trimmed(host: str) -> str | None:
    """The host without what only seems to belong to it: `shop.com.Next` is the end of a sentence."""
    if is_domain(host):
        return host
    shorter = host.rpartition(".")[0]
    return shorter if shorter and is_domain(shorter) else None


def _is_file(local: str, host: str) -> bool:
    """`logo@2x.png` and its like."""
    return bool(re.fullmatch(r"[1-4]x\..*", host)) or host.lower().startswith("localhost.")


def urls(text: str) -> Iterator[Hit]:
    """Web addresses with a scheme, and the domain or address of the machine in each."""
    at = text.find("://")
    while at >= 0:
        scheme = _SCHEME.search(text, max(0, at - 21), at)
        end = _end_of_url(text, at + 3)
        if scheme and end > at + 4:
            yield "url", scheme.start(), end, 0.97
            yield from _host_of(text, at + 3, end)
        at = text.find("://", max(end, at + 3))


def _end_of_url(text: str, start: int) -> int:
    stop = _URL_END.search(text, start, start + MAX_URL)
    end = stop.start() if stop else min(len(text), start + MAX_URL)
    trimmed = text[start:end].rstrip(".,;:!?*")
    while trimmed and trimmed[-1] in ")]" and _unopened(trimmed):
        trimmed = trimmed[:-1].rstrip(".,;:!?*")
    return start + len(trimmed)


def _unopened(text: str) -> bool:
    """Does the closing bracket at the end belong to the sentence around the address?"""
    pair = "()" if text[-1] == ")" else "[]"
    return text.count(pair[1]) > text.count(pair[0])


def _host_of(text: str, start: int, end: int) -> Iterator[Hit]:
    rest = text[start:end]
    netloc = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user = netloc.rpartition("@")[0]
    offset = start + (len(user) + 1 if user else 0)
    host = _HOST_RUN.match(text, offset, start + len(netloc))
    if host and is_domain(host[0]):
        yield "domain", host.start(), host.end(), 0.97


def domains(text: str, taken: list[tuple[int, int]]) -> Iterator[Hit]:
    """Domain names that stand alone; `taken` are the places of mail and web addresses, which have their own."""
    seen, taken = 0, sorted(taken)
    starts = [start for start, _ in taken]
    for dot in _DOT.finditer(text):
        at = dot.start()
        if at < seen:
            continue
        place = bisect_right(starts, at) - 1
        if place >= 0 and at < taken[place][1]:
            continue
        before = text[max(0, at - MAX_HOST) : at]
        start = at - (len(before) - len(before.rstrip(_HOST)))
        host = _HOST_RUN.match(text, start, start + MAX_HOST + 1)
        if host is None:
            continue
        seen = host.end()
        if _stands_alone(text, host) and _likely(text, host[0], start):
            yield "domain", start, host.end(), 0.85


def _stands_alone(text: str, host: re.Match[str]) -> bool:
    before, after = text[host.start() - 1 : host.start()], text[host.end() : host.end() + 1]
    return not (
        host.start() and (before in tuple("/\\@_$#%&=") and before != "=" or before == "_")
    ) and after not in tuple("(_@") + ("\\",)


def _likely(text: str, host: str, start: int) -> bool:
    """Is it a domain rather than a file, a method, a class or two sentences without a space?"""
    if not is_domain(host):
        return False
    labels = host.split(".")
    tld = labels[-1]
    if labels[0].lower() == "www":
        return True
    if tld != tld.lower() and host != host.upper() or any(x != x.lower() and x != x.upper() for x in labels):
        return False  # `Order.Info`, `obj.toString`
    if tld in _FILE_LIKE or len(labels[-2]) < 2:
        return len(labels) > 2 and labels[-2] in ("com", "co", "org", "net", "gov", "edu", "ac")
    if tld in _PLAIN_TLDS:
        return True
    return len(labels) > 2 or meaning(key_before(text, start)) in ("ip",) or len(tld) == 2


def ipv6(text: str) -> Iterator[Hit]:
    """IPv6 addresses with an elided part or all eight groups."""
    seen = 0
    for found in _COLONS.finditer(text):
        if found.start() < seen:
            continue
        before = text[max(0, found.start() - 40) : found.start()]
        start = found.start() - (len(before) - len(before.rstrip(_HEX)))
        after = text[found.start() : found.start() + 46]
        end = found.start() + len(after) - len(after.lstrip(_HEX))
        seen = end
        value = text[start:end].rstrip(".")
        end = start + len(value)
        outside = text[start - 1 : start].isalnum() and start > 0 or text[end : end + 1].isalnum()
        if (
            not outside
            and len(value) > 3
            and ("::" in value or value.count(":") == 7)
            and ip(value)
            and _has_hex(value)
        ):
            yield "ip", start, end, 0.95


def _has_hex(value: str) -> bool:
    return sum(c not in ":." for c in value) >= 2
