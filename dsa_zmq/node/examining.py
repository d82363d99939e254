"""Answering the master's questions whether shards are here: the only word by which it believes that one is missing.

Reading goes in small steps of the care lane, so that nobody waits for it. The last step is one on the write lane: it looks
once more which of the shards are there. So the answer is in line with the puts and drops of this node, and leaves in their
order: no "absent" overtakes the receipt of what was put meanwhile, and no "good" that of what was dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from actors.core import Context, Message
from dsa_zmq.errors import DSAError
from dsa_zmq.node.department import NodeDepartment, NodeOffice, OnOrder
from dsa_zmq.node.jobs import CARE, WRITE
from dsa_zmq.node.shard_states import LookUpShards, ReadShards
from dsa_zmq.node.store import ShardKey
from dsa_zmq.protocol.messages import UNREADABLE, Examine, Examined

MAX_SHARDS = 1000  #: in one question; the master asks for fewer


class Examining(NodeDepartment):
    """See the module. One question at a time, as the master asks; a newer one takes the place of an older."""

    name = "examine"

    def __init__(self, office: NodeOffice) -> None:
        super().__init__(office)
        self._now: Examine | None = None
        self._read: list[int] = []  #: what reading has found so far

    def orders(self) -> Mapping[type[Message], OnOrder]:
        return {Examine: self._on_examine}

    def _on_examine(self, ctx: Context, message: Examine) -> None:
        if not self.office.obeys(message.term) or len(message.shards) > MAX_SHARDS:
            ctx.log("examine-not-obeyed", term=message.term, shards=len(message.shards))
            return
        if self._now is not None and (message.term, message.number) <= (self._now.term, self._now.number):
            return  # a repeat of what is under way, or late
        self._now, self._read = message, []
        self._step(ctx)

    def _step(self, ctx: Context) -> None:
        """Read on, or look up all of them at the end."""
        message = self._now
        assert message is not None, "a step is of a question"
        keys = tuple(ShardKey(shard.chunk, shard.index) for shard in message.shards)
        token = (self.name, message.term, message.number)
        if message.read and len(self._read) < len(keys):
            ctx.run((*token, "read"), CARE, ReadShards(keys[len(self._read) :]))
        else:
            ctx.run((*token, "look"), WRITE, LookUpShards(keys))

    def on_result(self, ctx: Context, token: tuple[Any, ...], result: Sequence[int] | DSAError) -> None:
        _, term, number, step = token
        message = self._now
        if message is None or (term, number) != (message.term, message.number):
            return
        if isinstance(result, DSAError):
            ctx.log("examine-failed", reason=str(result))
            self._now = None  # the master asks again
        elif step == "read":
            self._read += result
            self._step(ctx)
        else:
            self._now = None
            states = [_both(*each) for each in zip(self._read, result, strict=True)] if message.read else list(result)
            self.office.tell_master(ctx, Examined(number, states))

    def statistics(self) -> Mapping[str, int]:
        return {"examining": 0 if self._now is None else len(self._now.shards)}


def _both(read: int, now: int) -> int:
    """What was read, and what the index says afterwards: where they differ, something came or went meanwhile."""
    return read if read == now else UNREADABLE
