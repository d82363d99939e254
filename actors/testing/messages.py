"""Conformance: delivery, payload, limits, and the coming and going of peers."""

# Scripts are lambdas for brevity, also where what they call returns nothing.
# mypy: disable-error-code=func-returns-value

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

from actors import limits
from actors.core import Address, Channel, Context, Payload, PeerEvent
from actors.errors import MessageTooLarge
from actors.testing.probe import (
    Garbage,
    Harness,
    Note,
    Probe,
    ProbeCodec,
    Running,
    again_until,
    echo,
    pair,
    start_probe,
)


def _has_more_than(those: Sequence[object], number: int) -> bool:
    return len(those) > number


def _resend(harness: Harness, sender: Running, to: Address, until: Callable[[], object], number: int = 999) -> None:
    """Send again and again until ``until()``: what every request of ours does."""

    again_until(harness, until, lambda: sender.send(to, number))


class MessageConformance:
    """Delivery, payload, limits, and the coming and going of peers."""

    def test_a_request_reaches_its_endpoint_and_the_reply_comes_back(self, harness: Harness) -> None:
        server, client, endpoint = pair(harness)
        client.send(endpoint, 7, text="Grüße")
        harness.wait_for(lambda: client.probe.numbers == [0, 7])
        assert server.probe.messages[1].message == client.probe.messages[1].message == Note(7, "Grüße")

    def test_a_message_names_its_sender(self, harness: Harness) -> None:
        server = start_probe(harness, "server", Probe(reply=echo), listen=harness.listen_at(), incarnation=41)
        client = start_probe(harness, "client", incarnation=17)
        endpoint = server.endpoint()
        client.send(endpoint, 1)
        harness.wait_for(lambda: client.probe.messages)
        at_server, at_client = server.probe.messages[0].sender, client.probe.messages[0].sender
        assert (at_server.address, at_server.name, at_server.incarnation) == ("client/17", "client", 17)
        assert (at_client.address, at_client.name, at_client.incarnation) == (endpoint, endpoint, 41)
        assert at_server.channel is at_client.channel is Channel.DIRECT

    def test_messages_of_a_pair_arrive_in_order(self, harness: Harness) -> None:
        server, client, endpoint = pair(harness, Probe())
        for start in range(1, 401, 50):
            client.send(endpoint, *range(start, start + 50))
        harness.wait_for(lambda: len(server.probe.messages) == 401)
        assert server.probe.numbers == list(range(401))

    def test_replies_of_a_turn_arrive_in_order(self, harness: Harness) -> None:
        _, client, endpoint = pair(harness, Probe(reply=lambda ctx, got: [echo(ctx, got) for _ in range(3)]))
        client.send(endpoint, 1, 2)
        harness.wait_for(lambda: len(client.probe.messages) == 9)
        assert client.probe.numbers == [0, 0, 0, 1, 1, 1, 2, 2, 2]

    def test_two_clients_get_their_own_replies(self, harness: Harness) -> None:
        _, client, endpoint = pair(harness)
        other = start_probe(harness, "other")
        other.send(endpoint, *range(100, 120))
        client.send(endpoint, *range(200, 220))
        harness.wait_for(lambda: len(client.probe.messages) == 21 and len(other.probe.messages) == 20)
        assert client.probe.numbers == [0, *range(200, 220)]
        assert other.probe.numbers == list(range(100, 120))

    def test_a_listener_may_command_a_client_that_only_connected(self, harness: Harness) -> None:
        server, client, endpoint = pair(harness, Probe())
        server.send(Address("client/1"), 5, 6)
        harness.wait_for(lambda: client.probe.numbers == [5, 6])
        assert client.probe.messages[0].sender.address == endpoint

    def test_an_actor_may_send_to_its_own_endpoint(self, harness: Harness) -> None:
        server = start_probe(harness, "server", listen=harness.listen_at())
        server.send(server.endpoint(), 3)
        harness.wait_for(lambda: server.probe.numbers == [3])
        assert server.probe.messages[0].sender.address == "server/1"

    def test_payload_arrives_intact_and_read_only(self, harness: Harness) -> None:
        _, client, endpoint = pair(harness)
        sent: Payload = [os.urandom(1), os.urandom(70_000), memoryview(os.urandom(300_000))[1000:], os.urandom(17)]
        client.do(lambda ctx: ctx.send(endpoint, Note(1), sent))
        harness.wait_for(lambda: client.probe.numbers == [0, 1])
        got = client.probe.messages[1].payload
        assert [bytes(frame) for frame in got] == [bytes(frame) for frame in sent]
        assert all(frame.readonly for frame in got)

    def test_empty_frames_arrive_as_frames(self, harness: Harness) -> None:
        server, client, endpoint = pair(harness)
        payloads: list[Payload] = [[b""], [], [b"", b"x", b""], ()]
        client.do(lambda ctx: [ctx.send(endpoint, Note(i), payload) for i, payload in enumerate(payloads)])
        harness.wait_for(lambda: len(client.probe.messages) == 5)
        for probe in (server.probe, client.probe):
            got = [[bytes(frame) for frame in received.payload] for received in probe.messages[1:]]
            assert got == [[b""], [], [b"", b"x", b""], []]

    def test_the_most_frames_and_the_largest_payload_arrive(self, harness: Harness) -> None:
        server, client, endpoint = pair(harness, Probe())
        frames = [os.urandom(3) for _ in range(limits.MAX_PAYLOAD_FRAMES)]
        large = os.urandom(1024) * (limits.MAX_PAYLOAD_BYTES // 1024)
        client.do(lambda ctx: (ctx.send(endpoint, Note(1), frames), ctx.send(endpoint, Note(2), [large])))
        harness.wait_for(lambda: len(server.probe.messages) == 3)
        assert [bytes(frame) for frame in server.probe.messages[1].payload] == frames
        assert server.probe.messages[2].payload[0] == large

    def test_what_exceeds_a_limit_is_refused_in_the_turn_and_the_turn_goes_on(self, harness: Harness) -> None:
        server, client, endpoint = pair(harness, Probe())
        half = bytes(limits.MAX_PAYLOAD_BYTES // 2 + 1)

        def script(ctx: Context) -> None:
            probe = client.probe
            probe.attempt(lambda: ctx.send(endpoint, Note(1, "x" * limits.MAX_MESSAGE_BYTES)))
            probe.attempt(lambda: ctx.send(endpoint, Note(2), [half, half]))
            probe.attempt(lambda: ctx.send(endpoint, Note(3), [b""] * (limits.MAX_PAYLOAD_FRAMES + 1)))
            probe.attempt(lambda: ctx.send(endpoint, Note(4)))

        client.do(script)
        assert [type(error) for error in client.probe.noted] == [MessageTooLarge] * 3 + [type(None)]
        harness.wait_for(lambda: server.probe.numbers == [0, 4])

    def test_a_mutable_payload_is_refused(self, harness: Harness) -> None:
        server, client, endpoint = pair(harness, Probe())
        frames: list[Any] = [bytearray(b"abc"), memoryview(bytearray(b"abc")), "abc"]

        def script(ctx: Context) -> None:
            for frame in frames:
                client.probe.attempt(functools.partial(ctx.send, endpoint, Note(1), [b"fine", frame]))
            ctx.send(endpoint, Note(2), [memoryview(b"fine")])

        client.do(script)
        assert [type(error) for error in client.probe.noted] == [TypeError] * 3
        harness.wait_for(lambda: server.probe.numbers == [0, 2])

    def test_undecodable_bytes_are_dropped_and_the_next_message_arrives(self, harness: Harness) -> None:
        server, client, endpoint = pair(harness)
        for data in (b"", b"\xc1", os.urandom(40), ProbeCodec().encode(Note(66))[:-1]):
            self._send_raw(client, endpoint, data)
        client.send(endpoint, 1)
        harness.wait_for(lambda: client.probe.numbers == [0, 1])
        assert server.probe.numbers == [0, 1]

    @staticmethod
    def _send_raw(client: Running, to: Address, data: bytes) -> None:
        client.do(lambda ctx: ctx.send(to, Garbage(data), [b"with a payload"]))

    def test_an_unknown_peer_name_is_gone(self, harness: Harness) -> None:
        server, client, endpoint = pair(harness)
        server.send(Address("stranger/4"), 1)
        client.send(Address("server/1"), 1)  # known to us by its endpoint only
        harness.wait_for(lambda: server.probe.peers == [("stranger/4", PeerEvent.GONE)])
        harness.wait_for(lambda: client.probe.peers == [("server/1", PeerEvent.GONE)])
        client.send(endpoint, 2)
        harness.wait_for(lambda: client.probe.numbers == [0, 2])

    def test_a_restarted_client_is_a_new_address_and_the_old_one_is_gone(self, harness: Harness) -> None:
        server, client, endpoint = pair(harness)
        client.handle.kill()
        client.handle.join(5.0)
        again = start_probe(harness, "client", incarnation=2)
        again.send(endpoint, 1)
        harness.wait_for(lambda: again.probe.numbers == [1])
        assert server.probe.messages[-1].sender.address == "client/2"
        gone = (Address("client/1"), PeerEvent.GONE)
        _resend(harness, server, Address("client/1"), lambda: gone in server.probe.peers, number=13)
        server.send(Address("client/2"), 2)
        harness.wait_for(lambda: again.probe.numbers == [1, 2])
        assert (Address("client/2"), PeerEvent.GONE) not in server.probe.peers

    def test_a_restarted_listener_is_reached_again_by_resending(self, harness: Harness) -> None:
        server, client, endpoint = pair(harness)
        harness.wait_for(lambda: client.probe.messages)
        server.handle.kill()
        server.handle.join(5.0)
        client.send(endpoint, 1)
        start_probe(harness, "server", Probe(reply=echo), listen=endpoint, incarnation=2)
        _resend(harness, client, endpoint, lambda: 999 in client.probe.numbers)
        assert client.probe.messages[-1].sender.incarnation == 2
        assert client.probe.numbers.count(1) <= 1

    def test_whoever_connected_hears_at_once_that_the_listener_has_died(self, harness: Harness) -> None:
        server, client, endpoint = pair(harness)
        harness.wait_for(lambda: client.probe.messages)
        server.handle.kill()
        harness.wait_for(lambda: client.probe.peers == [(endpoint, PeerEvent.GONE)])

    def test_a_connection_that_nobody_takes_is_gone_with_its_queue(self, harness: Harness) -> None:
        endpoint = harness.unused_endpoint()
        client = start_probe(harness, "client")
        for number in range(3):
            client.send(endpoint, number)
            harness.wait_for(functools.partial(_has_more_than, client.probe.peers, number))
        assert set(client.probe.peers) == {(endpoint, PeerEvent.GONE)}
        server = start_probe(harness, "server", Probe(reply=echo), listen=endpoint)
        client.send(endpoint, 3)
        harness.wait_for(lambda: client.probe.numbers == [3])
        assert server.probe.numbers == [3]

    def test_messages_to_a_later_listener_arrive_at_most_once(self, harness: Harness) -> None:
        endpoint = harness.unused_endpoint()
        client = start_probe(harness, "client")
        client.send(endpoint, *range(10))
        server = start_probe(harness, "server", Probe(reply=echo), listen=endpoint)
        _resend(harness, client, endpoint, lambda: 999 in client.probe.numbers)
        early = [number for number in server.probe.numbers if number < 10]
        assert early == sorted(set(early))

    def test_after_a_disconnect_the_peer_is_forgotten_until_the_next_send(self, harness: Harness) -> None:
        server, client, endpoint = pair(harness)
        client.do(lambda ctx: ctx.disconnect(endpoint))
        gone = (Address("client/1"), PeerEvent.GONE)
        _resend(harness, server, Address("client/1"), lambda: gone in server.probe.peers, number=13)
        _resend(harness, client, endpoint, lambda: 999 in client.probe.numbers)
        client.do(lambda ctx: ctx.disconnect(Address("tcp://127.0.0.1:1")))  # never connected: fine
