"""Graph features: what is known, as of an event, of the entities that share something with the one at hand.

Every event ties its entity to what it carries (its device, its card), and is then asked about. The ties live in `shopward.graph`; this
file feeds them from batches, row by row, so that one event, a micro-batch and a whole file say the same, and keeps them in snapshots.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from math import fsum, isnan, nan
from typing import TYPE_CHECKING, Any

import numpy as np

from shopward.batch import LABEL, NULL
from shopward.features.codegen import BITS
from shopward.graph import Entity, Graph, Walk

if TYPE_CHECKING:
    from shopward.declare.types import Feature
    from shopward.features.columns import Columns
    from shopward.features.plan import Plan, Web

NOBODY = bytes(16)  # the hash of a missing key
NODE_BYTES, TIE_BYTES = 600, 190  # measured: an entity or thing with its dict, and a tie, which both ends keep

Keys = list[bytes]
Ask = Callable[[Graph, Walk, int], float]


class Neighbours:
    """All graph features of a plan, with their state."""

    def __init__(self, plan: Plan):
        row = {name: k for k, name in enumerate(plan.features)}
        self.webs = [WebMemory(web, row) for web in plan.webs]

    def update(self, columns: Columns, lo: int, hi: int) -> None:
        """Rows lo to hi of a batch, after its windows: tie them, and put the values where the other features are."""
        for web in self.webs:
            web.update(columns, lo, hi)

    def parts(self) -> dict[str, np.ndarray]:
        """State as arrays for a snapshot: only what can still matter, so that it does not depend on when ended ties were dropped."""
        return {f"web.{i}.{name}": part for i, web in enumerate(self.webs) for name, part in web.parts().items()}

    def fill(self, parts: dict[str, np.ndarray]) -> None:
        """Become the state that `parts` told; this one is new."""
        for i, web in enumerate(self.webs):
            web.fill({name: parts[f"web.{i}.{name}"] for name in web.parts()})

    def memory(self) -> int:
        """Bytes in use, about."""
        return sum(web.memory() for web in self.webs)


class WebMemory:
    """One web: its graph, and how its features are asked."""

    def __init__(self, web: Web, row: dict[str, int]):
        self.web, self.graph = web, Graph(web.horizon, web.hub)
        self.word, self.bit = divmod(web.filter, BITS)
        self.carried = [(field, row[feature] if feature else -1) for field, feature in web.carried]
        self.asks = [(over, [(row[f.name], self._ask(f)) for f in mine]) for over, mine in _by_window(web.features)]
        self.rows = [at for _, asks in self.asks for at, _ in asks]
        self.labels = any(f.graph and f.graph.measure in ("frauds", "fraud_share") for f in web.features)

    def _ask(self, feature: Feature) -> Ask:
        graph = feature.graph
        assert graph is not None
        if graph.field or graph.feature:
            return _of_values(graph.measure, self.web.carried.index((graph.field, graph.feature)))
        return ASKS[graph.measure]

    # --- events

    def update(self, columns: Columns, lo: int, hi: int) -> None:
        batch, graph = columns.batch, self.graph
        times, types = batch.t[lo:hi].tolist(), batch.types[lo:hi].tolist()
        mask = columns.found.get(("mask", self.word))  # given, or where the filters have just put it
        taken = ((columns.get_mask(self.word) if mask is None else mask)[lo:hi] >> self.bit & 1).tolist()
        entities, *shared = (_keys(columns, role, lo, hi) for role in (self.web.entity, *self.web.through))
        numbers = [self._numbers(columns, field, at, lo, hi) for field, at in self.carried]
        verdicts = self._verdicts(columns, lo, hi) if self.labels and LABEL in types else {}
        values = columns.out.values
        for i, t in enumerate(times):
            graph.at(t)
            entity = entities[i]
            if types[i] == LABEL or entity == NOBODY:
                for at in self.rows:
                    values[at, lo + i] = nan
                if i in verdicts and entity != NOBODY:
                    graph.judge(entity, *verdicts[i], t)
                continue
            if taken[i]:
                self._tie(entity, [keys[i] for keys in shared], tuple([column[i] for column in numbers]))
            for over, asks in self.asks:
                walk = graph.walk(entity, over)
                for at, ask in asks:
                    values[at, lo + i] = ask(graph, walk, over)

    def _tie(self, entity: bytes, shared: Keys, values: tuple[float, ...]) -> None:
        for kind, thing in enumerate(shared):
            if thing != NOBODY:
                self.graph.tie(entity, thing, kind).values = values

    def _verdicts(self, columns: Columns, lo: int, hi: int) -> dict[int, tuple[bytes, bool]]:
        """Row -> (the judged event, was it a fraud) of labels that say something."""
        labels = columns.get_minor("label")[lo:hi].tolist()
        events = _keys(columns, "label_event", lo, hi)
        return {
            i: (e, y == 1) for i, (e, y) in enumerate(zip(events, labels, strict=True)) if y != NULL and e != NOBODY
        }

    def _numbers(self, columns: Columns, field: str | None, at: int, lo: int, hi: int) -> list[float]:
        column = columns.get_number(field) if field else columns.out.values[at]
        return column[lo:hi].tolist()

    # --- snapshots

    def parts(self) -> dict[str, np.ndarray]:
        graph, start = self.graph, self.graph.clock - self.graph.horizon
        nodes: list[tuple[Any, Entity]] = sorted(graph.entities.items())  # type: ignore[type-var]
        things: list[tuple[Any, Any]] = sorted(graph.things.items())  # type: ignore[type-var]
        alive = [(a, n) for a, n in nodes if any(t >= start for d in n.ties.values() for t in d.values())]
        values = np.array([n.values for _, n in alive], np.float64).reshape(-1)
        return {
            "clock": np.array([graph.clock], np.int64),
            "ties": _rows((k, a, b, t) for a, n in alive for k, d in sorted(n.ties.items()) for b, t in d.items() if t >= start),
            "members": _rows((k, b, a, t) for k, all_ in things for b, d in sorted(all_.items()) for a, t in d.items() if t >= start),
            "frauds": _rows((0, a, e, t) for a, n in nodes for e, t in n.frauds.items() if t >= start),
            "values": np.where(np.isnan(values), nan, values),
        }  # fmt: skip

    def fill(self, parts: dict[str, np.ndarray]) -> None:
        graph = self.graph
        graph.clock = int(parts["clock"][0])
        for kind, a, b, t in _unrows(parts["ties"]):
            graph.entities.setdefault(a, Entity()).ties.setdefault(kind, {})[b] = t
        for kind, b, a, t in _unrows(parts["members"]):
            graph.things.setdefault(kind, {}).setdefault(b, {})[a] = t
        values = parts["values"].reshape(len(graph.entities), len(self.carried)).tolist()
        for (_, node), mine in zip(sorted(graph.entities.items()), values, strict=True):  # type: ignore[type-var]
            node.values = tuple(mine)
        for _, a, e, t in _unrows(parts["frauds"]):
            graph.entities.setdefault(a, Entity()).frauds[e] = t
        graph.room = max(graph.room, 2 * graph.size())

    def memory(self) -> int:
        graph = self.graph
        ties = sum(len(d) for node in graph.entities.values() for d in node.ties.values())
        return NODE_BYTES * graph.size() + TIE_BYTES * ties


def _keys(columns: Columns, role: str, lo: int, hi: int) -> Keys:
    raw = columns.get_hash(role)[lo:hi].tobytes()
    return [raw[at : at + 16] for at in range(0, len(raw), 16)]


def _by_window(features: list[Feature]) -> Iterator[tuple[int, list[Feature]]]:
    """Features of one window share a walk."""
    for over in dict.fromkeys(f.over or 0 for f in features):
        yield over, [f for f in features if f.over == over]


_ROW = struct.Struct("=q16s16sq")


def _rows(rows: Iterable[tuple[Any, Any, Any, int]]) -> np.ndarray:
    """(kind, key, key, time) as six words each."""
    return np.frombuffer(b"".join(_ROW.pack(*row) for row in rows), np.int64)


def _unrows(words: np.ndarray) -> Iterator[tuple[int, bytes, bytes, int]]:
    return _ROW.iter_unpack(words.tobytes())  # type: ignore[return-value]


# --- what can be asked


def _degree(graph: Graph, walk: Walk, over: int) -> float:
    return float(walk.degree)


def _neighbours(graph: Graph, walk: Walk, over: int) -> float:
    return float(len(walk.neighbours))


def _frauds(graph: Graph, walk: Walk, over: int) -> float:
    return float(sum(graph.is_fraud(one, over) for one in walk.neighbours))


def _fraud_share(graph: Graph, walk: Walk, over: int) -> float:
    return _frauds(graph, walk, over) / len(walk.neighbours) if walk.neighbours else nan


ASKS: dict[str, Ask] = {
    "degree": _degree,
    "neighbours": _neighbours,
    "frauds": _frauds,
    "fraud_share": _fraud_share,
}


def _of_values(measure: str, k: int) -> Ask:
    """The mean, least or most of the k-th number that neighbours carried when they were last tied."""
    every: dict[str, Callable[[list[float]], float]] = {"mean": _mean, "min": min, "max": max}
    what = every[measure]

    def ask(graph: Graph, walk: Walk, over: int) -> float:
        carried = [graph.entities[one].values[k] for one in walk.neighbours]
        found = [v for v in carried if not isnan(v)]
        return what(found) + 0.0 if found else nan  # + 0.0: no negative zero

    return ask


def _mean(values: list[float]) -> float:
    """Rounded once, whatever the order.

    >>> _mean([0.1, 0.2, 0.3]), _mean([1e308, 1e308])
    (0.19999999999999998, 1e+308)
    """
    try:
        return fsum(values) / len(values)
    except OverflowError:
        return fsum(v / len(values) for v in values)
