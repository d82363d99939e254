"""Sources around a node that have shards of any chunk, with any redundancy."""

from __future__ import annotations

import random
from typing import Any

from blake3 import blake3

from dsa_zmq.model import erasure
from dsa_zmq.model.macs import READ
from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.protocol.messages import ShardGrant
from dsa_zmq.protocol.values import Failure, FetchOutcome, FetchShard, ShardSource
from tests.sim.conftest import LATER_S
from tests.sim.market import Answer, Market

NODES = (10, 11, 12, 13, 14, 15)  #: node 10 + i has shard i of everything
LENGTH = 1000


def digest(data: Any) -> bytes:
    return blake3(data).digest()


class Yard(Market):
    """Six sources. Any chunk is there with any redundancy: its bytes depend on its number modulo 1000 alone, so that chunks
    1001 and 2001 are equal."""

    def __init__(self, nodes: tuple[int, ...] = NODES) -> None:
        super().__init__(*nodes)
        self.made: dict[tuple[int, str], list[bytes]] = {}
        self.kept: dict[int, str] = {}  #: redundancy of chunks that were named as sources
        for source in self.sources.values():
            source.answer = self.give

    def chunk(self, number: int) -> bytes:
        return random.Random(number % 1000).randbytes(LENGTH)

    def shards(self, number: int, name: str) -> list[bytes]:
        """All shards of a chunk with this redundancy."""
        if (number, name) not in self.made:
            redundancy, chunk = parse_redundancy(name), self.chunk(number)
            made = [chunk] * redundancy.shards if redundancy.alike else erasure.split(chunk, redundancy)
            self.made[number, name] = [bytes(shard) for shard in made]
        return self.made[number, name]

    def give(self, grant: ShardGrant) -> bytes:
        return self.shards(grant.chunk, self.kept[grant.chunk])[grant.index]

    def source(self, number: int, name: str, index: int, node: int = 0, **changes: Any) -> ShardSource:
        """Of that node, or of the one that has all shards of this index."""
        self.kept[number] = name
        data = self.shards(number, name)[index]
        mac = self.mac(READ, number, len(data), index=index)
        values = {"hash": digest(data), **changes}
        return ShardSource(node or NODES[index], number, index, len(data), LATER_S, mac, **values)

    def wish(self, number: int, name: str, index: int, *sources: int | ShardSource, **changes: Any) -> FetchShard:
        """That shard, from shards of these indexes of the same chunk."""
        data = self.shards(number, name)[index]
        named = [self.source(number, name, each) if isinstance(each, int) else each for each in sources]
        values: dict[str, Any] = {
            "move": 5000 + number, "chunk": number, "index": index, "chunk_length": LENGTH, "length": len(data),
            "hash": digest(data), "redundancy": name, "sources": named, "chunk_hash": digest(self.chunk(number)), **changes,
        }  # fmt: skip
        return FetchShard(**values)

    def got(self, wish: FetchShard, *blamed: int) -> FetchOutcome:
        """It is here, and these were found wanting."""
        data = self.shards(wish.chunk, wish.redundancy)[wish.index]
        receipt = self.receipt(wish.chunk, data, wish.move, wish.index)
        return FetchOutcome(
            wish.move, receipt=receipt, blamed=list(blamed), hash=b"" if wish.hash else digest(data)
        )  # fmt: skip

    def asked(self) -> list[int]:
        """How many shards each source was asked for."""
        return [sum(len(question.shards) for question in source.asked) for source in self.sources.values()]


def refuse(code: str) -> Answer:
    return lambda grant: Failure(code, "so it is")


BAD: dict[str, Answer | None] = {
    "silent": None,
    "absent": refuse("not-found"),
    "rotten": refuse("corrupt"),
    "lying": lambda grant: b"x" * grant.length,
    "short": lambda grant: b"x" * (grant.length - 1),
    "long": lambda grant: b"x" * (grant.length + 1),
    "empty": lambda grant: b"",
}
