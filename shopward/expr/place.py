"""Where a piece of an expression stands in a file, so that every message can point at it.

An expression lives inside a YAML scalar that may be quoted, folded or indented; `Place` knows the line and column of each of its
characters and turns a span of them into a `Problem` with the source line and a caret.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shopward.errors import Problem

SHOWN = 140  # characters of a source line shown in a message; longer lines are cut around the caret


@dataclass(frozen=True, slots=True)
class Place:
    """`spots[i]` is the (line, column) of character i of the expression, counted from 1; the last spot is one past its end."""

    file: str
    lines: Sequence[str]
    spots: Sequence[tuple[int, int]]

    @classmethod
    def of(cls, source: str, file: str = "<expression>") -> Place:
        """The place of an expression that is a text of its own.

        >>> Place.of("a > 5").spots[4]
        (1, 5)
        """
        spots, line, column = [], 1, 1
        for c in source:
            spots.append((line, column))
            line, column = (line + 1, 1) if c == "\n" else (line, column + 1)
        return cls(file, source.split("\n"), (*spots, (line, column)))

    def problem(self, start: int, end: int, message: str, hint: str = "") -> Problem:
        """A Problem that underlines characters start..end.

        >>> print(Place.of("a > b", "rules/x.yaml").problem(4, 5, "unknown name `b`", "did you mean `a`?").render())
        rules/x.yaml:1:5: unknown name `b`
            a > b
                ^ did you mean `a`?
        """
        last = len(self.spots) - 1
        line, column = self.spots[min(start, last)]
        end_line, end_column = self.spots[min(max(end, start + 1), last)]
        width = end_column - column if end_line == line else 0
        return point(self.file, self.lines, line, column, width, message, hint)


def point(file: str, lines: Sequence[str], line: int, column: int, width: int, message: str, hint: str = "") -> Problem:
    """A Problem at line:column with `width` characters underlined (0: to the end of the line)."""
    text = lines[line - 1].rstrip("\r\n") if 0 < line <= len(lines) else ""
    indent = len(text) - len(text.lstrip())
    caret = max(0, column - 1 - indent)
    shown = text.strip()
    width = max(1, min(width or len(shown) - caret, len(shown) - caret))
    if len(shown) > SHOWN:
        cut = max(0, caret - SHOWN // 2)
        shown = ("…" if cut else "") + shown[cut : cut + SHOWN] + ("…" if cut + SHOWN < len(shown) else "")
        caret += (1 if cut else 0) - cut
        width = max(1, min(width, len(shown) - caret))
    shown = "".join(c if c.isprintable() else " " for c in shown)
    return Problem(file, line, column, message, shown, width if shown else 0, hint, caret)


def suggest(name: str, known: Iterable[str], what: str = "") -> str:
    """The hint for a misspelt name: the nearest known one, or all when there are few.

    >>> suggest("device_account_24h", ["device_accounts_24h", "amount"])
    'did you mean `device_accounts_24h`?'
    >>> suggest("purple", ["low", "high"], "severity")
    'severity is one of: low, high'
    """
    names = list(dict.fromkeys(known))
    near = difflib.get_close_matches(name[:80], names, n=1, cutoff=0.6)
    if near:
        return f"did you mean `{near[0]}`?"
    if names and len(names) <= 12 and what:
        return f"{what} is one of: {', '.join(names)}"
    return ""
