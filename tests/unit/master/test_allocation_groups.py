"""Small files that are begun together share their nodes; all others are spread."""

from __future__ import annotations

import pytest

from dsa_zmq.errors import NoSpace
from dsa_zmq.master.allocation import GROUP_BYTES, GROUP_FILES, GROUP_NS
from dsa_zmq.master.members import Members
from dsa_zmq.protocol.messages import Heartbeat
from tests.unit.master.conftest import MIB, TERM, Desk, nodes_of


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
