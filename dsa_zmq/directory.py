"""A data directory: of one kind, and used by one process at a time.

The lock is the operating system's (``flock``), so it ends with its process however that dies; the number in the lock
file only says whom to ask. A marker names what the directory is for, so that a master is never started on a node's.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from pathlib import Path

from actors.disk import OsDisk
from dsa_zmq.errors import ConfigError, Incompatible

MARKER = "DSA.json"
LOCK = "lock"
FORMAT = 1  #: of the directory's layout as a whole; files inside carry their own
KINDS = {
    "master": "a master's directory",
    "node": "a node's directory",
    "local": "a local cluster's directory",
    "salvage": "the scratch of a salvage",
}

_IGNORED = (LOCK, "lost+found")  #: may be there in a directory that counts as empty
_LOCK_OFFSET = 1 << 30  #: Windows locks are mandatory: lock a byte that nobody reads


class DataDirectory:
    """An exclusively used directory. Close it to let the next process in; it closes itself with the process."""

    def __init__(self, path: Path, kind: str, lock_fd: int) -> None:
        self.path = path
        self.kind = kind
        self._lock_fd = lock_fd

    @property
    def disk(self) -> OsDisk:
        """The directory as the stores see it."""
        return OsDisk(self.path)

    def close(self) -> None:
        """Release the lock. Idempotent."""
        fd, self._lock_fd = self._lock_fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, 0)  # only cosmetic: says "nobody" to people who look inside
                _unlock(fd)  # a forked child may still have it open; closing alone would not free it then
            os.close(fd)

    def __enter__(self) -> DataDirectory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<DataDirectory {self.kind} {self.path}{'' if self._lock_fd >= 0 else ' closed'}>"


def open_directory(path: str | os.PathLike[str], kind: str) -> DataDirectory:
    """Make the directory if it is missing, lock it, and make sure that it is of this kind.

    Raises ConfigError, or Incompatible if a newer build has made it.
    """
    real = Path(path).absolute()
    _refuse_undecodable(real)
    make_directory(real)
    if not (real / LOCK).exists():
        _refuse_strangers(real, kind)  # before a lock file is left among them
    fd = _open_lock(real)
    try:
        if not _lock(fd):
            owner = _read_owner(fd)
            raise ConfigError(
                f"directory {real} is in use by {f'process {owner}' if owner else 'another process'}",
                "stop that process first, or give another directory",
                str(real),
            )
        _check_kind(real, kind)
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, f"{os.getpid()}\n".encode())
    except OSError as error:
        os.close(fd)
        raise unusable(real, error) from error
    except BaseException:
        os.close(fd)
        raise
    return DataDirectory(real, kind, fd)


def owner_of(path: str | os.PathLike[str]) -> int | None:
    """The process that holds the directory's lock right now, or None. 0 if it cannot be told which one."""
    try:
        fd = os.open(Path(path) / LOCK, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return None
    try:
        return None if _lock(fd) else _read_owner(fd)
    finally:
        os.close(fd)


def make_directory(path: Path) -> None:
    """Make it and its parents; fine if it is there. Raises ConfigError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        blocker = next((p for p in (path, *path.parents) if p.exists() and not p.is_dir()), path)
        raise ConfigError(f"{blocker} is a file, not a directory", "give the path of a directory", str(path)) from None
    except (OSError, ValueError) as error:
        raise unusable(path, error) from error


def _refuse_undecodable(path: Path) -> None:
    """SQLite takes the names of its files as UTF-8 only."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"directory {path} cannot be used: its path is not UTF-8", "give a directory with another path", str(path)
        ) from None


def _open_lock(path: Path) -> int:
    try:
        return os.open(path / LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
    except OSError as error:
        raise unusable(path, error) from error


def unusable(path: Path, error: Exception) -> ConfigError:
    """An OSError (or a path that is none) as what is wrong with the directory."""
    number = getattr(error, "errno", None)
    reason = getattr(error, "strerror", None) or str(error)
    remedies = {
        errno.EROFS: "its file system is read-only: mount it writable, or give another directory",
        errno.EACCES: "give this user the right to write there, or another directory",
        errno.EPERM: "give this user the right to write there, or another directory",
        errno.ENOSPC: "free some space on that disk, or give another directory",
        errno.EDQUOT: "free some of your quota on that disk, or give another directory",
    }
    remedy = remedies.get(number or 0, "give the path of a directory that can be written")
    return ConfigError(f"directory {path} cannot be used: {reason}", remedy, str(path))


def _check_kind(path: Path, kind: str) -> None:
    """Read the marker, or write it into an empty directory."""
    try:
        text = (path / MARKER).read_bytes()
    except FileNotFoundError:
        _refuse_strangers(path, kind)
        OsDisk(path).replace_bytes(MARKER, json.dumps({"kind": kind, "format": FORMAT}).encode() + b"\n")
        return
    try:
        marker = json.loads(text)
        found, layout = marker["kind"], int(marker["format"])
    except (ValueError, KeyError, TypeError):
        raise ConfigError(
            f"{path / MARKER} is damaged: it does not say what the directory is",
            f'if it is {KINDS[kind]}, write {{"kind": "{kind}", "format": {FORMAT}}} into that file',
            str(path),
        ) from None
    if found != kind:
        raise ConfigError(
            f"directory {path} is {KINDS.get(found, f'of kind {found!r}')}, not {KINDS[kind]}",
            "give another directory; nothing was changed in this one",
            str(path),
        )
    if layout > FORMAT:
        raise Incompatible(
            f"directory {path} has layout {layout}, this build reads up to layout {FORMAT}",
            f"upgrade the {kind} to a build that reads layout {layout}, such as the one that wrote it",
            str(path),
        )


def _refuse_strangers(path: Path, kind: str) -> None:
    """A directory without a marker must have nothing in it. Raises ConfigError."""
    try:
        inside = set(os.listdir(path))
    except OSError as error:
        raise unusable(path, error) from error
    strangers = sorted(inside - set(_IGNORED) - {f"{MARKER}.new"})
    if strangers and MARKER not in inside:
        raise ConfigError(
            f"directory {path} is not empty and is not {KINDS[kind]}: it contains {strangers[0]}",
            "give an empty or a new directory",
            str(path),
        )


def _read_owner(fd: int) -> int:
    try:
        os.lseek(fd, 0, os.SEEK_SET)
        return int(os.read(fd, 20))
    except (OSError, ValueError):
        return 0


if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int) -> bool:
        os.lseek(fd, _LOCK_OFFSET, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(fd: int) -> None:
        os.lseek(fd, _LOCK_OFFSET, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
            if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):  # some network file systems have no locks
                return True
            raise
        return True

    def _unlock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)
