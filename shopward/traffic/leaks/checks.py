"""Check digits and formats: what makes a number a card, a citizen's id or a bank account rather than a number.

Each check takes the bare characters (no separators) and says yes or no.
"""

from __future__ import annotations

import re
from datetime import date
from ipaddress import IPv6Address

_DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")  # a digit doubled, its digits added (ISO/IEC 7812-1)
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")
_CN_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)  # GB 11643
_CN_CHECK = "10X98765432"
_CN_PROVINCES = frozenset(
    [
        "11",
        "12",
        "13",
        "14",
        "15",
        "21",
        "22",
        "23",
        "31",
        "32",
        "33",
        "34",
        "35",
        "36",
        "37",
        "41",
        "42",
        "43",
        "44",
        "45",
        "46",
        "50",
        "51",
        "52",
        "53",
        "54",
        "61",
        "62",
        "63",
        "64",
        "65",
        "71",
        "81",
        "82",
        "83",
    ]
)
# ISO 13616: length of an IBAN by country
IBAN_LENGTH = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28, "CH": 21, "CR": 22,
    "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22,
    "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30,
    "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27,
    "MT": 31, "MU": 30, "NL": 18, "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31,
    "SE": 24, "SI": 19, "SK": 24, "SM": 27, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip


def luhn(digits: str) -> bool:
    """Is the last digit the check digit of a payment card number (ISO/IEC 7812-1)?

    >>> luhn("4111111111111111"), luhn("4111111111111112")
    (True, False)
    """
    raw = digits.encode()
    return (sum(raw[-1::-2]) + sum(raw[-2::-2].translate(_DOUBLED)) - 48 * len(raw)) % 10 == 0


def card_issuer(digits: str) -> str | None:
    """The scheme of a payment card number by prefix and length, or None.

    >>> card_issuer("378282246310005"), card_issuer("6222021234567890123"), card_issuer("1234567812345678")
    ('amex', 'unionpay', None)
    """
    n, two, four = len(digits), int(digits[:2]), int(digits[:4])
    if digits[0] == "4" and n in (13, 16, 19):
        return "visa"
    if n == 16 and (51 <= two <= 55 or 2221 <= four <= 2720):
        return "mastercard"
    if n == 15 and two in (34, 37):
        return "amex"
    if two == 62 and 16 <= n <= 19:
        return "unionpay"
    if n == 16 and (two == 65 or four == 6011 or 644 <= int(digits[:3]) <= 649):
        return "discover"
    if (16 <= n <= 19 and 3528 <= four <= 3589) or (n == 15 and four in (1800, 2131)):
        return "jcb"
    if 14 <= n <= 16 and (two in (36, 38, 39) or 300 <= int(digits[:3]) <= 305):
        return "diners"
    if 12 <= n <= 19 and (two == 50 or 56 <= two <= 58 or four in (6304, 6759, 6761, 6762, 6763)):
        return "maestro"
    return None


def iban(text: str) -> bool:
    """Is it a bank account number with the right length for its country and remainder 1 modulo 97 (ISO 13616)?

    >>> iban("DE89370400440532013000"), iban("DE89370400440532013001")
    (True, False)
    """
    text = text.upper()
    if IBAN_LENGTH.get(text[:2]) != len(text):
        return False
    return int("".join(str(int(c, 36)) for c in text[4:] + text[:4])) % 97 == 1


def cn_id(text: str) -> bool:
    """Is it a Chinese citizen's identity number of 18 places: province, date of birth, check character (GB 11643)?

    >>> cn_id("11010519491231002X"), cn_id("110105194912310021")
    (True, False)
    """
    if text[:2] not in _CN_PROVINCES or not _date(text[6:14]):
        return False
    total = sum(w * (ord(c) - 48) for w, c in zip(_CN_WEIGHTS, text, strict=False))
    return _CN_CHECK[total % 11] == text[17].upper()


def cn_id_old(text: str) -> bool:
    """Is it an identity number of 15 places (before 1999): no check digit, so only province and date speak for it?"""
    return text[:2] in _CN_PROVINCES and _date("19" + text[6:12])


def us_ssn(digits: str) -> bool:
    """Could it have been issued as a social security number?

    >>> us_ssn("460899847"), us_ssn("000123456"), us_ssn("123004567")
    (True, False, False)
    """
    return digits[:3] not in ("000", "666") and digits[0] != "9" and digits[3:5] != "00" and digits[5:] != "0000"


def ip(text: str) -> bool:
    """Is it an IPv4 address in dotted form or an IPv6 address?

    >>> ip("10.0.0.7"), ip("1.2.3.256"), ip("2001:db8::7"), ip("12:34:56")
    (True, False, True, False)
    """
    if ":" not in text:
        return _IPV4.fullmatch(text) is not None
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _date(yyyymmdd: str) -> bool:
    try:
        born = date(int(yyyymmdd[:4]), int(yyyymmdd[4:6]), int(yyyymmdd[6:]))
    except ValueError:
        return False
    return 1880 <= born.year <= 2100
