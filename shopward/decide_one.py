"""One event at a time, fast: a Python function written for one rulebook, from a dict to a Decision.

The function checks and hashes just the fields the rulebook reads, writes them into a batch of one, runs the window kernels, and
tests the rules of the event's type. A record that is unusual in any way (nested, other types, needs conversion) is first brought
to the usual form by `normalise`, which also says what is wrong with it.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from shopward.batch import LABEL, NULL, Batch
from shopward.decision import Decision, spoken
from shopward.declare.types import Field, Rule
from shopward.errors import BadEvent
from shopward.event import LAST_MS, MAX_FIELDS, MAX_TEXT
from shopward.expr import to_python
from shopward.expr.nodes import MODEL
from shopward.features.direct import packer, possible
from shopward.hashing import RawHash, canonical_text, hash_strings
from shopward.rules.act import CONTROL, TREATED, share, strongest
from shopward.rules.generated import define, names_in
from shopward.rules.subject import subject, subject_roles

if TYPE_CHECKING:
    from shopward.decide import Engine
    from shopward.evidence import Evidence
    from shopward.models.panel import Said
    from shopward.rules.why import Why

MAX_CACHED = 1 << 18  # texts whose hashes are kept (some 200 bytes each, the text included)
MAX_OUTCOMES = 4096  # combinations of fired rules whose outcome is kept
MAX_MINOR = 10**12
HALF, TOO_LONG = "not valid Unicode (half of a surrogate pair)", f"a text longer than {MAX_TEXT:,} bytes"
PLAIN = frozenset({str, int, float, bool, type(None), list})  # what a flat event holds


class Hashes(dict):
    """text -> the 16 bytes of its hash; computes what it does not hold and forgets everything when full."""

    def __init__(self, seed: bytes):
        super().__init__({None: bytes(16)})
        self._hash = RawHash(seed)

    def __missing__(self, text: str) -> bytes:
        try:
            raw = text.encode()
        except UnicodeEncodeError:
            raise BadEvent(HALF) from None
        if len(raw) > MAX_TEXT:
            raise BadEvent(TOO_LONG)
        words = self[text] = self._hash(raw)
        if len(self) > MAX_CACHED:
            self.clear()
            self[None] = bytes(16)
        return words


def source_of(engine: Engine) -> str:
    """The text of the generated function, for reading.

    >>> from shopward import Engine, Rulebook
    >>> from shopward.decide_one import source_of
    >>> book = Rulebook.from_files({
    ...     "schema.yaml": "types: [login]\\nfields: {account: {type: string, entity: account}, items: number}",
    ...     "features/f.yaml": "logins_1h: {entity: account, measure: count, over: 1h}",
    ...     "rules/r.yaml": "id: r\\ntitle: R\\non: [login]\\nwhen: logins_1h > 5 and items > 2\\nthen: deny\\n"
    ...     "tests: [{name: one, events: [{type: login, ts: 0, account: a}], expect: {fires: false}}]"})
    >>> print(source_of(Engine(book, mode="interpreted")))
    def step(event, usual):
        get = event.get
        if not KNOWN.issuperset(event):
            if not PLAIN.issuperset(map(type, event.values())) or len(event) > 1000: return None
            if not usual and not STRANGE.isdisjoint(event):
                if not all(UNREAD[name](event[name]) for name in event if name in UNREAD): return None
        v_label, m_label, v_label_event, v_label_source = nan, NULL, None, None
        kind, ts, id = get('type'), get('ts'), get('event_id')
        if kind.__class__ is not str or ts.__class__ is not int: return None
        code = CODES.get(kind)
        if code is None or not 0 <= ts <= 253402300799999: return None
        if code == 0: raise BadEvent('a label is not decided on: send it with Engine.label', field='type')
        if id is not None and not usual:
            if id.__class__ is not str or not 0 < len(id) <= 8192 or not id.isascii(): return None
        v_account = get('account')
        if v_account.__class__ is not str and v_account is not None: return None
        if v_account == '' and not usual: return None
        v_items = get('items')
        if v_items is None: v_items = nan
        elif v_items.__class__ is int and -9223372036854775808 <= v_items < 18446744073709551616: v_items = float(v_items)
        elif v_items.__class__ is not float or v_items in (INF, -INF): return None
        clock = CLOCK.value
        if clock < ts:
            if ts > FAR[0] and ts > far(): return None
            clock = ts
        t = ts if ts >= clock - 3600000 else clock - 3600000
        if t > clock + 300000: t = clock + 300000
        if id is None: id = f'event:{ENGINE.seq}'
        PACK(BUFFER, 0, t, ts, code, v_items, HASH[v_account])
        BATCH.seq0, CLOCK.value = ENGINE.seq, clock
        RUN()
        features = UNPACK(F)
        F0,  = features
        hits = 0
        if code == 1:
            if (F0 > 5.0 and v_items > 2.0): hits |= 1
        return hits, code, id, ts, t, {'account': v_account, 'items': v_items, 'type': kind, 'event_id': id, 'ts': float(ts)} if hits else None, features, None
    """
    builder = _Builder(engine, engine)
    builder.function()
    return builder.step_source


def build(engine: Engine, owner: Engine | None = None) -> Callable[[dict], Decision | None]:
    """The function `decide(event)` of an engine without a data folder; `owner` is the engine that will have become this one by then."""
    return _Builder(engine, owner or engine).function()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a combination of fired rules leads to; worked out once, since the same ones fire again and again.

    `quiet` are the shadow rules. `forced` is the action of the control arm: what mandatory rules insist on. `partial` says that some are rolled out to a part.
    `tells` and `whispers` give the evidence of live and shadow ones.
    """

    fired: tuple[Rule, ...]
    live: tuple[Rule, ...]
    quiet: tuple[Rule, ...]
    action: str
    forced: str
    reasons: tuple[str, ...]
    shadow: tuple[str, ...]
    labels: tuple[str, ...]
    writers: tuple[Rule, ...]
    partial: bool
    tells: tuple[Callable, ...]
    whispers: tuple[Callable, ...]

    @classmethod
    def of(cls, rules: Iterable[Rule], why: Mapping[str, Why]) -> Outcome:
        fired = tuple(rules)
        live, quiet = (tuple(r for r in fired if r.state == state) for state in ("live", "shadow"))
        return cls(
            fired, live, quiet, strongest(live), strongest(r for r in live if r.mandatory), tuple(r.id for r in live),
            tuple(r.id for r in quiet), tuple(r.label for r in live if r.label),
            tuple(r for r in live if r.writes), any(r.percent < 100 for r in fired),
            tuple(why[r.id].of for r in live), tuple(why[r.id].of for r in quiet),
        )  # fmt: skip


class _Builder:
    """Writes the function. Lanes of the batch of one are 8 bytes each: t, ts, type, numbers, minor units, hash words."""

    def __init__(self, engine: Engine, owner: Engine):
        self.engine, self.schema, self.rules = engine, engine.schema, engine.rules
        self.owner = owner  # which counts the events and writes the lists
        self.needs, self.fields = engine.needs, engine.schema.fields
        self.row_features = engine.row_features.all
        self.numbers = sorted((self.needs.numbers | {f.name for f in self.row_features if not f.text}) - {"ts"})
        self.minor = sorted(self.needs.minor)
        self.texts = sorted((self.needs.hashes | {f.name for f in self.row_features if f.text}) - {"type"})
        self.lists = sorted(self.needs.lists)
        self.roles = subject_roles(self.schema)
        self.outcomes: dict[int, Outcome] = {}
        self.kept: dict[str, str | None] = {}  # texts of the event at hand
        self.sampled = engine.policy.control_percent > 0
        self.direct = engine.windows.mode != "interpreted" and possible()

    def function(self) -> Callable[[dict], Decision | None]:
        batch, packing = self._batch()
        bound = self.engine.windows.bind(batch)
        env = self._env(batch, bound)
        self.values = bound.values
        self.step_source = self._source()
        step = define(
            self.step_source,
            "step",
            {
                **env,
                **packing,
                "UNPACK": struct.Struct(f"={len(self.rules.column)}d").unpack_from,
                "RUN": bound.run,
                "F": bound.values,
            },
        )
        decide = self._decide(step)
        decide.batch, decide.values = batch, bound.block.values  # type: ignore[attr-defined]  # of the event decided on last
        return decide

    def _batch(self) -> tuple[Batch, dict[str, Any]]:
        """A batch of one whose columns all lie in one buffer, and what fills it: compiled code, or a struct and remembered hashes."""
        lanes = 3 + len(self.numbers) + len(self.minor) + 2 * len(self.texts)
        memory = np.zeros(lanes, np.int64)
        batch = Batch(1, 0, memory[0:1], memory[1:2], memory[2:3].view(np.int16)[:1], [""])
        batch.text = lambda name: [self.kept[name]]
        batch.lists.update({name: _elements(self.engine.seed, None) for name in self.engine.windows.needs.lists})
        at = 3
        for name in self.numbers:
            batch.numbers[name] = memory[at : at + 1].view(np.float64)
            at += 1
        for name in self.minor:
            batch.minor[name] = memory[at : at + 1]
            at += 1
        for name in self.texts:
            batch.hashes[name] = memory[at : at + 2].reshape(1, 2)
            at += 2
        counts = 3, len(self.numbers), len(self.minor), len(self.texts)
        if self.direct:
            return batch, {"PACK": packer(memory, *counts, self.engine.seed)}
        layout = struct.Struct("={}q{}d{}q".format(*counts) + "16s" * counts[3])
        return batch, {
            "PACK": layout.pack_into,
            "BUFFER": memoryview(memory).cast("B"),
            "HASH": Hashes(self.engine.seed),
        }

    # --- what the generated function may call

    def _env(self, batch: Batch, bound: Any) -> dict[str, Any]:
        from shopward import entity

        schema = self.schema
        return {
            **self.rules.env,
            "CODES": {name: code for code, name in enumerate(schema.types)},
            "bytes": bytes,
            "type": type,
            "list": list,
            "map": map,
            "all": all,
            "len": len,
            "CLOCK": self.engine.clock,
            "NOW": lambda: time.time_ns() // 1_000_000,
            "SCALARS": frozenset((int, float)),
            "PLAIN": PLAIN,
            "UNREAD": (unread := self._unread()),
            "STRANGE": frozenset(unread),
            "KNOWN": frozenset({"event_id", "ts", "type"} | {f.name for f in self._read_fields()} - unread.keys()),
            "SHORT": _short,
            "BadEvent": BadEvent,
            "UnicodeEncodeError": UnicodeEncodeError,
            "NULL": NULL,
            **self._future(),
            "INF": float("inf"),
            "lower": entity.lower,
            "e164": entity.e164,
            "ip64": entity.ip64,
            "str": str,
            "float": float,
            "int": int,
            "CANONICAL": canonical_text,
            "KEPT": self.kept,
            "LISTS": batch.lists,
            "ELEMENTS": partial(_elements, self.engine.seed),
            "BATCH": batch,
            "ENGINE": self.owner,
            "TEXTS": _feature_texts(self.engine, bound),
            **{f"row_{i}": f.value for i, f in enumerate(self.row_features)},
            "SCORE": self._said,
            "REMEMBER": partial(self.engine.models.pasts.update, batch),
            **{
                f"CODE_{k}_{i}": lane.codes.get
                for k, lanes in enumerate(self.engine.models.lanes)
                for i, lane in enumerate(lanes)
                if lane.text
            },
        }

    def _future(self) -> dict[str, Any]:
        """`FAR[0]` is the latest time known not to lie in the future; `far()` moves it to now."""
        clock = self.engine.clock
        latest = [clock.latest()]

        def far() -> int:
            latest[0] = clock.latest()
            return latest[0]

        return {"FAR": latest, "far": far}

    # --- the source

    def _source(self) -> str:
        lines = [
            "def step(event, usual):",
            "    get = event.get",
            "    if not KNOWN.issuperset(event):",
            f"        if not PLAIN.issuperset(map(type, event.values())) or len(event) > {MAX_FIELDS}: return None",
            "        if not usual and not STRANGE.isdisjoint(event):",
            "            if not all(UNREAD[name](event[name]) for name in event if name in UNREAD): return None",
            "    v_label, m_label, v_label_event, v_label_source = nan, NULL, None, None",  # unknown when deciding
            "    kind, ts, id = get('type'), get('ts'), get('event_id')",
            "    if kind.__class__ is not str or ts.__class__ is not int: return None",
            "    code = CODES.get(kind)",
            f"    if code is None or not 0 <= ts <= {LAST_MS}: return None",
            f"    if code == {LABEL}: raise BadEvent('a label is not decided on: send it with Engine.label', field='type')",
            "    if id is not None and not usual:",
            f"        if id.__class__ is not str or not 0 < len(id) <= {MAX_TEXT} or not id.isascii(): return None",
        ]
        for field in self._read_fields():
            lines += [f"    {line}" for line in self._take(field)]
        lines += [f"    {line}" for line in self._stamp()]
        lines.append("    if id is None: id = f'event:{ENGINE.seq}'")
        for i, f in enumerate(self.row_features):
            if not f.late:
                lines += self._row_feature(i, f)
        lines += self._pack()
        lines.append("    BATCH.seq0, CLOCK.value = ENGINE.seq, clock")  # only now: the event is accepted
        lines += [f"    LISTS[{name!r}] = ELEMENTS(v_{name})" for name in sorted(self.engine.windows.needs.lists)]
        lines += [f"    KEPT[{name!r}] = {self._name(name)}" for name in self._kept_texts()]
        lines.append("    RUN()")
        if self.engine.models.pasts:
            lines.append("    REMEMBER()")
        if self.rules.column:
            lines += ["    features = UNPACK(F)", f"    {self._unpacked()} = features"]
        for i, f in enumerate(self.row_features):
            if f.late:
                lines += [*self._row_feature(i, f), *self._late_value(f)]
        if self.schema.observed:
            codes = ", ".join(str(self.schema.types.index(name)) for name in self.schema.observed)
            lines.append(f"    if code in {{{codes}}}: return None, code, id, ts, t, None, None, None")
        lines += self._scores()
        lines += self._tests()
        kept = [f"'{f.name}': v_{f.name}" for f in self._read_fields()]
        kept += [f"'{f.name}': x_{f.name}" for f in self.row_features if f.text]
        kept += ["'type': kind", "'event_id': id", "'ts': float(ts)"]
        kept += [f"{n!r}: {self._name(n)}" for n in self._builtins()]
        read = {n for r in self.rules.order for n in r.when.features}
        kept += [f"{n!r}: TEXTS[{n!r}]()" for n in _feature_texts_of(self.engine) if n in read]
        keep = "" if self.engine.policy.control_percent > 0 else " if hits else None"
        said = "said" if self.engine.models else "None"
        features = "features" if self.rules.column and not any(f.late for f in self.row_features) else "F"
        lines.append(f"    return hits, code, id, ts, t, {{{', '.join(kept)}}}{keep}, {features}, {said}")
        return "\n".join([*lines, ""])

    def _scores(self) -> list[str]:
        """Ask the models, each with the values it reads."""
        models = self.engine.models
        if not models:
            return []
        rows = [
            "(" + "".join(f"{self._lane(k, i)}, " for i in range(len(lanes))) + ")"
            for k, lanes in enumerate(models.lanes)
        ]
        who = f"{{{', '.join(f'{role!r}: {self._name(role)}' for role, _ in self.roles)}}}" if models.shared else "None"
        lines = [f"    said = SCORE(code, ({''.join(f'{row}, ' for row in rows)}), {who}, id)"]
        return lines + [
            f"    {n} = said.each[{n.removeprefix(MODEL)!r}]" if n.startswith(MODEL) else f"    {n} = said.{n}"
            for n in self._builtins()
        ]

    def _lane(self, k: int, i: int) -> str:
        """One value that model k reads, as a number."""
        lane = self.engine.models.lanes[k][i]
        at = self._name(lane.name)
        return f"CODE_{k}_{i}({at}, -1.0)" if lane.text else at

    def _builtins(self) -> list[str]:
        """What rules read of models: `score`, `risk`, `MODEL_x`."""
        return sorted({n for r in self.rules.order for n in r.when.builtins})

    def _said(self, code: int, rows: tuple, roles: dict[str, Any] | None, event_id: str) -> Said:
        who = subject(self.roles, roles.get, event_id) if roles is not None else ""
        return self.engine.models.one(code, rows, lambda name, row: share(name, who))

    def _read_fields(self) -> list[Field]:
        """Declared fields that anything reads, derived ones after what they are derived from."""
        wanted = set(self.needs.numbers | self.needs.minor | self.needs.hashes | self.needs.text | self.needs.lists)
        wanted |= {n.name for r in self.rules.order for n in names_in(r.when.root) if n.kind == "field"}
        wanted |= {
            f.name for f in self.fields.values() if f.type in ("money", "decimal")
        }  # an amount is always checked
        wanted |= {role for role, _ in subject_roles(self.schema)} | {
            k for r in self.rules.order for w in r.writes for k in w.key
        }
        wanted |= {name for f in self.row_features for name in f.names}
        wanted |= {lane.name for lanes in self.engine.models.lanes for lane in lanes if lane.kind == "field"}
        grown = True
        while grown:
            more = {n for name in wanted if name in self.fields and (d := self.fields[name].derive) for n in d.fields}
            grown = bool(more - wanted)
            wanted |= more
        found = [f for f in self.fields.values() if f.name in wanted]
        return [f for f in found if not f.derive] + [f for f in found if f.derive]

    def _unread(self) -> dict[str, Callable[[Any], bool]]:
        """Declared fields that nothing reads: whether a value of theirs is surely fine (what is not takes the long way)."""
        read = {f.name for f in self._read_fields()}
        fine: dict[str, Callable[[Any], bool]] = {
            name: _surely(f) for name, f in self.fields.items() if name not in read
        }
        return fine | dict.fromkeys(("label", "label_event", "label_source"), _nothing)

    def _take(self, f: Field) -> list[str]:
        """Lines that set `v_NAME` (and `m_NAME` for money) or give up on the short way."""
        v, get = f"v_{f.name}", f"get({f.name!r})"
        if f.derive:
            names = {n: f"v_{n}" for n in f.derive.fields if n not in ("ts", "type")} | {
                "ts": "float(ts)",
                "type": "get('type')",
            }
            made = to_python(f.derive, names, "value")
            return [
                f"if usual: {v} = {get}",
                f"elif {get} is not None: return None",
                f"else: {v} = {made}",
                *self._derived(f),
            ]
        if f.type == "string":
            lines = [f"{v} = {get}", f"if {v}.__class__ is not str and {v} is not None: return None"]
            if f.normalise:
                lines.append(f"if {v} is not None and not usual: {v} = {f.normalise}({v})")
            lines.append(f"if {v} == '' and not usual: return None")
            return (
                lines
                if f.name in self.texts
                else [*lines, f"if {v} is not None and not usual and not SHORT({v}): return None"]
            )
        if f.type == "list":
            return [
                f"{v} = {get}",
                f"if {v} is not None and ({v}.__class__ is not list or not usual and not all(map(SHORT, {v}))): return None",
            ]
        if f.type == "bool":
            return [f"{v} = {get}", f"if {v} is True: {v} = 1.0", f"elif {v} is False: {v} = 0.0",
                    f"elif {v} is None: {v} = nan", f"elif not (usual and {v}.__class__ is float): return None"]  # fmt: skip
        if f.type in ("money", "decimal"):
            return self._take_money(f, v, get)
        return [f"{v} = {get}", f"if {v} is None: {v} = nan", f"elif {v}.__class__ is int and {-1 << 63} <= {v} < {1 << 64}: {v} = float({v})",
                f"elif {v}.__class__ is not float or {v} in (INF, -INF): return None"]  # fmt: skip

    def _derived(self, f: Field) -> list[str]:
        """What a made value must be; anything else is for the long way to refuse or to convert."""
        v = f"v_{f.name}"
        if f.type == "string":
            return [f"if {v} == '' and not usual: return None"]
        lines = [f"if {v} is None: {v} = nan", f"elif {v} in (INF, -INF): return None"]
        if f.type in ("money", "decimal"):
            return [f"if not usual and {v} == {v}: return None", *lines, *self._take_money(f, v, v)]
        return lines

    def _take_money(self, f: Field, v: str, get: str) -> list[str]:
        """Exact when v is the float nearest to a whole number of minor units; everything else takes the long way."""
        foreign = self.schema.currency
        base = self.engine.policy.base_currency
        unit, low = float(10**f.digits), -MAX_MINOR if f.signed or f.type == "decimal" else 0
        m = f"m_{f.name}"
        exchange = (
            [f"if not usual and get({foreign!r}) not in (None, {base!r}): return None"]
            if foreign and f.type == "money"
            else []
        )
        return exchange + [
            f"{v} = {get}",
            f"if {v} is None or {v} != {v}: {v}, {m} = nan, NULL",
            f"elif {v}.__class__ in SCALARS:",
            f"    if not {low / unit!r} <= {v} <= {MAX_MINOR / unit!r}: return None",
            f"    {m} = int({v} * {unit!r} + (0.5 if {v} >= 0 else -0.5))",
            f"    if {m} / {unit!r} != {v}: return None",
            f"    {v} = {m} / {unit!r}",
            "else: return None",
        ]

    def _stamp(self) -> list[str]:
        """Stamped time: the event's own, clamped to the clock."""
        late, skew = self.engine.policy.lateness_ms, self.engine.policy.skew_ms
        if self.engine.clock.server:
            clock = ["clock = NOW()", "if clock < CLOCK.value: clock = CLOCK.value"]
        else:
            clock = [
                "clock = CLOCK.value",
                "if clock < ts:",
                "    if ts > FAR[0] and ts > far(): return None",
                "    clock = ts",
            ]
        return [
            *clock,
            f"t = ts if ts >= clock - {late} else clock - {late}",
            f"if t > clock + {skew}: t = clock + {skew}",
        ]

    def _row_feature(self, i: int, f: Any) -> list[str]:
        args = ["t" if n == "t" else self._name(n) for n in (*f.names, "t")]
        lines = [f"    x_{f.name} = row_{i}({', '.join(args)})"]
        return lines if f.text else [*lines, f"    x_{f.name} = nan if x_{f.name} is None else float(x_{f.name})"]

    def _late_value(self, f: Any) -> list[str]:
        return [] if f.text else [f"    F[{self.rules.column[f.name]}] = x_{f.name}"]

    def _pack(self) -> list[str]:
        """Lines that write the lanes of the batch, or raise BadEvent for a text that has no hash."""
        values = ", ".join(["t", "ts", "code", *self._packed()])
        if not self.direct:
            return [f"    PACK(BUFFER, 0, {values})"]
        return [
            "    try:",
            f"        if PACK({values}): raise BadEvent({TOO_LONG!r})",
            "    except UnicodeEncodeError:",
            f"        raise BadEvent({HALF!r}) from None",
        ]

    def _packed(self) -> list[str]:
        """The values of the lanes after t, ts and type, in lane order."""
        early = {f.name for f in self.row_features if not f.late}
        late = {f.name for f in self.row_features if f.late}
        out = ["nan" if n in late else f"x_{n}" if n in early else f"v_{n}" for n in self.numbers]
        out += [f"m_{n}" for n in self.minor]
        for n in self.texts:
            key = "None" if n in late else f"x_{n}" if n in early else self._key(n)
            out.append(key if self.direct else f"HASH[{key}]")
        return out

    def _kept_texts(self) -> list[str]:
        """Fields whose characters the windows read, or keep for string features."""
        return sorted(self.engine.windows.needs.text)

    def _key(self, name: str) -> str:
        """The text under which a field is hashed."""
        field, at = self.fields.get(name), self._name(name)
        return at if field is None or field.type == "string" else f"None if {at} != {at} else CANONICAL({at})"

    def _name(self, name: str) -> str:
        """Where generated code finds a field or feature."""
        if name in ("ts", "type", "event_id"):
            return {"ts": "float(ts)", "type": "get('type')", "event_id": "id"}[name]
        if name in ("score", "risk") or name.startswith(MODEL):
            return name if self.engine.models else "nan"
        if name in self.rules.column:
            row = {f.name for f in self.row_features}
            text = self.engine.rulebook.features[name].type == "string"
            return f"x_{name}" if name in row else f"TEXTS[{name!r}]()" if text else f"F{self.rules.column[name]}"
        return f"v_{name}"

    def _unpacked(self) -> str:
        """One variable a feature: one call reads them all."""
        return "".join(f"F{k}, " for k in range(len(self.rules.column)))

    def _tests(self) -> list[str]:
        """The rules of each event type, as one test each."""
        lines = ["    hits = 0"]
        codes = {name: code for code, name in enumerate(self.schema.types)}
        word = "if"
        for name, code in codes.items():
            rules = [(bit, r) for bit, r in enumerate(self.rules.order) if name in r.on]
            if code == LABEL or not rules:
                continue
            lines.append(f"    {word} code == {code}:")
            word = "elif"
            for bit, rule in rules:
                names = {n.name: self._name(n.name) for n in names_in(rule.when.root)} | {"t": "t"}
                lines.append(f"        if {to_python(rule.when, names, 'true')}: hits |= {1 << bit}")
        return lines

    # --- the decision around it

    def _decide(self, step: Callable) -> Callable[[dict], Decision | None]:
        engine, schema, version = self.owner, self.schema, self.rules.version
        types = schema.types
        odd = bool(schema.mapping or schema.constants or schema.label)

        def usual(event: dict) -> dict:
            found = engine._checked(event)
            if isinstance(found, BadEvent):
                raise found
            return found

        def decide(event: dict, settled: bool = False) -> Decision | None:
            try:
                found = None if settled or odd or event.__class__ is not dict else step(event, False)
            except BadEvent:  # the long way says which field it is
                found = None
            if found is None:
                event = event if settled else usual(event)
                found = step(event, True)
                if found is None:
                    if settled:
                        return NotImplemented  # as columns it can be
                    raise BadEvent("the event cannot be used")
            hits, code, event_id, ts, t, seen, features, said = found
            engine.seq += 1
            if hits is None:
                return None
            if seen is not None:
                return self._judged(hits, types[code], event_id, ts, t, seen, features, said)
            if said is None:
                return Decision(event_id, ts, types[code], "allow", (), None, None, TREATED, (), (), (), version)
            return Decision(
                event_id=event_id, ts=ts, type=types[code], action="allow", rulebook_version=version, **spoken(said)
            )

        return decide

    def _judged(
        self,
        hits: int,
        type_: str,
        event_id: str,
        ts: int,
        t: int,
        seen: dict,
        features: Sequence[float],
        said: Said | None,
    ) -> Decision:
        """The decision when rules fired, or when a control arm exists."""
        outcome = self.outcomes.get(hits) or self._outcome(hits)
        get, arm = seen.get, TREATED
        if self.sampled or outcome.partial:
            outcome, arm = self._sampled(outcome, subject(self.roles, get, event_id))
        ids = (event_id,)
        evidence = tuple([tell(get, features, ids, ts, t) for tell in outcome.tells])  # before lists change
        quiet = tuple([tell(get, features, ids, ts, t) for tell in outcome.whispers]) if outcome.quiet else ()
        if said is not None:
            evidence += self._voices(outcome.live, said, get, event_id, ts, t)
            quiet += self._voices(outcome.quiet, said, get, event_id, ts, t)
        for rule in outcome.writers:
            if arm == TREATED or rule.mandatory:
                self.owner.apply_writes(rule, get, t)
        action = outcome.forced if arm == CONTROL else outcome.action
        version = self.rules.version
        if said is None:
            return Decision(
                event_id, ts, type_, action, outcome.reasons, None, None, arm, outcome.shadow, outcome.labels, evidence, version, quiet
            )  # fmt: skip
        return Decision(
            event_id=event_id, ts=ts, type=type_, action=action, reasons=outcome.reasons, arm=arm, shadow=outcome.shadow,
            labels=outcome.labels, evidence=evidence, rulebook_version=version, shadow_evidence=quiet, **spoken(said),
        )  # fmt: skip

    def _outcome(self, hits: int) -> Outcome:
        """What this combination leads to, from now on remembered."""
        if len(self.outcomes) >= MAX_OUTCOMES:
            self.outcomes.clear()
        self.outcomes[hits] = Outcome.of(_by_bit(self.rules.order, hits), self.rules.why)
        return self.outcomes[hits]

    def _sampled(self, outcome: Outcome, who: str) -> tuple[Outcome, str]:
        """The outcome without the rules that are not rolled out to this subject, and the subject's arm."""
        if outcome.partial:
            rolled = [r for r in outcome.fired if r.percent >= 100 or share(f"rule:{r.id}", who) < r.percent]
            outcome = Outcome.of(rolled, self.rules.why)
        return outcome, CONTROL if share("control", who) < self.engine.policy.control_percent else TREATED

    def _voices(
        self, rules: tuple[Rule, ...], said: Said, get: Callable, event_id: str, ts: int, t: int
    ) -> tuple[Evidence, ...]:
        """Why the models said what these rules listened to."""
        asks = [ask for r in rules if (ask := self.rules.why[r.id].said)]
        heard = [name for ask in asks for name in ask(get, self.values, t)]
        return self.engine.voices.of(said, heard, get, event_id, ts) if heard else ()


def _feature_texts(engine: Engine, bound: Any) -> dict[str, Callable[[], str | None]]:
    """Readers of the string features after a run."""
    return {name: partial(_text_now, engine, bound, name) for name in _feature_texts_of(engine)}


def _feature_texts_of(engine: Engine) -> list[str]:
    """Features that are texts and come from the windows."""
    row = set(engine.windows.row_features)
    return [f.name for f in engine.rulebook.features.values() if f.type == "string" and f.name not in row]


def _elements(seed: bytes, values: list[str] | None) -> tuple[np.ndarray, np.ndarray]:
    """A list field as a batch of one keeps it: offsets and hashes."""
    hashes = hash_strings(values or [], seed)
    return np.array([0, len(hashes)], np.int64), hashes


def _text_now(engine: Engine, bound: Any, name: str) -> str | None:
    return engine.windows.text(name, bound.hashes[name])[0]


def _by_bit(order: list[Rule], hits: int) -> list[Rule]:
    fired = []
    while hits:
        low = hits & -hits
        fired.append(order[low.bit_length() - 1])
        hits ^= low
    return fired


def _short(text: Any) -> bool:
    """A text that needs no second look: not long, and without half characters."""
    return text.__class__ is str and len(text) <= 1000 and text.isascii()


def _nothing(value: Any) -> bool:
    return value is None


def _surely(f: Field) -> Callable[[Any], bool]:
    """Is a value of this field, which nothing reads, surely one that the long way would take?"""
    if f.derive or f.type == "list":
        return _nothing
    if f.type == "string":
        return _nothing if f.normalise == "e164" else lambda v: v is None or _short(v)
    if f.type == "bool":
        return lambda v: v is None or v.__class__ is bool
    return lambda v: v is None or (v.__class__ in (int, float) and -1e18 < v < 1e18)
