"""The synthetic marketplace: a million events without the access log, and (not --quick) with it, and ten million; seconds, CPU and memory of whole processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time

from benchmarks.report import finish, options

SIZES = {  # name: accounts, days, events, access log, run when quick
    "one_million": (60_000, 30, 1_000_000, False, True),
    "one_million_with_access_log": (60_000, 30, 1_000_000, True, False),
    "ten_million": (300_000, 30, 10_000_000, False, False),
}


def run(quick: bool) -> dict:
    found: dict[str, float] = {}
    for name, (accounts, days, events, access_log, always) in SIZES.items():
        if always or not quick:
            found |= {f"{name}_{key}": value for key, value in _measure(accounts, days, events, access_log).items()}
    return found


def _measure(accounts: int, days: int, events: int, access_log: bool) -> dict[str, float]:
    """One process: what it made and what it took."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "shopward", "market", folder, "--seed", "5", "--days", str(days), "--accounts", str(accounts), "--events",
                   str(events), "--access-log" if access_log else "--no-access-log", "--json"]  # fmt: skip
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        out = process.stdout.read() if process.stdout else ""
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        size = sum(entry.stat().st_size for entry in os.scandir(folder) if entry.is_file())
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"shopward market ended with {process.returncode}")
    made = json.loads(out)
    return {
        "events": made["events"], "requests": made["requests"], "seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_mb": used.ru_maxrss / 1024, "megabytes": size / 1e6,
    }  # fmt: skip


if __name__ == "__main__":
    args = options(__doc__ or "")
    finish("market", run(args.quick), args.json)
