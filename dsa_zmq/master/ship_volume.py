"""One volume of the catalog on its way to the nodes that are to hold it. Pure.

A new volume's snapshot is read from the catalog slice by slice; parts are kept until all copies have them, and the next
slice is only asked for when there are few of them. A volume that an earlier master has begun goes on for those nodes whose
snapshot is complete: its parts cannot be had again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator

from dsa_zmq.master.catalog.log_jobs import Slice, TakeSlice, VolumeBegun
from dsa_zmq.master.ship_copy import ShipCopy
from dsa_zmq.master.ship_window import portion
from dsa_zmq.model.records import chain_of
from dsa_zmq.protocol.volumes import VolumeState

SLICE_BYTES = 256 << 10  #: of rows: some ms of the catalog's worker
PARTS_BYTES = 4 << 20  #: of parts that not all copies have: no more are read meanwhile
PATIENCE_NS = 10_000_000_000  #: with a copy that takes nothing, while others wait for it or could be in its place


class ShipVolume:
    """See the module. Times are serving time in nanoseconds."""

    def __init__(self, volume: int, begun: int, *, complete: bool) -> None:
        self.volume = volume
        self.begun = begun  #: position of the log where it begins
        self.copies: dict[int, ShipCopy] = {}  #: by node
        self.is_read = complete  #: the whole snapshot has been read
        self.is_reading = False  #: a slice is being read
        self.snapshot_bytes = 0
        self.log_bytes = 0
        self._parts: deque[bytes] = deque()
        self._first = 0  #: number of the first of them
        self._parts_bytes = 0
        self._cursor = b""
        self._next = 0  #: number of the part that is read next
        self._previous = b""

    @classmethod
    def new(cls, begun: VolumeBegun, nodes: Iterable[int], served_ns: int) -> ShipVolume:
        """A volume that has just been begun, for these nodes."""
        volume = cls(begun.volume, begun.position, complete=False)
        volume._keep([begun.begin])
        _, _, volume._previous = chain_of(begun.begin)
        for node in nodes:
            copy = volume.add(node, VolumeState(begun.volume))
            copy.proved = True  # whatever it will have of this volume is from us
            copy.moved_ns = served_ns
        return volume

    @classmethod
    def resumed(cls, state: VolumeState, bytes_each: int) -> ShipVolume:
        """A volume that an earlier master shipped, by what a node has of it and the size of a record of its log, about."""
        volume = cls(state.volume, state.begun, complete=True)
        volume.log_bytes = min(state.size, bytes_each * (state.position - state.begun))
        volume.snapshot_bytes = state.size - volume.log_bytes
        return volume

    def add(self, node: int, state: VolumeState) -> ShipCopy:
        """This node holds so much of it; what follows is to be sent there."""
        copy = self.copies[node] = ShipCopy(node, state, self.begun)
        copy.rewind()
        return copy

    # --- the snapshot ---------------------------------------------------------------------------------------------

    def next_slice(self, wall_ns: int) -> TakeSlice | None:
        """The job to be run now, if one is."""
        if self.is_read or self.is_reading or self._parts_bytes >= PARTS_BYTES:
            return None
        self.is_reading = True
        return TakeSlice(self.volume, self._cursor, self._next, self._previous, wall_ns, SLICE_BYTES)

    def read(self, result: Slice) -> None:
        """The next parts."""
        self.is_reading = False
        self._keep(result.records)
        assert self._next == result.part, "parts are counted alike"
        self._cursor, self._previous = result.cursor, result.previous
        self.is_read = not result.cursor

    def _keep(self, records: Collection[bytes]) -> None:
        self._parts.extend(records)
        size = sum(map(len, records))
        self._parts_bytes += size
        self.snapshot_bytes += size
        self._next += len(records)

    def give_up_slow(self, served_ns: int, *, others: bool) -> list[int]:
        """Copies that have taken nothing of what there is for them for too long are given up, if somebody is the better for
        it: other copies, or ``others`` that could be taken instead. Returns their nodes."""
        others = others or self._parts_bytes >= PARTS_BYTES or any(copy.usable for copy in self.copies.values())
        slow = []
        for copy in self.good():
            if copy.usable or (copy.state.parts == self._next and not self.is_read):
                copy.moved_ns = served_ns  # it has all that there is
            elif others and served_ns - copy.moved_ns >= PATIENCE_NS:
                copy.trouble = "it is too slow to take a copy"
                slow.append(copy.node)
        return slow

    def forget_parts(self) -> None:
        """Parts that all copies have are let go."""
        needed = min(
            (copy.state.parts for copy in self.copies.values() if not copy.trouble),
            default=self._first + len(self._parts),
        )
        while self._parts and self._first < needed:
            self._parts_bytes -= len(self._parts.popleft())
            self._first += 1

    def parts_from(self, first: int, limit: int, least: int) -> list[bytes]:
        """Parts from that one on, at most so many bytes, but ``least`` of them if there are."""
        return portion(self._parts, first - self._first, limit, least)

    # --- what is so -----------------------------------------------------------------------------------------------

    def good(self) -> Iterator[ShipCopy]:
        """Copies without trouble."""
        return (copy for copy in self.copies.values() if not copy.trouble)

    def usable(self) -> list[ShipCopy]:
        """Copies of which the catalog can be made."""
        return [copy for copy in self.copies.values() if copy.usable]

    @property
    def size(self) -> int:
        """Bytes of its file, as far as it is known."""
        return max((copy.state.size for copy in self.copies.values()), default=0)

    def __repr__(self) -> str:
        return f"<volume {self.volume:#x} from {self.begun}: {list(self.copies.values())}>"

    def check_invariants(self) -> None:
        assert self._parts_bytes == sum(map(len, self._parts))
        assert self._next == self._first + len(self._parts) or not self._next
        for node, copy in self.copies.items():
            assert copy.node == node
            copy.check_invariants()
