"""Numbered updates over a lossy feed."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from actors.feed import Follower, Numbering


def test_updates_are_numbered_from_one_in_each_term() -> None:
    numbering = Numbering(7)
    assert [numbering.next() for _ in range(3)] == [1, 2, 3]
    assert (numbering.term, numbering.last) == (7, 3)


def test_updates_that_come_before_the_snapshot_are_held_and_those_it_contains_are_dropped() -> None:
    follower: Follower[str] = Follower()
    assert follower.needs_snapshot
    assert [follower.update(1, number, f"u{number}") for number in (4, 5, 6)] == [[], [], []]
    assert follower.snapshot(1, 5) == ["u6"]
    assert follower.position == (1, 6)
    assert follower.update(1, 7, "u7") == ["u7"]


def test_a_snapshot_older_than_the_gap_is_asked_for_again() -> None:
    follower: Follower[str] = Follower()
    follower.update(1, 9, "u9")
    assert follower.snapshot(1, 7) is None
    assert follower.needs_snapshot
    assert follower.snapshot(1, 8) == ["u9"]


def test_a_repeated_or_late_update_is_not_applied_again() -> None:
    follower: Follower[str] = Follower()
    follower.snapshot(1, 3)
    assert follower.update(1, 3, "late") == []
    assert follower.update(1, 4, "u4") == ["u4"]
    assert follower.update(1, 4, "u4") == []
    assert follower.snapshot(1, 2) is None
    assert follower.position == (1, 4)


def test_a_gap_or_a_new_term_needs_a_snapshot_and_an_old_term_is_ignored() -> None:
    follower: Follower[str] = Follower()
    follower.snapshot(2, 3)
    follower.update(2, 5, "u5")
    assert follower.needs_snapshot
    assert follower.snapshot(2, 4) == ["u5"]
    assert follower.update(1, 6, "old") == []
    assert follower.snapshot(1, 9) is None
    assert not follower.needs_snapshot
    follower.update(3, 1, "new")
    assert follower.needs_snapshot


def test_memory_is_bounded_while_no_snapshot_comes() -> None:
    follower: Follower[int] = Follower(max_held=10)
    for number in range(1, 1001):
        follower.update(1, number, number)
    assert len(follower._held) <= 10
    ready = follower.snapshot(1, 1000)
    assert ready == []
    assert follower.update(1, 1001, 1001) == [1001]


@given(st.integers(0, 2**32), st.floats(0.0, 0.5))
def test_whatever_is_lost_or_repeated_what_is_applied_is_in_order_and_without_gaps(seed: int, loss: float) -> None:
    draw = random.Random(seed)
    numbering = Numbering(1)
    follower: Follower[int] = Follower(max_held=8)
    state = 0  # of a follower whose state is the number of the last update
    for _ in range(60):
        number = numbering.next()
        arrivals = [] if draw.random() < loss else [number] * draw.choice((1, 1, 2))
        for arrived in arrivals:
            for value in follower.update(1, arrived, arrived):
                assert value == state + 1
                state = value
        if follower.needs_snapshot and draw.random() < 0.3:
            taken = numbering.last - draw.choice((0, 0, 1, 3))
            ready = follower.snapshot(1, max(0, taken))
            if ready is not None:
                state = max(0, taken)
                for value in ready:
                    assert value == state + 1
                    state = value
    ready = follower.snapshot(1, numbering.last) if follower.needs_snapshot else []
    assert ready == []
