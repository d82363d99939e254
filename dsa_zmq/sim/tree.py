"""What a store means: the tree of names as a plain value, and what each operation does to it.

A file's content is named by its size in bytes, for in a simulated world no two contents have the same size. That is all
there is to a correct store; everything else is there because machines fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

DIRECTORY = -1  #: instead of a file's size

Tree: TypeAlias = Mapping[str, int]
"""Path -> size of the file, or DIRECTORY. The root is not in it. Never changed, only replaced."""

EMPTY: Tree = {}


class Failed(Exception):
    """The operation is refused with this error code, and has no effect."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Put:
    path: str
    size: int
    if_absent: bool = False


@dataclass(frozen=True, slots=True)
class Remove:
    path: str
    recursive: bool = False


@dataclass(frozen=True, slots=True)
class Move:
    source: str
    target: str
    replace: bool = False


@dataclass(frozen=True, slots=True)
class Copy:
    source: str
    target: str
    replace: bool = False


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    path: str


@dataclass(frozen=True, slots=True)
class Look:
    """Get or stat: answers the size, or DIRECTORY."""

    path: str


@dataclass(frozen=True, slots=True)
class Read:
    """Get the bytes ``[start, stop)`` (None: to the end): answers the size of the whole content that they are of."""

    path: str
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True, slots=True)
class List:
    """Answers the sorted pairs (name, size or DIRECTORY) in a directory."""

    path: str


Action: TypeAlias = Put | Remove | Move | Copy | MakeDirectory | Look | Read | List
READS = (Look, Read, List)


def apply(tree: Tree, action: Action) -> tuple[Any, Tree]:
    """The answer and the tree afterwards. Raises :class:`Failed`."""
    match action:
        case Look(path):
            return _find(tree, path), tree
        case Read(path):
            size = _find(tree, path)
            if size == DIRECTORY:
                raise Failed("is-a-directory")
            return size, tree
        case List(path):
            return _children(tree, path), tree
        case Put(path, size, if_absent):
            return None, _write(tree, path, size, if_absent)
        case Remove(path, recursive):
            if _find(tree, path) == DIRECTORY and not recursive and _children(tree, path):
                raise Failed("not-empty")
            return None, {at: size for at, size in tree.items() if at != path and not at.startswith(f"{path}/")}
        case Move(source, target, replace):
            return None, _move(tree, source, target, replace)
        case Copy(source, target, replace):
            size = _find(tree, source)
            if size == DIRECTORY:
                raise Failed("is-a-directory")
            if source == target:
                _write(tree, target, size, not replace)
                return None, tree
            return None, _write(tree, target, size, not replace)
        case MakeDirectory(path):
            if path in tree:
                raise Failed("already-exists")
            _check_above(tree, path)
            if "/" in path[1:] and path.rpartition("/")[0] not in tree:
                raise Failed("not-found")
            return None, {**tree, path: DIRECTORY}


def _above(path: str) -> list[str]:
    """The directories above a path, from the top."""
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(2, len(parts))]


def _check_above(tree: Tree, path: str) -> None:
    if any(tree.get(directory, DIRECTORY) != DIRECTORY for directory in _above(path)):
        raise Failed("not-a-directory")


def _find(tree: Tree, path: str) -> int:
    if path == "/":
        return DIRECTORY
    _check_above(tree, path)
    if path not in tree:
        raise Failed("not-found")
    return tree[path]


def _children(tree: Tree, path: str) -> tuple[tuple[str, int], ...]:
    if _find(tree, path) != DIRECTORY:
        raise Failed("not-a-directory")
    prefix = "/" if path == "/" else f"{path}/"
    below = [(at[len(prefix) :], size) for at, size in tree.items() if at.startswith(prefix)]
    return tuple(sorted((name, size) for name, size in below if "/" not in name))


def _with_parents(tree: Tree, path: str) -> dict[str, int]:
    return {**dict.fromkeys(_above(path), DIRECTORY), **tree}


def _write(tree: Tree, path: str, size: int, if_absent: bool) -> Tree:
    _check_above(tree, path)
    if tree.get(path) == DIRECTORY:
        raise Failed("is-a-directory")
    if if_absent and path in tree:
        raise Failed("already-exists")
    return {**_with_parents(tree, path), path: size}


def _move(tree: Tree, source: str, target: str, replace: bool) -> Tree:
    kind = _find(tree, source)
    if source == target:
        return tree
    if target.startswith(f"{source}/"):
        raise Failed("conflict")
    _check_above(tree, target)
    there = tree.get(target)
    if there is not None:
        if there == DIRECTORY:
            raise Failed("already-exists" if kind == DIRECTORY else "is-a-directory")
        if not replace:
            raise Failed("already-exists")
        if kind == DIRECTORY:
            raise Failed("not-a-directory")
    moved = {at: size for at, size in tree.items() if at != source and not at.startswith(f"{source}/")}
    moved = _with_parents(moved, target)
    for at, size in tree.items():
        if at == source or at.startswith(f"{source}/"):
            moved[target + at[len(source) :]] = size
    return moved
