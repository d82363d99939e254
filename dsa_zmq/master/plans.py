"""What a task would do, in numbers and in words, from the tallies alone. Pure.

Begun or only looked at, a task is planned by the same function: see :mod:`dsa_zmq.master.catalog.task_rules`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dsa_zmq.errors import Conflict, DSAError, NoSpace, TooFewNodes, Unavailable
from dsa_zmq.model.domains import fit
from dsa_zmq.model.holders import nodes_of, shards_held
from dsa_zmq.model.redundancy import Redundancy, lesser, parse_redundancy
from dsa_zmq.model.sizes import counted, format_duration, format_size
from dsa_zmq.model.upkeep import Standing
from dsa_zmq.protocol.values import Failure, Plan

DRAIN, REBALANCE, CONVERT, REMOVE, GC, SCRUB = "drain", "rebalance", "convert", "remove", "gc", "scrub"
LOST = "lost"  #: argument of REMOVE: also if something cannot be read any more then


@dataclass(frozen=True, slots=True)
class PlannedNode:
    """A node that is not removed, as a plan sees it. Sizes in bytes."""

    node: int
    name: str
    standing: Standing
    zone: str
    host: str
    capacity: int
    room: int  #: that moves may use, if it keeps
    shards: int  #: live places, by the catalog
    bytes: int  #: of these


@dataclass(frozen=True, slots=True)
class Held:
    """So many chunks are held in one way: see :mod:`dsa_zmq.model.holders`."""

    redundancy: str
    holders: str
    chunks: int
    bytes: int  #: of content


@dataclass(frozen=True, slots=True)
class Cluster:
    """All that a plan depends on."""

    nodes: Sequence[PlannedNode]
    held: Sequence[Held]
    root: str  #: redundancy of the root
    rate: int  #: bytes a second that one node sends or takes for moves

    def named(self, name: str) -> PlannedNode | None:
        return next((node for node in self.nodes if node.name == name), None)

    @property
    def counting(self) -> frozenset[int]:
        """Nodes whose places are live."""
        return frozenset(node.node for node in self.nodes if node.standing.counts)

    def keeping(self, *, but: int = 0) -> list[PlannedNode]:
        """Nodes that new shards may go to."""
        return [node for node in self.nodes if node.standing is Standing.KEEPS and node.node != but]


def refused(plan: Plan, error: DSAError) -> Plan:
    """The same, with why it cannot be begun."""
    why = Failure(error.code, error.message, error.remedy, error.path)
    return Plan(plan.kind, plan.subject, plan.argument, plan.moves, plan.bytes, plan.seconds, plan.lines, why)


# --- drain ------------------------------------------------------------------------------------------------------------


def plan_drain(cluster: Cluster, node: PlannedNode) -> Plan:
    """Everything on a node goes to others, then it may be switched off."""
    others = cluster.keeping(but=node.node)
    seconds = _seconds(node.bytes, cluster.rate)
    lines = [
        f"copy {counted(node.shards, 'shard')} with {format_size(node.bytes)} from '{node.name}' to {_names(others)}"
        f"{_duration(seconds)}"
        if node.shards
        else f"'{node.name}' holds nothing",
        *_drain_risk(cluster, node, others),
        f"'{node.name}' gets nothing new from now on; when nothing is left on it, it may be switched off",
    ]
    plan = Plan(DRAIN, node.name, "", node.shards, node.bytes, seconds, lines)
    why = _drain_refusal(cluster, node, others)
    return plan if why is None else refused(plan, why)


def _drain_refusal(cluster: Cluster, node: PlannedNode, others: Sequence[PlannedNode]) -> DSAError | None:
    if node.standing not in (Standing.KEEPS, Standing.LEAVES):
        return Unavailable(
            f"node '{node.name}' is not up, so nothing can be moved off it",
            f"start it; or, once all it held is made anew elsewhere, remove it: 'dsa nodes rm {node.name}'",
        )
    there = [row for row in cluster.held if node.node in nodes_of(row.holders)]
    widest = max((parse_redundancy(row.redundancy) for row in there), key=lambda each: each.shards, default=None)
    if widest is not None and widest.shards > len(others):
        lack = widest.shards - len(others)
        return TooFewNodes(
            f"what is stored with {widest.name} needs {counted(widest.shards, 'node')}; without '{node.name}'"
            f" {len(others)} would be left",
            f"add {counted(lack, 'node')}, or convert it to another redundancy first: 'dsa redundancy apply'",
        )
    room = sum(other.room for other in others)
    if node.bytes > room:
        return NoSpace(
            f"{format_size(node.bytes)} on the others are needed, {format_size(room)} are free there",
            "remove files, add nodes, or raise --capacity of those that are there",
        )
    return None


def _drain_risk(cluster: Cluster, node: PlannedNode, others: Sequence[PlannedNode]) -> list[str]:
    lines = []
    if node.shards:
        lines.append("each is copied and read back before it is dropped here, so nothing is less safe meanwhile")
    alone = sum(row.chunks for row in cluster.held if _is_last(row, node.node, cluster.counting))
    if alone:
        lines.append(
            f"risk: {counted(alone, 'chunk')} can be read from '{node.name}' alone: keep it on until all is done"
        )
    lines += _shared_risk(cluster, node, others)
    needed = parse_redundancy(cluster.root).shards
    if len(others) < needed:
        lines.append(f"risk: new files with {cluster.root} need {counted(needed, 'node')}; {len(others)} would be left")
    return lines


def _shared_risk(cluster: Cluster, node: PlannedNode, others: Sequence[PlannedNode]) -> list[str]:
    """One line if shards lie as they should, and cannot any more without the node."""
    used = sorted(
        {parse_redundancy(row.redundancy) for row in cluster.held}, key=lambda each: (-each.shards, each.name)
    )
    for what, then, its in (
        ("zone", [each.zone for each in others], node.zone),
        ("host", [each.host for each in others], node.host),
    ):
        for redundancy in used:
            if _well(then, redundancy) < _well([*then, its], redundancy):
                shared = "copies share" if redundancy.alike else f"more than {redundancy.tolerates} shards share"
                return [f"risk: afterwards {shared} a {what}, since {counted(len(set(then)), what)} would be left"]
    return []


def _well(domains: Iterable[str], redundancy: Redundancy) -> int:
    """How many shards of a chunk can lie as they should on nodes in these domains."""
    return next(shards for shards in range(redundancy.shards, -1, -1) if fit(domains, shards, redundancy.together))


# --- remove -----------------------------------------------------------------------------------------------------------


def plan_remove(cluster: Cluster, node: PlannedNode, argument: str) -> Plan:
    """A node that is switched off, and will not be back, is forgotten."""
    gone = [row for row in cluster.held if _is_last(row, node.node, cluster.counting | {node.node})]
    chunks, size = sum(row.chunks for row in gone), sum(row.bytes for row in gone)
    fewer = sum(row.chunks for row in cluster.held if _shrinks(row, node.node, cluster.counting)) - chunks
    lines = [f"forget node '{node.name}'; if it is started again with its directory, it comes back"]
    if fewer:
        lines.append(
            f"{counted(fewer, 'chunk')} lack the shard that it holds; what is missing is made anew on the others"
        )
    if chunks:
        lines.append(f"LOST: {counted(chunks, 'chunk')} with {format_size(size)} cannot be read any more")
    if not fewer and not chunks:
        lines.append("nothing depends on it")
    plan = Plan(REMOVE, node.name, argument, fewer, size, 0, lines)
    if node.standing is not Standing.AWAY:
        return refused(
            plan,
            Conflict(
                f"node '{node.name}' runs",
                f"empty it with 'dsa nodes drain {node.name}', switch it off, wait until 'dsa nodes' shows it as down",
            ),
        )
    if chunks and argument != LOST:
        return refused(
            plan,
            Conflict(
                f"{counted(chunks, 'chunk')} with {format_size(size)} can be read from '{node.name}' alone",
                "start it and empty it first; if its disk is gone for good, say --lost to give them up",
            ),
        )
    return plan


def _is_last(row: Held, node: int, counting: frozenset[int]) -> bool:
    """Whether chunks held like this can be read, and not without this node."""
    redundancy = parse_redundancy(row.redundancy)
    with_it, without = (shards_held(row.holders, nodes, redundancy) for nodes in (counting, counting - {node}))
    return with_it >= redundancy.needed > without


def _shrinks(row: Held, node: int, counting: frozenset[int]) -> bool:
    """Whether chunks held like this lack a shard because of this node."""
    redundancy = parse_redundancy(row.redundancy)
    here = counting - {node}
    return shards_held(row.holders, here | {node}, redundancy) > shards_held(row.holders, here, redundancy)


# --- rebalance --------------------------------------------------------------------------------------------------------


def shares(cluster: Cluster) -> dict[int, float]:
    """Bytes that each node should hold, so that all are filled alike. None can hold more than one shard of a chunk, however
    large it is."""
    nodes = cluster.keeping()
    most = sum(parse_redundancy(row.redundancy).shard_bytes(row.bytes) for row in cluster.held)
    left = float(sum(node.bytes for node in nodes))
    wanted: dict[int, float] = {}
    open_nodes = {node.node: node.capacity for node in nodes}
    while open_nodes:
        capacity = sum(open_nodes.values()) or 1
        capped = [node for node, size in open_nodes.items() if left * size / capacity > most]
        if not capped:
            return {**wanted, **{node: left * size / capacity for node, size in open_nodes.items()}}
        for node in capped:
            wanted[node] = float(most)
            del open_nodes[node]
        left = max(0.0, left - most * len(capped))
    return wanted


def surplus(cluster: Cluster, within: float) -> dict[int, int]:
    """Bytes that nodes hold beyond their share; empty if no node is further from it than ``within`` of it. One chunk more
    or less is never too much."""
    wanted = shares(cluster)
    nodes = {node.node: node for node in cluster.keeping()}
    grain = _largest_mean(nodes.values())
    off = {node: nodes[node].bytes - size for node, size in wanted.items()}
    if all(abs(much) <= max(within * wanted[node], grain) for node, much in off.items()):
        return {}
    return {node: int(much) for node, much in off.items() if much > 0}


def is_uneven(cluster: Cluster, above: float) -> bool:
    """Whether some node is further than that part of its capacity from what it should hold."""
    wanted = shares(cluster)
    return any(abs(node.bytes - wanted[node.node]) > above * node.capacity for node in cluster.keeping())


def _largest_mean(nodes: Iterable[PlannedNode]) -> float:
    """Bytes of a usual shard."""
    return max((node.bytes / node.shards for node in nodes if node.shards), default=0.0)


def plan_rebalance(cluster: Cluster, within: float) -> Plan:
    """Nodes that are fuller than others give some of it to them."""
    over = surplus(cluster, within)
    size = sum(over.values())
    wanted = shares(cluster)
    moves, lines = 0, []
    for node in sorted(cluster.keeping(), key=lambda each: each.name):
        if over:
            lines.append(
                f"'{node.name}': {_percent(node.bytes, node.capacity)} of its capacity now,"
                f" {_percent(wanted[node.node], node.capacity)} then"
            )
        moves += round(over.get(node.node, 0) * node.shards / (node.bytes or 1))
    seconds = _seconds(max(over.values(), default=0), cluster.rate)
    if over:
        lines.insert(0, f"move {counted(moves, 'shard')} with {format_size(size)}{_duration(seconds)}")
        lines.append("each is copied and read back before it is dropped, so nothing is less safe meanwhile")
    else:
        lines.append("nothing to do: all nodes are filled alike")
    return Plan(REBALANCE, "", "", moves, size, seconds, lines)


# --- convert ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Walked:
    """What a walk over files has found to be converted."""

    files: int = 0
    size: int = 0  #: bytes of content
    shards: int = 0  #: to be made
    bytes: int = 0  #: of these
    growth: int = 0  #: bytes of all nodes together, afterwards
    widest: str = ""  #: the redundancy that needs the most nodes

    def add(self, size: int, chunks: int, has: str, wants: str) -> None:
        """One file more."""
        before, after = parse_redundancy(has), parse_redundancy(wants)
        self.files += 1
        self.size += size
        self.shards += chunks * after.shards
        self.bytes += after.stored_bytes(size)
        self.growth += after.stored_bytes(size) - before.stored_bytes(size)
        if not self.widest or after.shards > parse_redundancy(self.widest).shards:
            self.widest = wants


def plan_convert(cluster: Cluster, path: str, argument: str, walked: Walked) -> Plan:
    """What is stored below a path gets what its directories say."""
    nodes = cluster.keeping()
    seconds = _seconds(walked.bytes // (len(nodes) or 1), cluster.rate)
    if not walked.files:
        return Plan(CONVERT, path, argument, 0, 0, 0, ["nothing to do: all files are stored as they should be"])
    what = "take" if walked.growth >= 0 else "give back"
    lines = [
        f"convert {counted(walked.files, 'file')} with {format_size(walked.size)}: write"
        f" {counted(walked.shards, 'shard')} with {format_size(walked.bytes)}{_duration(seconds)}",
        f"all nodes together {what} {format_size(abs(walked.growth))}{' more' if walked.growth >= 0 else ''} afterwards",
        "each file is exchanged when its new shards are all there, so nothing is less safe meanwhile",
    ]
    plan = Plan(CONVERT, path, argument, walked.shards, walked.bytes, seconds, lines)
    widest = parse_redundancy(walked.widest)
    if len(nodes) < widest.shards:
        lack, choice = counted(widest.shards - len(nodes), "node"), lesser(widest, len(nodes))
        why = f"{widest.name} needs {counted(widest.shards, 'node')}, {len(nodes)} are up"
        return refused(plan, TooFewNodes(why, f"add {lack}, or use {choice}" if choice else f"add {lack}"))
    room = sum(node.room for node in nodes)
    if walked.growth > room:
        return refused(
            plan,
            NoSpace(
                f"{format_size(walked.growth)} more are needed, {format_size(room)} are free",
                "remove files, add nodes, or raise --capacity of those that are there",
            ),
        )
    return plan


# --- scrub ------------------------------------------------------------------------------------------------------------


def plan_scrub(nodes: Sequence[PlannedNode], subject: str) -> Plan:
    """Nodes read all they hold, and verify it."""
    shards, size = sum(node.shards for node in nodes), sum(node.bytes for node in nodes)
    lines = [
        f"{_names(nodes)}: read and verify {counted(shards, 'shard')} with {format_size(size)}",
        "what is damaged is made anew from the others",
    ]
    return Plan(SCRUB, subject, "", 0, 0, -1, lines)


# --- words ------------------------------------------------------------------------------------------------------------


def _names(nodes: Sequence[PlannedNode]) -> str:
    names = sorted(f"'{node.name}'" for node in nodes)
    if len(names) > 6:
        return f"{counted(len(names), 'other node')}"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names) or "nobody"


def _duration(seconds: int) -> str:
    return f", in about {format_duration(seconds)}" if seconds > 0 else ""


def _seconds(size: int, rate: int) -> int:
    return -(-size // rate) if rate else -1


def _percent(size: float, whole: int) -> str:
    return f"{100 * size / whole:.1f} %" if whole else "-"
