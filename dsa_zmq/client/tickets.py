"""How a caller's thread waits for the client's actor. Thread-safe; a ticket is used for one call."""

from __future__ import annotations

import enum
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dsa_zmq.client.cancelling import Cancelled, current_scope
from dsa_zmq.errors import DSAError, InternalError
from dsa_zmq.protocol.values import Attributes

POLL_S = 1.0  #: how often a waiting thread looks whether the actor still lives (and, on Windows, hears Ctrl-C)


class Waiter:
    """Waits for one result. Bytes that are delivered on the way are collected in ``parts``."""

    __slots__ = ("_cancelled", "_lock", "_progress", "_raised", "_result", "parts")

    def __init__(self, progress: Callable[[int], object] | None = None) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._cancelled = False
        self._result: Any = None
        self._progress = progress
        self._raised: BaseException | None = None  # by the caller's own progress function
        self.parts: list[memoryview | bytes] = []

    def finish(self, result: Any) -> None:
        self._result = result
        self._release()

    def wake(self) -> None:
        self._cancelled = True
        self._release()

    def _release(self) -> None:
        with suppress(RuntimeError):  # released already: the end and a cancellation came together
            self._lock.release()

    def deliver(self, data: memoryview | bytes) -> None:
        self.parts.append(data)

    def progress(self, size: int) -> None:
        if self._progress is None:
            return
        try:
            self._progress(size)
        except BaseException as error:  # noqa: BLE001 - the caller's own: it is raised there, and not in the actor
            self._progress, self._raised = None, error
            self._release()

    def want(self, until: int) -> None:
        """A whole source needs no asking."""

    def described(self, attributes: Attributes) -> None:
        """Nothing to prepare."""

    def wait(self, alive: Callable[[], bool]) -> Any:
        """The result; raises it if it is an error. InternalError if the actor died, Cancelled if this thread's scope was
        cancelled, and whatever the progress function raised."""
        scope = current_scope()
        if scope is None:
            self._wait(alive)
        else:
            scope.begin(self)
            try:
                self._wait(alive)
            finally:
                scope.end()
            if self._cancelled:
                raise Cancelled
        if self._raised is not None:
            raise self._raised
        if isinstance(self._result, DSAError):
            raise self._result
        return self._result

    def _wait(self, alive: Callable[[], bool]) -> None:
        while not self._lock.acquire(timeout=POLL_S):
            if not alive() and not self._lock.acquire(timeout=POLL_S):
                raise dead()


class Event(enum.Enum):
    """What a :class:`Stream` hears."""

    WANT = "want"
    DATA = "data"
    DESCRIBED = "described"
    END = "end"
    CANCELLED = "cancelled"
    RAISED = "raised"


class Stream:
    """A queue of events for a thread that works along with the transfer. ``sink``: a queue shared with other streams."""

    __slots__ = ("_progress", "_sink", "key")

    def __init__(
        self,
        key: Any = None,
        sink: queue.SimpleQueue[tuple[Any, Event, Any]] | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        self.key = key
        self._sink = sink or queue.SimpleQueue()
        self._progress = progress

    def finish(self, result: Any) -> None:
        self._sink.put((self.key, Event.END, result))

    def deliver(self, data: memoryview | bytes) -> None:
        self._sink.put((self.key, Event.DATA, data))

    def described(self, attributes: Attributes) -> None:
        self._sink.put((self.key, Event.DESCRIBED, attributes))

    def want(self, until: int) -> None:
        self._sink.put((self.key, Event.WANT, until))

    def progress(self, size: int) -> None:
        if self._progress is None:
            return
        try:
            self._progress(size)
        except BaseException as error:  # noqa: BLE001 - as for Waiter
            self._progress = None
            self._sink.put((self.key, Event.RAISED, error))

    def next(self, alive: Callable[[], bool]) -> tuple[Event, Any]:
        """The next event; raises the result of the end if it is an error."""
        _, event, value = next_event(self._sink, alive)
        if event is Event.END and isinstance(value, DSAError):
            raise value
        return event, value

    def poll(self) -> tuple[Event, Any] | None:
        """As :meth:`next` without waiting."""
        try:
            _, event, value = self._sink.get_nowait()
        except queue.Empty:
            return None
        if event is Event.RAISED:
            raise value
        if event is Event.END and isinstance(value, DSAError):
            raise value
        return event, value


Sink = queue.SimpleQueue[tuple[Any, Event, Any]]


class _Waker:
    """Wakes a thread that waits at a queue."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def wake(self) -> None:
        self._sink.put((None, Event.CANCELLED, None))


def next_event(sink: Sink, alive: Callable[[], bool]) -> tuple[Any, Event, Any]:
    """Wait for the next event of any stream of a queue; Raises what a Waiter raises,
    other than results."""
    scope = current_scope()
    if scope is None:
        return _next_event(sink, alive)
    scope.begin(_Waker(sink))
    try:
        event = _next_event(sink, alive)
    finally:
        scope.end()
    if event[1] is Event.CANCELLED:
        raise Cancelled
    return event


def _next_event(sink: Sink, alive: Callable[[], bool]) -> tuple[Any, Event, Any]:
    while True:
        try:
            told = sink.get(timeout=POLL_S)
        except queue.Empty:
            if not alive() and sink.empty():
                raise dead() from None
            continue
        if told[1] is Event.RAISED:
            raise told[2]
        return told


def dead() -> DSAError:
    return InternalError("the client's own thread has ended", "see the log, and report this as a bug")
