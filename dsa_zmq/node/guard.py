"""The lock of a store's index and counts."""

from __future__ import annotations

import threading
from types import TracebackType

import apsw

from dsa_zmq.errors import Unavailable
from dsa_zmq.node.failure import Failure


class Guard:
    """A block that has the index and all counts for itself, in a store that is open. It never covers reads or writes of
    segments. Errors of the index fail the store.

    May be entered again by the thread that is in it. A class, since a generator would cost each get and put a microsecond
    more.
    """

    def __init__(self, failed: Failure) -> None:
        self.lock = threading.RLock()
        self.closed = False
        self._failed = failed

    def __enter__(self) -> None:
        self.lock.acquire()
        if self.closed:
            self.lock.release()
            raise Unavailable("the store is closed")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if isinstance(error, apsw.Error):
                self._failed.of_index(error)
                raise self._failed.error() from error
        finally:
            self.lock.release()
