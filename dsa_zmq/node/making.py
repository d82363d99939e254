"""Making shards from those of other nodes: what they gave is verified, then decoded, and what came of it is verified too.

A library decodes damaged shards silently to wrong bytes, so none goes in that does not match its hash. A job, as it takes
some milliseconds for each MiB; while one shard is made, it takes memory of some times its chunk.
"""

from __future__ import annotations

import msgspec
from blake3 import blake3

from actors.core import Job
from dsa_zmq.errors import Corrupt, DSAError
from dsa_zmq.model import erasure
from dsa_zmq.model.redundancy import Redundancy
from dsa_zmq.node.store import ShardKey, ShardStore


class Part(msgspec.Struct, frozen=True):
    """A shard that a source gave."""

    index: int
    hash: bytes  #: BLAKE3-256 that ``data`` must have
    data: bytes | memoryview


class Order(msgspec.Struct, frozen=True):
    """A shard to be made from as many ``parts`` as a chunk with their redundancy needs, all of their length. One of the
    hashes is known at least."""

    key: ShardKey
    chunk_length: int
    redundancy: Redundancy
    hash: bytes  #: BLAKE3-256 of the shard, or b""
    chunk_hash: bytes  #: of the whole chunk, or b""
    source_redundancy: Redundancy
    parts: tuple[Part, ...]


class MakeShards(Job, frozen=True):
    """-> a list of Made, Wrong or DSAError, one each"""

    orders: tuple[Order, ...]


class Made(msgspec.Struct, frozen=True):
    hash: bytes
    data: bytes | memoryview


class Wrong(msgspec.Struct, frozen=True):
    """Some parts do not match their hashes."""

    indexes: tuple[int, ...]


def make_shards(store: ShardStore, job: MakeShards) -> list[Made | Wrong | DSAError]:
    return [_make(order) for order in job.orders]


def _make(order: Order) -> Made | Wrong | DSAError:
    wrong = tuple([part.index for part in order.parts if blake3(part.data).digest() != part.hash])
    if wrong:
        return Wrong(wrong)
    try:
        data = _shard(order)
    except DSAError as error:
        return error
    digest = blake3(data).digest()
    if order.hash and digest != order.hash:
        return _not_it(order, "the shard")
    return Made(digest, data)


def _shard(order: Order) -> bytes | memoryview:
    """The shard's bytes. Where its hash is known, that is compared; otherwise the chunk's has to match."""
    parts = {part.index: part.data for part in order.parts}
    source, target = order.source_redundancy, order.redundancy
    if source == target and order.hash:
        return erasure.rebuild(parts, order.key.index, target, order.chunk_length)
    chunk = order.parts[0].data if source.alike else erasure.join(parts, source, order.chunk_length)
    if order.chunk_hash and blake3(chunk).digest() != order.chunk_hash:
        raise _not_it(order, "the chunk")
    if target.alike:
        return chunk
    return bytes(erasure.shard(chunk, order.key.index, target))  # a view would keep the whole chunk in memory


def _not_it(order: Order, what: str) -> Corrupt:
    sources = ", ".join(str(part.index) for part in order.parts)
    return Corrupt(
        f"{what} made for shard {order.key.index} of chunk {order.key.chunk} has another hash than it must have, although "
        f"all that it was made from ({order.source_redundancy.name}, shards {sources}) is sound"
    )
