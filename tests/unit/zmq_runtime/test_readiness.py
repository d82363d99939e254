"""No message is slept through, whatever was done to a socket between its arrival and the sleep.

The descriptor of a socket falls silent when a send, or any other call, takes in what another thread had to say. These
tests bring that about and make sure that they did.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator

import pytest
import zmq

from actors import limits
from actors.core import Address, Context
from actors.testing import Note, Probe, Running, echo, pair
from actors.zmq.readiness import Readiness
from actors.zmq.sockets import Socket
from actors.zmq.testing import LoopbackHarness

PATIENCE_S = 5.0
PATIENCE_MS = 5_000
UNTHROTTLED_S = (
    0.005  #: after so long a send takes in commands again: libzmq waits for 3,000,000 ticks of the processor
)

Two = tuple[Socket, Socket]


@pytest.fixture(params=["epoll", "poller"])
def readiness(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Readiness]:
    if request.param == "poller":
        monkeypatch.delattr(select, "epoll", raising=False)
    elif not hasattr(select, "epoll"):
        pytest.xfail("this system has no epoll")
    readiness = Readiness()
    yield readiness
    readiness.close()


@pytest.fixture
def two() -> Iterator[Two]:
    """A ROUTER and a DEALER that have spoken to each other."""
    context: zmq.Context[Socket] = zmq.Context()
    router, dealer = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.ROUTING_ID, b"peer")
    dealer.connect(f"tcp://127.0.0.1:{router.bind_to_random_port('tcp://127.0.0.1')}")
    dealer.send(b"hello")
    assert router.recv_multipart() == [b"peer", b"hello"]
    assert not router.poll(0), "only a socket that was found empty gets news of the next message"
    yield router, dealer
    context.destroy(linger=0)


def is_readable(socket: Socket) -> bool:
    """Whether the descriptor of the socket would wake us. Does nothing to the socket itself."""
    return bool(select.select([socket.FD], [], [], 0)[0])


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "not within the time allowed"


def silence(socket: Socket, send: Callable[[], object]) -> None:
    """Have a message arrive and let a send take in the news of it."""
    start = time.monotonic()
    wait_until(lambda: is_readable(socket) and time.monotonic() > start + UNTHROTTLED_S)
    send()
    assert not is_readable(socket), "the send took in nothing: this test shows nothing"


def take_all(socket: Socket) -> bool:
    """A drain without a cap."""
    while socket.poll(0):
        socket.recv_multipart()
    return False


def settle(readiness: Readiness) -> None:
    readiness.drain(readiness.wait(0))
    assert not list(readiness.wait(0))


def test_a_message_whose_news_a_send_took_in_is_found(readiness: Readiness, two: Two) -> None:
    router, dealer = two
    readiness.watch(router, lambda: take_all(router))
    settle(readiness)
    dealer.send(b"news")
    silence(router, lambda: router.send_multipart([b"peer", b"reply"]))
    assert not list(readiness.wait(0)), "nothing tells of the message, unless we are told of the send"
    readiness.unsettled[router] = None
    assert list(readiness.wait(PATIENCE_MS)) == [router]


def test_a_message_that_came_before_its_socket_was_watched_is_found(readiness: Readiness, two: Two) -> None:
    router, dealer = two
    dealer.send(b"early")
    silence(router, lambda: router.send_multipart([b"peer", b"reply"]))
    readiness.watch(router, lambda: take_all(router))
    assert list(readiness.wait(PATIENCE_MS)) == [router]


def test_messages_that_a_capped_drain_left_behind_are_found(readiness: Readiness, two: Two) -> None:
    router, dealer = two

    def take_one() -> bool:
        router.recv_multipart()
        return True

    readiness.watch(router, take_one)
    assert not list(readiness.wait(0))
    for number in range(3):
        dealer.send(b"%d" % number)
    for _ in range(3):
        assert list(readiness.wait(PATIENCE_MS)) == [router]
        assert readiness.drain([router])
    assert not list(readiness.wait(0))


def test_a_socket_that_was_closed_in_this_round_is_not_drained(readiness: Readiness, two: Two) -> None:
    router, _ = two
    drained: list[str] = []
    readiness.watch(router, lambda: bool(drained.append("router")))
    readiness.forget(router)
    readiness.forget(router)
    assert not readiness.drain([router])
    assert not drained


def test_a_settled_socket_costs_nothing_until_its_descriptor_is_readable(readiness: Readiness, two: Two) -> None:
    router, dealer = two
    readiness.watch(router, lambda: take_all(router))
    settle(readiness)
    assert not readiness.unsettled
    dealer.send(b"news")
    assert list(readiness.wait(PATIENCE_MS)) == [router]
    assert not readiness.drain([router])
    assert not readiness.unsettled


# --- the same through a runtime: each of these sleeps for ever if the rule is broken at one place -----------------------


def socket_of(running: Running, to: Address | None = None) -> Socket:
    transport = running.handle._transport  # type: ignore[attr-defined]
    socket: Socket = transport._listener.socket if to is None else transport._links[to].socket
    return socket


def test_a_reply_sent_while_the_next_request_arrives_does_not_hide_it(harness: LoopbackHarness) -> None:
    server, client, endpoint = pair(harness)
    socket = socket_of(server)

    def reply_to_an_earlier_one(ctx: Context) -> None:
        client.handle.call(lambda ctx: ctx.send(endpoint, Note(7)))
        start = time.monotonic()
        wait_until(lambda: is_readable(socket) and time.monotonic() > start + UNTHROTTLED_S)
        ctx.send(client.spec.address, Note(1))

    server.do(reply_to_an_earlier_one)
    harness.wait_for(lambda: 7 in server.probe.numbers)


def test_a_request_sent_while_a_reply_arrives_does_not_hide_it(harness: LoopbackHarness) -> None:
    server, client, endpoint = pair(harness)
    socket = socket_of(client, endpoint)

    def ask_again(ctx: Context) -> None:
        server.handle.call(lambda ctx: ctx.send(client.spec.address, Note(7)))
        start = time.monotonic()
        wait_until(lambda: is_readable(socket) and time.monotonic() > start + UNTHROTTLED_S)
        ctx.send(endpoint, Note(1))

    client.do(ask_again)
    harness.wait_for(lambda: 7 in client.probe.numbers)


def test_more_messages_than_are_drained_at_a_time_are_all_delivered(harness: LoopbackHarness) -> None:
    count = 4 * limits.DRAIN_MESSAGES + 1
    server, client, endpoint = pair(harness, Probe(reply=echo))
    socket = socket_of(server)

    def be_busy(ctx: Context) -> None:
        client.handle.call(lambda ctx: [ctx.send(endpoint, Note(number)) for number in range(1, count)])
        wait_until(lambda: is_readable(socket))

    server.do(be_busy)
    harness.wait_for(lambda: client.probe.numbers == list(range(count)))


def test_a_runtime_without_epoll_hears_and_answers(monkeypatch: pytest.MonkeyPatch, harness: LoopbackHarness) -> None:
    monkeypatch.delattr(select, "epoll", raising=False)
    _, client, endpoint = pair(harness, Probe(reply=echo))
    for number in range(1, 20):
        client.send(endpoint, number)
    harness.wait_for(lambda: client.probe.numbers == list(range(20)))
    client.do(lambda ctx: ctx.disconnect(endpoint))
    client.send(endpoint, 20)
    harness.wait_for(lambda: client.probe.numbers == list(range(21)))
