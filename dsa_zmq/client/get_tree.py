"""A directory of the store onto this machine: listed while it is fetched, compared with what is there, merged.

Memory does not depend on the number of files: at each moment the directories waiting beside the way down, the transfers
under way, and the folders that these are for.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from dsa_zmq.client.local_file import local_error
from dsa_zmq.client.merging import HAS_MODES, OnFailure, TreeResult, as_final, ends_everything, has_mode, is_unchanged
from dsa_zmq.client.sending import Progress
from dsa_zmq.errors import DSAError, LocalError, NotADirectory, Unavailable
from dsa_zmq.errors import Timeout as DSATimeout
from dsa_zmq.model import paths
from dsa_zmq.model.stat import Stat

if TYPE_CHECKING:
    from dsa_zmq.client.store import Store

_NOT_ON_WINDOWS = frozenset('<>:"/\\|?*') | {chr(code) for code in range(32)}


class _Folder:
    """A directory on its way here. It gets its mode and time when everything below has arrived, and only if it is new:
    files could not be written into one that is read-only, and each would change its time."""

    __slots__ = ("_open", "_parent", "_stat", "local", "remote")

    def __init__(self, stat: Stat, local: str, parent: _Folder | None) -> None:
        self.remote = stat.path
        self.local = local
        self._stat: Stat | None = stat
        self._parent = parent
        self._open = 1
        if parent is not None:
            parent._open += 1

    def keep(self) -> None:
        """It was there before, and is the user's as it is."""
        self._stat = None

    def expect(self) -> None:
        """One more thing below is on its way."""
        self._open += 1

    def arrived(self) -> None:
        """One thing below has arrived, or will not."""
        self._open -= 1
        if self._open:
            return
        if self._stat is not None:
            with suppress(OSError):  # a file system without modes or times: the files are what matters
                os.chmod(self.local, self._stat.mode & 0o777)
                os.utime(self.local, ns=(self._stat.mtime_ns, self._stat.mtime_ns))
        if self._parent is not None:
            self._parent.arrived()


def get_tree(
    store: Store,
    source: str,
    target: str | os.PathLike[str],
    *,
    again: bool = False,
    progress: Progress = None,
    on_failure: OnFailure | None = None,
    result: TreeResult | None = None,
) -> TreeResult:
    """Make the local folder ``target`` hold everything that the directory ``source`` holds; other entries of it stay.

    As :func:`dsa_zmq.client.put_tree.put_tree`, the other way. Each file appears whole or not at all. What cannot be read
    from the nodes is handed to ``on_failure`` as long as the master answers; so are names that this machine refuses.
    """
    found = store.stat(source)
    if not found.is_dir:
        raise NotADirectory(f"'{found.path}' is a file", "get it by itself", found.path)
    return _GetTree(store, again, progress, on_failure, result).run(found, os.fspath(target))


class _GetTree:
    def __init__(
        self,
        store: Store,
        again: bool,
        progress: Progress,
        on_failure: OnFailure | None,
        result: TreeResult | None,
    ) -> None:
        self._store = store
        self._again = again
        self._progress = progress
        self._on_failure = on_failure
        self._result = result if result is not None else TreeResult()
        self._under_way: dict[int, _Folder] = {}  # number of the transfer -> what it is for
        self._final: DSAError | None = None  # what ends everything, on its way out

    def run(self, source: Stat, target: str) -> TreeResult:
        try:
            os.makedirs(os.path.dirname(os.path.abspath(target)), exist_ok=True)
        except OSError as error:
            raise as_final(_caused(error, target)) from error
        pairs = self._pairs(_Folder(source, target, None))
        with closing(self._store.iter_get_many(pairs, progress=self._progress)) as ended:
            for number, outcome in ended:
                if isinstance(outcome, DSAError):
                    self._fail(outcome)
                else:
                    self._result.copied(outcome.size)
                self._under_way.pop(number).arrived()
        return self._result

    # --- the walk ----------------------------------------------------------------------------------------------------

    def _pairs(self, top: _Folder) -> Iterator[tuple[str, str]]:
        """What is to be fetched, as it is found."""
        number = 0
        pending = [top]
        while pending:
            folder = pending.pop()
            below: list[_Folder] = []
            try:
                self._make(folder)
                for entry in self._store.iter_ls(folder.remote):
                    local = self._look(folder, entry, below)
                    if local is not None:
                        folder.expect()
                        self._under_way[number] = folder
                        number += 1
                        yield entry.path, local
            except DSAError as error:
                self._fail(error)
            folder.arrived()
            pending.extend(reversed(below))

    def _make(self, folder: _Folder) -> None:
        try:
            os.mkdir(folder.local, 0o700)
            self._result.directories += 1
        except FileExistsError:
            folder.keep()
            if not os.path.isdir(folder.local):
                raise LocalError(
                    f"{folder.local} is a file, and the directory '{folder.remote}' cannot take its name",
                    "move it away",
                    folder.local,
                ) from None
        except OSError as error:
            folder.keep()
            raise _caused(error, folder.local) from error

    def _look(self, folder: _Folder, entry: Stat, below: list[_Folder]) -> str | None:
        """One entry: the local path if it is a file that must be fetched; a directory is put ``below``."""
        try:
            local = os.path.join(folder.local, _local_name(entry))
            if entry.is_dir:
                below.append(_Folder(entry, local, folder))
                return None
            if self._again or not is_here(entry, local):
                return local
            self._result.left(entry.size)
            return None
        except DSAError as error:
            self._fail(error)
            return None

    def _fail(self, error: DSAError) -> None:
        if error is self._final:
            raise error
        if isinstance(error, Unavailable | DSATimeout):
            self._see_whether_master_answers()
        elif ends_everything(error):
            self._final = as_final(error)
            raise self._final
        self._result.failed += 1
        if self._on_failure is not None:
            self._on_failure(error)

    def _see_whether_master_answers(self) -> None:
        """A file whose nodes are silent fails alone; without the master all would, one time-out after the other."""
        try:
            self._store.stat(paths.ROOT)
        except DSAError as error:
            self._final = error
            raise


def is_here(entry: Stat, local: str) -> bool:
    """The local file is as the one in the store: same size and time. A wrong mode is put right."""
    try:
        status = os.lstat(local)
        if not stat.S_ISREG(status.st_mode) or not is_unchanged(status, entry):
            return False
        if not has_mode(status, entry):
            os.chmod(local, entry.mode & 0o777)
    except OSError:
        return False  # not there, or not to be touched: the transfer finds out, and says so
    return True


def _local_name(entry: Stat) -> str:
    """The entry's name, if this machine can have it, and it stays one name here."""
    name = entry.name
    if not HAS_MODES and (_NOT_ON_WINDOWS & set(name) or name.endswith((".", " "))):
        raise LocalError(f"'{entry.path}' cannot be kept here: Windows has no such names", "rename it", entry.path)
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        raise LocalError(
            f"'{entry.path}' cannot be kept here: its name does not exist in this machine's encoding",
            "use a UTF-8 locale",
            entry.path,
        ) from None
    return name


def _caused(error: OSError, path: str) -> DSAError:
    made = local_error(error, path)
    made.__cause__ = error
    return made
