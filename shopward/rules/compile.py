"""Rules compiled twice from one text: a kernel over the columns of a batch, and a Python function for one event.

Rules are indexed by event type, so an event meets only the rules that are `on` its type. A condition is split at its top-level
`and`: what needs only columns runs in the kernel, lists and lookups included, whose answers are columns too (`asked.py`); what
needs characters runs in Python, row by row in arrival order, and only where the rest already holds (`firing.py`). Bit r of the
hit words is rule `order[r]`: strongest action first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np

from shopward.batch import LABEL, Batch, Needs
from shopward.declare.types import Rule, Schema
from shopward.evidence import Evidence
from shopward.expr import FUNCTIONS, runtime, to_kernel, to_python, walk
from shopward.expr.check import needs_text
from shopward.expr.functions import UTC_COLUMNS
from shopward.expr.nodes import Bool, Call, Const, Name, Node
from shopward.hashing import siphash128
from shopward.rules.act import STRENGTH
from shopward.rules.firing import Firing
from shopward.rules.generated import define
from shopward.rules.kernel import RuleKernel
from shopward.rules.subject import subject, subject_roles
from shopward.rules.why import Why

if TYPE_CHECKING:
    from shopward.declare.rulebook import Rulebook
    from shopward.features.live import Block, Windows
    from shopward.rules.asked import Answers, Asked, Questions

_NUMERIC = ("number", "bool", "time")
Seen = tuple[Evidence, tuple[str, ...]]  # what a rule saw, and what models said that held: `score`, `risk`, `MODEL_x`
Explained = dict[tuple[int, str], Seen]  # (row of the batch, rule id) -> what it saw


@dataclass(frozen=True, slots=True)
class Tail:
    """The part of a rule that a kernel cannot judge: `holds(values...)`, reading `names`, for bit `bit`."""

    bit: int
    rule: Rule
    names: tuple[str, ...]
    holds: Callable[..., bool] | None


class Rules:
    """A rulebook's live and shadow rules, ready to run.

    `order` gives the rules by bit, `ids` their ids; `live` and `shadow` are masks (uint64[w]) over the hit words.
    """

    def __init__(
        self,
        rulebook: Rulebook,
        windows: Windows,
        seed: bytes,
        tables: Mapping[str, Callable],
        questions: Questions,
        mode: str = "auto",
    ):
        rules = [r for r in rulebook.rules.values() if r.state != "draft"]
        self.order = sorted(rules, key=lambda r: -STRENGTH[r.then])
        self.ids = tuple(r.id for r in self.order)
        self.schema: Schema = rulebook.schema
        self.version: str = rulebook.version
        self.rulebook, self.windows, self.seed = rulebook, windows, seed
        self.words = max(1, -(-len(self.order) // 64))
        self.live = self._mask(lambda r: r.state == "live")
        self.shadow = self._mask(lambda r: r.state == "shadow")
        self.strength = np.array([STRENGTH[r.then] for r in self.order] or [0], np.int64)
        self.mandatory = np.array([r.mandatory for r in self.order] or [False])
        self.override = np.array([r.override and r.then == "allow" for r in self.order] or [False])
        self.column = windows.row_of
        self.subject_roles = subject_roles(self.schema)
        self.env = {**runtime(), **tables}
        self.questions = questions
        self.why = {r.id: Why.write(r, rulebook, self.column, seed, self.env) for r in self.order}
        self.plain, self.head_of, self.tails = self._split()
        self._tail_at = {tail.bit: tail for tail in self.tails}
        self.special = self._mask_bits([t.bit for t in self.tails])
        self._plan = _KernelPlan(self)
        self._kernel = RuleKernel(self._plan.source, mode)

    # --- running over a batch

    def compile(self) -> None:
        """Have the kernel compiled when this returns (unless the mode is "interpreted")."""
        self._kernel.compile()

    def fire(
        self,
        batch: Batch,
        block: Block,
        write: Callable[[Rule, int], None],
        control: np.ndarray | None = None,
        told: Explained | None = None,
    ) -> np.ndarray:
        """Hit words uint64[n, w] of every event. `write(rule, row)` is called, in arrival order, where a writing rule fires.

        In the control arm (bool per row; worked out where needed when not given) only mandatory rules write: what is let through
        must leave no trace that stops the next event. `told` receives the evidence that must be written down before lists change.
        """
        hits = np.zeros((batch.n, self.words), np.uint64)
        if not self.order:
            return hits
        read = Reader(self, batch, block)
        firing = Firing(self, read, hits, write, control, {} if told is None else told)
        kernel = self._kernel.ready()
        if kernel is None:
            firing.by_row(self._plan.judge)
        else:
            firing.by_column(batch, block, kernel)
        return hits

    def arguments(self, batch: Batch, block: Block, hits: np.ndarray, answers: Answers) -> tuple:
        """What the kernel takes, in its order, but for the rows to judge."""
        return self._plan.arguments(batch, block, hits, answers.columns)

    def tails_of(self, words: list[int]) -> list[Tail]:
        """The tails whose bits are set in a row's words, strongest first."""
        found, bits = [], sum(word << 64 * i for i, word in enumerate(words))
        while bits:
            low = bits & -bits
            found.append(self._tail_at[low.bit_length() - 1])
            bits ^= low
        return found

    # --- reading hits

    def fired(self, words: np.ndarray) -> list[Rule]:
        """The rules behind one row of hit words, strongest first."""
        value = sum(int(w) << 64 * i for i, w in enumerate(words))
        return [rule for bit, rule in enumerate(self.order) if value >> bit & 1]

    def count(self, hits: np.ndarray) -> np.ndarray:
        """How often each rule fired, int64[rules]."""
        return np.array(
            [int((hits[:, b // 64] >> np.uint64(b % 64) & np.uint64(1)).sum()) for b in range(len(self.order))],
            np.int64,
        )

    def reader(self, batch: Batch, block: Block) -> Reader:
        """Values of a batch by name and row."""
        return Reader(self, batch, block)

    def explain(self, rule: Rule, read: Reader, row: int) -> Seen:
        """What a rule that fired saw at this event."""
        batch, why = read.batch, self.why[rule.id]
        get, features, t = partial(read.value, row=row), read.features(row), int(batch.t[row])
        evidence = why.of(get, features, (batch.event_ids[row],), int(batch.ts[row]), t)
        return evidence, why.said(get, features, t) if why.said else ()

    # --- preparing

    def _mask(self, wanted: Callable[[Rule], bool]) -> np.ndarray:
        return self._mask_bits([i for i, r in enumerate(self.order) if wanted(r)])

    def _mask_bits(self, bits: list[int]) -> np.ndarray:
        mask = np.zeros(self.words, np.uint64)
        for bit in bits:
            mask[bit // 64] |= np.uint64(1 << bit % 64)
        return mask

    def _split(self) -> tuple[list[list[Node]], list[list[Node]], list[Tail]]:
        """Per rule the conjuncts a kernel can judge, as written and as the kernel has them, and the tails of those that need more."""
        plain, heads, tails = [], [], []
        for bit, rule in enumerate(self.order):
            pairs = [(c, self.questions.place(c)) for c in _conjuncts(rule.when.root)]
            rest = [c for c, placed in pairs if is_rowwise(placed)]
            plain.append([c for c, placed in pairs if not is_rowwise(placed)])
            heads.append([placed for _, placed in pairs if not is_rowwise(placed)])
            if rest or rule.percent < 100 or rule.writes or self.why[rule.id].fleeting:
                tails.append(self._tail(bit, rule, rest))
        return plain, heads, tails

    def _tail(self, bit: int, rule: Rule, rest: list[Node]) -> Tail:
        names = tuple(sorted({n.name for c in rest for n in walk(c) if isinstance(n, Name)} | {"t"})) if rest else ()
        if not rest:
            return Tail(bit, rule, (), None)
        condition = " and ".join(to_python(c, mode="true") for c in rest)
        return Tail(
            bit, rule, names, define(f"def holds({', '.join(names)}):\n    return {condition}\n", "holds", self.env)
        )

    def needs(self) -> Needs:
        """The columns that the kernel reads."""
        return self._plan.needs() | self.questions.needs(self.asked)

    @cached_property
    def asked(self) -> list[Asked]:
        """The questions to lists and lookups that the kernel wants answered."""
        names = {n.name for head in self.head_of for c in head for n in walk(c) if isinstance(n, Name)}
        return [asked for asked in self.questions.asked.values() if asked.name in names]

    def hash_of(self, text: str) -> tuple[int, int]:
        return siphash128(text.encode(), self.seed)


class Reader:
    """Values of fields and features of one row of a batch, as Python expressions see them (NaN and None for missing)."""

    def __init__(self, rules: Rules, batch: Batch, block: Block | None):
        self.rules, self.batch, self.block = rules, batch, block
        self._roles = rules.subject_roles
        self._texts: dict[str, list] = {}

    def values(self, names: tuple[str, ...], row: int) -> list[Any]:
        return [self.value(name, row) for name in names]

    def value(self, name: str, row: int) -> Any:
        rules, batch = self.rules, self.batch
        if name == "t":
            return int(batch.t[row])
        if name == "ts":
            return float(batch.ts[row])
        if name == "type":
            return rules.schema.types[batch.types[row]]
        if name == "event_id":
            return batch.event_ids[row]
        if name in rules.column:
            return self._feature(name, row)
        if name in batch.numbers:
            return float(batch.numbers[name][row])
        if name in ("score", "risk"):
            return nan
        return self._text(name, row)

    def _feature(self, name: str, row: int) -> Any:
        assert self.block is not None
        if name in self.block.hashes:
            return self.rules.windows.text(name, self.block.hashes[name][row : row + 1])[0]
        return float(self.block.values[self.rules.column[name], row])

    def features(self, row: int) -> list[float]:
        """Every feature of a row, as numbers."""
        assert self.block is not None
        return self.block.values[:, row].tolist()

    def _text(self, name: str, row: int) -> Any:
        if name not in self._texts:
            self._texts[name] = self.batch.text(name)
        return self._texts[name][row]

    def subject(self, row: int) -> str:
        """Who a rollout or the control arm is about: the account, or the first entity the event has."""
        return subject(self._roles, partial(self.value, row=row), self.batch.event_ids[row])


# --- conditions -----------------------------------------------------------------------------------------------------------------


def is_rowwise(node: Node) -> bool:
    """Does judging this take characters, lists or lookups?"""
    return needs_text(node) or any(isinstance(n, Call) and not _columnar(n) for n in walk(node))


def _columnar(call: Call) -> bool:
    zone = call.args[1].value if len(call.args) > 1 and isinstance(call.args[1], Const) else "UTC"
    known = FUNCTIONS.get(call.func)
    return known is not None and (known.columns or (call.func in UTC_COLUMNS and zone == "UTC"))


def _conjuncts(node: Node) -> list[Node]:
    if isinstance(node, Bool) and node.op == "and":
        return [c for a in node.args for c in _conjuncts(a)]
    return [node]


class _KernelPlan:
    """The kernel's source, the columns it takes, and the same rules as plain functions for when no kernel is compiled."""

    def __init__(self, rules: Rules):
        self.rules = rules
        self.consts: list[tuple[int, int]] = []
        self._const_at: dict[str, int] = {}
        heads = [n for head in rules.head_of for c in head for n in walk(c)]
        named = {(n.name, n.type, n.kind) for n in heads if isinstance(n, Name)}
        texts = sorted(name for name, kind, where in named if kind == "string" and name != "type")
        self.features_text = [t for t in texts if t in rules.column]
        self.fields_text = [t for t in texts if t not in rules.column]
        self.fields_number = sorted(
            name
            for name, kind, where in named
            if kind in _NUMERIC
            and name not in rules.column
            and name != "ts"
            and (rules.rulebook.models or where != "builtin")
        )
        self.source = self._source()
        self._table = np.array(self.consts or [(0, 0)], np.int64)
        self._functions: dict[int, Callable] | None = None

    def needs(self) -> Needs:
        fields = self.rules.schema.fields
        return Needs(
            numbers=frozenset(f for f in self.fields_number if f in fields),
            hashes=frozenset(f for f in self.fields_text if f in fields),
        )

    def arguments(self, batch: Batch, block: Block, hits: np.ndarray, answers: Mapping[str, np.ndarray]) -> tuple:
        """What the kernel takes, in its order."""
        numbers = (answers[f] if f in answers else batch.numbers[f] for f in self.fields_number)
        texts = (answers[f] if f in answers else batch.hashes[f] for f in self.fields_text)
        features = (block.hashes[f] for f in self.features_text)
        return (batch.types, batch.ts, block.values, hits, self._table, *numbers, *texts, *features)

    def judge(self, read: Reader, row: int) -> int:
        """The hits of one event by plain Python, lists as they stand at this moment."""
        if self._functions is None:
            self._functions = {code: self._function(bits) for code, bits in self._by_type().items()}
        function = self._functions.get(int(read.batch.types[row]))
        return 0 if function is None else function(lambda name: read.value(name, row))

    def _by_type(self) -> dict[int, list[int]]:
        """Event type code -> bits of the rules on it."""
        codes = {name: i for i, name in enumerate(self.rules.schema.types)}
        by_type: dict[int, list[int]] = {}
        for bit, rule in enumerate(self.rules.order):
            for name in rule.on:
                if codes[name] != LABEL:
                    by_type.setdefault(codes[name], []).append(bit)
        return by_type

    def _function(self, bits: list[int]) -> Callable:
        names = sorted(
            {n.name for b in bits for c in self.rules.plain[b] for n in walk(c) if isinstance(n, Name)} | {"t"}
        )
        lines = ["def fire(get):", *(f"    {name} = get({name!r})" for name in names), "    hits = 0"]
        for bit in bits:
            condition = " and ".join(to_python(c, mode="true") for c in self.rules.plain[bit]) or "True"
            lines.append(f"    if {condition}: hits |= {1 << bit}")
        return define("\n".join([*lines, "    return hits", ""]), "fire", self.rules.env)

    def _const(self, text: str) -> tuple[str, str]:
        at = self._const_at.get(text)
        if at is None:
            at = self._const_at[text] = len(self.consts)
            self.consts.append(self.rules.hash_of(text))
        return f"K[{at}, 0]", f"K[{at}, 1]"

    def _source(self) -> str:
        """The kernel as text: one branch per event type, one test per rule."""
        names: dict[str, Any] = {"type": "c", "ts": "float(ts[i])", "score": "nan", "risk": "nan"}
        names |= {f: f"n_{f}[i]" for f in self.fields_number}
        names |= {f: (f"h_{f}[i, 0]", f"h_{f}[i, 1]") for f in self.fields_text}
        names |= {f: f"F[{k}, i]" for f, k in self.rules.column.items() if f not in self.features_text}
        names |= {f: (f"s_{f}[i, 0]", f"s_{f}[i, 1]") for f in self.features_text}
        codes = {name: i for i, name in enumerate(self.rules.schema.types)}
        columns = (
            [f"n_{f}" for f in self.fields_number]
            + [f"h_{f}" for f in self.fields_text]
            + [f"s_{f}" for f in self.features_text]
        )
        kinds = ["float64[::1]"] * len(self.fields_number) + ["int64[:, ::1]"] * (
            len(self.fields_text) + len(self.features_text)
        )
        fixed = ["int16[::1]", "int64[::1]", "float64[:, ::1]", "uint64[:, ::1]", "int64[:, ::1]"]
        lines = [
            '"""Rules of one rulebook over the columns of a batch. Generated."""',
            "import numpy as np",
            "from numba import njit",
            "from shopward.expr.kernel import div, first, floor, greatest, least, mod, nan, round_even",
            "",
            f'@njit("void({", ".join([*fixed, *kinds, "int64", "int64"])})", cache=True, nogil=True, error_model="numpy")',
            f"def fire({', '.join(['types', 'ts', 'F', 'hits', 'K', *columns, 'start', 'stop'])}):",
            "    for i in range(start, stop):",
            "        c = types[i]",
        ]
        for n, (code, bits) in enumerate(sorted(self._by_type().items())):
            lines.append(f"        {'if' if n == 0 else 'elif'} c == {code}:")
            for word in sorted({b // 64 for b in bits}):
                lines.append("            w = np.uint64(0)")
                for bit in (b for b in bits if b // 64 == word):
                    condition = (
                        " and ".join(to_kernel(c, names, self._const, codes, "true") for c in self.rules.head_of[bit])
                        or "True"
                    )
                    lines += [f"            if {condition}:", f"                w |= np.uint64({1 << bit % 64})"]
                lines.append(f"            hits[i, {word}] = w")
        if not self._by_type():
            lines.append("        pass")
        return "\n".join([*lines, ""])
