"""Slots: uploads of one chunk that are given ahead, by the dozen."""

from __future__ import annotations

import pytest

from dsa_zmq.errors import Invalid, NoSpace, Overloaded, TooFewNodes
from dsa_zmq.master import uploads as uploads_module
from dsa_zmq.master.allocation import GROUP_FILES
from dsa_zmq.model import placement
from dsa_zmq.model.limits import GRANT_S
from dsa_zmq.model.macs import WRITE
from dsa_zmq.protocol.operations import AllocateSlots, Reallocate
from dsa_zmq.protocol.values import PlacedShard
from tests.unit.master.conftest import HUGE, MIB, WALL_NS, Desk


def test_slots_are_uploads_of_one_chunk_with_grants_for_up_to_their_size() -> None:
    desk = Desk()
    given = desk.slots(40)
    ids = [number for slot in given.slots for number in (slot.upload, slot.chunk)]
    assert ids == sorted(set(ids))  # each upload before its chunk: the horizon stays below both
    assert len(given.slots) == 40
    for slot in given.slots:
        assert desk.uploads.get(slot.upload).redundancy == "copies=2"
        assert [place.index for place in slot.places] == [0, 1]
        for place in slot.places:
            said = (WRITE, place.node, slot.upload, slot.chunk, place.index, 4096, given.expires_s)
            assert place.mac == desk.mac(*said)
    assert {address.node for address in given.nodes} == {place.node for slot in given.slots for place in slot.places}
    assert sum(desk.reserved().values()) == 40 * 2 * 4096
    assert not {slot.upload for slot in desk.slots().slots} & set(ids)


def test_slots_in_a_row_share_their_nodes_and_runs_are_spread_evenly() -> None:
    desk = Desk(free=10_000 * MIB)
    rows = [[place.node for place in slot.places] for _ in range(40) for slot in desk.slots(128).slots]
    runs = [rows[at : at + GROUP_FILES] for at in range(0, len(rows), GROUP_FILES)]
    assert all(len(set(map(tuple, run))) == 1 for run in runs)
    loads = [sum(node in run[0] for run in runs) for node in range(1, 5)]
    assert max(loads) < 1.4 * min(loads)


def test_chained_slots_turn_with_each_file_as_single_allocations_do() -> None:
    desk = Desk(placement="chained")
    members = [placement.Member(node, f"n{node}", 1, 1, "", f"h{node}") for node in range(1, 5)]
    for slot in desk.slots(60).slots:
        first, second = (place.node for place in slot.places)
        expected = placement.place(
            "chained", chunk=1, position=0, anchor=slot.chunk, members=members, count=2, shard_bytes=1
        )
        assert [first, second] == expected


def test_a_slot_that_is_returned_leaves_nothing_and_nothing_else_can_be_returned() -> None:
    desk = Desk()
    mine, staged = desk.slots(2).slots
    other = desk.allocate()
    desk.uploads.staged(staged.upload, [staged.chunk], 0)
    taken = [desk.uploads.take_back(upload) for upload in (mine.upload, mine.upload, staged.upload, other.upload, 77)]
    assert taken == [True, False, False, False, False]
    assert mine.upload not in desk.uploads
    assert staged.upload in desk.uploads
    desk.uploads.end(other.upload)
    assert desk.reserved() == {}


def test_slots_end_with_their_lease_like_any_upload_and_may_be_begun_for_a_part_of_it() -> None:
    lease_ns = 600 * 10**9
    desk = Desk(lease_ns=lease_ns)
    given = desk.slots(3)
    assert given.use_within_ms == 60_000
    assert desk.uploads.expire(lease_ns - 1) == []
    assert desk.uploads.expire(lease_ns) == [slot.upload for slot in given.slots]
    assert desk.reserved() == {}


def test_no_slot_is_given_on_a_node_that_has_little_room_left() -> None:
    desk = Desk(nodes=2)
    desk.add(3, 15 * MIB)
    assert {place.node for slot in desk.slots(128).slots for place in slot.places} == {1, 2}
    with pytest.raises(NoSpace):
        Desk(free=15 * MIB).slots()
    with pytest.raises(TooFewNodes):
        Desk(nodes=1).slots()


def test_slots_leave_half_of_the_table_to_who_needs_an_upload_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads_module, "MAX_UPLOADS", 100)
    desk = Desk()
    given = [len(desk.slots(16).slots) for _ in range(5)]
    assert given == [16, 16, 16, 2, 0]
    for _ in range(50):
        desk.allocate(lengths=[5])
    with pytest.raises(Overloaded):
        desk.allocate(lengths=[5])


@pytest.mark.parametrize(
    "asked",
    [
        *(AllocateSlots(count, 4096, "copies=2") for count in (-1, 0, 129, *HUGE)),
        *(AllocateSlots(1, size, "copies=2") for size in (-1, 0, (64 << 10) + 1, *HUGE)),
        *(AllocateSlots(1, 4096, name) for name in ("", "copies=0", "copies=99")),
        AllocateSlots(1, 4096, "copies=2", list(range(1001))),
    ],
)
def test_slots_that_make_no_sense_are_refused(asked: AllocateSlots) -> None:
    desk = Desk()
    with pytest.raises(Invalid):
        desk.allocator.allocate_slots(asked, desk.members.up(0), 0, WALL_NS)
    assert len(desk.uploads) == 0


def test_the_shard_of_a_slot_can_be_moved_with_the_bytes_it_has_and_no_more() -> None:
    desk = Desk()
    given = desk.slots(1)
    (slot,) = given.slots
    shard = PlacedShard(slot.chunk, 1, slot.places[1].node)
    (place,) = desk.reallocate(Reallocate(slot.upload, [shard], [1000], [[]])).places
    assert place.node not in {old.node for old in slot.places}
    assert place.mac == desk.mac(WRITE, place.node, slot.upload, slot.chunk, 1, 1000, given.expires_s)
    with pytest.raises(Invalid, match="was given"):
        desk.reallocate(Reallocate(slot.upload, [shard], [4097], [[]]))


def test_unused_slots_do_not_hold_the_horizon_back_and_used_ones_do() -> None:
    lease_ns, span_ns = 600 * 10**9, (600 + GRANT_S) * 10**9
    desk = Desk(lease_ns=lease_ns)
    unused, used = desk.slots(2).slots
    reached = 0
    for now in range(0, 3 * span_ns, 60 * 10**9):
        desk.allocator.renew(used.upload, now)
        desk.uploads.expire(now)
        reached = desk.allocator.advance_horizon(now)
        assert (unused.upload in desk.uploads) == (now < lease_ns)
        if unused.upload in desk.uploads:
            assert reached <= unused.upload
    assert unused.chunk < reached <= used.upload
