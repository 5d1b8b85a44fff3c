"""Feature sets generated from a schema: entities x measures x windows, written as feature YAML.

What is generated is ordinary features: counts, amounts against the entity's own habit, how many others it meets, pairs seen for the
first time, and what became of its past (labels, as they became known). So whatever a model is trained on can be read, edited and
served like any feature somebody wrote. Training keeps those that earn out of time.

`neighbourly` adds questions about those who share something with the entity. They are walked in plain Python, so they are few, and
each must earn its place beside all the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from shopward.declare.types import Schema
from shopward.evidence import DAY_MS
from shopward.graph import HUB

WINDOWS = ("1d", "7d", "30d")
AMOUNT_WINDOWS = ("1d", "7d", "30d", "90d")
LABEL_WINDOWS = ("1d", "3d", "7d", "30d")
MEMORY = "90d"  # how far back first and latest labels and payments are remembered
MOST_ENTITIES = 6
MOST_PAIRS = 6
GRAPH_WINDOWS = ("7d", "30d")
MOST_WEBS, MOST_SHARED = 4, 3  # graphs that are tried, and things one of them is made of
MIX = 0x1E3779B97F4A7C15  # an odd number that spreads months over 64 bits


@dataclass(slots=True)
class Candidates:
    """Generated features: name -> its declaration; `inputs` are those a model may read, the others only feed them."""

    declared: dict[str, dict[str, object]] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)

    def add(self, name: str, *, input: bool = True, **declaration: object) -> str:
        if name not in self.declared:
            self.declared[name] = declaration
        if input and name not in self.inputs:
            self.inputs.append(name)
        return name


def candidates(
    schema: Schema, types: Sequence[str], *, entities: Sequence[str] = (), taken: Iterable[str] = ()
) -> Candidates:
    """Every candidate for judging events of `types`; `entities` are role fields, most important first (default: all the schema has).

    Names in `taken` (fields, features of the rulebook) are not declared again.

    >>> from shopward.declare.types import Field
    >>> schema = Schema(("label", "pay"), {"card": Field("card", "string", entity="card"), "amount": Field("amount", "money", 2)}, money="amount")
    >>> found = candidates(schema, ["pay"])
    >>> found.declared["card_frauds_7d"]
    {'entity': 'card', 'measure': 'count', 'over': '7d', 'where': 'type == "label" and label == 1'}
    """
    found = Candidates()
    roles = list(entities or schema.roles)[:MOST_ENTITIES]
    mine = _is_one_of(types)
    money = schema.money
    found.add("event_hour", expr='hour(ts, "UTC")')
    found.add("event_weekday", expr='weekday(ts, "UTC")')
    if money:
        found.add(f"event_{money}", expr=money)
    for role in roles:
        _counts(found, role, mine, [r for r in roles if r != role])
        _labels(found, role)
        if money:
            _amounts(found, role, money, mine)
    for a, b in list(combinations(roles, 2))[:MOST_PAIRS]:
        found.add(f"{a}_{b}_count_30d", entity=[a, b], measure="count", over="30d", where=mine)
        found.add(f"{a}_{b}_since_last", entity=[a, b], measure="since_last", over=MEMORY, where=mine)
    for name in set(taken) & set(found.declared):
        found.declared.pop(name)
        found.inputs.remove(name)
    return found


def neighbourly(
    schema: Schema, shared: Mapping[str, Sequence[str]], found: Candidates, taken: Iterable[str] = ()
) -> list[str]:
    """Add graph features to what was `found`: who shares things with an entity, what became of them, how new they are, what they pay.

    `shared` says what each entity shares with its like, the best first. Every event ties, not only those that are judged; verdicts on neighbours count from their arrival. Returns the names.

    >>> from shopward.declare.types import Field
    >>> schema = Schema(("pay",), {"card": Field("card", "string", entity="card"), "device": Field("device", "string", entity="device")})
    >>> found = Candidates()
    >>> names = neighbourly(schema, {"card": ["device"]}, found)
    >>> len(names), found.declared["card_near_device_frauds_7d"]
    (8, {'graph': ['device'], 'entity': 'card', 'measure': 'frauds', 'over': '7d'})
    """
    names: list[str] = []
    for entity, through in webs(shared):
        age = f"{entity}_since_first"
        asked = {"neighbours": "neighbours", "things": "degree", "frauds": "frauds", "fraud_share": "fraud_share"}
        if age in found.declared:
            asked |= {"age_mean": f"mean({age})", "age_min": f"min({age})"}
        if schema.money:
            asked |= {f"{schema.money}_{measure}": f"{measure}({schema.money})" for measure in ("mean", "max")}
        for over in GRAPH_WINDOWS:
            for what, measure in asked.items():
                name = f"{entity}_near_{'_'.join(through)}_{what}_{over}"
                if name not in taken:
                    names.append(found.add(name, graph=list(through), entity=entity, measure=measure, over=over))
    return names


def webs(shared: Mapping[str, Sequence[str]]) -> list[tuple[str, tuple[str, ...]]]:
    """Who may know whom through what: each entity through all it shares, the first one through single things too.

    >>> webs({"account": ["device", "ip"], "card": ["account"]})
    [('account', ('device', 'ip')), ('account', ('device',)), ('account', ('ip',)), ('card', ('account',))]
    """
    found: list[tuple[str, tuple[str, ...]]] = []
    for entity, things in shared.items():
        found.append((entity, tuple(things[:MOST_SHARED])))
        if len(things) > 1 and len(found) == 1:
            found += [(entity, (one,)) for one in things[:2]]
    return found[:MOST_WEBS]


def meeting(entity: np.ndarray, thing: np.ndarray, ts: np.ndarray) -> float:
    """Which share of entities had a thing in some 30 days that others had too, but not so many as to make it a hub.

    entity, thing  int64[n] keys, 0 where there is none; ts  int64[n] in ms

    >>> meeting(np.array([1, 2, 3, 3]), np.array([7, 7, 8, 9]), np.zeros(4, np.int64)).__round__(2)
    0.67
    """
    known = (entity != 0) & (thing != 0)
    if not known.any():
        return 0.0
    who, code = np.unique(entity[known], return_inverse=True)
    months = ts[known] // (30 * DAY_MS)
    _, place = np.unique(thing[known] ^ (months * MIX), return_inverse=True)  # a thing of each month on its own
    pairs = np.unique(place * len(who) + code)
    members = np.bincount(pairs // len(who))[pairs // len(who)]
    return len(np.unique((pairs % len(who))[(members >= 2) & (members <= HUB)])) / len(who)


def _is_one_of(types: Sequence[str]) -> str:
    return " or ".join(f'type == "{name}"' for name in types)


def _counts(found: Candidates, role: str, mine: str, others: list[str]) -> None:
    """How often, how fast, and with how many others."""
    for over in ("1h", *WINDOWS):
        found.add(f"{role}_count_{over}", entity=role, measure="count", over=over, where=mine)
    found.add(f"{role}_pace", ratio=[f"{role}_count_1d", f"{role}_count_30d"])
    found.add(f"{role}_since_last", entity=role, measure="since_last", over=MEMORY, where=mine)
    found.add(f"{role}_since_first", entity=role, measure="since_first", over=MEMORY, where=mine)
    for other in others:
        for over in ("1d", "30d"):
            found.add(f"{role}_{other}s_{over}", entity=role, measure=f"distinct({other})", over=over, where=mine)


def _labels(found: Candidates, role: str) -> None:
    """What became of the entity's past, as far as it is known by now."""
    known, fraud = 'type == "label"', 'type == "label" and label == 1'
    for over in LABEL_WINDOWS:
        found.add(f"{role}_labels_{over}", entity=role, measure="count", over=over, where=known)
        found.add(f"{role}_frauds_{over}", entity=role, measure="count", over=over, where=fraud)
        found.add(f"{role}_fraud_share_{over}", entity=role, measure="mean(label)", over=over, where=known)
    found.add(f"{role}_last_label", entity=role, measure="last(label)", over=MEMORY, where=known)
    found.add(f"{role}_since_first_fraud", entity=role, measure="since_first", over="60d", where=fraud)
    found.add(f"{role}_since_last_fraud", entity=role, measure="since_last", over=MEMORY, where=fraud)
    clean = 'type == "label" and label == 0'
    found.add(f"{role}_since_last_clean", entity=role, measure="since_last", over=MEMORY, where=clean)


def _amounts(found: Candidates, role: str, money: str, mine: str) -> None:
    """The amount against what this entity usually does, the event itself left out."""
    for over in AMOUNT_WINDOWS:
        parts = {}
        for measure in ("mean", "std", "max"):
            name = f"{role}_{money}_{measure}_{over}"
            parts[measure] = found.add(
                name,
                input=measure != "std",
                entity=role,
                measure=f"{measure}({money})",
                over=over,
                where=mine,
                before=True,
            )
        found.add(f"{role}_{money}_times_mean_{over}", expr=f"{money} / {parts['mean']}")
        if over != "1d":
            found.add(f"{role}_{money}_deviation_{over}", expr=f"({money} - {parts['mean']}) / {parts['std']}")
            found.add(f"{role}_{money}_times_max_{over}", expr=f"{money} / {parts['max']}")
    long = f"{role}_{money}_mean_{AMOUNT_WINDOWS[-1]}"
    for over in AMOUNT_WINDOWS[:-1]:  # somebody else is using it: lately far above the long habit
        found.add(f"{role}_{money}_peak_{over}", expr=f"{role}_{money}_max_{over} / {long}")
        found.add(f"{role}_{money}_drift_{over}", expr=f"{role}_{money}_mean_{over} / {long}")


def closure(declared: Mapping[str, Mapping[str, object]], wanted: Iterable[str]) -> dict[str, Mapping[str, object]]:
    """The wanted features and what they read, in declared order.

    >>> closure({"a": {"expr": "amount"}, "b": {"ratio": ["a", "c"]}, "c": {"expr": "1"}}, ["b"])
    {'a': {'expr': 'amount'}, 'b': {'ratio': ['a', 'c']}, 'c': {'expr': '1'}}
    """
    from shopward.expr import names_in

    todo, keep = [name for name in wanted if name in declared], set()
    while todo:
        name = todo.pop()
        if name in keep:
            continue
        keep.add(name)
        one = declared[name]
        reads = set(one.get("ratio", ())) | (names_in(str(one["expr"])) if "expr" in one else set())  # type: ignore[call-overload]
        if "graph" in one:
            reads |= set(re.findall(r"\w+", str(one["measure"])))
        todo.extend(r for r in reads if r in declared)
    return {name: one for name, one in declared.items() if name in keep}


def to_yaml(declared: Mapping[str, Mapping[str, object]], title: str) -> str:
    """The features as a rulebook file."""
    import yaml

    body = "\n".join(yaml.safe_dump({name: dict(one)}, sort_keys=False, width=200) for name, one in declared.items())
    return f"# {title}\n\n{body}"
