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
        if status.st_mode & stat.S_IRWXU != stat.S_IRWXU:  # as in the store: an earlier run has finished it
            with suppress(OSError):
                os.chmod(path, status.st_mode & MODE_BITS | stat.S_IRWXU)
        return False

    def finish_directory(self, path: str, entry: Entry) -> None:
        """Everything in it is there. A file system without modes or times is none worth an error: files matter."""
        if entry.mode is not None:
            with suppress(OSError):
                os.chmod(path, entry.mode & MODE_BITS)
                os.utime(path, ns=(entry.created_ns, entry.created_ns))

    # --- files --------------------------------------------------------------------------------------------------------

    def has(self, path: str, entry: Entry, chunks: Chunks) -> bool:
        """Whether the file is there already, with all of its content; its mode and time are put right then. InTheWay if
        something else is there that must stay, or OSError."""
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return False
        if stat.S_ISREG(status.st_mode) and status.st_size == entry.size and _is_content(path, status, chunks):
            self._put_right(path, status, entry)
            return True
        if stat.S_ISDIR(status.st_mode):
            raise InTheWay(f"{path} is there already, and is a directory", "move it away", path)
        if not self._force:
            remedy = "move it away, or say --force to replace such files"
            raise InTheWay(f"{path} is there already, with another content", remedy, path)
        return False

    @staticmethod
    def _put_right(path: str, status: os.stat_result, entry: Entry) -> None:
        mode = (entry.mode or 0) & MODE_BITS
        if (status.st_mode & MODE_BITS, status.st_mtime_ns) != (mode, entry.mtime_ns):
            with suppress(OSError):
                os.chmod(path, mode)
                os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))

    @contextmanager
    def writing(self, entry: Entry) -> Iterator[Part]:
        """A new file that is gone at the block's end unless it was put in its place."""
        with _room(self._part):
            descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)
        part = Part(descriptor, self._part, entry)
        try:
            yield part
        finally:
            part.close()


class Part:
    """A file that is being written."""

    def __init__(self, descriptor: int, path: str, entry: Entry) -> None:
        self._descriptor = descriptor
        self._path = path
        self._entry = entry
        self._end = 0
        self._is_put = False

    def write(self, data: bytes, offset: int) -> None:
        """NoSpace if there is no room for it."""
        view = memoryview(data)
        with _room(self._path):
            while view:
                written = os.pwrite(self._descriptor, view, offset)
                view, offset = view[written:], offset + written
        self._end = max(self._end, offset)

    def put(self, path: str) -> None:
        """Give it mode and time, and its place. OSError if the place is none for it: then another one may be."""
        if self._descriptor >= 0:
            entry = self._entry
            if self._end < entry.size:  # it ends with a hole
                with _room(path):
                    os.ftruncate(self._descriptor, entry.size)
            with suppress(OSError):
                os.fchmod(self._descriptor, (entry.mode or 0) & MODE_BITS)
            with suppress(OSError):
                os.utime(self._descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
            self._close()
        with _room(path):
            os.replace(self._path, path)
        self._is_put = True

    def close(self) -> None:
        """Remove it, unless it has its place."""
        self._close()
        if not self._is_put:
            os.unlink(self._path)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def looks_there(path: str, entry: Entry) -> bool:
    """Whether there is a file of this size."""
    try:
        status = os.lstat(path)
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == entry.size


def _is_content(path: str, status: os.stat_result, chunks: Chunks) -> bool:
    if status.st_mode & stat.S_IRUSR:
        return _has_content(path, chunks)
    with suppress(OSError):  # as in the store
        os.chmod(path, status.st_mode & MODE_BITS | stat.S_IRUSR)
    try:
        return _has_content(path, chunks)
    finally:
        with suppress(OSError):
            os.chmod(path, status.st_mode & MODE_BITS)


def _has_content(path: str, chunks: Chunks) -> bool:
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
