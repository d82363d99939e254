"""What goes into one question to a source of shards, and what its answer says. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from actors.core import Address
from dsa_zmq.errors import DSAError, Unavailable
from dsa_zmq.node.gathering import Gathering
from dsa_zmq.protocol.messages import ShardData
from dsa_zmq.protocol.values import ShardSource

QUESTION_BYTES = 16 << 20  #: that answer one question: they travel in one message

Asked = tuple[Gathering, ShardSource]
"""A shard, and a source that is asked for it."""


@dataclass(slots=True)
class Question:
    """What one node is asked for in one message; of this node itself, in one job."""

    command: tuple[int, int]  #: (term, number) of the command that it is for
    node: int
    address: Address | None  #: None: this node
    asked: list[Asked]


def portions(asked: Sequence[Asked]) -> list[list[Asked]]:
    """As one question may have: its bytes travel in one message, and a source answers for each shard once."""
    portions: list[list[Asked]] = [[]]
    size = 0
    named: set[tuple[int, int]] = set()
    for shard, source in asked:
        name = (source.chunk, source.index)
        if portions[-1] and (size + source.length > QUESTION_BYTES or name in named):
            portions.append([])
            size, named = 0, set()
        portions[-1].append((shard, source))
        size += source.length
        named.add(name)
    return portions


def match(question: Question, message: ShardData, payload: Sequence[memoryview]) -> list[DSAError | memoryview]:
    """The bytes of each shard asked, or why there are none. A source may answer nonsense."""
    frames = iter(payload)
    found: dict[tuple[int, int], DSAError | memoryview] = {}
    for got in message.shards:
        if got.failure is not None:
            found[got.chunk, got.index] = Unavailable(f"node {question.node}: {got.failure.message}")
        elif (frame := next(frames, None)) is not None:
            found[got.chunk, got.index] = frame
    nothing = Unavailable(f"node {question.node} did not answer for the shard")
    return [found.get((source.chunk, source.index), nothing) for _, source in question.asked]
