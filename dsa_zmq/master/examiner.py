"""Asking nodes whether they have a shard: one conversation a node, one question out at a time.

The only word that a shard is missing, or damaged, is the node's own, given to a question that was asked for it: see
``dsa_zmq.protocol.messages.Examine``. Everything that has to know (a removal its keepers, a comparison what it cannot
judge, a report of damage) asks here, so that there is one conversation with each node, and numbers only grow.

A node answers in line with its puts and drops, so a "no" of before a shard came back cannot arrive after the receipt for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from actors.core import Context, Message, Peer
from dsa_zmq.master.catalog.examine_rules import Declare
from dsa_zmq.master.department import CATALOG_LANE, Department, OnMessage
from dsa_zmq.master.office import Office
from dsa_zmq.master.questions import Answered, Inquiry, Questions
from dsa_zmq.model.upkeep import Standing
from dsa_zmq.protocol.messages import ABSENT, DAMAGED, UNREADABLE, Examined
from dsa_zmq.protocol.values import Failure, PlacedShard

Reply: TypeAlias = Callable[[Context, list[int]], None]


class Examiner(Department):
    """See the module. Others find it as ``office.examiner``."""

    name = "examine"

    def __init__(self, office: Office) -> None:
        super().__init__(office)
        self._questions = Questions(office.term)
        self._replies: dict[int, Reply] = {}  #: by inquiry
        self._recording: dict[int, Answered] = {}  #: words that the catalog is being told of
        self._last = 0  #: of those
        self._declared = 0  #: shards missing or damaged so far
        office.examiner = self
        office.when_registered.append(self._on_registered)

    def messages(self) -> Mapping[type[Message], OnMessage]:
        return {Examined: self._on_examined}

    def ask(self, ctx: Context, shards: Sequence[PlacedShard], read: bool, reply: Reply) -> None:
        """Ask each shard's node whether it has it; with ``read`` it reads and verifies the bytes.

        ``reply`` is called once, in this turn or a later one, with GOOD, ABSENT, DAMAGED or UNREADABLE for each shard, in
        the order asked. UNREADABLE decides nothing; it also stands for a node that is not there, or did not answer until
        it was down. Each word was asked for after this call. What was found absent or damaged is recorded in the catalog
        before ``reply`` is called: the place is gone, or bad. Replies are lost with the master: what must go on after its
        restart is to be found again in the catalog.
        """
        if not shards:
            reply(ctx, [])
            return
        self._replies[self._questions.begin(shards, read)] = reply
        self._go_on(ctx, {shard.node for shard in shards})

    def _go_on(self, ctx: Context, nodes: Iterable[int]) -> None:
        """Send what can be sent to these, give up on those that are not there."""
        served_ns = self.office.at(ctx).served_ns
        for node in sorted(nodes):
            if not self._may_answer(node, served_ns):
                self._end(ctx, self._questions.give_up(node))
            elif (question := self._questions.next(node, served_ns)) is not None:
                self.office.tell(ctx, node, question)

    def _may_answer(self, node: int, served_ns: int) -> bool:
        """A failed store says nothing that counts."""
        state = self.office.members.get(node)
        standing = self.office.members.standing(node, served_ns)
        return state is not None and state.peer is not None and standing <= Standing.SILENT

    def on_tick(self, ctx: Context, served_ns: int) -> None:
        """Give up on nodes that are not there; repeat what was not answered."""
        self._go_on(ctx, self._questions.nodes())
        for node, question in self._questions.due(served_ns):
            self.office.tell(ctx, node, question)

    def _on_registered(self, ctx: Context, node: int) -> None:
        self._questions.again(node)
        self._go_on(ctx, [node])

    def _on_examined(self, ctx: Context, sender: Peer, message: Examined) -> None:
        """A node's word. Only the connection that it registered by is believed."""
        node = self.office.node_of(sender.address)
        answered = self._questions.answered(node, message)
        if answered is None:
            return
        absent, damaged = answered.of(ABSENT), answered.of(DAMAGED)
        if absent or damaged:
            self._last += 1
            self._recording[self._last] = answered
            ctx.log("shards-declared", node=node, absent=len(absent), damaged=len(damaged))
            ctx.run((self.name, self._last), CATALOG_LANE, Declare(node, absent, damaged))
        else:
            self._end(ctx, self._questions.settle(answered))
        self._go_on(ctx, [node])

    def on_result(self, ctx: Context, token: tuple[Any, ...], result: list[int] | Failure) -> None:
        """The catalog has it, or could not take it in (a full disk): then nothing was said."""
        answered = self._recording.pop(token[1])
        if isinstance(result, Failure):
            ctx.log("declare-failed", why=result.message)
            answered = Answered(answered.items, [UNREADABLE] * len(answered.items))
        elif result:
            self._declared += len(result)
            self.office.places_changed(ctx, result)
        self._end(ctx, self._questions.settle(answered))

    def _end(self, ctx: Context, inquiries: Sequence[Inquiry]) -> None:
        for inquiry in inquiries:
            self._replies.pop(inquiry.serial)(ctx, inquiry.states)

    def statistics(self) -> Mapping[str, int]:
        return {
            "inquiries": len(self._questions),
            "shards_examined": self._questions.asked,
            "shards_declared": self._declared,
        }

    def __repr__(self) -> str:
        return f"<Examiner {self._questions!r}>"

    def check_invariants(self) -> None:
        self._questions.check_invariants()
        assert len(self._replies) == len(self._questions), "who asked waits, and nobody else"
