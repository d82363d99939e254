"""A catalog made anew from volumes of its records: for a restore, for a check of copies, and for salvage.

The bytes of a volume's file are fed in portions of any size, in their order. Its snapshot fills the tables, then its log
brings them to the moment that is wanted; the logs of later volumes may follow, each where the one before ends. Only whole
transactions count.

The snapshot was read while the catalog changed, and its parts and the log may come in any mixture. So what the log says
before the snapshot's end waits in a table of its own (``spool``), on disk; so does a transaction of several records until
the last of them is there. Memory does not grow with the volume.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from actors.disk import Disk
from dsa_zmq.errors import Conflict, Corrupt, DSAError, Incompatible, LocalError, NoSpace
from dsa_zmq.master.catalog import schema
from dsa_zmq.master.catalog.audit import audit
from dsa_zmq.master.catalog.catalog import migrate
from dsa_zmq.master.catalog.log import INSERT, LogRow
from dsa_zmq.master.catalog.places import tally
from dsa_zmq.master.catalog.rebuilt import Preview, Rebuilt, Restoration
from dsa_zmq.master.catalog.record_rows import runs_of
from dsa_zmq.master.catalog.spool import Spool
from dsa_zmq.master.catalog.sql import CatalogBroken, Database, DiskFull, Rejected
from dsa_zmq.master.catalog.tables import (
    CLUSTER,
    CONTENT_BYTES,
    DIRECTORY,
    FILES,
    LIVE,
    META,
    NEXT_NODE,
    NODES,
    RESTORED_NS,
    TERM,
    VOLUME,
    MetaRow,
    StoreRow,
)
from dsa_zmq.model.ids import id_floor
from dsa_zmq.model.records import BEGIN, CHANGES, END, Record, end_of, read_record
from dsa_zmq.model.volumes import READ_BYTES, VolumeChain

__all__ = ["NO_LIMIT", "Preview", "Rebuilder", "Rebuilt", "Restoration", "remove"]

COMMIT_BYTES = 64 << 20  #: of records in one transaction: large, since each one waits for the disk
NO_LIMIT = (1 << 63) - 1

_BESIDE = ("", "-wal", "-shm", "-journal")  #: files of one database


class Rebuilder:
    """One catalog, in the file ``path``, which is made anew.

    It is as of the last transaction that ended at ``position`` and at the moment ``at_ns`` or before. All methods raise a
    :class:`DSAError`: Corrupt or Conflict for bytes that cannot be used, Incompatible for those of other software, NoSpace
    and LocalError for this side's disk. After Corrupt or Conflict from :meth:`feed` everything before the bytes in question
    counts, and :meth:`finish` may still be called.
    """

    def __init__(self, disk: Disk, path: str, *, at_ns: int = NO_LIMIT, position: int = NO_LIMIT) -> None:
        self.chain = VolumeChain()  #: of the volume that is being fed
        self.position = -1  #: of the log, as far as it is in the catalog; -1: no volume was begun yet
        self.moment_ns = 0  #: of that change
        self.term = 0
        self.reached = False  #: what follows in this volume is later than what is wanted
        self.whole = -1  #: the first position as of which the catalog can be made; -1: not known yet
        self.whole_ns = 0
        self.rows = 0  #: of the snapshot so far
        self._until = (at_ns, position)
        self._hash = b""  #: of the log's record at ``position``
        self._last: Record | None = None  #: that record, if any was fed
        self._cluster = ""
        self._buffer = bytearray()
        self._uncommitted = 0
        self._disk = disk
        self._path = path
        self._file = disk.sqlite_path(path)
        remove(disk, path)
        try:
            self._database = Database(disk, path)
            try:
                with self._trouble():
                    migrate(self._database, self._file)
                    self._spool = Spool(self._database)
                    self._database.begin()
            except BaseException:
                self._database.abandon()
                raise
        except DSAError:
            remove(disk, path)
            raise

    # --- feeding --------------------------------------------------------------------------------------------------

    def feed(self, data: bytes | memoryview) -> None:
        """The next bytes of the volume's file."""
        view = memoryview(data)
        for start in range(0, len(view), READ_BYTES):  # of a large portion only so much is copied at a time
            self._buffer += view[start : start + READ_BYTES]
            self._take_all()

    def again(self) -> None:
        """What is fed from now on is the same volume from its beginning, as somebody else has it: its records may come in
        another order there, and those that were fed are passed over."""
        self._buffer.clear()

    def next_volume(self, *, position: int = NO_LIMIT) -> None:
        """What is fed from now on is a later volume, from its beginning: its log goes on where this one ends, up to
        ``position``."""
        self.chain = VolumeChain()
        self._buffer.clear()
        self._until = (self._until[0], position)
        self.reached = False
        if self.usable:  # the rest of a transaction that was cut off is in the next one, with its beginning
            with self._trouble():
                self._spool.forget(self.position)

    @property
    def rest(self) -> int:
        """Bytes at the end of what was fed that are no whole record yet."""
        return len(self._buffer)

    @property
    def usable(self) -> bool:
        """The catalog can be finished: the snapshot is complete, and the log reaches the moment when it was."""
        return 0 <= self.whole <= self.position

    def _take_all(self) -> None:
        done = 0
        buffer = bytes(self._buffer)
        try:
            while (record := read_record(buffer, done)) is not None:
                if self.chain.take(record):
                    with self._trouble():
                        self._take(record)
                done += len(record.data)
        finally:
            del self._buffer[:done]

    def _take(self, record: Record) -> None:
        if record.kind == BEGIN:
            self._begin(record)
        elif record.kind == CHANGES:
            self._log(record)
        elif self.whole < 0:  # of a later volume only the log is of use
            if record.kind == END:
                self._end(record)
            else:
                self.rows += self._apply(record)

    def _begin(self, record: Record) -> None:
        head = self.chain.head
        assert head is not None, "the chain has just taken it"
        if head.catalog_format != schema.NEWEST_FORMAT:
            raise Incompatible(
                f"volume {head.volume} is of a catalog of format {head.catalog_format}, this software makes format"
                f" {schema.NEWEST_FORMAT} of it only",
                f"use the software that wrote it: {head.software[:80]}",
            )
        if self.position < 0:
            self._cluster = head.cluster
            self._follow(head.position, record.previous, record)
            return
        if head.cluster != self._cluster:
            raise Conflict(f"volume {head.volume} is of another cluster", "name volumes of one cluster")
        if not self.usable:
            raise Conflict(f"volume {head.volume} cannot go on with one that is incomplete", "begin with a whole one")
        if head.position > self.position:
            raise Conflict(
                f"volume {head.volume} begins at change {head.position}, the one before ends at {self.position}",
                "find the volume between them, or begin with the later one",
            )
        self._check(head.position, record.previous)

    def _log(self, record: Record) -> None:
        self._check(record.position, record.hash)
        if record.position <= self.position or self.reached:
            return
        if self.whole < 0 or self._spool.has_any or not record.ends:
            self._spool.put(record)
            self._count(record)
            if self.whole >= 0 and record.ends:
                self._unspool()
        elif record.wall_ns > self._until[0] or record.position > self._until[1]:
            self.reached = True
        elif record.position != self.position + 1:  # the one before it could not be applied
            raise Conflict(f"change {record.position} does not follow change {self.position}")
        else:
            self._apply(record)
            self._follow(record.position, record.hash, record, last=record)

    def _check(self, position: int, digest: bytes) -> None:
        if position == self.position and digest != self._hash:
            raise Conflict(
                f"change {position} is not the same in all volumes",
                "a catalog was restored as of an earlier moment: use volumes of one time only",
            )

    def _end(self, record: Record) -> None:
        end = end_of(record)
        if end.rows != self.rows:
            raise Corrupt(f"the snapshot has {self.rows} rows, not {end.rows}", "use another copy of the catalog")
        self.whole, self.whole_ns = end.position, record.wall_ns
        self._unspool()

    def _unspool(self) -> None:
        """Apply the transactions that have waited, as far as they are whole and wanted."""
        records, later = self._spool.wanted(self.position, *self._until)
        self.reached = self.reached or later
        for record in records:
            self._apply(record)
            self._follow(record.position, record.hash, record, last=record)
        self._spool.applied(self.position)

    def _follow(self, position: int, digest: bytes, record: Record, last: Record | None = None) -> None:
        self.position, self._hash, self.moment_ns, self._last = position, digest, record.wall_ns, last
        self.term = record.term

    # --- rows -----------------------------------------------------------------------------------------------------

    def _apply(self, record: Record) -> int:
        """Write what a record says; the number of rows."""
        runs = runs_of(record)  # all of it, before anything is written
        for writing, removed, rows in runs:
            if removed:
                self._database.apply(writing.delete, removed)
            if rows:
                self._database.apply(writing.replace, rows)
        self._count(record)
        return sum(len(rows) for _, _, rows in runs)

    def _count(self, record: Record) -> None:
        self._uncommitted += len(record.data)
        if self._uncommitted >= COMMIT_BYTES:
            self._commit()
            self._database.begin()

    def _commit(self) -> None:
        self._uncommitted = 0
        self._database.commit()
        self._database.checkpoint()

    # --- ends -----------------------------------------------------------------------------------------------------

    def preview(self) -> Preview:
        """What the catalog would be if it was finished now."""
        with self._trouble():
            return Preview(
                files=self._number(FILES),
                content_bytes=self._number(CONTENT_BYTES),
                position=self.position,
                moment_ns=self.moment_ns,
                term=self.term,
                cluster=self._cluster,
                nodes=self._members(),
            )

    def finish(self, restoration: Restoration | None = None) -> Rebuilt:
        """Count anew what is derived, and close the file, which is durable then. With a ``restoration`` a master may begin
        with it; without, it is as it was, to be looked at."""
        if not self.usable:
            raise self._not_usable()
        with self._trouble():
            self._spool.remove()
            tally(self._database)
            if restoration is not None:
                self._restored(restoration)
            self._commit()
            rebuilt = self._look()
            self._database.close()
        return rebuilt

    def close(self) -> None:
        """Close the file with its rows as they are, to be looked at. Nothing is counted anew or audited: both take memory
        for every chunk."""
        if not self.usable:
            raise self._not_usable()
        with self._trouble():
            self._spool.remove()
            self._commit()
            self._database.close()

    def abandon(self) -> None:
        """Leave it, and remove the file."""
        self._database.abandon()
        remove(self._disk, self._path)

    def _not_usable(self) -> Conflict | Corrupt:
        if self.position < 0:
            return Corrupt("no volume of a catalog was found", "name another file")
        if self.whole < 0:
            return Corrupt("the snapshot is incomplete", "use another copy of the catalog")
        if self.reached:
            return Conflict(
                f"of this volume the catalog can be made as of change {self.whole} at the earliest, not of"
                f" {self.position}",
                "begin with an earlier volume, or ask for a later moment",
            )
        return Corrupt(
            f"the log ends at change {self.position}, before the snapshot's end at {self.whole}",
            "use another copy of the catalog",
        )

    def _restored(self, restoration: Restoration) -> None:
        try:
            id_floor(restoration.term + 1)
        except ValueError as error:
            raise Corrupt(
                f"no master can come after term {restoration.term}", "use another copy of the catalog"
            ) from error
        [(known,)] = self._database.execute("SELECT COALESCE(MAX(node), 0) FROM nodes")
        meta = dict(self._database.execute("SELECT name, number FROM meta"))
        highest = max(known, restoration.highest_node, meta[NEXT_NODE] - 1)
        numbers = {
            TERM: restoration.term,
            NEXT_NODE: highest + 1,
            RESTORED_NS: restoration.wall_ns,
            VOLUME: 0,  # what nodes hold may go on behind this
        }
        self._database.apply("UPDATE meta SET number = ? WHERE name = ?", [(n, name) for name, n in numbers.items()])
        # What was to be dropped may be needed: what its chunk had beside it may have gone since, in what is lost. As an
        # unknown shard it is kept for days, and compared with what is missing, before it goes.
        self._database.execute("DELETE FROM drops")
        last = LogRow(self.position, self._hash, self.moment_ns, 1, b"" if self._last is None else self._last.data)
        self._database.apply(INSERT, [last])  # what the next record names

    def _look(self) -> Rebuilt:
        database = self._database
        meta = {row.name: row for row in map(MetaRow._make, database.execute(f"SELECT {META.columns} FROM meta"))}
        odd = audit(database)
        if meta[CLUSTER].body.hex() != self._cluster:
            odd.append(f"the catalog is of cluster {meta[CLUSTER].body.hex()}, its volume of {self._cluster}")
        [(directories,)] = database.execute(f"SELECT COUNT(*) FROM names WHERE to_seq = {LIVE} AND kind = {DIRECTORY}")
        [(closed,)] = database.execute("SELECT COUNT(*) FROM versions")
        return Rebuilt(
            files=meta[FILES].number,
            directories=directories,
            content_bytes=meta[CONTENT_BYTES].number,
            versions=meta[FILES].number + closed,
            position=self.position,
            moment_ns=self.moment_ns,
            term=self.term,
            cluster=meta[CLUSTER].body,
            nodes=self._members(),
            odd=odd,
        )

    def _members(self) -> list[StoreRow]:
        rows = self._database.execute(f"SELECT {NODES.columns} FROM nodes WHERE removed = 0 ORDER BY node")
        return [StoreRow._make(row) for row in rows]

    def _number(self, name: str) -> int:
        [(number,)] = self._database.execute("SELECT number FROM meta WHERE name = ?", (name,))
        return int(number)

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        """What an error of the database means to whoever rebuilds."""
        try:
            yield
        except DiskFull as error:
            raise NoSpace(f"no room for '{self._file}'", "free some space on that disk", self._file) from error
        except Rejected as error:
            raise Corrupt(
                f"the rows of a volume contradict each other: {error}", "use another copy of the catalog"
            ) from error
        except CatalogBroken as error:
            raise LocalError(f"'{self._file}' cannot be written: {error}", "check the disk", self._file) from error


def remove(disk: Disk, path: str) -> None:
    """Remove a database's files, as far as they are there."""
    for suffix in _BESIDE:
        if disk.exists(path + suffix):
            disk.unlink(path + suffix)
