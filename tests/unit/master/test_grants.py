"""Grants that nodes will accept: one for each place, by the node's present key."""

from __future__ import annotations

import msgspec

from dsa_zmq.master.catalog.jobs import LocatedRows
from dsa_zmq.master.grants import complete_confirm, complete_located
from dsa_zmq.model.limits import GRANT_S
from dsa_zmq.model.macs import READ, WRITE
from dsa_zmq.protocol.operations import Confirm
from dsa_zmq.protocol.values import Attributes, PlacedShard, Receipt, StagedChunk
from tests.unit.master.conftest import MIB, WALL_NS, Desk


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


def test_a_renewed_node_key_makes_new_grants() -> None:
    desk = Desk()
    before = desk.granter.read(desk.row(1), 5, 0, 9, 1)
    after = desk.granter.read(msgspec.structs.replace(desk.row(1), generation=3), 5, 0, 9, 1)
    other_store = desk.granter.read(msgspec.structs.replace(desk.row(1), store_id=b"x" * 16), 5, 0, 9, 1)
    assert len({before, after, other_store}) == 3


def test_a_located_chunk_names_the_likeliest_nodes_first_with_read_grants_and_leaves_removed_nodes_out() -> None:
    desk = Desk(nodes=0)
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


def test_a_confirmation_carries_write_grants_for_the_upload_which_for_removed_nodes_are_worth_nothing() -> None:
    desk = Desk()
    staged = [StagedChunk(77, 1000, b"h" * 32, [Receipt(1, 0, 1, b"m" * 16)])]
    asked = Confirm([PlacedShard(77, 0, 1), PlacedShard(77, 1, 8)], [], [], 0)
    confirm = complete_confirm(asked, 55, "copies=2", staged, desk.members, desk.granter, WALL_NS)
    assert confirm.shards == asked.shards
    assert confirm.grants == [desk.mac(WRITE, 1, 55, 77, 0, 1000, confirm.expires_s), bytes(16)]
    assert [address.node for address in confirm.nodes] == [1]
