"""One upload: a pure machine from inputs to effects.

    chunks of a page: known -> allocated -> sent to its nodes -> receipts -> page staged -> bytes forgotten
    last page:        ... -> receipts -> commit (with the page inside) -> done

A file appears whole or not at all: until the commit nothing has a name. Bytes are kept until their page is staged, because
a stream cannot be read again. A file of one chunk takes two questions to the master: allocate and commit; a small one with a
slot that was given ahead only the commit. If that says that the redundancy is not what the directory gives any more, or that
its lease is over, it is begun anew. How shards are made and find their nodes is in :mod:`dsa_zmq.client.shards`.
"""

from __future__ import annotations

from collections.abc import Callable

from dsa_zmq.client.effects import Ask, Begin, Doubt, Effect, Finish, Forget, Know, Reserve, Want
from dsa_zmq.client.shards import Chunk, Encoded, Shards
from dsa_zmq.client.slots import Taken
from dsa_zmq.client.suspicion import Suspicion
from dsa_zmq.client.target import Stored, Target
from dsa_zmq.client.tasks import Outcome, upload_of
from dsa_zmq.errors import (
    DSAError,
    Invalid,
    LocalError,
    NoSpace,
    OutcomeUnknown,
    Outdated,
    Timeout,
    TooFewNodes,
    Unavailable,
)
from dsa_zmq.model import limits
from dsa_zmq.model.chunking import chunk_count, chunk_length
from dsa_zmq.protocol.operations import (
    Abort,
    Allocate,
    Allocated,
    Commit,
    Confirm,
    Found,
    ListNodes,
    Nodes,
    Reallocate,
    Reallocated,
    Result,
    Stage,
    Staged,
    Stat,
)
from dsa_zmq.protocol.values import Attributes, NodeAddress, StagedChunk

STEP_BYTES = 8 << 20  #: reserved at a time for a source of unknown length: many small streams share the budget
PATIENCE_NS = 5_000_000_000  #: no other node for a shard: its own may come back within this time
ANSWER_NS = 1_000_000_000  #: the session names a silent master, and counts from a send that may come later
MAX_BEGUN_ANEW = 8  #: times that the directory of a small file changes while it is stored
MAX_CONFIRMS = 16  #: rounds in which nodes lost their receipts under one page: they keep restarting

_ALLOCATE, _REALLOCATE, _NODES, _STAGE, _COMMIT, _LOOK = "allocate", "reallocate", "nodes", "stage", "commit", "look"


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
        self.target = target
        self._suspicion = suspicion
        self._node_name = node_name
        self._timeout_ns = timeout_ns
        self._page_chunks = limits.chunks_per_page(target.chunk_bytes)
        self._count = None if target.length is None else chunk_count(target.length, target.chunk_bytes)
        self._length = 0  #: bytes of the chunks that were supplied
        self._shards = Shards(owner, self._page_chunks)
        self._anchor = 0
        self.redundancy = target.redundancy  #: of its content, once the master has said it; "": not known yet
        self._known = 0  #: chunks whose length is known
        self._supplied = 0
        self._allocated = 0
        self._reserved = 0  #: chunks that may be in memory
        self._reserving = False
        self._staged_pages = 0
        self._asked: set[str] = set()
        self._patience_ns = 0
        self._careless = False  #: ask without ``avoid``: the suspected nodes are needed
        self._confirms = 0
        self._heard_ns = 0
        self._commit_open = False  #: a commit was sent whose outcome is not known
        self._unknown: DSAError | None = None
        self._whole = False  #: one chunk, all of it here: it can be begun anew
        self._may_take_slot = False
        self._begun_anew = 0
        self.ended = False

    def __repr__(self) -> str:
        of = "?" if self._count is None else self._count
        done = f"{self._supplied}/{of} chunks, {self._staged_pages} pages staged"
        return f"Upload({self.target.path!r}, {done}, waits for {self.waits_for()})"

    @property
    def busy(self) -> bool:
        """Whether something other than its source is at work for it."""
        return bool(self._asked) or self._shards.busy

    @property
    def upload(self) -> int:
        """The upload id; 0 until the first allocation."""
        return self._shards.upload

    @property
    def held_bytes(self) -> int:
        """Bytes of content in memory, with what a code adds to them."""
        return sum(chunk.held_bytes for chunk in self._shards.chunks.values())

    # --- inputs: the source ------------------------------------------------------------------------------------------

    def start(self, now_ns: int) -> list[Effect]:
        """First input, of an upload whose chunks are still to come."""
        self._heard_ns = now_ns
        return self._empty() if self._count == 0 else self._reserve()

    def start_whole(self, hash_: bytes, data: bytes | memoryview, now_ns: int) -> list[Effect]:
        """First and only input from the source: the whole file, at most one chunk; hash of its bytes."""
        self._heard_ns = now_ns
        if not data:
            return self._empty()
        self._count = 1
        self._whole, self._may_take_slot = True, len(data) <= limits.SLOT_SIZES[-1]
        return self.chunk(0, hash_, data, True, now_ns)

    def reserved(self, now_ns: int) -> list[Effect]:
        """There is room for what was last asked with :class:`Reserve`."""
        self._reserving = False
        self._heard_ns = now_ns
        first = self._reserved
        self._reserved += self._step()
        if self.target.length is not None:
            for index in range(first, self._reserved):
                self._shards.chunks[index] = Chunk(chunk_length(self.target.length, self.target.chunk_bytes, index))
            self._known = self._reserved
        return [Want(first, self._reserved), *self._advance(now_ns)]

    def chunk(self, index: int, hash_: bytes, data: bytes | memoryview, last: bool, now_ns: int) -> list[Effect]:
        """A chunk's bytes. A stream supplies its chunks in order, all of full size but the last; ``last`` is known at once,
        since the source reads one chunk ahead."""
        if self.ended:
            return []
        if not self.busy:
            self._heard_ns = now_ns
        chunk = self._shards.chunks.get(index)
        if chunk is None:
            chunk = self._shards.chunks[index] = Chunk(len(data))
            self._known = index + 1
        elif len(data) != chunk.length:
            return self.fail(LocalError(f"the source of {self.target.path} changed while it was read", "try again"))
        chunk.hash, chunk.data = hash_, data
        self._supplied += 1
        self._length += len(data)
        if last and self._count is None:
            self._count = index + 1
        effects = self._shards.send(index, chunk)
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
        return min(page_rest, max(1, STEP_BYTES // self.target.chunk_bytes))

    def _reserve(self) -> list[Effect]:
        self._reserving = True
        size = self._step() * self.target.chunk_bytes
        if self.target.length is not None:
            size = min(size, self.target.length - self._reserved * self.target.chunk_bytes)
        return [Reserve(size)]

    # --- inputs: the master's answers --------------------------------------------------------------------------------

    def answered(self, tag: str, result: Result | DSAError, now_ns: int) -> list[Effect]:
        """The answer to an :class:`Ask`; errors as errors."""
        if self.ended:
            return []
        self._asked.discard(tag)
        if isinstance(result, DSAError):
            return self._refused(tag, result, now_ns)
        if tag not in (_REALLOCATE, _NODES):  # to be sent from one node to the next is no progress
            self._heard_ns = now_ns
        if isinstance(result, Allocated) and tag == _ALLOCATE:
            return self._on_allocated(result, now_ns)
        if isinstance(result, Reallocated) and tag == _REALLOCATE:
            return [Know(result.nodes), *self._shards.reallocated(result), *self._advance(now_ns)]
        if isinstance(result, Nodes) and tag == _NODES:
            return [Know([NodeAddress(node.node, node.address, node.incarnation, node.name) for node in result.nodes])]
        if isinstance(result, Confirm) and tag in (_STAGE, _COMMIT):
            self._commit_open = False
            return self._on_confirm(result, now_ns)
        if isinstance(result, Staged) and tag == _STAGE:
            return self._on_staged(now_ns)
        if isinstance(result, Found) and tag == _COMMIT:
            return self._finish(result.attributes)
        if isinstance(result, Found) and tag == _LOOK:
            return self._on_look(result.attributes)
        return self.fail(Invalid(f"the master answered {tag} of {self.target.path} with {type(result).__name__}"))

    def _on_allocated(self, answer: Allocated, now_ns: int) -> list[Effect]:
        if not self.upload:
            self._shards.begin(answer.upload, answer.redundancy)
            self._anchor, self.redundancy = answer.chunks[0].chunk, answer.redundancy
        effects: list[Effect] = [Know(answer.nodes)]
        for plan in answer.chunks:
            effects += self._shards.plan(self._allocated, plan, answer.expires_s)
            self._allocated += 1
        return effects + self._advance(now_ns)

    def slotted(self, taken: Taken, now_ns: int) -> list[Effect]:
        """Instead of the answer to a :class:`Begin`: a slot, which belongs to this upload now."""
        self._asked.discard(_ALLOCATE)
        self._heard_ns = now_ns
        self._shards.begin(taken.slot.upload, taken.redundancy)
        self.redundancy, self._allocated = taken.redundancy, 1
        return self._shards.plan(0, taken.slot, taken.expires_s, taken.slot_bytes)

    def _begin_anew(self, now_ns: int) -> list[Effect]:
        """The directory has another redundancy by now, or the lease is over. Without a slot: none may know better yet."""
        effects = [*self._give_up(), Doubt(self.target.path)]
        self._begun_anew += 1
        self._shards, self._may_take_slot = self._shards.anew(), False
        self._allocated, self._anchor, self.redundancy = 0, 0, self.target.redundancy
        return effects + self._advance(now_ns)

    def _on_confirm(self, answer: Confirm, now_ns: int) -> list[Effect]:
        self._confirms += 1
        if self._confirms > MAX_CONFIRMS:
            names = sorted({self._node_name(placed.node) for placed in answer.shards})
            return self.fail(Unavailable(f"{', '.join(names)} kept restarting during the upload", "try again"))
        return [Know(answer.nodes), *self._shards.confirm(answer), *self._advance(now_ns)]

    def _on_staged(self, now_ns: int) -> list[Effect]:
        self._confirms = 0
        size = self._shards.forget(self._staged_pages)
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
            return [self._ask(_LOOK, Stat(self.target.path))]
        if isinstance(error, Outdated) and self._whole and self._begun_anew < MAX_BEGUN_ANEW:
            return self._begin_anew(now_ns)
        suspected = not self._careless and self._suspicion.nodes(now_ns)
        if suspected and isinstance(error, NoSpace) and tag in (_ALLOCATE, _REALLOCATE):
            self._careless = True
            return self._advance(now_ns)
        if isinstance(error, TooFewNodes) and tag == _REALLOCATE:
            if self.target.degraded and (spared := self._shards.leave_out()) is not None:
                return spared + self._advance(now_ns)
            self._patience_ns = self._patience_ns or now_ns + PATIENCE_NS
            if self._shards.stay(now_ns) or now_ns < self._patience_ns:
                return [self._ask(_NODES, ListNodes())]  # a node that was restarted may be at another address
            if (full := self._shards.no_room(self._node_name)) is not None:  # the master may not know yet
                return self.fail(full)
        return self.fail(error)

    # --- inputs: the nodes' answers ----------------------------------------------------------------------------------

    def outcome(self, outcome: Outcome, now_ns: int) -> list[Effect]:
        """A task that was handed to the courier has ended."""
        if self.ended or (self._begun_anew and upload_of(outcome.task) != self.upload):
            return []
        if outcome.receipt is not None:
            self._heard_ns, self._patience_ns = now_ns, 0
        effects = self._shards.outcome(outcome, now_ns)
        return effects + self._advance(now_ns) if effects or self._shards.moving else effects

    def coded(self, tag: tuple[int, int], result: Encoded | DSAError, now_ns: int) -> list[Effect]:
        """The outcome of an :class:`Encode`: the hashes and shards of a chunk. They may be of an upload begun anew since."""
        if self.ended or tag[0] != self.upload:
            return []
        self._heard_ns = now_ns
        return self.fail(result) if isinstance(result, DSAError) else self._shards.encoded(tag[1], *result)

    # --- inputs: time and the caller ---------------------------------------------------------------------------------

    def tick(self, now_ns: int, moved_ns: int) -> list[Effect]:
        """Time has passed. ``moved_ns``: when any transfer of this client last moved a shard; while shards of this one
        queue behind others, that is progress too."""
        if self.ended or not self.busy:
            return []
        heard_ns = max(self._heard_ns, moved_ns) if self._shards.at_work else self._heard_ns
        limit_ns = self._timeout_ns + (ANSWER_NS if self._asked and not self._shards.at_work else 0)
        if now_ns - heard_ns >= limit_ns:
            late = f"made no progress for {self._timeout_ns / 1e9:.0f} s; it waits for {self.waits_for()}"
            return self.fail(Timeout(f"upload of {self.target.path} {late}", "is that running, and in reach?"))
        effects = self._shards.due(now_ns)
        return effects + self._advance(now_ns) if self._shards.moving else effects

    def fail(self, error: DSAError) -> list[Effect]:
        """End with an error: by the machine itself, by its source, or by a caller who has lost interest."""
        if self.ended:
            return []
        return [*self._give_up(), *self._finish(error)]

    def waits_for(self) -> str:
        """For people: whom this upload waits for."""
        others = f"the master ({', '.join(sorted(self._asked))})" if self._asked else "its source"
        return ", ".join(sorted(self._node_name(node) for node in self._shards.nodes_at_work())) or others

    # --- decisions ---------------------------------------------------------------------------------------------------

    def _advance(self, now_ns: int) -> list[Effect]:
        """Whatever can be asked of the master now."""
        effects: list[Effect] = []
        if self._allocated < self._known and _ALLOCATE not in self._asked:
            effects.append(self._allocate(now_ns))
        if self._shards.moving and _REALLOCATE not in self._asked:
            effects.append(self._ask(_REALLOCATE, self._shards.reallocation(self._avoid(now_ns))))
        page = self._staged_pages
        complete = self._shards.complete(page)
        if not complete or _STAGE in self._asked or _COMMIT in self._asked:
            return effects
        first = page * self._page_chunks
        if self._count is not None and self._count - first <= self._page_chunks:
            if complete == self._count - first:
                effects.append(self._commit(self._shards.rows(first, complete)))
        elif complete == self._page_chunks and self._known_to_go_on(first):
            rows = self._shards.rows(first, complete)
            effects.append(self._ask(_STAGE, self.target.stage(self.upload, page, self.redundancy, rows)))
        return effects

    def _known_to_go_on(self, first: int) -> bool:
        """A full page is staged only if another follows, so that the commit has the last one inside. A stream says with
        each chunk whether it is the last, so a full page of a stream without a known end goes on."""
        return self._count is None or self._count > first + self._page_chunks

    def _allocate(self, now_ns: int) -> Ask | Begin:
        first = self._allocated
        until = min(self._known, first + limits.MAX_PAGE_CHUNKS)
        lengths = [self._shards.chunks[index].length for index in range(first, until)]
        avoid = self._avoid(now_ns)
        operation = self.target.allocate(self.upload, first, lengths, self._anchor, self.redundancy, avoid)
        if self._may_take_slot:
            self._asked.add(_ALLOCATE)
            return Begin(operation, _ALLOCATE)
        return self._ask(_ALLOCATE, operation)

    def _commit(self, rows: list[StagedChunk]) -> Ask:
        self._commit_open = True
        inherits, count = self._whole and not self.target.redundancy, self._count or 0
        operation = self.target.commit(self.upload, self._length, count, self.redundancy, rows, inherits=inherits)
        return self._ask(_COMMIT, operation)

    def _avoid(self, now_ns: int) -> list[int]:
        return [] if self._careless else self._suspicion.nodes(now_ns)

    def _ask(self, tag: str, operation: Allocate | Reallocate | ListNodes | Stage | Commit | Stat) -> Ask:
        self._asked.add(tag)
        return Ask(operation, tag)

    # --- the end -----------------------------------------------------------------------------------------------------

    def _give_up(self) -> list[Effect]:
        return [Ask(operation, None) for operation in self.last_words()]

    def last_words(self) -> list[Abort]:
        """Let the master forget what was allocated and staged. Never after a commit whose outcome is open."""
        return [] if not self.upload or self._commit_open else [Abort(self.upload)]

    def _finish(self, result: Attributes | DSAError) -> list[Effect]:
        self.ended = True
        if isinstance(result, Attributes) and (missing := self._shards.left_out):
            result = Stored.of(result, missing)
        self._shards.chunks.clear()
        return [Finish(result)]
