"""Nodes and the master: registration, identity, liveness, drops."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from dsa_zmq.errors import ConfigError
from dsa_zmq.master.catalog.jobs import DropsDone, LoadDrops, RegisterNode
from dsa_zmq.master.secret import SECRET_FILE, load_or_create_secret
from dsa_zmq.model.ids import NONCE_BITS
from dsa_zmq.protocol.messages import Answers, Call, Calls, Drop, Dropped, Fence, Hint, Refused, Registered
from dsa_zmq.protocol.operations import Found, Health, ListNodes, Locate, Remove, Stat
from dsa_zmq.protocol.values import ShardRef


def test_a_node_that_registers_learns_its_number_key_and_ports_and_is_up(world: Any) -> None:
    node = world.node(1)
    registered = node.register()
    assert isinstance(registered, Registered)
    assert (registered.term, registered.heartbeat_ms) == (1, 1000)
    assert (registered.heartbeats, registered.hints) == (world.settings.subscribe, world.settings.publish)
    assert len(registered.key) == 32
    assert world.client().states() == {"n1": "up"}


def test_a_registration_repeated_is_answered_the_same(world: Any) -> None:
    node = world.node(1)
    first, second = node.register(), node.register(number=2)
    assert (first.node, first.key) == (second.node, second.key)
    assert second.number == 2
    assert len(world.client().ask(ListNodes()).nodes) == 1


def test_a_registration_repeated_while_it_is_at_work_is_run_once_and_the_last_one_answered(world: Any) -> None:
    node = world.node(1)
    for number in (1, 2, 3):
        node.send(msgspec.structs.replace(node.form, number=number))
    world.run_for(0.5)
    assert [registered.number for registered in node.received(Registered)] == [3]
    assert world.ran(RegisterNode) == 1


def test_a_restarted_node_keeps_its_number_and_its_earlier_process_is_fenced(world: Any) -> None:
    old = world.node(1)
    first = old.register()
    old.beats = False
    new = world.node(1, 2)
    second = new.register()
    assert first.node == second.node
    world.wait(lambda: old.received(Fence))
    old.resume_beating()
    world.wait(lambda: len(old.received(Fence)) > 1)
    assert new.received(Fence) == []


def test_silence_makes_a_node_suspect_then_down_and_a_heartbeat_ends_it(world: Any) -> None:
    (node,) = world.nodes(1)
    client = world.client()
    node.beats = False
    world.run_for(4.5)
    assert client.states() == {"n1": "suspect"}
    world.run_for(7)
    assert client.states() == {"n1": "down"}
    node.resume_beating()
    world.eventually(lambda: client.states() == {"n1": "up"})


def test_a_paused_master_blames_nobody_for_the_silence(world: Any) -> None:
    nodes = world.nodes(2)
    client = world.client()
    world.run_for(2)
    world.runtime.pause("master")
    world.run_for(60)
    world.runtime.resume("master")
    world.wait(lambda: world.actor.statistics()["missed_ms"] > 50_000)
    world.run_for(1)
    for index in range(10):  # connections have broken and are made anew meanwhile
        assert isinstance(client.upload(f"/f{index}", nodes), Found)
        world.run_for(0.5)
    assert client.states() == {"n1": "up", "n2": "up"}
    assert not world.runtime.story("now='down'")


def test_late_ticks_make_nobody_suspect(world: Any) -> None:
    (node,) = world.nodes(1)
    client = world.client()
    for _ in range(4):
        node.beats = False
        world.run_for(1.2)
        world.runtime.pause("master")
        world.run_for(6)  # short of breaking the connection
        world.runtime.resume("master")
        node.resume_beating()
        world.run_for(0.1)
        assert client.states() == {"n1": "up"}


def test_heartbeats_of_strangers_and_of_other_incarnations_keep_nobody_alive(world: Any) -> None:
    first, second = world.nodes(2)
    client = world.client()
    first.beats = False
    for _ in range(24):
        world.run_for(0.5)
        second.publish(first.heartbeat(incarnation=2 << NONCE_BITS))
        second.publish(first.heartbeat(node=77))
    assert client.states() == {"n1": "down", "n2": "up"}


def test_a_failed_store_is_shown_and_gets_no_new_shards(world: Any) -> None:
    nodes = world.nodes(3)
    client = world.client()
    nodes[0].beats = False
    nodes[0].publish(nodes[0].heartbeat(failure="EIO on sync"))
    world.eventually(lambda: client.states()["n1"] == "failed")
    for index in range(8):
        client.upload(f"/f{index}", nodes)
    assert nodes[0].shards == set()
    assert len(nodes[1].shards) == 8


def test_a_copied_directory_is_refused_while_its_original_lives(world: Any) -> None:
    (original,) = world.nodes(1)
    copy = world.node(1, 2, path="/copy", address="tcp://10.0.1.9:7710", cluster=original.form.cluster)
    refused = copy.register()
    assert isinstance(refused, Refused)
    assert refused.failure.code == "conflict"
    assert "/data" in refused.failure.message
    assert original.received(Fence) == []


def test_a_store_that_moved_to_another_host_is_accepted_once_its_old_place_is_silent(world: Any) -> None:
    (original,) = world.nodes(1)
    original.handle.kill()
    moved = world.node(1, 2, path="/moved", cluster=original.form.cluster)
    assert isinstance(moved.register(), Refused)
    world.run_for(11)
    assert isinstance(moved.register(), Registered)


def test_after_a_restart_a_copy_is_not_believed_before_the_original_could_speak(world: Any) -> None:
    (original,) = world.nodes(1)
    world.crash()
    world.start()
    copy = world.node(1, 2, path="/copy", address="tcp://10.0.1.9:7710", cluster=original.form.cluster)
    refused = copy.register()
    assert isinstance(refused, Refused)
    world.wait(lambda: original.registered.term == 2)
    assert isinstance(copy.register(), Refused)
    assert original.received(Fence) == []


def test_an_older_copy_of_a_directory_is_refused(world: Any) -> None:
    current = world.node(1, 5)
    current.register()
    current.handle.kill()
    world.run_for(11)
    older = world.node(1, 4, path="/backup", cluster=current.form.cluster)
    refused = older.register()
    assert isinstance(refused, Refused)
    assert refused.failure.code == "conflict"


def test_a_store_that_was_replaced_returns_with_all_that_it_holds_and_drops_what_was_removed(world: Any) -> None:
    nodes = world.nodes(2)
    client = world.client()
    for name in ("/kept", "/removed"):
        client.upload(name, nodes)
    former = nodes[0]
    former.handle.kill()
    empty = world.node(1, path="/data", store_id=b"e" * 16)
    refused = empty.register()
    assert isinstance(refused, Refused)  # the former one was heard just now
    assert refused.failure.code == "unavailable"
    world.run_for(3)
    assert isinstance(empty.register(), Registered)
    assert empty.registered.node == 3
    assert world.runtime.story("store-replaced")
    assert "2 shards are on its former one" in str(client.ask(Health()).notes)
    client.ask(Remove("/removed"))
    world.wait(lambda: len(nodes[1].shards) == 1)
    empty.handle.kill()
    world.run_for(3)
    back = world.node(1, 2, cluster=former.form.cluster)
    back.shards = set(former.shards)
    assert isinstance(back.register(), Registered)
    assert back.registered.node == 1
    world.wait(lambda: len(back.shards) == 1)
    report = client.ask(Health())
    assert (report.healthy_chunks, report.degraded_chunks, report.endangered_chunks) == (1, 0, 0)
    assert not any("former" in note for note in report.notes)
    assert {place.node for place in client.ask(Locate("/kept")).chunks[0].places} == {1, 2}
    assert client.states() == {"n1": "up", "n2": "up"}


def test_a_store_that_was_replaced_is_refused_while_its_namesake_lives(world: Any) -> None:
    (former,) = world.nodes(1)
    former.handle.kill()
    world.run_for(11)
    other = world.node(1, path="/other", store_id=b"e" * 16, address="tcp://10.0.1.9:7710")
    assert isinstance(other.register(), Registered)
    back = world.node(1, 2, path="/data", cluster=other.form.cluster)
    refused = back.register()
    assert isinstance(refused, Refused)
    assert refused.failure.code == "conflict"
    assert "--name" in refused.failure.remedy
    assert other.received(Fence) == []
    assert isinstance(back.register(name="shelf"), Registered)
    assert world.client().states() == {"n1": "up", "shelf": "up"}


@pytest.mark.parametrize("nonce", [0, 0xDEF])
def test_a_copy_from_one_start_ago_is_refused_and_if_it_beats_all_the_same_it_is_fenced(world: Any, nonce: int) -> None:
    (original,) = world.nodes(1)
    copy = world.node(1, nonce=nonce, cluster=original.form.cluster)
    refused = copy.register()
    assert isinstance(refused, Refused)
    assert refused.failure.code == "conflict"
    assert "older copy" in refused.failure.message
    copy.registered = original.registered
    copy.handle.call(
        lambda ctx: ctx.join_feed(publish_to=world.settings.subscribe, subscribe_to=world.settings.publish)
    )
    copy.handle.call(lambda ctx: ctx.set_timer("beat", 0))
    world.wait(lambda: copy.received(Fence), 10)
    assert original.received(Fence) == []
    assert world.client().states() == {"n1": "up"}


def test_a_store_of_another_cluster_is_refused(world: Any) -> None:
    refused = world.node(1).register(cluster=b"x" * 16, seen_term=99, seen_master=b"y" * 16)
    assert isinstance(refused, Refused)
    assert refused.failure.code == "incompatible"
    assert isinstance(world.node(2).register(), Registered)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "a\0b"},
        {"name": "x" * 300},
        {"store_id": b"short"},
        {"seen_master": b"short"},
        {"capacity": -1},
        {"free": 2**64 - 1},
        {"incarnation": 2**63},
        {"address": "nonsense"},
        {"address": "tcp://0.0.0.0:7710"},
        {"address": "tcp://*:7710"},
        {"address": "tcp://10.0.0.1:0"},
        {"zone": "z" * 5000},
        {"version": 0},
        {"oldest": 99, "version": 99},
    ],
)
def test_a_registration_that_makes_no_sense_is_refused_and_the_master_lives_on(
    world: Any, changes: dict[str, Any]
) -> None:
    node = world.node(1)
    refused = node.register(**changes)
    assert isinstance(refused, Refused)
    assert refused.failure.code in ("invalid", "incompatible")
    assert refused.failure.remedy or refused.failure.code == "invalid"
    assert isinstance(world.node(2).register(), Registered)


def test_a_master_that_hears_of_a_higher_term_stops_for_good(world: Any) -> None:
    (node,) = world.nodes(1)
    node.send(msgspec.structs.replace(node.form, seen_term=5, seen_master=b"y" * 16))
    assert world.master.join(10) == 4
    assert world.runtime.story("stale-master")
    for _ in range(10):  # a supervisor that does not give up
        with pytest.raises(ConfigError, match="a master of term 5, this catalog is of term 1"):
            world.start()
    world.start(take_over=True)
    assert isinstance(node.register(), Registered)
    assert node.registered.term == 6


def test_a_master_that_knows_of_a_higher_term_answers_nobody_any_more(world: Any) -> None:
    (node,) = world.nodes(1)
    call = Calls(0, 0, [Call(1, ListNodes())])
    node.send(call)
    world.wait(lambda: node.received(Answers))
    node.send(msgspec.structs.replace(node.form, seen_term=5, seen_master=b"y" * 16))
    node.send(call)
    assert world.master.join(10) == 4
    world.run_for(1)
    assert len(node.received(Answers)) == 1


def test_a_node_that_met_another_master_of_the_same_term_is_refused_until_one_of_them_ends(world: Any) -> None:
    (node,) = world.nodes(1)
    refused = node.register(seen_term=1, seen_master=b"y" * 16)
    assert isinstance(refused, Refused)
    assert refused.failure.code == "unavailable"
    assert "two copies of one catalog" in refused.failure.message
    assert isinstance(world.node(2).register(), Registered)  # who has met only this one goes on with it
    world.crash()
    with pytest.raises(ConfigError, match="two masters have run on copies of one catalog"):
        world.start()
    world.start(take_over=True)
    assert isinstance(node.register(), Registered)


def test_hints_tell_the_term_and_a_node_registers_again_after_a_restart(world: Any) -> None:
    nodes = world.nodes(2)
    world.wait(lambda: nodes[0].received(Hint))
    hint = nodes[0].received(Hint)[0]
    assert (hint.term, hint.cluster) == (1, nodes[0].registered.cluster)
    world.crash()
    world.start()
    client = world.client()
    world.eventually(lambda: client.states() == {"n1": "up", "n2": "up"}, 30)
    assert [node.registered.term for node in nodes] == [2, 2]
    assert {node.registered.node for node in nodes} == {1, 2}


def test_what_was_removed_is_dropped_by_its_nodes_and_forgotten(world: Any) -> None:
    nodes = world.nodes(3)
    client = world.client()
    for index in range(4):
        client.upload(f"/f{index}", nodes)
    kept = client.ask(Locate("/f0")).chunks[0].chunk
    for index in range(1, 4):
        client.ask(Remove(f"/f{index}"))
    world.wait(lambda: sum(len(node.shards) for node in nodes) == 2, 30)
    assert {shard.chunk for node in nodes for shard in node.shards} == {kept}
    world.wait(lambda: world.actor.statistics()["shards_dropped"] == 6)
    told = sum(len(node.received(Drop)) for node in nodes)
    world.run_for(10)
    assert sum(len(node.received(Drop)) for node in nodes) == told
    assert world.actor.statistics()["drops"] == 0
    assert client.ask(Stat("/f0")).attributes.size == 5


def test_a_drop_is_repeated_until_the_node_answers(world: Any) -> None:
    nodes = world.nodes(2)
    client = world.client()
    client.upload("/f", nodes)
    for node in nodes:
        node.drops = False
    client.ask(Remove("/f"))
    world.run_for(8)
    assert all(2 <= len(node.received(Drop)) <= 4 for node in nodes)
    assert all(node.shards for node in nodes)
    for node in nodes:
        node.drops = True
    world.wait(lambda: not any(node.shards for node in nodes), 60)
    world.wait(lambda: world.actor.statistics()["drops"] == 0)


def test_a_node_that_was_down_hears_of_its_drops_when_it_is_back(world: Any) -> None:
    nodes = world.nodes(2)
    client = world.client()
    client.upload("/f", nodes)
    nodes[0].handle.kill()
    world.run_for(11)
    client.ask(Remove("/f"))
    world.wait(lambda: not nodes[1].shards, 30)
    again = world.node(1, 2, cluster=nodes[0].form.cluster)
    again.shards = set(nodes[0].shards)
    again.register()
    world.wait(lambda: not again.shards, 30)


def test_a_restarted_node_hears_of_its_drops_soon_however_long_its_last_process_was_mute(world: Any) -> None:
    nodes = world.nodes(2)
    client = world.client()
    client.upload("/f", nodes)
    nodes[0].drops = False
    client.ask(Remove("/f"))
    world.run_for(40)
    again = world.node(1, 2, cluster=nodes[0].form.cluster)
    again.shards = set(nodes[0].shards)
    again.register()
    world.wait(lambda: not again.shards, 2)


def test_a_dropped_message_of_a_stranger_removes_nothing(world: Any) -> None:
    nodes = world.nodes(2)
    client = world.client()
    client.upload("/f", nodes)
    for node in nodes:
        node.drops = False
    client.ask(Remove("/f"))
    world.wait(lambda: all(node.received(Drop) for node in nodes), 30)
    (drop,) = nodes[0].received(Drop)[:1]
    stranger = world.client("stranger", session=False)
    stranger.send(Dropped(drop.number, drop.shards))
    nodes[1].send(Dropped(drop.number + 100, drop.shards))
    nodes[0].send(Dropped(drop.number, [ShardRef(12345, 0)]))
    world.run_for(1)
    assert world.ran(LoadDrops) > 0
    assert world.ran(DropsDone) == 0


def test_the_secret_is_made_once_readable_by_its_owner_only_and_a_damaged_one_is_not_replaced(tmp_path: Any) -> None:
    from actors.disk import OsDisk

    disk = OsDisk(tmp_path)
    first = load_or_create_secret(disk, random.Random(1))
    assert load_or_create_secret(disk, random.Random(2)) == first
    assert len(first) == 32
    assert (tmp_path / SECRET_FILE).stat().st_mode & 0o777 == 0o600
    (tmp_path / SECRET_FILE).write_bytes(b"half")
    with pytest.raises(ConfigError, match="secret"):
        load_or_create_secret(disk, random.Random(3))
    assert (tmp_path / SECRET_FILE).read_bytes() == b"half"
