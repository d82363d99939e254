"""What health is made of: who holds how much, from the tallies. A few rows, however many chunks there are."""

from __future__ import annotations

import msgspec

from actors.core import Job
from dsa_zmq.master.catalog.facts import Facts
from dsa_zmq.master.catalog.node_rules import ALL_NODES
from dsa_zmq.master.catalog.rows import Rows
from dsa_zmq.master.catalog.survey_rules import ALL_HOLDERS
from dsa_zmq.master.catalog.tables import FILES, HolderRow


class TakeTally(Job, frozen=True):
    """Result: Tally"""


class Tally(msgspec.Struct, frozen=True):
    """All chunks by who holds them; what it says of health depends on which nodes are there."""

    holders: list[HolderRow]
    files: int
    removed: dict[int, str] = {}  #: stores that others have taken the place of: the names of their nodes


def take_tally(rows: Rows, facts: Facts, job: TakeTally) -> Tally:
    removed = {row.node: row.name for row in rows.scan(ALL_NODES) if row.removed}
    return Tally(list(rows.scan(ALL_HOLDERS)), rows.number(FILES), removed)
