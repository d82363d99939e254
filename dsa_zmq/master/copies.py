"""The catalog's copies on nodes: ships the log, and lets results of the catalog pass when that is safe.

The decisions are made by pure parts, which are wired here: :mod:`dsa_zmq.master.shipping` (who gets what, and what is
safe), :mod:`dsa_zmq.master.gate` (what waits for that), :mod:`dsa_zmq.master.ship_history` (what is kept for how long).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from actors.core import Context, Message, Peer
from dsa_zmq.master.calls import CallInFlight
from dsa_zmq.master.catalog.jobs import AllocateChecked
from dsa_zmq.master.catalog.log_jobs import Committed, LoadLog, LogState
from dsa_zmq.master.copy_reading import CopyReading
from dsa_zmq.master.department import CATALOG_LANE, Department, OnMessage, OnOperation, OnPayload
from dsa_zmq.master.desk import Moment
from dsa_zmq.master.gate import AT_ONCE, OFF, Gate
from dsa_zmq.master.members import DOWN, NodeState
from dsa_zmq.master.office import Office
from dsa_zmq.master.settings import nanoseconds
from dsa_zmq.master.ship_effects import Ask, Send
from dsa_zmq.master.ship_history import ShipHistory
from dsa_zmq.master.ship_set import ShipNode
from dsa_zmq.master.ship_words import Safety, safety, why_thin
from dsa_zmq.master.shipping import Shipping
from dsa_zmq.protocol.operations import Operation
from dsa_zmq.protocol.values import Failure
from dsa_zmq.protocol.volumes import (
    CatalogCopies,
    CatalogHistory,
    KeepVolumes,
    ReadCatalog,
    Shipped,
    VolumeData,
    Volumes,
)

SHIPPING_SINCE = 2  #: protocol version of nodes that keep copies
LOOK_NS = 100_000_000  #: while something is under way: late answers, and results that wait
TELL_NS = 1_000_000_000  #: for nodes to tell what they hold, when somebody asks
KEEP_BEATS = 10  #: heartbeats between two looks for volumes that nobody needs
ASK_BEATS = 60  #: and between two questions to all nodes
FEW_BEATS = 60  #: with fewer copies than wanted, until health says so: others may be under way

FREE = ("copies", "reception", "health", "nodes", "staged")
"""Whose results wait for nothing. Without nodes nothing would ever become safe: so registrations do not wait; nor does the
count for health, which says why others do. (Nor does an allocation: it tells nothing but a redundancy, and only lasts for
its lease.)"""

_LOOK = ("copies", "look")
_SLICE = ("copies", "wake")


class Copies(Department):
    """See the module. Others find it as ``office.copies``."""

    name = "copies"

    def __init__(self, office: Office) -> None:
        super().__init__(office)
        settings = office.settings
        self._level = settings.catalog_copies
        self._lease_ns = nanoseconds(settings.down_s)
        self._heartbeat_ns = nanoseconds(settings.heartbeat_s)
        self._ship = Shipping(office.term, nanoseconds(settings.suspect_s), self._heartbeat_ns // 4)
        self._gate = Gate(self._level, nanoseconds(settings.catalog_lag_s), nanoseconds(settings.unprotected_after_s))
        self._history = ShipHistory(nanoseconds(settings.catalog_history_s))
        self._reading = CopyReading(office)
        self._deliver: Callable[[Context, Any, Any], None] = _nowhere
        self._echoed_ns = -1  #: when (monotonic) a node was last heard under our term
        self._missed_ns = 0  #: of our own time, when a node was last heard
        self._woke_ns = -self._heartbeat_ns  #: when (monotonic) a long pause of ours was noticed last
        self._asking: dict[int, tuple[int, set[int]]] = {}  #: by serial: until when, and for which nodes, it waits
        self._beats = 0
        self._few_ns = -1  #: since when fewer nodes than wanted hold the catalog
        self._looks = False  #: the timer is set
        office.copies = self
        if self._level != OFF:
            office.when_registered.append(self._on_registered)
            office.when_changed.append(lambda ctx, change: self._see(ctx))

    def deliver_to(self, deliver: Callable[[Context, Any, Any], None]) -> None:
        """Results that have waited go there, each with its token."""
        self._deliver = deliver

    def messages(self) -> Mapping[type[Message], OnMessage]:
        return {Shipped: self._on_shipped, Volumes: self._on_volumes}

    def with_payload(self) -> Mapping[type[Message], OnPayload]:
        return {VolumeData: self._reading.on_data}

    def operations(self) -> Mapping[type[Operation], OnOperation]:
        return {CatalogHistory: self._on_history, ReadCatalog: self._on_read}

    def start(self, ctx: Context) -> None:
        if self._level != OFF:
            ctx.run((self.name, "load"), CATALOG_LANE, LoadLog())

    # --- results of the catalog -----------------------------------------------------------------------------------

    def admit(self, ctx: Context, token: Any, committed: Committed) -> bool:
        """A result of the catalog has come, with the records of its transaction, which are shipped. Whether it passes now;
        else it is delivered when it may."""
        if committed.records:
            at = self.office.at(ctx)
            self._gate.committed(committed.position, at.served_ns)
            self._ship.committed(committed.records, at)
            self._turn(ctx, at)
        self._check_lease(ctx)
        if token[0] in FREE or type(committed.result) is AllocateChecked or self._gate.passes(committed.position):
            return True
        self._gate.keep(committed.position, token, committed.result)
        self._look_soon(ctx)
        return False

    def when_safe(self, ctx: Context, then: Callable[[Context], None]) -> None:
        """Call this once all that was committed so far is safe, at any level but ``off``: then, or in a later turn."""
        position = self._ship.position
        if self._level == OFF or self._gate.is_open_for(position):
            then(ctx)
        else:
            self._gate.keep_until_safe(position, then)
            self._look_soon(ctx)

    def heard(self, ctx: Context, term: int) -> None:
        """A node has shown that it obeys the master of this term."""
        if term == self.office.term and self._is_news(ctx):
            self._echoed_ns = ctx.now_ns()
            if self._gate.is_fenced:
                self._look(ctx)

    def _is_news(self, ctx: Context) -> bool:
        """Whether what a node says now was said just now. Behind a long pause comes first what has waited all the time:
        since then the node may have come to obey another master."""
        missed_ns, self._missed_ns = self._missed_ns, self.office.clock.missed_ns
        if self._missed_ns - missed_ns >= self._lease_ns // 2:
            self._woke_ns = ctx.now_ns()
        return ctx.now_ns() - self._woke_ns >= self._heartbeat_ns

    def _check_lease(self, ctx: Context) -> None:
        """Each time before something passes: a pause of ours may be over, in which no look was taken."""
        if not self._gate.is_fenced and self._is_fenced(ctx):
            self._gate.fence()

    # --- turns ----------------------------------------------------------------------------------------------------

    def _turn(self, ctx: Context, at: Moment) -> None:
        """Carry out what follows from what has happened."""
        for effect in self._ship.effects():
            if isinstance(effect, Send):
                state = self.office.members.get(effect.node)
                if state is not None and state.peer is not None:
                    ctx.send(state.peer, effect.message, effect.payload)
                self._look_soon(ctx)
            elif isinstance(effect, Ask):
                ctx.run((self.name, *effect.token), CATALOG_LANE, effect.job)
            else:
                ctx.set_timer(_SLICE, effect.delay_ns)
        if self._ship.safe > self._gate.safe:
            self._gate.is_safe(self._ship.safe, at.served_ns)
            self._release(ctx)

    def _release(self, ctx: Context) -> None:
        """Let those pass that may."""
        self._check_lease(ctx)
        for _ in range(AT_ONCE):
            released = self._gate.release()
            if released is None:
                break
            self._deliver(ctx, *released)
        else:
            ctx.set_timer(_LOOK, 0)
        while (then := self._gate.release_safe()) is not None:
            then(ctx)

    def _look(self, ctx: Context) -> None:
        """Time has passed."""
        at = self.office.at(ctx)
        self._ship.tick(at)
        self._turn(ctx, at)
        changed = self._gate.look(
            at, is_thin=self._ship.is_thin(), is_fenced=self._is_fenced(ctx), is_vain=self._is_vain()
        )
        if changed:
            self._say(ctx)
        self._release(ctx)
        for serial, (until_ns, nodes) in list(self._asking.items()):
            if at.served_ns >= until_ns or not nodes:
                self._answer_history(ctx, serial)
        if self._gate.is_waiting or self._asking:
            self._look_soon(ctx)

    def _is_fenced(self, ctx: Context) -> bool:
        """Nobody of those who should be there was heard. By the monotonic clock: a pause of ours is time for others."""
        return bool(len(self.office.members)) and (
            self._echoed_ns < 0 or ctx.now_ns() - self._echoed_ns > self._lease_ns
        )

    def _is_vain(self) -> bool:
        """Too few nodes can ever keep copies, since the others run older software: so in the middle of an upgrade."""
        able = [state for state in self.office.members if not 0 < state.protocol < SHIPPING_SINCE]
        return len(able) < self._ship.enough

    def _say(self, ctx: Context) -> None:
        if self._gate.unprotected_ns:
            ctx.log("catalog-unprotected", why=self.why())
        else:
            ctx.log("catalog-protected", safe=self._ship.safe)

    def _look_soon(self, ctx: Context) -> None:
        if not self._looks:
            self._looks = True
            ctx.set_timer(_LOOK, LOOK_NS)

    def on_timer(self, ctx: Context, token: tuple[Any, ...]) -> None:
        if token == _LOOK:
            self._looks = False
            self._look(ctx)
        else:
            at = self.office.at(ctx)
            self._ship.wake(at)
            self._turn(ctx, at)

    def on_tick(self, ctx: Context, served_ns: int) -> None:
        self._reading.on_tick(ctx, served_ns)
        if self._level == OFF:
            return
        self._see(ctx)
        self._beats += 1
        if len(self._ship.holders()) >= self._ship.wanted:
            self._few_ns = -1
        elif self._few_ns < 0:
            self._few_ns = served_ns
        if self._beats % ASK_BEATS == 0:
            self._ship.ask_volumes()
        if self._beats % KEEP_BEATS == 0:
            self._keep(ctx)
        self._look(ctx)

    def on_result(self, ctx: Context, token: tuple[Any, ...], result: Any) -> None:
        at = self.office.at(ctx)
        if isinstance(result, Failure):
            ctx.log("catalog-copy-job-failed", job=repr(token), why=result.message)
            result = None
        match token:
            case (_, "load"):
                self._on_loaded(ctx, result, at)
            case (_, "begin"):
                self._ship.volume_begun(result, at)
            case (_, "slice", volume):
                self._ship.slice_read(volume, result, at)
            case (_, "log", volume, node):
                self._ship.read_log(volume, node, result, at)
            case (_, "trim"):
                self._ship.trimmed(bool(result))
        self._turn(ctx, at)

    def _on_loaded(self, ctx: Context, result: LogState | None, at: Moment) -> None:
        if result is None:
            self.start(ctx)
            return
        self._history.restored_ns = result.restored_ns
        self._see(ctx)  # they were loaded before: without nodes, everything would be safe
        self._ship.loaded(result, at)
        self._turn(ctx, at)
        self._look(ctx)

    # --- nodes ----------------------------------------------------------------------------------------------------

    def _see(self, ctx: Context) -> None:
        """Look at the nodes as they are now."""
        at = self.office.at(ctx)
        members = self.office.members
        self._ship.see([self._as_seen(state, at.served_ns) for state in members], at)
        self._history.keep_only(self._ship.nodes.keys())
        self._turn(ctx, at)

    def _as_seen(self, state: NodeState, served_ns: int) -> ShipNode:
        row = state.row
        return ShipNode(
            row.node, row.name, row.zone, row.host, row.disk, self._why_not(state, served_ns), row.draining,
            not state.doubted,
        )  # fmt: skip

    def _why_not(self, state: NodeState, served_ns: int) -> str:
        members, name = self.office.members, state.row.name
        if members.state(state.row.node, served_ns) == DOWN:
            return f"'{name}' is down"
        if state.peer is None:
            return f"'{name}' has not come back yet"
        if members.silence_ns(state.row.node, served_ns) >= members.suspect_ns or state.deaf:
            return f"'{name}' is silent"
        if state.failure:
            return f"the store of '{name}' has failed"
        if state.protocol < SHIPPING_SINCE:
            return f"'{name}' runs older software: upgrade it"
        return ""

    def _on_registered(self, ctx: Context, node: int) -> None:
        if self._is_news(ctx):
            self._echoed_ns = ctx.now_ns()
        self._see(ctx)
        at = self.office.at(ctx)
        self._ship.registered(node, at)
        self._turn(ctx, at)
        self._look(ctx)

    def _on_shipped(self, ctx: Context, sender: Peer, message: Shipped) -> None:
        node = self.office.node_of(sender.address)
        if node and self._level != OFF:
            at = self.office.at(ctx)
            self._ship.shipped(node, message, at)
            self._history.heard(node, message.state)
            self._turn(ctx, at)

    def _on_volumes(self, ctx: Context, sender: Peer, message: Volumes) -> None:
        node = self.office.node_of(sender.address)
        if node and self._level != OFF:
            at = self.office.at(ctx)
            self._history.told(node, message.volumes)
            self._ship.volumes_told(node, message, at)
            self._turn(ctx, at)
            for serial, (_, waiting) in list(self._asking.items()):
                waiting.discard(node)
                if not waiting:
                    self._answer_history(ctx, serial)

    def _keep(self, ctx: Context) -> None:
        """Have nodes remove the volumes that nobody needs any more: only while what is needed is there for sure."""
        if not self._ship.is_settled():
            return
        needed = self._history.needed([volume.volume for volume in self._ship.volumes()], ctx.wall_ns())
        for node in self._history.surplus(needed):
            number = self._ship.next_number()
            if self.office.tell(ctx, node, KeepVolumes(number, self.office.term, needed)):
                self._ship.ask_volumes_of(node)
        self._turn(ctx, self.office.at(ctx))

    # --- for people -----------------------------------------------------------------------------------------------

    def _on_history(self, ctx: Context, call: CallInFlight) -> None:
        self.office.detach(ctx, call)
        at = self.office.at(ctx)
        nodes = {each.node for each in self._ship.nodes.values() if not each.why_not}
        self._asking[call.serial] = at.served_ns + TELL_NS, nodes
        self._ship.ask_volumes()
        self._turn(ctx, at)
        self._look(ctx)

    def _answer_history(self, ctx: Context, serial: int) -> None:
        del self._asking[serial]
        names = {each.node: each.name for each in self._ship.nodes.values()}
        answer = CatalogCopies(
            self._level, self._history.volumes(names), self._ship.position, self._ship.safe, self._ship.wanted,
            self._ship.enough, self._gate.unprotected_ns, self.why() if self._gate.unprotected_ns else "",
        )  # fmt: skip
        self.office.answer(ctx, serial, answer)

    def _on_read(self, ctx: Context, call: CallInFlight) -> None:
        self._reading.begin(ctx, call)

    def why(self) -> str:
        """There are too few copies."""
        return why_thin(self._ship)

    def safety(self, ctx: Context) -> Safety:
        """How safe the catalog is, and what would help if it is not."""
        at = self.office.at(ctx)
        few_ns = at.served_ns - self._few_ns if self._few_ns >= 0 else 0
        return safety(self._ship, self._gate, self._history, at, few_ns, FEW_BEATS * self._heartbeat_ns)

    def asking(self) -> Iterable[int]:
        return [*self._asking, *self._reading.asking()]

    def statistics(self) -> Mapping[str, int]:
        ship = self._ship
        return {
            "log_position": ship.position,
            "log_safe": max(0, ship.safe),
            "log_unsafe_bytes": ship.window.bytes_behind(ship.safe) if ship.is_loaded else 0,
            "ship_members": len(ship.holders()),
            "volume_bytes": ship.current.size if ship.current is not None else 0,
            "volumes_begun": ship.begun,
            **self._history.statistics(),
            **self._gate.statistics(),
        }

    def check_invariants(self) -> None:
        self._ship.check_invariants()
        self._gate.check_invariants()

    def __repr__(self) -> str:
        return f"<Copies {self._gate!r}, {self._ship!r}>"


def _nowhere(ctx: Context, token: Any, result: Any) -> None:
    raise AssertionError("results go to the actor")
