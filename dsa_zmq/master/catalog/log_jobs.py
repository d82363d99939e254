"""Jobs of the catalog's worker about its log: the records that make it anew elsewhere. See dsa_zmq.model.records.

While copies are kept, each transaction leaves its changes as records in the table ``log``, in itself; the result of each
of its jobs then comes as :class:`Committed`, so that answers can wait until the records are safe. So do errors.
Bare come the results of MarkStale, and what the runtime gives for each job of a batch after which the process has to end.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from actors.core import Job


class Committed(NamedTuple):
    """The result of a job, and how far the log was when its transaction was durable."""

    result: Any
    position: int  #: of the log's last record then: what the result saw is in the records up to it
    records: tuple[bytes, ...] = ()  #: of that transaction; with the result of its first job only


class LogState(msgspec.Struct, frozen=True):
    """Result of :class:`LoadLog`."""

    position: int  #: of the last record; 0: there was none ever
    hash: bytes  #: of it
    first: int  #: position of the oldest record that is still in the catalog; ``position`` + 1 if none is
    size: int  #: bytes of all these
    volume: int  #: that is shipped now; 0: none was begun since the catalog was made or restored
    restored_ns: int  #: when it was made from copies, by the clock of who did it; 0: never


class LoadLog(Job, frozen=True):
    """Where is the log? Result: LogState, without what other jobs of its batch change: that comes with ``Committed``"""


class ReadLog(Job, frozen=True):
    """Records from a position on, for a node that lacks them. Result: list[bytes], at most ``limit`` bytes of them, one at
    least; [] if that position is not in the catalog (any more)"""

    first: int
    limit: int


class TrimLog(Job, frozen=True):
    """All who are to have the records below this position have them. Some of them go, the oldest first, as many as take some
    milliseconds; the last record of all stays. Result: bool, whether there are more of them: ask again"""

    below: int


class BeginVolume(Job, frozen=True):
    """Begin a snapshot: the volume that was is not the present one any more. Result: VolumeBegun, or Failure if no log is
    kept"""

    wall_ns: int
    software: str


class VolumeBegun(msgspec.Struct, frozen=True):
    volume: int
    position: int  #: of the log: the first record of the volume's log is the next one
    begin: bytes  #: the BEGIN record


class TakeSlice(Job, frozen=True):
    """Read the next rows of a snapshot, for some milliseconds. Result: Slice, or Failure if another volume was begun"""

    volume: int
    cursor: bytes  #: b"" at first, then that of the last slice
    part: int  #: number of the next record of the snapshot
    previous: bytes  #: hash of the one before
    wall_ns: int
    limit: int  #: bytes of rows, before compression


class Slice(msgspec.Struct, frozen=True):
    records: list[bytes]  #: ROWS; with the last slice END
    cursor: bytes  #: where to go on; b"": that was the last
    part: int  #: number of the next record
    previous: bytes
