"""The feature maths line by line; docs/feature-maths.md tells the same lines with the same numbers.

Each story is computed by the reference, by both kinds of SQL and by the engine in batches of 1, 3 and all; all must agree.
"""

from __future__ import annotations

import numpy as np
import pytest

from shopward.declare.rulebook import Rulebook
from shopward.errors import NotYet, RulebookError
from shopward.features import sql
from shopward.features.live import Windows
from shopward.ingest.clock import Clock
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


def test_line_11_a_feature_that_reads_a_list_is_refused_with_the_reason():
    book = Rulebook.from_files({
        "schema.yaml": MARKET,
        "lists/l.yaml": "blocked_devices: {kind: block, entity: device}",
        "features/f.yaml": "device_blocked: {list: blocked_devices, entity: device}",
    })  # fmt: skip
    with pytest.raises(NotYet, match="feature `device_blocked` has no SQL: it reads a list"):
        sql.feature_sql(book.features["device_blocked"], book)
    assert list(sql.refused(book)) == ["device_blocked"] and "device_blocked" not in sql.to_sql(book)
