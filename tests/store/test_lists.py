"""Who was on which list when: asked as of the event, whatever the order in which it was written."""

from __future__ import annotations

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
    ),
    max_size=12,
)


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
