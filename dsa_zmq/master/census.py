"""Files by how safe they are: a walk over all directories, slice by slice, that can be gone on with later. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from dsa_zmq.errors import Conflict, Invalid
from dsa_zmq.master.catalog.census_rules import CensusTaken, CountedFile, Present, Spot, TakeCensus
from dsa_zmq.model.holders import Safety
from dsa_zmq.model.ids import ROOT_INODE
from dsa_zmq.protocol.operations import FilesAtRisk, RiskyFiles
from dsa_zmq.protocol.values import RiskyFile

MOST_STANDS = 64  #: kept for those who page: each some 10 kB
MOST_SLICES = 50  #: for one answer: half a second of the catalog worker, then the client asks for more
MOST_BYTES = 256 << 10  #: of paths in an answer, which has to fit into one message
REST_NS = 5_000_000_000  #: at least, between two censuses
REST_TIMES = 10  #: and so many times as long as the last one took: a tenth of the worker at most

STATES = {state.name.lower(): state for state in Safety if state is not Safety.HEALTHY}


@dataclass(frozen=True, slots=True)
class Walk:
    """Where a walk stands: directories that it has met and not finished, the next one last. Empty: it has ended.

    What is left of a directory waits below those met in it, so it holds no more than a slice's names for each level.
    """

    waiting: tuple[tuple[str, int, Spot], ...] = (("/", ROOT_INODE, Spot()),)

    def slice(self, present: Present) -> TakeCensus:
        """The next job."""
        _, inode, spot = self.waiting[-1]
        return TakeCensus(inode, spot, present)

    def after(self, taken: CensusTaken, upto: str | None = None) -> Walk:
        """Past this slice; or only past the name ``upto`` in it, as if the slice had ended there."""
        path, inode, _ = self.waiting[-1]
        rest = taken.next if upto is None else Spot(upto)
        met = [(name, number) for name, number in taken.directories if upto is None or name <= upto]
        waiting = self.waiting[:-1] + (((path, inode, rest),) if rest is not None else ())
        return Walk(waiting + tuple((f"{path}{name}/", number, Spot()) for name, number in reversed(met)))

    def path_of(self, name: str) -> str:
        """Of a file in the slice that was taken here."""
        return self.waiting[-1][0] + name


@dataclass(slots=True)
class Search:
    """One answer to :class:`FilesAtRisk` in the making."""

    walk: Walk
    least: Safety
    limit: int
    found: list[RiskyFile] = field(default_factory=list)
    slices: int = 0
    bytes: int = 0

    def take(self, taken: CensusTaken) -> bool:
        """A slice is there. True: the answer is complete, and ``walk`` is where the next one goes on."""
        self.slices += 1
        for file in taken.files:
            if file.state < self.least:
                continue
            path = self.walk.path_of(file.name)
            self.found.append(RiskyFile(path, file.size, file.state.name.lower(), file.chunks[file.state]))
            self.bytes += len(path.encode())
            if len(self.found) >= self.limit or self.bytes >= MOST_BYTES:
                self.walk = self.walk.after(taken, file.name)
                return True
        self.walk = self.walk.after(taken)
        return not self.walk.waiting or self.slices >= MOST_SLICES


class Searches:
    """Those under way, by the serial of their call, and where earlier answers have ended.

    A stand is kept under a number of its own and not changed: a question that is repeated is answered again.
    """

    def __init__(self) -> None:
        self._open: dict[int, Search] = {}
        self._stands: dict[int, Walk] = {}
        self._last = 0

    def begin(self, serial: int, operation: FilesAtRisk) -> Search:
        """Raises Invalid, or Conflict if the stand is not kept any more."""
        least = STATES.get(operation.state)
        if least is None:
            raise Invalid(
                f"'{operation.state[:40]}' is no state of a file at risk", f"ask for one of {', '.join(STATES)}"
            )
        walk = self._stands.get(operation.after) if operation.after else Walk()
        if walk is None:
            raise Conflict("the list of files cannot go on from so long ago", "begin it again")
        self._open[serial] = search = Search(walk, least, max(1, min(operation.limit, 1_000)))
        return search

    def find(self, serial: int) -> Search:
        return self._open[serial]

    def end(self, serial: int) -> RiskyFiles:
        """The answer. The search is over."""
        search = self._open.pop(serial)
        if not search.walk.waiting:
            return RiskyFiles(search.found)
        self._last += 1
        self._stands[self._last] = search.walk
        if len(self._stands) > MOST_STANDS:
            del self._stands[next(iter(self._stands))]
        return RiskyFiles(search.found, self._last)

    def give_up(self, serial: int) -> None:
        del self._open[serial]

    def serials(self) -> Sequence[int]:
        return list(self._open)


@dataclass(frozen=True, slots=True)
class FileCount:
    """How many files are healthy, degraded, endangered, lost; and when that was, in serving time."""

    files: tuple[int, ...] = (0, 0, 0, 0)
    began_ns: int = 0
    ended_ns: int = 0

    def plus(self, files: Sequence[CountedFile]) -> FileCount:
        sums = list(self.files)
        for file in files:
            sums[file.state] += 1
        return replace(self, files=tuple(sums))


class Census:
    """Counts all files, while some are not healthy, and rests in between."""

    def __init__(self) -> None:
        self.last: FileCount | None = None
        self._walk: Walk | None = None  #: of the count that is at work
        self._count = FileCount()

    def begin(self, served_ns: int) -> Walk | None:
        """Somebody wants to know. Returns where to begin if it is time for a new count."""
        if self._walk is not None:
            return None
        if self.last is not None:
            took_ns = self.last.ended_ns - self.last.began_ns
            if served_ns - self.last.ended_ns < max(REST_NS, REST_TIMES * took_ns):
                return None
        self._count = FileCount(began_ns=served_ns)
        self._walk = Walk()
        return self._walk

    def take(self, taken: CensusTaken, served_ns: int) -> Walk | None:
        """A slice is there. Returns where to go on, or None at the end."""
        assert self._walk is not None, "a slice belongs to a count"
        self._count = self._count.plus(taken.files)
        self._walk = self._walk.after(taken)
        if self._walk.waiting:
            return self._walk
        self.last, self._walk = replace(self._count, ended_ns=served_ns), None
        return None

    def give_up(self) -> None:
        """The count that is at work has failed."""
        self._walk = None

    def forget(self) -> None:
        """All is healthy: what was counted is history."""
        self.last = None
