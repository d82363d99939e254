"""A node in a few lines: it keeps the rules that real ones keep, and complains when the client breaks one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blake3 import blake3

from actors.core import Message
from dsa_zmq.model.ids import NONCE_BITS, next_incarnation
from dsa_zmq.protocol.messages import (
    ConfirmShards,
    GetShards,
    GotShard,
    Ping,
    Pong,
    PutDone,
    PutOutcome,
    PutShards,
    ShardData,
)
from dsa_zmq.protocol.values import Failure, Receipt

if TYPE_CHECKING:
    from tests.unit.client.world import World


def mac_of(*said: Any) -> bytes:
    """Of as many bytes as a real one."""
    return blake3(repr(said).encode()).digest(16)


class ModelNode:
    def __init__(self, world: World, number: int) -> None:
        self.world, self.number = world, number
        self.incarnation = next_incarnation(0, world.rng.getrandbits(NONCE_BITS))
        self.address = f"tcp://node{number}:7710"
        self.shards: dict[tuple[int, int], bytes] = {}
        self.up = True
        self.asked: list[int] = []  # chunk ids, one per read
        self.served = 0  # bytes of shards

    def restart(self, keep: bool) -> None:
        """A new incarnation; without ``keep`` it has lost what no page and no file holds yet."""
        self.incarnation = next_incarnation(self.incarnation, self.world.rng.getrandbits(NONCE_BITS))
        if not keep:
            master = self.world.master
            pages = [page for upload in master.uploads.values() for page in upload.pages.values()]
            pages += [rows for _, rows in master.files.values()]
            kept = {row.chunk for page in pages for row in page}
            self.shards = {key: shard for key, shard in self.shards.items() if key[0] in kept}

    def receipt(self, upload: int, chunk: int, index: int) -> Receipt:
        held = blake3(self.shards[chunk, index]).digest()
        mac = mac_of(self.number, self.incarnation, upload, chunk, index, held)
        return Receipt(self.number, index, self.incarnation, mac)

    def handle(self, message: Message, payload: list[bytes]) -> tuple[Message, list[bytes]] | None:
        rng, faults = self.world.rng, self.world.faults
        if isinstance(message, PutShards):
            outcomes = []
            for put, data in zip(message.shards, payload, strict=True):
                assert put.length == len(data)
                assert not put.granted or put.length <= put.granted
                if rng.random() < faults.refuse:
                    code = rng.choice(["no-space", "overloaded", "failed"])
                    outcomes.append(PutOutcome(put.chunk, put.index, failure=Failure(code, "no")))
                elif rng.random() < faults.corrupt:
                    outcomes.append(PutOutcome(put.chunk, put.index, failure=Failure("corrupt", "bits fell")))
                else:
                    assert blake3(data).digest() == put.hash
                    assert not any(chunk == put.chunk and index != put.index for chunk, index in self.shards)
                    self.shards[put.chunk, put.index] = bytes(data)
                    receipt = self.receipt(put.upload, put.chunk, put.index)
                    outcomes.append(PutOutcome(put.chunk, put.index, receipt=receipt))
            return PutDone(message.number, outcomes), []
        if isinstance(message, ConfirmShards):
            return PutDone(message.number, [self.confirm(grant) for grant in message.shards]), []
        if isinstance(message, Ping):
            return Pong(message.number, self.number, self.incarnation), []
        assert isinstance(message, GetShards)
        got, frames = [], []
        for grant in message.shards:
            self.asked.append(grant.chunk)
            data = self.shards.get((grant.chunk, grant.index))
            if data is None:
                got.append(GotShard(grant.chunk, grant.index, failure=Failure("not-found", "no such shard")))
                continue
            assert grant.length == len(data), "a grant is for a whole shard"
            self.served += len(data)
            if rng.random() < faults.corrupt:
                data = bytes([data[0] ^ 1]) + data[1:]
            got.append(GotShard(grant.chunk, grant.index, blake3(data).digest()))
            frames.append(data)
        return ShardData(message.number, got), frames

    def confirm(self, grant: Any) -> PutOutcome:
        if (data := self.shards.get((grant.chunk, grant.index))) is not None:
            assert grant.length == len(data)
            return PutOutcome(grant.chunk, grant.index, receipt=self.receipt(grant.upload, grant.chunk, grant.index))
        return PutOutcome(grant.chunk, grant.index, failure=Failure("not-found", "no such shard"))
