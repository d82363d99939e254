"""A paused actor takes no turns, loses nothing that can wait, and can still be ended."""

from __future__ import annotations

import time

import pytest

from actors.core import Context
from actors.testing import Probe, pair, start_probe
from actors.zmq import ZmqRuntime
from actors.zmq.testing import LoopbackHarness


def paused(handle: object) -> ZmqRuntime:
    assert isinstance(handle, ZmqRuntime)
    handle.pause()
    return handle


@pytest.mark.parametrize("times", [1, 2])
def test_a_paused_actor_takes_no_turns_and_goes_on_where_it_was(harness: LoopbackHarness, times: int) -> None:
    server, client, endpoint = pair(harness)
    for number in range(1, times + 1):
        runtime = paused(server.handle)
        before = len(server.probe.turns)
        server.handle.call(lambda ctx: ctx.set_timer("due", 0))
        client.send(endpoint, number)
        other = start_probe(harness, f"other-{number}", listen=harness.listen_at())
        for count in range(20):  # a conversation elsewhere is the clock
            client.send(other.endpoint(), count)
        harness.wait_for(lambda other=other: len(other.probe.messages) == 20)
        assert len(server.probe.turns) == before
        runtime.resume()
        harness.wait_for(lambda number=number: number in client.probe.numbers)
        harness.wait_for(lambda number=number: len(server.probe.timers) == number)


def test_input_that_came_during_a_pause_is_handled_before_timers_that_came_due(harness: LoopbackHarness) -> None:
    server, client, endpoint = pair(harness, Probe())
    server.do(lambda ctx: ctx.set_timer("alarm", 20_000_000))
    runtime = paused(server.handle)
    client.send(endpoint, 1)
    until = time.monotonic() + 0.05
    harness.wait_for(lambda: time.monotonic() > until)
    runtime.resume()
    harness.wait_for(lambda: server.probe.timers)
    assert server.probe.turns.index("timer") > server.probe.turns.index("message", 2)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_paused_actor_can_be_ended(harness: LoopbackHarness, end: str) -> None:
    runtime = paused(start_probe(harness, "server", listen=harness.listen_at()).handle)
    begin = time.monotonic()
    getattr(runtime, end)()
    assert runtime.join(0) == (0 if end == "stop" else 137)
    assert time.monotonic() - begin < 1


def test_pausing_an_ended_actor_and_resuming_one_that_runs_does_nothing(harness: LoopbackHarness) -> None:
    running = start_probe(harness, "server")
    assert isinstance(running.handle, ZmqRuntime)
    running.handle.resume()
    done: list[Context] = []
    running.do(done.append)
    assert done
    running.handle.kill()
    running.handle.pause()
    assert running.handle.join(0) == 137
