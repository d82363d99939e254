"""A folder of this machine into the store: walked while it is sent, compared with what is there, merged.

Memory does not depend on the number of files: at each moment the names of one folder, the folders waiting beside the way
down to it, and the transfers under way.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsa_zmq.client.local_file import local_error
from dsa_zmq.client.merging import (
    OnFailure,
    TreeResult,
    as_final,
    beside,
    byte_order,
    ends_everything,
    has_mode,
    is_unchanged,
)
from dsa_zmq.client.sending import Progress
from dsa_zmq.errors import DSAError, Invalid, IsADirectory, LocalError, NotADirectory, NotFound
from dsa_zmq.model import paths
from dsa_zmq.model.stat import Stat

if TYPE_CHECKING:
    from dsa_zmq.client.store import Store

_Above = tuple[tuple[int, int], "_Above"] | None
"""The identities of the folders on the way down, as a linked list: siblings share it."""


@dataclass(frozen=True, slots=True)
class _Folder:
    """One that is still to be walked. ``exists``: it is in the store already."""

    local: str
    remote: str
    mode: int
    exists: bool
    above: _Above = None


def put_tree(
    store: Store,
    source: str | os.PathLike[str],
    target: str,
    *,
    follow_links: bool = False,
    again: bool = False,
    degraded: bool = False,
    progress: Progress = None,
    on_failure: OnFailure | None = None,
    result: TreeResult | None = None,
) -> TreeResult:
    """Make the directory ``target`` hold everything that the local folder ``source`` holds; other entries of it stay.

    Files of the same size, time and mode are not sent, unless ``again``. Symbolic links are counted and skipped, or
    followed with ``follow_links``; sockets, pipes and devices are skipped; what cannot be read or named in the store is
    handed to ``on_failure`` and counted. ``degraded`` as for :meth:`Store.put`. ``progress`` is called with byte counts, in
    another thread. Counts are added to ``result``, which is also up to date when an error that ends everything is raised:
    nobody answers, no space.
    """
    return _PutTree(store, follow_links, again, degraded, progress, on_failure, result).run(os.fspath(source), target)


class _PutTree:
    def __init__(
        self,
        store: Store,
        follow_links: bool,
        again: bool,
        degraded: bool,
        progress: Progress,
        on_failure: OnFailure | None,
        result: TreeResult | None,
    ) -> None:
        self._store = store
        self._follow_links = follow_links
        self._again = again
        self._degraded = degraded
        self._progress = progress
        self._on_failure = on_failure
        self._result = result if result is not None else TreeResult()

    def run(self, source: str, target: str) -> TreeResult:
        target = paths.normalize(target)
        pairs = self._pairs(self._top(source, target))
        puts = self._store.iter_put_many(pairs, degraded=self._degraded, progress=self._progress)
        with closing(puts) as ended:
            for _, outcome in ended:
                if isinstance(outcome, DSAError):
                    self._fail(outcome)
                else:
                    self._result.copied(outcome.size, outcome.missing_shards)
        return self._result

    def _top(self, source: str, target: str) -> _Folder:
        try:
            status = os.stat(source)
        except OSError as error:
            raise local_error(error, source) from error
        try:
            found = self._store.stat(target)
        except NotFound:
            found = None
        if found is not None and not found.is_dir:
            raise NotADirectory(
                f"'{target}' is a file, and a folder cannot take its name", "choose another target", target
            )
        return _Folder(source, target, _mode(status), found is not None, (_identity(status), None))

    # --- the walk ----------------------------------------------------------------------------------------------------

    def _pairs(self, top: _Folder) -> Iterator[tuple[str, str]]:
        """What is to be sent, as it is found."""
        pending = [top]
        while pending:
            folder = pending.pop()
            below: list[_Folder] = []
            try:
                names = _names(folder.local)
                there = self._made(folder)
                for name, _, found in beside(((name, None) for name in names), there):
                    pair = self._look(folder, name, found, below)
                    if pair is not None:
                        yield pair
            except DSAError as error:
                self._fail(error)
            pending.extend(reversed(below))

    def _made(self, folder: _Folder) -> Iterator[Stat]:
        """Make sure that it is in the store; what it holds there."""
        if folder.exists:
            return self._store.iter_ls(folder.remote)
        self._store.mkdir(folder.remote, parents=True, exist_ok=True, mode=folder.mode)
        self._result.directories += 1
        return iter(())

    def _look(self, folder: _Folder, name: str, found: Stat | None, below: list[_Folder]) -> tuple[str, str] | None:
        """One entry: the pair to be sent, if it is a file that must be; a folder is put ``below``."""
        local = os.path.join(folder.local, name)
        try:
            status = self._status(local)
            if status is None:
                return None
            if not stat.S_ISDIR(status.st_mode) and not stat.S_ISREG(status.st_mode):
                self._result.special += 1
                return None
            remote = _remote(folder, name, local)
            if stat.S_ISDIR(status.st_mode):
                below.append(self._folder(folder, local, remote, status, found))
                return None
            return self._file(local, remote, status, found)
        except DSAError as error:
            self._fail(error)
            return None

    def _status(self, local: str) -> os.stat_result | None:
        """What it is; None for a symbolic link that is not followed."""
        try:
            status = os.lstat(local)
            if not stat.S_ISLNK(status.st_mode):
                return status
            if self._follow_links:
                return os.stat(local)
        except OSError as error:
            raise local_error(error, local) from error
        self._result.symlinks += 1
        return None

    def _folder(self, parent: _Folder, local: str, remote: str, status: os.stat_result, found: Stat | None) -> _Folder:
        if found is not None and not found.is_dir:
            raise NotADirectory(f"'{remote}' is a file, and the folder {local} cannot take its name", "", remote)
        if not self._follow_links:
            return _Folder(local, remote, _mode(status), found is not None)
        above = parent.above
        while above is not None:
            if above[0] == _identity(status):
                raise LocalError(f"{local} leads back to a folder that it is in", "leave the link out, or -L", local)
            above = above[1]
        return _Folder(local, remote, _mode(status), found is not None, (_identity(status), parent.above))

    def _file(self, local: str, remote: str, status: os.stat_result, found: Stat | None) -> tuple[str, str] | None:
        if found is not None:
            if found.is_dir:
                raise IsADirectory(f"'{remote}' is a directory, and the file {local} cannot take its name", "", remote)
            if not self._again and is_unchanged(status, found) and has_mode(status, found):
                self._result.left(found.size)
                return None
        return local, remote

    def _fail(self, error: DSAError) -> None:
        if ends_everything(error):
            raise as_final(error)
        self._result.failed += 1
        if self._on_failure is not None:
            self._on_failure(error)


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder), key=byte_order)
    except OSError as error:
        raise local_error(error, folder) from error


def _remote(folder: _Folder, name: str, local: str) -> str:
    try:
        return paths.join(folder.remote, name)
    except Invalid as error:
        raise LocalError(f"{local} cannot be stored: {error.message}", error.remedy, local) from None


def _mode(status: os.stat_result) -> int:
    return stat.S_IMODE(status.st_mode)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
