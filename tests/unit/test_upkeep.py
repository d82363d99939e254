"""What makes a place superfluous, and how safe a chunk is by who holds it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dsa_zmq.model.holders import Safety, groups_of, holders_of, safety, shards_held
from dsa_zmq.model.redundancy import Redundancy, parse_redundancy
from dsa_zmq.model.upkeep import NodeView, Placed, Standing, keepers, live, remaining

NODES = st.integers(1, 6)
CODES = st.builds(
    lambda needed, spare: Redundancy(shards=needed + spare, needed=needed), st.integers(1, 3), st.integers(0, 3)
)
VIEWS = st.dictionaries(
    NODES, st.builds(NodeView, st.sampled_from(Standing), st.sampled_from("ab"), st.sampled_from("pqrs"))
)
PLACES = st.dictionaries(NODES, st.integers(0, 5)).map(lambda by: [Placed(node, index) for node, index in by.items()])
TWO = parse_redundancy("copies=2")


def up(*nodes: int, **other: Standing) -> dict[int, NodeView]:
    view = {node: NodeView(Standing.KEEPS, "", f"host-{node}") for node in nodes}
    return view | {int(name[1:]): NodeView(standing, "", f"host-{name}") for name, standing in other.items()}


@given(places=PLACES, view=VIEWS, redundancy=CODES, leaving=NODES)
def test_whatever_goes_all_wanted_shards_stay_on_nodes_that_keep(places, view, redundancy, leaving):
    kept = keepers(places, leaving, redundancy, view)
    if kept is None:
        return
    assert leaving not in {place.node for place in kept}
    assert all(view[place.node].standing is Standing.KEEPS for place in kept)
    assert {place.index for place in kept} >= set(range(redundancy.shards))
    before = [place for place in live(places, view) if place in kept or place.node == leaving]
    for domain in (lambda node: view[node].zone, lambda node: view[node].host):
        spread = min(len({domain(place.node) for place in before}), redundancy.shards)
        assert len({domain(place.node) for place in kept}) >= spread
    assert remaining(kept, redundancy, view) >= min(remaining(places, redundancy, view), redundancy.tolerates)


@given(places=PLACES, view=VIEWS, redundancy=CODES)
def test_one_after_the_other_the_removals_never_leave_fewer_shards_than_wanted(places, view, redundancy):
    """Two removers, each of which looks at what the other has left: trim and drain cannot take both last copies."""
    places = list(places)
    begun = remaining(places, redundancy, view)
    for leaving in sorted(view):
        if any(place.node == leaving for place in places) and keepers(places, leaving, redundancy, view) is not None:
            places = [place for place in places if place.node != leaving]
    assert remaining(places, redundancy, view) >= min(begun, redundancy.tolerates)


def test_a_third_copy_may_go_but_not_because_of_nodes_that_are_silent_leaving_failed_or_away():
    places = [Placed(1, 0), Placed(2, 1), Placed(3, 1)]
    assert keepers(places, 3, TWO, up(1, 2, 3)) == [Placed(1, 0), Placed(2, 1)]
    for standing in Standing:
        if standing is not Standing.KEEPS:
            assert keepers(places, 3, TWO, up(1, 3, n2=standing)) is None
    assert keepers(places, 1, TWO, up(1, 2, 3)) is None, "two copies of one shard are not two shards"


def test_a_place_in_a_domain_of_its_own_stays_unless_there_are_enough_domains():
    places = [Placed(1, 0), Placed(2, 1), Placed(3, 1)]
    view = {node: NodeView(Standing.KEEPS, "", host) for node, host in ((1, "a"), (2, "a"), (3, "b"))}
    assert keepers(places, 3, TWO, view) is None
    assert keepers(places, 2, TWO, view) == [Placed(1, 0), Placed(3, 1)]


def test_a_damaged_place_protects_no_domain():
    view = {node: NodeView(Standing.KEEPS, "", host) for node, host in ((1, "a"), (2, "a"), (3, "b"))}
    assert keepers([Placed(1, 0), Placed(2, 1)], 3, TWO, view) is None
    assert keepers([Placed(1, 0), Placed(2, 1)], 3, TWO, view, good=False) == [Placed(1, 0), Placed(2, 1)]


def test_the_last_node_of_a_domain_may_be_emptied():
    """Else its drain would never end; that a domain is lost with it, its plan says."""
    places = [Placed(1, 0), Placed(2, 1), Placed(3, 1)]
    view = {node: NodeView(Standing.KEEPS, zone, f"h{node}") for node, zone in ((1, "a"), (2, "a"), (3, "b"), (4, "b"))}
    view[3] = NodeView(Standing.LEAVES, "b", "h3")
    assert keepers(places, 3, TWO, view) is None, "node 4 is in that zone, and may take it"
    del view[4]
    assert keepers(places, 3, TWO, view) == [Placed(1, 0), Placed(2, 1)]


@given(places=st.lists(st.tuples(st.integers(1, 99), st.integers(0, 5)), unique_by=lambda place: place[0]))
def test_holders_tell_how_many_shards_any_nodes_have(places):
    text = holders_of(tuple(places))
    assert text == holders_of(tuple(reversed(places)))
    assert sorted(map(sorted, groups_of(text))) == sorted(
        sorted(node for node, shard in places if shard == index) for index in {index for _, index in places}
    )
    for nodes in (set(), {1, 2, 3}, set(range(100))):
        assert shards_held(text, nodes) == len({index for node, index in places if node in nodes})


def test_the_four_states_of_a_chunk():
    code = Redundancy(shards=6, needed=4)
    assert [safety(shards, code) for shards in range(3, 8)] == [
        Safety.LOST, Safety.ENDANGERED, Safety.DEGRADED, Safety.HEALTHY, Safety.HEALTHY,
    ]  # fmt: skip
    assert holders_of(()) == ""
    assert safety(shards_held("", {1}), TWO) is Safety.LOST
