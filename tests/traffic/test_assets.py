"""Interfaces from traffic: templates with reasons, what they give away, who may call them, and what people decided."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from shopward.cli.assets import assets as command
from shopward.store.findings import read_findings
from shopward.traffic.assets import Inventory, Templates
from shopward.traffic.assets.inventory import compared, openapi
from shopward.traffic.requests import Request

DAY = 86_400_000
NOW = 1_790_000_000_000


def learned(*paths, given=()):
    templates = Templates(given)
    tokens = [templates.add("GET", p) for p in paths]
    templates.resolve()
    return [templates.of(t) for t in tokens]


def request(i, path, **more):
    return Request(id=str(i), method=more.pop("method", "GET"), url=path, ts=more.pop("ts", NOW + i), status=more.pop("status", 200), **more)  # fmt: skip


def test_a_name_beside_ids_stays_a_name():
    paths = [f"/api/users/{i}" for i in range(100, 160)] + ["/api/users/me"] * 60
    assert {t.path for t in learned(*paths)} == {"/api/users/{user_id}", "/api/users/me"}


def test_few_words_that_go_on_alike_are_one_parameter():
    paths = [f"/shop/{b}/items/{i}" for b in ("nike", "puma", "fila", "anta") for i in range(5)]
    assert {t.path for t in learned(*paths)} == {"/shop/{shop}/items/{item_id}"}


def test_ways_of_paying_are_interfaces_of_their_own():
    paths = [f"/pay/callback/{way}" for way in ("alipay", "wechat", "paypal", "stripe") for _ in range(20)]
    assert {t.path for t in learned(*paths)} == {f"/pay/callback/{w}" for w in ("alipay", "wechat", "paypal", "stripe")}


def test_every_template_says_why():
    template = learned(*[f"/orders/{i}" for i in range(40)])[0]
    assert template.why == "{order_id}: 40 integers" and template.confidence == 0.97


@pytest.mark.parametrize(
    ("paths", "want"),
    [
        (["/%E5%95%86%E5%93%81/1", "/%E5%95%86%E5%93%81/2"], "/\u5546\u54c1/{}"),
        (["/en/help", "/zh-CN/help", "/de/help"], "/{}/help"),
        (["/item/1.html", "/item/2.html"], "/item/{}.html"),
        (["/v1/payments/8HX20123456789ABC:cancel", "/v1/payments/9KX30123456789ABD:cancel"], "/v1/payments/{}:cancel"),
        (["/a/b;jsessionid=1", "/a/b;jsessionid=2"], "/a/b"),
        (["//orders//7/", "/orders/8"], "/orders/{}"),
    ],
)
def test_odd_forms_of_paths(paths, want):
    import re

    assert {re.sub(r"\{[^}]*\}", "{}", t.path) for t in learned(*paths)} == {want}


def test_what_people_decided_wins_and_can_be_taken_back():
    paths = ["/pay/callback/alipay", "/pay/callback/wechat"] * 10
    assert {t.path for t in learned(*paths, given=["/pay/callback/{provider}"])} == {"/pay/callback/{provider}"}
    assert {t.path for t in learned(*paths)} == {"/pay/callback/alipay", "/pay/callback/wechat"}


def test_answers_that_differ_keep_words_apart():
    templates = Templates()
    profile, wall = frozenset(("id", "name", "avatar")), frozenset(("items", "cursor", "total"))
    tokens = [
        templates.add("GET", f"/members/{w}", profile)
        for w in ("anna", "bob", "carl", "dora", "emil")
        for _ in range(3)
    ]
    other = templates.add("GET", "/members/wall", wall, calls=3)
    templates.resolve()
    assert {templates.of(t).path for t in tokens} == {"/members/{member}"}
    assert templates.of(other).path == "/members/wall"


def test_memory_does_not_grow_with_ids():
    templates = Templates()
    for i in range(20_000):
        templates.add("GET", f"/orders/{i}/items/{i * 7}")
        templates.add(
            "GET",
            f"/u/{'abcdefghij'[i % 10]}{'klmnopqrst'[i // 10 % 10]}{'uvwxyzabcd'[i // 100 % 10]}{'efghijklmn'[i // 1000 % 10]}{'xy'[i // 10000]}zq",
        )
    count, stack = 0, [templates.root]
    while stack:
        node = stack.pop()
        count += 1
        stack.extend(node.children.values())
    assert count < 5_000


def test_an_open_interface_with_personal_data_is_the_first_to_look_at():
    seen = Inventory()
    for i in range(30):
        seen.add(
            request(
                i, f"/api/orders/{i}", response_body=json.dumps({"mobile": f"1380013{8000 + i}", "real_name": "Li Wei"})
            )
        )
        seen.add(request(100 + i, "/api/products", response_body='{"items": []}'))
    first = seen.assets()[0].row()
    assert (first["asset"], first["access"], first["level"]) == ("GET /api/orders/{order_id}", "public", 3)
    assert any("carried no credential" in r for r in first["reasons"]) and first["risk"] >= 60
    assert all("13800138" not in e for e in first["examples"])


def test_credentials_are_told_apart():
    seen = Inventory()
    bearer, cookie = {"Authorization": "Bearer abc123def456"}, {"Cookie": "sessionid=1"}
    for i in range(4):
        seen.add(request(i, "/api/wallet", headers=bearer))
        seen.add(request(i, "/api/cart", headers=cookie))
        seen.add(request(i, "/open/orders?app_key=k&sign=s&ts=1"))
        seen.add(request(i, "/api/mixed", headers=bearer if i else {}, status=200 if i else 401))
    auth = {a.template.path: (sorted(a.facts.auth), a.verdict.access) for a in seen.assets()}
    assert auth == {
        "/api/wallet": (["bearer"], "private"), "/api/cart": (["session"], "private"), "/open/orders": (["api_key", "signature"], "partner"),
        "/api/mixed": (["bearer", "none"], "private"),
    }  # fmt: skip


def test_lifecycles():
    seen = Inventory(documented={("GET", "/api/v2/orders"), ("GET", "/api/v1/orders"), ("GET", "/old"), ("GET", "/fresh"), ("GET", "/gone"), ("GET", "/steady")})  # fmt: skip
    for i in range(3):
        seen.add(request(i, "/api/v2/orders", ts=NOW - 40 * DAY * (i == 0)))
        seen.add(request(i, "/api/v1/orders", ts=NOW))
        seen.add(request(i, "/old", ts=NOW - 45 * DAY))
        seen.add(request(i, "/fresh", ts=NOW))
        seen.add(request(i, "/hidden", ts=NOW))
        seen.add(request(i, "/steady", ts=NOW - 20 * DAY * i))
        seen.add(request(i, "/gone", response_headers={"Deprecation": "true"}))
    found = {a.template.path: a.verdict.lifecycle for a in seen.assets()}
    assert found == {"/api/v2/orders": "active", "/api/v1/orders": "zombie", "/old": "zombie", "/fresh": "new", "/hidden": "shadow", "/steady": "active", "/gone": "deprecated"}  # fmt: skip


def test_probes_for_what_is_not_there_make_no_interfaces():
    seen = Inventory()
    for i in range(500):
        seen.add(request(i, f"/wp-admin/{i}.php", status=404))
    seen.add(request(501, "/api/orders"))
    assert [a.name for a in seen.assets()] == ["GET /api/orders"] and seen.refused == {"": 500}


def test_the_document_is_compared():
    document = {
        "paths": {
            "/api/orders/{id}": {"get": {"parameters": [{"name": "expand", "in": "query"}]}},
            "/api/unused": {"post": {}},
        }
    }
    seen = Inventory()
    for i in range(5):
        seen.add(request(i, f"/api/orders/{i}?expand=1&debug=1"))
        seen.add(request(i, "/api/shadow"))
    assert compared(seen.assets(), document) == {
        "undocumented": ["GET /api/shadow"], "unused": ["POST /api/unused"], "drifted": ["GET /api/orders/{order_id}: debug"],
    }  # fmt: skip


def test_the_inventory_is_an_openapi_document():
    seen = Inventory(tags={"/api/orders/{order_id}": {"owner": "team-orders", "level": 4}})
    for i in range(5):
        seen.add(request(i, f"/api/orders/{i}?page=2", method="GET", headers={"Host": "shop.example.com"}))
        seen.add(request(i, "/api/orders", method="POST", headers={"Host": "shop.example.com", "Content-Type": "application/json"}, body='{"sku": "A", "qty": 2}'))  # fmt: skip
    doc = openapi(seen.assets())
    get = doc["paths"]["/api/orders/{order_id}"]["get"]
    assert doc["openapi"] == "3.1.0" and doc["servers"] == [{"url": "https://shop.example.com"}]
    assert [(p["name"], p["in"], p["schema"]) for p in get["parameters"]] == [("order_id", "path", {"type": "string"}), ("page", "query", {"type": "integer"})]  # fmt: skip
    assert (get["x-owner"], get["x-level"]) == ("team-orders", 4)
    body = doc["paths"]["/api/orders"]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert body == {"qty": {"type": "integer"}, "sku": {"type": "string"}}


def test_the_command_writes_table_map_and_findings(tmp_path):
    rows = [{"id": f"r{i}", "method": "GET", "url": f"/api/users/{i}", "status": 200, "ts": NOW + i, "response_body": '{"email": "a@example.com"}'} for i in range(20)]  # fmt: skip
    (tmp_path / "req.ndjson").write_text("\n".join(map(json.dumps, rows)) + "\nbroken\n")
    out, links, data = tmp_path / "assets.parquet", tmp_path / "map.ndjson", tmp_path / "data"
    arguments = [str(tmp_path / "req.ndjson"), "--out", str(out), "--map", str(links), "--data", str(data), "--json"]
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert (told["requests"], told["assets"], told["dead_letters"], told["appeared"]) == (
        20,
        1,
        1,
        ["GET /api/users/{user_id}"],
    )
    (row,) = pq.read_table(out).to_pylist()
    assert (row["asset"], row["template"], row["calls"], row["level"]) == (
        "GET /api/users/{user_id}",
        "/api/users/{user_id}",
        20,
        3,
    )
    assert [json.loads(line) for line in links.read_text().splitlines()] == [{"id": f"r{i}", "asset": "GET /api/users/{user_id}"} for i in range(20)]  # fmt: skip
    assert {e.entity for e in read_findings(data)} == {"endpoint:GET /api/users/{user_id}"}
    again = json.loads(CliRunner().invoke(command, arguments).output)
    assert again["appeared"] == []


def test_decisions_that_cannot_be_read_say_what_would_be_right(tmp_path):
    (tmp_path / "r.ndjson").write_text('{"id": "1", "method": "GET", "url": "/a", "status": 200}\n')
    bad = tmp_path / "d.yaml"
    for text, said in [("templates: [a/b]", "starts with /"), ("tags: {/a: {level: 9}}", "levels are 1"), ("x: 1", "expected `templates:`"), ("tags: {/a: {boss: me}}", "owner, level")]:  # fmt: skip
        bad.write_text(text)
        done = CliRunner().invoke(command, [str(tmp_path / "r.ndjson"), "--decisions", str(bad)])
        assert said in str(done.exception)


@pytest.mark.parametrize(
    "path",
    ["/" + "a/" * 50_000, "/" + "%" * 100_000, "/" + "\u4e2d" * 10_000, "/\0\0", "", "*", "/%2e%2e/%2e%2e", "/{x}/{y}"],
)
def test_hostile_paths_do_no_harm(path):
    seen = Inventory()
    seen.add(request(1, path))
    assert len(seen.assets()) == 1
