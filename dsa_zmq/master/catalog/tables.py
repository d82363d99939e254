"""The catalog's rows and tables, as values. A row is a named tuple whose leading columns are its key.

Rows are *images*: a change is (table, key, new image or None), never a statement, so that a batch of changes can be
replayed on another catalog. Times are wall nanoseconds of the master, sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final, Generic, NamedTuple, TypeVar

R = TypeVar("R", bound=tuple[Any, ...])
K = TypeVar("K")

LIVE: Final = (1 << 63) - 1
"""``to_seq`` of a name that is there now: the largest SQL integer."""

FILE: Final = 1
DIRECTORY: Final = 2


class MetaRow(NamedTuple):
    """One value that there is once: a number or bytes."""

    name: str
    number: int
    body: bytes = b""


class NameRow(NamedTuple):
    """``name`` in directory ``parent`` from sequence ``from_seq`` until before ``to_seq``."""

    parent: int
    name: str
    to_seq: int
    from_seq: int
    inode: int
    kind: int  #: FILE or DIRECTORY; an inode never changes it, so a path is walked on names alone


class InodeRow(NamedTuple):
    """A file or directory, with a file's newest version inside: a look-up is one row. The row holds its content, also after
    the file's name was closed, until the garbage collection removes it."""

    inode: int
    kind: int
    mode: int
    created_ns: int
    redundancy: str  #: of a file's content; of what new files in a directory get, "" if it inherits that
    version: int = 0  #: of a file: 1 and up
    content: int = 0  #: 0: an empty file
    size: int = 0
    mtime_ns: int = 0
    chunk_bytes: int = 0
    chunk_count: int = 0
    since_seq: int = 0  #: the sequence that made this version


class VersionRow(NamedTuple):
    """A closed version of a file: what it showed from sequence ``from_seq`` until before ``to_seq``, when the next one took
    its place. The row holds its content until the garbage collection removes it."""

    inode: int
    version: int
    content: int  #: 0: it was empty
    size: int
    mtime_ns: int
    mode: int
    chunk_bytes: int
    chunk_count: int
    redundancy: str
    from_seq: int
    to_seq: int


class ContentRow(NamedTuple):
    """A published content, or with ``refs`` 0 a dead one: that row stays until the horizon has passed its id, so that a
    late message of its upload is recognised."""

    content: int
    length: int
    chunk_bytes: int
    chunk_count: int
    redundancy: str
    refs: int  #: inodes and closed versions that hold it


class UploadRow(NamedTuple):
    """A content with staged pages, not published yet. The counters make its commit O(1)."""

    upload: int
    chunk_bytes: int
    redundancy: str
    pages: int  #: staged pages
    page_end: int  #: the largest staged page number plus one
    chunks: int
    length: int


class PageRow(NamedTuple):
    content: int
    page: int
    body: bytes  #: see dsa_zmq.model.manifest


class ChunkRow(NamedTuple):
    chunk: int
    length: int
    hash: bytes  #: BLAKE3-256
    redundancy: str
    refs: int  #: manifest entries that name it


class PlaceRow(NamedTuple):
    """A shard on a node. A node holds at most one shard of a chunk. Only ``catalog.places`` writes these rows."""

    chunk: int
    node: int
    shard: int
    state: int = 0  #: LIVE_PLACE or BAD_PLACE


LIVE_PLACE: Final = 0
BAD_PLACE: Final = 1  #: its bytes are damaged: it counts nowhere, and is kept until the chunk is healthy without it


class DropRow(NamedTuple):
    """A shard that its node is to drop: it counts nowhere any more."""

    node: int
    chunk: int
    shard: int
    state: int = 0  #: SENT_OFF or UNVERIFIED


SENT_OFF: Final = 0  #: the node may be told
UNVERIFIED: Final = 1  #: first those that make it superfluous have to be read; else it is a place again


class MoveRow(NamedTuple):
    """A shard that is to be made on a node: it counts nowhere until the node's receipt is there. Its deletion leaves a
    DropRow, since its bytes may have arrived."""

    chunk: int
    node: int  #: the target
    shard: int
    move: int  #: id of this attempt: stands for the upload in grants and receipt
    why: int  #: dsa_zmq.model.upkeep.Why
    source: int  #: the chunk whose shards have the bytes: usually the same
    task: int  #: that wants it; 0: redundancy is missing


class TaskRow(NamedTuple):
    """Something that an operator, or the cluster itself, has begun: see dsa_zmq.protocol.values.TaskInfo."""

    task: int
    kind: str
    subject: str  #: a node's number, an inode's number, or ""
    argument: str
    state: int  #: RUNNING or what became of it
    cursor: int  #: where its survey goes on: the next chunk, or inode
    moves_done: int
    bytes_done: int
    began_ns: int
    ended_ns: int  #: 0 while it runs
    note: str
    plan: bytes  #: as it was shown, in MessagePack


RUNNING, DONE, CANCELLED, FAILED = range(4)
"""States of a task."""


class HolderRow(NamedTuple):
    """How many chunks of a redundancy are held in one way, see dsa_zmq.model.holders. Derived from places."""

    redundancy: str
    holders: str
    chunks: int
    bytes: int  #: of content


class InventoryRow(NamedTuple):
    """What a node should hold of a range of chunk ids, see dsa_zmq.model.inventory. Derived from places."""

    node: int
    bucket: int  #: of level 0
    shards: int
    bytes: int  #: of shards
    digest: int


class StoreRow(NamedTuple):
    """A node's row, see jobs.NodeRow: same fields, same order."""

    node: int
    name: str
    store_id: bytes
    incarnation: int
    generation: int
    zone: str
    host: str
    path: str
    disk: str
    address: str
    capacity: int
    removed: int
    draining: int = 0  #: 1: it is to be emptied, and gets nothing new


class SessionRow(NamedTuple):
    session: int
    client: bytes
    incarnation: int
    floor: int  #: requests with smaller numbers are answered and forgotten
    kept: int  #: replies kept
    used_ns: int


class ReplyRow(NamedTuple):
    session: int
    number: int
    body: bytes  #: the operation's result in MessagePack


class DeadRow(NamedTuple):
    """Something to let go in the background."""

    kind: int  #: one of the DEAD_ kinds
    due: int  #: when it died; for DEAD_CONTENT_ID the id that the horizon must pass
    item: int
    object: int  #: the content; the directory that the closed name was in; or the number of the closed version
    name: str = ""  #: the closed name; "" if it is gone already
    seq: int = 0  #: to_seq of the closed name or version
    inode: int = 0  #: of the unlinked file or directory, or of the closed version


DEAD_TREE: Final = 1  #: an unlinked directory: its children, then itself
DEAD_FILE: Final = 2  #: an unlinked file: its closed name, and its inode with the newest version
DEAD_NAME: Final = 3  #: a closed name whose inode lives on elsewhere
DEAD_CONTENT: Final = 4  #: a content that nothing holds: its pages and chunks
DEAD_CONTENT_ID: Final = 5  #: the remaining row of such a content
DEAD_VERSION: Final = 6  #: a closed version of a file that may live on


class Table(Generic[R, K]):
    """A table's name, row type and statements. The key is the first ``width`` columns: a scalar if that is one."""

    def __init__(
        self,
        name: str,
        row: type[R],
        width: int = 1,
        *,
        cached: Callable[[R], bool] | None = None,
        grouped: bool = False,
        kept: bool = False,
        rising: bool = False,
        fixed: tuple[str, ...] = (),
    ) -> None:
        columns: Sequence[str] = row._fields  # type: ignore[attr-defined]
        # A column that is set is written to its index again, also if it stays the same: another page in each transaction.
        changing = [at for at in range(width, len(columns)) if columns[at] not in fixed]
        where = " AND ".join(f"{column} = ?" for column in columns[:width])
        self.name = name
        self.make: Callable[[Sequence[Any]], R] = row._make  # type: ignore[attr-defined]
        self.width = width
        self.cached = cached  #: rows that may stay in memory between batches
        self.grouped = grouped or kept  #: all rows with one first column can be had together
        self.kept = kept  #: groups may stay in memory between batches
        self.rising = rising  #: keys are drawn once and grow, so that most that are asked for are new
        self.columns = ", ".join(columns)
        self.select = f"SELECT {self.columns} FROM {name} WHERE {where}"
        self.insert = f"INSERT INTO {name} ({self.columns}) VALUES ({', '.join('?' * len(columns))})"
        self.update = f"UPDATE {name} SET {', '.join(f'{columns[at]} = ?' for at in changing)} WHERE {where}"
        self.updating: Callable[[R], Sequence[Any]] = itemgetter(*changing, *range(width))  #: what ``update`` binds
        self.delete = f"DELETE FROM {name} WHERE {where}"
        self.highest = f"SELECT MAX({columns[0]}) FROM {name}"
        self.select_group = f"SELECT {self.columns} FROM {name} WHERE {columns[0]} = ?"

    def key_of(self, row: R) -> K:
        return row[0] if self.width == 1 else row[: self.width]  # type: ignore[return-value]

    def binding(self, key: K) -> tuple[Any, ...]:
        """The key as statement parameters."""
        return (key,) if self.width == 1 else key  # type: ignore[return-value]

    def __repr__(self) -> str:
        return f"<Table {self.name}>"


META: Table[MetaRow, str] = Table("meta", MetaRow, cached=lambda row: True)
NAMES: Table[NameRow, tuple[int, str, int]] = Table(
    "names", NameRow, 3, cached=lambda row: row.kind == DIRECTORY and row.to_seq == LIVE
)
INODES: Table[InodeRow, int] = Table("inodes", InodeRow, cached=lambda row: row.kind == DIRECTORY)
VERSIONS: Table[VersionRow, tuple[int, int]] = Table("versions", VersionRow, 2)
CONTENTS: Table[ContentRow, int] = Table("contents", ContentRow, rising=True)
UPLOADS: Table[UploadRow, int] = Table("uploads", UploadRow, rising=True)
PAGES: Table[PageRow, tuple[int, int]] = Table("pages", PageRow, 2)
CHUNKS: Table[ChunkRow, int] = Table("chunks", ChunkRow, rising=True)
PLACES: Table[PlaceRow, tuple[int, int]] = Table("places", PlaceRow, 2, grouped=True)
DROPS: Table[DropRow, tuple[int, int, int]] = Table("drops", DropRow, 3)
NODES: Table[StoreRow, int] = Table("nodes", StoreRow, cached=lambda row: True)
MOVES: Table[MoveRow, tuple[int, int]] = Table("moves", MoveRow, 2, grouped=True)
TASKS: Table[TaskRow, int] = Table("tasks", TaskRow)
HOLDERS: Table[HolderRow, tuple[str, str]] = Table("holders", HolderRow, 2, cached=lambda row: True)
INVENTORIES: Table[InventoryRow, tuple[int, int]] = Table("inventories", InventoryRow, 2, cached=lambda row: True)
SESSIONS: Table[SessionRow, int] = Table(
    "sessions", SessionRow, cached=lambda row: True, fixed=("client", "incarnation")
)
REPLIES: Table[ReplyRow, tuple[int, int]] = Table("replies", ReplyRow, 2, kept=True)
DEAD: Table[DeadRow, tuple[int, int, int]] = Table("dead", DeadRow, 3)

TABLES: tuple[Table[Any, Any], ...] = (
    META, NAMES, INODES, VERSIONS, CONTENTS, UPLOADS, PAGES, CHUNKS, PLACES, DROPS, NODES, SESSIONS, REPLIES, DEAD, MOVES,
    TASKS, HOLDERS, INVENTORIES,
)  # fmt: skip
"""All tables, in the order in which changes are applied."""

# Names in META.
FORMAT: Final = "format"  #: number of the last migration applied
CLUSTER: Final = "cluster"  #: body: 16 random bytes
TERM: Final = "term"  #: raised at each opening
SEQ: Final = "seq"  #: of the last change
NEXT_NODE: Final = "next_node"
HORIZON: Final = "horizon"  #: ids below it that are in no content are condemned
PURGED_SEQ: Final = "purged_seq"  #: what was closed up to this sequence may be gone: older listings cannot go on
FILES: Final = "files"
CONTENT_BYTES: Final = "content_bytes"  #: sum of all files' sizes, each by its newest version
VOLUME: Final = "volume"  #: of the log that nodes are to hold now; 0: what they hold does not lead to these rows
RESTORED_NS: Final = "restored_ns"  #: when this catalog was made from copies; 0: never

META_NAMES: Final = (
    FORMAT, CLUSTER, TERM, SEQ, NEXT_NODE, HORIZON, PURGED_SEQ, FILES, CONTENT_BYTES, VOLUME, RESTORED_NS,
)  # fmt: skip

# What of all this leaves the master, see dsa_zmq.master.catalog.log.
DERIVED: Final = (HOLDERS, INVENTORIES)
"""Counted from other tables, and counted anew in a catalog that is made from copies."""
LOGGED: Final = tuple(table for table in TABLES if table not in DERIVED)
"""The tables that are in records, in the order of a snapshot."""
NOT_LOGGED: Final = frozenset({VOLUME})
"""Names in META that speak of the log itself: never in a record. A catalog that is made from copies begins with 0."""
