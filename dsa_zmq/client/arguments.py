"""What callers hand in, checked and in its normal form."""

from __future__ import annotations

from dsa_zmq.errors import Invalid, IsADirectory
from dsa_zmq.model import paths


def file_path(path: str) -> str:
    """The normal form of a path that is to name a file."""
    normal = paths.normalize(path)
    if normal == paths.ROOT:
        raise IsADirectory("/ is a directory", "name a file in it", normal)
    return normal


def byte_range(start: int, stop: int | None) -> tuple[int, int | None]:
    if start < 0 or (stop is not None and stop < 0):
        raise Invalid(f"range [{start}, {stop}) is negative", "count from the start of the file")
    return start, stop
