"""Ids: never the same twice, whatever restarts."""

from __future__ import annotations

import pytest

from dsa_zmq.model.ids import COUNTER_BITS, TERM_BITS, IdSource, id_floor


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
