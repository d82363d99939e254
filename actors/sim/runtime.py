"""A world of actors in one thread, under virtual time, from one seed.

The same actors that :mod:`actors.zmq` runs over sockets run here against :mod:`actors.sim.network`, with faults.
Nothing in a world depends on anything but its seed: the same seed (and code) gives the same
:meth:`SimRuntime.trace_hash`.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from actors.core import ActorSpec, Address, Handle
from actors.errors import BindError, Closed
from actors.sim.faults import NO_FAULTS, SECOND, Faults
from actors.sim.network import Network
from actors.sim.process import BUG, KILLED, Clock, Process
from actors.sim.trace import Trace

if TYPE_CHECKING:
    from actors.sim.disk import SimDisk

DEFAULT_TIMEOUT_NS = 60 * SECOND  #: virtual; longer than every retry and lease of a test
ZERO_RANGE_NS = (
    10**15
)  #: monotonic clocks begin anywhere below this, so that one process' instant means nothing to another


class Stalled(AssertionError):
    """What was waited for did not come about in time."""


class ActorBug(AssertionError):
    """A turn raised; the cause is what it raised."""


class SimHandle:
    """:class:`~actors.core.Handle` of a simulated actor. What waits, lets the world go on meanwhile."""

    def __init__(self, world: SimRuntime, process: Process) -> None:
        self._world = world
        self._process = process

    def __repr__(self) -> str:
        return f"<SimHandle {self._process.address} {'alive' if self.alive else self._process.status}>"

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.alive

    @property
    def status(self) -> int | None:
        """The exit status, once it has ended: 0 orderly, 70 our bug, 137 killed."""
        return self._process.status

    def call(self, call: Any) -> None:
        if not self._process.alive or self._process.stopping:
            raise Closed(f"{self._process.address} has ended")
        self._world.after(0, self._process.deliver, self._process.call, call)

    def endpoint(self, kind: str) -> Address | None:
        return self._process.endpoints.get(kind)

    def stop(self, timeout_s: float = 5.0) -> None:
        if self._process.alive and not self._process.stopping:
            self._world.after(0, self._process.deliver, self._process.stop_from_outside)
        self.join(timeout_s)

    def kill(self) -> None:
        self._world.kill(self._process)

    def join(self, timeout_s: float | None = None) -> int | None:
        timeout_ns = DEFAULT_TIMEOUT_NS if timeout_s is None else int(timeout_s * SECOND)
        self._world.advance(lambda: not self._process.alive, timeout_ns)
        return self._process.status


class SimRuntime:
    """A simulated world. ``faults`` may be replaced at any time: first a storm, then calm and a look at what is left.

    ``keep_events`` is how many events stay readable for :meth:`tail` and :meth:`story`. With ``stop_on_bug`` an
    exception in a turn ends the whole run as :class:`ActorBug`; otherwise only its process ends, with status 70.
    """

    def __init__(
        self,
        seed: int,
        *,
        faults: Faults = NO_FAULTS,
        keep_events: int = 0,
        invariants: bool = True,
        stop_on_bug: bool = True,
    ) -> None:
        self.seed = seed
        self.faults = faults
        self.invariants = invariants
        self.random = random.Random(f"{seed}:world")
        self.now_ns = 0  #: virtual time since the world began
        self.trace = Trace(keep_events)
        self.network = Network(self)
        self.events = 0  #: events run so far
        self._stop_on_bug = stop_on_bug
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0
        self._counts: Counter[str] = Counter()
        self._processes: dict[str, Process] = {}  # by name, the newest of that name
        self._wall_errors_ns: dict[str, int] = {}  # by name: a host's clock stays wrong over a restart
        self._advancing = False

    def __repr__(self) -> str:
        return f"<SimRuntime seed={self.seed} t={self.now_ns / SECOND:.6f}s events={self.events}>"

    # --- events ----------------------------------------------------------------------------------------------------

    def at(self, time_ns: int, callback: Callable[..., None], *arguments: Any) -> None:
        """Call at a virtual instant; those of one instant in the order in which they were asked for."""
        self._sequence += 1
        heapq.heappush(self._heap, (time_ns, self._sequence, callback, arguments))

    def after(self, delay_ns: int, callback: Callable[..., None], *arguments: Any) -> None:
        """Call after a virtual delay."""
        self._sequence += 1
        heapq.heappush(self._heap, (self.now_ns + delay_ns, self._sequence, callback, arguments))

    def advance(self, done: Callable[[], object], timeout_ns: int, max_events: int | None = None) -> bool:
        """Run events until ``done()``; False when time or events ran out, or if called within an event."""
        if done():
            return True
        if self._advancing:
            return False
        deadline_ns = self.now_ns + timeout_ns
        last_event = None if max_events is None else self.events + max_events
        heap = self._heap
        self._advancing = True
        try:
            while heap and heap[0][0] <= deadline_ns:
                if self.events == last_event:
                    return False
                self.now_ns, _, callback, arguments = heapq.heappop(heap)
                self.events += 1
                callback(*arguments)
                if done():
                    return True
            self.now_ns = deadline_ns
            return False
        finally:
            self._advancing = False

    def run_until(
        self, done: Callable[[], object], timeout_ns: int = DEFAULT_TIMEOUT_NS, max_events: int | None = None
    ) -> None:
        """Run until ``done()`` is true; :class:`Stalled` if it is not after so much virtual time or so many events."""
        if not self.advance(done, timeout_ns, max_events):
            tail = "\n".join(self.tail(20))
            raise Stalled(f"{self!r}: not reached within {timeout_ns / SECOND:g} virtual seconds\n{tail}".rstrip())

    def run_for(self, duration_ns: int) -> None:
        """Let so much virtual time pass."""
        self.advance(lambda: False, duration_ns)

    # --- processes -------------------------------------------------------------------------------------------------

    def spawn(self, spec: ActorSpec, *, disks: Sequence[SimDisk] = (), user_id: str = "") -> SimHandle:
        """Start a process. A restart is a new spec under the same name.

        ``disks`` are what its lanes work on: they die with the process. ``user_id`` is what peers see as proven.
        Raises BindError if an endpoint is taken.
        """
        faults, draw = self.faults, self.random.random
        wall_error_ns = self._wall_errors_ns.setdefault(spec.name, int((2 * draw() - 1) * faults.skew_ns))
        clock = Clock(self.now_ns, int(draw() * ZERO_RANGE_NS), int((2 * draw() - 1) * faults.drift_ppm), wall_error_ns)
        process = Process(self, spec, clock, disks, user_id)
        wanted = {"listen": spec.listen, "publish": spec.publish, "subscribe": spec.subscribe}
        for endpoint in wanted.values():
            if endpoint is not None and self.network.is_bound(endpoint):
                raise BindError(f"{endpoint} is in use; {spec.address} cannot bind it")
        for kind, endpoint in wanted.items():
            if endpoint is not None:
                process.endpoints[kind] = self.network.bind(process, kind, endpoint)
        self._processes[spec.name] = process
        self.after(0, process.deliver, process.start)
        return SimHandle(self, process)

    def process(self, name: str) -> Process:
        """The newest process of that name, alive or not."""
        return self._processes[name]

    def crash(self, name: str, *, power_loss: bool = False) -> None:
        """End a process abruptly, like ``kill -9``; with ``power_loss`` its host too: disks lose what was not synced.

        Of each batch under way the seed says whether it had its effect; its results are never delivered.
        """
        self.kill(self._processes[name], power_loss=power_loss)

    def kill(self, process: Process, *, power_loss: bool = False) -> None:
        """As :meth:`crash`, of one process; of an ended one nothing is left to kill."""
        if process.alive:
            process.trace("crash", "power" if power_loss else "")
            self.end(process, KILLED, abrupt=True, power_loss=power_loss)

    def end(self, process: Process, status: int, *, abrupt: bool = False, power_loss: bool = False) -> None:
        """Take a process out of the world."""
        process.discard()
        process.status = status
        self.network.end_process(process, abrupt=abrupt, silent=power_loss)
        for disk in process.disks:
            if power_loss:
                disk.power_loss()
            else:
                disk.process_crash()

    def bug(self, process: Process, error: Exception) -> None:
        """A turn raised: none of its effects happen, and the process ends."""
        process.trace("bug", type(error).__name__, error)
        self.end(process, BUG, abrupt=True)
        if self._stop_on_bug:
            raise ActorBug(f"{self!r}: {process.address} raised {error!r}") from error

    # --- faults by hand --------------------------------------------------------------------------------------------

    def pause(self, name: str) -> None:
        """Stop a whole process as SIGSTOP does: no turns, messages queue, timers come late, batches end unheard."""
        self._processes[name].paused = True
        self._processes[name].trace("pause")
        self.network.refresh()

    def resume(self, name: str) -> None:
        """Let a paused process go on."""
        process = self._processes[name]
        process.trace("resume")
        process.resume()
        self.network.refresh()

    def partition(self, a: Iterable[str], b: Iterable[str], *, one_way: bool = False) -> None:
        """Cut the links between two sets of names; with ``one_way`` only what ``a`` sends to ``b`` is held up."""
        a, b = frozenset(a), frozenset(b)
        self.trace.add(self.now_ns, "partition", ",".join(sorted(a)), f"{','.join(sorted(b))} {one_way}")
        self.network.cut(a, b)
        if not one_way:
            self.network.cut(b, a)

    def heal(self) -> None:
        """Undo all partitions."""
        self.trace.add(self.now_ns, "heal", "")
        self.network.heal()

    def clock_jump(self, name: str, delta_ns: int) -> None:
        """The wall clock of that name's host jumps by so much, for good."""
        self._wall_errors_ns[name] += delta_ns
        self._processes[name].clock.wall_error_ns = self._wall_errors_ns[name]

    def clock_drift(self, name: str, drift_ppm: int) -> None:
        """From now on that process' monotonic clock runs so many millionths too fast (negative: too slow)."""
        self._processes[name].clock.set_drift(self.now_ns, drift_ppm)

    def slow_down(self, name: str, factor: int) -> None:
        """From now on the batches of that process take ``factor`` times as long: a slow disk, or a slow machine."""
        self._processes[name].slowness = factor

    # --- looking ---------------------------------------------------------------------------------------------------

    def count(self, what: str) -> None:
        """One more of that statistic."""
        self._counts[what] += 1

    def statistics(self) -> dict[str, int]:
        """How many turns, messages delivered, lost, duplicated..., since the beginning."""
        return {"events": self.events, **dict(sorted(self._counts.items()))}

    def trace_hash(self) -> str:
        """A hash of all that happened: equal for equal seed and code."""
        return self.trace.hash()

    def tail(self, count: int = 50) -> list[str]:
        """The last events, as lines, as far as they were kept."""
        return self.trace.tail(count)

    def story(self, substring: str) -> list[str]:
        """The kept events that mention ``substring``."""
        return list(self.trace.story(substring))


if TYPE_CHECKING:
    _checked: type[Handle] = SimHandle
