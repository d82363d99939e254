"""How a runtime starts, refuses to start, stops, is killed, fails, and what it leaves behind: nothing."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

import pytest
import zmq

from actors.core import Actor, ActorSpec, Address, Context, Lane
from actors.errors import BindError, Closed
from actors.testing import Note, Probe, ProbeCodec, echo, pair, start_probe
from actors.zmq import ZmqRuntime
from actors.zmq.testing import LoopbackHarness

PATIENCE_S = 5.0


def spec(name: str = "probe", actor: Actor | None = None, **fields: Any) -> ActorSpec:
    return ActorSpec(name=name, incarnation=1, actor=actor or Probe(), codec=ProbeCodec(), **fields)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


@pytest.mark.parametrize("kind", ["listen", "publish", "subscribe"])
def test_an_endpoint_in_use_is_refused_by_name(harness: LoopbackHarness, kind: str) -> None:
    taken = start_probe(harness, "first", listen=harness.listen_at()).endpoint()
    with pytest.raises(BindError, match=rf"cannot bind {taken}: Address already in use"):
        ZmqRuntime(spec(**{kind: taken})).start()


@pytest.mark.parametrize(
    "endpoint", ["tcp://192.0.2.1:0", "tcp://127.0.0.1", "tcp://127.0.0.1:65536", "pigeon://roof", "", "tcp://a\0b:1"]
)
def test_an_endpoint_that_cannot_be_bound_is_refused_by_name(endpoint: str) -> None:
    runtime = ZmqRuntime(spec(listen=Address(endpoint)))
    with pytest.raises(BindError) as caught:
        runtime.start()
    assert endpoint in str(caught.value)
    assert runtime.join(0) == 70
    assert runtime.endpoint("listen") is None
    with pytest.raises(Closed):
        runtime.call(None)
    runtime.stop()
    runtime.kill()


def test_a_failed_start_gives_back_what_was_bound_before(harness: LoopbackHarness) -> None:
    taken = start_probe(harness, "first", listen=harness.listen_at()).endpoint()
    free = harness.unused_endpoint()
    with pytest.raises(BindError):
        harness.start(spec(listen=free, publish=taken))
    again = harness.start(spec(listen=free))
    assert again.endpoint("listen") == free


def test_fifty_lives_leave_no_thread_and_no_descriptor_behind() -> None:
    def live(number: int) -> None:
        lane = Lane(lambda jobs: [None] * len(jobs), workers=2)
        with LoopbackHarness(monitor=number % 5 == 0) as harness:
            server, client, endpoint = pair(harness)
            other = start_probe(
                harness, "other", lanes={"work": lane}, publish=harness.listen_at(), subscribe=harness.listen_at()
            )
            other.do(lambda ctx: ctx.send(endpoint, Note(1), [os.urandom(70_000)]))
            harness.wait_for(lambda: len(server.probe.messages) == 2)
            if number % 2:
                client.handle.stop()
                other.handle.stop()

    live(5)  # pyzmq's own collector thread starts with the first shared buffer, and stays
    threads, descriptors = set(threading.enumerate()), open_descriptors()
    for number in range(17):  # three runtimes each
        live(number)
    assert set(threading.enumerate()) == threads
    assert open_descriptors() <= descriptors


def test_a_failed_start_leaves_nothing_behind() -> None:
    threads, descriptors = set(threading.enumerate()), open_descriptors()
    for _ in range(5):
        with pytest.raises(BindError):
            ZmqRuntime(spec(listen=Address("pigeon://roof"))).start()
    assert set(threading.enumerate()) == threads
    assert open_descriptors() <= descriptors


def test_earlier_calls_are_delivered_before_the_stop_and_later_ones_refused(harness: LoopbackHarness) -> None:
    probe = start_probe(harness, "probe")
    busy, go_on = threading.Event(), threading.Event()

    def block(ctx: Context) -> None:
        busy.set()
        assert go_on.wait(PATIENCE_S)

    probe.handle.call(block)
    assert busy.wait(PATIENCE_S)
    for number in range(300):
        probe.handle.call(lambda ctx, number=number: probe.probe.noted.append(number))
    stopper = threading.Thread(target=probe.handle.stop)
    stopper.start()

    def closed() -> bool:
        try:
            probe.handle.call(lambda ctx: None)
        except Closed:
            return True
        return False

    harness.wait_for(closed)
    go_on.set()
    stopper.join(PATIENCE_S)
    assert probe.handle.join(0) == 0
    assert probe.probe.noted == list(range(300))
    assert probe.probe.turns[-1] == "stop"


def test_calls_of_many_threads_all_arrive_each_in_order(harness: LoopbackHarness) -> None:
    probe = start_probe(harness, "probe")

    def caller(thread: int) -> None:
        for number in range(200):
            probe.handle.call(lambda ctx, item=(thread, number): probe.probe.noted.append(item))

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    harness.wait_for(lambda: len(probe.probe.noted) == 800)
    for thread in range(4):
        assert [number for caller, number in probe.probe.noted if caller == thread] == list(range(200))


def test_a_stop_during_a_hung_turn_returns_in_time_and_ends_without_a_last_turn(harness: LoopbackHarness) -> None:
    probe = start_probe(harness, "probe")
    hung, release = threading.Event(), threading.Event()

    def hang(ctx: Context) -> None:
        hung.set()
        release.wait(PATIENCE_S)
        ctx.log("released")

    probe.handle.call(hang)
    assert hung.wait(PATIENCE_S)
    stopper = threading.Thread(target=probe.handle.stop, args=(0.01,))
    stopper.start()
    harness.wait_for(lambda: probe.handle._killed)
    assert probe.handle.join(0) is None
    release.set()
    stopper.join(PATIENCE_S)
    assert probe.handle.join(PATIENCE_S) == 137
    assert "stop" not in probe.probe.turns


def test_a_killed_turn_has_no_effects(harness: LoopbackHarness) -> None:
    server, client, endpoint = pair(harness, Probe())
    busy, go_on = threading.Event(), threading.Event()

    def script(ctx: Context) -> None:
        ctx.send(endpoint, Note(66))
        busy.set()
        assert go_on.wait(PATIENCE_S)

    client.handle.call(script)
    assert busy.wait(PATIENCE_S)
    killer = threading.Thread(target=client.handle.kill)
    killer.start()
    harness.wait_for(lambda: _refuses(client.handle))
    go_on.set()
    killer.join(PATIENCE_S)
    assert client.handle.join(0) == 137
    other = start_probe(harness, "other")
    other.send(endpoint, 1)
    harness.wait_for(lambda: 1 in server.probe.numbers)
    assert server.probe.numbers == [0, 1]


def _refuses(handle: Any) -> bool:
    try:
        handle.call(lambda ctx: None)
    except Closed:
        return True
    return False


def test_a_handle_may_be_stopped_from_its_own_turn(harness: LoopbackHarness) -> None:
    probe = start_probe(harness, "probe")
    probe.handle.call(lambda ctx: probe.handle.stop())
    assert probe.handle.join(PATIENCE_S) == 0
    assert probe.probe.turns[-1] == "stop"
    probe = start_probe(harness, "probe")
    probe.handle.call(lambda ctx: probe.handle.kill())
    assert probe.handle.join(PATIENCE_S) == 137


@pytest.mark.parametrize("handler", ["at_start", "at_stop"])
def test_a_bug_is_logged_with_its_traceback(
    harness: LoopbackHarness, caplog: pytest.LogCaptureFixture, handler: str
) -> None:
    def broken(ctx: Context) -> None:
        raise ZeroDivisionError("a bug of ours")

    probe = start_probe(harness, "probe", Probe(**{handler: broken}))  # type: ignore[arg-type]
    probe.handle.stop()
    assert probe.handle.join(PATIENCE_S) == 70
    (record,) = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert record.name == "actors"
    assert record.event == "actor failed"
    assert record.actor == "probe/1"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ZeroDivisionError)


def test_log_lines_are_structured_and_go_to_the_given_logger(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mine")
    with LoopbackHarness(logger=logging.getLogger("mine")) as harness:
        probe = start_probe(harness, "probe")
        probe.do(lambda ctx: ctx.log("shard stored", chunk=7, node="n1"))
        harness.wait_for(lambda: caplog.records)
    (record,) = caplog.records
    assert (record.name, record.event, record.fields) == ("mine", "shard stored", {"chunk": 7, "node": "n1"})
    assert record.getMessage() == "shard stored chunk=7 node='n1'"


def test_a_context_is_useless_outside_its_turn(harness: LoopbackHarness) -> None:
    probe = start_probe(harness, "probe")
    kept: list[Context] = []
    probe.do(kept.append)
    probe.do(lambda ctx: None)
    harness.wait_for(lambda: probe.probe.turns.count("call") == 2)
    uses: Sequence[Any] = (
        lambda ctx: ctx.send("tcp://127.0.0.1:1", Note(1)),
        lambda ctx: ctx.set_timer("t", 0),
        lambda ctx: ctx.publish("t", Note(1)),
        lambda ctx: ctx.stop(),
    )
    for use in uses:
        harness.wait_for(lambda: not kept[0].active)  # type: ignore[attr-defined]
        with pytest.raises(RuntimeError, match="until the handler returns"):
            use(kept[0])


def test_a_runtime_starts_once(harness: LoopbackHarness) -> None:
    runtime = harness.start(spec())
    with pytest.raises(RuntimeError, match="started already"):
        runtime.start()


def test_an_actor_with_an_impossible_name_is_refused_before_anything_starts() -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        ZmqRuntime(spec("a/b"))


def test_a_shared_context_outlives_its_runtimes() -> None:
    with zmq.Context() as context:
        with LoopbackHarness(context=context) as harness:
            _, client, _ = pair(harness, Probe(reply=echo))
            harness.wait_for(lambda: client.probe.numbers == [0])
            client.handle.stop()
        assert not context.closed
        context.socket(zmq.PAIR).close()


def test_statistics_count_what_passed(harness: LoopbackHarness) -> None:
    server, client, endpoint = pair(harness)
    harness.wait_for(lambda: client.probe.messages)
    statistics = harness.runtimes[0].statistics
    harness.wait_for(lambda: statistics()["messages_out"])  # counted just behind the send: the other may be quicker
    body = len(ProbeCodec().encode(Note(1)))
    before = statistics()
    client.do(lambda ctx: ctx.send(endpoint, Note(1), [b"x" * 1000, b"y" * 70_000]))
    client.do(lambda ctx: ctx.set_timer("t", 3_600_000_000_000))
    harness.wait_for(lambda: len(client.probe.messages) == 2)
    harness.wait_for(lambda: statistics()["messages_out"] > before["messages_out"])
    after, other = harness.runtimes[0].statistics(), harness.runtimes[1].statistics()
    assert after["messages_in"] - before["messages_in"] == 1
    assert after["bytes_in"] - before["bytes_in"] == body + 71_000
    assert after["bytes_out"] - before["bytes_out"] == body + 71_000
    assert (after["peers"], after["links"], other["links"], other["timers"]) == (1, 0, 1, 1)
    assert after["turns"] == len(server.probe.turns)
    assert after["protocol_errors"] == {}


@pytest.mark.slow
def test_a_program_that_forgets_to_stop_still_ends() -> None:
    program = """
import threading
from actors.core import Address
from actors.testing import Lane, Work, start_probe, pair
from actors.zmq.testing import LoopbackHarness
harness = LoopbackHarness()
server, client, endpoint = pair(harness)
busy = threading.Event()
start_probe(harness, "worker", lanes={"work": Lane(lambda jobs: busy.set() or threading.Event().wait())}).do(
    lambda ctx: ctx.run(1, "work", Work(1)))
assert busy.wait(5)
""".replace("Lane, ", "").replace("import threading\n", "import threading\nfrom actors.core import Lane\n", 1)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_importing_the_runtime_loads_no_heavy_library() -> None:
    program = "import sys, actors.zmq.reactor; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "zmq" in loaded
    assert not {"structlog", "rich", "click", "hypothesis", "asyncio"} & set(loaded)
