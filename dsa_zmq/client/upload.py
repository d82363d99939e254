"""One upload: a pure machine from inputs to effects.

    chunks of a page: known -> allocated -> sent to its nodes -> receipts -> page staged -> bytes forgotten
    last page:        ... -> receipts -> commit (with the page inside) -> done

A file appears whole or not at all: until the commit nothing has a name. Bytes are kept until their page is staged, because
a stream cannot be read again. A shard whose node fails goes to another node; one whose receipt is of an earlier start of
its node is confirmed there, or sent again. A file of one chunk takes two questions to the master: allocate and commit.

Shards move through these states, each with the input that ends it:

    planned --data there--> sent --receipt--> held
    sent --corrupt, overloaded--> paused --time--> sent          (same place)
    sent --any other failure--> moving --Reallocated--> sent     (other node)
    held --Confirm by the master--> confirming --receipt--> held;  --not found--> sent;  --other failure--> moving
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from dsa_zmq.client.courier import Outcome, Reconfirm, Slot, Write
from dsa_zmq.client.effects import Ask, Carry, Effect, Finish, Forget, Know, Progress, Reserve, Want
from dsa_zmq.client.suspicion import Suspicion
from dsa_zmq.errors import (
    DSAError,
    Invalid,
    LocalError,
    NoSpace,
    OutcomeUnknown,
    Timeout,
    TooFewNodes,
    Unavailable,
)
from dsa_zmq.model import limits
from dsa_zmq.model.chunking import chunk_count, chunk_length
from dsa_zmq.protocol.messages import PutShard, ShardGrant
from dsa_zmq.protocol.operations import (
    Abort,
    Allocate,
    Allocated,
    Commit,
    Confirm,
    Found,
    Reallocate,
    Reallocated,
    Result,
    Stage,
    Staged,
    Stat,
)
from dsa_zmq.protocol.values import Attributes, PlacedShard, Receipt, StagedChunk

STEP_BYTES = 8 << 20  #: reserved at a time for a source of unknown length: many small streams share the budget
PATIENCE_NS = 5_000_000_000  #: no other node for a shard: its own may come back within this time
PAUSE_NS = 200_000_000  #: before a shard is sent again to the same node; doubles
MAX_RESENDS = 4  #: of one shard to one node for damage on the way; then another node
MAX_CONFIRMS = 16  #: rounds in which nodes lost their receipts under one page: they keep restarting

_ALLOCATE, _REALLOCATE, _STAGE, _COMMIT, _LOOK = "allocate", "reallocate", "stage", "commit", "look"


@dataclass(frozen=True, slots=True)
class Target:
    """What is to appear in the store. ``length`` is None for a stream."""

    path: str
    chunk_bytes: int
    length: int | None
    mtime_ns: int
    mode: int = 0o644
    redundancy: str = ""
    if_absent: bool = False
    if_version: int = 0


class _State(enum.Enum):
    PLANNED = "planned"
    SENT = "sent"
    PAUSED = "paused"
    MOVING = "moving"
    CONFIRMING = "confirming"
    HELD = "held"


@dataclass(slots=True)
class _Shard:
    index: int
    node: int
    mac: bytes
    expires_s: int
    state: _State = _State.PLANNED
    receipt: Receipt | None = None
    resends: int = 0
    due_ns: int = 0


@dataclass(slots=True)
class _Chunk:
    length: int
    hash: bytes = b""
    data: bytes | memoryview | None = None
    id: int = 0
    shards: list[_Shard] = field(default_factory=list)
    missing: int = 0  #: shards without a receipt
    failed_nodes: list[int] = field(default_factory=list)


class Upload:
    """State of one upload. Every input takes the time and returns effects, in order."""

    def __init__(
        self,
        owner: int,
        target: Target,
        suspicion: Suspicion,
        node_name: Callable[[int], str],
        timeout_ns: int = int(limits.PROGRESS_TIMEOUT_S * 1e9),
    ) -> None:
        self._owner = owner
        self._target = target
        self._suspicion = suspicion
        self._node_name = node_name
        self._timeout_ns = timeout_ns
        self._page_chunks = limits.chunks_per_page(target.chunk_bytes)
        self._count = None if target.length is None else chunk_count(target.length, target.chunk_bytes)
        self._length = 0  #: bytes of the chunks that were supplied
        self._chunks: dict[int, _Chunk] = {}  # not yet staged
        self._by_id: dict[int, int] = {}
        self._anchor = 0
        self._redundancy = target.redundancy
        self._known = 0  #: chunks whose length is known
        self._supplied = 0
        self._allocated = 0
        self._reserved = 0  #: chunks that may be in memory
        self._reserving = False
        self._staged_pages = 0
        self._complete: dict[int, int] = {}  # page -> chunks with all receipts
        self._asked: set[str] = set()
        self._moving: list[Slot] = []
        self._paused: set[Slot] = set()
        self._patience_ns = 0
        self._careless = False  #: ask without ``avoid``: the suspected nodes are needed
        self._confirms = 0
        self._writing = 0  #: tasks that the courier has
        self._heard_ns = 0
        self._commit_open = False  #: a commit was sent whose outcome is not known
        self._unknown: DSAError | None = None
        self.upload = 0  #: the upload id; 0 until the first allocation
        self.ended = False

    def __repr__(self) -> str:
        of = "?" if self._count is None else self._count
        done = f"{self._supplied}/{of} chunks, {self._staged_pages} pages staged"
        return f"Upload({self._target.path!r}, {done}, waits for {self.waits_for()})"

    @property
    def chunk_bytes(self) -> int:
        return self._target.chunk_bytes

    @property
    def busy(self) -> bool:
        """Whether something other than its source is at work for it."""
        return bool(self._asked or self._writing or self._paused)

    @property
    def held_bytes(self) -> int:
        """Bytes of content in memory."""
        return sum(chunk.length for chunk in self._chunks.values() if chunk.data is not None)

    # --- inputs: the source ------------------------------------------------------------------------------------------

    def start(self, now_ns: int) -> list[Effect]:
        """First input, of an upload whose chunks are still to come."""
        self._heard_ns = now_ns
        if self._count == 0:
            return self._empty()
        return self._reserve()

    def start_whole(self, hash_: bytes, data: bytes | memoryview, now_ns: int) -> list[Effect]:
        """First and only input from the source: the whole file, at most one chunk; hash of its bytes."""
        self._heard_ns = now_ns
        if not data:
            return self._empty()
        self._count = 1
        return self.chunk(0, hash_, data, True, now_ns)

    def reserved(self, now_ns: int) -> list[Effect]:
        """There is room for what was last asked with :class:`Reserve`."""
        self._reserving = False
        self._heard_ns = now_ns
        first = self._reserved
        self._reserved += self._step()
        if self._target.length is not None:
            for index in range(first, self._reserved):
                length = chunk_length(self._target.length, self._target.chunk_bytes, index)
                self._chunks[index] = _Chunk(length)
            self._known = self._reserved
        return [Want(first, self._reserved), *self._advance(now_ns)]

    def chunk(self, index: int, hash_: bytes, data: bytes | memoryview, last: bool, now_ns: int) -> list[Effect]:
        """A chunk's bytes. A stream supplies its chunks in order, all of full size but the last; ``last`` is known at once,
        since the source reads one chunk ahead."""
        if self.ended:
            return []
        if not self.busy:
            self._heard_ns = now_ns
        chunk = self._chunks.get(index)
        if chunk is None:
            chunk = self._chunks[index] = _Chunk(len(data))
            self._known = index + 1
        elif len(data) != chunk.length:
            return self.fail(LocalError(f"the source of {self._target.path} changed while it was read", "try again"))
        chunk.hash, chunk.data = hash_, data
        self._supplied += 1
        self._length += len(data)
        if last and self._count is None:
            self._count = index + 1
        effects = self._send_planned(index, chunk) if chunk.id else []
        if self._supplied == self._reserved and self._count != self._supplied and not self._reserving:
            effects += self._reserve()
        return effects + self._advance(now_ns)

    def _empty(self) -> list[Effect]:
        self._count = 0
        return [self._commit([])]

    def _step(self) -> int:
        """Chunks of the next reservation; never across a page."""
        page_rest = self._page_chunks - self._reserved % self._page_chunks
        if self._count is not None:
            return min(page_rest, self._count - self._reserved)
        return min(page_rest, max(1, STEP_BYTES // self._target.chunk_bytes))

    def _reserve(self) -> list[Effect]:
        self._reserving = True
        size = self._step() * self._target.chunk_bytes
        if self._target.length is not None:
            size = min(size, self._target.length - self._reserved * self._target.chunk_bytes)
        return [Reserve(size)]

    # --- inputs: the master's answers --------------------------------------------------------------------------------

    def answered(self, tag: str, result: Result | DSAError, now_ns: int) -> list[Effect]:
        """The answer to an :class:`Ask`; errors as errors."""
        if self.ended:
            return []
        self._asked.discard(tag)
        if isinstance(result, DSAError):
            return self._refused(tag, result, now_ns)
        self._heard_ns = now_ns
        if isinstance(result, Allocated) and tag == _ALLOCATE:
            return self._on_allocated(result, now_ns)
        if isinstance(result, Reallocated) and tag == _REALLOCATE:
            return self._on_reallocated(result, now_ns)
        if isinstance(result, Confirm) and tag in (_STAGE, _COMMIT):
            self._commit_open = False
            return self._on_confirm(result, now_ns)
        if isinstance(result, Staged) and tag == _STAGE:
            return self._on_staged(now_ns)
        if isinstance(result, Found) and tag == _COMMIT:
            return self._finish(result.attributes)
        if isinstance(result, Found) and tag == _LOOK:
            return self._on_look(result.attributes)
        return self.fail(Invalid(f"the master answered {tag} of {self._target.path} with {type(result).__name__}"))

    def _on_allocated(self, answer: Allocated, now_ns: int) -> list[Effect]:
        if not self.upload:
            self.upload, self._anchor, self._redundancy = answer.upload, answer.chunks[0].chunk, answer.redundancy
        effects: list[Effect] = [Know(answer.nodes)]
        for plan in answer.chunks:
            index = self._allocated
            chunk = self._chunks[index]
            chunk.id = plan.chunk
            chunk.shards = [_Shard(place.index, place.node, place.mac, answer.expires_s) for place in plan.places]
            chunk.missing = len(chunk.shards)
            self._by_id[plan.chunk] = index
            self._allocated += 1
            if chunk.data is not None:
                effects += self._send_planned(index, chunk)
        return effects + self._advance(now_ns)

    def _on_reallocated(self, answer: Reallocated, now_ns: int) -> list[Effect]:
        effects: list[Effect] = [Know(answer.nodes)]
        slots, self._moving = self._moving[: len(answer.places)], self._moving[len(answer.places) :]
        for slot, place in zip(slots, answer.places, strict=True):
            chunk = self._chunks[slot[0]]
            shard = _of(chunk, slot[1])
            shard.node, shard.mac, shard.expires_s, shard.resends = place.node, place.mac, answer.expires_s, 0
            effects.append(self._write(slot[0], chunk, shard))
        return effects + self._advance(now_ns)

    def _on_confirm(self, answer: Confirm, now_ns: int) -> list[Effect]:
        self._confirms += 1
        if self._confirms > MAX_CONFIRMS:
            names = sorted({self._node_name(placed.node) for placed in answer.shards})
            return self.fail(Unavailable(f"{', '.join(names)} kept restarting during the upload", "try again"))
        effects: list[Effect] = [Know(answer.nodes)]
        for placed, mac in zip(answer.shards, answer.grants, strict=True):
            index = self._by_id.get(placed.chunk)
            if index is None:
                continue
            chunk = self._chunks[index]
            shard = _of(chunk, placed.index)
            if shard.state is not _State.HELD or shard.node != placed.node:
                continue
            shard.mac, shard.expires_s, shard.receipt, shard.state = mac, answer.expires_s, None, _State.CONFIRMING
            if not chunk.missing:
                self._complete[index // self._page_chunks] -= 1
            chunk.missing += 1
            grant = ShardGrant(chunk.id, shard.index, chunk.length, shard.expires_s, mac)
            self._writing += 1
            effects.append(Carry(Reconfirm(self._owner, (index, shard.index), shard.node, 0, self.upload, grant)))
        return effects + self._advance(now_ns)

    def _on_staged(self, now_ns: int) -> list[Effect]:
        self._confirms = 0
        size = 0
        first = self._staged_pages * self._page_chunks
        for index in range(first, first + self._page_chunks):
            chunk = self._chunks.pop(index)
            del self._by_id[chunk.id]
            size += chunk.length
        del self._complete[self._staged_pages]
        self._staged_pages += 1
        return [Forget(size), *self._advance(now_ns)]

    def _on_look(self, attributes: Attributes) -> list[Effect]:
        """The commit's own answer was lost with its session; the content's number tells whether it took effect."""
        if self.upload and attributes.content == self.upload:
            return self._finish(attributes)
        assert self._unknown is not None
        return self._finish(self._unknown)

    def _refused(self, tag: str, error: DSAError, now_ns: int) -> list[Effect]:
        if tag == _LOOK:
            return self._finish(self._unknown or error)
        if tag == _COMMIT and not error.indefinite:
            self._commit_open = False
        if isinstance(error, OutcomeUnknown) and tag == _COMMIT and self.upload:
            self._unknown = error
            return [self._ask(_LOOK, Stat(self._target.path))]
        suspected = not self._careless and self._suspicion.nodes(now_ns)
        if suspected and isinstance(error, NoSpace) and tag in (_ALLOCATE, _REALLOCATE):
            self._careless = True
            return self._advance(now_ns)
        if isinstance(error, TooFewNodes) and tag == _REALLOCATE:
            self._patience_ns = self._patience_ns or now_ns + PATIENCE_NS
            if now_ns < self._patience_ns:
                slots, self._moving = self._moving, []
                for slot in slots:
                    self._pause(slot, now_ns)
                return []
        return self.fail(error)

    # --- inputs: the nodes' answers ----------------------------------------------------------------------------------

    def outcome(self, outcome: Outcome, now_ns: int) -> list[Effect]:
        """A task that was handed to the courier has ended."""
        if self.ended:
            return []
        self._writing -= 1
        task = outcome.task
        slot = task.slot
        chunk = self._chunks.get(slot[0])
        shard = _of(chunk, slot[1]) if chunk is not None else None
        if chunk is None or shard is None or shard.node != task.node:
            return []
        receipt = outcome.receipt
        if receipt is not None and receipt.node == shard.node and receipt.index == shard.index:
            return self._on_receipt(slot[0], chunk, shard, receipt, now_ns)
        code = outcome.failure.code if outcome.failure is not None else "unavailable"
        if code == "not-found" and shard.state is _State.CONFIRMING:
            return [self._write(slot[0], chunk, shard)]
        if code in ("corrupt", "overloaded") and shard.resends < MAX_RESENDS:
            shard.resends += 1
            self._pause(slot, now_ns)
            return []
        shard.state = _State.MOVING
        if shard.node not in chunk.failed_nodes:
            chunk.failed_nodes.append(shard.node)
        self._moving.append(slot)
        return self._advance(now_ns)

    def _on_receipt(self, index: int, chunk: _Chunk, shard: _Shard, receipt: Receipt, now_ns: int) -> list[Effect]:
        if shard.state is _State.HELD:
            return []
        shard.receipt, shard.state = receipt, _State.HELD
        self._heard_ns, self._patience_ns = now_ns, 0
        chunk.missing -= 1
        if chunk.missing:
            return []
        page = index // self._page_chunks
        self._complete[page] = self._complete.get(page, 0) + 1
        return [Progress(chunk.length), *self._advance(now_ns)]

    # --- inputs: time and the caller ---------------------------------------------------------------------------------

    def tick(self, now_ns: int, moved_ns: int) -> list[Effect]:
        """Time has passed. ``moved_ns``: when any transfer of this client last moved a shard; while shards of this one
        queue behind others, that is progress too."""
        if self.ended:
            return []
        if not self.busy:
            return []
        heard_ns = max(self._heard_ns, moved_ns) if self._writing else self._heard_ns
        if now_ns - heard_ns >= self._timeout_ns:
            seconds = self._timeout_ns / 1e9
            problem = (
                f"upload of {self._target.path} made no progress for {seconds:.0f} s; it waits for {self.waits_for()}"
            )
            return self.fail(Timeout(problem))
        effects: list[Effect] = []
        for slot in sorted(self._paused):
            chunk = self._chunks[slot[0]]
            shard = _of(chunk, slot[1])
            if shard.due_ns <= now_ns:
                self._paused.discard(slot)
                effects.append(self._write(slot[0], chunk, shard))
        return effects

    def fail(self, error: DSAError) -> list[Effect]:
        """End with an error: by the machine itself, by its source, or by a caller who has lost interest."""
        if self.ended:
            return []
        return [*self._give_up(), *self._finish(error)]

    def waits_for(self) -> str:
        """For people: whom this upload waits for."""
        names = sorted(
            {
                self._node_name(shard.node)
                for chunk in self._chunks.values()
                for shard in chunk.shards
                if shard.state in (_State.SENT, _State.CONFIRMING, _State.PAUSED)
            }
        )
        if names:
            return ", ".join(names)
        return f"the master ({', '.join(sorted(self._asked))})" if self._asked else "its source"

    # --- decisions ---------------------------------------------------------------------------------------------------

    def _advance(self, now_ns: int) -> list[Effect]:
        """Whatever can be asked of the master now."""
        effects: list[Effect] = []
        if self._allocated < self._known and _ALLOCATE not in self._asked:
            effects.append(self._allocate(now_ns))
        if self._moving and _REALLOCATE not in self._asked:
            effects.append(self._reallocate(now_ns))
        page = self._staged_pages
        complete = self._complete.get(page, 0)
        if not complete or _STAGE in self._asked or _COMMIT in self._asked:
            return effects
        first = page * self._page_chunks
        if self._count is not None and self._count - first <= self._page_chunks:
            if complete == self._count - first:
                effects.append(self._commit(self._staged_rows(first, complete)))
        elif complete == self._page_chunks and self._known_to_go_on(first):
            rows = self._staged_rows(first, complete)
            stage = Stage(self.upload, page, self._target.chunk_bytes, self._redundancy, rows)
            effects.append(self._ask(_STAGE, stage))
        return effects

    def _known_to_go_on(self, first: int) -> bool:
        """A full page is staged only if another follows, so that the commit has the last one inside. A stream says with
        each chunk whether it is the last, so a full page of a stream without a known end goes on."""
        return self._count is None or self._count > first + self._page_chunks

    def _staged_rows(self, first: int, count: int) -> list[StagedChunk]:
        rows: list[StagedChunk] = []
        for index in range(first, first + count):
            chunk = self._chunks[index]
            receipts = [shard.receipt for shard in chunk.shards if shard.receipt is not None]
            assert len(receipts) == len(chunk.shards)
            rows.append(StagedChunk(chunk.id, chunk.length, chunk.hash, receipts))
        return rows

    def _allocate(self, now_ns: int) -> Ask:
        first = self._allocated
        until = min(self._known, first + limits.MAX_PAGE_CHUNKS)
        lengths = [self._chunks[index].length for index in range(first, until)]
        target = self._target
        operation = Allocate(
            self.upload, target.path, target.chunk_bytes, first, lengths, self._anchor, self._redundancy,
            self._avoid(now_ns), target.if_absent, target.if_version,
        )  # fmt: skip
        return self._ask(_ALLOCATE, operation)

    def _reallocate(self, now_ns: int) -> Ask:
        shards: list[PlacedShard] = []
        lengths: list[int] = []
        held: list[list[int]] = []
        for index, shard_index in self._moving[: limits.MAX_PAGE_CHUNKS]:
            chunk = self._chunks[index]
            shard = _of(chunk, shard_index)
            shards.append(PlacedShard(chunk.id, shard.index, shard.node))
            lengths.append(chunk.length)
            held.append(sorted({*(other.node for other in chunk.shards), *chunk.failed_nodes}))
        return self._ask(_REALLOCATE, Reallocate(self.upload, shards, lengths, held, self._avoid(now_ns)))

    def _commit(self, rows: list[StagedChunk]) -> Ask:
        target = self._target
        self._commit_open = True
        operation = Commit(
            self.upload, target.path, self._length, target.chunk_bytes, self._count or 0, self._redundancy,
            rows, target.mtime_ns, target.mode, target.if_absent, target.if_version,
        )  # fmt: skip
        return self._ask(_COMMIT, operation)

    def _avoid(self, now_ns: int) -> list[int]:
        return [] if self._careless else self._suspicion.nodes(now_ns)

    def _ask(self, tag: str, operation: Allocate | Reallocate | Stage | Commit | Stat) -> Ask:
        self._asked.add(tag)
        return Ask(operation, tag)

    # --- shards ------------------------------------------------------------------------------------------------------

    def _send_planned(self, index: int, chunk: _Chunk) -> list[Effect]:
        return [self._write(index, chunk, shard) for shard in chunk.shards]

    def _write(self, index: int, chunk: _Chunk, shard: _Shard) -> Carry:
        assert chunk.data is not None
        shard.state = _State.SENT
        self._writing += 1
        length = chunk.length
        put = PutShard(chunk.id, shard.index, length, length, chunk.hash, shard.expires_s, shard.mac, self.upload)
        return Carry(Write(self._owner, (index, shard.index), shard.node, length, put, chunk.data))

    def _pause(self, slot: Slot, now_ns: int) -> None:
        shard = _of(self._chunks[slot[0]], slot[1])
        shard.state = _State.PAUSED
        shard.due_ns = now_ns + (PAUSE_NS << min(shard.resends, 4))
        self._paused.add(slot)

    # --- the end -----------------------------------------------------------------------------------------------------

    def _give_up(self) -> list[Effect]:
        """Let the master forget what was staged. Never after a commit whose outcome is open: it may have succeeded."""
        if not self.upload or self._commit_open:
            return []
        return [Ask(Abort(self.upload), None)]

    def _finish(self, result: Attributes | DSAError) -> list[Effect]:
        self.ended = True
        self._chunks.clear()
        return [Finish(result)]


def _of(chunk: _Chunk, shard_index: int) -> _Shard:
    """The shard with this index. They lie in order of their index nearly always, so look there first."""
    if shard_index < len(chunk.shards) and chunk.shards[shard_index].index == shard_index:
        return chunk.shards[shard_index]
    return next(shard for shard in chunk.shards if shard.index == shard_index)
