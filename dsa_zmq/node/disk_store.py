"""The shard store that nodes run: append-only segment files, and an index that can be rebuilt from them.

A put is: check the hashes, append all records of the batch, sync once, then tell the index. A drop appends a record too.
So nothing that was said is ever taken back by a crash, and nothing on the disk is ever overwritten.

Files below the directory: ``segments/*.seg``, ``index.sqlite``, ``ballast`` and, after a failed write, ``failed.txt``.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Mapping, Sequence

import apsw
from blake3 import blake3

from actors.disk import Disk
from dsa_zmq.errors import ConfigError, Conflict, Corrupt, DSAError, Invalid, NoSpace, NotFound, Unavailable
from dsa_zmq.model.limits import MAX_CHUNK_BYTES, SEGMENT_BYTES
from dsa_zmq.node.books import Books, keys_of
from dsa_zmq.node.compactor import Compactor
from dsa_zmq.node.failure import Failure, is_full, plain
from dsa_zmq.node.guard import Guard
from dsa_zmq.node.index import DAMAGED, DROPS_PER_COMMIT, Row
from dsa_zmq.node.lazy_index import LazyIndex
from dsa_zmq.node.reading import Reading, is_key, name_of
from dsa_zmq.node.recovery import Recovered, recover
from dsa_zmq.node.segment_files import SegmentFiles
from dsa_zmq.node.segments import ALIGN, largest_payload
from dsa_zmq.node.space import Space
from dsa_zmq.node.store import NewShard, ShardInfo, ShardKey, Usage
from dsa_zmq.node.writer import SegmentWriter

MIN_SEGMENT_BYTES = 4096
MAX_SEGMENT_BYTES = 1 << 30  #: footers hold offsets in units of ALIGN; larger ones would only make compaction coarse


class DiskStore:
    """:class:`dsa_zmq.node.store.ShardStore` on a disk. Opening reads what the index does not know yet.

    ``capacity`` and ``reserve`` as in :class:`dsa_zmq.node.space.Space`; ``rng`` makes the generations of segments.
    Raises ConfigError, Incompatible or Corrupt for a directory that cannot be used, Unavailable if the disk fails.
    """

    def __init__(
        self, disk: Disk, *, capacity: int, reserve: int, segment_bytes: int = SEGMENT_BYTES, rng: random.Random
    ) -> None:
        if not MIN_SEGMENT_BYTES <= segment_bytes <= MAX_SEGMENT_BYTES or segment_bytes % ALIGN:
            raise ConfigError(
                f"a segment of {segment_bytes} bytes is not possible",
                f"choose a multiple of {ALIGN} from {MIN_SEGMENT_BYTES} to {MAX_SEGMENT_BYTES}",
            )
        self._disk = disk
        self._largest = min(MAX_CHUNK_BYTES, largest_payload(segment_bytes))
        self._failed = Failure(disk)
        self._guard = Guard(self._failed)
        self._space = Space(disk, capacity, reserve, segment_bytes)
        if capacity < self._space.smallest_capacity:
            raise ConfigError(
                f"a capacity of {capacity} bytes is too small for segments of {segment_bytes} bytes",
                f"give at least {self._space.smallest_capacity} bytes, or choose smaller segments",
            )
        self._files = SegmentFiles(disk)
        try:
            with contextlib.ExitStack() as undo:
                recovered = self._recover()
                undo.callback(recovered.index.close)
                self._index = LazyIndex(recovered.index, self._space)
                self._writer = SegmentWriter(self._files, self._space, recovered, rng)
                undo.callback(self._writer.close)
                self.notes = recovered.notes  #: what was found at the start that is worth a line in the log
                self._reading = Reading(self._files, self._index, self._guard, self._writer.segments)
                pins = recovered.index.pins()
                self._books = Books(self._index, self._guard, self._writer, self._files, self._space, pins)
                self._compactor = Compactor(
                    self._index, self._guard, self._writer, self._files, self._reading, self._books, self._failed
                )
                self._prepare()
                undo.pop_all()
        except (OSError, apsw.Error) as error:
            if isinstance(error, DSAError):
                raise
            raise Unavailable(f"the data directory cannot be used: {plain(error)}", "check the disk") from error

    def _recover(self) -> Recovered:
        try:
            return recover(self._disk, self._files, self._space.wal_pages)
        except (OSError, apsw.FullError) as error:
            if isinstance(error, OSError) and not is_full(error):
                raise
            with self._space.ballast_dropped():
                return recover(self._disk, self._files, self._space.wal_pages)

    def _prepare(self) -> None:
        self._failed.load()
        if self._failed:
            return
        try:
            self._books.collect(list(self._writer.segments))
            self._writer.keep_spares()
        except OSError as error:
            if not is_full(error):
                raise
            self.notes.append("the disk is full: puts are refused until there is room")

    # --- the contract -------------------------------------------------------------------------------------------------

    @property
    def failed(self) -> Failure:
        """Whether it trusts its disk; shared with what else is kept on it."""
        return self._failed

    @property
    def failure(self) -> str:
        return self._failed.text

    def put(self, shards: Sequence[NewShard]) -> list[ShardInfo | DSAError]:
        if self._failed.text:
            return [self._failed.error() for _ in shards]
        outcomes: list[ShardInfo | DSAError | None] = [self._problem(shard) for shard in shards]
        good = [position for position, problem in enumerate(outcomes) if problem is None]
        fresh: dict[ShardKey, int] = {}  # position of the first shard of that key
        twins: list[tuple[int, int]] = []
        replaced: dict[ShardKey, Row] = {}
        with self._guard:
            known = [self._index.find(shards[position].key) for position in good]
        for position, row in zip(good, known, strict=True):
            shard = shards[position]
            first = fresh.setdefault(shard.key, position) if row is None else fresh.get(shard.key, position)
            if first != position:
                if shards[first].hash == shard.hash:
                    twins.append((position, first))
                else:
                    outcomes[position] = _conflict(shard.key)
            elif row is not None:
                outcomes[position] = self._already_there(row, shard)
                if outcomes[position] is None:
                    fresh[shard.key], replaced[shard.key] = position, row
        if fresh:
            for position, outcome in zip(fresh.values(), self._store(shards, fresh, replaced), strict=True):
                outcomes[position] = outcome
        for position, first in twins:
            outcomes[position] = outcomes[first]
        return [outcome for outcome in outcomes if outcome is not None]

    def get(self, key: ShardKey, length: int | None = None) -> tuple[ShardInfo, bytes]:
        row, data = self._reading.read(key, length)
        return row.info, data

    def verify(self, key: ShardKey, length: int | None = None) -> ShardInfo:
        return self._reading.read(key, length)[0].info

    def has(self, key: ShardKey) -> ShardInfo | None:
        row = self._reading.find(key)
        return None if row is None or row.state == DAMAGED else row.info

    def damaged(self, after: ShardKey | None = None, limit: int = 1000) -> list[ShardInfo]:
        return self._reading.damaged(after, limit)

    def digests(self, level: int, within: int = 0) -> dict[int, int]:
        return self._reading.digests(level, within)

    def marks(self) -> dict[str, int]:
        return self._reading.marks()

    def mark(self, values: Mapping[str, int]) -> None:
        with self._guard:
            self._index.mark(values)

    @property
    def compactor(self) -> Compactor:
        return self._compactor

    def drop(self, keys: Sequence[ShardKey]) -> list[ShardKey]:
        wanted = list(dict.fromkeys(keys))
        gone: list[ShardKey] = []
        for first in range(0, len(wanted), DROPS_PER_COMMIT):
            gone += self._drop(wanted[first : first + DROPS_PER_COMMIT])
        return gone

    def usage(self) -> Usage:
        with self._guard.lock:
            if not self._guard.closed:
                with contextlib.suppress(apsw.Error):  # an index that fails is noticed by those who need its rows
                    self._index.measure()
            shards = sum(state.live for state in self._writer.segments.values()) - self._index.damaged_count
            used = self._writer.used + self._space.index
            free = 0 if self._failed or self._guard.closed else self._writer.free
            garbage, damaged = self._compactor.garbage(), self._index.damaged_count
            return Usage(self._space.capacity, used, free, shards, garbage, damaged)

    def close(self) -> None:
        with self._guard.lock:
            if self._guard.closed:
                return
            self._guard.closed = True
            with contextlib.suppress(apsw.Error, OSError):  # what is not in the index is read again at the next start
                self._index.close()
            self._writer.close()
            self._files.close()

    # --- putting ------------------------------------------------------------------------------------------------------

    def _problem(self, shard: NewShard) -> DSAError | None:
        """Why a shard is not stored, whatever is there already."""
        if not is_key(shard.key) or not 0 <= shard.chunk_length <= MAX_CHUNK_BYTES:
            return Invalid(f"{name_of(shard.key)} of a chunk of {shard.chunk_length} bytes is not a shard")
        if len(shard.data) > self._largest:
            return Invalid(
                f"{name_of(shard.key)} has {len(shard.data)} bytes, this node takes {self._largest} at most",
                "use smaller chunks, or larger segments on this node",
            )
        if blake3(shard.data).digest() != shard.hash:
            return Corrupt(f"{name_of(shard.key)} does not match its hash", "send it again")
        return None

    def _already_there(self, row: Row, shard: NewShard) -> ShardInfo | DSAError | None:
        """What a put of a shard that the index knows comes to; None: its bytes are damaged, the new ones replace them."""
        try:
            self._reading.read(shard.key)
        except (Corrupt, NotFound):
            return None
        except DSAError as error:
            return error
        return row.info if row.hash == shard.hash else _conflict(shard.key)

    def _store(
        self, shards: Sequence[NewShard], fresh: dict[ShardKey, int], replaced: dict[ShardKey, Row]
    ) -> Sequence[ShardInfo | DSAError]:
        try:
            placed = self._writer.put([shards[position] for position in fresh.values()])
        except OSError as error:
            self._failed.of_write(error)
            return [self._failed.error() for _ in fresh]
        rows = [row for row in placed if isinstance(row, Row)]
        try:
            self._books.commit(
                rows, [], [replaced[key] for key in keys_of(rows) if key in replaced] if replaced else []
            )
        except DSAError as error:
            return [error for _ in fresh]
        return [row.info if isinstance(row, Row) else row for row in placed]

    # --- dropping -----------------------------------------------------------------------------------------------------

    def _drop(self, keys: Sequence[ShardKey]) -> list[ShardKey]:
        with self._guard:
            rows = [row for key in keys if is_key(key) and (row := self._index.find(key)) is not None]
        gone: list[ShardKey] = []
        while len(gone) < len(rows):
            done = self._drop_rows(rows[len(gone) :])  # on a full disk, what the first ones free lets the others in
            gone += keys_of(done)
        return gone

    def _drop_rows(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Drop as many of these as there is room to write down; at least one, or NoSpace."""
        if self._failed:
            raise self._failed.error()
        try:
            placed = self._writer.drop(keys_of(rows))
        except OSError as error:
            self._failed.of_write(error)
            raise self._failed.error() from error
        tombs = [row for row in placed if isinstance(row, Row)]
        done = rows[: len(tombs)]  # all are of one size: once there is no room, there is none for the rest
        self._books.commit([], tombs, done)
        try:
            self._books.collect([row.segment for row in done])
        except OSError as error:
            if isinstance(error, DSAError):
                raise
            self._failed.of_write(error)
        if not done and isinstance(placed[0], NoSpace):
            raise placed[0]
        return done

    def range(self, first: int, end: int) -> list[ShardInfo]:
        return self._reading.range(first, end)

    def list(self, after: ShardKey | None, limit: int) -> list[ShardInfo]:  # last, for it hides the builtin below it
        return self._reading.page(after, limit)


def _conflict(key: ShardKey) -> Conflict:
    return Conflict(f"{name_of(key)} is here with other bytes", "use a new chunk")
