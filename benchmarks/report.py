"""What every benchmark shares: its options, the machine, and its last line as one JSON object."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path


def options(description: str) -> argparse.Namespace:
    """`--quick` (under 55 s, slow peers skipped) and `--json` (the last line is one JSON object)."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="under 55 s; slow peers are skipped")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    return parser.parse_args()


def machine() -> str:
    """Processor, cores and load, for the table."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"


def commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def finish(name: str, result: dict, as_json: bool) -> None:
    """Print the result for people, and as JSON when asked."""
    for key, value in result.items():
        print(f"  {key:<40} {value:,.4g}" if isinstance(value, float) else f"  {key:<40} {value}", file=sys.stderr)
    if as_json:
        print(json.dumps({"benchmark": name, "machine": machine(), "commit": commit(), **result}))
