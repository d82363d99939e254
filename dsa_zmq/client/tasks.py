"""Single shards to be moved, what became of them, and the messages that carry them. Pure values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import msgspec

from actors.core import Address, Message
from dsa_zmq.protocol.messages import ConfirmShards, GetShards, PutShard, PutShards, ShardGrant
from dsa_zmq.protocol.values import Failure, Receipt

Slot = tuple[int, int]
"""(index of the chunk in its file, shard index)."""


class Task(msgspec.Struct, frozen=True, gc=False):
    """One shard to be moved. ``owner`` is the transfer, ``node`` the node id; ``size`` is what it costs in credit."""

    owner: int
    slot: Slot
    node: int
    size: int


class Write(Task, frozen=True):
    put: PutShard
    data: bytes | memoryview  #: read-only; referenced until the node has answered


class Read(Task, frozen=True, gc=False):
    grant: ShardGrant


class Reconfirm(Task, frozen=True, gc=False):
    """Ask the node for a new receipt of a shard that it holds."""

    grant: ShardGrant


class Outcome(NamedTuple):
    """What became of a task: one of receipt, data, failure; or ``late``, after which a final outcome still comes."""

    task: Task
    receipt: Receipt | None = None
    data: memoryview | bytes | None = None
    failure: Failure | None = None
    late: bool = False


class Outgoing(NamedTuple):
    """A message to be sent, or with ``message`` None a connection to be dropped."""

    address: Address
    message: Message | None
    payload: Sequence[bytes | memoryview] = ()


def key_of(task: Task) -> tuple[int, int]:
    """(chunk id, shard index), as in answers."""
    if isinstance(task, Read):
        return task.grant.chunk, task.grant.index
    if isinstance(task, Write):
        return task.put.chunk, task.put.index
    assert isinstance(task, Reconfirm)
    return task.grant.chunk, task.grant.index


def upload_of(task: Task) -> int:
    """Which upload a write or a confirmation is for; 0 of a read."""
    return task.put.upload if isinstance(task, Write) else task.grant.upload if isinstance(task, Reconfirm) else 0


def go_together(first: Task, other: Task) -> bool:
    """One message holds one kind of task."""
    return type(first) is type(other)


def message_of(address: Address, number: int, batch: list[Task]) -> Outgoing:
    """One message for tasks that :func:`go_together`."""
    first = batch[0]
    if isinstance(first, Read):
        reads = cast(list[Read], batch)
        return Outgoing(address, GetShards(number, [task.grant for task in reads]))
    if isinstance(first, Write):
        writes = cast(list[Write], batch)
        message = PutShards(number, [task.put for task in writes])
        return Outgoing(address, message, [task.data for task in writes])
    assert isinstance(first, Reconfirm)
    confirmations = cast(list[Reconfirm], batch)
    return Outgoing(address, ConfirmShards(number, [task.grant for task in confirmations]))
