"""The shipped rulebook on synthetic marketplaces: what it catches of whom, whom it bothers, and how fast it is.

    python -m benchmarks.rulebook                    building seeds, both adversaries, then speed
    python -m benchmarks.rulebook --seeds 1001-1005  other seeds
    python -m benchmarks.rulebook --only results     without the speed

Captured, insult and caught are the words of `shopward/metrics.py`. Truth is complete here: every label counts, also those that
become known after the market's end. Rules decide without labels unless `--labels` lets them enter when they became known.
The peer of the speed is the same rules as generated Python over the same feature values, without the features. So
`ratio_rules_only` says how much slower a plain loop over all rules would be, had it the features for nothing.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks.report import finish
from benchmarks.rules import ours as as_python
from shopward import Engine, Rulebook, metrics
from shopward.market import generate

PYTHON_EVENTS = 3_000
BUILDING = "1-5"
DAYS, ACCOUNTS = 30, 12_000
PRECISE = 0.05  # a live rule that is right less often than this should be in shadow


# ---- what it catches


def results(rulebook: Rulebook, seeds: list[int], labelled: bool, days: int = DAYS, accounts: int = ACCOUNTS) -> dict:
    """Captured, insulted, caught per adversary and kind of campaign; and what every rule did over all markets."""
    rules, out = Rules(rulebook), {}
    for adversary in ("normal", "hard"):
        markets = [Market(rulebook) for _ in seeds]
        for seed, market in zip(seeds, markets, strict=True):
            with tempfile.TemporaryDirectory() as folder:
                generate(Path(folder), seed=seed, days=days, accounts=accounts, adversary=adversary, access_log=False)
                market.judge(Engine(rulebook, mode="compiled"), Path(folder), labelled, rules)
        out[adversary] = _together(markets)
    return out | {"firing": rules.table(), "seeds": seeds, "days": days, "accounts": accounts, "labels": labelled}


class Market:
    """One market, decided and judged against its truth."""

    def __init__(self, rulebook: Rulebook):
        self.rulebook = rulebook
        self.sums = np.zeros(len(metrics.COLUMNS))
        self.campaigns: list[dict] = []

    def judge(self, engine: Engine, place: Path, labelled: bool, rules: Rules) -> None:
        truth, kinds = _truth(place)
        labels = place / "truth" / "event_labels.parquet" if labelled else None
        steps: dict[str, list[tuple[int, int, float]]] = defaultdict(list)
        silent = set(kinds)
        for batch in engine.read([place / "events.ndjson"], labels=labels):
            decisions = engine.decide_batch(batch)
            known = [truth.get(batch.event_ids[row], ("", 0.0)) for row in decisions.rows.tolist()]
            fraud = np.array([bool(campaign) for campaign, _ in known])
            amount = np.array([worth for _, worth in known])
            self.sums += metrics.tally(decisions.action, fraud, amount, self.rulebook.policy)[0]
            rules.count(decisions, fraud)
            for i in np.flatnonzero(fraud).tolist():
                campaign, worth = known[i]
                row = int(decisions.rows[i])
                steps[campaign].append((int(batch.ts[row]), int(decisions.action[i]), worth))
                if decisions.hits[i].any():
                    silent.discard(campaign)
        for campaign, rows in steps.items():
            t, action, worth = (np.array(column) for column in zip(*sorted(rows), strict=True))
            found = metrics.campaign_result(t, action, worth, self.rulebook.policy)
            self.campaigns.append(
                {"kind": kinds[campaign], "caught": found.caught, "loss": found.loss, "kept": found.loss_prevented,
                 "silent": campaign in silent}
            )  # fmt: skip


def _truth(place: Path) -> tuple[dict[str, tuple[str, float]], dict[str, str]]:
    """(campaign, amount) of each fraudulent event, and the kind of each campaign."""
    import pyarrow.parquet as pq

    labels = pq.read_table(place / "truth" / "event_labels.parquet").to_pylist()
    campaigns = pq.read_table(place / "truth" / "campaigns.parquet", columns=["id", "kind"]).to_pylist()
    events = {r["event_id"]: (r["campaign"], float(r["amount"] or 0.0)) for r in labels if r["label"] == 1}
    return events, {r["id"]: r["kind"] for r in campaigns}


def _together(markets: list[Market]) -> dict:
    sums = np.sum([m.sums for m in markets], axis=0)
    campaigns = [c for m in markets for c in m.campaigns]
    kinds = {}
    for kind in sorted({c["kind"] for c in campaigns}):
        mine = [c for c in campaigns if c["kind"] == kind]
        kinds[kind] = {
            "campaigns": len(mine), "caught": sum(c["caught"] for c in mine), "silent": sum(c["silent"] for c in mine),
            "loss": round(sum(c["loss"] for c in mine), 2), "kept": round(sum(c["kept"] for c in mine), 2),
        }  # fmt: skip
    return {
        "captured_by_value": float(metrics.rate(sums, "capture_by_value")),
        "captured_by_market": [round(float(metrics.rate(m.sums, "capture_by_value")), 4) for m in markets],
        "insult_rate": float(metrics.rate(sums, "insult_rate")),
        "review_rate": float(metrics.rate(sums, "review_rate")),
        "caught": sum(c["caught"] for c in campaigns) / len(campaigns),
        "below_every_threshold": sum(c["silent"] for c in campaigns) / len(campaigns),
        "campaigns": len(campaigns),
        "kinds": kinds,
    }


class Rules:
    """How often each rule fired, and how often it was right, over all markets."""

    def __init__(self, rulebook: Rulebook):
        self.rulebook = rulebook
        self.fired: dict[str, int] = dict.fromkeys(rulebook.rules, 0)
        self.right: dict[str, int] = dict.fromkeys(rulebook.rules, 0)

    def count(self, decisions, fraud: np.ndarray) -> None:
        for i in np.flatnonzero(decisions.hits.any(axis=1)).tolist():
            for rule in decisions.rules.fired(decisions.hits[i]):
                self.fired[rule.id] += 1
                self.right[rule.id] += bool(fraud[i])

    def table(self) -> dict:
        precision = {r: self.right[r] / n for r, n in self.fired.items() if n}
        live = {r.id for r in self.rulebook.rules.values() if r.state == "live"}
        return {
            "never_fired": sorted(r for r, n in self.fired.items() if not n),
            "live_below_5_percent": {
                r: [self.fired[r], round(p, 4)] for r, p in sorted(precision.items()) if p < PRECISE and r in live
            },
            "fired": {r: [n, round(precision[r], 4)] for r, n in sorted(self.fired.items()) if n},
        }


# ---- how fast it is


def speed(rulebook: Rulebook, quick: bool) -> dict:
    """Events a second of features, and of features, rules and reasons together; reading is timed apart."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), seed=5, days=10, accounts=8_000 if quick else 60_000, access_log=False)
        events, labels = [Path(folder) / "events.ndjson"], Path(folder) / "truth" / "event_labels.parquet"
        rounds = [_once(rulebook, events, labels) for _ in range(1 if quick else 3)]
    middle = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
    n, python = middle.pop("events"), _python(rulebook)
    return {
        "events": int(n),
        "features": len(rulebook.features),
        "rules": len(rulebook.rules),
        "events_per_s": n / middle["decide_s"],
        "features_only_per_s": n / middle["compute_s"],
        "read_per_s": n / middle["read_s"],
        "python_rules_per_s": python,
        "ratio_rules_only": n / middle["decide_s"] / python,
    }


def _once(rulebook: Rulebook, events: list[Path], labels: Path) -> dict:
    """CPU seconds (the machine is shared) of reading, of features alone, and of the decision with everything."""
    took = {}
    for name in ("compute", "decide"):
        engine = Engine(rulebook, mode="compiled")
        before = time.process_time()
        batches = list(engine.read(events, labels=labels))
        took["read_s"] = time.process_time() - before
        step = engine.compute if name == "compute" else engine.decide_batch
        before = time.process_time()
        for batch in batches:
            step(batch)
        took[f"{name}_s"] = time.process_time() - before
        took["events"] = sum(batch.n for batch in batches)
    return took


def _python(rulebook: Rulebook) -> float:
    """Events a second of every rule that reads only numbers, in generated Python over ready values."""
    kept = Rulebook.from_files(dict(rulebook.files))
    numbers = {name for name, f in rulebook.features.items() if f.type == "number"}
    kept.rules = {
        r.id: r
        for r in kept.rules.values()
        if set(r.when.features) <= numbers and not r.when.fields and not r.when.lists
    }
    rng = np.random.default_rng(3)
    values = [dict.fromkeys(numbers, 0.0) | {name: float(v) for name, v in zip(numbers, rng.exponential(2.0, len(numbers)), strict=True)} for _ in range(PYTHON_EVENTS)]  # fmt: skip
    fire, before = as_python(kept), time.process_time()
    for value in values:
        fire(value)
    return PYTHON_EVENTS / (time.process_time() - before)


def _seeds(text: str) -> list[int]:
    """`3`, `1-5` or `1,4,9`.

    >>> _seeds("1-3,8")
    [1, 2, 3, 8]
    """
    out: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        out += range(int(first), int(last or first) + 1)
    return out


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under 55 s: one small market of each kind")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--only", choices=["results", "speed"], help="leave out the other")
    parser.add_argument("--seeds", type=_seeds, default=None, help=f"which markets (default: {BUILDING})")
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument("--accounts", type=int, default=ACCOUNTS)
    parser.add_argument("--labels", action="store_true", help="labels enter when they became known")
    return parser.parse_args()


def run(args: argparse.Namespace) -> dict:
    rulebook, out = Rulebook.default(), {}
    if args.only != "speed":
        seeds = args.seeds or ([1] if args.quick else _seeds(BUILDING))
        days, accounts = (14, 6_000) if args.quick else (args.days, args.accounts)
        out |= results(rulebook, seeds, args.labels, days, accounts)
    if args.only != "results":
        out |= speed(rulebook, args.quick)
    return out


def flat(found: dict, before: str = "") -> dict:
    """Nested results as one level of dotted names, so that every number has a line."""
    out = {}
    for key, value in found.items():
        out |= flat(value, f"{before}{key}.") if isinstance(value, dict) and value else {f"{before}{key}": value}
    return out


if __name__ == "__main__":
    arguments = _arguments()
    finish("rulebook", flat(run(arguments)), arguments.json)
