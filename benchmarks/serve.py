"""The decision server under load on loopback, and the peer (FastAPI + pydantic that only parses and echoes) in the same run.

Rows: batches of 100 events (shipped rulebook, durable), single events at 500 a second (60 rules, durable), saturation with single
events, a soak, a rulebook changed under 2,000 events a second, fail-over to a follower, replay.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from benchmarks.report import finish, options

TOKEN = "a-token-for-the-benchmark"
KIND = ("login", "session_view", "session_view", "search", "order", "cart")
PEER = """
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict

class Event(BaseModel):
    model_config = ConfigDict(extra="allow")
    event_id: str
    ts: int
    type: str
    account: str | None = None
    device: str | None = None
    ip: str | None = None
    email: str | None = None
    card: str | None = None
    seller: str | None = None
    amount: float | None = None

app = FastAPI()

@app.post("/v1/decide", response_model=Event)
async def one(event: Event):
    return event

@app.post("/v1/decide/batch", response_model=list[Event])
async def many(events: list[Event]):
    return events
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A server process on a free port, there when this returns."""

    def __init__(self, command: list, cwd: Path, path: str, wanted: bytes = b""):
        self.port = free_port()
        self.process = subprocess.Popen(
            [str(part).replace("PORT", str(self.port)) for part in command], cwd=cwd, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            env=os.environ | {"SHOPWARD_TOKEN": TOKEN},
        )  # fmt: skip
        until = time.monotonic() + 120
        while b" 200 " not in (answer := self.get(path)).split(b"\r\n")[0] or wanted not in answer:
            if time.monotonic() > until or self.process.poll() is not None:
                raise RuntimeError(f"{command} did not come up")
            time.sleep(0.1)

    def get(self, path: str) -> bytes:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=10) as raw:
                raw.sendall(f"GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n".encode())
                return b"".join(iter(lambda: raw.recv(65_536), b""))
        except OSError:
            return b""

    def resident(self) -> int:
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * 4096

    def cpu(self) -> float:
        """CPU seconds it has used."""
        user, system = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def stop(self, how: int = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.wait()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()


def shopward(data: Path, *more: object) -> Server:
    command = [
        sys.executable,
        "-m",
        "shopward",
        "serve",
        "--port",
        "PORT",
        *([] if "--follow" in more else ["--data", data]),
        *more,
    ]
    if "--follow" in more:
        return Server(command, Path.cwd(), "/healthz")
    return Server(command, Path.cwd(), "/readyz", b"compiled")


def peer(folder: Path) -> Server:
    (folder / "peer.py").write_text(PEER)
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "peer:app",
        "--port",
        "PORT",
        "--log-level",
        "warning",
        "--no-access-log",
    ]
    return Server(command, folder, "/openapi.json")


class Events:
    """Marketplace events, each new, with people who come again: they sign in, look around, order and pay."""

    def __init__(self, seed: int = 1):
        self.rng, self.n, self.seed = random.Random(seed), 0, seed
        self.unpaid: list[dict] = []

    def one(self) -> dict:
        self.n += 1
        rng = self.rng
        if self.unpaid and rng.random() < 0.5:
            return self.unpaid.pop(0) | {
                "event_id": f"{self.seed}-{self.n}",
                "ts": int(time.time() * 1000),
                "type": "payment",
            }
        who = rng.randrange(20_000)
        kind = KIND[rng.randrange(len(KIND))]
        event = {
            "event_id": f"{self.seed}-{self.n}", "ts": int(time.time() * 1000), "type": kind, "account": f"a{who}", "device": f"d{who}",
            "ip": f"10.{who % 200}.{who // 200}.7", "country": "DE", "session": f"s{self.n}", "email": f"p{who}@shop.example",
        }  # fmt: skip
        if kind == "order":
            event |= {
                "card": f"c{who}", "card_country": "DE", "seller": f"s{rng.randrange(500)}", "product": f"p{rng.randrange(9000)}",
                "amount": rng.randrange(100, 20_000) / 100, "currency": "USD", "items": 1 + rng.randrange(3), "address": f"h{who}",
            }  # fmt: skip
            self.unpaid.append(event)
        return event


class Client(asyncio.Protocol):
    """One keep-alive connection with one request under way."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.answer: asyncio.Future | None = None

    def connection_made(self, transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.got += data
        if self._whole() and self.answer is not None and not self.answer.done():
            self.answer.set_result(int(self.got[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(ConnectionError("hung up"))

    def _whole(self) -> bool:
        end = self.got.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self.got[:end]).lower()
        if b"transfer-encoding: chunked" in head:
            return self.got.endswith(b"\r\n0\r\n\r\n")
        size = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        return len(self.got) >= end + 4 + size

    async def ask(self, request: bytes) -> int:
        self.got.clear()
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self.answer


async def connect(port: int) -> Client:
    _, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", port)
    return client


def request(path: str, body: bytes, kind: str = "application/json") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def single(events: Events) -> bytes:
    return request("/v1/decide", msgspec.json.encode(events.one()))


async def saturate(port: int, requests: list[bytes], connections: int) -> float:
    """Seconds for all requests, each connection with one under way."""
    clients = [await connect(port) for _ in range(connections)]
    left = iter(requests)

    async def work(client: Client) -> None:
        for one in left:
            status = await client.ask(one)
            assert status == 200, (status, bytes(client.got))

    began = time.perf_counter()
    await asyncio.gather(*map(work, clients))
    took = time.perf_counter() - began
    for client in clients:
        client.transport.close()
    return took


async def paced(
    port: int, rate: float, seconds: float, connections: int, seed: int, watch=None
) -> tuple[list[float], int, list[str]]:
    """Open load: requests leave at their moment, however late the answers come. Latencies in ms counted from that moment."""
    events, free = Events(seed), asyncio.Queue()
    for _ in range(connections):
        free.put_nowait(await connect(port))
    took: list[float] = []
    errors, sent, tasks = 0, [], set()

    async def one(due: float, event: dict) -> None:
        nonlocal errors
        client = await free.get()
        try:
            status = await client.ask(request("/v1/decide", msgspec.json.encode(event)))
            errors += status != 200
            took.append((time.perf_counter() - due) * 1000)
        except ConnectionError:
            errors += 1
        finally:
            free.put_nowait(client)

    began = time.perf_counter()
    watching = asyncio.create_task(watch()) if watch else None
    for i in range(int(rate * seconds)):
        due = began + i / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        event = events.one()
        sent.append(event["event_id"])
        task = asyncio.create_task(one(due, event))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    if watching:
        await watching
    return took, errors, sent


def at(values: list[float], percent: float) -> float:
    return statistics.quantiles(values, n=1000)[int(percent * 10) - 1]


def sixty_rules(folder: Path) -> Path:
    """The shipped rulebook with its rules repeated under other thresholds until there are sixty live ones."""
    from shopward import Rulebook

    book = Rulebook.default()
    files = dict(book.files)
    live = [rule for rule in book.rules.values() if rule.state == "live" and not rule.writes]
    for i in range(60 - sum(rule.state == "live" for rule in book.rules.values())):
        rule = live[i % len(live)]
        text = book.files[rule.file].replace(f"id: {rule.id}", f"id: {rule.id}_copy{i}", 1)
        files[f"rules/{rule.id}_copy{i}.yaml"] = text
    Rulebook.from_files(files)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def batches(quick: bool, folder: Path) -> dict:
    """100 events a request against the peer, alternating so that both see the same machine; medians of events a second, and of
    the server's own CPU microseconds an event (which tell the same on a busy machine).
    """
    rounds, per = (5, 60) if quick else (9, 200)
    with shopward(folder / "batch") as server, peer(folder) as other:
        events = Events(2)
        asyncio.run(saturate(server.port, [hundred(events, True) for _ in range(300)], 8))  # people become known
        many = _compared((server, other), rounds, lambda lines: [hundred(events, lines) for _ in range(per)], 8, 100)
        one = _compared((server, other), rounds, lambda lines: [single(events) for _ in range(per * 10)], 64, 1)
    return {
        "batch_events_per_s": many[0], "batch_fastapi_echo_events_per_s": many[1], "ratio_fastapi": many[0] / many[1],
        "batch_cpu_us": many[2], "batch_fastapi_echo_cpu_us": many[3], "ratio_fastapi_cpu": many[3] / many[2],
        "single_per_s": one[0], "single_fastapi_echo_per_s": one[1], "ratio_fastapi_single": one[0] / one[1],
        "single_cpu_us": one[2], "single_fastapi_echo_cpu_us": one[3], "ratio_fastapi_single_cpu": one[3] / one[2],
    }  # fmt: skip


def hundred(events: Events, lines: bool) -> bytes:
    """A request with 100 events: NDJSON for us, a JSON list for the peer."""
    found = [events.one() for _ in range(100)]
    if lines:
        return request("/v1/decide/batch", b"\n".join(map(msgspec.json.encode, found)), "application/x-ndjson")
    return request("/v1/decide/batch", msgspec.json.encode(found))


def _compared(servers, rounds: int, asks, connections: int, each: int) -> tuple[float, float, float, float]:
    """Medians of ours and theirs: events a second, and CPU microseconds an event. `asks(lines)` makes the requests of one round."""
    rates: tuple[list, list] = ([], [])
    costs: tuple[list, list] = ([], [])
    for turn in range(rounds + 1):
        for i, server in enumerate(servers):
            requests = asks(i == 0)
            before = server.cpu()
            took = asyncio.run(saturate(server.port, requests, connections))
            spent, n = server.cpu() - before, each * len(requests)
            if turn:
                rates[i].append(n / took)
                costs[i].append(spent / n * 1e6)
    a, b = map(statistics.median, rates)
    c, d = map(statistics.median, costs)
    return a, b, c, d


def singles(quick: bool, folder: Path) -> dict:
    rules = sixty_rules(folder / "rules60")
    with shopward(folder / "single", "--rulebook", rules) as server:
        asyncio.run(paced(server.port, 500, 3, 32, 3))
        took, errors, _ = asyncio.run(paced(server.port, 500, 6 if quick else 20, 32, 4))
    return {"paced_500_p50_ms": at(took, 50), "paced_500_p99_ms": at(took, 99), "paced_500_errors": errors}


def soak(seconds: float, rate: float, folder: Path) -> dict:
    with shopward(folder / "soak") as server:
        asyncio.run(paced(server.port, rate, 10, 64, 5))
        before = server.resident()
        took, errors, _ = asyncio.run(paced(server.port, rate, seconds, 64, 6))
        after = server.resident()
    return {
        "soak_seconds": seconds, "soak_rate": rate, "soak_errors": errors, "soak_p99_ms": at(took, 99),
        "soak_mb_before": before / 2**20, "soak_mb_after": after / 2**20,
    }  # fmt: skip


def change(quick: bool, folder: Path) -> dict:
    """A rulebook with one more feature while 2,000 events come a second; every event is looked up in the log afterwards."""
    from shopward import Rulebook
    from shopward.store.log import read

    more = "device_events_2h: {entity: device, measure: count, over: 2h}\n"
    files = Rulebook.default().files | {"features/more.yaml": more}
    done: dict = {}

    async def watch(port: int) -> None:
        await asyncio.sleep(2)
        client = await connect(port)
        began = time.perf_counter()
        status = await client.ask(request("/v1/admin/rulebook", msgspec.json.encode({"files": files})))
        done.update(
            status=status, seconds=time.perf_counter() - began, error=bytes(client.got) if status != 200 else b""
        )

    with shopward(folder / "change") as server:
        asyncio.run(paced(server.port, 2_000, 2 if quick else 10, 128, 7))
        took, errors, sent = asyncio.run(
            paced(server.port, 2_000, 6 if quick else 12, 128, 8, lambda: watch(server.port))
        )
        server.stop()
    assert done["status"] == 200, done
    kept = [
        one for frame in read(folder / "change" / "log") if frame.n for one in frame.event_ids() if one.startswith("8-")
    ]
    return {
        "change_seconds": done["seconds"], "change_p99_ms": at(took, 99), "change_max_ms": max(took), "change_errors": errors,
        "change_lost": len(set(sent) - set(kept)), "change_doubled": len(kept) - len(set(kept)),
    }  # fmt: skip


def fail_over(quick: bool, folder: Path) -> dict:
    """kill -9 of a server under load; from the kill to the first decision of the follower, and what it lost."""
    data = folder / "first"
    with shopward(data) as first, shopward(data, "--follow", data) as second:
        asyncio.run(paced(first.port, 500, 4, 32, 9))
        acknowledged: list[str] = []

        async def load() -> None:
            client, events = await connect(first.port), Events(10)
            while True:
                event = events.one()
                try:
                    if await client.ask(request("/v1/decide", msgspec.json.encode(event))) == 200:
                        acknowledged.append(event["event_id"])
                except ConnectionError:
                    return

        async def story() -> float:
            loading = asyncio.create_task(load())
            await asyncio.sleep(2)
            killed = time.perf_counter()
            first.process.kill()
            await loading
            events = Events(11)
            while True:
                client = await connect(second.port)
                if await client.ask(single(events)) == 200:
                    return time.perf_counter() - killed
                await asyncio.sleep(0.01)

        seconds = asyncio.run(story())
        lost = sum(b" 200 " not in authorised(second, f"/v1/decisions/{one}").split(b"\r\n")[0] for one in acknowledged)
    return {"fail_over_seconds": seconds, "fail_over_acknowledged": len(acknowledged), "fail_over_lost": lost}


def authorised(server: Server, path: str) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        raw.sendall(
            f"GET {path} HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n".encode()
        )
        return b"".join(iter(lambda: raw.recv(65_536), b""))


def replay(quick: bool, folder: Path) -> dict:
    """Events a second from the log to memory, without a snapshot."""
    from shopward import Engine, Rulebook

    n = 40_000 if quick else 200_000
    events = Events(12)
    engine = Engine(Rulebook.default(), data=folder / "replay", clock="server", mode="compiled")
    for start in range(0, n, 4_000):
        engine.decide_events([events.one() for _ in range(start, start + 4_000)])
    best = []
    for _ in range(3):
        young = engine.beside()
        began = time.perf_counter()
        engine.journal.replay(young)  # type: ignore[union-attr]
        best.append(n / (time.perf_counter() - began))
    engine.close()
    return {"replay_events_per_s": statistics.median(best)}


def run(quick: bool) -> dict:
    result: dict = {}
    with tempfile.TemporaryDirectory() as folder:
        at_ = Path(folder)
        for part in (batches, singles, change, fail_over, replay):
            result |= part(quick, at_)
            print(json.dumps(result), file=sys.stderr)
        result |= soak(5 if quick else 120, result["single_per_s"] / 2 if not quick else 1_000, at_)
    return result


if __name__ == "__main__":
    args = options(__doc__ or "")
    finish("serve", run(args.quick), args.json)
