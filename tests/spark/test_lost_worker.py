"""A real master and two workers on this machine; one is killed in the middle, and the rows are the same."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from shopward.runs import features_files
from tests.properties.plans import MIXED
from tests.spark.test_same_bits import some_events, write_events

pytestmark = pytest.mark.slow
JOB = """
import sys
from pathlib import Path
from shopward.connect import spark
from shopward.declare.rulebook import Rulebook
from shopward.runs import features_files
spark.CHUNK = 500
folder = Path(sys.argv[1])
files = {str(p.relative_to(folder / "rules")): p.read_text() for p in (folder / "rules").rglob("*.yaml")}
features_files([folder / "events.ndjson"], Rulebook.from_files(files), engine="spark", master=sys.argv[2],
               staging=folder / "staging", out=folder / "spark.parquet")
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Cluster:
    """A standalone master and its workers, each a process of its own."""

    def __init__(self, folder: Path):
        import pyspark

        self.folder, self.home = folder, Path(pyspark.__file__).parent
        self.master, self.workers = f"spark://127.0.0.1:{free_port()}", []
        self.env = os.environ | {"SPARK_HOME": str(self.home), "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_DAEMON_MEMORY": "256m", "PYSPARK_PYTHON": sys.executable}  # fmt: skip
        self.lead = self._start("master.Master", "--host", "127.0.0.1", "--port", self.master.rsplit(":", 1)[1])

    def _start(self, name: str, *words: str) -> subprocess.Popen:
        log = (self.folder / f"{name}-{time.monotonic_ns()}.log").open("wb")
        command = [
            self.home / "bin" / "spark-class",
            f"org.apache.spark.deploy.{name}",
            *words,
            "--webui-port",
            str(free_port()),
        ]
        return subprocess.Popen(command, env=self.env, stdout=log, stderr=log, start_new_session=True)

    def add_worker(self) -> None:
        place = self.folder / f"worker-{len(self.workers)}"
        words = ("--host", "127.0.0.1", "--cores", "1", "--memory", "1g", "--work-dir", str(place), self.master)
        self.workers.append(self._start("worker.Worker", *words))

    def lose_worker(self) -> None:
        """At once, with what it runs."""
        os.killpg(self.workers[0].pid, signal.SIGKILL)

    def stop(self) -> None:
        for process in (*self.workers, self.lead):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


@pytest.fixture
def cluster(tmp_path):
    pytest.importorskip("pyspark", reason="the [spark] extra is not installed")
    if not (shutil.which("java") or os.environ.get("JAVA_HOME")):
        pytest.skip("Spark needs Java, and there is none")
    (tmp_path / "cluster").mkdir()
    found = Cluster(tmp_path / "cluster")
    try:
        found.add_worker()
        found.add_worker()
        yield found
    finally:
        found.stop()


def started(folder: Path) -> int:
    """How many workers have begun to run the job."""
    return len(list(folder.glob("cluster/worker-*/app-*/*/stderr")))


def test_a_lost_worker_changes_nothing(cluster, tmp_path):
    write_events(tmp_path / "events.ndjson", some_events(20_000, hot=0.5))
    for name, text in MIXED.files.items():
        (tmp_path / "rules" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "rules" / name).write_text(text)
    features_files([tmp_path / "events.ndjson"], MIXED, out=tmp_path / "native.parquet")
    env = cluster.env | {"SPARK_CONF_DIR": str(tmp_path)}
    (tmp_path / "spark-defaults.conf").write_text("spark.executor.memory 512m\nspark.executor.cores 1\n")
    job = subprocess.Popen([sys.executable, "-c", JOB, str(tmp_path), cluster.master], env=env, stderr=subprocess.PIPE)
    parts = lambda: list((tmp_path / "staging").glob("*/part-*"))  # noqa: E731
    until = time.monotonic() + 900
    while job.poll() is None and not parts() and time.monotonic() < until:
        time.sleep(0.05)
    assert parts() and started(tmp_path) == 2, (
        job.stderr.read()[-2000:] if job.poll() is not None else "no part in time"
    )
    done_before = len(parts())
    cluster.lose_worker()
    _, said = job.communicate(timeout=900)
    assert job.returncode == 0, said[-2000:]
    assert done_before < 40, "the worker was lost after the end"
    assert pq.read_table(tmp_path / "spark.parquet").equals(pq.read_table(tmp_path / "native.parquet"))
    assert not list((tmp_path / "staging").iterdir())
