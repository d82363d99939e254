"""What each node is asked about its shards, one question out at a time. Pure.

An *inquiry* is a list of shards, on any nodes, that somebody asks about; it ends when each has a state. What is asked of one
node waits in its line and leaves in batches. A question is repeated with growing pauses; its number is new with each batch,
and the answer to a number that is not out counts for nothing. When the node becomes another process, what was out is asked
again; when it is not there any more, all that waits for it is UNREADABLE.

The nodes' words are not final until the catalog has them: ``absent`` and ``damaged`` are recorded first, batch by batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dsa_zmq.protocol.messages import ABSENT, DAMAGED, GOOD, UNREADABLE, Examine, Examined
from dsa_zmq.protocol.values import PlacedShard, ShardRef

LOOKED_UP_AT_ONCE = 500  #: shards in one question that is answered from the index
READ_AT_ONCE = 64  #: and in one that has their bytes read: a second of a spinning disk, with chunks of 1 MiB
RETRY_FIRST_NS = 2_000_000_000  #: a node needs time for its disk
RETRY_MAX_NS = 30_000_000_000
STATES = (GOOD, ABSENT, DAMAGED, UNREADABLE)


@dataclass(slots=True)
class Inquiry:
    """What somebody asked for."""

    serial: int
    states: list[int]
    left: int  #: without a state


class Item(NamedTuple):
    """One shard of an inquiry."""

    serial: int
    position: int
    shard: ShardRef
    read: bool


@dataclass(slots=True)
class Line:
    """What one node is asked."""

    waiting: deque[Item] = field(default_factory=deque)
    out: list[Item] = field(default_factory=list)
    number: int = 0  #: of the question that is out
    again_ns: int = 0  #: serving time of the next repeat
    pause_ns: int = RETRY_FIRST_NS


class Answered(NamedTuple):
    """What a node has said, in order."""

    items: list[Item]
    states: list[int]

    def of(self, state: int) -> list[ShardRef]:
        return [item.shard for item, said in zip(self.items, self.states, strict=True) if said == state]


class Questions:
    """All of them. Times are serving time in nanoseconds."""

    def __init__(self, term: int) -> None:
        self._term = term
        self._lines: dict[int, Line] = {}
        self._inquiries: dict[int, Inquiry] = {}
        self._last = 0  #: serials and numbers
        self.asked = 0  #: shards so far

    def begin(self, shards: Sequence[PlacedShard], read: bool) -> int:
        """A new inquiry; its serial. What is to be sent follows from :meth:`next`."""
        self._last += 1
        self._inquiries[self._last] = Inquiry(self._last, [UNREADABLE] * len(shards), len(shards))
        for position, shard in enumerate(shards):
            item = Item(self._last, position, ShardRef(shard.chunk, shard.index), read)
            self._lines.setdefault(shard.node, Line()).waiting.append(item)
        self.asked += len(shards)
        return self._last

    def nodes(self) -> list[int]:
        """Those that are asked something, or are to be."""
        return sorted(self._lines)

    def next(self, node: int, served_ns: int) -> Examine | None:
        """What to send to a node of which no answer is awaited; None if it has to answer first, or nothing is left."""
        line = self._lines.get(node)
        if line is None or line.out:
            return None
        if not line.waiting:
            del self._lines[node]
            return None
        read = line.waiting[0].read
        while line.waiting and line.waiting[0].read == read and len(line.out) < _at_once(read):
            line.out.append(line.waiting.popleft())
        self._last += 1
        line.number = self._last
        line.pause_ns = RETRY_FIRST_NS
        line.again_ns = served_ns + line.pause_ns
        return self._message(line)

    def due(self, served_ns: int) -> list[tuple[int, Examine]]:
        """What to send again, and to which node."""
        again = []
        for node, line in sorted(self._lines.items()):
            if line.out and served_ns >= line.again_ns:
                line.pause_ns = min(2 * line.pause_ns, RETRY_MAX_NS)
                line.again_ns = served_ns + line.pause_ns
                again.append((node, self._message(line)))
        return again

    def answered(self, node: int, message: Examined) -> Answered | None:
        """A node's word; None if it answers nothing that is out, or makes no sense. The next question may be sent."""
        line = self._lines.get(node)
        if line is None or not line.out or message.number != line.number or len(message.states) != len(line.out):
            return None
        items, line.out, line.number = line.out, [], 0
        return Answered(items, [state if state in STATES else UNREADABLE for state in message.states])

    def settle(self, answered: Answered) -> list[Inquiry]:
        """These words hold; the inquiries that end with them."""
        return [
            ended
            for item, state in zip(answered.items, answered.states, strict=True)
            if (ended := self._settle(item, state)) is not None
        ]

    def again(self, node: int) -> None:
        """The node is another process: what was out is asked anew."""
        line = self._lines.get(node)
        if line is not None and line.out:
            line.waiting.extendleft(reversed(line.out))
            line.out, line.number = [], 0

    def give_up(self, node: int) -> list[Inquiry]:
        """Nothing more is to be heard of this node; the inquiries that end thereby."""
        line = self._lines.pop(node, Line())
        items = [*line.out, *line.waiting]
        return self.settle(Answered(items, [UNREADABLE] * len(items)))

    def _settle(self, item: Item, state: int) -> Inquiry | None:
        inquiry = self._inquiries[item.serial]
        inquiry.states[item.position] = state
        inquiry.left -= 1
        return None if inquiry.left else self._inquiries.pop(item.serial)

    def _message(self, line: Line) -> Examine:
        return Examine(line.number, self._term, [item.shard for item in line.out], line.out[0].read)

    def __len__(self) -> int:
        return len(self._inquiries)

    def __repr__(self) -> str:
        lines = {node: (len(line.out), len(line.waiting)) for node, line in self._lines.items()}
        return f"<Questions {len(self)} inquiries, out and waiting by node {lines}>"

    def check_invariants(self) -> None:
        for line in self._lines.values():
            assert bool(line.out) == bool(line.number), "what is out has a number"
            assert len({item.read for item in line.out}) <= 1, "a question is of one kind"
        for inquiry in self._inquiries.values():
            assert 0 < inquiry.left <= len(inquiry.states)


def _at_once(read: bool) -> int:
    return READ_AT_ONCE if read else LOOKED_UP_AT_ONCE
