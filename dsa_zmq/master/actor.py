"""The master's shell: messages in, catalog jobs out, answers when their effects are durable.

Every operation is one job of the single catalog worker; the lane's batching is the group commit. What needs no catalog is
answered from soft state in the same turn. All decisions are made by the pure parts that it owns; here they are wired.
Whatever is a worry of its own is a department (:mod:`dsa_zmq.master.department`): the actor only finds who takes what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from actors.core import Actor, Channel, Context, Message, Peer, Token
from actors.liveness import ServingClock
from dsa_zmq import __version__
from dsa_zmq.errors import DSAError
from dsa_zmq.master.allocation import Allocator
from dsa_zmq.master.calls import CallInFlight, failure
from dsa_zmq.master.catalog.jobs import ExpireUploads, LoadNodes, LoadStaged, Request
from dsa_zmq.master.catalog.log_jobs import Committed
from dsa_zmq.master.department import CATALOG_LANE, OnMessage, OnOperation, OnPayload
from dsa_zmq.master.departments import open_departments
from dsa_zmq.master.desk import Desk, Moment, Next, short_chunks
from dsa_zmq.master.grants import Granter
from dsa_zmq.master.members import Members
from dsa_zmq.master.office import Office
from dsa_zmq.master.reception import MARKED, Reception
from dsa_zmq.master.reconciling import Reconciling
from dsa_zmq.master.settings import LEAST_SETTLE_NS, MasterSettings, nanoseconds
from dsa_zmq.master.uploads import Uploads
from dsa_zmq.model.inspection import Inspect
from dsa_zmq.protocol.messages import Calls, Heartbeat, Hello, Hint
from dsa_zmq.protocol.operations import Operation, Result
from dsa_zmq.protocol.values import Failure

STATUS_CATALOG = 70  #: the catalog's outcome is unknown: start again, the reply table has the truth
HINT_TOPIC = "hint"

MAX_EARLY = 100  #: messages kept while the catalog is read at the start; more are lost, and repeated by who sent them

_TICK = "tick"


class MasterActor(Actor):
    """One master process: one term, one catalog worker. Soft state only; everything durable is in the catalog."""

    def __init__(
        self,
        settings: MasterSettings,
        *,
        cluster: bytes,
        term: int,
        master: bytes,
        secret: bytes,
        restored_ns: int = 0,
    ) -> None:
        self._heartbeat_ns = nanoseconds(settings.heartbeat_s)
        self._longest_gap_ns = self._heartbeat_ns * 5 // 4  #: a tick may be a little late
        self._missed_ns = 0  #: of our own time, as last noticed
        down_ns = nanoseconds(settings.down_s)
        self._settle_ns = max(down_ns, LEAST_SETTLE_NS)  #: how long calls wait for nodes that may be about to speak
        self._unsettled_ns = -1  #: since when nodes are expected to speak again: our start, or the end of a pause
        self._loading = {"nodes", "staged"}  #: what the catalog still has to tell before anything else is done
        self._early: list[tuple[Peer, Message]] = []  #: what came meanwhile
        self._members = Members(nanoseconds(settings.suspect_s), down_ns)
        lease_ns = nanoseconds(settings.upload_lease_s)
        self._uploads = Uploads(lease_ns)
        granter = Granter(secret, cluster)
        allocator = Allocator(settings.placement, term, granter, self._uploads, lease_ns)
        self._desk = Desk(cluster, term, self._members, self._uploads, granter, allocator, self._settle_ns)
        self._office = Office(
            settings=settings, cluster=cluster, term=term, master=master, clock=ServingClock(0, self._longest_gap_ns),
            members=self._members, uploads=self._uploads, granter=granter, allocator=allocator, desk=self._desk,
            reconciling=Reconciling(restored_ns),
        )  # fmt: skip
        self._calls = self._office.calls
        self._waiting: dict[int, None] = {}  #: calls that wait for nodes to report, in the order they came
        self._reception = Reception(self._office)
        self._departments = (self._reception, *open_departments(self._office))
        self._named = {department.name: department for department in self._departments}
        self._takers: dict[type[Message], OnMessage] = {Calls: self._on_calls}
        self._payload_takers: dict[type[Message], OnPayload] = {}
        self._answerers: dict[type[Operation], OnOperation] = {}
        for department in self._departments:
            _add(self._takers, department.messages())
            _add(self._payload_takers, department.with_payload())
            _add(self._answerers, department.operations())
        self._office.copies.deliver_to(self._deliver)
        self._office.when_registered.append(lambda ctx, node: self._settle(ctx))
        self._office.when_changed.append(lambda ctx, change: self._settle(ctx))

    # --- life -----------------------------------------------------------------------------------------------------

    def on_start(self, ctx: Context) -> None:
        self._office.clock = ServingClock(ctx.now_ns(), self._longest_gap_ns)
        ctx.run(("nodes",), CATALOG_LANE, LoadNodes())
        ctx.run(("staged",), CATALOG_LANE, LoadStaged())
        ctx.set_timer(_TICK, self._heartbeat_ns)
        for department in self._departments:
            department.start(ctx)
        ctx.log("master-started", term=self._office.term, cluster=self._office.cluster.hex(), version=__version__)

    def on_message(self, ctx: Context, sender: Peer, message: Message, payload: Sequence[memoryview]) -> None:
        if self._reception.is_stale:
            return
        if sender.channel is Channel.FEED:
            if isinstance(message, Heartbeat):
                self._reception.on_heartbeat(ctx, sender, message)
        elif self._loading and not isinstance(message, Hello):
            if len(self._early) < MAX_EARLY:
                self._early.append((sender, message))
        elif (taker := self._payload_takers.get(type(message))) is not None:
            taker(ctx, sender, message, payload)
        else:
            self._on_direct(ctx, sender, message)

    def _on_direct(self, ctx: Context, sender: Peer, message: Message) -> None:
        taker = self._takers.get(type(message))
        if taker is None:
            ctx.log("unexpected-message", peer=sender.address, kind=type(message).__name__)
        else:
            taker(ctx, sender, message)

    def on_timer(self, ctx: Context, token: Token) -> None:
        if self._reception.is_stale:
            return
        if token == _TICK:
            ctx.set_timer(_TICK, self._heartbeat_ns)
            self._on_tick(ctx)
        else:
            self._named[token[0]].on_timer(ctx, token)

    def on_result(self, ctx: Context, token: Token, result: Any) -> None:
        if token == MARKED:
            self._reception.on_marked(ctx, result.result if isinstance(result, Committed) else result)
            return
        if self._reception.is_stale:
            return
        if isinstance(result, Committed):
            if not self._office.copies.admit(ctx, token, result):
                return  # it comes back when it may be told
            result = result.result
        self._deliver(ctx, token, result)

    def _deliver(self, ctx: Context, token: Token, result: Any) -> None:
        """A result of the catalog, of which everything may know now."""
        if isinstance(result, Exception):
            if not isinstance(result, DSAError):
                ctx.log("catalog-failed", job=repr(token), error=f"{type(result).__name__}: {result}")
                ctx.stop(STATUS_CATALOG)
                return
            result = failure(result)
        match token:
            case ("call", serial):
                self._on_call_result(ctx, serial, result)
            case ("nodes",):
                self._members.load(result, self._office.at(ctx).served_ns)
                self._on_loaded(ctx, "nodes")
            case ("staged",):
                self._uploads.adopt(result, self._office.at(ctx).served_ns)
                self._on_loaded(ctx, "staged")
            case ("expire", uploads):
                if isinstance(result, Failure):
                    self._uploads.adopt(uploads, self._office.at(ctx).served_ns)
            case _:
                self._named[token[0]].on_result(ctx, token, result)

    def on_call(self, ctx: Context, call: Any) -> None:
        if isinstance(call, Inspect):
            call.tell(self.statistics())

    def _on_loaded(self, ctx: Context, what: str) -> None:
        self._loading.discard(what)
        if not self._loading:
            early, self._early = self._early, []
            for sender, message in early:
                self._on_direct(ctx, sender, message)

    # --- time -----------------------------------------------------------------------------------------------------

    def _on_tick(self, ctx: Context) -> None:
        office = self._office
        served_ns = office.at(ctx).served_ns
        if office.clock.missed_ns > self._missed_ns:
            ctx.log("paused", missed_ms=(office.clock.missed_ns - self._missed_ns) // 1_000_000)
            self._missed_ns = office.clock.missed_ns
            self._desk.settling, self._unsettled_ns = True, served_ns  # connections may have broken meanwhile
        ctx.publish(HINT_TOPIC, Hint(office.cluster, office.term, office.master))
        office.look(ctx)
        for department in self._departments:
            department.on_tick(ctx, served_ns)
        if expired := self._uploads.expire(served_ns):
            ctx.log("uploads-expired", count=len(expired))
            ctx.run(("expire", tuple(expired)), CATALOG_LANE, ExpireUploads(expired))
        self._settle(ctx)

    def _settle(self, ctx: Context) -> None:
        """Calls that wait for nodes are tried again; for good once all have reported or had time enough."""
        at = self._office.at(ctx)
        over = at.served_ns >= self._unsettled_ns + self._settle_ns
        if self._desk.settling and not self._loading and (over or self._members.all_heard(self._unsettled_ns)):
            self._desk.settling = False
            ctx.log("settled", nodes=len(self._members), up=len(self._members.all_up(at.served_ns)))
        waiting, self._waiting = self._waiting, {}
        for serial in waiting:
            call = self._calls.find(serial)
            assert call is not None, "a waiting call is in flight"
            self._begin(ctx, call, at)

    # --- clients --------------------------------------------------------------------------------------------------

    def _on_calls(self, ctx: Context, sender: Peer, message: Calls) -> None:
        at = self._office.at(ctx)
        group, fresh = self._calls.admit(sender.address, message)
        if not fresh and group.answers:
            self._office.send_answers(ctx, group)
        for call in fresh:
            answerer = self._answerers.get(type(call.operation))
            if answerer is not None:
                answerer(ctx, call)
                continue
            self._begin(ctx, call, at)

    def _begin(self, ctx: Context, call: CallInFlight, at: Moment) -> None:
        """Answer it, or ask the catalog; so also when it has waited, since what the catalog said then may be old."""
        step = self._desk.begin(call.operation, at)
        if step is Next.CATALOG:
            request = Request(call.operation, call.session, call.number, call.done_below, at.wall_ns)
            ctx.run(("call", call.serial), CATALOG_LANE, request)
        else:
            self._answer(ctx, call, step)

    def _on_call_result(self, ctx: Context, serial: int, result: Any) -> None:
        call = self._calls.find(serial)
        assert call is not None, "a call stays in flight until its result is there"
        if short := short_chunks(call.operation, result):
            self._office.places_changed(ctx, short)
        if self._desk.pass_on(call.operation, result):
            self._office.send_answers(ctx, self._calls.finish(call, result))
            return
        self._answer(ctx, call, self._desk.complete(call.operation, result, self._office.at(ctx)))

    def _answer(self, ctx: Context, call: CallInFlight, step: Result | Next) -> None:
        """The call's answer is known, or it has to wait for nodes: then its companions do not wait with it."""
        if isinstance(step, Next):
            assert step is Next.WAIT, "the catalog is asked once"
            self._waiting[call.serial] = None
            self._office.detach(ctx, call)
        else:
            self._office.answer(ctx, call.serial, step)

    # --- for people and tests -------------------------------------------------------------------------------------

    def statistics(self) -> dict[str, int]:
        """Counts and sizes of everything that is held in memory."""
        of_departments: dict[str, int] = {}
        for department in self._departments:
            _add(of_departments, department.statistics())
        return {
            "missed_ms": self._office.clock.missed_ns // 1_000_000,
            "calls": len(self._calls),
            "calls_refused": self._calls.refused,
            "calls_repeated": self._calls.repeated,
            "calls_waiting": len(self._waiting),
            "nodes": len(self._members),
            **of_departments,
            **self._uploads.statistics(),
        }

    def __repr__(self) -> str:
        return f"<MasterActor term={self._office.term} {self._members!r} {self._calls!r} {self._uploads!r}>"

    def check_invariants(self) -> None:
        for part in (self._calls, self._members, self._uploads):
            part.check_invariants()
        serials = {call.serial for call in self._calls}
        assert set(self._waiting) <= serials, "who waits for nodes is in flight"
        for department in self._departments:
            department.check_invariants()
            assert set(department.asking()) <= serials, f"who waits for {department.name} is in flight"
        doubts = any(state.doubted for state in self._members)
        unsure = self._desk.settling or self._desk.hushed or doubts
        assert unsure or not self._waiting, "nobody waits for nodes once all had their time"


def _add(table: dict[Any, Any], more: Mapping[Any, Any]) -> None:
    """Take more entries in; each key is of one department."""
    assert not table.keys() & more.keys(), f"two departments want {sorted(map(str, table.keys() & more.keys()))}"
    table.update(more)
