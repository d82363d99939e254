"""Nodes as the catalog keeps them: one store id, one node number, one name, one newest incarnation.

Registration is where a second process with the same directory, an old copy of a directory, or a stranger with a taken name
is told from a node that comes back.

A name belongs to one store at a time. Another store may take it once its node is dead: a disk was wiped, or is not mounted
and the node began anew in its empty place. The former store is *removed* then: its places count nowhere. They stay in the
catalog all the same, for the disk may return, and take the name back in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from dsa_zmq.errors import Conflict, Incompatible, Invalid
from dsa_zmq.master.catalog.facts import Facts, next_seq
from dsa_zmq.master.catalog.jobs import LoadNodes, NodeRow, RegisterNode
from dsa_zmq.master.catalog.rows import Rows, Scan
from dsa_zmq.master.catalog.tables import CANCELLED, NEXT_NODE, NODES, RUNNING, TASKS, StoreRow, TaskRow
from dsa_zmq.master.plans import DRAIN
from dsa_zmq.model.ids import start_of
from dsa_zmq.model.paths import validate_name
from dsa_zmq.protocol.messages import Register

STORE_ID_BYTES = 16
MAX_NUMBER = (1 << 63) - 1  #: of a signed SQL integer
MAX_NODE = 1 << 31  #: more than any cluster has had, and there is room above it

ALL_NODES: Scan[StoreRow] = Scan(f"SELECT {NODES.columns} FROM nodes ORDER BY node", StoreRow, (NODES,), NODES)
RUNNING_TASKS: Scan[TaskRow] = Scan(
    f"SELECT {TASKS.columns} FROM tasks WHERE state = {RUNNING} ORDER BY task", TaskRow, (TASKS,), TASKS
)


def load_nodes(rows: Rows, facts: Facts, job: LoadNodes) -> list[NodeRow]:
    return [shown(row) for row in rows.scan(ALL_NODES)]


def shown(row: StoreRow) -> NodeRow:
    """The row as the master's actor knows it."""
    return NodeRow(*row[:-2], removed=bool(row.removed), draining=bool(row.draining))


def register_node(rows: Rows, facts: Facts, job: RegisterNode) -> NodeRow:
    message = job.message
    _check_form(message)
    if message.cluster and message.cluster != facts.cluster:
        raise Incompatible(
            f"the store of node '{message.name}' in '{message.path}' belongs to another cluster",
            "point the node at its own master, or give it an empty directory",
        )
    nodes = rows.scan(ALL_NODES)
    known = next((row for row in nodes if row.store_id == message.store_id), None)
    namesake = next((row for row in nodes if row.name == message.name and not row.removed), None)
    if known is not None:
        _check_return(known, job)
    if namesake is not None and namesake != known:
        if job.old_is_alive or (known is not None and not known.removed):
            raise _taken(message)
        retire(rows, namesake, job.wall_ns, "the node has another store")
    if known is not None:
        row = _row(known.node, known.generation, message)._replace(draining=known.draining)
    else:
        node = _number_for(rows, nodes, message)
        rows.set_number(NEXT_NODE, max(rows.number(NEXT_NODE), node + 1))
        row = _row(node, 1, message)
    if row != known:
        next_seq(rows)
        rows.put(NODES, row)
    return shown(row)


def retire(rows: Rows, node: StoreRow, wall_ns: int, why: str) -> None:
    """Its places are void until it returns. What was to be emptied of it has no end any more, since drops wait for it."""
    running = rows.scan(RUNNING_TASKS)
    rows.put(NODES, node._replace(removed=1, draining=0))
    for task in running:
        if (task.kind, task.subject) == (DRAIN, str(node.node)):
            rows.put(TASKS, task._replace(state=CANCELLED, ended_ns=wall_ns, note=why))


def _number_for(rows: Rows, nodes: Sequence[StoreRow], message: Register) -> int:
    """Of a store that is not known: the next number; or its own, if it was a node of this cluster already. Then the catalog
    was made from copies, or from a backup, that are older than the store's first registration: what the node has said about
    itself meanwhile (receipts, places in later copies) stays true."""
    if not message.node or not message.cluster:
        return rows.number(NEXT_NODE)
    other = next((row for row in nodes if row.node == message.node), None)
    if other is not None:
        raise Conflict(
            f"the store of node '{message.name}' in '{message.path}' says that it was node {message.node} of this cluster,"
            f" which is '{other.name}' in '{other.path}' by this catalog: it was restored as of before this store came",
            "start this node with an empty directory; keep the old one until no file misses shards",
        )
    return message.node


def _row(node: int, generation: int, message: Register) -> StoreRow:
    return StoreRow(
        node, message.name, message.store_id, message.incarnation, generation, message.zone, message.host, message.path,
        message.disk, message.address, message.capacity, 0,
    )  # fmt: skip


def _check_form(message: Register) -> None:
    """What the columns can hold."""
    validate_name(message.name)
    if len(message.store_id) != STORE_ID_BYTES:
        raise Invalid(f"a store id has {STORE_ID_BYTES} bytes, not {len(message.store_id)}")
    in_range = 0 <= message.incarnation <= MAX_NUMBER and 0 <= message.capacity <= MAX_NUMBER
    if not in_range or not 0 <= message.node <= MAX_NODE:
        raise Invalid(f"node '{message.name}' sent a number out of range", "use the same software on both sides")
    for text in msgspec.structs.astuple(message):
        if isinstance(text, str) and "\0" in text:
            raise Invalid(f"node '{message.name}' sent a text with a NUL character", "check the node's settings")


def _check_return(known: StoreRow, job: RegisterNode) -> None:
    """Whether a process with a known store id may take its place. Conflict otherwise, in words for the operator."""
    message = job.message
    elsewhere = (known.host, known.path) != (message.host, message.path)
    if job.old_is_alive and elsewhere and not known.removed:  # of a removed one, who is alive is its namesake
        raise Conflict(
            f"node '{known.name}' is running in '{known.path}' on host '{known.host}'; '{message.path}' on host"
            f" '{message.host}' is a copy of its directory",
            "stop one of the two; a copied directory cannot be used",
        )
    start, newest = start_of(message.incarnation), start_of(known.incarnation)
    if start < newest or (start == newest and message.incarnation != known.incarnation):
        # An equal start that is another process: both followed the same one, in a directory and in its copy.
        counted = f"start {start}, known is {newest}" if start < newest else f"another start {start} than the one known"
        raise Conflict(
            f"'{message.path}' is an older copy of the directory of node '{known.name}' ({counted})",
            "use the newest copy, or give the node an empty directory",
        )
    if message.incarnation == known.incarnation and (elsewhere or known.address != message.address):
        raise Conflict(
            f"two processes say that they are start {newest} of node '{known.name}': at {known.address} in"
            f" '{known.path}', and at {message.address} in '{message.path}'",
            "stop one of the two; a copied directory cannot be used",
        )


def _taken(message: Register) -> Conflict:
    return Conflict(
        f"the node name '{message.name}' is taken by another store", "start this node under another name with --name"
    )
