"""Asking nodes whether they have a shard: one conversation a node, one question out at a time.

The only word that a shard is missing, or damaged, is the node's own, given to a question that was asked for it: see
``dsa_zmq.protocol.messages.Examine``. Everything that has to know (a removal its keepers, a comparison what it cannot
judge, a report of damage) asks here, so that there is one conversation with each node, and numbers only grow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from actors.core import Context
from dsa_zmq.master.department import Department
from dsa_zmq.master.office import Office
from dsa_zmq.protocol.values import PlacedShard

Reply: TypeAlias = Callable[[Context, list[int]], None]


class Examiner(Department):
    """See the module. Others find it as ``office.examiner``."""

    name = "examine"

    def __init__(self, office: Office) -> None:
        super().__init__(office)
        office.examiner = self

    def ask(self, ctx: Context, shards: Sequence[PlacedShard], read: bool, reply: Reply) -> None:
        """Ask each shard's node whether it has it; with ``read`` it reads and verifies the bytes.

        ``reply`` is called once, in this turn or a later one, with GOOD, ABSENT, DAMAGED or UNREADABLE for each shard, in
        the order asked. UNREADABLE decides nothing; it also stands for a node that is not up, did not answer until it went
        down, or became another process meanwhile. Each word was asked for after this call. What was found absent or damaged
        is recorded in the catalog by this department before ``reply`` is called: the place is gone, or bad. Replies are
        lost with the master: what must go on after its restart is found again in the catalog.
        """
        raise NotImplementedError

    def made_anew(self, node: int, shards: Sequence[tuple[int, int]]) -> None:
        """These (chunk, index) are about to be recorded as places of the node: words on what was there before, which may be
        under way now, count as UNREADABLE. To be called in the turn that runs the job."""
        raise NotImplementedError
