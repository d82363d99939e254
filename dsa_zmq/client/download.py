"""One download: a pure machine from inputs to effects.

    manifest page -> shards from their best nodes, in parallel -> verified -> written in place, or delivered in order

Of each chunk as many shards are asked for as it needs, and others only if one of those failed, or is late: see
:mod:`dsa_zmq.client.gathering`. A chunk of which too few came is looked up anew, since repair may have moved it: if its
nodes had nothing but damage twice, the file is corrupt; if they could not be reached, it is tried again until the
transfer's time is up.

A chunk moves through these states:

    waiting (in the manifest page) -> asked (of nodes) -> checking (against hashes) -> joining (of a code) -> done
    asked --too few came--> resting --new places--> asked
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dsa_zmq.client.effects import Ask, Deliver, Described, Effect, Finish, Know, Progress, Release
from dsa_zmq.client.gathering import Bytes, Gathering
from dsa_zmq.client.in_order import InOrder
from dsa_zmq.client.suspicion import Suspicion
from dsa_zmq.client.tasks import Outcome, Task, key_of
from dsa_zmq.client.wanted import Wanted
from dsa_zmq.errors import (
    Conflict,
    Corrupt,
    Denied,
    DSAError,
    Incompatible,
    IsADirectory,
    LocalError,
    NotFound,
    Timeout,
    Unavailable,
)
from dsa_zmq.model import limits
from dsa_zmq.model.redundancy import Redundancy, parse_redundancy
from dsa_zmq.protocol.operations import Locate, Located, Result
from dsa_zmq.protocol.values import Attributes, ChunkPlaces

PageTag = tuple[str, int]

_NOTHING = InOrder(0, 0, 1)  #: is wanted until it is known what there is


class Download:
    """State of one download. Every input takes the time and returns effects, in order."""

    def __init__(
        self,
        owner: int,
        wanted: Wanted,
        suspicion: Suspicion,
        node_name: Callable[[int], str],
        timeout_ns: int = int(limits.PROGRESS_TIMEOUT_S * 1e9),
    ) -> None:
        self._owner = owner
        self._wanted = wanted
        self._suspicion = suspicion
        self._node_name = node_name
        self._timeout_ns = timeout_ns
        self._attributes: Attributes | None = None
        self._redundancy: Redundancy | None = None
        self._page_chunks = 1
        self._pages: dict[int, tuple[list[ChunkPlaces], int]] = {}  # places and expiry; only pages still needed
        self._asked_pages: set[int] = set()
        self._next = 0  #: the next chunk to ask for
        self._end = 0  #: one past the last chunk wanted
        self._chunks: dict[int, Gathering] = {}  # asked and not done
        self._window_used = 0
        self._order = _NOTHING  # of what is delivered
        self._to_file = False
        self._attached = False
        self._heard_ns = 0
        self.ended = False

    def __repr__(self) -> str:
        return f"Download({self._wanted.path!r}, next {self._next}/{self._end}, {len(self._chunks)} open)"

    @property
    def busy(self) -> bool:
        """Whether it waits for others than its reader."""
        return bool(self._asked_pages or self._chunks)

    def check(self) -> None:
        """AssertionError if a chunk waits for nobody."""
        assert all(chunk.at_work or chunk.due_ns for chunk in self._chunks.values())

    # --- inputs: the caller ------------------------------------------------------------------------------------------

    def start(self, now_ns: int) -> list[Effect]:
        """First input."""
        self._heard_ns = now_ns
        page = 0
        if self._wanted.content and self._wanted.chunk_bytes:
            first = self._wanted.start // self._wanted.chunk_bytes
            page = first // limits.chunks_per_page(self._wanted.chunk_bytes)
        return [self._locate(page)]

    def attached(self, now_ns: int) -> list[Effect]:
        """The target file is open (after :class:`Described`)."""
        if self.ended:
            return []
        self._attached = True
        self._heard_ns = now_ns
        return self._advance(now_ns)

    def consumed(self, size: int, now_ns: int) -> list[Effect]:
        """The reader has taken so many bytes of what was delivered."""
        if self.ended:
            return []
        if not self.busy:
            self._heard_ns = now_ns
        self._window_used -= size
        return self._advance(now_ns)

    def fail(self, error: DSAError) -> list[Effect]:
        """End with an error, by a caller who has lost interest."""
        return [] if self.ended else self._finish(error)

    # --- inputs: the master ------------------------------------------------------------------------------------------

    def answered(self, tag: PageTag, result: Result | DSAError, now_ns: int) -> list[Effect]:
        """The answer to a Locate; errors as errors."""
        if self.ended:
            return []
        page = tag[1]
        self._asked_pages.discard(page)
        if isinstance(result, DSAError):
            if result.indefinite and self._attributes is not None and now_ns - self._heard_ns < self._timeout_ns:
                return [] if self._rest_again(page, now_ns) else [self._locate(page)]
            if isinstance(result, NotFound) and (self._attributes is not None or self._wanted.content):
                return self._finish(self._replaced())
            return self._finish(result)
        if not isinstance(result, Located):
            return self._finish(Unavailable(f"the master answered locate with {type(result).__name__}"))
        if why := self._another(result.attributes):
            return self._finish(Incompatible(f"the master told {why}", "update the older side, or read it again"))
        if not any(chunk.due_ns for index, chunk in self._chunks.items() if index // self._page_chunks == page):
            self._heard_ns = now_ns  # to be told the same places again is no progress
        effects: list[Effect] = [Know(result.nodes)]
        if self._attributes is None:
            effects += self._describe(result.attributes)
            if not self._end:
                return effects  # nothing to fetch: that was all
        self._pages[page] = (result.chunks, result.expires_s)
        for index, chunk in list(self._chunks.items()):
            if index // self._page_chunks == page and chunk.due_ns and not self._over():
                effects += self._renew(index, chunk, now_ns)
        if self._over():
            return effects
        if self._next == self._end or (page + 1) * self._page_chunks <= self._next:
            del self._pages[page]  # looked up again for resting chunks only
        return effects + self._advance(now_ns)

    def _another(self, found: Attributes) -> str:
        """What does not fit to the content that this download is of: chunks would be looked for where there are none."""
        known = self._attributes
        content = known.content if known is not None else self._wanted.content
        chunk_bytes = known.chunk_bytes if known is not None else self._wanted.chunk_bytes
        size, redundancy = (known.size, known.redundancy) if known is not None else (found.size, found.redundancy)
        wanted = (content, chunk_bytes or found.chunk_bytes, size, redundancy)
        if not content or (found.content, found.chunk_bytes, found.size, found.redundancy) == wanted:
            return ""
        return f"of another content than before of {self._wanted.path}: {found.size} bytes in chunks of {found.chunk_bytes}"

    def _describe(self, attributes: Attributes) -> list[Effect]:
        """What was found, and which chunks of it are wanted."""
        path = self._wanted.path
        if attributes.kind == "dir":
            return self._finish(IsADirectory(f"{path} is a directory", path=path))
        self._attributes = attributes
        size = attributes.size
        start = min(self._wanted.start, size)
        stop = size if self._wanted.stop is None else max(start, min(self._wanted.stop, size))
        if start == stop:
            return self._finish(attributes)
        chunk_bytes = attributes.chunk_bytes
        self._redundancy = parse_redundancy(attributes.redundancy)
        self._page_chunks = limits.chunks_per_page(chunk_bytes)
        self._next = start // chunk_bytes
        self._end = -(-stop // chunk_bytes)
        self._order = InOrder(start, stop, chunk_bytes)
        self._to_file = self._wanted.to_file and attributes.chunk_count > 1
        if self._to_file:
            return [Described(attributes)]
        self._attached = True
        return []

    def _locate(self, page: int) -> Ask:
        self._asked_pages.add(page)
        content = self._attributes.content if self._attributes is not None else self._wanted.content
        return Ask(Locate(self._wanted.path, content, page), ("locate", page))

    # --- inputs: the nodes -------------------------------------------------------------------------------------------

    def outcome(self, outcome: Outcome, now_ns: int) -> list[Effect]:
        """A read has ended, or (``late``) should have."""
        task = outcome.task
        index, node = task.slot[0], task.node
        chunk = self._chunks.get(index)
        if chunk is None or self.ended:
            return [Release(task)] if outcome.data is not None else []
        if outcome.late:
            chunk.is_late(node)
            return chunk.go_on(self._suspicion, now_ns)
        if outcome.data is None:
            chunk.fail(node, outcome.failure.code if outcome.failure is not None else "unavailable")
            return self._go_on(index, chunk, now_ns)
        if len(outcome.data) != chunk.shard_bytes:
            chunk.fail(node, "corrupt")
            return [Release(task), *self._go_on(index, chunk, now_ns)]
        effects = chunk.came(task, outcome.data)
        return effects if chunk.at_work else [*effects, *self._go_on(index, chunk, now_ns)]

    def verified(self, task: Task, data: memoryview | bytes, problem: DSAError | None, now_ns: int) -> list[Effect]:
        """The outcome of a :class:`Verify` (its credit is back): None is good, Corrupt a bad shard, LocalError a target that
        cannot be written."""
        index = task.slot[0]
        chunk = self._chunks.get(index)
        if self.ended or chunk is None:
            return []
        chunk.checked(task)
        if isinstance(problem, LocalError):
            return self._finish(problem)
        if problem is not None:
            self._suspicion.damaged(task.node, *key_of(task))
            chunk.fail(task.node, "corrupt")
            return self._go_on(index, chunk, now_ns)
        if chunk.needed == 1:
            return self._done(index, chunk, 0, [data], now_ns)
        self._heard_ns = now_ns
        effects = chunk.keep(task, data)
        if chunk.has_own:
            return self._done(index, chunk, *chunk.own(), now_ns)
        return effects or self._go_on(index, chunk, now_ns)  # the last to come may be one too few

    def coded(self, index: int, result: bytes | DSAError, now_ns: int) -> list[Effect]:
        """The outcome of a :class:`Join`: the chunk (no bytes if they were written), or Corrupt if it is another one."""
        chunk = self._chunks.get(index)
        if self.ended or chunk is None:
            return []
        if isinstance(result, Corrupt):
            chunk.misjoined()
            return self._go_on(index, chunk, now_ns)
        if isinstance(result, DSAError):
            return self._finish(result)
        return self._done(index, chunk, 0, [result], now_ns)

    def _done(self, index: int, chunk: Gathering, at: int, parts: Sequence[Bytes], now_ns: int) -> list[Effect]:
        """A chunk's bytes, or those that are wanted, from ``at`` on, are there, and right."""
        self._heard_ns = now_ns
        del self._chunks[index]
        effects: list[Effect] = [Progress(chunk.length)]
        if chunk.spares:
            effects += chunk.drop_spares()
        if self._to_file:
            self._window_used -= chunk.length
        else:
            given, unwanted = self._order.put(index, chunk.length, at, parts)
            self._window_used -= unwanted
            effects += [Deliver(part) for part in given]
        return effects + self._advance(now_ns)

    # --- inputs: time ------------------------------------------------------------------------------------------------

    def tick(self, now_ns: int, moved_ns: int) -> list[Effect]:
        """Time has passed; ``moved_ns`` as in :meth:`dsa_zmq.client.upload.Upload.tick`."""
        if self.ended or not self.busy:
            return []
        effects: list[Effect] = []
        resting = False
        for index, chunk in self._chunks.items():
            if chunk.due_ns:
                resting = True
                page = index // self._page_chunks
                if chunk.due_ns <= now_ns and page not in self._asked_pages:
                    effects.append(self._locate(page))
        heard_ns = self._heard_ns if resting or not self._chunks else max(self._heard_ns, moved_ns)
        if now_ns - heard_ns >= self._timeout_ns:
            return self._finish(self._timed_out())
        return effects

    # --- decisions ---------------------------------------------------------------------------------------------------

    def _advance(self, now_ns: int) -> list[Effect]:
        """Ask for as many chunks as the window allows; ask for the next page before it is needed; end."""
        if not self._attached or self.ended:
            return []
        effects: list[Effect] = []
        while self._next < self._end:
            page = self._next // self._page_chunks
            rows = self._pages.get(page)
            if rows is None:
                if page not in self._asked_pages:
                    effects.append(self._locate(page))
                break
            row = rows[0][self._next % self._page_chunks]
            if self._window_used and self._window_used + row.length > self._wanted.window:
                break
            index = self._next
            self._next += 1
            self._window_used += row.length
            chunk = self._chunks[index] = self._gathering(index, row, rows[1])
            effects += self._go_on(index, chunk, now_ns)
            if self._over():
                return effects
            if self._next % self._page_chunks == 0 or self._next == self._end:
                del self._pages[page]
            elif self._next % self._page_chunks == self._page_chunks // 2:
                following = page + 1
                needed = following * self._page_chunks < self._end
                if needed and following not in self._pages and following not in self._asked_pages:
                    effects.append(self._locate(following))
        if self._next == self._end and not self._chunks and not self._order.waiting:
            assert self._attributes is not None
            effects += self._finish(self._attributes)
        return effects

    def _go_on(self, index: int, chunk: Gathering, now_ns: int) -> list[Effect]:
        """Ask for what is needed. When there is nobody to ask, or nobody left: look again later, or end."""
        effects = chunk.go_on(self._suspicion, now_ns)
        if effects or chunk.at_work:
            return effects
        chunk.rest(now_ns)
        if chunk.hopeless:
            return self._finish(self._lost(index, chunk))
        if chunk.denied:
            return self._finish(Denied(f"the nodes do not let this client read {self._wanted.path}"))
        return []

    def _gathering(self, index: int, row: ChunkPlaces, expires_s: int) -> Gathering:
        assert self._attributes is not None
        assert self._redundancy is not None
        if self._to_file:
            at = index * self._attributes.chunk_bytes
            return Gathering(self._owner, index, row, self._redundancy, expires_s, at)
        within = self._order.within(index, row.length) if self._redundancy.needed > 1 else None
        return Gathering(self._owner, index, row, self._redundancy, expires_s, within=within)

    def _renew(self, index: int, chunk: Gathering, now_ns: int) -> list[Effect]:
        """A resting chunk's places were looked up again."""
        rows, expires_s = self._pages[index // self._page_chunks]
        chunk.renew(rows[index % self._page_chunks], expires_s)
        return self._go_on(index, chunk, now_ns)

    def _rest_again(self, page: int, now_ns: int) -> bool:
        """The page could not be looked up again: its resting chunks wait once more. False if there are none."""
        resting = [
            chunk for index, chunk in self._chunks.items() if chunk.due_ns and index // self._page_chunks == page
        ]
        for chunk in resting:
            chunk.rest_again(now_ns)
        return bool(resting)

    def _over(self) -> bool:
        """Whether something done in this input has ended the download."""
        return self.ended

    # --- the end -----------------------------------------------------------------------------------------------------

    def _replaced(self) -> DSAError:
        """What is being read has been let go. That says nothing of the path, which may well show something else."""
        path = self._wanted.path
        return Conflict(f"{path} was overwritten or removed while it was read", "read it again", path)

    def _lost(self, index: int, chunk: Gathering) -> DSAError:
        path, story = self._wanted.path, chunk.story(self._node_name)
        rest = "no good copy left" if chunk.needed == 1 else "too few good shards left"
        remedy = "restore the file from a backup; 'dsa health --files lost' shows what else is affected"
        return Corrupt(f"chunk {index + 1} of {path} has {rest} ({story})", remedy, path)

    def _timed_out(self) -> DSAError:
        path, limit = self._wanted.path, f"{self._timeout_ns / 1e9:g} s"
        for at, chunk in self._chunks.items():
            if chunk.due_ns or chunk.blame or chunk.asked:
                problem = f"chunk {at + 1} of {path} could not be read for {limit} ({chunk.story(self._node_name)})"
                return Unavailable(problem, "start the nodes that hold it; 'dsa nodes' shows which are down", path)
        return Timeout(f"download of {path} made no progress for {limit}; it waits for the master", path=path)

    def _finish(self, result: Attributes | DSAError) -> list[Effect]:
        """Give back what is held. Of a chunk that is being verified the actor gives the credit back when that ends."""
        self.ended = True
        effects: list[Effect] = []
        if self._chunks:
            effects = [dropped for chunk in self._chunks.values() for dropped in chunk.drop_spares()]
            self._chunks.clear()
        self._pages.clear()
        self._order.clear()
        effects.append(Finish(result))
        return effects
