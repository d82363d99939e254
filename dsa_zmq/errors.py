"""Every error a user can meet: one tree, one stable code each, one exit status each.

Split by what the caller can do. *Definite* errors had no effect. *Indefinite* ones (``indefinite = True``) may have had
their effect: ask again before assuming. Each message names the thing and the cause; ``remedy`` says what to do.
"""

from __future__ import annotations

import errno
from typing import ClassVar


class DSAError(Exception):
    """Base of everything this package raises on purpose.

    ``str(error)`` is "cause; remedy". ``code`` is stable across versions, ``exit_status`` is that of the command line.
    """

    code: ClassVar[str] = "failed"
    exit_status: ClassVar[int] = 1
    indefinite: ClassVar[bool] = False
    _errno: ClassVar[int] = 0

    def __init__(self, message: str, remedy: str = "", path: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.path = path
        if self._errno:  # the subclasses that are OSErrors too
            attributes = {"errno": self._errno, "strerror": message, "filename": path}
            for name, value in attributes.items():
                setattr(self, name, value)

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message

    def __reduce__(self) -> tuple[type[DSAError], tuple[str, str, str | None]]:
        return type(self), (self.message, self.remedy, self.path)


# --- definite: nothing happened ------------------------------------------------------------------------------------


class NotFound(DSAError, FileNotFoundError):
    """No such file or directory in the store."""

    code, exit_status, _errno = "not-found", 3, errno.ENOENT


class AlreadyExists(DSAError, FileExistsError):
    """The name is taken."""

    code, exit_status, _errno = "already-exists", 4, errno.EEXIST


class IsADirectory(DSAError, IsADirectoryError):
    """A file was needed, a directory is there."""

    code, exit_status, _errno = "is-a-directory", 4, errno.EISDIR


class NotADirectory(DSAError, NotADirectoryError):
    """A directory was needed, a file is there."""

    code, exit_status, _errno = "not-a-directory", 4, errno.ENOTDIR


class NotEmpty(DSAError, OSError):
    """The directory still has entries."""

    code, exit_status, _errno = "not-empty", 4, errno.ENOTEMPTY


class Conflict(DSAError):
    """A condition of the request does not hold (version changed, concurrent rename, cycle)."""

    code, exit_status = "conflict", 4


class Outdated(Conflict):
    """What this upload was begun with is over: its lease, or its directory's redundancy. Nothing of it was published; begun
    anew it will do."""

    code = "outdated"


class Denied(DSAError, PermissionError):
    """The receipt, grant or user does not allow it."""

    code, exit_status, _errno = "denied", 5, errno.EACCES


class Invalid(DSAError, ValueError):
    """The request itself makes no sense: a malformed path, address, size or option."""

    code, exit_status = "invalid", 2


class ConfigError(Invalid):
    """A configuration file or a data directory is not usable as it is."""

    code = "config"


class Incompatible(DSAError):
    """The two sides speak versions too far apart, a newer build wrote what is there, or it is of another cluster."""

    code, exit_status = "incompatible", 2


class NoSpace(DSAError, OSError):
    """The nodes, or one disk, have no room for it."""

    code, exit_status, _errno = "no-space", 6, errno.ENOSPC


class TooFewNodes(NoSpace):
    """Fewer nodes (or failure domains) are up than the redundancy needs."""

    code = "too-few-nodes"


class Corrupt(DSAError, OSError):
    """Bytes that do not match their hash, with no good copy in reach."""

    code, exit_status, _errno = "corrupt", 8, errno.EIO


class LocalError(DSAError, OSError):
    """A file or folder on this side cannot be read or written."""

    code, exit_status, _errno = "local", 1, errno.EIO


# --- indefinite: it may have happened --------------------------------------------------------------------------------


class Unavailable(DSAError, ConnectionError):
    """Nobody answers, or not enough of the nodes that hold the bytes."""

    code, exit_status, indefinite, _errno = "unavailable", 7, True, errno.ECONNREFUSED


class Overloaded(Unavailable):
    """The other side is too busy right now; nothing was done."""

    code, indefinite = "overloaded", False


class Timeout(DSAError, TimeoutError):
    """No progress within the time allowed."""

    code, exit_status, indefinite, _errno = "timeout", 7, True, errno.ETIMEDOUT


class OutcomeUnknown(Unavailable):
    """The session of a request has ended, so whether it took effect cannot be told any more."""

    code = "outcome-unknown"


class InternalError(DSAError):
    """Our bug. It may have struck after the effect."""

    code, exit_status, indefinite = "internal", 70, True


BY_CODE: dict[str, type[DSAError]] = {
    cls.code: cls
    for cls in (
        DSAError, NotFound, AlreadyExists, IsADirectory, NotADirectory, NotEmpty, Conflict, Outdated, Denied, Invalid,
        ConfigError, Incompatible, NoSpace, TooFewNodes, Corrupt, LocalError, Unavailable, Overloaded, Timeout,
        OutcomeUnknown, InternalError,
    )
}  # fmt: skip


def from_code(code: str, message: str, remedy: str = "", path: str | None = None) -> DSAError:
    """The error that travelled as a code. A code from a newer version becomes a plain :class:`DSAError`."""
    return BY_CODE.get(code, DSAError)(message, remedy, path)
