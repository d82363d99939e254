"""Where salvage keeps what it needs only while it runs: maps, a catalog made anew, and a file on its way.

That is a directory inside the target: there is room, and a finished file can be renamed to its place. A killed process
leaves it behind; the next one empties it first.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import apsw

from dsa_zmq.directory import LOCK, MARKER, DataDirectory, open_directory, unusable

NAME = ".dsa-salvage"
CACHE_KIB = 32_768  #: of a map in memory: the inner nodes of hundreds of millions of rows


class Scratch:
    """A directory for one run. Use it in a ``with`` block: it is removed at its end."""

    def __init__(self, target: Path | None) -> None:
        """Inside ``target``, which is made if it is missing; without one where the system keeps such things."""
        self._target = target
        self._held: DataDirectory | None = None
        self.path = Path()

    def __enter__(self) -> Self:
        """ConfigError if it cannot be used, or if another process uses it."""
        if self._target is None:
            self.path = Path(tempfile.mkdtemp(prefix="dsa-salvage-"))
            return self
        self._held = open_directory(self._target / NAME, "salvage")
        self.path = self._held.path
        try:
            for name in set(os.listdir(self.path)) - {LOCK, MARKER}:  # of a process that was killed
                (self.path / name).unlink()
        except OSError as error:
            self._held.close()
            raise unusable(self.path, error) from error
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        if self._held is not None:
            self._held.close()

    def database(self, name: str) -> apsw.Connection:
        """A new SQLite file that need not survive anything: what is in it can be had again."""
        connection = apsw.Connection(str(self.path / name))
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        return connection
