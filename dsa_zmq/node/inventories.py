"""Telling the master what is here: the digest of everything with each heartbeat, and more of it when asked.

An answer is made of steps of the care lane. What is put or dropped between two of them may or may not be in it: the master
believes nothing because of an inventory, it only learns what to ask for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actors.core import Context, Message
from dsa_zmq.errors import DSAError
from dsa_zmq.model.inventory import SHARDS, SHIFTS, id_range, root
from dsa_zmq.node.department import NodeDepartment, NodeOffice, OnOrder
from dsa_zmq.node.inventory_steps import DigestStore, RangesRead, ReadRanges
from dsa_zmq.node.jobs import CARE
from dsa_zmq.protocol.messages import AskInventory, Inventory
from dsa_zmq.protocol.values import ShardRef

MAX_WITHIN = 1000  #: buckets in one question; the master asks for fewer
MAX_BUCKET = (1 << 63) - 1


class Inventories(NodeDepartment):
    """See the module. One question at a time; a newer one takes the place of an older."""

    name = "inventory"

    def __init__(self, office: NodeOffice) -> None:
        super().__init__(office)
        self._root = 0
        self._looking = False
        self._now: AskInventory | None = None
        self._ranges: tuple[tuple[int, int], ...] = ()  #: still to be gone through
        self._digests: dict[int, int] = {}
        self._shards: list[ShardRef] = []

    def orders(self) -> Mapping[type[Message], OnOrder]:
        return {AskInventory: self._on_ask}

    # --- with each heartbeat ------------------------------------------------------------------------------------------

    def on_beat(self, ctx: Context) -> None:
        if not self._looking:
            self._looking = True
            ctx.run((self.name, "root"), CARE, DigestStore())

    def beat(self) -> Mapping[str, int]:
        return {"inventory": self._root}

    # --- when asked ---------------------------------------------------------------------------------------------------

    def _on_ask(self, ctx: Context, message: AskInventory) -> None:
        wrong = not 0 <= message.level <= SHARDS or len(message.within) > MAX_WITHIN
        if wrong or not self.office.obeys(message.term):
            ctx.log("inventory-not-told", term=message.term, level=message.level)
            return
        if self._now is not None and (message.term, message.number) <= (self._now.term, self._now.number):
            return  # a repeat of what is under way, or late
        self._now, self._digests, self._shards = message, {}, []
        self._ranges = tuple(_ranges(message.level, message.within))
        self._step(ctx)

    def _step(self, ctx: Context) -> None:
        """Go on, or answer at the end."""
        message = self._now
        assert message is not None, "a step is of a question"
        token = (self.name, message.term, message.number)
        if message.level == 0:
            ctx.run(token, CARE, DigestStore())
        elif self._ranges:
            ctx.run(token, CARE, ReadRanges(message.level, self._ranges))
        else:
            self._answer(ctx, message)

    def _answer(self, ctx: Context, message: AskInventory) -> None:
        self._now = None
        buckets = sorted(self._digests)
        answer = Inventory(message.number, buckets, [self._digests[each] for each in buckets], self._shards)
        self.office.tell_master(ctx, answer)

    def on_result(self, ctx: Context, token: tuple[Any, ...], result: Any) -> None:
        if token[1] == "root":
            self._looking = False
            if not isinstance(result, DSAError):
                self._root = root(result)
            return
        message = self._now
        if message is None or token[1:] != (message.term, message.number):
            return
        if isinstance(result, DSAError):
            ctx.log("inventory-failed", reason=str(result))
            self._now, self._ranges = None, ()  # the master asks again
        elif isinstance(result, RangesRead):
            self._ranges = self._ranges[result.done :]
            self._digests.update(result.digests)
            self._shards += [ShardRef(key.chunk, key.index) for key in result.shards]
            self._step(ctx)
        else:
            self._digests = result
            self._answer(ctx, message)

    def statistics(self) -> Mapping[str, int]:
        return {"inventory_ranges": len(self._ranges)}

    def check_invariants(self) -> None:
        assert self._now is not None or not self._ranges, "nothing is gone through that nobody asked for"


def _ranges(level: int, within: list[int]) -> list[tuple[int, int]]:
    """The id ranges to go through, each no longer than a step may be."""
    if level == 0:
        return []
    parents = [bucket for bucket in within if 0 <= bucket <= MAX_BUCKET >> SHIFTS[level - 1]]
    if level > 1:
        return [id_range(level - 1, bucket) for bucket in parents]
    parts = 1 << (SHIFTS[0] - SHIFTS[1])
    return [id_range(1, bucket * parts + part) for bucket in parents for part in range(parts)]
