"""Attack rules are content: a pattern, where it is looked for, what it means, and examples on both sides. This loads and checks them.

A pattern stays within what every engine reads the same and in linear time: repeats are bounded, nothing looks around or back, and
some literal must stand in whatever it matches, so that a scan for literals finds the few rules worth trying.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

from shopward import techniques
from shopward.errors import Problem, RulebookError

FOLDER = Path(__file__).with_name("rules")
REPEAT = 400  # the longest repeat
WIDTH = 4000  # the longest text one match may look at
LITERALS = 1000  # literals one rule may need
PLACES = ("value", "name", "path", "url", "header", "agent", "file", "cookie", "body", "document")


@dataclass(frozen=True, slots=True)
class AttackClass:
    """What an attack is called elsewhere, and which techniques it is."""

    id: str
    title: str
    owasp: str
    cwe: str
    capec: str
    techniques: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """One sign of an attack. `score` in (0, 1]; `where` names kinds of places; `hits` and `misses` are its examples."""

    id: str
    cls: str
    title: str
    pattern: str
    score: float
    where: frozenset[str]
    cased: bool = False
    hits: tuple[str, ...] = ()
    misses: tuple[str, ...] = ()
    literals: frozenset[bytes] = frozenset()
    regex: re.Pattern[bytes] = field(default=re.compile(b""), repr=False)


DEFAULT_WHERE = frozenset({"value", "name", "path", "header", "agent", "cookie", "body", "file"})


@lru_cache(maxsize=1)
def shipped() -> tuple[dict[str, AttackClass], tuple[Rule, ...]]:
    """The classes and rules that come with Shopward."""
    return load(sorted(FOLDER.glob("*.yaml")))


def load(paths: Iterable[Path]) -> tuple[dict[str, AttackClass], tuple[Rule, ...]]:
    """Classes and rules of YAML files. Raises RulebookError with every problem at once."""
    import yaml

    classes: dict[str, AttackClass] = {}
    rules: dict[str, Rule] = {}
    problems: list[Problem] = []
    for path in paths:
        text = path.read_text(encoding="utf-8")
        try:
            document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
        except yaml.YAMLError as wrong:
            mark = getattr(wrong, "problem_mark", None)
            problems.append(
                Problem(path.name, mark.line + 1 if mark else 1, 1, f"no YAML: {getattr(wrong, 'problem', wrong)}")
            )
            continue
        for id, given in (document.get("classes") or {}).items():
            classes[id] = AttackClass(
                id,
                given["title"],
                given.get("owasp", ""),
                given.get("cwe", ""),
                given.get("capec", ""),
                tuple(given.get("techniques", ())),
            )
            problems += [
                Problem(path.name, _line(text, id), 1, f"unknown technique `{t}`")
                for t in classes[id].techniques
                if t not in techniques.TECHNIQUES
            ]
        for given in document.get("rules") or ():
            try:
                rule = _rule(given)
                if rule.id in rules:
                    raise ValueError(f"there are two rules `{rule.id}`")
                rules[rule.id] = rule
            except (KeyError, ValueError, TypeError) as wrong:
                id = str(given.get("id", "?")) if isinstance(given, dict) else "?"
                why = f"needs `{wrong.args[0]}`" if isinstance(wrong, KeyError) else str(wrong)
                problems.append(Problem(path.name, _line(text, id), 1, f"rule `{id}`: {why}"))
    problems += [
        Problem("rules", 1, 1, f"rule `{r.id}`: unknown class `{r.cls}`")
        for r in rules.values()
        if classes and r.cls not in classes
    ]
    if problems:
        raise RulebookError(problems)
    return classes, tuple(rules.values())


def _line(text: str, id: str) -> int:
    at = text.find(id)
    return text.count("\n", 0, at) + 1 if at >= 0 else 1


def _rule(given: dict[str, Any]) -> Rule:
    pattern = " ".join(given["pattern"].split("\n")) if "\n" in given["pattern"] else given["pattern"]
    where = frozenset(given.get("where", DEFAULT_WHERE))
    if not where <= frozenset(PLACES):
        raise ValueError(f"unknown place {sorted(where - frozenset(PLACES))}: places are {', '.join(PLACES)}")
    return make(
        given["id"], given["class"], given["title"], pattern, float(given["score"]), where, bool(given.get("cased")),
        tuple(map(str, given["hits"])), tuple(map(str, given["misses"])),
    )  # fmt: skip


def make(
    id: str,
    cls: str,
    title: str,
    pattern: str,
    score: float,
    where: frozenset[str] = DEFAULT_WHERE,
    cased: bool = False,
    hits: tuple[str, ...] = (),
    misses: tuple[str, ...] = (),
    least: int = 1,
) -> Rule:
    """A checked rule. Raises ValueError when its pattern is not linear, or needs no literal.

    >>> sorted(make("x", "sqli", "X", "union [a-z]{1,9}|select", 0.5).literals)
    [b'select', b'union ']
    >>> make("x", "sqli", "X", "(a+)+b", 0.5)
    Traceback (most recent call last):
    ValueError: a repeat without an end (bound it: {0,40})
    """
    try:
        raw = pattern.encode()
        tree = _parser.parse(raw, re.DOTALL)
        regex = re.compile(raw, re.DOTALL)
    except re.error as wrong:
        raise ValueError(f"no pattern: {wrong}") from None
    width = _width(tree)
    if width > WIDTH:
        raise ValueError(f"a match may look at {width} bytes, {WIDTH} are allowed")
    literals = _literals(tree)
    if literals is None or min(map(len, literals)) < least:
        raise ValueError("nothing in the pattern must stand in every match: write it around a literal")
    return Rule(
        id, cls, title, pattern, score, where, cased, hits, misses, frozenset(s.lower() for s in literals), regex
    )


def _width(tree: Any) -> int:
    total = 0
    for kind, value in tree:
        if kind in (op.MAX_REPEAT, op.MIN_REPEAT):
            low, high, inner = value
            if high == op.MAXREPEAT:
                raise ValueError("a repeat without an end (bound it: {0,40})")
            if high > REPEAT:
                raise ValueError(f"a repeat of {high}, {REPEAT} are allowed")
            total += high * max(1, _width(inner))
        elif kind is op.BRANCH:
            total += max(_width(branch) for branch in value[1])
        elif kind is op.SUBPATTERN:
            total += _width(value[3])
        elif kind in (op.ASSERT, op.ASSERT_NOT, op.GROUPREF, op.GROUPREF_EXISTS, op.ATOMIC_GROUP, op.POSSESSIVE_REPEAT):
            raise ValueError("looks around, back-references and atomic groups are not in every engine")
        elif kind is not op.AT:
            total += 1
    return total


def _literals(tree: Any) -> set[bytes] | None:
    """Literals of which one must be in every match; None when there are none. The set whose shortest is longest wins."""
    best: set[bytes] | None = None
    run: list[set[bytes]] = []
    for kind, value in [*tree, (None, None)]:
        letters = _letters(kind, value)
        if letters is not None and len(letters) <= 3 and len(_product([*run, letters])) <= 16:
            run.append(letters)
            continue
        best = _better(best, _product(run) if run else None)
        if (
            kind in (op.MAX_REPEAT, op.MIN_REPEAT)
            and value[0] >= 2
            and (same := _letters(*value[2][0]))
            and len(value[2]) == 1
        ):
            best = _better(best, {letter * min(value[0], 8) for letter in same} if len(same) == 1 else None)
        run = [letters] if letters is not None and len(letters) <= 12 else []
        if kind is op.SUBPATTERN:
            best = _better(best, _literals(value[3]))
        elif kind is op.BRANCH:
            best = _better(best, _union(value[1]))
        elif kind in (op.MAX_REPEAT, op.MIN_REPEAT) and value[0] >= 1:
            best = _better(best, _literals(value[2]))
    return best


def _letters(kind: Any, value: Any) -> set[bytes] | None:
    if kind is op.LITERAL:
        return {bytes((value,))}
    if kind is op.IN and all(k is op.LITERAL for k, _ in value):
        return {bytes((v,)) for _, v in value}
    return None


def _product(run: list[set[bytes]]) -> set[bytes]:
    found = {b""}
    for letters in run:
        found = {head + letter for head in found for letter in letters}
    return found


def _union(branches: Any) -> set[bytes] | None:
    found: set[bytes] = set()
    for branch in branches:
        some = _literals(branch)
        if some is None:
            return None
        found |= some
    return found if len(found) <= LITERALS else None


def _better(a: set[bytes] | None, b: set[bytes] | None) -> set[bytes] | None:
    if not a or not b or b == {b""}:
        return a or (b if b != {b""} else None) or None
    value = lambda s: (min(map(len, s)), -len(s))  # noqa: E731
    return a if value(a) >= value(b) else b
