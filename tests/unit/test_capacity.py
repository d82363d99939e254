"""Storable bytes: exactly as much as fits, against counting by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa_zmq.model.capacity import storable_bytes


def fits(free: list[int], shards: int, size: int) -> bool:
    """Really put shard after shard on the emptiest nodes, a byte at a time."""
    room = list(free)
    for _ in range(size):
        room.sort(reverse=True)
        if len(room) < shards or room[shards - 1] < 1:
            return False
        room[:shards] = [left - 1 for left in room[:shards]]
    return True


@given(st.lists(st.integers(0, 12), max_size=5), st.integers(1, 4))
def test_exactly_as_much_as_really_fits(free: list[int], shards: int) -> None:
    size = storable_bytes(free, shards)
    assert fits(free, shards, size)
    assert not fits(free, shards, size + 1)


@given(st.lists(st.integers(0, 30), max_size=8), st.integers(1, 9))
def test_it_is_the_largest_solution_of_the_inequality(free: list[int], shards: int) -> None:
    def holds(size: int) -> bool:
        return sum(min(room, size) for room in free) >= shards * size

    assert storable_bytes(free, shards) == max(size for size in range(300) if holds(size))


@pytest.mark.parametrize(
    ("free", "shards", "storable"),
    [
        ([], 1, 0),
        ([7], 1, 7),
        ([7], 2, 0),
        ([10, 1, 1], 2, 2),
        ([5, 5, 5], 2, 7),
        ([10**15, 10**15 + 1], 2, 10**15),
        ([3, -5, 3], 2, 3),
    ],
)
def test_known_cases(free: list[int], shards: int, storable: int) -> None:
    assert storable_bytes(free, shards) == storable


def test_it_stays_exact_beyond_the_precision_of_floats() -> None:
    assert storable_bytes([(1 << 62) + 1, (1 << 62) + 3, (1 << 62) + 1], 3) == (1 << 62) + 1


def test_no_shards_make_no_sense() -> None:
    with pytest.raises(ValueError):
        storable_bytes([1], 0)
