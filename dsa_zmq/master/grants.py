"""Access grants: the master's word to a node that the holder may read or write one shard until a time. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from dsa_zmq.master.catalog.jobs import LocatedRows, NodeRow
from dsa_zmq.master.members import READ_ORDER, Members
from dsa_zmq.model.limits import GRANT_S
from dsa_zmq.model.macs import MAC_BYTES, READ, WRITE, grant_mac, node_key
from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.protocol.operations import Confirm, Located
from dsa_zmq.protocol.values import ChunkPlaces, Place, StagedChunk

SECOND_NS = 1_000_000_000


def shard_bytes(redundancy: str, chunk_length: int) -> int:
    """Payload bytes of each shard of a chunk. Raises :class:`dsa_zmq.errors.Invalid`."""
    return parse_redundancy(redundancy).shard_bytes(chunk_length)


class Granter:
    """Makes grants with the nodes' keys, which it derives from the master's secret and keeps."""

    def __init__(self, secret: bytes, cluster: bytes) -> None:
        self._secret = secret
        self._cluster = cluster
        self._keys: dict[int, tuple[bytes, int, bytes]] = {}  #: node -> store id, generation, key

    def key(self, row: NodeRow) -> bytes:
        """The key that this node and the master share."""
        known = self._keys.get(row.node)
        if known is not None and known[0] == row.store_id and known[1] == row.generation:
            return known[2]
        key = node_key(self._secret, row.node, row.store_id, row.generation)
        self._keys[row.node] = (row.store_id, row.generation, key)
        return key

    def expires_s(self, wall_ns: int) -> int:
        """When grants made now end, in whole seconds of master time."""
        return wall_ns // SECOND_NS + GRANT_S

    def read(self, row: NodeRow, chunk: int, index: int, length: int, expires_s: int) -> bytes:
        return grant_mac(
            self.key(row), READ, cluster=self._cluster, node=row.node, store_id=row.store_id, upload=0, chunk=chunk,
            index=index, length=length, expires_s=expires_s,
        )  # fmt: skip

    def write(self, row: NodeRow, upload: int, chunk: int, index: int, length: int, expires_s: int) -> bytes:
        return grant_mac(
            self.key(row), WRITE, cluster=self._cluster, node=row.node, store_id=row.store_id, upload=upload,
            chunk=chunk, index=index, length=length, expires_s=expires_s,
        )  # fmt: skip


def complete_located(rows: LocatedRows, members: Members, granter: Granter, served_ns: int, wall_ns: int) -> Located:
    """Locate's answer: every place with its read grant, the nodes most likely to answer first.

    Places of nodes that were removed are left out: their stores are gone.
    """
    expires_s, redundancy = granter.expires_s(wall_ns), rows.attributes.redundancy
    named = {node for _, _, _, recorded in rows.chunks for node, _ in recorded}
    known = {node: state.row for node in named if (state := members.get(node)) is not None}
    rank = {node: READ_ORDER[members.state(node, served_ns)] for node in known}
    chunks = []
    for chunk, length, digest, recorded in rows.chunks:
        size = shard_bytes(redundancy, length)
        ordered = sorted([(rank[node], index, node) for node, index in recorded if node in known])
        places = [
            Place(node, index, granter.read(known[node], chunk, index, size, expires_s)) for _, index, node in ordered
        ]
        chunks.append(ChunkPlaces(chunk, length, digest, places))
    nodes = [members.address(node) for node in sorted(known)]
    return Located(rows.attributes, rows.page, rows.page_count, chunks, nodes, expires_s)


def complete_confirm(
    asked: Confirm, upload: int, redundancy: str, staged: Iterable[StagedChunk], members: Members, granter: Granter,
    wall_ns: int,
) -> Confirm:  # fmt: skip
    """A Confirm from the catalog, with the write grants by which the client asks the nodes for new receipts.

    For shards on nodes that were removed meanwhile the grants are worth nothing: whoever is asked refuses them, and the
    client stores those shards elsewhere.
    """
    expires_s = granter.expires_s(wall_ns)
    sizes = {chunk.chunk: shard_bytes(redundancy, chunk.length) for chunk in staged}
    there = {shard.node: state for shard in asked.shards if (state := members.get(shard.node)) is not None}
    grants = [
        granter.write(there[shard.node].row, upload, shard.chunk, shard.index, sizes[shard.chunk], expires_s)
        if shard.node in there
        else bytes(MAC_BYTES)
        for shard in asked.shards
    ]
    return Confirm(asked.shards, grants, [members.address(node) for node in sorted(there)], expires_s)
