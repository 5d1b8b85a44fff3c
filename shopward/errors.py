"""Everything that can go wrong, as a tree. Every message says what is wrong, where, and what would be right.

ShopwardError                exit code
├── UsageError               2   the command or call was made wrongly
│   └── RulebookError        2   a rulebook does not check (carries every Problem found, all at once)
├── BadData                  3   input that cannot be used
│   ├── BadEvent             3   one record (goes to dead letters; the rest goes on)
│   └── CorruptStore         3   a log, snapshot or lake file that is not what was written
├── MissingExtra             4   an optional dependency is not installed
├── NotYet                   2   declared in the language, not available in this version or engine
└── StoreFull                5   the disk or a configured memory limit is full; nothing acknowledged was lost
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any


class ShopwardError(Exception):
    """Root of every error Shopward raises on purpose."""

    exit_code = 1


class UsageError(ShopwardError):
    exit_code = 2


class NotYet(ShopwardError):
    exit_code = 2


class BadData(ShopwardError):
    exit_code = 3


class BadEvent(BadData):
    """One record that cannot become an event; `reason` is safe to log (values are masked)."""

    def __init__(self, reason: str, *, field: str | None = None):
        super().__init__(f"{field}: {reason}" if field else reason)
        self.reason = reason
        self.field = field


class CorruptStore(BadData):
    pass


class StoreFull(ShopwardError):
    exit_code = 5


class MissingExtra(ShopwardError):
    """An optional capability is not installed.

    >>> str(MissingExtra("spark", "pyspark"))
    "this needs pyspark: pip install 'shopward[spark]'"
    """

    exit_code = 4

    def __init__(self, extra: str, package: str):
        super().__init__(f"this needs {package}: pip install 'shopward[{extra}]'")
        self.extra = extra


def extra(name: str, library: str) -> Any:
    """A library that only an extra brings. Raises MissingExtra with the line that installs it.

    >>> extra("ml", "json").loads("1")
    1
    """
    try:
        return import_module(library)
    except ImportError:
        raise MissingExtra(name, library) from None


_CELLS = re.compile(r"(got \d+|invalid value|invalid UTF8[^:]*):? .*", re.DOTALL)


def table_reason(wrong: Exception) -> str:
    """Why a reader of tables refused a file, in one line and without the cells it quotes: they may be personal.

    >>> table_reason(ValueError("CSV parse error: Expected 1 columns, got 2: ann@example.com,5"))
    'CSV parse error: Expected 1 columns, got 2'
    """
    return _CELLS.sub(r"\1", str(wrong)).splitlines()[0].rstrip(".")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a rulebook, with the place and what would be right.

    `line` and `column` count from 1; `width` is the number of characters to underline (0: no caret line).

    >>> print(Problem("rules/a.yaml", 7, 9, "unknown feature `x_24h`", "when: x_24h > 5", 5, "did you mean `y_24h`?").render())
    rules/a.yaml:7:9: unknown feature `x_24h`
        when: x_24h > 5
              ^^^^^ did you mean `y_24h`?
    """

    file: str
    line: int
    column: int
    message: str
    source: str = ""  # the source line, stripped of its indentation
    width: int = 0
    hint: str = ""
    caret: int | None = None  # offset of the caret in `source`; None: found by searching is not done, defaults below

    def render(self) -> str:
        head = f"{self.file}:{self.line}:{self.column}: {self.message}"
        if not self.source or not self.width:
            return head + (f" ({self.hint})" if self.hint else "")
        at = self.caret
        if at is None:
            at = self.source.find(": ") + 2 if ": " in self.source else 0
        under = " " * at + "^" * self.width
        return f"{head}\n    {self.source}\n    {under}{' ' + self.hint if self.hint else ''}"


class RulebookError(UsageError):
    """A rulebook that does not check. `problems` holds every Problem, ordered by file, line and column."""

    def __init__(self, problems: list[Problem], root: Path | None = None):
        self.problems = sorted(problems, key=lambda p: (p.file, p.line, p.column, p.message))
        self.root = root
        super().__init__("\n".join(p.render() for p in self.problems))
