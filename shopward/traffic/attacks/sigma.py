"""Sigma rules for web servers and proxies, loaded by pySigma and run over requests.

A rule's parsed condition becomes one Python function over the fields of the web log taxonomy. Wildcards are matched piece by piece
from the left, so the time grows with the length of the text; regular expressions of a rule see its first REGEX characters.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from shopward import techniques
from shopward.errors import MissingExtra, UsageError
from shopward.evidence import Evidence
from shopward.traffic.attacks.match import Literals
from shopward.traffic.decode import clean
from shopward.traffic.requests import Request

CATEGORIES = frozenset({"webserver", "proxy"})
REGEX = 8192
CONFIDENCE = {"informational": 0.2, "low": 0.3, "medium": 0.5, "high": 0.75, "critical": 0.9}
Texts = list[str]
Check = Callable[["WebRecord"], bool]


class WebRecord:
    """A request under the names of Sigma's web taxonomy; every field is a list of texts of which one has to match."""

    def __init__(self, request: Request, literals: Literals | None = None):
        self.request = request
        self._seen: dict[str, Texts] = {}
        self._literals = literals
        self._present: set[int] | None = None

    def may_have(self, literal: int) -> bool:
        """Whether the literal with this number stands anywhere in the request; one scan answers for all of them."""
        if self._literals is None:
            return True
        if self._present is None:
            texts = [t for name in _FIELDS for t in self.texts(name)] + [
                v.lower() for v in self.request.headers.values()
            ]
            self._present = set(self._literals.scan("\n".join(texts).encode("utf-8", "surrogatepass")))
        return literal in self._present

    def texts(self, name: str) -> Texts:
        found = self._seen.get(name)
        if found is None:
            found = self._seen[name] = _field(self.request, name)
        return found

    def all(self) -> Texts:
        """Everything a keyword may stand in."""
        return [
            t
            for name in ("c-uri", "cs-user-agent", "cs-referer", "cs-cookie", "cs-method", "cs-host", "body")
            for t in self.texts(name)
        ]


def _field(request: Request, name: str) -> Texts:
    read = _FIELDS.get(name.lower())
    found = read(request) if read else [request.headers.get(name.lower().removeprefix("cs-"), "")]
    return [text.lower() for text in found]


def _uri(request: Request) -> Texts:
    return list(
        dict.fromkeys((request.url, request.path + ("?" + request.query_string if request.query_string else "")))
    )


_FIELDS: dict[str, Callable[[Request], Texts]] = {
    "cs-method": lambda r: [r.method], "cs-host": lambda r: [r.host], "r-dns": lambda r: [r.host], "cs-referer": lambda r: [r.headers.get("referer", "")],
    "cs-referrer": lambda r: [r.headers.get("referer", "")], "cs-cookie": lambda r: [r.headers.get("cookie", "")],
    "cs-user-agent": lambda r: [r.user_agent], "c-useragent": lambda r: [r.user_agent], "cs-username": lambda r: [r.account or ""],
    "sc-status": lambda r: ["" if r.status is None else str(r.status)], "c-ip": lambda r: [r.ip or ""], "src_ip": lambda r: [r.ip or ""],
    "cs-content-type": lambda r: [r.headers.get("content-type", "")], "c-uri-extension": lambda r: [r.path.rpartition("/")[2].rpartition(".")[2] if "." in r.path else ""],
    "cs-uri-stem": lambda r: [r.path, r.raw_path], "c-uri-stem": lambda r: [r.path, r.raw_path], "body": lambda r: [r.text] if r.raw_body else [],
    "cs-uri-query": lambda r: [r.query_string, *_uri(r)], "c-uri-query": lambda r: [r.query_string, *_uri(r)],  # written with and without the path
    "c-uri": _uri, "cs-uri": _uri, "sc-bytes": lambda r: ["" if r.bytes is None else str(r.bytes)], "cs-version": lambda r: [r.version or ""],
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SigmaRule:
    """A rule ready to run. `techniques` are those of its ATT&CK tags that the table of techniques knows."""

    id: str
    title: str
    level: str
    techniques: tuple[str, ...]
    author: str
    check: Check

    def evidence(self, request: Request) -> Evidence:
        """That this request matched, with the rule's author as its licence asks."""
        who = f"account:{request.account}" if request.account else f"ip:{request.ip or 'unknown'}"
        return Evidence(
            source=f"sigma:{self.id}", what=f"{self.title} ({request.method} {clean(request.path[:80])}; Sigma rule by {self.author})", entity=who,
            event_ids=(request.id,), techniques=self.techniques, confidence=CONFIDENCE.get(self.level, 0.5), ts=request.ts or 0,
        )  # fmt: skip


class SigmaRules:
    """The rules that apply to requests; `skipped` says why the others do not."""

    def __init__(self, rules: Sequence[SigmaRule], skipped: Sequence[str], literals: Literals | None = None):
        self.rules, self.skipped, self._literals = tuple(rules), tuple(skipped), literals

    def match(self, request: Request) -> list[SigmaRule]:
        """The rules this request matches."""
        record = WebRecord(request, self._literals)
        return [rule for rule in self.rules if rule.check(record)]


def load_sigma(paths: Iterable[Path | str]) -> SigmaRules:
    """The web and proxy rules of files and folders. Raises UsageError when there is none, MissingExtra without pySigma."""
    texts = [(str(file), file.read_text(encoding="utf-8")) for path in paths for file in _files(Path(path))]
    return from_texts(texts)


def from_texts(texts: Iterable[tuple[str, str]]) -> SigmaRules:
    """Rules of (name, YAML) pairs.

    >>> rules = from_texts([("a.yml", '''
    ... title: Asks for a password file
    ... logsource: {category: webserver}
    ... detection: {selection: {"cs-uri-query|contains": [etc/passwd, etc/shadow]}, filter: {sc-status: 404}, condition: selection and not filter}
    ... ''')])
    >>> [r.title for r in rules.match(Request(id="1", method="GET", url="/a?f=/etc/passwd", status=200))]
    ['Asks for a password file']
    >>> rules.match(Request(id="2", method="GET", url="/a?f=/etc/passwd", status=404))
    []
    """
    try:
        from sigma.collection import SigmaCollection
        from sigma.exceptions import SigmaError
    except ImportError:
        raise MissingExtra("traffic", "pysigma") from None
    rules: list[SigmaRule] = []
    skipped: list[str] = []
    literals: list[frozenset[bytes]] = []
    for name, text in texts:
        try:
            for rule in SigmaCollection.from_yaml(text):
                _take(rule, name, rules, skipped, literals)
        except (SigmaError, _NotForRequests, ValueError) as wrong:
            skipped.append(f"{name}: {str(wrong)[:160]}")
        except (AttributeError, TypeError):  # it is YAML, and something else
            skipped.append(f"{name}: cannot be read as a Sigma rule")
    if not rules:
        more = f", and {len(skipped) - 1:,} more" if len(skipped) > 1 else ""
        raise UsageError("no Sigma rule for web servers or proxies" + (f": {skipped[0]}{more}" if skipped else ""))
    return SigmaRules(rules, skipped, Literals([_Literal(found) for found in literals]))


class _Literal(NamedTuple):
    """What Literals needs of a rule."""

    literals: frozenset[bytes]


def _number(value: Any, literals: list[frozenset[bytes]]) -> int | None:
    """The number under which the value's longest piece is looked for beforehand; None when it has none worth it."""
    if type(value).__name__ not in ("SigmaString", "SigmaCasedString"):
        return None
    longest = max((part for part in value.s if isinstance(part, str)), key=len, default="").lower().encode()
    if len(longest) < 3:
        return None
    literals.append(frozenset({longest}))
    return len(literals) - 1


class _NotForRequests(ValueError):
    pass


def _take(rule: Any, name: str, rules: list[SigmaRule], skipped: list[str], literals: list[frozenset[bytes]]) -> None:
    category = getattr(getattr(rule, "logsource", None), "category", None)
    if category not in CATEGORIES:
        skipped.append(f"{name}: category {category}, not webserver or proxy")
        return
    checks = [_compile(condition.parsed, literals) for condition in rule.detection.parsed_condition]
    ids = (str(tag.name).upper() for tag in rule.tags if tag.namespace == "attack")
    known = tuple(id for id in ids if id in techniques.TECHNIQUES)
    rules.append(
        SigmaRule(str(rule.id or name), str(rule.title), rule.level.name.lower() if rule.level else "medium", known, str(rule.author or "unknown"),
                  lambda record: any(check(record) for check in checks))
    )  # fmt: skip


def _files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.suffix in (".yml", ".yaml")) if path.is_dir() else [path]


def _compile(node: Any, literals: list[frozenset[bytes]]) -> Check:
    """A node of pySigma's condition tree as a function."""
    kind = type(node).__name__
    if kind in ("ConditionAND", "ConditionOR"):
        parts = [_compile(part, literals) for part in node.args]
        return (lambda r: all(p(r) for p in parts)) if kind == "ConditionAND" else (lambda r: any(p(r) for p in parts))
    if kind == "ConditionNOT":
        inner = _compile(node.args[0], literals)
        return lambda r: not inner(r)
    if kind == "ConditionValueExpression":
        test = _value(node.value, anywhere=True)
        number = _number(node.value, literals)
        return lambda r: (number is None or r.may_have(number)) and any(test(t) for t in r.all())
    if kind == "ConditionFieldEqualsValueExpression":
        test, name = _value(node.value), node.field
        number = _number(node.value, literals)
        return lambda r: (number is None or r.may_have(number)) and any(test(t) for t in r.texts(name))
    raise _NotForRequests(f"conditions of kind {kind} are not for requests")


def _value(value: Any, anywhere: bool = False) -> Callable[[str], bool]:
    kind = type(value).__name__
    if kind in ("SigmaString", "SigmaCasedString"):
        return _glob(value, anywhere)
    if kind == "SigmaNumber":
        wanted = str(value.number)
        return (lambda t: wanted in t) if anywhere else (lambda t: t == wanted)
    if kind == "SigmaNull":
        return lambda t: t == ""
    if kind == "SigmaExists":
        return lambda t: (t != "") == bool(value)
    if kind == "SigmaRegularExpression":
        pattern = re.compile(
            str(value.regexp.to_plain() if hasattr(value.regexp, "to_plain") else value.regexp), re.IGNORECASE
        )
        return lambda t: pattern.search(t[:REGEX]) is not None
    if kind == "SigmaCIDRExpression":
        network = ipaddress.ip_network(value.cidr, strict=False)
        return lambda t: _within(t, network)
    raise _NotForRequests(f"values of kind {kind} are not for requests")


def _within(text: str, network: Any) -> bool:
    try:
        return ipaddress.ip_address(text) in network
    except ValueError:
        return False


def _glob(value: Any, anywhere: bool) -> Callable[[str], bool]:
    """A text with wildcards, matched piece by piece from the left: each piece is looked for behind the one before it."""
    from sigma.types import SpecialChars

    pieces: list[str] = [""]
    for part in value.s:
        if part == SpecialChars.WILDCARD_MULTI:
            pieces.append("")
        else:
            pieces[-1] += "\x00" if part == SpecialChars.WILDCARD_SINGLE else str(part).lower()
    if anywhere:
        pieces = ["", *pieces, ""]
    first, last = pieces[0], pieces[-1]
    if len(pieces) == 1:
        return _whole(first)
    finders = [_finder(piece) for piece in pieces[1:-1] if piece]
    starts, ends = _whole(first), _whole(last)

    def test(text: str) -> bool:
        if (
            len(text) < len(first) + len(last)
            or not starts(text[: len(first)])
            or not ends(text[len(text) - len(last) :])
        ):
            return False
        at, stop = len(first), len(text) - len(last)
        for find in finders:
            at = find(text, at, stop)
            if at < 0:
                return False
        return True

    return test


def _whole(piece: str) -> Callable[[str], bool]:
    if "\x00" not in piece:
        return lambda t: t == piece
    pattern = _pattern(piece)
    return lambda t: pattern.fullmatch(t) is not None


def _finder(piece: str) -> Callable[[str, int, int], int]:
    """Where the text behind the next occurrence of the piece begins, -1 when there is none."""
    if "\x00" not in piece:
        return lambda t, at, stop: -1 if (found := t.find(piece, at, stop)) < 0 else found + len(piece)
    pattern = _pattern(piece)

    def find(text: str, at: int, stop: int) -> int:
        found = pattern.search(text, at, stop)
        return found.end() if found else -1

    return find


def _pattern(piece: str) -> re.Pattern[str]:
    return re.compile(".".join(map(re.escape, piece.split("\x00"))), re.DOTALL)
