"""Rules tested by the tests they carry: events in order, and what the last of them must lead to.

Each test runs the real engine from empty state with just its own rule live; only the features that rule reads are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from shopward.decide import Engine
from shopward.declare.types import ModelUse, Rule, RuleTest
from shopward.errors import BadEvent, ShopwardError
from shopward.expr.nodes import MODEL

LABEL_TYPE = "label"

if TYPE_CHECKING:
    from shopward.decision import Decision
    from shopward.declare.rulebook import Rulebook
    from shopward.models.scorer import Reason


class TestResult(msgspec.Struct, frozen=True):
    """One test of one rule; `why` says what came out instead when it failed."""

    __test__ = False

    rule: str
    test: str
    passed: bool
    why: str
    file: str
    line: int


def run_tests(
    rulebook: Rulebook, only: tuple[str, ...] = (), on_progress: Callable[[int], None] = lambda done: None
) -> Iterator[TestResult]:
    """Run every test of every rule (or of the rules in `only`), draft and shadow rules too, as if they were live."""
    for rule in rulebook.rules.values():
        if only and rule.id not in only or not rule.tests:
            continue
        alone = just(rulebook, replace(rule, state="live", percent=100.0))
        for test in rule.tests:
            yield _run(alone, rule, test)
            on_progress(1)


def just(rulebook: Rulebook, rule: Rule) -> Rulebook:
    """The rulebook with one rule and only the features that rule reads."""
    alone = copy(rulebook)
    alone.rules = {rule.id: rule}
    alone.models = {name: use for name, use in rulebook.models.items() if _listens(rule, use)}
    wanted = set(rule.when.features)
    while True:
        more = {n for name in wanted for n in rulebook.features[name].reads} - wanted
        if not more:
            break
        wanted |= more
    alone.features = {name: f for name, f in rulebook.features.items() if name in wanted}
    return alone


def _listens(rule: Rule, use: ModelUse) -> bool:
    """Does a rule read what this model says?"""
    if MODEL + use.name in rule.when.builtins:
        return True
    return use.state == "champion" and any(not name.startswith(MODEL) for name in rule.when.builtins)


def _run(alone: Rulebook, rule: Rule, test: RuleTest) -> TestResult:
    try:
        engine = Engine(alone, mode="interpreted", models=_pinned(alone, test))
    except ShopwardError as error:  # a model that neither the test nor a folder speaks for
        if not alone.models:
            raise
        return _result(
            rule,
            test,
            f"{error}; say in the test what it finds, for example `scores: {{{next(iter(alone.models))}: 0.9}}`",
        )
    for name, keys in test.lists.items():
        for key in keys:
            engine.lists.add(name, key, valid_from=0)
    decision = None
    try:
        for i, event in enumerate(test.events):
            event = {"event_id": f"test-{i}", **event}
            if event.get("type") == LABEL_TYPE:
                engine.decide_batch(engine.batch([engine.normaliser(event)]))  # truth moves state and is not decided on
            else:
                decision = engine.decide(event)
    except BadEvent as error:
        return _result(rule, test, f"event {i + 1} is not usable: {error}")
    return _result(rule, test, _compare(rule, test, decision))


@dataclass(frozen=True)
class Pinned:
    """A model that says what a test wants it to say."""

    name: str
    said: float
    its_risk: float | None
    version: str = "pinned"
    features: tuple[str, ...] = ()
    categories: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def score(self, matrix: np.ndarray) -> np.ndarray:
        return np.full(matrix.shape[1], self.said)

    def risk(self, scores: np.ndarray) -> np.ndarray:
        return np.full(len(scores), np.nan if self.its_risk is None else self.its_risk)

    def explain(self, row: np.ndarray) -> Sequence[Reason]:
        return ()


def _pinned(alone: Rulebook, test: RuleTest) -> list[Pinned]:
    return [Pinned(name, score, risk) for name, (score, risk) in test.scores.items() if name in alone.models]


def _compare(rule: Rule, test: RuleTest, decision: Decision | None) -> str:
    """What differs from the expectation, in words; empty when nothing does."""
    if decision is None:
        return "the test has no event that is decided on"
    fired = rule.id in decision.reasons
    wrong = []
    if "fires" in test.expect and bool(test.expect["fires"]) != fired:
        wrong.append(
            f"expected the rule {'to fire' if test.expect['fires'] else 'not to fire'}, it did{'' if fired else ' not'}"
        )
    if "action" in test.expect and test.expect["action"] != decision.action:
        wrong.append(f"expected action {test.expect['action']}, got {decision.action}")
    if wrong and decision.evidence:
        wrong.append(decision.evidence[0].what)
    return "; ".join(wrong)


def _result(rule: Rule, test: RuleTest, why: str) -> TestResult:
    return TestResult(rule.id, test.name, not why, why, rule.file, test.line or rule.line)
