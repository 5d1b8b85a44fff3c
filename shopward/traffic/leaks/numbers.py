"""Numbers that belong to people: phones, cards, identity numbers, addresses of machines.

One pass finds runs of digits with their separators; each run is judged by its length, its groups, its check digit and what
stands before it. What a check digit does not prove needs a key or words that say so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from shopward.traffic.leaks.checks import card_issuer, cn_id, cn_id_old, ip, luhn, us_ssn
from shopward.traffic.leaks.keys import key_before, meaning, words_before

Hit = tuple[str, int, int, float]  # type, start, end, confidence

_RUN = re.compile(r"(?=\d[\d \-.()/]{6})\d++(?:[ \-.()/]{1,2}\d++)*+[Xx]?", re.ASCII)
_GROUPED = re.compile(
    r"(?<!\d)(?:"
    r"(?P<ip>\d{1,3}(?:\.\d{1,3}){3}(?![\d.]*\d))"
    r"|(?P<card>\d{4}(?:[ -]\d{4}){2}[ -]\d{1,4}(?:[ -]\d{1,3})?|3\d{3}[ -]\d{6}[ -]\d{5})"
    r"|(?P<ssn>\d{3}-\d{2}-\d{4}|\d{3} \d{2} \d{4})"
    r"|(?P<mobile>(?:(?:86|0086)[ -]?)?1[3-9]\d[ -]\d{4}[ -]\d{4}|(?:86|0086)[ -]1[3-9]\d{9})"
    r"|(?P<cn_id>\d{6}[ -]\d{8}[ -]\d{3}[\dXx])"
    r"|(?P<nanp>(?:1[ .-])?\(?[2-9]\d\d\)?[ .-]{1,2}[2-9]\d\d[ .-]\d{4})"
    r"|(?P<line>0\d{2,3}-\d{7,8}(?:-\d{1,5})?|400-\d{3}-?\d{4}|400-\d{4}-\d{3}|800-\d{3}-?\d{4}|\d{3}-\d{8}|0\d{2,3} \d{8})"
    r")(?!\d)"
)
_MOBILE = re.compile(r"1(?:3\d|4[014-9]|5[0-35-9]|6[2567]|7[0-8]|8\d|9[0-35-9])\d{8}")


def _one_of(*words: str) -> Callable[[str], re.Match[str] | None]:
    """Says whether one of the words is in a text."""
    return re.compile("|".join(map(re.escape, words))).search


_PHONE_WORDS = _one_of(
    "phone", "call", "tel ", "tel:", "tel.", "mobile", "cell", "fax", "sms", "text me", "whatsapp", "contact", "reach", "number", "office", "desk",
    "hotline", "answering", "message to", "messages to", "dial", "\u7535\u8bdd", "\u624b\u673a", "\u8054\u7cfb", "\u81f4\u7535", "\u62e8\u6253", "\u5fae\u4fe1",
)  # fmt: skip
_NOT_PHONE = _one_of(
    "order", "sku", "ticket", "invoice", "tracking", "waybill", "account", "card", "iban", "isbn", "ssn", "social", "serial", "part", "model",
    "version", "\u8ba2\u5355", "\u5feb\u9012", "\u8fd0\u5355", "\u7f16\u53f7", "\u5355\u53f7",
)  # fmt: skip
_PHONE_AFTER = re.compile(r"[ \t]{0,2}[\-(]?(?:office|fax|mobile|cell|phone|desk|home|work)\b", re.IGNORECASE)
_CARD_WORDS = _one_of("card", "credit", "debit", "visa", " cc ", "\u5361")
_SSN_WORDS = _one_of("ssn", "social", "s.s.n")
_VERSION_WORDS = (
    "version",
    "ver",
    "ver.",
    "release",
    "build",
    "firmware",
    "/",
    " v",
    "\u7248\u672c",
    "\u7248\u672c\u53f7",
    "chapter",
    "section",
    "clause",
    "figure",
)
_ID_WORDS = _one_of("\u8eab\u4efd\u8bc1", "id card", "id no", "identity")
# a fraction, a date with its hour: nobody's number
_NOBODYS = re.compile(r"\d+\.\d+|(?:19|20)\d\d[-./]\d\d?[-./]\d\d?(?: \d\d?)?")
_MOMENTS = (12, 13, 14)  # digits of a time in milliseconds; no card of that length begins with 0, 1, 7 or 9
_CARDS_ONLY = (12, 14, 16, 17, 19)  # digits of what is a card or nothing
_DOTTED = re.compile(r"\d+(?:\.\d+){3}")
_TIME = re.compile(r"(?:19|20)\d\d[-./ ]\d{1,2}[-./ ]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./](?:19|20)\d\d")
_BETWEEN = re.compile(r"[ \-.()/]+")
_GAPS = str.maketrans("", "", " -.()/")
_AROUND = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


def numbers(text: str) -> list[Hit]:
    """Every number in `text` that is somebody's, with type, place and confidence."""
    hits: list[Hit] = []
    for found in _RUN.finditer(text):
        run, (start, end) = found[0], found.span()
        if run.isdigit() or (run[-1] in "Xx" and run[:-1].isdigit()):
            n = end - start
            if not 8 < n < 20 or (n in _MOMENTS and run[0] in "0179") or (start and text[start - 1] in _AROUND):
                continue
            if n in _CARDS_ONLY and not luhn(run if run[-1] not in "Xx" else run[:-1]):
                continue
            hit = _bare(text, run, start, end)
            if hit:
                hits.append(hit)
            continue
        inner = text[start - 1 : start] in _AROUND and text[end : end + 1] in _AROUND  # of a hexadecimal id
        if not inner and not _NOBODYS.fullmatch(run):
            means = meaning(key_before(text, start))
            if means not in ("number", "version"):
                hits += _grouped(text, run, start, means)
    return hits


def _bare(text: str, run: str, start: int, end: int) -> Hit | None:
    """A run of digits alone, judged by its length."""
    before = text[start - 1] if start else " "
    after = text[end] if end < len(text) else " "
    if run[-1] in "Xx" and len(run) != 18:
        run, end, after = run[:-1], end - 1, run[-1]
    n = len(run)
    if before in _AROUND or after in _AROUND or n < 9 or n > 19:
        return None
    if n == 11 or (n in (13, 15) and run[: n - 11] in ("86", "0086")):
        return _mobile(text, run, start, end, before)
    if n == 18 and cn_id(run):
        return "cn_id", start, end, 0.99
    if n == 15 and cn_id_old(run) and _says_id(text, start):
        return "cn_id", start, end, 0.8
    if n >= 12:
        return _card(text, run, start, end) if run[-1] not in "Xx" else None
    means = meaning(key_before(text, start))
    if means not in ("", "phone", "ssn", "person"):
        return None
    if n == 9 and us_ssn(run) and (means == "ssn" or _SSN_WORDS(words_before(text, start))):
        return "us_ssn", start, end, 0.85
    return _phone_by_context(text, start, end, means) if n in (9, 10) else None


def _mobile(text: str, run: str, start: int, end: int, before: str) -> Hit | None:
    if (
        not _MOBILE.fullmatch(run[-11:])
        or before == "."
        or text[end : end + 2].strip(".").isdigit()
        and text[end] == "."
    ):
        return _phone_by_context(text, start, end, meaning(key_before(text, start))) if len(run) == 11 else None
    means = meaning(key_before(text, start))
    if means in ("number", "version", "card", "account", "ip"):
        return None
    if means == "phone":
        return "cn_mobile", start, end, 0.98
    if not means and _NOT_PHONE(words_before(text, start)[-16:]):
        return None
    return "cn_mobile", start - (before == "+"), end, 0.9


def _card(text: str, run: str, start: int, end: int) -> Hit | None:
    if (len(run) < 16 and card_issuer(run) is None) or not luhn(run):
        return None
    means = meaning(key_before(text, start))
    if means in ("number", "version", "phone", "ip"):
        return None
    told = means in ("card", "account") or _CARD_WORDS(words_before(text, start))
    issuer = card_issuer(run)
    if run.count(run[0]) == len(run):
        return None
    if issuer == "unionpay" or (told and not issuer and len(run) in (16, 17, 18, 19)):
        return "cn_bank_card", start, end, 0.97 if told else 0.9
    if issuer is None or (issuer in ("maestro", "diners") and not told) or (len(run) not in (15, 16) and not told):
        return None
    return "credit_card", start, end, 0.98 if told else 0.9


def _says_id(text: str, start: int) -> bool:
    return meaning(key_before(text, start)) == "cn_id" or bool(_ID_WORDS(words_before(text, start)))


def _phone_by_context(text: str, start: int, end: int, means: str) -> Hit | None:
    """A number of phone length that only its key or its sentence makes a phone."""
    if means:
        return ("phone", start, end, 0.8) if means == "phone" else None
    words, before = words_before(text, start), text[start - 1 : start]
    if (_PHONE_WORDS(words) and not _NOT_PHONE(words)) or (before != "/" and _PHONE_AFTER.match(text, end)):
        return "phone", start, end, 0.8
    return ("phone", start - 1, end, 0.85) if before == "+" else None


def _grouped(text: str, run: str, start: int, means: str) -> Iterator[Hit]:
    """Digits in groups: each known grouping that is in the run, and bare pieces of it. `means` is what the run's key says."""
    if text[start - 1 : start] == "/" and _DOTTED.fullmatch(run) and text[max(0, start - 3) : start] != "://":
        return  # `Chrome/119.0.6045.105`
    seen = 0
    for found in _GROUPED.finditer(run):
        hit = _judged(text, found, start, means)
        if hit:
            seen += 1
            yield hit
    if seen:
        return
    at = 0
    for piece in _BETWEEN.split(run):
        at = run.index(piece, at)
        if len(piece) >= 9 and not _glued(run, at, at + len(piece)):
            hit = _bare(text, piece, start + at, start + at + len(piece))
            if hit:
                seen += 1
                yield hit
        at += len(piece)
    if not seen:
        hit = _international(text, run, start, means)
        if hit:
            yield hit


def _glued(run: str, start: int, end: int) -> bool:
    """Is the piece the inner part of something with dashes, dots or slashes (a date, a serial number)?"""
    return run[start - 1 : start] in tuple("-./") or run[end : end + 1] in tuple("-./")


def _judged(text: str, found: re.Match[str], offset: int, means: str) -> Hit | None:
    kind, start, end = found.lastgroup or "", offset + found.start(), offset + found.end()
    if start != offset:
        means = meaning(key_before(text, start))
    if text[end : end + 1] in _AROUND and end < len(text) or start and text[start - 1] in _AROUND:
        return None
    if kind == "ip":
        return _ip(text, found[0], start, end, means)
    digits = found[0].translate(_GAPS)
    if kind == "card":
        return _card(text, digits, start, end) if 13 <= len(digits) <= 19 else None
    if kind == "ssn":
        told = means == "ssn" or _SSN_WORDS(words_before(text, start))
        good = (
            us_ssn(digits)
            if told
            else us_ssn(digits) and "-" in found[0] and means not in ("number", "version", "phone")
        )
        return ("us_ssn", start, end, 0.97 if told else 0.85) if good else None
    if kind == "cn_id":
        return ("cn_id", start, end, 0.97) if cn_id(digits) else None
    if means in ("number", "version", "card", "account", "ip"):
        return None
    if kind == "mobile":
        good = _MOBILE.fullmatch(digits[-11:]) is not None
        return ("cn_mobile", start - (text[start - 1 : start] == "+"), end, 0.93) if good else None
    if kind == "nanp" and text[start - 1 : start] == "(" and ")" in found[0]:
        start -= 1
    return "phone", start - (text[start - 1 : start] == "+"), end, 0.9


def _ip(text: str, address: str, start: int, end: int, means: str) -> Hit | None:
    if means in ("version", "number", "phone") or not ip(address) or text[start - 1 : start] in tuple("-./") and start:
        slash = start >= 3 and text[start - 3 : start] == "://"
        if not slash or not ip(address):
            return None
    if (
        means != "ip"
        and words_before(text, start).rstrip(" :=").endswith(_VERSION_WORDS)
        and text[max(0, start - 3) : start] != "://"
    ):
        return None
    return "ip", start, end, 0.97 if means == "ip" else 0.9


def _international(text: str, run: str, start: int, means: str) -> Hit | None:
    """`+33 1 23 45 67 89`, or a grouped number whose sentence says that it is a phone."""
    digits = run.translate(_GAPS)
    end = start + len(run)
    if not 7 <= len(digits) <= 15 or text[end : end + 1].isalnum() or "/" in run:
        return None
    lead = text[start - 2 : start] if start >= 2 else text[:start]
    if lead.endswith("+") or lead == "+(":
        return "phone", start - (1 if lead.endswith("+") else 2), end, 0.9
    if _looks_like_time(run) or (run.count(".") > 3 and means != "phone"):
        return None
    opened = lead.endswith("(") and ")" in run
    hit = _phone_by_context(text, start, end, means)
    if hit or (opened and len(digits) >= 9 and means != "number"):
        return "phone", start - opened, end, 0.8
    return None


def _looks_like_time(run: str) -> bool:
    return _TIME.match(run) is not None
