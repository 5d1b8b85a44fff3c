"""The lake: how small it is against the NDJSON it was made of, and how fast DuckDB answers over fifty million rows of it.

Size: events of the synthetic marketplace, each with a random id of 128 bits (as a shop's uuid would be), through the log, compacted and
merged. Query: one day of one type, grouped, over files written the way the lake writes them; they are removed afterwards.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.report import finish, options

START, DAY = 1_767_225_600_000, 86_400_000
TYPES = ("login", "payment", "order", "view", "search")
CHUNK = 1 << 16


def records(folder: Path, events: int) -> list[dict]:
    """A market's events with random ids."""
    from shopward.market import generate

    generate(folder, seed=5, days=12, accounts=events // 14, events=events, access_log=False)
    rng = random.Random(11)
    lines = (folder / "events.ndjson").read_bytes().splitlines()
    return [msgspec.json.decode(line) | {"event_id": f"{rng.getrandbits(128):032x}"} for line in lines]


def size(events: int) -> dict[str, float]:
    """Bytes an event as NDJSON and in lake/events."""
    from shopward import Rulebook
    from shopward.event import parse_time
    from shopward.store.frames import Frame, canonical
    from shopward.store.lake import compact
    from shopward.store.lake_merge import merge
    from shopward.store.log import Log
    from shopward.store.rows import columns_of

    with tempfile.TemporaryDirectory() as name:
        data = Path(name)
        found = records(data / "market", events)
        plain = sum(len(msgspec.json.encode(record)) + 1 for record in found)
        with Log.open(data / "log") as log:
            log.append(
                Frame("switch", 0, START, meta={"rulebook": "", "columns": columns_of(Rulebook.default().schema)})
            )
            for at in range(0, len(found), CHUNK):
                part = found[at : at + CHUNK]
                for record in part:
                    record["ts"] = parse_time(record["ts"])
                ids, t = [r["event_id"] for r in part], [r["ts"] for r in part]
                log.append(Frame.of_events(log.next_seq, t[-1], canonical(part), t, ids, [None] * len(part)))
            log.sync()
        compact(data)
        compacted = _bytes(data / "lake" / "events")
        merge(data)
        lake = _bytes(data / "lake" / "events")
    return {"size_events": len(found), "ndjson_bytes_an_event": plain / len(found), "lake_bytes_an_event": lake / len(found),
            "ratio_ndjson_compacted": plain / compacted, "ratio_ndjson": plain / lake}  # fmt: skip


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.parquet"))


def query(rows: int, folder: Path) -> dict[str, float]:
    """Seconds of one day of one type, grouped, over `rows` rows of 20 days and five types; and of a first query of all."""
    import duckdb

    _write(rows, folder)
    files = f"read_parquet('{folder}/events/*/*/*.parquet', hive_partitioning = true, hive_types = {{'type': 'VARCHAR', 'date': 'DATE'}})"
    day = f"SELECT country, count(*) AS n, sum(amount) AS spent, approx_count_distinct(account) AS who FROM {files} WHERE type = 'payment' AND date = DATE '2026-01-08' GROUP BY country"
    took = []
    with duckdb.connect() as db:
        for _ in range(5):
            before = time.perf_counter()
            found = db.execute(day).fetchall()
            took.append(time.perf_counter() - before)
    assert sum(row[1] for row in found) == rows // 20 // len(TYPES)
    return {"rows": rows, "files": len(list(folder.rglob("*.parquet"))), "lake_gb": _bytes(folder) / 1e9, "query_first_s": took[0],
            "query_s": statistics.median(took[1:])}  # fmt: skip


def _write(rows: int, folder: Path) -> None:
    """Days of the same columns; one day of each type is made and written again for every day, so that fifty million rows take a minute."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from shopward.store.lake import parquet_options

    n, rng = rows // 20 // len(TYPES), np.random.default_rng(3)
    ids = np.frombuffer(rng.bytes(16 * n), np.uint8).reshape(n, 16)
    words = pa.array([bytes(row).hex() for row in ids])
    account = pa.array([f"a{i:07d}" for i in range(200_000)]).take(pa.array(rng.integers(0, 200_000, n)))
    country = pa.array(["DE", "FR", "US", "BR", "IN", "CN"]).take(pa.array(rng.integers(0, 6, n)))
    amount = pa.array(np.round(rng.exponential(60, n), 2)).cast(pa.decimal128(18, 2), safe=False)
    for place, kind in enumerate(TYPES):
        for day in range(20):
            t = START + day * DAY + np.sort(rng.integers(0, DAY, n))
            table = pa.table({"seq": np.arange(n) * len(TYPES) + place, "t": t, "event_id": words, "ts": pa.array(t, pa.timestamp("ms", "UTC")),
                              "account": account, "country": country, "amount": amount})  # fmt: skip
            path = folder / "events" / f"type={kind}" / f"date=2026-01-{day + 1:02d}" / "part-0.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            if day:
                shutil.copyfile(folder / "events" / f"type={kind}" / "date=2026-01-01" / "part-0.parquet", path)
            else:
                pq.write_table(table, path, **parquet_options(table))


def run(quick: bool) -> dict:
    found = size(60_000 if quick else 300_000)
    folder = Path(tempfile.mkdtemp(prefix="shopward-lake-", dir=os.environ.get("TMPDIR")))
    try:
        return found | query(5_000_000 if quick else 50_000_000, folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    args = options(__doc__ or "")
    finish("lake", run(args.quick), args.json)
