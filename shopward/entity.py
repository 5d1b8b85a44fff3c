"""Who and what: an entity is a kind and an id (`device:d-17`), and every id is brought to one form before it counts.

Kinds are open: a rulebook names its own. A role is a field that holds an id (the `seller` of an order is an `account`).
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable

from shopward.errors import BadEvent

KINDS = (
    "account", "device", "ip", "ip64", "card", "bank_account", "phone", "email", "mail_domain", "address", "coupon", "product",
    "order", "session",
)  # fmt: skip


def entity(kind: str, key: str) -> str:
    """The one text form of an entity.

    >>> entity("device", "d-17"), split_entity("url:https://example.com")
    ('device:d-17', ('url', 'https://example.com'))
    """
    return f"{kind}:{key}"


def split_entity(text: str) -> tuple[str, str]:
    """The kind and the id of `kind:id`; the id may hold colons itself."""
    kind, colon, key = text.partition(":")
    if not colon or not kind or not key:
        raise ValueError(f"an entity is written kind:id, not {text!r}")
    return kind, key


def lower(text: str) -> str:
    """Without case and surrounding blanks.

    >>> lower(" Ann@Example.COM ")
    'ann@example.com'
    """
    return text.strip().lower()


def e164(text: str) -> str:
    """A phone number as + and digits. The country code must be there: a number cannot be guessed into a country.

    >>> e164("+1 (555) 010-9999"), e164("0044 20 7946 0000")
    ('+15550109999', '+442079460000')
    """
    digits = "".join(c for c in text if "0" <= c <= "9")
    stripped = text.strip()
    if stripped.startswith("00") and not stripped.startswith("+"):
        digits = digits[2:]
    if not 7 <= len(digits) <= 15:
        raise BadEvent("not a phone number: expected a country code and 7 to 15 digits, such as +15550109999")
    return "+" + digits


def ip64(text: str) -> str:
    """The network a home or a server is known by: the /64 of an IPv6 address, an IPv4 address itself.

    >>> ip64("2001:db8:1:2:3:4:5:6"), ip64("203.0.113.9"), ip64("::ffff:203.0.113.9")
    ('2001:db8:1:2::/64', '203.0.113.9', '203.0.113.9')
    """
    if ":" not in text:
        return text
    try:
        address = ipaddress.IPv6Address(text.strip().partition("%")[0])
    except ValueError:
        raise BadEvent("not an IP address") from None
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{ipaddress.IPv6Address(int(address) >> 64 << 64)}/64"


def network64(text: str) -> str | None:
    """The /64 of an IPv6 address in a usual form, quickly; None for everything else, mapped IPv4 addresses included.

    >>> network64("2001:db8:1:2::5"), network64("203.0.113.9"), network64("::ffff:203.0.113.9")
    ('2001:db8:1:2::/64', None, None)
    """
    try:
        packed = socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError):
        return None
    if packed.startswith(_MAPPED):
        return None
    return socket.inet_ntop(socket.AF_INET6, packed[:8] + bytes(8)) + "/64"


_MAPPED = bytes(10) + b"\xff\xff"


def _ip64_again(text: str) -> str:
    return text if text.endswith("/64") else ip64(text)


NORMALISERS: dict[str, Callable[[str], str]] = {"lower": lower, "e164": e164, "ip64": _ip64_again}


def normalise_id(text: str, how: str | None) -> str:
    """An id in the form its field declares; doing it twice changes nothing.

    >>> normalise_id("Ann@Example.com", "lower"), normalise_id("2001:db8::1", "ip64")
    ('ann@example.com', '2001:db8::/64')
    """
    return text if how is None else NORMALISERS[how](text)
