"""Why: the one shape in which anything that finds something says so.

A rule that fired, a leaked card number, a scraper's session, an indicator from a report and a cheat tool's capability are all
`Evidence`, so they can stand in one case. Everything that finds writes it to `lake/findings`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec


class Evidence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """One reason to believe something about one entity.

    `source` is who found it (`rule:coupon_fanout`), `what` a sentence, `entity` is `kind:id`, `ts` epoch milliseconds UTC,
    `confidence` in [0, 1], `usual` what this value normally is (a number, a range or None when unknown).

    >>> e = Evidence(source="rule:card_testing", what="6 failed payments on one card in an hour", entity="card:c1",
    ...              feature="card_failed_1h", value=6, threshold="> 5", event_ids=("e9",), techniques=("F1018",), ts=1_767_225_600_000)
    >>> e.entity, e.value, e.confidence
    ('card:c1', 6, 1.0)
    """

    source: str
    what: str
    entity: str
    feature: str | None = None
    value: Any = None
    threshold: Any = None
    usual: Any = None
    event_ids: tuple[str, ...] = ()
    techniques: tuple[str, ...] = ()
    confidence: float = 1.0
    ts: int = 0


class LaterEvidence(Sequence[Evidence]):
    """Evidence that is put into words when somebody reads it; a decision that nobody questions pays nothing for it.

    >>> later = LaterEvidence(lambda: (Evidence(source="rule:r", what="many logins", entity="account:a1"),))
    >>> len(later), later[0].what, later == (later[0],)
    (1, 'many logins', True)
    """

    __slots__ = ("_args", "_made", "_make")

    def __init__(self, make: Callable[..., tuple[Evidence, ...]], *args: Any):
        self._make: Callable[..., tuple[Evidence, ...]] | None = make
        self._args = args
        self._made: tuple[Evidence, ...] = ()

    def told(self) -> tuple[Evidence, ...]:
        """The evidence itself."""
        if self._make is not None:
            self._made, self._make, self._args = self._make(*self._args), None, ()
        return self._made

    def __len__(self) -> int:
        return len(self.told())

    def __getitem__(self, i):
        return self.told()[i]

    def __iter__(self) -> Iterator[Evidence]:
        return iter(self.told())

    def __eq__(self, other: object) -> bool:
        return self.told() == (other.told() if isinstance(other, LaterEvidence) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self.told())
