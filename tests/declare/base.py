"""A small rulebook that checks; each golden file replaces or adds files."""

BASE = {
    "schema.yaml": """\
types: [register, login, order, payment, coupon_claim]
fields:
  account: {type: string, entity: account}
  seller: {type: string, entity: account}
  device: {type: string, entity: device}
  card: {type: string, entity: card}
  card_bin: string
  email: {type: string, pii: true, normalise: lower}
  phone: {type: string, pii: true}
  recovery_email: {type: string, pii: true}
  mail_domain: {type: string, entity: mail_domain, derive: domain(email)}
  amount: money
  weight: number
  success: bool
  shipped: time
  tags: list
  user_agent: string
money: amount
""",
    "features/devices.yaml": """\
device_accounts_24h: {entity: device, measure: distinct(account), over: 24h, where: type == "login"}
account_spend_7d: {entity: account, measure: sum(amount), over: 7d}
account_orders_7d: {entity: account, measure: count, over: 7d, where: type == "order"}
account_last_device: {entity: account, measure: last(device), over: 30d}
""",
    "lists/lists.yaml": """\
blocked_devices: {kind: block, entity: device}
trusted_pairs: {kind: allow, entity: [account, device]}
""",
    "lookups/bins.yaml": """\
key: string
columns: {country: string, prepaid: bool}
rows:
  - {key: "411111", country: US, prepaid: false}
""",
    "rules/coupon_fanout.yaml": """\
id: coupon_fanout
title: One device claims coupons for many accounts
on: [coupon_claim]
when: device_accounts_24h > 5
then: deny
state: draft
""",
}
