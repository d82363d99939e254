"""Redundancy by directory: what new files get. What is there already keeps its own until it is converted.

A directory either says what new files in it get, or inherits that from the one above (:func:`walk.given_by`); the root
always says it. So a change reaches all directories below that inherit, in O(1), and a directory that is moved takes along
only what it says itself.
"""

from __future__ import annotations

from dsa_zmq.errors import Invalid, NotADirectory, TooFewNodes
from dsa_zmq.master.catalog.facts import Facts, next_seq
from dsa_zmq.master.catalog.jobs import Request
from dsa_zmq.master.catalog.node_rules import ALL_NODES
from dsa_zmq.master.catalog.rows import Rows
from dsa_zmq.master.catalog.tables import DIRECTORY, INODES, SEQ
from dsa_zmq.master.catalog.walk import inode_of, shown, trail_to
from dsa_zmq.model.redundancy import lesser, parse_redundancy
from dsa_zmq.model.sizes import counted
from dsa_zmq.protocol.operations import Found, SetRedundancy


def set_redundancy(rows: Rows, facts: Facts, job: Request, op: SetRedundancy) -> Found:
    wanted = parse_redundancy(op.redundancy).name if op.redundancy else ""
    trail = trail_to(rows, op.path)
    inode = inode_of(rows, trail[-1])
    if inode.kind != DIRECTORY:
        raise NotADirectory(
            f"'{op.path}' is a file, and a redundancy is set for directories", "set it for its directory", op.path
        )
    if not wanted and not trail[-1].parent:
        raise Invalid("the root has nothing to inherit from", "set a redundancy, as in copies=2", op.path)
    if inode.redundancy == wanted:
        return Found(shown(rows, trail), rows.number(SEQ))
    if wanted:
        check_nodes(rows, wanted)
    shown(rows, trail)  # asks for all rows along the trail before the first write
    seq = next_seq(rows)
    rows.put(INODES, inode._replace(redundancy=wanted))
    return Found(shown(rows, trail), seq)


def check_nodes(rows: Rows, redundancy: str) -> None:
    """TooFewNodes if the cluster does not have as many nodes as a redundancy needs, whether they are up or not. Those that
    are to be emptied do not count: soon they hold nothing."""
    wanted = parse_redundancy(redundancy)
    needed = wanted.shards
    known = [row for row in rows.scan(ALL_NODES) if not row.removed]
    there = sum(not row.draining for row in known)
    if there < needed:
        leaving = ", without those that are to be emptied" if there < len(known) else ""
        choice = lesser(wanted, there)
        at_most = " at most" if wanted.alike else ""
        instead = f", or use {choice}{at_most}" if choice else ""
        raise TooFewNodes(
            f"{redundancy} needs {counted(needed, 'node')}, the cluster has {there}{leaving}",
            f"add {counted(needed - there, 'node')}{instead}",
        )
