"""YAML with places: every scalar, list and mapping knows its file, line and column, so that errors can point at it.

Only plain data: no tags, anchors or aliases (so nothing can expand), no duplicate keys, limits on size and depth. Scalars follow the
YAML 1.2 core schema: `true false null`, numbers, everything else is text (`no` and `on` are words; times stay as written).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from shopward.errors import Problem
from shopward.expr.place import Place, point

MAX_BYTES = 2_000_000
MAX_DEPTH = 30
MAX_NODES = 200_000
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Source:
    """One file: its name relative to the rulebook, its text and lines."""

    file: str
    text: str
    lines: Sequence[str]


@dataclass(slots=True)
class At:
    """A node of the tree; line and column count from 1, `start` and `end` are characters of the text."""

    source: Source
    start: int
    end: int
    line: int
    column: int

    def problem(self, message: str, hint: str = "") -> Problem:
        width = self.end - self.start if isinstance(self, Scalar) else 0
        return point(self.source.file, self.source.lines, self.line, self.column, width, message, hint)


@dataclass(slots=True)
class Scalar(At):
    text: str
    style: str | None  # None plain, ' " | >

    @property
    def value(self) -> Any:
        """The plain value: quoted and block text is text; a plain scalar may be a number, true/false or null.

        >>> [load_text(t).value for t in ("12", "1.5", "true", "'12'", "no", "~", "2026-01-01")]
        [12, 1.5, True, '12', 'no', None, '2026-01-01']
        """
        return plain(self.text) if self.style is None else self.text

    def place(self) -> Place:
        """Line and column of every character of the text, whatever the style."""
        return Place(self.source.file, self.source.lines, _spots(self))


@dataclass(slots=True)
class Mapping(At):
    items: dict[str, At] = field(default_factory=dict)
    keys: dict[str, Scalar] = field(default_factory=dict)


@dataclass(slots=True)
class Sequence_(At):
    items: list[At] = field(default_factory=list)


_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")


def plain(text: str) -> Any:
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return text[0] in "tT"
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) and len(text) < 40 else text


def data(node: At) -> Any:
    """The node as plain Python data.

    >>> data(load_text("{a: [1, x], b: {c: ~}}"))
    {'a': [1, 'x'], 'b': {'c': None}}
    """
    if isinstance(node, Mapping):
        return {k: data(v) for k, v in node.items.items()}
    if isinstance(node, Sequence_):
        return [data(v) for v in node.items]
    return node.value  # type: ignore[attr-defined]


def load_text(text: str, file: str = "<text>", problems: list[Problem] | None = None) -> Any:
    """The tree of a YAML text (None when empty or unreadable); what is wrong is appended to `problems`.

    >>> found = []
    >>> load_text("a: 1\\na: 2", "x.yaml", found)
    >>> print(found[0].render())
    x.yaml:2:1: `a` stands here twice
        a: 2
        ^ the first is in line 1
    """
    found: list[Problem] = []
    source = Source(file, text, text.split("\n"))
    node = _load(source, found)
    if problems is not None:
        problems.extend(found)
    elif found:
        raise ValueError(found[0].render())
    return None if found else node


class _Stop(Exception):
    pass


def _load(source: Source, problems: list[Problem]) -> At | None:
    if len(source.text) > MAX_BYTES:
        problems.append(Problem(source.file, 1, 1, f"the file is larger than {MAX_BYTES // 1_000_000} MB"))
        return None
    loader = None
    try:
        loader = _Loader(source.text)
        return _Builder(source, loader, problems).document()
    except yaml.MarkedYAMLError as e:
        problems.append(_syntax(source, e))
    except yaml.YAMLError as e:  # characters YAML does not allow
        problems.append(Problem(source.file, 1, 1, f"this is not YAML: {str(e).splitlines()[0]}"))
    except UnicodeEncodeError:
        problems.append(Problem(source.file, 1, 1, "this is not YAML: half a character (a lone surrogate)"))
    except _Stop:
        pass
    finally:
        if loader is not None:
            loader.dispose()
    return None


def _syntax(source: Source, e: yaml.MarkedYAMLError) -> Problem:
    mark = e.problem_mark or e.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    hint = ""
    text = source.lines[line - 1] if line <= len(source.lines) else ""
    if "mapping values are not allowed" in (e.problem or ""):
        hint = "put a text that holds `: ` in quotes"
    elif "\t" in text[: column + 1] or "found character '\\t'" in (e.problem or ""):
        hint = "indent with spaces, not tabs"
    elif "did not find expected key" in (e.problem or "") and re.match(r"""[^#]*:\s+["']""", text):
        hint = "a value that begins with a quote must be in quotes as a whole"
    elif "expected ',' or" in (e.problem or ""):
        hint = "inside {...} put an expression that holds a comma in quotes"
    return point(source.file, source.lines, line, column, 1, f"this is not YAML: {e.problem}", hint)


class _Builder:
    """Builds the tree from parser events; recursion is bounded by MAX_DEPTH."""

    def __init__(self, source: Source, loader: Any, problems: list[Problem]):
        self.source, self.loader, self.problems, self.count = source, loader, problems, 0

    def document(self) -> At | None:
        get = self.loader.get_event
        get()  # stream start
        if self.loader.check_event(yaml.StreamEndEvent):
            return None
        get()  # document start
        node = self.node(get(), 0)
        get()  # document end
        if not self.loader.check_event(yaml.StreamEndEvent):
            self.stop(get(), "a second document starts here", "one document a file")
        return node

    def stop(self, event: Any, message: str, hint: str = "") -> None:
        mark = event.start_mark
        self.problems.append(
            point(self.source.file, self.source.lines, mark.line + 1, mark.column + 1, 1, message, hint)
        )
        raise _Stop

    def node(self, event: Any, depth: int) -> At:
        self.count += 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            self.stop(event, "anchors and aliases are not used in rulebooks", "write it out")
        if getattr(event, "tag", None) and event.tag != "!":
            self.stop(event, f"tags are not used in rulebooks: {event.tag}")
        if depth > MAX_DEPTH or self.count > MAX_NODES:
            self.stop(event, "nested too deeply" if depth > MAX_DEPTH else "too many values in one file")
        if isinstance(event, yaml.ScalarEvent):
            return Scalar(*self.at(event), text=event.value, style=event.style or None)
        return self.mapping(event, depth) if isinstance(event, yaml.MappingStartEvent) else self.sequence(event, depth)

    def at(self, event: Any) -> tuple[Source, int, int, int, int]:
        s, e = event.start_mark, event.end_mark
        return self.source, s.index, e.index, s.line + 1, s.column + 1

    def mapping(self, event: Any, depth: int) -> Mapping:
        node = Mapping(*self.at(event))
        while not self.loader.check_event(yaml.MappingEndEvent):
            key = self.node(self.loader.get_event(), depth + 1)
            value = self.node(self.loader.get_event(), depth + 1)
            if not isinstance(key, Scalar):
                self.problems.append(key.problem("a key must be a plain word"))
            elif key.text in node.items:
                self.problems.append(
                    key.problem(f"`{key.text}` stands here twice", f"the first is in line {node.keys[key.text].line}")
                )
            else:
                node.items[key.text], node.keys[key.text] = value, key
        node.end = self.loader.get_event().end_mark.index
        return node

    def sequence(self, event: Any, depth: int) -> Sequence_:
        node = Sequence_(*self.at(event))
        while not self.loader.check_event(yaml.SequenceEndEvent):
            node.items.append(self.node(self.loader.get_event(), depth + 1))
        node.end = self.loader.get_event().end_mark.index
        return node


# --- where each character of a scalar stands ------------------------------------------------------------------------------------


def _spots(s: Scalar) -> tuple[tuple[int, int], ...]:
    """Visible characters stand in the file in the same order as in the text; white space may be folded between them."""
    raw = s.source.text[s.start : s.end]
    at = _first_character(raw, s.style)
    places: list[int] = []
    for c in s.text:
        if c.isspace():
            places.append(at)
            at += at < len(raw) and raw[at].isspace()
            continue
        while at < len(raw) and raw[at].isspace():
            at += 1
        at, width = _step(raw, at, s.style)
        places.append(at)
        at += width
    places.append(at)
    return _lines_and_columns(raw, places, s.line, s.column)


def _first_character(raw: str, style: str | None) -> int:
    if style in ("|", ">"):
        return raw.find("\n") + 1
    return 1 if style in ("'", '"') else 0


def _step(raw: str, at: int, style: str | None) -> tuple[int, int]:
    """Where the next visible character stands, and how many characters of the file it takes."""
    if style == '"':
        while raw.startswith("\\\n", at):  # a line continued
            at += 2
            at += len(raw[at:]) - len(raw[at:].lstrip())
        if raw.startswith("\\", at):
            return at, {"x": 4, "u": 6, "U": 10}.get(raw[at + 1 : at + 2], 2)
    return at, 2 if style == "'" and raw.startswith("''", at) else 1


def _lines_and_columns(raw: str, places: list[int], line: int, column: int) -> tuple[tuple[int, int], ...]:
    spots, i = [], 0
    for at in places:
        while i < min(at, len(raw)):
            line, column = (line + 1, 1) if raw[i] == "\n" else (line, column + 1)
            i += 1
        spots.append((line, column))
    return tuple(spots)
