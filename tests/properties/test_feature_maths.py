"""The feature maths line by line; docs/feature-maths.md tells the same lines with the same numbers.

Each story is computed by the reference, by both kinds of SQL and by the engine in batches of 1, 3 and all; all must agree.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shopward import Engine, Rulebook
from shopward.errors import NotYet, RulebookError
from shopward.features import sql
from shopward.features.live import Windows
from shopward.hashing import siphash128
from shopward.ingest import read
from shopward.ingest.clock import Clock
from shopward.ingest.normalise import Normaliser
from shopward.rules.act import share
from shopward.store.log import Log
from tests.properties.agree import differences
from tests.properties.batches import SEED, batch_of
from tests.properties.stories import MARKET, ev, ms, rulebook, told, verdict

HOUR = 3_600_000


# --- 1 order ------------------------------------------------------------------------------------------------------------------------


def test_line_01_events_of_the_same_millisecond_count_in_the_order_they_arrive():
    found = told("n_1h: {entity: account, measure: count, over: 1h}", ev("10:00"), ev("10:00"), ev("10:00"))
    assert found["n_1h"] == [1, 2, 3]


def test_line_01_a_value_never_knows_what_arrives_later():
    """The order at 09:59 arrives after the one at 10:00, which therefore did not know it."""
    found = told(
        "spend_1h: {entity: account, measure: sum(amount), over: 1h}",
        ev("10:00", "order", amount=10),
        ev("09:59", "order", amount=5),
    )
    assert found["spend_1h"] == [10.0, 15.0]


# --- 2 stream time ------------------------------------------------------------------------------------------------------------------


def test_line_02_a_time_further_back_than_an_hour_is_pulled_up_to_it():
    clock = Clock(lateness=HOUR)
    assert clock.stamp(np.array([ms("10:00"), ms("07:30"), ms("09:30")])).tolist() == [
        ms("10:00"),
        ms("09:00"),
        ms("09:30"),
    ]


def test_line_02_a_servers_clock_pulls_times_back_to_five_minutes_ahead(monkeypatch):
    monkeypatch.setattr("shopward.ingest.clock.machine_ms", lambda: ms("10:00"))
    clock = Clock(server=True)
    assert clock.stamp(np.array([ms("23:00"), ms("10:04"), ms("08:00")])).tolist() == [
        ms("10:05"),
        ms("10:04"),
        ms("09:00"),
    ]


def test_line_02_a_keys_clock_never_goes_back():
    """The login of 09:20 arrives at 10:10 and counts as one of 10:10; the window of 50 minutes still holds it at 11:00."""
    found = told("n: {entity: account, measure: count, over: 50m}", ev("10:10"), ev("09:20"), ev("11:00"), ev("11:01"))
    assert found["n"] == [1, 2, 3, 2]


def test_line_02_every_event_of_a_key_moves_its_clock_also_those_that_do_not_count():
    found = told(
        "orders_1h: {entity: account, measure: count, over: 1h, where: type == 'order'}",
        ev("10:00", "order"), ev("11:00", "login"), ev("11:00:00.001", "login"),
    )  # fmt: skip
    assert found["orders_1h"] == [1, 1, 0]


def test_line_02_other_keys_do_not_move_it():
    found = told(
        "n_1h: {entity: account, measure: count, over: 1h}",
        ev("10:00"),
        ev("12:00", account="b"),
        ev("11:00"),
        ev("12:00"),
    )
    assert found["n_1h"] == [1, 1, 2, 2]


def test_line_02_a_key_that_has_been_idle_for_longer_than_anything_remembers_is_recycled():
    book = rulebook("n_1m: {entity: account, measure: count, over: 1m}")
    windows, seq = Windows(book, SEED, mode="interpreted"), 0
    for _ in range(6):
        day = [ev("00:00", account=f"{seq + i}") | {"seq": seq + i, "event_id": f"{seq + i}"} for i in range(4096)]
        for event in day:
            event["t"] = event["ts"] = ms("00:00") + event["seq"] * 1000  # a new account every second
        windows.update(batch_of(day, book))
        seq += 4096
    assert windows.memory()["keys"] < 3 * 4096


# --- 3 windows ----------------------------------------------------------------------------------------------------------------------


def test_line_03_a_window_is_closed_at_both_ends():
    """One hour before 11:00 is 10:00, which is inside; one millisecond later it has fallen out."""
    found = told("n_1h: {entity: account, measure: count, over: 1h}", ev("10:00"), ev("11:00"), ev("11:00:00.001"))
    assert found["n_1h"] == [1, 2, 2]


def test_line_03_a_lag_moves_both_ends_back():
    """At 12:00 a window of 1 h that lies 1 h back holds 10:00 to 11:00, both ends included."""
    found = told(
        "n: {entity: account, measure: count, over: 1h, lag: 1h}",
        ev("09:59:59.999"), ev("10:00"), ev("10:30"), ev("11:00"), ev("11:00:00.001"), ev("12:00"),
    )  # fmt: skip
    assert found["n"] == [0, 0, 0, 2, 2, 3]


def test_line_03_ever_has_no_beginning():
    features = """
        n: {entity: account, measure: count, over: ever}
        spend: {entity: account, measure: sum(amount), over: ever}
        first_device: {entity: account, measure: first(device), over: ever}
        age: {entity: account, measure: since_first, over: ever}
    """
    found = told(
        features, ev("10:00", "order", amount=1, device="d1"), ev("300d 10:00", "order", amount=2, device="d2")
    )
    assert found == {"n": [1, 2], "spend": [1.0, 3.0], "first_device": [None, "d1"], "age": [0, 300 * 86_400]}


def test_line_03_only_some_measures_can_look_back_for_ever():
    with pytest.raises(RulebookError, match="`over: ever` is only for first, since_first, count, sum"):
        rulebook("m: {entity: account, measure: mean(amount), over: ever}")


# --- 4 the event itself -------------------------------------------------------------------------------------------------------------


def test_line_04_an_event_counts_for_itself_if_it_passes_the_filter():
    found = told(
        "orders_1h: {entity: account, measure: count, over: 1h, where: type == 'order'}",
        ev("10:00", "order"),
        ev("10:01", "login"),
    )
    assert found["orders_1h"] == [1, 1]


def test_line_04_first_last_and_since_last_see_only_what_came_before():
    features = """
        first_1h: {entity: account, measure: first(amount), over: 1h}
        last_1h: {entity: account, measure: last(amount), over: 1h}
        quiet_1h: {entity: account, measure: since_last, over: 1h}
    """
    found = told(
        features, ev("10:00", "order", amount=10), ev("10:01", "order", amount=20), ev("10:03", "order", amount=30)
    )
    assert found == {"first_1h": [None, 10, 10], "last_1h": [None, 10, 20], "quiet_1h": [None, 60, 120]}


def test_line_04_since_first_is_zero_at_the_first_event():
    found = told("age_1h: {entity: account, measure: since_first, over: 1h}", ev("10:00"), ev("10:30"), ev("11:30"))
    assert found["age_1h"] == [0, 1800, 3600]


def test_line_04_before_leaves_the_event_out():
    features = """
        mean_1h: {entity: account, measure: mean(amount), over: 1h}
        mean_before_1h: {entity: account, measure: mean(amount), over: 1h, before: true}
    """
    found = told(
        features, ev("10:00", "order", amount=10), ev("10:00", "order", amount=20), ev("10:01", "order", amount=90)
    )
    assert found == {"mean_1h": [10, 15, 40], "mean_before_1h": [None, 10, 15]}


# --- 5 where ------------------------------------------------------------------------------------------------------------------------


def test_line_05_where_is_about_the_event_that_is_counted_not_the_one_that_asks():
    features = "big_1h: {entity: account, measure: count, over: 1h, where: amount > 100}"
    found = told(features, ev("10:00", "order", amount=101), ev("10:01", "order", amount=5), ev("10:02"))
    assert found["big_1h"] == [1, 1, 1]


def test_line_05_where_cannot_read_features():
    with pytest.raises(RulebookError, match="`where` reads only the event's own fields"):
        rulebook("""
            n_1h: {entity: account, measure: count, over: 1h}
            busy_1h: {entity: account, measure: count, over: 1h, where: n_1h > 5}
        """)


# --- 6 nulls ------------------------------------------------------------------------------------------------------------------------

EVERY = """
n: {entity: account, measure: count, over: 1h, where: amount > 0}
s: {entity: account, measure: sum(amount), over: 1h}
d: {entity: account, measure: distinct(device), over: 1h}
r: {entity: account, measure: rate, over: 1h, where: amount > 0}
m: {entity: account, measure: mean(amount), over: 1h}
sd: {entity: account, measure: std(amount), over: 1h}
lo: {entity: account, measure: min(amount), over: 1h}
hi: {entity: account, measure: max(amount), over: 1h}
f: {entity: account, measure: first(device), over: 1h}
q: {entity: account, measure: since_last, over: 1h}
pair: {entity: account, sequence: {first: amount > 0, then: amount > 0, within: 1h}}
"""


def test_line_06_without_a_key_every_feature_is_null():
    found = told(EVERY, ev("10:00", "order", account=None, amount=3, device="d1"))
    assert set(map(tuple, found.values())) == {(None,)}


def test_line_06_without_a_match_counts_and_sums_are_zero_and_all_else_is_null():
    found = told(EVERY, ev("10:00"))
    zero = {"n", "s", "d", "r", "pair"}
    assert found == {name: [0.0 if name in zero else None] for name in found}


def test_line_06_nulls_are_skipped():
    found = told(
        EVERY,
        ev("10:00", "order", amount=10, device="d1"),
        ev("10:01", "order"),
        ev("10:02", "order", amount=20, device=None),
    )
    assert found["m"] == [10, 10, 15] and found["d"] == [1, 1, 1] and found["f"] == [None, "d1", "d1"]


def test_line_06_division_by_zero_is_null():
    features = """
        failed_1h: {entity: account, measure: count, over: 1h, where: type == "payment_failed"}
        paid_1h: {entity: account, measure: count, over: 1h, where: type == "payment"}
        failed_per_paid_1h: {ratio: [failed_1h, paid_1h]}
        inverse: {expr: 1 / failed_1h}
    """
    found = told(features, ev("10:00", "payment_failed"), ev("10:01", "payment"), ev("12:00", "payment"))
    assert found["failed_per_paid_1h"] == [None, 1, 0] and found["inverse"] == [1, 1, None]


def test_line_06_conditions_know_true_false_and_unknown():
    """An order without an amount is neither above 10 nor not above 10."""
    features = """
        above: {entity: account, measure: count, over: 1h, where: amount > 10}
        not_above: {entity: account, measure: count, over: 1h, where: not amount > 10}
        either: {entity: account, measure: count, over: 1h, where: amount > 10 or success}
        unknown: {entity: account, measure: count, over: 1h, where: amount is None}
    """
    found = told(features, ev("10:00", amount=11), ev("10:00", amount=9), ev("10:00"), ev("10:00", success=True))
    assert {name: column[-1] for name, column in found.items()} == {
        "above": 1,
        "not_above": 1,
        "either": 2,
        "unknown": 2,
    }


# --- 7 labels -----------------------------------------------------------------------------------------------------------------------


def test_line_07_a_label_counts_from_the_moment_it_is_known():
    features = "fraud_rate_1d: {entity: account, measure: mean(label), over: 24h, where: type == 'label'}"
    found = told(features, ev("10:00", "order"), ev("11:00", "order"), verdict("12:00", "e0", 1), ev("12:00", "order"))
    assert found["fraud_rate_1d"] == [None, None, 1.0]


def test_line_07_a_later_label_takes_the_earlier_ones_place():
    """The bank says fraud at 12:00, an analyst clears it at 13:00: one label, not two."""
    features = """
        judged_1d: {entity: account, measure: count, over: 24h, where: type == "label"}
        fraud_1d: {entity: account, measure: sum(label), over: 24h}
    """
    found = told(
        features,
        ev("10:00", "order"),
        verdict("12:00", "e0", 1),
        ev("12:30", "order"),
        verdict("13:00", "e0", 0),
        ev("13:30"),
    )
    assert found == {"judged_1d": [0, 1, 1], "fraud_1d": [0, 1, 0]}


def test_line_07_the_replaced_label_is_gone_even_before_the_new_one_comes_into_the_window():
    features = "fraud: {entity: account, measure: sum(label), over: 24h, lag: 1h, where: type == 'label'}"
    found = told(
        features,
        ev("10:00", "order"), verdict("11:00", "e0", 1), ev("12:00"), verdict("12:30", "e0", 1), ev("12:40"), ev("13:30"),
    )  # fmt: skip
    assert found["fraud"] == [0, 1, 0, 1]


def test_line_07_a_delayed_rate_is_an_ordinary_one_over_labels():
    features = "rate: {entity: seller, measure: mean(label), over: 7d, lag: 7d, where: type == 'label'}"
    found = told(
        features,
        ev("1d 10:00", "order", seller="s"), ev("2d 10:00", "order", seller="s"),
        verdict("8d 10:00", "e0", 1, seller="s"), verdict("9d 10:00", "e1", 0, seller="s"),
        ev("15d 09:59", "order", seller="s"), ev("15d 10:00", "order", seller="s"), ev("16d 10:00", "order", seller="s"),
    )  # fmt: skip
    assert found["rate"] == [None, None, None, 1.0, 0.5]


def test_line_07_labels_are_no_events_unless_the_feature_speaks_of_them():
    features = """
        n_1d: {entity: account, measure: count, over: 24h}
        n_and_labels_1d: {entity: account, measure: count, over: 24h, where: type == "order" or type == "label"}
    """
    found = told(features, ev("10:00", "order"), verdict("11:00", "e0", 1), ev("12:00", "order"))
    assert found == {"n_1d": [1, 2], "n_and_labels_1d": [1, 3]}


# --- 8 sequences --------------------------------------------------------------------------------------------------------------------


def test_line_08_a_then_b_looks_at_the_latest_a_before_b():
    features = "failed_then_paid: {entity: account, sequence: {first: type == 'payment_failed', then: type == 'payment', within: 10m}}"
    found = told(
        features,
        ev("10:00", "payment"), ev("10:01", "payment_failed"), ev("10:05", "login"),
        ev("10:11", "payment"), ev("10:11:00.001", "payment"),
    )  # fmt: skip
    assert found["failed_then_paid"] == [0, 0, 0, 1, 0]


def test_line_08_an_event_is_not_its_own_predecessor():
    features = (
        "order_after_order: {entity: account, sequence: {first: type == 'order', then: type == 'order', within: 1h}}"
    )
    assert told(features, ev("10:00", "order"), ev("10:00", "order"))["order_after_order"] == [0, 1]


def test_line_08_a_without_b_holds_while_no_b_has_come():
    features = "unpaid: {entity: account, sequence: {first: type == 'order', without: type == 'payment', within: 1h}}"
    found = told(
        features,
        ev("10:00", "order"), ev("10:00", "login"), ev("10:00:00.001", "login"), ev("11:00", "login"), ev("11:00:00.001", "login"),
        ev("12:00", "order"), ev("12:01", "payment"), ev("12:02", "login"),
    )  # fmt: skip
    assert found["unpaid"] == [0, 0, 1, 1, 0, 0, 0, 0]


def test_line_08_what_a_sequence_of_labels_would_say_is_said_by_comparing_times_since():
    """Ordered again within an hour of being found a fraud; ordered, and no verdict since. A verdict taken back counts no more."""
    features = """
        since_fraud: {entity: account, measure: since_last, where: label == 1, over: 1h}
        since_verdict: {entity: account, measure: since_last, where: type == "label", over: 1d}
        since_order: {entity: account, measure: since_last, where: type == "order", over: 1d}
        fraud_lately: {expr: since_fraud is not None}
        unjudged: {expr: since_order is not None and (since_verdict is None or since_verdict > since_order)}
    """
    found = told(
        features,
        ev("10:00", "order"), ev("10:30", "order"), verdict("11:00", "e0", 1), ev("11:30", "order"), ev("11:31"),
        verdict("11:40", "e1", 1), verdict("11:45", "e1", 0), ev("12:00", "order"), ev("12:00:00.001", "order"),
    )  # fmt: skip
    assert found["fraud_lately"] == [0, 0, 1, 1, 1, 0]
    assert found["unjudged"] == [0, 1, 0, 1, 0, 1]


# --- 9 roles and keys ---------------------------------------------------------------------------------------------------------------


def test_line_09_a_feature_counts_the_role_it_names():
    features = """
        as_buyer: {entity: account, measure: count, over: 1h}
        as_seller: {entity: seller, measure: count, over: 1h}
        as_either: {entity: account, via: [account, seller], measure: count, over: 1h}
    """
    found = told(
        features,
        ev("10:00", account="x", seller="y"),
        ev("10:01", account="y", seller="x"),
        ev("10:02", account="x", seller="z"),
    )
    assert found == {"as_buyer": [1, 1, 2], "as_seller": [1, 1, 1], "as_either": [1, 2, 3]}


def test_line_09_an_event_counts_once_for_a_key_that_is_in_two_of_its_roles():
    features = "as_either: {entity: account, via: [account, seller], measure: count, over: 1h}"
    assert told(features, ev("10:00", account="x", seller="x"), ev("10:01", account="x"))["as_either"] == [1, 2]


def test_line_09_a_pair_is_a_key_of_its_own_and_needs_both_halves():
    features = "pair: {entity: [account, seller], measure: count, over: 1h}"
    found = told(features, ev("10:00", seller="s"), ev("10:01", seller="t"), ev("10:02"), ev("10:03", seller="s"))
    assert found["pair"] == [1, 1, None, 2]


def test_line_09_every_element_of_a_list_is_told_apart():
    features = "tags_1h: {entity: account, measure: distinct(tags), over: 1h}"
    found = told(
        features,
        ev("10:00", tags=["x", "y", "x"]),
        ev("10:01", tags=[]),
        ev("10:02"),
        ev("11:00:00.001", tags=["z", "y"]),
    )
    assert found["tags_1h"] == [2, 2, 2, 2]


def test_line_09_keys_are_told_apart_by_every_character():
    keys = [
        "a",
        "A",
        " a",
        "a ",
        "\u00e4",
        "a\u0308",
        "a\u0000",
        "\u0430",
        "'",
        '"',
    ]  # one ä or a with dots, a Latin or Cyrillic a
    found = told("n: {entity: account, measure: count, over: 1h}", *(ev("10:00", account=k) for k in keys + keys))
    assert found["n"] == [1] * len(keys) + [2] * len(keys)


# --- 10 numbers ---------------------------------------------------------------------------------------------------------------------


def test_line_10_money_adds_up_in_whole_cents():
    """In binary fractions 0.1 + 0.2 is 0.30000000000000004; here it is 0.3."""
    found = told(
        "spend_1h: {entity: account, measure: sum(amount), over: 1h}",
        ev("10:00", amount="0.1"),
        ev("10:01", amount="0.2"),
    )
    assert found["spend_1h"] == [0.1, 0.3]


def test_line_10_what_leaves_a_window_leaves_no_trace():
    """After a billion has come and gone, a cent is a cent."""
    features = "spend_1h: {entity: account, measure: sum(amount), over: 1h}\nsd_1h: {entity: account, measure: std(amount), over: 1h}"
    found = told(features, ev("10:00", amount="9999999999.99"), ev("12:00", amount="0.01"), ev("12:01", amount="0.03"))
    assert found == {"spend_1h": [9999999999.99, 0.01, 0.04], "sd_1h": [0, 0, 0.01]}


def test_line_10_mean_and_deviation_are_of_the_population():
    features = (
        "m: {entity: account, measure: mean(amount), over: 1h}\nsd: {entity: account, measure: std(amount), over: 1h}"
    )
    amounts = [2, 4, 4, 4, 5, 5, 7, 9]
    found = told(features, *(ev("10:00", amount=x) for x in amounts))
    assert (found["m"][-1], found["sd"][-1]) == (5.0, 2.0)


def test_line_10_the_deviation_of_huge_amounts_is_exact():
    """Two amounts that differ by two cents deviate by one cent, also at ten billion, where floats see no difference at all."""
    found = told(
        "sd: {entity: account, measure: std(amount), over: 1h}",
        ev("10:00", amount="9999999999.97"),
        ev("10:00", amount="9999999999.99"),
    )
    assert found["sd"] == [0.0, 0.01]


def test_line_10_a_rate_divides_by_the_whole_window():
    found = told(
        "per_second_1m: {entity: account, measure: rate, over: 1m}", ev("10:00"), ev("10:00:03"), ev("10:00:06")
    )
    assert found["per_second_1m"] == [1 / 60, 2 / 60, 3 / 60]


def test_line_10_truths_add_up_as_one_and_zero():
    features = "share: {entity: account, measure: mean(success), over: 1h}\nn: {entity: account, measure: sum(success), over: 1h}"
    found = told(
        features, ev("10:00", success=True), ev("10:01", success=False), ev("10:02"), ev("10:03", success=True)
    )
    assert found == {"share": [1, 0.5, 0.5, 2 / 3], "n": [1, 1, 1, 2]}


def test_line_10_fractions_nobody_declared_cannot_be_added_up():
    with pytest.raises(RulebookError, match="declare it as decimal"):
        rulebook("s: {entity: account, measure: sum(temperature), over: 1h}")


def test_line_10_decimals_add_up_in_their_own_digits():
    found = told(
        "kg_1h: {entity: account, measure: sum(weight), over: 1h}",
        ev("10:00", weight="0.001"),
        ev("10:01", weight="-2.5"),
    )
    assert found["kg_1h"] == [0.001, -2.499]


def test_line_10_distinct_is_exact_however_many():
    found = told(
        "devices_1h: {entity: account, measure: distinct(device), over: 1h}",
        *(ev("10:00", device=f"d{i % 60}") for i in range(150)),
    )
    assert found["devices_1h"] == [min(i + 1, 60) for i in range(150)]


# --- 11 the same everywhere ---------------------------------------------------------------------------------------------------------


SHOP = """
types: [login, order]
fields:
  account: {type: string, entity: account}
  email: {type: string, pii: true, entity: email, normalise: lower}
  mail_domain: {type: string, entity: mail_domain, derive: domain(email)}
  amount: money
  tags: list
"""
SHOP_FEATURES = """
spend_1h: {entity: account, measure: sum(amount), over: 1h, where: type == "order"}
mails_1d: {entity: account, measure: distinct(email), over: 24h}
mail_accounts_1h: {entity: mail_domain, measure: distinct(account), over: 1h}
mail_bad_1d: {entity: mail_domain, measure: mean(label), over: 24h, where: type == "label"}
bad_late_1d: {entity: account, measure: sum(label), over: 24h, lag: 1h, where: type == "label"}
tags_1h: {entity: account, measure: distinct(tags), over: 1h}
last_domain_1d: {entity: account, measure: last(mail_domain), over: 24h}
share: {ratio: [spend_1h, mails_1d]}
"""


def shop_day(n: int) -> list[dict]:
    rng = random.Random(5)
    return [
        {
            "event_id": f"e{i}", "type": rng.choice(["login", "order"]), "ts": ms("00:00") + i * 60_000 - rng.choice([0, 0, 90_000, 7_200_000]),
            "account": rng.choice(["a1", "a2", 3, None]), "email": rng.choice(["Ann@Shop.example", "bob@post.example", None]),
            "amount": rng.choice(["9.995", 0.285, 12, None]), "tags": rng.choice([["x", "y"], [], None]), "extra": {"deep": i},
        }
        for i in range(n)
    ]  # fmt: skip


def shop_labels(n: int) -> list[str]:
    """Every third event is judged two hours later, every ninth once more."""
    late = [f"e{i},{i % 2},{ms('00:00') + i * 60_000 + 7_200_000},bank" for i in range(0, n, 3)]
    return late + [f"e{i},{1 - i % 2},{ms('00:00') + i * 60_000 + 9_000_000},analyst" for i in range(0, n, 9)]


def test_line_11_a_feature_that_reads_a_list_is_refused_with_the_reason():
    book = Rulebook.from_files({
        "schema.yaml": MARKET,
        "lists/l.yaml": "blocked_devices: {kind: block, entity: device}",
        "features/f.yaml": "device_blocked: {list: blocked_devices, entity: device}",
    })  # fmt: skip
    with pytest.raises(NotYet, match="feature `device_blocked` has no SQL: it reads a list"):
        sql.feature_sql(book.features["device_blocked"], book)
    assert list(sql.refused(book)) == ["device_blocked"] and "device_blocked" not in sql.to_sql(book)


def test_line_11_a_whole_file_of_odd_records_is_the_same_in_the_engine_and_in_sql(tmp_path):
    """From NDJSON with labels, late events, personal data and derived fields, through both engines, equal to the last bit."""
    book = Rulebook.from_files({"schema.yaml": SHOP, "features/f.yaml": SHOP_FEATURES})
    (tmp_path / "e.ndjson").write_text("\n".join(json.dumps(record) for record in shop_day(400)))
    (tmp_path / "labels.csv").write_text("event_id,label,label_ts,source\n" + "\n".join(shop_labels(400)))
    native = Engine(book, mode="interpreted", seed=SEED)
    tables = [
        native.features_table(native.decide_batch(b))
        for b in native.read([tmp_path / "e.ndjson"], labels=tmp_path / "labels.csv")
    ]
    columns = read([tmp_path / "e.ndjson"], book, sql.needs(book), SEED, labels=tmp_path / "labels.csv")
    table = sql.as_table(columns, book)
    other = Engine(book, mode="interpreted", seed=SEED)
    whole = other.read([tmp_path / "e.ndjson"], labels=tmp_path / "labels.csv", records=True)
    assert table == sql.as_table(whole, book)
    by_native, by_sql = pa.concat_tables(tables).to_pydict(), sql.run(table, book).to_pydict()
    assert by_native.pop("event_id") == by_sql.pop("event_id")
    assert differences(by_native, by_sql, [{"event_id": str(i)} for i in range(400)]) == []
    assert by_sql["spend_1h"][-1] > 0 and max(x or 0 for x in by_sql["mail_bad_1d"]) > 0


# --- what the lines say about files, money and rules --------------------------------------------------------------------------------


def lines(path, *records: dict) -> None:
    path.write_text("\n".join(json.dumps({"account": "a", "type": "login", **record}) for record in records))


def counted(paths, schema: str = MARKET, **options) -> list[tuple[str, float]]:
    """Event id and `n` of every event of some files, in arrival order."""
    book = rulebook("n: {entity: account, measure: count, over: 24h}", schema)
    engine = Engine(book, mode="interpreted", seed=SEED)
    return [
        row
        for b in engine.read(paths, **options)
        for row in zip(*engine.features_table(engine.decide_batch(b)).to_pydict().values(), strict=True)
    ]


def test_line_01_files_are_read_by_name_and_rows_as_they_stand(tmp_path):
    lines(tmp_path / "b.ndjson", {"event_id": "third", "ts": ms("09:00")})
    lines(tmp_path / "a.ndjson", {"event_id": "first", "ts": ms("10:00")}, {"event_id": "second", "ts": ms("09:30")})
    assert counted([tmp_path]) == [("first", 1), ("second", 2), ("third", 3)]


def test_line_01_a_schema_can_say_that_a_source_has_no_order_of_its_own(tmp_path):
    lines(
        tmp_path / "a.ndjson",
        {"event_id": "y", "ts": ms("10:00")},
        {"event_id": "x", "ts": ms("10:00")},
        {"event_id": "z", "ts": ms("09:00")},
    )
    assert counted([tmp_path], MARKET + "order: [ts, event_id]") == [("z", 1), ("x", 2), ("y", 3)]


def test_line_01_a_seq_column_wins(tmp_path):
    lines(
        tmp_path / "a.ndjson",
        {"event_id": "late", "ts": ms("10:00"), "seq": 2},
        {"event_id": "early", "ts": ms("10:00"), "seq": 1},
    )
    assert counted([tmp_path]) == [("early", 1), ("late", 2)]


def test_line_06_nan_is_taken_as_null_and_counted():
    normaliser = Normaliser(rulebook("n: {entity: account, measure: count, over: 1h}").schema)
    event = normaliser({"type": "login", "ts": 0, "account": "a", "temperature": float("nan")})
    assert "temperature" not in event and normaliser.notes == {"temperature: NaN taken as null": 1}


RULES = {
    "schema.yaml": MARKET,
    "features/f.yaml": "spend_1h: {entity: account, measure: sum(amount), over: 1h}",
    "rules/by_seller.yaml": "{id: by_seller, title: t, on: order, when: seller == 's1', then: deny, state: live}",
    "rules/by_spend.yaml": "{id: by_spend, title: t, on: order, when: spend_1h > 10, then: review, state: live}",
}


def test_line_06_a_missing_field_stops_no_other_rule():
    decision = Engine(Rulebook.from_files(RULES), mode="interpreted").decide(
        {"type": "order", "ts": 0, "account": "a", "amount": 11}
    )
    assert (decision.action, decision.reasons) == ("review", ("by_spend",))


LABELLED = MARKET + "label: {field: fraud, known_after: 1h}\n"


def test_line_07_a_label_column_becomes_a_label_event_when_it_was_known_before_events_of_that_millisecond(tmp_path):
    lines(
        tmp_path / "a.ndjson",
        {"event_id": "e0", "ts": ms("10:00"), "fraud": 1}, {"event_id": "e1", "ts": ms("10:30"), "fraud": 0},
        {"event_id": "e2", "ts": ms("11:00"), "fraud": 0}, {"event_id": "e3", "ts": ms("11:30")},
    )  # fmt: skip
    book = rulebook("bad: {entity: account, measure: mean(label), over: 24h, where: type == 'label'}", LABELLED)
    engine = Engine(book, mode="interpreted")
    rows = [row for b in engine.read([tmp_path]) for row in engine.features_table(engine.decide_batch(b)).to_pylist()]
    assert rows == [{"event_id": f"e{i}", "bad": bad} for i, bad in enumerate([None, None, 1.0, 0.5])]


def test_line_09_fields_are_normalised_before_they_are_keys():
    fields = """
        types: [login]
        fields:
          email: {type: string, entity: email, normalise: lower}
          ip: {type: string, entity: network, normalise: ip64}
    """
    book = Rulebook.from_files(
        {
            "schema.yaml": fields,
            "features/f.yaml": "n: {entity: email, measure: count, over: 1h}\nnets: {entity: ip, measure: count, over: 1h}",
        }
    )
    engine = Engine(book, mode="interpreted")
    events = [
        {"type": "login", "ts": 0, "email": e, "ip": ip}
        for e, ip in (("Ann@x.org", "2001:db8::1"), ("ann@X.org", "2001:db8::ffff"))
    ]
    table = engine.features_table(engine.decide_batch(engine.batch([engine.normaliser(e) for e in events])))
    assert table["n"].to_pylist() == [1, 2] and table["nets"].to_pylist() == [1, 2]


def test_line_09_ids_depend_on_a_seed_that_nobody_outside_knows():
    assert siphash128(b"account-1", bytes(16)) != siphash128(b"account-1", SEED)


def test_line_10_money_is_rounded_half_to_even_from_what_was_written():
    """0.285 means 0.285, though the nearest binary fraction is a little less; 0.125 and 0.135 both go to the even cent."""
    amounts = Normaliser(rulebook("n: {entity: account, measure: count, over: 1h}").schema)
    read = [amounts({"type": "order", "ts": 0, "amount": a})["amount"] for a in ("0.125", "0.135", 0.285, "2.675", 0.1)]
    assert read == [0.12, 0.14, 0.28, 2.68, 0.1]


CURRENCIES = {
    "schema.yaml": "types: [order]\nmoney: amount\ncurrency: currency\nfields: {account: {type: string, entity: account}, amount: money, currency: string}",
    "policy.yaml": "{base_currency: USD, rates: rates}",
    "lookups/rates.yaml": "{key: string, columns: {rate: number}, rows: [{key: EUR, rate: 1.25, valid_from: 2020-01-01}]}",
    "features/f.yaml": "spend: {entity: account, measure: sum(amount), over: 1h}",
}


def test_line_10_other_currencies_come_in_at_the_days_rate_and_without_a_rate_as_null():
    engine = Engine(Rulebook.from_files(CURRENCIES), mode="interpreted")
    orders = [("10.00", "USD"), ("10.00", "EUR"), ("10.00", "XXX")]
    events = [
        engine.normaliser({"type": "order", "ts": ms("10:00"), "account": "a", "amount": a, "currency": c})
        for a, c in orders
    ]
    assert engine.features_table(engine.decide_batch(engine.batch(events)))["spend"].to_pylist() == [10.0, 22.5, 22.5]
    assert engine.normaliser.notes == {"amount: no rate for XXX": 1}


# --- 12 feedback --------------------------------------------------------------------------------------------------------------------

FEEDBACK = {
    "schema.yaml": MARKET,
    "lists/blocked.yaml": "blocked: {kind: block, entity: device}",
    "features/f.yaml": "logins_1m: {entity: device, measure: count, over: 1m, where: type == 'login'}",
    "rules/a.yaml": "{id: block, title: t, on: login, when: logins_1m > 2, state: live, then: {action: review, list: {add: blocked, key: device, expires: 1h}}}",
    "rules/b.yaml": "{id: blocked, title: t, on: login, when: 'listed(\"blocked\", device)', then: deny, state: live}",
}


def test_line_12_what_a_rule_writes_to_a_list_is_seen_from_the_next_event_on_until_it_expires():
    """Also inside one micro-batch: the third login writes, the fourth is denied, the one an hour later is not."""
    logins = [
        {"type": "login", "ts": ms(when), "device": "d"}
        for when in ("10:00", "10:00:01", "10:00:02", "10:00:02", "11:00:02")
    ]
    together = Engine(Rulebook.from_files(FEEDBACK), mode="interpreted").decide_events(logins)
    one = Engine(Rulebook.from_files(FEEDBACK), mode="interpreted")
    alone = [one.decide(login) for login in logins]
    expected = [(), (), ("block",), ("blocked", "block"), ()]
    assert [d.reasons for d in together] == [d.reasons for d in alone] == expected


def test_line_12_features_cannot_read_decisions():
    with pytest.raises(RulebookError, match="`action`"):
        rulebook("denied: {entity: account, measure: count, over: 1h, where: action == 'deny'}")


# --- 13 order of judgement ----------------------------------------------------------------------------------------------------------


def test_line_13_without_a_model_score_and_risk_are_null_and_a_rule_that_asks_stays_silent():
    files = RULES | {
        "rules/by_risk.yaml": "{id: by_risk, title: t, on: order, when: risk > 0 or score >= 0, then: deny, state: live}"
    }
    decision = Engine(Rulebook.from_files(files), mode="interpreted").decide(
        {"type": "order", "ts": 0, "account": "a", "amount": 11}
    )
    assert (decision.score, decision.risk, decision.reasons) == (None, None, ("by_spend",))


# --- 14 duplicates and rollout ------------------------------------------------------------------------------------------------------


def test_line_14_an_event_sent_again_counts_once_and_gets_the_answer_it_got_before(tmp_path):
    with Engine(Rulebook.from_files(RULES), tmp_path, mode="interpreted") as engine:
        order = {"event_id": "o1", "type": "order", "ts": ms("10:00"), "account": "a", "amount": 8}
        first, again = engine.decide(order), engine.decide(order)
        changed = engine.decide(order | {"amount": 800})  # the same id with other content: the first one counts
        assert (first.action, again.action, changed.action) == ("allow", "allow", "allow")
        assert engine.decide(order | {"event_id": "o2", "amount": 2}).action == "allow"
        assert engine.decide(order | {"event_id": "o3", "amount": 1}).action == "review"


def test_line_14_a_percentage_is_a_fixed_share_of_entities():
    shares = [share("rule:new", f"account:a{i}") for i in range(1000)]
    assert [share("rule:new", f"account:a{i}") for i in range(1000)] == shares
    assert 200 < sum(s < 25 for s in shares) < 300


def test_line_14_the_control_arm_is_let_through_and_says_so():
    files = RULES | {"policy.yaml": "control_percent: 100"}
    decision = Engine(Rulebook.from_files(files), mode="interpreted").decide(
        {"type": "order", "ts": 0, "account": "a", "amount": 11}
    )
    assert (decision.action, decision.reasons, decision.arm) == ("allow", ("by_spend",), "control")


# --- 15 change ----------------------------------------------------------------------------------------------------------------------


def test_line_15_a_new_feature_is_rebuilt_from_the_log_and_the_log_says_when_the_rulebook_changed(tmp_path):
    order = {"type": "order", "account": "a", "amount": 1}
    with Engine(Rulebook.from_files(RULES), tmp_path, mode="interpreted") as engine:
        for i in range(2):
            engine.decide(order | {"event_id": f"o{i}", "ts": ms("10:00") + i})
    changed = RULES | {
        "features/g.yaml": "orders_1h: {entity: account, measure: count, over: 1h, where: type == 'order'}",
        "rules/many.yaml": "{id: many, title: t, on: order, when: orders_1h > 2, then: challenge, state: live}",
    }
    with Engine(Rulebook.from_files(changed), tmp_path, mode="interpreted") as engine:
        assert engine.decide(order | {"event_id": "o2", "ts": ms("10:01")}).reasons == ("many",)
    with Log.open(tmp_path / "log") as log:
        switches = [(frame.seq0, frame.meta["rulebook"]) for frame in log.replay() if frame.kind == "switch"]
    assert switches == [(0, Rulebook.from_files(RULES).version), (2, Rulebook.from_files(changed).version)]


def test_line_12_lists_and_lookups_are_read_as_of_the_event():
    files = {
        "schema.yaml": MARKET,
        "lists/blocked.yaml": "blocked: {kind: block, entity: device}",
        "lookups/bins.yaml": "{key: string, columns: {risk: number}, rows: [{key: d, risk: 1, valid_from: 2026-01-01}, "
                             "{key: d, risk: 2, valid_from: 2026-01-02}]}",
        "features/f.yaml": "device_blocked: {list: blocked, entity: device}\ndevice_risk: {lookup: bins.risk, entity: device}",
    }  # fmt: skip
    engine = Engine(Rulebook.from_files(files), mode="interpreted")
    engine.lists.add("blocked", "d", ms("10:00"), ms("11:00"))
    times = ["09:59:59.999", "10:00", "10:59:59.999", "11:00", "1d 00:00"]
    events = [engine.normaliser({"type": "login", "ts": ms(when), "device": "d"}) for when in times]
    found = engine.features_table(engine.decide_batch(engine.batch(events)))
    assert found["device_blocked"].to_pylist() == [0, 1, 1, 0, 0] and found["device_risk"].to_pylist() == [
        1,
        1,
        1,
        1,
        2,
    ]


# --- 16 who shares what --------------------------------------------------------------------------------------------------------------

WEB = """
account_near_30d:        {graph: [device, card], entity: account, measure: neighbours, over: 30d}
account_near_frauds_30d: {graph: [device, card], entity: account, measure: frauds, over: 30d, hub: 20}
"""
MEETINGS = (("ann", "d1", None), ("bob", "d1", "c1"), ("cy", None, "c1"), ("ann", "d1", None), ("bob", "d1", None))


@pytest.mark.parametrize("size", [1, 2, 100])
def test_line_16_who_shares_a_thing_is_a_neighbour_and_a_verdict_counts_from_its_arrival(tmp_path, size):
    schema = "types: [order]\nfields: {account: {type: string, entity: account}, device: {type: string, entity: device}, card: {type: string, entity: card}}"
    orders = [
        {"event_id": f"o{i}", "type": "order", "ts": ms(f"{10 + i}:00"), "account": account, "device": device, "card": card}
        for i, (account, device, card) in enumerate(MEETINGS)
    ]  # fmt: skip
    (tmp_path / "orders.ndjson").write_text("".join(json.dumps(order) + "\n" for order in orders))
    (tmp_path / "labels.ndjson").write_text(json.dumps({"event_id": "o2", "label": 1, "label_ts": ms("13:30")}))
    engine = Engine(rulebook(WEB, schema), mode="interpreted")
    rows: list[dict] = []
    for batch in engine.read([tmp_path / "orders.ndjson"], labels=tmp_path / "labels.ndjson", size=size):
        rows += engine.features_table(engine.decide_batch(batch)).to_pylist()
    assert [row["account_near_30d"] for row in rows] == [0, 1, 1, 1, 2]
    assert [row["account_near_frauds_30d"] for row in rows] == [0, 0, 0, 0, 1]


def test_the_page_tells_every_line_and_names_its_tests():
    page = (Path(__file__).parents[2] / "docs" / "feature-maths.md").read_text()
    mine = {name for name in globals() if name.startswith("test_line_")}
    assert set(re.findall(r"test_line_\w+", page)) == mine
    assert re.findall(r"^## (\d+)\.", page, re.M) == [str(i) for i in range(1, 17)]


def test_the_page_shows_the_sql_that_is_generated():
    page = (Path(__file__).parents[2] / "docs" / "feature-maths.md").read_text()
    shown = re.search(r"```sql\n(.*?)\n```", page, re.S)[1]
    book = rulebook(
        "device_accounts_24h: {entity: device, measure: distinct(account), over: 24h, where: type == 'login'}"
    )
    assert shown == sql.feature_sql(book.features["device_accounts_24h"], book).split("\n", 1)[1]
