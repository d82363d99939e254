"""Data ports around a node, from which it fetches what the master says."""

from __future__ import annotations

from collections.abc import Callable

from blake3 import blake3

from actors.core import ActorSpec, Address, Message
from dsa_zmq.protocol.codec import CODEC
from dsa_zmq.protocol.messages import Fetch, Fetched, GetShards, GotShard, ShardData, ShardGrant
from dsa_zmq.protocol.values import Failure, FetchOutcome, FetchShard, NodeAddress
from tests.sim.conftest import DATA, NODE, SECOND, TERM, NodeWorld, Script

Answer = Callable[[ShardGrant], bytes | Failure]


class Source(Script):
    """A data port that answers each shard as ``answer`` says; None: not at all."""

    def __init__(self) -> None:
        super().__init__({GetShards: self._give})
        self.answer: Answer | None = None

    @property
    def asked(self) -> list[GetShards]:
        return self.of(GetShards)

    def _give(self, message: GetShards) -> tuple[Message, list[bytes]] | None:
        if self.answer is None:
            return None
        got, frames = [], []
        for grant in message.shards:
            said = self.answer(grant)
            if isinstance(said, Failure):
                got.append(GotShard(grant.chunk, grant.index, failure=said))
            else:
                got.append(GotShard(grant.chunk, grant.index, hash=blake3(said).digest()))
                frames.append(said)
        return ShardData(message.number, got), frames


class Market(NodeWorld):
    """With a registered node, and sources that are the nodes of these numbers."""

    def __init__(self, *nodes: int) -> None:
        super().__init__()
        self.sources = {node: Source() for node in nodes}
        for node, source in self.sources.items():
            self.sim.spawn(ActorSpec(f"source{node}", 1, source, CODEC, {}, Address(f"tcp://source{node}:1")))
        self.up()

    def fetch(self, number: int, *shards: FetchShard, term: int = TERM) -> None:
        nodes = [NodeAddress(node, f"tcp://source{node}:1", 1) for node in self.sources]
        self.tell(Fetch(number, term, list(shards), [*nodes, NodeAddress(NODE, DATA, 1)]))

    def answers(self, number: int) -> list[list[FetchOutcome]]:
        return [each.outcomes for each in self.master.of(Fetched) if each.number == number]

    def outcomes(self, number: int, *shards: FetchShard) -> list[FetchOutcome]:
        """Of a command, once it is answered."""
        self.fetch(number, *shards)
        self.sim.run_until(lambda: self.answers(number), 30 * SECOND)
        return self.answers(number)[0]


def code_of(outcome: FetchOutcome) -> str:
    """Of a failure."""
    assert outcome.receipt is None
    assert outcome.failure is not None
    return outcome.failure.code
