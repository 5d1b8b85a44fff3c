"""The functions an expression may call: what they take, what they mean, and the same meaning in Python and in SQL.

Every function is total and linear in its input: a missing argument gives a missing result (unless its line says otherwise), odd text
gives a missing result, nothing raises. Missing is NaN for numbers and times, None for everything else.

    len(list or text)            how many elements or characters          has(list, "x")            is it among them
    lower(s)  upper(s)           letters changed one by one               contains(s, part)         startswith, endswith alike
    domain(email)                what follows the last @, lower case      prefix(s, 6)              the first characters
    digits(s)                    only its digits 0-9                      matches(s, "*@mail.*")    * any text, ? one character
    ip64(ip)                     IPv6 to its /64, IPv4 as it is           simhash(text)             fingerprint of its words
    simhash_distance(a, b)       bits in which two fingerprints differ    geo_km(lat, lon, lat, lon)
    abs  min  max  round(x, n)   half to even                             coalesce(a, b, ...)       the first that is not missing
    hour(ts, "tz")               0-23                                     weekday(ts, "tz")         Monday is 0
    day(ts, "tz")                days since 1970-01-01                    duration("24h")           seconds, a constant
    listed("name", key)          is the key on the list at that moment    NAME_COLUMN(key)          the lookup's value at that moment
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from shopward.expr.nodes import Type

nan = float("nan")
EARTH_KM = 6371.0088  # mean radius, IUGG

Number: tuple[Type, ...] = ("number",)
Time: tuple[Type, ...] = ("time",)
Text: tuple[Type, ...] = ("string",)
List: tuple[Type, ...] = ("list",)


@dataclass(frozen=True, slots=True)
class Function:
    """One callable name.

    params     the types each argument may have
    returns    its type; None: that of its (equal) arguments
    run        the Python implementation
    sql        SQL text from the arguments' SQL texts; None: DuckDB has no equal form, so what uses it is not portable
    columns    True when numbers are all it needs, so that it also compiles to a kernel
    optional   how many trailing arguments may be left out
    many       the last parameter may repeat
    constant   positions that must be written as constants
    copies     how often the generated text repeats an argument (bounds the size of generated code)
    """

    name: str
    params: tuple[tuple[Type, ...], ...]
    returns: Type | None
    run: Callable[..., Any]
    sql: Callable[..., str] | None
    columns: bool = False
    optional: int = 0
    many: bool = False
    constant: tuple[int, ...] = ()
    copies: int = 1

    @property
    def signature(self) -> str:
        """How it is called, for messages.

        >>> FUNCTIONS["prefix"].signature
        'prefix(string, number)'
        """
        shown = [" or ".join(p) for p in self.params]
        kept = len(shown) - self.optional
        shown = shown[:kept] + [f"[{s}]" for s in shown[kept:]]
        return f"{self.name}({', '.join(shown)}{', ...' if self.many else ''})"


# --- helpers that generated code calls; kernel.py holds their compiled twins ------------------------------------------------------


def div(a: float, b: float) -> float:
    """a / b, missing when b is zero.

    >>> div(1.0, 4.0), div(1.0, 0.0)
    (0.25, nan)
    """
    return a / b if b != 0 else nan


def mod(a: float, b: float) -> float:
    """The remainder with the sign of b, missing when b is zero.

    >>> mod(-5.0, 3.0)
    1.0
    """
    return a % b if b != 0 else nan


def floor(x: float) -> float:
    """The whole number below; infinities and NaN pass through.

    >>> floor(-0.5)
    -1.0
    """
    return float(math.floor(x)) if x - x == 0 else x


def round_even(x: float, p: float) -> float:
    """x to the nearest multiple of 1/p, half to even.

    >>> round_even(2.5, 1.0), round_even(0.125, 100.0)
    (2.0, 0.12)
    """
    y = x * p
    return round(y) / p if y - y == 0 else y / p


def least(a: float, b: float) -> float:
    """The smaller, missing when either is.

    >>> least(1.0, 2.0), least(nan, 1.0)
    (1.0, nan)
    """
    return a if a <= b else b if b < a else nan


def greatest(a: float, b: float) -> float:
    return a if a >= b else b if b > a else nan


def first(a: Any, b: Any) -> Any:
    """a unless it is missing (None or NaN), else b.

    >>> first(nan, 1.0), first(None, "x"), first("a", "x")
    (1.0, 'x', 'a')
    """
    return b if a is None or a != a else a


# --- text -------------------------------------------------------------------------------------------------------------------------


def _lower(s: str | None) -> str | None:
    if s is None or s.isascii():
        return s and s.lower()
    return "".join(_one_lower(c) for c in s)


def _upper(s: str | None) -> str | None:
    if s is None or s.isascii():
        return s and s.upper()
    return "".join(_one_upper(c) for c in s)


def _one_lower(c: str) -> str:
    return "i" if c == "\u0130" else c.lower()


def _one_upper(c: str) -> str:
    """One letter for one letter, as DuckDB has it: the capital sharp s, and Greek titles for letters with an iota below."""
    if c == "\u00df":
        return "\u1e9e"
    return next((up for up in (c.upper(), c.title()) if len(up) == 1), c)


def _contains(s: str | None, part: str | None) -> bool | None:
    return None if s is None or part is None else part in s


def _startswith(s: str | None, part: str | None) -> bool | None:
    return None if s is None or part is None else s.startswith(part)


def _endswith(s: str | None, part: str | None) -> bool | None:
    return None if s is None or part is None else s.endswith(part)


def _domain(email: str | None) -> str | None:
    at = -1 if email is None else email.rfind("@")
    return _lower(email[at + 1 :]) if email is not None and 0 <= at < len(email) - 1 else None


def _prefix(s: str | None, n: float) -> str | None:
    return None if s is None else s[: int(n)]


_NOT_DIGITS = re.compile(r"[^0-9]+")


def _digits(s: str | None) -> str | None:
    return None if s is None else _NOT_DIGITS.sub("", s)


def _len(x: str | list | None) -> float:
    return nan if x is None else float(len(x))


def _has(values: list | None, x: str | None) -> bool | None:
    return None if values is None or x is None else x in values


def _matches(s: str | None, glob: str) -> bool | None:
    return None if s is None else match_glob(s, glob)


def match_glob(s: str, glob: str) -> bool:
    """Does the whole text match, `*` being any text and `?` any one character? At most len(s) x len(glob) steps.

    >>> match_glob("a1@mail.example", "*@mail.*"), match_glob("abc", "a?"), match_glob("aaab", "*a?b")
    (True, False, True)
    """
    (head, width), *rest = _pieces(glob)
    found = head.match(s)
    if not found or not rest:
        return found is not None and len(s) == width
    at = width
    for piece, _ in rest[:-1]:
        found = piece.search(s, at)
        if not found:
            return False
        at = found.end()
    piece, width = rest[-1]
    return len(s) - width >= at and piece.match(s, len(s) - width) is not None


@functools.lru_cache(maxsize=1024)
def _pieces(glob: str) -> tuple[tuple[re.Pattern, int], ...]:
    """The texts between the stars and their lengths; they hold no repetition, so matching one never backtracks."""
    return tuple(
        (re.compile("".join("." if c == "?" else re.escape(c) for c in p), re.S), len(p)) for p in glob.split("*")
    )


def _ip64(ip: str | None) -> str | None:
    """`2001:db8:1:2:3::4` -> `2001:db8:1:2::/64`; IPv4 (also written inside IPv6) -> itself; anything else is missing."""
    try:
        address = ipaddress.ip_address((ip or "")[:64].strip())
    except ValueError:
        return None
    if address.version == 4:
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


_WORD = re.compile(r"\w+")


def _simhash(s: str | None) -> str | None:
    """64-bit SimHash (Charikar 2002) of the lower-case words and word pairs of at most 2,000 characters, as 16 hex digits."""
    words = [] if s is None else _WORD.findall(s[:2_000].lower())
    if not words:
        return None
    totals = [0] * 64
    for feature in words + [f"{a} {b}" for a, b in zip(words, words[1:], strict=False)]:
        h = int.from_bytes(hashlib.blake2b(feature.encode(errors="replace"), digest_size=8).digest(), "big")
        for bit in range(64):
            totals[bit] += 1 if h >> bit & 1 else -1
    return f"{sum(1 << bit for bit in range(64) if totals[bit] > 0):016x}"


_HEX = re.compile(r"[0-9a-fA-F]{1,16}")


def _simhash_distance(a: str | None, b: str | None) -> float:
    if a is None or b is None or not _HEX.fullmatch(a) or not _HEX.fullmatch(b):
        return nan
    return float((int(a, 16) ^ int(b, 16)).bit_count())


# --- places and times ---------------------------------------------------------------------------------------------------------------


def _geo_km(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """Great-circle distance by the haversine formula, in km; coordinates off the globe are missing."""
    if not (-90 <= lat1 <= 90 and -90 <= lat2 <= 90 and -180 <= lon1 <= 180 and -180 <= lon2 <= 180):
        return nan
    up, across = math.radians(lat2 - lat1) / 2, math.radians(lon2 - lon1) / 2
    h = math.sin(up) ** 2 + math.cos(math.radians(lat1)) * math.cos(math.radians(lat2)) * math.sin(across) ** 2
    return 2 * EARTH_KM * math.asin(math.sqrt(min(1.0, h)))


def _geo_sql(lat1: str, lon1: str, lat2: str, lon2: str) -> str:
    up, across = f"sin(radians({lat2} - {lat1}) / 2)", f"sin(radians({lon2} - {lon1}) / 2)"
    h = f"pow({up}, 2) + cos(radians({lat1})) * cos(radians({lat2})) * pow({across}, 2)"
    inside = f"abs({lat1}) <= 90 AND abs({lat2}) <= 90 AND abs({lon1}) <= 180 AND abs({lon2}) <= 180"
    return f"CASE WHEN {inside} THEN 2 * {EARTH_KM}e0 * asin(sqrt(least(1e0, {h}))) END"


FAR_MS = 253_402_300_799_000.0  # 9999-12-31T23:59:59Z; times beyond have no calendar


@functools.lru_cache(maxsize=64)
def _zone(tz: str) -> ZoneInfo:
    return ZoneInfo(tz)


def _local(ts: float, tz: str) -> datetime | None:
    try:
        return datetime.fromtimestamp(ts / 1000.0, _zone(tz)) if 0.0 <= ts < FAR_MS - 1e9 else None
    except (ValueError, OverflowError):
        return None


def _hour(ts: float, tz: str = "UTC") -> float:
    local = _local(ts, tz)
    return nan if local is None else float(local.hour)


def _weekday(ts: float, tz: str = "UTC") -> float:
    local = _local(ts, tz)
    return nan if local is None else float(local.weekday())


_EPOCH = datetime(1970, 1, 1).toordinal()


def _day(ts: float, tz: str = "UTC") -> float:
    local = _local(ts, tz)
    return nan if local is None else float(local.toordinal() - _EPOCH)


def _clock_sql(utc: str, local: str) -> Callable[..., str]:
    """UTC is arithmetic; other zones go through DuckDB's calendar."""

    def sql(ts: str, tz: str = "'UTC'") -> str:
        if tz == "'UTC'":
            return utc.format(ts=ts)
        inside = f"{ts} >= 0 AND {ts} < {FAR_MS - 1e9:.0f}"
        moment = f"timezone({tz}, make_timestamptz(CAST({ts} * 1000 AS BIGINT)))"
        return f"CASE WHEN {inside} THEN {local.format(moment=moment)} END"

    return sql


_hour_sql = _clock_sql("(floor({ts} / 3600000) % 24 + 24) % 24", "CAST(hour({moment}) AS DOUBLE)")
_weekday_sql = _clock_sql("((floor({ts} / 86400000) + 3) % 7 + 7) % 7", "CAST(isodow({moment}) - 1 AS DOUBLE)")
_day_sql = _clock_sql("floor({ts} / 86400000)", "CAST(CAST({moment} AS DATE) - DATE '1970-01-01' AS DOUBLE)")


# --- numbers ------------------------------------------------------------------------------------------------------------------------


def _fold(step: Callable[[float, float], float]) -> Callable[..., float]:
    return lambda *xs: functools.reduce(step, xs)


def _chosen_sql(compare: str) -> Callable[..., str]:
    """min or max of several: SQL's own skip NULL, ours do not."""

    def two(a: str, b: str) -> str:
        return f"CASE WHEN {a} {compare} {b} THEN {a} WHEN {b} {compare} {a} THEN {b} END"

    return lambda *xs: functools.reduce(two, xs)


def _round(x: float, n: float = 0.0) -> float:
    return round_even(x, 10.0**n)


def _round_sql(x: str, n: str = "0") -> str:
    p = 10 ** int(float(n))
    return f"round_even({x}, 0)" if p == 1 else f"round_even({x} * {p}, 0) / {p}"


def _glob_sql(s: str, glob: str) -> str:
    like = "".join({"*": "%", "?": "_", "%": "!%", "_": "!_", "!": "!!"}.get(c, c) for c in glob)
    return f"{s} LIKE {like} ESCAPE '!'"


def _table() -> dict[str, Function]:
    f = Function
    rows = (
        f("len", (("list", "string"),), "number", _len, lambda x: f"CAST(len({x}) AS DOUBLE)"),
        f("has", (List, Text), "bool", _has, lambda xs, x: f"list_contains({xs}, {x})"),
        f("lower", (Text,), "string", _lower, lambda s: f"lower({s})"),
        f("upper", (Text,), "string", _upper, lambda s: f"upper({s})"),
        f("contains", (Text, Text), "bool", _contains, lambda s, p: f"contains({s}, {p})"),
        f("startswith", (Text, Text), "bool", _startswith, lambda s, p: f"starts_with({s}, {p})"),
        f("endswith", (Text, Text), "bool", _endswith, lambda s, p: f"ends_with({s}, {p})"),
        f(
            "domain",
            (Text,),
            "string",
            _domain,
            lambda s: f"lower(nullif(regexp_extract({s}, '@([^@]*)$', 1, 's'), ''))",
        ),
        f("prefix", (Text, Number), "string", _prefix, lambda s, n: f"left({s}, {n})", constant=(1,)),
        f("digits", (Text,), "string", _digits, lambda s: f"regexp_replace({s}, '[^0-9]+', '', 'g')"),
        f("matches", (Text, Text), "bool", _matches, _glob_sql, constant=(1,)),
        f("ip64", (Text,), "string", _ip64, None),
        f("simhash", (Text,), "string", _simhash, None),
        f("simhash_distance", (Text, Text), "number", _simhash_distance, None),
        f("geo_km", (Number,) * 4, "number", _geo_km, _geo_sql, copies=4),
        f("abs", (Number,), "number", abs, lambda x: f"abs({x})", columns=True),
        f("min", (Number, Number), "number", _fold(least), _chosen_sql("<="), columns=True, many=True, copies=4),
        f("max", (Number, Number), "number", _fold(greatest), _chosen_sql(">="), columns=True, many=True, copies=4),
        f("round", (Number, Number), "number", _round, _round_sql, columns=True, optional=1, constant=(1,)),
        f(
            "coalesce",
            (("number", "time", "string", "bool"),) * 2,
            None,
            _fold(first),
            lambda *xs: f"coalesce({', '.join(xs)})",
            columns=True,
            many=True,
            copies=2,
        ),
        f("hour", (Time, Text), "number", _hour, _hour_sql, optional=1, constant=(1,), copies=3),
        f("weekday", (Time, Text), "number", _weekday, _weekday_sql, optional=1, constant=(1,), copies=3),
        f("day", (Time, Text), "number", _day, _day_sql, optional=1, constant=(1,), copies=3),
    )
    return {row.name: row for row in rows}


FUNCTIONS = _table()
UTC_COLUMNS = ("hour", "weekday", "day")  # arithmetic on columns when the zone is UTC


def runtime() -> dict[str, Any]:
    """The globals generated Python runs with. The caller adds `listed(name, keys, t)` and `lookup(table, column, key, t)`.

    `__builtins__` is empty, so even a mistake in generation reaches nothing.

    >>> runtime()["div"](1.0, 0.0)
    nan
    """
    helpers = {
        "nan": nan,
        "div": div,
        "mod": mod,
        "floor": floor,
        "round_even": round_even,
        "least": least,
        "greatest": greatest,
    }
    calls = {f"f_{name}": f.run for name, f in FUNCTIONS.items()}
    return {"__builtins__": {}, "first": first, "abs": abs, **helpers, **calls}
