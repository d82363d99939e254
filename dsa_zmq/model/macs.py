"""Grants and receipts: keyed BLAKE3 MACs under a per-node key, shared by the master and that node.

A *grant* lets its holder put or get one shard until a time. A *receipt* proves that a node holds a shard durably. The
client carries both and can make neither. Every field that could be swapped for another's is inside the MAC.

Most of these fields come from the wire. One that cannot be packed (a negative number, a hash of another length) raises
:class:`Invalid`: it is the sender's fault, and must neither stop the receiver nor be cut to a shape that fits.
"""

from __future__ import annotations

import hmac
import struct

from blake3 import blake3

from dsa_zmq.errors import Invalid

MAC_BYTES = 16  #: 128 bits: forging needs 2^127 tries against a live node
KEY_BYTES = 32
READ, WRITE = b"r", b"w"

_GRANT = struct.Struct("<16sQ16sQQQBQ")
_RECEIPT = struct.Struct("<16sQ16sQQQB32s")


def node_key(master_secret: bytes, node: int, store_id: bytes, generation: int) -> bytes:
    """The key shared with one node: derived, so that a restarted master has it again without storing it."""
    context = "dsa-zmq 2026 node key v1"
    return blake3(master_secret + struct.pack("<QQ", node, generation) + store_id, derive_key_context=context).digest()


def grant_mac(
    key: bytes, right: bytes, *, cluster: bytes, node: int, store_id: bytes, upload: int, chunk: int, index: int,
    length: int, expires_s: int,
) -> bytes:  # fmt: skip
    """MAC of an access grant. ``upload`` is 0 for reads; ``expires_s`` is master time in whole seconds."""
    if not len(cluster) == len(store_id) == 16:
        _check_lengths((cluster, 16), (store_id, 16))
    try:
        body = _GRANT.pack(cluster, node, store_id, upload, chunk, length, index, expires_s)
    except struct.error as error:
        raise _out_of_range(error) from None
    return blake3(right + body, key=key).digest(MAC_BYTES)


def receipt_mac(
    key: bytes, *, cluster: bytes, node: int, store_id: bytes, incarnation: int, upload: int, chunk: int, index: int,
    shard_hash: bytes,
) -> bytes:  # fmt: skip
    """MAC of a receipt: this process of this node holds exactly these bytes durably, for this upload."""
    if not len(cluster) == len(store_id) == 16 or len(shard_hash) != 32:
        _check_lengths((cluster, 16), (store_id, 16), (shard_hash, 32))
    try:
        body = _RECEIPT.pack(cluster, node, store_id, incarnation, upload, chunk, index, shard_hash)
    except struct.error as error:
        raise _out_of_range(error) from None
    return blake3(b"R" + body, key=key).digest(MAC_BYTES)


def same(a: bytes, b: bytes) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(a, b)


def _check_lengths(*fields: tuple[bytes, int]) -> None:
    """struct would pad or cut them silently, so that two different values had one MAC."""
    for value, length in fields:
        if len(value) != length:
            raise Invalid(f"a field of a grant or receipt has {len(value)} bytes instead of {length}", _REMEDY)


def _out_of_range(error: struct.error) -> Invalid:
    return Invalid(f"a field of a grant or receipt is out of range: {error}", _REMEDY)


_REMEDY = "the peer is broken or of another version: compare 'dsa --version' on both sides"
