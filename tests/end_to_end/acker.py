"""A child process that decides on events durably and says on stdout which are acknowledged. Killed by the crash stories.

python acker.py DATA EVENTS.ndjson FIRST    sends events from line FIRST on, in groups; prints `ack LAST` after each group
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from shopward import Engine
from tests.end_to_end.story import rulebook

GROUP = 400


def main(data: str, events: str, first: str) -> None:
    lines = Path(events).read_bytes().splitlines()
    engine = Engine(rulebook(), data=Path(data), mode="compiled")
    for start in range(int(first), len(lines), GROUP):
        group = [msgspec.json.decode(line) for line in lines[start : start + GROUP]]
        engine.decide_events(group)
        sys.stdout.write(f"ack {start + len(group)}\n")
        sys.stdout.flush()
        if start // GROUP % 40 == 39:
            engine.snapshot()
    sys.stdout.write(f"state {engine.state_hash()}\n")
    engine.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
