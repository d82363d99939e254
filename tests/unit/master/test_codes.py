"""Codes at the master: where their shards go, who is asked to make one, what is said where the cluster is too small."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs

from dsa_zmq.errors import Invalid, TooFewNodes
from dsa_zmq.master.catalog.jobs import LocatedRows, Totals
from dsa_zmq.master.catalog.move_rules import PlannedMove
from dsa_zmq.master.grants import complete_located
from dsa_zmq.master.health import complete_capacity, notes
from dsa_zmq.master.moves import Moves
from dsa_zmq.master.plans import Cluster, Held, PlannedNode, Walked, plan_convert, plan_drain, shares
from dsa_zmq.master.uploads import Uploads
from dsa_zmq.model.hashes import shard_hash
from dsa_zmq.model.pace import HealingPace
from dsa_zmq.model.redundancy import lesser, parse_redundancy
from dsa_zmq.model.upkeep import Placed, Standing, Why
from dsa_zmq.protocol.messages import Heartbeat
from dsa_zmq.protocol.operations import AllocateSlots, Reallocate
from dsa_zmq.protocol.values import Attributes, PlacedShard
from tests.unit.master.conftest import MIB, WALL_NS, Desk, node_row, registered

CODE = "ec=4+2"
HASHES = b"".join(bytes([number]) * 32 for number in range(7))  #: of a chunk and its six shards
GB = 10**9


# --- allocation -------------------------------------------------------------------------------------------------------


def test_each_shard_of_a_chunk_gets_a_node_and_its_own_share_of_the_bytes() -> None:
    desk = Desk(nodes=8)
    allocated = desk.allocate(CODE, lengths=[MIB, 100_001])
    assert allocated.redundancy == CODE
    assert [[place.index for place in plan.places] for plan in allocated.chunks] == [[0, 1, 2, 3, 4, 5]] * 2
    assert all(len({place.node for place in plan.places}) == 6 for plan in allocated.chunks)
    assert sum(desk.reserved().values()) == 6 * (MIB // 4 + 25_008)


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ({"lengths": [1000]}, "copies=3"),
        ({"lengths": [64 << 10]}, "copies=3"),
        ({"lengths": [(64 << 10) + 1]}, CODE),
        ({"lengths": [4096], "chunk_bytes": 4096}, CODE),
        ({"lengths": [1000], "first": 3}, CODE),
        ({"lengths": [MIB, 1000]}, CODE),
    ],
)
def test_a_file_of_one_short_chunk_is_kept_as_copies_and_the_answer_says_so(asked: dict, given: str) -> None:
    desk = Desk(nodes=8)
    allocated = desk.allocate(CODE, **asked)
    assert allocated.redundancy == given
    assert len(allocated.chunks[0].places) == parse_redundancy(given).shards
    assert desk.uploads.get(allocated.upload).redundancy == given


def test_small_files_survive_as_many_losses_as_the_code_that_is_wanted() -> None:
    desk = Desk(nodes=8)
    for wanted in ("ec=2+1", "ec=3+4", "copies=4", "copies=1"):
        kept = parse_redundancy(desk.allocate(wanted, lengths=[1000]).redundancy)
        assert kept.alike
        assert kept.tolerates == parse_redundancy(wanted).tolerates


def test_the_short_end_of_a_longer_file_is_cut_as_the_rest_of_it() -> None:
    desk = Desk(nodes=8)
    begun = desk.allocate(CODE, lengths=[MIB])
    more = desk.allocate(CODE, upload=begun.upload, first=1, lengths=[10])
    assert (more.redundancy, len(more.chunks[0].places)) == (CODE, 6)


def test_slots_where_a_code_is_asked_for_are_of_the_copies_that_small_files_are_kept_as() -> None:
    desk = Desk(nodes=8)
    given = desk.allocator.allocate_slots(AllocateSlots(3, 4096, CODE), desk.members.up(0), 0, WALL_NS)
    assert given.redundancy == "copies=3"
    assert [len(slot.places) for slot in given.slots] == [3, 3, 3]
    assert desk.slots(1).redundancy == "copies=2"


@pytest.mark.parametrize(
    ("nodes", "message", "remedy"),
    [
        (4, "ec=4+2 needs 6 nodes, 4 are up", "start 2 more nodes, or use ec=2+1 or copies=2"),
        (
            5,
            "ec=4+2 needs 6 nodes, 5 are up",
            "start another node, or use ec=2+1 or copies=2, or store it with 5 of its 6 shards for now: --degraded "
            "(degraded=True)",
        ),
        (2, "ec=4+2 needs 6 nodes, 2 are up", "start 4 more nodes, or use copies=2"),
        (1, "ec=4+2 needs 6 nodes, 1 is up", "start 5 more nodes, or use copies=1"),
        (0, "ec=4+2 needs 6 nodes, 0 are up", "start 6 more nodes"),
    ],
)
def test_too_few_nodes_for_a_code_are_said_with_what_would_do(nodes: int, message: str, remedy: str) -> None:
    with pytest.raises(TooFewNodes) as raised:
        Desk(nodes=nodes).allocate(CODE)
    assert (raised.value.message, raised.value.remedy) == (message, remedy)


def test_what_is_proposed_instead_would_do_and_is_no_more_than_was_wanted() -> None:
    for data in range(2, 13):
        for parity in range(1, 5):
            wanted = parse_redundancy(f"ec={data}+{parity}")
            for nodes in range(1, wanted.shards):
                for name in lesser(wanted, nodes).split(" or "):
                    other = parse_redundancy(name)
                    assert other.shards <= nodes
                    assert other.tolerates <= wanted.tolerates


def test_a_shard_of_a_code_gets_another_node_with_a_grant_for_its_own_bytes() -> None:
    desk = Desk(nodes=8)
    allocated = desk.allocate(CODE, lengths=[MIB])
    (plan,) = allocated.chunks
    failed = plan.places[5]
    held = [place.node for place in plan.places[:5]]
    asked = Reallocate(allocated.upload, [PlacedShard(plan.chunk, 5, failed.node)], [MIB // 4], [held])
    again = desk.reallocate(asked)
    assert again.places[0].node not in {*held, failed.node}
    with pytest.raises(Invalid):
        desk.reallocate(structs.replace(asked, lengths=[MIB]))
    with pytest.raises(Invalid):
        desk.reallocate(structs.replace(asked, shards=[PlacedShard(plan.chunk, 16, failed.node)]))


def test_shards_that_live_are_named_first_and_those_with_the_chunks_own_bytes_among_them() -> None:
    members = registered(*(node_row(node) for node in range(1, 8)))
    for node in range(2, 8):
        members.heartbeat(Heartbeat(node, node_row(node).incarnation, 1, 0, 0, 0, 0), 90)
    places = [(7, 0), (6, 1), (1, 2), (5, 3), (4, 4), (3, 5)]
    attributes = Attributes("file", 1, MIB, 0, 0, 1, 1, MIB, 1, CODE)
    located = complete_located(
        LocatedRows(attributes, 0, 1, [(99, MIB, HASHES, places)]), members, Desk().granter, 100, WALL_NS
    )
    (chunk,) = located.chunks
    assert chunk.hash == HASHES
    assert [(place.index, place.node) for place in chunk.places] == [(0, 7), (1, 6), (3, 5), (4, 4), (5, 3), (2, 1)]


# --- who is asked -----------------------------------------------------------------------------------------------------

PACE = HealingPace(move_shards=8, move_bytes=100_000, node_bytes_s=100_000, move_batches=1)
UP = dict.fromkeys(range(1, 12), Standing.KEEPS)


def move(number: int, *places: tuple[int, int], shard: int = 0, node: int = 9, **fields: object) -> PlannedMove:
    values: dict[str, object] = {
        "chunk": 1000 + number, "node": node, "shard": shard, "move": number, "why": int(Why.REPAIR),
        "source": 1000 + number, "task": 0, "remaining": 1, "chunk_length": 4000, "shard_bytes": 1008,
        "hash": shard_hash(HASHES, shard),
        "redundancy": CODE, "sources": [Placed(*each) for each in places], "source_redundancy": CODE,
        "source_hashes": HASHES, **fields,
    }  # fmt: skip
    return PlannedMove(**values)  # type: ignore[arg-type]


def batches(*plans: PlannedMove, standings: dict[int, Standing] = UP, pace: HealingPace = PACE):
    moves = Moves(pace, lambda node, size: None)
    moves.add(plans)
    found = list(moves.batches(standings, 0))
    moves.check_invariants()
    return moves, found


def test_as_many_sources_as_the_code_needs_are_asked_and_their_bytes_are_counted() -> None:
    plan = move(1, (1, 1), (2, 2), (3, 3), (4, 4), (5, 5))
    _, (batch,) = batches(plan)
    assert [place.index for place in batch.asked[1]] == [1, 2, 3, 4, 5]
    assert (batch.sources, batch.bytes) == ({1, 2, 3, 4}, 4 * 1008)
    assert batches(move(1, (1, 1), (2, 2), (3, 3)))[1] == [], "three shards are too few"
    assert batches(move(1, (1, 1), (2, 2), (3, 3), (4, 3)))[1] == [], "of different indexes"
    away = UP | {1: Standing.AWAY}
    _, (batch,) = batches(plan, standings=away)
    assert batch.sources == {2, 3, 4, 5}


def test_whoever_has_the_very_shard_is_asked_alone_and_waited_for() -> None:
    plan = move(1, (8, 0), (1, 1), (2, 2), (3, 3), (4, 4))
    _, (batch,) = batches(plan)
    assert (batch.sources, batch.bytes) == ({8}, 1008)
    assert [place.node for place in batch.asked[1]] == [8, 1, 2, 3, 4], "the others could make it, should it fail"
    moves, (first,) = batches(move(2, (8, 0), (1, 1), (2, 2), (3, 3), node=10, why=int(Why.BAD)), plan)
    assert set(first.moves) == {2}
    moves.end(first)
    assert [set(batch.moves) for batch in moves.batches(UP, 0)] == [{1}]


def test_a_busy_source_is_passed_over_for_one_that_is_free() -> None:
    first = move(1, (1, 1), (2, 2), (3, 3), (4, 4), why=int(Why.BAD))
    second = move(2, (1, 1), (5, 2), (6, 3), (7, 4), (8, 5), node=10)
    _, found = batches(first, second)
    assert [batch.sources for batch in found] == [{1, 2, 3, 4}, {5, 6, 7, 8}]


def test_what_a_batch_reads_is_bounded() -> None:
    plans = [move(number, (1, 1), (2, 2), (3, 3), (4, 4)) for number in range(1, 7)]
    _, found = batches(*plans, pace=replace(PACE, move_bytes=3 * 4 * 1008))
    assert [len(batch.moves) for batch in found] == [3]


def test_a_code_is_made_from_any_whole_copy() -> None:
    plan = move(
        1, (1, 0), (2, 1), source=50, hash=b"", source_redundancy="copies=2", source_hashes=b"w" * 32, shard=5, node=2
    )
    _, (batch,) = batches(plan)
    assert batch.asked[1] == [Placed(2, 1), Placed(1, 0)], "the target's own first"
    assert (batch.sources, batch.bytes) == (set(), 4000)


def test_of_a_move_that_nobody_has_enough_for_the_catalog_is_asked_again() -> None:
    moves = Moves(replace(PACE, retry_max_s=1.0), lambda node, size: None)
    enough = ((1, 1), (2, 2), (3, 3), (4, 4))
    moves.add([move(1), move(3, *enough[:3]), move(2, *enough)])
    assert not list(moves.batches(UP | {4: Standing.AWAY}, 0))
    blind, moves.blind = [pending.plan for pending in moves.blind], []
    assert {plan.move: bool(plan.takes(plan.sources)) for plan in blind} == {1: False, 3: False, 2: True}
    (batch,) = moves.batches(UP, 1_000_000_000)
    assert set(batch.moves) == {2}, "who was away has come back"


# --- what is said -----------------------------------------------------------------------------------------------------


def table_of(zones: str = "", hosts: str = "", nodes: int = 6):
    rows = [
        node_row(node, zone=zones[node - 1 : node], host=hosts[node - 1 : node] or f"h{node}")
        for node in range(1, nodes + 1)
    ]
    return registered(*rows)


@pytest.mark.parametrize(
    ("zones", "said"),
    [
        ("aabbcc", []),
        (
            "aaabbb",
            ["2 zones with nodes that are up and stay, ec=4+2 would use 3: a zone's end would take more than 2 shards"],
        ),
        (
            "aaaabc",
            ["3 zones with nodes that are up and stay, ec=4+2 would use 3: a zone's end would take more than 2 shards"],
        ),
        ("", []),
    ],
)
def test_zones_that_would_get_more_shards_of_a_code_than_may_be_lost_are_said(zones: str, said: list[str]) -> None:
    for found in (notes(table_of(zones), 0, CODE), notes(table_of(zones), 0, "copies=1", {CODE, "copies=1"})):
        assert len(found) == len(said)
        assert all(each.startswith(start) for each, start in zip(found, said, strict=True))


def test_hosts_that_would_get_more_shards_than_may_be_lost_are_said() -> None:
    (said,) = notes(table_of(hosts="aaabbc"), 0, CODE)
    assert said.startswith(
        "a host's end would take more than 2 shards of a chunk with ec=4+2, and be final; start nodes on"
    )
    assert notes(table_of(hosts="aabbcc"), 0, CODE) == []
    assert notes(table_of(hosts="aaabbb"), 0, "copies=2", {"copies=3"}) == []


def test_what_still_fits_is_counted_in_content() -> None:
    table = registered(*(node_row(node) for node in range(1, 7)))
    room = complete_capacity(Totals(CODE, 0, 0), table, Uploads(10), 0)
    assert room.storable == 4 * 900
    assert complete_capacity(Totals("copies=2", 0, 0), table, Uploads(10), 0).storable == 3 * 900


def planned_nodes(zones: str, held: int = 0) -> list[PlannedNode]:
    return [
        PlannedNode(number, f"n{number}", Standing.KEEPS, zone, f"h{number}", 100 * GB, 50 * GB, held // 1000, held)
        for number, zone in enumerate(zones, 1)
    ]


def test_a_drain_says_that_a_zone_will_have_more_shards_than_may_be_lost() -> None:
    held = [Held(CODE, "1;2;3;4;5;6", 10, GB)]
    crowded = Cluster(planned_nodes("aabbbccc"), held, "copies=2", 1)
    assert not any("risk" in line for line in plan_drain(crowded, crowded.nodes[7]).lines)
    assert any(
        line.startswith("risk: afterwards more than 2 shards share a zone")
        for line in plan_drain(crowded, crowded.nodes[0]).lines
    )


def test_a_node_is_to_hold_no_more_than_one_shard_of_everything() -> None:
    held = [Held(CODE, "1;2;3;4;5;6", 10, 4 * GB)]
    wanted = shares(Cluster(planned_nodes("ssssss", GB), held, CODE, 1))
    assert wanted == dict.fromkeys(range(1, 7), 1.0 * GB)


def test_a_conversion_to_a_code_gives_space_back_and_is_refused_on_too_few_nodes() -> None:
    walked = Walked()
    walked.add(4 * GB, 4000, "copies=2", CODE)
    assert (walked.shards, walked.growth) == (24_000, -2 * GB)
    plan = plan_convert(Cluster(planned_nodes("ssssss"), [], "copies=2", 1), "/", "", walked)
    assert plan.refusal is None
    assert "all nodes together give back 2.0 GB afterwards" in plan.lines
    why = plan_convert(Cluster(planned_nodes("ssss"), [], "copies=2", 1), "/", "", walked).refusal
    assert why is not None
    assert (why.message, why.remedy) == ("ec=4+2 needs 6 nodes, 4 are up", "add 2 nodes, or use ec=2+1 or copies=2")
