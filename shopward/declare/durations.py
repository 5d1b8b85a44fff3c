"""Durations as people write them (`90s 15m 1h 7d`) and numbers as people read them."""

from __future__ import annotations

import re

UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
LONGEST = 3_660 * UNITS["d"]  # ten years
_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")


def parse_duration(text: str) -> int:
    """Milliseconds of a duration; ValueError says what would be right.

    >>> parse_duration("15m"), parse_duration("7d")
    (900000, 604800000)
    >>> parse_duration("1 week")
    Traceback (most recent call last):
    ...
    ValueError: `1 week` is not a duration
    """
    found = _DURATION.fullmatch(text)
    if not found:
        raise ValueError(f"`{text[:40]}` is not a duration")
    ms = int(found[1]) * UNITS[found[2]]
    if ms > LONGEST:
        raise ValueError(f"`{text}` is longer than ten years")
    return ms


def format_duration(ms: int) -> str:
    """The shortest exact way to write it; days only from two days on, as `24h` is how people say one day.

    >>> format_duration(86_400_000), format_duration(604_800_000), format_duration(1_500)
    ('24h', '7d', '1500ms')
    """
    for unit in ("d", "h", "m", "s", "ms"):
        n, rest = divmod(ms, UNITS[unit])
        if not rest and (n > 1 or unit != "d") and (n or unit == "s"):
            return f"{n}{unit}"
    return f"{ms}ms"


def format_number(x: float | None) -> str:
    """Digits a person can read: whole numbers with separators, others with at most four significant decimals.

    >>> format_number(1234567.0), format_number(0.123456), format_number(12.5), format_number(None)
    ('1,234,567', '0.1235', '12.5', '-')
    """
    if x is None or x != x:
        return "-"
    if x in (float("inf"), float("-inf")):
        return "inf" if x > 0 else "-inf"
    if x == int(x):
        return f"{int(x):,}"
    return f"{x:,.2f}".rstrip("0").rstrip(".") if abs(x) >= 10 else f"{x:.4g}"
