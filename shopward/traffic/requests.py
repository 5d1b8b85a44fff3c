"""One HTTP request as every traffic finder reads it: whatever the log looked like, normalised once, looked into when asked.

    read_requests(paths) -> Request -> .path .query .form .json .cookies .headers -> .fields() -> decode.views(value)

Views are worked out on first use and kept. Whatever a client sent, none of them raises: what cannot be read in the form it claims
is read in the form it has, and named in `oddities`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from shopward.traffic.decode import INFLATED, clean, inflate, inner64, text_of, unquote

FIELDS = 20_000  # values of one request looked at one by one; the rest is looked at as one text
JSON_DEPTH = 64
REPEATED = 512  # characters; shorter URLs repeat in a log and are remembered, longer ones are each read anew
_BOUNDARY = re.compile(r'boundary="?([^";,\s]{1,200})', re.IGNORECASE)
_DISPOSITION = re.compile(
    r'(filename\*?|name)\s{0,8}=\s{0,8}(?:"((?:[^"\\]|\\.){0,1000})"|([^;\s]{1,1000}))', re.IGNORECASE
)
_XML_ATTRIBUTE = re.compile(r'=\s{0,8}(?:"([^"]{1,4000})"|\'([^\']{1,4000})\')')
_XML_TAG = re.compile(r'<(?:[^<>"\']|"[^"<]{0,4000}"|\'[^\'<]{0,4000}\'){0,4000}>')
_ABSOLUTE = re.compile(r"https?://([^/?#]{1,300})", re.IGNORECASE)


class lazy:
    """An attribute worked out on first use and kept; `functools.cached_property` without its lock, since a request has one thread."""

    def __init__(self, work: Callable[[Any], Any]):
        self.work, self.name, self.__doc__ = work, work.__name__, work.__doc__

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        if owner is None:
            return self
        found = owner.__dict__[self.name] = self.work(owner)
        return found


class LowerCase(dict[str, str]):
    """Headers whose names are in lower case and whose values are texts already."""


class Field(NamedTuple):
    """One value a client chose. `place` is path, query, form, json, cookie, header, xml, part, filename, body or document (a whole XML body);
    `query_name`, `form_name`, `json_name` and `cookie_name` are names that are no plain names. JSON names are paths: `items.0.sku`."""

    place: str
    name: str
    value: str


class Part(NamedTuple):
    """A part of a multipart body."""

    name: str
    filename: str | None
    type: str
    content: bytes


class Request:
    """One request and, where it was recorded, its response.

    `url` is as sent (path and query, or absolute), `headers` keep their first spelling's lower case; a header sent twice has its
    values joined by `, ` and is named in `repeated`. `ts` is epoch milliseconds UTC or None, `status` and `bytes` None when unknown.

    >>> r = Request(id="1", method="POST", url="/api/orders?page=2&q=%E7%BA%A2", headers={"Content-Type": "application/json"},
    ...             body='{"items": [{"sku": "A-1"}], "note": "hi"}')
    >>> r.path, r.query, r.json["note"]
    ('/api/orders', [('page', '2'), ('q', '红')], 'hi')
    >>> [f for f in r.fields() if f.place == "json"]
    [Field(place='json', name='items.0.sku', value='A-1'), Field(place='json', name='note', value='hi')]
    """

    # what a plain log does not hold; `plain` says that it was one, whose headers are Referer and User-Agent
    plain: bool = False
    version: str | None = None
    session: str | None = None
    account: str | None = None
    device: str | None = None
    ja4: str | None = None
    raw_headers: Mapping[str, Any] | list | None = None
    raw_body: str | bytes | None = None
    raw_response_headers: Mapping[str, Any] | list | None = None
    response_body: str | None = None

    def __init__(
        self,
        *,
        id: str,
        method: str,
        url: str,
        headers: Mapping[str, Any] | list | None = None,
        body: str | bytes | None = None,
        ts: int | None = None,
        ip: str | None = None,
        session: str | None = None,
        account: str | None = None,
        device: str | None = None,
        status: int | None = None,
        bytes: int | None = None,
        response_headers: Mapping[str, Any] | list | None = None,
        response_body: str | None = None,
        ja4: str | None = None,
        version: str | None = None,
        where: str = "",
    ):
        self.id, self.method, self.url, self.version, self.where = id, method, url, version, where
        self.ts, self.ip, self.session, self.account, self.device = ts, ip, session, account, device
        self.status, self.bytes, self.ja4 = status, bytes, ja4
        self.raw_headers, self.raw_body = headers, body
        self.raw_response_headers, self.response_body = response_headers, response_body

    @classmethod
    def logged(
        cls, id: str, method: str, url: str, version: str | None, headers: LowerCase, ts: int | None, ip: str | None,
        account: str | None, status: int | None, bytes: int | None, where: str,
    ) -> Request:  # fmt: skip
        """A request of a plain access log, which has no body and no Host header: the same as `Request(...)`, at a third of its cost."""
        request = cls.__new__(cls)
        target = _target(url) if len(url) < REPEATED else _split_target(url)
        host = target[0].lower() if target[0] else ""
        request.__dict__ = {
            "id": id, "method": method, "url": url, "version": version, "headers": headers, "raw_headers": headers or None, "ts": ts, "ip": ip,
            "account": account, "status": status, "bytes": bytes, "where": where, "target": target, "host": host, "place": (method, host, target[1]), "plain": True,
        }  # fmt: skip
        return request

    def __repr__(self) -> str:
        return f"Request({self.id!r}, {self.method} {self.url[:80]!r})"

    # ---- the line

    @lazy
    def target(self) -> tuple[str, str, str]:
        """(host in an absolute URL or "", raw path, raw query); a fragment, which no browser sends, stays with the query."""
        return _split_target(self.url)

    @property
    def raw_path(self) -> str:
        return self.target[1]

    @property
    def query_string(self) -> str:
        return self.target[2]

    @lazy
    def path(self) -> str:
        """The path, percent decoding done once."""
        return unquote(self.target[1])

    @lazy
    def host(self) -> str:
        return (self.headers.get("host") or self.target[0]).lower()

    @lazy
    def place(self) -> tuple[str, str, str]:
        """(method, host, raw path): what is asked for."""
        return self.method, self.host, self.target[1]

    @lazy
    def oddities(self) -> list[str]:
        """What is odd about it, as far as it was looked into."""
        return []

    @lazy
    def query(self) -> list[tuple[str, str]]:
        return _pairs(self.target[2])

    # ---- headers

    @lazy
    def headers(self) -> dict[str, str]:
        return _headers(self.raw_headers)

    @lazy
    def response_headers(self) -> dict[str, str]:
        return _headers(self.raw_response_headers)

    @lazy
    def repeated(self) -> tuple[str, ...]:
        """Names of headers that were sent more than once."""
        given = self.raw_headers
        if isinstance(given, Mapping) and len(self.headers) == len(given) and list not in map(type, given.values()):
            return ()
        return _repeated(given)

    @property
    def user_agent(self) -> str:
        return self.headers.get("user-agent", "")

    @property
    def content_type(self) -> str:
        """The media type without its parameters, lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @lazy
    def cookies(self) -> list[tuple[str, str]]:
        text = self.headers.get("cookie")
        if not text:
            return []
        found = (part.strip().partition("=") for part in text.split(";"))
        return [(name, unquote(value.strip('"'))) for name, _, value in found if name]

    # ---- body

    @lazy
    def body(self) -> bytes:
        """The body, unpacked when it was sent compressed, cut at a megabyte."""
        raw = self.raw_body
        if not raw:
            return b""
        sent = raw if isinstance(raw, bytes) else raw.encode("utf-8", "surrogatepass")
        encoding = self.headers.get("content-encoding", "")
        found, more = inflate(sent, encoding) if encoding else (sent[:INFLATED], len(sent) > INFLATED)
        if more:
            self.oddities.append(f"body cut at {INFLATED} bytes")
        return found

    @lazy
    def text(self) -> str:
        """The body as text."""
        return text_of(self.body)

    @lazy
    def body_kind(self) -> str:
        """What the body is, by what it says and what it looks like: json, form, multipart, xml, text or ""."""
        if not self.raw_body:
            return ""
        said = _said(self.content_type)
        seen = _seen(self.text)
        if said and seen and said != seen and "json" in (said, seen):
            self.oddities.append(f"content type says {said}, the body is {seen}")
        if "json" in (said, seen) and self._document is not _BROKEN:
            return "json"
        if said == "json" and seen != "json":
            return seen or "text"
        return said or seen or ("text" if self.content_type else "form")

    @lazy
    def json(self) -> Any:
        """The JSON body as Python objects; None when it is none."""
        if self.body_kind != "json":
            return None
        if self._document is _BROKEN:
            self.oddities.append("JSON that cannot be read")
            return None
        return self._document

    @lazy
    def _document(self) -> Any:
        return _json(self.text)

    @lazy
    def form(self) -> list[tuple[str, str]]:
        return _pairs(self.text) if self.body_kind == "form" else []

    @lazy
    def parts(self) -> list[Part]:
        """The parts of a multipart body."""
        if self.body_kind != "multipart":
            return []
        found = _BOUNDARY.search(self.headers.get("content-type", ""))
        boundary = found.group(1).encode() if found else self.body.partition(b"\n")[0].strip()[2:]
        if not boundary:
            self.oddities.append("multipart without a boundary")
            return []
        pieces = self.body.split(b"--" + boundary, FIELDS)
        return [_part(piece) for piece in pieces[1:] if not piece.startswith(b"--")]

    # ---- everything a client chose

    def fields(self) -> list[Field]:
        """Every value of the request with its place: path, query, cookies, headers, body. At most FIELDS one by one."""
        found = [Field("path", "", self.path)]
        _named(found, "query", self.query)
        if self.raw_headers:
            for name, value in self.headers.items():
                if name == "cookie":
                    _named(found, "cookie", self.cookies)
                else:
                    found.append(Field("header", name, value))
        if self.raw_body:
            self._body_fields(found)
        if len(found) > FIELDS:
            self.oddities.append(f"{len(found)} values")
            rest = "\n".join(f"{f.name}={f.value}" for f in found[FIELDS:])
            found[FIELDS:] = [Field("body", "", rest)]
        return found

    def _body_fields(self, found: list[Field]) -> None:
        kind = self.body_kind
        if kind == "json" and self.json is not None:
            found.extend(_leaves(self.json, self.oddities))
        elif kind == "form":
            _named(found, "form", self.form)
        elif kind == "multipart" and self.parts:
            for part in self.parts:
                if part.filename is not None:
                    found.append(Field("filename", part.name, part.filename))
                if not is_plain(part.name):
                    found.append(Field("form_name", part.name, part.name))
                found.append(Field("part", part.name, text_of(part.content)))
        elif kind == "xml":
            found.append(Field("document", "xml", self.text))
            found.extend(Field("xml", "", value) for value in _xml_values(self.text) if not value.isspace())
        elif self.text:
            found.append(Field("body", "", self.text))


def event_of(request: Request) -> dict[str, Any]:
    """The request as an `http_request` event of the spine, for features over rates, sessions and statuses.

    >>> event_of(Request(id="9", method="GET", url="/a?b=1", ts=0, ip="1.2.3.4", status=200))
    {'event_id': '9', 'ts': 0, 'type': 'http_request', 'method': 'GET', 'path': '/a', 'ip': '1.2.3.4', 'status': 200}
    """
    event = {
        "event_id": request.id, "ts": request.ts, "type": "http_request", "method": request.method, "path": clean(request.path),
        "host": request.host or None, "ip": request.ip, "session": request.session, "account": request.account,
        "device": request.device, "status": request.status, "bytes": request.bytes,
        "user_agent": clean(request.user_agent) or None, "ja4": request.ja4,
    }  # fmt: skip
    return {name: value for name, value in event.items() if value is not None}


# ---- how the pieces are read


def _split_target(url: str) -> tuple[str, str, str]:
    host = ""
    if not url.startswith("/") and (found := _ABSOLUTE.match(url)):
        host, url = found.group(1), url[found.end() :] or "/"
    path, mark, query = url.partition("?")
    if "#" in path:
        path, _, fragment = path.partition("#")
        query = f"{fragment}{mark}{query}"
    return host, path, query


_target = lru_cache(16_384)(_split_target)


def _pairs(text: str) -> list[tuple[str, str]]:
    if not text:
        return []
    found = (part.partition("=") for part in text.split("&") if part)
    if "%" not in text and "+" not in text:
        return [(name, value) for name, _, value in found]
    return [(unquote(name, True), unquote(value, True)) for name, _, value in found]


def _headers(given: Mapping[str, Any] | list | None) -> dict[str, str]:
    if type(given) is LowerCase:
        return given
    found: dict[str, str] = {}
    if isinstance(given, dict):
        found = {name.lower(): value for name, value in given.items() if type(value) is str}
        if len(found) == len(given):
            return found
        found = {}
    for name, value in _header_items(given):
        low = name.lower()
        found[low] = f"{found[low]}, {value}" if low in found else value
    return found


def _header_items(given: Mapping[str, Any] | list | None) -> Iterator[tuple[str, str]]:
    if not given:
        return
    items = given.items() if isinstance(given, Mapping) else given
    for item in items:
        name, value = (item.get("name"), item.get("value")) if isinstance(item, Mapping) else item
        for one in value if isinstance(value, list) else (value,):
            yield str(name), one if isinstance(one, str) else "" if one is None else str(one)


def _repeated(given: Mapping[str, Any] | list | None) -> tuple[str, ...]:
    seen: dict[str, int] = {}
    for name, _ in _header_items(given):
        seen[name.lower()] = seen.get(name.lower(), 0) + 1
    return tuple(name for name, n in seen.items() if n > 1)


def _said(media: str) -> str:
    if "json" in media:
        return "json"
    if media == "application/x-www-form-urlencoded":
        return "form"
    if media.startswith("multipart/"):
        return "multipart"
    return "xml" if media.endswith("xml") else ""


def _seen(text: str) -> str:
    head = text[:200].lstrip("\ufeff \t\r\n")
    if head[:1] in ("{", "["):
        return "json"
    if head.startswith(("<?xml", "<!DOCTYPE", "<soap")):
        return "xml"
    if head.startswith("--") and "content-disposition" in text[:1000].lower():
        return "multipart"
    return "form" if re.match(r"[\w.\[\]$%-]{1,100}=", head) and "\n" not in head[:100] else ""


_BROKEN = object()


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text.lstrip("\ufeff").encode("utf-8", "replace"))
    except (msgspec.DecodeError, RecursionError, ValueError):
        return _BROKEN


def _named(found: list[Field], place: str, pairs: list[tuple[str, str]]) -> None:
    """Values and odd names; an `=` within what was sent in one piece parts it wrongly, so an odd name is read with its value, too."""
    for name, value in pairs:
        found.append(Field(place, name, value))
        if not is_plain(name):
            found.append(Field(f"{place}_name", name, name) if value else Field(place, "", name))
            if value:
                found.append(Field(place, name, f"{name}={value}"))
            elif "=" in name:
                found.append(Field(place, *name.split("=", 1)))
    if len(pairs) == 1 and not pairs[0][1] and is_plain(pairs[0][0]):
        found.append(Field(place, "", pairs[0][0]))


_PLAIN_NAME = re.compile(r"[a-z0-9\-]{0,40}(?:[_.:][a-z0-9\-]{1,40}){0,3}_?(?:\[[\w\-]{0,50}\]){0,5}", re.IGNORECASE)
_TELLING = re.compile(
    r"\b(?:java|javax|org|com|sun|class|runtime|process)\b|proto|constructor|classloader|\b_[A-Z]|processbuilder|transformer|closure"
    r"|factory\b|\br[o0]0AB|\bKztAA|\bCs7QA|\bH4sIAAA",
    re.IGNORECASE,
)


def is_plain(name: str) -> bool:
    """Is a parameter named as programs name theirs? Other names are looked at like values.

    >>> [is_plain(n) for n in ("user_id", "item[0][sku]", "address.city", "__proto__", "java.lang.Runtime", "a;id")]
    [True, True, True, False, False, False]
    """
    return len(name) <= 200 and _is_plain(name)


@lru_cache(maxsize=4096)
def _is_plain(name: str) -> bool:
    if _PLAIN_NAME.fullmatch(name) is None or _TELLING.search(name):
        return False
    return len(name) < 10 or name.islower() or inner64(name) is None


def _leaves(value: Any, oddities: list[str]) -> Iterator[Field]:
    """Every leaf of a JSON document with its path, in order, without recursion; below JSON_DEPTH the rest is one text."""
    stack: list[tuple[str, Any, int]] = [("", value, 0)]
    while stack:
        path, now, depth = stack.pop()
        kind = type(now)
        if kind is dict and depth < JSON_DEPTH:
            prefix = _prefix(path)
            for name in now:
                if not is_plain(name):
                    yield Field("json_name", path, f"{path[-80:]}.{name}" if name == "prototype" else name)
            stack.extend([(prefix + name[:64], item, depth + 1) for name, item in reversed(now.items())])
        elif kind is list and depth < JSON_DEPTH:
            prefix = _prefix(path)
            stack.extend([(f"{prefix}{i}", now[i], depth + 1) for i in range(len(now) - 1, -1, -1)])
        elif kind is str:
            yield Field("json", path, now)
        elif kind is dict or kind is list:
            oddities.append(f"JSON deeper than {JSON_DEPTH}")
            yield Field("json", path, _whole(now))
        elif now is not None and kind is not bool:
            yield Field("json", path, str(now))


def _xml_values(text: str) -> Iterator[str]:
    """Texts, attribute values, CDATA sections and comments, in order; what is cut off is read to the end.

    >>> list(_xml_values('<a b="1">two<![CDATA[<3>]]><!--4--></a>five'))
    ['1', 'two', '<3>', '4', 'five']
    """
    at = 0
    while at < len(text):
        start = text.find("<", at)
        if start < 0:
            start = len(text)
        if start > at:
            yield text[at:start]
        opening, closing = next((pair for pair in _XML_SECTIONS if text.startswith(pair[0], start)), ("", ""))
        if opening:
            end = text.find(closing, start + len(opening))
            end = len(text) if end < 0 else end
            yield text[start + len(opening) : end]
            at = end + len(closing)
        elif tag := _XML_TAG.match(text, start):
            if "=" in tag.group():
                yield from (one or other for one, other in _XML_ATTRIBUTE.findall(tag.group()))
            at = tag.end()
        elif start < len(text):
            yield text[start : start + 4000]
            at = start + 4000
        else:
            return


_XML_SECTIONS = (("<![CDATA[", "]]>"), ("<!--", "-->"), ("<?", "?>"))


def _prefix(path: str) -> str:
    return "" if not path else f"{path}." if len(path) < 256 else "(deep)."


def _whole(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except RecursionError:
        return ""


def _part(piece: bytes) -> Part:
    head, _, content = piece.partition(b"\r\n\r\n" if b"\r\n\r\n" in piece[:8192] else b"\n\n")
    text = text_of(head[:8192])
    found = {
        m.group(1).lower(): m.group(2) if m.group(2) is not None else m.group(3) for m in _DISPOSITION.finditer(text)
    }
    kind = re.search(r"content-type:\s{0,8}([^\s;]{1,200})", text, re.IGNORECASE)
    filename = found.get("filename", found.get("filename*"))
    body = content.removesuffix(b"\n").removesuffix(b"\r")
    return Part(found.get("name", ""), filename, kind.group(1) if kind else "", body)
