"""Shards move apart where domains allow it, never together again, and it comes to an end."""

from __future__ import annotations

import dataclasses
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from dsa_zmq.model.domains import apart
from dsa_zmq.model.holders import holders_of
from dsa_zmq.model.placement import Member
from dsa_zmq.model.redundancy import Redundancy, parse_redundancy
from dsa_zmq.model.spread import Spread, chunks_apart, keeps_domains
from dsa_zmq.model.steps import Add, Goals, Ground, Holding, Release, steps
from dsa_zmq.model.upkeep import NodeView, Placed, Standing, Why, covered

KEEPS, LEAVES, SILENT, FAILED, AWAY = Standing
TWO = parse_redundancy("copies=2")
REDUNDANCIES = [parse_redundancy(name) for name in ("copies=2", "copies=3", "ec=2+1", "ec=2+2", "ec=3+2", "ec=4+2")]
SIZE = 4096  #: bytes of a chunk
NO_GOALS = Goals()


def view_of(zones: str, hosts: str = "", standings: dict[int, Standing] | None = None) -> dict[int, NodeView]:
    """Nodes 1, 2, ...: a letter each for zone and host; hosts of their own unless told."""
    return {
        node: NodeView((standings or {}).get(node, KEEPS), zone, hosts[node - 1 : node] or f"h{node}")
        for node, zone in enumerate(zones, 1)
    }


def ground(
    view: dict[int, NodeView], *, goals: Goals = NO_GOALS, room: dict[int, int] | None = None, spare: int = 0,
    policy: str = "rendezvous",
) -> Ground:  # fmt: skip
    """Rooms are in bytes; ``spare`` of them only for healing."""
    members = [
        Member(node, f"n{node}", 100 * SIZE, (room or {}).get(node, 50 * SIZE), each.zone, each.host)
        for node, each in view.items()
        if each.standing is KEEPS
    ]
    return Ground(view, goals, members, policy, dict.fromkeys(view, spare))


def holding(*nodes: int, redundancy: Redundancy = TWO, chunk: int = 77, **fields: object) -> Holding:
    places = tuple(Placed(node, index) for index, node in enumerate(nodes))
    return dataclasses.replace(Holding(chunk, SIZE, redundancy, places), **fields)  # type: ignore[arg-type]


# --- one chunk --------------------------------------------------------------------------------------------------------


def test_of_two_shards_in_one_zone_one_goes_to_another() -> None:
    at = ground(view_of("aab"))
    (step,) = steps(holding(1, 2), at)
    assert isinstance(step, Add)
    assert (step.node, step.why) == (3, Why.SPREAD)
    there = holding(1, 2, places=(Placed(1, 0), Placed(2, 1), Placed(3, step.index)))
    (gone,) = steps(there, ground(view_of("aab")))
    assert gone in (Release(1), Release(2))
    assert steps(holding(1, 3), at) == steps(holding(3, 2), at) == []


def test_the_fuller_node_gives_its_shard_away() -> None:
    (step,) = steps(holding(1, 2), ground(view_of("aab"), room={2: 10 * SIZE}))
    assert step == Add(1, 3, Why.SPREAD)


def test_a_host_is_left_as_well_as_a_zone() -> None:
    assert steps(holding(1, 2), ground(view_of("aaa", "xxy"))) == [Add(0, 3, Why.SPREAD)]
    assert steps(holding(1, 2), ground(view_of("aaa", "xyz"))) == [], "there is but one zone"


def test_a_new_zone_on_a_new_host_is_better_than_one_on_the_same() -> None:
    for chunk in range(100, 130):
        (step,) = steps(holding(1, 2, chunk=chunk), ground(view_of("aabb", "xxxy")))
        assert isinstance(step, Add)
        assert step.node == 4


def test_nothing_moves_apart_where_there_is_no_room_or_for_other_reasons() -> None:
    view = view_of("aab")
    assert steps(holding(1, 2), ground(view, room={3: SIZE - 1})) == []
    assert steps(holding(1, 2), ground(view, room={3: SIZE}, spare=1)) == [], "that is for healing"
    assert steps(holding(1, 2), ground(view, goals=Goals(held=True))) == []
    assert steps(holding(1, 2), ground(view, goals=Goals(spread=False))) == [], "zones are being named"
    assert steps(holding(1, 2), ground(view, goals=Goals(excess={3: 0.0001}))) == [], "which gives shards away"
    assert steps(holding(1, 2, dropping=frozenset((3,))), ground(view)) == []
    assert steps(holding(1, 2, pending=(Placed(3, 0),)), ground(view)) == []
    assert steps(holding(1, 2), ground(view, policy="chained")) == [], "it asks for no domains"
    for standing in (LEAVES, SILENT, FAILED, AWAY):
        assert steps(holding(1, 2), ground(view_of("aab", standings={3: standing}))) == []


def test_what_is_missing_is_made_before_anything_moves_apart() -> None:
    three = parse_redundancy("copies=3")
    (step,) = steps(holding(1, 2, redundancy=three), ground(view_of("aaab")))
    assert isinstance(step, Add)
    assert (step.node, step.why) == (4, Why.REPAIR)


def test_what_a_full_node_gives_away_stays_apart() -> None:
    """Node 3 is alone in its zone: whatever went to the other zone would have to stay on both."""
    goals = Goals(excess={3: 1.0})
    for chunk in range(50):
        assert steps(holding(1, 3, chunk=chunk), ground(view_of("aab"), goals=goals)) == []
        assert steps(holding(1, 3, chunk=chunk), ground(view_of("aabb"), goals=goals)) == [Add(1, 4, Why.REBALANCE)]


def test_a_node_that_leaves_is_emptied_though_its_zone_was_full_for_a_while() -> None:
    """Its shard went to the other zone. What is alone in a zone stays, so one more is made there, once there is room."""
    view = view_of("aabb", standings={3: LEAVES})
    there = holding(1, 3, places=(Placed(1, 0), Placed(3, 1), Placed(2, 1)))
    assert steps(there, ground(view, room={4: 0})) == []
    (step,) = steps(there, ground(view))
    assert isinstance(step, Add)
    assert (step.node, step.why) == (4, Why.SPREAD)
    then = dataclasses.replace(there, places=(*there.places, Placed(4, step.index)))
    assert Release(3) in steps(then, ground(view))


# --- many -------------------------------------------------------------------------------------------------------------

domains = st.text("abc", min_size=3, max_size=7)


@given(
    zones=domains,
    hosts=st.text("xyz", min_size=7, max_size=7),
    data=st.data(),
    redundancy=st.sampled_from(REDUNDANCIES),
)
def test_a_gain_is_a_gain_and_none_is_overlooked(zones, hosts, data, redundancy) -> None:
    view = view_of(zones, hosts)
    held = data.draw(st.sets(st.sampled_from(sorted(view)), max_size=redundancy.shards))
    able = data.draw(st.sets(st.sampled_from(sorted(view)), max_size=4))

    def used(some):
        shards = list(enumerate(view[node] for node in some))
        by_zones = apart(((index, at.zone) for index, at in shards), redundancy)
        return by_zones, apart(((index, at.host) for index, at in shards), redundancy)

    gains = Spread(view, able).gains(held, redundancy)
    found = {(each.leaving, each.target): (each.zones, each.hosts) for each in gains}
    for leaving in held:
        for target in able - held:
            before, after = used(held), used(held - {leaving} | {target})
            more = (after[0] - before[0], after[1] - before[1])
            assert keeps_domains(view, held, leaving, target, redundancy) == (min(more) >= 0)
            assert found.get((leaving, target)) == (more if min(more) >= 0 and more != (0, 0) else None)


@dataclasses.dataclass
class World:
    """Some chunks on nodes of limited size, in rounds of decisions that are carried out at once."""

    view: dict[int, NodeView]
    capacity: int  #: shards, on each
    chunks: dict[int, Holding]
    apart: int = 0  #: moves apart that were made

    def load(self) -> Counter[int]:
        return Counter(place.node for chunk in self.chunks.values() for place in chunk.places)

    def ground(self, goals: Goals) -> Ground:
        load = self.load()
        room = {node: (self.capacity - load[node]) * SIZE for node in self.view}
        return ground(self.view, goals=goals, room=room, spare=SIZE)

    def round(self, goals: Goals) -> int:
        """How many steps were made."""
        made = 0
        for number, chunk in self.chunks.items():
            at = self.ground(goals)
            for step in steps(chunk, at):
                made += 1
                places = list(chunk.places)
                if isinstance(step, Add):
                    self.apart += step.why is Why.SPREAD
                    places.append(Placed(step.node, step.index))
                elif isinstance(step, Release):
                    places = [place for place in places if place.node != step.node]
                else:
                    made -= 1
                chunk = self.chunks[number] = dataclasses.replace(chunk, places=tuple(places))
        return made

    def settle(self, goals: Goals, rounds: int) -> None:
        for _ in range(rounds):
            if not self.round(goals):
                return
        raise AssertionError(f"after {rounds} rounds something is still moved: {self}")

    def excess(self) -> dict[int, float]:
        """As rebalancing wants it."""
        load, keeping = self.load(), [node for node, each in self.view.items() if each.standing is KEEPS]
        mean = sum(load[node] for node in keeping) / max(1, len(keeping))
        return {node: 1 - mean / load[node] for node in keeping if load[node] > mean + 1}


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Chunks that were placed without looking at domains, before there were any."""
    zones = draw(domains)
    view = view_of(zones, draw(st.one_of(st.just(""), st.text("wxyz", min_size=7, max_size=7))))
    view = {node: dataclasses.replace(each, host=each.zone + each.host) for node, each in view.items()}
    redundancy = draw(st.sampled_from([each for each in REDUNDANCIES if each.shards <= len(zones)]))
    holders = st.permutations(sorted(view)).map(lambda nodes: nodes[: redundancy.shards])
    chunks = {
        number: holding(*draw(holders), redundancy=redundancy, chunk=number)
        for number in range(1, draw(st.integers(1, 6)) + 1)
    }
    return World(view, draw(st.integers(7, 12)), chunks)


def told(world: World) -> int:
    """As the tallies tell it."""
    load = world.load()
    rooms = {
        node: max(0, (world.capacity - load[node] - 1) * SIZE)
        for node, each in world.view.items()
        if each.standing is KEEPS
    }
    rows = [
        (chunk.redundancy.name, holders_of(tuple((place.node, place.index) for place in chunk.places)), 1, SIZE)
        for chunk in world.chunks.values()
    ]
    return chunks_apart(rows, world.view, rooms)


@given(worlds())
@settings(max_examples=settings.default.max_examples // 2)
def test_surveys_again_and_again_reach_a_state_in_which_all_is_as_far_apart_as_can_be(world: World) -> None:
    world.settle(NO_GOALS, 20)
    load = world.load()
    able = [node for node in world.view if world.capacity - load[node] >= 2]
    for chunk in world.chunks.values():
        assert len(chunk.places) == chunk.redundancy.shards
        assert not Spread(world.view, able).is_wanted([place.node for place in chunk.places], chunk.redundancy)
    assert told(world) == 0, "health has nothing more to say of it"


@given(world=worlds(), leaving=st.integers(1, 7), rounds=st.integers(0, 3))
@settings(max_examples=settings.default.max_examples // 2)
def test_nothing_goes_to_and_fro_between_spreading_rebalancing_and_draining(world, leaving, rounds) -> None:
    before = dict(world.view)
    for _ in range(rounds):
        world.settle(Goals(excess=world.excess()), 20)
    if leaving in before and len(before) > next(iter(world.chunks.values())).redundancy.shards:
        world.view = {**before, leaving: dataclasses.replace(before[leaving], standing=LEAVES)}
        world.settle(Goals(excess=world.excess()), 20)
        world.view = before  # taken back
    far = {number: used_by(world, number) for number in world.chunks}
    world.apart = 0
    for _ in range(6):
        world.settle(Goals(excess=world.excess()), 20)
        world.settle(NO_GOALS, 20)
    for number, chunk in world.chunks.items():
        assert covered(chunk.places, chunk.redundancy) == chunk.redundancy.shards
        if chunk.redundancy.alike:  # of a code one may be there twice: once alone in a zone, and once alone on a host
            assert len(chunk.places) == chunk.redundancy.shards
        assert all(now >= then for now, then in zip(used_by(world, number), far[number], strict=True))
    gained = sum(sum(used_by(world, number)) - sum(before) for number, before in far.items())
    assert world.apart <= gained, "each move apart is for good"


def used_by(world: World, number: int) -> tuple[int, int]:
    """How many shards lie as they should, by zones and by hosts."""
    chunk = world.chunks[number]
    shards = [(place.index, world.view[place.node]) for place in chunk.places]
    by_zones = apart(((index, at.zone) for index, at in shards), chunk.redundancy)
    return by_zones, apart(((index, at.host) for index, at in shards), chunk.redundancy)


# --- the tallies ------------------------------------------------------------------------------------------------------


def test_the_tallies_tell_which_chunks_could_be_spread_better() -> None:
    view = view_of("aabb", standings={4: AWAY})
    rooms = {1: 10 * SIZE, 2: 10 * SIZE, 3: 10 * SIZE}
    rows = [
        ("copies=2", "1;2", 5, 5 * SIZE),
        ("copies=2", "1;3", 7, 7 * SIZE),
        ("copies=2", "1;4", 11, 11 * SIZE),
        ("copies=2", "1,2;3", 13, 13 * SIZE),
        ("copies=1", "1", 17, 17 * SIZE),
        ("copies=2", "1;2;4", 19, 19 * SIZE),
    ]
    assert chunks_apart(rows, view, rooms) == 5 + 19
    assert chunks_apart(rows, view, rooms | {3: SIZE - 1}) == 0
    assert chunks_apart(rows, view, {}) == 0
