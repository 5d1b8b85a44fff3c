"""A million events of the synthetic marketplace, without the access log: seconds and memory of a whole process."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time

from benchmarks.report import finish, options


def run(quick: bool) -> dict:
    accounts, days = 40_000, 30
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "shopward", "market", folder, "--seed", "5", "--days", str(days), "--accounts", str(accounts),
                   "--no-access-log", "--json"]  # fmt: skip
        before = time.perf_counter()
        found = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds = time.perf_counter() - before
    events = json.loads(found.stdout)["events"]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {"events": events, "seconds": seconds, "seconds_per_million": seconds / events * 1e6, "peak_mb": peak}


if __name__ == "__main__":
    args = options(__doc__ or "")
    finish("market", run(args.quick), args.json)
