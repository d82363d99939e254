"""Which volumes give a moment: of one catalog's history, with volumes that were given up, and after a restore."""

from __future__ import annotations

import pytest

from dsa_zmq.errors import Conflict
from dsa_zmq.master.restore_plan import Copy, choose
from dsa_zmq.protocol.volumes import VolumeState


def copy(volume: int, begun: int, end: int, *, term: int = 5, begun_ns: int = 0, wall_ns: int = 0) -> Copy:
    """A volume of the positions ``begun`` to ``end``; a change takes 10 ns, the snapshot 5."""
    begun_ns = begun_ns or 10 * begun
    state = VolumeState(
        volume, begun=begun, begun_ns=begun_ns, parts=2, complete=True, whole=begun, whole_ns=begun_ns + 5, position=end,
        term=term, wall_ns=wall_ns or 10 * end, size=100,
    )  # fmt: skip
    return Copy("n1", state, b"s" * 16)


def volumes(copies: list[Copy], at_ns: int) -> list[int]:
    return [step.volume for step in choose(copies, at_ns=at_ns)]


def test_the_last_snapshot_before_a_moment_is_used_with_its_log() -> None:
    copies = [copy(1, 10, 21), copy(2, 20, 41), copy(3, 40, 50)]
    assert volumes(copies, 150) == [1]
    assert volumes(copies, 300) == [2]
    assert volumes(copies, 9999) == [3]


def test_a_volume_that_was_given_up_does_not_hide_what_the_one_before_it_has() -> None:
    copies = [copy(1, 10, 101), copy(2, 20, 25), copy(3, 100, 120)]
    assert volumes(copies, 240) == [2], "as long as it was kept up, it is as good"
    assert volumes(copies, 600) == [1]
    assert volumes(copies, 1100) == [3]


def test_a_moment_before_a_restore_is_of_the_volume_that_was_given_up_by_it() -> None:
    copies = [copy(1, 10, 101), copy(2, 62, 80, term=1006, begun_ns=2000, wall_ns=2600)]
    assert volumes(copies, 900) == [1]
    assert volumes(copies, 1999) == [1]
    assert volumes(copies, 2300) == [2]


def test_a_gap_is_no_history() -> None:
    copies = [copy(1, 10, 20), copy(2, 50, 60)]
    copies[1] = copies[1]._replace(
        state=copy(2, 50, 60).state.__class__(2, begun=50, begun_ns=500, position=60, term=5)
    )
    with pytest.raises(Conflict, match="gap around that moment"):
        volumes(copies, 550)
