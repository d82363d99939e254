"""What the demonstration stores: files and folders of this machine, and files made up from random bytes."""

from __future__ import annotations

import os
import stat
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dsa_zmq.errors import LocalError

NOT_STORED = frozenset(("__pycache__", "site-packages", "dist-packages"))  #: of Python's own library: not its own
DEFAULT_FILES = 2_000
BIG_FILE_BYTES = 256_000_000
SMALL_FILE_BYTES = 16 << 10  #: the largest of the small made files: most of the library's files are no larger
_STEP_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """One local file and the name it gets in the store."""

    local: Path
    remote: str
    size: int
    mtime_ns: int

    def has_changed(self) -> bool:
        """The file is no longer the one that was looked at."""
        try:
            now = self.local.stat()
        except OSError:
            return True
        return (now.st_size, now.st_mtime_ns) != (self.size, self.mtime_ns)


@dataclass
class Sources:
    """All that is to be stored, and what cannot be."""

    files: list[Source] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)  #: remote names; parents come first
    symlinks: int = 0
    special: int = 0  #: sockets, pipes and devices
    refused: list[tuple[str, str]] = field(default_factory=list)  #: printable path, reason

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(source.size for source in self.files)

    def add(self, path: Path, remote: str, leave_out: frozenset[str] = frozenset()) -> None:
        """A file, or a folder with everything below it except the names left out."""
        waiting = [(path, remote)]  # not by recursion: folders may be nested deeper than Python's stack
        while waiting:
            local, name = waiting.pop()
            try:
                inside = [child for child in self._look(local, name) if child not in leave_out]
                waiting += [(local / child, f"{name}/{child}") for child in inside]
            except UnicodeEncodeError:
                self.refuse(local, "its name is not UTF-8")
            except OSError as error:
                self.refuse(local, error.strerror or str(error))

    def _look(self, path: Path, remote: str) -> list[str]:
        """Take in one path; the names in it if it is a folder, the last one first."""
        remote.encode()
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            self.symlinks += 1
        elif stat.S_ISDIR(status.st_mode):
            names = sorted(os.listdir(path), reverse=True)
            self.folders.append(remote)
            return names
        elif not stat.S_ISREG(status.st_mode):
            self.special += 1
        else:
            with path.open("rb"):  # now rather than in the middle of the transfer
                self.files.append(Source(path, remote, status.st_size, status.st_mtime_ns))
        return []

    def refuse(self, path: Path, reason: str) -> None:
        """Count a path that cannot be stored."""
        self.refused.append((os.fsencode(path).decode("utf-8", "backslashreplace"), reason))


def given(paths: Iterable[str]) -> Sources:
    """The files and folders that somebody named. Raises LocalError for a name that leads nowhere."""
    sources = Sources()
    taken: set[str] = set()
    for text in paths:
        path = Path(text)
        try:
            real = path.resolve(strict=True)  # one that is named may be a symbolic link; those below it are skipped
        except (OSError, ValueError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise LocalError(f"{ascii(text)[1:-1]} cannot be stored: {reason}", "check the path", text) from None
        name = path.name or real.name or "root"
        number = 2
        while name in taken:
            name, number = f"{path.name or real.name or 'root'}-{number}", number + 1
        taken.add(name)
        sources.add(real, f"/{name}")
    return sources


def default(made: Path) -> Sources:
    """Python's standard library, topped up with made files, and one big one; those are written into ``made``."""
    library = Path(sysconfig.get_paths()["stdlib"])
    sources = Sources()
    sources.add(library, f"/{library.name}", NOT_STORED)
    missing = DEFAULT_FILES - len(sources.files) - 1
    sources.folders.append("/made")
    for number, size in zip(range(max(0, missing)), _sizes(), strict=False):
        _add_made(sources, made / f"made-{number:04}.bin", size)
    _add_made(sources, made / "big.bin", BIG_FILE_BYTES)
    return sources


def _sizes() -> Iterator[int]:
    """From nothing to the largest small file, in steps that meet no round number."""
    size = 0
    while True:
        yield size
        size = (size + 1021) % SMALL_FILE_BYTES  # a prime: all sizes differ for a long while


def _add_made(sources: Sources, path: Path, size: int) -> None:
    try:
        with path.open("wb") as file:
            for start in range(0, size, _STEP_BYTES):
                file.write(os.urandom(min(_STEP_BYTES, size - start)))
    except OSError as error:
        remedy = "free some space, or set TMPDIR to a directory on another disk"
        raise LocalError(f"{path} cannot be made: {error.strerror or error}", remedy, str(path)) from error
    sources.add(path, f"/made/{path.name}")
