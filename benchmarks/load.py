"""Load for the decision server from a process of its own, as cheap as it can be: requests lie ready as bytes, only id and time are set.

    python -m benchmarks.load '{"port": 8080, "seed": 1, "connections": 64, "requests": 10000}'
    python -m benchmarks.load '{"port": 8080, "seed": 1, "connections": 64, "rate": 500, "seconds": 20}'

The first keeps every connection busy; the second sends each request at its moment, however late the answers come, and counts from
that moment whatever a request waited for a free connection. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np

TOKEN = "a-token-for-the-benchmark"
KIND = ("login", "session_view", "session_view", "search", "order", "cart")
ID, TS = "@" * 16, 1_111_111_111_111  # what stands in a ready request for the id and the time
KNOWN = 24_000  # events that lie ready; afterwards the same people do the same again
STOP_S = 30.0  # so long the last answers may take


class Events:
    """Marketplace events, each new, with people who come again: they sign in, look around, order and pay."""

    def __init__(self, seed: int = 1):
        self.rng, self.n, self.seed = random.Random(seed), 0, seed
        self.unpaid: deque[dict] = deque()

    def one(self) -> dict:
        self.n += 1
        rng, what = self.rng, {"event_id": f"{self.seed}-{self.n}", "ts": int(time.time() * 1000)}
        if self.unpaid and rng.random() < 0.5:
            return self.unpaid.popleft() | what | {"type": "payment"}
        who, kind = rng.randrange(20_000), KIND[rng.randrange(len(KIND))]
        event = what | {
            "type": kind, "account": f"a{who}", "device": f"d{who}", "ip": f"10.{who % 200}.{who // 200}.7", "country": "DE",
            "session": f"s{self.seed}-{self.n}", "email": f"p{who}@shop.example",
        }  # fmt: skip
        if kind == "order":
            event |= {
                "card": f"c{who}", "card_country": "DE", "seller": f"s{rng.randrange(500)}", "product": f"p{rng.randrange(9000)}",
                "amount": rng.randrange(100, 20_000) / 100, "currency": "USD", "items": 1 + rng.randrange(3), "address": f"h{who}",
            }  # fmt: skip
            self.unpaid.append(event)
        return event


def request(path: str, body: bytes, kind: str = "application/json") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def ready(seed: int, each: int, lines: bool) -> Iterator[Callable[[], bytes]]:
    """Requests without end; `each` events in one (NDJSON or a JSON list), a single event where it is 1."""
    events = Events(seed)
    return _again(seed, each, [_prepared(events, each, lines) for _ in range(KNOWN // each)])


def _again(seed: int, each: int, made: list[list[bytes]]) -> Iterator[Callable[[], bytes]]:
    n = 0
    while True:
        for parts in made:
            yield lambda parts=parts, first=n: _set(parts, seed, first)
            n += each


def _prepared(events: Events, each: int, lines: bool) -> list[bytes]:
    bodies = [msgspec.json.encode(events.one() | {"event_id": ID, "ts": TS}) for _ in range(each)]
    if each == 1:
        whole = request("/v1/decide", bodies[0])
    elif lines:
        whole = request("/v1/decide/batch", b"\n".join(bodies), "application/x-ndjson")
    else:
        whole = request("/v1/decide/batch", b"[" + b",".join(bodies) + b"]")
    parts: list[bytes] = []
    for piece in whole.split(ID.encode()):
        parts += piece.split(b"%d" % TS)
    return parts


def named(seed: int, n: int) -> str:
    """The id of the n-th event of a run: 16 characters."""
    return f"{seed:04d}-{n:011d}"


def _set(parts: list[bytes], seed: int, first: int) -> bytes:
    """A request with its ids and the time of now."""
    now = b"%d" % int(time.time() * 1000)
    out = [parts[0]]
    for k in range(1, len(parts), 2):
        out += (named(seed, first + k // 2).encode(), parts[k], now, parts[k + 1])
    return b"".join(out)


class Client(asyncio.Protocol):
    """One keep-alive connection with one request under way; `told` hears each answer."""

    def __init__(self, told: Callable[[Client, int], None]):
        self.told, self.due, self.got, self.lost = told, 0.0, b"", False

    def connection_made(self, transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        got = self.got = self.got + data if self.got else data
        end = got.find(b"\r\n\r\n")
        if end < 0:
            return
        at = got.find(b"content-length: ", 0, end)
        if at < 0:
            if not got.endswith(b"\r\n0\r\n\r\n"):
                return
        elif len(got) < end + 4 + int(got[at + 16 : got.index(b"\r", at)]):
            return
        self.got = b""
        self.told(self, int(got[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.told(self, 0)


class Run:
    """One run: what was sent, and what came back when."""

    def __init__(self, seed: int, each: int = 1, lines: bool = True):
        self.requests = ready(seed, each, lines)
        self.sent = 0
        self.latencies: list[float] = []  # ms
        self.moments: list[float] = []  # seconds since the epoch, of the answers
        self.statuses: dict[int, int] = {}
        self.late: list[float] = []  # ms that the generator itself was behind
        self.free: list[Client] = []
        self.due: deque[float] = deque()
        self.left = 0
        self.done = asyncio.Event()

    async def connect(self, port: int, connections: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            _, client = await loop.create_connection(lambda: Client(self._told), "127.0.0.1", port)
            self.free.append(client)

    async def saturate(self, requests: int) -> float:
        """Seconds for so many requests, every connection busy."""
        self.left = requests
        began = time.perf_counter()
        busy, self.free = self.free, []
        for client in busy:
            self._next(client)
        await self.done.wait()
        return time.perf_counter() - began

    async def pace(self, rate: float, seconds: float, stop: Path | None = None) -> float:
        """Send at a rate, until `stop` exists; returns how long it took until the last answer."""
        self.left = total = int(rate * seconds)
        began, i = time.perf_counter(), 0
        while i < total:
            now = time.perf_counter()
            while i < total and began + i / rate <= now:
                self.late.append((now - began - i / rate) * 1000)
                self.due.append(now)
                i += 1
            self._spread()
            if stop is not None and i % 64 == 0 and stop.exists():
                self.left, total = self.left - (total - i), i
                break
            await asyncio.sleep(max(0.0, began + i / rate - time.perf_counter()))
        try:
            if self.left:
                await asyncio.wait_for(self.done.wait(), STOP_S)
        except TimeoutError:
            self.statuses[-1] = self.left
        return time.perf_counter() - began

    def _spread(self) -> None:
        while self.due and self.free:
            client = self.free.pop()
            if not client.lost:
                self._send(client, self.due.popleft())

    def _next(self, client: Client) -> None:
        if self.left > self.sent - len(self.latencies):
            self._send(client, time.perf_counter())

    def _send(self, client: Client, due: float) -> None:
        self.sent += 1
        client.due = due
        client.transport.write(next(self.requests)())

    def _told(self, client: Client, status: int) -> None:
        if not client.due:  # hung up with nothing under way
            return
        self.latencies.append((time.perf_counter() - client.due) * 1000)
        self.moments.append(time.time())
        self.statuses[status] = self.statuses.get(status, 0) + 1
        client.due, self.left = 0.0, self.left - 1
        if self.left <= 0:
            self.done.set()
        elif not self.late:
            self._next(client)
        elif not client.lost:
            self.free.append(client)
            self._spread()

    def report(self, seconds: float) -> dict:
        errors = sum(n for status, n in self.statuses.items() if status != 200)
        found = np.array(self.latencies or [0.0])
        p50, p90, p99, p999 = np.percentile(found, (50, 90, 99, 99.9)).tolist()
        return {
            "sent": self.sent, "seconds": seconds, "errors": errors, "statuses": self.statuses, "p50_ms": p50, "p90_ms": p90, "p99_ms": p99,
            "p999_ms": p999, "max_ms": float(found.max()), "generator_late_p99_ms": float(np.percentile(self.late or [0.0], 99)),
        }  # fmt: skip


async def load(asked: dict) -> dict:
    run = Run(asked["seed"], asked.get("each", 1), asked.get("lines", True))
    await run.connect(asked["port"], asked["connections"])
    if "rate" in asked:
        seconds = await run.pace(asked["rate"], asked["seconds"], Path(asked["stop"]) if "stop" in asked else None)
    else:
        seconds = await run.saturate(asked["requests"])
    if "moments" in asked:  # a file for every answer's moment and latency
        np.save(Path(asked["moments"]), np.array([run.moments, run.latencies]))
    return run.report(seconds)


if __name__ == "__main__":
    import uvloop

    print(json.dumps(uvloop.run(load(json.loads(sys.argv[1])))))
