"""What a path segment looks like on its own: an id that no name looks like, or a word that only its neighbours can explain."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote

from shopward.traffic.assets.words import ACTIONS, DOCUMENTS, LOCALE_LANGUAGES, NOUNS, STATIC, VERBS

WORD = ""  # the shape of what may be a name

_SHAPES = (
    ("int", re.compile(r"-?\d+")),
    ("uuid", re.compile(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")),
    ("date", re.compile(r"(?:19|20)\d\d[-_.]?(?:0[1-9]|1[0-2])[-_.]?(?:0[1-9]|[12]\d|3[01])(?:T[\d:.Z+\-]*)?|(?:19|20)\d\d-(?:0[1-9]|1[0-2])")),
    ("email", re.compile(r"[^@\s/]+@[^@\s/]+\.[A-Za-z]{2,}")),
    ("ip", re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")),
    ("number", re.compile(r"-?\d+\.\d+(?:,-?\d+\.\d+)?|\d+(?:[,_~]\d+)+")),
    ("hex", re.compile(r"(?=.*\d)[0-9a-f]{8,}|(?=.*\d)[0-9A-F]{8,}|[0-9a-f]{24,}")),
)  # fmt: skip
_VERSION = re.compile(r"[vV]\d{1,3}(?:[._]\d{1,3}){0,2}(?:(?:alpha|beta|rc)\d*)?|\d{4}-\d{2}(?:-\d{2})?-preview|latest")
_NAMES_WITH_DIGITS = re.compile(
    r"oauth\d?|h5|s3|b2b2?c?|c2c|b2c|o2o|p2p|3ds\d?|md5|sha\d+|web[23]|ipv[46]|l10n|i18n|a11y|utf8|http2|mp[34]|2fa|u2f|fido2|ga4|k8s|e2e|x509|base64|es6|es5|log4j2?|captcha\d|[a-z]{3,12}\d"
)
_CODE = re.compile(r"(?=[^\d]*\d)(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9]{5,64}")
_MARKED = re.compile(r"[A-Za-z]{1,8}[-_.](?=[A-Za-z0-9_\-]*\d)[A-Za-z0-9][A-Za-z0-9_\-]{2,63}")
_TOKEN = re.compile(r"[A-Za-z0-9_\-]{20,}={0,2}")
_SLUG = re.compile(r"[^\W_]+(?:-[^\W_]+)+", re.UNICODE)
_LOCALE = re.compile(r"([a-z]{2})(?:[-_]([A-Za-z]{2}|[A-Z][a-z]{3}|\d{3}))?")


@lru_cache(100_000)
def shape(segment: str) -> str:
    """The kind of id a decoded segment certainly is, or WORD.

    >>> [shape(s) for s in ("42", "550e8400-e29b-41d4-a716-446655440000", "2026-11-21", "SO20261121", "red-shirt-10233", "orders", "v2", "oauth2")]
    ['int', 'uuid', 'date', 'code', 'slug', '', '', '']
    """
    low = segment.lower()
    if low in NOUNS or low in ACTIONS or _VERSION.fullmatch(segment) or _done(segment):
        return WORD
    for name, form in _SHAPES:
        if form.fullmatch(segment):
            return name
    if _NAMES_WITH_DIGITS.fullmatch(low):
        return WORD
    if _CODE.fullmatch(segment):
        return "code" if sum(c.isdigit() for c in segment) >= 2 or len(segment) >= 8 else WORD
    if _SLUG.fullmatch(segment):
        return _slug(low)
    if _MARKED.fullmatch(segment):
        return "code" if sum(c.isdigit() for c in segment) >= 3 else WORD
    if _TOKEN.fullmatch(segment) and any(c.isdigit() for c in segment):
        return "token"
    return WORD


def _slug(low: str) -> str:
    """Words joined by hyphens: certainly somebody's with a number at an end, or when long."""
    parts = low.split("-")
    if (
        (parts[-1].isdigit() or parts[0].isdigit())
        and len(parts) > 1
        and not all(p in NOUNS or p in ACTIONS for p in parts if not p.isdigit())
    ):
        return "slug" if len(max(parts, key=len)) > 1 else "code"
    if len(parts) >= 2 and any(
        len(p) >= 4 and any(c.isdigit() for c in p) and any(c.isalpha() for c in p) for p in parts
    ):
        return "code" if len(parts) <= 2 else "slug"
    if len(parts) >= 4 and not all(p in NOUNS or p in ACTIONS for p in parts):
        return "slug"
    return WORD


def is_locale(segment: str) -> bool:
    """Is it a language, maybe with a region?

    >>> is_locale("en"), is_locale("zh-CN"), is_locale("pt_BR"), is_locale("me")
    (True, True, True, False)
    """
    found = _LOCALE.fullmatch(segment)
    return bool(found and found[1] in LOCALE_LANGUAGES)


def is_name(segment: str) -> bool:
    """Is it a word, or a compound, that interfaces are made of?

    >>> is_name("orders"), is_name("order-items"), is_name("deny-offer"), is_name("getUserInfo"), is_name("nike")
    (True, True, True, True, False)
    """
    low = segment.lower()
    if low in NOUNS or low in ACTIONS or _VERSION.fullmatch(segment) or _done(segment):
        return True
    return all(p in NOUNS or p in ACTIONS for p in re.split(r"[-_]", low))


_FIRST = re.compile(r"([A-Za-z][a-z]+)(?=[-_][A-Za-z]|[A-Z])")


def _done(segment: str) -> bool:
    """Is it a compound that starts with a verb and has no digits?"""
    found = _FIRST.match(segment)
    return bool(found and found[1].lower() in VERBS and not any(c.isdigit() for c in segment))


def split_path(path: str) -> list[tuple[str, str]]:
    """A raw path as (segment, ending) pairs: decoded, matrix parameters and empty segments taken out.

    The ending is a file's (`.html`) or a custom verb's (`:cancel`), which belongs to the interface, not to the id.

    >>> split_path("/shop/%E7%BA%A2/12;v=2/photo_7.jpg"), split_path("/v1/orders/42:cancel")
    ([('shop', ''), ('红', ''), ('12', ''), ('photo_7', '.jpg')], [('v1', ''), ('orders', ''), ('42', ':cancel')])
    """
    out = []
    for raw in path.split("/"):
        bare = raw.partition(";")[0]
        if not bare:
            continue
        segment = unquote(bare, errors="replace") if "%" in bare else bare
        head, colon, verb = segment.rpartition(":")
        if colon and head and verb.isalpha():
            out.append((head, ":" + verb))
            continue
        stem, dot, ending = segment.rpartition(".")
        if dot and stem and ending.lower() in STATIC | DOCUMENTS:
            out.append((stem, "." + ending.lower()))
        else:
            out.append((segment, ""))
    return out
