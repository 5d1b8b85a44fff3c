"""NDJSON: the fast scanner reads what the slow path reads, and nothing else."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shopward.errors import BadEvent
from shopward.ingest import Clock, DeadLetters, Normaliser, from_dicts, from_ndjson
from shopward.ingest.blocks import load_json
from tests.ingest.conftest import EVERYTHING, SCHEMA, SEED, book, same_columns, write_lines

BOOK = book(SCHEMA + "constants: {type: login, device: web, weight: 0.5, success: true, tags: [none]}\n")
NORMALISER = Normaliser.of(BOOK)
KNOWN = {"event_id", "ts", "type", "seq", "label", "label_event", "label_source", *BOOK.schema.fields}


def slowly(lines: list[bytes]) -> tuple[list[dict], list[tuple[int, str]]]:
    """Events and (line, reason) of what is none, each line by itself through the definition."""
    events, dead = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip(b" \t\r"):
            continue
        try:
            event, _ = NORMALISER.read(load_json(np.frombuffer(line.lstrip(b" \t\r"), np.uint8), KNOWN))
            events.append({"event_id": f"id:{number}"} | event)
        except BadEvent as why:
            dead.append((number, str(why)))
    return events, dead


class Letters(DeadLetters):
    def __init__(self):
        super().__init__()
        self.seen: list[tuple[int, str]] = []

    def put(self, file, line, why, record=None):
        super().put(file, line, why, record)
        self.seen.append((line, str(why)))


def both_ways(lines: list[bytes]) -> None:
    letters = Letters()
    fast = from_ndjson(b"\n".join(lines), BOOK, EVERYTHING, SEED, dead=letters, clock=Clock())
    events, dead = slowly(lines)
    prefix = next(
        (i.rsplit(":", 1)[0] for i in fast.event_ids if i.count(":") == 1 and len(i.split(":")[0]) == 12), None
    )
    for event in events:
        if event["event_id"].startswith("id:") and prefix:
            event["event_id"] = event["event_id"].replace("id:", prefix + ":", 1)
    assert letters.seen == dead
    same_columns(fast, from_dicts(events, BOOK, EVERYTHING, SEED, settled=True, clock=Clock()))
    assert fast.records() == events


IDS = st.text(st.sampled_from('abcdefgh-_.:é\u4e2d\U0001f600 "\\\n\u2028'), max_size=40)
NUMBERS = st.one_of(
    st.integers(-(10**25), 10**25), st.integers(-100, 10**7), st.floats(allow_nan=True, allow_infinity=True),
    st.decimals(-1000, 10**6, places=3).map(float), st.sampled_from([0.285, -0.0, 1e300, 5e-324, 0.005, 0.015, 1e15 + 0.5, 10**10, 10**10 + 1]),
)  # fmt: skip
ODDITIES = st.one_of(
    st.none(), st.booleans(), IDS, NUMBERS, st.lists(IDS, max_size=3), st.dictionaries(IDS, NUMBERS, max_size=2)
)
TEXT_NUMBERS = st.one_of(
    NUMBERS.map(str),
    st.sampled_from(["", " 5", "1e3", "1.", ".5", "+1", "007", "1_0", "٣", "NaN", "0x1", "-0", "1e999"]),
)
TIMES = st.one_of(
    st.integers(0, 1_800_000_000_000),
    st.sampled_from([
        "2026-01-31", "2026-01-31T12:00:00Z", "2026-02-30", "2026-01-31 23:59:59.123456", "2026-01-31T12:00:00+05:30", "2024-02-29T00:00:00Z",
        "2026-01-31T12:00", "2026-01-31T12:00:00.5-18:00", "2026-01-31T24:00:00Z", "1767225600000", "2026-W05-1", "20260131", "x", "1969-12-31", 1.5,
        "2026-01-31T12:00:00+19:00", "2026-1-31", -5, "2026-01-31T12:00:00.Z", 1e12, "1970-01-01T00:30:00+01:00", 99999999999999999,
    ]),
)  # fmt: skip
NAMES = st.sampled_from(["a", "b", "a_b", "domain", "id", "label", "", "page_a", "a\u0000", "_"])
LEAVES = st.one_of(st.none(), st.booleans(), IDS, NUMBERS, st.lists(st.one_of(IDS, NUMBERS, st.none()), max_size=3))
NESTED = st.one_of(
    LEAVES, st.dictionaries(NAMES, LEAVES, max_size=4), st.dictionaries(NAMES, st.dictionaries(NAMES, LEAVES, max_size=2), max_size=2),
    st.lists(st.one_of(st.lists(IDS, max_size=2), st.dictionaries(NAMES, LEAVES, max_size=2)), max_size=2),
)  # fmt: skip
EVENTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["login", "order", "payment", "refund", "refnd", "label", None, 5]), "ts": TIMES},
    optional={
        "event_id": st.one_of(IDS, st.integers()),
        "account": st.one_of(IDS, st.integers(-(10**20), 10**20), ODDITIES),
        "seller": IDS, "device": st.one_of(IDS, NUMBERS),
        "email": st.one_of(st.sampled_from(["Ann@Example.com", "a@b.c", "no-at", "x@", "ü@Ü.de", " a@b.c "]), IDS),
        "phone": st.sampled_from(["+15550109999", "0044 20 7946 0000", "12", "", 15550109999]),
        "ip": st.sampled_from(["1.2.3.4", "256.1.1.1", "2001:db8::1", "::ffff:1.2.3.4", "01.2.3.4", "x", "", "1.2.3", "1.2.3.4.5"]),
        "amount": st.one_of(NUMBERS, TEXT_NUMBERS, ODDITIES), "balance": st.one_of(NUMBERS, TEXT_NUMBERS), "weight": st.one_of(NUMBERS, TEXT_NUMBERS),
        "rating": st.one_of(NUMBERS, TEXT_NUMBERS, ODDITIES),
        "success": st.one_of(st.sampled_from([True, False, 0, 1, 2, "true", "False", "1", "yes", 1.0, ""]), ODDITIES),
        "born": TIMES, "tags": st.one_of(st.lists(st.one_of(IDS, NUMBERS), max_size=4), ODDITIES), "note": ODDITIES,
        "label": st.sampled_from([0, 1, 2, "1", True, None]), "label_event": IDS, "seq": ODDITIES,
        "unknown": ODDITIES, "account_x": ODDITIES, "mail_domain": IDS, "page": NESTED, "page_a": ODDITIES, "mail": NESTED, "event": NESTED,
        "p": NESTED, "": NESTED, "page_": NESTED,
    },
)  # fmt: skip


def as_json(event: dict, shape: int) -> bytes:
    """The same record as different producers write it."""
    text = json.dumps(
        event,
        ensure_ascii=shape & 1 == 0,
        separators=(",", ":") if shape & 2 else None,
        sort_keys=bool(shape & 4),
        allow_nan=True,
    )
    if shape & 8:
        text = " " + text + "\t\r"
    return text.encode("utf-8", "surrogatepass")


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(EVENTS, st.integers(0, 15)), max_size=12))
def test_hostile_records_are_read_the_same_fast_and_slowly(records):
    both_ways([as_json(event, shape) for event, shape in records])


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(EVENTS, st.integers(0, 15), st.data())
def test_damaged_bytes_are_read_the_same_fast_and_slowly(event, shape, data):
    line = bytearray(as_json(event, shape))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(line) - 1))
        change = data.draw(st.sampled_from(["cut", "byte", "twice", "drop"]))
        if change == "cut":
            del line[at + 1 :]
        elif change == "byte":
            line[at] = data.draw(st.sampled_from(b'"\\{}[],:0123456789eE+-.tfn \x00\x1f\x7f\x80\xc3\xe2\xed\xf0\xff'))
        elif change == "twice":
            line[at:at] = line[at : at + data.draw(st.integers(1, 20))]
        else:
            del line[at : at + data.draw(st.integers(1, 5))]
        if not line:
            return
    good = b'{"type":"login","ts":1767225600000,"account":"a"}'
    both_ways([good, *bytes(line).replace(b"\n", b" ").split(b"\r"), good])


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"login","ts":1,"account":"a","account":"b"}',
        b'{"type":"login","ts":1,"other":"a","other":"b"}',
        b'{"type":"login","ts":1,"acc\\u006funt":"a","account":"b"}',
        b'{"type":"login","ts":1,"x":{"a":1,"a":2}}',
        b'{"type":"login","ts":1,"account":99999999999999999999}',
        b'{"type":"login","ts":1,"account":18446744073709551615,"seller":-9223372036854775808}',
        b'{"type":"login","ts":1,"account":-0,"seller":-7,"device":1.0}',
        b'{"type":"login","ts":1,"rating":18446744073709551616}',
        b'{"type":"login","ts":9999999999999999,"born":1e3}',
        b'{"type":"login","ts":1,"x":{"a":1},"x":2}',
        b'{"type":"login","ts":1,"x":2,"x":{"a":1}}',
        b'{"type":"login","ts":1,"x_a":2,"x":{"a":1}}',
        b'{"type":"login","ts":1,"x":{"a_b":1},"x_a":{"b":2}}',
        b'{"type":"login","ts":1,"mail":{"domain":"a.b"}}',
        b'{"type":"login","ts":1,"x":{"a":[1,"b",null,true]},"y":[],"z":{},"w":[[1]]}',
        b'{"type":"login","ts":1,"x":[1,2,,3]}',
        b'{"type":"login","ts":1,"x":[1,2',
        b'{"type":"login","ts":1,"x":[1 2]}',
        b'{"type":"login","ts":1,"x":{"a":1,}}',
        b'{"type":"login","ts":1,"x":{"a"}}',
        b'{"type":"login","ts":1,"x":' + b"1" * 400 + b"}",
        b'{"type":"login","ts":1,"x":{' + b",".join(b'"f%d":1' % i for i in range(70)) + b"}}",
        b'{"type":"login","ts":1,' + b",".join(b'"f%d":1' % i for i in range(70)) + b',"f1":{"a":1}}',
        b'{"type":"login","ts":1,' + b",".join(b'"f%d":{"a":1}' % i for i in range(40)) + b"}",
        b'{"type":"login","ts":1,"account":{"id":1}}',
        b'{"type":"login","ts":1,"note":"\xc3\x28"}',
        b'{"type":"login","ts":1,"unknown":"\xed\xa0\x80"}',
        b'{"type":"login","ts":1,"unknown":"\\ud800"}',
        b'{"type":"login","ts":1,"unknown":"\\u00e9\\n\\"\\\\\\/"}',
        b'{"type":"login","ts":1,"unknown":"\\x"}',
        b'{"type":"login","ts":1,"unknown":"tab\there"}',
        b'{"type":"login","ts":01}',
        b'{"type":"login","ts":1}}',
        b'{"type":"login","ts":1,}',
        b'{"type":"login" "ts":1}',
        b'["login"]',
        b"null",
        b"{}",
        b'{"type":"login","ts":1,"rating":1.7976931348623157e308}',
        b'{"type":"login","ts":1,"rating":1e400}',
        b'{"type":"login","ts":1,"amount":123456789012345.67}',
        b'{"type":"login","ts":1,"amount":10000000000.00}',
        b'{"type":"login","ts":1,"amount":10000000000.01}',
        b'{"type":"login","ts":1,"amount":0.005,"balance":-0.015}',
        b'{"type":"login","ts":1,"amount":-0.001}',
        b'{"type":"login","ts":1,"note":"' + b"x" * 8192 + b'"}',
        b'{"type":"login","ts":1,"note":"' + b"x" * 8193 + b'"}',
        b'{"type":"login","ts":1,"note":"' + "é".encode() * 4097 + b'"}',
        b'{"type":"login","ts":1,' + b",".join(b'"f%d":1' % i for i in range(998)) + b"}",
        b'{"type":"login","ts":1,' + b",".join(b'"f%d":1' % i for i in range(999)) + b"}",
        b"[" * 100_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b'{"type":"label","ts":1,"label":1,"label_event":"e"}',
        b'{"type":"label","ts":1,"label":2,"label_event":"e"}',
        b'{"type":"label","ts":1,"label":1}',
        b'{"type":"login","ts":1,"label":"soon"}',
        b'{"type":"login","ts":1,"amount_original":5,"amount":7}',
        b'{"type":"login","ts":1,"a_very_long_field_name_that_is_over_thirty_two_bytes":1,"account":"x"}',
    ],
)
def test_corner_cases_are_read_the_same_fast_and_slowly(line):
    both_ways([line])


def test_ordinary_lines_become_columns(shop, tmp_path):
    path = write_lines(
        tmp_path / "events.ndjson",
        {"event_id": "e1", "type": "login", "ts": "2026-01-01T00:00:00Z", "account": "ann", "success": True},
        {
            "event_id": "e2",
            "type": "payment",
            "ts": 1767225601000,
            "account": "ann",
            "amount": 12.345,
            "tags": ["a", "b"],
        },
    )
    (batch,) = shop.batches(path)
    assert list(batch.event_ids) == ["e1", "e2"]
    assert batch.ts.tolist() == [1767225600000, 1767225601000]
    assert [BOOK.schema.types[code] for code in batch.types] == ["login", "payment"]
    assert batch.minor["amount"].tolist()[1] == 1234  # half to even
    assert batch.numbers["amount"][1] == 12.34
    assert batch.numbers["success"][0] == 1.0
    assert (batch.hashes["account"][0] == batch.hashes["account"][1]).all()
    assert batch.lists["tags"][0].tolist() == [0, 0, 2]
    assert batch.text("account") == ["ann", "ann"]
    assert batch.text("tags") == [None, ["a", "b"]]


def test_ordinary_lines_never_touch_the_slow_path(shop, tmp_path, monkeypatch):
    def refuse(*args):
        raise AssertionError("an ordinary record was read slowly")

    monkeypatch.setattr("shopward.ingest.blocks.load_json", refuse)
    path = write_lines(
        tmp_path / "events.ndjson",
        {
            "event_id": "e1",
            "type": "login",
            "ts": "2026-01-01T00:00:00.250Z",
            "account": "ann",
            "success": True,
            "page": "a\n\u00e9",
        },
        {
            "type": "order",
            "ts": 1767225601000,
            "account": 7,
            "amount": "12.50",
            "rating": -4.5,
            "email": "ann@example.com",
            "x": None,
        },
        {
            "ts": 1767225601000,
            "type": "payment",
            "weight": 0.1235,
            "ip": "203.0.113.9",
            "phone": "+15550109999",
            "born": "2001-02-03",
        },
        {
            "type": "label",
            "ts": 1767225601000,
            "label": 1,
            "label_event": "e1",
            "label_source": "Jürgen",
            "account": "ann",
        },
    )
    (batch,) = shop.batches(path, records=False)
    assert batch.n == 4
    assert (
        batch.minor["weight"][2] == 124
        and batch.text("net")[2] == "203.0.113.9"
        and batch.text("mail_domain")[1] == "example.com"
    )


def test_a_file_cut_anywhere_into_blocks_gives_the_same(shop, tmp_path, monkeypatch):
    records = [
        {"event_id": f"é{i}", "type": "login", "ts": i, "account": "a" * (i % 97), "n": {"x": i}} for i in range(500)
    ]
    path = write_lines(tmp_path / "e.ndjson", *records)
    whole = shop.events(path)
    monkeypatch.setattr("shopward.ingest.blocks.BLOCK", 97)
    assert shop.events(path) == whole
    assert len(whole) == 500 and whole[7]["n_x"] == 7


def test_blank_lines_and_the_last_line_without_newline_count_right(shop, tmp_path):
    path = tmp_path / "e.ndjson"
    path.write_bytes(b'\xef\xbb\xbf\n\r\n{"type":"login","ts":1}\r\n   \nnonsense\n{"type":"login","ts":2}')
    events = shop.events(path)
    assert [event["ts"] for event in events] == [1, 2]
    assert [event["event_id"].split(":")[1] for event in events] == ["3", "6"]
    assert shop.dead.count == 1 and ":5)" in shop.dead.why()


def test_a_record_without_id_is_named_after_its_file_and_row(shop, tmp_path):
    one = write_lines(tmp_path / "a.ndjson", {"type": "login", "ts": 1}, {"type": "login", "ts": 2})
    ids = [event["event_id"] for event in shop.events(one)]
    copy = tmp_path / "copy.ndjson"
    copy.write_bytes(one.read_bytes())
    assert [event["event_id"] for event in shop.events(copy)] == ids, "the same file gives the same ids"
    assert len(set(ids)) == 2 and all(len(i.split(":")[0]) == 12 for i in ids)
