"""A client that lies: the shipped one, with every receipt it presents altered on the way out."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from msgspec.structs import replace as changed

from actors.core import Actor, ActorSpec, Address, Context, Message, Payload, Peer, PeerEvent, Token
from dsa_zmq.protocol.messages import Call, Calls
from dsa_zmq.protocol.operations import Commit, Stage
from dsa_zmq.protocol.values import Receipt, StagedChunk
from dsa_zmq.sim.users import User

Chunks = list[StagedChunk]


@dataclass(slots=True)
class Memory:
    """What a liar has seen."""

    draw: random.Random
    nodes: int  #: in the cluster
    published: Chunks = field(default_factory=list)  #: of a file of its own that is there
    unpublished: Chunks = field(default_factory=list)  #: of an upload of its own that was given up
    first: dict[int, StagedChunk] = field(default_factory=dict)  #: as each chunk was presented first
    swallow: int = 0  #: messages with receipts that are still to be lost on the way


Lie = Callable[[Memory, Chunks], Chunks]


def _on_receipts(alter: Callable[[Memory, Sequence[Receipt]], list[Receipt]]) -> Lie:
    """Alter the receipts of one chunk."""

    def lie(memory: Memory, chunks: Chunks) -> Chunks:
        at = memory.draw.randrange(len(chunks))
        altered = changed(chunks[at], receipts=alter(memory, chunks[at].receipts))
        return [*chunks[:at], altered, *chunks[at + 1 :]]

    return lie


def _first(**changes: Callable[[Memory, Receipt], Any]) -> Lie:
    """Alter fields of the first receipt of a chunk."""

    def alter(memory: Memory, receipts: Sequence[Receipt]) -> list[Receipt]:
        values = {name: change(memory, receipts[0]) for name, change in changes.items()}
        return [changed(receipts[0], **values), *receipts[1:]]

    return _on_receipts(alter)


def _swap(name: str) -> Lie:
    """Exchange one field of the first two receipts of a chunk."""

    def alter(memory: Memory, receipts: Sequence[Receipt]) -> list[Receipt]:
        one, two = receipts[:2]
        values = getattr(one, name), getattr(two, name)
        return [changed(one, **{name: values[1]}), changed(two, **{name: values[0]}), *receipts[2:]]

    return _on_receipts(alter)


def _flipped(memory: Memory, receipt: Receipt) -> bytes:
    at = memory.draw.randrange(len(receipt.mac))
    return receipt.mac[:at] + bytes([receipt.mac[at] ^ 1 << memory.draw.randrange(8)]) + receipt.mac[at + 1 :]


def _another_node(memory: Memory, receipts: Sequence[Receipt]) -> list[Receipt]:
    others = sorted(set(range(1, memory.nodes + 1)) - {receipt.node for receipt in receipts})
    return [changed(receipts[0], node=memory.draw.choice(others)), *receipts[1:]]


def _another_hash(memory: Memory, chunks: Chunks) -> Chunks:
    return [changed(chunks[0], hash=memory.draw.randbytes(32)), *chunks[1:]]


LIES: dict[str, Lie] = {
    "made up": _first(mac=lambda memory, _: memory.draw.randbytes(16)),
    "one bit other": _first(mac=_flipped),
    "cut short": _first(mac=lambda _, receipt: receipt.mac[:8]),
    "another node's": _on_receipts(_another_node),
    "no node's": _first(node=lambda memory, _: memory.nodes + 7),
    "nodes exchanged": _swap("node"),
    "shards exchanged": _swap("index"),
    "macs exchanged": _swap("mac"),
    "a shard that there is not": _first(index=lambda *_: 9),
    "a negative shard": _first(index=lambda *_: -1),
    "a later start": _first(incarnation=lambda _, receipt: receipt.incarnation + 1),
    "an earlier start": _first(incarnation=lambda _, receipt: receipt.incarnation - 1),
    "other bytes": _another_hash,
    "a short hash": lambda _, chunks: [changed(chunks[0], hash=chunks[0].hash[:31]), *chunks[1:]],
    "one left out": _on_receipts(lambda _, receipts: list(receipts[1:])),
    "none at all": _on_receipts(lambda *_: []),
    "one twice": _on_receipts(lambda _, receipts: [receipts[0], *receipts[:-1]]),
    "one too many": _on_receipts(lambda _, receipts: [*receipts, receipts[0]]),
    "of a published file": lambda memory, chunks: [
        changed(chunks[0], hash=memory.published[0].hash, receipts=memory.published[0].receipts), *chunks[1:]
    ],
    "with its chunk, of a published file": lambda memory, chunks: [memory.published[0], *chunks[1:]],
    "with its chunk, of another upload": lambda memory, chunks: [memory.unpublished[0], *chunks[1:]],
    "one chunk twice": lambda _, chunks: [chunks[0], *chunks[:-1]],
    "of before the node's last start": lambda memory, chunks: [memory.first[chunk.chunk] for chunk in chunks],
}  # fmt: skip
"""What may be wrong with receipts, by name."""

HONEST: Lie = lambda _, chunks: chunks  # noqa: E731


class _LyingContext:
    """A turn's context that alters what is sent."""

    def __init__(self, ctx: Context, liar: Liar) -> None:
        self._ctx = ctx
        self._liar = liar

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)

    def send(self, to: Address, message: Message, payload: Payload = ()) -> None:
        altered = self._liar.altered(message)
        if altered is not None:
            self._ctx.send(to, altered, payload)


class Liar(Actor):
    """An actor whose receipts are altered by ``lie``."""

    def __init__(self, actor: Actor, memory: Memory) -> None:
        self._actor = actor
        self.memory = memory
        self.lie = HONEST
        self.presented: Chunks = []  #: the latest chunks with receipts, before they were altered

    def altered(self, message: Message) -> Message | None:
        """What really goes out; None: nothing."""
        if not isinstance(message, Calls):
            return message
        calls = []
        for call in message.calls:
            operation = call.operation
            if isinstance(operation, Stage | Commit) and operation.chunks:
                self.presented = operation.chunks
                for chunk in operation.chunks:
                    self.memory.first.setdefault(chunk.chunk, chunk)
                if self.memory.swallow:
                    self.memory.swallow -= 1
                    return None
                call = Call(call.number, changed(operation, chunks=self.lie(self.memory, operation.chunks)))
            calls.append(call)
        return changed(message, calls=calls)

    def _lying(self, ctx: Context) -> Context:
        return cast(Context, _LyingContext(ctx, self))

    def on_start(self, ctx: Context) -> None:
        self._actor.on_start(self._lying(ctx))

    def on_message(self, ctx: Context, sender: Peer, message: Message, payload: Sequence[memoryview]) -> None:
        self._actor.on_message(self._lying(ctx), sender, message, payload)

    def on_timer(self, ctx: Context, token: Token) -> None:
        self._actor.on_timer(self._lying(ctx), token)

    def on_result(self, ctx: Context, token: Token, result: Any) -> None:
        self._actor.on_result(self._lying(ctx), token, result)

    def on_peer(self, ctx: Context, peer: Address, event: PeerEvent) -> None:
        self._actor.on_peer(self._lying(ctx), peer, event)

    def on_call(self, ctx: Context, call: Any) -> None:
        self._actor.on_call(self._lying(ctx), call)

    def on_stop(self, ctx: Context) -> None:
        self._actor.on_stop(self._lying(ctx))

    def check_invariants(self) -> None:
        self._actor.check_invariants()


class HostileUser(User):
    """A user with a client that lies while :attr:`liar` has a lie."""

    liar: Liar

    def dress(self, spec: ActorSpec) -> ActorSpec:
        memory = Memory(random.Random(f"{self.cluster.seed}:{self.name}:lies"), len(self.cluster.nodes))
        self.liar = Liar(spec.actor, memory)
        return replace(spec, actor=self.liar)
