"""Which redundancy new files of a directory get, as the last file made there showed. Pure.

It is a belief: another client may have changed the directory meanwhile. Whoever acts on it has the master check it when the
file is published. Small files may get something else than the others of their directory
(:func:`dsa_zmq.model.redundancy.kept_as`), so what those get is known apart: from a large file one can tell what a small one
gets, but not the other way round.
"""

from __future__ import annotations

from dsa_zmq.model.redundancy import is_small, kept_as
from dsa_zmq.protocol.operations import MakeDirectory, Move, Operation, Remove, SetRedundancy

MAX_DIRECTORIES = 10_000  #: remembered at once, some 2 MB


class _Belief:
    """Directories by path. One that is not known is taken for like the others, as long as those are all alike: nearly all
    clusters have one redundancy."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.common: str | None = None  #: that of all known directories; "" if they differ

    def learn(self, directory: str, redundancy: str) -> None:
        if len(self.known) >= MAX_DIRECTORIES:
            self.forget()
        self.known[directory] = redundancy
        self.common = redundancy if self.common in (None, redundancy) else ""

    def doubt(self, directory: str) -> None:
        self.known.pop(directory, None)
        self.common = ""

    def forget(self) -> None:
        self.known.clear()
        self.common = None


class Inherited:
    """What is believed of small files, and of others. Redundancies are such as this client can read."""

    def __init__(self) -> None:
        self._small = _Belief()
        self._other = _Belief()

    def find(self, path: str, size: int, chunk_bytes: int) -> str:
        """What a new file of this size at ``path`` will get, or "" if nobody can tell."""
        belief = self._small if is_small(size, chunk_bytes) else self._other
        return belief.known.get(path.rpartition("/")[0]) or belief.common or ""

    def learn(self, path: str, redundancy: str, size: int, chunk_bytes: int) -> None:
        """A file was made at ``path`` and got this from its directory; "": it has no content that could have one."""
        directory = path.rpartition("/")[0]
        belief = self._small if is_small(size, chunk_bytes) else self._other
        if not redundancy or belief.known.get(directory) == redundancy:
            return
        belief.learn(directory, redundancy)
        if belief is self._other:
            self._small.learn(directory, kept_as(redundancy, 0, chunk_bytes))

    def doubt(self, path: str) -> None:
        """What was believed of this file's directory may be wrong. Nothing is guessed any more of those that are not known:
        to be wrong costs an upload."""
        for belief in (self._small, self._other):
            belief.doubt(path.rpartition("/")[0])

    def forget(self) -> None:
        """Nothing is believed any more."""
        self._small.forget()
        self._other.forget()

    def follow(self, operation: Operation) -> None:
        """This client changes directories itself."""
        changes = isinstance(operation, Move | SetRedundancy)
        changes |= isinstance(operation, MakeDirectory) and bool(operation.redundancy)
        changes |= isinstance(operation, Remove) and operation.recursive
        if changes:
            self.forget()
