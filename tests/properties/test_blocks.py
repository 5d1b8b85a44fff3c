"""A block of NDJSON is decided on like each of its events alone: the same answers, the same log byte for byte, the same state."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shopward import Engine
from shopward.errors import BadEvent
from shopward.ingest.arrivals import parsed
from shopward.store.frames import canonical
from shopward.store.log import read
from shopward.store.vault import Keys, load_keys
from tests.rules.books import book, rule

encode = msgspec.json.encode
NOW = 1_767_225_600_000


def rulebook(more: str = ""):
    lists = "list: {add: blocked_devices, key: device, expires: 1h}"
    return book(
        rule("busy", "device_accounts_24h >= 3", more=more),
        rule("known_bad", 'listed("blocked_devices", device) or mail_domain == "bad.example"', then="deny"),
        "id: writer\ntitle: writer\non: [order]\nwhen: amount > 900\nthen: {action: hold, " + lists + "}\n"
        "tests: [{name: quiet, events: [{type: login, ts: 0, account: a}], expect: {fires: false}}]\n",
        policy="base_currency: USD\ncontrol_percent: 5",
    )


def engine(folder: Path, name: str = "a", **more) -> Engine:
    (folder / name).mkdir(exist_ok=True)
    load_keys(folder / name, Keys.fixed(1))  # the same pseudonyms everywhere
    return Engine(rulebook(), data=folder / name, mode="interpreted", **more)


def usual(rng: random.Random, i: int) -> dict:
    return {
        "event_id": f"e{i}", "type": rng.choice(("login", "order", "coupon_claim")), "ts": NOW + i * 1000, "account": f"a{rng.randrange(9)}",
        "device": f"d{rng.randrange(5)}", "email": f"k{rng.randrange(30)}@{rng.choice(('shop.example', 'bad.example'))}",
        "amount": rng.randrange(0, 100_000) / 100, "items": rng.randrange(4), "success": rng.random() < 0.5, "country": "DE",
    }  # fmt: skip


def strange(rng: random.Random, event: dict) -> bytes:
    """The same event in a way that is seldom met; some of them are none."""
    more = rng.choice(
        [
            {"amount": "12.50"}, {"amount": 0.1}, {"amount": 1e3}, {"amount": "x"}, {"amount": -1}, {"items": 0.00001}, {"items": "007"},
            {"items": -0.0}, {"items": 1e300}, {"items": [1]}, {"account": 17}, {"account": ""}, {"account": "a\n\"1"}, {"country": ""},
            {"country": "Zürich \u2028"}, {"email": "UP@Shop.Example"}, {"email": None}, {"success": "1"}, {"success": "no"}, {"type": "label"},
            {"type": "nothing"}, {"ts": "2026-01-01T00:00:00Z"}, {"ts": "yesterday"}, {"extra": 3}, {"nested": {"a": 1}}, {"label": 1},
            {"mail_domain": "own.example"}, {"event_id": 7}, {"event_id": "q\"\u00e9"}, {"seq": 3}, {"label_source": "x"}, {"device": "d" * 9000},
        ]
    )  # fmt: skip
    line = encode(event | more)
    broken = rng.randrange(12)
    return line[:-1] if broken == 0 else line + b"x" if broken == 1 else b'"\xff"' if broken == 2 else line


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32), share=st.sampled_from((0.0, 0.1, 0.6)))
def test_a_block_is_decided_like_its_events_one_by_one(tmp_path_factory, seed, share):
    folder, rng = tmp_path_factory.mktemp("blocks"), random.Random(seed)
    lines, n = [], 0
    for _ in range(2):
        block = []
        for _ in range(40):
            n += rng.random() < 0.93  # now and then the same id, with other or the same content
            event = usual(rng, n)
            block.append(strange(rng, event) if rng.random() < share else encode(event))
            block += [block[-1]] * (rng.random() < 0.05)
        lines.append(block)
    with engine(folder, "columns") as columns, engine(folder, "single") as single:
        for block in lines:
            answers = columns.journal.decide_lines(columns, b"\r\n\n".join(block))
            text, offsets = answers.written()
            assert answers.n == len(block) and answers.line.tolist() == [2 * i for i in range(len(block))]
            for i, line in enumerate(block):
                want = _decided(single, line)
                if isinstance(want, BadEvent):
                    assert str(answers.wrong[i]) == str(want) and offsets[i] == offsets[i + 1]
                else:
                    assert text[offsets[i] : offsets[i + 1]] == encode(want) + b"\n"
        hashed = single.state_hash()
        assert columns.state_hash() == hashed
        assert columns.journal.dedup.duplicates == single.journal.dedup.duplicates
        assert columns.journal.dedup.conflicts == single.journal.dedup.conflicts
    ours, theirs = _kept(folder / "columns"), _kept(folder / "single")
    assert ours == theirs
    assert all(canonical([msgspec.json.decode(line)]) == line + b"\n" for line, *_ in ours)
    assert _replayed(folder / "columns") == hashed


def _decided(single: Engine, line: bytes):
    try:
        return single.decide_events([parsed(line)])[0]
    except BadEvent as wrong:
        return wrong


def _kept(data: Path) -> list[tuple]:
    """Every event in the log with its id, time, hash of content and decision."""
    frames = [frame for frame in read(data / "log") if frame.n]
    return [
        row for f in frames for row in zip(f.lines(), f.event_ids(), f.t.tolist(), f.content.tolist(), f.decided(), strict=True)
    ]  # fmt: skip


def _replayed(data: Path) -> str:
    """The state after a replay of the whole log, without the snapshot."""
    for snapshot in (data / "state").glob("*.snapshot*"):
        snapshot.unlink()
    with Engine(rulebook(), data=data, mode="interpreted") as found:
        return found.state_hash()


def test_a_block_that_fails_half_way_is_decided_event_by_event(tmp_path, monkeypatch):
    block = [usual(random.Random(1), i) for i in range(60)]
    with engine(tmp_path) as broken:
        monkeypatch.setattr(broken, "judge", _explode)
        answers = broken.journal.decide_lines(broken, b"\n".join(map(encode, block)))
        assert not answers.wrong and broken.journal.rebuilt == 1
        found = [msgspec.json.decode(line)["event_id"] for line in answers.written()[0].splitlines()]
    assert found == [event["event_id"] for event in block]
    assert [row[1] for row in _kept(tmp_path / "a")] == found


def _explode(batch):
    raise ZeroDivisionError


def test_after_an_erasure_the_same_value_gets_another_name(tmp_path):
    (tmp_path / "a").mkdir()
    with Engine(rulebook(), data=tmp_path / "a", mode="interpreted") as live:
        names = []
        for k in range(2):
            block = [
                usual(random.Random(1), i) | {"event_id": f"{k}-{i}", "email": "kim@shop.example"} for i in range(30)
            ]
            live.journal.decide_lines(live, b"\n".join(map(encode, block)))
            record = msgspec.json.decode(live.journal.log.frame_with(30 * k).lines()[0])
            names.append(record["email"])
            live.journal.vault.erase("email", "kim@shop.example")
        assert names[0] != names[1] and live.journal.vault.reveal(names[1]) is None
        assert all(name.startswith("p_") and len(name) == 34 for name in names)


@pytest.mark.parametrize("chunk", [1, 7, 4096])
def test_lines_keep_their_numbers_however_they_arrive(chunk):
    import asyncio

    from shopward.serve.http import MAX_EVENT, lines_as_they_come

    body = (
        b'{"a":1}\n\n{"b":2}\n' + b"x" * (MAX_EVENT + 1) + b'\n{"c":3}'
        if chunk > 1
        else b'{"a":1}\n\n{"b":2}\n\n{"c":3}'
    )
    parts = [body[i : i + chunk] for i in range(0, len(body), chunk)]

    async def receive():
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def story():
        found: dict[int, object] = {}
        async for lines in lines_as_they_come({"headers": []}, receive):
            found |= {
                lines.number + i: line for i, line in enumerate(lines.raw.split(b"\n")) if line.strip()
            } | lines.wrong
        return found

    found = asyncio.run(story())
    assert {k: found[k] for k in (1, 3, 5)} == {1: b'{"a":1}', 3: b'{"b":2}', 5: b'{"c":3}'}
    assert found.keys() - {1, 3, 5} == ({4} if chunk > 1 else set())
