"""What becomes of the catalog's copies when nodes that hold them, or were to, are gone, full, or another master's."""

from __future__ import annotations

import pytest

from dsa_zmq.master.catalog.log_jobs import BeginVolume
from dsa_zmq.protocol.values import Failure
from tests.unit.master.harbour import Harbour, Log, settled


def begun_for_one(rows: int = 3) -> Harbour:
    """A master that has begun its first volume, of which nothing has arrived at the only node there was; that one is gone,
    and there are others."""
    harbour = Harbour(1, Log(rows)).start()
    harbour.cut.add(1)
    while harbour.work():
        pass
    harbour.join(2)
    harbour.join(3)
    return harbour


@pytest.mark.parametrize("is_noticed", [True, False])
def test_a_snapshot_whose_nodes_take_nothing_is_given_up_for_others(is_noticed: bool) -> None:
    harbour = begun_for_one()
    if is_noticed:
        harbour.leave(1)
    harbour.come(2, 3)
    position = harbour.change()
    harbour.wait(20)
    assert harbour.holding(position) == {2, 3}
    assert harbour.ship.safe == position


def test_a_snapshot_is_not_given_up_while_there_is_nobody_else() -> None:
    harbour = Harbour(2).start()
    harbour.cut |= {1, 2}  # a disk that takes half a minute for a sync, say
    harbour.wait(30)
    harbour.cut.clear()
    harbour.wait(10)
    assert harbour.count(BeginVolume) == 1
    assert harbour.ship.current is not None


def test_what_is_needed_is_only_there_for_sure_while_enough_can_be_reached() -> None:
    harbour = settled(4)
    assert harbour.ship.is_settled()
    first, second, _ = sorted(harbour.members())
    harbour.leave(first, second)
    assert not harbour.ship.is_settled(), "other nodes must not remove what they have of earlier volumes"


def test_a_node_that_has_room_again_gets_a_copy_again() -> None:
    harbour = settled(3)
    harbour.keepers[3].refusal = Failure("no-space", "full")
    harbour.change()
    harbour.wait(30)
    harbour.keepers[3].refusal = None
    position = harbour.change()
    harbour.wait(600)
    assert harbour.holding(position) == {1, 2, 3}


@pytest.mark.slow
def test_a_node_that_never_has_room_does_not_cause_a_snapshot_each_minute() -> None:
    harbour = settled(3)
    harbour.keepers[3].refusal = Failure("no-space", "full")
    harbour.change()
    harbour.wait(4 * 3600, 1)
    assert harbour.count(BeginVolume) <= 12


def test_when_all_members_are_away_the_last_node_gets_a_copy_for_itself() -> None:
    harbour = settled(4)
    (spare,) = {1, 2, 3, 4} - harbour.members()
    gone = harbour.members()
    harbour.leave(*gone)
    position = harbour.change()
    harbour.wait(10)
    assert harbour.holding(position) == {spare}
    assert harbour.ship.safe < position
    assert harbour.count(BeginVolume) == 2
    harbour.come(*gone)
    harbour.wait(10)
    assert harbour.ship.safe == position
    assert len(harbour.members()) == 3


def test_copies_that_go_bad_again_and_again_do_not_make_a_storm_of_snapshots() -> None:
    harbour = settled()
    begun, seconds = harbour.count(BeginVolume), 600
    for _ in range(seconds):  # each new volume is damaged as soon as it is there: the next is always wanted at once
        for keeper in harbour.keepers.values():
            for kept in keeper.volumes.values():
                kept.damage = "a record is damaged"
        harbour.change()
        harbour.wait(1)
    assert 10 < harbour.count(BeginVolume) - begun <= 5 + seconds // 30
