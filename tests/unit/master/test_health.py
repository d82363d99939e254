"""Health in plain sentences, from the tallies; capacity that is really there."""

from __future__ import annotations

from msgspec import structs

from dsa_zmq.master.catalog.health import Tally
from dsa_zmq.master.catalog.jobs import Totals
from dsa_zmq.master.catalog.tables import HolderRow
from dsa_zmq.master.health import Healing, complete_capacity, notes, report
from dsa_zmq.master.members import Members
from dsa_zmq.master.uploads import Uploads
from dsa_zmq.protocol.messages import Heartbeat
from dsa_zmq.protocol.values import RepairWait
from tests.unit.master.conftest import node_row, register

SECOND = 10**9


def members(*hosts: str, disk: str = "", free: int = 100) -> Members:
    table = Members(3 * SECOND, 10 * SECOND)
    for node, host in enumerate(hosts, 1):
        row = node_row(node, incarnation=1, host=host, path=f"/d{node}", disk=disk or f"n{node}")
        register(table, row, used=10, free=free)
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


def test_builds_that_differ_are_said_for_as_long_as_they_do() -> None:
    """A node that this master has not heard yet may run any."""
    table = Members(3 * SECOND, 10 * SECOND)
    rows = [node_row(node, incarnation=1, host=f"h{node}", path=f"/d{node}", disk=f"n{node}") for node in (1, 2, 3)]
    table.load([rows[2]], 0)
    for row in rows[:2]:
        register(table, row, version=1)
    table.heartbeat(Heartbeat(3, 1, 1, 0, 0, 0, 0), 0)
    assert [(info.software, info.protocol) for info in table.describe(0)] == [("", 1), ("", 1), ("", 0)]
    assert not any("builds" in sentence for sentence in notes(table, 0, "copies=2"))
    register(table, rows[1], version=2, software="dsa-zmq 0.2.0")
    said = [sentence for sentence in notes(table, 0, "copies=2") if "builds" in sentence]
    assert len(said) == 1
    assert "(n1: an earlier build, protocol 1; n2: dsa-zmq 0.2.0, protocol 2)" in said[0]
    for row in rows:
        register(table, row, version=2, software="dsa-zmq 0.2.0")
    assert notes(table, 0, "copies=2") == []


def test_zones_that_are_too_few_are_said() -> None:
    table = members("a", "b", "c")
    for state, zone in zip(table, ("east", "east", "west"), strict=True):
        state.row = structs.replace(state.row, zone=zone)
    assert notes(table, 0, "copies=2") == []
    (said,) = notes(table, 0, "copies=3")
    assert said.startswith("2 zones with nodes that are up and stay, copies=3 would use 3: ")
    table.heartbeat(Heartbeat(1, 1, 1, 0, 0, 0, 0), 10 * SECOND)
    table.heartbeat(Heartbeat(2, 1, 1, 0, 0, 0, 0), 10 * SECOND)
    assert notes(table, 12 * SECOND, "copies=2")[1].startswith("1 zone with nodes that are up")


def test_a_zone_whose_nodes_are_all_being_emptied_does_not_count() -> None:
    table = members("a", "b", "c")
    for state, zone in zip(table, ("east", "east", "west"), strict=True):
        state.row = structs.replace(state.row, zone=zone, draining=zone == "west")
    (said,) = notes(table, 0, "copies=2")
    assert said.startswith("1 zone with nodes that are up and stay, copies=2 would use 2: ")


def test_nodes_that_share_a_host_or_a_disk_are_said_once() -> None:
    (shared_host,) = notes(members("a", "a", "a"), 0, "copies=2")
    assert "all 3 nodes are on one host" in shared_host
    (shared_disk,) = notes(members("a", "a", disk="sda"), 0, "copies=2")
    assert "all 2 nodes are on one disk" in shared_disk
    (shared_disk,) = notes(members("a", "b", disk="sda"), 0, "copies=2")
    assert "all 2 nodes are on one disk" in shared_disk, "also if each says that it is a host of its own"
    assert notes(members("a", "b"), 0, "copies=2") == []


def tally(*rows: tuple[str, str, int, int]) -> Tally:
    return Tally([HolderRow(*row) for row in rows], 7)


def test_chunks_are_judged_by_who_holds_them_and_who_is_there() -> None:
    table = members("a", "b", "c")
    table.heartbeat(Heartbeat(2, 1, 1, 0, 0, 0, 0), 9 * SECOND)
    table.heartbeat(Heartbeat(3, 1, 1, 0, 0, 0, 0), 9 * SECOND)  # the first one is down
    rows = tally(
        ("copies=1", "1", 1, 10), ("copies=2", "1;2", 2, 20), ("copies=3", "1;2;3", 4, 40), ("copies=2", "2;3", 8, 80)
    )  # fmt: skip
    told = report(rows, table, 10 * SECOND, "copies=2", Healing())
    assert (told.healthy_chunks, told.degraded_chunks, told.endangered_chunks, told.lost_chunks) == (8, 4, 2, 1)
    assert (told.healthy_bytes, told.degraded_bytes, told.endangered_bytes, told.lost_bytes) == (80, 40, 20, 10)
    assert (told.nodes_up, told.nodes) == (2, 3)


def test_what_is_lost_is_said_even_if_every_node_is_up() -> None:
    rows = tally(("copies=2", "", 1, 10), ("copies=2", "1;2", 2, 20))
    (said,) = report(rows, members("a", "b"), 0, "copies=2", Healing()).notes
    assert said.startswith("1 chunk is lost: ")
    assert "dsa health --files lost" in said
    assert report(rows, members("a", "b"), 0, "copies=2", Healing(), without=[1, 2]).notes == []


def test_what_would_be_if_nodes_were_lost_too() -> None:
    rows = tally(("copies=2", "1;2", 3, 30), ("copies=2", "2;3", 5, 50))
    told = report(rows, members("a", "b", "c"), 0, "copies=2", Healing(), without=[1, 2])
    assert (told.endangered_chunks, told.lost_chunks, told.nodes_up) == (5, 3, 1)


def test_what_only_a_failed_store_has_is_endangered_and_not_lost() -> None:
    table = members("a", "b")
    table.heartbeat(Heartbeat(1, 1, 1, 0, 0, 0, 0, "EIO on sync"), SECOND)
    told = report(tally(("copies=1", "1", 1, 10)), table, SECOND, "copies=1", Healing())
    assert (told.endangered_chunks, told.lost_chunks) == (1, 0)


def test_time_left_follows_from_what_is_missing_and_the_rate() -> None:
    rows = tally(("copies=2", "1", 1, 1000), ("copies=2", "9", 1, 5000))  # what is lost is not waited for
    table = members("a", "b")
    assert report(rows, table, 0, "copies=2", Healing(1, 100, 100)).seconds_left == 10
    assert report(rows, table, 0, "copies=2", Healing(1, 5000, 100)).seconds_left == 50
    assert report(rows, table, 0, "copies=2", Healing()).seconds_left == -1
    assert report(rows, table, 0, "copies=2", Healing(1, 100, 100, held="a storm")).seconds_left == -1
    assert report(tally(("copies=2", "1;2", 1, 1000)), table, 0, "copies=2", Healing()).seconds_left == 0


def test_what_could_be_spread_better_is_said() -> None:
    rows = tally(("copies=2", "1;2", 3, 30))
    (said,) = report(rows, members("a", "b"), 0, "copies=2", Healing(apart=3)).notes
    assert said.startswith("3 chunks could be spread better: shards of each share a zone or a host")


def test_what_lies_on_a_removed_store_is_said_as_long_as_it_is_missed() -> None:
    rows = tally(("copies=2", "1;9", 3, 30), ("copies=2", "1;2;9", 5, 50), ("copies=2", "2;8", 1, 1))
    rows = structs.replace(rows, removed={8: "n8", 9: "n9"})
    assert report(rows, members("a", "b"), 0, "copies=2", Healing(stuck=3)).notes == [
        "node 'n8' came back with another store: 1 shard is on its former one, and missed; "
        "bring that disk back if you can",
        "node 'n9' came back with another store: 3 shards are on its former one, and missed; "
        "bring that disk back if you can",
        "3 shards are missing and no node can take them: start another node, or free space",
    ]


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


def test_repair_waits_for_a_copy_that_stood_in_for_one_that_is_long_gone() -> None:
    table = members("a", "b")
    table.heartbeat(Heartbeat(2, 1, 1, 0, 0, 0, 0), 9 * SECOND)  # the first one is down
    delays = {1: (4 * SECOND, 294 * SECOND)}
    told = report(tally(("copies=2", "1,2;9", 3, 30)), table, 10 * SECOND, "copies=2", Healing(delays=delays))
    assert told.waits == [RepairWait("n1", 3, 4)]


def test_repair_waits_for_the_last_of_the_nodes_that_had_a_shard() -> None:
    table = members("a", "b", "c", "d")
    for node in (3, 4):
        table.heartbeat(Heartbeat(node, 1, 1, 0, 0, 0, 0), 9 * SECOND)  # the first two are down
    rows = tally(
        ("copies=2", "1;3", 1, 10),  # endangered
        ("copies=3", "1;3;4", 2, 20),  # degraded
        ("copies=2", "1,2;3", 4, 40),  # either of the two may bring the shard back
        ("copies=2", "2;4", 8, 80),
        ("copies=2", "1;2", 16, 160),  # lost: nothing can be made from it
        ("copies=2", "3;4", 32, 320),
    )
    delays = {1: (0, 200 * SECOND), 2: (4 * SECOND - 1, 294 * SECOND)}
    told = report(rows, table, 10 * SECOND, "copies=2", Healing(delays=delays))
    assert told.waits == [RepairWait("n2", 12, 4), RepairWait("n1", 2, 200)]
    assert report(rows, table, 10 * SECOND, "copies=2", Healing(delays=delays, held="a storm")).waits == []
    assert report(rows, table, 10 * SECOND, "copies=2", Healing()).waits == []
