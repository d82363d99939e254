"""When inventories are compared without anything that calls for it: both sides stand still, and differ."""

from __future__ import annotations

import itertools

from dsa_zmq.master.standstill import Standstill

DIFFER, DAY = 60, 86_400
NODE, OURS, THEIRS = 4, 111, 222


def run(standstill: Standstill, until: int, digest: int, catalog: int, *, since: int = 0) -> list[int]:
    """The times at which a comparison is wanted, with a tick each second."""
    times = []
    for now in range(since, until):
        look, compare = standstill.tick({NODE: digest}, now)
        for node in look:
            standstill.looked(node, digest, catalog)
        for node in compare:
            times.append(now)
            standstill.compared(node, now)
    return times


def test_what_agrees_is_compared_once_a_day() -> None:
    assert run(Standstill(DIFFER, DAY), 3 * DAY, OURS, OURS) == [DAY, 2 * DAY]


def test_what_stands_still_and_differs_is_compared_and_again_after_longer_and_longer_times() -> None:
    times = run(Standstill(DIFFER, DAY), DAY // 4, OURS, THEIRS)
    assert 2 * DIFFER <= times[0] <= 2 * DIFFER + 2
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert pauses == sorted(pauses)
    assert pauses[-1] > 4 * pauses[0]


def test_while_either_side_moves_a_difference_means_nothing() -> None:
    standstill = Standstill(DIFFER, DAY)
    for now in range(DAY // 10):
        look, compare = standstill.tick({NODE: now // 50}, now)
        assert not look, "the node has not stood still"
        assert not compare
    for now in range(DAY // 10, DAY // 5):
        look, compare = standstill.tick({NODE: THEIRS}, now)
        for node in look:
            standstill.looked(node, THEIRS, now)
        assert not compare


def test_a_look_at_what_the_node_had_before_decides_nothing() -> None:
    standstill = Standstill(DIFFER, DAY)
    standstill.tick({NODE: OURS}, 0)
    assert standstill.tick({NODE: OURS}, DIFFER) == ([NODE], [])
    standstill.tick({NODE: THEIRS}, DIFFER + 1)
    standstill.looked(NODE, OURS, OURS)
    assert standstill.tick({NODE: THEIRS}, 2 * DIFFER + 1) == ([NODE], [])


def test_a_node_that_goes_is_forgotten() -> None:
    standstill = Standstill(DIFFER, DAY)
    standstill.tick({NODE: OURS}, 0)
    standstill.tick({}, 1)
    standstill.looked(NODE, OURS, THEIRS)
    standstill.compared(NODE, 1)
    assert standstill.tick({NODE: OURS}, DIFFER + 1) == ([], [])
