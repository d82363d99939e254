"""Which redundancy new files of a directory get, as the last file made there showed. Pure.

It is a belief: another client may have changed the directory meanwhile. Whoever acts on it has the master check it when the
file is published.
"""

from __future__ import annotations

from dsa_zmq.protocol.operations import MakeDirectory, Move, Operation, Remove, SetRedundancy

MAX_DIRECTORIES = 10_000  #: remembered at once, some 2 MB


class Inherited:
    """Directories by path. One that is not known is taken for like the others, as long as those are all alike: nearly all
    clusters have one redundancy."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._common: str | None = None  #: that of all known directories; "" if they differ

    def find(self, path: str) -> str:
        """What a new file at ``path`` will get, or "" if nobody can tell."""
        return self._known.get(path.rpartition("/")[0]) or self._common or ""

    def learn(self, path: str, redundancy: str) -> None:
        """A file was made at ``path`` and got this from its directory."""
        directory = path.rpartition("/")[0]
        if self._known.get(directory) == redundancy:
            return
        if len(self._known) >= MAX_DIRECTORIES:
            self.forget()
        self._known[directory] = redundancy
        self._common = redundancy if self._common in (None, redundancy) else ""

    def doubt(self, path: str) -> None:
        """What was believed of this file's directory may be wrong. Nothing is guessed any more of those that are not known:
        to be wrong costs an upload."""
        self._known.pop(path.rpartition("/")[0], None)
        self._common = ""

    def forget(self) -> None:
        """Nothing is believed any more."""
        self._known.clear()
        self._common = None

    def follow(self, operation: Operation) -> None:
        """This client changes directories itself."""
        changes = isinstance(operation, Move | SetRedundancy)
        changes |= isinstance(operation, MakeDirectory) and bool(operation.redundancy)
        changes |= isinstance(operation, Remove) and operation.recursive
        if changes:
            self.forget()
