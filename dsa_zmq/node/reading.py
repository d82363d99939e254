"""Reading a store: looking into its index, and verified bytes from its segments. What does not match is quarantined.

Any thread may call this, at any time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import apsw
from blake3 import blake3

from dsa_zmq.errors import Conflict, Corrupt, NotFound, Unavailable
from dsa_zmq.model.inventory import bucket_of, id_range
from dsa_zmq.model.inventory import digests as digests_of
from dsa_zmq.node.failure import plain
from dsa_zmq.node.guard import Guard
from dsa_zmq.node.index import DAMAGED, Row, SegmentState
from dsa_zmq.node.lazy_index import LazyIndex
from dsa_zmq.node.segment_files import SegmentFiles
from dsa_zmq.node.segments import RECORD_HEADER_BYTES, is_medium, is_put
from dsa_zmq.node.store import ShardInfo, ShardKey

ONE_READ_BYTES = 64 << 10  #: header and payload come in one read up to here, where the copy is cheaper than a call
KEYS_AT_ONCE = 2500  #: looked at while the writer waits: some 2 ms
_MAX_CHUNK = (1 << 63) - 1


class Reading:
    """The reading half of a disk store. Shares its index, its guard and its table of segments."""

    def __init__(
        self, files: SegmentFiles, index: LazyIndex, guard: Guard, segments: Mapping[int, SegmentState]
    ) -> None:
        self._files = files
        self._index = index
        self._guard = guard
        self._segments = segments

    # --- the index alone ----------------------------------------------------------------------------------------------

    def find(self, key: ShardKey) -> Row | None:
        with self._guard:
            return self._index.find(key) if is_key(key) else None

    def page(self, after: ShardKey | None, limit: int) -> list[ShardInfo]:
        with self._guard:
            return self._index.page(after or ShardKey(-1, 0), limit)

    def range(self, first: int, end: int) -> list[ShardInfo]:
        found: list[ShardInfo] = []
        after, last = ShardKey(max(first, 0), -1), min(end - 1, _MAX_CHUNK)
        while after.chunk <= last:
            with self._guard:
                part = self._index.within(after, last, KEYS_AT_ONCE)
            found += part
            if len(part) < KEYS_AT_ONCE:
                break
            after = part[-1].key
        return found

    def digests(self, level: int, within: int) -> dict[int, int]:
        if level == 0:
            with self._guard:
                return self._index.digests()
        found: dict[int, int] = {}
        if not 0 <= within <= bucket_of(_MAX_CHUNK, level - 1):
            return found
        first, end = id_range(level - 1, within)
        after = ShardKey(first, -1)
        part: Sequence[tuple[int, int]] = [after] * KEYS_AT_ONCE
        while len(part) == KEYS_AT_ONCE:
            with self._guard:
                part = self._index.keys(after, end - 1, KEYS_AT_ONCE)
            for bucket, digest in digests_of(part, level).items():
                found[bucket] = found.get(bucket, 0) ^ digest
            after = ShardKey(*part[-1]) if part else after
        return found

    def damaged(self, after: ShardKey | None, limit: int) -> list[ShardInfo]:
        with self._guard:
            return self._index.damaged(after or ShardKey(-1, 0), limit)

    def marks(self) -> dict[str, int]:
        with self._guard:
            return self._index.marks()

    # --- bytes --------------------------------------------------------------------------------------------------------

    def read(self, key: ShardKey, length: int | None = None) -> tuple[Row, bytes]:
        """Entry and verified bytes."""
        with self._guard:
            row = self._index.find(key) if is_key(key) else None
            if row is None:
                raise NotFound(f"{name_of(key)} is not here")
            if row.state == DAMAGED:
                raise Corrupt(f"{name_of(key)} is damaged and quarantined", "it is repaired from another node")
            if length is not None and length != row.length:
                raise Conflict(f"{name_of(key)} has {row.length} bytes, not {length}")
            generation = self._segments[row.segment].generation
            try:
                # Borrowed under the lock: a segment is unlinked only after its last row is gone.
                handle = self._files.borrow(row.segment)
            except FileNotFoundError as error:
                raise self._quarantine(row, "its segment is gone") from error
            except OSError as error:
                raise Unavailable(f"{name_of(key)} cannot be read: {plain(error)}", "try again") from error
        try:
            size = row.length if row.length <= ONE_READ_BYTES else 0
            head = handle.file.pread(RECORD_HEADER_BYTES + size, row.offset)
            data = head[RECORD_HEADER_BYTES:]
            if not size:
                data = handle.file.pread(row.length, row.offset + RECORD_HEADER_BYTES)
        except OSError as error:
            if is_medium(error):
                raise self._quarantine(row, "the disk cannot read it") from error
            raise Unavailable(f"{name_of(key)} cannot be read: {plain(error)}", "try again") from error
        finally:
            self._files.give_back(handle)
        if not is_put(
            head, generation, row.chunk, row.index, row.chunk_length, row.length, row.sequence, row.hash
        ):  # fmt: skip
            raise self._quarantine(row, "its header is damaged")
        if blake3(data).digest() != row.hash:
            raise self._quarantine(row, "its bytes do not match their hash")
        return row, data

    def _quarantine(self, row: Row, why: str) -> Corrupt:
        # Found again at the next read if it cannot be noted now: not even with the ballast's room, which is no fault of the
        # disk, or because the index has failed.
        with contextlib.suppress(Unavailable), self._guard, contextlib.suppress(apsw.FullError):
            self._index.quarantine(row)
        name = name_of(ShardKey(row.chunk, row.index))
        return Corrupt(f"{name} is damaged: {why}", "it is repaired from another node")


def is_key(key: ShardKey) -> bool:
    """Whether there can be such a shard."""
    return 0 <= key.chunk <= _MAX_CHUNK and 0 <= key.index < 256


def name_of(key: ShardKey) -> str:
    """For people."""
    return f"shard {key.index} of chunk {key.chunk}"
