"""Which redundancy new files of a directory get, as the catalog last said. Pure.

Most allocations are of new files in a directory where files were made a moment ago. With this the master answers them in
the turn in which they come, without a question to the catalog. What is remembered is forgotten as a whole when any
operation that may change a directory begins, and again when it ends: the catalog answers in the order of its decisions, so
nothing that it said before such a change is believed after it.
"""

from __future__ import annotations

from dsa_zmq.model.paths import parts
from dsa_zmq.protocol.operations import Allocate, MakeDirectory, Move, Operation, Remove, SetRedundancy

MAX_DIRECTORIES = 10_000  #: remembered at once, some 2 MB

CHANGES_DIRECTORIES = (MakeDirectory, Move, Remove, SetRedundancy)


class Inherited:
    """Directories by the names of their paths. They need not exist: parents are made with what they inherit."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], str] = {}

    def find(self, asked: Allocate) -> str | None:
        """For a small upload without conditions that its path would have to be looked at for. A large one is worth the look:
        if its path cannot be written to, it ends before its bytes travel. Raises Invalid for a path that can be none."""
        if asked.upload or asked.redundancy or asked.if_absent or asked.if_version or len(asked.lengths) > 1:
            return None
        return self._known.get(parts(asked.path)[:-1])

    def learn(self, asked: Allocate, redundancy: str) -> None:
        """The catalog's answer to this allocation."""
        if not asked.upload and not asked.redundancy:
            if len(self._known) >= MAX_DIRECTORIES:
                self._known.clear()
            self._known[parts(asked.path)[:-1]] = redundancy

    def follow(self, operation: Operation) -> None:
        """This operation begins, or has ended."""
        if isinstance(operation, CHANGES_DIRECTORIES):
            self._known.clear()
