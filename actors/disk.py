"""The disk as the store sees it: the few calls that durability rests on, so that the simulator can take them over.

:class:`Disk` is the contract; :class:`OsDisk` is the real one; ``actors.sim.disk.SimDisk`` loses what was not synced.
Paths are ``/``-separated and relative to the disk's root. SQLite files live on the same disk: ``sqlite_path`` and
``sqlite_vfs`` say how to open them there.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Protocol


class DiskFile(Protocol):
    """An open file. Every method may raise OSError (EIO, ENOSPC, EROFS...)."""

    def pread(self, size: int, offset: int) -> bytes:
        """Up to ``size`` bytes; shorter only at the end of the file."""
        ...

    def pwritev(self, buffers: list[bytes | memoryview], offset: int) -> int:
        """Write all buffers one after the other at ``offset``; returns the bytes written (all, or it raised)."""
        ...

    def allocate(self, size: int) -> None:
        """Make the file ``size`` bytes long with its blocks reserved: ENOSPC comes here, not in the middle of a write."""
        ...

    def datasync(self) -> None:
        """Return only when the bytes written before are durable (fdatasync). After a failure their state is unknown."""
        ...

    def forget(self, offset: int, size: int) -> None:
        """A hint: these bytes are durable and will hardly be read soon: memory need not hold them."""
        ...

    def size(self) -> int: ...

    def close(self) -> None: ...


class Disk(Protocol):
    """One directory tree on one disk."""

    def open(self, path: str, *, create: bool = False, exclusive: bool = False, readonly: bool = False) -> DiskFile:
        """Open for reading and writing; with ``exclusive`` the file must be new (FileExistsError)."""
        ...

    def read_bytes(self, path: str) -> bytes: ...

    def replace_bytes(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write a small file durably and atomically: temporary file, fsync, rename, fsync of the directory."""
        ...

    def listdir(self, path: str) -> list[str]:
        """Names, sorted (the order of a directory is a hidden input)."""
        ...

    def exists(self, path: str) -> bool: ...

    def makedirs(self, path: str) -> None: ...

    def unlink(self, path: str) -> None: ...

    def rename(self, path: str, to: str) -> None:
        """Give a file another name, in place of the file that has it: at every moment ``to`` is the one or the other."""
        ...

    def sync_dir(self, path: str) -> None:
        """Make creations, renames and removals in this directory durable."""
        ...

    def free_bytes(self) -> tuple[int, int]:
        """(free for us, total) bytes of the file system."""
        ...

    def sqlite_path(self, path: str) -> str:
        """The file name to give to SQLite."""
        ...

    @property
    def sqlite_vfs(self) -> str | None:
        """The name of the SQLite VFS to open it with; None for the default one."""
        ...


class OsFile:
    """:class:`DiskFile` over a file descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def pread(self, size: int, offset: int) -> bytes:
        data = os.pread(self._fd, size, offset)
        if len(data) == size or not data:
            return data
        parts = [data]
        got = len(data)
        while got < size:
            more = os.pread(self._fd, size - got, offset + got)
            if not more:
                break
            parts.append(more)
            got += len(more)
        return b"".join(parts)

    def pwritev(self, buffers: list[bytes | memoryview], offset: int) -> int:
        total = sum(len(b) if isinstance(b, bytes) else b.nbytes for b in buffers)
        done = os.pwritev(self._fd, buffers, offset)
        if done == total:
            return total
        # A short write happens on a nearly full disk or an interrupted call: go on with what is left, copied once.
        rest = memoryview(b"".join(buffers))[done:]
        while rest:
            wrote = os.pwrite(self._fd, rest, offset + done)
            if wrote <= 0:
                raise OSError(errno.EIO, "write made no progress")
            done += wrote
            rest = rest[wrote:]
        return total

    def allocate(self, size: int) -> None:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._fd, 0, size)
        else:
            os.truncate(self._fd, size)

    def datasync(self) -> None:
        if hasattr(os, "fdatasync"):
            os.fdatasync(self._fd)
        else:
            os.fsync(self._fd)

    def forget(self, offset: int, size: int) -> None:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._fd, offset, size, os.POSIX_FADV_DONTNEED)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class OsDisk:
    """:class:`Disk` over a real directory, which must exist."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).absolute()

    def _real(self, path: str) -> str:
        return str(self.root / path) if path else str(self.root)

    def open(self, path: str, *, create: bool = False, exclusive: bool = False, readonly: bool = False) -> OsFile:
        flags = os.O_RDONLY if readonly else os.O_RDWR
        if create:
            flags |= os.O_CREAT
        if exclusive:
            flags |= os.O_CREAT | os.O_EXCL
        return OsFile(os.open(self._real(path), flags | getattr(os, "O_CLOEXEC", 0), 0o644))

    def read_bytes(self, path: str) -> bytes:
        return Path(self._real(path)).read_bytes()

    def replace_bytes(self, path: str, data: bytes, mode: int = 0o644) -> None:
        real = self._real(path)
        temporary = f"{real}.tmp"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), mode)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temporary, real)
        self.sync_dir(os.path.dirname(path))

    def listdir(self, path: str) -> list[str]:
        return sorted(os.listdir(self._real(path)))

    def exists(self, path: str) -> bool:
        return os.path.exists(self._real(path))

    def makedirs(self, path: str) -> None:
        os.makedirs(self._real(path), exist_ok=True)

    def unlink(self, path: str) -> None:
        os.unlink(self._real(path))

    def rename(self, path: str, to: str) -> None:
        os.replace(self._real(path), self._real(to))

    def sync_dir(self, path: str) -> None:
        if os.name == "nt":  # directories cannot be opened there; NTFS journals renames itself
            return
        fd = os.open(self._real(path), os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def free_bytes(self) -> tuple[int, int]:
        usage = shutil.disk_usage(self.root)
        return usage.free, usage.total

    def sqlite_path(self, path: str) -> str:
        return self._real(path)

    @property
    def sqlite_vfs(self) -> str | None:
        return None
