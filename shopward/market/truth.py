"""What really happened: which events were fraud, whose campaign, when anybody learnt of it, and who only looked suspicious.

truth/campaigns.parquet      one row a campaign with its loss and the attacker's books
truth/event_labels.parquet   one row a judged event; label_ts is when the label became known, often after the market's end
truth/steps.parquet          every step of every campaign in order
truth/actors.parquet         entity, campaign, role
truth/lookalikes.parquet     honest entities that look like fraud, and why
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shopward.market.campaigns import TECHNIQUES, Script
from shopward.market.lines import event_ids
from shopward.market.rows import CODE, SOURCES, TYPES, stack
from shopward.market.texts import Texts, choices, ips

_TS = pa.timestamp("ms", tz="UTC")
_ID_KIND = {"bank_account": "bank"}


class Truth:
    """Collects the judged rows of each day, then writes the tables."""

    def __init__(self, texts: Texts, scripts: list[Script], lookalikes: list[tuple[str, int, str]], hard: bool):
        self._texts, self._scripts, self._lookalikes, self._hard = texts, scripts, lookalikes, hard
        self._rows: list[np.ndarray] = []
        self._numbers: list[np.ndarray] = []

    def note(self, first: int, rows: np.ndarray) -> None:
        """Remember the judged rows of a day whose first event has number `first`."""
        judged = np.flatnonzero(rows["label"] >= 0)
        self._rows.append(rows[judged])
        self._numbers.append(first + judged)

    def tables(self) -> dict[str, pa.Table]:
        """The five tables by name."""
        rows, numbers = (
            stack(self._rows),
            np.concatenate([*self._numbers, np.empty(0, dtype=np.int64)]).astype(np.int64),
        )
        fraud = rows["label"] == 1
        return {
            "campaigns": self._campaigns(rows[fraud]),
            "event_labels": self._labels(rows, numbers),
            "steps": self._steps(rows[fraud], numbers[fraud]),
            "actors": self._actors(),
            "lookalikes": self._odd(),
        }

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in self.tables().items():
            pq.write_table(table, folder / f"{name}.parquet", compression="zstd")

    def _campaigns(self, rows: np.ndarray) -> pa.Table:
        by = [rows[rows["campaign"] == script.code] for script in self._scripts]
        return pa.table({
            "id": pa.array([campaign_id(s.code) for s in self._scripts], pa.string()),
            "kind": pa.array([s.kind for s in self._scripts], pa.string()),
            "start": pa.array([_edge(r, np.min) for r in by], _TS),
            "end": pa.array([_edge(r, np.max) for r in by], _TS),
            "loss": pa.array([int(r["loss"].sum()) / 100 for r in by], pa.float64()),
            "techniques": pa.array([s.techniques for s in self._scripts], pa.list_(pa.string())),
            "adversary": pa.array(["hard" if self._hard else "normal"] * len(by), pa.string()),
            "cost": pa.array([round(s.books.cost, 2) for s in self._scripts], pa.float64()),
            "revenue": pa.array([round(s.books.revenue, 2) for s in self._scripts], pa.float64()),
            "break_even": pa.array([round(s.books.break_even, 2) for s in self._scripts], pa.float64()),
            "successes": pa.array([s.books.successes for s in self._scripts], pa.int64()),
            "caution": pa.array([round(s.caution, 2) for s in self._scripts], pa.float64()),
            "waves": pa.array([s.waves for s in self._scripts], pa.int64()),
            "adaptations": pa.array([s.adaptations for s in self._scripts], pa.list_(pa.string())),
            "events": pa.array([len(r) for r in by], pa.int64()),
            **{f"{k}s": pa.array([len(np.unique(r[k][r[k] >= 0])) for r in by], pa.int64()) for k in ("account", "device", "ip")},
        })  # fmt: skip

    def _labels(self, rows: np.ndarray, numbers: np.ndarray) -> pa.Table:
        fraud = rows["label"] == 1
        return pa.table({
            "event_id": event_ids(numbers),
            "label": pa.array(rows["label"].astype(np.int8)),
            "label_ts": pa.array(np.ascontiguousarray(rows["label_t"]), _TS),
            "source": choices(SOURCES, rows["source"]),
            "campaign": _campaign_ids(np.where(fraud, rows["campaign"], -1)),
            "amount": pa.array(rows["loss"] / 100, mask=~fraud),
        })  # fmt: skip

    def _steps(self, rows: np.ndarray, numbers: np.ndarray) -> pa.Table:
        order = np.lexsort((numbers, rows["t"], rows["campaign"]))
        rows, numbers = rows[order], numbers[order]
        starts = np.flatnonzero(np.diff(rows["campaign"], prepend=-1))
        place = np.arange(len(rows)) - np.repeat(starts, np.diff(starts, append=len(rows)))
        failed = rows["success"] == 0
        action = pc.binary_join_element_wise(
            choices(TYPES, rows["type"]), pc.if_else(pa.array(failed), "_failed", ""), ""
        )
        return pa.table({
            "campaign": _campaign_ids(rows["campaign"]),
            "order": pa.array(place + 1),
            "ts": pa.array(np.ascontiguousarray(rows["t"]), _TS),
            "actor": self._named("device", rows["device"]),
            "action": action,
            "target": self._targets(rows),
            "event_id": event_ids(numbers),
            "technique": choices(TECHNIQUES, rows["technique"]),
        })  # fmt: skip

    def _targets(self, rows: np.ndarray) -> pa.Array:
        """What a step was done to: the shop of an order, the bank account of a payout, the coupon, else the account."""
        kind = rows["type"]
        shop = np.isin(kind, [CODE["order"], CODE["payment"], CODE["payment_failed"], CODE["session_view"]])
        paid, claimed = kind == CODE["seller_payout"], kind == CODE["coupon_claim"]
        target = self._named("account", np.where(shop, rows["seller"], rows["account"]))
        target = pc.if_else(pa.array(paid), self._named("bank_account", rows["bank"]), target)
        return pc.if_else(pa.array(claimed), self._named("coupon", rows["coupon"]), target)

    def _named(self, kind: str, codes: np.ndarray) -> pa.Array:
        return self._texts.ids(_ID_KIND.get(kind, kind), codes, f"{kind}:")

    def _actors(self) -> pa.Table:
        rows = [(kind, code, role, s.code) for s in self._scripts for kind, code, role in s.actors]
        return pa.table({
            "entity": self._entities([(kind, code) for kind, code, _, _ in rows]),
            "campaign": pa.array([campaign_id(code) for _, _, _, code in rows], pa.string()),
            "role": pa.array([role for _, _, role, _ in rows], pa.string()),
        })  # fmt: skip

    def _odd(self) -> pa.Table:
        return pa.table({
            "entity": self._entities([(kind, code) for kind, code, _ in self._lookalikes]),
            "kind": pa.array([why for _, _, why in self._lookalikes], pa.string()),
        })  # fmt: skip

    def _entities(self, pairs: list[tuple[str, int]]) -> pa.Array:
        """`kind:id` of each pair."""
        out = np.empty(len(pairs), dtype=object)
        codes = np.array([code for _, code in pairs], dtype=np.int64)
        kinds = np.array([kind for kind, _ in pairs], dtype=object)
        for kind in sorted(set(kinds.tolist())):
            at = np.flatnonzero(kinds == kind)
            text = (
                pc.binary_join_element_wise("ip:", ips(codes[at]), "") if kind == "ip" else self._named(kind, codes[at])
            )
            out[at] = text.to_pylist()
        return pa.array(out.tolist(), pa.string())


def campaign_id(code: int) -> str:
    return f"campaign-{code:03d}"


def _campaign_ids(codes: np.ndarray) -> pa.Array:
    return pa.array([campaign_id(code) if code > 0 else None for code in codes.tolist()], pa.string())


def _edge(rows: np.ndarray, which: object) -> int | None:
    return int(which(rows["t"])) if len(rows) else None  # type: ignore[operator]
