"""The engine on a disk that dies, tears, fills up or stalls, and under clocks that jump: nothing acknowledged is lost, nothing is
decided twice, and the state is always the one that the surviving events make."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from random import Random

import httpx
import msgspec
import pytest

from shopward import Engine
from shopward.decision import Decision
from shopward.errors import BadEvent, CorruptStore, StoreFull, UsageError
from shopward.serve.app import App, Decider
from shopward.store.log import read
from tests.end_to_end.story import START, rulebook, write_events
from tests.rules.books import book, rule
from tests.store.forgetful import ForgetfulDisk, PowerCut

ROOT = Path(__file__).parents[2]
LABELS = 'account_fraud_90d: {entity: account, measure: sum(label), over: 90d, where: type == "label"}'


@pytest.fixture(scope="module")
def stream(tmp_path_factory) -> list[dict]:
    """300 events, some late, some very late, some sent twice."""
    path = tmp_path_factory.mktemp("stream") / "events.ndjson"
    write_events(path, 300, seed=5)
    events = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    for event in {id(e): e for e in events if int(e["event_id"][1:]) % 7 == 6}.values():
        event["ts"] -= 3 * 3_600_000  # later than the policy allows: it counts at the edge
    return events


def order(i: int, **fields) -> dict:
    return {
        "event_id": f"e{i}",
        "type": "order",
        "ts": START + i * 1000,
        "account": "a1",
        "device": "d1",
        "amount": 5.0,
    } | fields


def opened(data: Path, disk: ForgetfulDisk | None = None, **options) -> Engine:
    return Engine(options.pop("book", None) or rulebook(), data=data, disk=disk, mode="interpreted", **options)


def kept(data: Path, disk: ForgetfulDisk) -> tuple[list[dict], list[dict]]:
    """Events and decisions in the log; fails when one event is there twice."""
    events, decisions = [], []
    for frame in read(data / "log", disk):
        if frame.kind == "events":
            events += frame.records()
            decisions += frame.decided()
    ids = [event["event_id"] for event in events]
    assert len(ids) == len(set(ids)), "an event was decided twice"
    return events, decisions


def undisturbed(seed: bytes, events: list[dict], cut: int) -> tuple[str, list]:
    """State and decisions of an engine that nothing happened to, fed these events from a log."""
    calm, decisions = Engine(rulebook(), seed=seed, mode="interpreted"), []
    step = 1 if calm.row_features.one_by_one else cut
    for start in range(0, len(events), step):
        decisions += calm.decide_batch(calm.batch(events[start : start + step]))
    return calm.state_hash(), decisions


def plain(decision: Decision) -> dict:
    """A decision as the log gives it back."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(decision))


def close(engine: Engine) -> None:
    """The process is gone: nothing more reaches the disk, the vault's file is let go."""
    engine.journal.dedup.close()
    engine.journal.vault.tables.close()


# ---- crashes


@pytest.mark.parametrize("seed", range(5))
def test_power_cuts_at_any_moment_lose_no_acknowledged_event_and_repeat_none(tmp_path, stream, seed):
    chance, disk, answered, sent = Random(seed), ForgetfulDisk(), {}, 0
    while True:
        disk.operations_left = -1
        engine = opened(tmp_path, disk)
        events, decisions = kept(tmp_path, disk)
        stored = {d["event_id"]: d for d in decisions}
        assert {id: stored.get(id) for id in answered} == answered, "an acknowledged decision is lost or changed"
        state, again = undisturbed(engine.seed, events, cut=chance.randrange(1, 50))
        assert (engine.state_hash(), engine.seq) == (state, len(events))
        assert [plain(d) for d in again] == decisions
        if sent >= len(stream):
            break
        disk.operations_left = chance.randrange(1, 24)
        with suppress(PowerCut):
            while sent < len(stream):
                group = stream[sent : sent + chance.randrange(1, 12)]
                for decision in engine.decide_events(group):
                    answered[decision.event_id] = plain(decision)
                sent += len(group)
                if chance.random() < 0.2:
                    engine.snapshot()
        close(engine)
        disk = disk.crash(chance)
        sent = max(sent - chance.randrange(10), 0)  # the shop sends again what it is not sure of
    close(engine)
    assert answered.keys() == {event["event_id"] for event in stream}


def test_a_crash_right_after_every_single_disk_operation_of_one_batch_is_survived(tmp_path, stream):
    disk = ForgetfulDisk()
    engine = opened(tmp_path / "0", disk)
    engine.decide_events(stream[:40])
    engine.close()
    before = disk.crash(Random(0))
    for operations in range(1, 40):
        disk = before.crash(Random(operations))
        engine = opened(tmp_path / "0", disk)
        disk.operations_left = operations
        try:
            told = engine.decide_events(stream[40:80])
            engine.snapshot()
            finished = True
        except PowerCut:
            finished = False
        close(engine)
        disk = disk.crash(Random(operations))
        engine = opened(tmp_path / "0", disk)
        again = engine.decide_events(stream[40:80])
        if finished:
            assert again == told
        events, _ = kept(tmp_path / "0", disk)
        assert engine.state_hash() == undisturbed(engine.seed, events, 7)[0]
        close(engine)
        if finished:
            break
    assert finished and operations > 5


def test_a_torn_last_segment_is_cut_and_its_events_are_decided_when_they_come_again(tmp_path, stream):
    engine = opened(tmp_path)
    engine.decide_events(stream[:20])
    engine.journal.release()
    whole = sum(p.stat().st_size for p in (tmp_path / "log").glob("*.log"))
    engine = opened(tmp_path)
    engine.decide_events(stream[20:30])
    engine.journal.release()
    segment = max((tmp_path / "log").glob("*.log"))
    data = segment.read_bytes()
    for keep in (whole + 1, whole + 60, len(data) - 1):
        segment.write_bytes(data[:keep])
        engine = opened(tmp_path)
        assert engine.seq == 20 and str(engine.journal.log.cut).startswith(str(segment))
        assert [d.event_id for d in engine.decide_events(stream[20:30])] == [e["event_id"] for e in stream[20:30]]
        engine.journal.release()
        assert max((tmp_path / "log").glob("*.log")).read_bytes()[:whole] == data[:whole]


def test_damage_inside_the_log_is_named_and_the_folder_can_be_opened_again_once_it_is_mended(tmp_path, stream):
    engine = opened(tmp_path)
    for i in range(0, 40, 10):
        engine.decide_events(stream[i : i + 10])
    engine.journal.release()
    segment = max((tmp_path / "log").glob("*.log"))
    data = segment.read_bytes()
    segment.write_bytes(data[:900] + bytes([data[900] ^ 1]) + data[901:])
    with pytest.raises(CorruptStore, match=re.escape(segment.name)):
        opened(tmp_path)
    segment.write_bytes(data)
    engine = opened(tmp_path)  # nothing holds the folder since the failed try
    assert engine.seq == 40
    engine.close()


def test_an_older_snapshot_or_none_gives_the_same_state(tmp_path, stream):
    engine = opened(tmp_path)
    for i in range(0, 200, 50):
        engine.decide_events(stream[i : i + 50])
        engine.snapshot()
    state, lists = engine.state_hash(), engine.lists.entries()
    engine.close()
    snapshots = sorted((tmp_path / "state").glob("*.snapshot"))
    assert len(snapshots) == 2
    for path in reversed(snapshots):
        path.write_bytes(path.read_bytes()[:-100])
        engine = opened(tmp_path)
        assert engine.state_hash() == state and engine.lists.entries() == lists
        engine.journal.release()


# ---- a full disk


def test_a_full_disk_refuses_loses_nothing_and_doubles_nothing(tmp_path, stream):
    disk = ForgetfulDisk()
    engine = opened(tmp_path, disk)
    first = engine.decide_events(stream[:30])
    disk.capacity = disk.capacity - disk.room() + 500  # room for half a frame
    with pytest.raises(StoreFull, match="send the same events again"):
        engine.decide_events(stream[30:60])
    for _ in range(3):
        with pytest.raises(StoreFull):
            engine.decide_events(stream[30:60])
        with pytest.raises(StoreFull):
            engine.decide_events(stream[60:70])
    disk.capacity = 1 << 40
    second = engine.decide_events(stream[30:60])
    assert engine.decide_events(stream[:30]) == first and engine.decide_events(stream[30:60]) == second
    events, decisions = kept(tmp_path, disk)
    ids = list(dict.fromkeys(e["event_id"] for e in stream[:60]))
    assert [e["event_id"] for e in events] == ids  # 60 to 70 were never taken
    assert {d.event_id: plain(d) for d in [*first, *second]} == {d["event_id"]: d for d in decisions}
    assert engine.state_hash() == undisturbed(engine.seed, events, 9)[0]
    close(engine)


def test_a_full_disk_then_a_crash_keeps_exactly_what_was_answered(tmp_path, stream):
    disk = ForgetfulDisk()
    engine = opened(tmp_path, disk)
    engine.decide_events(stream[:30])
    disk.capacity = disk.capacity - disk.room() + 500
    with pytest.raises(StoreFull):
        engine.decide_events(stream[30:60])
    close(engine)
    disk = disk.crash(Random(1))
    disk.capacity = 1 << 40
    engine = opened(tmp_path, disk)
    events, _ = kept(tmp_path, disk)
    assert {e["event_id"] for e in stream[:30]} <= {e["event_id"] for e in events}
    assert engine.state_hash() == undisturbed(engine.seed, events, 9)[0]
    engine.decide_events(stream[30:60])
    assert len(kept(tmp_path, disk)[0]) == len({e["event_id"] for e in stream[:60]})
    close(engine)


def test_a_disk_that_fills_up_inside_a_large_group_decides_the_rest_when_there_is_room(tmp_path):
    writes = (
        book(  # a feature reads the list that a rule writes: events are decided one by one, each with its own frame
            rule("seen", "amount > 0", "{action: review, list: {add: blocked_devices, key: device}}"),
            features="device_known: {list: blocked_devices, entity: device}",
        )
    )
    disk = ForgetfulDisk()
    engine = opened(tmp_path, disk, book=writes)
    group = [order(i, device=f"d{i % 7}", note="x" * 40_000) for i in range(200)]
    disk.capacity = disk.capacity - disk.room() + 3_000_000
    with pytest.raises(StoreFull):
        engine.decide_events(group)
    disk.capacity = 1 << 40
    answers = engine.decide_events(group)
    assert [a.event_id for a in answers] == [e["event_id"] for e in group]
    assert [e["event_id"] for e in kept(tmp_path, disk)[0]] == [e["event_id"] for e in group]
    assert engine.decide_events(group) == answers
    state = engine.state_hash()
    close(engine)
    engine = opened(tmp_path, disk.kill(), book=writes)
    assert engine.state_hash() == state
    close(engine)


def test_no_room_for_a_snapshot_is_no_reason_to_refuse_answers(tmp_path, stream, monkeypatch):
    import shopward.durable as durable

    monkeypatch.setattr(durable, "SNAPSHOT_EVERY", 20)
    monkeypatch.setattr(durable, "SNAPSHOT_AGAIN", 10)
    disk, twin = ForgetfulDisk(), ForgetfulDisk()
    with monkeypatch.context() as patch:  # how much room the events take, without a snapshot
        patch.setattr(durable.Journal, "snapshot_when_due", lambda journal, engine: None)
        other = opened(tmp_path / "twin", twin)
        empty = twin.capacity - twin.room()
        other.decide_events(stream[:30])
        room = twin.capacity - twin.room() - empty
        close(other)
    engine = opened(tmp_path, disk)
    disk.capacity = disk.capacity - disk.room() + room + 100
    assert len(engine.decide_events(stream[:30])) == 30
    assert isinstance(engine.journal.trouble, StoreFull)
    disk.capacity = 1 << 40
    engine.decide_events(stream[30:45])
    assert engine.journal.trouble is None and engine.journal.snapshot_due > 45
    close(engine)


def test_a_disk_that_refuses_to_force_stops_the_engine_and_a_restart_recovers(tmp_path, stream):
    disk = ForgetfulDisk()
    engine = opened(tmp_path, disk)
    told = engine.decide_events(stream[:10])
    disk.sync_error = 5
    with pytest.raises(CorruptStore, match="restart to recover"):
        engine.decide_events(stream[10:20])
    disk.sync_error = 0
    with pytest.raises(CorruptStore, match="restart to recover"):  # what the disk holds is not known any more
        engine.decide_events(stream[:10])
    close(engine)
    disk = disk.crash(Random(3))
    engine = opened(tmp_path, disk)
    assert engine.decide_events(stream[:10]) == told
    assert len(engine.decide_events(stream[10:20])) == 10
    close(engine)


def test_breaking_off_in_the_middle_of_a_batch_never_saves_half_a_state(tmp_path, stream, monkeypatch):
    engine = opened(tmp_path)
    engine.decide_events(stream[:10])
    good = engine.state_hash()

    def interrupted(events, judge=engine.judge_each):
        judge(events[:3])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(engine, "judge_each", interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.decide_events(stream[10:20])
    engine.close()
    engine = opened(tmp_path)
    assert engine.state_hash() == good and engine.seq == 10
    assert len(engine.decide_events(stream[10:20])) == 10
    engine.close()


def test_after_breaking_off_memory_is_built_again_and_deciding_goes_on(tmp_path, stream, monkeypatch):
    whole = opened(tmp_path / "whole")
    whole.decide_events(stream[:20])
    engine = opened(tmp_path / "broken")
    engine.decide_events(stream[:10])

    def interrupted(events, judge=engine.judge_each):
        judge(events[:3])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(engine, "judge_each", interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.decide_events(stream[10:20])
    assert len(engine.decide_events(stream[10:20])) == 10
    assert engine.seq == whole.seq == 20
    engine.close()
    whole.close()


def test_the_folder_is_free_again_after_it_could_not_be_opened(tmp_path, monkeypatch):
    opened(tmp_path).close()
    with monkeypatch.context() as patch:
        patch.setattr("shopward.decide.Rules", None)
        with pytest.raises(TypeError):
            opened(tmp_path)
    engine = opened(tmp_path)
    with pytest.raises(UsageError, match="in use"):
        opened(tmp_path)
    engine.close()


# ---- clocks and repeats


def machine_clock(monkeypatch, at: list[int]) -> None:
    """The machine's clock shows `at[0]` ms."""
    monkeypatch.setattr(time, "time_ns", lambda: at[0] * 1_000_000)


def test_a_server_clock_that_goes_back_stands_still_also_over_a_restart(tmp_path, monkeypatch):
    now = [START + 10_000_000]
    machine_clock(monkeypatch, now)
    engine = opened(tmp_path, clock="server")
    engine.decide(order(1, ts=now[0]))
    now[0] -= 5_000_000
    engine.decide(order(2, ts=now[0]))
    assert engine.clock.value == START + 10_000_000
    state = engine.state_hash()
    engine.journal.release()
    engine = opened(tmp_path, clock="server")
    assert engine.clock.now() == START + 10_000_000 and engine.state_hash() == state
    engine.decide(order(3, ts=now[0]))
    times = [int(t) for frame in engine.journal.log.replay() for t in frame.t]
    late = START + 10_000_000 - engine.policy.lateness_ms
    assert times == [START + 10_000_000, max(now[0], late), max(now[0], late)]
    engine.close()


def test_a_server_takes_an_event_from_2099_as_of_now_and_a_stream_refuses_it(tmp_path):
    far = 4_070_908_800_000
    server = opened(tmp_path / "server", clock="server")
    assert server.decide(order(1, ts=far)).ts == far
    [frame] = [f for f in server.journal.log.replay() if f.n]
    assert int(frame.t[0]) == server.clock.value + server.policy.skew_ms < far
    assert server.decide(order(2)).action == "allow"
    server.close()
    logged, memory = opened(tmp_path / "stream"), Engine(rulebook(), mode="interpreted")
    for engine in (logged, memory):
        engine.decide(order(1))
        clock, state = engine.clock.value, engine.state_hash()
        with pytest.raises(BadEvent, match="ts: in the future .2099-01-01T00:00:00Z."):
            engine.decide(order(2, ts=far))
        assert isinstance(engine.decide_events([order(3, ts=far)])[0], BadEvent)
        assert (engine.clock.value, engine.state_hash(), engine.seq) == (clock, state, 1)
    logged.close()


def test_late_events_count_where_they_belong_and_very_late_ones_at_the_edge(tmp_path):
    engine = opened(tmp_path)
    hour, day = 3_600_000, 86_400_000
    engine.decide(order(1, ts=START + day))
    engine.decide(order(2, ts=START + day - hour // 2))
    engine.decide(order(3, ts=START))
    times = [int(t) for frame in engine.journal.log.replay() for t in frame.t]
    assert times == [START + day, START + day - hour // 2, START + day - engine.policy.lateness_ms]
    engine.close()


def test_repeats_and_conflicts_inside_one_group_get_the_answer_of_the_first(tmp_path):
    engine = opened(tmp_path, book=book(rule("big", "amount > 100", "deny")))
    small, big = order(1), order(1, amount=500.0)
    first, again, conflict, other = engine.decide_events([small, dict(small), big, order(2)])
    assert first == again == conflict and first.action == "allow" and other.event_id == "e2"
    assert engine.decide_events([big, small]) == [first, first]
    assert (engine.journal.dedup.duplicates, engine.journal.dedup.conflicts, engine.seq) == (2, 2, 2)
    engine.close()


def test_a_label_finds_people_by_their_pseudonyms(tmp_path):
    features = 'email_fraud_90d: {entity: email, measure: sum(label), over: 90d, where: type == "label"}'
    from shopward import Rulebook

    rules = Rulebook.from_files({
        "schema.yaml": "types: [order]\nfields: {email: {type: string, entity: email, pii: true}}",
        "features/f.yaml": features,
        "rules/r.yaml": rule("known", "email_fraud_90d >= 1", "deny", on="[order]").replace("login", "order").replace(
            "account: a", "email: x"),
    })  # fmt: skip
    engine = opened(tmp_path, book=rules)
    buy = {"type": "order", "ts": START, "email": "kim@shop.example"}
    assert engine.decide(buy | {"event_id": "e1"}).action == "allow"
    assert engine.label([{"event_id": "e1", "label": 1, "label_ts": START + 1}])["taken"] == 1
    assert engine.decide(buy | {"event_id": "e2", "ts": START + 2}).action == "deny"
    state = engine.state_hash()
    engine.journal.release()
    engine = opened(tmp_path, book=rules)
    assert engine.state_hash() == state
    engine.close()


# ---- many at once


def test_fifty_clients_retrying_one_event_at_once_get_one_decision(tmp_path):
    engine = opened(tmp_path)

    async def story() -> list:
        app = App(engine, "token")
        app.decider.start()
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://shop", headers={"authorization": "Bearer token"}
        ) as client:
            found = await asyncio.gather(*(client.post("/v1/decide", json=order(i % 5)) for i in range(50)))
        await app.decider.stop()
        return found

    answers = asyncio.run(story())
    assert {a.status_code for a in answers} == {200}
    by_id: dict[str, set[bytes]] = {}
    for answer in answers:
        by_id.setdefault(answer.json()["event_id"], set()).add(answer.content)
    assert len(by_id) == 5 and all(len(bodies) == 1 for bodies in by_id.values())
    ids = [id for frame in read(tmp_path / "log") for id in frame.event_ids()]
    assert sorted(ids) == [f"e{i}" for i in range(5)]


def test_an_error_nobody_expected_reaches_those_who_wait_and_the_next_batch_is_judged(tmp_path, monkeypatch):
    engine = Engine(rulebook(), mode="interpreted")

    async def story() -> tuple:
        decider = Decider(engine)
        decider.start()
        with monkeypatch.context() as patch:
            patch.setattr(engine, "decide_events", lambda events: 1 / 0)
            broken = await asyncio.gather(*(decider.decide([order(i)]) for i in range(3)), return_exceptions=True)
        good = await asyncio.wait_for(decider.decide([order(9)]), 30)
        await decider.stop()
        return broken, good

    broken, good = asyncio.run(story())
    assert [type(b) for b in broken] == [ZeroDivisionError] * 3
    assert isinstance(good[0], Decision)


# ---- the order of system calls


def traced(trace: Path, command: list[str]) -> subprocess.Popen:
    """The command as a process of its own, a tracer beside it."""
    calls = "trace=writev,write,fdatasync,sendto,sendmsg"
    strace = ["strace", "-D", "-f", "-y", "-s", "600", "-o", str(trace), "-e", calls]
    return subprocess.Popen([*strace, *command], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def lines_of(trace: Path, traced: subprocess.Popen) -> list[str]:
    """What the process did, complete: the tracer ends a moment after it. Skips where nothing can be traced."""
    status, said = traced.wait(timeout=60), traced.stderr.read()
    lines: list[str] = []
    for _ in range(400):
        lines = trace.read_text(errors="replace").splitlines() if trace.exists() else []
        if any(re.match(rf"{traced.pid}\s+\+\+\+", line) for line in lines[-3:]):
            break
        time.sleep(0.05)
    if not any("(" in line for line in lines):
        pytest.skip(f"this machine does not let strace attach: {said[-200:]}")
    assert status in (0, -signal.SIGTERM), said
    return lines


def check_trace(lines: list[str], data: Path, acknowledged: re.Pattern) -> int:
    """Every acknowledgement in the trace comes after the fdatasync of its frame; returns how many there were.

    `acknowledged` finds in a line the number of events, or the event_id, that is acknowledged.
    """
    frame_of: dict[str, int] = {}
    seen = 0
    for frame in read(data / "log"):
        frame_of |= dict.fromkeys(frame.event_ids(), frame.number + 1)
    order_of = list(frame_of)
    written = durable = started = 0  # counted in frames
    for line in lines:
        if "writev(" in line and ".log>" in line:
            written += len(re.findall(r'iov_base="SWF1', line))
        elif "fdatasync(" in line and ".log>" in line:
            started = written
        if "fdatasync" in line and line.endswith("= 0"):
            durable = started
        for said in acknowledged.findall(line):
            event_id = order_of[int(said) - 1] if said.isdigit() else said
            seen += 1
            assert frame_of[event_id] <= durable, f"acknowledged before it was on disk: {line}"
    return seen


needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@needs_strace
def test_no_acknowledgement_of_an_engine_precedes_the_fdatasync_of_its_frame(tmp_path):
    events, trace, data = tmp_path / "events.ndjson", tmp_path / "trace", tmp_path / "data"
    write_events(events, 60)
    lines = list(dict.fromkeys(events.read_bytes().splitlines()))
    events.write_bytes(b"\n".join(lines))
    code = f"""
import sys, msgspec
from pathlib import Path
from shopward import Engine
from tests.end_to_end.story import rulebook
engine = Engine(rulebook(), data=Path({str(data)!r}), mode="interpreted")
lines = Path({str(events)!r}).read_bytes().splitlines()
for start in range(0, len(lines), 4):
    engine.decide_events([msgspec.json.decode(line) for line in lines[start : start + 4]])
    sys.stdout.write(f"ack {{start + 4}}\\n"); sys.stdout.flush()
    if start == 20: engine.snapshot()
engine.close()
"""
    done = lines_of(trace, traced(trace, [sys.executable, "-c", code]))
    assert check_trace(done, data, re.compile(r'write\(1<[^>]*>, "ack (\d+)\\n')) == len(lines) // 4


@needs_strace
@pytest.mark.slow
def test_no_http_answer_precedes_the_fdatasync_of_its_frame(tmp_path):
    trace, data = tmp_path / "trace", tmp_path / "data"
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [sys.executable, "-m", "shopward", "serve", "--port", str(port), "--data", str(data), "--token", "t"]
    server = traced(trace, command)
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            httpx.get(f"{url}/healthz", timeout=1)
            break
        except httpx.TransportError:
            if server.poll() is not None:
                pytest.skip(f"this machine does not let strace attach: {server.stderr.read()[-200:]}")
            time.sleep(0.1)

    async def talk() -> None:
        async with httpx.AsyncClient(base_url=url, headers={"authorization": "Bearer t"}, timeout=60) as client:
            login = {"type": "login", "ts": START, "account": "a1", "device": "d1"}
            for start in range(0, 60, 20):
                calls = (
                    client.post("/v1/decide", json=login | {"event_id": f"id-{i}-x"}) for i in range(start, start + 20)
                )
                for answer in await asyncio.gather(*calls):
                    assert answer.status_code == 200

    asyncio.run(talk())
    server.terminate()
    done = lines_of(trace, server)
    assert (
        check_trace(
            done,
            data,
            re.compile(r'(?:write|writev|sendto|sendmsg)\(\d+<(?:TCP|socket)[^\n]*?event_id\\":\\"(id-\d+-x)\\"'),
        )
        == 60
    )
