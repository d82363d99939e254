"""A shard store in memory, for tests of other things. It proves nothing about promises: nothing here survives anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from blake3 import blake3

from dsa_zmq.errors import Conflict, Corrupt, DSAError, Invalid, NoSpace, NotFound, Unavailable
from dsa_zmq.model.inventory import bucket_of, digests
from dsa_zmq.model.limits import MAX_CHUNK_BYTES
from dsa_zmq.node.store import NewShard, ShardInfo, ShardKey, Usage


class MemoryStore:
    """:class:`dsa_zmq.node.store.ShardStore` in a dict. ``fail`` makes it a failed one."""

    def __init__(self, *, capacity: int = 1 << 30, reserve: int = 0) -> None:
        self._capacity = capacity
        self._reserve = reserve
        self._shards: dict[ShardKey, tuple[ShardInfo, bytes]] = {}
        self._damaged: dict[ShardKey, ShardInfo] = {}
        self._marks: dict[str, int] = {}
        self._failure = ""
        self._closed = False

    def put(self, shards: Sequence[NewShard]) -> list[ShardInfo | DSAError]:
        return [self._put(shard) for shard in shards]

    def _put(self, shard: NewShard) -> ShardInfo | DSAError:
        key, size = shard.key, len(shard.data)
        if self._failure:
            return Unavailable(f"the node's store has failed: {self._failure}", "restart the node")
        if not _is_key(key) or not 0 <= shard.chunk_length <= MAX_CHUNK_BYTES or size > MAX_CHUNK_BYTES:
            return Invalid(f"shard {key.index} of chunk {key.chunk} is not a shard")
        if blake3(shard.data).digest() != shard.hash:
            return Corrupt(f"shard {key.index} of chunk {key.chunk} does not match its hash", "send it again")
        try:
            present = self.verify(key)
        except (NotFound, Corrupt):
            present = None
        if present is not None:
            if present.hash == shard.hash:
                return present
            return Conflict(f"shard {key.index} of chunk {key.chunk} is here with other bytes", "use a new chunk")
        if size > self.usage().free:
            return NoSpace("the node's capacity is used up", "add a node")
        info = ShardInfo(key, size, shard.chunk_length, shard.hash)
        self._shards[key] = (info, bytes(shard.data))
        self._damaged.pop(key, None)
        return info

    def get(self, key: ShardKey, length: int | None = None) -> tuple[ShardInfo, bytes]:
        self._check_open()
        if key not in self._shards:
            raise NotFound(f"shard {key.index} of chunk {key.chunk} is not here")
        info, data = self._shards[key]
        if length not in (None, info.length) and key not in self._damaged:
            raise Conflict(f"shard {key.index} of chunk {key.chunk} has {info.length} bytes, not {length}")
        if key in self._damaged or blake3(data).digest() != info.hash:
            self._damaged[key] = info
            raise Corrupt(f"shard {key.index} of chunk {key.chunk} is damaged", "it is repaired from another node")
        return info, data

    def has(self, key: ShardKey) -> ShardInfo | None:
        self._check_open()
        return self._shards[key][0] if key in self._shards and key not in self._damaged else None

    def verify(self, key: ShardKey, length: int | None = None) -> ShardInfo:
        return self.get(key, length)[0]

    def drop(self, keys: Sequence[ShardKey]) -> list[ShardKey]:
        self._check_open()
        gone = [key for key in dict.fromkeys(keys) if key in self._shards]
        for key in gone:
            del self._shards[key]
            self._damaged.pop(key, None)
        return gone

    def usage(self) -> Usage:
        used = sum(info.length for info, _ in self._shards.values())
        free = max(0, self._capacity - self._reserve - used)
        good = len(self._shards) - len(self._damaged)
        return Usage(self._capacity, used, 0 if self._failure else free, good, damaged=len(self._damaged))

    @property
    def compactor(self) -> None:
        return None

    @property
    def failure(self) -> str:
        return self._failure

    def close(self) -> None:
        self._closed = True

    def damage(self, key: ShardKey) -> None:
        """Let the bytes of a shard rot."""
        info, data = self._shards[key]
        self._shards[key] = (info, bytes([data[0] ^ 1]) + data[1:])

    def fail(self, why: str) -> None:
        """Be failed from now on, as a disk is after a sync that failed."""
        self._failure = why

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("the store is closed")

    def damaged(self, after: ShardKey | None = None, limit: int = 1000) -> list[ShardInfo]:
        keys = sorted(key for key in self._damaged if after is None or key > after)
        return [self._damaged[key] for key in keys[:limit]]

    def range(self, first: int, end: int) -> list[ShardInfo]:
        self._check_open()
        return [
            self._shards[key][0]
            for key in sorted(self._shards.keys() - self._damaged.keys())
            if first <= key.chunk < end
        ]

    def digests(self, level: int, within: int = 0) -> dict[int, int]:
        self._check_open()
        keys = self._shards.keys() - self._damaged.keys()
        return digests((key for key in keys if level == 0 or bucket_of(key.chunk, level - 1) == within), level)

    def marks(self) -> dict[str, int]:
        self._check_open()
        return dict(self._marks)

    def mark(self, values: Mapping[str, int]) -> None:
        self._check_open()
        self._marks.update(values)

    def list(self, after: ShardKey | None, limit: int) -> list[ShardInfo]:  # last, for it hides the builtin below it
        self._check_open()
        keys = sorted(key for key in self._shards if key not in self._damaged and (after is None or key > after))
        return [self._shards[key][0] for key in keys[:limit]]


def _is_key(key: ShardKey) -> bool:
    return 0 <= key.chunk < 1 << 63 and 0 <= key.index < 256
