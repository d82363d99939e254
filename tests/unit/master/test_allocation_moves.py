"""A shard that is put elsewhere goes to a node that has no other of its chunk, and only if it was given."""

from __future__ import annotations

import pytest

from dsa_zmq.errors import Invalid, TooFewNodes
from dsa_zmq.model.ids import id_floor
from dsa_zmq.model.macs import WRITE
from dsa_zmq.protocol.operations import Reallocate
from dsa_zmq.protocol.values import PlacedShard
from tests.unit.master.conftest import HUGE, LEASE_NS, MIB, TERM, Desk


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


def test_an_upload_that_asks_for_another_node_keeps_its_lease_also_when_there_is_none() -> None:
    desk = Desk(nodes=2)
    allocated = desk.allocate(lengths=[MIB])
    (plan,) = allocated.chunks
    asked = Reallocate(allocated.upload, [PlacedShard(plan.chunk, 0, plan.places[0].node)], [MIB], [[]])
    with pytest.raises(TooFewNodes):
        desk.reallocate(asked, now=LEASE_NS // 2)
    assert desk.uploads.expire(LEASE_NS) == []
    assert desk.reserved() == {1: MIB, 2: MIB}
    assert desk.uploads.expire(LEASE_NS // 2 + LEASE_NS) == [allocated.upload]


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
