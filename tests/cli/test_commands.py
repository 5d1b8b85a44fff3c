"""The command line as a user meets it: data on stdout, talk on stderr, exit codes that mean something."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.rules.books import FEATURES, LISTS, SCHEMA, rule

ROOT = Path(__file__).parents[2]
START = 1_767_225_600_000


def shopward(*args: object, stdin: bytes = b"") -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "shopward", *map(str, args)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, input=stdin, timeout=300, check=False)


@pytest.fixture
def rulebook(tmp_path) -> Path:
    folder = tmp_path / "book"
    files = {"schema.yaml": SCHEMA, "features/all.yaml": FEATURES, "lists/all.yaml": LISTS}
    files["rules/fanout.yaml"] = rule("fanout", "device_accounts_24h >= 3", "deny")
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def events(n: int) -> list[dict]:
    return [
        {"event_id": f"e{i}", "type": "login", "ts": START + i, "account": f"a{i}", "device": "d1"} for i in range(n)
    ]


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_decide_writes_rows_and_a_summary(tmp_path, rulebook):
    out = tmp_path / "out.parquet"
    done = shopward("decide", write(tmp_path / "e.ndjson", events(5)), "--rulebook", rulebook, "--out", out, "--json")
    assert done.returncode == 0, done.stderr.decode()
    summary = json.loads(done.stdout)
    assert summary["events"] == 5 and summary["decisions"]["deny"] == 3 and summary["dead_letters"] == 0
    rows = pq.read_table(out).to_pylist()
    assert [r["event_id"] for r in rows] == [f"e{i}" for i in range(5)]
    assert [r["action"] for r in rows] == ["allow", "allow", "deny", "deny", "deny"]
    assert rows[4]["reasons"] == ["fanout"] and rows[4]["arm"] == "treated" and len(rows[4]["rulebook_version"]) == 12


@pytest.mark.parametrize("ending", ["csv", "ndjson", "parquet"])
def test_every_format_goes_in_and_out(tmp_path, rulebook, ending):
    import pyarrow as pa
    import pyarrow.csv as pc_csv

    source = tmp_path / f"e.{ending}"
    table = pa.Table.from_pylist(events(4))
    {"csv": lambda: pc_csv.write_csv(table, source), "parquet": lambda: pq.write_table(table, source),
     "ndjson": lambda: write(source, events(4))}[ending]()  # fmt: skip
    out = tmp_path / f"out.{ending}"
    done = shopward("decide", source, "--rulebook", rulebook, "--out", out)
    assert done.returncode == 0, done.stderr.decode()
    assert b"deny 2" in done.stdout
    text = out.read_bytes()
    assert text and (ending == "parquet" or b"fanout" in text)


def test_stdin_is_a_source(rulebook):
    body = "".join(json.dumps(row) + "\n" for row in events(3)).encode()
    done = shopward("decide", "-", "--rulebook", rulebook, "--json", stdin=body)
    assert json.loads(done.stdout)["events"] == 3


def test_bad_records_are_dead_letters_and_the_rest_is_decided(tmp_path, rulebook):
    path = tmp_path / "e.ndjson"
    lines = [json.dumps(e) for e in events(3)]
    path.write_text("\n".join([lines[0], "{oops", lines[1], '{"type": "login", "account": "a"}', lines[2]]) + "\n")
    dead = tmp_path / "dead.ndjson"
    done = shopward("decide", path, "--rulebook", rulebook, "--dead-letters", dead, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["dead_letters"] == 2
    rows = [json.loads(line) for line in dead.read_text().splitlines()]
    assert [row["line"] for row in rows] == [2, 4] and "ts" in rows[1]["reason"]


def test_nothing_usable_is_exit_3_and_says_why(tmp_path, rulebook):
    path = tmp_path / "e.ndjson"
    path.write_text('{"type": "logn", "ts": 0}\n')
    done = shopward("decide", path, "--rulebook", rulebook)
    assert done.returncode == 3
    assert b"did you mean `login`" in done.stderr


def test_a_missing_file_a_wrong_ending_and_a_typo_are_exit_2(tmp_path, rulebook):
    source = write(tmp_path / "e.ndjson", events(1))
    for args in (
        ("decide", tmp_path / "nothing.ndjson"),
        ("decide", source, "--rulebook", rulebook, "--out", tmp_path / "out.xlsx"),
        ("decide", source, "--rulebook", tmp_path / "nowhere"),
        ("decied", source),
        ("features",),
        ("sql", "select 1", "--data", tmp_path / "nowhere"),
    ):
        done = shopward(*args)
        assert done.returncode == 2, (args, done.stderr)
        assert done.stderr and b"Traceback" not in done.stderr


def test_rules_check_shows_every_problem_with_its_place(tmp_path, rulebook):
    assert shopward("rules", "check", rulebook).returncode == 0
    (rulebook / "rules/fanout.yaml").write_text(rule("fanout", "device_acounts_24h >= 3 and amunt > 1", "deny"))
    done = shopward("rules", "check", rulebook)
    assert done.returncode == 1
    assert (
        b"rules/fanout.yaml:4:7: " in done.stdout
        and b"did you mean `device_accounts_24h`" in done.stdout
        and b"amunt" in done.stdout
    )


def test_rules_test_names_the_failing_test(rulebook):
    assert shopward("rules", "test", rulebook).returncode == 0
    wrong = rule("fanout", "device_accounts_24h >= 3", "deny").replace("fires: false", "fires: true")
    (rulebook / "rules/fanout.yaml").write_text(wrong)
    done = shopward("rules", "test", rulebook, "--json")
    assert done.returncode == 1
    (result,) = json.loads(done.stdout)["results"]
    assert result["rule"] == "fanout" and "expected the rule to fire" in result["why"]


def test_features_are_the_same_from_the_engine_and_from_sql(tmp_path, rulebook):
    source, tables = write(tmp_path / "e.ndjson", events(30)), []
    for engine in ("native", "duckdb"):
        out = tmp_path / f"{engine}.parquet"
        done = shopward("features", source, "--rulebook", rulebook, "--engine", engine, "--out", out, "--json")
        assert done.returncode == 0, done.stderr.decode()
        tables.append(pq.read_table(out).to_pylist())
    assert tables[0] == tables[1] and tables[0][29]["device_accounts_24h"] == 30
    assert shopward("features", source, "--rulebook", rulebook, "--engine", "spork").returncode == 2


def test_features_can_be_listed_and_read_as_sql(rulebook):
    assert b"account_spend_24h" in shopward("features", "--rulebook", rulebook, "--list").stdout
    assert b"SELECT" in shopward("features", "--rulebook", rulebook, "--sql", "account_spend_24h").stdout
    assert (
        b"did you mean `account_spend_24h`"
        in shopward("features", "--rulebook", rulebook, "--sql", "account_spend_24").stderr
    )


def test_the_demo_tells_what_was_caught():
    done = shopward("demo", "--once", "--json")
    assert done.returncode == 0, done.stderr.decode()
    story = json.loads(done.stdout)
    assert {"events", "seconds", "decisions", "capture_by_value", "insult_rate", "campaigns"} <= story.keys()
    kinds = {c["kind"] for c in story["campaigns"]}
    assert len(kinds) >= 4 and any(c["caught"] for c in story["campaigns"])
    assert story["capture_by_value"] > 0.3 and story["insult_rate"] < 0.02
