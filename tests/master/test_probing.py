"""Up only after a probe; suspect when nobody reaches a node, or when it hears nothing; one accuser convicts nobody."""

from __future__ import annotations

from typing import Any

from dsa_zmq.master.settings import LEAST_SETTLE_NS
from dsa_zmq.protocol.messages import Examine, Probe, Probed
from dsa_zmq.protocol.operations import Allocate, Done, ListNodes, Report
from dsa_zmq.protocol.values import Failure, ProbeOutcome, ShardRef

SECOND = 10**9


def reach_of(client: Any, name: str) -> str:
    (info,) = [info for info in client.ask(ListNodes()).nodes if info.name == name]
    assert isinstance(info.reach, str)
    return info.reach


def cut_off(nodes: list[Any], *unreachable: Any) -> None:
    """Nobody reaches the data ports of these."""
    lost = {node.registered.node for node in unreachable if node.registered}
    for node in nodes:
        node.reaches = lambda other, lost=lost: other not in lost


def report(client: Any, node: Any) -> None:
    assert client.ask(Report(node.registered.node, node.form.incarnation, silent=True)) == Done()


def test_a_single_node_is_up_at_once(world: Any) -> None:
    world.nodes(1)
    assert world.client().states() == {"n1": "up"}


def test_beside_others_a_node_is_up_once_one_of_them_has_reached_it(world: Any) -> None:
    (first,) = world.nodes(1)
    client = world.client()
    first.hears = False
    world.node(2).register()
    assert client.states() == {"n1": "up", "n2": "suspect"}
    assert world.runtime.advance(lambda: first.received(Probe), SECOND)
    probe = first.received(Probe)[0]
    (target,) = probe.nodes
    first.send(Probed(probe.number, [ProbeOutcome(target.node, target.incarnation)]))
    world.eventually(lambda: client.states() == {"n1": "up", "n2": "up"}, timeout_s=0.5)


def test_a_cluster_is_up_at_once_when_its_nodes_are(world: Any) -> None:
    world.nodes(4)
    world.run_for(0.05)
    assert set(world.client().states().values()) == {"up"}


def test_an_address_that_nobody_reaches_is_said_by_name(world: Any) -> None:
    nodes = world.nodes(2)
    for node in nodes:
        node.reaches = lambda other: other in (nodes[0].registered.node, nodes[1].registered.node)
    client = world.client()
    world.node(3).register()
    world.eventually(lambda: "--advertise" in reach_of(client, "n3"))
    assert client.states() == {"n1": "up", "n2": "up", "n3": "suspect"}
    assert "'n1' and 'n2' got no answer at tcp://10.0.1.3:7710" in reach_of(client, "n3")


def test_who_was_alone_and_cannot_be_reached_is_suspect_when_another_one_comes(world: Any) -> None:
    (first,) = world.nodes(1)
    client = world.client()
    second = world.node(2)
    second.reaches = lambda other: False
    second.register()
    world.eventually(lambda: client.states() == {"n1": "suspect", "n2": "up"})
    assert "'n2' got no answer at tcp://10.0.1.1:7710" in reach_of(client, "n1")
    second.reaches = lambda other: True
    world.eventually(lambda: client.states() == {"n1": "up", "n2": "up"})
    assert reach_of(client, "n1") == ""
    assert first.registered


def test_a_node_that_others_reach_no_more_is_suspect_and_gets_nothing_new(world: Any) -> None:
    nodes = world.nodes(3)
    client = world.client()
    world.run_for(5)
    cut_off(nodes, nodes[0])
    world.eventually(lambda: client.states() == {"n1": "suspect", "n2": "up", "n3": "up"}, timeout_s=5)
    for _ in range(5):
        (chunk,) = client.ask(Allocate(0, "/f", 1 << 20, 0, [5])).chunks
        assert nodes[0].registered.node not in {place.node for place in chunk.places}
    cut_off(nodes)
    world.eventually(lambda: set(client.states().values()) == {"up"}, timeout_s=5)


def test_one_that_cannot_reach_another_convicts_nobody(world: Any) -> None:
    nodes = world.nodes(4)
    client = world.client()
    world.run_for(5)
    nodes[0].reaches = lambda other: False
    for _ in range(20):
        world.run_for(1)
        assert set(client.states().values()) == {"up"}


def test_of_two_nodes_that_do_not_reach_each_other_none_is_convicted(world: Any) -> None:
    nodes = world.nodes(2)
    client = world.client()
    world.run_for(5)
    cut_off(nodes, *nodes)
    world.run_for(20)
    assert set(client.states().values()) == {"up"}


def test_a_node_that_never_answers_though_its_heartbeats_come_is_suspect_until_it_does(world: Any) -> None:
    nodes = world.nodes(3)
    client = world.client()
    nodes[1].hears = False
    world.eventually(lambda: client.states() == {"n1": "up", "n2": "suspect", "n3": "up"})
    assert "does not answer the master" in reach_of(client, "n2")
    nodes[1].hears = True
    world.eventually(lambda: set(client.states().values()) == {"up"})


def test_a_lost_answer_makes_nobody_suspect(world: Any) -> None:
    nodes = world.nodes(3)
    client = world.client()
    for _ in range(6):
        nodes[1].hears = False
        world.run_for(LEAST_SETTLE_NS / SECOND - 1)
        nodes[1].hears = True
        world.run_for(4)
        assert set(client.states().values()) == {"up"}


def test_each_node_is_tried_by_all_others_in_turn(world: Any) -> None:
    nodes = world.nodes(4)
    world.run_for(16)
    for node in nodes:
        tried_by = {
            other.form.name
            for other in nodes
            for probe in other.received(Probe)
            if probe.nodes[0].node == node.registered.node
        }
        assert tried_by == {other.form.name for other in nodes} - {node.form.name}


def test_a_report_makes_the_master_ask_at_once_and_one_client_alone_convicts_nobody(world: Any) -> None:
    nodes = world.nodes(3)
    client = world.client()
    world.run_for(5)
    before = [len(node.received(Probe)) for node in nodes]
    report(client, nodes[0])
    world.run_for(0.05)
    asked = [len(node.received(Probe)) - count for node, count in zip(nodes, before, strict=True)]
    assert asked == [0, 1, 1]
    for _ in range(10):
        world.run_for(1)
        report(client, nodes[0])
        assert set(client.states().values()) == {"up"}


def test_two_clients_and_one_node_convict(world: Any) -> None:
    nodes = world.nodes(2)
    first, second = world.client("client-a"), world.client("client-b")
    world.run_for(5)
    cut_off(nodes, nodes[0])
    report(first, nodes[0])
    world.run_for(1)
    assert first.states() == {"n1": "up", "n2": "up"}
    report(second, nodes[0])
    world.run_for(0.1)
    assert first.states() == {"n1": "suspect", "n2": "up"}


def test_one_client_that_reports_often_is_one_client(world: Any) -> None:
    nodes = world.nodes(2)
    client = world.client()
    world.run_for(5)
    cut_off(nodes, nodes[0])
    for _ in range(8):
        report(client, nodes[0])
        world.run_for(1.1)
        assert client.states() == {"n1": "up", "n2": "up"}


def test_reports_of_former_processes_and_strangers_count_for_nothing(world: Any) -> None:
    nodes = world.nodes(2)
    client = world.client()
    world.run_for(5)
    assert client.ask(Report(nodes[0].registered.node, nodes[0].form.incarnation - 1, silent=True)) == Done()
    assert client.ask(Report(4711, 1, silent=True)) == Done()
    assert world.actor.statistics()["reports"] == 0


def test_too_few_nodes_is_no_answer_while_one_is_just_being_tried(world: Any) -> None:
    (first,) = world.nodes(1)
    client = world.client()
    first.hears = False
    world.node(2).register()
    (number,) = client.calls(Allocate(0, "/f", 1 << 20, 0, [5]))
    world.run_for(0.5)
    assert client.results(number) == []
    probe = first.received(Probe)[0]
    first.send(Probed(probe.number, [ProbeOutcome(node.node, node.incarnation) for node in probe.nodes]))
    world.wait(lambda: client.results(number))
    assert not isinstance(client.results(number)[0], Failure)


def test_but_it_is_when_nobody_can_tell(world: Any) -> None:
    (first,) = world.nodes(1)
    client = world.client()
    first.hears = False
    world.node(2).register()
    (number,) = client.calls(Allocate(0, "/f", 1 << 20, 0, [5]))
    world.wait(lambda: client.results(number), timeout_s=8)
    assert client.results(number)[0].code == "too-few-nodes"


def test_a_report_of_damage_makes_the_master_ask_the_node_to_read(world: Any) -> None:
    nodes = world.nodes(2)
    client = world.client()
    assert client.upload("/f", nodes)
    node = nodes[0]
    (shard,) = node.shards
    stranger = ShardRef(shard.chunk + 1000, 0)
    client.ask(Report(node.registered.node, node.form.incarnation, damaged=[shard, stranger]))
    world.wait(lambda: any(set(question.shards) == {shard, stranger} for question in node.received(Examine)))
    assert all(question.read for question in node.received(Examine))
