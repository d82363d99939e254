"""A catalog made of a volume is the one that was written: in all rows, as of each moment, however its parts are mixed."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.sim.disk import SimDisk
from dsa_zmq.errors import Conflict, Corrupt, DSAError, Incompatible, NoSpace
from dsa_zmq.master.catalog.catalog import Catalog
from dsa_zmq.master.catalog.log_jobs import BeginVolume, LoadLog, ReadLog, TakeSlice
from dsa_zmq.master.catalog.rebuild import Rebuilder, Restoration
from dsa_zmq.model.ids import id_floor
from dsa_zmq.model.records import BEGIN, CHANGES, pack_runs, read_record, seal
from dsa_zmq.protocol.operations import Confirm
from dsa_zmq.protocol.values import PlacedShard
from tests.unit.catalog.scribe import Scribe, Volume, busy, dump, rebuild


@pytest.fixture
def scribe(kit: Any) -> Scribe:
    return Scribe(kit, random.Random(5))


@pytest.fixture
def volume(kit: Any, scribe: Scribe) -> Volume:
    """Of some thirty transactions."""
    busy(kit, scribe, 10)
    volume = scribe.begin()
    busy(kit, scribe, 10, volume=volume)
    volume.complete()
    busy(kit, scribe, 10)
    return volume


@settings(max_examples=25)
@given(seed=st.integers(0, 1 << 30))
def test_a_snapshot_taken_while_the_catalog_changes_and_its_log_are_the_catalog(new_kit: Any, seed: int) -> None:
    rng = random.Random(seed)
    kit = new_kit(seed)
    scribe = Scribe(kit, rng)
    busy(kit, scribe, 8)
    volume = scribe.begin()
    busy(kit, scribe, 12, volume=volume)
    volume.complete()
    busy(kit, scribe, 5)
    disk, rebuilt = rebuild(volume.data(rng if rng.random() < 0.7 else None), portion=rng.choice([0, 100, 5000]))
    assert rebuilt.odd == []
    assert dump(disk) == kit.dump("holders", "inventories")
    assert (rebuilt.position, rebuilt.files) == (scribe.position, kit.number("files"))
    assert [node.name for node in rebuilt.nodes] == [node.name for node in kit.nodes]


@settings(max_examples=10)
@given(seed=st.integers(0, 1 << 30))
def test_what_the_catalog_itself_writes_makes_it_anew(new_kit: Any, seed: int) -> None:
    rng = random.Random(seed)
    kit = new_kit(seed)
    scribe = Scribe(kit, rng)
    busy(kit, scribe, 8)
    begun = kit.one(BeginVolume(kit.now, "test"))
    first = len(kit.records)
    parts, cursor, part, previous = [begun.begin], b"", 1, read_record(begun.begin).hash
    while True:
        made = kit.one(TakeSlice(begun.volume, cursor, part, previous, kit.now, rng.choice([100, 3000])))
        parts += made.records
        cursor, part, previous = made.cursor, made.part, made.previous
        if not cursor:
            break
        busy(kit, scribe, rng.choice([0, 0, 1]))
    busy(kit, scribe, 5)
    log = [record.data for record in kit.records[first:]]
    disk, rebuilt = rebuild(b"".join([*parts, *log]))
    assert rebuilt.odd == []
    assert dump(disk) == kit.kept() | {"meta": sorted([*kit.kept()["meta"], ("volume", 0, b"")])}
    kit.reopen()
    assert kit.records[-1].position == rebuilt.position + 1


@pytest.mark.parametrize("keeps_log", [True, False])
def test_a_restored_log_goes_on_behind_a_break(kit: Any, scribe: Scribe, volume: Volume, keeps_log: bool) -> None:
    """Also of a snapshot behind which there is no change."""
    alone = scribe.begin(9).complete()
    for data in (volume.data(), alone.data()):
        disk, rebuilt = rebuild(data, restoration=Restoration(70, 5))
        again = Catalog.open(
            disk, rng=random.Random(1), secret=b"s" * 32, path="made.sqlite", ballast_bytes=0, keeps_log=keeps_log
        )
        assert again.audit() == []
        assert again.restored_ns == 5
        (result,) = again.run([LoadLog()])
        state = result.result if keeps_log else result
        assert (state.position, state.volume) == (rebuilt.position + (2 if keeps_log else 0), 0)
        if keeps_log:
            (found,) = again.run([ReadLog(state.position, 1)])
            assert read_record(found.result[0]).previous == scribe.hash
        again.close()


def test_each_moment_since_the_snapshot_can_be_had(scribe: Scribe, volume: Volume) -> None:
    for position in sorted(scribe.as_of):
        if position >= volume.whole:
            for limit in ({"position": position}, {"at_ns": scribe.walls[position] + 1}):
                disk, rebuilt = rebuild(volume.data(), **limit)
                assert dump(disk) == scribe.as_of[position]
                assert (rebuilt.position, rebuilt.moment_ns) == (position, scribe.walls[position])


def test_a_log_that_breaks_off_gives_the_last_whole_transaction(scribe: Scribe, volume: Volume) -> None:
    for cut in range(len(volume.log)):
        record = volume.log[cut]
        if record.position <= volume.whole:
            continue
        data = volume.data()
        end = data.index(record.data)
        disk, rebuilt = rebuild(data[: end + 50])
        assert rebuilt.position == max(position for position in scribe.as_of if position < record.position)
        assert dump(disk) == scribe.as_of[rebuilt.position]


# --- several volumes --------------------------------------------------------------------------------------------------


@pytest.fixture
def two(kit: Any, scribe: Scribe, volume: Volume) -> list[Volume]:
    """A volume, and a later one; both go on."""
    later = scribe.begin(2)
    busy(kit, scribe, 6, volume=later)
    later.complete()
    busy(kit, scribe, 6)
    return [volume, later]


def test_the_log_of_a_later_volume_goes_on_where_the_first_one_ends(
    kit: Any, scribe: Scribe, two: list[Volume]
) -> None:
    first, later = two
    for count in (len(first.log), len(first.log) - 8, len(first.log) - 17):
        first.log = first.log[:count]
        disk, rebuilt = rebuild([first.data(), later.data()])
        assert dump(disk) == kit.dump("holders", "inventories")
        assert rebuilt.position == scribe.position
    moment = sorted(scribe.as_of)[-3]
    disk, rebuilt = rebuild([first.data(), later.data()], at_ns=scribe.walls[moment])
    assert (dump(disk), rebuilt.position) == (scribe.as_of[moment], moment)


def test_volumes_with_a_gap_between_them_are_refused(two: list[Volume]) -> None:
    first, later = two
    begun = later.log[0].position - 1
    first.log = [record for record in first.log if record.position < begun]
    with pytest.raises(Conflict, match=f"begins at change {begun}, the one before ends at"):
        rebuild([first.data(), later.data()])


def test_volumes_of_two_histories_are_refused(new_kit: Any) -> None:
    kit = new_kit(3)
    scribe = Scribe(kit, random.Random(3))
    volume = scribe.begin().complete()
    busy(kit, scribe, 10)
    other = Scribe(kit, random.Random(4))  # counts from the start, as a catalog restored as of an earlier moment would
    later = other.begin(2).complete()
    busy(kit, other, 20)
    with pytest.raises(Conflict, match="not the same in all volumes"):
        rebuild([volume.data(), later.data()])


def test_a_volume_of_another_cluster_is_refused(new_kit: Any, volume: Volume) -> None:
    stranger = new_kit(99)
    foreign = Scribe(stranger, random.Random(1)).begin(2).complete()
    with pytest.raises(Conflict, match="another cluster"):
        rebuild([volume.data(), foreign.data()])


def test_an_earlier_moment_than_a_volume_can_give_is_refused(scribe: Scribe, volume: Volume) -> None:
    assert volume.whole > min(scribe.walls)
    with pytest.raises(Conflict, match=f"as of change {volume.whole} at the earliest"):
        rebuild(volume.data(), position=volume.whole - 1)


# --- bytes that cannot be used ----------------------------------------------------------------------------------------


def test_what_is_incomplete_is_refused(scribe: Scribe, volume: Volume) -> None:
    snapshot = b"".join(record.data for record in volume.parts)
    for data in (b"", snapshot[:50], snapshot[:-1], snapshot):
        with pytest.raises(Corrupt):
            rebuild(data)


def test_a_flipped_bit_costs_at_most_what_follows(scribe: Scribe, volume: Volume) -> None:
    data = volume.data()
    rng = random.Random(8)
    for _ in range(40):
        at = rng.randrange(len(data))
        damaged = bytearray(data)
        damaged[at] ^= 1 << rng.randrange(8)
        rebuilder = Rebuilder(disk := SimDisk(random.Random(1)), "made.sqlite")
        with contextlib.suppress(Corrupt, Conflict, Incompatible):
            rebuilder.feed(bytes(damaged))
        if rebuilder.usable:
            rebuilt = rebuilder.finish()
            assert rebuilt.odd == []
            assert rebuilt.position < scribe.position
            assert dump(disk) == scribe.as_of[rebuilt.position]
        else:
            rebuilder.abandon()
            assert disk.listdir("") == []


GOOD_META = ("x", 1, b"")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\xc1", b"\x93", b"\x90\x90", msgspec.msgpack.encode({"meta": 1}), msgspec.msgpack.encode([1, 2, 3]),
        pack_runs([("nonsense", [], [])]),
        pack_runs([("holders", [("copies=1", "1", 1, 1)], [])]),
        pack_runs([("sqlite_master", [], [(1,)])]),
        pack_runs([("meta", [("x", 1)], [])]),
        pack_runs([("meta", [(*GOOD_META, 4)], [])]),
        pack_runs([("meta", [("x", 1 << 63, b"")], [])]),
        pack_runs([("meta", [("x", None, b"")], [])]),
        pack_runs([("meta", [("x", 1.5, b"")], [])]),
        pack_runs([("meta", [(["x"], 1, b"")], [])]),
        pack_runs([("meta", [], [()])]),
        pack_runs([("meta", [], [("x", 1)])]),
        pack_runs([("meta", [], ["x"])]),
        pack_runs([("meta", [GOOD_META], []), ("nonsense", [], [])]),
        b"\x91" * 100_000,
    ],
)  # fmt: skip
def test_rows_that_make_no_sense_are_refused_whole(scribe: Scribe, volume: Volume, body: bytes) -> None:
    """Although their hashes are right."""
    last = volume.log[-1]
    good = pack_runs([("meta", [GOOD_META], [])])
    sealed = seal(CHANGES, last.position + 1, last.term, last.wall_ns, last.hash, body)
    following = seal(CHANGES, last.position + 2, last.term, last.wall_ns, sealed.hash, good)
    rebuilder = Rebuilder(disk := SimDisk(random.Random(1)), "made.sqlite")
    rebuilder.feed(volume.data())
    with pytest.raises(Corrupt):
        rebuilder.feed(sealed.data)
    with pytest.raises(DSAError):
        rebuilder.feed(following.data)
    rebuilder.finish()
    assert dump(disk) == scribe.as_of[scribe.position]


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_in_words(data: bytes) -> None:
    with pytest.raises(DSAError):
        rebuild(data)


def test_a_catalog_of_another_format_is_refused(volume: Volume) -> None:
    begin = volume.parts[0]
    head = msgspec.json.decode(begin.body())
    head["catalog_format"] += 1
    other = seal(BEGIN, 0, begin.term, begin.wall_ns, begin.previous, msgspec.json.encode(head))
    with pytest.raises(Incompatible, match="use the software that wrote it: test"):
        rebuild(other.data)


def test_a_full_disk_is_said(volume: Volume) -> None:
    disk = SimDisk(random.Random(1))
    disk.capacity_bytes = 120_000
    with pytest.raises(NoSpace):
        rebuild(volume.data(), disk)
    assert disk.listdir("") == []


# --- for a master -----------------------------------------------------------------------------------------------------


def test_a_master_goes_on_with_a_restored_catalog(kit: Any, scribe: Scribe, volume: Volume) -> None:
    numbers = kit.number("next_node"), kit.number("seq")
    answered = kit.request(kit.commit("/answered"))
    [answer] = kit.run(answered)
    scribe.note()
    kept = kit.dump("meta", "drops", "holders", "inventories")
    disk, _ = rebuild(volume.data(), restoration=Restoration(70, 5, highest_node=40))
    catalog = Catalog.open(disk, rng=random.Random(1), secret=b"another" * 4, path="made.sqlite", ballast_bytes=0)
    assert catalog.term == 71
    assert catalog.cluster == kit.catalog.cluster
    assert catalog.run([answered]) == [answer]
    assert catalog.audit() == []
    catalog.close()
    now = dump(disk)
    assert {name: rows for name, rows in now.items() if name in kept} == kept
    meta = {name: number for name, number, _ in now["meta"]}
    assert (meta["next_node"], meta["seq"]) == (41, numbers[1] + 1)
    assert now["drops"] == []  # what was to go may be wanted now


def test_a_term_that_leaves_no_room_for_a_master_is_refused(volume: Volume) -> None:
    with pytest.raises(Corrupt, match="no master can come after term"):
        rebuild(volume.data(), restoration=Restoration((1 << 23) - 1, 5))


def test_what_an_earlier_attempt_left_is_removed(volume: Volume) -> None:
    disk = SimDisk(random.Random(1))
    for suffix in ("", "-wal", "-journal"):
        file = disk.open(f"made.sqlite{suffix}", create=True)
        file.pwritev([b"nonsense" * 1000], 0)
        file.close()
    _, rebuilt = rebuild(volume.data(), disk)
    assert rebuilt.odd == []


def test_receipts_of_the_lost_keys_are_asked_for_anew_and_later_ones_are_not_believed(
    kit: Any, scribe: Scribe, volume: Volume
) -> None:
    """A restored master has another secret. What was not written with it since is denied as ever."""
    disk, _ = rebuild(volume.data(), restoration=Restoration(70, 5))
    begun_before = kit.request(kit.commit("/begun/before"))
    catalog = Catalog.open(disk, rng=random.Random(1), secret=b"another" * 4, path="made.sqlite", ballast_bytes=0)
    (answer,) = catalog.run([begun_before])
    commit = begun_before.operation
    shards = [
        PlacedShard(chunk.chunk, receipt.index, receipt.node) for chunk in commit.chunks for receipt in chunk.receipts
    ]
    assert answer == Confirm(shards, [], [], 0)
    kit.ids = id_floor(catalog.term)
    (answer,) = catalog.run([kit.request(kit.commit("/forged"))])
    assert answer.code == "denied"
    catalog.close()
