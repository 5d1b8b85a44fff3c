"""Why: the one shape in which anything that finds something says so.

A rule that fired, a leaked card number, a scraper's session, an indicator from a report and a cheat tool's capability are all
`Evidence`, so they can stand in one case. Everything that finds writes it to `lake/findings` (`store.findings.write_findings`).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import msgspec

DAY_MS = 86_400_000


class Evidence(msgspec.Struct, frozen=True, gc=False):
    """One reason to believe something about one entity.

    `source` is who found it (`rule:coupon_fanout`), `what` a sentence, `entity` is `kind:id`, `ts` epoch milliseconds UTC,
    `confidence` in [0, 1], `usual` what this value normally is (rules: the median and the 99th percentile among events of this type;
    None when unknown).

    >>> e = Evidence(source="rule:card_testing", what="6 failed payments on one card in an hour", entity="card:c1",
    ...              feature="card_failed_1h", value=6, threshold="> 5", event_ids=("e9",), techniques=("F1018",), ts=1_767_225_600_000)
    >>> e.entity, e.value, e.confidence
    ('card:c1', 6, 1.0)
    >>> e.id
    'd05e5c5d979e1a4eb33a679037c3b008'
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

    @property
    def id(self) -> str:
        """The finding this is, however often it is found; see `identity`."""
        return identity(self.source, self.entity, self.feature, self.what, self.value, self.event_ids, self.ts)


def identity(
    source: str, entity: str, feature: str | None, what: str, value: Any, event_ids: Sequence[str] | None, ts: int
) -> str:
    """32 hex digits that name a finding: what one source says of one thing about one entity, from one event on.

    One thing is the feature, or the sentence where there is none; a text value says which (`"4***1"`) and belongs to it, a number
    says how much and does not. "From one event on" is the first of `event_ids`, so a ring that grew by an account is the same
    finding, newer; without events it is the UTC day of `ts`.

    >>> ring = dict(source="rule:ring", entity="device:d1", feature="accounts", what="", ts=5)
    >>> identity(**ring, value=3, event_ids=["e1"]) == identity(**ring, value=4, event_ids=["e1", "e2"])
    True
    >>> identity(**ring, value=3, event_ids=["e1"]) == identity(**ring, value=3, event_ids=["e2"])
    False
    """
    thing = what if feature is None else feature
    which = value if isinstance(value, str) else None
    since = event_ids[0] if event_ids else ts // DAY_MS
    text = msgspec.json.encode((source, entity, feature is None, thing, which, since))
    return blake2b(text, digest_size=16).hexdigest()
