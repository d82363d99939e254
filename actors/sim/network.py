"""The simulated network: connections that are FIFO while they live, and lose what is under way when they break.

One :class:`Connection` is what a DEALER and the ROUTER's end of it are in life (or a PUB and a SUB). The side that
opened it is the *client*, the side that listens the *server*. What is modelled, because it was seen in life:

- a connection to an absent listener is refused; to a host that does not answer, it is tried again with a growing pause,
  and messages queue meanwhile, up to the limit;
- the server learns a client's name with the connection, and can speak to that name until the connection is lost;
- the server notices at its next send that a connection broke (``GONE``); the client is told of a connection that broke
  or was refused, which ends with its queue, unless the faults say that it goes unnoticed: then it connects again;
- of what a killed process had sent, some may still arrive: also after its successor has started;
- a cut or a pause holds messages back; after the heartbeat's timeout the connection breaks, and they are lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from actors.core import Address, Channel, Message, Peer, PeerEvent
from actors.wire import unpack

if TYPE_CHECKING:
    from actors.sim.process import Process
    from actors.sim.runtime import SimRuntime


class PayloadReused(AssertionError):
    """A frame was changed between its sending and its delivery: it was not the sender's any more."""


class Packet(NamedTuple):
    """A message under way, encoded and copied."""

    frames: tuple[bytes, ...]  #: as they travel: see :mod:`actors.wire`
    handed_over: Sequence[bytes | memoryview]  #: the sender's own buffers, to see whether they were written to since
    size: int  #: bytes of message and payload
    subject: Message  #: for the trace's readers only; what is delivered is unpacked and decoded


class Pipe:
    """One direction of a connection."""

    __slots__ = ("broken", "connection", "cut_ns", "held", "last_ns", "peer", "queued", "source", "target")

    def __init__(self, connection: Connection, source: Process, target: Process, peer: Peer) -> None:
        self.connection = connection
        self.source = source
        self.target = target
        self.peer = peer  #: the source, as the target sees it
        self.broken = False  #: what is under way is lost, and what is sent by mistake too
        self.queued = 0  #: packets sent and not yet taken by the target's actor
        self.last_ns = 0  #: when the last packet arrives: none arrives before it
        self.cut_ns: int | None = None  #: packets that would arrive later are lost (the source was killed)
        self.held: list[Packet] = []  #: arrived at a cut link


class Connection:
    """A client's connection to an endpoint: a conversation (``listen``) or a feed (``publish``, ``subscribe``)."""

    __slots__ = ("attempts", "back", "client", "closed", "endpoint", "forth", "kind", "server", "stalled_ns", "waiting")

    def __init__(self, client: Process, endpoint: Address, kind: str) -> None:
        self.client = client
        self.endpoint = endpoint
        self.kind = kind  #: which of the server's sockets it looks for
        self.server: Process | None = None  #: None while connecting
        self.forth: Pipe | None = None  #: client to server
        self.back: Pipe | None = None  #: server to client
        self.waiting: list[Packet] = []  #: sent while connecting
        self.attempts = 0
        self.closed = False
        self.stalled_ns: int | None = None  #: since when nothing gets through in at least one direction


class Network:
    """All connections of a world."""

    def __init__(self, world: SimRuntime) -> None:
        self._world = world
        self._random = world.random
        self._bound: dict[Address, tuple[Process, str]] = {}
        self._connections: dict[Connection, None] = {}  # an ordered set
        self._dark: set[Address] = set()  #: endpoints of hosts without power: nobody there refuses anything
        self._cuts: list[tuple[frozenset[str], frozenset[str]]] = []
        self._next_port = 20_000

    # --- binding ---------------------------------------------------------------------------------------------------

    def bind(self, process: Process, kind: str, endpoint: Address) -> Address:
        """Bind; ``:0`` at the end is replaced by a free port. The caller has checked :meth:`is_bound`."""
        if endpoint.endswith(":0"):
            self._next_port += 1
            endpoint = Address(f"{endpoint[:-1]}{self._next_port}")
        self._bound[endpoint] = (process, kind)
        self._dark.discard(endpoint)
        return endpoint

    def is_bound(self, endpoint: Address) -> bool:
        return endpoint in self._bound

    # --- cuts and pauses -------------------------------------------------------------------------------------------

    def cut(self, source: frozenset[str], target: frozenset[str]) -> None:
        """Nothing gets from ``source`` to ``target`` any more (names, not addresses)."""
        self._cuts.append((source, target))
        self.refresh()

    def heal(self) -> None:
        """Undo every cut."""
        self._cuts.clear()
        self.refresh()

    def _is_cut(self, source: Process, target: Process) -> bool:
        return any(source.name in a and target.name in b for a, b in self._cuts)

    def refresh(self) -> None:
        """After a change of cuts or pauses: release what can go on, and let heartbeats fail where it cannot."""
        for connection in list(self._connections):
            server, client = connection.server, connection.client
            if server is None:
                continue
            stalled = self._stalled(client, server)
            if not stalled:
                connection.stalled_ns = None
            elif connection.stalled_ns is None:
                connection.stalled_ns = self._world.now_ns
                self._world.after(
                    self._world.faults.heartbeat_ns, self._heartbeat_fails, connection, self._world.now_ns
                )
            for pipe in (connection.forth, connection.back):
                if pipe is not None and pipe.held and not self._is_cut(pipe.source, pipe.target):
                    self._world.after(self._latency_ns(), self._release, pipe)

    def _stalled(self, client: Process, server: Process) -> bool:
        return client.paused or server.paused or self._is_cut(client, server) or self._is_cut(server, client)

    def _heartbeat_fails(self, connection: Connection, since_ns: int) -> None:
        if connection.stalled_ns == since_ns and not connection.closed:
            self._break(connection, "heartbeat")

    # --- connecting ------------------------------------------------------------------------------------------------

    def connect(self, client: Process, endpoint: Address, kind: str) -> Connection:
        """Begin a connection; it is tried until it is closed."""
        connection = Connection(client, endpoint, kind)
        self._connections[connection] = None
        self._world.after(self._latency_ns(), self._attempt, connection)
        return connection

    def _attempt(self, connection: Connection) -> None:
        if connection.closed:
            return
        client = connection.client
        server, kind = self._bound.get(connection.endpoint, (None, ""))
        if server is None or kind != connection.kind or self._stalled(client, server):
            faults = self._world.faults
            refused = server is None and connection.kind == "listen" and connection.endpoint not in self._dark
            # A process that lingers takes no turns: nobody is told, and what it has sent may still find its way.
            if refused and not client.stopping and self._random.random() >= faults.unnoticed:
                self._world.trace.add(self._world.now_ns, "refused", client.address, connection.endpoint)
                self._tell(connection)
                return
            pause_ns = min(faults.reconnect_max_ns, faults.reconnect_min_ns << min(connection.attempts, 16))
            connection.attempts += 1
            self._world.after(int(pause_ns * (0.5 + self._random.random())), self._attempt, connection)
            return
        connection.server, connection.attempts, connection.stalled_ns = server, 0, None
        channel = Channel.DIRECT if kind == "listen" else Channel.FEED
        by_name = Peer(client.address, client.name, client.incarnation, channel, client.user_id)
        if channel is Channel.DIRECT:
            # A server is known by the endpoint at which it was reached.
            by_endpoint = Peer(connection.endpoint, connection.endpoint, server.incarnation, channel, server.user_id)
            server.routes[client.address] = connection
        else:
            by_endpoint = Peer(server.address, server.name, server.incarnation, channel, server.user_id)
        connection.forth = Pipe(connection, client, server, by_name)
        connection.back = Pipe(connection, server, client, by_endpoint)
        if kind == "subscribe":
            client.feeds[connection] = connection.forth
        elif kind == "publish":
            server.feeds[connection] = connection.back
        self._world.trace.add(self._world.now_ns, "connect", client.address, connection.endpoint)
        waiting, connection.waiting = connection.waiting, []
        pipe = connection.forth  # it may break on the way, and be replaced
        for packet in waiting:
            self._transmit(pipe, packet)

    # --- sending ---------------------------------------------------------------------------------------------------

    def send(self, source: Process, to: Address, packet: Packet) -> None:
        """Send to an endpoint or to a peer name."""
        connection = source.connections.get(to)
        if connection is None:
            route = source.routes.get(to)
            if route is not None:
                assert route.back is not None
                self._transmit(route.back, packet)
                return
            if "://" not in to:
                self._world.count("gone")
                self._world.trace.add(self._world.now_ns, "gone", source.address, to)
                source.notify(to, PeerEvent.GONE)
                return
            connection = source.connections[to] = self.connect(source, to, "listen")
        if connection.forth is not None:
            self._transmit(connection.forth, packet)
        elif len(connection.waiting) < self._world.faults.queue_messages:
            connection.waiting.append(packet)
        else:
            self._busy(source, to)

    def publish(self, source: Process, packet: Packet) -> None:
        """Send to every subscriber; a full queue drops without notice."""
        for pipe in list(source.feeds.values()):
            self._transmit(pipe, packet)

    def _busy(self, source: Process, to: Address) -> None:
        self._world.count("busy")
        self._world.trace.add(self._world.now_ns, "busy", source.address, to)
        source.notify(to, PeerEvent.BUSY)

    def _transmit(self, pipe: Pipe, packet: Packet) -> None:
        world, faults, connection = self._world, self._world.faults, pipe.connection
        if pipe.broken:
            world.count("lost")
            return
        if pipe.queued >= faults.queue_messages:
            if connection.kind == "listen":
                self._busy(pipe.source, connection.endpoint if pipe is connection.forth else connection.client.address)
            else:
                world.count("dropped")
            return
        pipe.queued += 1
        if not faults.hits_messages:
            self._fly(pipe, packet)
            return
        draw = self._random.random
        if draw() < faults.loss:
            pipe.queued -= 1
            world.count("lost")
            world.trace.add(world.now_ns, "lost", pipe.source.address, pipe.target.address, packet.subject)
            return
        late_ns = int(draw() * faults.spike_ns) if draw() < faults.spike else 0
        self._fly(pipe, packet, late_ns)
        if draw() < faults.duplicate:
            pipe.queued += 1
            world.count("duplicated")
            again_ns = pipe.last_ns + self._latency_ns() + int(draw() * faults.spike_ns)
            world.at(again_ns, self._arrive, pipe, packet)
        if draw() < faults.reset:
            self._break(connection, "reset")

    def _latency_ns(self) -> int:
        return self._world.faults.latency_ns + int(self._random.random() * self._world.faults.jitter_ns)

    def _fly(self, pipe: Pipe, packet: Packet, late_ns: int = 0) -> None:
        world, faults = self._world, self._world.faults
        at_ns = max(world.now_ns + self._latency_ns() + late_ns, pipe.last_ns)
        if faults.bytes_per_second:
            at_ns += packet.size * 1_000_000_000 // faults.bytes_per_second
        pipe.last_ns = at_ns
        world.at(at_ns, self._arrive, pipe, packet)

    def _arrive(self, pipe: Pipe, packet: Packet) -> None:
        if pipe.broken or not pipe.target.alive or (pipe.cut_ns is not None and self._world.now_ns > pipe.cut_ns):
            pipe.queued -= 1
            self._world.count("lost")
        elif pipe.held or (self._cuts and self._is_cut(pipe.source, pipe.target)):
            pipe.held.append(packet)
        else:
            self._deliver(pipe, packet)

    def _release(self, pipe: Pipe) -> None:
        """What was held at a cut link goes on; meanwhile whatever arrived has queued up behind it."""
        if not self._is_cut(pipe.source, pipe.target):
            held, pipe.held = pipe.held, []
            for packet in held:
                self._arrive(pipe, packet)

    @staticmethod
    def _deliver(pipe: Pipe, packet: Packet) -> None:
        envelope = unpack(packet.frames)
        for frame, copy in zip(packet.handed_over, envelope.payload, strict=True):
            if not isinstance(frame, bytes) and bytes(frame) != copy:
                raise PayloadReused(f"{pipe.source.address} wrote to a frame that it had sent with {packet.subject!r}")
        pipe.target.receive(pipe, packet, envelope)

    def taken(self, pipe: Pipe) -> None:
        """The target's actor took a packet; who speaks over a live connection is known by name again."""
        pipe.queued -= 1
        connection = pipe.connection
        if connection.kind == "listen" and pipe is connection.forth:
            pipe.target.routes.setdefault(connection.client.address, connection)

    # --- endings ---------------------------------------------------------------------------------------------------

    def close(self, connection: Connection) -> None:
        """The client closes: what flies still arrives, what waits is dropped; the server notices a little later."""
        self._forget(connection)
        self._world.after(self._latency_ns(), self._drop_route, connection)

    def disconnect(self, process: Process, to: Address) -> None:
        """Forget a peer. A listener only forgets the name: the connection is the client's, who may speak again."""
        connection = process.connections.pop(to, None)
        if connection is not None:
            if connection.back is not None:
                connection.back.broken = True
            self.close(connection)
        else:
            process.routes.pop(to, None)

    def end_process(self, process: Process, *, abrupt: bool, silent: bool) -> None:
        """A process ended. ``abrupt``: some of what it sent is lost too. ``silent``: its host says no good-bye."""
        for endpoint in [endpoint for endpoint, (owner, _) in self._bound.items() if owner is process]:
            del self._bound[endpoint]
            if silent:
                self._dark.add(endpoint)
        for connection in list(self._connections):
            if connection.client is process:
                own, other = connection.forth, connection.server
            elif connection.server is process:
                own, other = connection.back, connection.client
            else:
                continue
            if abrupt and own is not None:
                own.cut_ns = self._world.now_ns + int(self._random.random() * self._world.faults.jitter_ns)
            notice_ns = self._world.faults.heartbeat_ns if silent else self._latency_ns()
            if other is process or other is None:
                self._forget(connection)
            elif connection.client is process:
                self._forget(connection)
                self._world.after(notice_ns, self._drop_route, connection)
            else:
                self._world.after(notice_ns, self._server_lost, connection, process)

    def _server_lost(self, connection: Connection, server: Process) -> None:
        if connection.server is server and not connection.closed:
            self._break(connection, "lost", tail=False)

    def _forget(self, connection: Connection) -> None:
        connection.closed = True
        connection.waiting.clear()
        self._connections.pop(connection, None)
        connection.client.feeds.pop(connection, None)
        if connection.server is not None:
            connection.server.feeds.pop(connection, None)

    def _drop_route(self, connection: Connection) -> None:
        server, name = connection.server, connection.client.address
        if server is not None and server.routes.get(name) is connection:
            del server.routes[name]

    def _break(self, connection: Connection, why: str, *, tail: bool = True) -> None:
        """The connection is lost. The client is told and forgets it, or goes on connecting without a word.

        Feeds always reconnect quietly. With ``tail`` what is under way is lost in both directions.
        """
        if connection.server is None:
            return
        client = connection.client
        self._world.count("broken")
        self._world.trace.add(self._world.now_ns, "broken", client.address, f"{connection.endpoint} {why}")
        self._drop_route(connection)
        for pipe in (connection.forth, connection.back):
            if pipe is not None and (tail or pipe.target is not client):
                pipe.broken = True
                pipe.held.clear()
        client.feeds.pop(connection, None)
        connection.server.feeds.pop(connection, None)
        if connection.kind == "listen" and self._random.random() >= self._world.faults.unnoticed:
            self._tell(connection)
        else:
            connection.server = connection.forth = connection.back = None
            connection.stalled_ns = None
            self._world.after(self._world.faults.reconnect_min_ns, self._attempt, connection)

    def _tell(self, connection: Connection) -> None:
        """The client hears that its connection is no more, and forgets it with what waits for it."""
        client = connection.client
        self._forget(connection)
        if client.connections.get(connection.endpoint) is connection:
            del client.connections[connection.endpoint]
        client.notify(connection.endpoint, PeerEvent.GONE)
