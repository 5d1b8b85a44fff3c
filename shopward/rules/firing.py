"""One pass of the rules over a batch, in which a rule may write a list and the events behind it already see that.

Compiled, the kernel judges all events as lists stood before the batch. What is left then goes in arrival order: rules that need
characters, that are rolled out to a part, that write. When one writes, the answers of later events to the list are made again, and
only the events for which they differ are judged again. Interpreted, every event is simply judged when its turn comes.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

import numpy as np

from shopward.declare.types import Rule
from shopward.rules.act import share

if TYPE_CHECKING:
    from shopward.batch import Batch
    from shopward.features.live import Block
    from shopward.rules.asked import Answers
    from shopward.rules.compile import Explained, Reader, Rules, Tail


class Firing:
    """The pass: fills `hits` (uint64[n, w]) and `told`, and calls `write(rule, row)` where a live rule writes."""

    def __init__(
        self,
        rules: Rules,
        read: Reader,
        hits: np.ndarray,
        write: Callable[[Rule, int], None],
        control: np.ndarray | None,
        told: Explained,
    ):
        self.rules, self.read, self.hits = rules, read, hits
        self.write, self.control, self.told = write, control, told

    def by_row(self, judge: Callable[[Reader, int], int]) -> None:
        """Event after event; `judge(read, row)` gives its hits as one number."""
        for row in range(len(self.hits)):
            value = judge(self.read, row)
            self.hits[row] = [value >> 64 * word & 0xFFFFFFFFFFFFFFFF for word in range(self.rules.words)]
            self._settle(row)

    def by_column(self, batch: Batch, block: Block, kernel: Callable[..., None]) -> None:
        """All events by the kernel, then one after the other what it could not settle."""
        rules = self.rules
        answers = rules.questions.answer(batch, block, rules.asked)
        arguments = rules.arguments(batch, block, self.hits, answers)
        kernel(*arguments, 0, batch.n)
        if not rules.special.any():
            return
        todo = np.flatnonzero((self.hits & rules.special).any(axis=1)).tolist()
        heapify(todo)
        stale: set[int] = set()
        last = -1
        while todo:
            row = heappop(todo)
            if row == last:
                continue
            last = row
            if row in stale:
                kernel(*arguments, row, row + 1)
            for later in self._renewed(self._settle(row), answers, row):
                stale.add(later)
                heappush(todo, later)

    def _renewed(self, writers: list[Rule], answers: Answers, row: int) -> list[int]:
        """The later rows for which what these rules wrote changes an answer."""
        lists = dict.fromkeys(w.list for rule in writers for w in rule.writes)
        return [later for name in lists for later in answers.renew(name, row).tolist()]

    def _settle(self, row: int) -> list[Rule]:
        """Finish the rules of one event that need more than a kernel; those that wrote."""
        words = (self.hits[row] & self.rules.special).tolist()
        if not any(words):
            return []
        fired = [tail.rule for tail in self.rules.tails_of(words) if self._stands(tail, row)]
        for rule in fired:
            if self.rules.why[rule.id].fleeting:
                self.told[row, rule.id] = self.rules.explain(rule, self.read, row)
        writers = [r for r in fired if r.writes and r.state == "live"]
        if writers and not all(r.mandatory for r in writers) and self._in_control(row):
            writers = [r for r in writers if r.mandatory]
        for rule in writers:
            self.write(rule, row)
        return writers

    def _stands(self, tail: Tail, row: int) -> bool:
        """Does this rule, whose bit is set, fire here? If its tail or its rollout says no, its bit is cleared."""
        read = self.read
        if (tail.holds is None or tail.holds(*read.values(tail.names, row))) and self._in_rollout(tail.rule, row):
            return True
        word, bit = divmod(tail.bit, 64)
        self.hits[row, word] &= np.uint64(~(1 << bit) & 0xFFFFFFFFFFFFFFFF)
        return False

    def _in_rollout(self, rule: Rule, row: int) -> bool:
        return rule.percent >= 100 or share(f"rule:{rule.id}", self.read.subject(row)) < rule.percent

    def _in_control(self, row: int) -> bool:
        """In the control arm only mandatory rules write: what is let through must leave no trace that stops the next event."""
        if self.control is not None:
            return bool(self.control[row])
        percent = self.rules.rulebook.policy.control_percent
        return percent > 0 and share("control", self.read.subject(row)) < percent
