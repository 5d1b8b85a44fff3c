"""Breaks of HTTP: most are broken clients and are only told; those that split or smuggle requests are attacks."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from shopward.traffic.requests import Request

METHODS = frozenset(
    [
        "GET",
        "HEAD",
        "POST",
        "PUT",
        "PATCH",
        "DELETE",
        "OPTIONS",
        "CONNECT",
        "TRACE",
        "PROPFIND",
        "REPORT",
        "MKCOL",
        "COPY",
        "MOVE",
        "LOCK",
        "UNLOCK",
        "SEARCH",
        "PROPPATCH",
        "PURGE",
        "QUERY",
    ]
)
LOGGED = frozenset(("referer", "user-agent"))  # all that many logs keep: what is missing there says nothing
LONGEST_URL = 8192
MOST_VALUES = 1000
_SESSION = re.compile(r"(?:j|php|asp|aspnet[._-]?|cf|dw|rack\.|express[.:]|connect\.|ci_|laravel_|symfony|wordpress_|zend|web|apex)?_?sess(?:ion)?_?-?id(?:s)?(?:key)?|aspsessionid\w{0,12}|phpsess|jservsessionid|jwsession|jservsession|session[_-]?id|sessid|zend_session_id|cfid|cftoken|cfsid|weblogicsession|viewstate_session|jsessionid\w{0,4}|asp\.net_sessionid", re.IGNORECASE)  # fmt: skip


_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+")


class Attack(NamedTuple):
    """A break of the protocol that only an attack makes."""

    rule: str
    cls: str
    title: str
    score: float
    place: str
    matched: str


def breaks(request: Request) -> tuple[tuple[str, ...], list[Attack]]:
    """What is wrong with a request as HTTP, and the attacks among it.

    >>> r = Request(id="1", method="POST", url="/", headers={"Transfer-Encoding": "chunked", "Content-Length": "4"}, body="0")
    >>> breaks(r)[1][0].cls, breaks(Request(id="2", method="GET", url="/"))
    ('smuggling', ((), []))
    """
    told: list[str] = []
    attacks: list[Attack] = []
    if request.method not in METHODS:
        told.append("unknown method" if request.method.isalpha() else "no HTTP request")
    if len(request.url) > LONGEST_URL:
        told.append(f"a URL of {len(request.url)} characters")
    if "\x00" in request.path or "%00" in request.url:
        told.append("a null byte")
    if request.url.count("&") > MOST_VALUES:
        told.append("too many parameters")
    if request.raw_headers:
        _headers(request, told, attacks)
    _session(request, attacks)
    return tuple(told), attacks


def _headers(request: Request, told: list[str], attacks: list[Attack]) -> None:
    headers = request.headers
    coding, length = headers.get("transfer-encoding", ""), headers.get("content-length", "")
    if coding and length:
        attacks.append(
            Attack(
                "smuggling_both_lengths",
                "smuggling",
                "Transfer-Encoding and Content-Length",
                0.8,
                "header:transfer-encoding",
                coding,
            )
        )
    elif coding and coding.strip().lower() not in (
        "chunked",
        "gzip, chunked",
        "identity",
        "gzip",
        "deflate",
        "trailers",
    ):
        attacks.append(
            Attack(
                "smuggling_odd_coding",
                "smuggling",
                "Transfer-Encoding in disguise",
                0.7,
                "header:transfer-encoding",
                coding,
            )
        )
    if length and not length.isdigit():
        attacks.append(
            Attack(
                "smuggling_odd_length",
                "smuggling",
                "Content-Length that is no number",
                0.7,
                "header:content-length",
                length,
            )
        )
    for name in set(request.repeated) & {"content-length", "transfer-encoding", "host"}:
        attacks.append(
            Attack("smuggling_twice", "smuggling", f"{name} sent twice", 0.7, f"header:{name}", headers[name])
        )
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            told.append("an impossible header name")
        if "\n" in value or "\r" in value:
            attacks.append(Attack("crlf_in_header", "crlf", "A line break in a header", 0.6, f"header:{name}", value))
    if "host" not in headers and request.version not in (None, "HTTP/1.0") and not LOGGED.issuperset(headers):
        told.append("no Host header")
    if request.method in ("GET", "HEAD") and request.raw_body:
        told.append(f"a {request.method} with a body")


@lru_cache(maxsize=4096)
def _session_name(name: str) -> bool:
    return _SESSION.fullmatch(name) is not None


def is_session(name: str) -> bool:
    """Is this the name under which programs keep a session?"""
    return len(name) <= 64 and _session_name(name)


def _session(request: Request, attacks: list[Attack]) -> None:
    """A session id handed over in the URL from elsewhere fixes the victim's session (CWE-384)."""
    if "s" not in request.url.lower() or not (request.query_string or request.raw_body):
        return
    pairs = [*request.query, *(request.form if request.raw_body else ())]
    for name, value in pairs:
        if value and is_session(name):
            referer = request.headers.get("referer", "")
            host = request.host.partition(":")[0]
            if referer and host and referer.partition("://")[2].split("/", 1)[0].partition(":")[0].lower() == host:
                continue
            score = 0.6 if referer or request.raw_headers else 0.4
            attacks.append(
                Attack(
                    "session_in_url",
                    "session-fixation",
                    "A session id handed over from outside",
                    score,
                    f"query:{name[:64]}",
                    name,
                )
            )
