"""What is to be done about one chunk: nothing is lost on the way, it comes to an end, and then nothing is said."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa_zmq.model.placement import Member
from dsa_zmq.model.redundancy import Redundancy, parse_redundancy
from dsa_zmq.model.steps import Add, Goals, Ground, Holding, Release, Stuck, sources, steps
from dsa_zmq.model.upkeep import NodeView, Placed, Standing, Why, covered, live

KEEPS, LEAVES, SILENT, FAILED, AWAY = Standing
TWO = parse_redundancy("copies=2")
ROOM = 1 << 30
NO_GOALS = Goals()


def ground(
    standings: list[Standing], goals: Goals = NO_GOALS, *, zones: list[str] | None = None, room: int = ROOM
) -> Ground:
    """Nodes 1, 2, ... of these standings, each a host of its own."""
    zones = zones or [""] * len(standings)
    view = {
        node: NodeView(standing, zone, f"h{node}")
        for node, (standing, zone) in enumerate(zip(standings, zones, strict=True), 1)
    }
    members = [
        Member(node, f"n{node}", 2 * ROOM, room if each.standing is KEEPS else 0, each.zone, each.host)
        for node, each in view.items()
        if each.standing in (KEEPS, SILENT)
    ]
    return Ground(view, goals, members, "rendezvous")


def holding(*places: tuple[int, int], bad: tuple[tuple[int, int], ...] = (), **fields: object) -> Holding:
    """Of a chunk with two copies; places and bad are (node, index)."""
    values = {"places": tuple(Placed(*each) for each in places), "bad": tuple(Placed(*each) for each in bad), **fields}
    return Holding(1000, 4096, TWO, **values)  # type: ignore[arg-type]


def test_nothing_is_done_while_all_is_as_it_should_be() -> None:
    assert steps(holding((1, 0), (2, 1)), ground([KEEPS] * 4)) == []


@pytest.mark.parametrize("standing", [AWAY, FAILED])
def test_a_shard_whose_node_is_gone_is_made_anew_on_another(standing: Standing) -> None:
    (step,) = steps(holding((1, 0), (2, 1)), ground([KEEPS, standing, KEEPS, KEEPS]))
    assert isinstance(step, Add)
    assert (step.index, step.why) == (1, Why.REPAIR)
    assert step.node in (3, 4)


def test_nothing_is_made_anew_because_of_suspicion() -> None:
    assert steps(holding((1, 0), (2, 1)), ground([KEEPS, SILENT, KEEPS])) == []


def test_nothing_is_planned_without_a_source() -> None:
    assert steps(holding((1, 0), (2, 1)), ground([AWAY, AWAY, KEEPS, KEEPS])) == []


def test_what_is_under_way_is_not_planned_twice() -> None:
    assert steps(holding((1, 0), (2, 1), pending=(Placed(3, 1),)), ground([KEEPS, AWAY, KEEPS, KEEPS])) == []


def test_a_node_that_is_to_drop_a_shard_is_no_target() -> None:
    at = ground([KEEPS, AWAY, KEEPS])
    assert steps(holding((1, 0), (2, 1), dropping=frozenset((3,))), at) == [Stuck(1, Why.REPAIR)]


def test_a_full_node_is_no_target() -> None:
    assert steps(holding((1, 0), (2, 1)), ground([KEEPS, AWAY, KEEPS], room=4095)) == [Stuck(1, Why.REPAIR)]


def test_what_is_planned_takes_room() -> None:
    at = ground([KEEPS, AWAY, KEEPS], room=4096)
    assert steps(holding((1, 0), (2, 1)), at) == [Add(1, 3, Why.REPAIR)]
    assert steps(dataclasses.replace(holding((1, 0), (2, 1)), chunk=1001), at) == [Stuck(1, Why.REPAIR)]


def test_the_last_copy_is_repaired_before_one_that_has_others() -> None:
    three = parse_redundancy("copies=3")
    goals = Goals(briefly_away=frozenset((2,)))
    at = ground([KEEPS, AWAY, KEEPS, KEEPS], goals)
    (step,) = steps(holding((1, 0), (2, 1)), at)
    assert isinstance(step, Add)
    degraded = Holding(1000, 4096, three, (Placed(1, 0), Placed(2, 1), Placed(3, 2)))
    assert steps(degraded, at) == []
    assert steps(degraded, ground([KEEPS, AWAY, KEEPS, KEEPS])) == [Add(1, 4, Why.REPAIR)]


def test_who_has_just_gone_is_waited_for() -> None:
    at = ground([KEEPS, AWAY, KEEPS, KEEPS], Goals(just_away=frozenset((2,)), briefly_away=frozenset((2,))))
    assert steps(holding((1, 0), (2, 1)), at) == []


def test_a_missing_shard_is_not_waited_for() -> None:
    at = ground([KEEPS, AWAY, KEEPS], Goals(just_away=frozenset((2,))))
    assert steps(holding((1, 0)), at) == [Add(1, 3, Why.REPAIR)]


def test_while_repair_is_held_only_damage_is_mended() -> None:
    held = Goals(held=True)
    assert steps(holding((1, 0), (2, 1)), ground([KEEPS, AWAY, KEEPS], held)) == []
    assert steps(holding((1, 0), (2, 1), (3, 1)), ground([KEEPS] * 3, held)) == []
    assert steps(holding((1, 0), bad=((2, 1),)), ground([KEEPS] * 3, held)) == [Add(1, 3, Why.BAD)]


def test_a_damaged_shard_is_mended_where_it_is_if_there_is_nowhere_else() -> None:
    assert steps(holding((1, 0), bad=((2, 1),)), ground([KEEPS] * 2)) == [Add(1, 2, Why.BAD)]


def test_a_damaged_shard_is_mended_where_it_is_if_elsewhere_would_share_a_zone() -> None:
    at = ground([KEEPS] * 3, zones=["a", "b", "a"])
    assert steps(holding((1, 0), bad=((2, 1),)), at) == [Add(1, 2, Why.BAD)]


def test_a_damaged_place_goes_once_the_chunk_is_whole_without_it() -> None:
    assert steps(holding((1, 0), (3, 1), bad=((2, 1),)), ground([KEEPS] * 3)) == [Release(2)]


def test_what_is_there_twice_goes_where_it_hurts_domains_least() -> None:
    at = ground([KEEPS] * 3, zones=["a", "b", "a"])
    assert steps(holding((1, 0), (2, 1), (3, 1)), at) == [Release(3)]


def test_what_is_there_twice_goes_from_the_fuller_node() -> None:
    at = ground([KEEPS] * 3)
    at.members[1].free = 10
    assert steps(holding((1, 0), (2, 1), (3, 1)), at) == [Release(2)]


@pytest.mark.parametrize("standing", [SILENT, AWAY, FAILED, LEAVES])
def test_nothing_goes_because_of_a_node_that_may_not_keep(standing: Standing) -> None:
    assert Release(2) not in steps(holding((1, 0), (2, 1), (3, 1)), ground([KEEPS, KEEPS, standing]))


def test_a_node_that_leaves_gives_its_shards_away_and_then_lets_go() -> None:
    at = ground([KEEPS, LEAVES, KEEPS])
    assert steps(holding((1, 0), (2, 1)), at) == [Add(1, 3, Why.DRAIN)]
    assert steps(holding((1, 0), (2, 1), (3, 1)), at) == [Release(2)]


def test_the_places_of_a_removed_store_go_once_the_chunk_is_whole_without_them() -> None:
    goals = Goals(removed=frozenset((2,)))
    assert steps(holding((1, 0), (2, 1)), ground([KEEPS, AWAY, KEEPS], goals)) == [Add(1, 3, Why.REPAIR)]
    assert steps(holding((1, 0), (2, 1), (3, 1)), ground([KEEPS, AWAY, KEEPS], goals)) == [Release(2)]
    assert steps(holding((1, 0), (2, 1), (3, 1)), ground([KEEPS, AWAY, KEEPS])) == [], "who is down may come back"


def test_a_share_of_a_node_that_is_too_full_goes_elsewhere() -> None:
    moved = 0
    for chunk in range(1000, 2000):
        at = ground([KEEPS] * 3, Goals(excess={1: 0.25}))
        todo = steps(dataclasses.replace(holding((1, 0), (2, 1)), chunk=chunk), at)
        assert todo in ([], [Add(0, 3, Why.REBALANCE)])
        moved += bool(todo)
        if todo:
            assert steps(dataclasses.replace(holding((1, 0), (2, 1), (3, 0)), chunk=chunk), at) == [Release(1)]
    assert 180 < moved < 320


def test_silent_nodes_are_read_from_last_of_those_that_are_up() -> None:
    at = ground([SILENT, AWAY, LEAVES, KEEPS, FAILED])
    places = [Placed(node, 0) for node in range(1, 6)]
    assert [place.node for place in sources(places, at.view)] == [4, 3, 1, 5]


# --- shards that are there twice --------------------------------------------------------------------------------------

CODE = Redundancy(shards=3, needed=2)  #: a code, made up: its shards are not alike


def coded(*places: tuple[int, int], **fields: object) -> Holding:
    return dataclasses.replace(holding(*places, **fields), redundancy=CODE)


def test_a_copy_that_is_there_twice_stands_in_for_one_that_is_gone() -> None:
    """Node 1 was away while node 3 got its copy, and is back; node 2 dies. Two copies are there."""
    assert steps(holding((1, 0), (3, 0), (2, 1)), ground([KEEPS, AWAY, KEEPS])) == []
    assert steps(holding((1, 0), (3, 0)), ground([KEEPS] * 4)) == []


@pytest.mark.parametrize("zones", [["", "", ""], ["a", "b", "a"], ["a", "a", "b"]])
def test_when_the_third_is_back_one_of_the_same_goes(zones: list[str]) -> None:
    at = ground([KEEPS] * 3, zones=zones)
    at.members[1].free = 10  # fuller than the others
    (step,) = steps(holding((1, 0), (3, 0), (2, 1)), at)
    assert step in ([Release(1), Release(3)] if zones != ["a", "a", "b"] else [Release(1)])


def test_a_stand_in_is_not_let_go() -> None:
    for standing in (AWAY, SILENT, FAILED):
        assert steps(holding((1, 0), (3, 0), (2, 1)), ground([KEEPS, standing, KEEPS])) == []
    assert steps(holding((1, 0), (3, 0), (2, 1)), ground([KEEPS, LEAVES, KEEPS])) == [Release(2)]


def test_what_is_made_anew_is_a_copy_that_nobody_has() -> None:
    three = dataclasses.replace(holding((1, 0), (3, 0), (2, 1)), redundancy=parse_redundancy("copies=3"))
    assert steps(three, ground([KEEPS] * 4)) == []
    assert steps(three, ground([KEEPS, AWAY, KEEPS, KEEPS])) == [Add(2, 4, Why.REPAIR)], "one is missing, not two"
    assert steps(three, ground([KEEPS, LEAVES, KEEPS, KEEPS])) == [Add(2, 4, Why.DRAIN)]
    assert steps(holding((1, 0), (3, 0)), ground([LEAVES, AWAY, KEEPS, KEEPS])) == [Add(1, 4, Why.DRAIN)]


def test_what_stands_in_and_leaves_is_replaced() -> None:
    at = ground([KEEPS, AWAY, LEAVES, KEEPS])
    assert steps(holding((1, 0), (3, 0)), at) == [Add(1, 4, Why.DRAIN)]
    assert steps(holding((1, 0), (3, 0), (4, 1)), at) == [Release(3)]


def test_who_has_just_gone_is_waited_for_also_if_it_stood_in() -> None:
    at = ground([KEEPS, AWAY, AWAY, KEEPS], Goals(just_away=frozenset((3,))))
    assert steps(holding((1, 0), (3, 0), (2, 1)), at) == []
    at = ground([KEEPS, AWAY, AWAY, KEEPS])
    assert steps(holding((1, 0), (3, 0), (2, 1)), at) == [Add(1, 4, Why.REPAIR)]


def test_a_damaged_stand_in_is_mended_as_what_it_is() -> None:
    assert steps(holding((1, 0), bad=((2, 0),)), ground([KEEPS] * 2)) == [Add(0, 2, Why.BAD)]
    assert steps(holding((1, 0), bad=((2, 0),)), ground([KEEPS] * 3)) == [Add(1, 3, Why.BAD)]
    mended = holding((1, 0), bad=((2, 0),), pending=(Placed(2, 0),))
    assert steps(dataclasses.replace(mended, redundancy=parse_redundancy("copies=3")), ground([KEEPS] * 2)) == [
        Stuck(2, Why.REPAIR)
    ]


def test_a_shard_of_a_code_that_is_there_twice_stands_in_for_nothing() -> None:
    assert steps(coded((1, 0), (2, 1), (3, 1)), ground([KEEPS] * 4)) == [Add(2, 4, Why.REPAIR)]


def test_of_a_code_that_cannot_be_read_what_is_there_is_copied_off_a_node_that_leaves() -> None:
    at = ground([LEAVES, AWAY, AWAY, KEEPS])
    assert steps(coded((1, 0), (2, 1), (3, 2)), at) == [Add(0, 4, Why.DRAIN)]
    assert steps(coded((1, 0), (2, 1), (3, 2), (4, 0)), at) == [Release(1)]
    assert steps(coded((1, 0), (2, 1), (3, 2), (4, 0)), ground([LEAVES, AWAY, KEEPS, KEEPS])) == [Stuck(1, Why.REPAIR)]


def test_a_shard_of_a_code_that_is_there_twice_makes_room_for_the_missing_one() -> None:
    """With no node to spare one of the two goes, and the missing one is made where it was."""
    (stuck, step) = steps(coded((1, 0), (2, 1), (3, 1)), ground([KEEPS] * 3))
    assert stuck == Stuck(2, Why.REPAIR)
    assert step in (Release(2), Release(3))
    assert steps(coded((1, 0), (2, 1), dropping=frozenset((3,))), ground([KEEPS] * 3)) == [stuck]
    assert steps(coded((1, 0), (2, 1)), ground([KEEPS] * 3)) == [Add(2, 3, Why.REPAIR)]


@pytest.mark.parametrize("standing", [AWAY, SILENT, FAILED, LEAVES])
def test_no_room_is_made_by_a_shard_whose_double_may_not_keep(standing: Standing) -> None:
    assert steps(coded((1, 0), (2, 1), (3, 1)), ground([KEEPS, KEEPS, standing])) == [Stuck(2, Why.REPAIR)]


def test_no_room_is_made_while_healing_is_held_or_where_the_missing_one_would_not_fit() -> None:
    assert steps(coded((1, 0), (2, 1), (3, 1)), ground([KEEPS] * 3, Goals(held=True))) == []
    assert steps(coded((1, 0), (2, 1), (3, 1)), ground([KEEPS] * 3, room=10)) == [Stuck(2, Why.REPAIR)]


# --- any history ------------------------------------------------------------------------------------------------------

standing = st.sampled_from([KEEPS, KEEPS, KEEPS, LEAVES, SILENT, FAILED, AWAY])


@st.composite
def histories(draw: st.DrawFn) -> tuple[Redundancy, int, list[str], list[tuple[list[Standing], int, int]]]:
    """Redundancy, nodes, zones, and rounds of (standings, which pending move arrives, which place goes bad)."""
    shards = draw(st.integers(1, 6))
    redundancy = Redundancy(shards, draw(st.integers(1, min(4, shards))))
    nodes = draw(st.integers(shards + 1, max(7, shards + 2)))
    zones = draw(st.lists(st.sampled_from("ab"), min_size=nodes, max_size=nodes))
    rounds = st.tuples(
        st.lists(standing, min_size=nodes, max_size=nodes), st.integers(0, 2), st.sampled_from([-1] * 6 + [0, 1])
    )
    return redundancy, nodes, zones, draw(st.lists(rounds, max_size=8))


@given(histories())
def test_whatever_happens_no_shard_is_lost_by_healing_and_in_the_end_each_is_there_once(history) -> None:
    redundancy, nodes, zones, rounds = history
    chunk = Holding(77, 4096, redundancy, tuple(Placed(index + 1, index) for index in range(redundancy.shards)))
    has_rotted = False
    for standings, arrivals, rots in rounds:
        at = ground(standings, zones=zones)
        good = live(chunk.places, at.view)
        if (
            0 <= rots < len(chunk.places)
            and covered(good, redundancy) > redundancy.needed
            and chunk.places[rots] in good
        ):
            has_rotted = True
            rotten = chunk.places[rots]
            rest = tuple(place for place in chunk.places if place is not rotten)
            chunk = dataclasses.replace(chunk, places=rest, bad=(*chunk.bad, rotten))
        chunk = carried_out(chunk, at, arrivals)
    for _ in range(20):
        at = ground([KEEPS] * nodes, zones=zones)
        before = chunk
        chunk = carried_out(chunk, at, 9)
        if chunk == before:
            break
    assert steps(chunk, at) == [] or any(isinstance(step, Stuck) for step in steps(chunk, at))
    if redundancy.alike or not has_rotted or nodes >= 2 * redundancy.shards:
        assert len(chunk.places) == covered(chunk.places, redundancy) == redundancy.shards
        assert not chunk.bad
        assert not chunk.pending


def carried_out(chunk: Holding, at: Ground, arrivals: int) -> Holding:
    """The chunk after one round of steps, of whose moves so many arrive."""
    redundancy = chunk.redundancy
    readable = covered(sources(chunk.places, at.view), redundancy)
    places, bad, pending = list(chunk.places), list(chunk.bad), list(chunk.pending)
    for step in steps(chunk, at):
        if isinstance(step, Add):
            assert at.view[step.node].standing is KEEPS
            has = {place.index for place in sources(chunk.places, at.view)}
            assert readable >= redundancy.needed or step.index in has, "there is a source"
            assert step.node not in {place.node for place in (*places, *pending)}
            pending.append(Placed(step.node, step.index))
        elif isinstance(step, Release):
            gone = [place for place in places if place.node == step.node]
            places = [place for place in places if place.node != step.node]
            bad = [place for place in bad if place.node != step.node]
            keeping = [place for place in places if at.view[place.node].standing is KEEPS]
            if covered(keeping, redundancy) < redundancy.shards:  # of what is there twice
                assert covered([*keeping, *gone], redundancy) == covered(keeping, redundancy), "nothing less is kept"
                assert gone, "damaged bytes stay until all shards are on nodes that keep"
    for place in pending[:arrivals]:
        pending.remove(place)
        if at.view[place.node].standing is KEEPS:
            places.append(place)
            bad = [other for other in bad if other.node != place.node]
    after = dataclasses.replace(chunk, places=tuple(places), bad=tuple(bad), pending=tuple(pending))
    assert readable <= covered(sources(after.places, at.view), redundancy)
    return after
