"""Answers and drops wait until nodes hold what they rest on; registrations do not; and without nodes that is said aloud."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors.sim.faults import ROUGH
from dsa_zmq.model.records import CHANGES
from dsa_zmq.protocol.messages import Drop, Registered
from dsa_zmq.protocol.operations import Health, ListDirectory, MakeDirectory, Remove, Stat
from dsa_zmq.protocol.values import Failure
from dsa_zmq.protocol.volumes import CatalogCopies, CatalogData, CatalogHistory, KeepVolumes, ReadCatalog, Ship
from tests.master.conftest import SECOND, MasterWorld, Node


def mute(*nodes: Node) -> None:
    """They live, and take no copies."""
    for node in nodes:
        node.keeps = False


def settled(world: Any, count: int = 3) -> tuple[list[Node], Any]:
    """So many nodes, which hold all that there is, and a client."""
    nodes = world.nodes(count)
    client = world.client()
    world.wait(lambda: world.actor.statistics()["ship_members"] == min(3, count))
    return nodes, client


def holders(world: Any, nodes: list[Node], position: int) -> list[Node]:
    """By what they really hold."""
    return [
        node
        for node in nodes
        if any(kept.chain.usable and kept.chain.position >= position for kept in node.keeper.volumes.values())
    ]


def log_position(world: Any) -> int:
    position: int = world.actor.statistics()["log_position"]
    return position


def test_an_answer_waits_for_the_second_holder(world: Any) -> None:
    nodes, client = settled(world)
    mute(*nodes[1:])
    (number,) = client.calls(MakeDirectory("/d"))
    world.run_for(2)
    assert not client.results(number)
    nodes[1].keeps = True
    world.wait(lambda: client.results(number), 5)
    assert len(holders(world, nodes, log_position(world))) == 2


@pytest.mark.parametrize("level", ["sync", "async"])
def test_what_was_answered_is_held_by_two_at_every_moment(make_world: Any, level: str) -> None:
    world = make_world(3)
    world.start(catalog_copies=level, catalog_lag_s=0.05)
    nodes, client = settled(world, 4)
    for number in range(20):
        client.ask(MakeDirectory(f"/d{number}"))
        if level == "sync":
            assert len(holders(world, nodes, log_position(world))) >= 2
    world.run_for(0.1)
    assert len(holders(world, nodes, log_position(world))) >= 2


def test_a_read_waits_for_what_it_saw(world: Any) -> None:
    nodes, client = settled(world)
    other = world.client("client-b")
    mute(*nodes)
    (number,) = client.calls(MakeDirectory("/d"))
    world.run_for(0.2)
    (read,) = other.calls(ListDirectory("/"))
    world.run_for(1)
    assert not client.results(number)
    assert not other.results(read), "a master that is made from the nodes would not know what was seen"
    nodes[0].keeps = nodes[1].keeps = True
    world.wait(lambda: other.results(read) and client.results(number), 5)
    assert [entry.name for entry in other.results(read)[0].entries] == ["d"]


def test_a_read_of_what_is_safe_waits_for_nobody(world: Any) -> None:
    nodes, client = settled(world)
    world.run_for(1)
    mute(*nodes)
    assert client.ask(Stat("/")).attributes.kind == "dir"


def test_with_async_answers_leave_at_once_until_the_copies_are_too_far_behind(make_world: Any) -> None:
    world = make_world(5)
    world.start(catalog_copies="async", catalog_lag_s=1.0, unprotected_after_s=30.0)
    nodes, client = settled(world)
    world.run_for(1)
    mute(*nodes)
    (first,) = client.calls(MakeDirectory("/a"))
    world.run_for(0.5)
    assert client.results(first)
    world.run_for(1)
    (second,) = client.calls(MakeDirectory("/b"))
    world.run_for(3)
    assert not client.results(second)
    for node in nodes[:2]:
        node.keeps = True
    world.wait(lambda: client.results(second), 10)


def test_with_off_nothing_is_kept_and_nothing_waits(make_world: Any) -> None:
    world = make_world(5)
    world.start(catalog_copies="off")
    nodes = world.nodes(3)
    client = world.client()
    client.ask(MakeDirectory("/a"))
    world.run_for(2)
    assert not any(node.received(Ship) for node in nodes)
    assert any("no copies of the catalog" in note for note in client.ask(Health()).notes)


def test_without_enough_nodes_the_master_goes_on_alone_aloud_and_back(world: Any) -> None:
    nodes, client = settled(world)
    world.run_for(1)
    nodes[0].handle.kill()
    nodes[1].handle.kill()
    (number,) = client.calls(MakeDirectory("/d"))
    world.run_for(4)
    assert not client.results(number)
    world.run_for(6)
    assert client.results(number)
    report = client.ask(Health())
    assert report.catalog_at_risk
    assert "unprotected" in report.catalog
    (note,) = [note for note in report.notes if "unprotected" in note]
    assert "'n1'" in note
    assert "'n3'" in note
    begun_ns = world.runtime.now_ns
    client.ask(MakeDirectory("/e"))
    assert world.runtime.now_ns - begun_ns < SECOND, "nothing waits any more"
    back = [world.node(number, 2, cluster=nodes[2].form.cluster) for number in (1, 2)]
    for node in back:
        node.keeper = nodes[int(node.form.name[1:]) - 1].keeper
        assert isinstance(node.register(), Registered)
    world.eventually(lambda: not client.ask(Health()).catalog_at_risk, 30)
    assert client.ask(Health()).catalog.startswith("sync, safe on ")
    mute(*back, nodes[2])
    (number,) = client.calls(MakeDirectory("/f"))
    world.run_for(2)
    assert not client.results(number), "protected again: answers wait again"


def test_no_node_at_all_acknowledges_nothing(world: Any) -> None:
    nodes, client = settled(world)
    for node in nodes:
        node.handle.kill()
    world.run_for(11)
    (number,) = client.calls(MakeDirectory("/d"))
    (read,) = client.calls(Stat("/"))
    world.run_for(30)
    assert not client.results(number), "another master may have taken over"
    assert not client.results(read)
    assert client.ask(Health()).catalog_at_risk
    back = world.node(1, 2, cluster=nodes[0].form.cluster)
    assert isinstance(back.register(), Registered)
    world.wait(lambda: client.results(number) and client.results(read), 30)


def test_heartbeats_of_another_term_are_no_word_for_ours(world: Any) -> None:
    nodes, client = settled(world)
    for node in nodes:
        node.registered = msgspec.structs.replace(node.registered, term=node.registered.term + 1)
    world.run_for(12)
    (number,) = client.calls(Stat("/"))
    world.run_for(5)
    assert not client.results(number)


@pytest.mark.parametrize(("beating_s", "paused_s"), [(0, 4), (2, 4), (2, 60)])
def test_a_master_that_was_paused_for_long_answers_only_when_a_node_is_heard_again(
    make_world: Any, beating_s: float, paused_s: float
) -> None:
    world = make_world(3)
    world.start(catalog_copies="async", suspect_s=1.5, down_s=2.0)
    nodes, client = settled(world)
    world.run_for(1)
    (early,) = client.calls(MakeDirectory("/early"))
    world.wait(lambda: world.actor.statistics()["calls"])
    world.runtime.pause("master")
    world.run_for(beating_s)  # what is heard of them after the pause is older than what they do now
    for node in nodes:
        node.beats = False
    (number,) = client.calls(MakeDirectory("/d"))
    world.run_for(paused_s)
    world.runtime.resume("master")
    (late,) = client.calls(Stat("/"))
    world.run_for(20)
    assert not client.results(early), "another master may have taken over meanwhile"
    assert not client.results(number)
    assert not client.results(late)
    for node in nodes:
        node.resume_beating()
    assert client.again(late, Stat("/")).attributes.kind == "dir"


def test_a_cluster_without_nodes_answers(world: Any) -> None:
    client = world.client()
    assert client.ask(MakeDirectory("/d")).attributes.kind == "dir"


def test_registrations_wait_for_nothing(world: Any) -> None:
    nodes = [world.node(number) for number in range(1, 4)]
    mute(*nodes)
    begun_ns = world.runtime.now_ns
    for node in nodes:
        assert isinstance(node.register(), Registered)
    assert world.runtime.now_ns - begun_ns < SECOND


def test_after_loss_of_all_power_the_cluster_comes_back(world: Any) -> None:
    nodes, client = settled(world)
    client.ask(MakeDirectory("/d"))
    world.crash()
    for node in nodes:
        node.handle.kill()
    world.start()
    client = world.client("client-b", session=False)
    (number,) = client.calls(Stat("/d"))
    world.run_for(3)
    assert not client.results(number)
    for node in nodes:
        again = world.node(int(node.form.name[1:]), 2, cluster=node.form.cluster)
        again.keeper = node.keeper
        again.register()
    world.eventually(lambda: client.again(number, Stat("/d")), 30)
    assert client.results(number)[0].attributes.kind == "dir"


def test_drops_wait_for_copies_even_if_nothing_else_does(world: Any) -> None:
    nodes, client = settled(world)
    client.upload("/f", nodes)
    held = [node for node in nodes if node.shards]
    world.run_for(1)
    mute(*nodes)
    world.run_for(8)
    client.ask(Remove("/f"))  # unprotected by now: the answer does not wait
    world.run_for(20)
    assert not any(node.received(Drop) for node in nodes)
    assert all(node.shards for node in held)
    for node in nodes:
        node.keeps = True
    world.wait(lambda: not any(node.shards for node in nodes), 60)


def test_a_restarted_master_ships_what_was_not_safe_and_goes_on_with_the_volume(world: Any) -> None:
    nodes, client = settled(world)
    world.run_for(1)
    volume = max(nodes[0].keeper.volumes)
    mute(*nodes)
    client.calls(MakeDirectory("/d"))
    world.run_for(0.5)
    before = log_position(world)
    assert not holders(world, nodes, before)
    world.crash()
    for node in nodes:
        node.keeps = True
    world.start()
    world.wait(lambda: world.actor.statistics()["log_safe"] >= before, 30)
    assert len(holders(world, nodes, before)) >= 2
    assert all(max(node.keeper.volumes) == volume for node in nodes)
    assert world.client("client-b", session=False).ask(Stat("/d")).attributes.kind == "dir"


def test_a_node_that_was_away_goes_on_where_it_stopped(world: Any) -> None:
    nodes, client = settled(world)
    world.run_for(1)
    volume = max(nodes[0].keeper.volumes)
    nodes[0].handle.kill()
    for number in range(10):
        client.ask(MakeDirectory(f"/d{number}"))
    again = world.node(1, 2, cluster=nodes[0].form.cluster)
    again.keeper = nodes[0].keeper
    again.register()
    world.wait(lambda: again.keeper.volumes[volume].chain.position == log_position(world), 30)
    assert max(again.keeper.volumes) == volume


def test_a_damaged_copy_is_made_anew_in_another_volume(world: Any) -> None:
    nodes, client = settled(world)
    world.run_for(1)
    volume = max(nodes[0].keeper.volumes)
    nodes[0].keeper.volumes[volume].damage = "a record is damaged"
    client.ask(MakeDirectory("/d"))
    world.wait(lambda: max(nodes[0].keeper.volumes) > volume, 60)
    world.wait(lambda: len(holders(world, nodes, log_position(world))) == 3, 60)
    assert all(max(node.keeper.volumes) > volume for node in nodes)


def test_volumes_that_nobody_needs_are_removed_everywhere(make_world: Any) -> None:
    world = make_world(6)
    world.start(catalog_history_s=0.0)
    nodes, client = settled(world, 4)
    world.run_for(1)
    spare = next(node for node in nodes if not node.keeper.volumes)
    member = next(node for node in nodes if node.keeper.volumes)
    old = max(member.keeper.volumes)
    member.handle.kill()
    world.wait(lambda: spare.keeper.volumes and spare.keeper.state(max(spare.keeper.volumes)).complete, 60)
    again = world.node(int(member.form.name[1:]), 2, cluster=member.form.cluster)
    again.keeper = member.keeper
    again.register()
    client.ask(MakeDirectory("/d"))
    alive = [node for node in nodes if node is not member] + [again]
    world.wait(lambda: not any(old in node.keeper.volumes for node in alive), 60)
    assert any(node.received(KeepVolumes) for node in alive)
    assert len(holders(world, alive, log_position(world))) >= 2


def test_what_the_history_needs_is_kept(make_world: Any) -> None:
    world = make_world(6)
    world.start(catalog_history_s=3600.0)
    nodes, client = settled(world, 4)
    world.run_for(1)
    member = next(node for node in nodes if node.keeper.volumes)
    old = max(member.keeper.volumes)
    member.handle.kill()
    world.run_for(60)
    client.ask(MakeDirectory("/d"))
    assert sum(old in node.keeper.volumes for node in nodes if node is not member) == 2
    assert sum(max(node.keeper.volumes, default=0) > old for node in nodes if node is not member) == 3


def test_the_history_names_volumes_and_who_holds_them(world: Any) -> None:
    _, client = settled(world)
    world.run_for(1)
    copies = client.ask(CatalogHistory())
    assert isinstance(copies, CatalogCopies)
    assert (copies.level, copies.wanted, copies.enough, copies.unprotected_ns) == ("sync", 3, 2, 0)
    assert copies.position == copies.safe
    assert copies.volumes[-1].nodes == ["n1", "n2", "n3"]
    assert copies.volumes[-1].positions == [copies.position] * 3


def test_a_volume_is_read_through_the_master(world: Any) -> None:
    nodes, client = settled(world)
    world.run_for(1)
    volume = max(nodes[0].keeper.volumes)
    data = bytes(nodes[0].keeper.volumes[volume].data)
    got = client.ask(ReadCatalog(volume, "n1", 100))
    assert isinstance(got, CatalogData)
    assert got.data == data[100:]
    assert client.ask(ReadCatalog(volume, "n1", len(data))).data == b""
    for wrong, code in (
        (ReadCatalog(volume, "nobody", 0), "not-found"),
        (ReadCatalog(volume + 99, "n1", 0), "not-found"),
    ):
        refused = client.ask(wrong)
        assert isinstance(refused, Failure)
        assert refused.code == code
    mute(*nodes)
    refused = client.ask(ReadCatalog(volume, "n1", 0))
    assert isinstance(refused, Failure)
    assert refused.code == "timeout"


def test_records_arrive_in_order_in_a_world_of_losses(make_world: Any) -> None:
    for seed in range(3):
        world: MasterWorld = make_world(seed, ROUGH)
        world.start()
        nodes = world.nodes(3)
        client = world.client()
        for number in range(20):
            client.ask(MakeDirectory(f"/d{number}"))
        world.wait(lambda w=world: w.actor.statistics()["log_safe"] == log_position(w), 60)
        for node in nodes:
            for volume, kept in node.keeper.volumes.items():
                log = [record.position for record in node.keeper.records(volume) if record.kind == CHANGES]
                assert kept.chain.head is not None
                assert log == list(range(kept.chain.head.position + 1, kept.chain.head.position + 1 + len(log)))
