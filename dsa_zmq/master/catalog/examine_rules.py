"""What follows in the catalog from the words of nodes on their own shards."""

from __future__ import annotations

import msgspec

from dsa_zmq.model.upkeep import Placed


class Released(msgspec.Struct, frozen=True):
    """A place that ``places.release`` has let go, unverified, and who is to be read before it is dropped."""

    chunk: int
    node: int
    shard: int
    keepers: list[Placed]
