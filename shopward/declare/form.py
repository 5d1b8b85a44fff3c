"""Reads one mapping of a rulebook file key by key, collecting every problem with its place instead of stopping at the first."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable
from typing import Any

from shopward.declare.durations import parse_duration
from shopward.declare.tree import At, Mapping, Scalar, Sequence_
from shopward.errors import Problem
from shopward.expr import FUNCTIONS, Expr, Scope, Type, check
from shopward.expr.parse import comment_in
from shopward.expr.place import suggest

_NAME = re.compile(r"[a-z][a-z0-9_]{0,79}")
_LANGUAGE = frozenset(("true", "false", "none", "null", "listed", "lookup", "duration", "model", "score", "risk"))
_GENERATED = frozenset(("t", "nan", "div", "mod", "floor", "round_even", "least", "greatest", "first", "abs"))
RESERVED_WORDS = frozenset(keyword.kwlist) | _LANGUAGE | _GENERATED | {f"f_{name}" for name in FUNCTIONS}


_COMMENTS = "comments may stand in a block that starts with `|`"
ENOUGH = 500  # problems of one rulebook; then expressions are no longer looked at


class Form:
    """`what` says what is being filled in, for messages: "a rule", "feature `x`"."""

    def __init__(self, node: Mapping, what: str, problems: list[Problem], known: Iterable[str] | None = None):
        self.node, self.what, self.problems = node, what, problems
        if known is not None:
            self.only(known)

    def only(self, known: Iterable[str]) -> None:
        """Every other key is a problem."""
        names = tuple(known)
        for key, at in self.node.keys.items():
            if key not in names:
                self.wrong(at, f"{self.what} has no `{key}`", suggest(key, names, "a key"))

    def wrong(self, at: At | str, message: str, hint: str = "") -> Any:
        """Notes a problem; its None is what the caller answers."""
        node = self.node.items.get(at) or self.node if isinstance(at, str) else at
        self.problems.append(node.problem(message, hint))
        return None

    def has(self, key: str) -> bool:
        return key in self.node.items

    def get(self, key: str) -> At | None:
        """The node under a key; `key: ~` counts as absent."""
        node = self.node.items.get(key)
        return None if isinstance(node, Scalar) and node.style is None and node.value is None else node

    def required(self, *keys: str) -> bool:
        """Are they all there?"""
        missing = [f"`{k}`" for k in keys if self.get(k) is None]
        if missing:
            self.wrong(self.node, f"{self.what} needs {', '.join(missing)}")
        return not missing

    # --- typed values

    def text(self, key: str, default: str = "") -> str:
        node = self.get(key)
        if node is None:
            return default
        return node.text if isinstance(node, Scalar) else self.wrong(node, f"`{key}` must be a text") or default

    def flag(self, key: str, default: bool = False) -> bool:
        node = self.get(key)
        if node is None:
            return default
        value = node.value if isinstance(node, Scalar) else None
        if not isinstance(value, bool):
            self.wrong(node, f"`{key}` must be true or false")
            return default
        return value

    def number(self, key: str, default: float, low: float, high: float) -> float:
        node = self.get(key)
        if node is None:
            return default
        value = node.value if isinstance(node, Scalar) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            self.wrong(node, f"`{key}` must be a number{_range(low, high)}")
            return default
        return float(value)

    def choice(self, key: str, options: Iterable[str], default: str = "", noun: str = "") -> str:
        noun = noun or key
        node, names = self.get(key), tuple(options)
        if node is None:
            return default
        text = node.text if isinstance(node, Scalar) else ""
        if text not in names:
            self.wrong(
                node,
                f"unknown {noun} `{text}`" if text else f"`{key}` must be a word",
                suggest(text, names, f"the {noun}"),
            )
            return default
        return text

    def duration(self, key: str, default: int | None = None, least: int = 1) -> int | None:
        """Milliseconds."""
        node = self.get(key)
        if node is None:
            return default
        text = node.text if isinstance(node, Scalar) else ""
        try:
            ms = parse_duration(text)
        except ValueError as e:
            zero = least == 0 and text == "0"
            return (
                0
                if zero
                else self.wrong(
                    node, str(e) if text else f"`{key}` must be a duration", "for example 90s, 15m, 1h, 24h, 7d"
                )
            )
        return ms if ms >= least else self.wrong(node, f"`{key}` must be longer than zero")

    def words(self, key: str) -> list[Scalar]:
        """A list of words, or one word standing alone."""
        node = self.get(key)
        if node is None:
            return []
        if isinstance(node, Scalar):
            return [node]
        items = node.items if isinstance(node, Sequence_) else []
        if not items or not all(isinstance(i, Scalar) for i in items):
            return self.wrong(node, f"`{key}` must be a word or a list of words") or []
        return items  # type: ignore[return-value]

    def known_words(self, key: str, noun: str, known: Iterable[str]) -> tuple[str, ...]:
        """A list of words, each of them known."""
        words, names = self.words(key), tuple(known)
        for w in words:
            if w.text not in names:
                self.wrong(w, f"unknown {noun} `{w.text}`", suggest(w.text, names, f"the {noun}"))
        return tuple(w.text for w in words)

    def mapping(self, key: str, what: str | None = None) -> Form | None:
        node = self.get(key)
        if node is None:
            return None
        return (
            Form(node, what or f"`{key}`", self.problems)
            if isinstance(node, Mapping)
            else self.wrong(node, f"`{key}` must be a mapping")
        )

    def sequence(self, key: str) -> list[At]:
        node = self.get(key)
        if node is None:
            return []
        return node.items if isinstance(node, Sequence_) else self.wrong(node, f"`{key}` must be a list") or []

    def expr(self, key: str, scope: Scope, want: Type | tuple[Type, ...]) -> Expr | None:
        node = self.get(key)
        if node is None:
            return None
        if not isinstance(node, Scalar):
            return self.wrong(node, f"`{key}` must be an expression", "put it in quotes")
        if len(self.problems) > ENOUGH:
            return None
        note = comment_in(node.text) if node.style != "|" else None
        if note is not None:  # line ends are folded away, so the comment would swallow the lines after it
            self.problems.append(
                node.place().problem(note, len(node.text), "a comment inside this expression", _COMMENTS)
            )
            return None
        return check(node.text, scope, want=want, place=node.place, problems=self.problems)


def named(node: At, what: str, problems: list[Problem], read: bool = True) -> list[tuple[Scalar, At]]:
    """The entries of a mapping of names to things; names that expressions `read` must not be words of the language."""
    if not isinstance(node, Mapping):
        problems.append(node.problem(f"this file must map names to {what}"))
        return []
    for key in node.keys.values():
        check_name(key, problems, read)
    return [(node.keys[k], v) for k, v in node.items.items() if is_name(k, read)]


def is_name(text: str, read: bool = False) -> bool:
    """May something be called so? Fields and features are `read` by expressions and must not be words of the language.

    >>> is_name("card_failed_1h"), is_name("Card"), is_name("from"), is_name("from", read=True)
    (True, False, True, False)
    """
    return _NAME.fullmatch(text) is not None and not (read and text in RESERVED_WORDS)


def check_name(key: Scalar, problems: list[Problem], read: bool = False) -> None:
    """A Problem unless it `is_name`."""
    if read and key.text in RESERVED_WORDS:
        problems.append(key.problem(f"`{key.text}` is a word of the language", "choose another name"))
    elif not is_name(key.text):
        problems.append(
            key.problem(f"`{key.text}` is not a name", "lower-case letters, digits and _, starting with a letter")
        )


def _range(low: float, high: float) -> str:
    if high == float("inf"):
        return "" if low == -high else f" of at least {low:g}"
    return f" from {low:g} to {high:g}"
