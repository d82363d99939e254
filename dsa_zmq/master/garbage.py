"""Garbage collection: slices of the catalog's work in the background, and the drops that follow from it.

A round begins some seconds after the last one found nothing more to do; its slices follow each other as fast as the catalog
answers, with clients' requests in between. The nodes that it names are then told what to drop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actors.core import Context, Message, Peer
from dsa_zmq.master.catalog.garbage_plan import MAX_COUNTED, CountGarbage, GarbageCounts
from dsa_zmq.master.catalog.jobs import CollectGarbage, DropsDone, GarbageProgress, LoadDrops
from dsa_zmq.master.department import CATALOG_LANE, Department, OnMessage
from dsa_zmq.master.drops import DROPS_AT_ONCE, Drops
from dsa_zmq.master.members import UP
from dsa_zmq.master.office import Office, TellPlan
from dsa_zmq.master.settings import MasterSettings, nanoseconds
from dsa_zmq.model.limits import GRANT_S, UPLOAD_LEASE_S
from dsa_zmq.model.sizes import counted, format_size
from dsa_zmq.protocol.messages import Dropped
from dsa_zmq.protocol.operations import MakePlan
from dsa_zmq.protocol.values import Failure, Plan, ShardRef

NOTHING = (
    "there is nothing to let go, but for what failed uploads may have left on nodes: that goes"
    f" {(UPLOAD_LEASE_S + GRANT_S) // 60} min after them"
)  #: what an upload has sent and not staged, only the nodes know
_ROUND = ("garbage", "round")  #: the timer of the next round


class Garbage(Department):
    """See the module. Others find it as ``office.garbage``."""

    name = "garbage"

    def __init__(self, office: Office) -> None:
        super().__init__(office)
        self._settings = office.settings
        self._members = office.members
        self._drops = Drops(office.term)
        self._slices = 0  #: so far
        self._is_collecting = False  #: a slice is at work
        self._planned = 0  #: plans so far
        office.garbage = self
        office.when_registered.append(self._forget)
        office.plans["gc"] = self._plan
        office.when_begun["gc"] = lambda ctx: ctx.set_timer(_ROUND, 0)
        self._plans: dict[int, TellPlan] = {}  # by number

    def messages(self) -> Mapping[type[Message], OnMessage]:
        return {Dropped: self._on_dropped}

    def start(self, ctx: Context) -> None:
        """The next round begins after the usual pause."""
        ctx.set_timer(_ROUND, nanoseconds(self._settings.gc_interval_s))

    def hurry(self, ctx: Context) -> None:
        """Somebody waits for drops: the next round begins now, unless one goes on."""
        if not self._is_collecting:
            ctx.set_timer(_ROUND, 0)

    def on_timer(self, ctx: Context, token: tuple[Any, ...]) -> None:
        self._collect(ctx)

    def _collect(self, ctx: Context) -> None:
        """One slice."""
        self._is_collecting = True
        self._slices += 1
        job = CollectGarbage(
            limit=self._settings.gc_rows,
            wall_ns=ctx.wall_ns(),
            grace_ns=nanoseconds(self._settings.kept_s),
            reply_keep_ns=nanoseconds(self._settings.reply_keep_s),
            horizon=self.office.allocator.advance_horizon(self.office.at(ctx).served_ns),
        )
        ctx.run(("garbage", "slice"), CATALOG_LANE, job)

    def on_tick(self, ctx: Context, served_ns: int) -> None:
        """Give up on nodes that are not up; repeat what was not answered."""
        self._drops.keep_only(state.row.node for state in self._members.all_up(served_ns))
        for node, drop in self._drops.due(served_ns):
            self.office.tell(ctx, node, drop)

    def on_result(self, ctx: Context, token: tuple[Any, ...], result: Any) -> None:
        """A job has ended. A Failure (a full disk) ends the round or the conversation; the next round comes back to it."""
        served_ns = self.office.at(ctx).served_ns
        match token:
            case (_, "slice"):
                self._on_slice(ctx, result, served_ns)
            case (_, "count", number):
                self._on_counted(ctx, number, result)
            case (_, "load", node, serial):
                self._on_loaded(ctx, node, serial, result, served_ns)
            case (_, "record", node, serial):
                self._on_recorded(ctx, node, serial, result)

    def _on_slice(self, ctx: Context, result: GarbageProgress | Failure, served_ns: int) -> None:
        self._is_collecting = False
        if isinstance(result, Failure):
            ctx.log("garbage-failed", why=result.message)
            self.start(ctx)
            return
        for node in result.nodes:
            if node in self._members and self._members.state(node, served_ns) == UP:
                talk = self._drops.begin(node)
                if talk is not None:
                    self._load(ctx, node, talk.serial)
        if result.more:
            self._collect(ctx)
        else:
            self.start(ctx)

    def _load(self, ctx: Context, node: int, serial: int) -> None:
        ctx.run(("garbage", "load", node, serial), CATALOG_LANE, LoadDrops(node, DROPS_AT_ONCE))

    def _on_loaded(
        self, ctx: Context, node: int, serial: int, result: list[ShardRef] | Failure, served_ns: int
    ) -> None:
        talk = self._drops.find(node, serial)
        if talk is None:
            return
        if isinstance(result, Failure):
            self._drops.give_up(node)
        elif result:  # a catalog that is made from its copies must not name what was dropped
            self.office.copies.when_safe(ctx, lambda ctx: self._drop(ctx, node, serial, result))
        else:
            self._drops.loaded(talk, result, served_ns)

    def _drop(self, ctx: Context, node: int, serial: int, shards: list[ShardRef]) -> None:
        talk = self._drops.find(node, serial)
        if talk is None:
            return  # the node is not up any more, or another process
        if self.office.spares(ctx):
            self._drops.give_up(node)  # not yet: the next round names it again
            return
        drop = self._drops.loaded(talk, shards, self.office.at(ctx).served_ns)
        if drop is not None:
            self.office.tell(ctx, node, drop)

    def _on_dropped(self, ctx: Context, sender: Peer, message: Dropped) -> None:
        """A node says that shards are gone. Only the connection that it registered by is believed."""
        state = self._members.by_peer(sender.address)
        answered = self._drops.gone(state.row.node, message) if state is not None else None
        if answered is not None:
            talk, shards = answered
            ctx.run(("garbage", "record", talk.node, talk.serial), CATALOG_LANE, DropsDone(talk.node, shards))

    def _on_recorded(self, ctx: Context, node: int, serial: int, result: Any) -> None:
        talk = self._drops.find(node, serial)
        if talk is None:
            return
        if isinstance(result, Failure):
            self._drops.give_up(node)
        else:
            self._drops.recorded(talk)
            self._load(ctx, node, serial)

    def _plan(self, ctx: Context, wanted: MakePlan, tell: TellPlan) -> None:
        self._planned += 1
        self._plans[self._planned] = tell
        ctx.run(("garbage", "count", self._planned), CATALOG_LANE, CountGarbage())

    def _on_counted(self, ctx: Context, number: int, result: GarbageCounts | Failure) -> None:
        tell = self._plans.pop(number)
        if isinstance(result, Failure):
            tell(ctx, result)
            return
        names = {node: state.row.name for node in result.drops if (state := self._members.get(node)) is not None}
        lines = in_words(result, names, self._settings)
        tell(ctx, Plan("gc", "", "", sum(result.drops.values()), result.bytes, -1, lines))

    def _forget(self, ctx: Context, node: int) -> None:
        """The node is another process now: what was said to the last one is void."""
        self._drops.give_up(node)

    def statistics(self) -> dict[str, int]:
        return {"garbage_slices": self._slices, "drops": len(self._drops), "shards_dropped": self._drops.dropped}

    def __repr__(self) -> str:
        return f"<Garbage {self._slices} slices, {self._drops!r}>"

    def check_invariants(self) -> None:
        self._drops.check_invariants()


def in_words(counts: GarbageCounts, names: Mapping[int, str], settings: MasterSettings) -> list[str]:
    """A plan's lines. Counts that have reached their end are "at least"."""
    lines = []
    if counts.names:
        is_history = settings.kept_s > settings.gc_grace_s
        why = "so far back the catalog can be restored" if is_history else "somebody may still be reading"
        what = _many(counts.names, "removed or overwritten name")
        lines.append(f"{what} to be let go, each {settings.kept_s:g} s after its end: {why}")
    if counts.contents:
        lines.append(
            f"{_many(counts.contents, 'content')} that nobody refers to, to be let go: {format_size(counts.bytes)} on nodes"
        )
    for node, count in sorted(counts.drops.items()):
        lines.append(f"{_many(count, 'shard')} to be dropped by '{names.get(node, str(node))}'")
    return lines or [NOTHING]


def _many(count: int, what: str) -> str:
    return counted(count, what) if count < MAX_COUNTED else f"at least {counted(count, what)}"
