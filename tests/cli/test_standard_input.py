"""Standard input of commands: read whole, and given up at a signal, whenever that comes."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from typing import Any

import pytest

from dsa_zmq.cli.standard_input import interruptible


def test_everything_that_comes_through_a_pipe_is_read() -> None:
    ours, theirs = os.pipe()
    content = os.urandom(50_000)
    os.write(theirs, content)
    os.close(theirs)
    with open(ours, "rb", buffering=0) as stream, interruptible(stream) as source:
        assert source.read(20_000) + source.read(40_000) + source.read(1) == content


def test_a_signal_that_came_just_before_the_wait_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler of the interpreter only makes a note; here it is made as late as it can be."""
    ours, theirs = os.pipe()  # nobody ever writes
    wait: Callable[..., Any] = select.select
    waits = 0

    def late(*descriptors: Any) -> Any:
        nonlocal waits
        waits += 1
        if waits == 1:
            # What a signal in the window leaves behind: the note for the interpreter is not looked at any more before the
            # system call, so only the byte in the wake-up pipe can end the wait.
            os.write(signal.set_wakeup_fd(-1), b"\x02")
            return wait(*descriptors, 5)
        raise KeyboardInterrupt  # it looked again, which is when the interpreter runs the handler

    monkeypatch.setattr(select, "select", late)
    with open(ours, "rb", buffering=0) as stream, pytest.raises(KeyboardInterrupt), interruptible(stream) as source:
        source.read(1)
    os.close(theirs)
    assert waits == 2


def test_the_earlier_wakeup_descriptor_is_put_back() -> None:
    with open(os.devnull, "rb", buffering=0) as stream:
        before = signal.set_wakeup_fd(-1)
        with interruptible(stream):
            pass
        assert signal.set_wakeup_fd(before) == -1
