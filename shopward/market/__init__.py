"""A synthetic marketplace with attackers and truth: for demos, tests and honest measurements.

    generate(DIR, seed=7)  ->  events.ndjson, access.ndjson, truth/*.parquet
    iter_events(seed=7)    ->  the same events as dicts, in memory

The same arguments give the same bytes. Attackers know the market and never the rulebook. What the numbers are and where they
come from: docs/market.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Summary:
    """What was made. Money in dollars; `fraud_share` is the fraudulent part of all paid money."""

    seed: int
    days: int
    accounts: int
    adversary: str
    events: int = 0
    requests: int = 0
    by_type: dict[str, int] = field(default_factory=dict)
    paid: float = 0.0
    paid_by_fraud: float = 0.0
    loss: float = 0.0
    campaigns: int = 0
    fraud_events: int = 0
    fraud_share: float = 0.0
    seconds: float = 0.0


def generate(
    out_dir: str | Path,
    seed: int = 1,
    days: int = 30,
    accounts: int = 20_000,
    adversary: str = "normal",
    access_log: bool = True,
    events: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Summary:
    """Write a market to `out_dir`.

    `adversary` is normal or hard. `events` asks for about so many events (within a few percent); without it accounts come as
    often as people do. `on_progress` is called after every day with how many were done since its last call. Raises UsageError.
    """
    import numpy as np
    import pyarrow.parquet as pq

    from shopward.market.access import AccessLog
    from shopward.market.lines import events as event_lines
    from shopward.market.making import Market
    from shopward.market.truth import Truth

    started, out = time.perf_counter(), Path(out_dir)
    market = Market(seed, days, accounts, adversary, events)
    truth = Truth(market.texts, market.scripts, market.world.lookalikes, market.hard)
    log = AccessLog(market.world, market.texts, market.scripts)
    summary = Summary(seed, days, accounts, adversary, campaigns=len(market.scripts))
    streams = np.random.SeedSequence([seed, 0xACCE55]).spawn(days)
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as files:
        event_file = files.enter_context(open(out / "events.ndjson", "wb"))
        request_file = files.enter_context(open(out / "access.ndjson", "wb")) if access_log else None
        for day in market.days():
            for piece in event_lines(day.rows, day.first, market.world, market.texts):
                event_file.write(piece)
            if request_file:
                rng = np.random.default_rng(streams[day.number])
                for piece in log.day(day.number, day.rows, day.first, rng):
                    request_file.write(piece)
            truth.note(day.first, day.rows)
            _count(summary, day.rows)
            if on_progress:
                on_progress(1)
    truth.write(out / "truth")
    if access_log:
        pq.write_table(log.labels(), out / "truth/request_labels.parquet", compression="zstd")
        summary.requests = log.extra
    summary.fraud_share = summary.paid_by_fraud / summary.paid if summary.paid else 0.0
    summary.seconds = round(time.perf_counter() - started, 2)
    return summary


def iter_events(
    seed: int = 1, days: int = 14, accounts: int = 4_000, adversary: str = "normal", events: int | None = 60_000
) -> Iterator[dict[str, Any]]:
    """The events of a market as dicts, in order of arrival; by default a small one.

    >>> event = next(iter_events(seed=3, days=1, accounts=300, events=500))
    >>> event["event_id"], event["ts"][:10]
    ('e0000000000', '2026-01-05')
    """
    import msgspec

    from shopward.market.lines import events as event_lines
    from shopward.market.making import Market

    decode = msgspec.json.Decoder().decode_lines
    market = Market(seed, days, accounts, adversary, events)
    for day in market.days():
        for piece in event_lines(day.rows, day.first, market.world, market.texts):
            yield from decode(piece)


def _count(summary: Summary, rows: Any) -> None:
    import numpy as np

    from shopward.market.rows import CODE, TYPES

    for name, n in zip(TYPES, np.bincount(rows["type"], minlength=len(TYPES)).tolist(), strict=True):
        summary.by_type[name] = summary.by_type.get(name, 0) + n
    fraud, paid = rows["label"] == 1, rows["type"] == CODE["payment"]
    summary.events += len(rows)
    summary.paid += int(rows["amount"][paid].sum()) / 100
    summary.paid_by_fraud += int(rows["amount"][paid & fraud].sum()) / 100
    summary.loss += int(rows["loss"].sum()) / 100
    summary.fraud_events += int(fraud.sum())


__all__ = ["Summary", "generate", "iter_events"]
