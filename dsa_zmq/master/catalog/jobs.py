"""The jobs that the master's actor hands to the catalog's single worker, and their results.

The worker takes all waiting jobs as one batch: load the rows concerned by set, decide each request purely, apply all
changes by set in one transaction, commit. That is group commit; a result exists only once its effect is durable.
"""

from __future__ import annotations

import msgspec

from actors.core import Job
from dsa_zmq.protocol.messages import Register
from dsa_zmq.protocol.operations import Operation
from dsa_zmq.protocol.values import Attributes, ShardRef


class Request(Job, frozen=True):
    """A client's operation. Result: the operation's own answer (``protocol.operations.Result``, a Failure included), or one
    of the internal results below for operations that the actor completes (Locate, Allocate, Statfs)."""

    operation: Operation
    session: int  #: 0 for operations that need none
    number: int
    done_below: int
    wall_ns: int  #: master wall time, for showing only


class RegisterNode(Job, frozen=True):
    """A node has started or come back. Another store of its name becomes removed. Result: NodeRow, or Failure (name taken
    by another store, incarnation not newer, other cluster). An unchanged (store id, incarnation) under a new term
    answers its row."""

    message: Register
    old_is_alive: bool  #: the actor still hears heartbeats of the store's earlier incarnation
    wall_ns: int


class LoadNodes(Job, frozen=True):
    """All node rows. Result: list[NodeRow]"""


class MarkStale(Job, frozen=True):
    """Keep this catalog from being started again: a node has obeyed another master. Result: None once it is durable, or
    the OSError that kept it from that"""

    own_term: int
    seen_term: int
    node: str  #: by name
    wall_ns: int


class CollectGarbage(Job, frozen=True):
    """One slice of letting go: dead directories, dead contents page by page, chunks without references, ended sessions and
    old replies. Result: GarbageProgress"""

    limit: int  #: rows per slice: keeps it within some 10 ms
    wall_ns: int
    grace_ns: int  #: what was closed later than this ago is left: for readers of its content, and listings from before
    reply_keep_ns: int  #: sessions idle for longer than this end, with their replies
    horizon: int = 0
    """Ids below this that are in no content are condemned from now on: no upload that began before it may still be alive
    (one lease plus one grant lifetime behind, and none of an earlier start). Never moves back; 0 leaves it where it is."""


class LoadDrops(Job, frozen=True):
    """The next places marked dropping on this node. Result: list[ShardRef]"""

    node: int
    limit: int


class DropsDone(Job, frozen=True):
    """The node has dropped these: delete the rows, and each chunk row with its last place. Result: None"""

    node: int
    shards: list[ShardRef]


class LoadStaged(Job, frozen=True):
    """The upload ids of all staged contents, after a start. Result: list[int]"""


class ExpireUploads(Job, frozen=True):
    """The leases of these uploads have run out: their staged contents are dead. A later stage or commit is refused.
    Result: None"""

    uploads: list[int]


class NodeRow(msgspec.Struct, frozen=True):
    """A node as the catalog keeps it."""

    node: int
    name: str
    store_id: bytes
    incarnation: int
    generation: int  #: of its key
    zone: str
    host: str
    path: str
    disk: str
    address: str
    capacity: int
    removed: bool = False  #: another store has its name now: its places are void until this one returns
    draining: bool = False  #: it is to be emptied, and gets nothing new


class LocatedRows(msgspec.Struct, frozen=True):
    """Locate, before liveness and grants are added."""

    attributes: Attributes
    page: int
    page_count: int
    chunks: list[tuple[int, int, bytes, list[tuple[int, int]]]]  #: chunk, length, hash, live places (node, index)


class AllocateChecked(msgspec.Struct, frozen=True):
    """The path may be written to; what new content there gets."""

    redundancy: str


class Totals(msgspec.Struct, frozen=True):
    """For Statfs."""

    redundancy: str
    files: int
    content_bytes: int


class GarbageProgress(msgspec.Struct, frozen=True):
    more: bool  #: call again soon
    nodes: list[int]  #: these have places marked dropping; of removed ones that is not told
