"""Conformance: what gets through a cut network, and that all is well again when it is healed."""

# Scripts are lambdas for brevity, also where what they call returns nothing.
# mypy: disable-error-code=func-returns-value

from __future__ import annotations

from actors.core import Address, Channel
from actors.testing.probe import Harness, Note, Probe, Running, again_until, echo, start_probe

CLIENT = Address("client/1")


def _conversation(harness: Harness) -> tuple[Running, Running, Running, Address]:
    """A listener that only listens, two clients that it knows, and where it listens."""
    server = start_probe(harness, "server", Probe(), listen=harness.listen_at())
    client, other = start_probe(harness, "client"), start_probe(harness, "other")
    for each in (client, other):
        each.send(server.endpoint(), 0)
    harness.wait_for(lambda: len(server.probe.messages) == 2)
    return server, client, other, server.endpoint()


def _from(server: Running, name: str) -> set[int]:
    return {got.number for got in server.probe.messages if got.sender.name == name}


class CutConformance:
    """A cut is silence in the directions that were cut, and nowhere else."""

    def test_nothing_gets_through_a_cut_in_either_direction_and_others_are_not_touched(self, harness: Harness) -> None:
        server, client, other, endpoint = _conversation(harness)
        harness.partition(client, server)
        client.send(endpoint, 1)
        server.send(CLIENT, 2)
        for number in range(10, 30):  # the others' conversation is the clock
            other.send(endpoint, number)
            server.send(Address("other/1"), number)
        harness.wait_for(lambda: len(_from(server, "other")) == 21 and len(other.probe.messages) == 20)
        assert _from(server, "client") == {0}
        assert client.probe.messages == []

    def test_a_cut_of_one_direction_leaves_the_other(self, harness: Harness) -> None:
        server, client, other, endpoint = _conversation(harness)
        harness.partition(client, server, one_way=True)
        client.send(endpoint, 1)
        server.send(CLIENT, 2)
        harness.wait_for(lambda: client.probe.numbers == [2])
        other.send(endpoint, 3)
        harness.wait_for(lambda: 3 in _from(server, "other"))
        assert _from(server, "client") == {0}

    def test_after_healing_messages_get_through_again_and_a_second_cut_holds_again(self, harness: Harness) -> None:
        server, client, other, endpoint = _conversation(harness)
        for number in (100, 200):
            _cut_and_heal(harness, (server, client, other), endpoint, number)

    def test_a_reply_does_not_get_through_a_cut_made_meanwhile(self, harness: Harness) -> None:
        server = start_probe(harness, "server", Probe(reply=echo), listen=harness.listen_at())
        client = start_probe(harness, "client")
        client.send(server.endpoint(), 0)
        harness.wait_for(lambda: client.probe.numbers == [0])
        harness.partition(server, client, one_way=True)
        client.send(server.endpoint(), 1)
        harness.wait_for(lambda: 1 in server.probe.numbers)
        other = start_probe(harness, "other")
        other.send(server.endpoint(), 2)
        harness.wait_for(lambda: other.probe.numbers == [2])
        assert client.probe.numbers == [0]

    def test_feeds_are_cut_as_well(self, harness: Harness) -> None:
        server = start_probe(harness, "server", subscribe=harness.listen_at(), publish=harness.listen_at())
        readers = [start_probe(harness, name) for name in ("near", "far")]
        for reader in readers:
            reader.do(
                lambda ctx: ctx.join_feed(
                    publish_to=server.endpoint("subscribe"), subscribe_to=server.endpoint("publish")
                )
            )
        near, far = readers

        def hear_both() -> bool:
            return all(reader.probe.messages for reader in readers) and {"near", "far"} <= _feeders(server)

        again_until(harness, hear_both, lambda: [_publish(each, 1) for each in (server, *readers)])
        harness.partition(server, far)
        _publish(far, 2)
        again_until(
            harness,
            lambda: 2 in near.probe.numbers and 2 in _from(server, "near"),
            lambda: [_publish(each, 2) for each in (server, near)],
        )
        assert 2 not in _from(server, "far")
        assert 2 not in far.probe.numbers


def _cut_and_heal(harness: Harness, probes: tuple[Running, Running, Running], endpoint: Address, number: int) -> None:
    server, client, other = probes
    harness.partition(server, client)
    client.send(endpoint, number)
    other.send(endpoint, number)
    harness.wait_for(lambda: number in _from(server, "other"))
    assert number not in _from(server, "client")
    harness.heal()
    again_until(harness, lambda: number + 1 in _from(server, "client"), lambda: client.send(endpoint, number + 1))
    again_until(harness, lambda: number + 2 in client.probe.numbers, lambda: server.send(CLIENT, number + 2))


def _feeders(server: Running) -> set[str]:
    return {got.sender.name for got in server.probe.messages if got.sender.channel is Channel.FEED}


def _publish(running: Running, number: int) -> None:
    running.do(lambda ctx: ctx.publish("topic", Note(number)))
