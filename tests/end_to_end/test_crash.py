"""kill -9 at any moment: no acknowledged event is lost, none is decided twice, and the state is that of a run nobody disturbed."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shopward import Engine
from shopward.store.log import read
from tests.end_to_end.story import rulebook, write_events

ROOT = Path(__file__).parents[2]


def child(data: Path, events: Path, first: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.end_to_end.acker", str(data), str(events), str(first)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def run_to_end(data: Path, events: Path, first: int = 0) -> str:
    """The state hash an undisturbed child reports."""
    out, _ = child(data, events, first).communicate(timeout=300)
    return next(line.split()[1] for line in out.splitlines() if line.startswith("state"))


def acknowledged(process: subprocess.Popen, before: int, after_s: float) -> int:
    """Kill the child some time after its first acknowledgement; what it had acknowledged."""
    last = before
    assert process.stdout is not None
    first = process.stdout.readline()
    last = int(first.split()[1]) if first.startswith("ack") else last
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    for line in process.stdout:
        if line.startswith("ack") and line.endswith("\n"):
            last = int(line.split()[1])
    process.wait()
    return last


def decided(data: Path) -> dict[str, dict]:
    """Every decision in the log by event id; fails when one event was decided twice.

    But for what is usual: evidence tells that as of the last start.
    """
    found: dict[str, dict] = {}
    for frame in read(data / "log"):
        if frame.kind == "events":
            for event_id, decision in zip(frame.event_ids(), frame.decided(), strict=True):
                assert event_id not in found, f"{event_id} was decided twice"
                for evidence in (decision or {}).get("evidence", ()):
                    del evidence["usual"]
                found[event_id] = decision
    return found


def without_usual(found: dict[str, dict]) -> dict[str, dict]:
    """What is usual is worked out anew at every start, so a run that was killed tells it earlier; all else must be the same."""
    return {
        event_id: decision | {"evidence": [{**e, "usual": None} for e in decision.get("evidence") or ()]}
        for event_id, decision in found.items()
    }


def kill_story(tmp_path: Path, n: int, kills: int, seed: int) -> None:
    events, calm, wild = tmp_path / "events.ndjson", tmp_path / "calm", tmp_path / "wild"
    ids = write_events(events, n)
    total = len(events.read_bytes().splitlines())
    Engine(rulebook(), data=calm, mode="interpreted").close()
    shutil.copytree(calm, wild)  # one hash seed for both
    expected = run_to_end(calm, events)
    rng, done = random.Random(seed), 0
    for _ in range(kills):
        if done >= total:
            break
        done = acknowledged(child(wild, events, done), done, rng.random() * 0.6)
        kept = decided(wild)
        sent = {line.split(b'"')[3].decode() for line in events.read_bytes().splitlines()[:done]}
        assert sent <= kept.keys(), "an acknowledged event is lost"
    assert run_to_end(wild, events, done) == expected
    assert without_usual(decided(wild)) == without_usual(decided(calm))
    assert list(decided(wild)) == ids


def test_two_kills_lose_nothing(tmp_path):
    kill_story(tmp_path, n=20_000, kills=2, seed=3)


@pytest.mark.slow
def test_twenty_kills_of_a_200k_event_run_lose_nothing(tmp_path):
    kill_story(tmp_path, n=200_000, kills=20, seed=7)
