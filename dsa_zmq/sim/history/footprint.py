"""Which names an operation minds: those that have none in common may be told in either order.

A name is one bit. What an operation *minds* decides its answer, or is changed by it. The directories above what it minds are
its *way*: no file may lie there, and a directory that is missing is made. Two operations that meet only on their ways do the
same in either order, for both find a file there, or neither does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dsa_zmq.sim.history.operation import Operation
from dsa_zmq.sim.tree import Action, Copy, List, MakeDirectory, Move, Remove


@dataclass(frozen=True, slots=True)
class Footprint:
    """As bits of :class:`Names`."""

    minds: int
    way: int
    changes: bool  #: whether it may change what it minds

    def meets(self, other: Footprint) -> bool:
        """Whether the order of the two may matter."""
        if not (self.changes or other.changes):
            return False
        return bool(self.minds & (other.minds | other.way) or self.way & other.minds)


def named(action: Action) -> list[str]:
    """The paths that an action names."""
    if isinstance(action, Move | Copy):
        return [action.source, action.target]
    return [action.path]


def above(path: str) -> list[str]:
    """The directories above a path, from the top, without the root."""
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(2, len(parts))]


def parent(path: str) -> str:
    """The directory that it is in."""
    return path.rpartition("/")[0] or "/"


def is_within(path: str, directory: str) -> bool:
    """Whether it is this directory, or anywhere below it."""
    return path == directory or directory == "/" or path.startswith(f"{directory}/")


class Names:
    """All names of a history, with their bits. Names that only a move has made, and nobody has named, have none; whoever
    minds them minds a directory above."""

    def __init__(self, operations: Iterable[Operation], paths: Iterable[str]) -> None:
        found: dict[str, None] = {"/": None}
        for path in [path for operation in operations for path in named(operation.action)] + list(paths):
            found.update(dict.fromkeys(above(path)))
            found[path] = None
        self.bits = {path: 1 << number for number, path in enumerate(found)}
        self.paths = list(found)
        self._children: dict[str, int] = {}
        self._subtrees: dict[str, int] = {}
        for path, bit in self.bits.items():
            if path != "/":
                self._children[parent(path)] = self._children.get(parent(path), 0) | bit
            for directory in {"/", path, *above(path)}:
                self._subtrees[directory] = self._subtrees.get(directory, 0) | bit
        self._known: dict[tuple[Action, bool], Footprint] = {}

    def footprint(self, operation: Operation) -> Footprint:
        """Of an operation of this history."""
        key = operation.action, operation.changes
        if key not in self._known:
            self._known[key] = self._footprint(*key)
        return self._known[key]

    def _footprint(self, action: Action, changes: bool) -> Footprint:
        minds = 0
        for path in named(action):
            match action:
                case Remove() | Move():
                    minds |= self._subtrees[path]
                case List():
                    minds |= self.bits[path] | self._children.get(path, 0)
                case MakeDirectory():  # its parent has to be there; the root always is
                    minds |= self.bits[path] | (self.bits[parent(path)] if parent(path) != "/" else 0)
                case _:
                    minds |= self.bits[path]
        way = sum({self.bits[directory] for path in named(action) for directory in above(path)})
        return Footprint(minds, way & ~minds, changes)

    def of(self, mask: int) -> list[str]:
        """The names of these bits."""
        found = []
        while mask:
            low = mask & -mask
            found.append(self.paths[low.bit_length() - 1])
            mask ^= low
        return found

    def bit(self, path: str) -> int:
        """Of a path, or of the nearest directory above it that has one."""
        while path not in self.bits:
            path = parent(path)
        return self.bits[path]
