"""What is to be done about one chunk, so that each of its shards lies once where it is to stay. Pure.

One function for repair, return, drain, rebalance and damage: it looks at what is there, never at what has happened. It
says nothing of a chunk that is as it should be, so whatever is done may be done again, and a restart loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from dsa_zmq.errors import NoSpace
from dsa_zmq.model.placement import Member, place
from dsa_zmq.model.redundancy import Redundancy
from dsa_zmq.model.upkeep import NodeView, Placed, Standing, Why, keepers, live, remaining

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


@dataclass(frozen=True, slots=True)
class Goals:
    """What is wanted beyond one place for each shard, and what is to wait."""

    held: bool = False  #: nothing is made anew or removed, but what is damaged
    just_away: frozenset[int] = frozenset()  #: down so briefly that nothing they hold is made anew yet
    briefly_away: frozenset[int] = frozenset()  #: the same, as long as redundancy is left
    removed: frozenset[int] = frozenset()  #: nodes whose places go once the chunk is healthy without them
    excess: Mapping[int, float] = field(default_factory=dict)  #: node -> share of its places that is to go elsewhere

    def leaving(self, chunk: int, node: int) -> bool:
        """Whether this place is of the share that is to go: always the same answer, without a row for each place."""
        share = self.excess.get(node, 0.0)
        return share > 0 and _mix(_mix(chunk) ^ node) < share * (_MASK + 1)


@dataclass(slots=True)
class Ground:
    """The nodes as one round of decisions sees them. ``members`` lose what the moves that are planned take from them.

    ``members`` are the nodes that keep, with the room that healing may use, and those that are silent, without any: they
    count as domains. ``spare`` is what moves for other reasons leave of that room, by node.
    """

    view: Mapping[int, NodeView]
    goals: Goals
    members: Sequence[Member]
    policy: str
    spare: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Holding:
    """A chunk and everything that is known of its shards."""

    chunk: int
    length: int
    redundancy: Redundancy
    places: tuple[Placed, ...]  #: not damaged; of whatever nodes
    bad: tuple[Placed, ...] = ()
    pending: tuple[Placed, ...] = ()  #: moves under way
    dropping: frozenset[int] = frozenset()  #: nodes that are to drop a shard of it: nothing goes there


@dataclass(frozen=True, slots=True)
class Add:
    """Make this shard on that node."""

    index: int
    node: int
    why: Why


@dataclass(frozen=True, slots=True)
class Release:
    """The place on this node is superfluous."""

    node: int


@dataclass(frozen=True, slots=True)
class Stuck:
    """This shard should be made, and there is no node for it."""

    index: int
    why: Why


Step = Add | Release | Stuck


def steps(holding: Holding, ground: Ground) -> list[Step]:
    """All that is to be done now; empty if all is as it should be, or has to wait. Takes the room of what it adds."""
    added = list(_add_all(holding, ground))
    return added or list(_release_all(holding, ground))


def sources(places: Sequence[Placed], view: Mapping[int, NodeView]) -> list[Placed]:
    """Places that are worth asking for bytes, the best first."""
    readable = [each for each in places if each.node in view and view[each.node].standing.readable]
    return sorted(readable, key=lambda each: (view[each.node].standing, each.node))


# --- making shards ----------------------------------------------------------------------------------------------------


def _add_all(holding: Holding, ground: Ground) -> Iterator[Step]:
    redundancy, view = holding.redundancy, ground.view
    if len({each.index for each in sources(holding.places, view)}) < redundancy.needed:
        return  # nothing to make a shard from
    there = live(holding.places, view)
    under_way = {each.index for each in holding.pending}
    taken: list[Placed] = []
    for index in range(redundancy.shards):
        if index in under_way:
            continue
        held = [each for each in there if each.index == index]
        if any(_stays(holding, ground, each) for each in held):
            continue
        why = _why(holding, ground, index, held)
        if why is None:
            continue
        node = _target(holding, ground, index, why, taken)
        if node is None:
            yield Stuck(index, why)
        else:
            taken.append(Placed(node, index))
            yield Add(index, node, why)


def _stays(holding: Holding, ground: Ground, placed: Placed) -> bool:
    return ground.view[placed.node].standing is not Standing.LEAVES and not ground.goals.leaving(
        holding.chunk, placed.node
    )


def _why(holding: Holding, ground: Ground, index: int, held: Sequence[Placed]) -> Why | None:
    """Why this shard is to be made; None while that has to wait."""
    goals = ground.goals
    if held:
        if goals.held:
            return None
        leaves = any(ground.view[each.node].standing is Standing.LEAVES for each in held)
        return Why.DRAIN if leaves else Why.REBALANCE
    if any(each.index == index for each in holding.bad):
        return Why.BAD
    if goals.held:
        return None
    nodes = {each.node for each in holding.places if each.index == index}
    if nodes & goals.just_away:
        return None
    if nodes & goals.briefly_away and remaining(holding.places, holding.redundancy, ground.view) > 0:
        return None
    return Why.REPAIR


def _target(holding: Holding, ground: Ground, index: int, why: Why, taken: Sequence[Placed]) -> int | None:
    """Where to make it: by placement, with the other shards as held. A damaged shard may be mended where it is."""
    size = holding.redundancy.shard_bytes(holding.length)
    bad = {each.node for each in holding.bad}
    gone = {each.node for each in holding.places if not _counts_as_held(holding, ground, each)}
    held = {each.node for each in (*holding.places, *holding.pending, *taken)}
    members = [each for each in ground.members if each.node not in holding.dropping | bad | gone]
    node = _place(holding, ground, index, why, members, held, size)
    mendable = _mendable(holding, ground, index, size)
    if mendable is not None and (node is None or _shares_more(node, mendable.node, members, held, ground.view)):
        node = mendable.node
    if node is not None:
        next(each for each in ground.members if each.node == node).free -= size
    return node


def _counts_as_held(holding: Holding, ground: Ground, placed: Placed) -> bool:
    """Whether a place occupies its domain: it is there, and will be."""
    return placed.node in ground.view and _stays(holding, ground, placed)


def _place(
    holding: Holding, ground: Ground, index: int, why: Why, members: list[Member], held: AbstractSet[int], size: int
) -> int | None:
    if not why.heals:
        members = [_less(each, ground.spare.get(each.node, 0)) for each in members if not _overfull(ground, each)]
    try:
        (node,) = place(
            ground.policy, chunk=holding.chunk, position=index, anchor=holding.chunk, members=members, count=1,
            shard_bytes=size, held=held,
        )  # fmt: skip
    except NoSpace:  # TooFewNodes is one
        return None
    return node


def _overfull(ground: Ground, member: Member) -> bool:
    return ground.goals.excess.get(member.node, 0.0) > 0


def _less(member: Member, spare: int) -> Member:
    return Member(member.node, member.name, member.capacity, member.free - spare, member.zone, member.host)


def _mendable(holding: Holding, ground: Ground, index: int, size: int) -> Placed | None:
    """The damaged place of this shard whose node can take the bytes once more."""
    able = {each.node for each in ground.members if each.free >= size}
    return next((each for each in holding.bad if each.index == index and each.node in able), None)


def _shares_more(
    node: int, other: int, members: Sequence[Member], held: AbstractSet[int], view: Mapping[int, NodeView]
) -> bool:
    """Whether the first of two nodes shares more of its domains with those that hold something."""
    zones = {each.zone for each in members if each.node in held}
    hosts = {each.host for each in members if each.node in held}
    return (view[node].zone in zones, view[node].host in hosts) > (view[other].zone in zones, view[other].host in hosts)


# --- letting go -------------------------------------------------------------------------------------------------------


def _release_all(holding: Holding, ground: Ground) -> Iterator[Step]:
    if ground.goals.held:
        return
    left = list(holding.places)
    bad = {each.node for each in holding.bad}
    for candidates in (_void, _on_leaving_nodes, _surplus):
        for node in candidates(holding, ground, left):
            if keepers(left, node, holding.redundancy, ground.view, good=node not in bad) is not None:
                left = [each for each in left if each.node != node]
                yield Release(node)


def _void(holding: Holding, ground: Ground, left: Sequence[Placed]) -> list[int]:
    """Damaged ones, and those of stores that others have taken the name of."""
    return [each.node for each in holding.bad] + [each.node for each in left if each.node in ground.goals.removed]


def _on_leaving_nodes(holding: Holding, ground: Ground, left: Sequence[Placed]) -> list[int]:
    return [each.node for each in live(left, ground.view) if ground.view[each.node].standing is Standing.LEAVES]


def _surplus(holding: Holding, ground: Ground, left: Sequence[Placed]) -> list[int]:
    """All but one for each shard. First what is to leave, then what hurts domains least, then the fullest node's."""
    view = ground.view
    free = {each.node: each.free / (each.capacity or 1) for each in ground.members}
    found: list[int] = []
    kept = [each for each in left if each.node in view and view[each.node].standing is Standing.KEEPS]
    for index in range(holding.redundancy.shards):
        while sum(each.index == index for each in kept) > 1:

            def rank(each: Placed) -> tuple[bool, int, int, float, int]:
                others = [view[other.node] for other in kept if other is not each]
                leaving = ground.goals.leaving(holding.chunk, each.node)
                zones, hosts = len({other.zone for other in others}), len({other.host for other in others})
                return not leaving, -zones, -hosts, free.get(each.node, 0.0), each.node

            first = min((each for each in kept if each.index == index), key=rank)
            kept.remove(first)
            found.append(first.node)
    return found


def _mix(value: int) -> int:
    """splitmix64: 64 well mixed bits, the same everywhere."""
    value = (value + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
