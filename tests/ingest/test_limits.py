"""Whatever arrives, the rest goes on: limits, dead letters, stream time."""

from __future__ import annotations

import io
import json
import time
import tracemalloc

import numpy as np
import pytest

from shopward.errors import BadEvent
from shopward.ingest import Clock, DeadLetters, Normaliser, from_dicts, from_ndjson, read
from shopward.ingest.assemble import Assembler
from shopward.ingest.blocks import Input, csv_rows, ndjson
from tests.ingest.conftest import EVERYTHING, SEED, book, write_lines


class Endless(io.RawIOBase):
    """A good line, then `size` bytes without a newline, then a good line."""

    def __init__(self, size: int, head: bytes, tail: bytes):
        self.parts = [(head, len(head)), (b"x", size), (tail, len(tail))]

    def readable(self):
        return True

    def readinto(self, view):
        if not self.parts:
            return 0
        (content, left), n = self.parts[0], len(view)
        take = min(left, n)
        view[:take] = content[-left:][:take] if len(content) > 1 else content * take
        self.parts[0] = (content, left - take)
        if left == take:
            self.parts.pop(0)
        return take


GOOD = b'{"type":"login","ts":1}\n'


@pytest.mark.parametrize(
    ("scanner", "head", "tail"), [(ndjson, GOOD, b"\n" + GOOD), (csv_rows, b"type,ts\nlogin,1\n", b"\nlogin,1\n")]
)
def test_a_line_of_200_megabytes_is_dropped_and_memory_stays_small(scanner, head, tail):
    dead = DeadLetters()
    assembler = Assembler(Normaliser.of(book()), EVERYTHING, SEED, dead)
    tracemalloc.start()
    chunks = [assembler.assemble(raw) for raw in scanner(Input("endless", Endless(200_000_000, head, tail)), assembler)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(chunk.n for chunk in chunks) == 2
    assert dead.count == 1 and "larger than a record may be (200,000,00" in dead.why()
    assert peak < 40_000_000


def test_a_large_record_is_refused_and_a_large_enough_one_is_not(shop, tmp_path):
    path = write_lines(
        tmp_path / "e.ndjson",
        {"type": "login", "ts": 1, "x": "y" * 1_000_000},
        {"type": "login", "ts": 2, "x": "y" * 1_100_000},
    )
    assert [e["ts"] for e in shop.events(path)] == [1]
    assert "larger than a record may be (1,100,0" in shop.dead.why()


def test_dead_letters_say_where_and_why_and_hide_what_is_personal(tmp_path):
    path = write_lines(
        tmp_path / "e.ndjson",
        {"type": "login", "ts": 1, "account": "a1", "email": "ann@example.com", "rating": "many", "secret": "s3cret"},
        b'{"type":"login","email":"ann@example.com"',
        {"type": "login", "ts": 5, "account": "a2"},
    )
    with DeadLetters(tmp_path / "dead.ndjson") as dead:
        batches = list(read(path, book(), EVERYTHING, SEED, dead=dead))
    rows = [json.loads(line) for line in (tmp_path / "dead.ndjson").read_text().splitlines()]
    assert [(r["file"], r["line"], r["field"]) for r in rows] == [(str(path), 1, "rating"), (str(path), 2, None)]
    assert rows[0]["reason"] == "rating: expected a number, found a string that is none"
    assert rows[0]["record"] == {
        "type": "login", "ts": 1, "account": "a1", "email": "*** (15 characters)", "rating": "many", "secret": "*** (6 characters)",
    }  # fmt: skip
    assert rows[1]["record"] == '{"xxxx":"xxxxx","xxxxx":"xxx@xxxxxxx.xxx"'
    assert "ann@" not in (tmp_path / "dead.ndjson").read_text()
    assert [b.n for b in batches] == [1] and dead.count == 2


def test_a_timestamp_from_2099_is_a_dead_letter_in_a_file(shop, tmp_path):
    soon = int(time.time() * 1000) + 60_000
    path = write_lines(
        tmp_path / "e.ndjson",
        {"type": "login", "ts": "2099-01-01"},
        {"type": "login", "ts": soon},
        {"type": "login", "ts": 7},
    )
    assert [e["ts"] for e in shop.events(path)] == [soon, 7]
    assert "ts: in the future (2099-01-01T00:00:00Z)" in shop.dead.why()


def test_a_field_that_changes_type_only_costs_its_own_record(shop, tmp_path):
    values = [1, "2", 3.5, None, True, {"a": 1}, [1], "x", 4]
    path = write_lines(
        tmp_path / "e.ndjson", *[{"type": "login", "ts": i, "rating": value} for i, value in enumerate(values)]
    )
    assert [(e["ts"], e.get("rating")) for e in shop.events(path)] == [
        (0, 1.0),
        (1, 2.0),
        (2, 3.5),
        (3, None),
        (8, 4.0),
    ]
    assert shop.dead.count == 4


def test_stream_time_is_the_event_time_clamped_behind_the_latest():
    clock = Clock(lateness=100, skew=50)
    assert clock.stamp(np.array([1000, 950, 5, 2000])).tolist() == [1000, 950, 900, 2000]
    assert clock.stamp(np.array([1950, 1])).tolist() == [1950, 1900] and clock.value == 2000


def test_the_servers_clock_never_goes_back(monkeypatch):
    now = [10_000]
    monkeypatch.setattr("shopward.ingest.clock.machine_ms", lambda: now[0])
    clock = Clock(lateness=100, skew=50, server=True)
    assert clock.stamp(np.array([10_000, 99_999, 1])).tolist() == [10_000, 10_050, 9_900]
    now[0] = 4_000
    assert clock.stamp(np.array([9_950])).tolist() == [9_950] and clock.now() == 10_000


def test_dicts_become_one_batch_and_name_themselves_by_seq():
    batch = from_dicts(
        [{"type": "login", "ts": 1, "account": 5}, {"type": "login", "ts": 2}], book(), EVERYTHING, SEED, seq0=40
    )
    assert batch.event_ids == ["event:40", "event:41"] and batch.text("account") == ["5", None]
    assert batch.records()[0] == {"event_id": "event:40", "ts": 1, "type": "login", "account": "5"}
    with pytest.raises(BadEvent, match="unknown event type"):
        from_dicts([{"type": "logout", "ts": 1}], book(), EVERYTHING, SEED)
    assert from_dicts([], book(), EVERYTHING, SEED).n == 0


def test_a_body_of_lines_is_one_batch_and_bad_lines_are_numbered():
    dead = DeadLetters()
    body = b'{"type":"login","ts":1}\nnope\n{"type":"login","ts":2}'
    batch = from_ndjson(body, book(), EVERYTHING, SEED, dead=dead)
    assert batch.ts.tolist() == [1, 2] and dead.count == 1 and "body:2" in dead.why()
    assert from_ndjson(b"", book(), EVERYTHING, SEED).n == 0


def test_many_small_batches_and_few_large_ones_are_the_same_stream(shop, tmp_path):
    path = write_lines(
        tmp_path / "e.ndjson", *[{"type": "login", "ts": i * 7 % 50, "account": f"a{i}"} for i in range(300)]
    )
    one = shop.batches(path, batch_size=1)
    many = shop.batches(path, batch_size=4096)
    assert [t for b in one for t in b.t.tolist()] == [t for b in many for t in b.t.tolist()]
    assert [b.seq0 for b in one] == list(range(300))
    assert np.concatenate([b.hashes["account"] for b in one]).tolist() == many[0].hashes["account"].tolist()


def test_pseudonyms_replace_personal_values_before_they_are_hashed(tmp_path):
    rulebook = book()
    path = write_lines(
        tmp_path / "e.ndjson",
        {"event_id": "1", "type": "login", "ts": 1, "email": "Ann@Example.com"},
        {"event_id": "2", "type": "login", "ts": 2, "email": "bob@x.org"},
    )

    def cover(field, value):
        return f"{field}-{len(value)}"

    (batch,) = read(path, rulebook, EVERYTHING, SEED, pseudonym=cover, records=True, dead=DeadLetters())
    assert batch.text("email") == ["email-15", "email-9"] and batch.text("mail_domain") == ["example.com", "x.org"]
    again = from_dicts(batch.records(), rulebook, EVERYTHING, SEED, settled=True)
    assert again.hashes["email"].tolist() == batch.hashes["email"].tolist()
