"""The parts of the reactor that stand alone: timers, wake-up, counters, monitor, malloc."""

from __future__ import annotations

import logging
import os
import platform
import select
import socket
from collections.abc import Callable

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from actors import wire
from actors.errors import ProtocolError
from actors.testing import Probe, ProbeCodec, echo, pair
from actors.testing.probe import Note
from actors.zmq.counters import Counters, Journal
from actors.zmq.memory import tune_malloc
from actors.zmq.testing import LoopbackHarness
from actors.zmq.timers import Timers
from actors.zmq.wakeup import Wakeup


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("set"), st.integers(0, 5), st.integers(0, 100)),
            st.tuples(st.just("cancel"), st.integers(0, 5), st.just(0)),
            st.tuples(st.just("fire"), st.just(0), st.integers(0, 100)),
        ),
        max_size=200,
    )
)
def test_timers_behave_like_a_sorted_list(steps: list[tuple[str, int, int]]) -> None:
    timers = Timers()
    model: dict[int, tuple[int, int]] = {}  # token -> (due, when it was set)
    for step, (action, token, time_ns) in enumerate(steps):
        if action == "set":
            timers.set(token, time_ns)
            model[token] = (time_ns, step)
        elif action == "cancel":
            timers.cancel(token)
            model.pop(token, None)
        else:
            mark = timers.mark()
            for expected in sorted((token for token in model if model[token][0] <= time_ns), key=lambda t: model[t]):
                assert timers.pop_due(time_ns, mark) == (expected,)
                del model[expected]
            assert timers.pop_due(time_ns, mark) is None
        assert len(timers) == len(model)
        assert timers.next_due_ns() == min((due for due, _ in model.values()), default=None)


def test_a_timer_set_after_the_mark_waits_for_the_next_round() -> None:
    timers = Timers()
    timers.set("tick", 5)
    mark = timers.mark()
    assert timers.pop_due(10, mark) == ("tick",)
    timers.set("tick", 5)
    assert timers.pop_due(10, mark) is None
    assert timers.pop_due(10, timers.mark()) == ("tick",)


def test_timers_that_are_set_again_and_again_do_not_pile_up() -> None:
    timers = Timers()
    for number in range(10_000):
        timers.set("deadline", 1_000_000 + number)
    timers.set(object(), 2_000_000)  # tokens need not be comparable
    assert len(timers._heap) < 200
    assert timers.pop_due(3_000_000, timers.mark()) == ("deadline",)


def readable(wakeup: Wakeup) -> bool:
    return bool(select.select([wakeup.fd], [], [], 0)[0])


@pytest.mark.parametrize("eventfd", [True, False], ids=["eventfd", "socketpair"])
def test_only_a_sleeper_is_woken_and_only_once(monkeypatch: pytest.MonkeyPatch, eventfd: bool) -> None:
    if not eventfd:
        monkeypatch.delattr(os, "eventfd", raising=False)
    wakeup = Wakeup()
    wakeup.wake()
    assert not readable(wakeup)
    wakeup.sleeping = True
    wakeup.wake()
    wakeup.wake()
    assert readable(wakeup)
    assert wakeup.clear() is False
    assert not readable(wakeup)
    wakeup.clear()
    wakeup.close()
    wakeup.sleeping = True
    wakeup.wake()
    wakeup.close()


def test_a_runtime_without_eventfd_takes_calls(monkeypatch: pytest.MonkeyPatch, harness: LoopbackHarness) -> None:
    monkeypatch.delattr(os, "eventfd", raising=False)
    _, client, endpoint = pair(harness, Probe(reply=echo))
    for number in range(1, 50):
        client.send(endpoint, number)
    harness.wait_for(lambda: client.probe.numbers == list(range(50)))


def test_a_flood_of_errors_is_counted_in_full_but_logged_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    counters = Counters()
    journal = Journal(logging.getLogger("actors"), "server/1", counters)
    for number in range(1_000):
        journal.refuse("magic" if number % 2 else "short", b"stranger", ProtocolError(f"bytes {number}"))
    assert counters.snapshot()["protocol_errors"] == {"magic": 500, "short": 500}
    assert 1 <= len(caplog.records) <= 3  # one a second, however slow this machine is
    assert "reason='short'" in caplog.text
    assert "bytes 0" in caplog.text


def test_a_flood_of_bad_messages_is_logged_once(
    harness: LoopbackHarness, raw: Callable[..., zmq.Socket[bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    server, _, endpoint = pair(harness)
    stranger = raw(zmq.DEALER, endpoint, b"client/5")
    for _ in range(500):
        stranger.send(b"nonsense that is no header")
    stranger.send(wire.direct_header(5) + ProbeCodec().encode(Note(7)))
    harness.wait_for(lambda: 7 in server.probe.numbers)
    assert harness.runtimes[0].statistics()["protocol_errors"] == {"magic": 500}
    assert 1 <= len([record for record in caplog.records if record.event == "protocol error"]) <= 3


def test_the_monitor_counts_lost_connections_and_failed_handshakes() -> None:
    with LoopbackHarness(monitor=True) as harness:
        server, client, endpoint = pair(harness)
        runtime = harness.runtimes[0]
        assert runtime.statistics()["disconnects"] == 0
        client.handle.kill()
        harness.wait_for(lambda: runtime.statistics()["disconnects"] >= 1)
        port = int(endpoint.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NOISE".ljust(20, b"\0") + bytes(32))
            harness.wait_for(lambda: runtime.statistics()["handshake_failures"] >= 1)
        server.handle.stop()
        assert server.handle.join(5.0) == 0


def test_a_monitored_link_can_be_disconnected() -> None:
    with LoopbackHarness(monitor=True) as harness:
        _, client, endpoint = pair(harness)
        for number in range(1, 4):
            client.do(lambda ctx: ctx.disconnect(endpoint))
            client.send(endpoint, number)
            harness.wait_for(lambda number=number: number in client.probe.numbers)
        client.do(lambda ctx: ctx.join_feed(subscribe_to=endpoint))
        client.do(lambda ctx: ctx.join_feed(subscribe_to=endpoint))


def test_malloc_is_tuned_where_glibc_is_and_left_alone_elsewhere() -> None:
    assert tune_malloc() == (platform.libc_ver()[0] == "glibc")
