"""What all copies of folders share: the tally, what counts as unchanged, and two sorted directories side by side."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from dsa_zmq.client.sending import storable_time
from dsa_zmq.errors import DSAError, Incompatible, InternalError, LocalError, NoSpace, TooFewNodes, Unavailable
from dsa_zmq.errors import Timeout as DSATimeout
from dsa_zmq.model.stat import Stat

OnFailure = Callable[[DSAError], object]
"""Hears of each file or folder that could not be copied, while the others go on."""

TIME_GRAIN_NS = 1_000  #: some file systems keep times in steps of 100 ns: closer than this is the same moment
HAS_MODES = os.name != "nt"  #: permission bits mean something on this machine

_T = TypeVar("_T")


@dataclass(slots=True)
class TreeResult:
    """What became of a folder's entries. Counts only: a folder may have any number of files."""

    files: int = 0  #: copied
    bytes: int = 0  #: of those
    unchanged: int = 0  #: files that were there already, with the same size, time and mode
    unchanged_bytes: int = 0
    directories: int = 0  #: made
    symlinks: int = 0  #: skipped
    special: int = 0  #: sockets, pipes and devices, skipped
    failed: int = 0  #: files and folders that could not be copied
    degraded: int = 0  #: files that were stored with fewer shards than they should have
    missing_shards: int = 0  #: so many fewer

    def copied(self, size: int, missing_shards: int = 0) -> None:
        self.files += 1
        self.bytes += size
        self.degraded += missing_shards > 0
        self.missing_shards += missing_shards

    def left(self, size: int) -> None:
        """A file was as it should be."""
        self.unchanged += 1
        self.unchanged_bytes += size


def is_unchanged(status: os.stat_result, found: Stat) -> bool:
    """A local file and one in the store have the same size and time. (Modes are for the caller to compare.)"""
    moved_ns = storable_time(status.st_mtime_ns) - found.mtime_ns
    return status.st_size == found.size and abs(moved_ns) < TIME_GRAIN_NS


def has_mode(status: os.stat_result, found: Stat) -> bool:
    """They have the same permission bits, where there are any."""
    return not HAS_MODES or status.st_mode & 0o777 == found.mode & 0o777


def byte_order(name: str) -> bytes:
    """The key by which the store sorts names."""
    return name.encode("utf-8", "surrogatepass")


def beside(ours: Iterable[tuple[str, _T]], theirs: Iterator[Stat]) -> Iterator[tuple[str, _T, Stat | None]]:
    """Each of ``ours`` with the entry of the same name in ``theirs``, if any. Both come in byte order of the names."""
    entry = next(theirs, None)
    for name, value in ours:
        key = byte_order(name)
        while entry is not None and byte_order(entry.name) < key:
            entry = next(theirs, None)
        yield name, value, entry if entry is not None and entry.name == name else None


def ends_everything(error: DSAError) -> bool:
    """An error that every other file of the tree would meet as well."""
    if isinstance(error, LocalError):
        return _local_errno(error) in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    return isinstance(error, NoSpace | TooFewNodes | Unavailable | DSATimeout | Incompatible | InternalError)


def as_final(error: DSAError) -> DSAError:
    """The same error as it should end a command: a full disk of this machine is a lack of space, too."""
    if isinstance(error, LocalError) and _local_errno(error) in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(error.message, "free some space on this machine", error.path)
    return error


def _local_errno(error: LocalError) -> int | None:
    cause = error.__cause__
    return cause.errno if isinstance(cause, OSError) else None
