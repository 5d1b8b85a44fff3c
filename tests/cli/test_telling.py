"""The demo's story: what would have caught a campaign is worked out, and it reads well in a narrow terminal."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from shopward.backtest import instead as campaigns
from shopward.backtest.judged import Story
from shopward.cli import telling

HOUR = 3_600_000
BOOK = SimpleNamespace(rules={
    "loud": SimpleNamespace(id="loud", state="live", then="challenge", techniques=("SW-1020",)),
    "quiet": SimpleNamespace(id="quiet", state="shadow", then="deny", techniques=("SW-1021",)),
})  # fmt: skip


def campaign(*events, techniques=("SW-1020",), devices=4):
    """Events as (hour, loss, action, reasons, shadow, hours until the label)."""
    rows = [
        [h * HOUR, loss, action, list(why), list(shadow), (h + known) * HOUR]
        for h, loss, action, why, shadow, known in events
    ]
    return {"events": rows, "techniques": list(techniques), "devices": devices, "ips": devices}


def instead(mine, first_detection_s=None, seen_by=(), loss=100.0):
    return campaigns._instead(
        mine, {"first_detection_s": first_detection_s, "seen_by": list(seen_by), "loss": loss}, BOOK
    )


def test_a_rule_that_only_challenges_is_named_with_what_a_review_would_have_kept():
    mine = campaign((0, 20, "allow", (), (), 900), (1, 80, "challenge", ("loud",), (), 900))
    assert instead(mine) == "`loud` saw it, but only answers `challenge`: a review would have kept 80 of 100"


def test_a_rule_in_shadow_is_named():
    mine = campaign((0, 50, "allow", (), ("quiet",), 900), (1, 50, "allow", (), (), 900))
    assert "`quiet` saw it, but is in shadow" in instead(mine)


def test_a_report_in_time_would_have_helped():
    mine = campaign((0, 30, "allow", (), (), 5), (10, 70, "allow", (), (), 900))
    assert "reported after 5.0 h" in instead(mine) and "70 of 100" in instead(mine)


def test_a_late_rule_is_told_how_late_it_was():
    mine = campaign((0, 60, "allow", (), (), 900), (2, 40, "deny", ("loud",), (), 900))
    assert (
        instead(mine, first_detection_s=7200.0, seen_by=["loud"])
        == "`loud` came after 2.0 h, when 60% was gone: a rule on an earlier step"
    )


def test_a_technique_nobody_looks_for_is_a_blind_spot():
    assert "no live rule looks for SW-1032 (Triangulation): a blind spot" in instead(
        campaign((0, 9, "allow", (), (), 900), techniques=("SW-1032",))
    )


def test_a_spread_out_campaign_needs_more_than_counters():
    assert "no counter reaches that low" in instead(campaign((0, 9, "allow", (), (), 900), devices=1))


def test_many_steps_on_one_device_ask_for_a_count():
    mine = campaign(*[(h, 1, "allow", (), (), 900) for h in range(12)], devices=1)
    assert instead(mine) == (
        "12 steps on 1 device and 1 address, and no rule fired: a rule against brushing (SW-1020) that counts per device or address"
    )


@pytest.mark.parametrize("width", [80, 120])
def test_the_story_fits_the_terminal(monkeypatch, width):
    out = io.StringIO()
    monkeypatch.setattr("rich.console.Console", lambda **_: Console(file=out, width=width, highlight=False))
    stop = {
        "event_id": "e1",
        "type": "order",
        "action": "deny",
        "why": ["A device has many accounts: device_accounts_24h = 9 (> 3)"],
        "techniques": ["SW-1003"],
    }
    one = {"id": "campaign-001", "kind": "coupon_ring", "caught": True, "first_detection_s": 60.0, "loss": 90.0, "loss_prevented": 80.0, "seen_by": ["ring"],
           "start": 1_767_600_000_000, "did": "A coupon ring: many new customers who are one person.", "first_stop": stop}  # fmt: skip
    two = one | {"id": "campaign-002", "kind": "brushing", "caught": False, "first_detection_s": None, "loss_prevented": 0.0, "first_stop": None,
                 "would_have": "no live rule looks for it"}  # fmt: skip
    market = {"days": 14, "accounts": 4000, "paid": 1e5, "adversary": "normal"}
    telling.print_story(Story(1000, 2.0, {"allow": 990, "deny": 10}, 0.44, 0.001, [one, two], 33.0, market=market))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(out.getvalue().split())
    for said in (
        "2 gangs came for 180",
        "What was caught: 1 of 2",
        "coupon ring",
        "device_accounts_24h = 9",
        "80 of 180 was kept",
        "brushing took 90: no live rule",
    ):
        assert said in text
