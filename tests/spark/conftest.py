"""Spark as it is installed by pip: one session on two cores for all stories that need no cluster of their own."""

from __future__ import annotations

import os
import shutil
import sys
import warnings

import pytest


@pytest.fixture(scope="session")
def local(tmp_path_factory):
    """A session on local[2] with an embedded Hive metastore, everything it writes in a folder of its own."""
    pytest.importorskip("pyspark", reason="the [spark] extra is not installed")
    if not (shutil.which("java") or os.environ.get("JAVA_HOME")):
        pytest.skip("Spark needs Java, and there is none")
    warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")
    from shopward.connect import spark

    home = tmp_path_factory.mktemp("spark")
    os.environ["PYSPARK_PYTHON"] = sys.executable
    settings = {
        "spark.sql.warehouse.dir": str(home / "warehouse"),
        "spark.driver.extraJavaOptions": f"-Dderby.system.home={home}",
        "spark.sql.shuffle.partitions": "2",
    }
    with spark.session("local[2]", hive=True, settings=settings) as found:
        yield found
