"""A store is known again wherever it is, and no copy of it is believed while the original may live."""

from __future__ import annotations

from typing import Any

import pytest

from dsa_zmq.protocol.messages import Fence, Refused, Registered
from dsa_zmq.protocol.operations import Health, Locate, Remove


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
