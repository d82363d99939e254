"""How another thread ends the wait of a blocking operation: the waiting thread is in a scope, and the scope is cancelled.

A ticket registers itself with the scope of its thread when it begins to wait. Cancelling the scope finishes the ticket with
:class:`Cancelled`, so that the waiting thread comes back at once, gives its transfer up as after Ctrl-C, and leaves.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Protocol


class Cancelled(BaseException):
    """Raised in a thread whose scope was cancelled. Not an error: like KeyboardInterrupt, it must pass every handler."""


class Cancellable(Protocol):
    def cancel(self) -> None:
        """Make the waiting thread raise :class:`Cancelled`. Called from another thread."""
        ...


class Scope:
    """A ``with`` block of one thread whose waits another thread may end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: Cancellable | None = None
        self._cancelled = False
        self._outer: Scope | None = None

    def __enter__(self) -> Scope:
        """:class:`Cancelled` if it was cancelled before it began."""
        if self._cancelled:
            raise Cancelled
        self._outer = getattr(_current, "scope", None)
        _current.scope = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.scope = self._outer

    def cancel(self) -> None:
        """End the present wait and all later ones."""
        with self._lock:
            self._cancelled = True
            waiting = self._waiting
        if waiting is not None:
            waiting.cancel()

    def begin(self, waiting: Cancellable) -> None:
        """This thread begins to wait. :class:`Cancelled` if it should not."""
        with self._lock:
            if self._cancelled:
                raise Cancelled
            self._waiting = waiting

    def end(self) -> None:
        """It waits no more."""
        with self._lock:
            self._waiting = None


_current = threading.local()


def current_scope() -> Scope | None:
    """The scope of the calling thread."""
    scope: Scope | None = getattr(_current, "scope", None)
    return scope
