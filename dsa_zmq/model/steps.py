"""What is to be done about one chunk, so that each of its shards lies once where it is to stay. Pure.

One function for repair, return, drain, rebalance and damage: it looks at what is there, never at what has happened. It
says nothing of a chunk that is as it should be, so whatever is done may be done again, and a restart loses nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from dsa_zmq.errors import NoSpace
from dsa_zmq.model.domains import apart
from dsa_zmq.model.placement import Member, honours_domains, place
from dsa_zmq.model.redundancy import Redundancy
from dsa_zmq.model.spread import Spread, keeps_domains
from dsa_zmq.model.upkeep import NodeView, Placed, Standing, Why, covered, keepers, live, remaining

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


@dataclass(frozen=True, slots=True)
class Goals:
    """What is wanted beyond one place for each shard, and what is to wait."""

    held: bool = False  #: nothing is made anew or removed, but what is damaged
    just_away: frozenset[int] = frozenset()  #: down so briefly that nothing they hold is made anew yet
    briefly_away: frozenset[int] = frozenset()  #: the same, as long as redundancy is left
    removed: frozenset[int] = frozenset()  #: nodes whose places go once the chunk is healthy without them
    spread: bool = True  #: what could lie in other zones or on other hosts may move there
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
    if any(isinstance(step, Stuck) and step.why.heals for step in added):
        added += _make_room(holding, ground)
    return added or list(_release_all(holding, ground)) or _move_apart(holding, ground)


def sources(places: Sequence[Placed], view: Mapping[int, NodeView]) -> list[Placed]:
    """Places that are worth asking for bytes, the best first."""
    readable = [each for each in places if each.node in view and view[each.node].standing.readable]
    return sorted(readable, key=lambda each: (view[each.node].standing, each.node))


# --- making shards ----------------------------------------------------------------------------------------------------


def _add_all(holding: Holding, ground: Ground) -> Iterator[Step]:
    is_readable = _is_readable(holding, ground)
    own = {place.index for place in sources(holding.places, ground.view)}
    taken: list[Placed] = []
    for index, why in _to_be_made(holding, ground):
        if not is_readable and index not in own:
            continue  # nothing to make it from; what is there can still be copied
        if why.can_wait and taken:
            continue  # one at a time, so that each is seen with what the last has changed
        target = _target(holding, ground, index, why, taken)
        if target is None:
            if not why.can_wait:
                yield Stuck(index, why)
        else:
            taken.append(target)
            yield Add(target.index, target.node, why)


def _is_readable(holding: Holding, ground: Ground) -> bool:
    there = covered(sources(holding.places, ground.view), holding.redundancy)
    return there >= holding.redundancy.needed


def _stays(holding: Holding, ground: Ground, placed: Placed) -> bool:
    return ground.view[placed.node].standing is not Standing.LEAVES and not ground.goals.leaving(
        holding.chunk, placed.node
    )


def _to_be_made(holding: Holding, ground: Ground) -> list[tuple[int, Why]]:
    """Each shard that is to be made, and why.

    Whatever may bear a shard is looked at in turn, the best first. It bears the shard that it is; if something better does
    that already, and shards are alike, it stands in for one that nothing as good bears: so what is made is a shard that no
    place has which stays.
    """
    redundancy = holding.redundancy
    empty = set(range(redundancy.shards))
    made: dict[int, Why] = {}
    for why, places in _bearers(holding, ground):
        own = {place.index for place in places} & empty
        empty -= own
        stand_ins = sum(0 <= place.index < redundancy.shards for place in places) - len(own) if redundancy.alike else 0
        others = set(sorted(empty)[:stand_ins])
        empty -= others
        if why is not None:
            made |= dict.fromkeys(own | others, why)
    if not ground.goals.held:
        made |= dict.fromkeys(empty, Why.REPAIR)
    return sorted(made.items())


def _bearers(holding: Holding, ground: Ground) -> list[tuple[Why | None, list[Placed]]]:
    """All that may bear a shard, the best first: with why the shard is to be made all the same. None: it is not, or not
    now."""
    view, goals = ground.view, ground.goals
    there = live(holding.places, view)
    staying = [each for each in there if _stays(holding, ground, each)]
    drained = [each for each in there if view[each.node].standing is Standing.LEAVES]
    waiting = goals.just_away
    if remaining(holding.places, holding.redundancy, view) > 0:
        waiting |= goals.briefly_away
    mended = {each.node for each in holding.pending}
    return [
        (None, staying),
        (None, list(holding.pending)),
        (None if goals.held else Why.DRAIN, drained),
        (None if goals.held else Why.REBALANCE, _given(holding, ground)),
        (None, [each for each in holding.places if each not in there and each.node in waiting]),
        (Why.BAD, [each for each in holding.bad if each.node not in mended]),
    ]


def _given(holding: Holding, ground: Ground) -> list[Placed]:
    """Places that nodes give away because they are too full."""
    there = live(holding.places, ground.view)
    return [
        each
        for each in there
        if ground.view[each.node].standing is not Standing.LEAVES and not _stays(holding, ground, each)
    ]


def _target(holding: Holding, ground: Ground, index: int, why: Why, taken: Sequence[Placed]) -> Placed | None:
    """Where to make it: by placement, with the other shards as held. A damaged shard may be mended where it is: it, or of
    shards that are alike whichever is there."""
    size = holding.redundancy.shard_bytes(holding.length)
    bad = {each.node for each in holding.bad}
    gone = {each.node for each in holding.places if not _counts_as_held(holding, ground, each)}
    held = {each.node for each in (*holding.places, *holding.pending, *taken)}
    members = [each for each in ground.members if each.node not in holding.dropping | bad | gone]
    node = _place(holding, ground, index, why, members, held, size)
    target = None if node is None else Placed(node, index)
    mendable = None if why.can_wait else _mendable(holding, ground, index, size, held)
    if mendable is not None and (
        target is None or _shares_more(holding.redundancy, target.node, mendable.node, members, held, ground.view)
    ):
        target = mendable
    if target is not None:
        _take_room(ground, target.node, size)
    return target


def _take_room(ground: Ground, node: int, size: int) -> None:
    next(each for each in ground.members if each.node == node).free -= size


def _counts_as_held(holding: Holding, ground: Ground, placed: Placed) -> bool:
    """Whether a place occupies its domain: it is there, and will be."""
    return placed.node in ground.view and _stays(holding, ground, placed)


def _place(
    holding: Holding, ground: Ground, index: int, why: Why, members: list[Member], held: AbstractSet[int], size: int
) -> int | None:
    if not why.heals:
        members = [_less(each, ground.spare.get(each.node, 0)) for each in members if not _overfull(ground, each)]
    if why is Why.REBALANCE:  # what lies apart stays apart, or it would have to stay twice, or come back
        given = [each.node for each in _given(holding, ground) if each.index == index or holding.redundancy.alike]
        there = {each.node for each in (*live(holding.places, ground.view), *holding.pending)}
        members = [
            each
            for each in members
            if each.node in held
            or any(keeps_domains(ground.view, there, node, each.node, holding.redundancy) for node in given)
        ]
    try:
        (node,) = place(
            ground.policy, chunk=holding.chunk, position=index, anchor=holding.chunk, members=members, count=1,
            shard_bytes=size, held=held, redundancy=holding.redundancy,
        )  # fmt: skip
    except NoSpace:  # TooFewNodes is one
        return None
    return node


def _overfull(ground: Ground, member: Member) -> bool:
    return ground.goals.excess.get(member.node, 0.0) > 0


def _less(member: Member, spare: int) -> Member:
    return Member(member.node, member.name, member.capacity, member.free - spare, member.zone, member.host)


def _mendable(holding: Holding, ground: Ground, index: int, size: int, held: AbstractSet[int]) -> Placed | None:
    """The damaged place that may be mended, whose node can take the bytes once more."""
    able = {each.node for each in ground.members if each.free >= size} - held
    bad = sorted(holding.bad, key=lambda each: each.index != index)
    return next((each for each in bad if each.node in able and (each.index == index or holding.redundancy.alike)), None)


def _shares_more(
    redundancy: Redundancy,
    node: int,
    other: int,
    members: Sequence[Member],
    held: AbstractSet[int],
    view: Mapping[int, NodeView],
) -> bool:
    """Whether more of the domains of the first of two nodes have as many shards as may lie together."""
    zones = Counter(each.zone for each in members if each.node in held)
    hosts = Counter(each.host for each in members if each.node in held)

    def full(at: NodeView) -> tuple[bool, bool]:
        return zones[at.zone] >= redundancy.together, hosts[at.host] >= redundancy.together

    return full(view[node]) > full(view[other])


def _move_apart(holding: Holding, ground: Ground) -> list[Step]:
    """The chunk is whole, and so many of its shards need not share a zone or a host: one of them goes where there may be one
    more, the fullest node's first. It is let go as what is there twice."""
    redundancy, view = holding.redundancy, ground.view
    kept = [each for each in live(holding.places, view) if view[each.node].standing is Standing.KEEPS]
    if ground.goals.held or not ground.goals.spread or holding.pending or not honours_domains(ground.policy):
        return []
    if len(kept) != redundancy.shards or covered(kept, redundancy) < redundancy.shards:
        return []
    size = redundancy.shard_bytes(holding.length)
    barred = holding.dropping | {each.node for each in (*holding.places, *holding.bad)}
    members = [_less(each, ground.spare.get(each.node, 0)) for each in ground.members]
    able = [each.node for each in members if each.free >= size and not _overfull(ground, each)]
    held = {each.node for each in kept}
    gains = list(Spread(view, set(able) - barred).gains(held, redundancy))
    if not gains:
        return []
    free = {each.node: each.free / (each.capacity or 1) for each in ground.members}
    best = min(gains, key=lambda gain: (-gain.zones, -gain.hosts, free.get(gain.leaving, 0.0), gain.leaving))
    targets = {
        each.target
        for each in gains
        if (each.leaving, each.zones, each.hosts) == (best.leaving, best.zones, best.hosts)
    }
    index = next(each.index for each in kept if each.node == best.leaving)
    (node,) = place(
        ground.policy, chunk=holding.chunk, position=index, anchor=holding.chunk, count=1, shard_bytes=size,
        members=[each for each in members if each.node in targets or each.node in held], held=held,
        redundancy=redundancy,
    )  # fmt: skip
    _take_room(ground, node, size)
    return [Add(index, node, Why.SPREAD)]


# --- letting go -------------------------------------------------------------------------------------------------------


def _release_all(holding: Holding, ground: Ground) -> Iterator[Step]:
    if ground.goals.held:
        return
    left = list(holding.places)
    leaving = _on_leaving_nodes(ground, left)
    for gone in (*holding.bad, *_void(ground, left), *leaving):
        # Of a chunk that cannot be made whole its node is emptied all the same: another one has the same shard.
        is_copied = gone in leaving and not _is_readable(holding, ground)
        if _is_superfluous(holding, ground, left, gone, good=gone not in holding.bad, is_whole=not is_copied):
            left = [each for each in left if each is not gone]
            yield Release(gone.node)
    while (surplus := _surplus(holding, ground, left)) is not None:
        left.remove(surplus)
        yield Release(surplus.node)


def _is_superfluous(
    holding: Holding,
    ground: Ground,
    left: Sequence[Placed],
    gone: Placed,
    *,
    good: bool = True,
    is_whole: bool = True,
) -> bool:
    """Whether the chunk is whole without it; or at least, nothing less is there."""
    kept = keepers(left, gone, holding.redundancy, ground.view, good=good)
    return kept is not None and (not is_whole or covered(kept, holding.redundancy) == holding.redundancy.shards)


def _void(ground: Ground, left: Sequence[Placed]) -> list[Placed]:
    """Those of stores that others have taken the name of."""
    return [each for each in left if each.node in ground.goals.removed]


def _on_leaving_nodes(ground: Ground, left: Sequence[Placed]) -> list[Placed]:
    return [each for each in live(left, ground.view) if ground.view[each.node].standing is Standing.LEAVES]


def _surplus(holding: Holding, ground: Ground, left: Sequence[Placed]) -> Placed | None:
    """The one of which there is too much and that goes first, if any may."""
    return next((each for each in _twice(holding, ground, left) if _is_superfluous(holding, ground, left, each)), None)


def _twice(holding: Holding, ground: Ground, left: Sequence[Placed]) -> list[Placed]:
    """Places on nodes that keep, without which others that do cover as much. First what is to leave, then what hurts domains
    least, then what is there twice by its index, then the fullest node's."""
    view, redundancy = ground.view, holding.redundancy
    free = {each.node: each.free / (each.capacity or 1) for each in ground.members}
    kept = [each for each in left if each.node in view and view[each.node].standing is Standing.KEEPS]
    much = covered(kept, redundancy)

    def rank(each: Placed) -> tuple[bool, int, int, bool, float, int]:
        others = [other for other in kept if other is not each]
        leaving = ground.goals.leaving(holding.chunk, each.node)
        zones = apart(((other.index, view[other.node].zone) for other in others), redundancy)
        hosts = apart(((other.index, view[other.node].host) for other in others), redundancy)
        is_alone = all(other.index != each.index for other in others)
        return not leaving, -zones, -hosts, is_alone, free.get(each.node, 0.0), each.node

    twice = [each for each in kept if covered([other for other in kept if other is not each], redundancy) == much]
    return sorted(twice, key=rank)


def _make_room(holding: Holding, ground: Ground) -> list[Release]:
    """A shard is missing, and whoever could take it has another of this chunk. What is there twice goes, so that its node
    can have the missing one; one at a time."""
    if ground.goals.held or holding.redundancy.alike:
        return []  # if shards are alike, what is there twice stands in already
    size = holding.redundancy.shard_bytes(holding.length)
    roomy = {each.node for each in ground.members if each.free >= size}
    return [Release(each.node) for each in _twice(holding, ground, holding.places) if each.node in roomy][:1]


def _mix(value: int) -> int:
    """splitmix64: 64 well mixed bits, the same everywhere."""
    value = (value + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
