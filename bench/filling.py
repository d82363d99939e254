"""Filling a store with files of random bytes, and what they take on the disks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from dsa_zmq.client.store import Store
from dsa_zmq.errors import DSAError

FOLDERS = 20  #: that the files are spread over


def name_of(folder: str, number: int) -> str:
    """The path of one of them."""
    return f"{folder}/{number % FOLDERS}/{number}"


def fill(store: Store, folders: str | Sequence[str], count: int, size: int) -> int:
    """So many files of that size, in bulk, by turns in each of the folders. Returns the bytes stored; raises what a single
    one raised."""
    among = [folders] if isinstance(folders, str) else folders
    names = (name_of(among[number % len(among)], number // len(among)) for number in range(count))
    for outcome in store.put_many((os.urandom(size), name) for name in names):
        if isinstance(outcome, DSAError):
            raise outcome
    return count * size


def disk_bytes(files: Iterable[Path]) -> int:
    """What these files really take."""
    return sum(path.stat().st_blocks * 512 for path in files)


def forget(files: Iterable[Path]) -> None:
    """Have the page cache let go of what these files hold, as far as it is on the disk."""
    for path in files:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def files_below(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]
