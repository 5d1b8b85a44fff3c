"""Would a template engine or an expression language compute something because of this value?

Only what stands between an engine's delimiters is read, and only what computes counts: arithmetic, calls, reflection, filters that
reach objects. `{{ name }}` and `${price}` are what shops write themselves, and say nothing.
"""

from __future__ import annotations

import re

from shopward.traffic.attacks.sql import Found

_OPENING = re.compile(r"\{\{|\{%|\$\{|#\{|\*\{|~\{|@\{|%\{|<%=?|\[\[|\[\(|\$!\{|@\(|\{php\}|\{#|<#")
_CLOSING = {
    "{{": "}}",
    "{%": "%}",
    "<%": "%>",
    "<%=": "%>",
    "[[": "]]",
    "[(": ")]",
    "@(": ")",
    "{php}": "{/php}",
    "<#": ">",
}
SPAN = 200  # characters between delimiters that are read
_MATHS = re.compile(r"^[\s'\"(=-]{0,6}\d{1,9}['\")]{0,3}\s{0,3}[*+/%-]{1,2}\s{0,3}['\"(]{0,3}\d{1,9}['\")\s;]{0,6}$")
_REFLECTION = re.compile(
    r"__\w{2,30}__|\.(?:getclass|forname|getruntime|constructor|mro|subclasses|getmethod|newinstance|invoke|getdeclared\w{0,20}|exec|classloader)\b"
    r"|\bt\(\s{0,4}(?:java|org|javax)\b|@java\.|#_memberaccess|#(?:context|application|session|request|attr|parameters|root|this)\b|new\s{1,4}(?:java|javax|org)\."
    r"|\|\s{0,4}(?:passthru|shell_exec|system|exec|popen|attr\b)|^\s{0,3}(?:with|each|lookup)\s{1,4}[\"'\w].{0,60}\bas\s{1,4}\||\|\s{0,4}(?:attr|map|select|filter|reduce|sort|join|format|e|safe|shell_exec|system|passthru|file_excerpt)\s{0,4}\("
    r"|\b(?:cycler|lipsum|joiner|namespace|url_for|get_flashed_messages|self\._|config\.(?:items|from|__class)|request\.(?:application|environ|args|__class)|_self\.env)\b"
    r"|\b(?:global|process|require|mainmodule|child_process|import)\s{0,3}[.(\[]|\?(?:new|eval|api|interpret)\b|freemarker|\.\s{0,3}(?:system|popen|spawn\w{0,4})\s{0,3}\(",
    re.IGNORECASE,
)  # fmt: skip
_CALL = re.compile(
    r"[a-z_]\w{0,40}(?:\.[a-z_]\w{0,40}){1,8}\s{0,3}\(|\b(?:system|exec|eval|print|range|dump|include|import|require|file_get_contents|passthru|phpinfo|open|popen|read|env|sleep|constructor|set|self|config|app|debug)\s{0,3}\(",
    re.IGNORECASE,
)
_STATEMENT = re.compile(
    r"^\s{0,4}-?\s{0,4}(?:if|for|set|import|include|extends|block|macro|from|with|debug|raw|php|assign|load|autoescape|filter)\b"
)
_DIRECTIVE = re.compile(
    r"#(?:set|foreach|evaluate|include|parse|macro|if|define)\s{0,4}\(|<#assign|<@\w|\{php\}|\{system\(|@\{?\s{0,3}(?:import|page|namespace)\s{0,3}['u({]|<c:set|<j:|th:\w{1,20}=|\$smarty\.",
    re.IGNORECASE,
)
_LOOKUP = re.compile(
    r"\$\{[^{}]{0,20}(?:\b(?:jndi|lower|upper|env|sys|java|date|main|ctx|script|dns|url|base64|const|file|properties|web|k8s)\b[^{}]{0,10}:|::-)",
    re.IGNORECASE,
)
_NAMES = re.compile(
    r"^\s{0,3}\*?(?:config|self|request|session|settings|app|this|namespace|debug|constructor)\s{0,3}\}?$",
    re.IGNORECASE,
)


def find(text: str) -> Found | None:
    """The strongest sign of a template or expression that computes.

    >>> find("{{7*7}}").kind, find("{{''.__class__.__mro__}}").kind, find("Dear {{ customer_name }}, you save ${price}")
    ('template arithmetic', 'template reflection', None)
    """
    best: Found | None = None
    found = _LOOKUP.search(text)
    if found:
        return Found("lookup", 0.95, text[found.start() : found.start() + 200])
    for match in _OPENING.finditer(text):
        now = _inside(match.group(), match.end(), text)
        if now is not None and (best is None or now.score > best.score):
            best = now
    if best is None or best.score < 0.7:
        found = _DIRECTIVE.search(text)
        if found:
            best = Found("template directive", 0.75, text[found.start() : found.start() + 200])
    return best


def _inside(opening: str, start: int, text: str) -> Found | None:
    """What stands behind one opening delimiter, up to its closing one or the near end of the text."""
    end = text.find(_CLOSING.get(opening, "}"), start, start + SPAN)
    if end < 0 and len(text) - start > SPAN:
        return None
    closed, inside = end >= 0, text[start : end if end >= 0 else len(text)].lstrip("{[(~#*@!-")
    where = text[start - len(opening) : start + SPAN]
    if _MATHS.match(inside):
        return Found("template arithmetic", 0.85 if opening != "@(" else 0.6, where)
    if _REFLECTION.search(inside):
        return Found("template reflection", 0.92, where)
    if _CALL.search(inside) and opening not in ("[[", "[(", "@(", "{#"):
        return Found("template call", 0.75, where)
    if opening == "{%" and _STATEMENT.match(inside):
        return Found("template statement", 0.65, where)
    if opening in ("<%", "<%=") and inside.strip() and closed:
        return Found("server script", 0.8, where)
    if opening in ("{{", "${", "#{", "%{") and _NAMES.match(inside):
        return Found("template object", 0.6, where)
    return None
