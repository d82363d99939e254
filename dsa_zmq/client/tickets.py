"""How a caller's thread waits for the client's actor. Thread-safe; a ticket is used for one call."""

from __future__ import annotations

import copy
import enum
import queue
import threading
from collections.abc import Callable
from typing import Any

from actors.core import Handle
from dsa_zmq.client.cancelling import Cancelled, current_scope
from dsa_zmq.client.chain import Chain
from dsa_zmq.errors import DSAError, InternalError
from dsa_zmq.protocol.values import Attributes

POLL_S = 1.0  #: how often a waiting thread looks whether the actor still lives (and, on Windows, hears Ctrl-C)


_NOTHING = object()


class Waiter:
    """Waits for one result. Bytes that are delivered on the way are collected in ``parts``."""

    __slots__ = ("_cancelled", "_chain", "_left", "_lock", "_progress", "_raised", "_result", "parts")

    def __init__(self, progress: Callable[[int], object] | None = None) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._cancelled = False
        self._result: Any = _NOTHING
        self._progress = progress
        self._raised: BaseException | None = None  # by the caller's own progress function
        self._chain: Chain | None = None
        self._left = False
        self.parts: list[memoryview | bytes] = []

    def finish(self, result: Any) -> Waiter:
        self._result = result
        return self

    def join(self, chain: Chain) -> None:
        self._chain = chain

    def wake(self) -> bool:
        self._release()
        return not self._left

    def cancel(self) -> None:
        self._cancelled = True
        self._release()

    def _release(self) -> None:
        try:
            self._lock.release()
        except RuntimeError:  # released already: the end and a cancellation came together
            return

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

    def wait(self, actor: Handle) -> Any:
        """The result; raises it if it is an error. InternalError if the actor died, Cancelled if this thread's scope was
        cancelled, and whatever the progress function raised."""
        scope = current_scope()
        if scope is None:
            self._wait(actor)
        else:
            scope.begin(self)
            try:
                self._wait(actor)
            finally:
                scope.end()
            if self._cancelled:
                raise Cancelled
        if self._raised is not None:
            raise self._raised
        result = self._result
        if isinstance(result, DSAError):
            raise own(result)
        return result

    def _wait(self, actor: Handle) -> None:
        try:
            while not self._lock.acquire(timeout=POLL_S):
                if self._result is not _NOTHING:
                    return  # whoever was to wake this thread was hit by Ctrl-C at that very moment
                if not _lives(actor):
                    if self._lock.acquire(timeout=POLL_S):  # its last turn was just ending
                        return
                    raise dead()
        finally:
            self._left = True  # first: see Sleeper.wake
            if self._chain is not None:
                self._chain.wake_next()


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
        self._sink.put((self.key, Event.END, own(result) if isinstance(result, DSAError) else result))

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

    def next(self, actor: Handle) -> tuple[Event, Any]:
        """The next event; raises the result of the end if it is an error."""
        _, event, value = next_event(self._sink, actor)
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

    def cancel(self) -> None:
        self._sink.put((None, Event.CANCELLED, None))


def next_event(sink: Sink, actor: Handle) -> tuple[Any, Event, Any]:
    """Wait for the next event of any stream of a queue; Raises what a Waiter raises,
    other than results."""
    scope = current_scope()
    if scope is None:
        return _next_event(sink, actor)
    scope.begin(_Waker(sink))
    try:
        event = _next_event(sink, actor)
    finally:
        scope.end()
    if event[1] is Event.CANCELLED:
        raise Cancelled
    return event


def _next_event(sink: Sink, actor: Handle) -> tuple[Any, Event, Any]:
    while True:
        try:
            told = sink.get(timeout=POLL_S)
        except queue.Empty:
            if not _lives(actor) and sink.empty():
                raise dead() from None
            continue
        if told[1] is Event.RAISED:
            raise told[2]
        return told


def _lives(actor: Handle) -> bool:
    return actor.join(0) is None


def own(error: DSAError) -> DSAError:
    """The same error as an instance of its own. One error may be the end of many calls, each of which is raised in another
    thread, where it gets its traceback."""
    mine = copy.copy(error)
    mine.__cause__ = error.__cause__
    return mine


def dead() -> DSAError:
    return InternalError("the client's own thread has ended", "see the log, and report this as a bug")
