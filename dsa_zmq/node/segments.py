"""The bytes of a segment file: what is written, and how it is found again after damage.

A segment is a preallocated file: a file header, records one after the other, each at a multiple of :data:`ALIGN`, and,
once it is full, a footer that repeats all record headers. Nothing is ever overwritten, so three rules are enough:

* A record counts if its header does: magic, checksum and the segment's random *generation* agree. The generation is
  known to nobody outside, so bytes inside a payload can never pass for a record.
* After a header that does not count, the search goes on at the next aligned place. So damage costs what it hit, and
  never what lies behind it.
* Of several records of one shard, the one with the highest *sequence* is the truth: a put that is there, or a drop.
  Sequences grow over all segments, hence the order in which segments are read does not matter.

All integers are little-endian. ``docs/ON_DISK.md`` has the tables.
"""

from __future__ import annotations

import errno
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from blake3 import blake3

from actors.disk import DiskFile
from dsa_zmq.errors import Incompatible

FORMAT_VERSION = 1  #: a later one comes with a later index_file.SCHEMA_VERSION: else an older build takes it for damage
ALIGN = 64  #: bytes; small enough that a 4 KiB shard wastes 1 %, large enough that a search for headers is quick
PUT, DROP = 1, 2  #: record kinds

FILE_MAGIC = b"DSASEGMT"
RECORD_MAGIC = b"\xf1DSR"
FOOTER_MAGIC = b"DSAFOOTR"

_FILE = struct.Struct("<8sIIQQQ20x")
_RECORD = struct.Struct("<4sBBBxQIIQQ32s4x")
_ENTRY = struct.Struct("<QQIIIBB2x32s")
_FOOTER = struct.Struct("<8sIIQQ16s12x")
_CRC = struct.Struct("<I")

FILE_HEADER_BYTES = _FILE.size + _CRC.size
RECORD_HEADER_BYTES = _RECORD.size + _CRC.size
ENTRY_BYTES = _ENTRY.size
TRAILER_BYTES = _FOOTER.size + _CRC.size

_PADDING = [bytes(length) for length in range(ALIGN)]
SCAN_WINDOW_BYTES = 1 << 20  #: read at once while scanning: bounds memory, and is large enough for full speed
SECTOR_BYTES = 512  #: the least that a disk fails to read
_UNREADABLE = (errno.EIO, getattr(errno, "ENODATA", errno.EIO))


class Record(NamedTuple):
    """One record of a segment, without its payload."""

    kind: int
    chunk: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    chunk_length: int
    length: int  #: bytes of payload; 0 for a drop
    hash: bytes  #: BLAKE3-256 of the payload
    sequence: int
    offset: int  #: of the record header in its file

    @property
    def payload_offset(self) -> int:
        return self.offset + RECORD_HEADER_BYTES

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.offset + record_bytes(self.length)


class FileHeader(NamedTuple):
    number: int
    generation: int
    size: int  #: bytes of the whole file


class Found(NamedTuple):
    """A record met by a scan, and whether its payload matches its hash (True if that was not looked at)."""

    record: Record
    intact: bool


def record_bytes(length: int) -> int:
    """Bytes that a record with ``length`` bytes of payload takes, padding included."""
    return -(-(RECORD_HEADER_BYTES + length) // ALIGN) * ALIGN


def pad(length: int) -> bytes:
    """The zeros between a payload and the next record."""
    return _PADDING[-(RECORD_HEADER_BYTES + length) % ALIGN]


def footer_bytes(count: int) -> int:
    """Bytes that the footer over ``count`` records takes, at the end of the file."""
    return count * ENTRY_BYTES + TRAILER_BYTES


def largest_payload(segment_bytes: int) -> int:
    """The longest shard that a fresh segment of this size can hold."""
    room = segment_bytes - FILE_HEADER_BYTES - footer_bytes(1)
    return room // ALIGN * ALIGN - RECORD_HEADER_BYTES


def is_medium(error: OSError) -> bool:
    """Whether the medium is at fault, and not the process (too many open files, a closed handle)."""
    return error.errno in _UNREADABLE


def read_anyway(file: DiskFile, size: int, offset: int) -> bytes:
    """As ``pread``; sectors that the disk cannot read come as zeros, which nothing here takes for anything."""
    try:
        return file.pread(size, offset)
    except OSError as error:
        if not is_medium(error):
            raise
        if size <= SECTOR_BYTES:
            return bytes(size)
    half = -(-size // 2 // SECTOR_BYTES) * SECTOR_BYTES
    return read_anyway(file, half, offset) + read_anyway(file, size - half, offset + half)


def _sealed(body: bytes) -> bytes:
    return body + _CRC.pack(zlib.crc32(body))


def _opened(data: bytes | memoryview) -> bytes | None:
    """The body in front of a matching checksum."""
    body = bytes(data[: -_CRC.size])
    return body if _CRC.unpack(data[-_CRC.size :])[0] == zlib.crc32(body) else None


# --- writing ----------------------------------------------------------------------------------------------------------


def encode_file_header(header: FileHeader) -> bytes:
    return _sealed(_FILE.pack(FILE_MAGIC, FORMAT_VERSION, 0, header.number, header.generation, header.size))


def encode_record_header(record: Record, generation: int) -> bytes:
    body = _RECORD.pack(
        RECORD_MAGIC, FORMAT_VERSION, record.kind, record.index, record.chunk, record.chunk_length, record.length,
        generation, record.sequence, record.hash,
    )  # fmt: skip
    return _sealed(body)


def encode_entry(record: Record) -> bytes:
    """A record as it stands in the footer."""
    return _ENTRY.pack(
        record.chunk, record.sequence, record.offset // ALIGN, record.length, record.chunk_length, record.index,
        record.kind, record.hash,
    )  # fmt: skip


def encode_footer(entries: bytes | bytearray, generation: int, size: int) -> tuple[bytes, int]:
    """The footer over encoded entries, and its offset in a file of ``size`` bytes."""
    count = len(entries) // ENTRY_BYTES
    offset = size - footer_bytes(count)
    checksum = blake3(entries).digest(16)
    return bytes(entries) + _sealed(
        _FOOTER.pack(FOOTER_MAGIC, FORMAT_VERSION, count, generation, offset, checksum)
    ), offset


# --- reading ----------------------------------------------------------------------------------------------------------


def decode_file_header(data: bytes, name: str) -> FileHeader | None:
    """None if it is damaged or was never written; Incompatible if another build wrote it."""
    body = _opened(data) if len(data) == FILE_HEADER_BYTES else None
    if body is None:
        return None
    magic, version, _, number, generation, size = _FILE.unpack(body)
    if magic != FILE_MAGIC:
        return None
    if version != FORMAT_VERSION:
        raise Incompatible(
            f"{name} has segment format {version}, this build reads format {FORMAT_VERSION}",
            f"upgrade the node to a build that reads segment format {version}, such as the one that wrote it",
            name,
        )
    return FileHeader(number, generation, size)


def decode_record_header(data: bytes | memoryview, offset: int, generation: int | None) -> Record | None:
    """The record whose header lies in ``data``, read at ``offset``; None if it does not count. ``generation`` None
    accepts any."""
    if len(data) != RECORD_HEADER_BYTES or data[:4] != RECORD_MAGIC:
        return None
    body = _opened(data)
    if body is None:
        return None
    _, version, kind, index, chunk, chunk_length, length, written, sequence, digest = _RECORD.unpack(body)
    if version != FORMAT_VERSION or kind not in (PUT, DROP) or generation not in (None, written):
        return None
    return Record(kind, chunk, index, chunk_length, length, digest, sequence, offset)


def is_put(data: bytes, generation: int, chunk: int, index: int, chunk_length: int, length: int, sequence: int,
           digest: bytes) -> bool:  # fmt: skip
    """Whether ``data`` begins with the sound header of exactly this record. For reads of one record after the other."""
    fields = (RECORD_MAGIC, FORMAT_VERSION, PUT, index, chunk, chunk_length, length, generation, sequence, digest)
    if len(data) < RECORD_HEADER_BYTES or _RECORD.unpack_from(data) != fields:
        return False
    return bool(_CRC.unpack_from(data, _RECORD.size)[0] == zlib.crc32(data[: _RECORD.size]))


def read_footer(file: DiskFile, size: int, generation: int) -> list[Record] | None:
    """All records of a sealed segment; None if there is no footer, or a damaged one."""
    trailer = read_anyway(file, TRAILER_BYTES, size - TRAILER_BYTES)
    body = _opened(trailer) if len(trailer) == TRAILER_BYTES else None
    if body is None:
        return None
    magic, version, count, written, offset, checksum = _FOOTER.unpack(body)
    if magic != FOOTER_MAGIC or version != FORMAT_VERSION or written != generation:
        return None
    if offset != size - footer_bytes(count) or offset < FILE_HEADER_BYTES:
        return None
    entries = read_anyway(file, count * ENTRY_BYTES, offset)
    if blake3(entries).digest(16) != checksum:
        return None
    return [
        Record(kind, chunk, index, chunk_length, length, digest, sequence, place * ALIGN)
        for chunk, sequence, place, length, chunk_length, index, kind, digest in _ENTRY.iter_unpack(entries)
    ]


def payload_intact(file: DiskFile, record: Record) -> bool:
    """Read the payload and compare it with the hash in the header."""
    if record.kind == DROP:
        return True
    return bool(blake3(read_anyway(file, record.length, record.payload_offset)).digest() == record.hash)


def scan(file: DiskFile, size: int, generation: int | None, *, verify_from: int = 0) -> Iterator[Found]:
    """All records whose headers count, in file order; payloads at or behind ``verify_from`` are compared with their
    hashes. ``generation`` None accepts records of any generation (to learn it when the file header is damaged)."""
    window = _Window(file, size)
    position = FILE_HEADER_BYTES
    while position + RECORD_HEADER_BYTES <= size:
        record = decode_record_header(window.read(position, RECORD_HEADER_BYTES), position, generation)
        if record is None or record.end > size:
            following = window.find(RECORD_MAGIC, position + ALIGN)
            if following is None:
                return
            position = following
            continue
        intact = True
        if record.kind == PUT and position >= verify_from:
            intact = blake3(window.read(record.payload_offset, record.length)).digest() == record.hash
        yield Found(record, intact)
        position = record.end


def find_generation(file: DiskFile, size: int) -> int | None:
    """The generation of a segment whose file header is damaged, from its footer or its first record; None if nothing
    in the file counts: then it was never used."""
    trailer = read_anyway(file, TRAILER_BYTES, max(0, size - TRAILER_BYTES))
    body = _opened(trailer) if len(trailer) == TRAILER_BYTES else None
    if body is not None and body[: len(FOOTER_MAGIC)] == FOOTER_MAGIC:
        return int(_FOOTER.unpack(body)[3])
    for found in scan(file, size, None):
        header = read_anyway(file, RECORD_HEADER_BYTES, found.record.offset)
        return int(_RECORD.unpack(header[: _RECORD.size])[7])
    return None


class _Window:
    """Reads a file through one buffer, so that small records do not cost a system call each."""

    def __init__(self, file: DiskFile, size: int) -> None:
        self._file = file
        self._size = size
        self._start = 0
        self._data = b""

    def read(self, offset: int, size: int) -> memoryview | bytes:
        if offset < self._start or offset + size > self._start + len(self._data):
            if size > SCAN_WINDOW_BYTES // 2:
                return read_anyway(self._file, size, offset)
            self._load(offset)
        begin = offset - self._start
        return memoryview(self._data)[begin : begin + size]

    def find(self, needle: bytes, offset: int) -> int | None:
        """The first aligned place of ``needle`` at or behind ``offset``."""
        while offset < self._size:
            if not self._start <= offset < self._start + len(self._data):
                self._load(offset)
            at = self._data.find(needle, offset - self._start)
            while at >= 0 and (self._start + at) % ALIGN:
                at = self._data.find(needle, at + 1)
            if at >= 0:
                return self._start + at
            offset = -(-(self._start + len(self._data)) // ALIGN) * ALIGN
        return None

    def _load(self, offset: int) -> None:
        # Windows begin at aligned places and are a multiple of ALIGN long, so no aligned needle straddles two of them.
        self._start = offset // ALIGN * ALIGN
        wanted = min(SCAN_WINDOW_BYTES, self._size - self._start)
        self._data = read_anyway(self._file, wanted, self._start)
        if len(self._data) < wanted:  # a file shorter than it should be reads as zeros, as a hole would
            self._data += bytes(wanted - len(self._data))


def torn_tail(found: Sequence[Found]) -> list[Found]:
    """The damaged records at the end. Only of the last segment in use: these were being written when the power went, so
    nobody was told that they are there."""
    start = len(found)
    while start and not found[start - 1].intact:
        start -= 1
    return list(found[start:])
