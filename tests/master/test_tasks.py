"""Tasks come to an end, whatever becomes of what they were about."""

from __future__ import annotations

from typing import Any

from dsa_zmq.model.pace import HealingPace
from dsa_zmq.protocol.messages import Fetch, Fetched
from dsa_zmq.protocol.operations import BeginTask, Found, ListNodes, ListTasks, Remove
from dsa_zmq.protocol.values import Failure, FetchOutcome


def states(client: Any) -> dict[str, tuple[str, str]]:
    """State and note of each task, by kind."""
    return {task.plan.kind: (task.state, task.note) for task in client.ask(ListTasks()).tasks}


def test_a_drain_is_over_when_the_node_has_another_store(world: Any) -> None:
    nodes = world.nodes(3)
    client = world.client()
    assert isinstance(client.upload("/file", nodes, redundancy="copies=2"), Found)
    node = next(node for node in nodes if node.shards)
    client.ask(BeginTask("drain", node.form.name))
    node.handle.kill()
    world.run_for(15.0)
    assert states(client)["drain"][0] == "running", "it may come back"
    world.node(nodes.index(node) + 1, store_id=b"another store...").register()
    assert states(client)["drain"] == ("cancelled", "the node has another store")
    assert not any(info.draining for info in client.ask(ListNodes()).nodes)


def test_a_conversion_is_over_although_a_file_is_removed_before_its_shards_have_moved(world: Any) -> None:
    world.crash()
    world.start(pace=HealingPace().faster(20), heartbeat_s=0.1, suspect_s=0.5, down_s=1.0)
    nodes = world.nodes(3)
    client = world.client()
    assert isinstance(client.upload("/file", nodes, redundancy="copies=2"), Found)
    client.ask(BeginTask("convert", "/file", "copies=3"))
    world.wait(lambda: all(node.received(Fetch) for node in nodes))
    client.ask(Remove("/file"))
    world.run_for(5.0)  # its chunk is let go, and nobody can be asked for its bytes any more
    for node in nodes:
        (order,) = {fetch.number: fetch for fetch in node.received(Fetch)}.values()
        nothing = [FetchOutcome(shard.move, failure=Failure("not-found", "is not here")) for shard in order.shards]
        node.send(Fetched(order.number, nothing))
    world.eventually(lambda: states(client)["convert"][0] != "running", 60.0)
    assert world.actor.statistics()["moves"] == 0
