"""Which sockets have something to read: the one place where the reactor sleeps.

``zmq_poll`` asks every socket, before and after it sleeps, at three system calls each. We sleep over the descriptors of
the sockets (ZMQ_FD) instead, and look only at those that are readable. But such a descriptor does not say that messages
are there. It is readable while *commands* of other threads wait for the socket ("a connection has messages again", "a
peer has connected"), and whatever call on the socket carries these out, a send as much as a receive, makes it silent
again, messages or not. Hence the rule:

    A socket is *settled* if the last thing done to it found no message: a receive that raised Again, or a look at its
    events. From then on a message cannot come without a command, so the descriptor of a settled socket wakes us.
    Everything else unsettles it: being opened, a send, a receive that brought a message. We never sleep before each
    unsettled socket was looked at, and we do not sleep at all if one of them has messages.

(libzmq 4.3: ``socket_base_t::process_commands``, ``mailbox_t::recv``, ``ypipe_t::check_read``. A connection whose queue
was not yet *found* empty gets further messages without any command, so counting received messages settles nothing.)
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterable
from typing import Any, Final

import zmq

from actors.zmq.sockets import Socket

Source = Socket | int
"""A socket, or a bare descriptor."""

Drain = Callable[[], bool]
"""Handles what is readable, up to a cap. False: the source is settled; True: there may be more."""

_READABLE: Final = int(zmq.POLLIN)


class Readiness:
    """All sources of one reactor, and what drains them. Used on its thread only."""

    def __init__(self) -> None:
        self.drains: dict[Source, Drain] = {}
        self.unsettled: dict[Socket, None] = {}  #: whoever sends on a socket of ours puts it here
        self._by_descriptor: dict[int, Source] = {}
        self._descriptors: dict[Source, int] = {}
        # Either tells of a descriptor as long as it is readable, on which the rule relies.
        self._sleeper: Any = select.epoll() if hasattr(select, "epoll") else zmq.Poller()
        self._unit = 0.001 if hasattr(select, "epoll") else 1  #: a millisecond, as the sleeper counts

    def watch(self, source: Source, drain: Drain) -> None:
        """Have ``drain`` called whenever something can be read, until :meth:`forget`, which comes before the closing."""
        descriptor = source if isinstance(source, int) else source.FD
        if not isinstance(source, int):
            self.unsettled[source] = None
        self.drains[source] = drain
        self._by_descriptor[descriptor] = source
        self._descriptors[source] = descriptor
        self._sleeper.register(descriptor, _READABLE)  # POLLIN and EPOLLIN are the same number

    def forget(self, source: Source) -> None:
        """Call its drain no more, not even if it was found readable in this round. Unknown sources are fine."""
        descriptor = self._descriptors.pop(source, None)
        if descriptor is None:
            return
        if not isinstance(source, int):
            self.unsettled.pop(source, None)
        del self.drains[source]
        del self._by_descriptor[descriptor]
        self._sleeper.unregister(descriptor)

    def wait(self, timeout_ms: int) -> Iterable[Source]:
        """Sleep until something can be read, but no longer; what to drain now."""
        if not self.unsettled:
            return [self._by_descriptor[descriptor] for descriptor, _ in self._sleeper.poll(timeout_ms * self._unit)]
        # Asked with a timeout of 0, zmq_poll looks at each socket once. Those that have no message are settled by that.
        looked_at = zmq.zmq_poll([(socket, _READABLE) for socket in self.unsettled], 0)
        self.unsettled.clear()
        if looked_at:
            timeout_ms = 0
        ready: dict[Any, None] = {socket: None for socket, _ in looked_at}
        for descriptor, _ in self._sleeper.poll(timeout_ms * self._unit):
            ready[self._by_descriptor[descriptor]] = None
        return ready

    def drain(self, sources: Iterable[Source]) -> bool:
        """Drain these; True if there may be more."""
        drains, unsettled = self.drains, self.unsettled
        more = False
        for source in sources:
            drain = drains.get(source)
            if drain is None:  # closed by a turn of this round
                continue
            if drain():
                more = True
                if not isinstance(source, int):
                    unsettled[source] = None
            elif source in unsettled:
                del unsettled[source]
        return more

    def close(self) -> None:
        """Forget everything. The sockets are still the caller's to close."""
        self.drains.clear()
        self.unsettled.clear()
        self._by_descriptor.clear()
        self._descriptors.clear()
        if hasattr(self._sleeper, "close"):
            self._sleeper.close()
