"""What health is made of: who holds how much, from the tallies. A few rows, however many chunks there are."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from actors.core import Job
from dsa_zmq.master.catalog.facts import Facts
from dsa_zmq.master.catalog.node_rules import ALL_NODES
from dsa_zmq.master.catalog.rows import Rows, Scan
from dsa_zmq.master.catalog.survey_rules import ALL_HOLDERS
from dsa_zmq.master.catalog.tables import FILES, INVENTORIES, HolderRow


class TakeTally(Job, frozen=True):
    """Result: Tally"""


class Tally(msgspec.Struct, frozen=True):
    """All chunks by who holds them; what it says of health depends on which nodes are there."""

    holders: list[HolderRow]
    files: int
    void: dict[str, int] = {}  #: shards on removed stores, by the name of their node


class HeldRow(NamedTuple):
    """How many shards a node should hold."""

    node: int
    shards: int


HELD: Scan[HeldRow] = Scan(
    "SELECT node, SUM(shards) FROM inventories GROUP BY node ORDER BY node", HeldRow, (INVENTORIES,)
)


def take_tally(rows: Rows, facts: Facts, job: TakeTally) -> Tally:
    void: dict[str, int] = {}
    removed = {row.node: row.name for row in rows.scan(ALL_NODES) if row.removed}
    if removed:
        for held in rows.scan(HELD):
            if held.node in removed:
                void[removed[held.node]] = void.get(removed[held.node], 0) + held.shards
    return Tally(list(rows.scan(ALL_HOLDERS)), rows.number(FILES), void)
