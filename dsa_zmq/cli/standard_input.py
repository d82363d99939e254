"""Standard input that a signal always interrupts.

A signal that comes after the interpreter last looked for one, and before the system call begins to wait, is noticed only
when that call ends: a read of a silent pipe never does. So this waits for the pipe and for the signal at once.
"""

from __future__ import annotations

import io
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any


class _Pipe(io.RawIOBase):
    def __init__(self, descriptor: int, wakeup: int) -> None:
        self._descriptor = descriptor
        self._wakeup = wakeup

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while True:
            ready, _, _ = select.select([self._descriptor, self._wakeup], [], [])
            if self._wakeup in ready:
                os.read(self._wakeup, 4096)  # the signal's handler runs behind this call, and raises if it is to end us
            if self._descriptor in ready:
                data = os.read(self._descriptor, len(buffer))
                buffer[: len(data)] = data
                return len(data)


@contextmanager
def interruptible(stream: IO[bytes]) -> Iterator[IO[bytes]]:
    """``stream``, of which nothing was read yet, to be read by the main thread."""
    try:
        descriptor = stream.fileno()
    except OSError:  # bytes in memory, put in the place of standard input
        descriptor = -1
    if descriptor < 0 or sys.platform == "win32":  # where select knows only sockets
        yield stream
        return
    wakeup, signalled = os.pipe()
    os.set_blocking(signalled, False)
    earlier = signal.set_wakeup_fd(signalled, warn_on_full_buffer=False)
    try:
        yield io.BufferedReader(_Pipe(descriptor, wakeup))
    finally:
        signal.set_wakeup_fd(earlier)
        os.close(wakeup)
        os.close(signalled)
