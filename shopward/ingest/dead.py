"""Dead letters: records that could not become events, each with its place and the reason, so that none is lost silently."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from shopward.errors import BadEvent

SHOWN = 160  # characters of a value or a broken record that are kept
KINDS_OF_REASON = 1_000
_LETTER = re.compile(r"[^\W\d_]")
_DIGIT = re.compile(r"\d")


class DeadLetters:
    """Counts what could not be used, and writes it to a file of NDJSON rows {file, line, reason, field, record} when one is given.

    `line` counts lines of NDJSON and CSV files from 1, and rows of tables. Personal data is masked: of the record only declared
    fields that are not `pii` are shown. `noted` counts values that became null (NaN, no currency rate); their events went on.

    >>> dead = DeadLetters()
    >>> dead.put("a.ndjson", 7, BadEvent("expected a number, found a list", field="amount"))
    >>> dead.count, dead.why()
    (1, 'amount: expected a number, found a list (1; first at a.ndjson:7)')
    """

    def __init__(self, path: str | Path | None = None):
        self.path = Path(path) if path is not None else None
        self.count = 0
        self.reasons: Counter[str] = Counter()
        self.noted: Counter[str] = Counter()
        self.files: list[str] = []  # files that could not be read (on): name and reason
        self._first: dict[str, str] = {}
        self._file: Any = None

    def put(self, file: str, line: int, why: BadEvent | str, record: Any = None) -> None:
        """One record that is out; `record` must be masked already."""
        reason = str(why)
        self.count += 1
        if not line and len(self.files) < KINDS_OF_REASON:
            self.files.append(f"{file}: {reason}")
        if reason in self.reasons or len(self.reasons) < KINDS_OF_REASON:
            self.reasons[reason] += 1
            self._first.setdefault(reason, f"{file}:{line}" if line else file)
        if self.path is not None:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open("wb")
            field = why.field if isinstance(why, BadEvent) else None
            row = {"file": file, "line": line, "reason": reason, "field": field, "record": record}
            self._file.write(msgspec.json.encode(row) + b"\n")

    def why(self, most: int = 3) -> str:
        """The commonest reasons with how often and where first."""
        return "; ".join(
            f"{reason} ({n:,}; first at {self._first[reason]})" for reason, n in self.reasons.most_common(most)
        )

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> DeadLetters:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def mask_record(record: Mapping[str, Any], shown: frozenset[str]) -> dict[str, Any]:
    """A record as a dead letter may keep it: values of the `shown` fields, of all others only what they are.

    >>> mask_record({"type": "login", "email": "ann@example.com", "n": 3}, frozenset({"type"}))
    {'type': 'login', 'email': '*** (15 characters)', 'n': '***'}
    """
    return {
        name[:SHOWN]: _shorten(value) if name in shown else _mask(value) for name, value in list(record.items())[:100]
    }


def _shorten(value: Any) -> Any:
    if isinstance(value, str):
        text = value.encode("utf-8", "replace").decode()
        return text if len(text) <= SHOWN else text[:SHOWN] + "..."
    return value if value is None or isinstance(value, bool | float) or _small(value) else _mask(value)


def _small(value: Any) -> bool:
    return isinstance(value, int) and abs(value) < 1 << 63


def _mask(value: Any) -> str:
    return f"*** ({len(value)} characters)" if isinstance(value, str) else "***"


def mask_text(raw: bytes) -> str:
    """The outline of a record that cannot be read: letters become x, digits 9, so that its shape can be seen and nothing else.

    >>> mask_text(b'{"email": "ann@example.com", "age": 33')
    '{"xxxxx": "xxx@xxxxxxx.xxx", "xxx": 99'
    """
    text = raw[:SHOWN].decode("utf-8", "replace")
    return _DIGIT.sub("9", _LETTER.sub("x", text)) + ("..." if len(raw) > SHOWN else "")
