"""The same event twice is decided once; the same id with other content keeps the first; for seven days, through any crash."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from random import Random

import numpy as np
import pytest
from forgetful import ForgetfulDisk, PowerCut
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shopward.errors import CorruptStore
from shopward.hashing import hash_strings
from shopward.store.dedup import CONFLICT, DUPLICATE, KEEP_MS, NEW, Dedup
from shopward.store.frames import Frame
from shopward.store.log import Log

SEED = bytes(range(16))
HERE = Path("/data")
DAY = 86_400_000


class Store:
    """A log and the memory of its ids, as the engine uses them together."""

    def __init__(self, disk, folder=HERE, table_rows=4, segment_bytes=1_000):
        self.log = Log.open(folder / "log", disk, segment_bytes)
        self.dedup = Dedup.open(folder / "state" / "ids", self.log, SEED, disk, background=False, table_rows=table_rows)

    def take(self, ids: list[str], contents: list[int], t: list[int]) -> list[tuple[int, int]]:
        status, seqs = self.dedup.check(
            hash_strings(ids, SEED), np.array(contents, np.int64), np.array(t, np.int64), self.log.next_seq
        )
        new = np.flatnonzero(status == NEW)
        if len(new):
            self.log.append(
                Frame.of_events(
                    self.log.next_seq,
                    0,
                    b"{}\n" * len(new),
                    [t[i] for i in new],
                    [ids[i] for i in new],
                    content=[contents[i] for i in new],
                )  # fmt: skip
            )
        return list(zip(status.tolist(), seqs.tolist(), strict=True))


def test_new_duplicate_and_conflict():
    store = Store(ForgetfulDisk())
    assert store.take(["a", "b"], [1, 2], [0, 0]) == [(NEW, 0), (NEW, 1)]
    assert store.take(["b", "c", "a"], [2, 3, 9], [5, 5, 5]) == [(DUPLICATE, 1), (NEW, 2), (CONFLICT, 0)]
    assert (store.dedup.duplicates, store.dedup.conflicts) == (1, 1)


def test_twins_in_one_batch():
    store = Store(ForgetfulDisk())
    assert store.take(["a", "a", "b", "a"], [1, 1, 2, 7], [0] * 4) == [
        (NEW, 0),
        (DUPLICATE, 0),
        (NEW, 1),
        (CONFLICT, 0),
    ]


@pytest.mark.parametrize("elsewhere", [0, 40], ids=["in memory", "in a run"])
def test_an_id_is_forgotten_after_seven_days(elsewhere):
    store = Store(ForgetfulDisk())
    store.take(["a"], [1], [0])
    for i in range(elsewhere):
        store.take([f"x{i}"], [0], [0])
        store.log.sync()
    assert store.take(["a"], [1], [KEEP_MS]) == [(DUPLICATE, 0)]
    assert store.take(["a"], [1], [KEEP_MS + 1]) == [(NEW, 1 + elsewhere)]
    assert store.take(["a"], [1], [KEEP_MS + 2]) == [(DUPLICATE, 1 + elsewhere)]


def test_a_restart_remembers_from_runs_and_log(tmp_path):
    from shopward.store.files import REAL

    store = Store(REAL, tmp_path, table_rows=1000, segment_bytes=100_000)
    for day in range(10):
        ids = [f"{day}-{i}" for i in range(500)]
        assert {status for status, _ in store.take(ids, list(range(500)), [day * DAY // 10] * 500)} == {NEW}
        store.log.sync()
    store.log.close()
    again = Store(REAL, tmp_path, table_rows=1000)
    assert again.dedup.memory()["old"] >= 3_000 and again.dedup.memory()["young"] <= 2_000
    for day in range(10):
        ids = [f"{day}-{i}" for i in range(500)]
        assert again.take(ids, list(range(500)), [DAY] * 500) == [(DUPLICATE, day * 500 + i) for i in range(500)]


def test_a_damaged_run_is_read_again_from_the_log():
    disk = ForgetfulDisk()
    store = Store(disk)
    for i in range(20):
        store.take([f"e{i}"], [i], [0])
        store.log.sync()
    store.log.close()
    runs = HERE / "state" / "ids"
    first = disk.names(runs)[0]
    disk.folders[runs].seen[first].seen[200] ^= 1
    for _ in range(2):
        again = Store(disk)
        assert [again.take([f"e{i}"], [i], [0]) for i in range(20)] == [[(DUPLICATE, i)] for i in range(20)]
        again.log.close()


def test_a_damaged_run_the_log_no_longer_covers_is_an_error():
    disk = ForgetfulDisk()
    store = Store(disk)
    for i in range(60):
        store.take([f"e{i}"], [i], [0])
        store.log.sync()
    store.log.drop_before(50)
    store.log.close()
    runs = HERE / "state" / "ids"
    first = disk.names(runs)[0]
    disk.folders[runs].seen[first].seen[200] ^= 1
    with pytest.raises(CorruptStore, match=rf"{first}: damaged, and the log starts only at event"):
        Store(disk)


def days(store: Store, first: int, last: int, step: int = 1) -> None:
    """Four events a day."""
    for day in range(first, last, step):
        store.take([f"{day}-{i}" for i in range(4)], [0] * 4, [day * DAY] * 4)
        store.log.sync()


def test_an_event_is_found_for_a_label_months_after_a_retry_would_count_as_new():
    store = Store(ForgetfulDisk())
    days(store, 0, 170)
    assert store.dedup.memory()["old"] >= 4 * 160
    assert store.dedup.find(hash_strings(["0-0", "130-3", "nobody"], SEED)).tolist() == [0, 523, -1]
    assert store.take(["130-3", "165-3"], [0, 0], [170 * DAY] * 2) == [(NEW, 680), (DUPLICATE, 663)]
    assert store.dedup.find(hash_strings(["130-3"], SEED)).tolist() == [680]


def test_expired_runs_leave_the_disk():
    store = Store(ForgetfulDisk())
    days(store, 0, 2_000, step=10)
    assert store.dedup.memory()["old"] <= 4 * 30  # merged runs hold some days more, never all two hundred
    assert store.dedup.find(hash_strings(["0-0", "1990-0"], SEED)).tolist() == [-1, 796]


def test_too_many_ids_are_kept_only_for_the_days_in_which_they_answer_retries(monkeypatch):
    monkeypatch.setattr("shopward.store.dedup.MERGED_ROWS", 16)
    store = Store(ForgetfulDisk())
    store.dedup.find_ids = 100
    days(store, 0, 150)
    assert 4 * 8 <= store.dedup.memory()["old"] <= 100 + 4 * 20
    assert store.take(["144-1"], [0], [150 * DAY]) == [(DUPLICATE, 577)]


def test_background_runs_are_not_missed(tmp_path):
    log = Log.open(tmp_path / "log")
    dedup = Dedup.open(tmp_path / "ids", log, SEED, table_rows=2_000)
    rng = np.random.default_rng(1)
    seen: list[np.ndarray] = []
    seq = 0
    for _ in range(60):
        ids = rng.integers(-(1 << 62), 1 << 62, (1_000, 2))
        status, seqs = dedup.check(ids, np.zeros(1_000, np.int64), np.zeros(1_000, np.int64), seq)
        assert (status == NEW).all() and seqs.tolist() == list(range(seq, seq + 1_000))
        seq += 1_000
        log.append(Frame.of_events(seq - 1_000, 0, b"{}\n" * 1_000, [0] * 1_000, [""] * 1_000, content=[0] * 1_000))
        log.sync()
        seen.append(ids)
        old = int(rng.integers(len(seen)))
        status, seqs = dedup.check(seen[old], np.zeros(1_000, np.int64), np.zeros(1_000, np.int64), seq)
        assert (status == DUPLICATE).all() and seqs.tolist() == list(range(old * 1_000, old * 1_000 + 1_000))
    dedup.close()
    log.close()
    memory = dedup.memory()
    assert memory["old"] + memory["young"] == 60_000 and memory["old"] >= 20_000


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    batches=st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(0, 30), st.integers(0, 1)), min_size=1, max_size=6),
            st.sampled_from(["", "sync", "sync", "sync", "cut", "crash"]),
            st.integers(0, DAY * 2),
        ),
        max_size=40,
    ),
    seed=st.integers(0, 1 << 32),
)
def test_any_stream_and_any_crash_agree_with_a_plain_dict(batches, seed):
    chance, disk = Random(seed), ForgetfulDisk()
    store, clock = Store(disk), 0
    known: dict[str, tuple[int, int, int]] = {}
    history: list[tuple[str, int, int]] = []
    for rows, then, later in batches:
        clock += later
        ids, contents = [f"e{k}" for k, _ in rows], [c for _, c in rows]
        expected = []
        for id, content in zip(ids, contents, strict=True):
            first = known.get(id)
            if first is not None and clock - first[2] <= KEEP_MS:
                expected.append((DUPLICATE if first[1] == content else CONFLICT, first[0]))
            else:
                known[id] = (len(history), content, clock)
                expected.append((NEW, len(history)))
                history.append((id, content, clock))
        if then == "cut":
            disk.operations_left = chance.randrange(12)
        with suppress(PowerCut):
            assert store.take(ids, contents, [clock] * len(ids)) == expected
            store.log.sync() if then == "cut" else None
        if then == "sync":
            store.log.sync()
        elif then in ("crash", "cut"):
            disk = disk.crash(chance)
            store = Store(disk)
            del history[store.log.next_seq :]
            known = {id: (seq, content, t) for seq, (id, content, t) in enumerate(history)}


def test_an_event_is_found_by_its_id_for_a_label_weeks_later():
    store = Store(ForgetfulDisk())
    for i in range(10):
        store.take([f"e{i}"], [i], [0])
        store.log.sync()
    assert store.dedup.find(hash_strings(["e0", "nobody", "e9"], SEED)).tolist() == [0, -1, 9]


def test_what_was_claimed_but_not_logged_is_new_again():
    store = Store(ForgetfulDisk())
    store.take(["a"], [1], [0])
    ids = hash_strings(["a", "b", "c"], SEED)
    zeros = np.zeros(3, np.int64)
    store.dedup.check(ids, zeros, zeros, store.log.next_seq)
    store.dedup.forget(store.log.next_seq)
    assert store.dedup.find(ids).tolist() == [0, -1, -1]
    assert store.take(["b", "a", "c"], [0, 1, 0], [0] * 3) == [(NEW, 1), (DUPLICATE, 0), (NEW, 2)]
