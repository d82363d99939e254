"""A file of this machine, read and written at offsets by several threads, and closed when the last one has let go.

A transfer may be given up while a worker still writes for it. If its descriptor were closed then, the number could already
be another file's. So ``close`` takes effect at once for newcomers, and for the descriptor when nobody uses it.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from dsa_zmq.errors import LocalError

_REMEDIES: Mapping[int, str] = {
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path: a part of it is a file",
    errno.EISDIR: "check the path: it is a directory",
    errno.ELOOP: "check the path: its symbolic links lead in a circle",
    errno.ENAMETOOLONG: "use a shorter path",
    errno.EACCES: "check its owner and mode, and those of its folder",
    errno.EPERM: "check its owner and mode, and those of its folder",
    errno.EROFS: "choose a place that can be written",
    errno.ENOSPC: "free some space on this machine",
    errno.EDQUOT: "free some space on this machine",
    errno.EFBIG: "choose a file system that takes files of this size",
    errno.EMFILE: "raise the limit of open files, as with 'ulimit -n'",
    errno.EIO: "check the disk or device that it is on",
}
"""What helps against the common errors of file systems. For others there is nothing to say beyond the cause."""


class LocalFile:
    """Owns ``descriptor``. All methods may be called from any thread; OSErrors come out as :class:`LocalError`."""

    def __init__(self, descriptor: int, path: str, size: int = 0) -> None:
        self.path = path
        self.size = size  #: bytes, as of the moment it was opened for reading
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._users = 0
        self._closing = False
        self._seek_lock = threading.Lock()  # only where positioned reads do not exist

    @classmethod
    def open_to_read(cls, path: str) -> LocalFile:
        """Open a regular file; its size is taken now."""
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
            return cls(descriptor, path, os.fstat(descriptor).st_size)
        except (OSError, ValueError) as error:
            raise local_error(error, path) from error

    def read_at(self, size: int, offset: int) -> bytes:
        """Exactly ``size`` bytes; :class:`LocalError` if the file has become shorter."""
        with self._use():
            data = self._pread(size, offset)
            if len(data) == size:
                return data
            parts = [data]
            got = len(data)
            while data and got < size:
                data = self._pread(size - got, offset + got)
                got += len(data)
                parts.append(data)
        if got < size:
            raise LocalError(f"{self.path} became shorter while it was read", "try again", self.path)
        return b"".join(parts)

    def read_untold(self, most: int) -> bytes:
        """All of a file whose size is said to be 0, as the kernel's own files say; :class:`LocalError` beyond ``most``."""
        parts: list[bytes] = []
        got = 0
        with self._use():
            while got <= most and (data := self._pread(most + 1 - got, got)):
                got += len(data)
                parts.append(data)
        if got > most:
            problem = f"{self.path} does not tell its size and has more than {most} bytes"
            raise LocalError(problem, "read it with another program, and put '-', its output", self.path)
        return b"".join(parts)

    def write_at(self, data: memoryview | bytes, offset: int) -> None:
        """All of ``data``."""
        view = memoryview(data)
        with self._use():
            while view.nbytes:
                done = self._pwrite(view, offset)
                view, offset = view[done:], offset + done

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            if self._users:
                return
        os.close(self._descriptor)

    @contextmanager
    def _use(self) -> Iterator[None]:
        with self._lock:
            if self._closing:
                raise LocalError(f"{self.path} is closed", "", self.path)
            self._users += 1
        try:
            yield
        except LocalError:
            raise
        except OSError as error:
            raise local_error(error, self.path) from error
        finally:
            self._let_go()

    def _let_go(self) -> None:
        with self._lock:
            self._users -= 1
            last = self._closing and not self._users
        if last:
            os.close(self._descriptor)

    def _pread(self, size: int, offset: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, size, offset)
        with self._seek_lock:
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            return os.read(self._descriptor, size)

    def _pwrite(self, view: memoryview, offset: int) -> int:
        if hasattr(os, "pwrite"):
            return os.pwrite(self._descriptor, view, offset)
        with self._seek_lock:
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            return os.write(self._descriptor, view)


def local_error(error: OSError | ValueError, path: str) -> LocalError:
    """An error of this machine's file system (or a path that is none) as ours: it names the file and the cause."""
    number = error.errno if isinstance(error, OSError) else errno.ENOENT  # a NUL in a path: no file has such a name
    remedy = _REMEDIES.get(number, "") if number is not None else ""
    return LocalError(f"{path}: {getattr(error, 'strerror', None) or error}", remedy, path)
