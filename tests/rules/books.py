"""Small rulebooks that the tests of rules share."""

from __future__ import annotations

from textwrap import dedent

from shopward import Rulebook

SCHEMA = """
types: [login, order, coupon_claim, payout]
fields:
  account: {type: string, entity: account}
  seller: {type: string, entity: account}
  device: {type: string, entity: device}
  card_bin: {type: string}
  country: string
  email: {type: string, pii: true, normalise: lower}
  mail_domain: {type: string, derive: domain(email)}
  amount: money
  items: number
  success: bool
money: amount
"""

FEATURES = """
device_accounts_24h: {entity: device, measure: distinct(account), over: 24h}
account_orders_1h: {entity: account, measure: count, over: 1h, where: type == "order"}
account_spend_24h: {entity: account, measure: sum(amount), over: 24h}
account_mean_7d: {entity: account, measure: mean(amount), over: 7d, before: true}
account_idle: {entity: account, measure: since_last, over: 7d}
account_country: {entity: account, measure: last(country), over: 30d}
spend_jump: {expr: amount / account_mean_7d}
"""

LISTS = """
blocked_devices: {kind: block, entity: device}
friends: {kind: allow, entity: account}
"""

QUIET = "tests: [{name: quiet, events: [{type: login, ts: 0, account: a}], expect: {fires: false}}]"


def rule(
    id: str, when: str, then: str = "review", on: str = "[login, order, coupon_claim, payout]", more: str = ""
) -> str:
    """One rule file."""
    return f"id: {id}\ntitle: {id.replace('_', ' ')}\non: {on}\nwhen: {when}\nthen: {then}\n{QUIET}\n{dedent(more)}"


def book(
    *rules: str, policy: str = "base_currency: USD", features: str = FEATURES, models: dict[str, str] | None = None
) -> Rulebook:
    """A rulebook of the given rule files over the shared schema and features."""
    files = {"schema.yaml": SCHEMA, "features/all.yaml": features, "lists/all.yaml": LISTS, "policy.yaml": policy}
    files |= {
        "lookups/bins.yaml": "key: string\ncolumns: {country: string}\nrows:\n"
        '  - {key: "411111", country: US}\n  - {key: "424242", country: DE}\n'
    }
    files |= {f"models/{name}.yaml": text for name, text in (models or {}).items()}
    for i, text in enumerate(rules):
        files[f"rules/r{i:02d}.yaml"] = text
    return Rulebook.from_files(files)
