"""The cluster's health: chunks counted by risk in slices, and what is wrong with the nodes in plain sentences. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from dsa_zmq.master.catalog.jobs import ChunkCounts, CountChunks, Totals
from dsa_zmq.master.members import DOWN, FAILED, SUSPECT, UP, Members
from dsa_zmq.master.uploads import Uploads
from dsa_zmq.model.capacity import storable_bytes
from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.model.sizes import format_duration
from dsa_zmq.protocol.operations import Capacity, HealthReport
from dsa_zmq.protocol.values import Failure

COUNT_ROWS = 2_000  #: chunks a slice: some 10 ms of the catalog worker
CACHE_NS = 1_000_000_000  #: a report this fresh answers the next one who asks


@dataclass(slots=True)
class ChunkCount:
    """A count that goes on, slice by slice. The nodes that do not count are those that were down when it began."""

    unavailable: frozenset[int]
    chunks: list[int] = field(default_factory=lambda: [0, 0, 0, 0])  #: healthy, degraded, endangered, lost
    bytes: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    void: Counter[str] = field(default_factory=Counter)  #: shards on removed stores, by the name of their node

    def slice(self, after: int = 0) -> CountChunks:
        return CountChunks(after, COUNT_ROWS, self.unavailable)

    def add(self, counted: ChunkCounts) -> CountChunks | None:
        """Take a slice's counts in. Returns the next slice, or None at the end."""
        self.chunks = [a + b for a, b in zip(self.chunks, counted.chunks, strict=True)]
        self.bytes = [a + b for a, b in zip(self.bytes, counted.bytes, strict=True)]
        self.void.update(counted.void)
        return self.slice(counted.next) if counted.next else None


class HealthCheck:
    """At most one count is at work, for all who ask meanwhile; its report serves for a second. Times: serving time, ns."""

    def __init__(self, members: Members, default_redundancy: str) -> None:
        self._members = members
        self._default_redundancy = default_redundancy
        self._count: ChunkCount | None = None
        self._asking: list[int] = []  #: serials of the calls that wait for the count
        self._report: tuple[int, HealthReport] | None = None  #: when it was made, and the report

    def fresh(self, served_ns: int) -> HealthReport | None:
        """A report that is new enough, if there is one."""
        if self._report is None or served_ns - self._report[0] >= CACHE_NS:
            return None
        return self._report[1]

    def ask(self, serial: int, served_ns: int) -> CountChunks | None:
        """This call waits for the next report. Returns the first slice to count unless a count is at work."""
        self._asking.append(serial)
        if self._count is not None:
            return None
        self._count = ChunkCount(self._members.down(served_ns))
        return self._count.slice()

    def counted(
        self, result: ChunkCounts | Failure, served_ns: int
    ) -> CountChunks | tuple[HealthReport | Failure, list[int]]:
        """A slice is counted. Returns the next one, or at the end the answer and the calls to give it to."""
        assert self._count is not None, "a slice belongs to a count"
        answer: HealthReport | Failure
        if isinstance(result, Failure):
            answer = result
        elif (more := self._count.add(result)) is not None:
            return more
        else:
            answer = report(self._count, self._members, served_ns, self._default_redundancy)
            self._report = (served_ns, answer)
        asking, self._asking, self._count = self._asking, [], None
        return answer, asking

    def __iter__(self) -> Iterator[int]:
        return iter(self._asking)

    def check_invariants(self) -> None:
        assert bool(self._asking) == (self._count is not None), "a count is at work if and only if somebody asks"


def report(count: ChunkCount, members: Members, served_ns: int, default_redundancy: str) -> HealthReport:
    """The whole answer."""
    healthy, degraded, endangered, lost = count.chunks
    healthy_bytes, degraded_bytes, endangered_bytes, lost_bytes = count.bytes
    return HealthReport(
        healthy_chunks=healthy,
        degraded_chunks=degraded,
        endangered_chunks=endangered,
        lost_chunks=lost,
        nodes_up=len(members.all_up(served_ns)),
        nodes=len(members),
        notes=notes(members, served_ns, default_redundancy) + _void(count.void),
        healthy_bytes=healthy_bytes,
        degraded_bytes=degraded_bytes,
        endangered_bytes=endangered_bytes,
        lost_bytes=lost_bytes,
    )


def notes(members: Members, served_ns: int, default_redundancy: str) -> list[str]:
    """What is wrong with the nodes and what would help, the worst first; empty if all is well."""
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
    said += _shared_fate(members)
    return said


def _void(shards: Mapping[str, int]) -> list[str]:
    """A sentence for each node that has left shards on another store."""
    return [
        f"node '{name}' came back with another store: {count} shard{'s are' if count > 1 else ' is'} on its former one, void"
        " until that disk returns; bring it back, or store the files again"
        for name, count in sorted(shards.items())
    ]


def _shared_fate(members: Members) -> list[str]:
    """One sentence if all nodes share a disk or a host: copies then guard against less than people think."""
    rows = [state.row for state in members]
    if len(rows) < 2 or len({row.host for row in rows}) > 1:
        return []
    if len({row.disk for row in rows}) == 1:
        return [f"all {len(rows)} nodes are on one disk: losing it loses everything; put nodes on other machines"]
    return [
        f"all {len(rows)} nodes are on one host: while it is down, nothing can be read; put nodes on other machines"
    ]


def complete_capacity(totals: Totals, members: Members, uploads: Uploads, served_ns: int) -> Capacity:
    """Statfs's answer: sums over the nodes, what still fits, and the catalog's totals."""
    up = members.up(served_ns)
    free = [max(0, state.free - uploads.reserved_bytes(state.row.node)) for state in up]
    shards = parse_redundancy(totals.redundancy).shards
    return Capacity(
        capacity=sum(state.row.capacity for state in members),
        used=sum(state.used for state in members),
        free=sum(free),
        storable=storable_bytes(free, shards),
        redundancy=totals.redundancy,
        nodes_up=len(up),
        nodes=len(members),
        files=totals.files,
        content_bytes=totals.content_bytes,
    )
