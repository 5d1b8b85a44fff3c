"""Keys: the same text has the same hash however it arrives."""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shopward.hashing import (
    TextHash,
    canonical_text,
    combine,
    combine2_nb,
    combine_nb,
    combine_one,
    hash_slices,
    hash_strings,
    seed_words,
    siphash128,
    siphash128_nb,
    siphash128_plain,
)
from shopward.ingest.texts import Text, spans_of

SEED = bytes(range(16))


def signed(pair: tuple[int, int]) -> tuple[int, int]:
    return tuple(word - (1 << 64) if word >> 63 else word for word in pair)  # type: ignore[return-value]


def test_the_plain_form_gives_the_published_vectors_of_siphash_2_4_128():
    first, second = siphash128_plain(b"", SEED, 2, 4)
    assert (first.to_bytes(8, "little") + second.to_bytes(8, "little")).hex() == "a3817f04ba25a8e66df67214c7550293"
    first, second = siphash128_plain(bytes([0]), SEED, 2, 4)
    assert (first.to_bytes(8, "little") + second.to_bytes(8, "little")).hex() == "da87c1d86b99af44347659119b22fc45"


@settings(deadline=None)
@given(st.binary(max_size=200), st.binary(min_size=16, max_size=16))
def test_compiled_and_plain_agree_on_every_length(data, seed):
    wanted = signed(siphash128_plain(data, seed))
    assert siphash128(data, seed) == wanted
    padded = np.frombuffer(b"xyz" + data + b"w", np.uint8)
    assert tuple(siphash128_nb(padded, 3, 3 + len(data), *seed_words(seed))) == wanted


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=30)), max_size=30))
def test_lists_and_every_arrow_form_of_text_agree(texts):
    wanted = hash_strings(texts, SEED)
    assert [tuple(row) for row in wanted.tolist()] == [
        (0, 0) if t is None else siphash128(t.encode(), SEED) for t in texts
    ]
    for kind in (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())):
        array = pa.array(texts, pa.string()).cast(kind) if pa.types.is_string_view(kind) else pa.array(texts, kind)
        np.testing.assert_array_equal(hash_strings(array, SEED), wanted)
        np.testing.assert_array_equal(hash_strings(array[1:], SEED), wanted[1:])
    chunked = pa.chunked_array([pa.array(texts, pa.string()), pa.array(texts[:3], pa.string())])
    np.testing.assert_array_equal(hash_strings(chunked, SEED), np.concatenate([wanted, wanted[:3]]))


def test_columns_of_one_width_are_hashed_side_by_side_with_the_same_result():
    for width in (*range(36), 255, 256, 300):
        texts = [f"{i:0{width}d}"[:width] for i in range(7, 40)]
        texts[13], texts[29] = None, "odd"
        assert hash_strings(texts, SEED).tolist() == [
            [0, 0] if t is None else list(siphash128(t.encode(), SEED)) for t in texts
        ]


@settings(deadline=None)
@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=20))
def test_whole_numbers_hash_like_their_decimal_text(numbers):
    wanted = hash_strings([str(n) for n in numbers], SEED)
    np.testing.assert_array_equal(hash_strings(pa.array(numbers, pa.int64()), SEED), wanted)
    np.testing.assert_array_equal(hash_strings(numbers, SEED), wanted)


def test_other_values_hash_like_their_canonical_text():
    assert hash_strings(pa.array([1.0, 2.5, None]), SEED).tolist() == hash_strings(["1", "2.5", None], SEED).tolist()
    assert hash_strings(pa.array([True, False]), SEED).tolist() == hash_strings(["true", "false"], SEED).tolist()
    assert canonical_text(1e300) == str(int(1e300)) and canonical_text(np.float64(3)) == "3"


def test_another_seed_gives_other_hashes():
    other = os.urandom(16)
    assert siphash128(b"device-1", SEED) != siphash128(b"device-1", other)
    with pytest.raises(ValueError, match="16 bytes"):
        siphash128(b"x", b"short")


def test_composite_keys_are_the_same_in_every_form_and_null_when_a_part_is():
    a, b = hash_strings(["ann", "bob", None], SEED), hash_strings(["shop", None, "shop"], SEED)
    both = combine([a, b], SEED)
    assert tuple(both[0]) == combine_one([tuple(a[0].tolist()), tuple(b[0].tolist())], SEED)
    assert tuple(both[0]) == tuple(combine2_nb(*a[0], *b[0], *seed_words(SEED)))
    assert tuple(both[0]) == tuple(combine_nb(np.stack([a[0], b[0]]), *seed_words(SEED)))
    assert both[1:].tolist() == [[0, 0], [0, 0]]
    assert tuple(combine([b, a], SEED)[0]) != tuple(both[0]), "the order of the parts counts"


def test_a_remembered_text_has_the_same_hash_and_the_memory_stays_small():
    hashed = TextHash(SEED, limit=10)
    pairs = {text: hashed(text) for text in map(str, range(100))}
    assert all(hashed(text) == pair == siphash128(text.encode(), SEED) for text, pair in pairs.items())
    assert len(hashed.young) <= 11 and hashed(None) == (0, 0)


@pytest.mark.parametrize("kinds", [(np.int32, np.int32), (np.int64, np.int64), (np.int32, np.int64)])
def test_spans_of_either_width_hash_alike(kinds):
    texts = [f"key-{i:0{5 + i % 9}d}" for i in range(40)]
    stops = np.cumsum([len(text) for text in texts])
    starts = np.array([0, *stops[:-1]])
    starts[[3, 17]] = -1
    buf = np.frombuffer("".join(texts).encode() + bytes(8), np.uint8)
    out = np.empty((40, 2), np.int64)
    hash_slices(buf, starts.astype(kinds[0]), stops.astype(kinds[1]), *seed_words(SEED), out)
    expected = hash_strings([None if i in (3, 17) else text for i, text in enumerate(texts)], SEED)
    assert out.tolist() == expected.tolist()


@pytest.mark.parametrize("cut", [(0, 300), (5, 40), (299, 1), (300, 0), (100, 200)])
def test_a_part_of_a_column_is_read_where_it_lies(cut):
    values = [None if i % 7 == 3 else f"d{i}é" for i in range(300)]
    for kind in (pa.string(), pa.large_string()):
        part = pa.array(values, kind).slice(*cut)
        column = Text(*spans_of(part))
        del part
        assert column.to_list() == values[cut[0] : sum(cut)]
        assert column.hashes(SEED).tolist() == hash_strings(values[cut[0] : sum(cut)], SEED).tolist()


def test_spans_of_a_buffer_hash_like_their_text():
    buf = np.frombuffer(b"annbob", np.uint8)
    out = np.empty((3, 2), np.int64)
    hash_slices(buf, np.array([0, 3, -1]), np.array([3, 6, 0]), *seed_words(SEED), out)
    assert out.tolist() == hash_strings(["ann", "bob", None], SEED).tolist()


def test_a_few_texts_have_the_hashes_they_have_in_a_column():
    for few in (["a"], ["", "x" * 300], [f"t{i}" for i in range(8)], ["naïve", "☕"]):
        assert hash_strings(few, SEED).tolist() == hash_strings(pa.array(few), SEED).tolist()
    assert hash_strings([], SEED).shape == (0, 2)
