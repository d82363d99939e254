"""What makes a place superfluous, and how safe a chunk is by who holds it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dsa_zmq.model.domains import apart
from dsa_zmq.model.holders import Safety, groups_of, holders_of, safety, shards_held
from dsa_zmq.model.redundancy import Redundancy, parse_redundancy
from dsa_zmq.model.upkeep import NodeView, Placed, Standing, covered, keepers, live, remaining

NODES = st.integers(1, 6)
CODES = st.builds(
    lambda needed, spare: Redundancy(shards=needed + spare, needed=needed), st.integers(1, 3), st.integers(0, 3)
)
VIEWS = st.dictionaries(
    NODES, st.builds(NodeView, st.sampled_from(Standing), st.sampled_from("ab"), st.sampled_from("pqrs"))
)
PLACES = st.dictionaries(NODES, st.integers(0, 5)).map(lambda by: [Placed(node, index) for node, index in by.items()])
TWO = parse_redundancy("copies=2")
CODE = Redundancy(shards=3, needed=2)  #: a code, made up


def up(*nodes: int, **other: Standing) -> dict[int, NodeView]:
    view = {node: NodeView(Standing.KEEPS, "", f"host-{node}") for node in nodes}
    return view | {int(name[1:]): NodeView(standing, "", f"host-{name}") for name, standing in other.items()}


@given(places=PLACES, view=VIEWS, redundancy=CODES, leaving=NODES)
def test_whatever_goes_all_wanted_shards_stay_on_nodes_that_keep(places, view, redundancy, leaving):
    gone = next((place for place in places if place.node == leaving), Placed(leaving, 0))
    kept = keepers(places, gone, redundancy, view)
    if kept is None:
        return
    assert leaving not in {place.node for place in kept}
    assert all(view[place.node].standing is Standing.KEEPS for place in kept)
    if covered(kept, redundancy) < redundancy.shards:
        assert redundancy.needed > 1, "copies stand in for each other: none is there twice while one is missing"
        assert gone.index in {place.index for place in kept}
        return
    before = [place for place in live(places, view) if place in kept or place.node == leaving]
    for domain in (lambda node: view[node].zone, lambda node: view[node].host):
        good = apart([(place.index, domain(place.node)) for place in before], redundancy)
        assert apart([(place.index, domain(place.node)) for place in kept], redundancy) >= good
    assert remaining(kept, redundancy, view) >= min(remaining(places, redundancy, view), redundancy.tolerates)


@given(places=PLACES, view=VIEWS, redundancy=CODES)
def test_one_after_the_other_the_removals_never_leave_fewer_shards_than_wanted(places, view, redundancy):
    """Two removers, each of which looks at what the other has left: trim and drain cannot take both last copies."""
    places = list(places)
    begun = remaining(places, redundancy, view)
    for leaving in sorted(view):
        gone = next((place for place in places if place.node == leaving), None)
        if gone is not None and keepers(places, gone, redundancy, view) is not None:
            places.remove(gone)
    assert remaining(places, redundancy, view) >= min(begun, redundancy.tolerates)


def test_a_third_copy_may_go_but_not_because_of_nodes_that_are_silent_leaving_failed_or_away():
    places = [Placed(1, 0), Placed(2, 1), Placed(3, 1)]
    assert keepers(places, Placed(3, 1), TWO, up(1, 2, 3)) == [Placed(1, 0), Placed(2, 1)]
    for standing in Standing:
        if standing is not Standing.KEEPS:
            assert keepers(places, Placed(3, 1), TWO, up(1, 3, n2=standing)) is None


def test_a_copy_that_is_there_twice_stands_in_for_another_but_no_shard_of_a_code_does():
    places = [Placed(1, 0), Placed(2, 1), Placed(3, 1)]
    assert keepers(places, Placed(1, 0), TWO, up(1, 2, 3)) == [Placed(2, 1), Placed(3, 1)]
    assert remaining(places[1:], TWO, up(2, 3)) == 1
    assert keepers(places[1:], Placed(2, 1), TWO, up(2, 3)) is None
    assert keepers(places, Placed(1, 0), CODE, up(1, 2, 3)) is None
    assert remaining(places, CODE, up(1, 2, 3)) == 0
    assert covered([Placed(1, 0), Placed(2, 7)], TWO) == 1, "which is no shard of it"


def test_a_shard_of_a_code_that_is_there_twice_may_go_also_while_another_is_missing():
    places = [Placed(1, 0), Placed(2, 1), Placed(3, 1)]
    assert keepers(places, Placed(3, 1), CODE, up(1, 2, 3)) == [Placed(1, 0), Placed(2, 1)]
    assert keepers(places[:1], Placed(3, 1), CODE, up(1, 2, 3)) is None, "the other one was not found good"
    assert keepers(places, Placed(3, 1), CODE, up(1, 2, 3), good=False) is None, "damaged bytes stay until it is whole"


def test_a_place_in_a_domain_of_its_own_stays_unless_there_are_enough_domains():
    places = [Placed(1, 0), Placed(2, 1), Placed(3, 1)]
    view = {node: NodeView(Standing.KEEPS, "", host) for node, host in ((1, "a"), (2, "a"), (3, "b"))}
    assert keepers(places, Placed(3, 1), TWO, view) is None
    assert keepers(places, Placed(2, 1), TWO, view) == [Placed(1, 0), Placed(3, 1)]


def test_a_damaged_place_protects_no_domain():
    view = {node: NodeView(Standing.KEEPS, "", host) for node, host in ((1, "a"), (2, "a"), (3, "b"))}
    kept, gone = [Placed(1, 0), Placed(2, 1)], Placed(3, 1)
    assert keepers(kept, gone, TWO, view) is None
    assert keepers(kept, gone, TWO, view, good=False) == kept


def test_the_last_node_of_a_domain_may_be_emptied():
    """Else its drain would never end; that a domain is lost with it, its plan says."""
    places = [Placed(1, 0), Placed(2, 1), Placed(3, 1)]
    view = {node: NodeView(Standing.KEEPS, zone, f"h{node}") for node, zone in ((1, "a"), (2, "a"), (3, "b"), (4, "b"))}
    view[3] = NodeView(Standing.LEAVES, "b", "h3")
    assert keepers(places, Placed(3, 1), TWO, view) is None, "node 4 is in that zone, and may take it"
    del view[4]
    assert keepers(places, Placed(3, 1), TWO, view) == [Placed(1, 0), Placed(2, 1)]


@given(places=st.lists(st.tuples(st.integers(1, 99), st.integers(0, 5)), unique_by=lambda place: place[0]))
def test_holders_tell_how_many_shards_any_nodes_have(places):
    text = holders_of(tuple(places))
    assert text == holders_of(tuple(reversed(places)))
    assert sorted(map(sorted, groups_of(text))) == sorted(
        sorted(node for node, shard in places if shard == index) for index in {index for _, index in places}
    )
    for nodes in (set(), {1, 2, 3}, set(range(100))):
        held = [place for place in places if place[0] in nodes]
        for redundancy in (Redundancy(shards=6, needed=1), Redundancy(shards=6, needed=4)):
            assert shards_held(text, nodes, redundancy) == redundancy.covered(held)
        assert shards_held(text, nodes, Redundancy(shards=6, needed=4)) == len({index for _, index in held})
        assert shards_held(text, nodes, Redundancy(shards=6, needed=1)) == min(6, len(held))


def test_the_four_states_of_a_chunk():
    code = Redundancy(shards=6, needed=4)
    assert [safety(shards, code) for shards in range(3, 8)] == [
        Safety.LOST, Safety.ENDANGERED, Safety.DEGRADED, Safety.HEALTHY, Safety.HEALTHY,
    ]  # fmt: skip
    assert holders_of(()) == ""
    assert safety(shards_held("", {1}, TWO), TWO) is Safety.LOST
