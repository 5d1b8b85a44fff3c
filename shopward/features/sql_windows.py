"""All features of one key in a few passes: running totals, and for each window what they were before its first event.

Per key, `clock` never goes back and `n` counts events, so `tick` = clock * 2^40 + n is a strict order, and an event's own tick ends its
window: what comes later in the same millisecond lies beyond it. A window's sum is the running total at its end minus the running total
before its start, in whole numbers. How many different values a window holds is such a difference too: the values that have come in
(new, or back after more than a window) minus those that have gone out (not seen again within a window).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from shopward.declare.schema import field_of
from shopward.declare.types import Feature, Schema
from shopward.features.sql_words import amount, column, counting, major, number, quoted, spread, unused

TICK = 1 << 40
EVENT = "1"  # the total of this is `n`, the number of the event


@dataclass(slots=True)
class Frame:
    """A window by its edges (ms), and the columns read at its end and just before its start."""

    over: int
    lag: int
    starts: dict[str, str] = field(default_factory=dict)
    ends: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Family:
    """The features of one key and the columns their SQL needs. Each dict holds SQL -> the number of its column.

    added    whole numbers of which running totals are kept: x0 and p0, x1 and p1, ...
    told     values that are told apart: d0, ...; `turns` (value, over) -> came0, went0, ...
    shown    conditions and values that window functions pick from: v0, ...; `picks` are those functions: w0, ...
    """

    name: str
    entity: tuple[str, ...]
    via: tuple[str, ...]
    schema: Schema
    labels: bool = True
    features: list[Feature] = field(default_factory=list)
    added: dict[str, int] = field(default_factory=dict)
    told: dict[str, int] = field(default_factory=dict)
    turns: dict[tuple[int, int], int] = field(default_factory=dict)
    shown: dict[str, int] = field(default_factory=dict)
    picks: dict[str, int] = field(default_factory=dict)
    frames: list[Frame] = field(default_factory=list)

    @property
    def by(self) -> str:
        return ", ".join(f"key{i}" for i in range(len(self.entity)))

    @property
    def history(self) -> str:
        return f"WINDOW k AS (PARTITION BY {self.by} ORDER BY seq ROWS UNBOUNDED PRECEDING)"

    # --- what features ask for ------------------------------------------------------------------------------------------------------

    def total(self, f: Feature, text: str) -> str:
        """The sum of `text` over the feature's window."""
        if text == EVENT:
            return self.between(f, "n", "1", "n", "n - 1")
        i = numbered(self.added, text)
        return self.between(f, f"p{i}", f"x{i}", f"p{i}", f"p{i} - x{i}")

    def different(self, f: Feature, text: str) -> str:
        """How many different values of `text` the feature's window holds: those that have come minus those that have gone."""
        over = f.over or 0
        i = numbered(self.turns, (numbered(self.told, text), over))
        end = upto(f.lag) if f.lag else "1 PRECEDING" if f.before else "CURRENT ROW"
        come = self.windowed(f"sum(came{i})", None, end)
        gone = self.windowed(f"sum(went{i})", None, f"{(over + f.lag) * TICK}::HUGEINT + n PRECEDING")
        return f"(coalesce({come}, 0) - coalesce({gone}, 0))"

    def between(self, f: Feature, end: str, own: str, start: str, before_start: str) -> str:
        """`end` at the window's end minus `before_start` at its first event; `own` is what the event itself added."""
        if f.over is None:
            return f"({end} - {own})" if f.before else end
        frame = self.frame(f.over, f.lag)
        at = self.frames.index(frame)
        frame.starts[start] = before_start
        if f.lag:
            frame.ends[end] = end
            return f"coalesce(end{at}.{end} - start{at}.{start}, 0)"
        return f"({end} - {own} - start{at}.{start})" if f.before else f"({end} - start{at}.{start})"

    def frame(self, over: int, lag: int) -> Frame:
        for known in self.frames:
            if (known.over, known.lag) == (over, lag):
                return known
        self.frames.append(Frame(over, lag))
        return self.frames[-1]

    def pick(self, f: Feature, function: str, text: str, earlier: bool = False) -> str:
        """A window function over the feature's window; `earlier` leaves the event itself out."""
        end = upto(f.lag) if f.lag else "1 PRECEDING" if earlier or f.before else "CURRENT ROW"
        return self.picked(function, text, None if f.over is None else since(f.over + f.lag), end)

    def picked(self, function: str, text: str, start: str | None, end: str) -> str:
        return self.windowed(function.format(f"v{numbered(self.shown, text)}"), start, end)

    def windowed(self, call: str, start: str | None, end: str) -> str:
        frame = f"RANGE BETWEEN {start or 'UNBOUNDED PRECEDING'} AND {end}"
        return f"w{numbered(self.picks, f'{call} OVER (PARTITION BY {self.by} ORDER BY tick {frame})')}"

    # --- the statement --------------------------------------------------------------------------------------------------------------

    def steps(self, table: str) -> dict[str, str]:
        """Name -> SELECT, one after the other; the last has the family's name, `seq`, and a column for each feature."""
        outputs = [f"{MEASURES[f.measure](self, f)} AS {quoted(f.name)}" for f in self.features]
        selects = [("moments", self.moments), ("totals", self.totals)]
        selects += [("gaps", self.gaps)] if self.told else []
        selects += [("windows", self.windows)] if self.frames or self.picks else []
        steps, source = {}, quoted(table)
        for step, select in selects:
            name = f"{self.name}_{step}"
            steps[name], source = select(source), quoted(name)
        here = "\nWHERE here" if self.via else ""
        steps[self.name] = f"SELECT seq,\n  {listed(outputs)}\nFROM {source}{here}"
        return steps

    def moments(self, table: str) -> str:
        """What is read of each event that carries the key."""
        read = [f"{text} AS {letter}{i}" for letter, texts in zip("xdv", (self.added, self.told, self.shown), strict=True)
                for text, i in texts.items()]  # fmt: skip
        keys, carried = self.keys()
        return f"SELECT {', '.join(['seq', 't', *keys, *read])}\nFROM {self.source(table)}\nWHERE {carried}"

    def keys(self) -> tuple[list[str], str]:
        if self.via:
            key = unused("key0", self.schema)
            return [
                f"{key} AS key0",
                f"coalesce({key} = {column(self.entity[0])}, false) AS here",
            ], f"{key} IS NOT NULL"
        named = [f"{column(role)} AS key{i}" for i, role in enumerate(self.entity)]
        return named, " AND ".join(f"{column(role)} IS NOT NULL" for role in self.entity)

    def source(self, table: str) -> str:
        """With `via`, an event stands once for each different key in its roles."""
        if not self.via:
            return table
        roles = ", ".join(map(column, self.via))
        return f"(SELECT *, unnest(list_distinct([{roles}])) AS {unused('key0', self.schema)} FROM {table})"

    def totals(self, source: str) -> str:
        sums = [f"sum(x{i}) OVER k AS p{i}" for i in self.added.values()]
        every = ["max(t) OVER k AS clock", "row_number() OVER k AS n", *sums]
        return f"SELECT *, {', '.join(every)}\nFROM {source}\n{self.history}"

    def gaps(self, source: str) -> str:
        """For each value: how long since the key last had it, and until it has it again; then whether a window tells the two apart."""
        told = self.told.values()
        gaps = [f"clock - lag(clock) OVER k{i} AS since{i}, lead(clock) OVER k{i} - clock AS until{i}" for i in told]
        windows = [f"k{i} AS (PARTITION BY {self.by}, d{i} ORDER BY seq)" for i in told]
        turns = [
            f"(d{value} IS NOT NULL AND coalesce({gap}{value} > {over}, true))::INT AS {turn}{i}"
            for (value, over), i in self.turns.items()
            for gap, turn in (("since", "came"), ("until", "went"))
        ]
        inner = f"SELECT *, {', '.join(gaps)}\nFROM {source} WINDOW {', '.join(windows)}"
        return f"SELECT *,\n  {listed(turns)}\nFROM (\n  {inner})"

    def windows(self, source: str) -> str:
        found, named = [f"{call} AS w{i}" for call, i in self.picks.items()], []
        for at, frame in enumerate(self.frames):
            end = upto(frame.lag) if frame.lag else "CURRENT ROW"
            named.append(
                f"f{at} AS (PARTITION BY {self.by} ORDER BY tick RANGE BETWEEN {since(frame.over + frame.lag)} AND {end})"
            )
            found.append(f"first_value({struct(frame.starts)}) OVER f{at} AS start{at}")
            found += [f"last_value({struct(frame.ends)}) OVER f{at} AS end{at}"] if frame.ends else []
        ticks = f"(SELECT *, clock::HUGEINT * {TICK} + n AS tick FROM {source})"
        return f"SELECT *,\n  {listed(found)}\nFROM {ticks}" + (f"\nWINDOW {listed(named)}" if named else "")


def numbered(known: dict, what) -> int:
    return known.setdefault(what, len(known))


def listed(texts: list[str]) -> str:
    return ",\n  ".join(texts)


def struct(columns: dict[str, str]) -> str:
    """
    >>> struct({"n": "n - 1", "p0": "p0 - x0"})
    "{'n': n - 1, 'p0': p0 - x0}"
    """
    return "{" + ", ".join(f"'{name}': {text}" for name, text in columns.items()) + "}"


def since(ms: int) -> str:
    """The first tick of the millisecond `ms` ago."""
    return f"{ms * TICK}::HUGEINT + n PRECEDING"


def upto(ms: int) -> str:
    """The last tick of the millisecond `ms` ago."""
    return f"{(ms - 1) * TICK + 1}::HUGEINT + n PRECEDING"


# --- the measures -------------------------------------------------------------------------------------------------------------------


def _counts(k: Family, f: Feature) -> str | None:
    return counting(f, f.where, k.schema, labels=k.labels)


def _when(condition: str | None, then: str, otherwise: str = "") -> str:
    return f"CASE WHEN {condition} THEN {then}{f' ELSE {otherwise}' if otherwise else ''} END" if condition else then


def _events(k: Family, f: Feature, present: str | None = None) -> str:
    """How many events count (and have the field `present`)."""
    conditions = [c for c in (_counts(k, f), f"{present} IS NOT NULL" if present else None) if c]
    return k.total(f, _when(" AND ".join(conditions), "1", "0") if conditions else EVENT)


def _added(k: Family, f: Feature, text: str) -> str:
    return k.total(f, _when(_counts(k, f), f"coalesce({text}, 0)", "0"))


def _shown(k: Family, f: Feature) -> str:
    return _when(_counts(k, f), amount(f, k.schema))


def _count(k: Family, f: Feature) -> str:
    return f"{_events(k, f)}::DOUBLE"


def _rate(k: Family, f: Feature) -> str:
    return f"{_events(k, f)}::BIGINT / {number((f.over or 0) / 1000)}"


def _sum(k: Family, f: Feature) -> str:
    return major(f"{_added(k, f, amount(f, k.schema))}::BIGINT", f.digits)


def _mean(k: Family, f: Feature) -> str:
    x = amount(f, k.schema)
    return major(f"{_added(k, f, x)}::BIGINT / nullif({_events(k, f, x)}, 0)::BIGINT", f.digits, "")


def _std(k: Family, f: Feature) -> str:
    x = amount(f, k.schema)
    n, s, q = _events(k, f, x), _added(k, f, x), _added(k, f, f"{x}::HUGEINT * {x}")
    return major(f"{spread(n, s, q)} / nullif({n}, 0)::BIGINT", f.digits, "")


def _distinct(k: Family, f: Feature) -> str:
    return f"{k.different(f, _when(_counts(k, f), column(f.arg or '')))}::DOUBLE"


def _picked(function: str, earlier: bool = False):
    def measure(k: Family, f: Feature) -> str:
        field = field_of(k.schema, f.arg or "")
        value = k.pick(f, function, _shown(k, f), earlier)
        return value if field.type == "string" else major(value, field.digits)

    return measure


def _since(function: str, earlier: bool = False):
    def measure(k: Family, f: Feature) -> str:
        counts = _counts(k, f) or "true"
        return f"(clock - {k.pick(f, function + '(CASE WHEN {} THEN clock END)', counts, earlier)}) / 1000"

    return measure


def _then(k: Family, f: Feature) -> str:
    a, b = (counting(f, expr, k.schema, labels=k.labels) for expr in (f.a, f.b))
    latest = k.picked("max(CASE WHEN {} THEN clock END)", a or "true", since(f.within or 0), "1 PRECEDING")
    return f"coalesce(v{numbered(k.shown, b)} AND {latest} IS NOT NULL, false)::DOUBLE"


def _without(k: Family, f: Feature) -> str:
    a, b = (counting(f, expr, k.schema, labels=k.labels) for expr in (f.a, f.b))
    latest = k.picked("max(CASE WHEN {} THEN seq END)", a or "true", since(f.within or 0), upto(1))
    ended = k.picked("max(CASE WHEN {} THEN seq END)", b or "true", None, "CURRENT ROW")
    return f"coalesce({latest} >= coalesce({ended}, -1), false)::DOUBLE"


MEASURES = {
    "count": _count, "rate": _rate, "sum": _sum, "mean": _mean, "std": _std, "distinct": _distinct,
    "min": _picked("min({})"), "max": _picked("max({})"),
    "first": _picked("first_value({} IGNORE NULLS)", earlier=True), "last": _picked("last_value({} IGNORE NULLS)", earlier=True),
    "since_first": _since("min"), "since_last": _since("max", earlier=True), "then": _then, "without": _without,
}  # fmt: skip
