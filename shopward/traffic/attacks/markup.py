"""Does this value bring HTML or script that a browser would run? Decided by reading it as markup, not by words.

A value is read as it stands, as the rest of an attribute, and as the rest of a script string. Tags and attributes count when a
browser would run something because of them: `<b>bold</b>` and `a < b` do not.
"""

from __future__ import annotations

import re

from shopward.traffic.attacks.sql import Found
from shopward.traffic.attacks.words import words

_TAG = re.compile(r"<[\s/\x00]{0,4}([a-zA-Z!?%][\w:!?%\x00-]{0,40})([^<>]*+)(>?)")
_ATTRIBUTE = re.compile(
    r"""([^\s"'<>/=\x00]{1,40})[\s\x00]{0,20}=[\s\x00]{0,20}("[^"]*+"?|'[^']*+'?|`[^`]*+`?|[^\s>]{0,2000})"""
)
_CONTROL = re.compile(r"[\x00-\x20\x7f]+")
_SCRIPT_URL = re.compile(
    r"(?:javascript|vbscript|livescript|mocha|jscript):|data:(?:text/html|text/xml|application/xhtml|image/svg\+xml|text/javascript|,)|data:;base64,"
)
_HANDLER = re.compile(r"on[a-z]{3,30}")

RUNS = words("html_elements_that_run")
_COMMENT = re.compile(r"/\*[^*]{0,100}\*{1,2}/|\\")
_ELEMENT_BREAKOUT = re.compile(r"""^[^<]{0,200}["'`]\s{0,4}/?>\s{0,4}<[a-zA-Z!/]""")
LOADS = words("html_elements_that_load")
_LOADING = re.compile(
    r"autofocus|formaction|javascript|\bsrc\s{0,4}=\s{0,4}[\"']?(?://|x\b|1\b|data)|background|onerror", re.IGNORECASE
)
URLS = words("html_attributes_with_addresses")
HANDLERS = words("html_event_handlers")

_SINK = (
    r"(?:alert|confirm|prompt|eval|settimeout|setinterval|function|execscript|atob|fetch|import|print|write(?:ln)?|expression|"
    r"fromcharcode|open|\$|jquery|getscript|postmessage|requestanimationframe|xmlhttprequest|constructor)"
)
_CALL = re.compile(
    rf"{_SINK}[\s\x00]{{0,4}}(?:/\*[^*]{{0,20}}\*/)?(?:\(|`|\?\.\(|&lpar;|&#40;)|\.(?:call|apply|bind)\s{{0,3}}[(`]",
    re.IGNORECASE,
)
_OBJECT = re.compile(
    r"\b(?:document|window|self|top|parent|frames|globalthis|this|location|navigator|localstorage|sessionstorage)\s{0,3}"
    r"(?:\.\s{0,3}(?:cookie|domain|write(?:ln)?|location|body|url|documentelement|forms|images|innerhtml|referrer|open|href|name|replace|"
    r"assign|hash|search|alert|eval|constructor|defaultview|getelement\w{0,20}|createelement|queryselector\w{0,4}|sendbeacon|setitem|getitem|"
    r"prompt|confirm|opener|parent|top)\b|\[\s{0,3}[\"'`/(])",
    re.IGNORECASE,
)  # fmt: skip
_BREAKOUT = re.compile(
    rf"""^[^"'`]{{0,200}}["'`]\s{{0,5}}(?:[-+*/^|&,;?:<>)\]}}=]|in\b|instanceof\b){{1,6}}\s{{0,5}}[\[({{!~+-]{{0,6}}(?:{_SINK}[\s]{{0,4}}[(`\[]|(?:document|window|self|top|parent|location|this|import|throw|new|var|let|const|function)\b)""",
    re.IGNORECASE,
)  # fmt: skip
_ATTRIBUTE_BREAKOUT = re.compile(
    r"""(?:^|["'`\s/;,(\x0b\x0c]|(?<=[0-9=]))\s{0,8}/?\s{0,8}(on[a-z]{3,30})[\s\x00]{0,20}=[\s\x00]{0,20}(\S[^>]{0,200})""",
    re.IGNORECASE,
)
_LIKE_SCRIPT = re.compile(
    r"""[\w$.\])]\s{0,3}[(`]|=\s{0,3}[\w"'(/]|javascript:|\\u00|&#|\bthrow\b|;|\+""", re.IGNORECASE
)
_OBFUSCATED = re.compile(
    r"(?:\[\]|\(!|!\[|\+\[|\[!|\{\}|!\+|\(\[){6}|\[\][(\[+][\[\](){}!+]{12}|(?:\\x[2-7][0-9a-f]){4}|゚ω゚", re.IGNORECASE
)
_PROPERTY = re.compile(
    r"""(?:self|window|top|this|parent|frames|globalThis|\))\s{0,3}\[[^\]]{1,60}\]\s{0,3}[(\[`]|\[["'`]\w{0,20}["'`]\s{0,3}\+""",
    re.IGNORECASE,
)
_CSS = re.compile(
    r"expression\s{0,4}\(|-moz-binding|behaviou?r\s{0,4}:|@import|url\s{0,4}\(\s{0,4}[\"']?\s{0,4}(?:javascript|vbscript|data):|\\0{0,4}6[5]\\?x?p",
    re.IGNORECASE,
)
# Markup in US-ASCII with the highest bit set, which old browsers read without it.
_HIGH_BIT = re.compile(
    r"\xbc/?(?:script|img|iframe|svg|body|object|a\b|style|meta|link)[^\xbe]{0,200}\xbe|\xbc[a-z]{1,12}[^\xbe]{0,100}\xbe[^\xbc]{0,100}\xbc/",
    re.IGNORECASE,
)
_UTF7 = re.compile(r"\+ADw-\s{0,4}(?:/?[a-z]{1,20})", re.IGNORECASE)
_DIRECTIVE = re.compile(
    r"<!--\s{0,8}#\s{0,8}(?:exec|include|echo|config|printenv|fsize|flastmod)\b|<esi:(?:include|inline|debug|vars|remove)\b",
    re.IGNORECASE,
)


def find(text: str) -> Found | None:
    """The strongest sign of script or active markup in a value.

    >>> find("<img src=x onerror=alert(1)>").kind, find('" autofocus onfocus=alert(1) x="').kind, find("'-alert(1)-'").kind
    ('event handler', 'event handler out of an attribute', 'script out of a string')
    >>> find("I <3 this <b>lamp</b>, 5 < 6 and a > b"), find("on sale = yes")
    (None, None)
    """
    best: Found | None = None
    if "<" in text:
        best = _tags(text)
    for look in _OTHERS:
        if best is not None and best.score >= 0.9:
            break
        found = look(text)
        if found is not None and (best is None or found.score > best.score):
            best = found
    return best


def _tags(text: str) -> Found | None:
    best: Found | None = None
    found = _DIRECTIVE.search(text)
    if found:
        return Found("server directive", 0.85, _cut(text, found.start()))
    found = _ELEMENT_BREAKOUT.match(text)
    if found:
        best = Found("element out of an attribute", 0.6, _cut(text, found.end() - 2))
    for match in _TAG.finditer(text):
        now = _tag(match, text)
        if now is not None and (best is None or now.score > best.score):
            best = now
            if best.score >= 0.95:
                break
    return best


def _tag(match: re.Match[str], text: str) -> Found | None:
    name, inside, end = match.groups()
    name = name.replace("\x00", "").lower()
    where = _cut(text, match.start())
    slashed = "/" + name in match.group().lower()
    if ":" in name and name.split(":")[-1] in RUNS:
        return Found("active element", 0.85, where)
    if name.endswith(("vmlframe", ":vmlframe", "t:set")):
        return Found("active element", 0.85, where)
    if "/" in name or name.startswith(("script", "svg", "iframe")) or name in RUNS:
        if slashed and not inside.strip():
            return (
                Found("closing an active element", 0.55, where)
                if name in ("script", "style", "title", "textarea", "noscript", "iframe")
                else None
            )
        if name == "script" or inside.strip() or end:
            return Found(
                "script element" if name == "script" else "active element", 0.95 if name == "script" else 0.8, where
            )
    verdict = _attributes(inside, where)
    if verdict is not None:
        return verdict
    if name in ("!entity", "!doctype", "!attlist", "!element"):
        return Found("document type", 0.4, where) if name == "!doctype" else Found("entity declaration", 0.75, where)
    if name in ("?xml-stylesheet", "?php", "?", "?="):
        return Found("processing instruction", 0.6, where)
    if name == "style" and not slashed:
        return Found("style element", 0.6, where)
    if name in LOADS and _LOADING.search(inside):
        return Found("loading element", 0.6, where)
    if (
        name in ("link", "form", "marquee", "bgsound", "layer", "ilayer", "keygen", "isindex", "dialog", "details")
        and inside.strip()
    ):
        return Found("loading element", 0.55, where)
    return None


def _attributes(inside: str, where: str) -> Found | None:
    if "=" not in inside:
        return None
    for match in _ATTRIBUTE.finditer(inside):
        name, value = match.group(1).lower().strip("\"'`"), match.group(2).strip("\"'`")
        if name in HANDLERS or (_HANDLER.fullmatch(name) and _LIKE_SCRIPT.search(value)):
            return Found("event handler", 0.96, where)
        if name in URLS or ":" in name:
            if _SCRIPT_URL.match(_CONTROL.sub("", value).lower()):
                return Found("script address", 0.95, where)
            if name == "srcdoc" or (name == "style" and _CSS.search(_COMMENT.sub("", value))):
                return Found("script in an attribute", 0.9, where)
    return None


def _attribute_breakout(text: str) -> Found | None:
    found = _ATTRIBUTE_BREAKOUT.search(text)
    if not found or not _quoted_or_start(text, found):
        return None
    name, value = found.group(1).lower(), found.group(2)
    known = name in HANDLERS
    if known and (_CALL.search(value) or _OBJECT.search(value) or _OBFUSCATED.search(value)):
        return Found("event handler out of an attribute", 0.93, _cut(text, found.start()))
    if known and _LIKE_SCRIPT.search(value) and re.search(r"[\"'`/]", text[: found.start() + 1]):
        return Found("event handler out of an attribute", 0.8, _cut(text, found.start()))
    if known or _CALL.search(value):
        return Found("event handler out of an attribute", 0.55 if known else 0.6, _cut(text, found.start()))
    if (
        len(name) > 5
        and name not in _ON_WORDS
        and value[0] != "="
        and (found.start(1) == 0 or not text[found.start()].isalnum())
    ):
        return Found("something like an event handler", 0.5, _cut(text, found.start()))
    return None


# What people write with `on` and might put an equals sign behind.
_ON_WORDS = frozenset(
    "once ones only onto onion onions online ongoing onboard onboarding onset onsite onshore onside onward onwards onyx oncoming onlooker "
    "onslaught onstage ontario ontime onsale onoff onetime oneself oneway onepiece onesize oncall onhand onorder onrequest onpremise onprem "
    "onstock onlinestore onlineshop ondemand ontology ontrack ontop onthego onsies onesie onesies onscreen onair onhold".split()
)


def _quoted_or_start(text: str, found: re.Match[str]) -> bool:
    return (
        found.start() == 0
        or text[found.start()] in "\"'`/ \t\r\n\x0b\x0c\x00;,("
        or text[found.start() - 1] in "0123456789="
    )


def _address(text: str) -> Found | None:
    """A value that is a script address, or has one where addresses begin."""
    if ":" not in text:
        return None
    head = _CONTROL.sub("", text[:4000]).lower()
    found = re.match(
        r"[\"'=(>]{0,3}(?:url\()?((?:java|vb|live)script|mocha|jscript|view-source|feed:javascript):(.{0,300})",
        head,
        re.DOTALL,
    )
    if found:
        rest = found.group(2)
        scripted = _CALL.search(rest) or _OBJECT.search(rest) or re.search(r"[(`=\[/;%]", rest)
        return Found("script address", 0.9 if scripted else 0.4, _cut(text, 0))
    found = re.search(
        r"data:(?:text/html|text/xml|application/xhtml\+xml|image/svg\+xml|text/javascript|application/javascript)[;,]",
        head,
    )
    if found:
        return Found("document in an address", 0.75, _cut(text, 0))
    found = re.search(r"(?:javascript|vbscript):[^\s]{0,4}[\w$.]{1,30}[(`=]", head)
    return Found("script address", 0.75, _cut(text, 0)) if found else None


def _string_breakout(text: str) -> Found | None:
    found = _BREAKOUT.search(text)
    return Found("script out of a string", 0.88, _cut(text, found.start())) if found else None


# A function handed to a method that calls it, text that becomes code, markup that is written into the page.
_HANDED = re.compile(
    r"\]\s{0,3}\.\s{0,3}(?:find(?:index|last)?|map|some|every|sort|filter|foreach|reduce(?:right)?|flatmap)\s{0,3}[(`]\s{0,3}[\"'\[]?(?:alert|confirm|prompt|eval|fetch|print|document|window|self|top|function|\w{1,20}\s{0,3}=>)"
    r"|\b(?:settimeout|setinterval|execscript|setimmediate)\s{0,3}(?:\(\s{0,3}[\"'`]|`)|\bconstructor\s{0,3}(?:\(\s{0,3}[\"'`]|`|\.)|(?:\$|jquery)\s{0,3}\.\s{0,3}(?:getscript|globaleval|parsehtml|ajax)\s{0,3}\("
    r"|\bimport\s{0,3}\(\s{0,3}[\"'`]|\b(?:alert|confirm|prompt|eval|atob|import)\s{0,3}`|\.(?:inner|outer)html\s{0,3}[+]?=|\binsertadjacenthtml\b|\bsrcdoc\s{0,3}=|\bcreatecontextualfragment\b|\bstring\.fromcharcode\s{0,3}\("
    r"|\bnew\s{1,4}(?:image|function|activexobject|xmlhttprequest|websocket|worker|eventsource)\b\s{0,3}[(.;]|\bthrow\s{1,4}\w{1,20}\s{0,3}=|(?:^|[;,({\"'`])\s{0,3}(?:on[a-z]{3,20}|location|name)\s{0,3}=\s{0,3}(?:alert|eval|confirm|prompt|atob|[\"'`]javascript)"
    r"|\b(?:addeventlistener|attachevent)\s{0,3}\(|\bwith\s{0,3}\(\s{0,3}(?:document|window|location)|\breturn\s{1,4}(?:alert|eval|confirm|prompt)\s{0,3}[(`]",
    re.IGNORECASE,
)  # fmt: skip


def _script(text: str) -> Found | None:
    """Script that stands bare in the value: one sign alone may be talk about script, two are script."""
    handed = _HANDED.search(text)
    if handed:
        return Found("script that makes code", 0.7, _cut(text, handed.start()))
    call, object_ = _CALL.search(text), _OBJECT.search(text)
    obfuscated = _OBFUSCATED.search(text) or _PROPERTY.search(text)
    if obfuscated:
        return Found(
            "obfuscated script", 0.8 if call or object_ or text.count("[") > 6 else 0.6, _cut(text, obfuscated.start())
        )
    if call and object_:
        return Found("script", 0.8, _cut(text, min(call.start(), object_.start())))
    if object_:
        assigned = re.search(
            r"^\s{0,4}[=(\[`+]|^\s{0,4}\.\s{0,3}\w{1,30}\s{0,3}[=(]", text[object_.end() : object_.end() + 60]
        )
        return Found(
            "script object",
            0.7 if assigned or "cookie" in object_.group().lower() else 0.35,
            _cut(text, object_.start()),
        )
    if call and re.search(
        r"[(`]\s{0,3}(?:[\"'`/\d]|document|this|self|string\.|atob|\w{1,20}\s{0,3}[(.])",
        text[call.end() - 1 : call.end() + 40],
        re.IGNORECASE,
    ):
        alone = len(text) - len(call.group()) < 40
        popup = _POPUP.match(call.group())
        return Found("script call", (0.6 if alone else 0.55) if popup else 0.45, _cut(text, call.start()))
    return None


_POPUP = re.compile(
    r"(?:alert|confirm|prompt|eval|settimeout|setinterval|atob|execscript|fetch|fromcharcode)[(`]", re.IGNORECASE
)


def _styles(text: str) -> Found | None:
    found = _HIGH_BIT.search(text) if "\xbc" in text else None
    if found:
        return Found("markup with the high bit set", 0.85, _cut(text, found.start()))
    if "(" not in text and ":" not in text and "@" not in text and "+" not in text:
        return None
    found = _UTF7.search(text)
    if found:
        return Found("UTF-7 markup", 0.8, _cut(text, found.start()))
    found = re.search(
        r"(?:style|width|background)\s{0,4}[=:][^;]{0,60}(?:expression\s{0,4}\(|url\s{0,4}\(\s{0,4}[\"']?(?:javascript|vbscript):)|-moz-binding\s{0,3}:|behaviou?r\s{0,3}:\s{0,3}url",
        text,
        re.IGNORECASE,
    )
    return Found("script in a style", 0.8, _cut(text, found.start())) if found else None


_OTHERS = (_attribute_breakout, _address, _string_breakout, _script, _styles)


def _cut(text: str, start: int) -> str:
    return text[start : start + 200]
