"""A mined rule as a file that a strategist can read, test and put into force: draft YAML with the story of a real case as its test.

The story is the shortest stretch of history after which the rule fires from an empty start. Names in it are replaced (`terminal-1`),
times moved: what counts is who is the same as whom, and how long after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from shopward.backtest.mine import Mine, Mined
from shopward.backtest.replay import SEED
from shopward.backtest.report import day_text
from shopward.batch import LABEL, Batch, Needs
from shopward.decide import Engine
from shopward.declare.types import Feature
from shopward.errors import BadEvent, ShopwardError
from shopward.rules_test import just, run_tests

if TYPE_CHECKING:
    from shopward.declare.rulebook import Rulebook

CASES = 4  # real cases tried for the story of one rule
MOST_EVENTS = 1500  # of one case, before it is shortened
LONGEST = 60  # events of a story that is kept
TRIES = 120  # shortenings tried for one story
FIRST_MOMENT = 1_767_225_600_000  # stories begin on 2026-01-01
STRANGER = "someone-else"


def drafts(
    result: Mine,
    events: Sequence[Path],
    rulebook: Rulebook,
    *,
    labels: Path | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> dict[str, str]:
    """Relative path -> YAML text of every rule found; each parses, checks, and passes the tests it carries."""
    if not result.found:
        return {}
    books = {m.id: _alone(rulebook, m) for m in result.found}
    cases = {m.id: _cases(m, result) for m in result.found}
    stories = _stories(result, books, cases, events, labels, on_progress)
    out: dict[str, str] = {}
    for m in result.found:
        path = f"rules/{m.id}.yaml"
        tests = [_told(s, True) for s in stories.get(m.id, [])[:1]] + _quiet(m, books[m.id])
        text = _text(m, result, tests)
        out[path] = text if _passes(rulebook, path, text, m.id) else _text(m, result, [])
    return out


def _alone(rulebook: Rulebook, m: Mined) -> Rulebook:
    """The rulebook with just this rule, live, and the features it reads."""
    from shopward.declare.rulebook import Rulebook as Book

    texts = {n: t for n, t in rulebook.files.items() if not n.startswith("rules/")}
    rule_text = yaml.safe_dump(
        {"id": m.id, "title": m.id, "on": [m.type], "when": m.when, "then": m.then}, width=10_000
    )
    book = Book.from_files({**texts, f"rules/{m.id}.yaml": rule_text})
    return just(book, book.rules[m.id])


def _cases(m: Mined, result: Mine) -> list[int]:
    """History rows of a few frauds the rule catches, early ones first: they need the least history before them."""
    fraud = m.rows[result.judged.fraud[m.rows]]
    picked = fraud[np.unique(np.linspace(0, len(fraud) - 1, CASES).astype(int))] if len(fraud) else fraud
    return [int(result.judged.rows[i]) for i in picked]


# ---- what led to a case


def _stories(
    result: Mine, books: dict[str, Rulebook], cases: dict[str, list[int]], events, labels, on_progress
) -> dict[str, list[list[dict]]]:
    """Per rule the shortened stories that make it fire, shortest first."""
    reach = {name: _reach(book) for name, book in books.items()}
    keys = _keys(books, cases, events, labels, result)
    on_progress(1)
    found: dict[tuple[str, int], list[dict]] = {(name, row): [] for name, rows in cases.items() for row in rows}
    for batch, first in _batches(books, events, labels, result):
        for (name, row), story in found.items():
            if first is not None and first <= row + batch.n:
                _gather(
                    story,
                    batch,
                    first,
                    row,
                    keys.get((name, row), {}),
                    reach[name],
                    int(result.history.ts[row]),
                    books[name],
                )
    out: dict[str, list[list[dict]]] = {}
    for (name, _), story in found.items():
        on_progress(1)
        short = _shortened(_renamed(story, books[name]), books[name])
        if short and len(short) <= LONGEST:
            out.setdefault(name, []).append(short)
    return {name: sorted(stories, key=len) for name, stories in out.items()}


def _batches(books: dict[str, Rulebook], events, labels, result: Mine) -> Iterable[tuple[Batch, int]]:
    """Every batch with the columns that the rules' stories tell, and the history row of its first event."""
    any_book = next(iter(books.values()))
    whole = copy(any_book)
    whole.features = {n: f for book in books.values() for n, f in book.features.items()}
    whole.rules = {n: r for book in books.values() for n, r in book.rules.items()}
    engine = Engine(whole, mode="interpreted", seed=SEED)
    engine.needs = engine.needs | Needs(numbers=frozenset({"label"}), hashes=frozenset({"label_event"}))
    first = 0
    for batch in engine.read(events, labels=labels):
        yield batch, first
        first += int((batch.types != LABEL).sum())


def _keys(books, cases, events, labels, result: Mine) -> dict[tuple[str, int], dict[str, tuple[int, int]]]:
    """The key of each case by role: role -> hash."""
    wanted = sorted((row, name) for name, rows in cases.items() for row in rows)
    out: dict[tuple[str, int], dict[str, tuple[int, int]]] = {}
    for batch, first in _batches(books, events, labels, result):
        real = np.flatnonzero(batch.types != LABEL)
        for row, name in wanted:
            if first <= row < first + len(real):
                at = int(real[row - first])
                roles = {role for f in books[name].features.values() for role in (*f.entity, *f.via)}
                out[name, row] = {r: tuple(batch.hashes[r][at].tolist()) for r in roles if r in batch.hashes}
        if wanted and first > wanted[-1][0]:
            break
    return out


def _reach(book: Rulebook) -> int:
    """How long before a case something may still count, in ms."""
    spans = [(f.over or f.within or 0) + f.lag for f in book.features.values()]
    return max(spans, default=0) or (1 << 50 if any(_endless(f) for f in book.features.values()) else 0)


def _endless(f: Feature) -> bool:
    return bool(f.entity) and f.over is None and f.within is None


def _gather(
    story: list[dict], batch: Batch, first: int, row: int, keys: dict, reach: int, ts: int, book: Rulebook
) -> None:
    """Add to a story the events of this batch that share a key with its case, and the case itself."""
    if len(story) > MOST_EVENTS:
        return
    own = np.full(batch.n, -1, np.int64)
    real = batch.types != LABEL
    own[real] = first + np.arange(int(real.sum()))
    before = (
        np.cumsum(real) + first <= row
    )  # labels have no row of their own; they come before the case when the next event does
    near = (batch.ts >= ts - reach) & np.where(real, own < row, before)
    same = np.zeros(batch.n, bool)
    for role, key in keys.items():
        if any(key):
            for other in _same_kind(role, book, batch):
                same |= (batch.hashes[other] == np.array(key)).all(axis=1)
    for i in np.flatnonzero((near & same) | (own == row)).tolist():
        story.append(_event(batch, i, book))


def _same_kind(role: str, book: Rulebook, batch: Batch) -> list[str]:
    """Roles in which the same somebody may appear."""
    kind = book.schema.roles.get(role)
    return [r for r, k in book.schema.roles.items() if k == kind and r in batch.hashes]


def _event(batch: Batch, i: int, book: Rulebook) -> dict[str, Any]:
    """One event with what the rule's features read; keys stay hashes until they are renamed."""
    schema = book.schema
    event: dict[str, Any] = {"type": schema.types[int(batch.types[i])], "ts": int(batch.ts[i])}
    for name, values in batch.numbers.items():
        if (name in schema.fields or name == "label") and not np.isnan(values[i]):
            event[name] = round(float(values[i]), 6)
    for name, minor in batch.minor.items():
        found = schema.fields.get(name)
        if found and name not in event and minor[i] > -(1 << 62):
            event[name] = round(int(minor[i]) / 10**found.digits, found.digits) if found.digits else float(minor[i])
    for name, hashes in batch.hashes.items():
        found = schema.fields.get(name)
        if found and found.derive is None and hashes[i].any():
            event[name] = tuple(hashes[i].tolist()) if found.entity or found.pii else (batch.text(name)[i])
    if event["type"] == "label":
        event["label_event"] = tuple(batch.hashes["label_event"][i].tolist())
    return event


def _renamed(story: list[dict], book: Rulebook) -> list[dict]:
    """Hashes become `kind-1`, `kind-2` in order of appearance; the first event is on 2026-01-01."""
    names: dict[tuple[str, tuple], str] = {}
    if not story:
        return []
    day = 86_400_000
    shift = FIRST_MOMENT - story[0]["ts"] // day * day  # hours and weekdays of a week's length stay what they were
    shift += -(shift // day) % 7 * day
    out = []
    for event in story:
        told: dict[str, Any] = {}
        for name, value in event.items():
            if isinstance(value, tuple):
                kind = "event" if name == "label_event" else book.schema.roles.get(name, name)
                if (kind, value) not in names:
                    names[kind, value] = f"{kind}-{1 + sum(k == kind for k, _ in names)}"
                value = names[kind, value]
            told[name] = value
        out.append(told | {"ts": event["ts"] + shift})
    return out


# ---- as short as it can be


def fires(story: Sequence[dict[str, Any]], book: Rulebook) -> bool:
    """Does the book's one rule fire on the last event, from an empty start?"""
    if not story or story[-1]["type"] == "label":
        return False
    engine = Engine(book, mode="interpreted", seed=SEED)
    decision = None
    try:
        for i, event in enumerate(story):
            event = {"event_id": f"test-{i}", **event}
            if event["type"] == "label":
                engine.decide_batch(engine.batch([engine.normaliser(event)]))
            else:
                decision = engine.decide(event)
    except BadEvent:
        return False
    return decision is not None and bool(decision.reasons)


def _shortened(story: list[dict], book: Rulebook) -> list[dict]:
    """The story with everything left out that the rule does not need (delta debugging, a bounded number of tries)."""
    if len(story) > MOST_EVENTS or not fires(story, book):
        return []
    head, last = story[:-1], story[-1]
    size, tries = max(len(head) // 2, 1), 0
    while head and tries < TRIES:
        start = 0
        while start < len(head) and tries < TRIES:
            less = head[:start] + head[start + size :]
            tries += 1
            if fires([*less, last], book):
                head = less
            else:
                start += size
        if size == 1:
            break
        size = max(size // 2, 1)
    return [*head, last]


def _quiet(m: Mined, book: Rulebook) -> list[dict]:
    """A test of an event on which the rule must stay quiet: one alone, by nobody known, of next to no value."""
    fields = {n: 1.0 for n, f in book.schema.fields.items() if f.type == "money" and n == book.schema.money}
    roles = {
        r: STRANGER
        for r, f in book.schema.fields.items()
        if f.entity and f.type == "string" and not f.pii and f.derive is None and not f.normalise
    }
    event = {"type": m.type, "ts": FIRST_MOMENT + 12 * 3_600_000, **roles, **fields}
    for tried in (event, {k: v for k, v in event.items() if k not in fields}):
        if not fires([tried], book) and _usable(tried, book):
            return [{"name": "somebody's first, small event", "events": [tried], "expect": {"fires": False}}]
    return []


def _usable(event: dict, book: Rulebook) -> bool:
    try:
        Engine(book, mode="interpreted").decide({"event_id": "test-0", **event})
    except BadEvent:
        return False
    return True


def _told(story: list[dict], yes: bool) -> dict[str, Any]:
    n = len(story)
    return {
        "name": "a case of fraud as it went" if n == 1 else f"a case of fraud as it went, in {n} events",
        "events": story,
        "expect": {"fires": yes},
    }


# ---- the file


def _text(m: Mined, result: Mine, tests: list[dict]) -> str:
    late = m.held_out
    share = "none fired" if not late["fired"] else f"{late['fired']:,.0f} fired, {late['precision']:.0%} of them fraud"
    cash = result.history.policy.base_currency
    lines = [
        f"# Mined from labels: searched on {day_text(result.judged.first_day)} to {day_text(result.parts[0] - 1)}, checked until {day_text(result.parts[1] - 1)}.",
        f"# From {day_text(result.parts[1])} on, which nothing was chosen by: {share}; adds {cash} {late['net_saving']:,.0f} to the rules in force.",
        f"id: {m.id}",
        f"title: {_title(m)}",
        f"on: [{m.type}]",
        f"when: {m.when}",
        f"then: {{action: {m.then}}}",
        "severity: low",
        "state: draft",
    ]
    if tests:
        lines.append("tests:")
    for test in tests:
        lines += [f"  - name: {test['name']}", "    events:"]
        lines += [f"      - {_flow(e | {'ts': _iso(e['ts'])})}" for e in test["events"]]
        lines.append(f"    expect: {_flow(test['expect'])}")
    lines += [
        "triage: |", "  Nobody has looked at such cases yet. Read a few before this goes to shadow.",
        "known_gaps: |", "  Found by search, not understood. Say here why it holds, and what an attacker would do against it.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _title(m: Mined) -> str:
    return "Mined, " + " and ".join(c.text.replace("_", " ") for c in m.conditions).replace(">=", "at least").replace(
        "<", "below"
    )


def _flow(value: dict[str, Any]) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=100_000, sort_keys=False).strip()


def _iso(ms: int) -> str:
    return str(np.datetime64(ms, "ms")) + "Z"


def _passes(rulebook: Rulebook, path: str, text: str, rule: str) -> bool:
    """Does the file check, and do its tests pass?"""
    from shopward.declare.rulebook import Rulebook as Book

    try:
        book = Book.from_files({**{n: t for n, t in rulebook.files.items() if n != path}, path: text})
        return all(result.passed for result in run_tests(book, (rule,)))
    except ShopwardError:
        return False  # the same rule without its story still checks: it was built from these texts in `_alone`
