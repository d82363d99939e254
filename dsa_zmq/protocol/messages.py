"""Every message, by plane. Tags are part of the wire format: never change or reuse one.

*control*: client or node to the master's ROUTER. *data*: client (or node) to a node's ROUTER. *feed*: PUB/SUB.
Numbers correlate a reply with its request; a request repeated after a timeout keeps its number.
"""

from __future__ import annotations

from actors.core import Message
from dsa_zmq.protocol.operations import Operation, Result
from dsa_zmq.protocol.values import (
    Failure,
    FetchOutcome,
    FetchShard,
    NodeAddress,
    ProbeOutcome,
    Receipt,
    ShardRef,
    Value,
)
from dsa_zmq.protocol.volumes import (
    AskVolumes,
    Claim,
    Claimed,
    KeepVolumes,
    ReadVolume,
    Ship,
    Shipped,
    VolumeData,
    Volumes,
)

PROTOCOL_VERSION = 2
OLDEST_VERSION = 1  #: the oldest peer that this build still understands

# --- control: anyone and the master -----------------------------------------------------------------------------------


class Hello(Message, frozen=True, tag=1, array_like=True):
    """First message of a client: who is there? Answered without touching a disk. -> Welcome or Refused"""

    number: int
    version: int
    oldest: int
    software: str  #: for logs: "dsa-zmq 0.1.0"


class Welcome(Message, frozen=True, tag=2, array_like=True):
    number: int
    version: int
    cluster: bytes  #: 16 bytes, random, made with the catalog
    term: int
    role: str  #: "master" or "node"
    name: str = ""
    publishes: str = ""  #: endpoint of the master's hints; a host of 0.0.0.0 or * means "the one you reached me by"


class Refused(Message, frozen=True, tag=3, array_like=True):
    """The request with this number is not even looked at (version, cluster, overload)."""

    number: int
    failure: Failure


class Call(Value, frozen=True):
    number: int
    operation: Operation


class Answer(Value, frozen=True):
    number: int
    result: Result


class Calls(Message, frozen=True, tag=4, array_like=True):
    """A batch of independent operations; numbers are unique in a session. -> Answers, in any grouping"""

    session: int  #: 0: only operations that need none
    done_below: int  #: every stored operation with a smaller number was answered and will not be repeated
    calls: list[Call]


class Answers(Message, frozen=True, tag=5, array_like=True):
    term: int
    answers: list[Answer]


# --- control: node and master ---------------------------------------------------------------------------------------


class Register(Message, frozen=True, tag=10, array_like=True):
    """A node's process has started, or has heard of a new term. -> Registered or Refused"""

    number: int
    version: int
    oldest: int
    cluster: bytes  #: b"" if the store was never in one
    name: str
    store_id: bytes  #: 16 bytes, random, made when the directory was formatted
    incarnation: int  #: which start of which process: a counter and a nonce, see ``model.ids.next_incarnation``
    address: str  #: endpoint of the data port, as others should use it
    zone: str
    host: str  #: machine id: the failure domain
    path: str  #: of the directory on that host
    disk: str  #: names the file system, to notice that all nodes share one
    capacity: int
    used: int
    free: int
    seen_term: int
    seen_master: bytes
    node: int = 0  #: its number, if it was ever registered: a catalog that was restored may not know it any more
    software: str = ""  #: for people: "dsa-zmq 0.1.0"


class Registered(Message, frozen=True, tag=11, array_like=True):
    number: int
    cluster: bytes
    node: int
    term: int
    master: bytes  #: 16 random bytes of this master process
    key: bytes  #: node key, see dsa_zmq.model.macs
    heartbeats: str  #: endpoint to publish to; host 0.0.0.0 or * means the host of the control endpoint
    hints: str  #: endpoint to subscribe to
    heartbeat_ms: int


class Drop(Message, frozen=True, tag=12, array_like=True):
    """Master to node: these shards are wanted no more. -> Dropped"""

    number: int
    term: int
    shards: list[ShardRef]


class Dropped(Message, frozen=True, tag=13, array_like=True):
    """These are gone durably, or were never there."""

    number: int
    shards: list[ShardRef]


class Fence(Message, frozen=True, tag=14, array_like=True):
    """Master to node: another process has taken your place; stop."""

    reason: str


class Examine(Message, frozen=True, tag=15, array_like=True):
    """Master to node: do you have these? A node's own answer is the only word that a shard is missing. -> Examined"""

    number: int
    term: int
    shards: list[ShardRef]
    read: bool = False  #: read and verify the bytes; else from the index


class Examined(Message, frozen=True, tag=16, array_like=True):
    """One of :data:`GOOD`, :data:`ABSENT`, :data:`DAMAGED`, :data:`UNREADABLE` for each shard asked, in order."""

    number: int
    states: list[int]


GOOD, ABSENT, DAMAGED, UNREADABLE = range(4)
"""What a node says of a shard. The last one decides nothing: the disk could not be asked."""


class Fetch(Message, frozen=True, tag=17, array_like=True):
    """Master to node: get these shards from the data ports of others, verify and keep them. What is there already, and
    good, is answered at once. -> Fetched"""

    number: int
    term: int
    shards: list[FetchShard]
    nodes: list[NodeAddress]  #: of all sources


class Fetched(Message, frozen=True, tag=18, array_like=True):
    """After the bytes are durable. One outcome for each shard asked."""

    number: int
    outcomes: list[FetchOutcome]


class Damage(Message, frozen=True, tag=19, array_like=True):
    """Node to master: these shards were found damaged, and are in quarantine. Repeated until it is noted. -> Noted"""

    number: int
    shards: list[ShardRef]
    term: int = 0  #: of the master that has registered the node: a word to an earlier one does not count; 0: not said


class Noted(Message, frozen=True, tag=40, array_like=True):
    """What had this number was taken in, durably where that matters."""

    number: int


class Probe(Message, frozen=True, tag=41, array_like=True):
    """Master to node: do the data ports of these answer you? -> Probed"""

    number: int
    term: int
    nodes: list[NodeAddress]


class Probed(Message, frozen=True, tag=42, array_like=True):
    number: int
    outcomes: list[ProbeOutcome]


class AskInventory(Message, frozen=True, tag=43, array_like=True):
    """Master to node: digests of the buckets of a level, see dsa_zmq.model.inventory. -> Inventory"""

    number: int
    term: int
    level: int
    within: list[int]  #: buckets of the level above; ignored at level 0, which is told whole


class Inventory(Message, frozen=True, tag=44, array_like=True):
    """Buckets that are not empty. Below the last level: the shards themselves."""

    number: int
    buckets: list[int]
    digests: list[int]  #: one for each bucket
    shards: list[ShardRef] = []


class Scrub(Message, frozen=True, tag=45, array_like=True):
    """Master to node: verify all you hold, beginning now. -> Noted"""

    number: int
    term: int


# --- data: client and node ------------------------------------------------------------------------------------------


class PutShard(Value, frozen=True):
    """Goes with one payload frame: the shard's bytes."""

    upload: int  #: which upload this shard is of: small shards of many uploads share a message
    chunk: int
    index: int
    chunk_length: int  #: of the whole chunk; for copies, the shard's own
    length: int  #: bytes of the payload frame
    hash: bytes  #: BLAKE3-256 of the payload
    expires_s: int
    mac: bytes  #: write grant over (upload, chunk, index, granted length)
    granted: int = 0  #: bytes that the grant allows, at least ``length``; 0: exactly ``length``


class PutShards(Message, frozen=True, tag=20, array_like=True):
    """-> PutDone, after the bytes are durable"""

    number: int
    shards: list[PutShard]


class PutOutcome(Value, frozen=True):
    """Exactly one of receipt and failure is set."""

    chunk: int
    index: int
    receipt: Receipt | None = None
    failure: Failure | None = None


class PutDone(Message, frozen=True, tag=21, array_like=True):
    number: int
    outcomes: list[PutOutcome]


class ShardGrant(Value, frozen=True):
    chunk: int
    index: int
    length: int  #: bytes of the shard
    expires_s: int
    mac: bytes
    upload: int = 0  #: of a write grant; 0: a read grant


class GetShards(Message, frozen=True, tag=22, array_like=True):
    """Read grants. -> ShardData"""

    number: int
    shards: list[ShardGrant]


class GotShard(Value, frozen=True):
    chunk: int
    index: int
    hash: bytes = b""
    failure: Failure | None = None


class ShardData(Message, frozen=True, tag=23, array_like=True):
    """One payload frame for each shard without a failure, in order."""

    number: int
    shards: list[GotShard]


class ConfirmShards(Message, frozen=True, tag=24, array_like=True):
    """Write grants: re-read, verify, and give new receipts for what you hold. -> PutDone"""

    number: int
    shards: list[ShardGrant]


class Ping(Message, frozen=True, tag=25, array_like=True):
    """-> Pong. Answered by the actor itself, so a hung process does not answer."""

    number: int


class Pong(Message, frozen=True, tag=26, array_like=True):
    number: int
    node: int
    incarnation: int


# --- feeds ----------------------------------------------------------------------------------------------------------


class Heartbeat(Message, frozen=True, tag=30, array_like=True):
    """Node to master, every heartbeat interval. A hint: silence is what counts."""

    node: int
    incarnation: int
    term: int  #: under which this node is registered
    used: int
    free: int
    shards: int
    pending_bytes: int  #: received, not yet durable
    failure: str = ""  #: why the store has failed; "" while it is good
    inventory: int = 0  #: digest of all good shards, see dsa_zmq.model.inventory
    damaged: int = 0  #: shards in quarantine
    garbage: int = 0  #: bytes that compaction would give back
    load: int = 0  #: bytes received and asked for that are not yet dealt with
    scrubbed_s: int = 0  #: seconds since the last whole scrub ended; 0: there was none
    scrub_permille: int = 0  #: of the scrub that goes on


class Hint(Message, frozen=True, tag=31, array_like=True):
    """Master to everybody, every heartbeat interval: a node that is registered under another term registers again."""

    cluster: bytes
    term: int
    master: bytes


AnyMessage = (
    Hello | Welcome | Refused | Calls | Answers | Register | Registered | Drop | Dropped | Fence | Examine | Examined
    | Fetch | Fetched | Damage | PutShards | PutDone | GetShards | ShardData | ConfirmShards | Ping | Pong | Heartbeat | Hint
    | Noted | Probe | Probed | AskInventory | Inventory | Scrub | Ship | Shipped | AskVolumes | Volumes | ReadVolume
    | VolumeData | KeepVolumes | Claim | Claimed
)  # fmt: skip
