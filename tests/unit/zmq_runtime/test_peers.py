"""Direct connections: strangers, limits, takeovers, absent and slow peers."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence

import pytest
import zmq

from actors import limits, wire
from actors.core import Address, Context, Message, Peer, PeerEvent
from actors.testing import Note, Probe, ProbeCodec, Running, again_until, echo, pair, start_probe
from actors.zmq.counters import Counters, Journal
from actors.zmq.cut import Cut
from actors.zmq.inbound import Inbound
from actors.zmq.peers import Listener
from actors.zmq.reactor import ZmqRuntime
from actors.zmq.sockets import bind
from actors.zmq.testing import LoopbackHarness

Connect = Callable[..., zmq.Socket[bytes]]
BODY = ProbeCodec().encode(Note(1))


def listening(harness: LoopbackHarness, probe: Probe | None = None, **spec: Address) -> tuple[Running, ZmqRuntime]:
    """A listening probe (by default one that echoes) and its runtime."""
    running = start_probe(harness, "server", probe or Probe(reply=echo), listen=harness.listen_at(), **spec)
    return running, harness.runtimes[-1]


def errors(runtime: ZmqRuntime) -> dict[str, int]:
    counted: dict[str, int] = runtime.statistics()["protocol_errors"]
    return counted


def test_malformed_messages_are_counted_by_reason_and_the_next_one_arrives(
    harness: LoopbackHarness, raw: Connect
) -> None:
    server, runtime = listening(harness)
    stranger = raw(zmq.DEALER, server.endpoint(), b"client/5")
    header = wire.direct_header(5)
    for frames in (
        [b""],
        [b"GET / HTTP/1.1\r\n\r\n"],
        [header[:2] + b"\x07" + header[3:] + BODY],
        [wire.feed_header("client", 5) + BODY],
        [wire.direct_header(6) + BODY],
        [header + bytes(limits.MAX_MESSAGE_BYTES + 1)],
        [header + BODY, *[b"x"] * (limits.MAX_PAYLOAD_FRAMES + 500)],
        [header + BODY, bytes(limits.MAX_PAYLOAD_BYTES), b"x"],
        [header + b"\xc1"],
        [header + BODY],
    ):
        stranger.send_multipart(frames)
    harness.wait_for(lambda: server.probe.numbers == [1])
    words = ("short", "magic", "version", "kind", "incarnation", "message_size", "frame_count", "payload_size", "codec")
    assert errors(runtime) == dict.fromkeys(words, 1)
    assert wire.unpack(stranger.recv_multipart()).body == BODY


@pytest.mark.parametrize("routing_id", [None, b"name", b"a/b/1", b"n\xff/1", b"client/01"])
def test_a_peer_with_an_impossible_name_is_not_heard(
    harness: LoopbackHarness, raw: Connect, routing_id: bytes | None
) -> None:
    server, runtime = listening(harness)
    stranger = raw(zmq.DEALER, server.endpoint(), routing_id)
    stranger.send_multipart([wire.direct_header(1) + BODY])
    harness.wait_for(lambda: errors(runtime) == {"name": 1})
    assert server.probe.messages == []


def test_malformed_feed_messages_are_counted(harness: LoopbackHarness, raw: Connect) -> None:
    server, runtime = listening(harness, subscribe=harness.listen_at())
    stranger = raw(zmq.PUB, server.endpoint("subscribe"))
    good = wire.feed_header("n", 1) + BODY
    bad = [b"topic", wire.feed_header("n", 1)[:-1] + b"/"]
    again_until(harness, lambda: errors(runtime), lambda: stranger.send_multipart(bad))
    assert set(errors(runtime)) == {"name"}
    for frames in ([b"topic"], [b"topic", good, b""], [b"topic", wire.direct_header(1)], [b"topic", good]):
        stranger.send_multipart(frames)
    harness.wait_for(lambda: server.probe.numbers == [1])
    assert set(errors(runtime)) == {"name", "short", "frame_count", "kind"}


def test_a_codec_that_fails_on_strange_bytes_does_not_end_the_actor(harness: LoopbackHarness, raw: Connect) -> None:
    class Fragile(ProbeCodec):
        def decode(self, data: bytes | memoryview) -> Message:
            if bytes(data) == b"trap":
                raise KeyError("a bug of the codec")
            return super().decode(data)

    spec = start_probe(harness, "template").spec
    probe = Probe()
    values = {name: getattr(spec, name) for name in ("incarnation", "lanes")}
    runtime = harness.start(
        type(spec)(name="server", actor=probe, codec=Fragile(), listen=harness.listen_at(), **values)
    )
    stranger = raw(zmq.DEALER, runtime.endpoint("listen"), b"client/5")
    stranger.send(wire.direct_header(5) + b"trap")
    stranger.send(wire.direct_header(5) + BODY)
    harness.wait_for(lambda: probe.numbers == [1])
    assert errors(runtime) == {"codec_failure": 1}


def test_a_frame_above_the_limit_is_not_even_received(harness: LoopbackHarness, raw: Connect) -> None:
    server, runtime = listening(harness)
    stranger = raw(zmq.DEALER, server.endpoint(), b"client/5", RECONNECT_IVL=1)
    stranger.send_multipart([wire.direct_header(5) + BODY, bytes(limits.MAX_FRAME_BYTES + 1)])
    again_until(harness, lambda: server.probe.messages, lambda: stranger.send(wire.direct_header(5) + BODY))
    assert all(not received.payload for received in server.probe.messages)
    assert errors(runtime) == {}


def test_the_newest_connection_of_a_name_takes_over(harness: LoopbackHarness, raw: Connect) -> None:
    server, _ = listening(harness)
    first = raw(zmq.DEALER, server.endpoint(), b"client/5", RECONNECT_IVL=-1)
    first.send(wire.direct_header(5) + BODY)
    assert wire.unpack(first.recv_multipart()).body == BODY
    second = raw(zmq.DEALER, server.endpoint(), b"client/5")
    second.send(wire.direct_header(5) + BODY)
    assert second.poll(5000)
    server.send(Address("client/5"), 2)
    second.recv()
    assert second.poll(5000)
    assert ProbeCodec().decode(wire.unpack(second.recv_multipart()).body) == Note(2)
    assert not first.poll(0)


def test_a_restarted_node_and_its_old_incarnation_are_two_peers(harness: LoopbackHarness, raw: Connect) -> None:
    server, _ = listening(harness)
    old, new = raw(zmq.DEALER, server.endpoint(), b"node/5"), raw(zmq.DEALER, server.endpoint(), b"node/6")
    for dealer, incarnation in ((new, 6), (old, 5)):
        dealer.send(wire.direct_header(incarnation) + BODY)
        assert dealer.poll(5000)
    assert [received.sender.incarnation for received in server.probe.messages] == [6, 5]
    server.send(Address("node/6"), 2)
    new.recv()
    assert ProbeCodec().decode(wire.unpack(new.recv_multipart()).body) == Note(2)


def test_a_peer_that_does_not_read_is_busy_and_holds_up_nobody(harness: LoopbackHarness, raw: Connect) -> None:
    server, runtime = listening(harness)
    slow = raw(zmq.DEALER, server.endpoint(), b"slow/1", RCVHWM=1)
    slow.send(wire.direct_header(1) + BODY)
    client = start_probe(harness, "client")
    harness.wait_for(lambda: runtime.statistics()["messages_out"] == 1)
    chunk = os.urandom(40_000)
    server.do(lambda ctx: [ctx.send(Address("slow/1"), Note(n), [chunk]) for n in range(3_000)])
    client.send(server.endpoint(), 7)
    harness.wait_for(lambda: client.probe.numbers == [7])
    harness.wait_for(lambda: len(server.probe.peers) == runtime.statistics()["busy"])
    assert set(server.probe.peers) == {(Address("slow/1"), PeerEvent.BUSY)}
    assert runtime.statistics()["busy"] > 1_000
    harness.wait_for(lambda: runtime.statistics()["busy"] + runtime.statistics()["messages_out"] == 3_002)


def test_what_waits_for_a_peer_that_does_not_read_is_bounded_in_bytes(harness: LoopbackHarness, raw: Connect) -> None:
    server, runtime = listening(harness)
    slow = raw(zmq.DEALER, server.endpoint(), b"slow/1", RCVHWM=1)
    slow.send(wire.direct_header(1) + BODY)
    slow.recv()
    chunk = os.urandom(4 << 20)
    most = limits.UNSENT_PEER_BYTES // len(chunk)
    for rest in ([], [b""], [b"small"]):
        before = runtime.statistics()
        server.do(
            lambda ctx, rest=rest: [ctx.send(Address("slow/1"), Note(2), [chunk, *rest]) for _ in range(2 * most)]
        )
        harness.wait_for(lambda before=before: _sent(runtime, before) + _dropped(runtime, before) == 2 * most)
        accepted = _sent(runtime, before)
        assert most - 1 <= accepted <= most + 4  # the kernel takes some
        for _ in range(accepted):
            assert slow.poll(5000), "what was accepted arrives"
            slow.recv_multipart()
        harness.wait_for(lambda: _waiting(runtime) == 0)


def _sent(runtime: ZmqRuntime, before: dict[str, int]) -> int:
    return int(runtime.statistics()["messages_out"] - before["messages_out"])


def _dropped(runtime: ZmqRuntime, before: dict[str, int]) -> int:
    return int(runtime.statistics()["busy"] - before["busy"])


def _waiting(runtime: ZmqRuntime) -> int:
    return int(runtime.statistics()["unsent_bytes"])


def test_nothing_arrives_with_a_gap_before_busy_was_said(harness: LoopbackHarness, raw: Connect) -> None:
    server, _ = listening(harness)
    slow = raw(zmq.DEALER, server.endpoint(), b"slow/1", RCVHWM=1)
    slow.send(wire.direct_header(1) + BODY)
    harness.wait_for(lambda: server.probe.messages)
    chunk = os.urandom(40_000)
    server.do(lambda ctx: [ctx.send(Address("slow/1"), Note(n), [chunk, b""]) for n in range(2_000)])
    harness.wait_for(lambda: server.probe.peers)
    accepted = 2_000 - len(server.probe.peers)
    slow.recv()
    for expected in range(accepted):
        assert slow.poll(5000), f"message {expected} of {accepted} is missing"
        frames = slow.recv_multipart()
        assert len(frames) == 3, "only a message of several frames can have a gap"
        envelope = wire.unpack(frames)
        assert ProbeCodec().decode(envelope.body) == Note(expected)
        assert envelope.payload == [chunk, b""]


def test_joined_payload_above_the_size_of_a_shared_buffer_is_counted_too(
    harness: LoopbackHarness, raw: Connect
) -> None:
    server, runtime = listening(harness)
    slow = raw(zmq.DEALER, server.endpoint(), b"slow/1", RCVHWM=1)
    slow.send(wire.direct_header(1) + BODY)
    slow.recv()
    harness.wait_for(lambda: runtime.statistics()["messages_out"] == 1)
    parts = [os.urandom(4096) for _ in range(64)]
    before = runtime.statistics()
    server.do(lambda ctx: [ctx.send(Address("slow/1"), Note(2), parts) for _ in range(500)])
    harness.wait_for(lambda: _sent(runtime, before) + _dropped(runtime, before) == 500)
    assert 0 < _waiting(runtime) <= limits.UNSENT_PEER_BYTES
    assert _dropped(runtime, before) > 0
    assert slow.poll(5000)
    frames = slow.recv_multipart()
    assert len(frames) == 1
    assert wire.unpack(frames).payload == parts


def test_what_a_listener_sent_before_it_ended_comes_before_the_news_of_its_end(harness: LoopbackHarness) -> None:
    server, client, endpoint = pair(harness, Probe(at_stop=lambda ctx: _answer_fifty(ctx)))
    harness.wait_for(lambda: server.probe.messages)
    server.handle.stop()
    harness.wait_for(lambda: client.probe.peers)
    assert client.probe.numbers == list(range(1, 51))
    assert client.probe.turns[-1] == "peer"
    assert client.probe.peers == [(endpoint, PeerEvent.GONE)]


def _answer_fifty(ctx: Context) -> None:
    for number in range(1, 51):
        ctx.send(Address("client/1"), Note(number))


def test_messages_to_a_silent_listener_queue_up_to_the_limit_then_it_is_busy(harness: LoopbackHarness) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel takes connections for a process that hangs
        endpoint = Address(f"tcp://127.0.0.1:{silent.getsockname()[1]}")
        client = start_probe(harness, "client")
        client.send(endpoint, *range(limits.SEND_QUEUE_MESSAGES + 500))
        harness.wait_for(lambda: len(client.probe.peers) >= 500)
        assert set(client.probe.peers) == {(endpoint, PeerEvent.BUSY)}
        assert harness.runtimes[-1].statistics()["messages_out"] == limits.SEND_QUEUE_MESSAGES
        client.do(lambda ctx: ctx.disconnect(endpoint))
    server = start_probe(harness, "server", listen=endpoint)
    client.send(endpoint, 9_999)
    harness.wait_for(lambda: server.probe.messages)
    assert server.probe.numbers == [9_999]


@pytest.mark.parametrize(
    "to",
    [
        "tcp://",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:port",
        "tcp://127.0.0.1:65536",
        "tcp://127.0.0.1:99999999999999999999",
        "tcp://two words:1",
        "carrier-pigeon://roof",
        "://",
        "tcp://null\0byte:1",
        "tcp://ümlaut\udc80:1",
        "",
        "nobody",
        "nöbody/1",
        "lone\udc80/1",
        "x" * 300,
    ],
)
def test_an_address_that_can_never_be_reached_is_gone(harness: LoopbackHarness, to: str) -> None:
    server, runtime = listening(harness)
    lonely = start_probe(harness, "lonely")
    for running in (server, lonely):
        running.send(Address(to), 1, 2)
        harness.wait_for(lambda probe=running.probe: probe.peers == [(to, PeerEvent.GONE)] * 2)
        running.do(lambda ctx: ctx.disconnect(Address(to)))
    lonely.send(server.endpoint(), 3)
    harness.wait_for(lambda: lonely.probe.numbers == [3])
    assert runtime.statistics()["gone"] == 2


@pytest.mark.parametrize("to", ["tcp://[::1:5", "tcp://no-such-host.invalid:1"])
def test_an_address_that_only_resolving_shows_to_be_wrong_harms_nobody(harness: LoopbackHarness, to: str) -> None:
    server, client, endpoint = pair(harness)
    client.send(Address(to), 1)
    client.do(lambda ctx: ctx.disconnect(Address(to)))
    client.send(Address(to), 2)
    client.send(endpoint, 3)
    harness.wait_for(lambda: client.probe.numbers == [0, 3])
    assert server.probe.numbers == [0, 3]


def test_a_feed_that_can_never_be_joined_is_gone(harness: LoopbackHarness) -> None:
    probe = start_probe(harness, "probe")
    nowhere = Address("carrier-pigeon://roof")
    probe.do(lambda ctx: ctx.join_feed(publish_to=nowhere, subscribe_to=nowhere))
    harness.wait_for(lambda: probe.probe.peers == [(nowhere, PeerEvent.GONE)] * 2)
    probe.do(lambda ctx: ctx.publish("topic", Note(1)))


def test_a_peer_that_died_is_gone(harness: LoopbackHarness, raw: Connect) -> None:
    server, runtime = listening(harness)
    stranger = raw(zmq.DEALER, server.endpoint(), b"client/5")
    stranger.send(wire.direct_header(5) + BODY)
    assert stranger.poll(5000)
    stranger.close(0)
    again_until(harness, lambda: server.probe.peers, lambda: server.send(Address("client/5"), 1))
    assert set(server.probe.peers) == {(Address("client/5"), PeerEvent.GONE)}
    assert runtime.statistics()["gone"] >= 1


def test_the_listener_remembers_a_bounded_number_of_peers(raw: Connect, harness: LoopbackHarness) -> None:
    heard: list[Peer] = []

    def turn(peer: Peer, message: Message, payload: Sequence[memoryview]) -> bool:
        heard.append(peer)
        return True

    counters = Counters()
    inbound = Inbound(ProbeCodec(), turn, counters, Journal(logging.getLogger("actors"), "x/1", counters), Cut())
    with zmq.Context() as context:
        socket_, endpoint = bind(context, zmq.ROUTER, harness.listen_at())
        listener = Listener(socket_, inbound, max_peers=2)
        dealers = [raw(zmq.DEALER, endpoint, f"client/{number}".encode()) for number in range(4)]
        for _ in range(2):
            for number, dealer in enumerate(dealers):
                dealer.send(wire.direct_header(number) + BODY)
                expected = len(heard) + 1
                harness.wait_for(lambda expected=expected: listener.drain() or len(heard) == expected)
        assert [peer.incarnation for peer in heard] == [0, 1, 2, 3] * 2
        assert len(listener) == 2
        socket_.close(0)


def test_input_is_drained_before_timers_fire(harness: LoopbackHarness) -> None:
    with zmq.Context() as context, LoopbackHarness(context=context) as shared:
        server = start_probe(shared, "server", listen=Address("inproc://server"))
        client = start_probe(shared, "client")
        paused, resume = threading.Event(), threading.Event()

        def pause(ctx: Context) -> None:
            ctx.set_timer("suspect everybody", 0)
            paused.set()
            assert resume.wait(5.0)

        server.handle.call(pause)
        assert paused.wait(5.0)
        client.send(Address("inproc://server"), *range(5 * limits.DRAIN_MESSAGES))
        client_runtime = shared.runtimes[-1]
        shared.wait_for(lambda: client_runtime.statistics()["messages_out"] == 5 * limits.DRAIN_MESSAGES)
        resume.set()
        shared.wait_for(lambda: server.probe.timers)
        assert server.probe.turns == ["start", "call", *["message"] * 5 * limits.DRAIN_MESSAGES, "timer"]


def test_a_listener_on_every_address_is_reached_by_ipv4_and_by_name(harness: LoopbackHarness) -> None:
    server = start_probe(harness, "server", Probe(reply=echo), listen=Address("tcp://*:0"))
    port = server.endpoint().rpartition(":")[2]
    client = start_probe(harness, "client")
    client.send(Address(f"tcp://127.0.0.1:{port}"), 1)
    harness.wait_for(lambda: client.probe.numbers == [1])
    client.send(Address(f"tcp://localhost:{port}"), 2)
    harness.wait_for(lambda: client.probe.numbers == [1, 2])


def test_a_stranger_who_speaks_another_protocol_changes_nothing(harness: LoopbackHarness) -> None:
    server, client, endpoint = pair(harness)
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    with socket.create_connection((host, int(port))) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.send(endpoint, 1)
        harness.wait_for(lambda: client.probe.numbers == [0, 1])
    assert server.probe.numbers == [0, 1]
