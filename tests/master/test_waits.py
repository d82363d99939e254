"""Repair that waits because a node may come back: health says for how long."""

from __future__ import annotations

from typing import Any

from dsa_zmq.protocol.operations import Health


def test_health_says_when_the_repair_of_what_a_dead_node_had_begins(world: Any) -> None:
    client, nodes = world.client(), world.nodes(4)
    world.eventually(lambda: set(client.states().values()) == {"up"})
    for number in range(8):
        client.upload(f"/two/{number}", nodes, redundancy="copies=2")
        client.upload(f"/three/{number}", nodes, redundancy="copies=3")
    assert client.ask(Health()).waits == []
    nodes[0].beats = False
    world.eventually(lambda: client.states()["n1"] == "down")
    report = client.ask(Health())
    endangered, degraded = report.waits
    assert (endangered.node, endangered.chunks) == ("n1", report.endangered_chunks)
    assert (degraded.node, degraded.chunks) == ("n1", report.degraded_chunks)
    assert 5 <= endangered.seconds <= 10
    assert 290 <= degraded.seconds <= 300
    world.run_for(5)
    later = client.ask(Health()).waits
    for earlier, now in zip((endangered, degraded), later, strict=True):
        assert (now.node, now.chunks) == (earlier.node, earlier.chunks)
        assert 4 <= earlier.seconds - now.seconds <= 6
    world.run_for(10)
    (left,) = client.ask(Health()).waits
    assert (left.node, left.chunks) == ("n1", degraded.chunks)
    assert 14 <= degraded.seconds - left.seconds <= 16
    nodes[0].resume_beating()
    world.eventually(lambda: client.states()["n1"] == "up")
    assert client.ask(Health()).waits == []


def test_nothing_is_said_of_times_while_all_repair_is_held(world: Any) -> None:
    client, nodes = world.client(), world.nodes(4)
    world.eventually(lambda: set(client.states().values()) == {"up"})
    for number in range(8):
        client.upload(f"/two/{number}", nodes, redundancy="copies=2")
    for node in nodes[:2]:
        node.beats = False
    world.eventually(lambda: client.ask(Health()).held)
    assert client.ask(Health()).waits == []
