"""Records of the log that have to wait while a catalog is made anew: in a table of its own, so that memory does not grow."""

from __future__ import annotations

from collections.abc import Iterator

from dsa_zmq.master.catalog.sql import Database
from dsa_zmq.model.records import Record, read_record

AT_ONCE = 16  #: records that come back together: some 16 MiB at most

_MAKE = """CREATE TABLE spool (
    position INTEGER PRIMARY KEY, ends BIGINT NOT NULL, wall_ns BIGINT NOT NULL, data BLOB NOT NULL)"""
_PUT = "INSERT OR REPLACE INTO spool (position, ends, wall_ns, data) VALUES (?, ?, ?, ?)"
_LATER = "SELECT MIN(position) FROM spool WHERE ends = 1 AND (wall_ns > ? OR position > ?)"
_LAST = "SELECT MAX(position) FROM spool WHERE ends = 1 AND position < ?"
_SOME = "SELECT data FROM spool WHERE position > ? AND position <= ? ORDER BY position LIMIT ?"
_NO_LIMIT = (1 << 63) - 1


class Spool:
    """One for a database, inside whose transactions it works."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.has_any = False
        database.execute(_MAKE)

    def put(self, record: Record) -> None:
        """It waits from now on."""
        self._database.apply(_PUT, [(record.position, record.ends, record.wall_ns, record.data)])
        self.has_any = True

    def wanted(self, after: int, at_ns: int, upto: int) -> tuple[Iterator[Record], bool]:
        """Those behind the position ``after`` that belong to whole transactions which had ended by that moment and position;
        and whether there is a later one."""
        [(later,)] = self._database.execute(_LATER, (at_ns, upto))
        [(last,)] = self._database.execute(_LAST, (_NO_LIMIT if later is None else later,))
        return self._records(after, -1 if last is None else last), later is not None

    def _records(self, after: int, last: int) -> Iterator[Record]:
        while after < last:
            for (data,) in self._database.execute(_SOME, (after, last, AT_ONCE)):
                record = read_record(data)
                assert record is not None, "it was whole when it was put there"
                yield record
                after = record.position

    def applied(self, position: int) -> None:
        """What waited up to there is in the catalog now."""
        self._database.apply("DELETE FROM spool WHERE position <= ?", [(position,)])
        [(rest,)] = self._database.execute("SELECT COUNT(*) FROM spool")
        self.has_any = rest > 0

    def forget(self, position: int) -> None:
        """What waits behind that is of no use."""
        self._database.apply("DELETE FROM spool WHERE position > ?", [(position,)])
        self.has_any = False

    def remove(self) -> None:
        """It leaves no trace in the catalog."""
        self._database.execute("DROP TABLE spool")
