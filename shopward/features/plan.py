"""From declared features to the plan of the window engine: which keys, which rings, which windows on them.

Features of one key make a family: one state row per key. Within a family, features that aggregate the same events (same `where`,
same `lag`) share one ring of slots, and every window length is a head that walks along it. Whatever needs no history (`ever`
aggregates, the last value, sequences) lives in the row alone. The plan holds no memory and no code; `codegen` turns it into both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from shopward.declare.schema import speaks_of_labels
from shopward.declare.types import Feature, Schema
from shopward.errors import NotYet, UsageError
from shopward.event import LABEL_FIELDS
from shopward.expr.nodes import Expr

WINDOWED = (
    "count",
    "rate",
    "sum",
    "mean",
    "std",
    "min",
    "max",
    "distinct",
    "first",
    "last",
    "since_first",
    "since_last",
)
SEQUENCES = ("then", "without")
DERIVED = ("ratio", "expr")
EVER = ("count", "sum", "first", "since_first", "last", "since_last")
NARROW_MS = (1 << 31) - 1  # up to here (24.8 days) 32-bit times need one eviction pass
LONG_MS = 45 * 86_400_000  # up to here they need a few; beyond, times take two lanes
WEIGHTS = {
    "distinct": 6,
    "min": 8,
    "max": 8,
    "mean": 3,
    "std": 5,
    "sum": 2,
    "first": 3,
    "last": 2,
    "then": 2,
    "without": 4,
}
HEAVIEST = 120  # see `_portions`; about 450 lines of kernel, 2 s to compile

Kind = Literal["minor", "whole", "number", "id"]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events an aggregate takes: those where `where` is TRUE; label events only if it speaks of labels."""

    where: Expr | None
    labels: bool

    @property
    def key(self) -> tuple[str, bool]:
        return (self.where.source if self.where else "", self.labels)


@dataclass(frozen=True, slots=True)
class Domain:
    """One space of ids: for the keys of a family, or for the values that a distinct, first or last tells apart."""

    name: str
    kind: Literal["hash", "composite", "number", "minor", "list", "labels"]
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Value:
    """What a slot keeps of a field: minor units, a whole number (labels, true/false), a float, or the id of a value."""

    field: str
    kind: Kind

    @property
    def lanes(self) -> int:
        return 1 if self.kind == "id" else 2


@dataclass(slots=True)
class Window:
    """One head on a ring. `ms` None never evicts (only where labels can be replaced)."""

    ms: int | None
    sums: list[Value] = field(default_factory=list)
    squares: list[Value] = field(default_factory=list)
    present: list[Value] = field(default_factory=list)
    distinct: list[Value] = field(default_factory=list)


@dataclass(slots=True)
class Ring:
    """The events of one filter and lag, per key. `only` is the field that must be there for an event to be kept."""

    number: int
    filter: int
    lag: int
    only: Value | None
    amendable: bool
    each: str | None  # a list field of which every element gets a slot
    windows: list[Window] = field(default_factory=list)
    queues: list[tuple[Value, str]] = field(default_factory=list)
    firsts: list[Value] = field(default_factory=list)
    ever_count: bool = False
    ever_sums: list[Value] = field(default_factory=list)
    ever_first: list[Value] = field(default_factory=list)
    ever_since: bool = False
    last: list[Value] = field(default_factory=list)
    last_time: bool = False
    kept_ms: int | None = 0  # how long its lanes in the row may matter; None: for good

    @property
    def cursor(self) -> bool:
        """Events become visible later than they arrive (lag), or may be taken back (labels)."""
        return self.lag > 0 or self.amendable

    @property
    def stored(self) -> bool:
        return bool(self.windows) or self.cursor

    @property
    def horizon(self) -> int:
        """The age beyond which no slot matters (ms); windows without an end are not counted."""
        return self.lag + max((w.ms for w in self.windows if w.ms is not None), default=0)

    @property
    def time_lanes(self) -> int:
        return 1 if self.horizon <= LONG_MS and not any(w.ms is None for w in self.windows) else 2

    def window(self, ms: int | None) -> Window:
        found = next((w for w in self.windows if w.ms == ms), None)
        if found is None:
            found = Window(ms)
            self.windows.append(found)
            self.windows.sort(key=lambda w: (w.ms is None, w.ms or 0))
        return found

    def values(self) -> list[Value]:
        """What each slot keeps besides its time, in lane order."""
        kept: list[Value] = []
        for w in self.windows:
            kept += [*w.sums, *w.squares, *w.present, *w.distinct]
        kept += [*(v for v, _ in self.queues), *self.firsts]
        if self.cursor:
            kept += [*self.ever_sums, *self.ever_first, *self.last]
        return list(dict.fromkeys(kept))


@dataclass(frozen=True, slots=True)
class Read:
    """How a feature's value is read from the row and the ring."""

    feature: Feature
    ring: int
    value: Value | None = None
    digits: int = 0


@dataclass(frozen=True, slots=True)
class Sequence:
    feature: Feature
    first: int  # filter of A
    other: int  # filter of B


@dataclass(slots=True)
class Family:
    """The features of one key (all of them, unless there are very many)."""

    name: str
    entity: tuple[str, ...]
    via: tuple[str, ...]
    domain: int
    rings: list[Ring] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    sequences: list[Sequence] = field(default_factory=list)

    @property
    def roles(self) -> tuple[str, ...]:
        """The columns an event's keys come from, the one features are read at first."""
        return tuple(dict.fromkeys((*self.entity, *self.via))) if self.via else self.entity

    @property
    def horizon(self) -> int | None:
        """How long (ms) an idle key may still matter; None: for good."""
        spans: list[int | None] = [s.feature.within for s in self.sequences]
        for ring in self.rings:
            spans.append(ring.horizon)
            spans.append(None if ring.kept_ms is None else ring.kept_ms + ring.lag)
            spans += [None for w in ring.windows if w.ms is None]
        return longest(spans)


@dataclass(slots=True)
class Web:
    """The graph features that see the same ties: same entity, same things shared, same `where`, same limit for hubs."""

    entity: str
    through: tuple[str, ...]
    filter: int
    hub: int
    features: list[Feature] = field(default_factory=list)

    @property
    def horizon(self) -> int:
        return max(f.over or 0 for f in self.features)

    @property
    def carried(self) -> list[tuple[str | None, str | None]]:
        """The (field, feature) numbers that are kept of an entity, for its neighbours."""
        asked = [f.graph for f in self.features if f.graph is not None]
        return list(dict.fromkeys((g.field, g.feature) for g in asked if g.field or g.feature))


@dataclass(slots=True)
class Plan:
    """Everything the engine must know about a rulebook's features."""

    features: dict[str, Feature]
    schema: Schema
    filters: list[Filter] = field(default_factory=list)
    domains: list[Domain] = field(default_factory=list)
    taken: dict[str, tuple[int, bool]] = field(default_factory=dict)  # feature -> what `takes` said
    families: list[Family] = field(default_factory=list)
    webs: list[Web] = field(default_factory=list)
    derived: list[Feature] = field(
        default_factory=list
    )  # ratio and column expressions, in an order that can be computed
    row_features: list[str] = field(
        default_factory=list
    )  # lists, lookups, row-wise expressions: computed by the caller

    @property
    def amends(self) -> bool:
        return any(ring.amendable for family in self.families for ring in family.rings)

    def domain(self, kind: str, names: tuple[str, ...]) -> int:
        wanted = Domain("+".join(names), kind, names)  # type: ignore[arg-type]
        if wanted not in self.domains:
            self.domains.append(wanted)
        return self.domains.index(wanted)

    def filter(self, where: Expr | None, labels: bool) -> int:
        wanted = Filter(where, labels)
        for i, known in enumerate(self.filters):
            if known.key == wanted.key:
                return i
        self.filters.append(wanted)
        return len(self.filters) - 1

    def digits(self, name: str) -> int:
        declared = self.schema.fields.get(name)
        return declared.digits if declared and declared.type in ("money", "decimal") else 0

    def field_type(self, name: str) -> str:
        """The declared type; label events carry `label` (a whole number) and texts besides."""
        declared = self.schema.fields.get(name)
        return declared.type if declared else ("decimal" if name == "label" else "string")

    def value_domain(self, value: Value) -> int:
        kind = self.field_type(value.field)
        by = {"string": "hash", "list": "list", "money": "minor", "decimal": "minor"}.get(kind, "number")
        return self.domain(by, (value.field,))

    def horizons(self) -> list[int | None]:
        """Per domain, how long (ms) an id may still matter after it was last seen; None: for good."""
        spans: list[list[int | None]] = [[0] for _ in self.domains]
        for family in self.families:
            spans[family.domain].append(family.horizon)
            for ring in family.rings:
                kept = longest([ring.horizon, None if ring.kept_ms is None else ring.kept_ms + ring.lag])
                if any(w.ms is None for w in ring.windows):
                    kept = None
                for value in ring_ids(ring):
                    spans[self.value_domain(value)].append(kept)
                if ring.amendable:
                    spans[self.domain("labels", ("label_event",))].append(kept)
        return [longest(s) for s in spans]


def longest(spans: list[int | None]) -> int | None:
    """
    >>> longest([1, 5, 3]), longest([1, None])
    (5, None)
    """
    return None if any(s is None for s in spans) else max((s for s in spans if s is not None), default=0)


def ring_ids(ring: Ring) -> list[Value]:
    """The values a ring keeps as ids, in slots or in the row."""
    every = [*ring.values(), *ring.ever_first, *ring.last]
    return [v for v in dict.fromkeys(every) if v.kind == "id"]


# ---- building


def make_plan(features: dict[str, Feature], schema: Schema) -> Plan:
    """The plan for all features of a rulebook, in declared order."""
    plan = Plan(features, schema)
    plan.filter(None, False)  # bit 0: every event that is not a label
    families: dict[tuple[tuple[str, ...], tuple[str, ...]], list[Feature]] = {}
    for feature in features.values():
        if feature.measure in WINDOWED + SEQUENCES:
            families.setdefault((feature.entity, feature.via), []).append(feature)
        elif feature.graph is not None:
            _add_to_web(plan, feature)
        elif feature.measure in ("list", "lookup") or (feature.expr is not None and feature.expr.rowwise):
            plan.row_features.append(feature.name)
    _after_rowwise(plan)
    for (entity, via), members in families.items():
        for number, portion in enumerate(_portions(plan, members)):
            _add_family(plan, entity, via, portion, number)
    plan.derived = _in_order(plan)
    return plan


def _add_to_web(plan: Plan, feature: Feature) -> None:
    graph = feature.graph
    assert graph is not None
    wanted = (feature.entity[0], graph.through, plan.filter(feature.where, False), graph.hub)
    web = next((w for w in plan.webs if (w.entity, w.through, w.filter, w.hub) == wanted), None)
    if web is None:
        web = Web(*wanted)
        plan.webs.append(web)
    web.features.append(feature)


def _after_rowwise(plan: Plan) -> None:
    """Expressions over a row-wise expression that itself reads features can only be computed by the caller, after it."""
    late = {n for n in plan.row_features if (e := plan.features[n].expr) is not None and e.features}
    grown = True
    while grown:
        more = {f.name for f in plan.features.values() if f.measure in DERIVED and late.intersection(f.reads)} - late
        if ratio := next((n for n in more if plan.features[n].of), None):
            raise NotYet(f"feature `{ratio}`: a ratio of row-wise expressions over features; write it as `expr: a / b`")
        late |= more
        grown = bool(more)
    plan.row_features = [n for n in plan.features if n in late or n in plan.row_features]


def _portions(plan: Plan, members: list[Feature]) -> list[list[Feature]]:
    """A key's features in portions of at most HEAVIEST, because compiling takes longer than in proportion; rings stay whole.

    Each portion becomes a family with rows of its own.
    """
    aggregates = [f for f in members if f.measure in WINDOWED]
    rings: dict[tuple, list[Feature]] = {}
    for feature in members:
        sequence = feature.measure in SEQUENCES
        ring = (
            (feature.name,)
            if sequence
            else (*takes(plan, feature), feature.lag, _only_field(plan, feature, aggregates))
        )
        rings.setdefault(ring, []).append(feature)
    portions: list[list[Feature]] = [[]]
    heavy = 0
    for group in rings.values():
        weight = 6 + 3 * len({f.over for f in group}) + sum(WEIGHTS.get(f.measure, 1) for f in group)
        if portions[-1] and heavy + weight > HEAVIEST:
            portions.append([])
            heavy = 0
        portions[-1] += group
        heavy += weight
    return portions


def _add_family(
    plan: Plan, entity: tuple[str, ...], via: tuple[str, ...], members: list[Feature], number: int = 0
) -> None:
    name = "_".join(entity) + ("_via_" + "_".join(via) if via else "") + (f"_{number + 1}" if number else "")
    family = Family(name, entity, via, 0)
    family.domain = plan.domain("composite" if len(entity) > 1 else "hash", family.roles)
    plan.families.append(family)
    for feature in members:
        if feature.measure in SEQUENCES:
            first, other = plan.filter(feature.a, False), plan.filter(feature.b, False)  # never of label events
            family.sequences.append(Sequence(feature, first, other))
    aggregates = [f for f in members if f.measure in WINDOWED]
    for feature in aggregates:
        only = _only_field(plan, feature, aggregates)
        family.reads.append(_read(plan, family, feature, only))
    for ring in family.rings:
        _read_newest(ring, family)
    if any(ring.amendable for ring in family.rings):
        plan.domain("labels", ("label_event",))
    for ring in family.rings:
        for value in ring_ids(ring):
            plan.value_domain(value)


def _read_newest(ring: Ring, family: Family) -> None:
    """Where the slots reach back far enough, the time of the last event is read from the newest slot instead of the row."""
    spans = [r.feature.over for r in family.reads if r.ring == ring.number and r.feature.measure == "since_last"]
    reach = ring.windows[-1].ms if ring.windows else 0
    if ring.last_time and not ring.last and reach is not None and all(o is not None and o <= reach for o in spans):
        ring.last_time, ring.kept_ms = False, None if ring.ever_count or ring.ever_since or ring.ever_sums else 0


def takes(plan: Plan, feature: Feature) -> tuple[int, bool]:
    """The filter of a feature, and whether it can see label events.

    Label events are about an event, not a further event of the same sort: an aggregate takes them only if its `where` or its
    argument speaks of labels.
    """
    if feature.name not in plan.taken:
        labels = speaks_of_labels(feature.where) or feature.arg in LABEL_FIELDS
        plan.taken[feature.name] = (plan.filter(feature.where, labels), labels)
    return plan.taken[feature.name]


def _only_field(plan: Plan, feature: Feature, others: list[Feature]) -> str | None:
    """The one field an event must have to enter this feature's ring, if all features of that ring agree on it."""
    if feature.measure in ("first", "last"):
        return feature.arg
    mine = (takes(plan, feature), feature.lag)
    group = {f.arg for f in others if (takes(plan, f), f.lag) == mine and f.measure not in ("first", "last")}
    return group.pop() if len(group) == 1 else None


def _value(plan: Plan, name: str, measure: str) -> Value:
    kind = plan.field_type(name)
    if measure == "distinct" or kind == "string":
        return Value(name, "id")
    if kind in ("money", "decimal"):
        return Value(name, "minor")
    if kind == "bool" or measure in ("sum", "mean", "std"):
        return Value(name, "whole")
    return Value(name, "number")


def _read(plan: Plan, family: Family, feature: Feature, only: str | None) -> Read:
    """Make room for a feature in its ring; how it will be read."""
    bit, labels = takes(plan, feature)
    declared = plan.schema.fields.get(feature.arg or "")
    each = feature.arg if feature.measure == "distinct" and declared and declared.type == "list" else None
    value = _value(plan, feature.arg, feature.measure) if feature.arg else None
    if each:
        only = each
    ring = _ring(plan, family, bit, labels, feature.lag, only, each)
    measure, over = feature.measure, feature.over
    if over is None and measure not in EVER:
        raise UsageError(f"feature `{feature.name}`: `over: ever` is for {', '.join(EVER)}, not for {measure}")
    _reserve(ring, measure, over, value)
    if labels and (over is None or measure in ("last", "since_last")):
        ring.window(over)
    return Read(feature, ring.number, value, plan.digits(feature.arg or ""))


def _ring(plan: Plan, family: Family, bit: int, labels: bool, lag: int, only: str | None, each: str | None) -> Ring:
    for ring in family.rings:
        same = (ring.filter, ring.lag, ring.only.field if ring.only else None, ring.each)
        if same == (bit, lag, only, each):
            return ring
    must = _value(plan, only, "first" if not each else "distinct") if only else None
    family.rings.append(Ring(len(family.rings), bit, lag, must, labels, each))
    return family.rings[-1]


def _reserve(ring: Ring, measure: str, over: int | None, value: Value | None) -> None:
    if measure in ("last", "since_last"):
        ring.last_time = True
        if value:
            _once(ring.last, value)
    elif over is None:
        _reserve_ever(ring, measure, value)
    else:
        _reserve_window(ring, ring.window(over), measure, value)
    if measure in ("last", "since_last") or over is None:
        ring.kept_ms = longest([ring.kept_ms, over])


def _reserve_ever(ring: Ring, measure: str, value: Value | None) -> None:
    if measure == "count":
        ring.ever_count = True
    elif measure == "since_first":
        ring.ever_since = True
    elif value and measure == "sum":
        _once(ring.ever_sums, value)
    elif value:
        ring.ever_since = True
        _once(ring.ever_first, value)


def _reserve_window(ring: Ring, window: Window, measure: str, value: Value | None) -> None:
    if value is None:
        return
    if measure in ("sum", "mean", "std"):
        _once(window.sums, value)
    if measure in ("mean", "std"):
        _once(window.present, value)
    if measure == "std":
        _once(window.squares, value)
    if measure == "distinct":
        _once(window.distinct, value)
    if measure in ("min", "max"):
        _once(ring.queues, (value, measure))
    if measure == "first":
        _once(ring.firsts, value)


def _once(where: list, what: Any) -> None:
    if what not in where:
        where.append(what)


def _in_order(plan: Plan) -> list[Feature]:
    """Ratios and expressions, each after what it reads."""
    waiting = [f for f in plan.features.values() if f.measure in DERIVED and f.name not in plan.row_features]
    names = {f.name for f in waiting}
    done: list[Feature] = []
    while waiting:
        ready = [f for f in waiting if not any(n in names for n in f.reads)]
        if not ready:
            raise UsageError("features read each other in a circle: " + ", ".join(f.name for f in waiting))
        done += ready
        names -= {f.name for f in ready}
        waiting = [f for f in waiting if f.name in names]
    return done
