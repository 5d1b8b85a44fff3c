"""Who may do what: scopes, ends, rates, and tokens that are revoked while the server runs."""

from __future__ import annotations

import json
import time

import httpx
import pytest
from click.testing import CliRunner

from shopward.cli.serve import serve
from shopward.store.tables import Tables, audit
from tests.serve.server import Server
from tests.serve.test_http import LOGIN


def run(data, *arguments: str):
    return CliRunner().invoke(serve, ["token", *arguments, "--data", str(data), "--json"])


def made(data, name: str, *options: str) -> dict[str, str]:
    done = run(data, "create", name, *options)
    assert done.exit_code == 0, done.output
    return {"authorization": f"Bearer {json.loads(done.stdout)['token']}"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server("--data", tmp_path_factory.mktemp("tokens") / "data") as server:
        server.data = server.process.args[server.process.args.index("--data") + 1]
        yield server


def post(server, headers, event_id="k1", path="/v1/decide", **more):
    return httpx.post(server.url + path, json=LOGIN | {"event_id": event_id} | more, headers=headers)


def test_a_token_made_while_the_server_runs_does_what_its_scopes_say_and_no_more(server):
    shop, desk = made(server.data, "shop"), made(server.data, "desk", "--scope", "read", "--scope", "label")
    time.sleep(0.6)
    assert post(server, shop).status_code == 200
    assert post(server, desk).status_code == 403
    assert httpx.get(f"{server.url}/v1/decisions/k1", headers=desk).json()["event_id"] == "k1"
    label = {"event_id": "k1", "label": 0, "label_ts": LOGIN["ts"]}
    assert httpx.post(f"{server.url}/v1/labels", json=label, headers=desk).json()["taken"] == 1
    for path in ("/v1/labels", "/v1/lists", "/v1/admin/rulebook"):
        refused = httpx.post(server.url + path, json={}, headers=shop)
        assert refused.status_code == 403 and "scope" in refused.json()["error"]
    run(server.data, "revoke", "shop")
    time.sleep(2.6)
    assert post(server, shop).status_code == 401


def test_a_token_ends_when_it_says(server):
    headers = made(server.data, "brief", "--expires", "1500ms")
    time.sleep(0.6)
    assert post(server, headers).status_code == 200
    time.sleep(1.2)
    assert post(server, headers).status_code == 401


def test_a_rate_sends_away_and_says_when_to_come_back(server):
    headers = made(server.data, "slow", "--rate", "1")
    time.sleep(0.6)
    answers = [post(server, headers, f"r{i}") for i in range(20)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused and len(refused) < 20 and int(refused[0].headers["retry-after"]) >= 1


def test_tokens_are_kept_as_hashes_and_every_change_is_audited(tmp_path):
    secret = made(tmp_path, "one")["authorization"].removeprefix("Bearer ")
    run(tmp_path, "revoke", "one")
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes()
    with Tables.open(tmp_path / "shopward.db") as tables:
        assert [(row["did"], row["subject"]) for row in tables.rows(audit.select())] == [
            ("token created", "one"),
            ("token revoked", "one"),
        ]
    told = json.loads(run(tmp_path, "list").stdout)["tokens"]
    assert told[0]["name"] == "one" and "hash" not in told[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create", "x", "--scope", "decid"), "did you mean `decide`?"),
        (("create", "x", "--expires", "soon"), "not a duration"),
        (("revoke", "nobody"), "no token"),
    ],
)
def test_a_wrong_command_says_what_would_be_right(tmp_path, arguments, said):
    done = run(tmp_path, *arguments)
    assert said in str(done.exception)
