"""The folder that files are written to: each one whole or not at all, and nothing that was there before is touched.

A file is written in the scratch directory, gets its mode and time there, and is renamed to its place. What is at its place
already is compared with the catalog's hashes, chunk by chunk: the same is left as it is, anything else is somebody's.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from blake3 import blake3

from dsa_zmq.errors import LocalError, NoSpace
from dsa_zmq.model.hashes import chunk_hash
from dsa_zmq.salvage.assembly import Wanted
from dsa_zmq.salvage.namespace import Entry

MODE_BITS = 0o777
Chunks = Iterable[tuple[int, Wanted | None]]
_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
_PART = "part"


class InTheWay(LocalError):
    """Something else has the place of a file or directory."""


class Target:
    """``top`` exists; ``scratch`` is a directory in it."""

    def __init__(self, top: Path, scratch: Path, *, force: bool) -> None:
        self.top = str(top)
        self._part = str(scratch / _PART)
        self._force = force  #: other files are replaced

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.top).free

    # --- directories ------------------------------------------------------------------------------------------------

    def make_directory(self, path: str) -> bool:
        """Make it, or find it there and writable; whether it is new. InTheWay, or OSError."""
        with _room(path):
            try:
                os.mkdir(path, 0o700)
                return True
            except FileExistsError:
                status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode):
            raise InTheWay(f"{path} is there already, and is no directory", "move it away", path)
        if (
            not status.st_mode & 0o200 and status.st_uid == os.geteuid()
        ):  # read-only in the store, and made by an earlier run
            os.chmod(path, MODE_BITS & status.st_mode | 0o700)
        return False

    def finish_directory(self, path: str, entry: Entry) -> None:
        """Everything in it is there. A file system without modes or times is none worth an error: files matter."""
        if entry.mode is not None:
            with suppress(OSError):
                os.chmod(path, entry.mode & MODE_BITS)
                os.utime(path, ns=(entry.created_ns, entry.created_ns))

    # --- files --------------------------------------------------------------------------------------------------------

    def has(self, path: str, entry: Entry, chunks: Chunks) -> bool:
        """Whether the file is there already, with all of its content. Its mode and time are put right then. OSError."""
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return False
        if not stat.S_ISREG(status.st_mode) or status.st_size != entry.size or not _is_content(path, chunks):
            return False
        assert entry.mode is not None, "what has no inode is not looked for"
        if (status.st_mode & MODE_BITS, status.st_mtime_ns) != (entry.mode & MODE_BITS, entry.mtime_ns):
            with suppress(OSError):
                os.chmod(path, entry.mode & MODE_BITS)
                os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))
        return True

    @contextmanager
    def writing(self, entry: Entry) -> Iterator[Part]:
        """A new file that is gone at the block's end unless it was put in its place."""
        with _room(self._part):
            descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)
        part = Part(self, descriptor, self._part, entry)
        try:
            yield part
        finally:
            part.close()

    def refuse_others(self, path: str, *, replace: bool = False) -> None:
        """InTheWay if a place is taken by what must not be replaced."""
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(status.st_mode):
            raise InTheWay(f"{path} is there already, and is a directory", "move it away", path)
        if not replace and not self._force:
            remedy = "move it away, or say --force to replace such files"
            raise InTheWay(f"{path} is there already, with another content", remedy, path)


class Part:
    """A file that is being written."""

    def __init__(self, target: Target, descriptor: int, path: str, entry: Entry) -> None:
        self._target = target
        self._descriptor = descriptor
        self._path = path
        self._entry = entry
        self._end = 0

    def write(self, data: bytes, offset: int) -> None:
        """NoSpace if there is no room for it."""
        view = memoryview(data)
        with _room(self._path):
            while view:
                written = os.pwrite(self._descriptor, view, offset)
                view, offset = view[written:], offset + written
        self._end = max(self._end, offset)

    def put(self, path: str, *, replace: bool = False) -> None:
        """Give it mode and time, and its place. InTheWay, or OSError if the place is none for it: then another may do."""
        self._target.refuse_others(path, replace=replace)
        if self._descriptor >= 0:
            entry = self._entry
            assert entry.mode is not None, "what has no inode is not written"
            if self._end < entry.size:  # it ends with a hole
                with _room(path):
                    os.ftruncate(self._descriptor, entry.size)
            with suppress(OSError):
                os.fchmod(self._descriptor, entry.mode & MODE_BITS)
            with suppress(OSError):
                os.utime(self._descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
            self._close()
        with _room(path):
            os.replace(self._path, path)

    def close(self) -> None:
        """Remove it, unless it has its place."""
        self._close()
        with suppress(FileNotFoundError):
            os.unlink(self._path)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def looks_there(path: str, entry: Entry) -> bool:
    """Whether there is a file of this size."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == entry.size


def _is_content(path: str, chunks: Chunks) -> bool:
    with open(path, "rb") as file:
        for _, wanted in chunks:
            if wanted is None:
                return False
            data = file.read(wanted.length)
            if len(data) != wanted.length or blake3(data).digest() != chunk_hash(wanted.hashes):
                return False
    return True


@contextmanager
def _room(path: str) -> Iterator[None]:
    """A full disk is not the fault of one file."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise NoSpace(f"no room left for {path}", "free some space, and run it again: it goes on", path) from error
        raise
