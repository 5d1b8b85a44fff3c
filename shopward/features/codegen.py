"""Writes the window kernels: one plain function per family of features, readable, and the same text for both engines.

A kernel walks over the events of a micro-batch in arrival order. For each event it loads the key's row, lets windows move on, reads
what must not see the event, adds the event where its filters say so, reads the rest and stores the row. It stops early, before
anything was changed for good, when a ring or an index has no space left; it can be called again from that event on.

The text runs interpreted on memoryviews (names from `lib`) or compiled on raw memory (names from `lib_jit`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from shopward.declare.types import Feature
from shopward.expr.compile import to_kernel
from shopward.features.plan import NARROW_MS, Family, Plan, Read, Ring, Value, Window

BITS = 62  # filters per mask word
LINE = 8  # 64-bit words in a cache line
Slot = tuple  # what a word of a kernel's block points to, e.g. ("slots", 0) or ("number", "amount")


@dataclass(slots=True)
class Kernel:
    """The text of one kernel and what its block must hold, word by word."""

    name: str
    text: str
    slots: list[Slot]
    layout: Layout = field(default_factory=lambda: Layout())
    constants: list[str] = field(default_factory=list)  # texts whose hashes the kernel compares with
    rings: list[RingNames] = field(default_factory=list)

    def plain(self) -> str:
        """The text without the lines that only ask for memory early."""
        return "\n".join(line for line in self.text.split("\n") if not line.endswith("# ahead"))


@dataclass(slots=True)
class Layout:
    """Where things lie in a row: 64-bit words first, then 32-bit lanes."""

    wide: list[str] = field(default_factory=lambda: ["now"])
    narrow: list[str] = field(default_factory=list)

    @property
    def words(self) -> int:
        used = len(self.wide) + (len(self.narrow) + 1) // 2
        return 4 if used <= 4 else -(-used // LINE) * LINE if used > LINE // 2 else LINE

    def at(self, name: str) -> int:
        """The lane of a narrow name, counted in 32-bit lanes from the row's start."""
        return 2 * len(self.wide) + self.narrow.index(name)

    def load(self, name: str) -> str:
        if name in self.wide:
            return f"{name} = R[row + {self.wide.index(name)}]"
        return f"{name} = I(r[lanes + {self.at(name)}])"

    def store(self, name: str) -> str:
        if name in self.wide:
            return f"R[row + {self.wide.index(name)}] = {name}"
        return f"r[lanes + {self.at(name)}] = {name}"


class Writer:
    """Lines with indentation."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0

    def __call__(self, line: str) -> None:
        self.lines.append("    " * self.depth + line)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        self(head)
        self.depth += 1
        yield
        self.depth -= 1

    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


def span(ms: int | None) -> str:
    """
    >>> span(86_400_000), span(5_400_000), span(None), span(1_500)
    ('1d', '90m', 'ever', '1500ms')
    """
    if ms is None:
        return "ever"
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if ms % size == 0 and ms:
            return f"{ms // size}{unit}"
    return f"{ms}ms"


def word(name: str) -> str:
    """A name that can stand in generated text."""
    return re.sub(r"\W", "_", name)


# ---- families


def family_kernel(plan: Plan, family: Family) -> Kernel:
    return _FamilyText(plan, family).kernel()


class RingNames:
    """The variables of one ring in the generated text, and the lanes of its slots."""

    def __init__(self, ring: Ring):
        self.ring = ring
        self.j = ring.number
        self.base, self.cap, self.mask, self.tail = (f"{part}{self.j}" for part in ("base", "cap", "mask", "tail"))
        self.end = f"end{self.j}" if ring.cursor else self.tail
        self.oldest = self.head(ring.windows[-1]) if ring.windows else self.end
        self.lanes: dict[Value, int] = {}
        at = ring.time_lanes + (1 if ring.amendable else 0)
        for value in ring.values():
            self.lanes[value] = at
            at += value.lanes
        self.queue_lanes = {}
        for queue in ring.queues:
            self.queue_lanes[queue] = at
            at += 1
        self.stride = at

    def head(self, w: Window) -> str:
        return f"head{self.j}_{span(w.ms)}"

    def lane(self, what: str, value: Value, w: Window | None = None) -> str:
        return f"{what}{self.j}_{word(value.field)}" + (f"_{span(w.ms)}" if w else "")

    def queue(self, queue: tuple[Value, str]) -> tuple[str, str]:
        name = f"{queue[1]}{self.j}_{word(queue[0].field)}"
        return f"{name}_first", f"{name}_last"

    def wide_names(self) -> list[str]:
        ring, names = self.ring, []
        for w in ring.windows:
            names += [self.lane("sum", v, w) for v in w.sums]
            for v in w.squares:
                names += [self.lane("high", v, w), self.lane("low", v, w)]
        names += [f"count{self.j}"] if ring.ever_count else []
        names += [self.lane("total", v) for v in ring.ever_sums]
        names += [f"first_at{self.j}"] if ring.ever_since else []
        names += [self.lane("first", v) for v in ring.ever_first]
        names += [f"last_at{self.j}"] if ring.last_time else []
        names += [self.lane("last", v) for v in ring.last]
        return names

    def narrow_names(self) -> list[str]:
        ring = self.ring
        if not ring.stored:
            return []
        names = [self.base, self.cap, self.tail] + ([self.end] if ring.cursor else [])
        for w in ring.windows:
            names.append(self.head(w))
            names += [self.lane("present", v, w) for v in w.present if v != ring.only]
            names += [self.lane("distinct", v, w) for v in w.distinct]
        for queue in ring.queues:
            names += self.queue(queue)
        return names

    def distinct_fields(self) -> list[tuple[Value, Window]]:
        """Each field counted exactly, with the longest window that does."""
        found: dict[Value, Window] = {}
        for w in self.ring.windows:
            for v in w.distinct:
                found[v] = w
        return list(found.items())

    def present(self, v: Value, w: Window) -> str:
        if v == self.ring.only:
            return f"(({self.end} - {self.head(w)}) & M32)"
        return self.lane("present", v, w)


class _FamilyText:
    def __init__(self, plan: Plan, family: Family):
        self.plan, self.family = plan, family
        self.w = Writer()
        self.slots: list[Slot] = []
        self.rings = [RingNames(r) for r in family.rings]
        self.layout = Layout()
        for ring in self.rings:
            self.layout.wide += ring.wide_names()
        for s, sequence in enumerate(family.sequences):
            self.layout.wide += [f"a{s}"] if sequence.feature.measure == "then" else [f"a{s}", f"b{s}"]
        for ring in self.rings:
            self.layout.narrow += ring.narrow_names()
        self.many = len(family.roles) > 1 and bool(family.via)

    # --- blocks

    def slot(self, *what: object) -> int:
        key = tuple(what)
        if key not in self.slots:
            self.slots.append(key)
        return self.slots.index(key)

    def view(self, name: str, kind: str, *what: object) -> None:
        self.w(f"{name} = {kind}(P, {self.slot(*what)})")

    def kernel(self) -> Kernel:
        w = self.w
        with w.block("def run(P, lo, hi):"):
            self.views()
            with w.block("for i in range(lo, hi):"):
                self.ahead()
                self.event()
            w("return hi")
        return Kernel(self.family.name, w.text(), self.slots, self.layout, rings=self.rings)

    def views(self) -> None:
        self.view("R", "i64", "rows")
        self.view("r", "u32", "rows")
        self.view("ids", "u32", "ids", self.family.domain)
        self.view("T", "i64", "t")
        for i in range(1 + max(self.filters_used(), default=0) // BITS):
            self.view(f"W{i}", "i64", "mask", i)
        if self.many:
            self.view("n", "num", "n")
            self.view("resume", "i64", "resume")
        if any(r.ring.amendable for r in self.rings):
            self.view("G", "i64", "replaced")
            self.view("seq0", "num", "seq0")
        for v in self.event_values():
            self.value_view(v)
        for r in self.rings:
            self.ring_views(r)
        for f, feature in enumerate(self.features()):
            self.view(f"out{f}", "f64", "out", feature.name)

    def ring_views(self, r: RingNames) -> None:
        if r.ring.stored:
            self.view(f"S{r.j}", "u32", "slots", r.j)
            self.view(f"A{r.j}", "i64", "arena", r.j)
        if r.ring.each:
            self.view(f"L{r.j}", "i64", "offsets", r.ring.each)
        for f, (v, _) in enumerate(r.distinct_fields()):
            self.view(f"X{r.j}_{f}", "i64", "index", r.j, v.field)
            self.view(f"H{r.j}_{f}", "i64", "index header", r.j, v.field)

    def value_view(self, v: Value) -> None:
        if v.kind == "id":
            self.view(self.column(v), "u32", "value ids", self.plan.value_domain(v))
        elif v.kind == "minor":
            self.view(self.column(v), "i64", "minor", v.field)
        else:
            self.view(self.column(v), "f64", "number", v.field)

    def column(self, v: Value) -> str:
        return f"{ {'id': 'I', 'minor': 'M', 'whole': 'N', 'number': 'N'}[v.kind] }_{word(v.field)}"

    def event_values(self) -> list[Value]:
        every: list[Value] = []
        for r in self.rings:
            ring = r.ring
            every += [
                *ring.values(),
                *ring.ever_sums,
                *ring.ever_first,
                *ring.last,
                *([ring.only] if ring.only else []),
            ]
        return list(dict.fromkeys(every))

    def filters_used(self) -> list[int]:
        used = [r.ring.filter for r in self.rings]
        return used + [b for s in self.family.sequences for b in (s.first, s.other)]

    def features(self) -> list[Feature]:
        return [r.feature for r in self.family.reads] + [s.feature for s in self.family.sequences]

    def taken(self, bit: int) -> str:
        return f"(w{bit // BITS} >> {bit % BITS}) & 1"

    # --- memory asked for early (compiled engine only)

    def ahead(self) -> None:
        w, words = self.w, self.layout.words
        w("if i + 2 * AHEAD < hi:  # ahead")
        w.depth += 1
        for s in range(len(self.family.roles) if self.many else 1):
            column = f"{s} * n + " if s else ""
            w(f"k = I(ids[{column}i + 2 * AHEAD]) * {words}  # ahead")
            for line in range(0, words, LINE):
                w(f"touch(R, k + {line})  # ahead")
            w(f"lanes = I(ids[{column}i + AHEAD]) * {2 * words}  # ahead")
            for r in self.rings:
                self.ring_ahead(r)
        w.depth -= 1

    def ring_ahead(self, r: RingNames) -> None:
        if not r.ring.stored:
            return
        at = self.layout.at
        self.w(f"b = I(r[lanes + {at(r.base)}])  # ahead")
        self.w(f"m = I(r[lanes + {at(r.cap)}]) - 1  # ahead")
        for lane in dict.fromkeys([r.tail, *(r.head(x) for x in r.ring.windows[-3:])]):
            self.w(f"touch(S{r.j}, (b + (I(r[lanes + {at(lane)}]) & m)) * {r.stride})  # ahead")

    # --- one event

    def event(self) -> None:
        w = self.w
        w("t = T[i] + START")
        for i in range(1 + max(self.filters_used(), default=0) // BITS):
            w(f"w{i} = W{i}[i]")
        for v in self.event_values():
            if not any(r.ring.each == v.field for r in self.rings):
                self.load_event_value(v)
        if self.many:
            with w.block(f"for role in range(resume[0], {len(self.family.roles)}):"):
                w("k = I(ids[role * n + i])")
                with w.block("for other in range(role):"), w.block("if I(ids[other * n + i]) == k:"):
                    w("k = 0")
                with w.block("if k == 0:"):
                    with w.block("if role == 0 and I(ids[i]) == 0:"):
                        self.no_key()
                    w("continue")
                self.row()
            w("resume[0] = 0")
        else:
            w("k = I(ids[i])")
            with w.block("if k == 0:"):
                self.no_key()
                w("continue")
            self.row()

    def load_event_value(self, v: Value) -> None:
        w, x, column = self.w, self.x(v), self.column(v)
        if v.kind == "id":
            w(f"{x} = I({column}[i])")
        elif v.kind == "minor":
            w(f"{x} = {column}[i]")
        else:
            w(f"{x} = NULL")
            with w.block(f"if {column}[i] == {column}[i]:"):
                w(f"{x} = I({column}[i])" if v.kind == "whole" else f"{x} = ordered(bits({column}[i]))")

    def x(self, v: Value) -> str:
        """The variable that holds a value of the event itself."""
        return f"{ {'id': 'id', 'minor': 'x', 'whole': 'x', 'number': 'y'}[v.kind] }_{word(v.field)}"

    def null(self, v: Value) -> str:
        return "0" if v.kind == "id" else "NULL"

    def no_key(self) -> None:
        for f in range(len(self.features())):
            self.w(f"out{f}[i] = NAN")

    def row(self) -> None:
        """One key of one event."""
        w = self.w
        w(f"row = k * {self.layout.words}")
        w("lanes = 2 * row")
        w("before = R[row]")
        w("now = t if t > before else before")
        w("ok = 1")
        for name in self.layout.wide[1:] + self.layout.narrow:
            w(self.layout.load(name))
        for r in self.rings:
            self.check_index(r)
        for r in self.rings:
            self.move_on(r)
        self.reads(early=True)
        for r in self.rings:
            self.take(r)
        with w.block("if ok:"):
            for r in self.rings:
                self.insert(r)
            for s in range(len(self.family.sequences)):
                self.sequence(s)
        for name in ["now", *self.layout.wide[1:], *self.layout.narrow]:
            w(self.layout.store(name))
        with w.block("if ok == 0:"):
            if self.many:
                w("resume[0] = role")
            w("return i")
        self.reads(early=False)

    # --- windows move on

    def check_index(self, r: RingNames) -> None:
        """Where many events may become visible at once, make sure that the index can hold them all before touching anything."""
        if not r.ring.cursor:
            return
        waiting = f"(({r.tail} - {r.oldest if r.ring.amendable else r.end}) & M32)"
        for f, _ in enumerate(r.distinct_fields()):
            with self.w.block(f"if H{r.j}_{f}[0] + {waiting} + 2 > H{r.j}_{f}[2]:"):
                if self.many:
                    self.w("resume[0] = role")
                self.w("return i")

    def move_on(self, r: RingNames) -> None:
        ring, w = r.ring, self.w
        if not ring.stored:
            return
        w(f"{r.mask} = {r.cap} - 1")
        if ring.amendable:
            self.amend(r)
        step = (1 << 32) - 1 - ring.horizon
        clock = f"now{r.j}"
        if ring.time_lanes == 2:
            w(f"{clock} = now")
            self.pass_windows(r)
        elif ring.horizon <= NARROW_MS:
            w(f"{clock} = now if now - before <= {step} else before + {step}")
            self.pass_windows(r)
        else:
            w(f"{clock} = before")
            with w.block("while True:"):
                w(f"{clock} = now if now - {clock} <= {step} else {clock} + {step}")
                self.pass_windows(r)
                with w.block(f"if {clock} == now or {r.oldest} == {r.tail}:"):
                    w("break")
        with w.block(f"if {r.cap} > 8 and {r.oldest} == {r.tail}:"):
            w(f"release(S{r.j}, A{r.j}, {r.base}, {r.cap}, {r.stride})")
            w(f"{r.base} = 0")
            w(f"{r.cap} = 0")
            w(f"{r.mask} = -1")

    def pass_windows(self, r: RingNames) -> None:
        ring, w = r.ring, self.w
        if ring.cursor:
            with w.block(f"while {r.end} != {r.tail}:"):
                w(self.address(r, r.end))
                if ring.lag:
                    with w.block(f"if {self.age(r, f'now{r.j}')} < {ring.lag}:"):
                        w("break")
                self.load_slot(r, [*r.lanes], "v")
                self.enter(r, "v", r.end, f"now{r.j} - {self.age(r, f'now{r.j}')}")
                w(f"{r.end} = ({r.end} + 1) & M32")
        for window in ring.windows:
            if window.ms is not None:
                self.evict(r, window)
        for queue in ring.queues:
            self.trim_queue(r, queue)

    def evict(self, r: RingNames, window: Window) -> None:
        w, head = self.w, r.head(window)
        with w.block(f"while {head} != {r.end}:"):
            w(self.address(r, head))
            with w.block(f"if {self.age(r, f'now{r.j}')} <= {r.ring.lag + (window.ms or 0)}:"):
                w("break")
            values = list(dict.fromkeys([*window.sums, *window.present, *window.squares, *window.distinct]))
            self.load_slot(r, [v for v in values if v != r.ring.only or v in window.sums or v.kind == "id"], "v")
            for v in values:
                self.change(r, window, v, "v", "-")
            w(f"{head} = ({head} + 1) & M32")

    def change(self, r: RingNames, window: Window, v: Value, prefix: str, sign: str) -> None:
        """Add a slot's value to a window's running numbers, or take it away."""
        w, x = self.w, self.named(v, prefix)
        if v in window.distinct:
            if sign == "-":
                self.uncount(r, window, v, x)
            return
        with self.when(f"{x} != {self.null(v)}", v != r.ring.only):
            if v in window.sums:
                w(f"{r.lane('sum', v, window)} {sign}= {x}")
            if v in window.present and v != r.ring.only:
                w(f"{r.lane('present', v, window)} {sign}= 1")
            if v in window.squares:
                high, low = r.lane("high", v, window), r.lane("low", v, window)
                w(f"xa = {x} >> 20")
                w(f"xb = {x} & 1048575")
                w("xc = 2 * xa * xb")
                w(f"{low} = {low} {sign} (((xc & 1048575) << 20) + xb * xb)")
                w(f"{high} = {high} {sign} (xa * xa + (xc >> 20)) + ({low} >> 40)")
                w(f"{low} &= 1099511627775")

    @contextmanager
    def when(self, condition: str, needed: bool = True) -> Iterator[None]:
        if needed:
            with self.w.block(f"if {condition}:"):
                yield
        else:
            yield

    def uncount(self, r: RingNames, window: Window, v: Value, x: str) -> None:
        """A slot leaves a window: if its value has no later slot, one value fewer."""
        w = self.w
        f, longest = next((f, top) for f, (d, top) in enumerate(r.distinct_fields()) if d == v)
        with w.block(f"if 0 < {x} < FLAG:"):
            w(f"{r.lane('distinct', v, window)} -= 1")
            if window is longest:
                with w.block(f"if (({r.end} - {r.head(window)}) & M32) > NEAR:"):
                    w(f"index_pop(X{r.j}_{f}, H{r.j}_{f}, (k << 32) | {x})")

    def trim_queue(self, r: RingNames, queue: tuple[Value, str]) -> None:
        first, last = r.queue(queue)
        lane = r.queue_lanes[queue]
        with self.w.block(f"while {first} != {last}:"):
            self.w(f"q = I(S{r.j}[({r.base} + ({first} & {r.mask})) * {r.stride} + {lane}])")
            with self.w.block(f"if (({r.end} - q) & M32) <= (({r.end} - {r.oldest}) & M32):"):
                self.w("break")
            self.w(f"{first} = ({first} + 1) & M32")

    def amend(self, r: RingNames) -> None:
        """A later label replaces an earlier one: take that slot out and let all others enter anew."""
        w, ring = self.w, r.ring
        with w.block(f"if G[i] != 0 and {r.oldest} != {r.tail}:"):
            where = f"S{r.j}, {r.base}, {r.mask}, {r.stride}"
            w(f"gone = find_seq({where}, {ring.time_lanes}, {r.oldest}, {r.tail}, G[i] - 1)")
            with w.block("if gone >= 0:"):
                for f, (v, top) in enumerate(r.distinct_fields()):
                    lane = r.lanes[v]
                    w(f"forget({where}, {lane}, {r.head(top)}, {r.end}, X{r.j}_{f}, H{r.j}_{f}, k)")
                    w(f"p = {r.oldest}")
                    with w.block(f"while p != {r.end}:"):
                        w(f"a = ({r.base} + (p & {r.mask})) * {r.stride} + {lane}")
                        w(f"S{r.j}[a] = I(S{r.j}[a]) & VALUE")
                        w("p = (p + 1) & M32")
                w(f"drop_slot({where}, {r.oldest}, gone, {len(ring.queues)})")
                w(f"{r.oldest} = ({r.oldest} + 1) & M32")
                for name in [r.end, *(r.head(x) for x in ring.windows)]:
                    if name != r.oldest:
                        w(f"{name} = {r.oldest}")
                for name in r.wide_names():
                    w(f"{name} = 0")
                for name in r.narrow_names():
                    if name.startswith(("present", "distinct")):
                        w(f"{name} = 0")
                for queue in ring.queues:
                    w(f"{r.queue(queue)[0]} = 0")
                    w(f"{r.queue(queue)[1]} = 0")

    # --- slots

    def address(self, r: RingNames, position: str) -> str:
        return f"a = ({r.base} + ({position} & {r.mask})) * {r.stride}"

    def age(self, r: RingNames, now: str) -> str:
        """How old slot `a` is at `now` (ms)."""
        if r.ring.time_lanes == 1:
            return f"(({now} - S{r.j}[a]) & M32)"
        return f"({now} - wide(S{r.j}[a], S{r.j}[a + 1]))"

    def named(self, v: Value, prefix: str) -> str:
        return f"v{self.x(v)}" if prefix == "v" else self.x(v)

    def load_slot(self, r: RingNames, values: list[Value], prefix: str) -> None:
        for v in values:
            lane = r.lanes[v]
            if v.kind == "id":
                self.w(f"{self.named(v, prefix)} = I(S{r.j}[a + {lane}])")
            else:
                self.w(f"{self.named(v, prefix)} = wide(S{r.j}[a + {lane}], S{r.j}[a + {lane + 1}])")

    def enter(self, r: RingNames, prefix: str, position: str, at: str) -> None:
        """The slot at `position` becomes visible to all windows and to the row's own numbers."""
        w, ring = self.w, r.ring
        for window in ring.windows:
            for v in dict.fromkeys([*window.sums, *window.present, *window.squares]):
                self.change(r, window, v, prefix, "+")
        for f, (v, top) in enumerate(r.distinct_fields()):
            with self.when(f"{self.named(v, prefix)} != 0", v != ring.only):
                self.count_value(r, f, v, top, prefix, position)
            where = f"S{r.j}, {r.base}, {r.mask}, {r.stride}, {r.lanes[v]}, {position}, {r.head(top)}"
            w(f"settle({where}, X{r.j}_{f}, H{r.j}_{f}, k)")
        for queue in ring.queues:
            self.enter_queue(r, queue, prefix, position)
        if ring.ever_count:
            w(f"count{r.j} += 1")
        for v in ring.ever_sums:
            with self.when(f"{self.named(v, prefix)} != {self.null(v)}", v != ring.only):
                w(f"{r.lane('total', v)} += {self.named(v, prefix)}")
        if ring.ever_since:
            with w.block(f"if first_at{r.j} == 0:"):
                w(f"first_at{r.j} = {at}")
                for v in ring.ever_first:
                    w(f"{r.lane('first', v)} = {self.named(v, prefix)}")
        if ring.last_time:
            w(f"last_at{r.j} = {at}")
            for v in ring.last:
                w(f"{r.lane('last', v)} = {self.named(v, prefix)}")

    def count_value(self, r: RingNames, f: int, v: Value, top: Window, prefix: str, position: str) -> None:
        w, x, lane = self.w, self.named(v, prefix), r.lanes[v]
        where = f"S{r.j}, {r.base}, {r.mask}, {r.stride}, {lane}, {position}, {r.head(top)}"
        w(f"q = earlier({where}, {x}, X{r.j}_{f}, H{r.j}_{f}, (k << 32) | {x})")
        windows = [window for window in r.ring.windows if v in window.distinct]
        with w.block("if q >= 0:"):
            w(f"S{r.j}[({r.base} + (q & {r.mask})) * {r.stride} + {lane}] = {x} | FLAG")
            for window in windows:
                if window is not top:
                    with w.block(f"if (({position} - q) & M32) > (({position} - {r.head(window)}) & M32):"):
                        w(f"{r.lane('distinct', v, window)} += 1")
        with w.block("else:"):
            for window in windows:
                w(f"{r.lane('distinct', v, window)} += 1")

    def enter_queue(self, r: RingNames, queue: tuple[Value, str], prefix: str, position: str) -> None:
        v, kind = queue
        w, x = self.w, self.named(v, prefix)
        first, last = r.queue(queue)
        lane, value_lane = r.queue_lanes[queue], r.lanes[v]
        with self.when(f"{x} != {self.null(v)}", v != r.ring.only):
            with w.block(f"while {last} != {first}:"):
                w(f"q = I(S{r.j}[({r.base} + ((({last} - 1) & M32) & {r.mask})) * {r.stride} + {lane}])")
                w(f"b = ({r.base} + (q & {r.mask})) * {r.stride} + {value_lane}")
                with w.block(f"if wide(S{r.j}[b], S{r.j}[b + 1]) {'<' if kind == 'min' else '>'} {x}:"):
                    w("break")
                w(f"{last} = ({last} - 1) & M32")
            w(f"S{r.j}[({r.base} + ({last} & {r.mask})) * {r.stride} + {lane}] = {position}")
            w(f"{last} = ({last} + 1) & M32")

    # --- the event itself

    def take(self, r: RingNames) -> None:
        """Whether the event enters the ring, and space for it."""
        w, ring = self.w, r.ring
        w(f"take{r.j} = {self.taken(ring.filter)}")
        if ring.only and not ring.each:
            with w.block(f"if {self.x(ring.only)} == {self.null(ring.only)}:"):
                w(f"take{r.j} = 0")
        if self.many and self.family.entity[0] not in self.family.via:
            with w.block("if role == 0:"):
                w(f"take{r.j} = 0")
        if ring.each:
            w(f"many{r.j} = L{r.j}[i + 1] - L{r.j}[i]")
            with w.block(f"if many{r.j} == 0:"):
                w(f"take{r.j} = 0")
        if not ring.stored:
            return
        with w.block(f"if take{r.j}:"):
            self.space(r)

    def space(self, r: RingNames) -> None:
        w, ring = self.w, r.ring
        used = f"(({r.tail} - {r.oldest}) & M32)"
        more = f"while ok and {used} + many{r.j} > {r.cap}:" if ring.each else f"if {used} == {r.cap}:"
        with w.block(more):
            w(f"b = grow(S{r.j}, A{r.j}, {r.base}, {r.cap}, {r.stride}, {r.oldest}, {r.tail})")
            with w.block("if b < 0:"):
                w("ok = 0")
            with w.block("else:"):
                w(f"m = 2 * {r.cap} - 1 if {r.cap} else 3")
                for queue in ring.queues:
                    first, last = r.queue(queue)
                    lane = r.queue_lanes[queue]
                    w(f"queue_move(S{r.j}, {r.base}, {r.mask}, b, m, {r.stride}, {lane}, {first}, {last})")
                w(f"{r.base} = b")
                w(f"{r.cap} = m + 1")
                w(f"{r.mask} = m")
        for f, _ in enumerate(r.distinct_fields()):
            with w.block(f"if H{r.j}_{f}[0] + {f'many{r.j}' if ring.each else 1} > H{r.j}_{f}[2]:"):
                w("ok = 0")

    def insert(self, r: RingNames) -> None:
        w, ring = self.w, r.ring
        with w.block(f"if take{r.j}:"):
            if ring.each:
                assert ring.only is not None
                with w.block(f"for e in range(L{r.j}[i], L{r.j}[i + 1]):"):
                    w(f"{self.x(ring.only)} = I({self.column(ring.only)}[e])")
                    with w.block(f"if {self.x(ring.only)} != 0:"):
                        self.insert_one(r)
            else:
                self.insert_one(r)

    def insert_one(self, r: RingNames) -> None:
        w, ring = self.w, r.ring
        if not ring.stored:
            self.enter(r, "", "0", "now")
            return
        w(self.address(r, r.tail))
        w(f"S{r.j}[a] = now & M32")
        if ring.time_lanes == 2:
            w(f"S{r.j}[a + 1] = now >> 32")
        if ring.amendable:
            w(f"S{r.j}[a + {ring.time_lanes}] = (seq0 + i) & M32")
        for v, lane in r.lanes.items():
            x = self.x(v)
            w(f"S{r.j}[a + {lane}] = {x}" + ("" if v.kind == "id" else " & M32"))
            if v.kind != "id":
                w(f"S{r.j}[a + {lane + 1}] = ({x} >> 32) & M32")
        if not ring.lag:
            self.enter(r, "", r.tail, "now")
        w(f"{r.tail} = ({r.tail} + 1) & M32")
        if ring.amendable and not ring.lag:
            w(f"{r.end} = {r.tail}")

    def sequence(self, s: int) -> None:
        w, sequence = self.w, self.family.sequences[s]
        feature, out = sequence.feature, f"out{len(self.family.reads) + s}"
        mine = " and role == 0" if self.many else ""
        inserts = "" if not self.many or self.family.entity[0] in self.family.via else " and role != 0"
        if feature.measure == "then":
            hit = f"{self.taken(sequence.other)} and a{s} != 0 and now - a{s} <= {feature.within}"
            self.write(f"1.0 if {hit} else 0.0", out, mine)
            with w.block(f"if {self.taken(sequence.first)}{inserts}:"):
                w(f"a{s} = now")
            return
        with w.block(f"if {self.taken(sequence.other)}{inserts}:"):
            w(f"a{s} = 0")
            w(f"b{s} = 0")
        w(f"p = a{s} if a{s} < now else b{s}")
        self.write(f"1.0 if p != 0 and now - p <= {feature.within} else 0.0", out, mine)
        with w.block(f"if {self.taken(sequence.first)}{inserts}:"):
            with w.block(f"if a{s} < now:"):
                w(f"b{s} = a{s}")
            w(f"a{s} = now")

    # --- reading

    def reads(self, *, early: bool) -> None:
        mine = [
            (f, read)
            for f, read in enumerate(self.family.reads)
            if early == (read.feature.before or read.feature.measure in ("first", "last", "since_last"))
        ]
        if not mine:
            return
        if self.many:
            with self.w.block("if role == 0:"):
                for f, read in mine:
                    self.read(f, read)
        else:
            for f, read in mine:
                self.read(f, read)

    def write(self, value: str, out: str, condition: str = "") -> None:
        if condition:
            with self.w.block(f"if {condition.removeprefix(' and ')}:"):
                self.w(f"{out}[i] = {value}")
        else:
            self.w(f"{out}[i] = {value}")

    def read(self, f: int, read: Read) -> None:
        r = self.rings[read.ring]
        out, value = f"out{f}", read.value
        measure, over = read.feature.measure, read.feature.over
        window = next((x for x in r.ring.windows if x.ms == over), None)
        if measure in ("last", "since_last"):
            self.read_last(r, read, out)
        elif over is None and measure in ("first", "since_first"):
            got = f"(now - first_at{r.j}) / 1000.0" if value is None else self.shown(read, r.lane("first", value))
            self.write(f"{got} if first_at{r.j} != 0 else NAN", out)
        elif over is None:
            self.write(f"F(count{r.j})" if value is None else self.shown(read, r.lane("total", value)), out)
        else:
            assert window is not None
            self.read_window(r, read, window, out)

    def read_last(self, r: RingNames, read: Read, out: str) -> None:
        over, feature = read.feature.over, read.feature
        if not r.ring.last_time:
            self.read_newest(r, feature, out)
            return
        inside = "" if over is None else f" and now - last_at{r.j} <= {feature.lag + over}"
        got = f"(now - last_at{r.j}) / 1000.0"
        if feature.measure == "last":
            assert read.value is not None
            got = self.shown(read, r.lane("last", read.value))
        self.write(f"{got} if last_at{r.j} != 0{inside} else NAN", out)

    def read_newest(self, r: RingNames, feature: Feature, out: str) -> None:
        w = self.w
        w(f"{out}[i] = NAN")
        with w.block(f"if {r.end} != {r.oldest}:"):
            w(self.address(r, f"(({r.end} - 1) & M32)"))
            w(f"p = {self.age(r, 'now')}")
            with w.block(f"if p <= {feature.lag + (feature.over or 0)}:"):
                w(f"{out}[i] = p / 1000.0")

    def read_window(self, r: RingNames, read: Read, window: Window, out: str) -> None:
        measure, v = read.feature.measure, read.value
        head, n = r.head(window), f"(({r.end} - {r.head(window)}) & M32)"
        if measure in ("count", "rate"):
            over = f" / {(window.ms or 0) / 1000.0!r}" if measure == "rate" else ""
            self.write(f"F({n}){over}", out)
        elif measure in ("first", "since_first"):
            with self.w.block(f"if {r.end} != {head}:"):
                self.w(self.address(r, head))
                if measure == "first":
                    assert v is not None
                    self.load_slot(r, [v], "v")
                    self.write(self.shown(read, self.named(v, "v")), out)
                else:
                    self.write(f"{self.age(r, 'now')} / 1000.0", out)
            with self.w.block("else:"):
                self.write("NAN", out)
        elif v is not None:
            self.read_value(r, read, window, v, out)

    def read_value(self, r: RingNames, read: Read, window: Window, v: Value, out: str) -> None:
        measure, scale = read.feature.measure, self.scale(read)
        if measure == "distinct":
            self.write(f"F({r.lane('distinct', v, window)})", out)
        elif measure == "sum":
            self.write(f"F({r.lane('sum', v, window)}){scale}", out)
        elif measure in ("mean", "std"):
            self.w(f"m = {r.present(v, window)}")
            total = f"F({r.lane('sum', v, window)})"
            if measure == "std":
                parts = ", ".join(r.lane(x, v, window) for x in ("sum", "high", "low"))
                total = f"sqrt(spread(m, {parts}))"
            self.write(f"{total} / F(m){scale} if m != 0 else NAN", out)
        else:
            self.read_extreme(r, read, window, v, out)

    def read_extreme(self, r: RingNames, read: Read, window: Window, v: Value, out: str) -> None:
        queue = (v, read.feature.measure)
        first, last = r.queue(queue)
        n = f"(({r.end} - {r.head(window)}) & M32)"
        where = f"S{r.j}, {r.base}, {r.mask}, {r.stride}, {r.queue_lanes[queue]}"
        self.w(f"q = queue_first({where}, {first}, {last}, {r.end}, {n})")
        with self.w.block("if q >= 0:"):
            self.w(self.address(r, "q"))
            self.load_slot(r, [v], "v")
            self.write(self.shown(read, self.named(v, "v")), out)
        with self.w.block("else:"):
            self.write("NAN", out)

    def scale(self, read: Read) -> str:
        return f" / {float(10**read.digits)!r}" if read.digits else ""

    def shown(self, read: Read, x: str) -> str:
        """A kept value as the feature's number (for texts: the value's id)."""
        if read.value is not None and read.value.kind == "number":
            return f"unbits(ordered({x}))"
        return f"F({x}){self.scale(read)}"


# ---- filters and derived features


class _Columns:
    """Names of expressions as fragments of a kernel over columns."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.slots: list[Slot] = []
        self.views: list[str] = []
        self.loads: list[str] = []
        self.constants: list[str] = []

    def slot(self, *what: object) -> int:
        key = tuple(what)
        if key not in self.slots:
            self.slots.append(key)
        return self.slots.index(key)

    def constant(self, text: str) -> tuple[str, str]:
        if text not in self.constants:
            self.constants.append(text)
        at = 2 * self.constants.index(text)
        return f"C[{at}]", f"C[{at + 1}]"

    def load(self, name: str, kind: str, what: str, prefix: str = "c") -> None:
        variable = f"{prefix}_{word(name)}"
        view = f"{variable} = {kind}(P, {self.slot(what, name)})"
        if view not in self.views:
            self.views.append(view)

    def field(self, name: str) -> str | tuple[str, str]:
        """The fragment for a field; its column is viewed once."""
        local = word(name)
        if name == "type":
            self.load(name, "i16", "types")
            return "I(c_type[i])"
        if name == "ts":
            self.load(name, "i64", "ts")
            return "F(c_ts[i])"
        if self.plan.field_type(name) == "string":
            self.load(name, "i64", "hash")
            return f"c_{local}[2 * i]", f"c_{local}[2 * i + 1]"
        self.load(name, "f64", "number")
        return f"c_{local}[i]"

    def codes(self) -> dict[str, int]:
        return {name: code for code, name in enumerate(self.plan.schema.types)}


def filter_kernel(plan: Plan) -> Kernel:
    """One pass over the raw fields that says, per event and filter, whether the event is taken: one bit each."""
    columns, w = _Columns(plan), Writer()
    words = 1 + (len(plan.filters) - 1) // BITS
    tests: list[list[tuple[int, str]]] = [[] for _ in range(words)]
    rowwise: list[int] = []
    for bit, f in enumerate(plan.filters):
        test = "True" if f.labels else "I(c_type[i]) != 0"
        if not f.labels:
            columns.load("type", "i16", "types")
        if f.where is not None and f.where.rowwise:
            rowwise.append(bit)
            columns.load(str(bit), "i64", "rowwise")
            test += f" and c_{bit}[i] != 0"
        elif f.where is not None:
            names = {name: columns.field(name) for name in f.where.fields}
            test += " and " + to_kernel(f.where, names, columns.constant, columns.codes(), "true")
        tests[bit // BITS].append((bit % BITS, test))
    with w.block("def run(P, lo, hi):"):
        for view in columns.views:
            w(view)
        if columns.constants:
            w(f"C = i64(P, {columns.slot('constants')})")
        for i in range(words):
            w(f"W{i} = i64(P, {columns.slot('mask', i)})")
        with w.block("for i in range(lo, hi):"):
            for i in range(words):
                w("taken = 0")
                for bit, test in tests[i]:
                    with w.block(f"if {test}:"):
                        w(f"taken |= {1 << bit}")
                w(f"W{i}[i] = taken")
        w("return hi")
    return Kernel("filters", w.text(), columns.slots, constants=columns.constants)


def derived_kernel(plan: Plan) -> Kernel | None:
    """Ratios and expressions over the other features, row by row."""
    if not plan.derived:
        return None
    columns, w = _Columns(plan), Writer()
    body: list[str] = []
    names: dict[str, str | tuple[str, str]] = {}

    def feature_name(name: str) -> str | tuple[str, str]:
        if name not in names:
            if plan.features[name].type == "string":
                columns.load(name, "i64", "names", "f")
                names[name] = (f"f_{word(name)}[2 * i]", f"f_{word(name)}[2 * i + 1]")
            else:
                columns.load(name, "f64", "out", "f")
                names[name] = f"f_{word(name)}[i]"
        return names[name]

    for feature in plan.derived:
        out = feature_name(feature.name)
        if feature.of:
            a, b = (feature_name(name) for name in feature.of)
            body.append(f"{out} = {a} / {b} if {b} != 0.0 else NAN")
        elif feature.expr is not None:
            scope = {name: columns.field(name) for name in feature.expr.fields}
            scope |= {name: feature_name(name) for name in feature.expr.features}
            text = to_kernel(feature.expr, scope, columns.constant, columns.codes(), "value")
            body.append(f"{out} = {text}")
    with w.block("def run(P, lo, hi):"):
        for view in columns.views:
            w(view)
        if columns.constants:
            w(f"C = i64(P, {columns.slot('constants')})")
        with w.block("for i in range(lo, hi):"):
            for line in body:
                w(line)
        w("return hi")
    return Kernel("derived", w.text(), columns.slots, constants=columns.constants)
