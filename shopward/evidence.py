"""Why: the one shape in which anything that finds something says so.

A rule that fired, a leaked card number, a scraper's session, an indicator from a report and a cheat tool's capability are all
`Evidence`, so they can stand in one case. Everything that finds writes it to `lake/findings`.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Evidence(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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
