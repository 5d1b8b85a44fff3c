"""From an event to an explained decision. This is the product in one page:

    event -> (new? who is it?) -> features as of now -> models -> rules -> action, reasons, evidence -> on disk -> answer

`Engine` holds the state of one rulebook. Give it a data folder and it is durable: nothing is answered before it is on disk, a
retried event gets the answer it got before, and a restart continues exactly where the log ends.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy as np

from shopward.batch import Batch
from shopward.decision import Decision, Decisions
from shopward.declare.needs import needs as columns_of
from shopward.declare.types import Rule
from shopward.errors import BadEvent, UsageError
from shopward.event import format_time, name_of
from shopward.features.live import Block, Mode, Windows
from shopward.features.usual import Usual
from shopward.hashing import canonical_text
from shopward.ingest import Clock, DeadLetters, Normaliser, from_dicts, read
from shopward.lists import Entry, ListIndex
from shopward.models.panel import Panel, Scored
from shopward.rules.act import act, share
from shopward.rules.asked import Questions
from shopward.rules.compile import Reader, Rules
from shopward.rules.lookups import Lookups, tables
from shopward.rules.rowwise import RowFeatures
from shopward.rules.voices import Voices
from shopward.store.entries import fitted

if TYPE_CHECKING:
    import pyarrow as pa

    from shopward.declare.rulebook import Rulebook
    from shopward.durable import Journal
    from shopward.ingest.arrivals import Arrivals
    from shopward.ingest.unique import Unique
    from shopward.models.scorer import Scorer
    from shopward.store.files import Disk

__all__ = ["Decision", "Decisions", "Engine"]


class Engine:
    """Decides on events with one rulebook.

    data   a folder that makes decisions durable; None: everything is in memory and ends with the process
    clock  `stream` (the clock is the latest event time seen: files, tests) or `server` (the machine's clock at arrival)
    mode   `auto` interprets until kernels are compiled, `compiled` compiles first, `interpreted` never compiles
    models the loaded models that the rulebook names; those not given are loaded from beside the rulebook or from DATA/models
    disk   what keeps the log, the known ids and the snapshots of the data folder (the operating system's files when not given)

    >>> from shopward import Engine, Rulebook
    >>> rulebook = Rulebook.from_files({
    ...     "schema.yaml": "types: [login]\\nfields: {account: {type: string, entity: account}, device: {type: string, entity: device}}",
    ...     "features/f.yaml": "device_accounts_24h: {entity: device, measure: distinct(account), over: 24h}",
    ...     "rules/r.yaml": "id: shared\\ntitle: Many accounts on one device\\non: [login]\\nwhen: device_accounts_24h > 2\\nthen: review\\n"
    ...                     "tests: [{name: one, events: [{type: login, ts: 0, account: a}], expect: {fires: false}}]"})
    >>> engine = Engine(rulebook, mode="interpreted")
    >>> for i, account in enumerate(("a1", "a2", "a3")):
    ...     decision = engine.decide({"type": "login", "ts": 1767225600000 + i, "account": account, "device": "d1"})
    >>> decision.action, decision.reasons, decision.evidence[0].what
    ('review', ('shared',), 'Many accounts on one device: device_accounts_24h = 3 (> 2)')
    """

    def __init__(
        self,
        rulebook: Rulebook,
        data: Path | str | None = None,
        *,
        clock: str = "stream",
        mode: Mode = "auto",
        seed: bytes | None = None,
        models: Iterable[Scorer] | Mapping[str, Scorer] = (),
        disk: Disk | None = None,
    ):
        self.rulebook, self.schema, self.policy = rulebook, rulebook.schema, rulebook.policy
        self.journal = _journal(Path(data), disk) if data is not None else None
        self.seed = self.journal.seed if self.journal else seed or os.urandom(16)
        self.clock = Clock(self.policy.lateness_ms, self.policy.skew_ms, server=clock == "server")
        self.seq = 0
        self.loaded: dict[str, Scorer] = {}  # by the engine this one takes over from
        self.given = dict(models) if isinstance(models, Mapping) else {scorer.name: scorer for scorer in models}
        try:
            self._begin(mode)
            if self.journal:
                self.journal.recover(self)
        except BaseException:
            if self.journal:
                self.journal.release()  # another try, or another process, finds the folder free
            raise

    def _begin(self, mode: Mode) -> None:
        """Compile the rulebook, with nothing in memory yet."""
        rulebook, self.mode = self.rulebook, mode
        self.normaliser = Normaliser.of(rulebook, pseudonym=self.journal.pseudonym if self.journal else None)
        self.lists = ListIndex(slack=self.policy.lateness_ms + self.policy.skew_ms)
        self._list_writes = 0  # until those that ended long ago are forgotten
        self.windows = self._windows()
        self.models = self._panel()
        self.usual = Usual(rulebook)
        lookups = Lookups(rulebook)
        questions = Questions(rulebook, self.windows, self.lists, lookups, self.seed)
        env: dict[str, Any] = tables(lookups, self.lists) | {"USUAL": self.usual.shown}
        self.row_features = RowFeatures(rulebook, self.windows, self.seed, env, questions)
        self.rules = Rules(rulebook, self.windows, self.seed, env, questions, mode)
        self.needs = (
            columns_of(rulebook)
            | self.windows.needs
            | self.models.needs()
            | self.row_features.needs()
            | self.rules.needs()
        )
        self.judged = np.array([name in self.schema.decided for name in self.schema.types])  # by type code
        self.voices = Voices(rulebook, self.models, self.seed)
        self._one: Callable[[dict], Decision | None] | None = None
        self.arrivals: Arrivals | None = None  # reads blocks for the journal

    def _panel(self) -> Panel:
        if not self.rulebook.models and not self.given:
            return Panel(self.rulebook, {}, self.seed)
        from shopward.models.loading import load_all

        registry = self.journal.data / "models" if self.journal else None
        return Panel(self.rulebook, load_all(self.rulebook, registry, self.given, self.loaded), self.seed)

    def _windows(self) -> Windows:
        return Windows(self.rulebook, self.seed, mode=self.mode)

    def beside(self, rulebook: Rulebook | None = None) -> Engine:
        """An engine on the same data folder with nothing in memory, for this or another rulebook: a replay of the log fills it."""
        other = object.__new__(Engine)
        other.rulebook = rulebook or self.rulebook
        other.schema, other.policy = other.rulebook.schema, other.rulebook.policy
        other.journal, other.seed, other.seq = self.journal, self.seed, 0
        other.clock = Clock(other.policy.lateness_ms, other.policy.skew_ms, server=self.clock.server)
        other.given = {name: scorer for name, scorer in self.given.items() if name in other.rulebook.models}
        same = [use for use in self.models.uses if other.rulebook.models.get(use.name) == use]
        other.loaded = {use.name: self.models.scorers[self.models.names.index(use.name)] for use in same}
        other._begin(self.mode)
        return other

    def own(self, journal: Journal) -> None:
        """From now on decide durably: this engine has followed the journal's log to its end."""
        self.journal, self.seq = journal, journal.log.next_seq
        self.normaliser = Normaliser.of(self.rulebook, pseudonym=journal.pseudonym)
        self._one = None

    def become(self, other: Engine) -> None:
        """Take over the rulebook and the memory of an engine beside; whoever holds this engine goes on with it."""
        old = self.windows
        self.__dict__.update(other.__dict__)
        if old is not self.windows:
            old.close()

    def rehearse(self, owner: Engine | None = None) -> None:
        """Build what the first decisions would have to build, without touching what is remembered; `owner` is who will become this one."""
        from shopward.decide_one import build

        if not self.windows.compiled:  # it will all be built anew
            return
        empty = self.batch([])
        block = self.windows.update(empty)
        self.score(empty, block)  # rules may read what models say
        self.rules.fire(empty, block, lambda rule, row: None, np.zeros(0, np.bool_), {})
        self._one = build(self, owner)
        if self.journal:
            self.journal.arrivals(self)

    # --- deciding

    def decide(self, event: dict[str, Any]) -> Decision | None:
        """The decision on one event (a dict as the shop sends it; see the rulebook's schema.yaml).

        None for an event of a type that is only observed (`decide: false`): it has moved features.

        Raises BadEvent when the event cannot be used; with a data folder, the answer is on disk when this returns.

        >>> from shopward import Rulebook
        >>> engine = Engine(Rulebook.default(), mode="interpreted")
        >>> decision = engine.decide({"event_id": "e1", "type": "login", "ts": "2026-01-31T12:00:00Z", "account": "a1"})
        >>> decision.action, decision.reasons, decision.ts
        ('allow', (), 1769860800000)
        """
        if self.journal:
            answer = self.decide_events([event])[0]
            if isinstance(answer, BadEvent):
                raise answer
            return answer
        return (self._one or self._deciding_one())(event)

    def _deciding_one(self) -> Callable[..., Any]:
        """The function that decides on one event with the least to do."""
        if self._one is None:
            from shopward.decide_one import build

            self._one = build(self)
        return self._one

    def decide_events(self, events: list[dict[str, Any]]) -> list[Decision | BadEvent | None]:
        """One Decision, or the BadEvent that says what is wrong, for each event; they share one micro-batch and one disk flush.

        None stands for an event that is only observed.
        """
        if self.journal:
            return self.journal.decide(self, events)
        answers: list[Any] = [None] * len(events)
        usable, at = [], []
        for i, event in enumerate(events):
            found = self._checked(event)
            if isinstance(found, dict) and found["type"] == "label":
                found = BadEvent("a label is not decided on: send it to labels", field="type")
            if isinstance(found, BadEvent):
                answers[i] = found
            else:
                usable.append(found)
                at.append(i)
        step = 1 if self.row_features.one_by_one else max(1, len(usable))
        for start in range(0, len(usable), step):
            decisions = self.decide_batch(self.batch(usable[start : start + step]))
            for row, decision in zip(decisions.rows.tolist(), decisions, strict=True):
                answers[at[start + row]] = decision
        return answers

    def decide_batch(self, batch: Batch) -> Decisions:
        """Decide on a whole micro-batch. Labels and observed events in it move state and get no decision.

        Only without a data folder: a durable engine decides through `decide_events`, so that its log misses nothing.
        """
        if self.journal:
            raise UsageError("with a data folder, decide through decide or decide_events: the log must see every event")
        return self.judge(batch)

    def judge(self, batch: Batch) -> Decisions:
        """event -> features -> models -> rules -> action, for every row of a batch; state moves on, nothing is written to disk."""
        if self.row_features.one_by_one and batch.n > 1:
            raise UsageError(
                "a rule writes a list that a feature reads: decide such events one by one (Engine.read does)"
            )
        block = self.compute(batch)
        scored = self.score(batch, block)
        control = self._control(batch, block)
        told: dict = {}
        read = Reader(self.rules, batch, None)  # of the keys that rules write
        hits = self.rules.fire(batch, block, lambda rule, row: self._write_lists(rule, read, row), control, told)
        rows = np.flatnonzero(self.judged[batch.types])
        if len(rows) != batch.n:
            hits, control = hits[rows], control[rows]
        action = np.zeros(len(rows), np.int8)
        rules = self.rules
        act(hits, rules.live, rules.strength, rules.mandatory, rules.override, control, action)
        return Decisions(batch, block, rules, rows, action, hits, control, told, scored, self.voices)

    def judge_each(self, events: list[dict[str, Any]]) -> tuple[list[Any], list[int]]:
        """Decisions on checked events, one after the other, and their stamped times: cheaper than a batch of a few hundred."""
        decide: Any = self._deciding_one()
        found, times = [], []
        for event in events:
            answer = decide(event, True)
            if answer is NotImplemented:
                batch = self.batch([event])
                found += [*self.judge(batch)] or cast("list[Any]", [None])
                times.append(int(batch.t[0]))
            else:
                found.append(answer)
                times.append(int(decide.batch.t[0]))
                self.usual.watch(decide.batch, decide.values)
        return found, times

    def compute(self, batch: Batch) -> Block:
        """The features of a batch, as of each of its events; state moves on."""
        self.row_features.before(batch)
        block = self.windows.update(batch)
        self.row_features.after(batch, block)
        if self.models.pasts:
            self.models.pasts.update(batch)
        if self.journal:
            self.usual.watch(batch, block.values)
        self.seq = batch.seq0 + batch.n
        return block

    def score(self, batch: Batch, block: Block) -> Scored | None:
        """What the models say about every event of a batch; rules read it as further columns. None without models."""
        if not self.models:
            return None
        read = self.rules.reader(batch, block)
        scored = self.models.score(batch, block, lambda name, row: share(name, read.subject(row)))
        batch.numbers.update(scored.columns())
        return scored

    # --- reading

    def batch(self, events: list[dict[str, Any]]) -> Batch:
        """Checked events as a batch that continues this engine's stream."""
        return from_dicts(events, self.rulebook, self.needs, self.seed, clock=self.clock, seq0=self.seq, settled=True)

    def read(
        self,
        paths: Iterable[Path],
        *,
        labels: Path | None = None,
        dead: DeadLetters | None = None,
        records: bool = False,
        unique: Unique | None = None,
        size: int | None = None,
    ) -> Iterator[Batch]:
        """Batches of the events in files (of `size` at most), in arrival order, with labels entering when they became known. `unique` leaves out events
        whose id came before.

        With a data folder personal values come as their pseudonyms, and times are stamped when the events are taken.
        """
        size = 1 if self.row_features.one_by_one else size or 4096
        dead = DeadLetters(None) if dead is None else dead
        clock = None if self.journal else self.clock
        return read(
            ["-" if isinstance(p, Path) and str(p) == "-" else p for p in paths], self.rulebook, self.needs, self.seed, labels=labels,
            batch_size=size, dead=dead, clock=clock, seq0=self.seq, records=records,
            pseudonym=self.journal.pseudonym if self.journal else None, unique=unique,
        )  # fmt: skip

    def read_table(self, table: pa.Table, *, dead: DeadLetters | None = None) -> Iterator[Batch]:
        """Batches of the events in an Arrow table, row by row."""
        return self.read([table], dead=dead)

    def features_table(self, decisions: Decisions) -> pa.Table:
        """event_id and every declared feature as the decisions of a batch saw it."""
        return self.features_of(decisions.batch, decisions.block, decisions.rows)

    def features_of(self, batch: Batch, block: Block, rows: np.ndarray) -> pa.Table:
        """The same for some rows of a batch that was only computed."""
        import pyarrow as pa

        columns: dict[str, Any] = {"event_id": pa.array(batch.event_ids, pa.string()).take(pa.array(rows))}
        for k, (name, feature) in enumerate(self.rulebook.features.items()):
            if feature.type == "string":
                columns[name] = pa.array(self.windows.text(name, block.hashes[name][rows]), pa.string())
            else:
                values = block.values[k][rows]
                columns[name] = pa.array(values, pa.float64(), mask=np.isnan(values))
        return pa.table(columns)

    def write_lists(self, entries: Iterable[Entry]) -> int:
        """Put keys on lists or take them off, as people and finders do; the next event sees it. Returns how many entries were taken.

        Keys are given as events give them, personal values in clear. With a data folder the entries are on disk when this
        returns. Raises BadEvent naming the first that cannot be taken; then none is.

        >>> from shopward import Rulebook
        >>> engine = Engine(Rulebook.default(), mode="interpreted")
        >>> engine.write_lists([Entry(list="blocked_devices", key="d1", valid_from=0, provenance="kim: three stolen cards")])
        1
        >>> engine.write_lists([Entry(list="blocked_device", key="d1", valid_from=0)])
        Traceback (most recent call last):
        ...
        shopward.errors.BadEvent: entry 1: list: there is no list `blocked_device`; did you mean `blocked_devices`?
        """
        found = [self._fitted(i, entry) for i, entry in enumerate(entries, 1)]
        if self.journal:
            self.journal.write_lists(self, found)
        else:
            self.apply_entries(found)
        return len(found)

    def label(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Take labels (event_id, label 0/1, label_ts, [source], [amount]) of events decided before; needs a data folder.

        Returns how many were taken, repeated and of unknown events, and which rows were refused and why: `{"taken", "repeated",
        "unknown", "refused": [{"row", "error"}]}`; `label_ts` is ISO 8601 or epoch ms. Raises BadEvent without a data folder.

        >>> import tempfile
        >>> from shopward import Rulebook
        >>> with tempfile.TemporaryDirectory() as data, Engine(Rulebook.default(), data=data, mode="interpreted") as engine:
        ...     _ = engine.decide({"event_id": "e1", "type": "login", "ts": "2026-01-31T12:00:00Z", "account": "a1"})
        ...     engine.label([{"event_id": "e1", "label": 0, "label_ts": "2026-01-31T12:00:00Z", "source": "kim"}])
        {'taken': 1, 'repeated': 0, 'unknown': 0, 'refused': []}
        """
        if not self.journal:
            raise BadEvent("labels need a data folder: the judged events are found in its log")
        return self.journal.label(self, rows)

    def find(self, event_id: str) -> dict[str, Any] | None:
        """The stored decision on an event, or None."""
        return self.journal.find(event_id) if self.journal else None

    # --- keeping

    def state_hash(self, pasts: Mapping[str, str] | None = None) -> str:
        """A hash of the whole state: features, clock, lists, and what networks remember. Equal for equal streams, however they were cut into batches.

        `pasts` are digests of histories, in place of those in memory.
        """
        reach = int(self.clock.value) - self.lists.slack
        standing = self.lists.entries(after=reach)  # what ended before may be forgotten already
        digest = blake2b(f"{self.windows.state_hash()} {int(self.clock.value)}".encode(), digest_size=16)
        for entry in sorted(map(msgspec.msgpack.encode, standing)):
            digest.update(entry)
        for item in sorted((self.models.pasts.digests() if pasts is None else pasts).items()):
            digest.update(":".join(item).encode())
        return digest.hexdigest()

    @property
    def failure(self) -> str | None:
        """Why no event can be decided on until a restart, or None."""
        return self.journal.failure if self.journal else None

    def snapshot(self) -> None:
        """Write the state to the data folder, so that the next start replays only what came after."""
        if self.journal:
            self.journal.snapshot(self)

    def close(self) -> None:
        self.windows.close()
        if self.journal:
            self.journal.close(self)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- steps

    def _checked(self, event: dict[str, Any]) -> dict[str, Any] | BadEvent:
        """The event in its usual form, or what is wrong with it."""
        if not isinstance(event, Mapping):
            return BadEvent(f"expected an object, found {name_of(event)}")
        try:
            found = self.normaliser(event)
        except BadEvent as error:
            return error
        return self.refuse_future(found["ts"], "ts") or found

    def refuse_future(self, ts: int, field: str) -> BadEvent | None:
        """What is wrong with a time that the machine's clock has not reached; a server takes it as of now instead."""
        if self.clock.server or ts <= max(self.clock.latest(), self.clock.value):
            return None
        return BadEvent(f"in the future ({format_time(ts)}); the machine's clock says otherwise", field=field)

    def _fitted(self, i: int, entry: Entry) -> Entry:
        pseudonym = self.journal.known_pseudonym if self.journal else None
        try:
            return fitted(entry, self.rulebook.lists, self.schema, self.normaliser.readers, pseudonym)
        except BadEvent as wrong:
            raise BadEvent(f"entry {i}: {wrong}") from None

    def _control(self, batch: Batch, block: Block) -> np.ndarray:
        """Which rows belong to the arm that is let through, so that labels stay honest."""
        control = np.zeros(batch.n, np.bool_)
        if self.policy.control_percent > 0:
            read = self.rules.reader(batch, block)
            for row in np.flatnonzero(self.judged[batch.types]).tolist():
                control[row] = share("control", read.subject(row)) < self.policy.control_percent
        return control

    def _write_lists(self, rule: Rule, read: Reader, row: int) -> None:
        """Apply what a rule writes; the next event already sees it."""
        batch = read.batch
        self.apply_writes(rule, lambda role: read.value(role, row), int(batch.t[row]), batch.seq0 + row)

    def apply_writes(self, rule: Rule, get: Callable[[str], Any], t: int, seq: int | None = None) -> None:
        """Add or remove list entries for a rule that fired on event `seq` (the last one) at stamped time `t`."""
        cause = self.seq - 1 if seq is None else seq
        for write in rule.writes:
            parts = [get(role) for role in write.key]
            if any(p is None or p != p for p in parts):
                continue
            key = canonical_text(parts[0]) if len(parts) == 1 else tuple(map(canonical_text, parts))
            expires = None if write.expires_ms is None else t + write.expires_ms
            entry = Entry(
                list=write.list, key=key, valid_from=t, expires=expires, provenance=f"rule:{rule.id}", seq=cause, remove=write.remove
            )  # fmt: skip
            self.apply_entries((entry,))
            if self.journal:
                self.journal.wrote(entry.as_dict())

    def apply_entries(self, entries: Iterable[Entry]) -> None:
        """Entries from a rule, a person or the log, as they stand."""
        for entry in entries:
            self.lists.apply((entry,))
            self._list_writes -= 1
        if self._list_writes < 0:
            self.lists.forget_before(int(self.clock.value) - self.lists.slack)
            self._list_writes = max(1024, sum(map(self.lists.size, self.lists.names())))


def _journal(data: Path, disk: Disk | None) -> Journal:
    from shopward.durable import Journal  # the tables and the vault: not needed without a data folder

    return Journal(data, disk)
