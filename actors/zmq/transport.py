"""All sockets of one actor: which of them a message leaves by, and who reads those that became readable."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Sequence
from typing import Final

import zmq

from actors import limits
from actors.core import ActorSpec, Address, PeerEvent
from actors.wire import HEADER_BYTES, Buffer
from actors.zmq.counters import Counters
from actors.zmq.cut import Cut
from actors.zmq.feeds import FeedReader, publish
from actors.zmq.inbound import Inbound
from actors.zmq.monitor import Lost, Monitors
from actors.zmq.peers import Link, Listener
from actors.zmq.readiness import Readiness
from actors.zmq.sockets import Context, Socket, bind, connect

_LAST_ROUNDS: Final = 1 + limits.SEND_QUEUE_MESSAGES // limits.DRAIN_MESSAGES
"""Drains after which nothing is left of what a lost connection had brought: a full queue."""


class Transport:
    """Owned by the reactor's thread, except ``endpoints`` (complete after :meth:`open`, then only read)."""

    def __init__(
        self,
        context: Context,
        spec: ActorSpec,
        routing_id: bytes,
        inbound: Inbound,
        counters: Counters,
        readiness: Readiness,
        monitored: bool,
        cut: Cut,
    ) -> None:
        self.endpoints: dict[str, Address] = {}
        self.events: deque[tuple[Address, PeerEvent]] = deque()  #: for the actor, in turns of their own
        self._context = context
        self._spec = spec
        self._routing_id = routing_id
        self._inbound = inbound
        self._counters = counters
        self._cut = cut
        self._readiness = readiness
        self._unsettled = readiness.unsettled
        self._monitors = Monitors(counters)
        self._monitored = monitored
        self._listener: Listener | None = None
        self._links: dict[Address, Link] = {}
        self._sockets: list[Socket] = []  # all but those of the pipeline
        self._publishers: dict[str, Socket] = {}  # "bound", "joined"
        self._joined_publisher: Address | None = None  # where the joined PUB leads
        self._joined_reader: FeedReader | None = None

    def open(self) -> None:
        """Bind what the specification names; BindError with nothing left open if that fails."""
        try:
            if self._spec.listen is not None:
                self._listener = Listener(self._bind("listen", zmq.ROUTER, self._spec.listen), self._inbound)
                self._readiness.watch(self._listener.socket, self._listener.drain)
            if self._spec.publish is not None:
                self._publishers["bound"] = self._bind("publish", zmq.PUB, self._spec.publish)
            if self._spec.subscribe is not None:
                socket = self._bind("subscribe", zmq.SUB, self._spec.subscribe)
                self._readiness.watch(socket, FeedReader(socket, self.endpoints["subscribe"], self._inbound).drain)
        except BaseException:
            self.close(0)
            raise

    def _bind(self, kind: str, socket_type: int, endpoint: Address) -> Socket:
        socket, self.endpoints[kind] = bind(self._context, socket_type, endpoint)
        self._own(socket)
        return socket

    def _own(self, socket: Socket, lost: Lost | None = None) -> None:
        self._sockets.append(socket)
        if self._monitored or lost is not None:
            self._readiness.watch(*self._monitors.attach(socket, lost, counted=self._monitored))

    def _drop(self, socket: Socket) -> None:
        self._readiness.forget(socket)
        if (source := self._monitors.detach(socket)) is not None:
            self._readiness.forget(source)
            source.close(0)
        self._sockets.remove(socket)
        socket.close(0)

    def send(self, to: Address, frames: Sequence[Buffer]) -> None:
        """Queue a direct message, or drop it with an event for the actor."""
        if self._cut.mute_to and self._cut.silences(to):
            self._counters.cut += 1
            return
        link = self._links.get(to)
        event: PeerEvent | None = PeerEvent.GONE
        if link is None and "://" in to:
            link = self._connect(to)
        if link is not None:
            event = link.send(frames)
            self._unsettled[link.socket] = None
        elif self._listener is not None and "://" not in to:
            event = self._listener.send(to, frames)
            self._unsettled[self._listener.socket] = None
        counters = self._counters
        if event is None:
            counters.messages_out += 1
            counters.bytes_out += sum(map(len, frames)) - HEADER_BYTES
            return
        if event is PeerEvent.BUSY:
            counters.busy += 1
        else:
            counters.gone += 1
        self.events.append((to, event))

    def _connect(self, endpoint: Address) -> Link | None:
        socket = connect(self._context, zmq.DEALER, endpoint, self._routing_id)
        if socket is None:
            return None
        link = self._links[endpoint] = Link(endpoint, socket, self._inbound)
        self._own(socket, lambda _: self._lost(endpoint, link))
        self._readiness.watch(socket, link.drain)
        return link

    def _lost(self, endpoint: Address, link: Link) -> None:
        """The connection to an endpoint has ended, or nobody listens there. What had come by it still counts; then it is
        forgotten with its queue, and the actor is told. The next send opens another one, without the pause that libzmq
        makes between its own attempts."""
        for _ in range(_LAST_ROUNDS):
            if link.socket.closed or not link.drain():
                break
        if self._links.get(endpoint) is link:
            self.disconnect(endpoint)
            self._counters.gone += 1
            self.events.append((endpoint, PeerEvent.GONE))

    def disconnect(self, to: Address, _: object = None) -> None:
        """Close the connection we opened to an endpoint and drop its queue; forget a peer that connected to us."""
        link = self._links.pop(to, None)
        if link is not None:
            self._drop(link.socket)
        elif self._listener is not None:
            self._listener.forget(to)

    def publish(self, frames: Sequence[Buffer], _: object = None) -> None:
        """To the subscribers of the bound PUB and of the joined one."""
        for kind, socket in self._publishers.items():
            if kind == "joined" and self._joined_publisher in self._cut.mute_to:
                self._counters.cut += 1
                continue
            publish(socket, frames)
            self._counters.messages_out += 1
            self._counters.bytes_out += len(frames[1]) - HEADER_BYTES

    def join_feed(self, publish_to: Address | None, subscribe_to: Address | None) -> None:
        """Connect a PUB, a SUB or both, instead of those connected before."""
        if publish_to is not None:
            if (old := self._publishers.pop("joined", None)) is not None:
                self._drop(old)
            if (socket := self._join(zmq.PUB, publish_to)) is not None:
                self._publishers["joined"] = socket
                self._joined_publisher = publish_to
        if subscribe_to is not None:
            if self._joined_reader is not None:
                self._drop(self._joined_reader.socket)
                self._joined_reader = None
            if (socket := self._join(zmq.SUB, subscribe_to)) is not None:
                self._joined_reader = FeedReader(socket, subscribe_to, self._inbound)
                self._readiness.watch(socket, self._joined_reader.drain)

    def _join(self, kind: int, endpoint: Address) -> Socket | None:
        socket = connect(self._context, kind, endpoint)
        if socket is None:
            self.events.append((endpoint, PeerEvent.GONE))
        else:
            self._own(socket)
        return socket

    def close(self, linger_ms: int) -> None:
        """Close every socket. What is queued may still leave for ``linger_ms`` while the context lives."""
        for socket in self._sockets:
            if (source := self._monitors.detach(socket)) is not None:
                source.close(0)
            with contextlib.suppress(zmq.ContextTerminated):
                socket.setsockopt(zmq.LINGER, linger_ms)
            socket.close()
        self._sockets.clear()
        self._links.clear()
        self._publishers.clear()
        self._listener = None

    def statistics(self) -> dict[str, int]:
        """How many peers are remembered, bytes wait for them, connections are open, and events wait."""
        listener = self._listener
        return {
            "peers": len(listener) if listener is not None else 0,
            "unsent_bytes": listener.unsent_bytes if listener is not None else 0,
            "links": len(self._links),
            "events_waiting": len(self.events),
        }
