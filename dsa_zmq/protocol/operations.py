"""What a client asks of the master, and the answers. They travel inside ``Calls`` and ``Answers``.

Operations marked *stored* change the catalog: they need a session, and their answer is kept with their effect, so that a
repeat with the same number answers the same. The others may be repeated freely.
"""

from __future__ import annotations

from dsa_zmq.protocol.values import (
    Attributes,
    ChunkPlaces,
    ChunkPlan,
    Entry,
    Failure,
    NodeAddress,
    NodeInfo,
    Place,
    PlacedShard,
    Plan,
    RepairWait,
    RiskyFile,
    ShardRef,
    StagedChunk,
    TaskInfo,
    UploadSlot,
    Value,
)
from dsa_zmq.protocol.volumes import CatalogCopies, CatalogData, CatalogHistory, ReadCatalog

# --- reads --------------------------------------------------------------------------------------------------------


class Stat(Value, frozen=True, tag=1):
    """-> Found"""

    path: str


class ListDirectory(Value, frozen=True, tag=2):
    """One page of a directory, names in byte order, after ``after``. ``seq`` 0: now; else as of that sequence. -> Listing"""

    path: str
    after: str = ""
    limit: int = 1000
    seq: int = 0


class Locate(Value, frozen=True, tag=3):
    """Where a file's chunks lie, one manifest page at a time. The first call names the path, later ones the content
    that the first one found (a path may get a new content meanwhile). -> Located"""

    path: str
    content: int = 0
    page: int = 0


class Statfs(Value, frozen=True, tag=4):
    """-> Capacity"""

    redundancy: str = ""  #: "" = the root's


class ListNodes(Value, frozen=True, tag=5):
    """-> Nodes"""


class Health(Value, frozen=True, tag=6):
    """-> HealthReport"""

    without: list[int] = []  #: as if these nodes were lost now, too


class Allocate(Value, frozen=True, tag=7):
    """Ids, places and grants for the next chunks of an upload; begins the upload if ``upload`` is 0. Changes nothing
    durable: repeated, it gives new ids and the old ones are never used. Path conditions are checked early. -> Allocated"""

    upload: int
    path: str
    chunk_bytes: int
    first: int  #: index in the file of the first of these chunks
    lengths: list[int]  #: bytes of each chunk
    anchor: int = 0  #: chunk id of the file's first chunk; 0 if these begin it
    redundancy: str = ""  #: "" = the directory's
    avoid: list[int] = []  #: nodes that this client suspects
    if_absent: bool = False
    if_version: int = 0
    degraded: bool = False  #: if too few nodes are up, fewer shards will do; never so few that none could be lost


class Reallocate(Value, frozen=True, tag=8):
    """Other places for shards whose node failed during the upload. -> Reallocated"""

    upload: int
    shards: list[PlacedShard]  #: with the node that failed
    lengths: list[int]  #: bytes of each shard
    held: list[list[int]]  #: for each, the nodes that hold or may hold another shard of that chunk: never chosen
    avoid: list[int] = []


class Renew(Value, frozen=True, tag=9):
    """Keep uploads alive for another lease. -> Done (count = how many are known)"""

    uploads: list[int]


class Report(Value, frozen=True, tag=10):
    """A client's trouble with a node. One client alone convicts nobody: the master asks the node, and others about it.
    -> Done"""

    node: int
    incarnation: int
    silent: bool = False  #: it did not answer within the client's time
    damaged: list[ShardRef] = []  #: it gave bytes that did not match


class MakePlan(Value, frozen=True, tag=11):
    """What BeginTask with the same fields would do. Changes nothing. -> Planned"""

    kind: str
    subject: str = ""
    argument: str = ""


class ListTasks(Value, frozen=True, tag=12):
    """Those that run, and the last that have ended. -> Tasks"""


class FilesAtRisk(Value, frozen=True, tag=13):
    """Files whose worst chunk is in this state or a worse one, in the order of a walk that may take several calls.
    -> RiskyFiles"""

    state: str  #: degraded, endangered, lost
    after: int = 0  #: go on where the last answer says
    limit: int = 1000


class AllocateSlots(Value, frozen=True, tag=14):
    """Uploads of one small chunk each, for files that are still to come: what Allocate would give, ahead of its time.
    Changes nothing durable: repeated, it gives other ones. -> AllocatedSlots"""

    count: int
    slot_bytes: int  #: content that each is to take, at most
    redundancy: str
    avoid: list[int] = []


class ReturnSlots(Value, frozen=True, tag=15):
    """These slots were not used and never will be. Anything else is left as it is. -> Done (count = how many were slots)"""

    uploads: list[int]


# --- stored -------------------------------------------------------------------------------------------------------


class MakeDirectory(Value, frozen=True, tag=20):
    """-> Found"""

    path: str
    parents: bool = False  #: make missing parents
    exist_ok: bool = False
    mode: int = 0o755
    redundancy: str = ""  #: "" = inherited


class Remove(Value, frozen=True, tag=21):
    """Unlink a file, an empty directory, or with ``recursive`` a whole tree, at once. -> Done"""

    path: str
    recursive: bool = False
    if_version: int = 0


class Move(Value, frozen=True, tag=22):
    """Rename; with ``replace`` an existing file at the target gives way. -> Found"""

    source: str
    target: str
    replace: bool = False
    parents: bool = True


class Copy(Value, frozen=True, tag=23):
    """A file's copy: one more reference to its content. -> Found"""

    source: str
    target: str
    replace: bool = False
    parents: bool = True


class Stage(Value, frozen=True, tag=24):
    """Page ``page`` of an upload is on its nodes: its rows and chunks become part of a hidden, leased content. Repeating a
    staged page answers the same. -> Staged, or Confirm"""

    upload: int
    page: int
    chunk_bytes: int
    redundancy: str
    chunks: list[StagedChunk]
    degraded: bool = False  #: chunks may have fewer shards, as in Allocate


class Commit(Value, frozen=True, tag=25):
    """Publish an upload under a name, with its last page inside: O(1). -> Found, or Confirm"""

    upload: int  #: 0 for an empty file
    path: str
    length: int  #: bytes of the whole content
    chunk_bytes: int
    chunk_count: int
    redundancy: str  #: of an empty file, which has no upload, "" = the directory's
    chunks: list[StagedChunk]  #: the last page
    mtime_ns: int
    mode: int = 0o644
    if_absent: bool = False
    if_version: int = 0
    inherits: bool = False  #: ``redundancy`` is believed to be the directory's: ``outdated`` if that is another one
    degraded: bool = False  #: chunks may have fewer shards, as in Allocate


class Abort(Value, frozen=True, tag=26):
    """Give an upload up; what was staged is let go. Unknown uploads are fine. -> Done"""

    upload: int


class OpenSession(Value, frozen=True, tag=27):
    """Begin to issue stored operations. Idempotent in (client, incarnation). -> SessionOpened"""

    client: bytes  #: 16 random bytes of this client
    incarnation: int


class CloseSession(Value, frozen=True, tag=28):
    """Forget the session and its kept answers. -> Done"""

    session: int


class SetRedundancy(Value, frozen=True, tag=29):
    """What new files in a directory, and below, get from now on; "" = inherited again. -> Found"""

    path: str
    redundancy: str


class BeginTask(Value, frozen=True, tag=30):
    """Begin what MakePlan has shown; it goes on over restarts of the master. -> Tasks, with this one"""

    kind: str
    subject: str = ""
    argument: str = ""


class EndTask(Value, frozen=True, tag=31):
    """Cancel a task: nothing new is begun for it; what was done stays. -> Done"""

    task: int


Operation = (
    Stat | ListDirectory | Locate | Statfs | ListNodes | Health | Allocate | Reallocate | Renew | Report | MakePlan
    | ListTasks | FilesAtRisk | AllocateSlots | ReturnSlots | MakeDirectory | Remove | Move | Copy | Stage | Commit
    | Abort | OpenSession | CloseSession | SetRedundancy | BeginTask | EndTask | CatalogHistory | ReadCatalog
)  # fmt: skip

STORED = (MakeDirectory, Remove, Move, Copy, Stage, Commit, SetRedundancy, BeginTask, EndTask)
"""Operations that need a session and whose answers are kept. (OpenSession, CloseSession and Abort are idempotent by
themselves; what ends need not be begun first, so that a client which is about to end can say it with its last message.)"""

# --- answers ------------------------------------------------------------------------------------------------------


class Found(Value, frozen=True, tag=40):
    attributes: Attributes
    seq: int = 0  #: the catalog sequence that this was read at or made by


class Listing(Value, frozen=True, tag=41):
    entries: list[Entry]
    more: bool  #: go on after the last name, with the same ``seq``
    seq: int


class Located(Value, frozen=True, tag=42):
    attributes: Attributes
    page: int
    page_count: int
    chunks: list[ChunkPlaces]
    nodes: list[NodeAddress]
    expires_s: int  #: of all grants inside, master time


class Capacity(Value, frozen=True, tag=43):
    capacity: int  #: bytes that all known nodes offer
    used: int
    free: int  #: bytes free on nodes that are up
    storable: int  #: bytes of content that still fit at ``redundancy``
    redundancy: str
    nodes_up: int
    nodes: int
    files: int
    content_bytes: int


class Nodes(Value, frozen=True, tag=44):
    nodes: list[NodeInfo]
    term: int = 0
    cluster: bytes = b""


class HealthReport(Value, frozen=True, tag=45):
    healthy_chunks: int
    degraded_chunks: int
    endangered_chunks: int
    lost_chunks: int
    nodes_up: int
    nodes: int
    notes: list[str]  #: plain sentences: what is wrong, what would help
    healthy_bytes: int = 0
    degraded_bytes: int = 0
    endangered_bytes: int = 0
    lost_bytes: int = 0
    files: list[int] = []  #: healthy, degraded, endangered, lost; empty while they are not counted
    files_age_ms: int = 0  #: how long ago that was
    moves: int = 0  #: shards that are being made anew or moved, or wait for it
    moves_bytes: int = 0
    moves_rate: int = 0  #: bytes a second, lately
    seconds_left: int = -1  #: until all are done; -1: not known
    held: str = ""  #: why repair waits
    waits: list[RepairWait] = []  #: what of it begins later, the first first; empty while all is held
    catalog: str = ""  #: how safe the catalog is, in a few words: "sync, safe on 'n1', 'n2', 'n3'"
    catalog_at_risk: bool = False  #: it is not as safe as it should be; ``notes`` say why


class Allocated(Value, frozen=True, tag=46):
    upload: int
    redundancy: str
    chunks: list[ChunkPlan]
    nodes: list[NodeAddress]
    expires_s: int


class Reallocated(Value, frozen=True, tag=47):
    places: list[Place]  #: one for each shard asked, in order
    nodes: list[NodeAddress]
    expires_s: int


class Staged(Value, frozen=True, tag=48):
    upload: int
    page: int


class Confirm(Value, frozen=True, tag=49):
    """Receipts of these shards are of an earlier incarnation of their node: ask it for new ones and try again (with a new
    number). ``expires_s`` and the places carry write grants for that."""

    shards: list[PlacedShard]
    grants: list[bytes]
    nodes: list[NodeAddress]
    expires_s: int


class SessionOpened(Value, frozen=True, tag=50):
    session: int


class Done(Value, frozen=True, tag=51):
    count: int = 0


class Planned(Value, frozen=True, tag=52):
    plan: Plan


class Tasks(Value, frozen=True, tag=53):
    tasks: list[TaskInfo]


class RiskyFiles(Value, frozen=True, tag=54):
    files: list[RiskyFile]
    next: int = 0  #: for ``after``; 0: that was all


class AllocatedSlots(Value, frozen=True, tag=60):
    """As many slots as asked, or fewer if the master has no room for more."""

    slots: list[UploadSlot]
    nodes: list[NodeAddress]
    expires_s: int
    use_within_ms: int  #: counted from the question: a slot that is older is not begun any more
    redundancy: str = ""  #: theirs: files of so few bytes are not cut by a code


Result = (
    Failure | Found | Listing | Located | Capacity | Nodes | HealthReport | Allocated | Reallocated | Staged | Confirm
    | SessionOpened | Done | Planned | Tasks | RiskyFiles | AllocatedSlots | CatalogCopies | CatalogData
)  # fmt: skip
