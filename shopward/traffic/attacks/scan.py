"""A request in, a verdict out: which attack it carries, where, with which bytes, how sure, and whether it worked.

    fields -> decoded views -> one scan for all patterns -> the rules and grammars it names -> hits -> Verdict

The scan only names candidates, so a request without any costs one pass over its bytes. Breaks of the protocol are kept apart: they
are told, and are no attack by themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import msgspec

from shopward.evidence import Evidence
from shopward.traffic.attacks import markup, shell, sql, template
from shopward.traffic.attacks.match import engine_for
from shopward.traffic.attacks.protocol import breaks, is_session
from shopward.traffic.attacks.rules import AttackClass, Rule, make, shipped
from shopward.traffic.attacks.words import words
from shopward.traffic.attacks.worked import Outcome, outcome_of
from shopward.traffic.decode import clean, inner64, shape, unquote, views
from shopward.traffic.requests import Field, Request

THRESHOLD = 0.5
SHOWN = 160  # characters of a match that are shown
CALM = 50_000  # URLs and header values remembered as harmless
TOLD = 5_000  # URLs remembered with what was found in them

KIND = {
    "query": "value", "form": "value", "json": "value", "xml": "value", "part": "body", "body": "body", "path": "path", "cookie": "cookie",
    "filename": "file", "query_name": "name", "form_name": "name", "json_name": "name", "cookie_name": "name", "header": "header", "document": "document",
}  # fmt: skip
_OF_URL = frozenset(("path", "query", "query_name"))
# Headers that name a file being sent are file names; those that every client fills with free text are agents.
HEADER_KIND = {
    "user-agent": "agent", "referer": "agent", "x-filename": "file", "x_filename": "file", "x.filename": "file", "x-file-name": "file",
    "slug": "file", "content-disposition": "file", "x-file": "file", "filename": "file",
}  # fmt: skip
# Headers in which a browser writes only what the protocol says; grammars of languages are not tried there.
PLAIN_HEADERS = words("plain_headers")
_WRAPPED = re.compile(
    r"%[0-9a-fA-Fu]|&[#a-zA-Z]|\\[uUxX0-3]|^[A-Za-z0-9_-][A-Za-z0-9+/_-]{11,}={0,2}$|base64,|^Basic |[^\x00-\x7f]"
)


class Grammar(NamedTuple):
    """A language that is read by its grammar; `gate` says when it is worth reading."""

    cls: str
    title: str
    find: Callable[[str], sql.Found | None]
    least: dict[str, float]  # the score needed in this kind of place
    lines: bool = False  # a line break inside a value is worth reading, too
    starts: Callable[[str], bool] | None = None  # whether a value begins in a way that is worth reading


_SINKS = "alert|confirm|prompt|eval|settimeout|setinterval|function|execscript|atob|fetch|import|print|writeln|write|expression|fromcharcode|open|jquery|getscript|postmessage|requestanimationframe|xmlhttprequest|constructor|call|apply|bind"
_OBJECTS = "document|window|self|top|parent|frames|globalthis|this|location|navigator|localstorage|sessionstorage|throw"
_SQL_WORDS = "or|and|xor|union|select|having|order|group|sleep|benchmark|waitfor|declare|exec|execute|insert|update|delete|drop|create|alter|truncate|case|procedure|limit|into|between|like|rlike|regexp|char|chr|concat|values|grant|shutdown|call|merge|handler|if|iif|elt|make_set|pg_sleep|extractvalue|updatexml|intersect|except|minus|where|set|load_file|xp_[a-z]{1,20}|sp_[a-z]{1,20}|dbms_[a-z]{1,20}|utl_[a-z]{1,20}"
GRAMMARS: dict[str, tuple[Grammar, str]] = {
    "sql": (
        Grammar("sqli", "SQL", sql.find, {"agent": 0.75, "header": 0.7, "body": 0.75, "path": 0.65}),
        rf"['\"`]|\|\||&&|\b(?:{_SQL_WORDS})\b|[0-9a-z]\)",
    ),
    "markup": (
        Grammar("xss", "HTML or script", markup.find, {"agent": 0.6, "body": 0.75, "path": 0.71}),
        rf"<|on[a-z]{{3,30}}[\s\x00]{{0,20}}=|script|mocha:|data:|view-source|moz-binding|behavio|\+adw-|expression|\b(?:{_SINKS})\b|\b(?:{_OBJECTS})\b|\[\]|!\[|\(!|\\x[0-9a-f]|\[[\"'`]|\][(\[+]|\]\.[a-z]{{3,8}}|innerhtml|outerhtml|insertadjacent|location\s{{0,3}}=|srcdoc|addeventlistener|attachevent|getscript|globaleval|\xc2\xbc|with\s{{0,3}}\(|\bnew\s{{1,4}}[a-z]|setimmediate|contextualfragment",
    ),
    "shell": (
        Grammar(
            "cmdi",
            "a shell command",
            shell.find,
            {"agent": 0.85, "header": 0.8, "body": 0.85, "path": 0.8},
            True,
            shell.starts,
        ),
        r"[;|`&]|\$[({\['$a-z]|[<>]\(|%0a|\\n|/bin|\(\)|/dev/|/inet/|/\?|\{[a-z]{1,12},|\{,|\{/|ifs\b|cmd|%comspec|%programfiles|powershell|system32|certutil|invoke-|\biex|new-object|frombase64|downloadstring|convert\]|<<|[>]|\bfor\b|\bif\b|"
        r"[\"'\\^][a-z]|/[\w.]{0,8}[?*\[]|~[-+\d]|^!\W?\d|"
        r"/s?bin/|\b(?:get|set|add|new|remove|copy|move|rename|clear|write|import|export|select|where|foreach|out|stop|start|restart|test|invoke|wait|debug|convertto|enter)-[a-z]{4,20}|"
        r"\b(?:wmic|reg|sc|netsh|net1?|rundll32|vssadmin|bcdedit|schtasks|taskkill|regsvr32|bitsadmin|msiexec|forfiles|findstr|icacls|cacls|cipher|nltest|wevtutil|fsutil|robocopy|xcopy|attrib|cmdkey|shutdown|ipconfig|netstat|tasklist|systeminfo|dir|certutil|python\d?|perl|php|ruby|bash|zsh|ncat|nc|netcat|mkfifo)(?:\.exe)?\s{1,4}\S|\.exe\b|--[a-z-]{2,20}=|-exec|exec:|tcp-(?:connect|listen):|@\d{1,3}\.\d{1,3}\.",
    ),
    "template": (
        Grammar("ssti", "a template expression", template.find, {"agent": 0.7, "body": 0.75}),
        r"\{\{|\{%|[$#*~@%]\{|<%|\[\[|\[\(|@\(|\$!\{|#(?:set|foreach|evaluate|include|parse|macro|if|define)|<#|<@|\{php|\{system|\{#|@\s{0,3}(?:import|page|namespace|system)|<c:set|<j:|th:[a-z]|\$smarty",
    ),
}


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """One sign: the rule that saw it, its class, how sure, in which place and under which decoding, and the bytes."""

    rule: str
    cls: str
    title: str
    score: float
    place: str
    how: str
    matched: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a request is. `classes` are the attack classes by score; `protocol` names breaks of HTTP that are no attack alone.

    `worked` is yes, likely, no, blocked or unknown, with the reason in `why_worked`."""

    id: str
    attack: bool
    score: float
    classes: tuple[str, ...]
    where: str
    matched: str
    hits: tuple[Hit, ...] = ()
    protocol: tuple[str, ...] = ()
    oddities: tuple[str, ...] = ()
    worked: str = "unknown"
    why_worked: str = ""


def _calm(id: str) -> Verdict:
    return Verdict(id=id, attack=False, score=0.0, classes=(), where="", matched="")


class Text(NamedTuple):
    """A field's value under one decoding."""

    field: Field
    kind: str
    how: str
    text: str

    @property
    def low(self) -> bytes:
        return self.text.lower().encode("utf-8", "surrogatepass")


class Scanner:
    """Looks at requests. One scanner is for one thread; `engine` is hyperscan, literals or None for the better one that is there.

    >>> scanner = Scanner(engine="literals")
    >>> verdict = scanner.scan(Request(id="1", method="GET", url="/p?id=1%27%20or%20%271%27%3D%271"))
    >>> verdict.attack, verdict.classes, verdict.where, verdict.matched
    (True, ('sqli',), 'query:id', "1' or '1'=")
    >>> scanner.scan(Request(id="2", method="GET", url="/search?q=men%27s+shoes+or+boots")).attack
    False
    """

    def __init__(
        self,
        *,
        engine: str | None = None,
        rules: Sequence[Rule] = (),
        profile: Any = None,
        threshold: float = THRESHOLD,
    ):
        self.classes, own = shipped()
        self.rules: tuple[Rule, ...] = (*own, *rules)
        gates = [
            make(f"gate:{name}", grammar.cls, grammar.title, gate, 1) for name, (grammar, gate) in GRAMMARS.items()
        ]
        self._gates = {len(self.rules) + i: GRAMMARS[name][0] for i, name in enumerate(GRAMMARS)}
        self._line_gates = [number for number, grammar in self._gates.items() if grammar.lines]
        self._all = (*self.rules, *gates)
        self.engine = engine_for(self._all, engine)
        self.profile = profile
        self.threshold = threshold
        self._calm: set[tuple[str, str]] = set()  # (header, value), and ("", URL)
        self._shapes: set[tuple[str, str]] = set()  # (header, shape of its value), and (method, shape of the URL)
        self._told: dict[tuple[str, str], tuple[Hit, ...]] = {}  # (host, URL) -> what was found in the URL alone
        self._known: set[tuple[str, str]] = set()  # the same with values and URLs that had such a shape

    def scan(self, request: Request) -> Verdict:
        """The verdict on one request. Never raises, whatever the request is; takes time in proportion to its length."""
        if self.profile is None and self._is_known(request):
            return _calm(request.id)
        fields = self._fields(request)
        hits = self._hits(request, fields)
        broken, attacks = breaks(request)
        if not hits and not attacks:
            self._remember(request, broken)
        if self.profile is not None:
            hits = self.profile.weigh(request, fields, hits)
        hits.extend(
            Hit(rule=a.rule, cls=a.cls, title=a.title, score=a.score, place=a.place, how="", matched=shown(a.matched))
            for a in attacks
        )
        return self._verdict(request, hits, broken)

    def _hits(self, request: Request, fields: list[Field]) -> list[Hit]:
        """The signs in fields. Scanners send one address from many places: what was found in it alone is remembered."""
        url = request.url
        alone = (
            self.profile is None and len(url) < 512 and not request.raw_body and all(f[0] in _OF_URL for f in fields)
        )
        key = (request.host, url)
        if alone and (known := self._told.get(key)) is not None:
            return list(known)
        hits = self._looked(request, fields)
        if alone and hits:
            if len(self._told) >= TOLD:
                self._told.clear()
            self._told[key] = tuple(hits)
        return hits

    def _looked(self, request: Request, fields: list[Field]) -> list[Hit]:
        texts = _texts(fields)
        hits: list[Hit] = []
        fired: Collection[int] = ()
        if texts:
            joined = "\n".join([t[3] for t in texts])
            fired = self.engine.scan(joined.lower().encode("utf-8", "surrogatepass"))
            if joined.count("\n") >= len(texts) or "\r" in joined or shell.starts(joined):
                fired = {*fired, *self._line_gates}
        for number in sorted(fired):
            grammar = self._gates.get(number)
            if grammar is None:
                self._try_rule(self._all[number], texts, hits)
            else:
                self._try_grammar(grammar, self._all[number], texts, hits)
        return hits + named_sinks(request, fields)

    def _try_rule(self, rule: Rule, texts: list[Text], hits: list[Hit]) -> None:
        for text in texts:
            if text.kind not in rule.where:
                continue
            raw = text.text.encode("utf-8", "surrogatepass") if rule.cased else text.low
            found = rule.regex.search(raw)
            if found:
                hits.append(_hit(rule.id, rule.cls, rule.title, rule.score, text, _bytes_at(text, found.span())))
                return

    def _try_grammar(self, grammar: Grammar, gate: Rule, texts: list[Text], hits: list[Hit]) -> None:
        best: Hit | None = None
        for text in texts:
            if (
                (text.text.isalnum() and text.kind != "agent")
                or text.kind == "document"
                or (text.kind == "header" and text.field.name in PLAIN_HEADERS)
                or not (
                    (grammar.lines and _has_lines(text.text))
                    or (grammar.starts and grammar.starts(text.text))
                    or gate.regex.search(text.low)
                )
            ):
                continue
            found = grammar.find(text.text)
            if found is None and text.kind == "path" and "/" in text.text[1:]:
                found = grammar.find(text.text.rpartition("/")[2])
            if found is None or found.score < grammar.least.get(text.kind, 0.0) and not _is_all(grammar, found, text):
                continue
            if text.kind == "agent" and found.kind == "command alone":
                found = found._replace(score=0.6)
            if best is None or found.score > best.score:
                best = _hit(
                    f"{grammar.cls}:{found.kind.replace(' ', '-')}",
                    grammar.cls,
                    f"{grammar.title}: {found.kind}",
                    found.score,
                    text,
                    found.matched,
                )
                if best.score >= 0.9:
                    break
        if best is not None:
            hits.append(best)

    def _fields(self, request: Request) -> list[Field]:
        """The values to look at: those of URLs and headers in which nothing was found before are left out, unless types are learned."""
        calm = self._calm
        if self.profile is not None or ("", request.url) not in calm or request.raw_body:
            return [f for f in request.fields() if f[0] != "header" or (f[1], f[2]) not in calm]
        if not request.raw_headers or all(item in calm for item in request.headers.items()):
            return []
        return [f for f in request.fields() if f[0] not in ("path", "query", "query_name") and (f[1], f[2]) not in calm]

    def _remember(self, request: Request, broken: tuple[str, ...]) -> None:
        """URLs and header values repeat from request to request; those in which nothing was found are not looked at again."""
        if len(self._calm) > CALM:
            self._calm.clear()
        if len(request.url) < 512:
            self._calm.add(("", request.url))
        if request.raw_headers:
            self._calm.update(item for item in request.headers.items() if len(item[1]) < 512)
        if self.profile is None and not broken and not request.raw_body:
            self._remember_shapes(request)

    def _remember_shapes(self, request: Request) -> None:
        if len(self._shapes) > CALM:
            self._shapes.clear()
            self._known.clear()
        if len(request.url) < 512 and not any(is_session(name) for name, _ in request.query):
            self._shapes.add((request.method, shape(request.url)))
        for name, value in request.headers.items() if request.raw_headers else ():
            if len(value) < 512:
                self._shapes.add((name, shape(value)))

    def _is_known(self, request: Request) -> bool:
        """Was a request of this shape harmless: a plain URL and headers that differ from earlier ones in short numbers only?"""
        given, known = request.raw_headers, self._known
        if request.raw_body:
            return False
        if (request.method, request.url) not in known and not self._has_shape(request.method, request.url):
            return False
        if not given:
            return True
        if not isinstance(given, dict) or len(given) > 2:
            return False
        for item in given.items():
            if type(item[1]) is not str or not (item in known or item in self._calm or self._has_shape(*item)):
                return False
        return True

    def _has_shape(self, name: str, value: str) -> bool:
        """Is the shape of a URL or a header's value known? Then the value is from now on."""
        if len(value) >= 512 or (name, shape(value)) not in self._shapes:
            return False
        if len(self._known) > CALM:
            self._known.clear()
        self._known.add((name, value))
        return True

    def _verdict(self, request: Request, hits: list[Hit], broken: tuple[str, ...]) -> Verdict:
        scores: dict[str, float] = {}
        for hit in hits:
            scores[hit.cls] = 1 - (1 - scores.get(hit.cls, 0.0)) * (1 - hit.score)
        classes = tuple(sorted((c for c, s in scores.items() if s >= self.threshold), key=lambda c: -scores[c]))
        top = max(scores.values(), default=0.0)
        first = max((h for h in hits if h.cls in classes[:1]), key=lambda h: h.score, default=None) or max(
            hits, key=lambda h: h.score, default=None
        )
        outcome = outcome_of(request, hits) if classes else Outcome("unknown", "")
        return Verdict(
            id=request.id, attack=bool(classes), score=round(top, 4), classes=classes, where=first.place if first else "",
            matched=first.matched if first else "", hits=tuple(hits), protocol=broken, oddities=tuple(request.oddities),
            worked=outcome.worked, why_worked=outcome.why,
        )  # fmt: skip


# What programs call the parameter they run, and the one they open.
_RUNS = frozenset("cmd exec command execute shell run ping cmdline commandline daemon upload_cmd system syscmd".split())
_OPENS = frozenset(
    "file page include inc path dir doc document folder template tpl pg root style pdf module mod view content layout load show body skin "
    "theme abspath base download filename filepath src read retrieve cat board locate conf site display panel open".split()
)
_FOREIGN = re.compile(
    r"\s{0,4}(?:url:)?(?:https?|ftps?|sftp|smb|file|ogg|gopher|ldaps?):/{1,3}([^/?#\s:]{1,200})", re.IGNORECASE
)


def named_sinks(request: Request, fields: list[Field]) -> list[Hit]:
    """A bare command in a parameter that is run, a stranger's address in one that is opened: the name says what the value cannot.

    >>> r = Request(id="1", method="GET", url="/a?cmd=whoami&page=http://evil.example/x&q=whoami&url=http://evil.example")
    >>> [(h.cls, h.place) for h in named_sinks(r, r.fields())]
    [('cmdi', 'query:cmd'), ('rfi', 'query:page')]
    """
    found: list[Hit] = []
    for field in fields:
        name = field.name
        if not name or len(name) > 12 or field.place not in ("query", "form", "json", "part"):
            continue
        low = name.lower()
        if low in _RUNS and _runs(field.value):
            text = Text(field, "value", "", field.value)
            found.append(
                _hit("command_by_name", "cmdi", "A command in a parameter for commands", 0.6, text, field.value)
            )
        elif low in _OPENS and _is_foreign(request, field):
            text = Text(field, "value", "", field.value)
            found.append(
                _hit("rfi_by_name", "rfi", "A stranger's address in a parameter for files", 0.55, text, field.value)
            )
    return found


def _runs(value: str) -> bool:
    word = value[:60].strip("'\"; |&(").partition(" ")[0].lower().removesuffix(".exe").rpartition("/")[2]
    return word in shell.CLEAR or word in shell.WORDS


def _is_foreign(request: Request, field: Field) -> bool:
    if ":" not in field.value[:16]:
        return False
    found = _FOREIGN.match(field.value)
    if found is None:
        return False
    own, there = request.host.partition(":")[0].split("."), found.group(1).lower().rpartition("@")[2].split(".")
    return field.place == "query" and there[-2:] != own[-2:]


def _is_all(grammar: Grammar, found: sql.Found, text: Text) -> bool:
    """Is a header nothing but a command? What is a weak sign within a sentence is none of a browser's words here."""
    return (
        grammar.cls == "cmdi"
        and text.kind in ("agent", "header")
        and (text.text[:1] in ";|`&$" or found.kind in shell.WHOLE)
        and text.text.startswith(found.matched[:40])
    )


def _has_lines(text: str) -> bool:
    return "\n" in text or "\r" in text


def _texts(fields: list[Field]) -> list[Text]:
    found: list[Text] = []
    for field in fields:
        kind = KIND[field.place]
        if kind == "header":
            kind = HEADER_KIND.get(field.name, kind)
        value = field.value
        if not value:
            continue
        found.append(Text(field, kind, "", value))
        if kind == "document":
            continue
        if kind == "file" and (trimmed := _DOTS.sub(".", value.strip())) != value:
            found.append(Text(field, kind, "spaces", trimmed))
        if kind == "agent" and "+" in value and "?" in value:
            found.append(Text(field, kind, "plus", unquote(value, True)))
        if (len(value) > 11 or not value.isalnum()) and _WRAPPED.search(value):
            found += [Text(field, kind, v.how, v.text) for v in views(value)[1:]]
        if len(value) > 9 and _may_hide(field, kind) and (inner := inner64(value)):
            found.append(Text(field, kind, "base64", inner))
    return found


def _may_hide(field: Field, kind: str) -> bool:
    """Could base64 stand here that is not for the browser's or the shop's own use?"""
    return kind not in ("agent", "path") and (kind != "header" or field.name not in PLAIN_HEADERS)


_DOTS = re.compile(r"\s*\.\s*")


def _bytes_at(text: Text, span: tuple[int, int]) -> str:
    raw, low = text.text.encode("utf-8", "surrogatepass"), text.low
    raw = raw if len(raw) == len(low) else low
    return raw[slice(*span)].decode("utf-8", "replace")


def _hit(rule: str, cls: str, title: str, score: float, text: Text, matched: str) -> Hit:
    field = text.field
    place = f"{field.place}:{field.name[:64]}" if field.name else field.place
    return Hit(rule=rule, cls=cls, title=title, score=score, place=clean(place), how=text.how, matched=shown(matched))


_SECRET = re.compile(
    r"\d(?:[ -]?\d){11,18}|[\w.+-]{1,64}@[\w-]{1,63}\.[\w.-]{2,63}|(?<=[A-Za-z0-9+/_-]{24})[A-Za-z0-9+/_-]+"
)


def shown(text: str) -> str:
    """A match as it may be shown: cut, control characters escaped, long numbers, mail addresses and long tokens masked.

    >>> shown("' or card='4111 1111 1111 1111'\\n")
    "' or card='***'\\\\n"
    """
    text = _SECRET.sub("***", clean(text[:SHOWN]))
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def evidence_of(request: Request, verdict: Verdict, classes: dict[str, AttackClass]) -> Evidence:
    """The verdict as evidence about who sent the request: the account when known, else the address."""
    techniques = tuple(dict.fromkeys(t for c in verdict.classes for t in classes[c].techniques))
    who = f"account:{request.account}" if request.account else f"ip:{request.ip or 'unknown'}"
    titles = ", ".join(classes[c].title for c in verdict.classes)
    worked = f"; it {_WORKED[verdict.worked]} ({verdict.why_worked})" if verdict.worked in _WORKED else ""
    return Evidence(
        source=f"traffic:{verdict.classes[0]}", what=f"{titles} in {verdict.where} of {request.method} {shown(request.path[:80])}{worked}",
        entity=who, feature=verdict.where, value=verdict.matched, threshold=f">= {THRESHOLD}", event_ids=(request.id,),
        techniques=techniques, confidence=verdict.score, ts=request.ts or 0,
    )  # fmt: skip


_WORKED = {"yes": "worked", "likely": "probably worked", "no": "did not work", "blocked": "was blocked"}
