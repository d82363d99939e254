"""The cluster's health: chunks counted by risk from the tallies, and what is wrong in plain sentences. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from dsa_zmq.master.catalog.census_rules import Present, judged
from dsa_zmq.master.catalog.health import Tally
from dsa_zmq.master.catalog.jobs import Totals
from dsa_zmq.master.members import DOWN, FAILED, SUSPECT, UP, Members
from dsa_zmq.master.settings import SECOND_NS
from dsa_zmq.master.uploads import Uploads
from dsa_zmq.model.capacity import storable_bytes
from dsa_zmq.model.domains import fit
from dsa_zmq.model.holders import Safety, groups_of, nodes_of, shards_held
from dsa_zmq.model.redundancy import Redundancy, parse_redundancy
from dsa_zmq.model.sizes import counted, format_duration
from dsa_zmq.protocol.operations import Capacity, HealthReport
from dsa_zmq.protocol.values import NodeInfo, RepairWait


@dataclass(slots=True)
class ChunkCount:
    """All chunks and their bytes by state, each healthy, degraded, endangered, lost; and what is to be made anew."""

    chunks: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    bytes: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    missing_bytes: int = 0  #: of shards that can be made from others
    void: Counter[str] = field(default_factory=Counter)
    """Shards of chunks that are not healthy, on stores that are removed, by the name of their node."""
    waiting: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Chunks whose repair waits for a node that may come back, by how long (ns) and the node."""


@dataclass(frozen=True, slots=True)
class Healing:
    """What goes on, as the departments that do it tell."""

    moves: int = 0  #: shards that are being made or moved, or wait for it
    moves_bytes: int = 0
    rate: int = 0  #: bytes a second, lately
    stuck: int = 0  #: shards for which there is no node
    apart: int = 0  #: chunks that could be spread better
    held: str = ""  #: why repair waits
    delays: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """For how long (ns) it waits for each node that may come back: where no redundancy is left, and elsewhere."""


def present(members: Members, served_ns: int, without: Collection[int] = ()) -> Present:
    """Whose places count now, and who may be read, if these nodes were lost as well."""
    standings = {node: each for node, each in members.standings(served_ns).items() if node not in without}
    return Present(
        frozenset(node for node, standing in standings.items() if standing.counts),
        frozenset(node for node, standing in standings.items() if standing.readable),
    )


def count(tally: Tally, there: Present, delays: Mapping[int, tuple[int, int]] | None = None) -> ChunkCount:
    """Judge all chunks, a row of the tally at a time. ``delays`` as in :class:`Healing`."""
    result = ChunkCount()
    for row in tally.holders:
        redundancy = parse_redundancy(row.redundancy)
        counting = shards_held(row.holders, there.counting, redundancy)
        state = judged(counting, shards_held(row.holders, there.readable, redundancy), redundancy)
        result.chunks[state] += row.chunks
        result.bytes[state] += row.bytes
        if state is not Safety.HEALTHY and tally.removed:
            for node in nodes_of(row.holders) & tally.removed.keys():
                result.void[tally.removed[node]] += row.chunks
        if delays and state in (Safety.DEGRADED, Safety.ENDANGERED):
            for wait in _awaited(row.holders, redundancy, there, delays, is_endangered=state is Safety.ENDANGERED):
                result.waiting[wait] += row.chunks
        if state is not Safety.LOST:
            result.missing_bytes += redundancy.shard_bytes(row.bytes) * max(0, redundancy.shards - counting)
    return result


def _awaited(
    holders: str,
    redundancy: Redundancy,
    there: Present,
    delays: Mapping[int, tuple[int, int]],
    *,
    is_endangered: bool,
) -> set[tuple[int, int]]:
    """For how long (ns), and for which node, each shard waits that nobody has now: for the last of those that had it, or of
    those that could stand in."""

    def wait(node: int) -> tuple[int, int]:
        return delays.get(node, (0, 0))[not is_endangered], node

    if redundancy.alike:
        missing = redundancy.shards - shards_held(holders, there.counting, redundancy)
        found = sorted(map(wait, nodes_of(holders) - there.counting), reverse=True)[:missing]
    else:
        found = [max(map(wait, group)) for group in groups_of(holders) if group.isdisjoint(there.counting)]
    return {(left_ns, node) for left_ns, node in found if left_ns}


def report(
    tally: Tally,
    members: Members,
    served_ns: int,
    default_redundancy: str,
    healing: Healing,
    without: Collection[int] = (),
) -> HealthReport:
    """The whole answer, but for what the census adds. With ``without``: as if those nodes were lost now, too."""
    result = count(tally, present(members, served_ns, without), healing.delays)
    healthy, degraded, endangered, lost = result.chunks
    healthy_bytes, degraded_bytes, endangered_bytes, lost_bytes = result.bytes
    return HealthReport(
        healthy_chunks=healthy,
        degraded_chunks=degraded,
        endangered_chunks=endangered,
        lost_chunks=lost,
        nodes_up=sum(state.row.node not in without for state in members.all_up(served_ns)),
        nodes=len(members),
        notes=[
            *_lost(0 if without else lost),
            *notes(members, served_ns, default_redundancy, {row.redundancy for row in tally.holders}),
            *_void(result.void),
            *_stuck(healing.stuck),
            *_apart(healing),
        ],
        healthy_bytes=healthy_bytes,
        degraded_bytes=degraded_bytes,
        endangered_bytes=endangered_bytes,
        lost_bytes=lost_bytes,
        moves=healing.moves,
        moves_bytes=healing.moves_bytes,
        moves_rate=healing.rate,
        seconds_left=_seconds_left(result.missing_bytes, healing),
        held=healing.held,
        waits=[] if healing.held else _waits(result.waiting, members),
    )


def _waits(waiting: Mapping[tuple[int, int], int], members: Members) -> list[RepairWait]:
    """The first first. What has no redundancy left begins earlier than the rest, so a node may be there twice."""
    names = {state.row.node: state.row.name for state in members}
    return [
        RepairWait(names[node], chunks, -(-left_ns // SECOND_NS)) for (left_ns, node), chunks in sorted(waiting.items())
    ]


def _seconds_left(missing_bytes: int, healing: Healing) -> int:
    """Until nothing is to be made or moved, at the present rate; -1 if nobody can know."""
    left = max(missing_bytes, healing.moves_bytes)
    if not left:
        return 0
    if not healing.rate or healing.held or (healing.stuck and not healing.moves):
        return -1
    return -(-left // healing.rate)


def notes(members: Members, served_ns: int, default_redundancy: str, used: Collection[str] = ()) -> list[str]:
    """What is wrong with the nodes and what would help, the worst first; empty if all is well. ``used``: redundancies of
    what is stored."""
    infos = members.describe(served_ns)
    said = []
    for info in infos:
        silent = format_duration(info.silent_ms // 1000)
        if info.state == DOWN:
            said.append(f"node '{info.name}' is down: not heard for {silent}; start it again, or see to its host")
    for info in infos:
        if info.state == FAILED:
            said.append(f"node '{info.name}' has failed: {info.failure}; see to its disk, then restart it")
    said += [
        f"node '{info.name}' is suspect: {info.reach or 'not heard for ' + format_duration(info.silent_ms // 1000)}"
        for info in infos
        if info.state == SUSPECT
    ]
    needed = parse_redundancy(default_redundancy).shards
    up = sum(info.state == UP for info in infos)
    if up < needed:
        nodes_are = "1 node is" if up == 1 else f"{up} nodes are"
        said.append(
            f"{nodes_are} up, {default_redundancy} needs {needed}: such files cannot be written; "
            f"start {needed - up} more"
        )
    default = parse_redundancy(default_redundancy)
    said += _crowded(infos, default, default.together)
    for redundancy in map(parse_redundancy, sorted({*used} - {default_redundancy})):
        said += _crowded(infos, redundancy, redundancy.tolerates)
    said += _shared_fate(members)
    said += _builds(infos)
    return said


def _crowded(infos: Sequence[NodeInfo], redundancy: Redundancy, together: int) -> list[str]:
    """A sentence if there are zones, and some gets more shards of a chunk than ``together``; or if the end of a host may be
    final."""
    up = [info for info in infos if info.state == UP and not info.draining]  # what is being emptied takes none
    if not together or len(up) < redundancy.shards:
        return []
    zones, hosts = [info.zone for info in up], [info.host for info in up]
    if any(zones) and not fit(zones, redundancy.shards, together):
        wanted = -(-redundancy.shards // together)
        there = (
            f"{counted(len(set(zones)), 'zone')} with nodes that are up and stay, {redundancy.name} would use {wanted}"
        )
        why = "the loss of one zone may be final" if redundancy.alike else _takes("zone", redundancy)
        return [f"{there}: {why}; start nodes in other zones"]
    if len(set(hosts)) > 1 and redundancy.tolerates and not fit(hosts, redundancy.shards, redundancy.tolerates):
        return [f"{_takes('host', redundancy)}; start nodes on other hosts"]
    return []


def _takes(domain: str, redundancy: Redundancy) -> str:
    return (
        f"a {domain}'s end would take more than {counted(redundancy.tolerates, 'shard')} of a chunk with {redundancy.name},"
        " and be final"
    )


def _void(shards: Mapping[str, int]) -> list[str]:
    """A sentence for each node that has left shards that are missing on another store."""
    return [
        f"node '{name}' came back with another store: {counted(count, 'shard')} {'are' if count > 1 else 'is'} on its "
        "former one, and missed; bring that disk back if you can"
        for name, count in sorted(shards.items())
    ]


def _lost(chunks: int) -> list[str]:
    """One sentence if something cannot be read. There may be no other: every node may be up, and the shards bad."""
    if not chunks:
        return []
    are = "is" if chunks == 1 else "are"
    return [
        f"{counted(chunks, 'chunk')} {are} lost: no node that is heard has a good copy; bring back nodes that are away, or "
        "store these files again ('dsa health --files lost' names them)"
    ]


def _stuck(shards: int) -> list[str]:
    """One sentence if repair knows what is to be made, and not where."""
    if not shards:
        return []
    are = "is" if shards == 1 else "are"
    return [f"{counted(shards, 'shard')} {are} missing and no node can take them: start another node, or free space"]


def _apart(healing: Healing) -> list[str]:
    """One sentence if shards share a zone or a host and need not."""
    if not healing.apart:
        return []
    each = "its shards share" if healing.apart == 1 else "shards of each share"
    return [
        f"{counted(healing.apart, 'chunk')} could be spread better: {each} a zone or a host while others have room; "
        "that is done in the background, some minutes after zones have changed"
    ]


def _builds(infos: Sequence[NodeInfo]) -> list[str]:
    """One sentence if nodes run different builds: how far an upgrade has come."""
    builds: dict[str, list[str]] = {}
    for info in infos:
        if info.protocol:
            builds.setdefault(f"{info.software or 'an earlier build'}, protocol {info.protocol}", []).append(info.name)
    if len(builds) < 2:
        return []
    run = "; ".join(f"{', '.join(names)}: {build}" for build, names in sorted(builds.items()))
    return [f"nodes run different builds ({run}): that works for as long as an upgrade takes; upgrade the others, too"]


def _shared_fate(members: Members) -> list[str]:
    """One sentence if all nodes share a disk or a host: copies then guard against less than people think."""
    rows = [state.row for state in members]
    if len(rows) < 2:
        return []
    if (
        len({row.disk for row in rows}) == 1
    ):  # asked first: a cluster on one machine gives each node a host name of its own
        return [f"all {len(rows)} nodes are on one disk: losing it loses everything; put nodes on other machines"]
    if len({row.host for row in rows}) > 1:
        return []
    return [
        f"all {len(rows)} nodes are on one host: while it is down, nothing can be read; put nodes on other machines"
    ]


def complete_capacity(totals: Totals, members: Members, uploads: Uploads, served_ns: int) -> Capacity:
    """Statfs's answer: sums over the nodes, what still fits, and the catalog's totals."""
    up = members.up(served_ns)
    free = [max(0, state.free - uploads.reserved_bytes(state.row.node)) for state in up]
    redundancy = parse_redundancy(totals.redundancy)
    return Capacity(
        capacity=sum(state.row.capacity for state in members),
        used=sum(state.used for state in members),
        free=sum(free),
        storable=redundancy.needed * storable_bytes(free, redundancy.shards),
        redundancy=totals.redundancy,
        nodes_up=len(up),
        nodes=len(members),
        files=totals.files,
        content_bytes=totals.content_bytes,
    )
