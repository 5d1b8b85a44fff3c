"""The access log tells the same story as the events, from the side of the web server."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest


@pytest.fixture(scope="module")
def log(market):
    return msgspec.json.Decoder().decode_lines((market.folder / "access.ndjson").read_bytes())


def test_every_event_made_by_somebody_was_carried_by_one_request(market, log):
    requests = {row["id"]: row for row in log}
    assert len(requests) == len(log)
    carried = [e for e in market.events if "request_id" in e]
    assert len(carried) > 0.85 * len(market.events)
    for event in carried:
        request = requests[event["request_id"]]
        for field in ("session", "device", "ip", "account"):
            assert request.get(field) == event.get(field)
        assert request["ts"] >= event["ts"]


def test_parcels_and_banks_come_in_by_the_back_door(market):
    assert {e["type"] for e in market.events if "request_id" not in e} == {
        "shipment", "delivery", "return", "chargeback", "seller_payout", "creator_payout", "commission", "order_cancel", "traffic_verdict", "refund",
    }  # fmt: skip


def test_outcomes_are_status_codes(market, log):
    status = {row["id"]: row["status"] for row in log}
    seen = Counter(
        (e["type"], e.get("success"), status[e["request_id"]]) for e in market.of("login", "payment", "payment_failed")
    )
    assert set(seen) == {
        ("login", True, 200),
        ("login", False, 401),
        ("payment", None, 201),
        ("payment_failed", None, 402),
    }


def test_rows_have_the_shape_of_requests(log):
    for row in log[:5000]:
        assert set(row) <= {
            "id",
            "ts",
            "method",
            "url",
            "status",
            "ip",
            "session",
            "account",
            "device",
            "headers",
            "bytes",
            "ja4",
            "body",
            "response_body",
        }
        assert row["url"].startswith("/") and " " not in row["url"] and "{" not in row["url"]
        assert row["method"] in ("GET", "POST", "PATCH", "PUT") and row["headers"]["user-agent"]


def test_most_requests_cause_no_event(market, log):
    assert len(log) > 2 * len(market.events)
    assert market.summary.requests + sum("request_id" in e for e in market.events) == len(log)


def test_the_log_is_in_order_within_a_day(log):
    days = Counter()
    for before, after in zip(log, log[1:], strict=False):
        days[after["ts"] < before["ts"]] += 1
    assert days[True] <= 14
