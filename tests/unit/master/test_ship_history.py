"""Volumes are kept as long as a moment of the history needs them, and no longer: they take room on nodes."""

from __future__ import annotations

from dsa_zmq.master.ship_history import KEPT_AFTER_RESTORE_NS, LEAST_BUDGET_BYTES, ShipHistory
from dsa_zmq.protocol.volumes import VolumeState

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
NOW = 1000 * DAY


def volume(number: int, whole_ns: int, size: int = 1000, position: int = 0) -> VolumeState:
    """One that was begun, and whole, at that moment."""
    return VolumeState(
        number, begun=number, begun_ns=whole_ns - SECOND, parts=2, complete=True, whole=number, whole_ns=whole_ns,
        position=position or number + 5, wall_ns=whole_ns + SECOND, size=size,
    )  # fmt: skip


def history_of(*volumes: VolumeState, history_ns: int = HOUR, restored_ns: int = 0) -> ShipHistory:
    history = ShipHistory(history_ns)
    history.restored_ns = restored_ns
    history.told(1, volumes)
    return history


def test_the_history_begins_in_the_last_volume_that_was_whole_by_then() -> None:
    volumes = [volume(number, NOW - ago * HOUR // 4) for number, ago in ((1, 9), (2, 6), (3, 3), (4, 1))]
    history = history_of(*volumes)
    assert history.needed([4], NOW) == [2, 3, 4]
    assert history.surplus([2, 3, 4]) == [1]
    assert history_of(*volumes, history_ns=0).needed([4], NOW) == [4]


def test_a_volume_that_was_given_up_takes_nothing_from_the_history() -> None:
    first, given_up = volume(1, NOW - 9 * HOUR, position=80), volume(20, NOW - 5 * HOUR, position=25)
    last = volume(70, NOW - HOUR // 2)
    history = history_of(first, given_up, last)
    assert history.needed([70], NOW) == [1, 20, 70], "between the second and the last, only the first knows"
    assert history.needed([70], NOW + HOUR) == [70]


def test_volumes_from_before_a_restore_are_kept_for_days_and_those_since_for_as_long_as_ever() -> None:
    restored_ns = NOW - 2 * DAY
    before = [volume(number, restored_ns - (10 - number) * DAY) for number in range(1, 5)]
    since = [volume(number, restored_ns + (number - 9) * 2 * HOUR) for number in range(10, 30)]
    history = history_of(*before, *since, restored_ns=restored_ns)
    last = since[-1].whole_ns
    assert history.needed([29], last + 2 * HOUR) == [1, 2, 3, 4, 29]
    assert history.needed([29], last + HOUR // 2) == [1, 2, 3, 4, 28, 29]
    assert history.needed([29], restored_ns + KEPT_AFTER_RESTORE_NS) == [29]


def test_a_history_that_takes_too_much_room_is_cut_aloud_and_what_is_older_than_a_restore_is_not() -> None:
    restored_ns = NOW - HOUR
    before = volume(1, restored_ns - DAY, LEAST_BUDGET_BYTES)
    since = [volume(number, restored_ns + number * SECOND, LEAST_BUDGET_BYTES // 10 * 4) for number in range(2, 30)]
    history = history_of(before, *since, restored_ns=restored_ns)
    assert history.needed([29], NOW) == [1, *range(21, 30)]
    assert history.cut_ns == since[-9].whole_ns
