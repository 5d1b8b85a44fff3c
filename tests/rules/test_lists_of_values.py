"""Fields that hold lists of texts, one event at a time and in batches."""

from __future__ import annotations

from shopward import Engine, Rulebook

BOOK = {
    "schema.yaml": "{types: [order], fields: {account: {type: string, entity: account}, coupons: list}}",
    "features/f.yaml": "account_coupons_24h: {entity: account, measure: distinct(coupons), over: 24h}",
    "rules/r.yaml": "id: many\ntitle: Many coupons\non: order\nwhen: account_coupons_24h >= 3\nthen: review\n"
    "tests: [{name: none, events: [{type: order, ts: 0, account: a}], expect: {fires: false}}]",
}


def test_different_elements_are_counted_alike_one_by_one_and_in_a_batch():
    carts = (["x", "y"], None, ["y"], [], ["z", "x"])
    events = [
        {"event_id": f"e{i}", "type": "order", "ts": 1_767_225_600_000 + i, "account": "a", "coupons": c}
        for i, c in enumerate(carts)
    ]
    single, batched = (Engine(Rulebook.from_files(BOOK), mode="interpreted", seed=bytes(16)) for _ in range(2))
    one, many = [single.decide(dict(e)) for e in events], batched.decide_events([dict(e) for e in events])
    assert [d.action for d in one] == ["allow"] * 4 + ["review"]
    assert one == many
