"""Places for fewer shards than the redundancy has: for whoever says that they will do, and never too few."""

from __future__ import annotations

import pytest
from msgspec import structs

from dsa_zmq.errors import NoSpace, TooFewNodes
from dsa_zmq.master.desk import short_chunks
from dsa_zmq.model.redundancy import fewest, parse_redundancy
from dsa_zmq.protocol.operations import Allocate, Allocated, Commit, Confirm, Found, Stage, Staged
from dsa_zmq.protocol.values import Attributes, Receipt, StagedChunk
from tests.unit.master.conftest import MIB, WALL_NS, Desk, nodes_of


def degraded(desk: Desk, redundancy: str, **changes: object) -> Allocated:
    asked = structs.replace(Allocate(0, "/f", MIB, 0, [MIB, MIB, 5], degraded=True), **changes)
    return desk.allocator.allocate(asked, redundancy, desk.members.up(0), 0, WALL_NS, degraded=True)


@pytest.mark.parametrize(
    ("redundancy", "nodes", "given"),
    [("ec=4+2", 5, 5), ("ec=4+2", 6, 6), ("ec=4+2", 9, 6), ("ec=2+4", 3, 3), ("copies=3", 2, 2), ("copies=4", 3, 3)],
)
def test_there_are_as_many_places_as_nodes_and_the_first_shards_have_them(
    redundancy: str, nodes: int, given: int
) -> None:
    desk = Desk(nodes=nodes)
    for plan in degraded(desk, redundancy).chunks:
        assert [place.index for place in plan.places] == list(range(given))
        assert len({place.node for place in plan.places}) == given


@pytest.mark.parametrize(
    ("redundancy", "nodes", "message", "remedy"),
    [
        ("ec=4+2", 4, "ec=4+2 needs 5 nodes at least, 4 are up", "start another node, or use ec=2+1 or copies=2"),
        ("ec=2+1", 2, "ec=2+1 needs 3 nodes, 2 are up", "start another node, or use copies=2"),
        ("copies=3", 1, "copies=3 needs 2 nodes at least, 1 is up", "start another node or use copies=1"),
        ("copies=2", 1, "copies=2 needs 2 nodes, 1 is up", "start another node or use copies=1"),
        ("copies=1", 0, "copies=1 needs 1 node, 0 are up", "start another node"),
    ],
)
def test_with_fewer_than_will_do_it_is_refused_with_what_would(
    redundancy: str, nodes: int, message: str, remedy: str
) -> None:
    with pytest.raises(TooFewNodes) as raised:
        degraded(Desk(nodes=nodes), redundancy)
    assert (raised.value.message, raised.value.remedy) == (message, remedy)


def test_a_plain_refusal_says_that_fewer_would_do_exactly_where_they_would() -> None:
    for name in ("copies=2", "copies=3", "copies=5", "ec=2+1", "ec=2+2", "ec=4+2", "ec=3+4"):
        redundancy = parse_redundancy(name)
        for nodes in range(redundancy.shards):
            with pytest.raises(TooFewNodes) as raised:
                Desk(nodes=nodes).allocate(name)
            would = nodes >= fewest(redundancy, True)
            assert ("--degraded" in raised.value.remedy) == would
            if would:
                assert f"with {nodes} of its {redundancy.shards} shards for now" in raised.value.remedy
                assert len(degraded(Desk(nodes=nodes), name).chunks[0].places) == nodes


def test_small_files_follow_the_rule_of_the_copies_that_they_are_kept_as() -> None:
    given = degraded(Desk(nodes=2), "ec=4+2", lengths=[1000])
    assert (given.redundancy, len(given.chunks[0].places)) == ("copies=3", 2)
    with pytest.raises(TooFewNodes, match="copies=3 needs 2 nodes at least, 1 is up"):
        degraded(Desk(nodes=1), "ec=4+2", lengths=[1000])


def test_small_files_that_say_so_do_not_share_their_few_nodes_with_those_that_do_not() -> None:
    desk = Desk(nodes=2)
    first, second = (degraded(desk, "copies=3", lengths=[4096]) for _ in range(2))
    assert nodes_of(first) == nodes_of(second)
    with pytest.raises(TooFewNodes):
        desk.allocate("copies=3", lengths=[4096])


def test_full_nodes_are_no_reason_and_are_passed_over_where_nodes_are_missing() -> None:
    desk = Desk(nodes=5)
    desk.add(6, 1000)
    with pytest.raises(NoSpace, match="5 of 6 have that") as raised:
        degraded(desk, "ec=4+2")
    assert not isinstance(raised.value, TooFewNodes)
    desk = Desk(nodes=4)
    desk.add(5, 1000)
    assert [len(plan.places) for plan in degraded(desk, "ec=2+4", lengths=[MIB, MIB]).chunks] == [4, 4]
    with pytest.raises(NoSpace, match=r"5 nodes with 262\.1 kB free are needed for a chunk, 4 of 5 have that"):
        degraded(desk, "ec=4+2")


def test_only_what_was_taken_with_fewer_shards_is_looked_at_for_that() -> None:
    chunks = [
        StagedChunk(id_, 5, b"", [Receipt(node, node, 1, b"") for node in range(n)]) for id_, n in ((7, 3), (8, 2))
    ]
    stage = Stage(1, 0, MIB, "copies=3", chunks, True)
    commit = Commit(1, "/f", 10, MIB, 2, "copies=3", chunks, 0, degraded=True)
    assert short_chunks(stage, Staged(1, 0)) == short_chunks(commit, Found(Attributes("file", 1))) == [8]
    assert short_chunks(structs.replace(commit, degraded=False), Found(Attributes("file", 1))) == []
    assert short_chunks(commit, Confirm([], [], [], 0)) == []
