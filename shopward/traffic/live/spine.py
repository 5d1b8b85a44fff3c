"""From what the watch found to the engine that decides: only what its rulebook has words for, on disk when `Live` returns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shopward.decide import Engine
from shopward.declare.rulebook import Rulebook
from shopward.errors import BadEvent
from shopward.lists import Entry
from shopward.store.findings import Findings
from shopward.traffic.live.watch import VERDICT, Taken, Watch
from shopward.traffic.requests import event_of

REQUEST = "http_request"


def events_for(rulebook: Rulebook, taken: Taken, now: int) -> list[dict[str, Any]]:
    """The events that a rulebook takes: the requests themselves where it declares `http_request`, then the verdicts."""
    types = rulebook.schema.types
    found = [event_of(request) for request in taken.seen] if REQUEST in types else []
    for event in found:
        event.setdefault("ts", now)
    return found + taken.events if VERDICT in types else found


def entries_for(rulebook: Rulebook, taken: Taken) -> list[Entry]:
    """The entries of lists that a rulebook has."""
    return [entry for entry in taken.entries if entry.list in rulebook.lists]


class Live:
    """Feeds one engine from messages of log lines, all on the caller's thread. `counts` is requests, attacks and verdicts so far."""

    def __init__(self, engine: Engine, watch: Watch, data: Path | None = None):
        self.engine, self.watch = engine, watch
        self.findings = Findings(data) if data is not None else None
        self.counts = {"requests": 0, "attacks": 0, "verdicts": 0}

    def __call__(self, messages: Sequence[bytes], now: int) -> list[BadEvent | None]:
        """For each message None, or what was wrong with a line of it (the others were used). Raises StoreFull; then nothing was taken."""
        lines: list[tuple[int, bytes | str]] = []
        of: list[int] = []
        for i, message in enumerate(messages):
            for line in message.split(b"\n"):
                if line.strip():
                    lines.append((len(of) + 1, line))
                    of.append(i)
        taken = self.watch.take(lines, now)
        try:
            self.settle(taken, now)
        except BaseException:
            self.watch.forget(taken)
            raise
        wrong: list[BadEvent | None] = [None] * len(messages)
        for number, reason in taken.refused:
            wrong[of[number - 1]] = BadEvent(reason)
        return wrong

    def settle(self, taken: Taken, now: int) -> None:
        """Put on disk what was found."""
        entries, events = entries_for(self.engine.rulebook, taken), events_for(self.engine.rulebook, taken, now)
        if entries:
            self.engine.write_lists(entries)
        if events:
            self.engine.decide_events(events)
        if self.findings is not None and taken.findings:
            for finding in taken.findings:
                self.findings.add(finding)
            self.findings.flush()
        self.counts["requests"] += len(taken.seen)
        self.counts["attacks"] += taken.attacks
        self.counts["verdicts"] += len(taken.events)
