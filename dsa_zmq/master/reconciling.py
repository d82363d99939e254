"""After a restore: what nodes hold comes before what the catalog says. Pure.

A catalog that was made from copies may be of an earlier moment than the nodes' disks: since then shards were moved, made
anew and dropped. A place that it names may be empty, and what it calls superfluous may be all that is left. So nothing is
dropped before the inventory of each node that is up was compared with it once: by then every such place was asked for, and
what is there and wanted has been adopted. A node that comes later holds all drops up again until it was compared, too.

What the catalog does not know at all is kept for days (``UNKNOWN_KEEP_S``): it may belong to files that a newer copy names.
"""

from __future__ import annotations

from collections.abc import Iterable

from dsa_zmq.master.settings import SECOND_NS
from dsa_zmq.model.limits import UNKNOWN_KEEP_S

UNKNOWN_KEEP_NS = int(UNKNOWN_KEEP_S) * SECOND_NS


class Reconciling:
    """Of one master process. ``restored_ns``: when its catalog was made from copies, by the wall clock; 0: never."""

    def __init__(self, restored_ns: int) -> None:
        self._restored_ns = restored_ns
        self._compared: set[int] = set()

    def compared(self, node: int) -> None:
        """The node's inventory and the catalog have been gone through."""
        self._compared.add(node)

    def spares(self, up: Iterable[int], wall_ns: int) -> bool:
        """Whether nothing may be dropped yet."""
        return keeps_unknown(self._restored_ns, wall_ns) and not self._compared.issuperset(up)

    def __repr__(self) -> str:
        return f"<Reconciling since {self._restored_ns}, {len(self._compared)} nodes compared>"


def keeps_unknown(restored_ns: int, wall_ns: int) -> bool:
    """Whether shards that the catalog does not know are to be kept, at that moment of the wall clock."""
    return restored_ns > 0 and wall_ns < restored_ns + UNKNOWN_KEEP_NS
