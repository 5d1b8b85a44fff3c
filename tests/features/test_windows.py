"""What the window engine answers, told on small streams; both engines give the same on every one of them."""

from __future__ import annotations

import numpy as np
import pytest

from shopward.batch import Batch
from shopward.declare.rulebook import Rulebook
from shopward.errors import NotYet
from shopward.features.live import Windows
from tests.features.streams import SEED, batch_of, run

T0 = 1_767_225_600_000
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000

SCHEMA = """
types: [login, order, payment, payment_failed]
fields:
  account: {type: string, entity: account}
  seller: {type: string, entity: account}
  device: {type: string, entity: device}
  amount: money
  ratio: number
  city: string
  tags: list
"""

FEATURES = """
n_1m: {entity: account, measure: count, over: 1m}
n_1h: {entity: account, measure: count, over: 1h}
spent_1h: {entity: account, measure: sum(amount), over: 1h, where: type == "order"}
mean_1h: {entity: account, measure: mean(amount), over: 1h, where: type == "order"}
std_1h: {entity: account, measure: std(amount), over: 1h, where: type == "order"}
least_1h: {entity: account, measure: min(amount), over: 1h}
most_1m: {entity: account, measure: max(ratio), over: 1m}
most_1h: {entity: account, measure: max(ratio), over: 1h}
devices_1h: {entity: account, measure: distinct(device), over: 1h}
tags_1h: {entity: account, measure: distinct(tags), over: 1h}
city_before: {entity: account, measure: last(city), over: 1h}
city_first: {entity: account, measure: first(city), over: 1h}
idle: {entity: account, measure: since_last, over: 1h}
age: {entity: account, measure: since_first, over: ever}
n_before: {entity: account, measure: count, over: 1h, before: true}
n_lagged: {entity: account, measure: count, over: 1h, lag: 1m}
any_role_1h: {entity: account, via: [account, seller], measure: count, over: 1h}
pair_1h: {entity: [account, seller], measure: count, over: 1h}
login_order: {entity: account, sequence: {first: type == "login", then: type == "order", within: 1m}}
unpaid: {entity: account, sequence: {first: type == "order", without: type == "payment", within: 1h}}
share: {ratio: [n_1m, n_1h]}
moved: {expr: city_before != city}
bad_1h: {entity: account, measure: mean(label), over: 1h, where: type == "label"}
"""


def book(features: str = FEATURES) -> Rulebook:
    return Rulebook.from_files({"schema.yaml": SCHEMA, "features/f.yaml": features})


BOOK = book()


@pytest.fixture(scope="module", params=["interpreted", "compiled"])
def mode(request, tmp_path_factory) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kernels")


def answers(events, mode, folder, rulebook=BOOK, size=4096):
    return run(Windows(rulebook, SEED, mode=mode, cache_dir=folder), events, rulebook.schema, size)


def at(seconds: float, **fields) -> dict:
    return {"t": T0 + round(seconds * SECOND), "type": "order", "account": "ann", **fields}


def test_windows_are_closed_intervals_of_the_key_s_own_time(mode, folder):
    got = answers([at(0), at(60), at(60.001), at(3600), at(3600.001)], mode, folder)
    assert got["n_1m"] == [1, 2, 2, 1, 2]
    assert got["n_1h"] == [1, 2, 3, 4, 4]
    assert got["n_before"] == [0, 1, 2, 3, 3]
    assert got["share"] == [1, 1, 2 / 3, 1 / 4, 2 / 4]


def test_other_keys_do_not_matter_and_a_missing_key_is_null(mode, folder):
    got = answers([at(0), at(1, account="bob"), at(2, account=None), at(3)], mode, folder)
    assert got["n_1h"] == [1, 1, None, 2]
    assert got["age"] == [0, 0, None, 3]


def test_money_is_summed_as_integers(mode, folder):
    got = answers([at(i, amount=a) for i, a in enumerate([10, 20, None, 285])], mode, folder)
    assert got["spent_1h"] == [0.1, 0.3, 0.3, 3.15]
    assert got["mean_1h"] == [0.1, 0.15, 0.15, 1.05]
    assert got["std_1h"] == [0, 0.05, 0.05, (3 * (100 + 400 + 81225) - 315**2) ** 0.5 / 3 / 100]
    assert got["least_1h"] == [0.1, 0.1, 0.1, 0.1]


def test_amounts_of_ten_billion_keep_their_exact_spread(mode, folder):
    got = answers([at(0, amount=10**12), at(1, amount=10**12 - 1), at(2, amount=10**12)], mode, folder)
    assert got["spent_1h"][2] == 29_999_999_999.99
    assert got["std_1h"] == [0, 0.005, 2**0.5 / 3 / 100]


def test_minimum_and_maximum_leave_with_their_event(mode, folder):
    got = answers([at(0, ratio=5.5), at(30, ratio=-1.0), at(61, ratio=2.0), at(95, ratio=None)], mode, folder)
    assert got["most_1m"] == [5.5, 5.5, 2.0, 2.0]
    assert got["most_1h"] == [5.5, 5.5, 5.5, 5.5]


def test_distinct_is_exact_over_many_values(mode, folder):
    devices = [f"d{i % 37}" for i in range(200)] + ["d0"] * 20
    got = answers([at(i, device=d) for i, d in enumerate(devices)], mode, folder)
    assert got["devices_1h"] == [min(i + 1, 37) for i in range(220)]
    late = answers([*(at(i, device=f"d{i}") for i in range(30)), at(3610, device="d20")], mode, folder)
    assert late["devices_1h"][-1] == 20


def test_lists_count_each_element(mode, folder):
    got = answers([at(0, tags=["a", "b"]), at(1, tags=[]), at(2, tags=["b", "c", "c"]), at(3)], mode, folder)
    assert got["tags_1h"] == [2, 2, 3, 3]


def test_last_and_first_see_only_earlier_events(mode, folder):
    cities = ["東京", None, "São Paulo", "Köln"]
    got = answers([at(i, city=c) for i, c in enumerate(cities)], mode, folder)
    assert got["city_before"] == [None, "東京", "東京", "São Paulo"]
    assert got["city_first"] == [None, "東京", "東京", "東京"]
    assert got["moved"] == [None, None, 1, 1]
    assert got["idle"] == [None, 1, 1, 1]


def test_a_late_event_does_not_turn_the_clock_back(mode, folder):
    got = answers([at(100), at(50), at(100), at(160.001)], mode, folder)
    assert got["idle"] == [None, 0, 0, 60.001]
    assert got["n_1m"] == [1, 2, 3, 1]


def test_lagged_windows_see_events_when_they_are_old_enough(mode, folder):
    got = answers([at(0), at(59.999), at(60), at(120), at(3660), at(3660.001)], mode, folder)
    assert got["n_lagged"] == [0, 0, 1, 3, 4, 3]


def test_an_event_counts_once_for_each_key_among_its_roles(mode, folder):
    events = [
        at(0, seller="bob"),
        at(1, account="bob", seller="ann"),
        at(2, seller="ann"),
        at(3, account=None, seller="bob"),
        at(4),
    ]
    got = answers(events, mode, folder)
    assert got["any_role_1h"] == [1, 2, 3, None, 4]
    assert got["pair_1h"] == [1, 1, 1, None, None]


def test_sequences_look_at_earlier_events_of_the_key(mode, folder):
    kinds = [
        ("login", 0),
        ("order", 60),
        ("order", 60.001),
        ("payment", 61),
        ("order", 62),
        ("login", 62),
        ("login", 63),
    ]
    got = answers([at(s, type=k) for k, s in kinds], mode, folder)
    assert got["login_order"] == [0, 1, 0, 0, 0, 0, 0]
    assert got["unpaid"] == [0, 0, 1, 0, 0, 0, 1]


def test_a_later_label_replaces_the_earlier_one(mode, folder):
    judged = {"type": "label", "label_event": "e0"}
    events = [
        at(0),
        at(1, **judged, label=1),
        at(2, type="label", label_event="e9", label=0),
        at(3),
        at(4, **judged, label=0),
        at(5),
    ]
    got = answers(events, mode, folder)
    assert got["bad_1h"] == [None, 1, 0.5, 0.5, 0, 0]
    assert got["n_1h"] == [1, 1, 1, 2, 2, 3]  # labels are not events of the same sort


def test_windows_of_a_month_and_of_a_year(mode, folder):
    features = """
n_30d: {entity: account, measure: count, over: 30d}
n_lag: {entity: account, measure: count, over: 30d, lag: 7d}
n_365d: {entity: account, measure: count, over: 365d}
s_30d: {entity: account, measure: sum(amount), over: 30d}
"""
    days = [0, 10, 29, 30, 41, 80, 200, 200.5, 365, 366, 1000]
    events = [{"t": T0 + round(d * DAY), "account": "ann", "amount": 100} for d in days]
    got = answers(events, mode, folder, book(features))

    def count(i: int, low: float, high: float) -> int:
        return sum(days[i] - low <= d <= days[i] - high for d in days[: i + 1])

    assert got["n_30d"] == [count(i, 30, 0) for i in range(len(days))]
    assert got["n_lag"] == [count(i, 37, 7) for i in range(len(days))]
    assert got["n_365d"] == [count(i, 365, 0) for i in range(len(days))]
    assert got["s_30d"] == got["n_30d"]


def test_where_may_look_at_characters(mode, folder):
    rulebook = book("bots: {entity: account, measure: count, over: 1h, where: 'contains(city, \"bot\")'}")
    got = answers([at(0, city="robot"), at(1, city="Rome"), at(2), at(3, city="bot")], mode, folder, rulebook)
    assert got["bots"] == [1, 1, 1, 2]


def test_times_before_1970_are_times(mode, folder):
    got = answers([{"t": t, "account": "ann"} for t in (-5 * HOUR, -4 * HOUR, 0, MINUTE)], mode, folder)
    assert got["n_1h"] == [1, 2, 1, 2]
    assert got["age"] == [0, 3600, 5 * 3600, 5 * 3600 + 60]


def test_columns_that_a_file_lacks_are_null():
    windows = Windows(BOOK, SEED, mode="interpreted")
    t = np.array([T0, T0 + 1])
    batch = Batch(2, 0, t, t, np.ones(2, np.int16), ["a", "b"], hashes={"account": np.array([[1, 2], [1, 2]])})
    values = dict(zip(windows.names, windows.update(batch).values.tolist(), strict=True))
    assert values["n_1h"] == [1, 2] and values["spent_1h"] == [0, 0] and values["devices_1h"] == [0, 0]


def test_needs_names_every_column_the_kernels_read():
    needs = Windows(BOOK, SEED, mode="interpreted").needs
    assert {"account", "seller", "device", "city", "label_event"} <= needs.hashes
    assert "amount" in needs.minor and "ratio" in needs.numbers and "tags" in needs.lists and "city" in needs.text


def test_a_batch_of_one_event_is_the_same_as_many(folder):
    events = [
        at(i, account=f"a{i % 5}", device=f"d{i % 3}", amount=i, city=f"c{i % 4}", ratio=i * 0.5, tags=["x"] * (i % 3))
        for i in range(60)
    ]
    events += [at(i, type="label", label_event=f"e{i % 7}", label=i % 2, account=f"a{i % 5}") for i in range(60, 90)]
    many, one = (Windows(BOOK, SEED, mode="compiled", cache_dir=folder) for _ in range(2))
    expected = many.update(batch_of(events, BOOK.schema)).values
    batch = batch_of(events[:1], BOOK.schema)
    bound = one.bind(batch)
    for i, event in enumerate(events):
        _overwrite(batch, batch_of([event], BOOK.schema, i))
        bound.run()
        np.testing.assert_array_equal(np.array(bound.values), expected[:, i])
    assert one.state_hash() == many.state_hash()


def _overwrite(batch: Batch, other: Batch) -> None:
    batch.seq0, batch.text, batch.lists = other.seq0, other.text, other.lists
    for mine, new in ((batch.t, other.t), (batch.ts, other.ts), (batch.types, other.types)):
        mine[:] = new
    for mine, new in ((batch.numbers, other.numbers), (batch.minor, other.minor), (batch.hashes, other.hashes)):
        for name in mine:
            mine[name][:] = new[name]


def test_expressions_after_row_wise_ones_are_left_to_the_caller():
    windows = Windows(
        book("""
city_before: {entity: account, measure: last(city), over: 1h}
robots: {expr: 'len(city_before) + 1'}
more: {expr: robots * 2}
share: {ratio: [n_1h, n_1h]}
n_1h: {entity: account, measure: count, over: 1h}
"""),
        SEED,
        mode="interpreted",
    )
    assert windows.row_features == ["robots", "more"]
    with pytest.raises(NotYet, match="`part`: a ratio"):
        Windows(
            book("""
city_before: {entity: account, measure: last(city), over: 1h}
robots: {expr: 'len(city_before) + 1'}
part: {ratio: [robots, robots]}
"""),
            SEED,
            mode="interpreted",
        )
