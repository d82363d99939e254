"""Uploads and the master: places, receipts, leases, restarts."""

from __future__ import annotations

from typing import Any

import msgspec

from dsa_zmq.master.catalog.jobs import ExpireUploads, Request
from dsa_zmq.protocol.operations import (
    Allocate,
    Allocated,
    AllocatedSlots,
    AllocateSlots,
    Confirm,
    Done,
    Found,
    Locate,
    MakeDirectory,
    Move,
    Reallocate,
    Remove,
    Renew,
    ReturnSlots,
    Stage,
    Staged,
    Statfs,
)
from dsa_zmq.protocol.values import ChunkPlan, PlacedShard

GIB = 1 << 30


def test_a_file_is_written_and_located_with_its_nodes(world: Any) -> None:
    nodes = world.nodes(3)
    client = world.client()
    found = client.upload("/f", nodes)
    assert isinstance(found, Found)
    located = client.ask(Locate("/f"))
    (chunk,) = located.chunks
    assert {place.node for place in chunk.places} == {node.registered.node for node in nodes if node.shards}
    capacity = client.ask(Statfs())
    assert (capacity.files, capacity.nodes_up, capacity.capacity) == (1, 3, 3 * GIB)
    assert world.actor.statistics()["uploads"] == 0


def test_receipts_of_an_earlier_incarnation_are_to_be_confirmed_with_write_grants(world: Any) -> None:
    nodes = world.nodes(2)
    client = world.client()
    allocated = client.ask(Allocate(0, "/f", 1 << 20, 0, [5]))
    commit = client.commit_of("/f", allocated, nodes)
    nodes[0].handle.kill()
    again = world.node(1, 2, cluster=nodes[0].form.cluster)
    again.register()
    confirm = client.ask(commit)
    assert isinstance(confirm, Confirm)
    assert [shard.node for shard in confirm.shards] == [again.registered.node]
    assert len(confirm.grants) == 1
    assert confirm.nodes[0].incarnation == again.form.incarnation
    again.shards |= nodes[0].shards
    (chunk,) = commit.chunks
    nodes[0] = again
    receipts = [
        by.store(allocated.upload, chunk.chunk, receipt.index, chunk.hash)
        for receipt in chunk.receipts
        for by in nodes
        if by.registered.node == receipt.node
    ]
    chunks = [msgspec.structs.replace(chunk, receipts=receipts)]
    assert isinstance(client.ask(msgspec.structs.replace(commit, chunks=chunks)), Found)


def test_an_upload_whose_client_is_silent_for_its_lease_is_ended_and_its_commit_refused(world: Any) -> None:
    world.crash()
    world.start(upload_lease_s=6)
    nodes = world.nodes(2)
    client = world.client()
    allocated = client.ask(Allocate(0, "/f", 1 << 20, 0, [5]))
    world.run_for(5)
    assert client.ask(Renew([allocated.upload, 12345])) == Done(1)
    world.run_for(5)
    assert world.actor.statistics()["uploads"] == 1
    world.run_for(2)
    assert world.actor.statistics()["uploads"] == 0
    assert world.ran(ExpireUploads) == 1
    assert client.ask(Renew([allocated.upload])) == Done(0)
    assert client.ask(client.commit_of("/f", allocated, nodes)).code == "outdated"


def test_a_commit_that_is_refused_keeps_its_upload_alive_for_another_try(world: Any) -> None:
    world.crash()
    world.start(upload_lease_s=6)
    nodes = world.nodes(2)
    client = world.client()
    allocated = client.ask(Allocate(0, "/f", 1 << 20, 0, [5]))
    commit = client.commit_of("/f", allocated, nodes)
    world.run_for(4)
    assert client.ask(msgspec.structs.replace(commit, if_version=7)).code in ("conflict", "not-found")
    world.run_for(4)
    assert isinstance(client.ask(commit), Found)


def test_an_upload_goes_on_over_restarts_and_gets_a_full_lease_from_each(world: Any) -> None:
    chunk = 16 << 20  # four of these are a page
    world.crash()
    world.start(upload_lease_s=20)
    nodes = world.nodes(2)
    client = world.client()
    allocated = client.ask(Allocate(0, "/f", chunk, 0, [chunk] * 4))
    page = client.commit_of("/f", allocated, nodes, chunk).chunks
    world.crash()
    world.start()
    world.wait(lambda: all(node.registered.term == 3 for node in nodes))
    stage = Stage(allocated.upload, 0, chunk, allocated.redundancy, page)
    assert client.ask(stage) == Staged(allocated.upload, 0)
    assert world.actor.statistics()["uploads"] == 1
    world.run_for(12)
    world.crash()
    world.start()
    world.run_for(12)
    assert world.actor.statistics()["uploads"] == 1
    more = client.ask(Allocate(allocated.upload, "/f", chunk, 4, [5], page[0].chunk, allocated.redundancy))
    assert (more.upload, more.redundancy) == (allocated.upload, "copies=2")
    commit = client.commit_of("/f", more, nodes)
    whole = msgspec.structs.replace(commit, length=4 * chunk + 5, chunk_count=5, chunk_bytes=chunk)
    assert isinstance(client.ask(whole), Found)
    assert world.actor.statistics()["uploads"] == 0


def test_an_expiry_that_finds_the_disk_full_is_tried_again(world: Any) -> None:
    world.crash()
    world.start(upload_lease_s=3)
    world.nodes(2)
    client = world.client()
    numbers = client.calls(*[Allocate(0, "/f", 1 << 20, 0, [5])] * 250)
    world.wait(lambda: client.results(numbers[-1]))
    room = world.disk.capacity_bytes
    world.disk.unlink("catalog.sqlite.ballast")
    world.disk.capacity_bytes = room - world.disk.free_bytes()[0]
    world.run_for(4)
    assert world.ran(ExpireUploads) == 1
    assert world.actor.statistics()["uploads"] == 250
    world.disk.capacity_bytes = room
    world.run_for(5)
    assert world.ran(ExpireUploads) == 2
    assert world.actor.statistics()["uploads"] == 0


def test_a_late_repeat_of_a_stage_does_not_end_the_file_that_was_published(world: Any) -> None:
    world.crash()
    world.start(upload_lease_s=6)
    nodes = world.nodes(2)
    client = world.client()
    found = client.upload("/f", nodes)
    world.actor._uploads.adopt([found.attributes.content], world.actor._office.clock.read(0))
    world.run_for(7)
    assert world.ran(ExpireUploads) == 1
    assert len(client.ask(Locate("/f")).chunks) == 1


def test_right_after_a_restart_an_allocation_waits_for_the_nodes_instead_of_failing(world: Any) -> None:
    world.nodes(2)
    client = world.client()
    world.crash()
    world.start()
    answer = client.ask(Allocate(0, "/f", 1 << 20, 0, [5]))
    assert isinstance(answer, Allocated)
    assert world.actor.statistics()["calls_waiting"] == 0


def test_nodes_get_the_time_that_connections_need_even_if_liveness_is_quick(world: Any) -> None:
    nodes = world.nodes(2)
    world.crash()
    for node in nodes:
        node.handle.kill()
    world.start(heartbeat_s=0.05, suspect_s=0.15, down_s=0.5)
    client = world.client(session=False)
    (number,) = client.calls(Allocate(0, "/f", 1 << 20, 0, [5]))
    world.run_for(3)
    assert client.results(number) == []
    for back in (1, 2):
        world.node(back, start=2).register()
    world.wait(lambda: client.results(number), 1)
    assert isinstance(client.results(number)[0], Allocated)


def test_when_the_nodes_stay_away_the_allocation_is_refused_in_the_end(world: Any) -> None:
    for node in world.nodes(2):
        node.handle.kill()
    client = world.client()
    world.crash()
    world.start()
    answer = client.ask(Allocate(0, "/f", 1 << 20, 0, [5]))
    assert answer.code == "too-few-nodes"


def test_a_new_cluster_without_nodes_refuses_at_once(world: Any) -> None:
    client = world.client()
    world.run_for(2)
    asked = world.runtime.now_ns
    assert client.ask(Allocate(0, "/f", 1 << 20, 0, [5])).code == "too-few-nodes"
    assert world.runtime.now_ns - asked < 10**9


def test_new_files_get_what_their_directory_gives_also_when_it_was_just_made_anew(world: Any) -> None:
    nodes = world.nodes(3)
    client = world.client()

    def given() -> list[str]:
        numbers = client.calls(*[Allocate(0, f"/d/{name}", 1 << 20, 0, [5]) for name in "abc"], session=0)
        world.eventually(lambda: all(client.results(number) for number in numbers))
        return [client.results(number)[0].redundancy for number in numbers]

    client.ask(MakeDirectory("/d", redundancy="copies=3"))
    assert given() == ["copies=3"] * 3
    asked = world.ran(Request)
    assert given() == ["copies=3"] * 3
    assert world.ran(Request) == asked  # no question to the catalog
    client.ask(Remove("/d", recursive=True))
    client.ask(MakeDirectory("/d", redundancy="copies=1"))
    assert given() == ["copies=1"] * 3
    client.ask(MakeDirectory("/e", redundancy="copies=3"))
    client.ask(Move("/d", "/old"))
    assert given() == ["copies=2"] * 3  # the root's
    client.ask(Move("/e", "/d"))
    assert given() == ["copies=3"] * 3
    assert isinstance(client.upload("/d/f", nodes, redundancy=""), Found)


# --- slots --------------------------------------------------------------------------------------------------------


def slot_commit(client: Any, nodes: Any, slot: Any, path: str, redundancy: str = "copies=2") -> Any:
    """The commit of a file of five bytes in a slot."""
    plan = ChunkPlan(slot.chunk, slot.places)
    commit = client.commit_of(path, Allocated(slot.upload, redundancy, [plan], [], 0), nodes)
    return msgspec.structs.replace(commit, inherits=True)


def test_a_file_in_a_slot_needs_only_its_commit_and_slots_need_no_catalog(world: Any) -> None:
    nodes = world.nodes(3)
    client = world.client()
    asked = world.ran(Request)
    given = client.ask(AllocateSlots(16, 4096, "copies=2"))
    assert isinstance(given, AllocatedSlots)
    assert client.ask(ReturnSlots([slot.upload for slot in given.slots[4:]])) == Done(12)
    assert world.ran(Request) == asked
    for number, slot in enumerate(given.slots[:4]):
        assert isinstance(client.ask(slot_commit(client, nodes, slot, f"/d/{number}")), Found)
    statistics = world.actor.statistics()
    assert (statistics["uploads"], statistics["chunks"], statistics["bytes"]) == (0, 0, 0)
    assert client.ask(Statfs()).files == 4


def test_a_slot_is_published_once(world: Any) -> None:
    nodes = world.nodes(2)
    client = world.client()
    (slot,) = client.ask(AllocateSlots(1, 4096, "copies=2")).slots
    assert isinstance(client.ask(slot_commit(client, nodes, slot, "/a")), Found)
    assert client.ask(slot_commit(client, nodes, slot, "/b")).code == "unavailable"


def test_a_slot_after_the_end_of_its_lease_is_outdated(world: Any) -> None:
    world.crash()
    world.start(upload_lease_s=6)
    nodes = world.nodes(2)
    client = world.client()
    given = client.ask(AllocateSlots(2, 4096, "copies=2"))
    assert given.use_within_ms == 600
    world.run_for(7)
    assert world.ran(ExpireUploads) == 1
    assert world.actor.statistics()["uploads"] == 0
    late, moved = given.slots
    assert client.ask(slot_commit(client, nodes, late, "/f")).code == "outdated"
    shard = PlacedShard(moved.chunk, 0, moved.places[0].node)
    assert client.ask(Reallocate(moved.upload, [shard], [5], [[]])).code == "outdated"
    assert client.ask(ReturnSlots([late.upload, moved.upload])) == Done(0)


def test_a_slot_that_was_begun_goes_on_over_a_restart_of_the_master(world: Any) -> None:
    nodes = world.nodes(2)
    client = world.client()
    begun, moved = client.ask(AllocateSlots(2, 4096, "copies=2")).slots
    commit = slot_commit(client, nodes, begun, "/f")
    world.crash()
    world.start()
    world.wait(lambda: all(node.registered.term == 2 for node in nodes))
    assert isinstance(client.ask(commit), Found)
    assert client.ask(ReturnSlots([moved.upload])) == Done(0)
    assert isinstance(client.ask(slot_commit(client, nodes, moved, "/g")), Found)


def test_a_file_in_a_slot_gets_what_its_directory_gives_when_it_is_published(world: Any) -> None:
    nodes = world.nodes(3)
    client = world.client()
    two = client.ask(AllocateSlots(2, 4096, "copies=2")).slots
    (three,) = client.ask(AllocateSlots(1, 4096, "copies=3")).slots
    assert isinstance(client.ask(slot_commit(client, nodes, two[0], "/d/a")), Found)
    client.ask(Move("/d", "/old"))
    client.ask(MakeDirectory("/d", redundancy="copies=3"))
    assert client.ask(slot_commit(client, nodes, two[1], "/d/b")).code == "outdated"
    assert isinstance(client.ask(slot_commit(client, nodes, three, "/d/b", "copies=3")), Found)


def test_slots_wait_for_nodes_after_a_restart_and_are_refused_for_good_without_them(world: Any) -> None:
    world.nodes(2)
    client = world.client()
    world.crash()
    world.start()
    assert isinstance(client.ask(AllocateSlots(16, 4096, "copies=2")), AllocatedSlots)
    assert client.ask(AllocateSlots(16, 4096, "copies=3")).code == "too-few-nodes"
