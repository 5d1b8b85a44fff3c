"""Who was on which list when: asked as of the event, whatever the order in which it was written."""

from __future__ import annotations

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shopward.lists import Entry, ListIndex

writes = st.lists(
    st.builds(
        Entry,
        list=st.just("blocked"),
        key=st.sampled_from("ab"),
        valid_from=st.integers(0, 20),
        expires=st.none() | st.integers(0, 25),
        remove=st.booleans(),
        provenance=st.sampled_from(["", "rule:ring"]),
        seq=st.sampled_from([-1, 7]),
    ),
    max_size=12,
)
SLACK = 3


@given(writes)
def test_the_index_agrees_with_going_through_the_entries_one_by_one(entries):
    index = ListIndex(entries)
    for key in "ab":
        for t in range(27):
            on = False
            for entry in entries:
                if entry.key == key and entry.covers(t):
                    on = True
                elif entry.key == key and entry.remove and t >= entry.valid_from:
                    on = False
            assert index.contains("blocked", key, t) is on


@given(writes, st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 27))))
def test_many_at_once_is_one_at_a_time(entries, asked):
    index = ListIndex(entries)
    keys, times = [k for k, _ in asked], np.array([t for _, t in asked], np.int64)
    assert index.contains_many("blocked", keys, times).tolist() == [index.contains("blocked", k, t) for k, t in asked]


def asked_of(index: ListIndex) -> list[bool]:
    return [index.contains("blocked", key, t) for key in "ab" for t in range(-5, 30)]


@given(writes)
def test_what_events_caused_also_holds_for_late_events_after_them(entries):
    index = ListIndex(entries, slack=SLACK)
    for key in "ab":
        for t in range(-5, 27):
            on = False
            for entry in (e for e in entries if e.key == key):
                since = entry.valid_from - (SLACK if entry.seq >= 0 else 0)
                if entry.remove:
                    on = on and t < since
                elif entry.expires is None or entry.expires > entry.valid_from:
                    on = on or since <= t < (entry.expires if entry.expires is not None else 1_000)
            assert index.contains("blocked", key, t) is on
            assert (index.said("blocked", key, t) is not None) is on


@given(writes, writes)
def test_an_index_restored_from_its_entries_goes_on_like_the_one_it_was_taken_from(before, after):
    index, again = ListIndex(before, slack=SLACK), ListIndex(slack=SLACK)
    again.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(index.entries())))
    assert again.entries() == index.entries() and asked_of(again) == asked_of(index)
    for one in (index, again):
        one.apply(after)
    by_key = [sorted(one.entries(), key=lambda e: e["key"]) for one in (index, again)]
    assert by_key[0] == by_key[1] and asked_of(again) == asked_of(index)


def test_the_entry_says_who_put_a_key_there_and_since_when_truly():
    index = ListIndex(slack=100)
    index.add("blocked", "d1", 1_000, 5_000, "rule:ring", seq=4)
    index.add("blocked", "d1", 2_000, 6_000, "rule:ring", seq=9)
    index.add("blocked", "d1", 3_000, 4_000, "analyst:kim")
    assert [index.said("blocked", "d1", t).provenance for t in (950, 3_500, 4_500)] == [
        "rule:ring",
        "analyst:kim",
        "rule:ring",
    ]
    assert index.said("blocked", "d1", 5_500) == Entry(
        list="blocked", key="d1", valid_from=1_000, expires=6_000, provenance="rule:ring", seq=9
    )
    assert index.said("blocked", "d1", 6_000) is None and index.said("blocked", "d2", 1_000) is None


def test_an_entry_may_begin_in_the_future():
    index = ListIndex()
    index.add("watch", "a1", 100)
    assert [index.contains("watch", "a1", t) for t in (99, 100, 1 << 50)] == [False, True, True]


def test_lists_do_not_mix():
    index = ListIndex([Entry(list="family", key="d1", valid_from=0)])
    assert not index.contains("blocked", "d1", 5) and not index.contains("nobody knows it", "d1", 5)
    assert index.names() == ("family",)


def test_what_ended_can_be_forgotten():
    index = ListIndex([Entry(list="l", key=f"k{i}", valid_from=0, expires=i + 1) for i in range(10)])
    assert index.forget_before(5) == 5
    assert index.size("l") == 5 and index.contains("l", "k9", 9)


def test_ten_thousand_writes_of_one_key_stay_one_span():
    index = ListIndex()
    for t in range(10_000):
        index.add("l", "k", t, t + 60)
    assert index._lists["l"]["k"] == (0, 10_059)
    assert len(index.entries()) == 1


def test_a_key_that_is_listed_again_every_day_does_not_grow():
    index = ListIndex(slack=3)
    for day in range(2_000):
        index.add("l", "k", day * 10, day * 10 + 5, provenance=f"feed {day}", seq=day)
        if day % 100 == 99:
            index.forget_before(day * 10 - 3)
    assert len(index._lists["l"]["k"]) <= 6 and len(index.entries()) <= 3
    assert [index.contains("l", "k", t) for t in (19_985, 19_990, 19_994, 19_995)] == [False, True, True, False]
    assert index.said("l", "k", 19_990).provenance == "feed 1999"


def test_a_key_that_many_put_on_a_list_for_good_keeps_a_few_names():
    index = ListIndex()
    for i in range(500):
        index.add("l", "k", i, provenance=f"kim: reason {i}")
    assert len(index.entries()) == 16 and index.said("l", "k", 10_000).provenance == "kim: reason 499"
    assert index.contains("l", "k", 0) and not index.contains("l", "k", -1)
    same = ListIndex()
    same.restore(index.entries())
    assert same.entries() == index.entries()
