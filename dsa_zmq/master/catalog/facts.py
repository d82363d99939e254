"""What a decision may know besides rows and request, frozen while a catalog is open; and the small words of all rules."""

from __future__ import annotations

from dataclasses import dataclass, field

from dsa_zmq.errors import DSAError
from dsa_zmq.master.catalog.rows import Rows
from dsa_zmq.master.catalog.tables import SEQ, StoreRow
from dsa_zmq.model.ids import id_floor
from dsa_zmq.model.macs import node_key
from dsa_zmq.protocol.values import Failure


@dataclass(frozen=True)
class Facts:
    """Of this cluster and this master."""

    cluster: bytes
    secret: bytes
    term: int
    restored: bool = (
        False  #: the catalog was made from copies once, and the secret with which nodes wrote before is lost
    )
    _keys: dict[tuple[int, int], bytes] = field(default_factory=dict, repr=False)

    def is_of_lost_key(self, number: int) -> bool:
        """Whether a receipt for this chunk, drawn by an earlier master, may have been written with a key that is lost."""
        return self.restored and number < id_floor(self.term)

    def key_of(self, node: StoreRow) -> bytes:
        """The node's key. Derived once: a node keeps its store id, and another generation is another entry."""
        key = self._keys.get((node.node, node.generation))
        if key is None:
            key = self._keys[node.node, node.generation] = node_key(
                self.secret, node.node, node.store_id, node.generation
            )
        return key


def next_seq(rows: Rows) -> int:
    """The sequence number of the change that is being decided."""
    seq = rows.number(SEQ) + 1
    rows.set_number(SEQ, seq)
    return seq


def add(rows: Rows, name: str, delta: int) -> None:
    """Count up or down in ``meta``."""
    if delta:
        rows.set_number(name, rows.number(name) + delta)


def failure(error: DSAError) -> Failure:
    """An error as an answer."""
    return Failure(error.code, error.message, error.remedy, error.path)
