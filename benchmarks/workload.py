"""The workload every benchmark shares: one million marketplace events over ten days, Zipf keys, 22 features and 20 rules.

Users, devices, IPs, cards and sellers follow Zipf laws (exponents 0.5 to 0.9); most users keep their own device, IP and card, the
rest are drawn at random, so that some devices and addresses serve very many users.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

START_MS = 1_760_000_000_000
DAY_MS = 86_400_000
TYPES = ("login", "register", "order", "payment", "payment_failed", "refund", "coupon", "review")
TYPE_SHARES = (0.25, 0.05, 0.20, 0.25, 0.10, 0.05, 0.05, 0.05)
USERS, DEVICES, IPS, CARDS, SELLERS = 100_000, 80_000, 50_000, 60_000, 5_000

SCHEMA = f"""
types: [{", ".join(TYPES)}]
fields:
  user: {{type: string, entity: user}}
  device: {{type: string, entity: device}}
  ip: {{type: string, entity: ip}}
  card: {{type: string, entity: card}}
  seller: {{type: string, entity: seller}}
  amount: money
money: amount
"""

FEATURES = """
user_events_1m: {entity: user, measure: count, over: 1m}
user_events_1h: {entity: user, measure: count, over: 1h}
user_events_24h: {entity: user, measure: count, over: 24h}
user_events_7d: {entity: user, measure: count, over: 7d}
user_spend_1h: {entity: user, measure: sum(amount), over: 1h}
user_spend_24h: {entity: user, measure: sum(amount), over: 24h}
user_spend_7d: {entity: user, measure: sum(amount), over: 7d}
user_cards_24h: {entity: user, measure: distinct(card), over: 24h}
user_idle: {entity: user, measure: since_last, over: 7d}
device_events_1h: {entity: device, measure: count, over: 1h}
device_events_24h: {entity: device, measure: count, over: 24h}
device_users_24h: {entity: device, measure: distinct(user), over: 24h}
device_users_7d: {entity: device, measure: distinct(user), over: 7d}
device_age: {entity: device, measure: since_first, over: ever}
ip_events_1m: {entity: ip, measure: count, over: 1m}
ip_events_1h: {entity: ip, measure: count, over: 1h}
ip_events_24h: {entity: ip, measure: count, over: 24h}
ip_users_1h: {entity: ip, measure: distinct(user), over: 1h}
ip_users_24h: {entity: ip, measure: distinct(user), over: 24h}
card_failed_1h: {entity: card, measure: count, over: 1h, where: type == "payment_failed"}
seller_mean_7d: {entity: seller, measure: mean(amount), over: 7d}
seller_std_7d: {entity: seller, measure: std(amount), over: 7d}
"""

RULES = (
    ("burst_1m", "review", "user_events_1m > 5"),
    ("burst_1h", "challenge", "user_events_1h > 20 and user_spend_1h > 2000"),
    ("busy_day", "review", "user_events_24h > 50"),
    ("busy_week", "review", "user_events_7d > 200 and user_spend_7d > 20000"),
    ("spend_1h", "hold", "user_spend_1h > 3000"),
    ("spend_or_cards", "review", "user_spend_24h > 10000 or user_cards_24h >= 4"),
    ("cards_and_speed", "deny", "user_cards_24h >= 3 and user_events_1h > 3"),
    ("machine_speed", "challenge", "user_idle < 2 and user_events_1m > 2"),
    ("device_hour", "review", "device_events_1h > 10"),
    ("device_day", "review", "device_events_24h > 60"),
    ("device_users", "challenge", "device_users_24h >= 5"),
    ("new_shared_device", "deny", "device_users_7d >= 10 and device_age < 86400"),
    ("ip_minute", "challenge", "ip_events_1m > 20"),
    ("ip_hour", "challenge", "ip_events_1h > 60 or ip_users_1h > 15"),
    ("ip_day", "review", "ip_events_24h > 500"),
    ("ip_users_hour", "challenge", "ip_users_1h >= 8"),
    ("ip_users_day", "review", "ip_users_24h >= 30 and ip_events_24h > 40"),
    ("card_failures", "deny", "card_failed_1h >= 2"),
    ("card_failure_many", "review", "card_failed_1h >= 1 and user_cards_24h >= 2"),
    ("seller_outlier", "review", "seller_std_7d > 0 and user_spend_1h > seller_mean_7d + 4 * seller_std_7d"),
)


def rulebook_files(rules: tuple[tuple[str, str, str], ...] = RULES) -> dict[str, str]:
    """The workload's rulebook as relative path -> text."""
    files = {"schema.yaml": SCHEMA, "features/all.yaml": FEATURES, "policy.yaml": "base_currency: USD\n"}
    on = f"[{', '.join(TYPES)}]"
    for name, then, when in rules:
        files[f"rules/{name}.yaml"] = (
            f"id: {name}\ntitle: {name.replace('_', ' ')}\non: {on}\nwhen: {when}\nthen: {then}\nstate: live\n"
            f"tests:\n  - name: an ordinary login passes\n    events: [{{type: login, ts: 1760000000000, user: u1}}]\n"
            f"    expect: {{fires: false}}\n"
        )
    return files


def _zipf(rng: np.random.Generator, keys: int, exponent: float, n: int) -> np.ndarray:
    weights = 1 / np.arange(1, keys + 1) ** exponent
    drawn = np.searchsorted(np.cumsum(weights / weights.sum()), rng.random(n))
    return rng.permutation(keys)[np.minimum(drawn, keys - 1)]


def _own_or_any(rng, own_share: float, own: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.where(rng.random(len(own)) < own_share, own, other)


def columns(n: int = 1_000_000, days: int = 10, seed: int = 7) -> dict[str, np.ndarray]:
    """Integer columns of `n` events in time order: ts (ms), type, user, device, ip, card, seller; amount in cents."""
    rng = np.random.default_rng(seed)
    user = _zipf(rng, USERS, 0.9, n)
    return {
        "ts": START_MS + np.sort(rng.integers(0, days * DAY_MS, n)),
        "type": rng.choice(len(TYPES), n, p=TYPE_SHARES),
        "user": user,
        "device": _own_or_any(rng, 0.85, user * 7919 % DEVICES, _zipf(rng, DEVICES, 0.7, n)),
        "ip": _own_or_any(rng, 0.70, user * 104_729 % IPS, _zipf(rng, IPS, 0.9, n)),
        "card": _own_or_any(rng, 0.90, user * 15_485_863 % CARDS, _zipf(rng, CARDS, 0.5, n)),
        "seller": _zipf(rng, SELLERS, 0.9, n),
        "amount": np.maximum(1, np.rint(np.exp(rng.normal(3.5, 1.2, n)) * 100)).astype(np.int64),
    }


def _named(prefix: str, width: int, ids: np.ndarray, count: int) -> pa.Array:
    names = pa.array([f"{prefix}{i:0{width}d}" for i in range(count)])
    return names.take(pa.array(ids))


def table(n: int = 1_000_000, seed: int = 7) -> pa.Table:
    """The workload as an Arrow table with string keys and float amounts, as a shop would export it."""
    c = columns(n, seed=seed)
    ips = pa.array([f"{10 + i % 200}.{i * 31 % 256}.{(i >> 8) % 256}.{i % 256}" for i in range(IPS)])
    return pa.table(
        {
            "event_id": pa.array([f"e{i}" for i in range(n)]),
            "ts": c["ts"],
            "type": pa.array(TYPES).take(pa.array(c["type"])),
            "user": _named("u_", 10, c["user"], USERS),
            "device": _named("dev-", 12, c["device"], DEVICES),
            "ip": ips.take(pa.array(c["ip"])),
            "card": _named("card_", 11, c["card"], CARDS),
            "seller": _named("s_", 6, c["seller"], SELLERS),
            "amount": c["amount"] / 100,
        }
    )
