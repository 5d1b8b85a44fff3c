"""How the defence did over a stretch of days, from a data folder: what fraud cost, whom we bothered, what analysts had to read.

Everything stands on labels that are known by now; fraud whose truth has not arrived counts as honest. `labelled` says how much is known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shopward import metrics
from shopward.declare.types import ACTIONS, Policy
from shopward.errors import UsageError

if TYPE_CHECKING:
    import duckdb

DAY_MS = 86_400_000
MOST = 15  # rules and misses shown
_DETECT_BY = (
    "account",
    "buyer",
    "seller",
    "device",
)  # whose first fraud starts the clock: the first of these an event table has


@dataclass(slots=True)
class Report:
    """The figures of a stretch of time, and the rules and misses behind them. Money in the base currency."""

    start: str
    end: str
    events: int
    payments: int
    gross_value: float
    labelled: int
    fraud: int
    fraud_value: float
    loss: float
    loss_bps: float | None
    capture_by_value: float | None
    chargebacks: int
    chargeback_ratio: float | None
    insults: int
    insult_rate: float | None
    reviews: int
    reviews_per_day: float
    review_capacity_per_day: int | None
    net_saving: float
    time_to_detect_s: float | None  # median of those that were detected
    detected: float | None  # share of entities with fraud that were denied, held or reviewed
    actions: dict[str, int] = field(default_factory=dict)
    days: list[dict[str, Any]] = field(default_factory=list)
    rules: list[dict[str, Any]] = field(default_factory=list)
    misses: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class _Rows:
    """Decisions of the stretch as columns, with what is known about each."""

    ts: np.ndarray  # int64 ms
    type: np.ndarray
    action: np.ndarray  # int, index into ACTIONS
    fraud: np.ndarray  # bool
    labelled: np.ndarray  # bool
    loss: np.ndarray  # what the event cost or would have cost: the label's amount, else the event's own
    amount: np.ndarray  # the event's own money
    who: np.ndarray  # int code of the entity, -1 unknown
    reasons: np.ndarray  # lists of rule ids
    event_id: np.ndarray
    names: np.ndarray  # entity behind each event, as text


def report(
    data: Path | str, policy: Policy, since_ms: int, db: str | None = None, money: str | None = "amount"
) -> Report:
    """Judge the last `since_ms` before the latest decision of a data folder. Raises UsageError when it holds no decision."""
    from shopward.store.query import connect

    with connect(data, db) as connection:
        latest = connection.execute("SELECT max(epoch_ms(ts)) FROM decisions").fetchone()
        if latest is None or latest[0] is None:
            raise UsageError(f"{data} holds no decisions: run `shopward serve` or `shopward decide --data` first")
        end = int(latest[0])
        rows = _read(connection, end - since_ms, money)
    return _judge(rows, policy, end - since_ms, end)


def _read(connection: duckdb.DuckDBPyConnection, start: int, money: str | None) -> _Rows:
    have = {row[0] for row in connection.execute("DESCRIBE events").fetchall()}
    amount = f'coalesce(e."{money}", 0)::DOUBLE' if money in have else "0.0"
    who = next((f'e."{name}"' for name in _DETECT_BY if name in have), "NULL")
    found = connection.execute(
        f"""WITH known AS (
              SELECT event_id, arg_max(label, (label_ts, seq)) AS label, arg_max(amount, (label_ts, seq)) AS amount
              FROM labels GROUP BY event_id)
            SELECT epoch_ms(d.ts) AS ts, d.type, d.action, d.reasons, d.event_id, {amount} AS amount, coalesce({who}, '') AS who,
                   k.label IS NOT NULL AS labelled, coalesce(k.label, 0) = 1 AS fraud,
                   coalesce(k.amount, {amount})::DOUBLE AS loss
            FROM decisions d JOIN events e USING (seq) LEFT JOIN known k ON k.event_id = d.event_id
            WHERE epoch_ms(d.ts) >= ? ORDER BY d.seq""",
        [start],
    ).fetchnumpy()
    plain = {name: np.ma.filled(column) if np.ma.isMaskedArray(column) else column for name, column in found.items()}
    code = {name: i for i, name in enumerate(ACTIONS)}
    names, who_code = np.unique(plain["who"].astype(str), return_inverse=True)
    return _Rows(
        ts=plain["ts"].astype(np.int64), type=plain["type"].astype(str),
        action=np.array([code[a] for a in plain["action"]], np.int64), fraud=plain["fraud"].astype(bool),
        labelled=plain["labelled"].astype(bool), loss=plain["loss"].astype(float), amount=plain["amount"].astype(float),
        who=np.where(names[who_code] == "", -1, who_code), reasons=plain["reasons"], event_id=plain["event_id"].astype(str),
        names=plain["who"].astype(str),
    )  # fmt: skip


def _judge(rows: _Rows, policy: Policy, start: int, end: int) -> Report:
    from shopward.event import format_time

    sums = metrics.tally(rows.action, rows.fraud, rows.loss, policy)[0]
    lost = float(metrics.column(sums, "lost_value"))
    paid, disputed = rows.type == "payment", rows.type == "chargeback"
    settled = paid & (rows.action < metrics.HOLD)
    gross = float(rows.amount[paid].sum())
    seconds = metrics.time_to_detect(rows.who, rows.ts, rows.action, rows.fraud)
    seen = seconds[np.isfinite(seconds)]
    days = max((end - start) / DAY_MS, 1.0)
    reviews = int(metrics.column(sums, "reviewed"))
    return Report(
        start=format_time(start), end=format_time(end), events=len(rows.ts), payments=int(paid.sum()), gross_value=round(gross, 2),
        labelled=int(rows.labelled.sum()), fraud=int(rows.fraud.sum()), fraud_value=round(float(metrics.column(sums, "fraud_value")), 2),
        loss=round(lost, 2), loss_bps=_part(10_000 * lost, gross, 2),
        capture_by_value=_rounded(float(metrics.rate(sums, "capture_by_value")), 4),
        chargebacks=int(disputed.sum()), chargeback_ratio=_part(int(disputed.sum()), int(settled.sum()), 5),
        insults=int(metrics.column(sums, "insults")), insult_rate=_rounded(float(metrics.rate(sums, "insult_rate")), 6),
        reviews=reviews, reviews_per_day=round(reviews / days, 1), review_capacity_per_day=policy.review_capacity_per_day,
        net_saving=round(float(metrics.saving(sums, policy)), 2),
        time_to_detect_s=round(float(np.median(seen)), 1) if len(seen) else None, detected=_part(len(seen), len(seconds), 3),
        actions={name: int((rows.action == i).sum()) for i, name in enumerate(ACTIONS)},
        days=_days(rows, policy), rules=_rules(rows, policy), misses=_misses(rows, policy),
    )  # fmt: skip


def _part(a: float, b: float, digits: int) -> float | None:
    return round(float(a) / float(b), digits) if b else None


def _rounded(value: float, digits: int) -> float | None:
    return round(value, digits) if np.isfinite(value) else None


def _days(rows: _Rows, policy: Policy) -> list[dict[str, Any]]:
    """The same figures day by day, UTC."""
    from shopward.event import format_time

    if not len(rows.ts):
        return []
    number = rows.ts // DAY_MS
    first = int(number.min())
    group = (number - first).astype(np.int64)
    n = int(group.max()) + 1
    sums = metrics.tally(rows.action, rows.fraud, rows.loss, policy, group, n)
    gross = np.bincount(group, np.where(rows.type == "payment", rows.amount, 0.0), n)
    insult, reviews = metrics.rate(sums, "insult_rate"), metrics.column(sums, "reviewed")
    lost, caught = metrics.column(sums, "lost_value"), metrics.column(sums, "stopped_value")
    return [
        {
            "date": format_time((first + i) * DAY_MS)[:10], "events": int(sums[i][0]), "gross_value": round(float(gross[i]), 2),
            "loss": round(float(lost[i]), 2), "stopped": round(float(caught[i]), 2),
            "loss_bps": _part(10_000 * float(lost[i]), float(gross[i]), 2), "insult_rate": _rounded(float(insult[i]), 6),
            "reviews": int(reviews[i]),
        }
        for i in range(n)
    ]  # fmt: skip


def _rules(rows: _Rows, policy: Policy) -> list[dict[str, Any]]:
    """Every rule that fired, by the value of the fraud among its hits."""
    share = metrics.stopped_share(rows.action, policy)
    found: dict[str, list[float]] = {}
    for i in np.flatnonzero([len(r) > 0 for r in rows.reasons]):
        for rule in rows.reasons[i]:
            row = found.setdefault(str(rule), [0, 0, 0, 0.0])
            row[0] += 1
            row[1] += rows.fraud[i]
            row[2] += rows.labelled[i]
            row[3] += rows.loss[i] * share[i] if rows.fraud[i] else 0.0
    table = [
        {"rule": rule, "fired": int(n), "fraud": int(f), "labelled": int(known), "precision": _part(f, n, 3), "stopped": round(float(v), 2)}
        for rule, (n, f, known, v) in found.items()
    ]  # fmt: skip
    return sorted(table, key=lambda r: (-r["stopped"], -r["fired"], r["rule"]))


def _misses(rows: _Rows, policy: Policy) -> list[dict[str, Any]]:
    """The entities whose fraud got through, by what it cost, each with its dearest event."""
    through = np.where(rows.fraud, rows.loss * (1 - metrics.stopped_share(rows.action, policy)), 0.0)
    at = np.flatnonzero(through > 0)
    whom: dict[str, list[int]] = {}
    for i in at:
        whom.setdefault(str(rows.names[i]), []).append(int(i))
    from shopward.event import format_time

    table: list[dict[str, Any]] = []
    for name, mine in whom.items():
        worst = max(mine, key=lambda i: through[i])
        told = {"entity": name or "(unknown)", "events": len(mine), "lost": round(float(through[mine].sum()), 2)}
        told |= {
            "event_id": str(rows.event_id[worst]),
            "type": str(rows.type[worst]),
            "ts": format_time(int(rows.ts[worst])),
        }
        told["action"] = ACTIONS[int(rows.action[worst])]
        table.append(told)
    return sorted(table, key=lambda m: (-m["lost"], m["entity"]))[:MOST]
