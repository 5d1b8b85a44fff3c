"""Line formats of access logs: combined, JSON under the names of the common servers, and log formats as Apache and nginx declare them.

A reader takes one line of bytes and gives a row with the names of the contract (method, url, headers, ts, ip, status, bytes ...), or
raises ValueError with a reason that is safe to log.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec

from shopward.errors import UsageError
from shopward.traffic.decode import text_of
from shopward.traffic.requests import LowerCase

Row = dict[str, Any]
LineReader = Callable[[bytes], Row]

QUOTED = r'(?:[^"\\]++|\\.)*+'
_COMBINED = re.compile(
    rf'(?P<ip>\S+) \S+ (?P<account>\S+) \[(?P<ts>[^\]]{{1,64}})\] "(?P<request>{QUOTED})" (?P<status>\d{{3}}|-) (?P<bytes>\d+|-)'
    rf'(?: "(?P<referer>{QUOTED})" "(?P<agent>{QUOTED})")?(?P<rest> .*)?$',
    re.DOTALL,
)
_HEX = re.compile(r'\\(?:x([0-9a-fA-F]{2})|([nrtvb\\"]))')
_PLAIN = {"n": "\n", "r": "\r", "t": "\t", "v": "\v", "b": "\b", "\\": "\\", '"': '"'}


def line_reader(format: str) -> LineReader:
    """The reader of a format: `combined`, `json`, `req`, or a format string with `%` (Apache) or `$` (nginx) directives.

    >>> read = line_reader('$remote_addr [$time_local] "$request" $status $http_user_agent')
    >>> row = read(b'1.2.3.4 [10/Oct/2026:13:55:36 +0000] "POST /a HTTP/2.0" 201 curl')
    >>> row["ip"], row["method"], row["url"], row["status"], row["headers"]
    ('1.2.3.4', 'POST', '/a', '201', {'user-agent': 'curl'})
    """
    if format in ("combined", "common"):
        return combined
    if format in ("json", "req", "ndjson"):
        return json_line
    if "$" in format or "%" in format:
        return _custom(format)
    raise UsageError(
        f"unknown log format `{format}`: it is combined, json, har, or a format string such as "
        '`%h %l %u %t "%r" %>s %b` or `$remote_addr [$time_local] "$request" $status`'
    )


# ---- combined


def combined(line: bytes) -> Row:
    """A line in the combined or common format, also with more fields behind; a request line that is no HTTP is kept as the url."""
    found = _COMBINED.match(text_of(line))
    if found is None:
        raise ValueError("no access log line in combined format")
    ip, account, ts, request, status, size, referer, agent, _ = found.groups()
    row: Row = {"ip": ip, "ts": ts, "status": status, "bytes": size}
    if account != "-":
        row["account"] = unescape(account)
    _request_line(row, unescape(request))
    headers = LowerCase()
    if referer and referer != "-":
        headers["referer"] = unescape(referer)
    if agent and agent != "-":
        headers["user-agent"] = unescape(agent)
    row["headers"] = headers
    return row


def unescape(text: str) -> str:
    r"""What a server wrote as \x22 or \" in its log.

    >>> unescape(r'a\x22b\"c')
    'a"b"c'
    """
    return _HEX.sub(_unhex, text) if "\\" in text else text


def _unhex(found: re.Match[str]) -> str:
    return chr(int(found.group(1), 16)) if found.group(1) else _PLAIN[found.group(2)]


def _request_line(row: Row, text: str) -> None:
    method, _, rest = text.partition(" ")
    url, _, version = rest.rpartition(" ")
    if url and version.startswith("HTTP/"):
        row["method"], row["url"], row["version"] = method, url, version
    elif rest and method.isalpha():
        row["method"], row["url"] = method, rest
    else:
        row["method"], row["url"] = "-", text or "-"


# ---- JSON

_NAMES: dict[str, tuple[str, ...]] = {
    "id": ("id", "request_id", "requestid", "req_id", "x_request_id", "http_request_id", "trace_id"),
    "method": ("method", "request_method", "http_request_method", "requestmethod", "request_type", "verb", "http_method"),
    "url": ("url", "request_uri", "uri", "url_original", "requesturi", "requestpath", "http_url", "request_url", "path", "uri_path"),
    "ts": ("ts", "time", "timestamp", "@timestamp", "time_iso8601", "time_local", "startutc", "msec", "datetime", "date"),
    "ip": ("ip", "remote_addr", "client_ip", "clientip", "clienthost", "source_ip", "client", "remote_ip", "client_address", "remotehost"),
    "status": ("status", "status_code", "response_code", "http_response_status_code", "downstreamstatus", "response_status", "code"),
    "bytes": ("bytes", "body_bytes_sent", "bytes_sent", "size", "http_response_bytes", "downstreamcontentsize", "response_size"),
    "headers": ("headers", "request_headers", "http_request_headers"),
    "body": ("body", "request_body", "http_request_body", "http_request_body_content"),
    "response_headers": ("response_headers", "http_response_headers", "resp_headers"),
    "response_body": ("response_body", "http_response_body", "http_response_body_content"),
    "session": ("session", "session_id", "sid"), "account": ("account", "user", "remote_user", "user_id", "user_name", "userid"),
    "device": ("device", "device_id"), "ja4": ("ja4", "tls_ja4", "ssl_ja4", "tls_client_ja4", "ja3", "tls_client_ja3", "ssl_ja3"),
    "version": ("version", "server_protocol", "protocol", "proto", "http_version"),
}  # fmt: skip
_MEANS = {other: name for name, others in _NAMES.items() for other in others}
_AS_HEADER = {
    "http_user_agent": "user-agent", "user_agent": "user-agent", "user_agent_original": "user-agent", "useragent": "user-agent",
    "agent": "user-agent", "http_referer": "referer", "referer": "referer", "referrer": "referer", "http_request_referrer": "referer",
    "host": "host", "http_host": "host", "server_name": "host", "url_domain": "host", "http_cookie": "cookie", "cookie": "cookie",
    "content_type": "content-type", "http_content_type": "content-type", "http_authorization": "authorization",
    "http_x_forwarded_for": "x-forwarded-for", "x_forwarded_for": "x-forwarded-for",
}  # fmt: skip
_WHOLE = frozenset(
    {"headers", "response_headers", "request_headers", "http_request_headers", "http_response_headers", "resp_headers"}
)


def json_line(line: bytes) -> Row:
    """A line of JSON: a row of the contract as it is, or the JSON log of nginx, Caddy, Traefik, Envoy or ECS under their names.

    >>> json_line(b'{"http": {"request": {"method": "GET"}}, "url": {"original": "/a"}, "source": {"ip": "::1"}}')
    {'method': 'GET', 'url': '/a', 'ip': '::1'}
    """
    try:
        row = msgspec.json.decode(line)
    except UnicodeDecodeError:
        row = _second_try(line)
    except (msgspec.DecodeError, RecursionError) as wrong:
        row = _second_try(line, str(wrong))
    if not isinstance(row, dict):
        raise ValueError("a line of JSON that is no object")
    if isinstance(row.get("url"), str) and isinstance(row.get("method"), str):
        return row
    return _translated(row)


def _second_try(line: bytes, reason: str = "bytes that are not UTF-8") -> Any:
    """Bytes that are not UTF-8 are read as Latin-1; lone surrogates, which clients send, are replaced."""
    import json

    try:
        return _replaced(json.loads(text_of(line)))
    except (ValueError, RecursionError):
        raise ValueError(f"no JSON: {reason[:120]}") from None


def _replaced(value: Any) -> Any:
    from shopward.traffic.decode import clean

    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(k): _replaced(v) for k, v in value.items()}
    return [_replaced(v) for v in value] if isinstance(value, list) else value


def _translated(given: Row) -> Row:
    row: Row = {}
    headers: dict[str, Any] = {}
    for name, value in _flat(given):
        means = _MEANS.get(name) or _MEANS.get(name.removeprefix("request_"))
        header = _AS_HEADER.get(name) or _AS_HEADER.get(name.removeprefix("request_"))
        if header and isinstance(value, str):
            headers.setdefault(header, value)
        elif means and row.get(means) in (None, ""):
            row[means] = value
        elif name == "request" and isinstance(value, str):
            _request_line(row, value)
        elif name == "url_query" and value and "?" not in str(row.get("url", "?")):
            row["url"] = f"{row['url']}?{value}"
    if not isinstance(row.get("url"), str):
        raise ValueError("a JSON line without url: name it url, request_uri, uri or request")
    if headers or isinstance(row.get("headers"), dict):
        row["headers"] = {**headers, **(row.get("headers") or {})}
    return row


def _flat(given: Row, prefix: str = "", depth: int = 0):
    for key, value in given.items():
        name = (prefix + key).lower().replace(".", "_").replace("-", "_")
        if isinstance(value, dict) and depth < 6 and name not in _WHOLE and not name.endswith("_headers"):
            yield from _flat(value, name + "_", depth + 1)
        else:
            yield name, value


# ---- format strings

_APACHE = {
    "h": "ip", "a": "ip", "u": "account", "t": "ts", "r": "request", "s": "status", "b": "bytes", "B": "bytes", "O": "bytes",
    "m": "method", "U": "url", "q": "query", "H": "version", "v": "host", "V": "host", "L": "id",
}  # fmt: skip
_NGINX = {
    "remote_addr": "ip", "realip_remote_addr": "ip", "remote_user": "account", "time_local": "ts", "time_iso8601": "ts", "msec": "ts",
    "request": "request", "status": "status", "body_bytes_sent": "bytes", "bytes_sent": "bytes", "request_method": "method",
    "request_uri": "url", "uri": "url", "args": "query", "query_string": "query", "server_protocol": "version", "host": "host",
    "server_name": "host", "request_id": "id", "request_body": "body",
}  # fmt: skip
_DIRECTIVE = re.compile(r"%(?:[!\d,]*)?[<>]?(?:\{([^}]{1,100})\})?([A-Za-z%])|\$\{?([A-Za-z_]\w{0,60})\}?")


@lru_cache(maxsize=32)
def _custom(format: str) -> LineReader:
    pattern, targets = _compile(format)
    if not {"request", "url"} & set(targets):
        raise UsageError(f"log format `{format}` has no request: add %r, %U, $request or $request_uri")

    def read(line: bytes) -> Row:
        found = pattern.match(text_of(line))
        if found is None:
            raise ValueError("the line does not fit the log format")
        return _fill(targets, found.groups())

    return read


def _compile(format: str) -> tuple[re.Pattern[str], list[str]]:
    """The format as a pattern, one group for each directive, and what each group is."""
    pieces, targets, at = [], [], 0
    for found in _DIRECTIVE.finditer(format):
        before, after = format[at : found.start()], format[found.end() : found.end() + 1]
        pieces.append(re.escape(before))
        name, letter, variable = found.groups()
        target = _nginx(variable) if variable else _apache(name, letter)
        if letter == "%":
            pieces.append("%")
        else:
            bracketed = letter == "t" and not before.endswith("[")
            pieces.append(r"\[([^\]]*+)\]" if bracketed else f"({_span(before[-1:], after)})")
            targets.append(target)
        at = found.end()
    pieces.append(re.escape(format[at:]))
    return re.compile("".join(pieces), re.DOTALL), targets


def _span(before: str, after: str) -> str:
    if before == '"' == after:
        return QUOTED
    if after in ("", " "):
        return r"\S*+" if after else r".*"
    return f"[^{re.escape(after)}]*+"


def _apache(name: str | None, letter: str) -> str:
    if name and letter == "i":
        return f"header:{name.lower()}"
    if name and letter == "o":
        return f"response:{name.lower()}"
    if name and letter == "x":
        return "ja4" if "ja" in name.lower() else ""
    return _APACHE.get(letter, "")


def _nginx(variable: str) -> str:
    if "ja4" in variable or "ja3" in variable:
        return "ja4"
    if variable.startswith("sent_http_"):
        return "response:" + variable[10:].replace("_", "-")
    if variable.startswith("http_"):
        return "header:" + variable[5:].replace("_", "-")
    return _NGINX.get(variable, "")


def _fill(targets: list[str], values: tuple[str, ...]) -> Row:
    row: Row = {"headers": {}}
    for target, value in zip(targets, values, strict=True):
        if value == "-" or not target:
            continue
        value = unescape(value)
        kind, _, name = target.partition(":")
        if kind == "header":
            row["headers"][name] = value
        elif kind == "response":
            row.setdefault("response_headers", {})[name] = value
        elif kind == "host":
            row["headers"].setdefault("host", value)
        elif kind == "request":
            _request_line(row, value)
        elif kind == "query":
            row["query"] = value.removeprefix("?")
        else:
            row[kind] = value
    query = row.pop("query", "")
    if "url" not in row:
        raise ValueError("a line without its request")
    if query and "?" not in row["url"]:
        row["url"] += f"?{query}"
    return row
