"""What the pure machines of a transfer ask for. The actor carries each out; a machine never sees how."""

from __future__ import annotations

from typing import Any

import msgspec

from dsa_zmq.client.tasks import Task
from dsa_zmq.errors import DSAError
from dsa_zmq.model.redundancy import Redundancy
from dsa_zmq.protocol.operations import Allocate, Operation
from dsa_zmq.protocol.values import Attributes, NodeAddress


class Effect(msgspec.Struct, frozen=True):
    """Base of all effects."""


class Ask(Effect, frozen=True):
    """Ask the master; the answer comes back with ``tag``. ``tag`` None: nobody waits for it."""

    operation: Operation
    tag: Any


class Begin(Effect, frozen=True):
    """Find a place for the only chunk of a small file: a slot that was given ahead will do as well as the answer to this."""

    operation: Allocate
    tag: Any


class Doubt(Effect, frozen=True):
    """The directory of this file does not give what it was believed to give."""

    path: str


class Know(Effect, frozen=True):
    """Addresses of nodes that later tasks name."""

    nodes: list[NodeAddress]


class Carry(Effect, frozen=True):
    """Give the courier a task."""

    task: Task


class Reserve(Effect, frozen=True):
    """Wait for room for so many bytes of content, then call ``reserved``. One at a time."""

    size: int


class Forget(Effect, frozen=True):
    """So many reserved bytes are needed no more."""

    size: int


class Want(Effect, frozen=True):
    """The source may supply the chunks from ``first`` up to, but not with, ``until``."""

    first: int
    until: int


class Progress(Effect, frozen=True):
    """So many more bytes of content are safe (upload) or there (download)."""

    size: int


class Verify(Effect, frozen=True):
    """Check the bytes of a read against their hash, and with ``offset`` not negative write them there. The outcome comes
    back with the task, whose credit is given back then."""

    task: Task
    data: memoryview | bytes
    hash: bytes
    offset: int = -1


class Encode(Effect, frozen=True):
    """Make the shards of a chunk of a code. The outcome comes back with ``tag``."""

    tag: Any
    data: memoryview | bytes
    hash: bytes
    redundancy: Redundancy


class Join(Effect, frozen=True):
    """Make a chunk of ``length`` bytes of as many of its verified shards as it needs, by shard index; if any of them is not
    a part of it, check it against its hash; with ``offset`` not negative write it there. The outcome comes back with
    ``tag``."""

    tag: Any
    shards: dict[int, memoryview | bytes]
    redundancy: Redundancy
    length: int
    hash: bytes
    offset: int = -1


class Release(Effect, frozen=True):
    """The bytes of this read are done with: give the credit back."""

    task: Task


class Deliver(Effect, frozen=True):
    """The next bytes in order, for a reader. ``chunk_bytes`` counts against its window until it has consumed them."""

    data: memoryview | bytes


class Described(Effect, frozen=True):
    """The file was found, and has more than one chunk: a writer of files opens its target now, then calls ``attached``."""

    attributes: Attributes


class Finish(Effect, frozen=True):
    """The transfer has ended. Nothing follows."""

    result: Attributes | DSAError
