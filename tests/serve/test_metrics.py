"""What the server tells about itself: metrics that Prometheus reads, readiness, the API document."""

from __future__ import annotations

import json

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.rules.books import book, rule
from tests.serve.server import HEADERS, Server, write_rulebook
from tests.serve.test_http import LOGIN


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metrics")
    rules = write_rulebook(folder / "rules", book(rule("big", "amount > 100", "review")))
    with Server("--data", folder / "data", "--rulebook", rules) as server:
        yield server


def values(server) -> dict[tuple[str, str], float]:
    text = httpx.get(f"{server.url}/metrics").text
    return {
        (sample.name, ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_happened_can_be_counted(server):
    order = {"type": "order", "ts": LOGIN["ts"], "account": "a1"}
    with server.client() as client:
        for i, amount in enumerate((5, 500, 700)):
            client.post("/v1/decide", json=order | {"event_id": f"m{i}", "amount": amount})
        client.post("/v1/decide", json=order | {"event_id": "m0", "amount": 5})
        client.post("/v1/decide", json=order | {"event_id": "m0", "amount": 6})
        client.post("/v1/decide", json={"type": "order"})
    found = values(server)
    assert found["shopward_decisions_total", "action=review"] == 2
    assert found["shopward_decisions_total", "action=allow"] == 3
    assert found["shopward_rule_hits_total", "rule=big"] == 2
    assert (found["shopward_duplicates_total", ""], found["shopward_conflicts_total", ""]) == (1, 1)
    assert found["shopward_events_refused_total", ""] == 1 and found["shopward_events_total", ""] == 3
    assert found["shopward_http_requests_total", "route=/v1/decide,status=200"] == 5
    assert found["shopward_http_seconds_count", "route=/v1/decide"] == 6
    assert found["shopward_http_seconds_bucket", "le=+Inf,route=/v1/decide"] == 6
    assert found["shopward_windows_bytes", ""] > 0
    assert found["shopward_lag_events", ""] == 0 and found["shopward_disk_free_bytes", ""] > 0


def test_alive_and_ready_are_two_things(server):
    assert httpx.get(f"{server.url}/healthz").json()["status"] == "ok"
    assert httpx.get(f"{server.url}/readyz").json()["status"] == "ready"


def test_the_document_names_the_rulebooks_own_fields(server):
    told = httpx.get(f"{server.url}/openapi.json").json()
    event = told["components"]["schemas"]["Event"]["properties"]
    assert told["openapi"] == "3.1.0" and event["type"]["enum"] == ["login", "order", "coupon_claim", "payout"]
    assert {"account", "device", "amount"} <= event.keys()


@pytest.mark.slow
def test_no_request_made_from_the_document_brings_a_server_error(server):
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, settings

    schemathesis.serializer.alias("application/x-ndjson", "text/plain")
    api = schemathesis.openapi.from_url(f"{server.url}/openapi.json")

    for operation in api.get_all_operations():
        check = settings(
            max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
        )(_asks(operation.ok()))
        check()
    assert httpx.get(f"{server.url}/healthz").status_code == 200


def _asks(operation):
    from hypothesis import given

    @given(case=operation.as_strategy())
    def ask(case):
        answer = case.call(headers=HEADERS, timeout=30)
        assert answer.status_code < 500, (operation.label, answer.status_code, answer.text)

    return ask


def test_the_time_budget_answers_with_the_fallback_and_says_so(tmp_path):
    policy = "base_currency: USD\ntime_budget: 1ms\nfallback: review"
    rules = write_rulebook(tmp_path / "rules", book(rule("big", "amount > 100", "deny"), policy=policy))
    with Server("--data", tmp_path / "data", "--rulebook", rules) as server, server.client() as client:
        answers = [client.post("/v1/decide", json=LOGIN | {"event_id": f"f{i}"}).json() for i in range(40)]
        late = [answer for answer in answers if answer["reasons"] == ["fallback"]]
        assert late, "1 ms is less than a flush to disk takes"
        assert late[0]["action"] == "review" and late[0]["evidence"][0]["source"] == "serve:fallback"
        assert "within 1 ms" in late[0]["evidence"][0]["what"]
        for answer in late:  # decided all the same
            kept = client.get(f"/v1/decisions/{answer['event_id']}").json()
            assert kept["action"] == "allow" and kept["reasons"] == []
    assert json.dumps(late[0])
