"""Places for small files, asked for ahead of their use: a put that finds one sends its bytes at once. Pure.

A *slot* is an upload of one chunk with its places and write grants; the master gives them in blocks. Each leaves the pool
exactly once: taken by an upload, which is then an upload like any other, or returned to the master unused. A slot is
returned when its time is over, a node of it is suspected, no small file came for a second, or the pool is void: under
another term or in another session nothing of before is used.

Slots are for copies, as which small files are kept where others are made into a code. What is as small but fills its chunk
is made into the code, too, and asks for itself.

Only a client that puts many small files asks: whoever puts one, or some, does as if there were no pool. While a block is on
its way, as many uploads as it has slots wait for it; it was asked for before them.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from dsa_zmq.client.effects import Begin
from dsa_zmq.client.inherited import Inherited
from dsa_zmq.client.suspicion import Suspicion
from dsa_zmq.errors import DSAError
from dsa_zmq.model.limits import MAX_SLOTS, SLOT_SIZES
from dsa_zmq.model.redundancy import kept_as, parse_redundancy
from dsa_zmq.protocol.operations import AllocatedSlots, AllocateSlots, Operation, Result, ReturnSlots
from dsa_zmq.protocol.values import UploadSlot

BURST_FILES = 8  #: of one kind begun within a window: then more are to be expected
WINDOW_NS = 1_000_000_000
IDLE_NS = 1_000_000_000  #: without a file of its kind, after which slots are returned
REST_NS = 1_000_000_000  #: after a refusal: the cluster is nearly full, or nodes are missing
LEAST_SLOTS = 16  #: in a block: fewer are not worth the question
MAX_HELD = 4 * MAX_SLOTS  #: slots, of all kinds, here and on their way
MAX_HELD_BYTES = 16 << 20  #: that they may take: it is kept free for them on the nodes

Kind = tuple[str, int]
"""Redundancy and size of slots."""
Epoch = tuple[int, int]
"""Term of the master and session: slots are good in one."""


class Turn(enum.Enum):
    """Instead of a slot."""

    WAIT = "wait"  #: one is on its way
    ASK = "ask"  #: there is none: allocate as usual


class Taken(NamedTuple):
    """A slot that is nobody else's from now on, with what holds for its whole block."""

    slot: UploadSlot
    redundancy: str
    slot_bytes: int
    expires_s: int


@dataclass(slots=True)
class _Block:
    slots: deque[UploadSlot]
    until_ns: int  #: afterwards none of them is begun
    expires_s: int


@dataclass(slots=True)
class _Stock:
    """The slots of one kind, and how many files of that kind there are lately."""

    blocks: deque[_Block] = field(default_factory=deque)
    left: int = 0  #: slots in the blocks
    asked: int = 0  #: slots on their way
    asked_ns: int = 0
    rest_until_ns: int = 0
    waiting: dict[int, Begin] = field(default_factory=dict)  #: by owner, in the order they came
    window_ns: int = 0
    count: int = 0  #: files in this window
    before: int = 0  #: and in the one before
    begun_ns: int = 0  #: the last file

    def begins(self, now_ns: int) -> int:
        """One file more. Returns how many a window brings lately."""
        self.begun_ns = now_ns
        since_ns = now_ns - self.window_ns
        if since_ns >= WINDOW_NS:
            self.before = self.count if since_ns < 2 * WINDOW_NS else 0
            self.window_ns, self.count = now_ns, 0
        self.count += 1
        return max(self.count, self.before)


class SlotPool:
    """``burst``: how many small files of one kind within a second make this client ask ahead; 0: it never does."""

    def __init__(self, suspicion: Suspicion, burst: int = BURST_FILES) -> None:
        self._suspicion = suspicion
        self._burst = burst
        self._epoch: Epoch = (0, 0)
        self._stocks: dict[Kind, _Stock] = {}
        self._waiting: dict[int, _Stock] = {}  #: who waits, by owner
        self._asks: list[tuple[Kind, AllocateSlots]] = []
        self._unused: list[int] = []
        self.inherited = Inherited()
        self.taken = 0  #: so far

    def __repr__(self) -> str:
        return f"SlotPool({self.held} slots, {len(self._waiting)} waiting, {self.taken} taken)"

    @property
    def held(self) -> int:
        """Slots here and on their way."""
        return sum(stock.left + stock.asked for stock in self._stocks.values())

    @property
    def held_bytes(self) -> int:
        """Content that they may take."""
        return sum((stock.left + stock.asked) * kind[1] for kind, stock in self._stocks.items())

    def take(self, owner: int, begin: Begin, epoch: Epoch, now_ns: int) -> Taken | Turn:
        """A slot for the upload of ``owner``, if there is one."""
        asked = begin.operation
        size, chunk_bytes = asked.lengths[0], asked.chunk_bytes
        if asked.redundancy:
            redundancy = kept_as(asked.redundancy, size, chunk_bytes)
        else:
            redundancy = self.inherited.find(asked.path, size, chunk_bytes)
        if not redundancy or not self._burst or not parse_redundancy(redundancy).alike:
            return Turn.ASK
        if epoch != self._epoch:
            self._renew(epoch)
        kind = redundancy, next(each for each in SLOT_SIZES if size <= each)
        stock = self._stocks.get(kind)
        if stock is None:
            stock = self._stocks[kind] = _Stock()
        rate = stock.begins(now_ns)
        taken = self._pop(kind, stock, now_ns)
        if rate >= self._burst and not stock.asked:
            self._ask_for_more(kind, stock, rate, now_ns)
        if taken is not None:
            return taken
        if len(stock.waiting) >= stock.asked:
            return Turn.ASK
        stock.waiting[owner] = begin
        self._waiting[owner] = stock
        return Turn.WAIT

    def arrived(
        self, kind: Kind, result: Result | DSAError, epoch: Epoch, now_ns: int
    ) -> list[tuple[int, Begin, Taken | None]]:
        """The answer to a question for a block. Returns who waited for it, each with a slot or without."""
        stock = self._stocks[kind]
        stock.asked = 0
        if epoch != self._epoch:
            self._renew(epoch)
        if isinstance(result, AllocatedSlots) and result.slots:
            until_ns = stock.asked_ns + result.use_within_ms * 1_000_000
            stock.blocks.append(_Block(deque(result.slots), until_ns, result.expires_s))
            stock.left += len(result.slots)
        else:
            stock.rest_until_ns = now_ns + REST_NS
        served = [(owner, begin, self._pop(kind, stock, now_ns)) for owner, begin in stock.waiting.items()]
        stock.waiting.clear()
        for owner, _, _ in served:
            del self._waiting[owner]
        return served

    def cancel(self, owner: int) -> None:
        """This upload waits no more."""
        stock = self._waiting.pop(owner, None)
        if stock is not None:
            del stock.waiting[owner]

    def tick(self, now_ns: int) -> None:
        """Time has passed: what is old, or seems to be wanted no more, goes back."""
        for kind, stock in list(self._stocks.items()):
            while stock.blocks and now_ns >= stock.blocks[0].until_ns:
                self._return(stock, stock.blocks.popleft())
            if now_ns - stock.begun_ns >= IDLE_NS and not stock.asked:
                self._clear(stock)
                del self._stocks[kind]

    def clear(self) -> None:
        """The client ends: everything that is here goes back."""
        for stock in self._stocks.values():
            self._clear(stock)

    def questions(self) -> list[tuple[Kind | None, Operation]]:
        """What the master is to be asked now, with what :meth:`arrived` wants to hear beside the answer."""
        if not self._asks and not self._unused:
            return []
        questions: list[tuple[Kind | None, Operation]] = [*self._asks]
        if self._unused:
            questions.append((None, ReturnSlots(self._unused)))
        self._asks, self._unused = [], []
        return questions

    def _ask_for_more(self, kind: Kind, stock: _Stock, rate: int, now_ns: int) -> None:
        """When half of a block is used up, so that the next one is there in time."""
        size = max(LEAST_SLOTS, min(rate, MAX_SLOTS))
        if stock.left >= size // 2 or now_ns < stock.rest_until_ns:
            return
        count = min(size, MAX_HELD - self.held, (MAX_HELD_BYTES - self.held_bytes) // kind[1])
        if count > 0:
            stock.asked, stock.asked_ns = count, now_ns
            self._asks.append((kind, AllocateSlots(count, kind[1], kind[0], self._suspicion.nodes(now_ns))))

    def _pop(self, kind: Kind, stock: _Stock, now_ns: int) -> Taken | None:
        """The next good slot; those before it are returned."""
        while stock.blocks:
            block = stock.blocks[0]
            if not block.slots or now_ns >= block.until_ns:
                self._return(stock, stock.blocks.popleft())
                continue
            slot = block.slots.popleft()
            stock.left -= 1
            if self._suspicion and any(self._suspicion.suspects(place.node, now_ns) for place in slot.places):
                self._unused.append(slot.upload)
                continue
            self.taken += 1
            return Taken(slot, kind[0], kind[1], block.expires_s)
        return None

    def _renew(self, epoch: Epoch) -> None:
        """Another master, or another session: nothing of before is used."""
        self.clear()
        self._epoch = epoch

    def _clear(self, stock: _Stock) -> None:
        while stock.blocks:
            self._return(stock, stock.blocks.popleft())

    def _return(self, stock: _Stock, block: _Block) -> None:
        stock.left -= len(block.slots)
        self._unused += [slot.upload for slot in block.slots]

    def check(self) -> None:
        """AssertionError if the books do not balance."""
        for stock in self._stocks.values():
            assert stock.left == sum(len(block.slots) for block in stock.blocks)
            assert len(stock.waiting) <= stock.asked, "nobody waits for a slot that was not asked for"
        assert len(self._waiting) == sum(len(stock.waiting) for stock in self._stocks.values())
        assert self.held <= MAX_HELD
        assert self.held_bytes <= MAX_HELD_BYTES
