"""Which nodes hold copies of the catalog, and when others take their place."""

from __future__ import annotations

import pytest

from dsa_zmq.master.catalog.log_jobs import BeginVolume
from dsa_zmq.protocol.values import Failure
from tests.unit.master.harbour import settled


def test_a_member_that_stays_away_is_replaced() -> None:
    harbour = settled(4)
    gone = min(harbour.members())
    harbour.leave(gone)
    harbour.wait(20)
    assert gone not in harbour.members()
    assert len(harbour.members()) == 3
    assert harbour.holding(harbour.log.position) >= {1, 2, 3, 4} - {gone}


def test_when_too_few_are_left_a_spare_node_is_taken_soon() -> None:
    harbour = settled(4)
    spare = ({1, 2, 3, 4} - harbour.members()).pop()
    harbour.leave(*sorted(harbour.members())[:2])
    position = harbour.change()
    harbour.wait(2)
    assert harbour.ship.safe < position
    harbour.wait(3)
    assert harbour.ship.safe == position
    assert spare in harbour.members()


def test_nodes_that_come_and_go_do_not_make_a_storm_of_snapshots() -> None:
    harbour = settled(6)
    begun = harbour.count(BeginVolume)
    for second in range(600):
        harbour.leave(1 + second % 6, 1 + (second + 3) % 6)
        harbour.wait(2)
        harbour.come(1 + second % 6, 1 + (second + 3) % 6)
    assert harbour.count(BeginVolume) - begun <= 5 + 1200 // 30


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


def test_a_damaged_copy_leads_to_a_new_volume() -> None:
    harbour = settled()
    for kept in harbour.keepers[2].volumes.values():
        kept.damage = "a record is damaged"
    harbour.change()
    harbour.wait(10)
    assert harbour.count(BeginVolume) == 2
    assert harbour.holding(harbour.log.position) == {1, 2, 3}


def test_a_node_without_room_is_replaced_and_not_asked_again_soon() -> None:
    harbour = settled(4)
    full = min(harbour.members())
    harbour.keepers[full].refusal = Failure("no-space", "full")
    harbour.change()
    harbour.wait(10)
    assert full not in harbour.members()
    assert len(harbour.members()) == 3


def test_draining_members_are_replaced() -> None:
    harbour = settled(4)
    leaving = min(harbour.members())
    harbour.seen[leaving] = harbour.seen[leaving]._replace(draining=True)
    harbour.wait(20)
    assert leaving not in harbour.members()


def test_a_removed_node_counts_no_more() -> None:
    harbour = settled(3)
    del harbour.seen[3]
    harbour.see()
    assert harbour.members() == {1, 2}
    assert harbour.ship.enough == 2
    position = harbour.change()
    harbour.run()
    assert harbour.ship.safe == position


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
