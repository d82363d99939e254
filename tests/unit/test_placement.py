"""Placement: different nodes, different domains, fair shares, and few moves."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dsa_zmq.errors import Invalid, NoSpace, TooFewNodes
from dsa_zmq.model.domains import fit
from dsa_zmq.model.ids import id_floor
from dsa_zmq.model.placement import DEFAULT_POLICY, POLICIES, Member, place
from dsa_zmq.model.redundancy import Redundancy, parse_redundancy

TB = 10**12
CHUNK = 1 << 20
FIRST_ID = id_floor(3) + 1


def member(node: int, *, zone: str = "", host: str | None = None, capacity: int = TB, free: int = TB) -> Member:
    return Member(node, f"node-{node:02}", capacity, free, zone, f"host-{node}" if host is None else host)


def chosen(
    members: Sequence[Member], count: int = 2, *, policy: str = DEFAULT_POLICY, chunk: int = FIRST_ID, position: int = 0,
    anchor: int = FIRST_ID, avoid: frozenset[int] = frozenset(), held: frozenset[int] = frozenset(),
    redundancy: Redundancy | None = None,
) -> list[int]:  # fmt: skip
    return place(
        policy, chunk=chunk, position=position, anchor=anchor, members=members, count=count, shard_bytes=CHUNK,
        avoid=avoid, held=held, redundancy=redundancy,
    )  # fmt: skip


@st.composite
def clusters(draw: st.DrawFn) -> list[Member]:
    """Some zones with some hosts each, with some nodes each."""
    zones = draw(st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=3), min_size=1, max_size=3))
    numbers = itertools.count(1)
    members = [
        member(next(numbers), zone=f"z{z}", host=f"z{z}h{h}", capacity=draw(st.integers(1, 9)) * TB)
        for z, hosts in enumerate(zones)
        for h, nodes in enumerate(hosts)
        for _ in range(nodes)
    ]
    return draw(st.permutations(members))


CHUNKS = st.integers(0, (1 << 63) - 1)
POLICY = st.sampled_from(sorted(POLICIES))


# --- what holds for every policy ------------------------------------------------------------------------------------


@given(clusters(), POLICY, CHUNKS, st.integers(0, 10**9), CHUNKS, st.data())
def test_shards_lie_on_different_usable_nodes(
    members: list[Member], policy: str, chunk: int, position: int, anchor: int, data: st.DataObject
) -> None:
    nodes = [one.node for one in members]
    full = data.draw(st.sets(st.sampled_from(nodes), max_size=3))
    held = data.draw(st.frozensets(st.sampled_from(nodes), max_size=3))
    avoid = data.draw(st.frozensets(st.sampled_from(nodes)))
    members = [replace(one, free=CHUNK - 1) if one.node in full else one for one in members]
    usable = set(nodes) - full - held
    count = data.draw(st.integers(1, max(1, len(usable))) | st.integers(1, len(nodes)))

    def attempt() -> list[int]:
        return chosen(
            members, count, policy=policy, chunk=chunk, position=position, anchor=anchor, avoid=avoid, held=held
        )

    if len(usable) < count:
        with pytest.raises(NoSpace) as refused:
            attempt()
        assert isinstance(refused.value, TooFewNodes) == (len(set(nodes) - held) < count)
        return
    result = attempt()
    assert len(set(result)) == len(result) == count
    assert set(result) <= usable
    assert len(set(result) & avoid) == max(0, count - len(usable - avoid)), "avoided nodes only if nothing else is left"


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_an_avoided_node_is_chosen_only_if_there_is_no_other_way(policy: str) -> None:
    members = [member(1, zone="a"), member(2, zone="b"), member(3, zone="b"), member(4, zone="b")]
    for chunk in range(FIRST_ID, FIRST_ID + 30):
        arguments = {"policy": policy, "chunk": chunk, "anchor": chunk}
        assert 1 not in chosen(members, 3, avoid=frozenset({1}), **arguments), "not even for a zone of its own"
        assert {3, 4} < set(chosen(members, 3, avoid=frozenset({1, 2}), **arguments))


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_the_order_in_which_members_are_given_does_not_matter(policy: str) -> None:
    members = [member(node) for node in range(1, 6)]
    for chunk in range(FIRST_ID, FIRST_ID + 50):
        results = {tuple(chosen(order, 3, policy=policy, chunk=chunk)) for order in (members, members[::-1])}
        assert len(results) == 1


def test_an_unknown_policy_names_the_known_ones() -> None:
    with pytest.raises(Invalid, match="'random' is not a placement policy; use one of: chained, rendezvous"):
        chosen([member(1)], 1, policy="random")


@pytest.mark.parametrize(
    ("up", "count", "held", "text"),
    [
        (2, 3, [], "copies=3 needs 3 nodes, 2 are up; start another node or use copies=2"),
        (1, 3, [], "copies=3 needs 3 nodes, 1 is up; start 2 more nodes or use copies=1"),
        (0, 2, [], "copies=2 needs 2 nodes, 0 are up; start 2 more nodes"),
        (2, 1, [1, 2], "1 node without a shard of the chunk is needed, 2 are up and all hold one; start another node"),
    ],
)
def test_too_few_nodes_says_how_many_are_missing(up: int, count: int, held: list[int], text: str) -> None:
    with pytest.raises(TooFewNodes) as refused:
        chosen([member(node) for node in range(1, up + 1)], count, held=frozenset(held))
    assert str(refused.value) == text


def test_no_space_says_how_many_have_room() -> None:
    members = [member(1), member(2, free=CHUNK - 1), member(3, free=0)]
    with pytest.raises(NoSpace) as refused:
        chosen(members, 2)
    assert not isinstance(refused.value, TooFewNodes)
    assert str(refused.value) == (
        "2 nodes with 1.0 MB free are needed for a chunk, 1 of 3 has that ('node-02' lacks 1 B); "
        "remove files, raise --capacity, or start another node"
    )


def test_a_shard_that_fits_exactly_is_placed() -> None:
    assert sorted(chosen([member(1, free=CHUNK), member(2, free=CHUNK)])) == [1, 2]


# --- rendezvous -------------------------------------------------------------------------------------------------------


@given(clusters(), CHUNKS, st.data())
def test_domains_are_as_distinct_as_the_members_allow(members: list[Member], chunk: int, data: st.DataObject) -> None:
    held = data.draw(st.frozensets(st.sampled_from([one.node for one in members]), max_size=len(members) - 1))
    count = data.draw(st.integers(1, len(members) - len(held)))
    result = chosen(members, count, chunk=chunk, held=held)
    by_node = {one.node: one for one in members}

    def domains(nodes: Sequence[int] | frozenset[int], attribute: str) -> set[str]:
        return {getattr(by_node[node], attribute) for node in nodes}

    for attribute in ("zone", "host"):
        new = domains(list(by_node), attribute) - domains(held, attribute)
        assert len(domains(result, attribute) & new) == min(count, len(new))


def test_more_shards_than_zones_are_spread_evenly() -> None:
    members = [member(node, zone=f"z{node % 3}") for node in range(1, 13)]
    for chunk in range(FIRST_ID, FIRST_ID + 100):
        spread = Counter(node % 3 for node in chosen(members, 6, chunk=chunk))
        assert set(spread.values()) == {2}


@pytest.mark.parametrize("capacities", [[1, 1, 1, 1, 1], [1, 1, 2, 4], [1, 9]])
def test_first_shards_lie_in_proportion_to_capacity(capacities: list[int]) -> None:
    members = [member(node, capacity=size * TB) for node, size in enumerate(capacities, start=1)]
    trials = 5000
    found = Counter(chosen(members, 1, chunk=FIRST_ID + number)[0] for number in range(trials))
    expected = {node: trials * size / sum(capacities) for node, size in enumerate(capacities, start=1)}
    chi_square = sum((found[node] - share) ** 2 / share for node, share in expected.items())
    assert chi_square < 20  # with at most 4 degrees of freedom one in 2,000 fair draws is above


def test_two_copies_use_equal_nodes_equally() -> None:
    members = [member(node) for node in range(1, 6)]
    trials = 4000
    found = Counter(node for number in range(trials) for node in chosen(members, 2, chunk=FIRST_ID + number))
    assert all(abs(count - trials * 2 / 5) < trials * 2 / 5 * 0.08 for count in found.values())


def test_every_pair_of_nodes_is_used() -> None:
    members = [member(node) for node in range(1, 6)]
    pairs = {frozenset(chosen(members, 2, chunk=FIRST_ID + number)) for number in range(300)}
    assert len(pairs) == 10


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_joining_or_leaving_node_moves_only_its_own_shards(count: int) -> None:
    without = [member(node) for node in range(1, 6)]
    joined = [*without, member(6)]
    trials, moved = 1500, 0
    for chunk in range(FIRST_ID, FIRST_ID + trials):
        before, after = set(chosen(without, count, chunk=chunk)), set(chosen(joined, count, chunk=chunk))
        assert after - before <= {6}
        assert len(before - after) == len(after - before)
        moved += before != after
    assert abs(moved / trials - count / 6) < 0.05


def test_a_node_that_leaves_a_domain_disturbs_only_chunks_that_it_held() -> None:
    members = [member(node, zone=f"z{node % 2}", host=f"h{node % 5}") for node in range(1, 11)]
    for chunk in range(FIRST_ID, FIRST_ID + 300):
        before = chosen(members, 3, chunk=chunk)
        for gone in {one.node for one in members} - set(before):
            assert chosen([one for one in members if one.node != gone], 3, chunk=chunk) == before


def test_the_choice_is_the_same_on_every_machine() -> None:
    """Pinned: it depends on nothing but its arguments, so two masters of one cluster propose the same."""
    members = [member(node, capacity=node * TB) for node in range(1, 6)]
    assert [chosen(members, 2, chunk=FIRST_ID + number) for number in range(6)] == PINNED


PINNED = [[2, 5], [3, 5], [2, 4], [4, 2], [5, 4], [2, 4]]


@given(
    zones=st.lists(st.text("abcd", min_size=1, max_size=1), min_size=3, max_size=20),
    hosts=st.text("xyz", min_size=20, max_size=20),
    name=st.sampled_from(["ec=2+1", "ec=4+2", "ec=3+3", "ec=8+4", "ec=12+4", "ec=5+1", "copies=3"]),
    chunk=st.integers(FIRST_ID, FIRST_ID + 1000),
    held=st.integers(0, 15),
)
def test_no_domain_gets_more_shards_than_may_lie_together_where_others_can_take_them(
    zones: list[str], hosts: str, name: str, chunk: int, held: int
) -> None:
    redundancy = parse_redundancy(name)
    assume(len(zones) >= redundancy.shards)
    members = [
        member(node, zone=zone, host=zone + host)
        for node, (zone, host) in enumerate(zip(zones, hosts, strict=False), 1)
    ]
    nodes = chosen(members, redundancy.shards, chunk=chunk, redundancy=redundancy)
    there = dict.fromkeys(nodes[: held % redundancy.shards])  # then the others are made one by one, as repair does
    while len(there) < redundancy.shards:
        there.update(dict.fromkeys(chosen(members, 1, chunk=chunk, redundancy=redundancy, held=frozenset(there))))
    for each in (nodes, list(there)):
        at = [members[node - 1] for node in each]
        for all_of, used in (
            (zones, Counter(node.zone for node in at)),
            ([node.host for node in members], Counter(node.host for node in at)),
        ):
            if fit(all_of, redundancy.shards, redundancy.together):
                assert max(used.values()) <= redundancy.together


# --- chained ----------------------------------------------------------------------------------------------------------

FOUR = [member(node) for node in (1, 2, 3, 4)]


def chained_pairs(chunks: int, anchor: int) -> list[set[int]]:
    return [
        set(chosen(FOUR, 2, policy="chained", chunk=anchor + index, position=index, anchor=anchor))
        for index in range(chunks)
    ]


def test_chunks_walk_round_the_table_of_pairs() -> None:
    table = [{1, 2}, {2, 3}, {3, 4}, {4, 1}]
    rotations = set()
    for anchor in range(FIRST_ID, FIRST_ID + 40):
        pairs = chained_pairs(9, anchor)
        start = table.index(pairs[0])
        rotations.add(start)
        assert pairs == [table[(start + index) % 4] for index in range(9)]
    assert rotations == {0, 1, 2, 3}, "files begin everywhere, so that small files do not all lie on one pair"


# Which nodes are enough to read a file of so many chunks that begins at the pair (1,2): worked out by hand.
ENOUGH = {
    1: [{1}, {2}],
    2: [{2}, {1, 3}],
    3: [{1, 3}, {2, 3}, {2, 4}],
    4: [{1, 3}, {2, 4}],
}
READABLE_OF_16 = {1: 12, 2: 10, 3: 8, 4: 7}


@pytest.mark.parametrize("chunks", [1, 2, 3, 4])
def test_exactly_the_right_files_are_readable_for_every_set_of_nodes_up(chunks: int) -> None:
    seen = set()
    for anchor in range(FIRST_ID, FIRST_ID + 40):
        pairs = chained_pairs(chunks, anchor)
        start = [{1, 2}, {2, 3}, {3, 4}, {4, 1}].index(pairs[0])
        seen.add(start)
        readable = 0
        for states in itertools.product((False, True), repeat=4):
            up = {node for node, is_up in enumerate(states, start=1) if is_up}
            expected = any({(node - 1 + start) % 4 + 1 for node in enough} <= up for enough in ENOUGH[chunks])
            assert all(pair & up for pair in pairs) is expected, (start, up)
            readable += expected
        assert readable == READABLE_OF_16[chunks]
    assert seen == {0, 1, 2, 3}


def test_the_ring_is_in_the_order_of_names() -> None:
    shuffled = [replace(one, node=10 - one.node) for one in FOUR]
    assert [10 - node for node in chosen(shuffled, 4, policy="chained")] == chosen(FOUR, 4, policy="chained")


@pytest.mark.parametrize("trouble", ["full", "avoid", "held"])
def test_a_node_in_trouble_is_replaced_by_the_next_and_the_others_stay(trouble: str) -> None:
    for anchor in range(FIRST_ID, FIRST_ID + 20):
        first, second = chosen(FOUR, 2, policy="chained", anchor=anchor)
        members = [replace(one, free=0) if trouble == "full" and one.node == first else one for one in FOUR]
        nodes = frozenset({first})
        result = chosen(
            members, 2, policy="chained", anchor=anchor,
            avoid=nodes if trouble == "avoid" else frozenset(), held=nodes if trouble == "held" else frozenset(),
        )  # fmt: skip
        assert result == [first % 4 + 1, second]
