"""What people decide about interfaces: kept with who, when and what stood before, taken back, and found again by the next look."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from shopward.cli.assets import assets as look_command
from shopward.cli.lake import lake
from shopward.errors import UsageError
from shopward.store.query import sql
from shopward.traffic.assets.tags import history, standing, tag

ORDERS = "GET shop.example/api/orders/{order_id}"


def log(folder: Path, *paths: str, times: int = 6) -> Path:
    rows = [
        {"id": f"{path}-{i}", "method": "GET", "url": path.replace("#", str(100 + i)), "status": 200, "headers": {"host": "shop.example"}}
        for path in paths
        for i in range(times)
    ]  # fmt: skip
    file = folder / "access.ndjson"
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def look(file: Path, data: Path, *options: str) -> dict[str, dict]:
    """The governed table after a look at the traffic, by asset."""
    out = data.parent / "assets.ndjson"
    done = CliRunner().invoke(
        look_command, [str(file), "--data", str(data), "--out", str(out), *options], catch_exceptions=False
    )
    assert done.exit_code == 0
    return {row["asset"]: row for row in map(json.loads, out.read_text().splitlines())}


def say(data: Path, *words: str) -> dict:
    done = CliRunner().invoke(lake, ["tag", *words, "--data", str(data), "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    return json.loads(done.stdout)


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    look(log(tmp_path, "/api/orders/#", "/api/coupons"), folder)
    return folder


def test_a_tag_holds_in_the_table_at_once_and_in_the_next_look(data, tmp_path):
    told = say(data, ORDERS, "--owner", "team-orders", "--level", "4", "--retention", "400d", "--note", "audit")
    assert [(d["field"], d["before"], d["after"], d["note"]) for d in told["decisions"]] == [
        ("owner", None, "team-orders", "audit"), ("level", None, "4", "audit"), ("retention", None, "400d", "audit"),
    ]  # fmt: skip
    assert all(d["who"].startswith("user:") and d["ts"] for d in told["decisions"])
    now = sql(data, f"SELECT owner, level, retention FROM assets WHERE asset = '{ORDERS}'").to_pylist()
    assert now == [{"owner": "team-orders", "level": 4, "retention": "400d"}]
    row = look(log(tmp_path, "/api/orders/#", "/api/coupons"), data)[ORDERS]
    assert (row["owner"], row["level"], row["found_level"]) == ("team-orders", 4, 1)
    looks = (
        sql(data, f"SELECT owner FROM api_assets WHERE asset = '{ORDERS}' ORDER BY taken").column("owner").to_pylist()
    )
    assert looks == [None, "team-orders", "team-orders"], "the history keeps what was"


def test_a_change_is_taken_back_step_by_step_and_nothing_is_lost(data):
    say(data, ORDERS, "--level", "3")
    say(data, ORDERS, "--level", "4")
    assert say(data, "--undo")["tags"] == {ORDERS: {"level": 3}}
    assert say(data, "--undo")["tags"] == {}
    level = sql(data, f"SELECT level, lifecycle FROM assets WHERE asset = '{ORDERS}'").to_pylist()
    assert level == [{"level": 1, "lifecycle": "active"}], "what the traffic says stands again"
    changes = [(d["before"], d["after"], d["undoes"]) for d in say(data, "--history")["decisions"]]
    assert changes == [(None, "3", None), ("3", "4", None), ("4", "3", 2), ("3", None, 1)]
    assert sql(data, "SELECT count(*) AS n FROM asset_tags").to_pylist() == [{"n": 4}]
    done = CliRunner().invoke(lake, ["tag", "--undo", "--data", str(data)])
    assert isinstance(done.exception, UsageError) and "no decision to take back" in str(done.exception)


def test_what_was_changed_again_is_not_taken_back_behind_its_back(data):
    first = say(data, ORDERS, "--owner", "kim")["decisions"][0]["id"]
    say(data, ORDERS, "--owner", "lee")
    done = CliRunner().invoke(lake, ["tag", "--undo-id", str(first), "--data", str(data)])
    assert "was changed again by 2; undo that first" in str(done.exception)


def test_the_same_again_says_nothing_and_none_takes_a_tag_away(data):
    assert len(say(data, ORDERS, "--owner", "kim")["decisions"]) == 1
    assert say(data, ORDERS, "--owner", "kim")["decisions"] == []
    assert say(data, ORDERS, "--owner", "none")["tags"] == {}
    assert [row["after"] for row in history(data)] == ["kim", None]


def test_a_template_that_people_decided_splits_and_merges_until_it_is_forgotten(data, tmp_path):
    file = log(
        tmp_path,
        "/pay/callback/alipay",
        "/pay/callback/wechat",
        "/brands/nike",
        "/brands/puma",
        "/brands/fila",
        "/brands/anta",
    )
    before = set(look(file, data))
    assert "GET shop.example/pay/callback/alipay" in before and "GET shop.example/brands/{brand}" in before
    say(data, "--template", "/pay/callback/{provider}")
    say(data, "--template", "/brands/nike")
    after = look(file, data)
    assert {"GET shop.example/pay/callback/{provider}", "GET shop.example/brands/nike"} <= set(after)
    assert after["GET shop.example/brands/nike"]["why"] == "decided by people"
    say(data, "--forget-template", "/brands/nike")
    say(data, "--undo-id", "1")
    assert set(look(file, data)) == before
    assert standing(data) == ((), {})


def test_a_tag_of_a_template_holds_for_all_its_methods_and_for_a_parameter_with_a_new_name(data, tmp_path):
    say(data, "/api/orders/{order_id}", "--owner", "team-orders")
    say(data, ORDERS, "--domain", "refund")
    say(data, "--template", "/api/orders/{id}")
    row = look(log(tmp_path, "/api/orders/#"), data)["GET shop.example/api/orders/{id}"]
    assert (row["owner"], row["domain"], row["found_domain"]) == ("team-orders", "refund", "order")


def test_a_file_of_decisions_wins_over_the_lake(data, tmp_path):
    say(data, ORDERS, "--owner", "kim", "--level", "3")
    file = tmp_path / "decisions.yaml"
    file.write_text(f'tags: {{"{ORDERS}": {{owner: lee}}}}')
    row = look(log(tmp_path, "/api/orders/#"), data, "--decisions", str(file))[ORDERS]
    assert (row["owner"], row["level"]) == ("lee", 3)


@pytest.mark.parametrize(
    ("asset", "changes", "words"),
    [
        ("GET shop.example/api/order/{order_id}", {"owner": "x"}, "did you mean"),
        (ORDERS, {"level": "5"}, "levels are 1 (public) to 4"),
        (ORDERS, {"lifecycle": "dead"}, "one of new, active"),
        (ORDERS, {"retention": "long"}, "retention:"),
        (ORDERS, {"colour": "red"}, "they are owner, level"),
    ],
)
def test_what_cannot_be_says_what_would_be_right_and_writes_nothing(data, asset, changes, words):
    with pytest.raises(UsageError, match=words.replace("(", r"\(").replace(")", r"\)")):
        tag(data, asset, changes, "user:kim")
    assert history(data) == []


def test_the_look_at_everything_keeps_what_people_decided(data, tmp_path):
    from shopward.traffic.scan import scan_files

    say(data, ORDERS, "--owner", "team-orders")
    say(data, "--template", "/api/{word}")
    found = {
        row["asset"]: row for row in scan_files([log(tmp_path, "/api/orders/#", "/api/coupons")], data=data).assets
    }
    assert found[ORDERS]["owner"] == "team-orders" and "GET shop.example/api/{word}" in found
