"""Run every benchmark, each in a process of its own, and print the rows of docs/benchmarks.md."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.report import commit, machine, options

ALL = (
    "features", "backfill", "ingest", "call", "rules", "wide", "market", "rulebook", "backtest", "serve", "lake",
    "learn.forest", "learn.traps", "learn.missing", "learn.wrong", "traffic.assets", "traffic.leaks", "traffic.attacks", "traffic.lines",
)  # fmt: skip
SLOW = ("spark", "learn.payments", "learn.sequence", "learn.graph", "learn.market", "traffic.live")


def main() -> None:
    args = options(__doc__ or "")
    print(f"# {machine()}, commit {commit()}")
    for name in ALL if args.quick else (*ALL, *SLOW):
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", *(["--quick"] if args.quick else [])]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        if found.returncode:
            print(f"| {name} | failed: {found.stderr.strip().splitlines()[-1] if found.stderr else found.returncode} |")
            continue
        result = json.loads(found.stdout.splitlines()[-1])
        skip = {"benchmark", "machine", "commit"}
        print(
            f"| {name} | "
            + ", ".join(
                f"{k} {v:,.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in result.items() if k not in skip
            )
            + " |"
        )


if __name__ == "__main__":
    main()
