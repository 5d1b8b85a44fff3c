"""What a value says once its wrapping is taken off: URL, HTML entity, Unicode escape, full-width and base64 decoding.

Attackers wrap a payload so that a filter reads something else than the program behind it. `views` unwraps a value step by step, at
most NESTING deep and within a budget of bytes, so the work grows with the length of the value and with nothing else.
"""

from __future__ import annotations

import binascii
import re
import zlib
from collections.abc import Iterator
from html.entities import html5
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

NESTING = 5  # wrappings taken off one value
INFLATED = 1 << 20  # bytes a compressed body may become
EXTRA = 4096  # bytes that the views of a small value may have, beside NESTING times its length


class View(NamedTuple):
    """A value after some unwrapping; `how` names the steps, outermost first: `url`, `url+html`."""

    text: str
    how: str


_OVERLONG = re.compile(
    rb"[\xc0\xc1][\x80-\xbf]|\xe0[\x80-\x9f][\x80-\xbf]|\xf0[\x80-\x8f][\x80-\xbf]{2}|\xf8[\x80-\x87][\x80-\xbf]{3}"
)
_ENTITY = re.compile(r"&(?:#0*+(\d{1,7})|#[xX]0*+([0-9a-fA-F]{1,6})|([A-Za-z][A-Za-z0-9]{1,31}));?")
_ESCAPE = re.compile(
    r"\\u([0-9a-fA-F]{4})|\\u\{0{0,8}([0-9a-fA-F]{1,6})\}|%u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})|\\([0-3][0-7]{2})"
)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{12,}={0,2}")
_MARKED = re.compile(r"(?:;base64,|Basic )\s?([A-Za-z0-9+/_-]{8,}={0,2})")
_MIXED = re.compile(r"(?=.{0,400}[a-z])(?=.{0,400}[A-Z0-9])", re.DOTALL)
# Letters that databases and browsers take for ASCII: the full-width block, and quotes that "best fit" conversion makes plain.
_WIDTH: dict[int, int | str | None] = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {
    0x3000: 32, 0x2018: 39, 0x2019: 39, 0x02B9: 39, 0x02BC: 39, 0x2032: 39, 0x201C: 34, 0x201D: 34, 0x2033: 34, 0x02BA: 34,
    0xFE64: 60, 0xFE65: 62, 0x2039: 60, 0x203A: 62, 0x2329: 60, 0x232A: 62, 0xFE6B: 64, 0x2215: 47, 0x2044: 47, 0x29F5: 92,
    0xFE68: 92, 0x2216: 92, 0x2024: 46, 0xFF61: 46, 0x24EA: 48, 0x00A0: 32, 0x200B: None, 0x200C: None, 0x200D: None, 0xFEFF: None, 0x00AD: None,
    0x00B4: 39, 0x3002: 46,
} | {0x2460 + i: str(i + 1) for i in range(20)} | {0x24B6 + i: 65 + i for i in range(26)} | {0x24D0 + i: 97 + i for i in range(26)}  # fmt: skip


def text_of(raw: bytes) -> str:
    """Bytes as text: UTF-8, else Latin-1, so that no byte is lost and none makes the text unwritable.

    >>> text_of(b"caf\\xc3\\xa9"), text_of(b"caf\\xe9")
    ('café', 'café')
    """
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def clean(text: str) -> str:
    """Text that can be written anywhere: lone surrogates become the replacement character.

    >>> clean("a\\ud800b")
    'a\ufffdb'
    """
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def unquote(text: str, plus: bool = False) -> str:
    """Percent decoding, of forms with `plus`; overlong UTF-8, which only attackers write, is read as what it hides.

    >>> unquote("%27+or%201", plus=True), unquote("..%c0%af")
    ("' or 1", '../')
    """
    if plus and "+" in text:
        text = text.replace("+", " ")
    if "%" not in text:
        return text
    raw = unquote_to_bytes(text)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return text_of(_OVERLONG.sub(_short, raw))


def _short(found: re.Match[bytes]) -> bytes:
    first, *rest = found.group()
    code = (first & 1) << 6 | rest[0] & 0x3F if len(rest) == 1 else 0
    for byte in rest[len(rest) == 1 :]:
        code = code << 6 | byte & 0x3F
    return bytes((code,)) if code < 128 else found.group()


def unescape_html(text: str) -> str:
    """HTML entities, also without their semicolon.

    >>> unescape_html("&lt;img src&#x3d;x onerror&#0000061;alert&lpar;1&rpar;&gt;")
    '<img src=x onerror=alert(1)>'
    """
    return _ENTITY.sub(_entity, text) if "&" in text else text


def _entity(found: re.Match[str]) -> str:
    decimal, hexadecimal, name = found.groups()
    if name:
        return html5.get(name + ";") or _SPACES.get(name.lower()) or found.group()
    code = int(decimal) if decimal else int(hexadecimal, 16)
    return _letter(code, found.group())


_SPACES = {"tab": "\t", "newline": "\n"}  # browsers read these in any case where they end in a semicolon


def _letter(code: int, other: str) -> str:
    return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else other


def unescape_unicode(text: str) -> str:
    r"""Escapes of JavaScript, JSON, IIS and C: \u0027, \u{27}, %u0027, \x27, \047.

    >>> unescape_unicode(r"\u003cscript%u003e\x27")
    "<script>'"
    """
    return _ESCAPE.sub(_escape, text) if "\\" in text or "%u" in text else text


def _escape(found: re.Match[str]) -> str:
    if found.group(5):
        return chr(int(found.group(5), 8))
    digits = next(g for g in found.groups() if g)
    return _letter(int(digits, 16), found.group())


def narrow(text: str) -> str:
    """Full-width and look-alike letters as ASCII.

    >>> narrow("＜script＞ ‘ or １")
    "<script> ' or 1"
    """
    return text if text.isascii() else text.translate(_WIDTH)


def unbase64(text: str) -> str | None:
    """The text in a base64 value, None when it is no text or no base64.

    >>> unbase64("PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg=="), unbase64("ordinaryproductname")
    ('<script>alert(1)</script>', None)
    """
    if len(text) < 12 or not _BASE64.fullmatch(text) or not _MIXED.match(text):
        return None
    return _decode64(text)


def _decode64(text: str) -> str | None:
    body = text.rstrip("=").replace("-", "+").replace("_", "/")
    if len(body) % 4 == 1:
        return None
    try:
        raw = binascii.a2b_base64(body + "=" * (-len(body) % 4))
        found = raw.decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    odd = sum(not c.isprintable() and c not in "\t\r\n" for c in found[:1000])
    return found if odd * 10 <= min(len(found), 1000) else None


_WORDS64 = re.compile(
    rb"runtime|processbuilder|forclosure|transformer|closure|prototype\w{5,13}factory|instantiatefactory|java[./](?:lang|io|net|util|rmi|beans)|javax[./]"
    rb"|org[./](?:apache|spring|codehaus)|filewriter|xmldecoder|getproperty|badattributevalue|templatesimpl|objectinputstream|<script|<\?php"
    rb"|/etc/passwd|/bin/(?:ba)?sh|union\s{1,4}select|eval\(|system\(|child_process|powershell|\$\{jndi",
    re.IGNORECASE,
)
_RUN64 = re.compile(r"[A-Za-z0-9+/_-]{10,}")
_CASES64 = re.compile(r"[a-z0-9+/_][A-Z][A-Za-z0-9+/_-]{0,40}[a-z0-9+/_][A-Z]")  # no words are written like this
LONGEST64 = 1 << 16  # characters of one run that are tried


def inner64(text: str) -> str | None:
    """What a dangerous word hides in: base64 of bytes, or a piece cut out of base64 at any place.

    >>> inner64("AABQcm9jZXNzQnVpbGRlcg"), inner64("9f8a7c6b5e4d3c2b1a09")
    ('ProcessBuilder', None)
    """
    if not _CASES64.search(text):
        return None
    for run in _RUN64.finditer(text):
        letters = run.group()[:LONGEST64].replace("-", "+").replace("_", "/")
        for lost in range(4):  # letters that stood before the piece was cut out; what they said is not needed
            piece = "A" * lost + letters
            raw = binascii.a2b_base64(piece + "A" * (-len(piece) % 4))
            found = _WORDS64.search(raw)
            if found:
                around = raw[max(0, found.start() - 100) : found.end() + 200].decode("latin-1")
                return "".join(c if c.isascii() and c.isprintable() else " " for c in around).strip()
    return None


def views(text: str, nesting: int = NESTING) -> list[View]:
    """The value itself and what it becomes, step by step; most values are plain and have one view.

    >>> [v.how for v in views("plain text")], views("%2527+or+1")[-1]
    ([''], View(text="'+or+1", how='url+url'))
    """
    found = [View(text, "")]
    if text.isalnum() and text.isascii() and len(text) < 12:
        return found
    budget = nesting * len(text) + EXTRA
    waiting = [(text, "", 0)]
    while waiting:
        now, how, depth = waiting.pop()
        if depth == nesting:
            continue
        for new, step in _unwrap(now):
            budget -= len(new)
            if budget < 0:
                return found
            found.append(View(new, f"{how}+{step}" if how else step))
            waiting.append((new, found[-1].how, depth + 1))
    return found


def _unwrap(text: str) -> Iterator[tuple[str, str]]:
    new, steps = text, []
    for name, mark, step in _STEPS:
        if mark is None or mark in new:
            after = step(new)
            if after != new:
                new = after
                steps.append(name)
    if steps:
        yield new, "+".join(steps)
    found = unbase64(text)
    if found is not None:
        yield found, "base64"
    elif "ase" in text and (marked := _MARKED.search(text)):
        inner = _decode64(marked.group(1))
        if inner is not None:
            yield inner, "base64"


_STEPS = (
    ("url", "%", unquote),
    ("html", "&", unescape_html),
    ("unicode", None, unescape_unicode),
    ("width", None, narrow),
)


_NUMBER = re.compile(
    r"([/=](?:[A-Za-z]{2,4}[-_])?)\d{1,7}(?=[/&?]|$|\.[A-Za-z])"
    r"|([/=])(?![0-9a-f]{0,64}aced)(?=[0-9]{0,63}[a-f])(?:[0-9a-f]{16}|[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}"
    r"|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(?=[/&?]|$)"
)


def _zero(found: re.Match[str]) -> str:
    return (found[1] or found[2]) + "0"


def shape(text: str) -> str:
    """A URL or header with its short whole numbers and hexadecimal ids as 0: what no rule or grammar tells apart.

    >>> shape("/products/17?page=2&sku=SKU-9"), shape("/a17?x=10.0.0.7"), shape("/a?x=123456789"), shape("/a?x=17%27")
    ('/products/0?page=0&sku=SKU-0', '/a17?x=10.0.0.7', '/a?x=123456789', '/a?x=17%27')
    """
    return _NUMBER.sub(_zero, text)


def inflate(raw: bytes, encoding: str, most: int = INFLATED) -> tuple[bytes, bool]:
    """A compressed body's first `most` bytes, and whether there was more. A body that is not what it says is given back as it is.

    >>> inflate(zlib.compress(b"0" * 10_000_000), "deflate", 1000)[0] == b"0" * 1000
    True
    """
    kind = encoding.lower().strip()
    widths = {"gzip": (31,), "x-gzip": (31,), "deflate": (15, -15)}.get(kind, ())
    for width in widths:
        unpacker = zlib.decompressobj(width)
        try:
            found = unpacker.decompress(raw, most)
        except zlib.error:
            continue
        return found, bool(unpacker.unconsumed_tail) or not unpacker.eof
    return raw[:most], len(raw) > most
