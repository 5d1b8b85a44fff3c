"""The entity graph as events arrive: who is tied to whom, and through what, as of now.

`Graph` takes a `Link` (an account on a device, with a card, from an address) and answers who shares something with an entity within a
time, and which of those were found fraudulent. It knows only what has arrived. Work and memory are bounded: a hub (an office's
address, a shared kiosk) ties nobody, and of any node only the latest few neighbours are kept, exactly as many as it takes to tell a hub.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from itertools import islice
from typing import NamedTuple

from shopward.errors import StoreFull

HUB = 50  # with more entities than this on it, what is shared says nothing; also how many shared things of one kind are walked
MOST = 1 << 24  # nodes alive at once; with their ties some 10 GB
ROOM = 4096  # nodes that are kept before anybody looks for those that ended

Key = Hashable


class Link(NamedTuple):
    """`src` (the entity) was seen with `dst` (what it may share with others) of a kind at ts, ms UTC; `source` says who saw it."""

    src: Key
    dst: Key
    kind: Hashable
    ts: int
    source: str = ""


class Entity:
    """What is kept of an entity: kind -> {what it was seen with: when last}, {judged event: when found a fraud}, numbers it carried."""

    __slots__ = ("frauds", "ties", "values")

    def __init__(self) -> None:
        self.ties: dict[Hashable, dict[Key, int]] = {}
        self.frauds: dict[Key, int] = {}
        self.values: tuple[float, ...] = ()

    def until(self) -> int:
        """When something last happened to it."""
        every = [*self.ties.values(), self.frauds]
        return max((_latest(d) for d in every if d), default=-1)


class Walk(NamedTuple):
    """Who is near: the other entities, those seen last first, and through how many things that are no hubs."""

    neighbours: list[Key]
    degree: int


class Graph:
    """Ties of one sort of entity through one or more kinds of things, over at most `horizon` ms. Raises StoreFull beyond MOST nodes.

    A tie counts from the clock (the latest time of all that has arrived) of its last link on, so ties are ordered as they arrived. Of
    each kind the latest `hub` things of an entity are walked; a thing that more than `hub` entities had within the time is a hub.

    >>> graph = Graph(horizon=3_600_000)
    >>> for account, device, ts in (("ann", "d1", 0), ("bob", "d1", 1000), ("bob", "d2", 2000), ("cy", "d2", 3000)):
    ...     graph.add(Link(account, device, "device", ts))
    >>> graph.walk("bob", over=3_600_000)
    Walk(neighbours=['cy', 'ann'], degree=2)
    >>> graph.judge("cy", "order-7", fraud=True, ts=4000)
    >>> [graph.is_fraud(who, over=3_600_000) for who in ("ann", "cy")]
    [False, True]
    >>> graph.at(3_600_000), graph.walk("bob", over=3_600_000).neighbours
    (3600000, ['cy', 'ann'])
    >>> graph.at(3_600_001), graph.walk("bob", over=3_600_000).neighbours
    (3600001, ['cy'])
    """

    def __init__(self, horizon: int, hub: int = HUB):
        self.horizon, self.hub, self.clock = horizon, hub, 0
        self.entities: dict[Key, Entity] = {}
        self.things: dict[Hashable, dict[Key, dict[Key, int]]] = {}
        self.room = ROOM

    # --- what arrives

    def at(self, ts: int) -> int:
        """Something arrived with this time; the clock never goes back."""
        if ts > self.clock:
            self.clock = ts
        return self.clock

    def add(self, link: Link) -> None:
        """A link arrives."""
        self.at(link.ts)
        self.tie(link.src, link.dst, link.kind)

    def tie(self, entity: Key, thing: Key, kind: Hashable) -> Entity:
        """The same at the clock; returns the entity's node."""
        self._make_room()
        node = self._entity(entity)
        _newest(node.ties.setdefault(kind, {}), thing, self.clock, self.hub)
        things = self.things.setdefault(kind, {})
        members = things.get(thing)
        if members is None:
            members = things[thing] = {}
        _newest(members, entity, self.clock, self.hub)
        return node

    def judge(self, entity: Key, event: Key, fraud: bool, ts: int) -> None:
        """A verdict on an event of the entity arrives; it takes the place of an earlier one on the same event."""
        clock = self.at(ts)
        if fraud:
            self._make_room()
            frauds = self._entity(entity).frauds
            frauds.pop(event, None)
            frauds[event] = clock
            while frauds and next(iter(frauds.values())) < clock - self.horizon:
                del frauds[next(iter(frauds))]
        elif entity in self.entities:
            self.entities[entity].frauds.pop(event, None)

    def _entity(self, key: Key) -> Entity:
        node = self.entities.get(key)
        if node is None:
            node = self.entities[key] = Entity()
        return node

    def _make_room(self) -> None:
        if self.size() >= self.room:
            self.forget()
            if self.size() >= MOST:
                raise StoreFull(f"a graph with more than {MOST:,} nodes within its longest window: shorten `over`")

    # --- what is asked

    def walk(self, entity: Key, over: int) -> Walk:
        """The other entities that share something with this one, both seen with it in the last `over` ms."""
        node, start = self.entities.get(entity), self.clock - over
        if node is None:
            return Walk([], 0)
        found: dict[Key, None] = {}
        degree = 0
        for members in self._shared(node, start):
            degree += 1
            for other, seen in reversed(members.items()):
                if seen < start:
                    break
                found[other] = None
        found.pop(entity, None)
        return Walk(list(found), degree)

    def _shared(self, node: Entity, start: int) -> Iterator[dict[Key, int]]:
        """Who was seen with each of the latest things of an entity, hubs left out."""
        for kind, ties in node.ties.items():
            things = self.things[kind]
            for thing, seen in islice(reversed(ties.items()), self.hub):
                if seen < start:
                    break
                members = things[thing]
                if len(members) <= self.hub or next(iter(members.values())) < start:
                    yield members

    def is_fraud(self, entity: Key, over: int) -> bool:
        """Was an event of the entity found to be a fraud in the last `over` ms, and does that stand?"""
        node = self.entities.get(entity)
        return node is not None and bool(node.frauds) and _latest(node.frauds) >= self.clock - over

    # --- what ends

    def size(self) -> int:
        """Nodes in memory."""
        return len(self.entities) + sum(map(len, self.things.values()))

    def forget(self) -> None:
        """Drop nodes to which nothing happened within the horizon; next when there are twice as many as now."""
        start = self.clock - self.horizon
        self.entities = {key: node for key, node in self.entities.items() if node.until() >= start}
        for kind, things in self.things.items():
            self.things[kind] = {key: members for key, members in things.items() if _latest(members) >= start}
        self.room = min(max(ROOM, 2 * self.size()), max(MOST, self.size()))


def _newest(ties: dict[Key, int], key: Key, clock: int, hub: int) -> None:
    """Put a key last, and drop the first where one more than `hub` are known already."""
    ties.pop(key, None)
    ties[key] = clock
    if len(ties) > hub + 1:
        del ties[next(iter(ties))]


def _latest(ties: dict[Key, int]) -> int:
    return next(reversed(ties.values()))
