"""Who holds the catalog's copies, what is safe, and when a snapshot is taken."""

from __future__ import annotations

import msgspec
import pytest

from dsa_zmq.master.catalog.log_jobs import BeginVolume, ReadLog
from dsa_zmq.protocol.values import Failure
from dsa_zmq.protocol.volumes import Shipped
from tests.unit.master.harbour import MS, SECOND, Harbour, Log, settled


def test_three_nodes_hold_a_new_catalog() -> None:
    harbour = settled(5)
    assert len(harbour.members()) == 3
    assert harbour.count(BeginVolume) == 1


def test_a_change_is_safe_when_two_nodes_hold_it() -> None:
    harbour = settled()
    position = harbour.change()
    assert harbour.ship.safe < position
    harbour.deliver(1)
    assert harbour.ship.safe < position
    harbour.deliver(2)
    assert harbour.ship.safe == position
    assert harbour.holding(position) == {1, 2}


def test_without_nodes_the_master_is_enough() -> None:
    harbour = Harbour(0).start()
    position = harbour.change()
    assert harbour.ship.safe == position


def test_one_node_alone_makes_safe_and_of_two_both_have_to() -> None:
    harbour = settled(1)
    harbour.join(2)
    harbour.see()
    position = harbour.change()
    harbour.deliver(1)
    assert harbour.ship.safe < position
    harbour.wait(1)
    assert harbour.ship.safe == position
    assert harbour.holding(position) == {1, 2}


def test_nodes_of_different_zones_hosts_and_disks_are_chosen() -> None:
    harbour = Harbour(0)
    places = [
        ("a", "h1", "d1"),
        ("a", "h1", "d2"),
        ("a", "h2", "d3"),
        ("b", "h3", "d4"),
        ("b", "h3", "d4"),
        ("b", "h4", "d5"),
    ]
    for node, (zone, host, disk) in enumerate(places, 1):
        harbour.join(node, zone=zone, host=host, disk=disk)
    harbour.start().wait(1)
    chosen = [places[node - 1] for node in harbour.members()]
    assert {zone for zone, _, _ in chosen} == {"a", "b"}
    assert len({host for _, host, _ in chosen}) == 3


def test_nodes_that_are_being_emptied_or_run_older_software_are_no_members() -> None:
    harbour = Harbour(5)
    harbour.seen[1] = harbour.seen[1]._replace(draining=True)
    harbour.seen[2] = harbour.seen[2]._replace(why_not="'n2' runs older software: upgrade it")
    harbour.start().wait(1)
    assert harbour.members() == {3, 4, 5}


def test_lost_messages_are_sent_again() -> None:
    harbour = settled()
    harbour.lose = lambda: True
    position = harbour.change()
    harbour.run()
    harbour.lose = lambda: False
    harbour.wait(0.25)
    assert harbour.ship.safe < position
    harbour.wait(1)
    assert harbour.ship.safe == position
    assert harbour.holding(position) == {1, 2, 3}


def test_what_comes_behind_a_lost_message_is_not_taken_for_another_history() -> None:
    harbour = settled()
    losses = iter([True] * 3 + [False] * 10_000)
    harbour.lose = lambda: next(losses)
    for _ in range(40):
        harbour.change()
    harbour.wait(3)
    assert harbour.holding(harbour.log.position) == {1, 2, 3}
    assert harbour.count(BeginVolume) == 1


def test_a_node_that_comes_back_goes_on_without_a_snapshot() -> None:
    harbour = settled()
    harbour.leave(3)
    for _ in range(20):
        harbour.change()
    harbour.wait(4)
    harbour.come(3)
    harbour.wait(1)
    assert harbour.holding(harbour.log.position) == {1, 2, 3}
    assert harbour.count(BeginVolume) == 1


def test_older_records_are_read_from_the_catalog() -> None:
    harbour = Harbour(3, window=2_000).start()
    harbour.wait(1)
    harbour.leave(3)
    for _ in range(100):
        harbour.change(100)
    harbour.wait(1)
    harbour.come(3)
    harbour.wait(1)
    assert harbour.holding(harbour.log.position) == {1, 2, 3}
    assert harbour.count(ReadLog) > 0
    assert harbour.count(BeginVolume) == 1


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


def test_a_volume_whose_log_has_outgrown_its_snapshot_is_followed_by_another() -> None:
    harbour = settled()
    for _ in range(40):
        harbour.change(900_000)
        harbour.wait(0.25)
    harbour.wait(1)
    assert harbour.count(BeginVolume) == 3
    assert harbour.holding(harbour.log.position) == {1, 2, 3}


def test_the_old_volume_goes_on_until_the_new_one_is_complete() -> None:
    harbour = settled()
    harbour.log.rows = 50
    harbour.ship.pace.should_begin = lambda now, at: harbour.count(BeginVolume) < 2  # type: ignore[method-assign]
    harbour.ship.tick(harbour.at)
    harbour.take()
    old = harbour.ship.current
    assert harbour.work()
    for _ in range(10):
        assert harbour.work()  # a slice
        position = harbour.change()
        harbour.carry()
        assert harbour.ship.current is old
        assert harbour.ship.safe == position
        assert harbour.holding(position) == {1, 2, 3}
    harbour.run()
    assert harbour.ship.current is not old
    assert harbour.ship.safe == harbour.log.position


def test_snapshot_parts_wait_for_copies_and_are_not_piled_up() -> None:
    harbour = Harbour(3, Log(rows=200, part_bytes=100_000)).start()
    harbour.now_ns += SECOND
    harbour.ship.tick(harbour.at)
    harbour.take()
    while harbour.work():
        pass
    assert harbour.ship.next is not None
    assert harbour.ship.next.snapshot_bytes < 6 << 20
    harbour.wait(2)
    assert harbour.ship.current is not None
    assert harbour.holding(harbour.log.position) == {1, 2, 3}


def test_a_node_that_takes_nothing_does_not_hold_up_the_others() -> None:
    harbour = Harbour(4).start()
    harbour.cut.add(1)
    harbour.wait(30)
    assert harbour.ship.safe == harbour.log.position
    assert len(harbour.holding(harbour.log.position) & {2, 3, 4}) >= 2


def test_the_next_master_goes_on_with_the_same_volume() -> None:
    harbour = settled()
    harbour.change()  # not shipped before the end
    harbour.start()
    harbour.wait(0)
    assert harbour.ship.safe == harbour.log.position
    assert harbour.count(BeginVolume) == 1
    assert harbour.holding(harbour.log.position) == {1, 2, 3}


def test_the_next_master_begins_anew_if_no_node_has_the_volume() -> None:
    harbour = settled()
    for keeper in harbour.keepers.values():
        keeper.volumes.clear()
    harbour.start()
    harbour.wait(4)
    assert harbour.count(BeginVolume) == 2
    assert harbour.holding(harbour.log.position) == {1, 2, 3}


def test_copies_of_another_history_do_not_count() -> None:
    harbour = settled()
    other = Log()
    other.random.seed(6)
    other.volumes, other.volume, other.term = harbour.log.volumes, harbour.log.volume, harbour.log.term
    for _ in range(harbour.log.position):
        other.change()
    harbour.log = other  # an old copy of the master's disk, say: as long, and with other records
    harbour.start()
    position = harbour.change()
    harbour.carry()
    assert harbour.ship.safe < position
    harbour.wait(5)
    assert harbour.count(BeginVolume) == 2
    assert harbour.ship.safe == position


def test_after_a_restore_no_earlier_volume_goes_on() -> None:
    harbour = settled()
    harbour.log.volume = 0
    harbour.start()
    harbour.wait(1)
    assert harbour.count(BeginVolume) == 2


def test_the_log_is_trimmed_below_what_all_members_have() -> None:
    harbour = settled()
    for _ in range(300):
        harbour.change()
    harbour.wait(70)
    assert min(harbour.log.records) == harbour.log.position
    harbour.leave(3)
    first = harbour.change()
    for _ in range(300):
        harbour.change()
    harbour.wait(5)
    assert min(harbour.log.records) <= first


def test_a_message_holds_no_more_than_half_a_mebibyte_and_so_much_is_on_the_way() -> None:
    harbour = settled()
    harbour.cut = {3}
    for _ in range(400):
        harbour.change(20_000)
    sizes = [size for node, _, size in harbour.sent if node == 3]
    assert max(sizes) <= 512 << 10
    assert sum(sizes) < 3 << 20
    assert harbour.ship.safe < harbour.log.position  # nothing was delivered yet


def test_a_late_answer_counts() -> None:
    harbour = settled()
    position = harbour.change()
    harbour.now_ns += 700 * MS
    harbour.ship.tick(harbour.at)
    harbour.take()
    for node in (1, 2):
        harbour.deliver(node)  # the answer to the first message: it was sent again meanwhile
    assert harbour.ship.safe == position


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


def test_pauses_between_slices_of_a_large_snapshot() -> None:
    harbour = settled()
    harbour.log.rows, harbour.log.part_bytes = 40, 100_000
    harbour.ship.pace.should_begin = lambda now, at: harbour.count(BeginVolume) < 2  # type: ignore[method-assign]
    harbour.ship.tick(harbour.at)
    harbour.take()
    while any([harbour.work(), *[harbour.deliver(node) for node in (1, 2, 3)]]):
        pass
    assert harbour.ship.next is not None
    assert harbour.ship.next.snapshot_bytes < 2 << 20
    harbour.wait(2)
    assert harbour.ship.next is None
    assert harbour.holding(harbour.log.position) == {1, 2, 3}
    assert harbour.now_ns < 10 * SECOND


@pytest.mark.parametrize("ahead", [0, 1, 1000])
def test_two_nodes_that_tell_of_another_history_make_nothing_safe(ahead: int) -> None:
    """As after a start on an old copy of the master's disk: they are ahead of it, or as far with other records."""
    harbour = settled()
    position = harbour.change()
    safe = harbour.ship.safe
    assert harbour.ship.current is not None
    for node in (1, 2):
        honest = harbour.keepers[node].state(harbour.ship.current.volume)
        told = msgspec.structs.replace(honest, position=position + ahead, hash=b"x" * 32)
        harbour.ship.shipped(node, Shipped(harbour.ship._number, told), harbour.at)
        harbour.ship.check_invariants()
    assert harbour.ship.safe == safe < position
