"""Without Java, without pyspark: what is missing is said, and how to get it."""

from __future__ import annotations

import json
import sys

import pytest
from click.testing import CliRunner

from shopward.cli import cli
from shopward.connect import spark
from shopward.errors import MissingExtra, UsageError
from tests.backtest import shop


@pytest.fixture
def shop_files(tmp_path):
    shop.write(tmp_path / "rules", shop.files())
    (tmp_path / "events.ndjson").write_text(json.dumps({"event_id": "e1", "ts": shop.START, "type": "login"}))
    return [str(tmp_path / "events.ndjson"), "--rulebook", str(tmp_path / "rules"), "--engine", "spark"]


@pytest.mark.parametrize("verb", ["features", "decide", "backtest"])
def test_without_pyspark_the_install_line_is_said(verb, shop_files, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyspark", None)
    monkeypatch.setitem(sys.modules, "pyspark.errors", None)
    found = CliRunner().invoke(cli, [verb, *shop_files])
    assert isinstance(found.exception, MissingExtra) and found.exception.exit_code == 4
    assert "pip install 'shopward[spark]'" in str(found.exception)


def test_without_java_it_says_so(shop_files, monkeypatch, tmp_path):
    pytest.importorskip("pyspark", reason="the [spark] extra is not installed")
    from pyspark.sql import SparkSession

    if SparkSession.getActiveSession() is not None:
        pytest.skip("a session is running already")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with (
        pytest.raises(UsageError, match=f"needs Java 17 or newer, and JAVA_HOME={tmp_path} holds no bin/java"),
        spark.session("local[1]"),
    ):
        pass
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = CliRunner().invoke(cli, ["features", *shop_files])
    assert isinstance(found.exception, UsageError) and "there is no `java` on PATH" in str(found.exception)
