"""Codes become text: ids, addresses, times and whole NDJSON lines, column by column.

Ids look alike whoever they belong to: a code goes through a seeded one-to-one mix, so nothing can be read from an id, not even
which account came first. Mail lives under domains reserved for examples, phones in area code 555, which is nobody's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shopward.market.networks import V6
from shopward.market.rows import DAY, START

# kind -> (first letter, hex digits)
IDS = {
    "account": ("a", 8), "device": ("d", 8), "session": ("s", 10), "order": ("o", 8), "card": ("c", 8), "bank": ("b", 8),
    "address": ("h", 8), "coupon": ("k", 4), "product": ("p", 6), "text": ("t", 10), "request": ("r", 10),
    "promotion": ("f", 4), "document": ("g", 8), "tracking": ("x", 10), "ad": ("n", 6), "room": ("l", 8), "image": ("i", 10),
}  # fmt: skip
_HEX2 = np.frombuffer(b"".join(b"%02x" % i for i in range(256)), dtype="<u2")
_DEC2 = np.frombuffer(b"".join(b"%02d" % i for i in range(100)), dtype="<u2")

ADJECTIVES = (
    "amber", "azure", "bold", "brave", "brisk", "calm", "clear", "copper", "coral", "crisp", "dapper", "deep", "eager", "early",
    "fleet", "fresh", "frosty", "gentle", "gilded", "glad", "golden", "grand", "happy", "hazel", "humble", "indigo", "ivory",
    "jolly", "keen", "kind", "lilac", "lively", "lucky", "lunar", "mellow", "merry", "mild", "misty", "mossy", "noble", "ochre",
    "olive", "pearl", "plucky", "proud", "quick", "quiet", "rapid", "rosy", "ruby", "rustic", "sandy", "silver", "sleek",
    "snowy", "solar", "spry", "steady", "sunny", "swift", "tidy", "vivid", "warm", "witty",
)  # fmt: skip
ANIMALS = (
    "badger", "bear", "beaver", "bison", "bobcat", "camel", "cat", "cheetah", "condor", "cougar", "coyote", "crane", "crow",
    "deer", "dingo", "dolphin", "duck", "eagle", "egret", "elk", "falcon", "ferret", "finch", "fox", "gecko", "goose", "hare",
    "hawk", "heron", "horse", "ibex", "ibis", "jackal", "jay", "kestrel", "koala", "lark", "lemur", "lion", "llama", "lynx",
    "magpie", "marten", "mole", "moose", "newt", "ocelot", "orca", "otter", "owl", "panda", "parrot", "puffin", "puma", "quail",
    "rabbit", "raven", "robin", "seal", "stoat", "swan", "tiger", "wolf", "wren",
)  # fmt: skip
MAIL_DOMAINS = (
    "example.com", "example.org", "example.net", "mail.example", "post.example", "inbox.example", "campus.example",
    "office.example", "throwaway.example", "tempbox.test", "mailtrash.test", "drop-mail.example",
)  # fmt: skip
BRANDS = (
    "Alderfen", "Brightmoor", "Calloway Nine", "Dunmarrow", "Elvaro", "Fennimore", "Glasspath", "Hollin", "Isbrand", "Juniper Row",
    "Kestrelle", "Lumavast", "Marenne", "Nordhaven", "Ostrelo", "Pellworth", "Quillon", "Ravensby", "Solvanta", "Thornley",
)  # fmt: skip
LUXURY = (2, 4, 12, 14, 18)  # the brands worth imitating
QUERIES = (
    "phone case", "sneakers", "summer dress", "lamp", "headphones", "yoga mat", "novel", "face cream", "puzzle", "coffee", "gift card",
    "jacket", "charger", "socks", "water bottle", "backpack", "curtains", "lipstick", "board game", "running shoes", "desk", "watch",
    "earbuds", "blanket", "tea", "sunscreen", "toy train", "cookbook", "dumbbell", "poster",
)  # fmt: skip
DISPOSABLE = (8, 9, 10, 11)  # boxes for anybody; no list of such domains is ever complete


class Texts:
    """Text of the codes of one market; `seed` decides what its ids look like.

    >>> Texts(1).ids("account", np.array([0, 1, -1])).to_pylist() == Texts(1).ids("account", np.array([0, 1, -1])).to_pylist()
    True
    >>> Texts(1).ids("account", np.array([-1])).to_pylist()
    [None]
    """

    def __init__(self, seed: int):
        words = np.random.SeedSequence([seed, 0x1D5]).generate_state(len(IDS) + 2, np.uint64)
        self._salts = {kind: int(word) for kind, word in zip([*IDS, "email", "phone"], words.tolist(), strict=True)}

    def ids(self, kind: str, codes: np.ndarray, before: str = "", after: str = "") -> pa.StringArray:
        """`before` + id + `after` for each code, null where the code is negative."""
        letter, digits = IDS[kind]
        mixed = mix(codes, 4 * digits, self._salts[kind])
        return _fixed((before + letter).encode(), _hex(mixed, digits), after.encode(), codes >= 0)

    def emails(self, codes: np.ndarray) -> pa.Array:
        """Mail addresses; a code is a serial number times 16 plus the domain. `copper.otter204618@example.org`"""
        some = np.maximum(codes, 0)
        mixed = mix(some >> 4, 32, self._salts["email"])
        parts = [
            _words(ADJECTIVES, mixed & 63), pa.scalar("."), _words(ANIMALS, (mixed >> 6) & 63), pa.array(mixed >> 12).cast(pa.string()),
            pa.scalar("@"), _words(MAIL_DOMAINS, some & 15),
        ]  # fmt: skip
        return blank(pc.binary_join_element_wise(*parts, ""), codes < 0)

    def phones(self, codes: np.ndarray) -> pa.Array:
        """+1 555 and seven digits: the numbers of stories, in an area code that was never given out."""
        number = ((codes % 9_999_991) * 48_271 + self._salts["phone"] % 9_999_991) % 9_999_991
        text = pc.utf8_lpad(pa.array(number).cast(pa.string()), 7, "0")
        return blank(pc.binary_join_element_wise(pa.scalar("+1555"), text, ""), codes < 0)


def mix(codes: np.ndarray, bits: int, salt: int) -> np.ndarray:
    """A one-to-one shuffle of the numbers below 2**bits.

    >>> sorted(mix(np.arange(256), 8, 77).tolist()) == list(range(256))
    True
    """
    mask = np.uint64((1 << bits) - 1)
    half = np.uint64(bits // 2)
    x = (codes.astype(np.uint64) ^ np.uint64(salt & int(mask))) & mask
    for odd in (0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93):
        x = (x * np.uint64(odd)) & mask
        x ^= x >> half
    return x.astype(np.int64)


def times(t: np.ndarray, before: str = "", after: str = "") -> pa.StringArray:
    """ISO 8601 in UTC with milliseconds.

    >>> times(np.array([1_767_571_200_123])).to_pylist()
    ['2026-01-05T00:00:00.123Z']
    """
    day, rest = np.divmod(t, DAY)
    text = np.empty((len(t), 24), dtype=np.uint8)
    text[:, :10] = _dates()[day - (START // DAY - _DAYS_BEFORE)]
    text[:, 10:] = np.frombuffer(b"T00:00:00.000Z", dtype=np.uint8)
    seconds, ms = np.divmod(rest, 1000)
    for at, value in ((11, seconds // 3600), (14, seconds // 60 % 60), (17, seconds % 60), (20, ms // 10)):
        text[:, at : at + 2] = _DEC2[value].view(np.uint8).reshape(-1, 2)
    text[:, 22] = 48 + ms % 10
    return _fixed(before.encode(), text, after.encode())


_DAYS_BEFORE, _DAYS_AFTER = 3700, 3700


@cache
def _dates() -> np.ndarray:
    first = np.datetime64(START, "ms").astype("datetime64[D]") - _DAYS_BEFORE
    days = np.datetime_as_string(first + np.arange(_DAYS_BEFORE + _DAYS_AFTER))
    return np.frombuffer("".join(days.tolist()).encode(), dtype=np.uint8).reshape(-1, 10)


def serials(number: np.ndarray, before: str = "", after: str = "") -> pa.StringArray:
    """Ten-digit numbers.

    >>> serials(np.array([9, 10]), "e").to_pylist()
    ['e0000000009', 'e0000000010']
    """
    text = np.empty((len(number), 10), dtype=np.uint8)
    for place in range(5):
        text[:, 2 * place : 2 * place + 2] = _DEC2[number // 100 ** (4 - place) % 100].view(np.uint8).reshape(-1, 2)
    return _fixed(before.encode(), text, after.encode())


@cache
def _octets(after: str) -> pa.Array:
    return pa.array([f"{i}{after}" for i in range(256)])


def ips(codes: np.ndarray) -> pa.Array:
    """IPv4 in dots, IPv6 as `2001:db8:cchh:hhhh::ss:ssss`."""
    four = np.where((codes < 0) | (codes >= V6), 0, codes)
    parts = [_octets("." if shift else "").take(pa.array((four >> shift) & 255)) for shift in (24, 16, 8, 0)]
    text = pc.binary_join_element_wise(*parts, "")
    six = codes >= V6
    if six.any():
        text = pc.if_else(pa.array(six), _ip6(np.where(six, codes, 0)), text)
    return blank(text, codes < 0)


def _ip6(codes: np.ndarray) -> pa.Array:
    net = _hex((codes >> 24) & 0xFFFFFFFF, 8).view(np.uint8).reshape(-1, 8)
    suffix = _hex(codes & 0xFFFFFF, 6).view(np.uint8).reshape(-1, 6)
    text = np.empty((len(codes), 27), dtype=np.uint8)
    text[:] = np.frombuffer(b"2001:db8:0000:0000::00:0000", dtype=np.uint8)
    text[:, 9:13], text[:, 14:18], text[:, 20:22], text[:, 23:27] = net[:, :4], net[:, 4:], suffix[:, :2], suffix[:, 2:]
    return _fixed(b"", text, b"")


def money(minor: np.ndarray, before: str = "") -> pa.Array:
    """Minor units as a JSON number with two decimals, null where negative.

    >>> money(np.array([1250, 7, -1])).to_pylist()
    ['12.50', '0.07', None]
    """
    whole, cents = np.divmod(np.maximum(minor, 0), 100)
    parts = [pa.scalar(before), pa.array(whole).cast(pa.string()), _cents().take(pa.array(cents))]
    return blank(pc.binary_join_element_wise(*parts, ""), minor < 0)


@cache
def _cents() -> pa.Array:
    return pa.array([f".{i:02d}" for i in range(100)])


def numbers(values: np.ndarray, before: str = "") -> pa.Array:
    """Whole numbers, null where negative."""
    text = pc.binary_join_element_wise(pa.scalar(before), pa.array(values).cast(pa.string()), "")
    return blank(text, values < 0)


def choices(words: Sequence[str], codes: np.ndarray, before: str = "", after: str = "") -> pa.Array:
    """The word of each code, null where negative."""
    return _framed(tuple(words), before, after).take(pa.array(codes, mask=codes < 0))


def strings(texts: pa.Array, before: str) -> pa.Array:
    """`before"text"` for each text, null where it is null."""
    return pc.binary_join_element_wise(pa.scalar(before + '"'), texts, pa.scalar('"'), "")


@cache
def _framed(words: tuple[str, ...], before: str, after: str) -> pa.Array:
    return pa.array([before + word + after for word in words])


def _words(words: tuple[str, ...], codes: np.ndarray) -> pa.Array:
    return _framed(words, "", "").take(pa.array(codes))


def blank(text: pa.Array, where: np.ndarray) -> pa.Array:
    """Null where `where` is true."""
    return pc.if_else(pa.array(~where), text, pa.scalar(None, pa.string())) if where.any() else text


def _hex(values: np.ndarray, digits: int) -> np.ndarray:
    pairs = digits // 2
    text = np.empty((len(values), pairs), dtype="<u2")
    for k in range(pairs):
        text[:, k] = _HEX2[(values >> (8 * (pairs - 1 - k))) & 255]
    return text


def _fixed(before: bytes, text: np.ndarray, after: bytes, valid: np.ndarray | None = None) -> pa.StringArray:
    """Strings of one width, straight from bytes: no per-row work."""
    n = len(text)
    body = text.view(np.uint8).reshape(n, -1)
    start, stop = len(before), len(before) + body.shape[1]
    width = stop + len(after)
    out = np.empty((n, width), dtype=np.uint8)
    out[:, :start] = np.frombuffer(before, dtype=np.uint8)
    out[:, start:stop] = body
    out[:, stop:] = np.frombuffer(after, dtype=np.uint8)
    offsets = np.arange(0, (n + 1) * width, width, dtype=np.int32)
    bits = None if valid is None or valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.StringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(out), bits)
