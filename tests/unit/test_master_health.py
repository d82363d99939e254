"""Health in plain sentences, counted in slices; capacity that is really there."""

from __future__ import annotations

from actors.core import Address
from dsa_zmq.master.catalog.jobs import ChunkCounts, CountChunks, NodeRow, Totals
from dsa_zmq.master.health import CACHE_NS, HealthCheck, complete_capacity, notes
from dsa_zmq.master.members import Members
from dsa_zmq.master.uploads import Uploads
from dsa_zmq.protocol.messages import Heartbeat, Register
from dsa_zmq.protocol.operations import HealthReport
from dsa_zmq.protocol.values import Failure

SECOND = 10**9


def members(*hosts: str, disk: str = "", free: int = 100) -> Members:
    table = Members(3 * SECOND, 10 * SECOND)
    for node, host in enumerate(hosts, 1):
        name = f"n{node}"
        store = bytes([node]) * 16
        row = NodeRow(node, name, store, 1, 1, "", host, f"/d{node}", disk or name, "tcp://h:1", 1000)
        message = Register(
            1, 1, 1, b"", name, store, 1, "tcp://h:1", "", host, row.path, row.disk, 1000, 10, free, 0, b""
        )
        table.register(row, Address(f"{name}/1"), message, 0)
    return table


def test_a_sound_cluster_has_nothing_to_say() -> None:
    assert notes(members("a", "b"), 0, "copies=2") == []


def test_what_is_wrong_is_said_worst_first_with_a_remedy() -> None:
    table = members("a", "b", "c")
    table.heartbeat(Heartbeat(2, 1, 1, 0, 0, 0, 0, "EIO on sync"), 12 * SECOND)
    table.heartbeat(Heartbeat(3, 1, 1, 0, 0, 0, 0), 8 * SECOND)
    said = notes(table, 12 * SECOND, "copies=2")
    assert [sentence.split(":")[0] for sentence in said] == [
        "node 'n1' is down",
        "node 'n2' has failed",
        "node 'n3' is suspect",
        "0 nodes are up, copies=2 needs 2",
    ]
    assert "12 s" in said[0]
    assert "EIO on sync" in said[1]


def test_nodes_that_share_a_host_or_a_disk_are_said_once() -> None:
    (shared_host,) = notes(members("a", "a", "a"), 0, "copies=2")
    assert "all 3 nodes are on one host" in shared_host
    (shared_disk,) = notes(members("a", "a", disk="sda"), 0, "copies=2")
    assert "all 2 nodes are on one disk" in shared_disk


def test_slices_add_up_and_everybody_who_asks_meanwhile_gets_the_same_report() -> None:
    check = HealthCheck(members("a", "b"), "copies=2")
    first = check.ask(7, 0)
    assert first is not None
    assert first.after == 0
    assert check.ask(8, 0) is None
    second = check.counted(ChunkCounts(55, [1, 2, 3, 4], [10, 20, 30, 40], {"n2": 1, "n1": 5}), 5)
    assert isinstance(second, CountChunks)
    assert second.after == 55
    step = check.counted(ChunkCounts(0, [10, 0, 0, 1], [100, 0, 0, 5], {"n1": 2}), 6)
    assert isinstance(step, tuple)
    report, asking = step
    assert asking == [7, 8]
    assert isinstance(report, HealthReport)
    assert (report.healthy_chunks, report.degraded_chunks, report.endangered_chunks, report.lost_chunks) == (
        11,
        2,
        3,
        5,
    )
    assert (report.healthy_bytes, report.lost_bytes, report.nodes_up) == (110, 45, 2)
    assert report.notes == [
        "node 'n1' came back with another store: 7 shards are on its former one, void until that disk returns; "
        "bring it back, or store the files again",
        "node 'n2' came back with another store: 1 shard is on its former one, void until that disk returns; "
        "bring it back, or store the files again",
    ]
    assert check.fresh(6 + CACHE_NS - 1) is report
    assert check.fresh(6 + CACHE_NS) is None


def test_a_failed_count_is_answered_and_not_kept() -> None:
    check = HealthCheck(members("a"), "copies=1")
    check.ask(7, 0)
    failure = Failure("no-space", "the catalog's disk is full")
    assert check.counted(failure, 1) == (failure, [7])
    assert check.fresh(1) is None
    assert check.ask(8, 2) is not None


def test_the_places_of_nodes_that_are_down_do_not_count() -> None:
    table = members("a", "b")
    table.heartbeat(Heartbeat(2, 1, 1, 0, 0, 0, 0), 9 * SECOND)
    job = HealthCheck(table, "copies=2").ask(1, 10 * SECOND)
    assert job is not None
    assert job.unavailable == {1}


def test_capacity_counts_room_on_nodes_that_are_up_less_what_is_promised_to_uploads() -> None:
    table = members("a", "b", "c", free=500)
    table.heartbeat(Heartbeat(1, 1, 1, 10, 400, 0, 0), 5 * SECOND)
    table.heartbeat(Heartbeat(2, 1, 1, 10, 300, 0, 0), 5 * SECOND)
    uploads = Uploads(10)
    uploads.begin(1, "copies=2", 0)
    uploads.reserve(1, 99, 100, [1, 3])
    capacity = complete_capacity(Totals("copies=2", 4, 44), table, uploads, 5 * SECOND)
    assert (capacity.capacity, capacity.used, capacity.free, capacity.storable) == (3000, 30, 600, 300)
    assert (capacity.nodes_up, capacity.nodes, capacity.files, capacity.content_bytes) == (2, 3, 4, 44)
