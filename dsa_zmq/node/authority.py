"""What a registered node may believe of a request, and what it may promise: grants in, receipts out. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from dsa_zmq.errors import Denied, Invalid
from dsa_zmq.model.limits import GRANT_SLACK_S, MAX_CHUNK_BYTES
from dsa_zmq.model.macs import WRITE, grant_mac, receipt_mac, same
from dsa_zmq.node.store import ShardInfo
from dsa_zmq.protocol.messages import PutShard, ShardGrant
from dsa_zmq.protocol.values import Receipt

HASH_BYTES = 32
_U64 = 1 << 64


def check_shard(chunk: int, index: int, length: int) -> None:
    """Invalid unless there can be such a shard. Numbers from the wire may be any 64-bit integers."""
    if not 0 < chunk < 1 << 63 or not 0 <= index < 256 or not 0 < length <= MAX_CHUNK_BYTES:
        raise Invalid(f"there can be no shard {index} of chunk {chunk} with {length} bytes")


@dataclass(frozen=True, slots=True)
class Authority:
    """The standing of this process with one master."""

    cluster: bytes
    node: int
    store_id: bytes
    incarnation: int
    term: int
    master: bytes
    key: bytes

    def check_grant(self, right: bytes, shard: PutShard | ShardGrant, granted: int, now_s: int) -> None:
        """Invalid for what cannot be, Denied for a forged, foreign or expired grant. ``granted``: bytes that it is for.
        ``now_s`` is this host's wall clock: the master's messages carry no time, and the slack covers what clocks differ by.
        """
        upload, chunk, index, expires_s = shard.upload, shard.chunk, shard.index, shard.expires_s
        check_shard(chunk, index, granted)
        if not (0 <= upload < _U64 and 0 <= expires_s < _U64) or (right == WRITE) != (upload > 0):
            raise Invalid(f"there can be no grant for upload {upload} until {expires_s}")
        wanted = grant_mac(
            self.key, right, cluster=self.cluster, node=self.node, store_id=self.store_id, upload=upload, chunk=chunk,
            index=index, length=granted, expires_s=expires_s,
        )  # fmt: skip
        if not same(wanted, shard.mac):
            raise Denied(
                f"the access grant for shard {index} of chunk {chunk} is not valid here", "ask the master anew"
            )
        if now_s > expires_s + GRANT_SLACK_S:
            raise Denied(
                f"the access grant for shard {index} of chunk {chunk} expired {now_s - expires_s} s ago",
                "ask the master anew; if it is new, compare the clocks of node and master",
            )

    def receipt(self, upload: int, info: ShardInfo) -> Receipt:
        """For a shard that is durable, and was verified by this process."""
        key = info.key
        mac = receipt_mac(
            self.key, cluster=self.cluster, node=self.node, store_id=self.store_id, incarnation=self.incarnation,
            upload=upload, chunk=key.chunk, index=key.index, shard_hash=info.hash,
        )  # fmt: skip
        return Receipt(self.node, key.index, self.incarnation, mac)
