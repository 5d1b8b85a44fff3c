"""Did the attack work? Read from what the application answered: what it gave away, echoed, took longer or broke for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from shopward.traffic.attacks.protocol import is_session

if TYPE_CHECKING:
    from shopward.traffic.attacks.scan import Hit
    from shopward.traffic.requests import Request

LOOKED_AT = 1 << 18  # bytes of a response


class Outcome(NamedTuple):
    """`worked` is yes, likely, no, blocked or unknown."""

    worked: str
    why: str


_GIVEN_AWAY: dict[str, tuple[tuple[re.Pattern[str], str], ...]] = {
    "path-traversal": (
        (re.compile(r"\w{1,32}:[x*!]?:\d{1,6}:\d{1,6}:"), "lines of a password file came back"),
        (re.compile(r"\[(?:boot loader|fonts|extensions|mysqld|php)\]", re.IGNORECASE), "a settings file came back"),
        (re.compile(r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY"), "a private key came back"),
        (re.compile(r"<web-app[\s>]|DB_PASSWORD|<\?php"), "source or settings came back"),
    ),
    "cmdi": (
        (re.compile(r"uid=\d{1,6}\(\w{1,32}\) gid="), "the output of id came back"),
        (re.compile(r"Directory of [A-Z]:\\|Volume Serial Number|Windows IP Configuration"), "the output of a Windows command came back"),
        (re.compile(r"nt authority\\\w{1,20}|COMPUTERNAME=|Microsoft Windows \[Version", re.IGNORECASE), "Windows told who it is"),
        (re.compile(r"Linux \S{1,64} \d\.\d|total \d{1,9}\s+[d-][rwx-]{9}|root:x:0:0:"), "the output of a command came back"),
    ),
    "sqli": (
        (
            re.compile(
                r"SQL syntax.{0,40}MySQL|SQLSTATE\[|ORA-\d{5}|PG::\w{1,40}Error|unterminated quoted string|Unclosed quotation mark|"
                r"SQLite3?::|sqlite3\.OperationalError|ODBC \w{1,20} Driver|XPATH syntax error|Microsoft OLE DB",
                re.IGNORECASE,
            ),
            "an error of the database came back",
        ),
        (re.compile(r"information_schema|(?:5|8|10)\.\d{1,2}\.\d{1,3}-(?:MariaDB|log|ubuntu)"), "facts about the database came back"),
    ),
    "ssti": ((re.compile(r"\b49\b|7777777|<Config \{"), "the expression was computed"),),
    "xxe": ((re.compile(r"root:[x*]?:0:0:|\[fonts\]"), "a file came back"),),
    "ssrf": ((re.compile(r"ami-[0-9a-f]{8}|\"AccessKeyId\"|computeMetadata|instance-id"), "the metadata service answered"),),
    "php": (
        (re.compile(r"PHP Version \d|phpinfo\(\)"), "PHP answered"),
        (re.compile(r"(?:Fatal|Parse) error: .{1,300} in \S{1,300} on line \d|Uncaught \w{0,20}Error: ", re.DOTALL), "an error of PHP came back"),
    ),
    "java": (
        (
            re.compile(r"(?:java|javax|org\.(?:apache|springframework))\.[\w.]{1,100}(?:Exception|Error)\b|InvalidClassException|ClassCastException"),
            "an error of Java came back",
        ),
    ),
    "node": ((re.compile(r"(?:Reference|Syntax|Type|Range)Error: .{1,300}\n\s{1,8}at \S{1,100}", re.DOTALL), "an error of Node.js came back"),),
    "code": ((re.compile(r"Traceback \(most recent call last\)|\.rb:\d{1,6}:in [`']|at .{1,80} line \d{1,6}\.\n"), "an error of the language came back"),),
    "nosql": ((re.compile(r"Mongo(?:Server|Bulk)?Error|E11000 duplicate|CastError: Cast to|FieldError: Unsupported lookup"), "an error of the database came back"),),
    "ldap": ((re.compile(r"javax\.naming\.|LdapErr|Bad search filter|supplied argument is not a valid ldap"), "an error of the directory came back"),),
    "xpath": ((re.compile(r"XPathException|xmlXPathEval|Invalid (?:predicate|expression)"), "an error of the XPath reader came back"),),
}  # fmt: skip
_GIVEN_AWAY["rfi"] = _GIVEN_AWAY["path-traversal"]


def outcome_of(request: Request, hits: Sequence[Hit]) -> Outcome:
    """What became of the attack.

    >>> from shopward.traffic.requests import Request
    >>> from shopward.traffic.attacks.scan import Scanner
    >>> scan = Scanner(engine="literals").scan
    >>> probe = dict(id="1", method="GET", url="/d?f=../../../../etc/passwd")
    >>> scan(Request(**probe, status=200, response_body="root:x:0:0:root:/root:/bin/sh")).worked, scan(Request(**probe, status=404)).worked
    ('yes', 'no')
    """
    body = (request.response_body or "")[:LOOKED_AT]
    for cls in {h.cls for h in hits}:
        for pattern, why in _GIVEN_AWAY.get(cls, ()):
            if body and pattern.search(body):
                if cls == "ssti" and pattern.search(request.url):
                    continue
                return Outcome("likely" if "error" in why else "yes", why)
    if any(h.cls == "xss" and len(h.matched) > 6 and "***" not in h.matched and h.matched in body for h in hits):
        return Outcome("yes", "the script came back unescaped")
    if (
        any(h.cls == "crlf" for h in hits)
        and any("set-cookie" in h.matched.lower() for h in hits)
        and "set-cookie" in request.response_headers
    ):
        return Outcome("likely", "the answer sets a cookie")
    if any(h.cls == "session-fixation" for h in hits) and _keeps_session(request):
        return Outcome("yes", "the answer keeps the session id that came")
    return _by_status(request.status, bool(body))


def _keeps_session(request: Request) -> bool:
    """Does the answer set the very session id that the address brought?"""
    cookie = request.response_headers.get("set-cookie", "")
    return bool(cookie) and any(len(value) > 3 and value in cookie for name, value in request.query if is_session(name))


def _by_status(status: int | None, has_body: bool) -> Outcome:
    if status is None:
        return Outcome("unknown", "")
    if status in (403, 406, 418, 429, 444, 493):
        return Outcome("blocked", f"status {status}")
    if status in (400, 401, 404, 405, 410, 413, 414, 422):
        return Outcome("no", f"status {status}")
    if status >= 500:
        return Outcome(
            "likely" if status == 500 else "unknown",
            f"the application broke with status {status}" if status == 500 else f"status {status}",
        )
    return Outcome("unknown", f"status {status}" + (", nothing telling in the answer" if has_body else ""))
