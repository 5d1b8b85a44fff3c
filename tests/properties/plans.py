"""The few rulebooks whose features are computed on many random streams."""

from __future__ import annotations

from shopward.declare.rulebook import Rulebook

SCHEMA = """
types: [login, order, payment, payment_failed, refund]
fields:
  account: {type: string, entity: account}
  seller: {type: string, entity: account}
  device: {type: string, entity: device}
  card: {type: string, entity: card}
  amount: money
  change: {type: money, signed: true}
  weight: decimal(3)
  score_raw: number
  success: bool
  method: string
  seen_at: time
  tags: list
"""


def book(features: str, schema: str = SCHEMA) -> Rulebook:
    return Rulebook.from_files({"schema.yaml": schema, "features/f.yaml": features})


# Every measure over one key, with and without a filter.
MEASURES = book("""
n_all_1m: {entity: account, measure: count, over: 1m}
n_orders_1h: {entity: account, measure: count, over: 1h, where: type == "order"}
n_rate_1h: {entity: account, measure: rate, over: 1h, where: type == "order" or type == "payment"}
s_1m: {entity: account, measure: sum(amount), over: 1m}
s_1h: {entity: account, measure: sum(amount), over: 1h, where: type != "login"}
s_change_1h: {entity: account, measure: sum(change), over: 1h}
s_weight_1h: {entity: account, measure: sum(weight), over: 1h}
s_success_1h: {entity: account, measure: sum(success), over: 1h}
m_1h: {entity: account, measure: mean(amount), over: 1h}
m_success_1m: {entity: account, measure: mean(success), over: 1m, where: type == "login"}
sd_1m: {entity: account, measure: std(amount), over: 1m}
sd_change_1h: {entity: account, measure: std(change), over: 1h}
sd_success_1h: {entity: account, measure: std(success), over: 1h}
lo_1h: {entity: account, measure: min(amount), over: 1h}
hi_1h: {entity: account, measure: max(amount), over: 1h, where: type == "payment"}
lo_raw_1m: {entity: account, measure: min(score_raw), over: 1m}
hi_raw_1h: {entity: account, measure: max(score_raw), over: 1h}
lo_change_1h: {entity: account, measure: min(change), over: 1h}
d_device_1m: {entity: account, measure: distinct(device), over: 1m}
d_device_1h: {entity: account, measure: distinct(device), over: 1h}
d_device_orders_1h: {entity: account, measure: distinct(device), over: 1h, where: type == "order"}
d_amount_1h: {entity: account, measure: distinct(amount), over: 1h}
d_raw_1h: {entity: account, measure: distinct(score_raw), over: 1h}
d_success_1h: {entity: account, measure: distinct(success), over: 1h}
d_tags_1h: {entity: account, measure: distinct(tags), over: 1h}
d_method_1h: {entity: account, measure: distinct(method), over: 1h}
f_amount_1h: {entity: account, measure: first(amount), over: 1h}
f_device_1m: {entity: account, measure: first(device), over: 1m}
f_method_1h: {entity: account, measure: first(method), over: 1h, where: type == "login"}
l_amount_1h: {entity: account, measure: last(amount), over: 1h, where: type == "order"}
l_device_1h: {entity: account, measure: last(device), over: 1h}
l_raw_1m: {entity: account, measure: last(score_raw), over: 1m}
l_success_1h: {entity: account, measure: last(success), over: 1h}
age_1h: {entity: account, measure: since_first, over: 1h}
quiet_1h: {entity: account, measure: since_last, over: 1h}
quiet_login_1m: {entity: account, measure: since_last, over: 1m, where: type == "login"}
""")

# Windows that lie back, leave the event out, or have no end.
EDGES = book("""
n_lag_1m: {entity: account, measure: count, over: 1m, lag: 1m}
n_lag_1ms: {entity: account, measure: count, over: 1m, lag: 1ms}
s_lag_1h: {entity: account, measure: sum(amount), over: 1h, lag: 1m, where: type == "order"}
m_lag_1m: {entity: account, measure: mean(amount), over: 1m, lag: 1h}
sd_lag_1h: {entity: account, measure: std(change), over: 1h, lag: 1m}
d_lag_1m: {entity: account, measure: distinct(device), over: 1m, lag: 1m}
d_lag_1h: {entity: account, measure: distinct(device), over: 1h, lag: 1m, where: type == "login"}
hi_lag_1h: {entity: account, measure: max(amount), over: 1h, lag: 1m}
lo_lag_1h: {entity: account, measure: min(change), over: 1h, lag: 1m}
f_lag_1h: {entity: account, measure: first(device), over: 1h, lag: 1m}
l_lag_1h: {entity: account, measure: last(amount), over: 1h, lag: 1m}
age_lag_1h: {entity: account, measure: since_first, over: 1h, lag: 1m}
quiet_lag_1h: {entity: account, measure: since_last, over: 1h, lag: 1m}
n_before_1h: {entity: account, measure: count, over: 1h, before: true}
n_before_lag: {entity: account, measure: count, over: 1h, lag: 1m, before: true}
s_before_1m: {entity: account, measure: sum(amount), over: 1m, before: true}
m_before_1h: {entity: account, measure: mean(amount), over: 1h, before: true, where: type == "order"}
sd_before_1h: {entity: account, measure: std(amount), over: 1h, before: true}
d_before_1m: {entity: account, measure: distinct(device), over: 1m, before: true}
d_before_1h: {entity: account, measure: distinct(device), over: 1h, before: true}
hi_before_1h: {entity: account, measure: max(amount), over: 1h, before: true}
age_before_1h: {entity: account, measure: since_first, over: 1h, before: true}
n_ever: {entity: account, measure: count, over: ever}
n_ever_before: {entity: account, measure: count, over: ever, before: true}
n_orders_ever: {entity: account, measure: count, over: ever, where: type == "order"}
s_ever: {entity: account, measure: sum(amount), over: ever}
s_change_ever: {entity: account, measure: sum(change), over: ever, where: type == "refund"}
f_device_ever: {entity: account, measure: first(device), over: ever}
f_amount_ever: {entity: account, measure: first(amount), over: ever, where: type == "order"}
age_ever: {entity: account, measure: since_first, over: ever}
age_order_ever: {entity: account, measure: since_first, over: ever, where: type == "order"}
""")

# One event counting for several keys, and keys of several fields.
KEYS = book("""
any_n_1h: {entity: account, via: [account, seller], measure: count, over: 1h}
any_n_order_1m: {entity: account, via: [account, seller], measure: count, over: 1m, where: type == "order"}
any_s_1h: {entity: account, via: [account, seller], measure: sum(amount), over: 1h}
any_d_1h: {entity: account, via: [account, seller], measure: distinct(device), over: 1h}
any_hi_1h: {entity: account, via: [account, seller], measure: max(amount), over: 1h}
any_first_1h: {entity: account, via: [account, seller], measure: first(device), over: 1h}
any_quiet_1h: {entity: account, via: [account, seller], measure: since_last, over: 1h}
any_before_1h: {entity: account, via: [account, seller], measure: count, over: 1h, before: true}
as_seller_1h: {entity: seller, via: [account, seller], measure: count, over: 1h}
seller_n_1h: {entity: seller, measure: count, over: 1h}
pair_n_1h: {entity: [account, seller], measure: count, over: 1h}
pair_s_1h: {entity: [account, seller], measure: sum(amount), over: 1h, where: type == "order"}
pair_d_1m: {entity: [seller, account], measure: distinct(card), over: 1m}
triple_n_1h: {entity: [account, device, card], measure: count, over: 1h}
triple_last_1h: {entity: [account, device, card], measure: last(method), over: 1h}
device_accounts_1h: {entity: device, measure: distinct(account), over: 1h}
card_quiet_1h: {entity: card, measure: since_last, over: 1h}
""")

# Labels, replaced labels, delayed label aggregates.
LABELS = book("""
bad_rate_1h: {entity: account, measure: mean(label), over: 1h, where: type == "label"}
bad_n_1h: {entity: account, measure: sum(label), over: 1h}
judged_1h: {entity: account, measure: count, over: 1h, where: type == "label"}
judged_bad_1h: {entity: account, measure: count, over: 1h, where: label == 1}
by_bank_1h: {entity: account, measure: count, over: 1h, where: type == "label" and label_source == "bank"}
bad_sd_1h: {entity: account, measure: std(label), over: 1h, where: type == "label"}
late_rate_1h: {entity: account, measure: mean(label), over: 1h, lag: 1m, where: type == "label"}
late_n_1m: {entity: account, measure: count, over: 1m, lag: 1m, where: type == "label"}
late_bad_1m: {entity: account, measure: sum(label), over: 1m, lag: 1ms, where: type == "label"}
bad_before_1h: {entity: account, measure: sum(label), over: 1h, where: type == "label", before: true}
bad_devices_1h: {entity: account, measure: distinct(device), over: 1h, where: type == "label" and label == 1}
worst_1h: {entity: account, measure: max(label), over: 1h}
first_verdict_1h: {entity: account, measure: first(label), over: 1h, where: type == "label"}
last_verdict_1h: {entity: account, measure: last(label), over: 1h, where: type == "label"}
first_device_1h: {entity: account, measure: first(device), over: 1h, where: label == 1}
since_bad_1h: {entity: account, measure: since_last, over: 1h, where: label == 1}
since_first_bad_1h: {entity: account, measure: since_first, over: 1h, where: label == 1}
judged_ever: {entity: account, measure: count, over: ever, where: type == "label"}
bad_ever: {entity: account, measure: sum(label), over: ever}
first_bad_ever: {entity: account, measure: since_first, over: ever, where: label == 1}
either_1h: {entity: account, measure: count, over: 1h, where: type == "order" or type == "label"}
n_1h: {entity: account, measure: count, over: 1h}
s_1h: {entity: account, measure: sum(amount), over: 1h}
device_rate_1h: {entity: device, measure: mean(label), over: 1h, where: type == "label"}
any_rate_1h: {entity: account, via: [account, seller], measure: mean(label), over: 1h, where: type == "label"}
pair_bad_1h: {entity: [account, seller], measure: sum(label), over: 1h}
""")

# Sequences, ratios and expressions.
SHAPES = book("""
login_then_order_1m: {entity: account, sequence: {first: type == "login", then: type == "order", within: 1m}}
failed_then_paid_1h: {entity: account, sequence: {first: type == "payment_failed", then: type == "payment", within: 1h}}
order_then_order_1m: {entity: account, sequence: {first: type == "order", then: type == "order", within: 1m}}
big_then_any_1h: {entity: account, sequence: {first: amount > 100, then: amount is not None, within: 1h}}
order_without_payment_1h: {entity: account, sequence: {first: type == "order", without: type == "payment", within: 1h}}
login_without_login_1m: {entity: account, sequence: {first: type == "login", without: type == "login", within: 1m}}
good_without_bad_1h: {entity: device, sequence: {first: success, without: not success, within: 1h}}
any_then_1h: {entity: account, via: [account, seller], sequence: {first: type == "order", then: type == "refund", within: 1h}}
pair_without_1h: {entity: [account, seller], sequence: {first: type == "order", without: type == "payment", within: 1h}}
n_1h: {entity: account, measure: count, over: 1h}
n_failed_1h: {entity: account, measure: count, over: 1h, where: type == "payment_failed"}
s_1h: {entity: account, measure: sum(amount), over: 1h}
quiet_1h: {entity: account, measure: since_last, over: 1h}
failed_share_1h: {ratio: [n_failed_1h, n_1h]}
share_of_quiet: {ratio: [failed_share_1h, quiet_1h]}
jump: {expr: amount / s_1h}
balance: {expr: (s_1h - change) * 2 + n_1h % 3}
odd: {expr: '-(n_1h // 2) + coalesce(quiet_1h, -1)'}
lesser: {expr: 'min(amount, score_raw)'}
of_shape: {expr: jump + failed_share_1h}
hot: {expr: n_1h > 2 and (amount > 10 or not success)}
calm: {expr: not hot and order_without_payment_1h}
""")

# Conditions with nulls everywhere.
CONDITIONS = book("""
c_gt: {entity: account, measure: count, over: 1h, where: amount > 10}
c_not_gt: {entity: account, measure: count, over: 1h, where: not amount > 10}
c_ne: {entity: account, measure: count, over: 1h, where: method != "otp"}
c_eq_fields: {entity: account, measure: count, over: 1h, where: account == seller}
c_ne_fields: {entity: account, measure: count, over: 1h, where: account != seller}
c_or: {entity: account, measure: count, over: 1h, where: amount > 10 or success}
c_and: {entity: account, measure: count, over: 1h, where: not (success and weight < 1)}
c_null: {entity: account, measure: count, over: 1h, where: score_raw is None}
c_not_null: {entity: account, measure: count, over: 1h, where: seller is not None and amount is not None}
c_in: {entity: account, measure: count, over: 1h, where: 'method in ("otp", "social")'}
c_not_in: {entity: account, measure: count, over: 1h, where: 'method not in ("otp", "social")'}
c_number_in: {entity: account, measure: count, over: 1h, where: 'score_raw in (1, 2.5)'}
c_arith: {entity: account, measure: count, over: 1h, where: amount / weight > 3 or change - amount < 0}
c_mod: {entity: account, measure: count, over: 1h, where: score_raw % 2 == 0 or change // 3 == -1}
c_div_zero: {entity: account, measure: count, over: 1h, where: amount / (weight - weight) > 0}
c_abs: {entity: account, measure: count, over: 1h, where: 'abs(change) >= 5 and max(amount, weight) > 1'}
c_time: {entity: account, measure: count, over: 1h, where: ts - seen_at < 60}
c_hour: {entity: account, measure: count, over: 1h, where: hour(ts) == 0}
c_bool: {entity: account, measure: sum(amount), over: 1h, where: success}
c_not_bool: {entity: account, measure: sum(amount), over: 1h, where: not success}
""")

PLANS = {
    "measures": MEASURES,
    "edges": EDGES,
    "keys": KEYS,
    "labels": LABELS,
    "shapes": SHAPES,
    "conditions": CONDITIONS,
}

# One of everything, small enough to compile in a test run.
MIXED = book("""
n_1h: {entity: account, measure: count, over: 1h, where: type == "order"}
s_1m: {entity: account, measure: sum(amount), over: 1m}
m_1h: {entity: account, measure: mean(amount), over: 1h, lag: 1m}
sd_1h: {entity: account, measure: std(change), over: 1h}
hi_1h: {entity: account, measure: max(amount), over: 1h}
d_device_1h: {entity: account, measure: distinct(device), over: 1h}
l_device_1h: {entity: account, measure: last(device), over: 1h}
n_before_1h: {entity: account, measure: count, over: 1h, before: true}
age_ever: {entity: account, measure: since_first, over: ever}
bad_rate_1h: {entity: account, measure: mean(label), over: 1h, lag: 1m, where: type == "label"}
unpaid_1h: {entity: account, sequence: {first: type == "order", without: type == "payment", within: 1h}}
any_d_1h: {entity: account, via: [account, seller], measure: distinct(card), over: 1h}
pair_s_1h: {entity: [account, seller], measure: sum(amount), over: 1h}
share: {ratio: [s_1m, m_1h]}
jump: {expr: amount / s_1m - n_1h}
""")
