"""The log keeps what it acknowledged: through crashes, torn writes, full disks and a second process."""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from pathlib import Path
from random import Random

import msgspec
import numpy as np
import pytest
from forgetful import ForgetfulDisk, PowerCut
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shopward.decision import Decision
from shopward.errors import CorruptStore, StoreFull, UsageError
from shopward.evidence import Evidence
from shopward.store import frames
from shopward.store.frames import Frame
from shopward.store.log import Log, read

HERE = Path("/data/log")


def login(seq: int, n: int = 1, size: int = 20) -> Frame:
    ids = [f"e{seq + i}" for i in range(n)]
    events = [{"event_id": id, "type": "login", "note": "x" * size} for id in ids]
    return Frame.of_events(
        seq, 1_000 + seq, events, range(seq, seq + n), ids, [{"action": "allow", "event_id": id} for id in ids]
    )


def ids_in(log: Log, from_seq: int = 0) -> list[str]:
    return [id for frame in log.replay(from_seq) for id in frame.event_ids()]


def test_what_was_appended_comes_back_bit_for_bit(tmp_path):
    frame = Frame.of_events(
        0, 77, [{"event_id": "é1", "amount": 0.1}, {"event_id": "e2"}], t=[5, 6], ids=["é1", "e2"],
        decisions=[{"action": "deny", "reasons": ["r1"]}, None], content=[-1, 2],
        writes=[{"list": "blocked", "key": "d1", "valid_from": 5, "expires": None}],
    )  # fmt: skip
    with Log.open(tmp_path) as log:
        log.append(frame)
        log.append(Frame("switch", 2, 78, meta={"rulebook": "3fa9"}))
    with Log.open(tmp_path) as log:
        first, second = log.replay()
    assert first.records() == [{"event_id": "é1", "amount": 0.1}, {"event_id": "e2"}]
    assert (first.seq0, first.n, first.clock, first.number) == (0, 2, 77, 0)
    assert first.t.tolist() == [5, 6] and first.content.tolist() == [-1, 2]
    assert first.decided() == [{"action": "deny", "reasons": ["r1"]}, None]
    assert first.writes == ({"list": "blocked", "key": "d1", "valid_from": 5, "expires": None},)
    assert (second.kind, second.meta, second.seq0, second.n) == ("switch", {"rulebook": "3fa9"}, 2, 0)


def test_replay_starts_at_the_frame_that_holds_the_event(tmp_path):
    with Log.open(tmp_path) as log:
        for seq in (0, 3, 6):
            log.append(login(seq, 3))
        log.sync()
        assert [f.seq0 for f in log.replay(4)] == [3, 6]
        assert [f.seq0 for f in log.replay(from_number=2)] == [6]
        assert list(log.replay(9)) == []
        with pytest.raises(CorruptStore, match="holds events 0 to 8 .* but event 10 was asked for"):
            list(log.replay(10))


def test_a_frame_must_follow_the_one_before(tmp_path):
    with Log.open(tmp_path) as log:
        log.append(login(0, 2))
        with pytest.raises(ValueError, match="frame starts at seq 5, the log is at 2"):
            log.append(login(5))


def test_a_decision_is_found_again_by_its_event(tmp_path):
    with Log.open(tmp_path, segment_bytes=200_000) as log:
        for seq in range(0, 3000, 3):
            log.append(login(seq, 3, size=200))
        log.sync()
        log.append(login(3000))
        assert log.decision(3000)["event_id"] == "e3000"  # not yet written
        assert [log.decision(seq)["event_id"] for seq in (0, 1234, 2999)] == ["e0", "e1234", "e2999"]
    with Log.open(tmp_path, segment_bytes=200_000) as log:
        assert [log.decision(seq)["event_id"] for seq in (0, 1234, 2999, 3000)] == ["e0", "e1234", "e2999", "e3000"]
        with pytest.raises(KeyError, match="event 3001 is not in the log"):
            log.decision(3001)


def test_segments_rotate_and_old_ones_can_be_dropped(tmp_path):
    with Log.open(tmp_path, segment_bytes=2_000) as log:
        for seq in range(100):
            log.append(login(seq))
            log.sync()
        assert len(list(tmp_path.glob("*.log"))) > 5
        dropped = log.drop_before(50)
        assert dropped and 0 < log.first_seq <= 50
        assert ids_in(log, log.first_seq) == [f"e{i}" for i in range(log.first_seq, 100)]
        with pytest.raises(CorruptStore, match="older ones were dropped"):
            ids_in(log, 0)
    with Log.open(tmp_path) as log:
        assert log.next_seq == 100


def test_only_old_segments_are_dropped(tmp_path):
    with Log.open(tmp_path, segment_bytes=1) as log:
        for seq in range(6):  # one segment each, closed at 1000, 1001, ...
            log.append(login(seq))
            log.sync()
        assert len(log.drop_before(6, older_than=1_002)) == 2
        assert log.first_seq == 2
        assert log.drop_before(2, older_than=1_005) == []


def test_a_closed_log_says_so(tmp_path):
    log = Log.open(tmp_path)
    log.close()
    with pytest.raises(UsageError, match="this log was closed"):
        log.append(login(0))


# ---- damage


def segment_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.log"))


def written(folder: Path, frames: int = 5, segment_bytes: int = 1 << 20) -> None:
    with Log.open(folder, segment_bytes=segment_bytes) as log:
        for seq in range(frames):
            log.append(login(seq))
            log.sync()


@pytest.mark.parametrize("keep", [1, 55, 80, 150])
def test_a_torn_last_frame_is_cut_and_reported(tmp_path, keep):
    written(tmp_path)
    file = segment_files(tmp_path)[0]
    data = file.read_bytes()
    start = [h.offset for h in frames.frames_in(data)][-1]
    file.write_bytes(data[: start + keep])
    with Log.open(tmp_path) as log:
        assert str(log.cut) == (
            f"{file}: cut {keep} bytes of an unfinished write at offset {start}; nothing acknowledged is lost"
        )
        assert ids_in(log) == ["e0", "e1", "e2", "e3"]
        log.append(login(4))
    with Log.open(tmp_path) as log:
        assert log.cut is None
        assert ids_in(log) == ["e0", "e1", "e2", "e3", "e4"]


def test_damage_before_acknowledged_frames_is_an_error_naming_the_place(tmp_path):
    written(tmp_path)
    file = segment_files(tmp_path)[0]
    data = bytearray(file.read_bytes())
    second = [h.offset for h in frames.frames_in(data)][1]
    data[second + 70] ^= 1
    file.write_bytes(data)
    with pytest.raises(CorruptStore, match=rf"{file.name}: offset {second}: damaged"):
        Log.open(tmp_path)
    with pytest.raises(CorruptStore, match=f"offset {second}"):
        list(read(tmp_path))


def test_damage_in_an_older_segment_is_never_skipped(tmp_path):
    written(tmp_path, frames=60, segment_bytes=2_000)
    older = segment_files(tmp_path)[1]
    older.write_bytes(older.read_bytes()[:-10])
    with Log.open(tmp_path) as log, pytest.raises(CorruptStore, match=f"{older.name}: offset .*: damaged"):
        ids_in(log)


def test_a_missing_segment_is_never_skipped(tmp_path):
    written(tmp_path, frames=60, segment_bytes=2_000)
    missing, after = segment_files(tmp_path)[1:3]
    missing.unlink()
    with Log.open(tmp_path) as log, pytest.raises(CorruptStore, match=f"missing before {after.name}"):
        ids_in(log)


def test_every_flipped_byte_is_noticed(tmp_path):
    written(tmp_path, frames=3)
    file = segment_files(tmp_path)[0]
    good = file.read_bytes()
    last = [h.offset for h in frames.frames_in(good)][-1]
    for at in range(0, len(good), 3):
        file.write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        if at >= last:  # nothing after it: looks like a torn write, the frame is cut
            assert [f.seq0 for f in read(tmp_path)] == [0, 1]
        else:
            with pytest.raises(CorruptStore):
                list(read(tmp_path))


def test_a_frame_of_a_younger_version_is_no_damage_and_never_cut(tmp_path, monkeypatch):
    with monkeypatch.context() as younger, Log.open(tmp_path) as log:
        younger.setattr(frames, "KINDS", (*frames.KINDS, "model"))
        log.append(login(0))
        log.append(frames.Frame("model", 1, 0, meta={"name": "m1"}))
    before = segment_files(tmp_path)[0].read_bytes()
    for read_it in (lambda: Log.open(tmp_path), lambda: list(read(tmp_path))):
        with pytest.raises(CorruptStore, match="written by a newer Shopward"):
            read_it()
    assert segment_files(tmp_path)[0].read_bytes() == before


# ---- one writer, many waiters


def test_a_second_writer_is_refused_with_the_process_id(tmp_path):
    with Log.open(tmp_path), pytest.raises(UsageError, match=f"in use by process {os.getpid()}"):
        Log.open(tmp_path)
    Log.open(tmp_path).close()


def test_a_reader_needs_no_lock(tmp_path):
    with Log.open(tmp_path) as log:
        log.append(login(0))
        log.sync()
        log.append(login(1))
        assert [f.seq0 for f in read(tmp_path, settle=True)] == [0]


def test_many_waiters_share_one_fdatasync():
    disk = ForgetfulDisk()
    log, lock = Log.open(HERE, disk), threading.Lock()
    gate = threading.Event()
    log.before_sync = gate.wait
    before = disk.syncs

    def one_event() -> None:
        with lock:
            log.append(login(log.next_seq))
        log.sync()

    threads = [threading.Thread(target=one_event) for _ in range(50)]
    for thread in threads:
        thread.start()
    while log.next_seq < 50:
        pass
    gate.set()
    for thread in threads:
        thread.join()
    assert log.durable_seq == 50
    assert disk.syncs - before <= 3  # the first waiter's own, and one or two for all who came meanwhile


# ---- no room


def test_a_full_disk_refuses_and_goes_on_when_there_is_room():
    disk = ForgetfulDisk(capacity=1_500)
    log = Log.open(HERE, disk)
    log.append(login(0))
    log.sync()
    log.append(login(1, 20))
    with pytest.raises(StoreFull, match="no space left on device; free some space"):
        log.sync()
    assert log.durable_seq == 1
    with pytest.raises(StoreFull):
        log.check_room()
    disk.capacity = 1 << 20
    log.check_room()  # writes what was waiting
    assert log.durable_seq == 21
    log.append(login(21))
    log.sync()
    after = Log.open(HERE, disk.crash(Random(1)))
    assert ids_in(after) == [f"e{i}" for i in range(22)]


def test_what_a_reader_saw_of_a_write_that_ran_full_stays():
    disk = ForgetfulDisk(capacity=700)
    log = Log.open(HERE, disk)
    for seq in range(6):
        log.append(login(seq))
    with pytest.raises(StoreFull):
        log.sync()
    seen = [frame.seq0 for frame in read(HERE, disk, settle=True)]
    assert seen == [0, 1, 2]
    disk.capacity = 300  # somebody else took what was left
    with pytest.raises(StoreFull):
        log.sync()
    assert ids_in(Log.open(HERE, disk.crash(Random(1)))) == ["e0", "e1", "e2"]
    disk.capacity = 1 << 20
    log.sync()
    assert ids_in(log) == [f"e{i}" for i in range(6)]


def test_a_full_disk_found_only_when_forcing_loses_nothing():
    disk = ForgetfulDisk()
    log = Log.open(HERE, disk)
    log.append(login(0))
    disk.sync_error = errno.ENOSPC
    with pytest.raises(StoreFull):
        log.sync()
    disk.sync_error = 0
    log.append(login(1))
    log.sync()
    assert ids_in(Log.open(HERE, disk.crash(Random(1)))) == ["e0", "e1"]


def test_a_disk_that_fails_stops_the_log_for_good():
    disk = ForgetfulDisk()
    log = Log.open(HERE, disk)
    log.append(login(0))
    disk.sync_error = errno.EIO
    with pytest.raises(CorruptStore, match="the disk refused a write"):
        log.sync()
    disk.sync_error = 0
    with pytest.raises(CorruptStore):
        log.append(login(1))
    with pytest.raises(CorruptStore):
        log.sync()


def test_memory_stays_bounded_while_the_disk_is_full():
    disk = ForgetfulDisk(capacity=1_000)
    log = Log.open(HERE, disk)
    seq = 0
    with pytest.raises(StoreFull):
        for _ in range(100):
            log.append(login(seq, 100, size=10_000))
            seq += 100
    assert seq * 10_000 < 3 * 8 << 20


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a tiny file system needs root")
def test_a_real_full_file_system(tmp_path):
    if os.system(f"mount -t tmpfs -o size=512k tmpfs {tmp_path} 2>/dev/null"):
        pytest.skip("this machine does not let us mount a tmpfs")
    try:
        log = Log.open(tmp_path / "log")
        (tmp_path / "ballast").write_bytes(bytes(300_000))
        acknowledged = 0
        with pytest.raises(StoreFull):
            while True:
                log.append(login(log.next_seq, 10, size=500))
                log.sync()
                acknowledged = log.next_seq
        assert 0 < acknowledged < log.next_seq
        (tmp_path / "ballast").unlink()
        log.sync()
        total = log.next_seq
        log.close()
        with Log.open(tmp_path / "log") as log:
            assert ids_in(log) == [f"e{i}" for i in range(total)]
    finally:
        os.system(f"umount {tmp_path}")


# ---- any schedule, any crash


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(0, 5)),
            st.tuples(
                st.sampled_from(["sync", "sync", "crash", "kill", "dies in sync", "cut", "reader", "full"]), st.just(0)
            ),
        ),
        max_size=40,
    ),
    seed=st.integers(0, 1 << 32),
    segment_bytes=st.sampled_from([1, 700, 3_000]),
)
def test_no_crash_loses_an_acknowledged_event_or_repeats_one(steps, seed, segment_bytes):
    chance, disk = Random(seed), ForgetfulDisk()
    log = Log.open(HERE, disk, segment_bytes)
    appended: list[str] = []
    acknowledged = 0
    for step, n in [*steps, ("crash", 0)]:
        if step == "append":
            log.append(login(len(appended), n))
            appended += [f"e{len(appended) + i}" for i in range(n)]
        elif step == "sync":
            log.sync()
            acknowledged = len(appended)
        elif step == "full":
            disk.capacity = chance.randrange(3_000)
            with suppress(StoreFull):
                log.sync()
                acknowledged = len(appended)
            disk.capacity = 1 << 40
        elif step == "reader":
            seen = [id for frame in read(HERE, disk, settle=True) for id in frame.event_ids()]
            assert seen == appended[: len(seen)] and len(seen) >= acknowledged
            acknowledged = len(seen)  # what is built on a settled read must stay
        else:
            if step == "dies in sync":  # written, not forced
                disk.sync_error = errno.EIO
                with suppress(CorruptStore):
                    log.sync()
                disk.sync_error = 0
            if step == "cut":
                disk.operations_left = chance.randrange(6)
                with suppress(PowerCut):
                    log.sync()
            disk = disk.crash(chance) if step in ("crash", "cut") else disk.kill()
            log = Log.open(HERE, disk, segment_bytes)
            recovered = ids_in(log)
            assert recovered == appended[: len(recovered)]
            assert len(recovered) >= acknowledged
            appended, acknowledged = recovered, len(recovered)
            assert log.next_seq == log.durable_seq == len(recovered)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 400))
def test_garbage_after_the_end_is_cut_never_read(garbage, at):
    disk = ForgetfulDisk()
    with Log.open(HERE, disk) as log:
        log.append(login(0, 2))
    disk.appending(HERE / "000000000000-0000000000000000.log").append([bytes(at), garbage])
    with Log.open(HERE, disk) as log:
        assert ids_in(log) == ["e0", "e1"]
        assert (log.cut.bytes if log.cut else 0) == len(garbage) + at


def test_times_come_back_as_plain_arrays(tmp_path):
    with Log.open(tmp_path) as log:
        log.append(login(0, 3))
        log.sync()
        (frame,) = log.replay()
    assert frame.t.dtype == np.int64 and frame.t.flags.aligned and frame.t.flags.c_contiguous


def test_a_decision_that_nothing_led_to_takes_little_room_and_reads_as_it_was_given(tmp_path):
    why = Evidence(
        source="rule:r", what="w", entity="account:a", value=3.0, event_ids=("e1",), techniques=("T1",), ts=5
    )
    given = [
        Decision(event_id="e0", ts=5, type="login", action="allow", rulebook_version="v"),
        Decision(event_id="e1", ts=6, type="order", action="deny", reasons=("r",), evidence=(why,), rulebook_version="v"),
        None,
        Decision(event_id="e3", ts=7, type="order", action="allow", arm="control", score=0.2, risk=10.0, model="m", scores={"m": 0.2}, rulebook_version="v"),
    ]  # fmt: skip
    ids = ["e0", "e1", "e2", "e3"]
    frame = Frame.of_events(0, 10, [{"event_id": i} for i in ids], t=[5, 6, 6, 7], ids=ids, decisions=given)
    old = msgspec.msgpack.decode(msgspec.msgpack.encode(given))
    assert frame.decided() == old
    assert [msgspec.convert(row, Decision) for row in frame.decided() if row] == [d for d in given if d]
    data = b"".join(bytes(part) for part in frames.encode(frame, 0, 0))
    header = frames.header_at(data, 0)
    assert header.known and frames.decode(data, header).decided() == old
    quiet = [
        Decision(event_id=f"e{i}", ts=1_767_225_600_000, type="login", action="allow", rulebook_version="0123456789ab")
        for i in range(1000)
    ]
    packed = Frame.of_events(
        0, 10, [{}] * 1000, t=[5] * 1000, ids=[d.event_id for d in quiet], decisions=quiet
    ).decisions
    assert len(packed) < 20 * 1000 < len(msgspec.msgpack.encode(quiet)) / 6


def test_a_log_written_before_decisions_were_short_still_reads(tmp_path):
    before = {"event_id": "e0", "ts": 5, "type": "login", "action": "allow", "reasons": [], "rulebook_version": "v"}
    frame = Frame.of_events(0, 10, [{"event_id": "e0"}], t=[5], ids=["e0"], decisions=[before])
    data = b"".join(bytes(part) for part in frames.encode(frame, 0, 0))
    assert data[10:12] == b"\0\0"  # no flag, as then
    assert frames.decode(data, frames.header_at(data, 0)).decided() == [before]
