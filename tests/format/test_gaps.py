"""The record of gaps: to bytes and back, in little memory."""

from __future__ import annotations

import tracemalloc

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoint_manager._format.checkpoint_file import MAX_VERSION, BrokenError
from checkpoint_manager._format.gaps import Gap, Gaps, decode, decode_list, encode, encode_list

ids = st.none() | st.binary(min_size=16, max_size=16).map(bytes.hex)
reasons = st.sampled_from(["deleted", "set aside", "lost"])


@st.composite
def gaps(draw: st.DrawFn) -> list[Gap]:
    edges = sorted(draw(st.sets(st.integers(1, MAX_VERSION) | st.integers(1, 50), max_size=20)))
    pairs = zip(edges[::2], edges[1::2], strict=False)
    return [Gap(first, last, draw(ids), draw(ids), draw(reasons)) for first, last in pairs]


@given(gaps())
def test_gaps_come_back(listed: list[Gap]) -> None:
    whole = Gaps(listed)
    assert list(whole) == listed
    assert encode_list(whole) == orjson.dumps([list(gap) for gap in listed])
    assert list(decode_list(encode_list(whole))) == listed
    renewed = whole.renewed(above=7)
    read = decode(encode(renewed))
    assert (list(read), read.serial, read.id) == (listed, 8, renewed.id)
    assert decode(encode_list(whole)).serial == 0  # format 1


@given(gaps(), st.integers(1, 60), st.integers(0, 5))
def test_a_version_is_found_in_its_gap(listed: list[Gap], first: int, more: int) -> None:
    whole = Gaps(listed)
    expected = [gap for gap in listed if gap.first <= first <= gap.last]
    assert whole.find(first) == (expected[0] if expected else None)
    assert (first in whole) == bool(expected)
    assert whole.has_any(first, first + more) == any(number in whole for number in range(first, first + more + 1))
    assert whole.last == (listed[-1] if listed else None)


@given(gaps())
def test_gaps_added_one_at_a_time_are_those_added_at_once(listed: list[Gap]) -> None:
    one_at_a_time = Gaps()
    for gap in reversed(listed):
        one_at_a_time = one_at_a_time.add(gap)
    assert one_at_a_time == Gaps().add(*listed)
    assert one_at_a_time.serial == len(listed)


def test_adjoining_gaps_of_one_reason_become_one() -> None:
    joined = Gaps([Gap(1, 2, None, "a" * 32), Gap(5, 5, None, None, "lost")]).add(
        Gap(3, 4, "a" * 32, "b" * 32), Gap(6, 6, None, None)
    )
    assert list(joined) == [Gap(1, 4, None, "b" * 32), Gap(5, 5, None, None, "lost"), Gap(6, 6, None, None)]


@pytest.mark.parametrize(
    "listed",
    [
        b"",
        b"[",
        b"null",
        b'[[1,1,null,null,"deleted"]',
        b'[[1,1,null,null,"deleted"],]',
        b'[,[1,1,null,null,"deleted"]]',
        b'[[1,1,null,null,"deleted"] ]',
        b'[[1,1,null,null,"deleted"][2,2,null,null,"deleted"]]',
        b'[[2,1,null,null,"deleted"]]',
        b'[[0,1,null,null,"deleted"]]',
        b'[[01,1,null,null,"deleted"]]',
        b'[[1,1000000000000,null,null,"deleted"]]',
        b'[[1,2,null,null,"deleted"],[2,3,null,null,"deleted"]]',
        b'[[3,3,null,null,"deleted"],[1,1,null,null,"deleted"]]',
        b'[[1,1,null,null,"stolen"]]',
        b'[[1,1,null,"A","deleted"]]',
        b'[[1,1,5,null,"deleted"]]',
        b'[[1,1,null,"deleted"]]',
    ],
)  # fmt: skip
def test_what_is_not_a_list_of_gaps_is_refused(listed: bytes) -> None:
    for content in (listed, b'[1,"%b",%b]' % (b"a" * 32, listed)):
        with pytest.raises(BrokenError, match="not of this format"):
            decode(content)


def test_a_record_takes_little_more_memory_than_its_bytes() -> None:
    plain = encode_list(Gaps(Gap(number, number, None, None, "lost") for number in range(1, 40_000, 2)))
    tracemalloc.start()
    try:
        assert len(decode_list(plain)) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 3 * len(plain)
    finally:
        tracemalloc.stop()
