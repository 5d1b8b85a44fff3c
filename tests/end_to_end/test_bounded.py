"""Memory depends on what is alive, not on what ever came: millions of keys, a key with a million events, lists written by rules."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from shopward import Engine, Rulebook
from shopward.batch import Batch
from shopward.features.live import Windows
from tests.end_to_end.story import START
from tests.rules.books import QUIET, book, rule

MB = 1 << 20
SIZE = 8192
KEYS = Rulebook.from_files({
    "schema.yaml": "types: [login]\nfields: {device: {type: string, entity: device}, account: {type: string, entity: account}, amount: money}\n",
    "features/f.yaml": "logins_1h: {entity: device, measure: count, over: 1h}\naccounts_1h: {entity: device, measure: distinct(account), over: 1h}\n"
                       "spent_1h: {entity: device, measure: sum(amount), over: 1h}\nidle: {entity: account, measure: since_last, over: 1h}\n",
    "rules/r.yaml": "id: r\ntitle: A title\non: [login]\nwhen: logins_1h > 3 or accounts_1h > 3 or spent_1h > 100 or idle < 0\nthen: review\n"
                    + QUIET.replace("account: a", "device: d"),
})  # fmt: skip


def resident() -> int:
    """Bytes of this process that are in memory now."""
    if not sys.platform.startswith("linux"):
        pytest.skip("resident memory is read from /proc")
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def logins(first: int, n: int, device: np.ndarray, apart_ms: int) -> Batch:
    """`n` logins `apart_ms` from one another; the key columns are taken as hashes already."""
    t = START + np.arange(first, first + n, dtype=np.int64) * apart_ms
    batch = Batch(n, first, t, t, np.ones(n, np.int16), [""] * n)
    batch.hashes |= {"device": device, "account": mixed(np.arange(first, first + n) + (1 << 40))}
    batch.minor["amount"] = np.full(n, 100, np.int64)
    batch.numbers["amount"] = np.full(n, 1.0)
    return batch


def mixed(numbers: np.ndarray) -> np.ndarray:
    """Two well mixed words for each number (splitmix64), never zero."""
    out = np.empty((len(numbers), 2), np.uint64)
    for i, salt in enumerate((0x9E3779B97F4A7C15, 0xD1B54A32D192ED03)):
        z = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        out[:, i] = z ^ (z >> np.uint64(31))
    return (out | np.uint64(1)).view(np.int64)


@pytest.mark.slow
def test_five_million_distinct_keys_stream_through_in_bounded_memory():
    """Each device and account comes once, about 4,200 of each in an hour; what is older is given back."""
    windows = Windows(KEYS, bytes(16), mode="compiled")
    total, apart = 5_000_000, 864
    settled, most_keys, most_bytes = 0, 0, 0
    for first in range(0, total, SIZE):
        windows.update(logins(first, SIZE, mixed(np.arange(first, first + SIZE)), apart))
        if first // SIZE % 20 == 0:
            memory = windows.memory()
            most_keys, most_bytes = max(most_keys, memory["keys"]), max(most_bytes, memory["bytes"])
        if not settled and first > 500_000:
            settled = resident()
    grown = resident() - settled
    live = 2 * 3_600_000 // apart
    assert most_keys < 20 * live, f"{most_keys:,} keys are alive where {live:,} are needed"
    assert most_bytes < 64 * MB
    assert grown < 48 * MB, f"memory grew by {grown / MB:.0f} MB over the last 4.5 million keys"
    assert windows.update(logins(first + SIZE, 1, mixed(np.array([first + SIZE])), apart)).values[0, 0] == 1


@pytest.mark.slow
def test_a_key_with_a_million_events_in_its_window_is_exact_and_given_back_when_they_are_old():
    windows = Windows(KEYS, bytes(16), mode="compiled")
    n, one = 1_000_000, mixed(np.zeros(1))
    for first in range(0, n, SIZE):
        block = windows.update(logins(first, min(SIZE, n - first), np.repeat(one, min(SIZE, n - first), 0), 3))
    assert block.values[:3, -1].tolist() == [n, n, n]  # all within 3,000 s; every account is another
    full = windows.memory()["bytes"]
    assert full < 250 * n
    for first in range(n, n + 40 * SIZE, SIZE):  # the next hours belong to other devices
        windows.update(logins(first, SIZE, mixed(np.arange(first, first + SIZE)), 864))
    assert windows.memory()["live_events"] < n // 10
    block = windows.update(logins(first + SIZE, 1, one, 864))
    assert block.values[:3, 0].tolist() == [1, 1, 1]


def test_idle_keys_are_given_back_while_busy_ones_stay_exact():
    windows = Windows(KEYS, bytes(16), mode="interpreted")
    busy = mixed(np.array([7]))
    for seen, first in enumerate(range(0, 24 * 1024, 1024), 1):
        device = mixed(np.arange(first, first + 1024) + 100)
        device[512] = busy[0]
        block = windows.update(logins(first, 1024, device, 2_000))
        assert block.values[0, 512] == min(seen, 2)  # comes every 2,048 s
    assert windows.memory()["keys"] < 16 * 1024


def test_lists_that_rules_write_without_end_hold_each_key_once_and_forget_what_expired():
    hostile = book(
        rule("add", "amount > 0", "{action: review, list: {add: blocked_devices, key: device, expires: 1h}}")
    )
    engine = Engine(hostile, mode="interpreted")
    event = {"type": "order", "account": "a1", "amount": 1.0}
    for i in range(3_000):
        engine.decide(event | {"ts": START + i, "device": f"d{i % 3}"})
    assert len(engine.lists.entries()) <= 3 * 3
    for i in range(3_000):
        engine.decide(event | {"ts": START + i * 60_000, "device": f"once{i}"})
    assert len(engine.lists.entries()) < 1_500  # one a minute, each for an hour
