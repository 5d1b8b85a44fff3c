"""What happened: the reserved words of an event, its time, and how nested records become flat ones.

An event is a flat record. Three words are reserved: `event_id` (echoed as given), `ts` (when it happened) and `type` (what
happened). Everything else is a field; fields the rulebook does not declare are kept with the event but no rule can read them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from shopward.errors import BadEvent

RESERVED = ("event_id", "ts", "type")
LABEL_FIELDS = ("label", "label_event", "label_source")  # what an event of type `label` carries besides its entities
MAX_FIELDS = 1_000  # of one event, nested ones included
MAX_DEPTH = 16  # of nested objects and lists
MAX_TEXT = 8_192  # bytes of one declared text field
MAX_RECORD = 1 << 20  # bytes of one record as it arrives
LAST_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z
FIRST_MS = -62_135_596_800_000  # 0001-01-01T00:00:00Z

_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII,
)
_DIGITS = re.compile(r"-?\d{1,15}", re.ASCII)
TIME_WANTED = "ISO 8601 such as 2026-01-31T12:00:00Z, or epoch milliseconds"


def parse_time(value: Any) -> int:
    """Epoch milliseconds UTC of a time as it is written.

    Takes ISO 8601 (a date, or date and time; without a zone it is UTC; what is finer than a millisecond is cut off), epoch
    milliseconds as a number or a string of digits, and Python's date and datetime. Raises BadEvent for anything else.

    >>> parse_time("2026-01-31T13:00:00.5+01:00"), parse_time("2026-01-31"), parse_time(1769860800500)
    (1769860800500, 1769817600000, 1769860800500)
    """
    if isinstance(value, str):
        return _time_of_text(value)
    if isinstance(value, datetime):
        return _time_of_datetime(value)
    if isinstance(value, bool):
        raise BadEvent(f"expected {TIME_WANTED}, found true or false")
    if isinstance(value, int | float):
        if not FIRST_MS <= value <= LAST_MS:
            raise BadEvent(f"time out of range; expected {TIME_WANTED}")
        return int(value // 1)
    if isinstance(value, date):
        return (value.toordinal() - 719_163) * 86_400_000
    raise BadEvent(f"expected {TIME_WANTED}, found {name_of(value)}")


def _time_of_datetime(value: datetime) -> int:
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    since = value - datetime(1970, 1, 1, tzinfo=UTC)
    return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000


def _time_of_text(text: str) -> int:
    match = _ISO.fullmatch(text)
    if match is None:
        if _DIGITS.fullmatch(text):
            return parse_time(int(text))
        raise BadEvent(f"not a time; expected {TIME_WANTED}")
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        days = date(int(year), int(month), int(day)).toordinal() - 719_163
    except ValueError as wrong:
        raise BadEvent(f"not a date: {wrong}") from None
    clock = (int(hour or 0), int(minute or 0), int(second or 0))
    if clock[0] > 23 or clock[1] > 59 or clock[2] > 59:
        raise BadEvent("not a time of day: hours go to 23, minutes and seconds to 59")
    millis = int((fraction or "0")[:3].ljust(3, "0"))
    return ((days * 24 + clock[0]) * 60 + clock[1] - _zone_minutes(zone)) * 60_000 + clock[2] * 1000 + millis


def _zone_minutes(zone: str | None) -> int:
    if zone is None or zone == "Z":
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    hours, minutes = int(digits[:2]), int(digits[2:])
    if hours > 18 or minutes > 59:
        raise BadEvent("not a time zone: offsets go to 18:00")
    return -(hours * 60 + minutes) if zone[0] == "-" else hours * 60 + minutes


def format_time(ms: int) -> str:
    """A time as people and files read it.

    >>> format_time(1769860800500), format_time(1769817600000)
    ('2026-01-31T12:00:00.500Z', '2026-01-31T00:00:00Z')
    """
    seconds, millis = divmod(int(ms), 1000)
    days, rest = divmod(seconds, 86_400)
    clock = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{date.fromordinal(days + 719_163).isoformat()}T{clock}" + (f".{millis:03d}Z" if millis else "Z")


def flatten(record: Mapping[str, Any]) -> dict[str, Any]:
    """Nested objects become fields joined with `_`; lists stay as they are.

    >>> flatten({"id": 1, "card": {"bin": "411111", "issuer": {"country": "US"}}})
    {'id': 1, 'card_bin': '411111', 'card_issuer_country': 'US'}

    Raises BadEvent when two fields would get the same name, or when there are too many or too deep.
    """
    flat: dict[str, Any] = {}
    _flatten_into(flat, record, "", 1)
    return flat


def _flatten_into(flat: dict[str, Any], record: Mapping[str, Any], prefix: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise BadEvent(f"nested deeper than {MAX_DEPTH} levels")
    for key, value in record.items():
        if not isinstance(key, str):
            raise BadEvent(f"field names are strings, this one is {name_of(key)}")
        name = prefix + key
        if value.__class__ is dict or isinstance(value, Mapping):
            _flatten_into(flat, value, name + "_", depth + 1)
        elif name in flat:
            raise BadEvent("two fields of the record flatten to this name", field=name)
        else:
            flat[name] = value
            if len(flat) > MAX_FIELDS:
                raise BadEvent(f"more than {MAX_FIELDS} fields")


def name_of(value: Any) -> str:
    """What a value is, in the words of JSON, without showing it.

    >>> [name_of(value) for value in (None, True, 3, "x", [1], {})]
    ['null', 'true or false', 'a number', 'a string', 'a list', 'an object']
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, list | tuple | set | frozenset):
        return "a list"
    return "an object" if isinstance(value, Mapping) else f"a {type(value).__name__}"
