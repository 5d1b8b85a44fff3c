"""Rules alone, with reasons and null safety, per event: ours against zen-engine and rule-engine on the same 20 rules and values."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

import numpy as np

from benchmarks import workload
from benchmarks.report import finish, options
from shopward import Rulebook
from shopward.expr import runtime, to_python
from shopward.expr.nodes import Name
from shopward.rules.compile import define, walk

ROUNDS = 5


def ours(rulebook: Rulebook) -> Callable[[dict], list[str]]:
    """All rules as one generated function of a dict of features, giving the ids that fired with the values they saw."""
    lines = ["def fire(f):"]
    names = sorted({n.name for r in rulebook.rules.values() for n in walk(r.when.root) if isinstance(n, Name)})
    lines += [f"    {name} = f[{name!r}]" for name in names] + ["    out = []"]
    for rule in rulebook.rules.values():
        read = sorted({n.name for n in walk(rule.when.root) if isinstance(n, Name)})
        values = ", ".join(f"{name!r}: {name}" for name in read)
        lines.append(f"    if {to_python(rule.when, mode='true')}: out.append(({rule.id!r}, {{{values}}}))")
    return define("\n".join([*lines, "    return out", ""]), "fire", runtime())


def zen(rulebook: Rulebook) -> Callable[[dict], list[str]]:
    """zen-engine: every rule a compiled expression."""
    from zen import compile_expression

    compiled = [(r.id, compile_expression(r.when.source)) for r in rulebook.rules.values()]
    return lambda f: [name for name, expression in compiled if expression.evaluate(f)]


def rule_engine(rulebook: Rulebook) -> Callable[[dict], list[str]]:
    """rule-engine: every rule a Rule."""
    from rule_engine import Rule

    compiled = [(r.id, Rule(r.when.source)) for r in rulebook.rules.values()]
    return lambda f: [name for name, rule in compiled if rule.matches(f)]


def _events(rulebook: Rulebook, n: int) -> list[dict]:
    """Feature values in the ranges the rules look at (no nulls: the peers have no null safety)."""
    rng = np.random.default_rng(3)
    names = list(rulebook.features)
    scale = {
        name: 4000.0 if "spend" in name else 60.0 if "mean" in name else 90_000.0 if "age" in name else 12.0
        for name in names
    }
    return [{name: float(round(rng.exponential(scale[name] / 4), 2)) for name in names} for _ in range(n)]


def run(quick: bool) -> dict:
    """Microseconds per event of each engine, interleaved rounds, medians; the ids that fire are asserted equal."""
    rulebook = Rulebook.from_files(workload.rulebook_files())
    events = _events(rulebook, 500 if quick else 2_000)
    engines = {"shopward": ours(rulebook), "zen": zen(rulebook), "rule_engine": rule_engine(rulebook)}
    for event in events[:50]:
        expected = [name for name, _ in engines["shopward"](event)]
        assert engines["zen"](event) == expected == engines["rule_engine"](event), json.dumps(event)
    took: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(ROUNDS):
        for name, fire in engines.items():
            repeat = 20 if name == "shopward" else 1
            before = time.process_time()
            for _ in range(repeat):
                for event in events:
                    fire(event)
            took[name].append((time.process_time() - before) / repeat / len(events) * 1e6)
    micro = {name: statistics.median(values) for name, values in took.items()}
    return {
        **{f"{name}_us": value for name, value in micro.items()},
        "ratio_zen": micro["zen"] / micro["shopward"],
        "ratio_rule_engine": micro["rule_engine"] / micro["shopward"],
    }


if __name__ == "__main__":
    args = options(__doc__ or "")
    finish("rules", run(args.quick), args.json)
