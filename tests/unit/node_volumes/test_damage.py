"""Damage to volumes and power loss: nothing that was said is lost unseen, and nothing is taken for what it is not."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.sim.disk import SimDisk
from dsa_zmq.model.records import MAGIC
from dsa_zmq.node.volume_files import VolumeFiles
from dsa_zmq.node.volume_scan import MARK_BYTES, TORN_BYTES, encode_mark
from dsa_zmq.protocol.volumes import VolumeState
from tests.unit.node_volumes.conftest import Shipper, append_all, content, joined, open_files, path


def three_groups(files: VolumeFiles, size: int = 60) -> tuple[Shipper, list[int]]:
    """A volume of three groups of records, and where each ends."""
    shipper = Shipper(size=size)
    append_all(files, shipper, shipper.begin, shipper.change(), shipper.part())
    ends = [files.state(5).size]
    for _ in range(2):
        append_all(files, shipper, shipper.change(), shipper.part(), shipper.change())
        ends.append(files.state(5).size)
    return shipper, ends


def is_prefix(state: VolumeState, shipper: Shipper, data: bytes) -> bool:
    """Its bytes are the first records of all, and it says how many."""
    whole = joined(shipper.sent)
    ends = [len(joined(shipper.sent[:count])) for count in range(len(shipper.sent) + 1)]
    return whole.startswith(data) and len(data) == state.size and state.size in ends


def test_a_bit_that_flips_anywhere_is_noticed_and_costs_nothing_before_it() -> None:
    model = SimDisk(random.Random(1))
    shipper, ends = three_groups(open_files(model))
    for at in range(0, ends[-1] + MARK_BYTES + 5, 3):
        disk = model.snapshot()
        disk.flip_bit(path(shipper), at, at % 8)
        files = open_files(disk)
        (state,) = files.states()
        assert is_prefix(state, shipper, content(files, 5))
        assert state.size <= at or at >= ends[-1]
        assert state.size + 400 > min(at, ends[-1]), (
            "no more is lost than the record that was hit, and what is behind it"
        )
        assert bool(state.damage) == (at < ends[1]), "the last group may have been written when the power went"


def test_damage_is_not_mended_by_what_is_appended_nor_by_a_restart(disk: SimDisk) -> None:
    shipper, ends = three_groups(open_files(disk))
    disk.flip_bit(path(shipper), ends[0] + 50)
    for _ in range(2):
        files = open_files(disk)
        assert files.state(5).damage
        (outcome,) = files.append([shipper.job(*shipper.sent)])
        assert outcome.error is not None
        assert "begin another volume" in str(outcome.error)
    assert disk.read_bytes(path(shipper))[ends[1] : ends[2]] == joined(shipper.sent)[ends[1] :], (
        "for who comes to salvage"
    )


def test_sectors_that_cannot_be_read_are_damage(disk: SimDisk) -> None:
    shipper, ends = three_groups(open_files(disk), size=2000)
    disk.bad_sector(path(shipper), ends[0] + 100)
    state = open_files(disk).state(5)
    assert state.damage
    assert ends[0] - 3000 < state.size <= ends[0]


def test_a_damaged_beginning_is_told(disk: SimDisk) -> None:
    shipper, _ = three_groups(open_files(disk))
    disk.flip_bit(path(shipper), 20)
    state = open_files(disk).state(5)
    assert (state.begun, state.size) == (-1, 0)
    assert state.damage


def test_what_was_being_written_is_wiped_and_never_comes_back(disk: SimDisk) -> None:
    """Its rest lies where later records end just before it."""
    shipper, _ = three_groups(open_files(disk))
    first, second = shipper.change(), shipper.change()
    end = len(joined(shipper.sent[:-2]))
    file = disk.open(path(shipper))
    file.pwritev([bytes(len(first.data)), second.data, encode_mark(end, end + len(first.data + second.data))], end)
    disk.process_crash()
    files = open_files(disk)
    assert any("being written" in note for note in files.notes)
    assert files.state(5).damage == ""
    assert files.state(5).size == end
    assert set(disk.read_bytes(path(shipper))[end:]) == {0}
    append_all(files, shipper, first)
    disk.process_crash()
    assert open_files(disk).state(5).position == shipper.position - 1


def test_what_is_too_much_for_one_group_was_not_just_being_written(disk: SimDisk) -> None:
    """There is no mark any more, and sound records lie far behind the place."""
    files, shipper = open_files(disk, 1 << 20), Shipper(size=1_000_000)
    append_all(files, shipper, shipper.begin)
    for _ in range(TORN_BYTES // 1_000_000 + 3):
        append_all(files, shipper, shipper.change())
    end = files.state(5).size
    file = disk.open(path(shipper))
    file.pwritev([bytes(MARK_BYTES)], end)
    disk.flip_bit(path(shipper), 5000)
    assert open_files(disk).state(5).damage


def test_a_file_under_another_name_is_not_that_volume(disk: SimDisk) -> None:
    shipper, _ = three_groups(open_files(disk))
    disk.replace_bytes("catalog/0000000000000009.volume", disk.read_bytes(path(shipper)))
    five, nine = open_files(disk).states()
    assert five.damage == ""
    assert "volume 5" in nine.damage
    assert nine.size == 0


def test_a_volume_that_was_being_made_is_forgotten(disk: SimDisk) -> None:
    files, shipper = open_files(disk), Shipper()
    append_all(files, shipper, shipper.begin)
    for rest in (b"", bytes(5000), shipper.begin.data[:100], shipper.begin.data[:2] + bytes(5000)):
        disk.replace_bytes("catalog/0000000000000009.volume", rest)
        again = open_files(disk)
        assert [state.volume for state in again.states()] == [5]
        assert not disk.exists("catalog/0000000000000009.volume")


def test_a_file_that_was_never_a_volume_is_told_and_kept(disk: SimDisk) -> None:
    disk.makedirs("catalog")
    disk.replace_bytes("catalog/0000000000000009.volume", b"something else")
    files = open_files(disk)
    assert files.states()[0].damage
    assert disk.exists("catalog/0000000000000009.volume")
    files.keep({10})
    assert not disk.exists("catalog/0000000000000009.volume")


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 40))
def test_hostile_files_never_keep_a_node_from_starting(seed: int, changes: int) -> None:
    """Pieces of sound records, marks and nonsense, in any order."""
    draw = random.Random(seed)
    disk = SimDisk(random.Random(seed))
    shipper, _ = three_groups(open_files(disk))
    data = bytearray(disk.read_bytes(path(shipper))[: draw.randrange(1, 6000)])
    for _ in range(changes):
        at = draw.randrange(len(data) + 1)
        piece = draw.choice(
            [
                draw.choice(shipper.sent).data,
                draw.choice(shipper.sent).data[: draw.randrange(200)],
                encode_mark(*sorted((draw.randrange(5000), draw.randrange(5000)))),
                MAGIC * draw.randrange(50),
                draw.randbytes(draw.randrange(300)),
                bytes(draw.randrange(1000)),
            ]
        )
        if draw.random() < 0.5:
            data[at:at] = piece
        else:
            data[at : at + len(piece)] = piece
    disk.replace_bytes(path(shipper), bytes(data))
    files = open_files(disk)
    for state in files.states():
        assert is_prefix(state, shipper, content(files, 5)) or state.begun == -1
        files.append([shipper.job(*shipper.sent)])
        after = files.state(5)
        again = open_files(disk).state(5)
        assert again.position == after.position
        assert bool(again.damage) == bool(after.damage)


@pytest.mark.parametrize("group", [1, 3, 20])
def test_a_power_loss_never_looks_like_damage(group: int) -> None:
    """Whatever of the last group the disk has kept."""
    for seed in range(60):
        disk = SimDisk(random.Random(seed))
        files, shipper = open_files(disk), Shipper(size=3000)
        append_all(files, shipper, shipper.begin)
        for _ in range(3):
            append_all(files, shipper, *(shipper.change() for _ in range(group)))
        sure = files.state(5).position
        disk.die_after(1)  # the write, and no sync
        files.append([shipper.job(*(shipper.change() for _ in range(group)))])
        disk.power_loss()
        again = open_files(disk)
        state = again.state(5)
        assert state.damage == ""
        assert state.position >= sure
        append_all(again, shipper, *shipper.sent[1:])
        assert content(again, 5) == joined(shipper.sent)
