"""What a server knows of its machine."""

from __future__ import annotations

from pathlib import Path

from dsa_zmq.machine import address_towards, disk_id, held_bytes, machine_id


def test_the_machine_and_its_disks_keep_their_names(tmp_path: Path) -> None:
    assert machine_id()
    assert machine_id() == machine_id()
    (tmp_path / "below").mkdir()
    assert disk_id(tmp_path) == disk_id(tmp_path / "below")
    assert disk_id(tmp_path) != disk_id("/proc")


def test_bytes_below_a_directory_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"12345")
    (tmp_path / "y").write_bytes(b"123")
    (tmp_path / "gone").symlink_to("nowhere")
    assert held_bytes(tmp_path) == 8
    assert held_bytes(tmp_path, but=("a",)) == 3


def test_the_address_towards_a_neighbour_is_one_of_ours() -> None:
    assert address_towards("127.0.0.1", 7700) == "127.0.0.1"
    assert address_towards("no-such-host.invalid", 7700)
