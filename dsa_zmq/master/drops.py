"""Telling nodes to drop what nobody wants any more: one conversation a node, until its list is empty. Pure.

The steps of a conversation, each ended by the answer to what was sent::

    loading --LoadDrops--> telling --Drop ... Dropped--> recording --DropsDone--> loading ... until nothing is left

A Drop is repeated with growing pauses. A node carries out each number once, and numbers grow, so that a late or repeated
one cannot take what has come back to the node meanwhile; until its answer is recorded, nothing is moved there. A
conversation with a node that is not up is given up; the next round of the garbage collection names the node again.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field

from dsa_zmq.protocol.messages import Drop, Dropped
from dsa_zmq.protocol.values import ShardRef

DROPS_AT_ONCE = 500  #: shards in one Drop: some 8 KB, and a fraction of a second of a node's disk
RETRY_FIRST_NS = 2_000_000_000  #: a node needs time for its disk
RETRY_MAX_NS = 30_000_000_000


class Step(enum.Enum):
    LOADING = "loading"
    TELLING = "telling"
    RECORDING = "recording"


@dataclass(slots=True)
class DropTalk:
    """One node's conversation."""

    node: int
    serial: int  #: names this conversation in job tokens: results of a given-up one are recognised
    step: Step = Step.LOADING
    number: int = 0  #: of the Drop that is out
    shards: list[ShardRef] = field(default_factory=list)
    again_ns: int = 0  #: serving time of the next repeat
    pause_ns: int = RETRY_FIRST_NS

    def __repr__(self) -> str:
        return f"<drops node {self.node}: {self.step.value} {len(self.shards)} shards, number {self.number}>"


class Drops:
    """All conversations. Times are serving time in nanoseconds."""

    def __init__(self, term: int) -> None:
        self._term = term
        self._talks: dict[int, DropTalk] = {}
        self._last = 0  #: serials and numbers
        self.dropped = 0  #: shards so far

    def begin(self, node: int) -> DropTalk | None:
        """The conversation to load the first shards for, or None if there is one already."""
        if node in self._talks:
            return None
        talk = self._talks[node] = DropTalk(node, self._next())
        return talk

    def find(self, node: int, serial: int) -> DropTalk | None:
        """The conversation of that serial, unless it was given up."""
        talk = self._talks.get(node)
        return talk if talk is not None and talk.serial == serial else None

    def loaded(self, talk: DropTalk, shards: list[ShardRef], served_ns: int) -> Drop | None:
        """The catalog's list. Returns what to send, or None if nothing is left and the conversation is over."""
        if not shards:
            del self._talks[talk.node]
            return None
        talk.step, talk.number, talk.shards = Step.TELLING, self._next(), shards
        talk.pause_ns = RETRY_FIRST_NS
        talk.again_ns = served_ns + talk.pause_ns
        return Drop(talk.number, self._term, talk.shards)

    def due(self, served_ns: int) -> list[tuple[int, Drop]]:
        """What to send again, and to which node."""
        again = []
        for talk in self._talks.values():
            if talk.step is Step.TELLING and served_ns >= talk.again_ns:
                talk.pause_ns = min(2 * talk.pause_ns, RETRY_MAX_NS)
                talk.again_ns = served_ns + talk.pause_ns
                again.append((talk.node, Drop(talk.number, self._term, talk.shards)))
        return again

    def gone(self, node: int, message: Dropped) -> tuple[DropTalk, list[ShardRef]] | None:
        """A node says that these are gone. Returns those of them that were asked for, to be recorded; None if it answers
        nothing that is out."""
        talk = self._talks.get(node)
        if talk is None or talk.step is not Step.TELLING or message.number != talk.number:
            return None
        said = set(message.shards)
        shards = [shard for shard in talk.shards if shard in said]
        if not shards:
            return None
        talk.step = Step.RECORDING
        self.dropped += len(shards)
        return talk, shards

    def recorded(self, talk: DropTalk) -> None:
        """The catalog has forgotten them; the next are to be loaded."""
        talk.step, talk.shards = Step.LOADING, []

    def keep_only(self, nodes: Iterable[int]) -> None:
        """Give up the conversations with all other nodes."""
        kept = set(nodes)
        self._talks = {node: talk for node, talk in self._talks.items() if node in kept}

    def give_up(self, node: int) -> None:
        self._talks.pop(node, None)

    def _next(self) -> int:
        self._last += 1
        return self._last

    def __len__(self) -> int:
        return len(self._talks)

    def __repr__(self) -> str:
        return f"<Drops {list(self._talks.values())}, {self.dropped} shards dropped>"

    def check_invariants(self) -> None:
        for node, talk in self._talks.items():
            assert talk.node == node
            assert (talk.step is Step.LOADING) == (not talk.shards), "shards are known while they are told or recorded"
            assert len(talk.shards) <= DROPS_AT_ONCE
