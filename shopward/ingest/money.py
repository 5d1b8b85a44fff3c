"""Money as whole numbers of minor units, exact to the last cent, in the rulebook's base currency.

Amounts are read from their decimal text (0.285 is 0.285, not the binary number beside it) and rounded half to even. Amounts in
another currency are converted at the rate of the event's day; where there is no rate the amount is missing and counted.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from shopward.declare.types import Lookup
from shopward.errors import BadEvent
from shopward.event import name_of

LIMIT = 10**12  # minor units: what a window can add up by the million without leaving 64 bits
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)
_EXPONENTS = tuple(Decimal(1).scaleb(-digits) for digits in range(19))
MAX_DIGITS = 400  # of a number written as text


def decimal_of(value: Any) -> Decimal | None:
    """The exact decimal a JSON number or a text stands for; None for NaN.

    >>> decimal_of(0.285), decimal_of("12.50"), decimal_of(float("nan"))
    (Decimal('0.285'), Decimal('12.50'), None)
    """
    kind = type(value)
    if kind is float:
        if value != value:
            return None
        if value in (float("inf"), float("-inf")):
            raise BadEvent("infinite; expected a number")
        return Decimal(repr(value))
    if kind is int or kind is Decimal:
        return _finite(Decimal(value))
    if kind is str:
        return _decimal_of_text(value)
    if hasattr(value, "item"):  # a numpy scalar
        return decimal_of(value.item())
    raise BadEvent(f"expected a number, found {name_of(value)}")


def _finite(value: Decimal) -> Decimal | None:
    if value.is_nan():
        return None
    if not value.is_finite():
        raise BadEvent("infinite; expected a number")
    return value


def _decimal_of_text(text: str) -> Decimal | None:
    text = text.strip()
    if len(text) > MAX_DIGITS or _NUMBER.fullmatch(text) is None:
        if text.lower() == "nan":
            return None
        raise BadEvent("expected a number, found a string that is none")
    return Decimal(text)


def minor_of(value: Decimal, digits: int, signed: bool) -> int:
    """Minor units of an amount, half to even; BadEvent when it is negative or beyond the limit.

    >>> minor_of(Decimal("0.285"), 2, False), minor_of(Decimal("0.275"), 2, False)
    (28, 28)
    """
    if value and value.adjusted() > 14:
        raise BadEvent(_over(digits))
    minor = int(value.quantize(_EXPONENTS[digits], ROUND_HALF_EVEN).scaleb(digits))
    if minor < 0 and not signed:
        raise BadEvent("negative; declare the field `signed: true` if that is meant")
    if not -LIMIT <= minor <= LIMIT:
        raise BadEvent(_over(digits))
    return minor


def _over(digits: int) -> str:
    return f"over {LIMIT // 10**digits:,}, the most one amount may be"


class Rates:
    """Daily rates: how much one unit of a foreign currency is worth in the base currency, from the rulebook's lookup."""

    def __init__(self, base: str, lookup: Lookup | None):
        self.base = base.upper()
        self._starts: dict[str, list[int]] = {}
        self._rows: dict[str, list[tuple[int | None, Decimal]]] = {}
        for code, rows in (lookup.rows if lookup else {}).items():
            kept = [row for row in rows if row[2].get("rate") is not None]
            self._starts[code.upper()] = [since for since, _, _ in kept]
            self._rows[code.upper()] = [(until, Decimal(repr(float(row["rate"])))) for _, until, row in kept]

    def rate(self, code: str, ts: int) -> Decimal | None:
        """The rate in force at `ts`, None when there is none.

        >>> rows = {"EUR": ((0, None, {"rate": 1.1}), (1000, None, {"rate": 1.25}))}
        >>> rates = Rates("USD", Lookup("rates", "string", {"rate": "number"}, rows))
        >>> rates.rate("EUR", 999), rates.rate("EUR", 1000), rates.rate("GBP", 1000)
        (Decimal('1.1'), Decimal('1.25'), None)
        """
        code = code.upper()
        if code == self.base:
            return Decimal(1)
        at = bisect_right(self._starts.get(code, ()), ts) - 1
        if at < 0:
            return None
        until, rate = self._rows[code][at]
        return rate if until is None or ts < until else None
