"""The real runtime: one thread per actor owns all of its sockets, and turns what they bring into turns.

A round of the reactor is: poll; drain every readable socket without blocking, up to a cap each, so that none starves
the others; calls from other threads; events about peers; timers that came due; then hand the gathered jobs to their
lanes. Timers come after input on purpose: after a pause, the heartbeats that wait in the queues must count before the
timer that would declare their senders dead.

Nothing here survives ``fork``: start a runtime in the process that uses it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

import zmq

from actors import limits
from actors.core import ActorSpec, Address
from actors.errors import Closed
from actors.wire import peer_name
from actors.zmq.counters import Counters, Journal
from actors.zmq.cut import Cut
from actors.zmq.inbound import Inbound
from actors.zmq.pipeline import Pipeline
from actors.zmq.readiness import Readiness
from actors.zmq.sockets import Context, terminate
from actors.zmq.timers import Timers
from actors.zmq.transport import Transport
from actors.zmq.turn import TurnContext
from actors.zmq.wakeup import Wakeup

STATUS_OK: Final = 0
STATUS_BUG: Final = 70  #: EX_SOFTWARE: an exception escaped a handler
STATUS_KILLED: Final = 137  #: what a shell reports of a process that got SIGKILL
STOP_TIMEOUT_S: Final = 5.0  #: for a stop that the actor itself asked for
KILL_TIMEOUT_S: Final = 2.0  #: a handler that never returns cannot be interrupted, only left behind
MARGIN_S: Final = 0.1  #: for closing sockets when a stop has used up its time
TIMER_PATIENCE_ROUNDS: Final = 50  #: rounds that due timers wait for input to be drained: 5,000 messages a socket
_MAX_POLL_MS: Final = 3_600_000  #: an hour; the next round asks again

logging.getLogger("actors").addHandler(logging.NullHandler())


class ZmqRuntime:
    """Runs one actor on real sockets; a :class:`~actors.core.Handle` on it.

    ``context``: a shared ``zmq.Context``, which stays the caller's to terminate; by default the runtime has its own.
    ``monitor``: count failed handshakes and lost connections (see :mod:`actors.zmq.monitor`).
    """

    def __init__(
        self,
        spec: ActorSpec,
        *,
        context: Context | None = None,
        logger: logging.Logger | None = None,
        monitor: bool = False,
    ) -> None:
        self._spec = spec
        self._routing_id = peer_name(spec.name, spec.incarnation)  # ValueError comes here, not in the thread
        self._shared_context = context
        self._monitored = monitor
        self._counters = Counters()
        self._journal = Journal(logger or logging.getLogger("actors"), spec.address, self._counters)
        self._timers = Timers()
        self._cut = Cut()
        self.paused = False  #: no turn begins; see :meth:`pause`
        self._held = threading.Event()  # the reactor stands still
        self._resumed = threading.Event()
        self._calls: deque[Any] = deque()
        self._lock = threading.Lock()  # guards _calls together with _closing
        self._closing = False  # no calls are taken any more; the reactor ends when it sees this
        self._killed = False
        self._ending = False  # the reactor's own: no turn follows but on_stop
        self._status = STATUS_OK
        self._deadline_ns: int | None = None
        self._thread: threading.Thread | None = None
        self._opened = threading.Event()
        self._failure: BaseException | None = None  # of the start
        # made by start:
        self._wakeup: Wakeup
        self._context: Context
        self._readiness: Readiness
        self._transport: Transport
        self._pipeline: Pipeline
        self._turn_context: TurnContext

    def __repr__(self) -> str:
        state = "new" if self._thread is None else "running" if self._thread.is_alive() else f"ended {self._status}"
        return f"<ZmqRuntime {self._spec.address} {state}>"

    # --- any thread -------------------------------------------------------------------------------------------------

    def start(self) -> ZmqRuntime:
        """Bind, start the thread, return the handle. BindError if an endpoint of the specification cannot be bound."""
        if self._thread is not None:
            raise RuntimeError(f"{self._spec.address} was started already")
        self._wakeup = Wakeup()
        self._readiness = Readiness()
        self._context = self._shared_context if self._shared_context is not None else zmq.Context()
        self._thread = threading.Thread(target=self._main, name=f"{self._spec.name}:reactor", daemon=True)
        self._thread.start()
        self._opened.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def call(self, call: Any) -> None:
        """Deliver ``call`` to ``on_call`` in a turn of its own; Closed if the actor has ended or is about to."""
        with self._lock:
            if self._closing or self._thread is None:
                raise Closed(f"{self._spec.address} is not running")
            self._calls.append(call)
        self._wakeup.wake()

    def endpoint(self, kind: str) -> Address | None:
        """The bound endpoint of ``listen``, ``publish`` or ``subscribe``, with its real port, or None."""
        if not self._opened.is_set() or self._failure is not None:
            return None
        return self._transport.endpoints.get(kind)

    @property
    def names(self) -> frozenset[str]:
        """All that others may know this one by: its name, and the endpoints it has bound."""
        if not self._opened.is_set() or self._failure is not None:
            return frozenset((self._spec.name,))
        return frozenset((self._spec.name, *self._transport.endpoints.values()))

    def cut(self, deaf_to: Iterable[str] = (), mute_to: Iterable[str] = ()) -> None:
        """From now on throw away what these peers send and what is sent to them (each by all its :attr:`names`), instead of
        those that were given before; nobody: the cut is over. May be called before :meth:`start`. For tests."""
        self._cut.deaf_to, self._cut.mute_to = frozenset(deaf_to), frozenset(mute_to)

    def pause(self, timeout_s: float = KILL_TIMEOUT_S) -> None:
        """Take no turns until :meth:`resume`, as a process does that hangs: its sockets go on answering to the network, and
        jobs that are at work go on too. Returns once no turn is under way, or after ``timeout_s``. For tests."""
        with self._lock:
            if self._closing or self._thread is None or self.paused:
                return
            self._held.clear()
            self._resumed.clear()
            self.paused = True
        self._wakeup.wake()
        self._held.wait(timeout_s)

    def resume(self) -> None:
        """Undo :meth:`pause`. Idempotent."""
        with self._lock:
            self.paused = False
            self._resumed.set()

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Orderly stop: earlier calls, ``on_stop``, waiting jobs, flush, close. Killed if that takes too long."""
        if self._thread is None:
            return
        with self._lock:
            self._closing = True
            if self._deadline_ns is None:
                self._deadline_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        self.resume()
        self._wakeup.wake()
        if self._thread is not threading.current_thread() and not self._join(timeout_s):
            self.kill()

    def kill(self) -> None:
        """Abrupt stop: no ``on_stop``, nothing is flushed, a running turn has no effects, jobs are abandoned."""
        if self._thread is None:
            return
        with self._lock:
            self._killed = self._closing = True
        self.resume()
        self._wakeup.wake()
        self._join(KILL_TIMEOUT_S)

    def join(self, timeout_s: float | None = None) -> int | None:
        """Wait for the end; the exit status, or None on timeout."""
        return self._status if self._join(timeout_s) else None

    def _join(self, timeout_s: float | None) -> bool:
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return False
        thread.join(timeout_s)
        return not thread.is_alive()

    def statistics(self) -> dict[str, Any]:
        """Counters and queue lengths; each value is right, though not all of the same moment."""
        values = self._counters.snapshot()
        values["calls_waiting"] = len(self._calls)
        values["timers"] = len(self._timers)
        if self._opened.is_set() and self._failure is None:
            values.update(self._transport.statistics())
            values["lanes"] = self._pipeline.statistics()
        return values

    # --- the reactor's thread ---------------------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            self._open()
        except BaseException as error:  # noqa: BLE001 - raised by start, in the caller's thread
            self._failure = error
            self._status = STATUS_BUG
            self._closing = True
            self._end_context()
            return
        finally:
            self._opened.set()
        try:
            self._turn(self._spec.actor.on_start)
            self._run()
        except BaseException as error:  # noqa: BLE001 - becomes the exit status
            self._fail("reactor", error)
        try:
            self._close()
        except BaseException as error:  # noqa: BLE001 - becomes the exit status
            self._fail("close", error)
        finally:
            self._end_context()

    def _open(self) -> None:
        spec = self._spec
        inbound = Inbound(
            spec.codec, partial(self._turn, spec.actor.on_message), self._counters, self._journal, self._cut
        )
        self._transport = Transport(
            self._context, spec, self._routing_id, inbound, self._counters, self._readiness, self._monitored, self._cut
        )
        self._transport.open()
        try:
            self._pipeline = Pipeline(spec.name, spec.lanes, self._journal)
        except BaseException:
            self._transport.close(0)
            raise
        self._readiness.watch(self._wakeup.fd, self._wakeup.clear)
        if self._pipeline.socket is not None:
            on_result = partial(self._turn, spec.actor.on_result)
            self._readiness.watch(self._pipeline.socket, partial(self._pipeline.drain, on_result))
        self._turn_context = TurnContext(
            spec, self._transport, self._timers, self._pipeline, self._journal, self._request_stop
        )

    def _run(self) -> None:
        transport, timers, wakeup = self._transport, self._timers, self._wakeup
        wait, drain = self._readiness.wait, self._readiness.drain
        dispatch = self._pipeline.dispatch
        impatient = 0
        while not self._ending:
            if self.paused:
                self._held.set()
                self._resumed.wait()  # what follows is as after any pause of the process: input before timers
            dispatch()
            polled_ns = time.monotonic_ns()
            ready = wait(self._sleep_ms(polled_ns))
            wakeup.sleeping = False
            more = drain(ready)
            if self._calls:
                self._deliver_calls()
            if transport.events:
                self._deliver_events()
            if more and impatient < TIMER_PATIENCE_ROUNDS:
                impatient += 1
            else:
                impatient = 0
                if timers:
                    self._fire_timers(polled_ns)
            if self._closing:
                return

    def _sleep_ms(self, now_ns: int) -> int:
        """How long to poll. From here on, whoever brings a call must wake us."""
        self._wakeup.sleeping = True
        if self._calls or self._closing or self.paused or self._transport.events:
            return 0
        due_ns = self._timers.next_due_ns()
        if due_ns is None:
            return _MAX_POLL_MS
        return max(0, min(-((now_ns - due_ns) // 1_000_000), _MAX_POLL_MS))

    def _turn(self, handler: Callable[..., None], *args: Any) -> bool:
        """One turn; False if no other may follow."""
        if self._ending or self._killed:
            self._ending = True
            return False
        context = self._turn_context
        self._counters.turns += 1
        context.active = True
        try:
            handler(context, *args)
        except BaseException as error:  # noqa: BLE001 - our bug, whatever it is: the actor ends
            context.effects.clear()
            self._fail(getattr(handler, "__name__", "handler"), error)
            return False
        finally:
            context.active = False
        if context.effects:
            if not self._killed:
                for apply, first, second in context.effects:
                    apply(first, second)
            context.effects.clear()
        return not self._ending

    def _deliver_calls(self) -> None:
        on_call = self._spec.actor.on_call
        for _ in range(len(self._calls)):  # not those that these turns bring about
            if not self._turn(on_call, self._calls.popleft()):
                return

    def _deliver_events(self) -> None:
        on_peer = self._spec.actor.on_peer
        events = self._transport.events
        for _ in range(len(events)):
            if not self._turn(on_peer, *events.popleft()):
                return

    def _fire_timers(self, polled_ns: int) -> None:
        """Those that were due when the sockets were last looked at: what a long turn or a pause of the process made due
        meanwhile waits a round, so that the input of that time comes first."""
        on_timer = self._spec.actor.on_timer
        timers = self._timers
        mark = timers.mark()
        while (due := timers.pop_due(polled_ns, mark)) is not None:
            if not self._turn(on_timer, *due):
                return

    def _request_stop(self, status: int, _: object = None) -> None:
        self._status = status
        self._ending = True

    def _fail(self, where: str, error: BaseException) -> None:
        self._journal.write(logging.CRITICAL, "actor failed", {"where": where}, error)
        self._status = STATUS_BUG
        self._ending = self._killed = True

    def _close(self) -> None:
        """The end, orderly unless killed: the last turns, then the lanes, then the sockets."""
        orderly_by_caller = not self._ending
        with self._lock:
            self._closing = True
            if self._deadline_ns is None:
                self._deadline_ns = time.monotonic_ns() + int(STOP_TIMEOUT_S * 1e9)
        if orderly_by_caller and not self._killed:
            self._deliver_calls()
        if not self._killed:
            self._ending = False
            self._turn(self._spec.actor.on_stop)
        if self._killed:
            if self._status == STATUS_OK:
                self._status = STATUS_KILLED
            self._pipeline.abandon()
            self._transport.close(0)
        else:
            if not self._pipeline.finish(self._left_ms) and self._status == STATUS_OK:
                self._status = STATUS_KILLED
            self._transport.close(min(limits.LINGER_MS, self._left_ms()))

    def _left_ms(self) -> int:
        """What is left of the time for an orderly stop; nothing once killed."""
        if self._killed or self._deadline_ns is None:
            return 0
        return max(0, (self._deadline_ns - time.monotonic_ns()) // 1_000_000)

    def _end_context(self) -> None:
        """Free the descriptor and terminate our own context, which also waits for lingering messages."""
        self._readiness.close()
        self._wakeup.close()
        self._calls.clear()
        if self._shared_context is not None:
            return
        timeout_s = KILL_TIMEOUT_S if self._killed else max(MARGIN_S, self._left_ms() / 1000)
        terminate(self._context, self._spec.name, timeout_s)
