"""What a rulebook folder becomes once it has been read and checked. Plain, frozen, in the words of the YAML."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from shopward.batch import LATENESS_MS, SKEW_MS
from shopward.expr.nodes import Expr, Type

ACTIONS = ("allow", "limit", "challenge", "review", "hold", "deny")  # weakest first; index = strength
FieldType = Literal["string", "number", "bool", "time", "money", "decimal", "list"]
MEASURES = (
    "count",
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
    "rate",
    "ratio",
    "then",
    "without",
    "expr",
    "list",
    "lookup",
    "graph",
)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an event. `entity` is the kind it identifies (then it is a role); `digits` belongs to money and decimal(n)."""

    name: str
    type: FieldType
    digits: int = 0
    entity: str | None = None
    pii: bool = False
    signed: bool = False  # money that may be negative
    normalise: Literal["lower", "e164", "ip64"] | None = None
    derive: Expr | None = None  # computed from other raw fields when the event arrives, before pseudonyms
    doc: str = ""

    @property
    def expr_type(self) -> Type:
        return {"money": "number", "decimal": "number"}.get(self.type, self.type)  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class LabelColumn:
    """A column of the input that is the truth: taken out of the event and emitted as a label event `known_after_ms` later."""

    field: str
    known_after_ms: int


@dataclass(frozen=True, slots=True)
class Schema:
    """Event types, fields and how outside columns map to them.

    `types[0]` is always `label`; `observed` are types that move features and are not decided on. `money` is the field that says how much an event is worth (None: none declared).
    Label events carry the fields `label` (0/1), `label_event` (the judged event_id), `label_source`, and the entity fields of the
    event they judge, under their own names.
    """

    types: tuple[str, ...]
    fields: dict[str, Field]
    money: str | None = None
    currency: str | None = None  # the field holding the ISO currency code; None: all in base currency
    mapping: dict[str, str] = field(default_factory=dict)  # outside column -> field (also event_id, ts, type)
    constants: dict[str, Any] = field(default_factory=dict)  # fields every event gets, e.g. {"type": "payment"}
    order: tuple[str, ...] = ()  # () = as the source gives them
    label: LabelColumn | None = None
    observed: tuple[str, ...] = ()  # `decide: false`

    @property
    def decided(self) -> tuple[str, ...]:
        """The types whose events get a decision."""
        return tuple(t for t in self.types[1:] if t not in self.observed)

    @property
    def roles(self) -> dict[str, str]:
        """role field -> entity kind"""
        return {f.name: f.entity for f in self.fields.values() if f.entity}


@dataclass(frozen=True, slots=True)
class Shared:
    """What a graph feature says about the entities that share something with the one at hand.

    through  role fields of what is shared
    measure  degree, neighbours, frauds, fraud_share, or mean, min, max of `field` or `feature`, as each carried it last
    hub      with more entities than this on it, what is shared ties nobody
    """

    through: tuple[str, ...]
    measure: str
    hub: int
    field: str | None = None
    feature: str | None = None

    @property
    def said(self) -> str:
        """
        >>> Shared(("device",), "mean", 50, "amount").said, Shared(("device",), "frauds", 50).said
        ('mean(amount)', 'frauds')
        """
        arg = self.field or self.feature
        return f"{self.measure}({arg})" if arg else self.measure


@dataclass(frozen=True, slots=True)
class Feature:
    """A declared feature: one number (or string) per event, as of that event.

    entity   the role fields that make the key, () for features of no entity (ratio, expr, list and lookup reads)
    via      roles whose events count for the key; () = just `entity`. Only for a single role.
    measure  one of MEASURES; `arg` is the field it aggregates (None for count, since_first, since_last, rate)
    over     window length in ms; None = `ever` (count, sum, first, since_first) or not windowed
    lag      ms; the window is [t - lag - over, t - lag]
    where    bool expression over the aggregated event's own raw fields, or None
    before   exclude the event itself
    of       ratio: the two features; then, without: see `a`, `b`, `within`
    expr     measure `expr`: a number expression over fields and other features
    table    measure `list` / `lookup`: `blocked_devices`, or `bins.country`; key = entity
    graph    measure `graph`: what is asked of the entity's neighbours
    type     number, bool or string
    portable False: other engines refuse it, `why_not_portable` says why
    """

    name: str
    entity: tuple[str, ...]
    measure: str
    arg: str | None = None
    over: int | None = None
    lag: int = 0
    where: Expr | None = None
    before: bool = False
    via: tuple[str, ...] = ()
    of: tuple[str, str] | None = None
    a: Expr | None = None
    b: Expr | None = None
    within: int | None = None
    expr: Expr | None = None
    table: str | None = None
    type: Type = "number"
    digits: int = 0  # of `arg`, for money and decimal(n)
    portable: bool = True
    why_not_portable: str = ""
    doc: str = ""
    file: str = ""
    line: int = 0
    graph: Shared | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """The other features it is made of."""
        below = (self.graph.feature,) if self.graph and self.graph.feature else ()
        return (*(self.of or ()), *(self.expr.features if self.expr else ()), *below)

    @property
    def lists(self) -> tuple[str, ...]:
        """The lists it is looked up in."""
        return (self.table,) if self.measure == "list" and self.table else self.expr.lists if self.expr else ()


@dataclass(frozen=True, slots=True)
class ListWrite:
    """A rule's action on a list: add the values of the fields in `key` to `list` for `expires_ms` (None: for good)."""

    list: str
    key: tuple[str, ...]
    expires_ms: int | None = None
    remove: bool = False


@dataclass(frozen=True, slots=True)
class RuleTest:
    """Events in order and what the last of them must lead to.

    `expect` may hold `action` (of the whole rulebook run with just this rule live), `fires` (bool). `lists` preloads lists:
    name -> keys (a text, or a tuple of texts for lists of pairs). `scores` says what models find: name -> score, or (score, risk).
    """

    name: str
    events: tuple[dict[str, Any], ...]
    expect: dict[str, Any]
    lists: dict[str, tuple[str | tuple[str, ...], ...]] = field(default_factory=dict)
    line: int = 0
    scores: dict[str, tuple[float, float | None]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rule:
    id: str
    title: str
    on: tuple[str, ...]  # event types
    when: Expr
    then: str  # one of ACTIONS
    severity: Literal["low", "medium", "high", "critical"] = "medium"
    owner: str = ""
    techniques: tuple[str, ...] = ()
    packs: tuple[str, ...] = ()  # whom it protects: buyer, seller, creator; `shopward init --pack` picks by it
    tests: tuple[RuleTest, ...] = ()
    note: str = ""  # why the condition is as it is
    triage: str = ""
    known_gaps: str = ""
    state: Literal["draft", "shadow", "live"] = "live"
    percent: float = 100.0
    mandatory: bool = False
    override: bool = False
    writes: tuple[ListWrite, ...] = ()
    label: str | None = None  # a tag put on the entity's case, carried in the decision
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Lookup:
    """An as-of keyed table: (key, valid_from, columns...). Read in expressions as `NAME_COLUMN(key)`.

    rows      key -> tuple of (valid_from_ms, valid_until_ms | None, {column: value}), ordered by valid_from_ms
    networks  the keys are networks (`203.0.113.0/24`) and what is asked is an address: the narrowest network with a row in force answers
    mmdb      a MaxMind database beside the YAML file that answers what no row does, `paths` where its columns stand in a record
    """

    name: str
    key: Literal["string", "number"]
    columns: dict[str, Type]
    rows: dict[str, tuple[tuple[int, int | None, dict[str, Any]], ...]]
    networks: bool = False
    mmdb: str | None = None
    paths: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ListSpec:
    """A named list declared by the rulebook; its entries are data: written by rules, `Engine.write_lists`, `POST /v1/lists` and `shopward list`, with valid_from and expiry."""

    name: str
    kind: Literal["allow", "block", "watch"]
    entity: tuple[str, ...] = ()  # entity kinds of its keys, () = any
    doc: str = ""


@dataclass(frozen=True, slots=True)
class ModelUse:
    """A trained model that a rulebook gives a place in decisions.

    source   a model folder beside the rulebook, or the name of one in the registry
    state    champion (its score is `score` and `risk`), live (rules read it by name), shadow (scored and kept; no live rule reads it)
    percent  of a champion: the share of accounts it speaks for
    on       event types it scores, () = all
    version  the content hash it must have, "" = any
    """

    name: str
    source: str
    state: Literal["champion", "live", "shadow"]
    percent: float = 100.0
    on: tuple[str, ...] = ()
    version: str = ""
    owner: str = ""
    doc: str = ""
    file: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    friction_cost: float = 0.0  # money a challenged or wrongly denied legitimate event costs
    review_cost: float = 0.0
    review_capacity_per_day: int | None = None
    challenge_stop_rate: float = 0.5
    control_percent: float = 0.0
    base_currency: str = "USD"
    lateness_ms: int = LATENESS_MS
    skew_ms: int = SKEW_MS
    label_maturity_ms: int | None = None  # how old an event must be before silence about it means anything
    rates: str | None = None  # the lookup that converts currencies (key `EUR`, column `rate`)
    time_budget_ms: int | None = None  # a server answers `fallback` when a single decision takes longer
    fallback: str = "allow"  # one of ACTIONS
    retention: tuple[tuple[str, int], ...] = ()  # event type -> ms that the lake keeps it; what is not named stays
