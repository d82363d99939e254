"""The names on a simulated disk: what is seen, what is durable, and the changes between the two."""

from __future__ import annotations

import errno
import posixpath
import random
from dataclasses import dataclass

from actors.sim.inode import Inode


@dataclass(frozen=True, slots=True)
class _Change:
    """A change of a directory that is not durable yet."""

    path: str
    inode: Inode | None  #: None: a removal, or a directory
    is_directory: bool = False
    instead_of: str | None = None  #: renamed from there, in the same directory


class Names:
    """Files and directories by path. A change is seen at once, and durable after a sync of its directory."""

    def __init__(self) -> None:
        self.files: dict[str, Inode] = {}
        self.directories: dict[str, None] = {"": None}  # an ordered set
        self._durable_files: dict[str, Inode] = {}
        self._durable_directories: dict[str, None] = {"": None}
        self._changes: list[_Change] = []  # in order

    def file(self, path: str) -> Inode:
        """The file of that name; FileNotFoundError or IsADirectoryError."""
        if path in self.directories:
            raise IsADirectoryError(errno.EISDIR, "is a directory", path)
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return self.files[path]

    def check_directory(self, path: str) -> None:
        """FileNotFoundError unless it is a directory."""
        if path not in self.directories:
            raise FileNotFoundError(errno.ENOENT, "no such directory", path)

    def children(self, directory: str) -> list[str]:
        """The names in a directory, sorted."""
        paths = [path for path in (*self.files, *self.directories) if path and posixpath.dirname(path) == directory]
        return sorted(posixpath.basename(path) for path in paths)

    def make_directory(self, path: str) -> None:
        self.directories[path] = None
        self._changes.append(_Change(path, None, is_directory=True))

    def link(self, path: str, inode: Inode, instead_of: str | None = None) -> Inode | None:
        """Name a file, or rename it from ``instead_of``; returns the file that had the name, if it has none left."""
        replaced = self._drop(path) if path in self.files else None
        if instead_of is not None:
            del self.files[instead_of]
            inode.links -= 1
        self.files[path] = inode
        inode.links += 1
        self._changes.append(_Change(path, inode, instead_of=instead_of))
        return replaced

    def unlink(self, path: str) -> Inode | None:
        """Remove a name; returns the file, if it has no name left."""
        self._changes.append(_Change(path, None))
        return self._drop(path)

    def _drop(self, path: str) -> Inode | None:
        inode = self.files.pop(path)
        inode.links -= 1
        return None if inode.links else inode

    def sync(self, directory: str) -> None:
        """Make the changes in one directory durable."""
        here = [change for change in self._changes if posixpath.dirname(change.path) == directory]
        self._changes = [change for change in self._changes if posixpath.dirname(change.path) != directory]
        self._apply(here)

    def _apply(self, changes: list[_Change]) -> None:
        for change in changes:
            if change.is_directory:
                self._durable_directories[change.path] = None
            elif change.inode is None:
                self._durable_files.pop(change.path, None)
            else:
                self._durable_files[change.path] = change.inode
                if change.instead_of is not None:
                    self._durable_files.pop(change.instead_of, None)

    def power_loss(self, draw: random.Random) -> None:
        """Of each directory's unsynced changes the first few are durable, how many the seed decides; the rest is lost.

        What lies in a lost directory is lost with it.
        """
        by_directory: dict[str, list[_Change]] = {}
        for change in self._changes:
            by_directory.setdefault(posixpath.dirname(change.path), []).append(change)
        self._changes.clear()
        for changes in by_directory.values():
            self._apply(changes[: draw.randrange(len(changes) + 1)])
        rooted = {path: None for path in self._durable_directories if self._is_rooted(path)}
        files = {path: inode for path, inode in self._durable_files.items() if posixpath.dirname(path) in rooted}
        self.directories, self._durable_directories = rooted, dict(rooted)
        self.files, self._durable_files = files, dict(files)
        for inode in files.values():
            inode.links = 1

    def _is_rooted(self, path: str) -> bool:
        while path and path in self._durable_directories:
            path = posixpath.dirname(path)
        return not path
