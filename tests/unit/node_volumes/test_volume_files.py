"""The volumes of a node: what follows is appended, once; what does not is refused; all of it is there after a restart."""

from __future__ import annotations

import errno
import random
from typing import Any

import msgspec
import pytest

from actors.disk import OsDisk
from actors.sim.disk import SimDisk, SimFile
from dsa_zmq.errors import Conflict, Corrupt, NoSpace, NotFound, Unavailable
from dsa_zmq.node.failure import FAILED
from dsa_zmq.node.volume_files import AppendRecords, VolumeFiles
from dsa_zmq.node.volume_room import SPARES
from dsa_zmq.node.volume_scan import GROUP_BYTES
from dsa_zmq.protocol.volumes import VolumeState
from tests.unit.node_volumes.conftest import (
    CLUSTER,
    STEP,
    Shipper,
    append,
    append_all,
    content,
    joined,
    open_files,
    path,
)


@pytest.fixture(params=["simulated", "real"])
def any_disk(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    return OsDisk(tmp_path) if request.param == "real" else SimDisk(random.Random(1))


def test_what_is_appended_is_told_and_read_and_survives_a_restart(any_disk: Any) -> None:
    files, shipper = open_files(any_disk), Shipper()
    append_all(files, shipper, shipper.begin, shipper.change())
    append_all(files, shipper, shipper.part(), shipper.change(), shipper.part(last=True))
    state = files.state(5)
    assert state == VolumeState(
        5, begun=10, begun_ns=1000, parts=3, complete=True, whole=12, whole_ns=1004, position=12, term=5, wall_ns=1003,
        hash=shipper.hash, size=len(joined(shipper.sent)),
    )  # fmt: skip
    assert content(files, 5) == joined(shipper.sent)
    files.close()
    again = open_files(any_disk)
    assert again.states() == [state]
    assert again.notes == []
    append_all(again, shipper, shipper.change(100_000), shipper.change())
    assert content(again, 5) == joined(shipper.sent)
    again.close()
    assert open_files(any_disk).state(5).position == 14


def test_records_that_are_there_are_passed_over(files: VolumeFiles) -> None:
    shipper = Shipper()
    append_all(files, shipper, shipper.begin, shipper.change(), shipper.part())
    for _ in range(2):
        append_all(files, shipper, *shipper.sent)
    append_all(files, shipper, *shipper.sent, shipper.change())
    assert content(files, 5) == joined(shipper.sent)


def test_what_does_not_follow_is_refused_and_what_came_before_it_stays(files: VolumeFiles) -> None:
    shipper = Shipper()
    first, lost, third = shipper.change(), shipper.change(), shipper.change()
    outcome = append(files, shipper, shipper.begin, first, third)
    assert isinstance(outcome.error, Conflict)
    assert (outcome.state.position, outcome.state.size) == (11, len(joined([shipper.begin, first])))
    append_all(files, shipper, lost, third)
    assert files.state(5).position == 13


@pytest.mark.parametrize(
    "spoil", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b"", lambda data: b"x" * 200]
)
def test_a_frame_that_is_not_one_sound_record_is_refused(files: VolumeFiles, spoil: Any) -> None:
    shipper = Shipper()
    append_all(files, shipper, shipper.begin)
    (outcome,) = files.append([AppendRecords(5, CLUSTER, (spoil(shipper.change().data),))])
    assert isinstance(outcome.error, Corrupt)
    assert outcome.state.position == 10


def test_a_volume_begins_with_its_own_beginning(files: VolumeFiles) -> None:
    shipper, other = Shipper(), Shipper(6)
    for job in (
        shipper.job(shipper.change()),
        AppendRecords(5, CLUSTER, (other.begin.data,)),
        AppendRecords(5, b"d" * 16, (shipper.begin.data,)),
    ):
        (outcome,) = files.append([job])
        assert isinstance(outcome.error, Conflict)
        assert outcome.state == VolumeState(5)
    assert files.states() == []


def test_to_ask_changes_nothing(disk: SimDisk, files: VolumeFiles) -> None:
    before = disk.counts.copy()
    assert append(files, Shipper()).state == VolumeState(5)
    assert disk.counts == before


def test_what_waits_together_is_made_durable_by_one_sync_for_each_volume(disk: SimDisk, files: VolumeFiles) -> None:
    one, two = Shipper(5), Shipper(6)
    append_all(files, one, one.begin)
    append_all(files, two, two.begin)
    syncs = disk.counts["datasync"]
    jobs = [shipper.job(shipper.change()) for _ in range(10) for shipper in (one, two)]
    outcomes = files.append([*jobs, one.job()])
    assert disk.counts["datasync"] - syncs == 2
    assert all(outcome.error is None and outcome.state.position == 20 for outcome in outcomes)
    assert content(files, 5) == joined(one.sent)
    assert content(files, 6) == joined(two.sent)


def test_a_group_has_its_limit(disk: SimDisk, files: VolumeFiles) -> None:
    shipper = Shipper(size=1 << 20)
    jobs = [shipper.job(shipper.begin), *(shipper.job(shipper.change(1_000_000)) for _ in range(9))]
    assert all(outcome.error is None for outcome in files.append(jobs))
    assert len(joined(shipper.sent)) > 2 * GROUP_BYTES
    assert open_files(disk).state(5).position == 19


def test_volumes_that_are_not_wanted_are_removed_durably(disk: SimDisk, files: VolumeFiles) -> None:
    shippers = [Shipper(volume) for volume in (5, 6, 7)]
    for shipper in shippers:
        append_all(files, shipper, shipper.begin)
    append_all(files, Shipper(100), Shipper(100).begin)
    files.keep(())
    assert len(files.states()) == 4
    files.keep({6, 99})
    assert [state.volume for state in files.states()] == [6, 100], "what is newer was begun after this was said"
    files.keep({6, 101})
    with pytest.raises(NotFound):
        files.read(5, 0, 10)
    disk.power_loss()
    again = open_files(disk)
    assert [state.volume for state in again.states()] == [6]
    append_all(again, shippers[0], shippers[0].begin)
    assert again.state(5).begun == 10


def test_a_failed_sync_is_never_made_good_by_a_later_one(disk: SimDisk, files: VolumeFiles) -> None:
    shipper = Shipper()
    append_all(files, shipper, shipper.begin, shipper.change())
    sure = files.state(5)
    disk.failing_syncs = 1
    outcome = append(files, shipper, shipper.change())
    assert isinstance(outcome.error, Unavailable)
    assert isinstance(append(files, shipper, shipper.sent[-1]).error, Unavailable)
    told = files.state(5)
    assert "failed" in told.damage
    assert msgspec.structs.replace(told, damage="") == sure
    disk.process_crash()
    again = open_files(disk)
    assert "failed" in again.state(5).damage, "also after a restart, until an operator has looked"
    assert isinstance(append(again, shipper, shipper.sent[-1]).error, Unavailable)


def test_a_disk_that_fails_while_a_volume_is_made_leaves_none(disk: SimDisk, files: VolumeFiles) -> None:
    disk.failing_syncs = 1
    shipper = Shipper()
    assert isinstance(append(files, shipper, shipper.begin).error, Unavailable)
    assert files.states() == []
    disk.process_crash()
    assert open_files(disk).states() == []


def test_on_a_full_disk_volumes_use_what_was_kept_back_for_them(disk: SimDisk, files: VolumeFiles) -> None:
    shipper = Shipper()
    append_all(files, shipper, shipper.begin)
    assert files.usage() == (1, STEP * (1 + SPARES))
    disk.capacity_bytes -= disk.free_bytes()[0]
    while True:
        outcome = append(files, shipper, shipper.change(10_000))
        if outcome.error is not None:
            break
    assert isinstance(outcome.error, NoSpace)
    assert outcome.state.size > STEP * SPARES
    assert files.usage()[1] == STEP * (1 + SPARES)
    assert content(files, 5) == joined(shipper.sent[:-1])
    assert files.states()[0].damage == ""
    disk.capacity_bytes += STEP * (2 + SPARES)
    append_all(files, shipper, shipper.sent[-1])
    assert files.usage()[1] == STEP * (2 + 2 * SPARES), "and kept back anew when there is room"
    files.close()
    assert open_files(disk).usage() == files.usage()


class NoInodes(SimDisk):
    """A file system that takes room for a file when it is made, as XFS does."""

    def open(self, path: str, *, create: bool = False, exclusive: bool = False, readonly: bool = False) -> SimFile:
        if (create or exclusive) and not self.exists(path) and not self.free_bytes()[0]:
            raise OSError(errno.ENOSPC, "no space left on device", path)
        return super().open(path, create=create, exclusive=exclusive, readonly=readonly)


@pytest.mark.parametrize("free", [0, STEP, 3 * STEP])
def test_a_volume_is_begun_on_a_full_disk_and_the_store_stays_good(free: int) -> None:
    disk = NoInodes(random.Random(5))
    files = open_files(disk)
    shipper = Shipper()
    append_all(files, shipper, shipper.begin)
    disk.capacity_bytes -= disk.free_bytes()[0] - free
    for volume in range(6, 6 + SPARES):
        another = Shipper(volume)
        append_all(files, another, another.begin, another.change(), another.part(last=True))
        assert content(files, volume) == joined(another.sent)
    disk.capacity_bytes -= disk.free_bytes()[0]
    outcomes = [append(files, more, more.begin) for more in (Shipper(40), Shipper(41), Shipper(42), Shipper(43))]
    assert isinstance(outcomes[-1].error, NoSpace)
    assert not disk.exists(FAILED)
    disk.capacity_bytes += 20 * STEP
    later = Shipper(50)
    append_all(files, later, later.begin)
    files.close()
    assert {5, 6, 50} <= {state.volume for state in open_files(disk).states() if not state.damage}


def test_what_is_read_is_what_counts(files: VolumeFiles) -> None:
    shipper = Shipper()
    append_all(files, shipper, shipper.begin, shipper.change())
    size = files.state(5).size
    assert files.read(5, size - 3, 100) == joined(shipper.sent)[-3:]
    assert files.read(5, size, 100) == b""
    assert files.read(5, -1, 100) == b""
    assert files.read(5, 0, -5) == b""
    with pytest.raises(NotFound):
        files.read(6, 0, 10)


def test_what_the_disk_cannot_read_is_an_error(disk: SimDisk, files: VolumeFiles) -> None:
    shipper = Shipper()
    append_all(files, shipper, shipper.begin)
    disk.bad_sector(path(shipper), 0)
    with pytest.raises(Unavailable):
        files.read(5, 0, 100)


def test_rot_is_found_by_a_check_and_told(disk: SimDisk, files: VolumeFiles) -> None:
    shipper = Shipper(size=3000)
    append_all(files, shipper, shipper.begin)
    for _ in range(2000):
        shipper.change()
    append_all(files, shipper, *shipper.sent[1:])

    def check() -> None:
        offset: int | None = 0
        while offset is not None:
            offset = files.check(5, offset, 1)

    check()
    assert files.state(5).damage == ""
    sound = joined(shipper.sent[:900])
    disk.flip_bit(path(shipper), len(sound) + 500)
    check()
    state = files.state(5)
    assert "damaged" in state.damage
    assert (state.position, state.size) == (10 + 899, len(sound))
    assert isinstance(append(files, shipper, shipper.change()).error, Corrupt)
    assert files.state(5) == state
    assert open_files(disk).state(5).position == state.position


def test_a_check_of_what_is_gone_finds_nothing(files: VolumeFiles) -> None:
    assert files.check(5, 0, 1000) is None


def test_a_disk_that_cannot_be_read_does_not_keep_a_node_from_starting(disk: SimDisk) -> None:
    disk.replace_bytes("catalog", b"not a directory")
    files, shipper = open_files(disk), Shipper()
    assert files.states() == []
    assert files.notes
    assert append(files, shipper, shipper.begin).error is not None


def test_more_volumes_than_can_be_told_of_are_refused(disk: SimDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsa_zmq.node.volume_files.MAX_VOLUMES", 2)
    files = open_files(disk)
    shippers = [Shipper(volume) for volume in (5, 6, 7)]
    errors = [append(files, shipper, shipper.begin).error for shipper in shippers]
    assert errors[:2] == [None, None]
    assert isinstance(errors[2], NoSpace)


def test_other_files_are_left_alone(disk: SimDisk, files: VolumeFiles) -> None:
    shipper = Shipper()
    append_all(files, shipper, shipper.begin)
    for name in ("notes.txt", "5.volume", "000000000000000G.volume", "0000000000000000.volume"):
        disk.replace_bytes(f"catalog/{name}", b"mine")
    again = open_files(disk)
    again.keep({9})
    assert {name for name in disk.listdir("catalog") if not name.startswith("spare")} == {
        "notes.txt",
        "5.volume",
        "000000000000000G.volume",
        "0000000000000000.volume",
    }


def test_more_volumes_than_files_that_are_open(files: VolumeFiles) -> None:
    shippers = [Shipper(volume) for volume in range(1, 11)]
    for shipper in shippers:
        append_all(files, shipper, shipper.begin)
    for _ in range(2):
        assert all(o.error is None for o in files.append([shipper.job(shipper.change()) for shipper in shippers]))
    assert {state.position for state in files.states()} == {12}


def test_a_write_that_fails_fails_the_store(disk: SimDisk, files: VolumeFiles) -> None:
    shipper = Shipper()
    append_all(files, shipper, shipper.begin)
    disk.readonly = True
    outcome = append(files, shipper, shipper.change())
    assert isinstance(outcome.error, Unavailable)
    assert "read-only" in files.state(5).damage
