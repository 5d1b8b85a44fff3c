"""The decision server under load on loopback, and the peer (FastAPI + pydantic that only parses and echoes) in the same run.

    batch     100 events a request (shipped rulebook, durable), and the peer's echo of the same events
    single    one event a request on 64 and on 256 connections (60 rules, durable), and the peer's echo
    paced     single events at 500 a second: what an answer takes
    reload    a rulebook changed under 2,000 events a second; every event is looked up in the log afterwards
    soak      half of what it can for --minutes: errors, what an answer takes, memory by and by
    failover  kill -9 of a server under load, with a follower beside it
    replay    the log back into memory

`--only NAME` runs one of them. The load comes from a process of its own (`benchmarks.load`).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.load import TOKEN, Events, named, request
from benchmarks.report import finish

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

    def gauge(self, name: str) -> float:
        """One value of /metrics."""
        return next(
            float(line.split()[1])
            for line in self.get("/metrics").splitlines()
            if line.startswith(name.encode() + b" ")
        )

    def memory(self) -> int:
        """Bytes of its own; pages of mapped files, which the system takes back when it wants, are not among them."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("RssAnon:"))

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


def load(server: Server, seed: int, connections: int, **more: object) -> dict:
    """What `benchmarks.load` reports of one run, and the server's own CPU microseconds a request."""
    asked = {"port": server.port, "seed": seed, "connections": connections, **more}
    before = server.cpu()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", json.dumps(asked)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the load generator failed: {done.stderr.strip()[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return found | {"cpu_us": (server.cpu() - before) / max(found["sent"], 1) * 1e6}


def compared(
    name: str, servers: tuple[Server, Server], rounds: int, requests: int, connections: int, each: int
) -> dict:
    """Ours and the peer's in turn, so that both see the same machine: medians of events a second and of the server's own CPU
    microseconds an event (which tell the same on a busy machine). The first round does not count.
    """
    rates: tuple[list, list] = ([], [])
    costs: tuple[list, list] = ([], [])
    for turn in range(rounds + 1):
        for i, server in enumerate(servers):
            found = load(server, 10 + turn, connections, requests=requests, each=each, lines=i == 0)
            if found["errors"]:
                raise RuntimeError(f"{name}: {found['statuses']}")
            if turn:
                rates[i].append(each * requests / found["seconds"])
                costs[i].append(found["cpu_us"] / each)
    (ours, theirs), (cpu, their_cpu) = map(statistics.median, rates), map(statistics.median, costs)
    return {
        f"{name}_events_per_s": ours, f"{name}_fastapi_echo_events_per_s": theirs, f"ratio_fastapi_{name}": ours / theirs,
        f"{name}_cpu_us": cpu, f"{name}_fastapi_echo_cpu_us": their_cpu, f"ratio_fastapi_{name}_cpu": their_cpu / cpu,
    }  # fmt: skip


def batch(quick: bool, folder: Path) -> dict:
    with shopward(folder / "batch") as server, peer(folder) as other:
        load(server, 1, 8, requests=300, each=100)  # people become known
        return compared("batch", (server, other), 3 if quick else 9, 60 if quick else 300, 8, 100)


def single(quick: bool, folder: Path) -> dict:
    rules = sixty_rules(folder / "rules60")
    with shopward(folder / "single", "--rulebook", rules) as server, peer(folder) as other:
        load(server, 1, 64, requests=4_000 if quick else 30_000)
        rounds, requests = (3, 2_000) if quick else (9, 10_000)
        found = compared("single", (server, other), rounds, requests, 64, 1)
        load(server, 1, 256, requests=requests)
        return found | compared("single_256", (server, other), rounds, 2 * requests, 256, 1)


def paced(quick: bool, folder: Path) -> dict:
    rules = sixty_rules(folder / "rules60p")
    with shopward(folder / "paced", "--rulebook", rules) as server:
        load(server, 1, 32, rate=500, seconds=3)
        found = load(server, 2, 32, rate=500, seconds=6 if quick else 30)
    keys = ("p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms", "errors", "cpu_us", "generator_late_p99_ms")
    return {f"paced_500_{key}": found[key] for key in keys}


def soak(minutes: float, rate: float, folder: Path) -> dict:
    """Half of what one worker can (at most `rate`), for so long; memory is looked at a hundred times. The events that windows still
    hold may grow, so what counts is everything else: the process less its windows. The table of known ids fills up and starts anew every
    half a million events.
    """
    rules = sixty_rules(folder / "rules60s")
    with shopward(folder / "soak", "--rulebook", rules) as server:
        most = load(server, 1, 64, requests=20_000)
        rate = max(100.0, min(rate, most["sent"] / most["seconds"] / 2))
        sizes, over = [], threading.Event()

        def watch() -> None:
            while not over.wait(minutes * 60 / 100):
                sizes.append((server.memory() / 2**20, server.gauge("shopward_windows_bytes") / 2**20))

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            found = load(server, 2, 128, rate=rate, seconds=minutes * 60)
        finally:
            over.set()
            watching.join()
    whole, windows = np.array(sizes).T
    every = max(1, len(sizes) // 20)
    return {
        "soak_minutes": minutes, "soak_rate": rate, "soak_sent": found["sent"], "soak_errors": found["errors"], "soak_p50_ms": found["p50_ms"],
        "soak_p99_ms": found["p99_ms"], "soak_max_ms": found["max_ms"], "soak_mb": whole[::every].round().tolist(),
        "soak_windows_mb": windows[::every].round().tolist(), "soak_mb_a_minute": slope(whole, minutes),
        "soak_mb_a_minute_less_windows": slope(whole - windows, minutes),
    }  # fmt: skip


def slope(sizes: np.ndarray, minutes: float) -> float:
    """What was added a minute after the first quarter."""
    steady = sizes[len(sizes) // 4 :]
    return float(np.polyfit(np.linspace(0, minutes * 0.75, len(steady)), steady, 1)[0])


def reload(quick: bool, folder: Path) -> dict:
    """A rulebook with one more feature; what answers took before, while it was compiled and warmed, and in the second of the switch."""
    from shopward import Rulebook
    from shopward.store.log import read

    rate, most = (500, 120.0) if quick else (2_000, 240.0)
    rules = sixty_rules(folder / "rules60r")
    files = Rulebook(rules).files | {
        "features/more.yaml": "device_events_2h: {entity: device, measure: count, over: 2h}\n"
    }
    change = request("/v1/admin/rulebook", msgspec.json.encode({"files": files}))
    done: dict = {}
    with shopward(folder / "reload", "--rulebook", rules) as server:
        load(server, 1, 64, requests=4_000 if quick else 20_000)
        told = {"moments": str(folder / "moments.npy"), "stop": str(folder / "stop")}
        loading = threading.Thread(target=lambda: done.update(load(server, 2, 256, rate=rate, seconds=most, **told)))
        loading.start()
        time.sleep(5)
        began = time.time()
        answer = said(server, change, most)
        switched = time.time()
        time.sleep(5)
        (folder / "stop").touch()
        loading.join()
        server.stop()
    if b" 200 " not in answer.split(b"\r\n")[0]:
        raise RuntimeError(f"the rulebook was not changed: {answer[:500]!r}")
    kept = [
        one
        for frame in read(folder / "reload" / "log")
        if frame.n
        for one in frame.event_ids()
        if one.startswith("0002-")
    ]
    sent = {named(2, n) for n in range(done["sent"])}
    moments, took = np.load(folder / "moments.npy")
    found = {
        "before": took[moments < began], "warming": took[(moments >= began) & (moments < switched - 1)],
        "switch": took[(moments >= switched - 1) & (moments < switched + 1)], "after": took[moments >= switched + 1],
    }  # fmt: skip
    return {
        "reload_rate": rate, "reload_seconds": switched - began, "reload_errors": done["errors"], "reload_lost": len(sent - set(kept)),
        "reload_doubled": len(kept) - len(set(kept)),
        **{f"reload_p99_ms_{name}": float(np.percentile(ms, 99)) if len(ms) else 0.0 for name, ms in found.items()},
    }  # fmt: skip


def failover(quick: bool, folder: Path) -> dict:
    """From the kill of a server under load to the first decision of its follower, and what was acknowledged and then lost."""
    data, rules = folder / "first", sixty_rules(folder / "rules60f")
    with shopward(data, "--rulebook", rules) as first, shopward(data, "--follow", data) as second:
        load(first, 1, 32, requests=2_000 if quick else 20_000)
        time.sleep(3)  # the follower reads on
        events, acknowledged, killed, wait = Events(9), [], 0.0, 2.0
        began = time.perf_counter()
        while not killed:
            event = events.one()
            if b" 200 " in said(first, request("/v1/decide", msgspec.json.encode(event)), 10).split(b"\r\n")[0]:
                acknowledged.append(event["event_id"])
            if time.perf_counter() - began > wait:
                first.process.kill()
                killed = time.perf_counter()
        until = killed + 120
        while (
            b" 200 " not in said(second, request("/v1/decide", msgspec.json.encode(events.one())), 10).split(b"\r\n")[0]
        ):
            if time.perf_counter() > until:
                raise RuntimeError("the follower did not take over")
            time.sleep(0.01)
        seconds = time.perf_counter() - killed
        first.process.wait()
        lost = sum(b" 200 " not in authorised(second, f"/v1/decisions/{one}").split(b"\r\n")[0] for one in acknowledged)
    return {"failover_seconds": seconds, "failover_acknowledged": len(acknowledged), "failover_lost": lost}


def said(server: Server, ask: bytes, seconds: float) -> bytes:
    """The answer to one request on a connection of its own; empty when there is none."""
    ask = ask.replace(b"Host: shop\r\n", b"Host: shop\r\nConnection: close\r\n", 1)
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as raw:
            raw.sendall(ask)
            return b"".join(iter(lambda: raw.recv(65_536), b""))
    except OSError:
        return b""


def authorised(server: Server, path: str) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        raw.sendall(
            f"GET {path} HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n".encode()
        )
        return b"".join(iter(lambda: raw.recv(65_536), b""))


def replay(quick: bool, folder: Path) -> dict:
    """Events a second from the log to memory, without a snapshot; CPU seconds, so that it holds on a busy machine."""
    from shopward import Engine, Rulebook

    n = 40_000 if quick else 400_000
    events, size = Events(12), 1_000
    engine = Engine(Rulebook.default(), data=folder / "replay", clock="server", mode="compiled")
    for _ in range(0, n, size):
        engine.journal.decide_lines(engine, b"\n".join(msgspec.json.encode(events.one()) for _ in range(size)))  # type: ignore[union-attr]
    walls, cpus = [], []
    for _ in range(3):
        young = engine.beside()
        began, cpu = time.perf_counter(), time.process_time()
        engine.journal.replay(young)  # type: ignore[union-attr]
        walls.append(n / (time.perf_counter() - began))
        cpus.append(n / (time.process_time() - cpu))
        assert young.state_hash() == engine.state_hash()
    engine.close()
    return {"replay_events_per_s": statistics.median(walls), "replay_events_per_cpu_s": statistics.median(cpus)}


PARTS: dict[str, Callable[[bool, Path], dict]] = {
    "batch": batch, "single": single, "paced": paced, "replay": replay, "failover": failover, "reload": reload,
}  # fmt: skip


def run(quick: bool, only: str | None, minutes: float, rate: float) -> dict:
    result: dict = {}
    parts = PARTS | {"soak": lambda quick, folder: soak(minutes, rate, folder)}
    wanted = [only] if only else [*parts][: 3 if quick else None]
    for name in wanted:
        with tempfile.TemporaryDirectory() as folder:
            result |= parts[name](quick, Path(folder))
        print(json.dumps(result), file=sys.stderr, flush=True)
    return result


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="short rounds; without --only just batch, single and paced"
    )
    parser.add_argument("--only", choices=[*PARTS, "soak"])
    parser.add_argument("--minutes", type=float, help="of the soak (40; 2 with --quick)")
    parser.add_argument(
        "--rate", type=float, default=1e9, help="of the soak, events a second at most (half of what it can)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    return parser.parse_args()


if __name__ == "__main__":
    args = asked()
    finish("serve", run(args.quick, args.only, args.minutes or (2 if args.quick else 40), args.rate), args.json)
