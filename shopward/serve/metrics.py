"""What the server counts, in the text form that Prometheus reads. Counting costs under a microsecond an event."""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shopward.models.watch import families

if TYPE_CHECKING:
    from shopward.answers import Answers
    from shopward.decide import Engine
    from shopward.serve.decider import Decider

SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
EVENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Histogram:
    """How often a value fell under each bound.

    >>> waits = Histogram((1, 2))
    >>> for seconds in (0.5, 1.5, 9):
    ...     waits.add(seconds)
    >>> list(waits.lines("wait", ""))
    ['wait_bucket{le="1"} 1', 'wait_bucket{le="2"} 2', 'wait_bucket{le="+Inf"} 3', 'wait_sum 11', 'wait_count 3']
    """

    def __init__(self, bounds: tuple[float, ...]):
        self.bounds, self.counts, self.sum = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def lines(self, name: str, labels: str) -> Iterator[str]:
        total, comma = 0, "," if labels else ""
        for bound, count in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            total += count
            yield f'{name}_bucket{{{labels}{comma}le="{bound}"}} {total}'
        braces = f"{{{labels}}}" if labels else ""
        yield f"{name}_sum{braces} {self.sum:g}"
        yield f"{name}_count{braces} {total}"


class Metrics:
    """Counters and histograms of one server; `text` is the page that Prometheus reads."""

    def __init__(self) -> None:
        self.began = time.time()
        self.requests: Counter[tuple[str, int]] = Counter()
        self.seconds: dict[str, Histogram] = {}
        self.batches = Histogram(EVENTS)
        self.actions: Counter[str] = Counter()
        self.rules: Counter[str] = Counter()
        self.shadow: Counter[str] = Counter()
        self.refused = self.observed = self.turned_away = self.fallbacks = self.changes = 0
        self.more: list[Any] = []  # other parts that have `metrics() -> iterable of (name, kind, help, value)`

    def answered(self, route: str, status: int, seconds: float) -> None:
        self.requests[route, status] += 1
        waits = self.seconds.get(route)
        if waits is None:
            waits = self.seconds[route] = Histogram(SECONDS)
        waits.add(seconds)

    def judged(self, answers: list) -> None:
        """Count the answers of one micro-batch."""
        self.batches.add(len(answers))
        for answer in answers:
            if answer is None:
                self.observed += 1
                continue
            action = getattr(answer, "action", None)
            if action is None:
                self.refused += 1
                continue
            self.actions[action] += 1
            if answer.reasons:
                self.rules.update(answer.reasons)
            if answer.shadow:
                self.shadow.update(answer.shadow)

    def judged_lines(self, answers: Answers) -> None:
        """Count the answers to a block of lines."""
        self.batches.add(answers.n)
        self.actions["allow"] += answers.quiet
        self.observed += answers.observed
        self.refused += len(answers.wrong)
        for decision in answers.loud:
            self.actions[decision.action] += 1
            self.rules.update(decision.reasons)
            self.shadow.update(decision.shadow)

    def text(self, decider: Decider) -> bytes:
        lines = [*self._counted(), *self._timed()]
        for name, kind, words, value in self._gauges(decider):
            lines += [f"# HELP {name} {words}", f"# TYPE {name} {kind}", f"{name} {value}"]
        for name, words, found in families(decider.engine.models) if decider.has_engine else ():
            lines += _family(name, words, found, "gauge")
        return ("\n".join(lines) + "\n").encode()

    def _counted(self) -> Iterator[str]:
        http = {f'route="{_safe(r)}",status="{s}"': n for (r, s), n in self.requests.items()}
        yield from _family("shopward_http_requests_total", "Requests by route and status.", http)
        for name, words, label, counts in (
            ("decisions", "Decisions by action.", "action", self.actions),
            ("rule_hits", "Live rules that fired.", "rule", self.rules),
            ("shadow_hits", "Shadow rules that fired.", "rule", self.shadow),
        ):
            found = {f'{label}="{_safe(k)}"': n for k, n in counts.items()}
            yield from _family(f"shopward_{name}_total", words, found)

    def _timed(self) -> Iterator[str]:
        yield "# HELP shopward_http_seconds From the request's first byte to the answer's last."
        yield "# TYPE shopward_http_seconds histogram"
        for route, waits in self.seconds.items():
            yield from waits.lines("shopward_http_seconds", f'route="{_safe(route)}"')
        yield "# HELP shopward_batch_events Events that shared one flush to disk."
        yield "# TYPE shopward_batch_events histogram"
        yield from self.batches.lines("shopward_batch_events", "")

    def _gauges(self, decider: Decider) -> Iterator[tuple[str, str, str, float]]:
        yield "shopward_up_seconds", "gauge", "Since the server began.", round(time.time() - self.began, 1)
        yield "shopward_events_refused_total", "counter", "Events that could not be used.", self.refused
        yield "shopward_events_observed_total", "counter", "Events that are only observed.", self.observed
        yield "shopward_turned_away_total", "counter", "Requests answered 429.", self.turned_away
        yield (
            "shopward_fallbacks_total",
            "counter",
            "Answers by the policy's fallback, over the time budget.",
            self.fallbacks,
        )
        yield "shopward_rulebook_changes_total", "counter", "Rulebooks switched to while running.", self.changes
        yield "shopward_queue_events", "gauge", "Events waiting to be decided.", decider.queued
        yield "shopward_deciding", "gauge", "1 when this process decides, 0 when it follows.", int(decider.has_engine)
        if decider.has_engine:
            yield from _engine_gauges(decider.engine)
        for part in self.more:
            yield from part.metrics()


def _engine_gauges(engine: Engine) -> Iterator[tuple[str, str, str, float]]:
    nulls = sum(engine.normaliser.notes.values())
    yield "shopward_events_total", "counter", "Events in the log since it began, labels included.", engine.seq
    yield "shopward_nulls_total", "counter", "Values that became null (NaN, no currency rate).", nulls
    held = engine.windows.held()
    yield "shopward_windows_bytes", "gauge", "Memory of the keys and events that windows still hold.", held
    journal = engine.journal
    if journal is None:
        return
    yield "shopward_duplicates_total", "counter", "Events sent again, answered as before.", journal.dedup.duplicates
    yield (
        "shopward_conflicts_total",
        "counter",
        "Known ids with other content; the first counts.",
        journal.dedup.conflicts,
    )
    yield "shopward_dead_letters_total", "counter", "Events that could not be decided on.", journal.poison
    yield "shopward_rebuilt_total", "counter", "How often memory was built again.", journal.rebuilt
    yield (
        "shopward_lag_events",
        "gauge",
        "Events in memory that are not on disk yet.",
        journal.log.next_seq - journal.log.durable_seq,
    )
    yield "shopward_failed", "gauge", "1 when only a restart helps.", int(engine.failure is not None)
    space = os.statvfs(journal.data)
    yield "shopward_disk_free_bytes", "gauge", "Free on the data folder's disk.", space.f_bavail * space.f_frsize
    yield "shopward_log_bytes", "gauge", "Bytes of the log.", _size(journal.data / "log")
    yield "shopward_resident_bytes", "gauge", "Memory of this process.", resident()


def resident() -> int:
    """Bytes of memory of this process (0 where the system does not say)."""
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if status.exists() else 0


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())


def _family(name: str, words: str, found: Mapping[str, float], kind: str = "counter") -> Iterable[str]:
    yield f"# HELP {name} {words}"
    yield f"# TYPE {name} {kind}"
    for labels, n in found.items():
        yield f"{name}{{{labels}}} {n}"


def _safe(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
