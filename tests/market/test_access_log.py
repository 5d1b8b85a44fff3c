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


@pytest.fixture(scope="module")
def judged(market):
    return {row["request_id"]: row for row in market.truth["request_labels"]}


def test_requests_of_campaigns_are_labelled_like_their_events(market, log, judged):
    assert set(judged) <= {row["id"] for row in log}
    for event in market.events:
        if "request_id" in event:
            label = judged.get(event["request_id"])
            assert (label is not None and label["label"] == "fraud") == (event["event_id"] in market.fraud)
    campaigns = {row["campaign"] for row in market.fraud.values()}
    assert {row["campaign"] for row in judged.values() if row["campaign"]} <= campaigns


def test_scraping_is_mostly_in_the_log(market, log, judged):
    scraped = [row for row in judged.values() if row["label"] == "scraping"]
    sampled = [
        e for e in market.of("session_view", "search") if e["event_id"] in market.fraud and e.get("account") is None
    ]
    assert len(scraped) > 4 * len(sampled) > 0
    urls = {row["id"]: row["url"] for row in log}
    assert all(urls[row["request_id"]].startswith(("/api/v1/products/", "/api/v1/search")) for row in scraped)


def test_programs_are_not_attacks_and_scanners_are(judged):
    found = {
        label: {row["attack"] for row in judged.values() if row["label"] == label}
        for label in ("good_bot", "monitor", "partner", "staff", "probing", "scraping")
    }
    assert found == {
        "good_bot": {False},
        "monitor": {False},
        "partner": {False},
        "staff": {False},
        "probing": {True},
        "scraping": {True},
    }


def test_there_are_public_private_admin_and_forgotten_endpoints(log):
    paths = Counter("/".join(row["url"].split("?")[0].split("/")[:4]) for row in log)
    for path in (
        "/api/v1/products",
        "/api/v1/me",
        "/internal/admin/users",
        "/partner/v2/catalogue",
        "/hooks/payments",
        "/api/v0/users",
        "/healthz",
    ):
        assert paths[path], path
    leaky = [row for row in log if row["url"].startswith("/api/v0/users/") and row["status"] == 200]
    assert leaky and all({"email", "phone"} <= set(msgspec.json.decode(row["response_body"])) for row in leaky)


def test_bodies_are_json_and_scripts_keep_the_fingerprint_of_their_library(log, judged):
    bodies = [msgspec.json.decode(row["body"]) for row in log if "body" in row]
    assert len(bodies) > 1000
    claims = [row for row in log if row["headers"]["user-agent"].startswith("Mozilla/5.0 (Linux; Android")]
    mixed = [row for row in claims if row["ja4"] != "t13d1516h2_8daaf6152771_02713d6af862"]
    assert mixed and all(judged[row["id"]]["attack"] for row in mixed)
