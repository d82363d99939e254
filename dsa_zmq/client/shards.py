"""The shards of an upload on their way to their nodes: a pure machine inside :class:`~dsa_zmq.client.upload.Upload`.

A shard whose node fails goes to another node; one whose receipt is of an earlier start of its node is confirmed there, or
sent again. The states, each with the input that ends it:

    planned --bytes there (of a code: its shards made of them)--> sent --receipt--> held
    sent --corrupt, overloaded--> paused --time--> sent          (same place)
    sent --any other failure--> moving --Reallocated--> sent     (other node)
    moving --no other node--> paused                             (same place again, for some seconds)
                              or moving, after a pause           (to a node that failed it before)
    held --Confirm by the master--> confirming --receipt--> held;  --not found--> sent;  --other failure--> moving
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from dsa_zmq.client.effects import Carry, Effect, Encode, Progress
from dsa_zmq.client.plausible import is_receipt
from dsa_zmq.client.tasks import Outcome, Reconfirm, Slot, Write
from dsa_zmq.errors import DSAError, NoSpace, from_code
from dsa_zmq.model import limits
from dsa_zmq.model.hashes import chunk_hash, shard_hash
from dsa_zmq.model.redundancy import Redundancy, fewest, parse_redundancy
from dsa_zmq.protocol.messages import PutShard, ShardGrant
from dsa_zmq.protocol.operations import Confirm, Reallocate, Reallocated
from dsa_zmq.protocol.values import ChunkPlan, Failure, PlacedShard, Receipt, StagedChunk, UploadSlot

PAUSE_NS = 200_000_000  #: before a shard is sent again to the same node; doubles
PASSING = ("unavailable", "timeout", "overloaded")  #: failures of a node that may be good in a moment
MAX_RESENDS = 4  #: of one shard to one node for damage on the way or overload; then another node

Encoded = tuple[bytes, list[bytes | memoryview]]
"""Hashes of a chunk and of its shards, and those by index."""

_NEVER = -1  #: no shard has this index


class State(enum.Enum):
    PLANNED = "planned"
    SENT = "sent"
    PAUSED = "paused"
    MOVING = "moving"
    CONFIRMING = "confirming"
    HELD = "held"


@dataclass(slots=True)
class Shard:
    index: int
    node: int
    mac: bytes
    expires_s: int
    granted: int = 0  #: bytes that the grant allows; 0: exactly the shard's
    state: State = State.PLANNED
    receipt: Receipt | None = None
    resends: int = 0
    due_ns: int = 0


@dataclass(slots=True)
class Chunk:
    """One chunk of a page that is not staged."""

    length: int
    hash: bytes = b""  #: of a code those of its shards follow, once they are made
    data: bytes | memoryview | None = None
    parts: list[bytes | memoryview] | None = None  #: the shards of a code, by index; a copy is ``data``
    id: int = 0  #: 0 until it is allocated
    shards: list[Shard] = field(default_factory=list)
    missing: int = 0  #: shards without a receipt
    told: bool = False  #: it was complete before, and counted as progress
    failed: dict[int, int] = field(default_factory=dict)  #: node -> index of the shard that may be tried there again

    def shard(self, index: int) -> Shard:
        """The shard with this index. They lie in the order of their index nearly always, so look there first."""
        if index < len(self.shards) and self.shards[index].index == index:
            return self.shards[index]
        return next(shard for shard in self.shards if shard.index == index)

    @property
    def held_bytes(self) -> int:
        """In memory. The shards with the chunk's own bytes are views of it."""
        if self.data is None:
            return 0
        return self.length if self.parts is None else sum(map(len, self.parts))


class Shards:
    """All chunks of one upload that are not staged, by their index in the file."""

    def __init__(self, owner: int, page_chunks: int) -> None:
        self._owner = owner
        self._page_chunks = page_chunks
        self._by_id: dict[int, int] = {}
        self._complete: dict[int, int] = {}  # page -> chunks with all receipts
        self._moving: list[Slot] = []
        self._asked = 0  # so many of them, the first ones, other places were asked for last
        self._paused: set[Slot] = set()
        self.chunks: dict[int, Chunk] = {}
        self.upload = 0  #: the upload id, once known
        self.redundancy: Redundancy | None = None  #: the same
        self.at_work = 0  #: tasks that the courier has, and chunks whose shards are being made
        self.left_out = 0  #: shards that were not made, as there are too few nodes
        self._full: tuple[int, Failure] | None = None  # which node had no room for a shard last, and what it said

    def __repr__(self) -> str:
        return f"Shards({len(self.chunks)} chunks, {self.at_work} at work, {len(self._moving)} moving)"

    @property
    def busy(self) -> bool:
        return bool(self.at_work or self._paused)

    @property
    def moving(self) -> bool:
        """Whether some need another node."""
        return bool(self._moving)

    def complete(self, page: int) -> int:
        """How many chunks of the page have all their receipts."""
        return self._complete.get(page, 0)

    def nodes_at_work(self) -> set[int]:
        """Who is being waited for."""
        waiting = (State.SENT, State.CONFIRMING, State.PAUSED)
        return {shard.node for chunk in self.chunks.values() for shard in chunk.shards if shard.state in waiting}

    # --- from the page's plan to the nodes ---------------------------------------------------------------------------

    def begin(self, upload: int, redundancy: str) -> None:
        """The master has given a place to the first chunk."""
        self.upload, self.redundancy = upload, parse_redundancy(redundancy)

    def plan(self, index: int, plan: ChunkPlan | UploadSlot, expires_s: int, granted: int = 0) -> list[Effect]:
        """The chunk was allocated, with grants for exactly its shards, or for those of one of up to ``granted`` bytes."""
        chunk = self.chunks[index]
        chunk.id = plan.chunk
        granted = self._shard_bytes(granted)
        chunk.shards = [Shard(place.index, place.node, place.mac, expires_s, granted) for place in plan.places]
        chunk.missing = len(chunk.shards)
        assert self.redundancy is not None
        self.left_out += self.redundancy.shards - chunk.missing
        self._by_id[plan.chunk] = index
        return self.send(index, chunk)

    def anew(self) -> Shards:
        """The same bytes for another upload, to be allocated again."""
        fresh = Shards(self._owner, self._page_chunks)
        for index, chunk in self.chunks.items():
            fresh.chunks[index] = Chunk(chunk.length, chunk_hash(chunk.hash), chunk.data, told=chunk.told)
        return fresh

    def send(self, index: int, chunk: Chunk) -> list[Effect]:
        """Send all shards, if the chunk is allocated and its bytes are there; those of a code are made first."""
        if not chunk.id or chunk.data is None:
            return []
        assert self.redundancy is not None
        if not self.redundancy.alike and chunk.parts is None:
            self.at_work += 1
            return [Encode((self.upload, index), chunk.data, chunk.hash, self.redundancy)]
        return [self._write(index, chunk, shard) for shard in chunk.shards]

    def encoded(self, index: int, hashes: bytes, parts: list[bytes | memoryview]) -> list[Effect]:
        """The shards of a chunk are made."""
        self.at_work -= 1
        chunk = self.chunks[index]
        chunk.hash, chunk.parts = hashes, parts
        return self.send(index, chunk)

    def _shard_bytes(self, length: int) -> int:
        """Of each shard of a chunk."""
        assert self.redundancy is not None
        return self.redundancy.shard_bytes(length)

    def _write(self, index: int, chunk: Chunk, shard: Shard) -> Carry:
        data = chunk.data if chunk.parts is None else chunk.parts[shard.index]
        assert data is not None
        shard.state = State.SENT
        self.at_work += 1
        size, hash_ = len(data), shard_hash(chunk.hash, shard.index)
        put = PutShard(
            self.upload, chunk.id, shard.index, chunk.length, size, hash_, shard.expires_s, shard.mac, shard.granted
        )
        return Carry(Write(self._owner, (index, shard.index), shard.node, size, put, data))

    # --- what the nodes say ------------------------------------------------------------------------------------------

    def outcome(self, outcome: Outcome, now_ns: int) -> list[Effect]:
        """A task has ended. A :class:`Progress` among the effects: a chunk is complete."""
        self.at_work -= 1
        task = outcome.task
        index, shard_index = task.slot
        chunk = self.chunks.get(index)
        shard = chunk.shard(shard_index) if chunk is not None else None
        if chunk is None or shard is None or shard.node != task.node or shard.state is State.HELD:
            return []
        receipt = outcome.receipt
        if receipt is not None and (receipt.node, receipt.index) == (shard.node, shard.index) and is_receipt(receipt):
            return self._held(index, chunk, shard, receipt)
        code = outcome.failure.code if outcome.failure is not None else "unavailable"
        if code == "not-found" and shard.state is State.CONFIRMING:
            return [self._write(index, chunk, shard)]
        if code in ("corrupt", "overloaded") and shard.resends < MAX_RESENDS:
            shard.resends += 1
            self._pause(task.slot, shard, now_ns)
            return []
        if outcome.failure is not None and code == NoSpace.code:
            self._full = (task.node, outcome.failure)
        shard.state = State.MOVING
        chunk.failed[shard.node] = shard.index if code in PASSING else _NEVER
        self._moving.append(task.slot)
        return []

    def _held(self, index: int, chunk: Chunk, shard: Shard, receipt: Receipt) -> list[Effect]:
        shard.receipt, shard.state = receipt, State.HELD
        return self._one_less(index, chunk)

    def _one_less(self, index: int, chunk: Chunk) -> list[Effect]:
        chunk.missing -= 1
        if chunk.missing:
            return []
        page = index // self._page_chunks
        self._complete[page] = self._complete.get(page, 0) + 1
        told, chunk.told = chunk.told, True
        return [Progress(0 if told else chunk.length)]

    def no_room(self, node_name: Callable[[int], str]) -> DSAError | None:
        """What a node that had no room for a shard has said last."""
        if self._full is None:
            return None
        node, said = self._full
        return from_code(said.code, f"{node_name(node)}: {said.message}", said.remedy)

    def confirm(self, answer: Confirm) -> list[Effect]:
        """The master wants new receipts for some."""
        effects: list[Effect] = []
        for placed, mac in zip(answer.shards, answer.grants, strict=True):
            index = self._by_id.get(placed.chunk)
            if index is None:
                continue
            chunk = self.chunks[index]
            shard = chunk.shard(placed.index)
            if shard.state is not State.HELD or shard.node != placed.node:
                continue
            shard.mac, shard.expires_s, shard.granted = mac, answer.expires_s, 0
            shard.receipt, shard.state = None, State.CONFIRMING
            if not chunk.missing:
                self._complete[index // self._page_chunks] -= 1
            chunk.missing += 1
            self.at_work += 1
            size = self._shard_bytes(chunk.length)
            grant = ShardGrant(chunk.id, shard.index, size, shard.expires_s, mac, self.upload)
            effects.append(Carry(Reconfirm(self._owner, (index, shard.index), shard.node, 0, grant)))
        return effects

    # --- other places ------------------------------------------------------------------------------------------------

    def reallocation(self, avoid: list[int]) -> Reallocate:
        """The question for other places of those that move. Every node that holds or may hold a shard of the chunk is
        named, since no node may have two."""
        shards: list[PlacedShard] = []
        lengths: list[int] = []
        held: list[list[int]] = []
        self._asked = min(len(self._moving), limits.MAX_PAGE_CHUNKS)
        for index, shard_index in self._moving[: self._asked]:
            chunk = self.chunks[index]
            shard = chunk.shard(shard_index)
            shards.append(PlacedShard(chunk.id, shard.index, shard.node))
            lengths.append(self._shard_bytes(chunk.length))
            held.append(sorted({*(other.node for other in chunk.shards), *chunk.failed}))
        return Reallocate(self.upload, shards, lengths, held, avoid)

    def reallocated(self, answer: Reallocated) -> list[Effect]:
        """The answer: one place for each shard asked, in order."""
        slots, self._moving = self._moving[: len(answer.places)], self._moving[len(answer.places) :]
        effects: list[Effect] = []
        for (index, shard_index), place in zip(slots, answer.places, strict=True):
            chunk = self.chunks[index]
            shard = chunk.shard(shard_index)
            shard.node, shard.mac, shard.expires_s = place.node, place.mac, answer.expires_s
            shard.granted, shard.resends = 0, 0
            effects.append(self._write(index, chunk, shard))
        return effects

    def leave_out(self) -> list[Effect] | None:
        """There are no other nodes for those that were asked for, and fewer shards will do: one of each chunk is not made,
        parity before others, as long as one more loss would still leave enough. There may be a node for what is left. None
        if no chunk can spare one; else as :meth:`outcome`."""
        assert self.redundancy is not None
        spared: dict[int, int] = {}
        for index, shard_index in self._moving[: self._asked]:
            if len(self.chunks[index].shards) > fewest(self.redundancy, True):
                spared[index] = max(shard_index, spared.get(index, 0))
        self._moving = [slot for slot in self._moving if spared.get(slot[0]) != slot[1]]
        effects: list[Effect] = []
        for index, shard_index in spared.items():
            chunk = self.chunks[index]
            chunk.shards.remove(chunk.shard(shard_index))
            self.left_out += 1
            effects += self._one_less(index, chunk)
        return effects if spared else None

    def stay(self, now_ns: int) -> bool:
        """There is no other node: those that move try again after a pause. If nodes failed them that may only have been
        away, they ask for one of those; else they try their own place once more. Returns whether there are such nodes."""
        any_forgiven = False
        for slot in self._moving:
            chunk = self.chunks[slot[0]]
            shard = chunk.shard(slot[1])
            # It is the same shard, so it cannot be there twice; one that failed another shard may hold that by now.
            forgiven = [node for node, index in chunk.failed.items() if index == shard.index and node != shard.node]
            for node in forgiven:
                del chunk.failed[node]
            self._pause(slot, shard, now_ns)
            if forgiven:
                shard.state = State.MOVING
                any_forgiven = True
        self._moving.clear()
        return any_forgiven

    def _pause(self, slot: Slot, shard: Shard, now_ns: int) -> None:
        shard.state = State.PAUSED
        shard.due_ns = now_ns + (PAUSE_NS << min(shard.resends, 4))
        self._paused.add(slot)

    def due(self, now_ns: int) -> list[Effect]:
        """Those whose pause is over are sent again, or look for another node again."""
        effects: list[Effect] = []
        for slot in sorted(self._paused):
            chunk = self.chunks[slot[0]]
            shard = chunk.shard(slot[1])
            if shard.due_ns <= now_ns:
                self._paused.discard(slot)
                if shard.state is State.MOVING:
                    self._moving.append(slot)
                else:
                    effects.append(self._write(slot[0], chunk, shard))
        return effects

    # --- the page's end ----------------------------------------------------------------------------------------------

    def rows(self, first: int, count: int) -> list[StagedChunk]:
        """Complete chunks as the master wants to hear of them."""
        rows: list[StagedChunk] = []
        for index in range(first, first + count):
            chunk = self.chunks[index]
            receipts = [shard.receipt for shard in chunk.shards if shard.receipt is not None]
            assert len(receipts) == len(chunk.shards), "a row needs all its receipts"
            rows.append(StagedChunk(chunk.id, chunk.length, chunk.hash, receipts))
        return rows

    def forget(self, page: int) -> int:
        """The page is staged: its bytes are needed no more. Returns how many that were."""
        size = 0
        for index in range(page * self._page_chunks, (page + 1) * self._page_chunks):
            chunk = self.chunks.pop(index)
            del self._by_id[chunk.id]
            size += chunk.length
        del self._complete[page]
        return size
