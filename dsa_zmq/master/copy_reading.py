"""Answers ``ReadCatalog``: bytes of a volume, asked of the node that holds it, and passed on.

Nothing is kept: who reads a volume asks for it piece by piece, and asks again, or of another node, for a piece that does not
come. So many pieces are on their way at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from actors.core import Context, Peer
from dsa_zmq.errors import DSAError, NotFound, Overloaded, Timeout, Unavailable
from dsa_zmq.master.calls import CallInFlight, failure
from dsa_zmq.master.office import Office
from dsa_zmq.protocol.volumes import CatalogData, ReadCatalog, ReadVolume, VolumeData

PIECE_BYTES = 512 << 10  #: fits into an answer
MAX_PIECES = 16  #: on their way: 8 MiB
WAIT_NS = 3_000_000_000  #: for a node; who asked has more patience than that


class CopyReading:
    """See the module. A part of :class:`dsa_zmq.master.copies.Copies`."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._pieces: dict[int, tuple[int, int, int]] = {}  #: by number: serial, node, until when
        self._number = 0

    def begin(self, ctx: Context, call: CallInFlight) -> None:
        """Somebody asks."""
        operation = call.operation
        assert isinstance(operation, ReadCatalog)
        self._office.detach(ctx, call)
        try:
            node = self._node(operation.node)
            if len(self._pieces) >= MAX_PIECES:
                raise Overloaded("too many pieces of the catalog are being read", "try again in a moment")
            self._number += 1
            message = ReadVolume(self._number, operation.volume, max(0, operation.offset), PIECE_BYTES)
            if not self._office.tell(ctx, node, message):
                raise Unavailable(f"node '{operation.node}' is not there now", "read from another one")
        except DSAError as error:
            self._office.answer(ctx, call.serial, failure(error))
            return
        self._pieces[self._number] = (call.serial, node, self._office.at(ctx).served_ns + WAIT_NS)

    def _node(self, name: str) -> int:
        found = next((state.row.node for state in self._office.members if state.row.name == name), None)
        if found is None:
            raise NotFound(f"there is no node '{name[:100]}'", "'dsa catalog history' names those that hold copies")
        return found

    def on_data(self, ctx: Context, sender: Peer, message: VolumeData, payload: Sequence[memoryview]) -> None:
        """A node has answered."""
        serial, node, _ = self._pieces.get(message.number, (0, 0, 0))
        if not serial or self._office.node_of(sender.address) != node:
            return
        del self._pieces[message.number]
        data = bytes(payload[0][:PIECE_BYTES]) if payload else b""
        self._office.answer(ctx, serial, message.failure or CatalogData(data))

    def on_tick(self, ctx: Context, served_ns: int) -> None:
        """Nodes that do not answer are not waited for."""
        for number, (serial, _, until_ns) in list(self._pieces.items()):
            if served_ns >= until_ns:
                del self._pieces[number]
                error = Timeout("the node does not answer with the catalog's copy", "read from another one")
                self._office.answer(ctx, serial, failure(error))

    def asking(self) -> Iterable[int]:
        """Serials of the calls that wait."""
        return [serial for serial, _, _ in self._pieces.values()]
