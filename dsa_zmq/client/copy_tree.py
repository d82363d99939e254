"""A directory of the store to another place in it: no bytes move, each copy is one more reference to the same content."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TYPE_CHECKING

from dsa_zmq.client.merging import OnFailure, TreeResult, beside, ends_everything
from dsa_zmq.errors import Conflict, DSAError, IsADirectory, NotADirectory, NotFound
from dsa_zmq.model import paths
from dsa_zmq.model.stat import Stat

if TYPE_CHECKING:
    from dsa_zmq.client.store import Store

AT_ONCE = 16  #: questions under way: the master answers those that come together in one commit

_Pair = tuple[Stat, str]


def copy_tree(
    store: Store,
    source: str,
    target: str,
    *,
    again: bool = False,
    on_failure: OnFailure | None = None,
    result: TreeResult | None = None,
) -> TreeResult:
    """Make the directory ``target`` hold everything that the directory ``source`` holds; other entries of it stay.

    Files that have the same content, time and mode already are not copied, unless ``again``. Not one moment: what changes
    meanwhile may be copied as it was or as it is.
    """
    top = store.stat(source)
    target = paths.normalize(target)
    if not top.is_dir:
        raise NotADirectory(f"'{top.path}' is a file", "copy it by itself", top.path)
    if f"{target}/".startswith(f"{top.path.rstrip('/')}/"):
        raise Conflict(f"'{top.path}' cannot be copied into itself, to '{target}'", "choose another target", target)
    return _CopyTree(store, again, on_failure, result).run(top, target)


def is_same(entry: Stat, found: Stat) -> bool:
    """A copy would change nothing. (Equal content numbers mean equal bytes.)"""
    return (entry.kind, entry.content, entry.size, entry.mtime_ns, entry.mode) == (
        found.kind, found.content, found.size, found.mtime_ns, found.mode,
    )  # fmt: skip


class _CopyTree:
    def __init__(self, store: Store, again: bool, on_failure: OnFailure | None, result: TreeResult | None) -> None:
        self._store = store
        self._again = again
        self._on_failure = on_failure
        self._result = result if result is not None else TreeResult()

    def run(self, top: Stat, target: str) -> TreeResult:
        try:
            found = self._store.stat(target)
        except NotFound:
            found = None
        if found is not None and not found.is_dir:
            raise NotADirectory(f"'{target}' is a file, and a directory cannot take its name", "", target)
        left = self._pairs(top, target, found is not None)
        pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="copy")
        try:
            running: dict[Future[Stat], _Pair] = {}
            while True:
                for pair in islice(left, 2 * AT_ONCE - len(running)):
                    running[pool.submit(self._copy, pair)] = pair
                if not running:
                    return self._result
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    del running[future]
                    try:
                        self._result.copied(future.result().size)
                    except DSAError as error:
                        self._fail(error)
        finally:
            pool.shutdown(cancel_futures=True)

    def _copy(self, pair: _Pair) -> Stat:
        entry, target = pair
        return self._store.cp(entry.path, target, replace=True)

    def _pairs(self, top: Stat, target: str, exists: bool) -> Iterator[_Pair]:
        """What is to be copied, as it is found."""
        pending = [(top, target, exists)]
        while pending:
            directory, path, exists = pending.pop()
            below: list[tuple[Stat, str, bool]] = []
            try:
                entries = ((entry.name, entry) for entry in self._store.iter_ls(directory.path))
                for name, entry, found in beside(entries, self._made(directory, path, exists)):
                    there = paths.join(path, name)
                    if self._is_blocked(entry, found, there):
                        continue
                    if entry.is_dir:
                        below.append((entry, there, found is not None))
                    elif found is not None and not self._again and is_same(entry, found):
                        self._result.left(entry.size)
                    else:
                        yield entry, there
            except DSAError as error:
                self._fail(error)
            pending.extend(reversed(below))

    def _made(self, directory: Stat, path: str, exists: bool) -> Iterator[Stat]:
        if exists:
            return self._store.iter_ls(path)
        self._store.mkdir(path, parents=True, exist_ok=True, mode=directory.mode)
        self._result.directories += 1
        return iter(())

    def _is_blocked(self, entry: Stat, found: Stat | None, there: str) -> bool:
        """A file is where a directory must go, or the other way round."""
        if found is None or found.kind == entry.kind:
            return False
        if entry.is_dir:
            self._fail(
                NotADirectory(f"'{there}' is a file, and the directory '{entry.path}' cannot take its name", "", there)
            )
        else:
            self._fail(
                IsADirectory(f"'{there}' is a directory, and the file '{entry.path}' cannot take its name", "", there)
            )
        return True

    def _fail(self, error: DSAError) -> None:
        if ends_everything(error):
            raise error
        self._result.failed += 1
        if self._on_failure is not None:
            self._on_failure(error)
