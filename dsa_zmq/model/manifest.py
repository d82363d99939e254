"""Manifest pages: which chunks a content is made of, in order. One page is one row of the catalog.

Format 1, little-endian::

    version (u8) = 1
    CRC-32 of the rest (u32)
    chunk ids (u64 each)

The checksum is there because a flipped bit would name another chunk, whose bytes would pass every later check.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

from dsa_zmq.errors import Corrupt

VERSION = 1

_HEADER = struct.Struct("<BI")
_ID_BYTES = 8


def pack_page(chunk_ids: Sequence[int]) -> bytes:
    """The page's bytes: 5 and 8 for each chunk. ValueError for a number that is no chunk id."""
    try:
        body = struct.pack(f"<{len(chunk_ids)}Q", *chunk_ids)
    except struct.error as error:
        raise ValueError(f"not chunk ids: {error}") from None
    return _HEADER.pack(VERSION, zlib.crc32(body)) + body


def unpack_page(body: bytes) -> list[int]:
    """The chunk ids of a page. :class:`Corrupt` if these are not the bytes that :func:`pack_page` made."""
    count, rest = divmod(len(body) - _HEADER.size, _ID_BYTES)
    if count < 0 or rest:
        raise Corrupt(f"a manifest page of {len(body)} bytes is cut off", _REMEDY)
    version, checksum = _HEADER.unpack_from(body)
    if version != VERSION:
        raise Corrupt(f"a manifest page has version {version}, this software reads {VERSION}", _REMEDY)
    if zlib.crc32(memoryview(body)[_HEADER.size :]) != checksum:
        raise Corrupt("a manifest page does not match its checksum", _REMEDY)
    return list(struct.unpack_from(f"<{count}Q", body, _HEADER.size))


_REMEDY = "the catalog's disk is damaged: restore the catalog"
