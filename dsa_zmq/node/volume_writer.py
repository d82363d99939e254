"""The file of one volume: opened, made, written group by group. :mod:`dsa_zmq.node.volume_scan` says what is in it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from actors.disk import Disk, DiskFile
from dsa_zmq.model.records import MAGIC
from dsa_zmq.model.volumes import DIRECTORY, VolumeChain, file_name
from dsa_zmq.node.segments import read_anyway
from dsa_zmq.node.volume_room import VolumeRoom
from dsa_zmq.node.volume_scan import MARK_BYTES, WINDOW_BYTES, Scanned, encode_mark, scan
from dsa_zmq.node.writer import BUFFERS_PER_CALL, FORGET_BYTES, ZEROS_AHEAD
from dsa_zmq.protocol.volumes import VolumeState


@dataclass(slots=True)
class Volume:
    """What is durable of one volume."""

    number: int
    chain: VolumeChain
    end: int = 0  #: of its records
    damage: str = ""
    allocated: int = 0  #: bytes of its file
    written: int = 0  #: blocks before this offset have been written, and not only been reserved
    file: DiskFile | None = None  #: while it is written to

    @property
    def path(self) -> str:
        return path_of(self.number)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None


def path_of(number: int) -> str:
    return f"{DIRECTORY}/{file_name(number)}"


def state_of(number: int, chain: VolumeChain, end: int, damage: str) -> VolumeState:
    """What is told of it."""
    if chain.head is None:
        return VolumeState(number, damage=damage)
    return VolumeState(
        number, begun=chain.head.position, begun_ns=chain.begun_ns, parts=chain.parts, complete=chain.complete,
        whole=chain.whole, whole_ns=chain.whole_ns, position=chain.position, term=chain.term, wall_ns=chain.wall_ns,
        hash=chain.hash, size=end, damage=damage,
    )  # fmt: skip


def open_volume(disk: Disk, number: int) -> tuple[Volume | None, str]:
    """Read a volume's file, make durable what it shows, and wipe what was being written; and what is worth telling. None: it
    was being made, and is removed. OSError if the disk fails."""
    file = disk.open(path_of(number))
    try:
        # After kill -9 the page cache shows records that a power loss would take: make them durable before they count.
        file.datasync()
        found = scan(file)
        size = file.size()
        chain = found.chain
        if chain.head is not None and chain.head.volume != number:
            damage = f"its file is that of volume {chain.head.volume}"
            return Volume(number, VolumeChain(), 0, damage, size, size), damage
        if found.damage:
            return Volume(number, chain, found.end, _words(found), size, size), _words(found)
        if chain.head is not None:
            if found.dirty:
                _wipe(file, found.end, found.dirty)
            note = f"{found.dirty - found.end} bytes were being written; they do not count" if found.dirty else ""
            return Volume(number, chain, found.end, "", size, found.end), note
        if not MAGIC.startswith(read_anyway(file, len(MAGIC), 0).rstrip(b"\0")):
            return Volume(number, chain, 0, _words(found), size, size), _words(found)
    finally:
        file.close()
    disk.unlink(path_of(number))
    disk.sync_dir(DIRECTORY)
    return None, "it was being made when this node last ended"


def make_file(disk: Disk, number: int) -> DiskFile:
    """An empty file for a new volume; it is durable as such after :func:`write_group` and a sync of the directory."""
    if not disk.exists(DIRECTORY):
        disk.makedirs(DIRECTORY)
        disk.sync_dir("")
    return disk.open(path_of(number), exclusive=True)


def write_group(volume: Volume, records: Sequence[bytes], size: int, room: VolumeRoom) -> None:
    """Append records of ``size`` bytes in all; returns when they are durable. NoSpace if there is no room, and nothing was
    written; OSError if the disk fails: what it has then is unknown."""
    file = volume.file
    assert file is not None, "it was opened for this"
    begin, end = volume.end, volume.end + size
    volume.allocated = room.grow(file, volume.allocated, end + MARK_BYTES)
    buffers: list[bytes | memoryview] = [*records, encode_mark(begin, end)]
    if (written := end + MARK_BYTES) > volume.written:
        ahead = min(len(ZEROS_AHEAD), volume.allocated - written) if size < FORGET_BYTES else 0
        buffers += [memoryview(ZEROS_AHEAD)[:ahead]] if ahead else []
        volume.written = written + ahead
    offset = begin
    for first in range(0, len(buffers), BUFFERS_PER_CALL):
        offset += file.pwritev(buffers[first : first + BUFFERS_PER_CALL], offset)
    file.datasync()
    if size >= FORGET_BYTES:
        file.forget(begin, size)


def remove_file(disk: Disk, number: int) -> None:
    """One that could not be made. The first error is the one to tell; a leftover is found at the next start."""
    with contextlib.suppress(OSError):
        disk.unlink(path_of(number))


def _wipe(file: DiskFile, first: int, end: int) -> None:
    """Zeros from ``first`` on, durably: what lies there must never be taken for records, whatever is written before it."""
    for offset in range(first, end, WINDOW_BYTES):
        file.pwritev([bytes(min(WINDOW_BYTES, end - offset))], offset)
    file.datasync()


def _words(found: Scanned) -> str:
    return f"damaged at byte {found.end}: {found.why}"
