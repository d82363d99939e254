"""Whether the shards of new chunks are where the client says: every receipt is checked inside the transaction.

A receipt is a node's word, keyed to cluster, node, store, process start, upload, chunk, shard index and the shard's hash. So
none can be forged, or used for another upload, chunk, shard or node; a node whose disk was wiped is another store with
another key; and the word of an earlier start of the node is asked for anew, since a crash may have taken the bytes back. So
is that of a store which another one has replaced since: nobody can give it, and the client stores that shard elsewhere.

Uploads go on over a restore of the master, too. Its secret is not restored, so nodes have other keys then: a receipt that
does not match, for a chunk that an earlier start of the master has allocated, is asked for anew. The node verifies what it
has.
"""

from __future__ import annotations

from collections.abc import Sequence

from dsa_zmq.errors import Conflict, Denied, DSAError, Invalid, Outdated
from dsa_zmq.master.catalog.facts import Facts
from dsa_zmq.master.catalog.places import PlaceChange, change_places
from dsa_zmq.master.catalog.rows import Rows
from dsa_zmq.master.catalog.tables import CHUNKS, HORIZON, NODES, ChunkRow, PlaceRow
from dsa_zmq.model.hashes import hashes_bytes, shard_hash
from dsa_zmq.model.macs import receipt_mac, same
from dsa_zmq.model.redundancy import Redundancy, fewest
from dsa_zmq.protocol.values import PlacedShard, Receipt, StagedChunk


def check_chunks(
    rows: Rows, facts: Facts, upload: int, chunks: Sequence[StagedChunk], redundancy: Redundancy, *, degraded: bool
) -> list[PlacedShard]:
    """The shards whose receipts have to be confirmed by the node's present process; empty if all is proved.

    ``degraded``: the request says that fewer shards will do. Even so no chunk is taken of which one more loss would be the
    last: an acknowledged write survives at least one, or what it was asked for with, whatever is said.

    Raises Denied for a receipt that proves nothing, Conflict for a chunk that may not be taken (any more).
    """
    horizon = rows.number(HORIZON)
    least = fewest(redundancy, degraded)
    ids = [chunk.chunk for chunk in chunks]
    known = rows.get_all(CHUNKS, ids)
    if len(set(ids)) != len(ids):
        raise Conflict("a chunk is named twice", "allocate a chunk id for each chunk")
    confirm: list[PlacedShard] = []
    for chunk, taken in zip(chunks, known, strict=True):
        if taken is not None:
            raise Conflict(f"chunk {chunk.chunk} belongs to a content already", "upload the file again")
        if chunk.chunk < horizon:
            raise Outdated(f"chunk {chunk.chunk} is from too long ago", "upload the file again")
        if not least <= len(chunk.receipts) <= redundancy.shards:
            raise Denied(
                f"chunk {chunk.chunk} has {len(chunk.receipts)} receipts, {redundancy.name} needs {redundancy.shards}"
                + (f", and at least {least} where fewer will do" if degraded else ""),
                "store every shard before the commit",
            )
        _distinct(chunk)
        for receipt in chunk.receipts:
            if not is_present(rows, facts, upload, chunk, receipt, redundancy):
                confirm.append(PlacedShard(chunk.chunk, receipt.index, receipt.node))
    return confirm


def add_chunks(rows: Rows, chunks: Sequence[StagedChunk], redundancy: Redundancy) -> None:
    """Rows for new chunks of one manifest page, and for the places that their receipts prove."""
    name = redundancy.name
    changes = []
    for chunk in chunks:
        row = ChunkRow(chunk.chunk, chunk.length, chunk.hash, name, 1)
        places = [PlaceRow(chunk.chunk, receipt.node, receipt.index) for receipt in chunk.receipts]
        changes.append(PlaceChange(row, None, places))
        rows.put(CHUNKS, row)
    change_places(rows, changes)


def _distinct(chunk: StagedChunk) -> None:
    """One shard of each index, no two on one node."""
    count = len(chunk.receipts)
    if len({r.node for r in chunk.receipts}) != count or len({r.index for r in chunk.receipts}) != count:
        raise Denied(
            f"chunk {chunk.chunk} has two receipts for one shard or one node", "store every shard on its own node"
        )


def is_present(
    rows: Rows, facts: Facts, upload: int, chunk: StagedChunk, receipt: Receipt, redundancy: Redundancy
) -> bool:
    """Whether the receipt is of the present process of a node of the cluster; Denied unless the node wrote it, for exactly
    this. A word of before a restore, whose key is lost, proves nothing, and is asked for anew."""
    node = rows.get(NODES, receipt.node)
    if node is None:
        raise _denied(chunk, receipt, "that node is not in the cluster")
    if not 0 <= receipt.index < redundancy.shards:
        raise _denied(chunk, receipt, f"{redundancy.name} has no such shard")
    expected = receipt_mac(
        facts.key_of(node), cluster=facts.cluster, node=node.node, store_id=node.store_id,
        incarnation=receipt.incarnation, upload=upload, chunk=chunk.chunk, index=receipt.index,
        shard_hash=shard_hash(chunk.hash, receipt.index),
    )  # fmt: skip
    if not same(receipt.mac, expected):
        if facts.is_of_lost_key(chunk.chunk):
            return False
        raise _denied(chunk, receipt, "the node did not write it for this")
    return receipt.incarnation == node.incarnation and not node.removed


def _denied(chunk: StagedChunk, receipt: Receipt, why: str) -> DSAError:
    return Denied(
        f"the receipt of node {receipt.node} for shard {receipt.index} of chunk {chunk.chunk} is not valid: {why}",
        "store the shard again",
    )


def check_form(chunks: Sequence[StagedChunk], chunk_bytes: int, redundancy: Redundancy, *, may_be_short: bool) -> int:
    """The bytes of content in these chunks. All but the last of a file are full. Raises Invalid."""
    hashed = hashes_bytes(redundancy)
    for position, chunk in enumerate(chunks):
        last = may_be_short and position == len(chunks) - 1
        if not (0 < chunk.length <= chunk_bytes if last else chunk.length == chunk_bytes):
            raise Invalid(f"chunk {position} of the page has {chunk.length} bytes, not {chunk_bytes}")
        if len(chunk.hash) != hashed:
            raise Invalid(f"chunk {position} of the page has hashes of {len(chunk.hash)} bytes, not {hashed}")
    return sum(chunk.length for chunk in chunks)
