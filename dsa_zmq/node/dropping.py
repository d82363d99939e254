"""Dropping what the master wants no more, each command once.

A shard that was dropped may come back to the same node later: repair put it there again. A command that arrives twice must
not take it away then. So a command is carried out only if (term, number) is greater than that of the last one that was; a
repeat of the last one gets its answer again. The master has one command out at a time, and counts upwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from actors.core import Context, Message
from dsa_zmq.errors import DSAError
from dsa_zmq.node.department import NodeDepartment, NodeOffice, OnOrder
from dsa_zmq.node.jobs import WRITE, DropBatch
from dsa_zmq.node.store import ShardKey
from dsa_zmq.protocol.messages import Drop, Dropped

MAX_UNDER_WAY = 16  #: commands; the master repeats what is not answered


class Dropping(NodeDepartment):
    """See the module."""

    name = "drop"

    def __init__(self, office: NodeOffice) -> None:
        super().__init__(office)
        self._last = (0, 0)  #: (term, number) of the newest command that was begun
        self._under_way: dict[tuple[int, int], Drop] = {}

    def orders(self) -> Mapping[type[Message], OnOrder]:
        return {Drop: self._on_drop}

    def _on_drop(self, ctx: Context, message: Drop) -> None:
        if not self.office.obeys(message.term):
            ctx.log("drop-not-obeyed", term=message.term, seen_term=self.office.identity.seen_term)
            return
        this = (message.term, message.number)
        if this == self._last and this not in self._under_way:
            self.office.tell_master(ctx, Dropped(message.number, message.shards))
        elif this > self._last and len(self._under_way) < MAX_UNDER_WAY:
            self._last = this
            self._under_way[this] = message
            keys = tuple(ShardKey(shard.chunk, shard.index) for shard in message.shards)
            ctx.run((self.name, *this), WRITE, DropBatch(keys))

    def on_result(self, ctx: Context, token: tuple[Any, ...], result: Sequence[ShardKey] | DSAError) -> None:
        _, term, number = token
        message = self._under_way.pop((term, number))
        if isinstance(result, DSAError):
            ctx.log("drop-failed", reason=str(result))
            if self._last == (term, number):
                self._last = (term, number - 1)  # the master asks again, by the same number
        else:
            self.office.tell_master(ctx, Dropped(number, message.shards))

    def statistics(self) -> Mapping[str, int]:
        return {"drops": len(self._under_way)}

    def check_invariants(self) -> None:
        assert all(this <= self._last for this in self._under_way), "nothing newer than the newest is under way"
