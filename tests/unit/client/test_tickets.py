"""How callers wait: woken one by the other, none forgotten, each with an error of its own."""

from __future__ import annotations

import errno
import threading

import pytest

from dsa_zmq.client.cancelling import Cancelled, Scope
from dsa_zmq.client.chain import Chain, wake_all
from dsa_zmq.client.tickets import Event, Stream, Waiter
from dsa_zmq.errors import LocalError, Unavailable


class Living:
    """The actor's handle, as far as a waiting caller looks at it."""

    def join(self, timeout_s=None):
        return None


class Callers:
    """Threads that wait, each for its own ticket."""

    def __init__(self, count):
        self.waiters = [Waiter() for _ in range(count)]
        self.scopes = [Scope() for _ in range(count)]
        self.heard = {}
        self.threads = [threading.Thread(target=self._wait, args=(index,), daemon=True) for index in range(count)]
        for thread in self.threads:
            thread.start()

    def _wait(self, index):
        try:
            with self.scopes[index]:
                self.heard[index] = self.waiters[index].wait(Living())
        except (Cancelled, Unavailable) as error:
            self.heard[index] = error

    def end(self, *indices):
        """What they heard, all or some of them."""
        for index in indices or range(len(self.threads)):
            self.threads[index].join(5)
            assert not self.threads[index].is_alive()
        return self.heard


def test_the_callers_of_one_turn_are_all_woken():
    callers = Callers(20)
    wake_all([waiter.finish(index) for index, waiter in enumerate(callers.waiters)])
    assert callers.end() == {index: index for index in range(20)}


def test_a_caller_that_was_cancelled_before_its_turn_keeps_nobody_asleep():
    callers = Callers(5)
    for index in (0, 3):
        callers.scopes[index].cancel()
    callers.end(0, 3)
    wake_all([waiter.finish(index) for index, waiter in enumerate(callers.waiters)])
    heard = callers.end()
    assert [type(heard[index]) for index in range(5)] == [Cancelled, int, int, Cancelled, int]


def test_callers_that_are_cancelled_while_the_others_wake_keep_nobody_asleep():
    for _ in range(30):
        callers = Callers(6)
        sleepers = [waiter.finish(index) for index, waiter in enumerate(callers.waiters)]
        canceller = threading.Thread(target=lambda there=callers: [scope.cancel() for scope in there.scopes[1::2]])
        canceller.start()
        wake_all(sleepers)
        canceller.join()
        assert set(callers.end()) == set(range(6))


@pytest.mark.slow
def test_a_result_whose_wake_up_was_lost_is_found_all_the_same():
    callers = Callers(2)
    Chain([waiter.finish(index) for index, waiter in enumerate(callers.waiters)])  # and nobody wakes the first
    assert callers.end() == {0: 0, 1: 1}


def test_one_error_of_many_calls_is_raised_as_an_instance_of_its_own_in_each():
    callers = Callers(3)
    error = Unavailable("the connection was closed", "connect again", "/x")
    wake_all([waiter.finish(error) for waiter in callers.waiters])
    heard = callers.end()
    assert len({id(each) for each in [error, *heard.values()]}) == 4
    assert {(str(each), each.path) for each in heard.values()} == {(str(error), "/x")}
    assert error.__traceback__ is None
    streams = [Stream(), Stream()]
    for stream in streams:
        stream.finish(error)
    raised = []
    for stream in streams:
        with pytest.raises(Unavailable) as caught:
            stream.next(Living())
        raised.append(caught.value)
    assert raised[0] is not raised[1]
    assert error.__traceback__ is None


def test_the_cause_of_an_error_goes_with_it():
    error = LocalError("disk full")
    error.__cause__ = OSError(errno.ENOSPC, "no space")
    waiter = Waiter()
    assert waiter.finish(error) is waiter
    waiter.wake()
    with pytest.raises(LocalError) as caught:
        waiter.wait(Living())
    assert caught.value.__cause__ is error.__cause__


def test_a_stream_hears_its_end_without_being_woken():
    stream = Stream()
    assert stream.finish("done") is None
    assert stream.next(Living()) == (Event.END, "done")
