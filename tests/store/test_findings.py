"""A finding stands once, however often it is found; the newest counts, and it is read back as it was written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import msgspec
import numpy as np
import pytest

from shopward.errors import StoreFull
from shopward.evidence import Evidence
from shopward.store.files import RealDisk
from shopward.store.findings import Findings, read_findings, write_findings
from shopward.store.frames import Frame, canonical
from shopward.store.lake import compact
from shopward.store.log import Log
from shopward.store.query import sql

NOON = 1_767_268_800_000  # 2026-01-01T12:00:00Z
DAY = 86_400_000
RING = Evidence(
    source="scan:rings", what="3 accounts on one device", entity="device:d1", feature="accounts", value=3, threshold="> 2",
    usual=[1, 2], event_ids=("e1", "e2", "e3"), techniques=("F1018",), confidence=0.9, ts=NOON,
)  # fmt: skip


def again(**more) -> Evidence:
    return msgspec.structs.replace(RING, **more)


def test_a_finding_is_read_back_as_it_was_written(tmp_path):
    odd = [again(value=v, entity=f"device:{i}") for i, v in enumerate(("5", "true", "[1", True, 2.5, None, ["a", 1]))]
    assert write_findings(tmp_path, iter([RING, *odd])) == 8
    found = {e.entity: e for e in read_findings(tmp_path)}
    assert found == {e.entity: e for e in (RING, *odd)}


def test_numbers_of_numpy_and_a_missing_number_are_plain(tmp_path):
    write_findings(tmp_path, [again(value=np.int64(7)), again(entity="device:d2", value=float("nan"))])
    assert [e.value for e in read_findings(tmp_path)] in ([7, None], [None, 7])


def test_found_again_it_stands_once_and_the_newest_counts(tmp_path):
    write_findings(tmp_path, [RING])
    write_findings(tmp_path, [again(value=4, event_ids=("e1", "e2", "e3", "e4"))])
    assert sql(tmp_path, "SELECT value_number AS v, len(event_ids) AS n FROM findings").to_pylist() == [
        {"v": 4.0, "n": 4}
    ]
    write_findings(tmp_path, [RING])
    assert [e.value for e in read_findings(tmp_path)] == [3]


def test_findings_in_another_order_and_company_are_still_the_same(tmp_path):
    other = again(entity="device:d2")
    write_findings(tmp_path, [RING, other])
    write_findings(tmp_path, [again(entity="device:d3"), other, RING, RING])
    assert sorted(e.entity for e in read_findings(tmp_path)) == ["device:d1", "device:d2", "device:d3"]


def test_another_event_another_feature_and_another_secret_are_other_findings():
    ids = {
        RING.id,
        again(event_ids=("e9",)).id,
        again(feature="cards").id,
        again(value="4***1").id,
        again(value="5***2").id,
    }
    assert len(ids) == 5
    assert again(value=9, what="9 accounts", confidence=0.1, ts=NOON + DAY).id == RING.id
    daily = again(event_ids=())
    assert (
        daily.id == msgspec.structs.replace(daily, ts=NOON + 5).id != msgspec.structs.replace(daily, ts=NOON + DAY).id
    )
    assert again(feature=None).id != again(feature=None, what="else").id


def test_they_are_found_by_entity_source_technique_and_time(tmp_path):
    rule = again(source="rule:ring", entity="device:d2", techniques=("T1110",), ts=NOON + DAY)
    quiet = again(source="shadow:ring", entity="device:d2", ts=NOON + 2 * DAY)
    write_findings(tmp_path, [RING, rule, quiet])
    assert read_findings(tmp_path, entity="device:d2") == [rule]
    assert read_findings(tmp_path, entity="device:d2", shadow=True) == [rule, quiet]
    assert read_findings(tmp_path, source="rule:") == read_findings(tmp_path, source="rule:ring") == [rule]
    assert read_findings(tmp_path, source="shadow:ring") == [quiet]
    assert read_findings(tmp_path, technique="T1110") == [rule]
    assert read_findings(tmp_path, since=NOON + 1) == [rule] and read_findings(tmp_path, until=NOON + 1) == [RING]
    assert read_findings(tmp_path, limit=1) == [RING]
    assert sorted(p.name for p in (tmp_path / "lake" / "findings").iterdir()) == [
        "finder=rule",
        "finder=scan",
        "finder=shadow",
    ]


def test_what_rules_saw_gets_there_from_the_log_before_and_after_compaction(tmp_path):
    live = {"source": "rule:ring", "what": "ring", "entity": "device:d1", "value": 3, "event_ids": ["e1"], "ts": NOON}
    decision = {"event_id": "e1", "evidence": [live], "shadow_evidence": [live | {"source": "shadow:new"}]}
    with Log.open(tmp_path / "log") as log:
        lines = canonical([{"event_id": "e1", "ts": NOON, "type": "login"}])
        log.append(Frame.of_events(0, NOON, lines, [NOON], ["e1"], [decision]))
    write_findings(tmp_path, [again(source="rule:ring", feature=None, what="ring", value=5, event_ids=("e1",))])
    for _ in range(2):
        rows = sql(tmp_path, "SELECT source, finder, value, seq FROM findings ORDER BY source").to_pylist()
        assert rows == [
            {"source": "rule:ring", "finder": "rule", "value": "5", "seq": None},  # written later than the log's
            {"source": "shadow:new", "finder": "shadow", "value": "3", "seq": 0},
        ]
        compact(tmp_path)


def test_a_source_that_is_no_folder_name_does_no_harm(tmp_path):
    write_findings(tmp_path, [again(source="../../x y:1"), again(source=":", entity="device:d2")])
    assert [e.source for e in read_findings(tmp_path)] in (["../../x y:1", ":"], [":", "../../x y:1"])
    assert {p.name for p in tmp_path.iterdir()} == {"lake"}


def test_more_than_fits_in_memory_is_written_as_it_comes(tmp_path, monkeypatch):
    from shopward.store import findings

    monkeypatch.setattr(findings, "HELD", 10)
    assert write_findings(tmp_path, (again(entity=f"device:{i}") for i in range(95))) == 95
    assert len(list((tmp_path / "lake").rglob("*.parquet"))) == 10 and len(read_findings(tmp_path)) == 95


def test_what_was_found_before_an_error_is_kept(tmp_path):
    with pytest.raises(RuntimeError), Findings(tmp_path) as out:
        out.add(RING)
        raise RuntimeError
    assert read_findings(tmp_path) == [RING]


def test_a_full_disk_is_told_and_leaves_nothing_half(tmp_path):
    class Full(RealDisk):
        def appending(self, path):
            return FullFile(path)

    class FullFile:
        def __init__(self, path):
            path.write_bytes(b"")

        def append(self, parts):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

    with pytest.raises(StoreFull):
        write_findings(tmp_path, [RING], Full())
    assert [p for p in (tmp_path / "lake").rglob("*") if p.is_file()] == []
    assert write_findings(tmp_path, [RING]) == 1


KILLED = """
import sys, os, signal
from shopward.evidence import Evidence
from shopward.store.findings import Findings
with Findings(sys.argv[1]) as out:
    for i in range(10**9):
        out.add(Evidence(source="scan:x", what="w", entity=f"a:{i}", feature="f", event_ids=(f"e{i}",), ts=1767268800000))
        if i % 500 == 499:
            out.flush()
            print(out.count, flush=True)
"""


def test_what_a_killed_finder_flushed_is_there(tmp_path):
    finder = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert finder.stdout is not None
    told = [int(finder.stdout.readline()) for _ in range(4)][-1]
    os.kill(finder.pid, signal.SIGKILL)
    finder.wait()
    n = sql(tmp_path, "SELECT count(*) AS n, count(DISTINCT id) AS ids FROM findings").to_pylist()[0]
    assert n["n"] == n["ids"] >= told and n["n"] % 500 == 0
