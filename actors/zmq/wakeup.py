"""Waking a thread that sleeps in ``poll`` from another one, with a system call only if it really sleeps."""

from __future__ import annotations

import contextlib
import os
import socket
import threading


class Wakeup:
    """A descriptor that becomes readable. The sleeper sets ``sleeping`` *before* it looks for work a last time, and
    polls ``fd``; whoever brings work puts it in place first and calls :meth:`wake` afterwards. So either the sleeper
    sees the work, or the bringer sees the sleeper."""

    def __init__(self) -> None:
        self.sleeping = False
        self._lock = threading.Lock()  # a descriptor number is reused at once: never write to a closed one
        self._pair: tuple[socket.socket, socket.socket] | None = None
        if hasattr(os, "eventfd"):
            self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._pair = socket.socketpair()
            for end in self._pair:
                end.setblocking(False)
            self.fd = self._pair[0].fileno()

    def wake(self) -> None:
        """Any thread: make the sleeper look again. Costs nothing while it is awake."""
        if not self.sleeping:
            return
        self.sleeping = False
        with self._lock, contextlib.suppress(BlockingIOError):  # full: it is readable already
            if self.fd < 0:
                return
            if self._pair is None:
                os.eventfd_write(self.fd, 1)
            else:
                self._pair[1].send(b"\0")

    def clear(self) -> bool:
        """The sleeper: take back what made the descriptor readable. Returns False (nothing more is waiting there)."""
        with contextlib.suppress(BlockingIOError):
            if self._pair is None:
                os.eventfd_read(self.fd)
            else:
                self._pair[0].recv(4096)
        return False

    def close(self) -> None:
        """Free the descriptors; later calls of :meth:`wake` do nothing."""
        with self._lock:
            if self.fd < 0:
                return
            if self._pair is None:
                os.close(self.fd)
            else:
                for end in self._pair:
                    end.close()
            self.fd = -1
