"""Nodes: who comes back, who is new, and who is a copy."""

from __future__ import annotations

import pytest

from dsa_zmq.master.catalog.census_rules import Present
from dsa_zmq.master.catalog.health import TakeTally
from dsa_zmq.master.catalog.jobs import LoadNodes, RegisterNode
from dsa_zmq.master.health import count
from dsa_zmq.model.ids import NONCE_BITS, start_of
from dsa_zmq.protocol.operations import Locate
from dsa_zmq.protocol.values import Failure


def refused(result, code="conflict"):
    assert isinstance(result, Failure)
    assert result.code == code
    assert result.remedy
    return result.message


def test_new_stores_get_numbers_in_order_and_keep_them(kit):
    assert [node.node for node in kit.nodes] == [1, 2, 3, 4]
    assert kit.register("n2", start=2).node == 3
    kit.reopen()
    assert kit.register("n9").node == 5
    rows = kit.one(LoadNodes())
    assert [(row.node, row.name, start_of(row.incarnation)) for row in rows] == [
        (1, "n0", 1), (2, "n1", 1), (3, "n2", 2), (4, "n3", 1), (5, "n9", 1),
    ]  # fmt: skip
    assert rows[0].generation == 1
    assert not rows[0].removed


def test_the_same_process_may_register_again(kit):
    again = kit.register("n0", cluster=kit.catalog.cluster)
    assert again == kit.nodes[0]
    seq = kit.dump()["meta"]
    kit.register("n0", old_is_alive=True)
    assert kit.dump()["meta"] == seq


def test_a_later_start_may_bring_another_address_name_and_capacity(kit):
    row = kit.register("renamed", store_id=kit.nodes[0].store_id, start=2, address="tcp://new:1", capacity=5,
                       host="host-n0", path="/srv/n0")  # fmt: skip
    assert (row.node, row.name, row.address, row.capacity) == (1, "renamed", "tcp://new:1", 5)
    assert start_of(row.incarnation) == 2


def test_a_disk_may_move_to_another_machine_while_nobody_else_uses_it(kit):
    assert kit.register("n0", start=2, host="other", path="/mnt").node == 1


def test_an_older_copy_of_a_directory_is_refused(kit):
    newest = kit.register("n0", start=5)
    message = refused(kit.register("n0", start=4, nonce=0xFFF))
    assert "older copy" in message
    assert "start 4, known is 5" in message
    assert kit.one(LoadNodes())[0] == newest


@pytest.mark.parametrize("nonce", [0, 0x123, (1 << NONCE_BITS) - 1])
@pytest.mark.parametrize("elsewhere", [{}, {"host": "other", "path": "/backup", "address": "tcp://other:1"}])
def test_a_copy_from_one_start_ago_is_refused_though_it_counts_to_the_same_start(kit, nonce, elsewhere):
    newest = kit.register("n0", start=5, nonce=0x456)
    message = refused(kit.register("n0", start=5, nonce=nonce, **elsewhere))
    assert "older copy" in message
    assert "another start 5" in message
    assert kit.one(LoadNodes())[0] == newest
    assert kit.register("n0", start=5, nonce=0x456) == newest
    assert kit.register("n0", start=6, nonce=0).node == newest.node


def test_a_store_that_a_restored_catalog_has_forgotten_gets_its_number_again(kit):
    late = kit.register("late", cluster=kit.catalog.cluster, node=77)
    assert late.node == 77
    assert kit.register("new").node == 78
    assert kit.register("later", cluster=kit.catalog.cluster, node=70).node == 70
    assert kit.register("newest").node == 79
    assert kit.register("late", cluster=kit.catalog.cluster, node=77, start=2).node == 77


def test_a_number_that_is_another_stores_is_refused_in_words(kit):
    refused = kit.register("late", cluster=kit.catalog.cluster, node=2)
    assert refused.code == "conflict"
    assert "it was node 2 of this cluster, which is 'n1' in '/srv/n1'" in refused.message
    assert "empty directory" in refused.remedy
    assert kit.number("next_node") == 5


def test_a_number_means_nothing_in_another_cluster_and_has_to_be_one(kit):
    assert kit.register("stranger", node=77).node == 5
    assert kit.register("n0", start=2, cluster=kit.catalog.cluster, node=77).node == 1, "it is known by its store"
    for number in (-1, 1 << 40):
        assert kit.register("x", cluster=kit.catalog.cluster, node=number).code == "invalid"


def test_of_two_processes_that_follow_one_start_the_first_in_a_batch_is_the_node(kit):
    first, second = kit.run(
        *(RegisterNode(kit.introduction("n0", start=2, nonce=nonce), False, 0) for nonce in (0x456, 0x789))
    )
    assert first.node == 1
    assert "older copy" in refused(second)


def test_two_directories_with_one_store_id_are_told_apart_by_name_while_the_first_is_alive(kit):
    message = refused(kit.register("n0", start=2, path="/backup", old_is_alive=True))
    assert "n0" in message
    assert "/backup" in message


@pytest.mark.parametrize("field", ["path", "host", "address"])
def test_a_second_process_with_the_same_start_number_is_refused(kit, field):
    assert "two processes" in refused(kit.register("n0", **{field: "tcp://other:1"}))


def test_a_taken_name_is_refused_while_its_node_is_alive(kit):
    assert "taken" in refused(kit.register("n0", store_id=b"a stranger......", old_is_alive=True))
    assert "taken" in refused(kit.register("n0", store_id=kit.nodes[1].store_id, start=2, path="/srv/n1",
                                           host="host-n1"))  # fmt: skip
    assert len(kit.one(LoadNodes())) == 4


def test_a_new_store_replaces_a_dead_one_of_its_name_and_voids_its_places(kit):
    commit = kit.commit("/f")
    kit.good(commit)
    lost = commit.chunks[0].receipts[0]
    name = next(node.name for node in kit.nodes if node.node == lost.node)
    before = len(kit.changes)
    new = kit.register(name, store_id=b"formatted anew..")
    assert len(kit.changes) - before == 4
    assert new.node == 5
    rows = {row.node: row for row in kit.one(LoadNodes())}
    assert rows[lost.node].removed
    assert not rows[5].removed
    assert [node for node, _ in kit.good(Locate("/f")).chunks[0][3]] == [commit.chunks[0].receipts[1].node]
    assert counted(kit)[0] == [0, 0, 1, 0]


def test_a_replaced_store_that_returns_counts_again_and_replaces_the_other(kit):
    former = kit.nodes[0]
    commit = kit.commit("/before", redundancy="copies=4")
    kit.good(commit)
    newer = kit.register("n0", store_id=b"formatted anew..")
    kit.nodes = [newer, *kit.nodes[1:]]
    kit.good(kit.commit("/meanwhile", redundancy="copies=4"))
    assert counted(kit) == ([1, 1, 0, 0], {"n0": 1})
    back = kit.register("n0", start=2)
    assert (back.node, back.store_id, back.removed, start_of(back.incarnation)) == (1, former.store_id, False, 2)
    assert {row.node: row.removed for row in kit.one(LoadNodes())} == {
        1: False, 2: False, 3: False, 4: False, newer.node: True,
    }  # fmt: skip
    assert {node for node, _ in kit.good(Locate("/before")).chunks[0][3]} == {1, 2, 3, 4}
    assert {node for node, _ in kit.good(Locate("/meanwhile")).chunks[0][3]} == {2, 3, 4}
    assert counted(kit) == ([1, 1, 0, 0], {"n0": 1})
    again = kit.register("n0", store_id=b"formatted anew..", start=2)
    assert again.node == newer.node
    assert {node for node, _ in kit.good(Locate("/meanwhile")).chunks[0][3]} == {2, 3, 4, 5}
    kit.audit()


def counted(kit):
    """Chunks by state with every node there that is not removed; what is missed of those that are."""
    tally = kit.one(TakeTally())
    there = frozenset(row.node for row in kit.one(LoadNodes()) if not row.removed)
    result = count(tally, Present(there, there))
    return result.chunks, result.void


def test_a_replaced_store_is_refused_while_the_other_is_alive_unless_it_takes_another_name(kit):
    kit.register("n0", store_id=b"formatted anew..")
    message = refused(kit.register("n0", start=2, path="/mnt", old_is_alive=True))
    assert "taken by another store" in message
    assert kit.one(LoadNodes())[0].removed
    back = kit.register("shelf", store_id=kit.nodes[0].store_id, start=2, host="host-n0", path="/srv/n0")
    assert (back.node, back.name, back.removed) == (1, "shelf", False)
    assert not kit.one(LoadNodes())[4].removed


def test_an_older_copy_of_a_replaced_store_is_refused(kit):
    kit.register("n0", start=5)
    kit.register("n0", store_id=b"formatted anew..")
    assert "older copy" in refused(kit.register("n0", start=4))
    assert not kit.one(LoadNodes())[4].removed


def test_a_store_in_use_cannot_take_the_name_of_a_dead_one(kit):
    assert "taken" in refused(kit.register("n0", store_id=kit.nodes[1].store_id, start=2, path="/srv/n1",
                                           host="host-n1"))  # fmt: skip


def test_a_store_of_another_cluster_is_refused(kit):
    assert "another cluster" in refused(kit.register("n9", cluster=bytes(16)), "incompatible")
    assert len(kit.one(LoadNodes())) == 4


@pytest.mark.parametrize(
    "fields",
    [{"store_id": b"short"}, {"incarnation": -1}, {"capacity": 1 << 63}, {"name": ""}, {"name": "a/b"}, {"zone": "\0"}],
)
def test_an_introduction_that_cannot_be_is_refused(kit, fields):
    assert isinstance(kit.register("n9", **fields) if "name" not in fields else kit.one(
        RegisterNode(kit.introduction(fields["name"], store_id=bytes(16)), False, 0)
    ), Failure)  # fmt: skip
    assert len(kit.one(LoadNodes())) == 4


def test_registrations_in_one_batch_see_each_other(kit):
    first, second, third = kit.run(
        RegisterNode(kit.introduction("x"), False, 0),
        RegisterNode(kit.introduction("x", store_id=b"another store..."), True, 0),
        RegisterNode(kit.introduction("y"), False, 0),
    )
    assert (first.node, third.node) == (5, 6)
    refused(second)
