"""What the garbage collection would let go, counted without changing anything: for its plan."""

from __future__ import annotations

import msgspec

from actors.core import Job
from dsa_zmq.master.catalog.facts import Facts
from dsa_zmq.master.catalog.garbage import DROPS_OF, DUE, GRACED
from dsa_zmq.master.catalog.node_rules import ALL_NODES
from dsa_zmq.master.catalog.rows import Rows
from dsa_zmq.master.catalog.tables import CONTENTS, DEAD_CONTENT
from dsa_zmq.model.redundancy import parse_redundancy

MAX_COUNTED = 1000  #: rows of each kind: some 5 ms in all; beyond that, "more than"
_EVER = (1 << 63) - 1


class CountGarbage(Job, frozen=True):
    """Result: GarbageCounts"""


class GarbageCounts(msgspec.Struct, frozen=True):
    """Each count ends at :data:`MAX_COUNTED`."""

    names: int  #: closed names and versions, and unlinked trees
    contents: int  #: that nobody refers to
    bytes: int  #: that their shards take, about
    drops: dict[int, int]  #: shards to be dropped, by node that is not removed


def count_garbage(rows: Rows, facts: Facts, job: CountGarbage) -> GarbageCounts:
    """Wherever something waits, due or not."""
    rows.ask([(ALL_NODES, ())] + [(DUE, (kind, _EVER, MAX_COUNTED)) for kind in GRACED])
    nodes = [row.node for row in rows.scan(ALL_NODES) if not row.removed]
    drops = rows.scan_all(DROPS_OF, [(node, MAX_COUNTED) for node in nodes])
    found = {kind: rows.scan(DUE, kind, _EVER, MAX_COUNTED) for kind in GRACED}
    dead = rows.get_all(CONTENTS, [item.object for item in found.pop(DEAD_CONTENT)])
    contents = [content for content in dead if content is not None]
    size = sum(parse_redundancy(content.redundancy).stored_bytes(content.length) for content in contents)
    counted = {node: len(some) for node, some in zip(nodes, drops, strict=True) if some}
    return GarbageCounts(min(MAX_COUNTED, sum(map(len, found.values()))), len(contents), size, counted)
