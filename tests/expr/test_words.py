"""Conditions in plain words."""

from __future__ import annotations

import pytest

from shopward.expr import Known, Scope, check, describe

SCOPE = Scope(
    fields={
        "amount": Known("number"),
        "ok": Known("bool"),
        "device": Known("string"),
        "account": Known("string"),
        "agent": Known("string"),
        "type": Known("string"),
        "ts": Known("time"),
    },
    features={"fails_1h": "number", "mean_30d": "number"},
    lists={"family": (), "pairs": ()},
    lookups={"bins_country": ("bins", "country", "string", "string")},
)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("fails_1h >= 5 and ok", "fails_1h is at least 5, and ok is true"),
        ("not (fails_1h >= 5 and ok)", "fails_1h is less than 5, or ok is false"),
        ("ok and (amount > 5 or fails_1h > 1)", "ok is true, and (amount is more than 5, or fails_1h is more than 1)"),
        ("ok and not (amount > 5 or amount < 1)", "ok is true, and amount is at most 5, and amount is at least 1"),
        ("not not ok", "ok is true"),
        ("amount > 3 * mean_30d", "amount is more than 3 * mean_30d"),
        ("(amount - 1) / mean_30d != 0.5", "(amount - 1) / mean_30d is not 0.5"),
        ("amount > 1234567.5", "amount is more than 1,234,567.5"),
        ("type in ('order', 'login')", 'type is "order" or "login"'),
        ("type not in ('order',)", 'type is not "order"'),
        ("device is None or agent is not None", "device is missing, or agent is known"),
        ("not contains(agent, 'bot')", 'agent does not contain "bot"'),
        ("listed('pairs', account, device)", "account with device is on the list pairs"),
        ("bins_country(device) == 'US'", 'country of device in bins is "US"'),
        ("hour(ts, 'UTC') < 6", 'hour(ts, "UTC") is less than 6'),
        ("ts > '2026-01-31'", "ts is more than 2026-01-31 00:00"),
        ("True", "always"),
        ("-amount + 2", "-amount + 2"),
    ],
)
def test_described(source, words):
    assert describe(check(source, SCOPE)) == words
