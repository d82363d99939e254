"""The byte tables of docs/ON_DISK.md describe what is written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dsa_zmq.model.volumes import file_name
from dsa_zmq.node import failure, identity, index_file, recovery, segments, space, volume_room, volume_scan

TEXT = (Path(__file__).parents[2] / "docs" / "ON_DISK.md").read_text()
SIZES = {
    "File header": segments.FILE_HEADER_BYTES,
    "Record,": segments.RECORD_HEADER_BYTES,
    "Footer": segments.ENTRY_BYTES,
    "Trailer": segments.TRAILER_BYTES,
    "The mark": volume_scan.MARK_BYTES,
}


@pytest.mark.parametrize("name", SIZES)
def test_a_byte_table_adds_up_to_what_is_written(name: str) -> None:
    table = re.search(rf"^{name}.*?\n\n\| offset \| bytes \| field \|\n\|---\|---\|---\|\n(.*?)\n\n", TEXT, re.M | re.S)
    assert table is not None
    rows = re.findall(r"^\| (\d+) \| (\d+) \| ", table.group(1), re.M)
    end = 0
    for offset, size in rows:
        assert int(offset) == end, f"{name} has a gap before {offset}"
        end += int(size)
    assert end == SIZES[name]


@pytest.mark.parametrize(
    "name",
    [
        identity.FILE,
        index_file.PATH,
        space.BALLAST,
        failure.FAILED,
        recovery.REBUILD_MARK,
        "segments/00000001.seg",
        f"catalog/{file_name(0x10000000007)}",
    ],
)
def test_every_file_of_a_node_is_described(name: str) -> None:
    assert f"`{name}`" in TEXT


def test_the_magics_are_the_ones_written() -> None:
    assert f"`{segments.FILE_MAGIC.decode()}`" in TEXT
    assert f"`{segments.FOOTER_MAGIC.decode()}`" in TEXT
    assert segments.RECORD_MAGIC.hex(" ").upper() in TEXT
    assert volume_scan.encode_mark(0, 0)[:4].hex(" ").upper() in TEXT


def test_limits_of_volumes_are_the_ones_that_hold() -> None:
    assert f"steps of {volume_room.STEP_BYTES >> 20} MiB" in TEXT
    assert f"but {volume_room.MIN_STEP_BYTES >> 10} KiB at least" in TEXT
    assert volume_room.SPARES == 8
    assert volume_scan.TORN_BYTES >> 20 == 20
