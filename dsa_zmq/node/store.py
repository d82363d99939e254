"""The contract of a shard store: what a node's actor may rely on, whatever lies below.

``disk_store`` keeps it on a disk, ``memory_store`` in memory (for tests of other things; never evidence for a promise).
One conformance suite runs over both. Errors are :class:`dsa_zmq.errors.DSAError`; an I/O error of the disk on write or
sync fails the store for good (``failure`` is set and every later put is refused), because after a failed sync the state
of the bytes is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from dsa_zmq.errors import DSAError

if TYPE_CHECKING:
    from dsa_zmq.node.compactor import Compactor


class ShardKey(NamedTuple):
    chunk: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here


class NewShard(msgspec.Struct, frozen=True):
    """One shard to be stored. ``data`` is not copied and may be any read-only buffer of exactly ``length`` bytes."""

    key: ShardKey
    chunk_length: int  #: bytes of the whole chunk
    hash: bytes  #: BLAKE3-256 of ``data``
    data: bytes | memoryview


class ShardInfo(msgspec.Struct, frozen=True):
    """A shard that is there."""

    key: ShardKey
    length: int
    chunk_length: int
    hash: bytes


class Usage(msgspec.Struct, frozen=True):
    capacity: int  #: bytes that this store may take
    used: int  #: bytes on disk that its segments and index take
    free: int  #: bytes that new shards may still take: capacity and the disk's room, less the reserve
    shards: int
    garbage: int = 0  #: bytes of what is dead, in segments that are full
    damaged: int = 0  #: shards in quarantine


class ShardStore(Protocol):
    """Thread contract: ``put``, ``drop`` and ``close`` from one writer thread; the others from any thread, at any time."""

    def put(self, shards: Sequence[NewShard]) -> list[ShardInfo | DSAError]:
        """Store all and make them durable with one sync; one outcome each, in order.

        The hash is checked before anything is written (Corrupt). A shard that is already there is re-read and verified:
        the same bytes are a success, other bytes a Conflict, damaged ones are replaced by the new. NoSpace when
        capacity or reserve would be exceeded; the others of the batch still succeed.
        """
        ...

    def get(self, key: ShardKey, length: int | None = None) -> tuple[ShardInfo, bytes]:
        """The verified bytes. NotFound if it is not there, Corrupt if its bytes do not match (it is then quarantined);
        Conflict, before anything is read, if it does not have exactly ``length`` bytes."""
        ...

    def has(self, key: ShardKey) -> ShardInfo | None:
        """From the index alone; says nothing of the bytes."""
        ...

    def verify(self, key: ShardKey, length: int | None = None) -> ShardInfo:
        """Re-read and verify; as ``get`` without the bytes."""
        ...

    def drop(self, keys: Sequence[ShardKey]) -> list[ShardKey]:
        """Remove durably; returns those that were there. A dropped shard does not come back after a crash or a rebuild of
        the index. Wholly empty segments are unlinked."""
        ...

    def range(self, first: int, end: int) -> list[ShardInfo]:
        """The inventory of chunks ``first`` to before ``end``, in key order: all of it, so ask for few."""
        ...

    def digests(self, level: int, within: int = 0) -> dict[int, int]:
        """Digests of the buckets of a level that are not empty (:mod:`dsa_zmq.model.inventory`), of what ``list`` tells:
        all at level 0, which are kept; else those of a bucket of the level above, which are made from up to a million keys.
        What changes meanwhile is in them or is not."""
        ...

    def damaged(self, after: ShardKey | None = None, limit: int = 1000) -> list[ShardInfo]:
        """A page of the shards in quarantine, in key order: their bytes were found not to match. They are kept, and never
        served, until the shard is dropped or put anew."""
        ...

    def marks(self) -> dict[str, int]:
        """Numbers that ``mark`` was given, by name. They get lost with the index, and to a power loss."""
        ...

    def mark(self, values: Mapping[str, int]) -> None:
        """Keep these numbers, such as how far something has come; others stay."""
        ...

    def list(self, after: ShardKey | None, limit: int) -> list[ShardInfo]:
        """A page of the inventory in key order."""
        ...

    def usage(self) -> Usage: ...

    @property
    def compactor(self) -> Compactor | None:
        """What brings space back from segments that are partly dead; None: it comes back by itself."""
        ...

    @property
    def failure(self) -> str:
        """Why the store is failed; "" while it is good."""
        ...

    def close(self) -> None: ...
