"""What nodes tell of damage: those places are bad from now on, and count nowhere, until they are mended or not needed.

A node tells what is in its quarantine until it is noted, by numbers that grow; see ``dsa_zmq.node.damage``. Noted is what
the catalog has. A message that comes a second time, later, does not count: what it names may be mended by then. Nor does
one that was meant for an earlier master, whose numbers nobody knows any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actors.core import Context, Message, Peer
from dsa_zmq.master.catalog.damage_rules import DamageTaken, TakeDamage
from dsa_zmq.master.catalog.numbers import LARGEST
from dsa_zmq.master.department import CATALOG_LANE, Department, OnMessage
from dsa_zmq.master.office import Office
from dsa_zmq.model.upkeep import Standing
from dsa_zmq.protocol.messages import Damage, Noted
from dsa_zmq.protocol.values import Failure

MAX_SHARDS = 1_000  #: in one Damage; nodes send fewer


class DamageDesk(Department):
    """See the module."""

    name = "damage"

    def __init__(self, office: Office) -> None:
        super().__init__(office)
        self._noted: dict[int, tuple[int, int]] = {}  #: by node: its incarnation, and the number that the catalog has
        self._recording: dict[int, tuple[int, int]] = {}  #: the same, of what it is being told
        self._refused = 0  #: messages that said what cannot be
        self._bad = 0  #: places so far

    def messages(self) -> Mapping[type[Message], OnMessage]:
        return {Damage: self._on_damage}

    def _on_damage(self, ctx: Context, sender: Peer, message: Damage) -> None:
        """Only the connection that a node registered by is believed, and only for that node's own shards."""
        node = self.office.node_of(sender.address)
        state = self.office.members.get(node)
        if state is None or message.number <= 0 or len(message.shards) > MAX_SHARDS:
            self._refused += 1
            return
        if message.term not in (0, self.office.term):
            return
        served_ns = self.office.at(ctx).served_ns
        if self.office.members.standing(node, served_ns) is Standing.FAILED:
            return  # what such a disk shows proves nothing
        this, noted = (state.row.incarnation, message.number), self._noted.get(node, (0, 0))
        if this == noted:
            self.office.tell(ctx, node, Noted(message.number))  # the first one was lost
        elif node not in self._recording and this > noted:
            self._recording[node] = this
            shards = [shard for shard in message.shards if 0 <= shard.chunk <= LARGEST and 0 <= shard.index <= LARGEST]
            standings = self.office.members.standings(served_ns)
            job = TakeDamage(node, shards, standings, ctx.wall_ns(), self.office.spares(ctx))
            ctx.run((self.name, node), CATALOG_LANE, job)

    def on_result(self, ctx: Context, token: tuple[Any, ...], result: DamageTaken | Failure) -> None:
        node = token[1]
        this = self._recording.pop(node)
        if isinstance(result, Failure):
            ctx.log("damage-not-noted", node=node, why=result.message)  # the node tells it again
            return
        self._noted[node] = this
        state = self.office.members.get(node)
        if state is not None and state.row.incarnation == this[0]:
            self.office.tell(ctx, node, Noted(this[1]))
        if result.chunks or result.dropping:
            ctx.log("shards-damaged", node=node, places=len(result.chunks), useless=result.dropping)
        self._bad += len(result.chunks)
        if result.chunks:
            self.office.places_changed(ctx, result.chunks)

    def statistics(self) -> Mapping[str, int]:
        return {"damaged_places": self._bad, "damage_refused": self._refused}

    def check_invariants(self) -> None:
        assert all(self._noted.get(node, (0, 0)) < this for node, this in self._recording.items()), "numbers grow"
