"""Who was shown too much: walks over ids, strangers' data, crowds, exports, secrets in addresses; and who was not."""

from __future__ import annotations

import json
from random import Random

from click.testing import CliRunner

from shopward.cli.leaks import exposure as command
from shopward.store.findings import read_findings
from shopward.traffic.leaks.exposure import Exposure
from shopward.traffic.requests import Request

NOW = 1_790_000_000_000


def told(requests):
    seen = Exposure()
    for r in requests:
        seen.add(r)
    return [(e.entity, e.feature, e.value) for e in seen.findings()]


def shoppers(n=200, orders=4):
    """Honest people who look at their own orders."""
    rng = Random(1)
    for account in range(n):
        for k in range(orders):
            order = rng.randint(10**6, 10**7)
            body = json.dumps(
                {"order": order, "receiver_mobile": f"138{account:08d}", "email": f"u{account}@example.com"}
            )
            yield Request(id=f"s{account}-{k}", method="GET", url=f"/api/orders/{order}", status=200, ts=NOW + account, account=f"u{account}", response_body=body, bytes=len(body))  # fmt: skip


def test_honest_people_do_not_stand_out():
    assert told(shoppers()) == []


def test_ids_walked_in_order_by_one_session_are_found_with_how_many_were_refused():
    walk = [Request(id=f"w{i}", method="GET", url=f"/api/orders/{5_000_000 + i}", status=403 if i % 4 else 200, ts=NOW + i, session="x9") for i in range(80)]  # fmt: skip
    seen = Exposure()
    for r in [*shoppers(), *walk]:
        seen.add(r)
    (found,) = seen.findings()
    assert (found.entity, found.feature, found.value, found.usual) == ("session:x9", "ids_walked", 80, 4)
    assert (
        "100% of them in order, 60 refused" in found.what
        and found.event_ids[0] == "w0"
        and "OAT-011" in found.techniques
    )


def test_other_peoples_data_through_an_interface_for_one_is_found():
    rng = Random(2)
    walk = [
        Request(id=f"w{i}", method="GET", url=f"/api/orders/{rng.randint(10**6, 10**7)}", status=200, ts=NOW, account="thief", response_body=f'{{"mobile": "139{i:08d}"}}')
        for i in range(50)
    ]  # fmt: skip
    assert ("account:thief", "people_seen", 50) in told([*shoppers(), *walk])


def test_a_crowd_in_one_answer_belongs_to_the_interface():
    crowd = json.dumps([{"email": f"p{i}@example.com"} for i in range(120)])
    answer = Request(
        id="c", method="GET", url="/api/admin/users", status=200, ts=NOW, account="staff", response_body=crowd
    )
    assert told([*shoppers(), answer]) == [("endpoint:GET /api/admin/users", "people_in_an_answer", 120)]


def test_an_export_is_told_by_what_others_take():
    takes = [
        Request(id=f"t{i}", method="GET", url="/api/report", status=200, ts=NOW, account=f"u{i}", bytes=20_000)
        for i in range(9)
    ]
    takes.append(
        Request(id="big", method="GET", url="/api/report", status=200, ts=NOW, account="u99", bytes=90_000_000)
    )
    assert told(takes) == [("account:u99", "bytes_taken", 90_000_000)]


def test_secrets_in_addresses_are_found():
    r = Request(id="1", method="GET", url="/login?user=bob&password=hunter2!x", status=200, ts=NOW, ip="198.51.100.7")
    assert told([r]) == [("endpoint:GET /login", "secret_password_in_address", 1)]


def test_the_command_keeps_findings_in_the_lake(tmp_path):
    rows = [
        {"id": f"w{i}", "method": "GET", "url": f"/api/users/{i}", "status": 200, "ts": NOW + i, "ip": "198.51.100.7"}
        for i in range(60)
    ]
    rows += [
        {
            "id": f"h{i}",
            "method": "GET",
            "url": f"/api/users/{i * 31}",
            "status": 200,
            "ts": NOW + i,
            "ip": f"203.0.113.{i}",
        }
        for i in range(60)
    ]
    (tmp_path / "r.ndjson").write_text("\n".join(map(json.dumps, rows)))
    done = CliRunner().invoke(command, [str(tmp_path / "r.ndjson"), "--out", str(tmp_path / "f.ndjson"), "--data", str(tmp_path / "d"), "--json"])  # fmt: skip
    assert done.exit_code == 0 and json.loads(done.output)["findings"] == 1
    (row,) = map(json.loads, (tmp_path / "f.ndjson").read_text().splitlines())
    assert (row["entity"], row["feature"], row["value"]) == ("ip:198.51.100.7", "ids_walked", 60.0)
    assert [e.entity for e in read_findings(tmp_path / "d")] == ["ip:198.51.100.7"]


def test_memory_is_bounded_whatever_callers_there_are(monkeypatch):
    monkeypatch.setattr("shopward.traffic.leaks.exposure.WALKS", 100)
    seen = Exposure()
    for i in range(1000):
        seen.add(Request(id=str(i), method="GET", url="/a/1", status=200, ts=NOW, ip=f"10.0.{i // 250}.{i % 250}"))
    assert len(seen.walks) == 100 and seen.forgotten == 900
