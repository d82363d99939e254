"""Socket monitors: they tell that a connection was lost or refused, and count what else goes wrong with connections.

A process that dies closes its connections, and whoever has one to it learns of that within a millisecond, long before
any time-out. What a monitor says is a hint all the same (:class:`~actors.core.PeerEvent`): it may come late or not at all,
and a connection that was lost says nothing of the process at its other end. So it may bring a decision forward, never
make one that silence would not make. Events carry endpoints, not peer names; so what is watched for losses are
the connections that we open ourselves, one a socket.

The order of closing matters (stop the events, close the PAIR, close the socket): an abandoned monitor can block the I/O
thread or leak its descriptors.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Final

import zmq

from actors import limits
from actors.zmq.counters import Counters
from actors.zmq.sockets import NOBLOCK, Socket

_HANDSHAKE_FAILURES: Final = int(
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
_DISCONNECTED: Final = int(zmq.EVENT_DISCONNECTED)
_LOST: Final = _DISCONNECTED | int(zmq.EVENT_CONNECT_RETRIED)
"""The second one: nobody listens there, and another try follows after a pause."""
_COUNTED: Final = _HANDSHAKE_FAILURES | _DISCONNECTED
_EVENT: Final = struct.Struct("=Hi")
"""The first frame of what a monitor sends: the event and its value. pyzmq's own parser costs the import of asyncio, a
seventh of what a short-lived client takes to start."""

Lost = Callable[[Socket], object]
"""Told once that a socket's connection was lost or refused. It may close the socket."""


class Monitors:
    """The monitors of one actor's sockets. Used on the reactor's thread."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._pairs: dict[Socket, Socket] = {}

    def attach(
        self, socket: Socket, lost: Lost | None = None, *, counted: bool = False
    ) -> tuple[Socket, Callable[[], bool]]:
        """Start to watch a socket: a PAIR to poll, and what to call when it is readable. ``counted``: count lost
        connections and failed handshakes."""
        events = (_COUNTED if counted else 0) | (_LOST if lost is not None else 0)
        pair: Socket = socket.get_monitor_socket(events)
        pair.setsockopt(zmq.LINGER, 0)
        self._pairs[socket] = pair
        return pair, partial(self._drain, socket, pair, lost, counted)

    def detach(self, socket: Socket) -> Socket | None:
        """Stop to watch; the caller closes the PAIR that is returned, then the socket."""
        pair = self._pairs.pop(socket, None)
        if pair is not None:
            socket.disable_monitor()
        return pair

    def _drain(self, socket: Socket, pair: Socket, lost: Lost | None, counted: bool) -> bool:
        for _ in range(limits.DRAIN_MESSAGES):
            try:
                frames = pair.recv_multipart(NOBLOCK)
            except zmq.Again:
                return False
            event, _value = _EVENT.unpack(frames[0])
            if counted and event & _HANDSHAKE_FAILURES:
                self._counters.handshake_failures += 1
            elif counted and event & _DISCONNECTED:
                self._counters.disconnects += 1
            if lost is not None and event & _LOST:
                lost(socket)
                if pair.closed:
                    return False
        return True
