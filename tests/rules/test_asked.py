"""Lists and lookups asked by columns, where they are large, long-lived or asked in passing."""

from __future__ import annotations

import random

import numpy as np
import pytest

from shopward import Engine
from shopward.hashing import hash_strings
from shopward.lists import ListIndex
from shopward.rules import asked
from shopward.rules.asked import Standing
from tests.rules.books import book, rule

SEED, START = bytes(range(16)), 1_767_225_600_000


def test_a_list_written_and_forgotten_for_long_is_answered_as_the_list_answers(monkeypatch):
    """Keys come, stay, are listed again with gaps and are forgotten; the columns always say what the list says."""
    rng, index = random.Random(5), ListIndex(slack=50)
    standing = Standing(index, "hot", (False,), SEED)
    keys = [f"k{i}" for i in range(3000)]
    for step in range(60):
        now = step * 1000
        for _ in range(200):
            key, at = rng.choice(keys), now + rng.randrange(1000)
            if rng.random() < 0.1:
                index.remove("hot", key, at)
            else:
                index.add(
                    "hot",
                    key,
                    at,
                    at + rng.choice([10, 2000, 9000]),
                    provenance=rng.choice("ab"),
                    seq=rng.choice([-1, 3]),
                )
        index.forget_before(now - 5000)
        asked_for = [rng.choice([*keys[:50], rng.choice(keys)]) for _ in range(200)]
        t = np.array([now + rng.randrange(-3000, 3000) for _ in asked_for])
        found = standing.held(hash_strings(asked_for, SEED), t)
        assert found.astype(bool).tolist() == index.contains_many("hot", asked_for, t).tolist()
    assert standing.keys.n <= 2 * index.size("hot") + 1024, "what was forgotten is let go"


def test_more_keys_of_a_lookup_than_are_kept_are_asked_again(monkeypatch):
    monkeypatch.setattr(asked, "MOST_KEYS", 3)
    e = Engine(book(rule("us", 'bins_country(card_bin) == "US"')), mode="compiled", seed=SEED)
    bins = ["411111", "424242", *(f"{i}" for i in range(9)), "411111", None]
    for _ in range(3):
        events = [
            {"event_id": f"{i}", "type": "login", "ts": START, "account": "a", "card_bin": b}
            for i, b in enumerate(bins)
        ]
        assert [d.reasons == ("us",) for d in e.decide_batch(e.batch(events))] == [b == "411111" for b in bins]


@pytest.mark.parametrize("mode", ["interpreted", "compiled"])
def test_a_text_compared_beside_a_list_needs_no_feature_to_read_it(mode):
    """`country` is read by no feature here: the rule alone has it hashed."""
    when = 'country == "US" and not listed("friends", account)'
    e = Engine(
        book(rule("r", when), features="n_1h: {entity: account, measure: count, over: 1h}"), mode=mode, seed=SEED
    )
    events = [{"event_id": c, "type": "login", "ts": START, "account": "a", "country": c} for c in ("US", "DE")]
    assert [d.reasons for d in e.decide_batch(e.batch(events))] == [("r",), ()]


def test_a_list_changed_by_hand_between_two_batches_is_seen_by_the_second():
    from shopward.lists import Entry

    e = Engine(book(rule("r", 'listed("blocked_devices", device)')), mode="compiled", seed=SEED)

    def fires() -> bool:
        batch = e.batch([{"event_id": f"e{e.seq}", "type": "login", "ts": START, "account": "a", "device": "d1"}] * 2)
        return [bool(d.reasons) for d in e.decide_batch(batch)] == [True, True]

    assert not fires()
    e.write_lists([Entry(list="blocked_devices", key="d1", valid_from=0)])
    assert fires()
    e.write_lists([Entry(list="blocked_devices", key="d1", valid_from=START, remove=True)])
    assert not fires()
