"""All features of one key in a handful of passes: running totals, and for each window the total before its first event.

Per key, `clock` never goes back and `n` counts its events, so clock * 2^40 + n ("tick") puts them in one strict order in which an
event's own tick ends its window: what came later in the same millisecond lies beyond it. A window's sum is then the running total at
its end minus the running total before its start, in whole numbers. How many different values a window holds is a difference of two
running totals as well: values that came in (new, or back after more than a window) minus values that went out (not seen for a window).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from shopward.declare.types import Feature, Schema
from shopward.features.sql_words import amount, column, counting, field_of, major, number, quoted, spread

TICK = 1 << 40
ONE = "1"  # the running total of this lane is `n`, the number of the event


@dataclass(frozen=True, slots=True)
class Frame:
    """A window by its edges: `over` None reaches back for good, `lag` is how far its end lies behind."""

    over: int | None
    lag: int


@dataclass(slots=True)
class Family:
    """The features of one key, and the columns their SQL needs, in the order in which they are computed.

    lanes    what is summed: SQL over an event -> number of the lane
    values   what is told apart: SQL over an event -> number
    turns    (value, over) -> number: values coming into and going out of a window
    flags    conditions and picked values read by window functions: SQL over an event -> number
    frames   the totals each frame needs before its start
    """

    name: str
    entity: tuple[str, ...]
    via: tuple[str, ...]
    schema: Schema
    labels: bool
    features: list[Feature] = field(default_factory=list)
    lanes: dict[str, int] = field(default_factory=dict)
    values: dict[str, int] = field(default_factory=dict)
    turns: dict[tuple[int, int], int] = field(default_factory=dict)
    flags: dict[str, int] = field(default_factory=dict)
    frames: dict[Frame, list[str]] = field(default_factory=dict)
    picks: dict[str, int] = field(default_factory=dict)

    # --- what a feature asks for ----------------------------------------------------------------------------------------------------

    def counted(self, f: Feature) -> str | None:
        return counting(f, f.where, self.schema, labels=self.labels)

    def total(self, f: Feature, text: str) -> str:
        """The exact sum of `text` over the feature's window."""
        if text == ONE:
            return self.between(f, "n", ONE)
        i = number_of(self.lanes, text)
        return self.between(f, f"p{i}", f"x{i}")

    def between(self, f: Feature, running: str, own: str) -> str:
        """A running total at the end of the window minus that before its start."""
        frame = Frame(f.over, f.lag)
        if f.over is None:
            return f"({running} - {own})" if f.before else running
        wanted = self.frames.setdefault(frame, [])
        if (running, own) not in wanted:
            wanted.append((running, own))
        at = list(self.frames).index(frame)
        if f.lag:
            return f"coalesce(end{at}.{running} - start{at}.{running}, 0)"
        end = f"{running} - {own}" if f.before else running
        return f"({end} - start{at}.{running})"

    def picked(self, f: Feature, function: str, text: str, over: int | None, exclusive: bool) -> str:
        """A window function over the window itself: min, max, first, last."""
        i = number_of(self.flags, text)
        e = "1 PRECEDING" if exclusive else "CURRENT ROW"
        end = back(f.lag, open_end=True) if f.lag else e
        start = "UNBOUNDED PRECEDING" if over is None else back(f.lag + over)
        call = f"{function.format(f'v{i}')} OVER (PARTITION BY {self.by} ORDER BY tick RANGE BETWEEN {start} AND {end})"
        return f"w{number_of(self.picks, call)}"

    # --- the statement --------------------------------------------------------------------------------------------------------------

    @property
    def by(self) -> str:
        return ", ".join(f"key{i}" for i in range(len(self.entity)))

    def ctes(self, table: str) -> list[str]:
        """The steps, as `name AS (SELECT ...)`; the last is called like the family and has `seq` and a column per feature."""
        outputs = [f"{MEASURES[f.measure](self, f)} AS {quoted(f.name)}" for f in self.features]
        steps: list[tuple[str, Callable[[str], str]]] = [("events", self.moments), ("totals", self.running)]
        if self.values:
            steps += [("neighbours", self.neighbours), ("turnover", self.turnover)]
        steps += [("windows", self.framed)]
        out, source = [], quoted(table)
        for name, step in steps:
            out.append(f"{self.name}_{name} AS (\n{step(source)}\n)")
            source = f"{self.name}_{name}"
        only = "\n  WHERE here" if self.via else ""
        out.append(f"{self.name} AS (\n  SELECT seq,\n    " + ",\n    ".join(outputs) + f"\n  FROM {source}{only}\n)")
        return out

    def moments(self, table: str) -> str:
        """What the features read of each event that carries the key; a `via` event stands once for each of its different keys."""
        if self.via:
            role = column(self.entity[0])
            keys = ["key0", f"coalesce(key0 = {role}, false) AS here"]
            roles = ", ".join(column(r) for r in self.via)
            table = f"(SELECT *, unnest(list_distinct([{roles}])) AS key0 FROM {table})"
            carried = "key0 IS NOT NULL"
        else:
            keys = [f"{column(r)} AS key{i}" for i, r in enumerate(self.entity)]
            carried = " AND ".join(f"{column(r)} IS NOT NULL" for r in self.entity)
        read = [f"{text} AS {lane}{i}" for lane, texts in (("x", self.lanes), ("d", self.values), ("v", self.flags)) for text, i in texts.items()]
        return "  SELECT " + ", ".join(["seq", "t", *keys, *read]) + f"\n  FROM {table}\n  WHERE {carried}"

    def running(self, source: str) -> str:
        """The key's clock, the event's number, and the running totals."""
        sums = [f"sum(x{i}) OVER k AS p{i}" for i in self.lanes.values()]
        return (
            f"  SELECT *, {', '.join(['max(t) OVER k AS clock', 'row_number() OVER k AS n', *sums])}\n  FROM {source}\n"
            f"  WINDOW k AS (PARTITION BY {self.by} ORDER BY seq ROWS UNBOUNDED PRECEDING)"
        )

    def neighbours(self, source: str) -> str:
        """For each value, how long ago the key last had it and how long until it has it again."""
        ids = self.values.values()
        gaps = [f"clock - lag(clock) OVER v{i} AS since{i}, lead(clock) OVER v{i} - clock AS until{i}" for i in ids]
        windows = [f"v{i} AS (PARTITION BY {self.by}, d{i} ORDER BY seq)" for i in ids]
        flags = [
            f"(d{v} IS NOT NULL AND coalesce({gap}{v} > {over}, true))::INT AS {turn}{i}"
            for (v, over), i in self.turns.items()
            for gap, turn in (("since", "came"), ("until", "went"))
        ]
        inner = f"SELECT *, {', '.join(gaps)}\n    FROM {source}\n    WINDOW {', '.join(windows)}"
        return f"  SELECT *, {', '.join(flags)}\n  FROM (\n    {inner}\n  )"

    def turnover(self, source: str) -> str:
        sums = [f"sum(came{i}) OVER k AS ins{i}, sum(went{i}) OVER k AS outs{i}" for i in self.turns.values()]
        return f"  SELECT *, {', '.join(sums)}\n  FROM {source}\n  WINDOW k AS (PARTITION BY {self.by} ORDER BY seq ROWS UNBOUNDED PRECEDING)"

    def framed(self, source: str) -> str:
        """The totals before each window's start, and what is picked out of windows."""
        found = [f"{call} AS w{i}" for call, i in self.picks.items()]
        windows = []
        for at, (frame, totals) in enumerate(self.frames.items()):
            end = back(frame.lag, open_end=True) if frame.lag else "CURRENT ROW"
            start = back(frame.lag + (frame.over or 0))
            windows.append(f"f{at} AS (PARTITION BY {self.by} ORDER BY tick RANGE BETWEEN {start} AND {end})")
            before = ", ".join(f"'{p}': {p} - {x}" for p, x in totals)
            found.append(f"first_value({{{before}}}) OVER f{at} AS start{at}")
            if frame.lag:
                upto = ", ".join(f"'{p}': {q}" for p, q in ((p, p if not p.startswith("ins") else p) for p, _ in totals))
                found.append(f"last_value({{{upto}}}) OVER f{at} AS end{at}")
        if not found:
            return f"  SELECT * FROM {source}"
        window = f"\n  WINDOW {',\n    '.join(windows)}" if windows else ""
        ticks = f"SELECT *, clock::HUGEINT * {TICK} + n AS tick FROM {source}"
        return f"  SELECT *, {',\n    '.join(found)}\n  FROM ({ticks}){window}"
