"""Which nodes get the shards of a new chunk: a pure function of the chunk and of the members that are up.

It is a proposal. Recorded places are the truth, and nothing moves because this function or the members changed.

*rendezvous* (default): weighted rendezvous hashing (Thaler and Ravishankar 1998; the logarithmic weights of Schindelhauer
and Schomaker 2005). Every node draws a number from (chunk, node); the lowest cost ``-ln(h) / capacity`` wins. A node that
joins or leaves changes only the chunks that it wins or held. Zones come first, then hosts, then nodes, so that one failure
takes as few shards of a chunk as the members allow: no zone or host gets more than may lie together
(:attr:`dsa_zmq.model.redundancy.Redundancy.together`) while another one can take them.

*chained*: chained declustering (Hsiao and DeWitt 1990). Copy ``c`` of chunk ``i`` goes to node ``(i - c + h) mod n``, with
the nodes in the order of their names and ``h`` from the file's first chunk. With four nodes and two copies the chunks lie
on the pairs (1,2) (2,3) (3,4) (4,1) in turn, and the load of a dead node falls on both of its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from dsa_zmq.errors import Invalid, NoSpace, TooFewNodes
from dsa_zmq.model.redundancy import Redundancy, lesser
from dsa_zmq.model.sizes import counted, format_size

DEFAULT_POLICY = "rendezvous"

_NAMED = 3  #: nodes in a refusal, at most
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15  #: 2^64 / golden ratio: the step of splitmix64, keeps neighbouring ids apart
_UNIT = 2.0**-53  #: a double holds 53 random bits exactly


@dataclass(slots=True)
class Member:
    """A node that is up, as placement sees it. Sizes in bytes; ``zone`` and ``host`` are its failure domains.

    Placement changes nothing in it. Whoever places several chunks counts ``free`` down between them.
    """

    node: int
    name: str
    capacity: int
    free: int
    zone: str
    host: str


@dataclass(frozen=True, slots=True)
class _Request:
    chunk: int
    position: int
    anchor: int
    members: Sequence[Member]
    usable: list[Member]  #: those not held and with room; at least ``count``
    count: int
    avoid: AbstractSet[int]
    held: AbstractSet[int]
    together: int  #: shards that may share a domain while there are others


def place(
    policy: str,
    *,
    chunk: int,
    position: int,
    anchor: int,
    members: Sequence[Member],
    count: int,
    shard_bytes: int,
    avoid: AbstractSet[int] = frozenset(),
    held: AbstractSet[int] = frozenset(),
    redundancy: Redundancy | None = None,
    least: int | None = None,
) -> list[int]:
    """Choose ``count`` different nodes, for shard indexes 0 to ``count - 1`` in this order. With ``least``, if there are
    too few members for that: as many as there are with room, but no fewer than ``least``.

    ``position`` is the chunk's index in its file, ``anchor`` the id of the file's first chunk. Nodes in ``held`` have
    another shard of this chunk: they are never chosen, and their domains count as used (as far as they are members).
    Nodes in ``avoid`` are chosen only if there is no other way. Nodes with less than ``shard_bytes`` free are passed
    over. ``redundancy`` is the chunk's; None: copies.

    Raises :class:`TooFewNodes` if there are not enough members, :class:`NoSpace` if not enough of them have room,
    :class:`Invalid` for an unknown policy.
    """
    choose = POLICIES.get(policy)
    if choose is None:
        raise Invalid(f"'{policy}' is not a placement policy", f"use one of: {', '.join(sorted(POLICIES))}")
    usable = [member for member in members if member.free >= shard_bytes and member.node not in held]
    if least is not None and len(usable) < count and sum(member.node not in held for member in members) < count:
        count = max(least, len(usable))
    if len(usable) < count:
        raise _shortage(members, count, shard_bytes, held, redundancy or Redundancy(count, 1))
    together = 1 if redundancy is None else redundancy.together
    return choose(_Request(chunk, position, anchor, members, usable, count, avoid, held, together))


def honours_domains(policy: str) -> bool:
    """Whether it keeps the shards of a chunk in different zones and on different hosts, where there are enough."""
    return policy != "chained"


def _rendezvous(request: _Request) -> list[int]:
    seed = _mix(request.chunk)
    # A logarithm may differ in its last bit between platforms; two costs as close as that are as good as never met.
    ranked = [
        (-math.log(((_mix(seed ^ member.node) >> 11) + 1) * _UNIT) / (member.capacity or 1), member.node, member)
        for member in request.usable
    ]
    ranked.sort()  # node numbers differ, so that members are never compared
    left = [member for _, _, member in ranked]
    zones: dict[str, int] = {}  # shards of this chunk in each, so far
    hosts: dict[str, int] = {}
    if request.held:
        for member in request.members:
            if member.node in request.held:
                _occupy(member, zones, hosts)
    chosen: list[int] = []
    for _ in range(request.count):
        member = left[0]
        if chosen or zones or request.avoid:
            member = _least_shared(left, zones, hosts, request.avoid, request.together)
        left.remove(member)
        _occupy(member, zones, hosts)
        chosen.append(member.node)
    return chosen


def _least_shared(
    left: list[Member], zones: dict[str, int], hosts: dict[str, int], avoid: AbstractSet[int], together: int
) -> Member:
    """The first of ``left`` with the fewest drawbacks: a zone that may take one more, then such a host, then the emptiest
    zone and host."""
    best, best_drawbacks = left[0], (2, 0, 0, 0, 0)
    for member in left:
        zone, host = zones.get(member.zone, 0), hosts.get(member.host, 0)
        drawbacks = (member.node in avoid, zone >= together, host >= together, zone, host)
        if drawbacks < best_drawbacks:
            best, best_drawbacks = member, drawbacks
            if not any(drawbacks):
                break
    return best


def _occupy(member: Member, zones: dict[str, int], hosts: dict[str, int]) -> None:
    zones[member.zone] = zones.get(member.zone, 0) + 1
    hosts[member.host] = hosts.get(member.host, 0) + 1


def _chained(request: _Request) -> list[int]:
    # The ring is made of all members, so that a full or suspected one does not turn it for everybody.
    ring = sorted(request.members, key=lambda member: (member.name, member.node))
    start = request.position + _mix(request.anchor)
    usable = {member.node for member in request.usable}
    chosen: list[int] = []
    for copy in range(request.count):
        fitting = usable - request.avoid or usable
        at = start - copy
        while ring[at % len(ring)].node not in fitting:
            at += 1  # upwards: the node below is the next copy's own
        chosen.append(ring[at % len(ring)].node)
        usable.discard(chosen[-1])
    return chosen


def _mix(value: int) -> int:
    """splitmix64 (Steele, Lea and Flood 2014): 64 well mixed bits, the same everywhere."""
    value = (value + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def _shortage(
    members: Sequence[Member], count: int, shard_bytes: int, held: AbstractSet[int], redundancy: Redundancy
) -> NoSpace:
    """Too few nodes, or too little room on them? Says which, in numbers."""
    others = [member for member in members if member.node not in held]
    if len(others) < count:
        return _too_few(len(members), len(others), count, redundancy)
    roomy = sum(member.free >= shard_bytes for member in others)
    return NoSpace(
        f"{counted(count, 'node')} with {format_size(shard_bytes)} free {'is' if count == 1 else 'are'} needed for a chunk, "
        f"{roomy} of {len(others)} {'has' if roomy == 1 else 'have'} that{_lacks(others, count - roomy, shard_bytes)}",
        "remove files, raise --capacity, or start another node",
    )


def _lacks(members: Sequence[Member], count: int, shard_bytes: int) -> str:
    """By how much the nodes that come next are too full, for so many of them."""
    short = sorted((shard_bytes - member.free, member.name) for member in members if member.free < shard_bytes)
    named = [f"'{name}' lacks {format_size(size)}" for size, name in short[: min(count, _NAMED)]]
    return f" ({', '.join(named)})"


def _too_few(up: int, free_of_it: int, count: int, redundancy: Redundancy) -> TooFewNodes:
    more = "another node" if count - free_of_it == 1 else f"{count - free_of_it} more nodes"
    if free_of_it < up:
        return TooFewNodes(
            f"{counted(count, 'node')} without a shard of the chunk {'is' if count == 1 else 'are'} needed, {up} "
            f"{'is' if up == 1 else 'are'} up and {'all' if not free_of_it else up - free_of_it} hold one",
            f"start {more}",
        )
    at_least = " at least" if 1 < count < redundancy.shards else ""
    message = f"{redundancy.name} needs {counted(count, 'node')}{at_least}, {up} {'is' if up == 1 else 'are'} up"
    choice = lesser(redundancy, up)
    comma = "" if redundancy.alike else ","
    return TooFewNodes(message, f"start {more}{comma} or use {choice}" if choice else f"start {more}")


POLICIES: dict[str, Callable[[_Request], list[int]]] = {"rendezvous": _rendezvous, "chained": _chained}
