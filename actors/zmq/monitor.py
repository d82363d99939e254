"""Optional socket monitors, for statistics only.

Events carry endpoints, not peer names, and arrive late or not at all: no decision of a protocol may hang on them. The
order of closing matters (stop the events, close the PAIR, close the socket): an abandoned monitor can block the I/O
thread or leak its descriptors.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import zmq
from zmq.utils.monitor import parse_monitor_message

from actors import limits
from actors.zmq.counters import Counters
from actors.zmq.sockets import NOBLOCK, Socket

_HANDSHAKE_FAILURES: Final = int(
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
_EVENTS: Final = _HANDSHAKE_FAILURES | int(zmq.EVENT_DISCONNECTED)


class Monitors:
    """The monitors of one actor's sockets. Used on the reactor's thread."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._pairs: dict[Socket, Socket] = {}

    def attach(self, socket: Socket) -> tuple[Socket, Callable[[], bool]]:
        """Start to watch a socket: a PAIR to poll, and what to call when it is readable."""
        pair: Socket = socket.get_monitor_socket(_EVENTS)
        pair.setsockopt(zmq.LINGER, 0)
        self._pairs[socket] = pair
        return pair, partial(self._drain, pair)

    def detach(self, socket: Socket) -> Socket | None:
        """Stop to watch; the caller closes the PAIR that is returned, then the socket."""
        pair = self._pairs.pop(socket, None)
        if pair is not None:
            socket.disable_monitor()
        return pair

    def _drain(self, pair: Socket) -> bool:
        for _ in range(limits.DRAIN_MESSAGES):
            try:
                frames = pair.recv_multipart(NOBLOCK)
            except zmq.Again:
                return False
            event = parse_monitor_message(frames)["event"]
            if event & _HANDSHAKE_FAILURES:
                self._counters.handshake_failures += 1
            elif event == zmq.EVENT_DISCONNECTED:
                self._counters.disconnects += 1
        return True
