"""Reading the file of a volume from its front: what of it counts, and why no more does.

Behind the last record there is a *mark*: where the group of records that was made durable last begins and ends. The next
group takes its place, and brings its own. So after a power loss a group that was being written, of which nobody was
told, can be told from damage to what was there before::

    offset  bytes  field of the mark
    0       4      magic F1 44 53 4D
    4       1      version, 1
    5       3      0
    8       8      offset at which the group begins
    16      8      offset at which it ends: where this mark is
    24      4      0
    28      4      CRC-32 of the 28 bytes before

Records end where none follows that has a sound header and hash, and continues its chain. There:

* is a mark: that is the end;
* is none, and no header of a record comes later: what lies there was being written;
* headers come later: it was being written as well if there is no mark behind the last of them (each group has one, so
  the last one is not whole), or if the mark says that it is all of one group. Else it is damage: what lies behind it was
  there durably.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from actors.disk import DiskFile
from actors.limits import MAX_PAYLOAD_BYTES
from dsa_zmq.errors import DSAError
from dsa_zmq.model.records import HEADER_BYTES, MAGIC, header_at, read_record
from dsa_zmq.model.volumes import READ_BYTES, VolumeChain
from dsa_zmq.node.segments import read_anyway

GROUP_BYTES = 4 << 20  #: appended with one sync, but for a single message that has more
TORN_BYTES = GROUP_BYTES + MAX_PAYLOAD_BYTES  #: no group that was being written is larger
WINDOW_BYTES = 2 * READ_BYTES  #: read at once: bounds memory

_MARK_MAGIC = b"\xf1DSM"
_MARK_VERSION = 1
_MARK = struct.Struct("<4sB3xQQ4x")
_CRC = struct.Struct("<I")
MARK_BYTES = _MARK.size + _CRC.size


@dataclass(slots=True)
class Scanned:
    """What a volume's file was found to contain."""

    chain: VolumeChain
    end: int  #: of the records that count
    why: str = ""  #: nothing follows there
    damage: bool = False  #: something did follow
    dirty: int = 0  #: what was being written may lie up to here, and is to be wiped; 0: there is nothing


def encode_mark(begin: int, end: int) -> bytes:
    """The mark behind a group of records."""
    body = _MARK.pack(_MARK_MAGIC, _MARK_VERSION, begin, end)
    return body + _CRC.pack(zlib.crc32(body))


def read_mark(file: DiskFile, end: int) -> int | None:
    """Where the group began that ends there, if a mark says so."""
    data = read_anyway(file, MARK_BYTES, end)
    if len(data) < MARK_BYTES or _CRC.unpack_from(data, _MARK.size)[0] != zlib.crc32(data[: _MARK.size]):
        return None
    magic, version, begin, marked = _MARK.unpack_from(data)
    sound = (magic, version, marked) == (_MARK_MAGIC, _MARK_VERSION, end) and begin <= end
    return int(begin) if sound else None


def scan(file: DiskFile) -> Scanned:
    """All of a file. Every hash is verified. OSError if the disk cannot be asked; what it cannot read is damage."""
    size = file.size()
    chain = VolumeChain()
    end, why = follow(file, chain, 0, size)
    found = Scanned(chain, end, why)
    if read_mark(file, end) is not None:
        found.dirty = _last_used(file, end + MARK_BYTES, size)
        return found
    last, last_end = _last_header(file, end + 1, size)
    if last:
        begin = read_mark(file, last_end)
        found.damage = (begin is not None and end < begin) or last - end > TORN_BYTES
    if not found.damage:
        found.dirty = _last_used(file, end, size)
    return found


def follow(file: DiskFile, chain: VolumeChain | None, first: int, size: int) -> tuple[int, str]:
    """Where the records end that follow each other from ``first`` on, before ``size``, and why. Without a chain only hashes
    are verified."""
    data, base, offset = b"", first, first
    while True:
        try:
            record = read_record(data, offset - base)
            if record is None:
                if base + len(data) >= size:
                    return offset, "its bytes end there" if offset < size else ""
                data, base = read_anyway(file, min(WINDOW_BYTES, size - offset), offset), offset
                if not data:
                    return offset, "its bytes end there"
                continue
            if chain is not None and not chain.take(record):
                return offset, "what is there already comes again"
        except DSAError as error:
            return offset, error.message
        offset += len(record.data)


def _last_header(file: DiskFile, first: int, size: int) -> tuple[int, int]:
    """The last sound header of a record in this range: its offset, and the end of its record. (0, 0) if there is none.

    A name that a user has given may contain one. That makes damage of what was being written at worst, and the master
    begins another volume.
    """
    found, offset = (0, 0), first
    while offset < size:
        data = read_anyway(file, min(WINDOW_BYTES, size - offset), offset)
        at = data.find(MAGIC)
        while at >= 0:
            if length := header_at(data, at):
                found = (offset + at, offset + at + length)
            at = data.find(MAGIC, at + 1)
        if len(data) < HEADER_BYTES:
            break
        offset += len(data) - HEADER_BYTES + 1  # one that begins in this window and ends in the next
    return found


def _last_used(file: DiskFile, first: int, size: int) -> int:
    """The end of what is not zero in this range, or 0."""
    used = 0
    for offset in range(first, size, WINDOW_BYTES):
        kept = read_anyway(file, min(WINDOW_BYTES, size - offset), offset).rstrip(b"\0")
        used = offset + len(kept) if kept else used
    return used
