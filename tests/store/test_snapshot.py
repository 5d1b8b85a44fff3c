"""A snapshot is there whole or not at all; a damaged one is passed over, told about, and never used."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from random import Random

import numpy as np
import pytest
from forgetful import ForgetfulDisk, PowerCut
from hypothesis import given, settings
from hypothesis import strategies as st

from shopward.errors import CorruptStore, StoreFull
from shopward.store import snapshot
from shopward.store.snapshot import Meta

HERE = Path("/data/state")
STATE = {
    "rows": np.arange(1000, dtype=np.int64).reshape(100, 10),
    "flags": np.array([True, False]),
    "empty": np.empty((0, 3), np.float64),
    "ids": np.frombuffer(b"abcdefg", np.uint8),
}


def test_arrays_and_meta_come_back_as_they_were(tmp_path):
    meta = Meta(seq=12, frame=3, rulebook="3fa9", seed="00" * 16, state_hash="beef", extra={"clock": 5})
    snapshot.save(tmp_path, STATE, meta)
    found = snapshot.load(tmp_path)
    assert found.meta == meta and found.passed_over == ()
    assert found.arrays.keys() == STATE.keys()
    for name, array in STATE.items():
        assert found.arrays[name].dtype == array.dtype and found.arrays[name].shape == array.shape
        assert np.array_equal(found.arrays[name], array)
        assert found.arrays[name].flags.aligned and not found.arrays[name].flags.writeable


def test_the_last_two_are_kept(tmp_path):
    for seq in (5, 100, 20, 1_000):
        snapshot.save(tmp_path, STATE, Meta(seq=seq, frame=seq))
    assert [p.name for p in snapshot.saved(tmp_path)] == [
        "000000000100-000000000100.snapshot",
        "000000001000-000000001000.snapshot",
    ]


def test_what_a_crash_left_half_written_is_swept_away(tmp_path):
    (tmp_path / ".000000000009-000000000009.snapshot.tmp").write_bytes(bytes(100))
    snapshot.save(tmp_path, STATE, Meta(seq=10, frame=10))
    assert [p.name for p in tmp_path.iterdir()] == ["000000000010-000000000010.snapshot"]


def test_no_snapshot_means_replay_everything(tmp_path):
    assert snapshot.load(tmp_path / "nothing here") is None


@pytest.mark.parametrize("cut", [0, 10, 30, 200, 8000])
def test_a_cut_snapshot_is_passed_over_for_the_one_before(tmp_path, cut):
    snapshot.save(tmp_path, STATE, Meta(seq=1, frame=1))
    newest = snapshot.save(tmp_path, STATE, Meta(seq=2, frame=2))
    newest.write_bytes(newest.read_bytes()[:cut])
    found = snapshot.load(tmp_path)
    assert found.meta.seq == 1
    assert found.passed_over[0].startswith(f"{newest}: not a whole snapshot")


def test_a_flipped_bit_is_named(tmp_path):
    path = snapshot.save(tmp_path, STATE, Meta(seq=1, frame=1))
    data = bytearray(path.read_bytes())
    data[-64 - 64 - 300] ^= 4
    path.write_bytes(data)
    with pytest.raises(CorruptStore, match="checksum of array 'rows'"):
        snapshot.read(path)
    assert snapshot.load(tmp_path) is None


def test_a_snapshot_from_beyond_the_end_of_the_log_is_not_taken(tmp_path):
    snapshot.save(tmp_path, STATE, Meta(seq=10, frame=4))
    snapshot.save(tmp_path, STATE, Meta(seq=20, frame=8))
    found = snapshot.load(tmp_path, upto=7)
    assert found.meta.seq == 10
    assert "knows frame 8, the log ends at 7" in found.passed_over[0]


def test_no_room_keeps_the_old_one():
    disk = ForgetfulDisk()
    snapshot.save(HERE, STATE, Meta(seq=1, frame=1), disk)
    disk.capacity = 12_000
    with pytest.raises(StoreFull):
        snapshot.save(HERE, STATE, Meta(seq=2, frame=2), disk)
    assert snapshot.load(HERE, disk).meta.seq == 1
    assert disk.names(HERE) == ["000000000001-000000000001.snapshot"]


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 6))
def test_after_a_crash_the_last_finished_snapshot_or_a_newer_whole_one_is_there(seed, rounds):
    chance, disk, finished = Random(seed), ForgetfulDisk(), 0
    for seq in range(1, rounds + 1):
        disk.capacity = (1 << 40) if chance.random() < 0.7 else chance.randrange(40_000)
        disk.operations_left = chance.randrange(-6, 12)
        with suppress(StoreFull, PowerCut):
            snapshot.save(HERE, {"x": np.full(chance.randrange(2_000), seq)}, Meta(seq=seq, frame=seq), disk)
            finished = seq
        if disk.operations_left == 0 or chance.random() < 0.5:
            disk = disk.crash(chance)
            disk.make_folder(HERE)
            found = snapshot.load(HERE, disk)
            assert (found.meta.seq if found else 0) >= finished
            if found:
                assert (found.arrays["x"] == found.meta.seq).all()
