"""One event goes straight into compiled code: its texts are hashed there, and what cannot be hashed moves nothing."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest

from shopward import Engine, Rulebook
from shopward.errors import BadEvent
from shopward.event import MAX_TEXT
from shopward.features.direct import packer, runner
from shopward.hashing import siphash128
from tests.features.streams import SEED

BOOK = {
    "schema.yaml": "types: [login]\nfields: {account: {type: string, entity: account}, items: number}",
    "features/f.yaml": "logins_1h: {entity: account, measure: count, over: 1h}",
}


def test_lanes_hold_numbers_and_the_hashes_of_texts():
    lanes = np.zeros(3 + 1 + 1 + 2 * 3, np.int64)
    pack = packer(lanes, 3, 1, 1, 3, SEED)
    rng = random.Random(5)
    for length in (0, 1, 7, 8, 9, 15, 16, 17, 40, MAX_TEXT):
        text = "".join(rng.choice("abcxyz019-_") for _ in range(length))
        assert pack(-1, 1 << 62, 3, 0.5, -7, text, None, "Zürich 東京") == 0
        assert lanes[:3].tolist() == [-1, 1 << 62, 3] and lanes[4] == -7
        assert lanes.view(np.float64)[3] == 0.5
        assert lanes[5:].tolist() == [*siphash128(text.encode(), SEED), 0, 0, *siphash128("Zürich 東京".encode(), SEED)]


def test_texts_without_a_hash_are_told():
    pack = packer(np.zeros(4, np.int64), 0, 0, 0, 2, SEED)
    assert pack("a", "x" * (MAX_TEXT + 1)) == 2
    assert pack("é" * MAX_TEXT, "b") == 1
    with pytest.raises(UnicodeEncodeError):
        pack("a", "half \ud800")
    with pytest.raises(TypeError):
        pack("a", 5)
    with pytest.raises(OverflowError):
        packer(np.zeros(1, np.int64), 1, 0, 0, 0, SEED)(1 << 63)


def test_packing_holds_no_reference():
    lanes = np.zeros(4, np.int64)
    pack = packer(lanes, 1, 1, 0, 1, SEED)
    number, text = 10**15 + 7, "some text"
    before = sys.getrefcount(number), sys.getrefcount(text)
    for _ in range(100):
        pack(number, 1.5, text)
    assert (sys.getrefcount(number), sys.getrefcount(text)) == before
    held = sys.getrefcount(lanes)
    del pack
    assert sys.getrefcount(lanes) < held


def test_running_no_stage_is_done_at_once():
    assert runner(np.zeros(1, np.int64))() == -1


@pytest.mark.parametrize("mode", ["interpreted", "compiled"])
def test_an_event_with_a_text_that_has_no_hash_moves_nothing(mode):
    engine = Engine(Rulebook.from_files(BOOK), mode=mode, seed=SEED)
    event = {"type": "login", "ts": 1_760_000_000_000, "account": "ann"}
    engine.decide(event)
    before = engine.state_hash()
    for text, said in (("half \ud800", "not valid Unicode"), ("x" * (MAX_TEXT + 1), "longer than 8,192 bytes")):
        with pytest.raises(BadEvent, match=f"account: .*{said}"):
            engine.decide({**event, "ts": event["ts"] + 1000, "account": text})
    assert engine.state_hash() == before
