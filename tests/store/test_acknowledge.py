"""Nothing is acknowledged before it is on disk: seen from outside, by killing the process and by watching its system calls."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from shopward.store.log import Log, read

APPENDER = [sys.executable, str(Path(__file__).with_name("appender.py"))]
HOUSE = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"}


def killed_after(folder: Path, seconds: float) -> list[int]:
    """Run the appender, kill it that long after its first acknowledgement; what it had acknowledged."""
    child = subprocess.Popen([*APPENDER, str(folder), "1000000", "3"], stdout=subprocess.PIPE, env=HOUSE)
    first = child.stdout.readline()
    time.sleep(seconds)
    os.kill(child.pid, signal.SIGKILL)
    rest = child.stdout.read()
    child.wait()
    child.stdout.close()
    whole = (first + rest)[: (first + rest).rfind(b"\n") + 1]
    return [int(line) for line in whole.split()]


def test_twenty_kills_lose_no_acknowledged_event_and_repeat_none(tmp_path):
    chance, acknowledged = Random(7), -1
    for _ in range(20):
        acknowledged = max(acknowledged, *killed_after(tmp_path, chance.random() * 0.03))
        with Log.open(tmp_path, segment_bytes=50_000) as log:
            assert log.next_seq > acknowledged
            ids = [id for frame in log.replay() for id in frame.event_ids()]
            assert ids == [f"e{i}" for i in range(log.next_seq)]
    assert acknowledged > 100


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("threads", [1, 4])
def test_no_acknowledgement_precedes_its_fdatasync(tmp_path, threads):
    trace = tmp_path / "trace"
    calls = ["strace", "-f", "-y", "-o", str(trace), "-e", "trace=writev,write,fdatasync"]
    ran = subprocess.run(
        [*calls, *APPENDER, str(tmp_path / "log"), "40", str(threads)], stdout=subprocess.PIPE, env=HOUSE
    )
    if ran.returncode and not trace.stat().st_size:
        pytest.skip("this machine does not let strace attach")
    assert ran.returncode == 0
    written = durable = acknowledged = 0  # counted in frames
    frames_by_last = {f.seq0 + f.n - 1: f.number + 1 for f in read(tmp_path / "log")}
    for line in trace.read_text().splitlines():
        if "writev(" in line and ".log>" in line:
            written += len(re.findall(r'iov_base="SWF1', line))
            started = written
        elif "fdatasync(" in line and ".log>" in line:
            started = written
        if "fdatasync" in line and line.endswith("= 0"):
            durable = started
        said = re.search(r'write\(1<[^>]*>, "(\d+)\\n"', line)
        if said:
            acknowledged += 1
            assert frames_by_last[int(said[1])] <= durable, line
    assert acknowledged == 40 * threads == durable == len(frames_by_last)
