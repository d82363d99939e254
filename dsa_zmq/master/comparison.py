"""Comparing what nodes hold with what the catalog says, by digests from the top down: see :mod:`dsa_zmq.model.inventory`.

One conversation a node. Its work is a stack of (level, buckets of the level above): the node is asked for its digests of the
level, the catalog makes its own in slices, and what differs is work for the level below. At the last one the node lists its
shards, the catalog judges (``catalog/inventory_rules.py``), and what it cannot judge is asked of the node itself.

It begins when a node has registered, when the node's digest and the catalog's have both stood still and differed for a
while, and once a day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.core import Context, Message, Peer
from dsa_zmq.master.catalog.examine_rules import Adopt
from dsa_zmq.master.catalog.inventory_rules import (
    BucketDigests,
    DigestsMade,
    IdRange,
    Judged,
    JudgeInventory,
    NodeDigests,
)
from dsa_zmq.master.department import CATALOG_LANE, Department, OnMessage
from dsa_zmq.master.office import Office
from dsa_zmq.master.settings import nanoseconds
from dsa_zmq.master.standstill import Standstill
from dsa_zmq.model.inventory import SHARDS, bucket_of, differing, id_range, root
from dsa_zmq.model.upkeep import Standing
from dsa_zmq.protocol.messages import GOOD, AskInventory, Inventory
from dsa_zmq.protocol.values import Failure, PlacedShard, ShardRef

MAX_TALKS = 4  #: nodes compared at a time
WITHIN = (0, 1, 16, 64, 256)
"""How many buckets are asked for at once, by the level below them: at most a million ids for the node to go through at the
first, and 4,096 shards for it to tell at the last."""
RANGE_IDS = 1024  #: chunk ids in one slice of the catalog, unless a single range has more: that is cut by its rows
JUDGED_AT_ONCE = 16  #: buckets of 16 ids in one slice
RETRY_FIRST_NS = 2_000_000_000  #: a node may have many shards to go through
RETRY_MAX_NS = 30_000_000_000


@dataclass(slots=True)
class Talk:
    """The comparison of one node."""

    node: int
    serial: int  #: names it in job tokens
    work: list[tuple[int, list[int]]]  #: (level, buckets of the level above); the last is next
    ask: AskInventory | None = None  #: what is out
    again_ns: int = 0  #: serving time of its next repeat
    pause_ns: int = RETRY_FIRST_NS
    level: int = 0  #: that is being looked at
    within: list[int] = field(default_factory=list)
    theirs: dict[int, int] = field(default_factory=dict)  #: digests
    ours: dict[int, int] = field(default_factory=dict)
    ranges: list[IdRange] = field(default_factory=list)  #: the catalog has still to go through
    listed: list[ShardRef] = field(default_factory=list)  #: still to be judged, with those of ``within``
    waits: int = 0  #: inquiries of the node, and jobs, before the next piece is judged


class Comparison(Department):
    """See the module."""

    name = "comparison"

    def __init__(self, office: Office) -> None:
        super().__init__(office)
        pace = office.settings.pace
        self._standstill = Standstill(nanoseconds(pace.differ_s), nanoseconds(pace.compare_s))
        self._wanted: dict[int, None] = {}  #: nodes to be compared, in order
        self._talks: dict[int, Talk] = {}
        self._last = 0  #: serials and numbers
        self._done = 0  #: comparisons so far
        self._dropping = 0  #: shards so far that nobody wants
        self._adopted = 0  #: and such that became places
        office.when_registered.append(self._on_registered)

    def messages(self) -> Mapping[type[Message], OnMessage]:
        return {Inventory: self._on_inventory}

    # --- when -----------------------------------------------------------------------------------------------------

    def _on_registered(self, ctx: Context, node: int) -> None:
        """At the next tick: until then the node is still writing down who its master is."""
        self._talks.pop(node, None)
        self._wanted[node] = None

    def on_tick(self, ctx: Context, served_ns: int) -> None:
        members = self.office.members
        there = {
            state.row.node: state.inventory
            for state in members
            if state.peer is not None and members.standing(state.row.node, served_ns) <= Standing.SILENT
        }
        for node in self._talks.keys() - there.keys():
            del self._talks[node]
        look, compare = self._standstill.tick(there, served_ns)
        for node in look:
            ctx.run((self.name, "root", node, there[node]), CATALOG_LANE, NodeDigests(node))
        self._wanted.update(dict.fromkeys(compare))
        for talk in self._talks.values():
            if talk.ask is not None and served_ns >= talk.again_ns:
                talk.pause_ns = min(2 * talk.pause_ns, RETRY_MAX_NS)
                talk.again_ns = served_ns + talk.pause_ns
                self.office.tell(ctx, talk.node, talk.ask)
        for node in [node for node in self._wanted if node in there and node not in self._talks]:
            if len(self._talks) < MAX_TALKS:
                del self._wanted[node]
                self._begin(ctx, node, served_ns)

    def _begin(self, ctx: Context, node: int, served_ns: int) -> None:
        talk = self._talks[node] = Talk(node, self._next(), [(0, [])])
        self._standstill.compared(node, served_ns)
        self._go_on(ctx, talk)

    # --- down the levels ------------------------------------------------------------------------------------------

    def _go_on(self, ctx: Context, talk: Talk) -> None:
        """The next piece of work, or the end."""
        if not talk.work:
            del self._talks[talk.node]
            self._done += 1
            self.office.reconciling.compared(talk.node)
            return
        talk.level, talk.within = talk.work.pop()
        talk.theirs, talk.ours = {}, {}
        talk.ask = AskInventory(self._next(), self.office.term, talk.level, talk.within)
        talk.pause_ns = RETRY_FIRST_NS
        talk.again_ns = self.office.at(ctx).served_ns + talk.pause_ns
        self.office.tell(ctx, talk.node, talk.ask)

    def _on_inventory(self, ctx: Context, sender: Peer, message: Inventory) -> None:
        """A node's answer. Only the connection that it registered by is believed."""
        talk = self._talks.get(self.office.node_of(sender.address))
        if talk is None or talk.ask is None or message.number != talk.ask.number:
            return
        if len(message.buckets) != len(message.digests):
            return
        talk.ask = None
        if talk.level == SHARDS:
            talk.listed = message.shards
            self._judge(ctx, talk)
            return
        talk.theirs = dict(zip(message.buckets, message.digests, strict=True))
        if talk.level == 0:
            ctx.run((self.name, "digests", talk.node, talk.serial), CATALOG_LANE, NodeDigests(talk.node))
        else:
            talk.ranges = [id_range(talk.level - 1, bucket) for bucket in talk.within]
            self._slice(ctx, talk)

    def _slice(self, ctx: Context, talk: Talk) -> None:
        """One slice of the catalog's digests."""
        size = talk.ranges[0][1] - talk.ranges[0][0]
        count = max(1, RANGE_IDS // max(1, size))
        ranges, talk.ranges = talk.ranges[:count], talk.ranges[count:]
        job = BucketDigests(talk.node, talk.level, ranges)
        ctx.run((self.name, "digests", talk.node, talk.serial), CATALOG_LANE, job)

    def _on_digests(self, ctx: Context, talk: Talk, result: dict[int, int] | DigestsMade) -> None:
        made = result.digests if isinstance(result, DigestsMade) else result
        for bucket, digest in made.items():
            talk.ours[bucket] = talk.ours.get(bucket, 0) ^ digest
        if isinstance(result, DigestsMade):
            talk.ranges = [*result.rest, *talk.ranges]
        if talk.ranges:
            self._slice(ctx, talk)
            return
        others = differing(talk.ours, talk.theirs)
        below = talk.level + 1
        if talk.level:
            asked = set(talk.within)
            shown = (id_range(talk.level, bucket)[0] for bucket in others)
            others = [b for b, first in zip(others, shown, strict=True) if bucket_of(first, talk.level - 1) in asked]
        pieces = [others[first : first + WITHIN[below]] for first in range(0, len(others), WITHIN[below])]
        talk.work += [(below, piece) for piece in reversed(pieces)]
        self._go_on(ctx, talk)

    # --- at the bottom --------------------------------------------------------------------------------------------

    def _judge(self, ctx: Context, talk: Talk) -> None:
        """The next few buckets, or the next piece of work."""
        if not talk.within:
            talk.listed = []
            self._go_on(ctx, talk)
            return
        buckets, talk.within = talk.within[:JUDGED_AT_ONCE], talk.within[JUDGED_AT_ONCE:]
        these = set(buckets)
        listed = [shard for shard in talk.listed if bucket_of(shard.chunk, SHARDS - 1) in these]
        standings = self.office.members.standings(self.office.at(ctx).served_ns)
        job = JudgeInventory(talk.node, buckets, listed, standings, ctx.wall_ns(), self.office.spares(ctx))
        ctx.run((self.name, "judged", talk.node, talk.serial), CATALOG_LANE, job)

    def _on_judged(self, ctx: Context, talk: Talk, judged: Judged) -> None:
        node, serial = talk.node, talk.serial
        self._dropping += judged.dropping
        if judged.dropping or judged.missing or judged.adoptable:
            ctx.log(
                "inventory-differs", node=node, dropping=judged.dropping, missing=len(judged.missing),
                wanted=len(judged.adoptable),
            )  # fmt: skip
        talk.waits = 2
        ask = self.office.examiner.ask
        ask(ctx, _placed(judged.missing, node), False, lambda ctx, states: self._asked(ctx, node, serial))
        ask(
            ctx, _placed(judged.adoptable, node), True,
            lambda ctx, states: self._on_read(ctx, node, serial, judged.adoptable, states),
        )  # fmt: skip

    def _on_read(self, ctx: Context, node: int, serial: int, shards: Sequence[ShardRef], states: Sequence[int]) -> None:
        good = [shard for shard, state in zip(shards, states, strict=True) if state == GOOD]
        if good:
            ctx.run((self.name, "adopted", node, serial), CATALOG_LANE, Adopt(node, good))
        else:
            self._asked(ctx, node, serial)

    def _asked(self, ctx: Context, node: int, serial: int) -> None:
        """One thing less to wait for."""
        talk = self._find(node, serial)
        if talk is not None:
            talk.waits -= 1
            if not talk.waits:
                self._judge(ctx, talk)

    # --- results --------------------------------------------------------------------------------------------------

    def on_result(self, ctx: Context, token: tuple[Any, ...], result: Any) -> None:
        _, what, node, mark = token
        if what == "root":
            if not isinstance(result, Failure):
                self._standstill.looked(node, mark, root(result))
            return
        if what == "adopted" and not isinstance(result, Failure) and result:
            self._adopted += len(result)
            self.office.places_changed(ctx, result)
        talk = self._find(node, mark)
        if talk is None:
            return
        if isinstance(result, Failure):
            ctx.log("comparison-failed", node=node, why=result.message)
            del self._talks[node]
            return
        match what:
            case "digests":
                self._on_digests(ctx, talk, result)
            case "judged":
                self._on_judged(ctx, talk, result)
            case _:
                self._asked(ctx, node, mark)

    def _find(self, node: int, serial: int) -> Talk | None:
        talk = self._talks.get(node)
        return talk if talk is not None and talk.serial == serial else None

    def _next(self) -> int:
        self._last += 1
        return self._last

    def statistics(self) -> Mapping[str, int]:
        return {
            "comparing": len(self._talks),
            "to_compare": len(self._wanted),
            "comparisons": self._done,
            "inventory_dropping": self._dropping,
            "inventory_adopted": self._adopted,
        }

    def __repr__(self) -> str:
        shown = {talk.node: (talk.level, len(talk.work)) for talk in self._talks.values()}
        return f"<Comparison level and work by node {shown}, {self._done} done>"

    def check_invariants(self) -> None:
        assert len(self._talks) <= MAX_TALKS
        for node, talk in self._talks.items():
            assert talk.node == node
            assert talk.waits >= 0


def _placed(shards: Sequence[ShardRef], node: int) -> list[PlacedShard]:
    return [PlacedShard(shard.chunk, shard.index, node) for shard in shards]
