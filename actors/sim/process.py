"""A simulated process: one actor with its clocks, timers, lanes and connections, and the context of its turns."""

from __future__ import annotations

import random
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from actors import limits
from actors.core import ActorSpec, Address, PeerEvent, Token
from actors.errors import ProtocolError
from actors.sim.context import SimContext
from actors.sim.lanes import SimLane
from actors.sim.network import Connection, Packet, Pipe
from actors.wire import Envelope, direct_header

if TYPE_CHECKING:
    from actors.sim.disk import SimDisk
    from actors.sim.runtime import SimRuntime

KILLED = 137  #: exit status of a process that was killed, as a shell reports it (128 + SIGKILL)
BUG = 70  #: exit status after a turn that raised


EPOCH_NS = 1_767_225_600_000_000_000  #: the wall clock at the beginning of every world: 2026-01-01


class Clock:
    """The clocks of one process. The monotonic one has its own zero and rate, the wall clock its own error."""

    def __init__(self, world_ns: int, zero_ns: int, drift_ppm: int, wall_error_ns: int) -> None:
        self._since_ns = world_ns
        self._base_ns = zero_ns
        self.drift_ppm = drift_ppm
        self.wall_error_ns = wall_error_ns

    def monotonic_ns(self, world_ns: int) -> int:
        passed_ns = world_ns - self._since_ns
        return self._base_ns + passed_ns + passed_ns * self.drift_ppm // 1_000_000

    def wall_ns(self, world_ns: int) -> int:
        return EPOCH_NS + world_ns + self.wall_error_ns

    def set_drift(self, world_ns: int, drift_ppm: int) -> None:
        """Change the rate from now on, without a jump."""
        self._base_ns, self._since_ns = self.monotonic_ns(world_ns), world_ns
        self.drift_ppm = drift_ppm

    def world_delay_ns(self, delay_ns: int) -> int:
        """How long the world waits while this clock counts ``delay_ns``, at least."""
        return -(-delay_ns * 1_000_000 // (1_000_000 + self.drift_ppm)) + 1


class Process:
    """One actor at work. The runtime starts and ends it; events come by ``receive``, ``notify``, ``deliver``."""

    def __init__(
        self, world: SimRuntime, spec: ActorSpec, clock: Clock, disks: Sequence[SimDisk], user_id: str = ""
    ) -> None:
        self.world = world
        self.spec = spec
        self.name, self.incarnation, self.address = spec.name, spec.incarnation, spec.address
        self.header = direct_header(spec.incarnation)
        self.user_id = user_id
        self.clock = clock
        self.disks = disks
        self.random = random.Random(f"{world.seed}:{spec.name}:{spec.incarnation}")
        self.endpoints: dict[str, Address] = {}
        self.alive = True
        self.stopping = False
        self.paused = False
        self.slowness = 1  #: factor on the duration of batches
        self.status: int | None = None  #: the exit status, once it has ended
        self.connections: dict[Address, Connection] = {}  #: that we opened, by endpoint
        self.routes: dict[Address, Connection] = {}  #: that others opened, by peer name
        self.feeds: dict[Connection, Pipe] = {}  #: over which our publications go out
        self._joined: dict[str, Connection] = {}  #: feeds that we joined, by the kind of socket at the other end
        self.lanes = {name: SimLane(self, name, lane) for name, lane in spec.lanes.items()}
        self._timers: dict[Token, tuple[int, int]] = {}  # token: (deadline by our clock, serial)
        self._timer_serial = 0
        self._deferred: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._stop_status: int | None = None
        self._ending = False

    def trace(self, kind: str, detail: str | int = "", subject: Any = None) -> None:
        self.world.trace.add(self.world.now_ns, kind, self.address, detail, subject)

    # --- turns -----------------------------------------------------------------------------------------------------

    def deliver(self, handler: Callable[..., None], *arguments: Any) -> None:
        """Give the actor a turn: now, or once it is resumed."""
        if self.paused:
            self.defer(self.deliver, handler, *arguments)
        elif self.alive and not self.stopping:
            handler(*arguments)

    def defer(self, callback: Callable[..., None], *arguments: Any) -> None:
        """Call once the process, which is paused, is resumed."""
        self._deferred.append((callback, arguments))

    def _turn(self, handler: Callable[..., None], *arguments: Any) -> None:
        context = SimContext(self)
        self.world.count("turns")
        try:
            handler(context, *arguments)
            if self.world.invariants:
                self.spec.actor.check_invariants()
        except Exception as error:  # noqa: BLE001 - the contract: whatever escapes a turn ends the process
            context.end()
            self.world.bug(self, error)
            return
        context.end()
        if not self.alive:
            return  # killed by its own turn
        for effect, effect_arguments in context.effects:
            effect(*effect_arguments)
        if context.effects:
            for lane in self.lanes.values():
                lane.dispatch()
        if self._stop_status is not None and not self.stopping:
            self._stop(self._stop_status)

    def start(self) -> None:
        self.trace("start")
        self._turn(self.spec.actor.on_start)

    def call(self, call: Any) -> None:
        self.trace("call")
        self._turn(self.spec.actor.on_call, call)

    def receive(self, pipe: Pipe, packet: Packet, envelope: Envelope) -> None:
        """A message arrived at this process."""
        self.deliver(self._receive, pipe, packet, envelope)

    def _receive(self, pipe: Pipe, packet: Packet, envelope: Envelope) -> None:
        self.world.network.taken(pipe)
        data = envelope.body
        try:
            message = self.spec.codec.decode(data)
        except ProtocolError:
            self.world.count("undecodable")
            self.trace("undecodable", f"{pipe.peer.address} {zlib.crc32(data)}")
            return
        self.world.count("delivered")
        self.trace("message", f"{pipe.peer.address} {zlib.crc32(data)} {packet.size}", message)
        self._turn(self.spec.actor.on_message, pipe.peer, message, envelope.payload)

    def notify(self, peer: Address, event: PeerEvent) -> None:
        """Something happened to a connection; the actor learns it in a later turn."""
        self.world.after(0, self.deliver, self._notify, peer, event)

    def _notify(self, peer: Address, event: PeerEvent) -> None:
        self.trace(event.value, peer)
        self._turn(self.spec.actor.on_peer, peer, event)

    def deliver_results(self, tokens: Sequence[Token], results: Sequence[Any]) -> None:
        """A batch ended: one turn for each of its jobs."""
        for token, result in zip(tokens, results, strict=True):
            self.deliver(self._result, token, result)

    def _result(self, token: Token, result: Any) -> None:
        self.trace("result", type(result).__name__, token)
        self._turn(self.spec.actor.on_result, token, result)

    # --- timers ----------------------------------------------------------------------------------------------------

    def set_timer(self, token: Token, delay_ns: int) -> None:
        self._timer_serial += 1
        deadline_ns = self.clock.monotonic_ns(self.world.now_ns) + max(0, delay_ns)
        self._timers[token] = (deadline_ns, self._timer_serial)
        self._wait_for_timer(token, self._timer_serial, max(0, delay_ns))

    def _wait_for_timer(self, token: Token, serial: int, delay_ns: int) -> None:
        late_ns = self.world.faults.timer_late_ns
        if late_ns:
            late_ns = int(self.world.random.random() * late_ns)
        self.world.after(self.clock.world_delay_ns(delay_ns) + late_ns, self.deliver, self._timer, token, serial)

    def cancel_timer(self, token: Token) -> None:
        self._timers.pop(token, None)

    def _timer(self, token: Token, serial: int) -> None:
        deadline_ns, wanted = self._timers.get(token, (0, 0))
        if wanted != serial:
            return  # cancelled or set again
        left_ns = deadline_ns - self.clock.monotonic_ns(self.world.now_ns)
        if left_ns > 0:  # the clock has been slowed down meanwhile
            self._wait_for_timer(token, serial, left_ns)
            return
        del self._timers[token]
        self.trace("timer", "", token)
        self._turn(self.spec.actor.on_timer, token)

    # --- feeds -----------------------------------------------------------------------------------------------------

    def join(self, kind: str, endpoint: Address) -> None:
        """Connect to the ``publish`` or ``subscribe`` socket at ``endpoint``, instead of an earlier one."""
        earlier = self._joined.pop(kind, None)
        if earlier is not None:
            if earlier.back is not None:
                earlier.back.broken = True
            self.world.network.close(earlier)
        self._joined[kind] = self.world.network.connect(self, endpoint, kind)

    # --- pausing and ending ----------------------------------------------------------------------------------------

    def resume(self) -> None:
        """Go on: everything that came meanwhile is delivered, in the order in which it came."""
        self.paused = False
        while self._deferred and not self.paused:
            callback, arguments = self._deferred.popleft()
            callback(*arguments)

    def request_stop(self, status: int) -> None:
        """End after the current turn (or, when paused, after being resumed)."""
        if self._stop_status is None:
            self._stop_status = status

    def stop_from_outside(self) -> None:
        """The orderly stop that ``Handle.stop`` asks for: no turn of its own but the last."""
        self.request_stop(0)
        if self.alive and not self.stopping:
            self._stop(self._stop_status or 0)

    def _stop(self, status: int) -> None:
        self.stopping = True
        self._stop_status = status
        self._timers.clear()
        self.trace("stop", status)
        self._turn(self.spec.actor.on_stop)
        for lane in list(self.lanes.values()):
            if self.alive:
                lane.close()
        self.lane_closed()

    def lane_closed(self) -> None:
        """Once all lanes are closed, the process ends; messages to listeners not yet reached get the linger time."""
        if not self._ending and all(lane.closed for lane in self.lanes.values()):
            self._ending = True
            unsent = any(connection.waiting for connection in self.connections.values())
            self.world.after(limits.LINGER_MS * 1_000_000 if unsent else 0, self._end_orderly)

    def _end_orderly(self) -> None:
        if self.alive:
            self.world.end(self, self._stop_status or 0)

    def discard(self) -> None:
        """The process is no more: forget what was to come, let lanes crash."""
        self.alive = False
        self._timers.clear()
        self._deferred.clear()
        for lane in self.lanes.values():
            if not lane.closed:
                lane.crash()
