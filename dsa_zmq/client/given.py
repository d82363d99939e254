"""What a program hands in, looked at before it goes further: a slip is told as :class:`Invalid`, with what was given and
what was expected, and not by whatever would stumble over it inside."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import Any

from dsa_zmq.errors import Invalid, IsADirectory
from dsa_zmq.model import paths
from dsa_zmq.model.redundancy import parse_redundancy

MAX_NUMBER = (1 << 63) - 1  #: of numbers in messages and in the catalog


def file_target(call: str, path: object) -> None:
    """The path in the store of a call that takes a source or a target on this side, too: the two are easily swapped."""
    if not isinstance(path, str):
        right = "put(source, '/in/the/store')" if call == "put" else "get('/in/the/store', target)"
        raise Invalid(f"{call} was given {kind_of(path)} as the path in the store, not text", f"call it as {right}")


def file_path(path: str) -> str:
    """The normal form of a path that is to name a file."""
    normal = paths.normalize(path)
    if normal == paths.ROOT:
        raise IsADirectory("/ is a directory", "name a file in it", normal)
    return normal


def pairs(call: str, items: Any) -> Iterator[Any]:
    """The items of a call for many files."""
    try:
        return iter(items)
    except TypeError:
        raise Invalid(f"{call} was given {kind_of(items)}, not pairs", f"give pairs of {_pair(call)}") from None


def pair(call: str, item: Any) -> tuple[Any, str]:
    """One of those items: its source or target, and the normal form of its path in the store."""
    if isinstance(item, str | bytes) or not isinstance(item, Iterable):
        raise Invalid(f"{call} was given {kind_of(item)} as one of its pairs", f"give pairs of {_pair(call)}")
    both = tuple(item)
    if len(both) != 2:
        raise Invalid(f"{call} was given {len(both)} things as one of its pairs", f"give pairs of {_pair(call)}")
    here, path = both if call == "put_many" else (both[1], both[0])
    if not isinstance(path, str):
        problem = f"{call} was given {kind_of(path)} as the path in the store of one of its pairs, not text"
        raise Invalid(problem, f"give pairs of {_pair(call)}")
    return here, paths.normalize(path)


def _pair(call: str) -> str:
    return "(source, path in the store)" if call == "put_many" else "(path in the store, target)"


def writable(target: Any, path: str) -> None:
    """An open binary file as a target."""
    if not hasattr(target, "write"):
        raise Invalid(
            f"{kind_of(target)} cannot be the target of {path}", "give the path of a local file, or a binary file"
        )


def piece(given: Any) -> memoryview | bytes:
    """A piece of a source, as its bytes, whatever they are the bytes of; a copy only if they do not lie side by side."""
    if isinstance(given, bytes):
        return given
    try:
        view = memoryview(given)
    except TypeError:
        raise Invalid(f"{kind_of(given)} is no piece of a file", "give bytes, or an iterable of bytes") from None
    if not view.nbytes:
        return b""
    return view.cast("B") if view.c_contiguous else view.tobytes()


def number(name: str, value: object) -> int:
    """It as a plain number; :class:`Invalid` if it is no whole number."""
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise Invalid(f"{name} is {kind_of(value)}, not a number", "give a whole number") from None


def number_within(name: str, value: object, most: int) -> int:
    """It as a plain number; :class:`Invalid` for what is no number, or none that a message can carry."""
    whole = number(name, value)
    if not 0 <= whole <= most:
        raise Invalid(f"{name} {whole} is not possible", f"give a number from 0 to {most}")
    return whole


def byte_range(start: int, stop: int | None) -> tuple[int, int | None]:
    """The bytes ``[start, stop)`` of a file."""
    first, end = number("start", start), None if stop is None else number("stop", stop)
    if first < 0 or (end is not None and end < 0):
        raise Invalid(f"range [{first}, {end}) is negative", "count from the start of the file")
    return first, end


def text(name: str, value: str) -> str:
    """Itself; :class:`Invalid` for what is no text."""
    if not isinstance(value, str):
        raise Invalid(f"{name} is {kind_of(value)}, not text", "give text, or leave it out")
    return value


def redundancy(value: str) -> str:
    """Itself; :class:`Invalid` for what is neither a redundancy nor empty, which stands for the directory's."""
    return parse_redundancy(text("redundancy", value)).name if value else ""


def kind_of(given: object) -> str:
    """What it is, for people: ``None``, ``a list``, ``bytes``."""
    kind = type(given).__name__
    if given is None or kind in ("bytes", "int"):
        return "None" if given is None else "a number" if kind == "int" else kind
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
