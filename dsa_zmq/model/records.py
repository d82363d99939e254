"""Records of the catalog: what the master ships to nodes, what lies there, and what a backup is. Pure.

A *volume* is a file of records. It begins with a snapshot of the catalog and goes on with its changes, so it is enough to
make the catalog anew, as of any of its later moments. Two chains of records run through it, in any mixture:

* the *snapshot*: one BEGIN, any number of ROWS, one END. ``position`` counts them, from 0.
* the *log*: CHANGES. ``position`` grows by one with each record of the catalog's whole life. Records of one transaction
  follow each other, and the last of them is marked: only then do they count.

Each record names the hash of the one before it in its chain; BEGIN names that of the log's last record when the snapshot was
begun. A snapshot is read while the catalog changes: it is one moment's only together with the changes up to
``VolumeEnd.position``.

Format 1, little-endian. A record is a header of 112 bytes and its body::

    offset  bytes  field
    0       4      magic F1 44 53 4C
    4       1      version, 1
    5       1      kind: 1 BEGIN, 2 ROWS, 3 END, 4 CHANGES
    6       1      flags: 1 the transaction ends here, 2 the body is compressed with zlib
    7       1      0
    8       4      bytes of the body, as it is stored
    12      4      0
    16      8      position
    24      8      term of the master that made it
    32      8      its wall time, ns
    40      32     hash of the record before, in its chain
    72      32     hash: BLAKE3-256 of the 72 bytes before, and of the body as it is stored
    104     4      0
    108     4      CRC-32 of the 108 bytes before
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
from blake3 import blake3

from dsa_zmq.errors import Corrupt

T = TypeVar("T")

MAGIC = b"\xf1DSL"
VERSION = 1
BEGIN, ROWS, END, CHANGES = 1, 2, 3, 4
KINDS = (BEGIN, ROWS, END, CHANGES)

_ENDS = 1
_COMPRESSED = 2

HASH_BYTES = 32
NO_HASH = bytes(HASH_BYTES)  #: before the first record of all
BODY_BYTES = 128 << 10  #: rows that are gathered for one record, before compression
MAX_BODY_BYTES = (1 << 20) - 4096  #: of one record: a row as large as can be, and a record still fits into a message
_COMPRESS_FROM = 512  #: bytes: less is hardly worth it

_FIRST = struct.Struct("<4sBBBxI4xQQQ32s")  #: what the hash is over, with the body
_REST = struct.Struct("<32s4xI")
HEADER_BYTES = _FIRST.size + _REST.size
assert (_FIRST.size, HEADER_BYTES) == (72, 112)

Run = tuple[str, list[Any], list[Any]]
"""(table, rows as arrays, keys of removed rows as arrays)."""


class Record(NamedTuple):
    """A sealed record."""

    kind: int
    ends: bool  #: of CHANGES: the transaction is whole with this one
    position: int
    term: int  #: of the master that made it
    wall_ns: int  #: by its clock
    previous: bytes
    hash: bytes
    data: bytes  #: all of it, with the header

    def body(self) -> bytes:
        """As it was sealed. Corrupt if it cannot be unpacked, although its hash is right."""
        stored = memoryview(self.data)[HEADER_BYTES:]
        if not self.data[6] & _COMPRESSED:
            return bytes(stored)
        unpacker = zlib.decompressobj()
        try:
            body = unpacker.decompress(stored, MAX_BODY_BYTES)
        except zlib.error as error:
            raise _damaged(f"its body cannot be unpacked: {error}") from error
        if not unpacker.eof or unpacker.unconsumed_tail:
            raise _damaged("its body is larger than any that is written")
        return body


class VolumeHead(msgspec.Struct, frozen=True):
    """Body of BEGIN: JSON, so that people can tell a volume from a file of another kind."""

    format: str  #: :data:`VOLUME_FORMAT`
    cluster: str  #: hexadecimal
    volume: int
    catalog_format: int
    position: int  #: of the log when the snapshot was begun
    software: str


class VolumeEnd(msgspec.Struct, frozen=True):
    """Body of END: JSON."""

    position: int  #: of the log when the last row had been read: the catalog cannot be made as of an earlier one
    rows: int


VOLUME_FORMAT = "dsa-zmq catalog volume 1"


def seal(
    kind: int, position: int, term: int, wall_ns: int, previous: bytes, body: bytes, *, ends: bool = True
) -> Record:
    """A record of that body."""
    if len(body) > MAX_BODY_BYTES:
        raise ValueError(f"a record's body has {len(body)} bytes")
    flags = _ENDS if ends else 0
    if len(body) >= _COMPRESS_FROM:
        packed = zlib.compress(body, 1)
        if len(packed) < len(body):
            body, flags = packed, flags | _COMPRESSED
    first = _FIRST.pack(MAGIC, VERSION, kind, flags, len(body), position, term, wall_ns, previous)
    digest = blake3(first).update(body).digest()
    rest = first + digest + bytes(4)
    data = rest + zlib.crc32(rest).to_bytes(4, "little") + body
    return Record(kind, ends, position, term, wall_ns, previous, digest, data)


def read_record(data: bytes | memoryview, offset: int = 0) -> Record | None:
    """The record that begins there; None if the bytes end before it does. Raises Corrupt if none begins there, or if it is
    damaged: the text says why."""
    view = memoryview(data)[offset:]
    if len(view) < HEADER_BYTES:
        return None
    magic, version, kind, flags, length, position, term, wall_ns, previous = _FIRST.unpack_from(view)
    digest, checksum = _REST.unpack_from(view, _FIRST.size)
    if magic != MAGIC:
        raise _damaged("no record begins there")
    if zlib.crc32(view[: HEADER_BYTES - 4]) != checksum:
        raise _damaged("the checksum of its header does not match")
    if version != VERSION or kind not in KINDS or length > MAX_BODY_BYTES:
        raise _damaged(f"version {version}, kind {kind} and {length} bytes make no sense together")
    if len(view) < HEADER_BYTES + length:
        return None
    body = view[HEADER_BYTES : HEADER_BYTES + length]
    if blake3(view[: _FIRST.size]).update(body).digest() != digest:
        raise _damaged("its hash does not match")
    whole = bytes(view[: HEADER_BYTES + length])
    return Record(kind, bool(flags & _ENDS), position, term, wall_ns, previous, digest, whole)


def header_at(data: bytes | memoryview, offset: int = 0) -> int:
    """Bytes of the record whose header is there and sound, 0 if none is. Its body is not looked at: a torn or damaged record
    counts, too."""
    view = memoryview(data)[offset : offset + HEADER_BYTES]
    if len(view) < HEADER_BYTES or view[: len(MAGIC)] != MAGIC:
        return 0
    _, version, kind, _, length, *_ = _FIRST.unpack_from(view)
    if zlib.crc32(view[: HEADER_BYTES - 4]) != _REST.unpack_from(view, _FIRST.size)[1]:
        return 0
    return HEADER_BYTES + int(length) if version == VERSION and kind in KINDS and length <= MAX_BODY_BYTES else 0


def chain_of(data: bytes) -> tuple[int, bytes, bytes]:
    """Position, hash of the one before, and hash, as a sealed record says them: for records of our own making."""
    return int.from_bytes(data[16:24], "little"), data[40:72], data[72:104]


def pack_runs(runs: Sequence[Run]) -> bytes:
    """Rows and removals, in order, as the body of ROWS or CHANGES."""
    return _ENCODER.encode(runs)


def unpack_runs(body: bytes) -> list[Run]:
    """What :func:`pack_runs` was given; rows and keys are tuples. Corrupt if it was not."""
    try:
        return _DECODER.decode(body)
    except (msgspec.MsgspecError, ValueError) as error:
        raise _damaged(f"its body does not decode: {error}") from error


def head_of(record: Record) -> VolumeHead:
    """Body of a BEGIN. Corrupt if it is none."""
    return _json(record, VolumeHead)


def end_of(record: Record) -> VolumeEnd:
    """Body of an END. Corrupt if it is none."""
    return _json(record, VolumeEnd)


def _json(record: Record, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(record.body(), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _damaged(f"its body does not decode: {error}") from error


def cut(sizes: Sequence[int], limit: int = BODY_BYTES) -> Iterator[tuple[int, int]]:
    """Neighbours of these sizes in portions of at most ``limit``, one at least: (first, end) of each."""
    first = total = 0
    for at, size in enumerate(sizes):
        if total and total + size > limit:
            yield first, at
            first, total = at, 0
        total += size
    if first < len(sizes):
        yield first, len(sizes)


def _damaged(why: str) -> Corrupt:
    return Corrupt(f"a record of the catalog is damaged: {why}", "use another copy of the catalog")


_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[list[Run]] = msgspec.msgpack.Decoder(
    list[tuple[str, list[tuple[Any, ...]], list[tuple[Any, ...]]]]
)
