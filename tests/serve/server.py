"""A real `shopward serve` process on a free loopback port, for the stories in this folder."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from shopward import Rulebook

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-for-the-tests"
HEADERS = {"authorization": f"Bearer {TOKEN}"}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def write_rulebook(folder: Path, rulebook: Rulebook) -> Path:
    for name, text in rulebook.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


class Server:
    """One process; `stop` asks it to end, `kill` does not ask."""

    def __init__(
        self,
        *options: str,
        port: int | None = None,
        env: dict[str, str] | None = None,
        wait: bool = True,
        tls: bool = False,
    ):
        self.port = port or free_port()
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "shopward", "serve", "--port", str(self.port), *map(str, options)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=os.environ | {"SHOPWARD_TOKEN": TOKEN} | (env or {})
        )  # fmt: skip
        if wait:
            self.wait()

    def wait(self, path: str = "/healthz", status: int = 200, seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            assert self.process.poll() is None, self.process.stderr.read()
            try:
                if httpx.get(self.url + path, timeout=2, verify=False).status_code == status:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"{path} did not answer {status}")

    def client(self, **more) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=HEADERS, timeout=30, **more)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> str:
        """What it said on stderr."""
        self.process.terminate()
        _, told = self.process.communicate(timeout=40)
        return told

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stderr.close()
