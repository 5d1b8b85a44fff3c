"""What the live look at traffic adds to decisions: campaigns of the synthetic marketplace with and without its verdicts.

    python -m benchmarks.traffic.live [--quick] [--json] [--seeds 601 602]

The market's own bot verdicts are taken out. Its access log goes through the watch in order of time; the verdicts and list entries that
come out enter the stream of events at the time of their request. Everything else is the same in both runs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.report import finish
from shopward import Engine, Rulebook, metrics
from shopward.event import parse_time
from shopward.ingest import DeadLetters
from shopward.market import generate
from shopward.traffic.live import Watch

TRAFFIC = ("account_takeover", "card_testing", "catalogue_scraping", "seckill_bots", "sms_pumping", "account_farming", "ad_click_fraud")  # fmt: skip
CHALLENGE, DENY = 2, 5


def watched(place: Path) -> tuple[list[dict], list, dict]:
    """Verdict events and list entries of a market's access log, and what is to be said about them."""
    truth = {r["request_id"]: r for r in pq.read_table(place / "truth/request_labels.parquet").to_pylist()}
    lines = list(enumerate((place / "access.ndjson").read_bytes().splitlines(), 1))
    watch, events, entries = Watch(), [], []
    started = time.process_time()
    for at in range(0, len(lines), 1000):
        taken = watch.take(lines[at : at + 1000])
        events += taken.events
        entries += taken.entries
    seconds = time.process_time() - started
    wrong = Counter(e["verdict"] for e in events if not truth.get(e["request_id"], {}).get("attack"))
    told = {"requests": len(lines), "requests_per_cpu_s": len(lines) / seconds, "verdicts": len(events), "verdicts_on_honest": sum(wrong.values()),
            "honest_by_verdict": dict(wrong), "entries": len(entries)}  # fmt: skip
    return events, entries, told


def merged(place: Path, verdicts: list[dict], out: Path) -> Path:
    """The market's events without its own verdicts, with these at their time of arrival."""
    waiting = sorted(verdicts, key=lambda e: e["ts"])
    at, clock = 0, 0
    with (place / "events.ndjson").open() as source, out.open("w") as sink:
        for line in source:
            event = json.loads(line)
            if event["type"] == "traffic_verdict":
                continue
            clock = max(clock, parse_time(event["ts"]))
            while at < len(waiting) and waiting[at]["ts"] <= clock:
                sink.write(json.dumps(waiting[at]) + "\n")
                at += 1
            sink.write(line)
    return out


def decided(rulebook: Rulebook, place: Path, events: Path, entries: list) -> dict:
    """How every campaign fared, and how many honest events were bothered."""
    labels = {r["event_id"]: r for r in pq.read_table(place / "truth/event_labels.parquet").to_pylist()}
    rows: dict[str, list[tuple[int, int, float]]] = defaultdict(list)
    engine = Engine(rulebook, mode="auto")
    engine.write_lists([e for e in entries if e.list in rulebook.lists])  # each holds from its own time on
    honest = bothered = 0
    for batch in engine.read([events], dead=DeadLetters(None)):
        decisions = engine.decide_batch(batch)
        for row, action in zip(decisions.rows.tolist(), decisions.action.tolist(), strict=True):
            label = labels.get(batch.event_ids[row])
            if label is None or label["label"] != 1:
                honest += 1
                bothered += action in (CHALLENGE, DENY - 1, DENY)
            elif label["campaign"]:
                rows[label["campaign"]].append((int(batch.t[row]), action, float(label["amount"] or 0)))
    found = {}
    for campaign in pq.read_table(place / "truth/campaigns.parquet").to_pylist():
        mine = rows.get(campaign["id"])
        if mine:
            ts, action, amount = (np.array(column) for column in zip(*mine, strict=True))
            found[campaign["kind"]] = metrics.campaign_result(ts, action.astype(np.int8), amount, rulebook.policy)
    return {"campaigns": found, "insult": bothered / honest}


def one(rulebook: Rulebook, seed: int, days: int, accounts: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        generate(place, seed=seed, days=days, accounts=accounts)
        verdicts, entries, told = watched(place)
        without = decided(rulebook, place, merged(place, [], place / "without.ndjson"), [])
        with_ = decided(rulebook, place, merged(place, verdicts, place / "with.ndjson"), entries)
    return {"told": told, "without": without, "with": with_}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+")
    asked = parser.parse_args()
    days, accounts = (10, 1500) if asked.quick else (14, 4000)
    rulebook = Rulebook.default()
    runs = [one(rulebook, seed, days, accounts) for seed in asked.seeds or ([601] if asked.quick else [601, 602])]
    result: dict = {
        key: sum(r["told"][key] for r in runs) for key in ("requests", "verdicts", "verdicts_on_honest", "entries")
    }
    result["requests_per_cpu_s"] = float(np.median([r["told"]["requests_per_cpu_s"] for r in runs]))
    for name in ("without", "with"):
        kinds = [(k, c) for r in runs for k, c in r[name]["campaigns"].items()]
        ours = [c for k, c in kinds if k in TRAFFIC]
        result |= {
            f"caught_{name}": f"{sum(c.caught for _, c in kinds)}/{len(kinds)}", f"traffic_caught_{name}": f"{sum(c.caught for c in ours)}/{len(ours)}",
            f"traffic_loss_prevented_{name}": sum(c.loss_prevented for c in ours) / sum(c.loss for c in ours),
            f"loss_prevented_{name}": sum(c.loss_prevented for _, c in kinds) / sum(c.loss for _, c in kinds),
            f"insult_rate_{name}": float(np.mean([r[name]["insult"] for r in runs])),
        }  # fmt: skip
    for kind in TRAFFIC:
        pairs = [(r["without"]["campaigns"].get(kind), r["with"]["campaigns"].get(kind)) for r in runs]
        result[kind] = "; ".join(_shown(a, b) for a, b in pairs if a and b)
    result["honest_by_verdict"] = str([r["told"]["honest_by_verdict"] for r in runs])
    finish("traffic.live", result, asked.json)


def _shown(before, after) -> str:
    return " -> ".join(
        f"{'caught' if c.caught else 'missed'} {c.loss_prevented:.0f} of {c.loss:.0f}"
        + (f", seen after {c.first_detection_s / 60:.0f} min" if c.first_detection_s is not None else "")
        for c in (before, after)
    )


if __name__ == "__main__":
    main()
