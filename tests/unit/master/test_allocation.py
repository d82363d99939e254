"""Allocation: grants that nodes will accept, room that is reserved and comes back, requests that make no sense."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.core import Address
from dsa_zmq.errors import DSAError, Invalid, NoSpace, Outdated, Overloaded, TooFewNodes
from dsa_zmq.master import uploads as uploads_module
from dsa_zmq.master.allocation import GROUP_BYTES, GROUP_FILES, GROUP_NS, Allocator
from dsa_zmq.master.catalog.jobs import LocatedRows, NodeRow
from dsa_zmq.master.grants import Granter, complete_confirm, complete_located
from dsa_zmq.master.members import Members
from dsa_zmq.master.uploads import Uploads
from dsa_zmq.model import placement
from dsa_zmq.model.ids import id_floor
from dsa_zmq.model.limits import GRANT_S
from dsa_zmq.model.macs import READ, WRITE, grant_mac, node_key
from dsa_zmq.protocol.messages import Heartbeat, Register
from dsa_zmq.protocol.operations import Allocate, AllocateSlots, Confirm, Reallocate
from dsa_zmq.protocol.values import Attributes, PlacedShard, Receipt, StagedChunk

SECRET, CLUSTER, TERM = b"s" * 32, b"c" * 16, 3
MIB = 1 << 20
WALL_NS = 1_700_000_000 * 10**9 + 5
LEASE_NS = 600


class Desk:
    """Nodes that are up, and what allocates on them."""

    def __init__(self, nodes: int = 4, free: int = 100 * MIB, term: int = TERM) -> None:
        self.members = Members(30, 100)
        for node in range(1, nodes + 1):
            self.add(node, free)
        self.uploads = Uploads(LEASE_NS)
        self.granter = Granter(SECRET, CLUSTER)
        self.allocator = Allocator("rendezvous", term, self.granter, self.uploads, LEASE_NS)

    def add(self, node: int, free: int) -> None:
        row = NodeRow(
            node, f"n{node}", bytes([node]) * 16, 1, 2, "", f"h{node}", "/d", f"d{node}", f"tcp://n{node}:1", 200 * MIB
        )
        message = Register(
            1, 1, 1, b"", row.name, row.store_id, 1, row.address, "", row.host, "/d", row.disk, row.capacity, 0, free, 0, b""
        )  # fmt: skip
        self.members.register(row, Address(f"node-{node}/1"), message, 0)

    def allocate(self, inherited: str = "copies=2", now: int = 0, **changes: Any) -> Any:
        asked = msgspec.structs.replace(Allocate(0, "/f", MIB, 0, [MIB, MIB, 5]), **changes)
        known = self.allocator.redundancy_of(asked)
        return self.allocator.allocate(asked, known or inherited, self.members.up(now), now, WALL_NS)

    def reallocate(self, asked: Reallocate, now: int = 0) -> Any:
        return self.allocator.reallocate(asked, self.members.up(now), now, WALL_NS)

    def row(self, node: int) -> NodeRow:
        state = self.members.get(node)
        assert state is not None
        return state.row

    def mac(self, right: bytes, node: int, upload: int, chunk: int, index: int, length: int, expires_s: int) -> bytes:
        """What the node computes for itself."""
        row = self.row(node)
        key = node_key(SECRET, node, row.store_id, row.generation)
        return grant_mac(
            key, right, cluster=CLUSTER, node=node, store_id=row.store_id, upload=upload, chunk=chunk, index=index,
            length=length, expires_s=expires_s,
        )  # fmt: skip

    def reserved(self) -> dict[int, int]:
        self.uploads.check_invariants()
        return {node: size for node in range(1, 9) if (size := self.uploads.reserved_bytes(node))}


def test_every_place_carries_a_write_grant_that_its_node_accepts() -> None:
    desk = Desk()
    allocated = desk.allocate()
    assert allocated.expires_s == WALL_NS // 10**9 + GRANT_S
    for plan, length in zip(allocated.chunks, [MIB, MIB, 5], strict=True):
        assert [place.index for place in plan.places] == [0, 1]
        assert len({place.node for place in plan.places}) == 2
        for place in plan.places:
            expected = desk.mac(
                WRITE, place.node, allocated.upload, plan.chunk, place.index, length, allocated.expires_s
            )
            assert place.mac == expected
    named = {address.node for address in allocated.nodes}
    assert named == {place.node for plan in allocated.chunks for place in plan.places}


def nodes_of(allocated: Any) -> list[tuple[int, ...]]:
    return [tuple(place.node for place in plan.places) for plan in allocated.chunks]


def test_small_files_that_are_begun_together_share_their_nodes() -> None:
    desk = Desk(nodes=8)
    groups = [[nodes_of(desk.allocate(lengths=[4096]))[0] for _ in range(GROUP_FILES)] for _ in range(20)]
    assert all(len(set(group)) == 1 for group in groups)
    assert len({group[0] for group in groups}) > 10


def test_files_that_are_large_or_begun_apart_are_spread_one_by_one() -> None:
    desk = Desk(nodes=8)
    large = [nodes_of(desk.allocate(lengths=[GROUP_BYTES + 1]))[0] for _ in range(30)]
    assert len(set(large)) > 10
    desk = Desk(nodes=8)
    desk.members = Members(10**12, 10**12)  # silence is of no account here
    for node in range(1, 9):
        desk.add(node, 100 * MIB)
    apart = [nodes_of(desk.allocate(lengths=[4096], now=(GROUP_NS + 1) * i))[0] for i in range(30)]
    assert len(set(apart)) > 10
    assert len(set(nodes_of(desk.allocate(lengths=[GROUP_BYTES] * 30)))) > 10


def test_ids_are_of_this_term_and_never_given_twice_even_after_a_failure() -> None:
    desk = Desk()
    seen: set[int] = set()
    for _ in range(3):
        allocated = desk.allocate()
        ids = {allocated.upload, *(plan.chunk for plan in allocated.chunks)}
        assert len(ids) == 4
        assert allocated.upload == min(ids)  # so that the horizon, kept below live uploads, is below their chunks
        assert not ids & seen
        seen |= ids
        with pytest.raises(TooFewNodes):
            desk.allocate("copies=5")
    assert all(id_floor(TERM) < number < id_floor(TERM + 1) for number in seen)


def test_a_renewed_node_key_makes_new_grants() -> None:
    desk = Desk()
    before = desk.granter.read(desk.row(1), 5, 0, 9, 1)
    after = desk.granter.read(msgspec.structs.replace(desk.row(1), generation=3), 5, 0, 9, 1)
    other_store = desk.granter.read(msgspec.structs.replace(desk.row(1), store_id=b"x" * 16), 5, 0, 9, 1)
    assert len({before, after, other_store}) == 3


def test_allocated_room_is_taken_until_it_is_staged() -> None:
    desk = Desk(nodes=2, free=3 * MIB)
    allocated = desk.allocate()
    assert desk.reserved() == {1: 2 * MIB + 5, 2: 2 * MIB + 5}
    with pytest.raises(NoSpace):
        desk.allocate()
    desk.uploads.staged(allocated.upload, [allocated.chunks[0].chunk, 12345], 1)
    assert desk.reserved() == {1: MIB + 5, 2: MIB + 5}
    desk.allocate(lengths=[MIB])


@pytest.mark.parametrize("ending", ["commit", "lease"])
def test_allocated_room_comes_back_when_the_upload_ends(ending: str) -> None:
    desk = Desk()
    allocated = desk.allocate()
    if ending == "commit":
        desk.uploads.end(allocated.upload)
    else:
        assert desk.uploads.expire(LEASE_NS - 1) == []
        assert desk.uploads.expire(LEASE_NS) == [allocated.upload]
    assert desk.reserved() == {}
    assert desk.uploads.statistics() == {"uploads": 0, "chunks": 0, "bytes": 0}


def test_a_request_that_does_not_fit_as_a_whole_changes_nothing() -> None:
    desk = Desk(nodes=2, free=3 * MIB)
    with pytest.raises(NoSpace):
        desk.allocate(lengths=[MIB] * 4)
    assert desk.reserved() == {}
    assert len(desk.uploads) == 0


def test_too_few_nodes_are_said_with_what_would_help() -> None:
    with pytest.raises(TooFewNodes, match="another node"):
        Desk(nodes=1).allocate()


def test_an_upload_goes_on_with_the_redundancy_that_it_began_with() -> None:
    desk = Desk()
    upload = desk.allocate("copies=3").upload
    again = desk.allocate("copies=1", upload=upload, redundancy="copies=1", now=5)
    assert again.upload == upload
    assert (again.redundancy, len(again.chunks[0].places)) == ("copies=3", 3)


def test_an_upload_of_an_earlier_term_is_adopted_with_the_redundancy_it_names() -> None:
    old = id_floor(TERM) - 5
    desk = Desk()
    with pytest.raises(Invalid, match="redundancy"):
        desk.allocate(upload=old)
    assert desk.allocate(upload=old, redundancy="copies=3").redundancy == "copies=3"
    assert desk.allocate(upload=old).redundancy == "copies=3"
    desk.uploads.adopt([old - 1], 0)
    assert desk.allocate(upload=old - 1, redundancy="copies=1").redundancy == "copies=1"


def test_an_upload_of_this_term_that_has_ended_is_refused() -> None:
    desk = Desk()
    upload = desk.allocate().upload
    desk.uploads.end(upload)
    with pytest.raises(Outdated, match="ended"):
        desk.allocate(upload=upload, redundancy="copies=2")
    with pytest.raises(Outdated, match="ended"):
        desk.reallocate(Reallocate(upload, [PlacedShard(id_floor(TERM) + 1, 0, 1)], [5], [[]]))


def test_an_upload_of_an_earlier_term_is_believed_only_until_the_horizon_has_passed_it() -> None:
    old = id_floor(TERM) - 5
    desk = Desk()
    span = LEASE_NS + GRANT_S * 10**9
    desk.allocator.advance_horizon(span - 1)
    assert desk.allocate(upload=old, redundancy="copies=2").upload == old
    assert desk.allocator.advance_horizon(span) == old
    desk.uploads.end(old)
    assert desk.allocator.advance_horizon(span + 1) == id_floor(TERM)
    with pytest.raises(Outdated, match="ended"):
        desk.allocate(upload=old, redundancy="copies=2")


def test_an_upload_of_an_earlier_term_whose_client_only_renews_its_lease_is_in_progress() -> None:
    old = id_floor(TERM) - 5
    desk = Desk()
    span = LEASE_NS + GRANT_S * 10**9
    assert desk.allocator.renew(old, 0)
    desk.allocator.advance_horizon(span - 1)
    assert desk.allocator.renew(old, span - 1)
    assert desk.allocator.advance_horizon(span) == old
    assert desk.allocate(upload=old, redundancy="copies=3").redundancy == "copies=3"


def test_renewing_what_has_ended_or_never_was_begins_nothing() -> None:
    desk = Desk()
    ended = desk.allocate().upload
    desk.uploads.end(ended)
    assert not any(desk.allocator.renew(upload, 0) for upload in (ended, 0, -1, 12345, id_floor(1) - 1, 1 << 63))
    assert len(desk.uploads) == 0


def test_uploads_of_earlier_terms_are_bounded_in_number_however_they_speak_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads_module, "MAX_UPLOADS", 3)
    desk = Desk()
    old = id_floor(TERM) - 9
    for upload in (old, old + 1, old + 2):
        desk.allocator.renew(upload, 0)
    with pytest.raises(Overloaded):
        desk.allocator.renew(old + 3, 0)
    with pytest.raises(Overloaded):
        desk.reallocate(Reallocate(old + 3, [PlacedShard(old, 0, 1)], [MIB], [[]]))
    assert len(desk.uploads) == 3


def test_a_moved_shard_goes_to_a_node_that_holds_no_other_shard_of_its_chunk() -> None:
    desk = Desk(nodes=4)
    allocated = desk.allocate(lengths=[MIB])
    (plan,) = allocated.chunks
    first, second = (place.node for place in plan.places)
    spare = ({1, 2, 3, 4} - {first, second}).pop()
    asked = Reallocate(allocated.upload, [PlacedShard(plan.chunk, 0, first)], [MIB], [[spare]])
    moved = desk.reallocate(asked)
    (place,) = moved.places
    assert place.node not in (first, second, spare)
    assert place.index == 0
    assert place.mac == desk.mac(WRITE, place.node, allocated.upload, plan.chunk, 0, MIB, moved.expires_s)
    assert [address.node for address in moved.nodes] == [place.node]
    assert desk.reserved() == {second: MIB, place.node: MIB}


def test_two_shards_of_a_chunk_moved_at_once_go_to_different_nodes() -> None:
    desk = Desk(nodes=4)
    allocated = desk.allocate(lengths=[MIB])
    (plan,) = allocated.chunks
    shards = [PlacedShard(plan.chunk, place.index, place.node) for place in plan.places]
    nodes = [place.node for place in desk.reallocate(Reallocate(allocated.upload, shards, [MIB] * 2, [[], []])).places]
    assert len({*nodes, *(shard.node for shard in shards)}) == 4


def test_shards_of_strangers_and_of_staged_chunks_cannot_be_moved() -> None:
    desk = Desk()
    mine, other = desk.allocate(), desk.allocate()
    stranger = other.chunks[0]
    staged = mine.chunks[0]
    desk.uploads.staged(mine.upload, [staged.chunk], 0)
    for chunk in (stranger.chunk, staged.chunk, id_floor(TERM) + 10**6):
        with pytest.raises(Invalid, match="was given"):
            desk.reallocate(Reallocate(mine.upload, [PlacedShard(chunk, 0, 1)], [MIB], [[]]))
    with pytest.raises(Invalid, match="was given"):
        desk.reallocate(Reallocate(mine.upload, [PlacedShard(mine.chunks[1].chunk, 0, 1)], [MIB + 1], [[]]))


def test_a_shard_of_an_earlier_term_can_be_moved() -> None:
    desk = Desk()
    old = id_floor(TERM) - 5
    moved = desk.reallocate(Reallocate(old, [PlacedShard(old + 1, 1, 2)], [MIB], [[1]]))
    assert moved.places[0].node in (3, 4)
    assert old in desk.uploads
    assert desk.reserved() == {}


HUGE = [-1, 2**63, 2**64 - 1]


@pytest.mark.parametrize(
    "changes",
    [
        *({"upload": number} for number in HUGE),
        *({"first": number} for number in HUGE),
        *({"anchor": number} for number in HUGE),
        *({"chunk_bytes": number} for number in (0, 5, *HUGE)),
        *({"lengths": lengths} for lengths in ([], [0], [-1], [MIB + 1], [1] * 257)),
        {"redundancy": "ec=4+2"},
        {"redundancy": "copies=0"},
        {"avoid": [1] * 1001},
    ],
)
def test_an_allocation_that_makes_no_sense_is_refused_and_changes_nothing(changes: dict[str, Any]) -> None:
    desk = Desk()
    with pytest.raises(Invalid):
        desk.allocate(**changes)
    assert desk.reserved() == {}


@pytest.mark.parametrize(
    "asked",
    [
        Reallocate(5, [], [], []),
        Reallocate(0, [PlacedShard(1, 0, 1)], [5], [[]]),
        *(Reallocate(number, [PlacedShard(1, 0, 1)], [5], [[]]) for number in HUGE),
        *(Reallocate(5, [PlacedShard(number, 0, 1)], [5], [[]]) for number in (0, *HUGE)),
        *(Reallocate(5, [PlacedShard(1, number, 1)], [5], [[]]) for number in (16, 256, *HUGE)),
        *(Reallocate(5, [PlacedShard(1, 0, 1)], [number], [[]]) for number in (0, *HUGE)),
        Reallocate(5, [PlacedShard(1, 0, 1)], [5, 5], [[]]),
        Reallocate(5, [PlacedShard(1, 0, 1)], [5], []),
        Reallocate(5, [PlacedShard(1, 0, 1)] * 5000, [5] * 5000, [[]] * 5000),
    ],
)
def test_a_move_that_makes_no_sense_is_refused(asked: Reallocate) -> None:
    with pytest.raises(Invalid):
        Desk().reallocate(asked)


def test_what_one_upload_and_all_of_them_hold_in_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads_module, "MAX_UPLOAD_CHUNKS", 5)
    monkeypatch.setattr(uploads_module, "MAX_CHUNKS", 10)
    monkeypatch.setattr(uploads_module, "MAX_UPLOADS", 3)
    desk = Desk()
    upload = desk.allocate().upload
    with pytest.raises(Overloaded, match="one upload"):
        desk.allocate(upload=upload)
    desk.allocate()
    desk.allocate()
    with pytest.raises(Overloaded, match="chunks"):
        desk.allocate()
    with pytest.raises(Overloaded, match="uploads"):
        desk.allocate(lengths=[5])
    desk.uploads.end(upload)
    desk.allocate()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_happens_to_uploads_the_reserved_room_adds_up(seed: int) -> None:
    draw = random.Random(seed)
    desk = Desk(nodes=5)
    live: dict[int, Any] = {}
    now = 0
    for _ in range(30):
        now += draw.randrange(100)
        for node in range(1, 6):
            desk.add(node, 100 * MIB)
        what = draw.choice(("allocate", "more", "stage", "end", "expire", "move"))
        chosen = draw.choice(sorted(live)) if live else 0
        with contextlib.suppress(DSAError):
            if what == "allocate" or not chosen:
                allocated = desk.allocate(now=0, lengths=[draw.randint(1, MIB) for _ in range(3)])
                live[allocated.upload] = allocated
            elif what == "more":
                live[chosen] = desk.allocate(upload=chosen)
            elif what == "stage":
                desk.uploads.staged(chosen, [plan.chunk for plan in live[chosen].chunks[:2]], now)
            elif what == "end":
                desk.uploads.end(chosen)
            elif what == "expire":
                desk.uploads.expire(now)
            else:
                plan = live[chosen].chunks[-1]
                state = desk.uploads.get(chosen)
                size = state.chunks[plan.chunk].shard_bytes if state and plan.chunk in state.chunks else 1
                desk.reallocate(Reallocate(chosen, [PlacedShard(plan.chunk, 1, plan.places[1].node)], [size], [[]]))
        desk.uploads.check_invariants()
    for upload in list(live):
        desk.uploads.end(upload)
    assert desk.reserved() == {}


def test_a_located_chunk_names_the_likeliest_nodes_first_with_read_grants_and_leaves_removed_nodes_out() -> None:
    desk = Desk(nodes=0)
    desk.members = Members(30, 100)
    for node, heard in ((1, 0), (2, 60), (3, 99)):
        desk.add(node, MIB)
        row = desk.row(node)
        desk.members._liveness.introduce(node, row.incarnation, heard)
    rows = LocatedRows(
        Attributes("file", 9, redundancy="copies=3"),
        0,
        1,
        [(77, MIB, b"h" * 32, [(1, 0), (2, 1), (3, 2), (8, 3)]), (78, 5, b"i" * 32, [(8, 0)])],
    )
    located = complete_located(rows, desk.members, desk.granter, 100, WALL_NS)
    assert [place.node for place in located.chunks[0].places] == [3, 2, 1]
    assert [place.index for place in located.chunks[0].places] == [2, 1, 0]
    for place in located.chunks[0].places:
        assert place.mac == desk.mac(READ, place.node, 0, 77, place.index, MIB, located.expires_s)
    assert located.chunks[1].places == []
    assert [address.node for address in located.nodes] == [1, 2, 3]


def test_a_confirmation_carries_write_grants_for_the_upload() -> None:
    desk = Desk()
    staged = [StagedChunk(77, 1000, b"h" * 32, [Receipt(1, 0, 1, b"m" * 16)])]
    asked = Confirm([PlacedShard(77, 0, 1), PlacedShard(77, 1, 8)], [], [], 0)
    confirm = complete_confirm(asked, 55, "copies=2", staged, desk.members, desk.granter, WALL_NS)
    assert confirm.shards == [PlacedShard(77, 0, 1)]
    assert confirm.grants == [desk.mac(WRITE, 1, 55, 77, 0, 1000, confirm.expires_s)]
    assert [address.node for address in confirm.nodes] == [1]


def test_a_small_file_does_not_follow_its_group_onto_a_full_node() -> None:
    desk = Desk(nodes=8, free=10_000)
    nodes = [set(nodes_of(desk.allocate(lengths=[4096]))[0]) for _ in range(8)]
    assert nodes[0] == nodes[1]
    assert not nodes[0] & nodes[2]
    assert max(desk.reserved().values()) <= 10_000
    with pytest.raises(NoSpace):
        desk.allocate(lengths=[4096])


def test_a_group_goes_on_without_a_node_that_fell_silent_or_is_to_be_avoided() -> None:
    desk = Desk(nodes=8)
    before = nodes_of(desk.allocate(lengths=[4096]))[0]
    avoiding = nodes_of(desk.allocate(lengths=[4096], avoid=list(before)))[0]
    assert not set(before) & set(avoiding)
    for state in desk.members:
        if state.row.node not in before:
            message = Heartbeat(state.row.node, 1, TERM, 0, 100 * MIB, 0, 0)
            desk.members.heartbeat(message, 20)
    assert not set(before) & set(nodes_of(desk.allocate(lengths=[4096], now=30))[0])


# --- slots --------------------------------------------------------------------------------------------------------


def slots(desk: Desk, count: int = 16, slot_bytes: int = 4096, now: int = 0, **changes: Any) -> Any:
    asked = AllocateSlots(count, slot_bytes, "copies=2", **changes)
    return desk.allocator.allocate_slots(asked, desk.members.up(now), now, WALL_NS)


def test_slots_are_uploads_of_one_chunk_with_grants_for_up_to_their_size() -> None:
    desk = Desk()
    given = slots(desk, 40)
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
    assert not {slot.upload for slot in slots(desk).slots} & set(ids)


def test_slots_in_a_row_share_their_nodes_and_runs_are_spread_evenly() -> None:
    desk = Desk(free=10_000 * MIB)
    rows = [[place.node for place in slot.places] for _ in range(40) for slot in slots(desk, 128).slots]
    runs = [rows[at : at + GROUP_FILES] for at in range(0, len(rows), GROUP_FILES)]
    assert all(len(set(map(tuple, run))) == 1 for run in runs)
    loads = [sum(node in run[0] for run in runs) for node in range(1, 5)]
    assert max(loads) < 1.4 * min(loads)


def test_chained_slots_turn_with_each_file_as_single_allocations_do() -> None:
    desk = Desk()
    desk.allocator = Allocator("chained", TERM, desk.granter, desk.uploads, LEASE_NS)
    members = [placement.Member(node, f"n{node}", 1, 1, "", f"h{node}") for node in range(1, 5)]
    for slot in slots(desk, 60).slots:
        first, second = (place.node for place in slot.places)
        expected = placement.place(
            "chained", chunk=1, position=0, anchor=slot.chunk, members=members, count=2, shard_bytes=1
        )
        assert [first, second] == expected


def test_a_slot_that_is_returned_leaves_nothing_and_nothing_else_can_be_returned() -> None:
    desk = Desk()
    mine, staged = slots(desk, 2).slots
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
    desk = Desk()
    desk.uploads = Uploads(lease_ns)
    desk.allocator = Allocator("rendezvous", TERM, desk.granter, desk.uploads, lease_ns)
    given = slots(desk, 3)
    assert given.use_within_ms == 60_000
    assert desk.uploads.expire(lease_ns - 1) == []
    assert desk.uploads.expire(lease_ns) == [slot.upload for slot in given.slots]
    assert desk.reserved() == {}


def test_no_slot_is_given_on_a_node_that_has_little_room_left() -> None:
    desk = Desk(nodes=2)
    desk.add(3, 15 * MIB)
    assert {place.node for slot in slots(desk, 128).slots for place in slot.places} == {1, 2}
    with pytest.raises(NoSpace):
        slots(Desk(free=15 * MIB))
    with pytest.raises(TooFewNodes):
        slots(Desk(nodes=1))


def test_slots_leave_half_of_the_table_to_who_needs_an_upload_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads_module, "MAX_UPLOADS", 100)
    desk = Desk()
    given = [len(slots(desk, 16).slots) for _ in range(5)]
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
    given = slots(desk, 1)
    (slot,) = given.slots
    shard = PlacedShard(slot.chunk, 1, slot.places[1].node)
    (place,) = desk.reallocate(Reallocate(slot.upload, [shard], [1000], [[]])).places
    assert place.node not in {old.node for old in slot.places}
    assert place.mac == desk.mac(WRITE, place.node, slot.upload, slot.chunk, 1, 1000, given.expires_s)
    with pytest.raises(Invalid, match="was given"):
        desk.reallocate(Reallocate(slot.upload, [shard], [4097], [[]]))


def test_unused_slots_do_not_hold_the_horizon_back_and_used_ones_do() -> None:
    lease_ns, span_ns = 600 * 10**9, (600 + GRANT_S) * 10**9
    desk = Desk()
    desk.uploads = Uploads(lease_ns)
    desk.allocator = Allocator("rendezvous", TERM, desk.granter, desk.uploads, lease_ns)
    unused, used = slots(desk, 2).slots
    reached = 0
    for now in range(0, 3 * span_ns, 60 * 10**9):
        desk.allocator.renew(used.upload, now)
        desk.uploads.expire(now)
        reached = desk.allocator.advance_horizon(now)
        assert (unused.upload in desk.uploads) == (now < lease_ns)
        if unused.upload in desk.uploads:
            assert reached <= unused.upload
    assert unused.chunk < reached <= used.upload
