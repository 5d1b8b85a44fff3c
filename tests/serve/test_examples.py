"""The curl examples of docs/serve.md, run as they stand."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from tests.serve.server import ROOT, TOKEN, Server


def test_every_example_of_the_page_works(tmp_path):
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    examples = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "serve.md").read_text(), re.DOTALL)
    assert len(examples) == 6
    with Server("--data", tmp_path) as server:
        told = [
            subprocess.run(
                ["sh", "-ec", text],
                env={"URL": server.url, "TOKEN": TOKEN, "PATH": "/usr/bin:/bin"},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for text in examples
        ]
    one, batch, three, rulebook, watched, erased = told
    assert json.loads(one)["action"] == "allow"
    assert [*map(json.loads, batch.splitlines())][1]["line"] == 2
    assert '"event_id":"order-1"' in three and three.count('"taken":1') == 2
    assert json.loads(rulebook)["warming"] is None
    assert '"status":"ok"' in watched and "shopward_decisions_total" in watched and '"openapi":"3.1.0"' in watched
    assert json.loads(erased)["events"] == 3  # with the label
