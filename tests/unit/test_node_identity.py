"""A node's directory: formatted once, a new incarnation at every start, and no step back to an earlier master."""

from __future__ import annotations

import copy
import json
import random

import msgspec
import pytest
from blake3 import blake3

from actors.sim.disk import SimDisk
from dsa_zmq.errors import ConfigError, Conflict, Corrupt, Incompatible, Unavailable
from dsa_zmq.model.ids import start_of
from dsa_zmq.node.identity import FILE, Identity, IdentityFile, open_identity
from dsa_zmq.node.space import BALLAST

CLUSTER, MASTER = b"c" * 16, b"m" * 16


@pytest.fixture
def disk() -> SimDisk:
    return SimDisk(random.Random(1))


def open_(disk: SimDisk, name: str = "n1", seed: int = 2) -> IdentityFile:
    """Start a process that draws by ``seed``."""
    return open_identity(disk, random.Random(seed), name)


def starts(file: IdentityFile) -> int:
    return start_of(file.identity.incarnation)


def remember(
    file: IdentityFile, term: int = 5, master: bytes = MASTER, cluster: bytes = CLUSTER, node: int = 3
) -> None:
    file.remember(term=term, master=master, cluster=cluster, node=node)


def test_an_empty_directory_is_formatted_with_a_random_store_id(disk: SimDisk) -> None:
    identity = open_(disk).identity
    assert (len(identity.store_id), start_of(identity.incarnation), identity.name) == (16, 1, "n1")
    assert (identity.cluster, identity.node, identity.seen_term, identity.seen_master) == (b"", 0, 0, b"")
    other = open_identity(SimDisk(random.Random(1)), random.Random(3)).identity
    assert other.store_id != identity.store_id


def test_every_start_is_a_new_incarnation_even_after_power_loss(disk: SimDisk) -> None:
    first = open_(disk).identity
    for start in range(2, 6):
        disk.power_loss()
        identity = open_(disk).identity
        assert (identity.store_id, start_of(identity.incarnation)) == (first.store_id, start)


def test_two_processes_that_follow_the_same_start_differ_in_their_nonce(disk: SimDisk) -> None:
    open_(disk)
    copied = copy.deepcopy(disk)
    original, other = open_(disk, seed=3).identity, open_(copied, seed=4).identity
    assert original.store_id == other.store_id
    assert start_of(original.incarnation) == start_of(other.incarnation) == 2
    assert original.incarnation != other.incarnation
    assert open_(disk, seed=4).identity.incarnation > max(original.incarnation, other.incarnation)


def test_a_refused_start_does_not_count(disk: SimDisk) -> None:
    first = open_(disk, seed=1).identity
    refused = open_(disk, seed=2)
    refused.give_back_start()
    disk.power_loss()
    again = open_(disk, seed=3).identity
    assert start_of(again.incarnation) == start_of(first.incarnation) + 1
    assert again.incarnation != refused.identity.incarnation


def test_the_first_start_of_a_directory_can_be_given_back(disk: SimDisk) -> None:
    open_(disk).give_back_start()
    assert start_of(open_(disk).identity.incarnation) == 1


def test_a_name_is_kept_unless_a_new_one_is_given(disk: SimDisk) -> None:
    open_(disk, "old")
    assert open_(disk, "").identity.name == "old"
    assert open_(disk, "new").identity.name == "new"
    assert open_(disk, "").identity.name == "new"


def test_the_registration_is_remembered_durably(disk: SimDisk) -> None:
    remember(open_(disk))
    disk.power_loss()
    identity = open_(disk).identity
    assert (identity.cluster, identity.node, identity.seen_term, identity.seen_master) == (CLUSTER, 3, 5, MASTER)


def test_the_same_master_again_writes_nothing(disk: SimDisk) -> None:
    file = open_(disk)
    remember(file)
    before = disk.counts["rename"]
    remember(file)
    assert disk.counts["rename"] == before
    remember(file, term=6, master=b"n" * 16)
    assert disk.counts["rename"] == before + 1


@pytest.mark.parametrize(("term", "master"), [(4, MASTER), (4, b"x" * 16), (5, b"x" * 16)])
def test_an_older_master_or_a_second_of_the_same_term_is_refused(disk: SimDisk, term: int, master: bytes) -> None:
    file = open_(disk)
    remember(file)
    with pytest.raises(Conflict, match="stop"):
        remember(file, term=term, master=master)
    assert file.identity.seen_term == 5
    disk.power_loss()
    with pytest.raises(Conflict):
        remember(open_(disk), term=term, master=master)


def test_a_directory_stays_with_its_cluster_and_its_number(disk: SimDisk) -> None:
    file = open_(disk)
    remember(file)
    with pytest.raises(Incompatible, match="belongs to cluster"):
        remember(file, term=9, cluster=b"d" * 16)
    with pytest.raises(Incompatible, match="node 3"):
        remember(file, term=9, node=4)


def test_a_directory_of_something_else_is_refused_and_left_alone(disk: SimDisk) -> None:
    disk.replace_bytes("holiday.jpg", b"precious")
    with pytest.raises(ConfigError, match=r"not empty and not a DSA node directory.*holiday\.jpg.*; choose an empty"):
        open_(disk)
    assert disk.listdir("") == ["holiday.jpg"]


def test_what_a_fresh_file_system_contains_does_not_matter(disk: SimDisk) -> None:
    disk.makedirs("lost+found")
    disk.replace_bytes("lock", b"")
    assert starts(open_(disk)) == 1


def test_a_crash_while_formatting_leaves_a_directory_that_can_be_formatted() -> None:
    for operations in range(8):
        disk = SimDisk(random.Random(operations))
        disk.die_after(operations)
        try:
            open_(disk)
        except Unavailable:
            disk.power_loss()
            assert starts(open_(disk)) in (1, 2)


def test_any_flipped_byte_is_noticed(disk: SimDisk) -> None:
    file = open_(disk)
    remember(file)
    data = disk.read_bytes(FILE)
    for at in range(len(data) - 1):
        disk.replace_bytes(FILE, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises((Corrupt, Incompatible)) as raised:
            open_(disk)
        assert raised.value.remedy
    disk.replace_bytes(FILE, data)
    assert starts(open_(disk)) == 2


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"\xff\xfe", b"[1, 2]", b"null", b'{"format":"dsa-zmq node","version":1}']
)
def test_a_file_of_nonsense_is_corrupt(disk: SimDisk, data: bytes) -> None:
    disk.replace_bytes(FILE, data)
    with pytest.raises(Corrupt, match=r"node\.json"):
        open_(disk)


def test_a_newer_format_is_refused_by_name(disk: SimDisk) -> None:
    open_(disk)
    document = json.loads(disk.read_bytes(FILE))
    document["version"] = 2
    disk.replace_bytes(FILE, json.dumps(document).encode())
    said = r"node\.json has format 2, this build reads up to format 1; upgrade the node to a build that reads format 2"
    with pytest.raises(Incompatible, match=said):
        open_(disk)


def test_a_file_from_the_first_format_still_reads(disk: SimDisk) -> None:
    body = (
        b'{"store_id":"c3Nzc3Nzc3Nzc3Nzc3Nzcw==","incarnation":697839468,"cluster":"Y2NjY2NjY2NjY2NjY2NjYw==","node":3,'
        b'"name":"n1","seen_term":5,"seen_master":"bW1tbW1tbW1tbW1tbW1tbQ=="}'
    )
    digest = blake3(body).hexdigest().encode()
    disk.replace_bytes(
        FILE, b'{"format":"dsa-zmq node","version":1,"identity":' + body + b',"checksum":"' + digest + b'"}\n'
    )
    identity = open_(disk).identity
    assert identity == Identity(
        store_id=b"s" * 16, incarnation=identity.incarnation, cluster=CLUSTER, node=3, name="n1", seen_term=5,
        seen_master=MASTER,
    )  # fmt: skip
    assert (start_of(697839468), start_of(identity.incarnation)) == (41, 42)
    assert msgspec.json.decode(disk.read_bytes(FILE))["identity"]["incarnation"] == identity.incarnation


def test_a_full_disk_gives_up_its_ballast_for_the_start(disk: SimDisk) -> None:
    open_(disk)
    disk.open(BALLAST, create=True).allocate(1 << 16)
    disk.capacity_bytes -= disk.free_bytes()[0]
    assert starts(open_(disk)) == 2
    assert not disk.exists(BALLAST)


def test_a_disk_that_refuses_writes_is_unavailable(disk: SimDisk) -> None:
    disk.readonly = True
    with pytest.raises(Unavailable, match="cannot be used"):
        open_(disk)
