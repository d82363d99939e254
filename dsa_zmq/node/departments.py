"""The departments of a node, in the order in which they get their beats."""

from __future__ import annotations

from dsa_zmq.node.catalog_copies import CatalogCopies
from dsa_zmq.node.claims import Claims
from dsa_zmq.node.compaction import Compaction
from dsa_zmq.node.damage import Damages
from dsa_zmq.node.department import NodeDepartment, NodeOffice
from dsa_zmq.node.dropping import Dropping
from dsa_zmq.node.examining import Examining
from dsa_zmq.node.fetching import Fetching
from dsa_zmq.node.inventories import Inventories
from dsa_zmq.node.probing import Probing
from dsa_zmq.node.scrub import Scrubbing

DEPARTMENTS: tuple[type[NodeDepartment], ...] = (
    CatalogCopies, Claims, Dropping, Compaction, Examining, Fetching, Inventories, Probing, Damages, Scrubbing,
)  # fmt: skip


def open_departments(office: NodeOffice) -> tuple[NodeDepartment, ...]:
    """All of them, over one office."""
    return tuple(kind(office) for kind in DEPARTMENTS)
