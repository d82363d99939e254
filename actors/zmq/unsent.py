"""How many bytes wait inside a socket for peers that read slowly or not at all: a fuse in bytes.

The queue of a connection counts messages: a thousand of them may be a hundred kilobytes or sixteen gigabytes. libzmq does
not tell how much waits, but it lets go of a buffer that it shares with us once that is written. So the last frame of each
large message is handed over as a view of its own, shared, and counted until that view dies.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any, Final

import zmq

from actors import limits
from actors.wire import Buffer

WATCHED_BYTES: Final = 1 << 16  #: messages below this are bounded well enough by their number

_View = memoryview


class _Watch(weakref.ref[_View]):
    """Stands for one message that is not written yet."""

    __slots__ = ("peer", "size")

    peer: bytes
    size: int


class Unsent:
    """The bytes of large messages not yet written, by peer. Used by the thread of the socket; views may die in any."""

    def __init__(self, peer_bytes: int = limits.UNSENT_PEER_BYTES, all_bytes: int = limits.UNSENT_ALL_BYTES) -> None:
        self._peer_bytes = peer_bytes
        self._all_bytes = all_bytes
        self._by_peer: dict[bytes, int] = {}
        self._watches: dict[int, _Watch] = {}  # by id: they hash and compare as what they watch
        self._written: deque[Any] = deque()  # watches, from whatever thread; never waits, so it needs no lock
        self._total = 0

    def __repr__(self) -> str:
        return f"Unsent({self.total} bytes for {len(self._by_peer)} peers)"

    @property
    def total(self) -> int:
        """Bytes waiting now. From any thread, if a moment stale."""
        return sum(watch.size for watch in list(self._watches.values()) if watch() is not None)

    def admits(self, peer: bytes, size: int) -> bool:
        """Whether a message of ``size`` bytes may be queued: always if nothing waits for this peer."""
        self._settle()
        waiting = self._by_peer.get(peer, 0)
        if not waiting:
            return True
        return waiting + size <= self._peer_bytes and self._total + size <= self._all_bytes

    def watch(self, peer: bytes, size: int, last: Buffer) -> zmq.Frame:
        """Count a message of ``size`` bytes until its last frame is written, or thrown away. Send what this returns."""
        view = memoryview(last)
        watch = _Watch(view, self._written.append)
        watch.peer, watch.size = peer, size
        self._watches[id(watch)] = watch
        self._by_peer[peer] = self._by_peer.get(peer, 0) + size
        self._total += size
        return zmq.Frame(view, copy=False)

    def _settle(self) -> None:
        while self._written:
            watch = self._written.popleft()
            del self._watches[id(watch)]
            self._total -= watch.size
            left = self._by_peer[watch.peer] - watch.size
            if left:
                self._by_peer[watch.peer] = left
            else:
                del self._by_peer[watch.peer]
