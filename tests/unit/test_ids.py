"""Ids: never the same twice, whatever restarts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa_zmq.model.ids import (
    COUNTER_BITS,
    NONCE_BITS,
    TERM_BITS,
    IdSource,
    id_floor,
    next_incarnation,
    start_of,
)


def test_ids_of_one_term_rise_and_differ() -> None:
    source = IdSource(7)
    ids = [source.next() for _ in range(1000)]
    assert ids == sorted(set(ids))
    assert all(id_floor(7) < number < id_floor(8) for number in ids)


def test_every_id_of_a_term_is_above_all_of_earlier_terms() -> None:
    last = IdSource(7)
    last._next = last._end - 1
    assert last.next() < IdSource(8).next()


def test_upcoming_is_the_next_id_and_takes_none() -> None:
    source = IdSource(1)
    assert source.upcoming == source.upcoming == source.next()
    assert source.upcoming == source.next()


def test_a_term_that_is_used_up_gives_no_id_of_the_next() -> None:
    source = IdSource(3)
    source._next = source._end
    with pytest.raises(OverflowError):
        source.next()
    assert source.upcoming == id_floor(4)


def test_ids_fit_a_signed_sql_integer_and_none_is_zero_or_the_root() -> None:
    assert COUNTER_BITS + TERM_BITS == 63
    assert id_floor((1 << TERM_BITS) - 1) + (1 << COUNTER_BITS) <= 1 << 63
    assert IdSource(1).next() > 1


@pytest.mark.parametrize("term", [0, -1, 1 << TERM_BITS])
def test_a_term_out_of_range_is_refused(term: int) -> None:
    with pytest.raises(ValueError):
        IdSource(term)


NONCES = st.integers(0, (1 << NONCE_BITS) - 1)


@given(st.lists(NONCES, min_size=1, max_size=20))
def test_the_starts_of_a_node_are_counted_from_one_and_every_incarnation_is_above_all_earlier_ones(
    nonces: list[int],
) -> None:
    incarnations = [0]
    for nonce in nonces:
        incarnations.append(next_incarnation(incarnations[-1], nonce))
    assert [start_of(incarnation) for incarnation in incarnations] == list(range(len(nonces) + 1))
    assert incarnations == sorted(set(incarnations))


@given(st.integers(0, 1 << 60), NONCES, NONCES)
def test_incarnations_that_follow_one_start_differ_if_their_nonces_do(previous: int, one: int, other: int) -> None:
    first, second = next_incarnation(previous, one), next_incarnation(previous, other)
    assert start_of(first) == start_of(second) == start_of(previous) + 1
    assert (first == second) == (one == other)


def test_a_nonce_that_is_too_long_does_not_reach_the_counter() -> None:
    assert next_incarnation(0, -1) == next_incarnation(0, (1 << 80) - 1) == (2 << NONCE_BITS) - 1


def test_an_incarnation_fits_a_signed_sql_integer_for_ten_to_the_eleven_starts() -> None:
    assert next_incarnation(10**11 << NONCE_BITS, -1) < 1 << 63
