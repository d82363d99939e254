"""What waits for the copies of the catalog, and what does not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa_zmq.master.desk import Moment
from dsa_zmq.master.gate import ALL, Gate

MS, SECOND = 10**6, 10**9
WALL = 1_000_000 * SECOND


def gate(level: str) -> Gate:
    made = Gate(level, SECOND, 5 * SECOND)
    made.is_safe(0, 0)
    made.look(at(0), is_thin=False, is_fenced=False)
    return made


def at(served_ns: int) -> Moment:
    return Moment(served_ns, WALL + served_ns)


def released(gate: Gate) -> list[Any]:
    found = []
    while (each := gate.release()) is not None:
        found.append(each[1])
    return found


def test_a_result_waits_until_what_it_saw_is_safe() -> None:
    it = gate("sync")
    it.committed(3, 0)
    assert it.passes(0)
    assert not it.passes(3)
    it.keep(3, "t", "first")
    assert not it.passes(0), "not before those who wait"
    it.keep(3, "t", "second")
    it.keep(4, "t", "third")
    assert released(it) == []
    it.is_safe(3, SECOND)
    assert released(it) == ["first", "second"]
    it.is_safe(4, SECOND)
    assert released(it) == ["third"]


def test_with_async_nothing_waits_until_the_copies_are_a_second_behind() -> None:
    it = gate("async")
    it.committed(1, 0)
    assert it.passes(1)
    it.committed(2, 1001 * MS)
    assert not it.passes(2)
    assert it.lag_ns(1001 * MS) == 1001 * MS
    it.keep(2, "t", "late")
    it.is_safe(1, 1100 * MS)
    assert released(it) == ["late"], "the oldest record that is not safe is young enough"


def test_off_keeps_nothing_back() -> None:
    it = Gate("off", SECOND, SECOND)
    assert it.limit == ALL
    assert it.passes(1 << 40)


@pytest.mark.parametrize("level", ["sync", "async"])
def test_without_enough_copies_the_master_goes_on_alone_after_a_time_and_says_since_when(level: str) -> None:
    it = gate(level)
    assert not it.look(at(1 * SECOND), is_thin=True, is_fenced=False)
    it.committed(1, 2 * SECOND)
    it.keep(1, "t", "waits")
    assert not it.look(at(5900 * MS), is_thin=True, is_fenced=False)
    if level == "sync":
        assert released(it) == []
    assert it.look(at(6 * SECOND), is_thin=True, is_fenced=False)
    assert it.unprotected_ns == WALL + 1 * SECOND
    assert released(it) == (["waits"])
    assert it.passes(1)


def test_nobody_waits_for_copies_that_no_node_can_keep() -> None:
    it = gate("sync")
    it.committed(1, 0)
    it.keep(1, "t", "waits")
    assert not it.look(at(SECOND), is_thin=False, is_fenced=False, is_vain=True), "there are enough of them now"
    assert it.look(at(SECOND), is_thin=True, is_fenced=False, is_vain=True)
    assert it.unprotected_ns == WALL, "since the change that nobody keeps"
    assert released(it) == ["waits"]


def test_copies_that_take_too_long_are_as_good_as_none() -> None:
    it = gate("sync")
    it.committed(1, 0)
    it.look(at(4 * SECOND), is_thin=False, is_fenced=False)
    assert not it.unprotected_ns
    it.look(at(5 * SECOND), is_thin=False, is_fenced=False)
    assert it.unprotected_ns


def test_when_copies_are_back_and_hold_all_but_the_last_moment_answers_wait_again() -> None:
    it = gate("sync")
    it.committed(1, 0)
    it.look(at(10 * SECOND), is_thin=True, is_fenced=False)
    it.look(at(20 * SECOND), is_thin=True, is_fenced=False)
    assert it.unprotected_ns
    it.look(at(21 * SECOND), is_thin=False, is_fenced=False)
    assert it.unprotected_ns, "they lack too much"
    it.committed(2, 21 * SECOND)
    it.is_safe(1, 22 * SECOND)
    assert it.look(at(22 * SECOND), is_thin=False, is_fenced=False)
    assert not it.unprotected_ns
    assert not it.passes(2)


def test_nothing_passes_while_no_node_is_heard_under_our_term() -> None:
    for level in ("sync", "async"):
        it = gate(level)
        it.look(at(20 * SECOND), is_thin=True, is_fenced=True)
        it.look(at(40 * SECOND), is_thin=True, is_fenced=True)
        assert it.unprotected_ns
        assert not it.passes(0)
        it.look(at(41 * SECOND), is_thin=True, is_fenced=False)
        assert it.passes(0)


def test_drops_wait_for_safety_itself_at_any_level() -> None:
    for level in ("sync", "async"):
        it = gate(level)
        it.committed(1, 0)
        it.look(at(10 * SECOND), is_thin=True, is_fenced=False)
        it.look(at(20 * SECOND), is_thin=True, is_fenced=False)
        assert it.unprotected_ns
        assert not it.is_open_for(1)
        it.keep_until_safe(1, lambda ctx: None)
        assert it.release_safe() is None
        it.is_safe(1, 21 * SECOND)
        it.look(at(22 * SECOND), is_thin=False, is_fenced=True)
        assert it.release_safe() is None
        it.look(at(23 * SECOND), is_thin=False, is_fenced=False)
        assert it.release_safe() is not None


@given(st.lists(st.tuples(st.sampled_from(["commit", "read", "safe", "look"]), st.integers(0, 3)), max_size=80))
def test_results_pass_in_the_order_in_which_they_came_and_none_too_early(steps: list[tuple[str, int]]) -> None:
    it = gate("sync")
    position = safe = now_ns = 0
    told: list[tuple[int, int]] = []
    came: list[tuple[int, int]] = []
    for number, (what, amount) in enumerate(steps):
        now_ns += 10 * MS
        if what == "commit":
            position += amount
            it.committed(position, now_ns)
        if what == "safe":
            safe = min(position, safe + amount)
            it.is_safe(safe, now_ns)
        elif what == "look":
            it.look(at(now_ns), is_thin=amount == 0, is_fenced=False)
        else:
            came.append((position, number))
            if it.passes(position):
                told.append(came[-1])
            else:
                it.keep(position, "t", came[-1])
        told += released(it)
        it.check_invariants()
        assert all(seen <= safe for seen, _ in told)
    assert told == came[: len(told)]
    assert all(seen > safe for seen, _ in came[len(told) : len(told) + 1])
