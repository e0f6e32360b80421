"""When it is time to copy and to save: to the item where that was asked for, and else so that it costs little."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoint_manager.stages.pacing import Pace


def test_so_many_items_are_so_many_items_whatever_a_save_costs() -> None:
    pace = Pace(1000.0, 3)
    pace.begin(2, 0.0)
    saved = []
    for done in range(3, 20):
        if pace.is_save_due(done, done * 0.001):
            saved.append(done)
            pace.saved(done, 100.0, done * 0.001)
    assert saved == [5, 8, 11, 14, 17]


def test_the_first_copy_is_made_at_once_and_the_first_save_is_not() -> None:
    pace = Pace(30.0, None)
    pace.begin(0, 100.0)
    assert pace.is_copy_due(100.0)
    assert not pace.is_save_due(1, 129.9)
    assert pace.is_save_due(1, 130.0)


@given(
    every=st.floats(0, 100),
    item=st.floats(0.0001, 10),
    copy=st.floats(0, 10),
    save=st.floats(0, 10),
    count=st.integers(1, 300),
)
@pytest.mark.parametrize("by_items", [None, 10**9])
def test_time_alone_spends_a_few_per_cent(
    every: float, item: float, copy: float, save: float, count: int, by_items: int | None
) -> None:
    """Whatever an item, a copy and a save take, all copies and saves but the last ones take at most their share."""
    pace, now, spent, last = Pace(every, by_items), 0.0, 0.0, 0.0
    pace.begin(0, now)
    for done in range(1, count):
        now += item
        last = 0.0
        if pace.is_copy_due(now):
            now, spent, last = now + copy, spent + copy, last + copy
            pace.copied(copy, now)
        if pace.is_save_due(done, now):
            now, spent, last = now + save, spent + save, last + save
            pace.saved(done, save, now)
    assert spent <= 0.05 * now + copy + save + last + 1e-6


def test_a_save_that_costs_nothing_waits_as_long_as_it_was_asked_to() -> None:
    pace = Pace(5.0, None)
    pace.begin(0, 0.0)
    pace.saved(1, 0.0, 10.0)
    assert not pace.is_save_due(2, 14.9)
    assert pace.is_save_due(2, 15.0)
