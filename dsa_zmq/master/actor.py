"""The master's shell: messages in, catalog jobs out, answers when their effects are durable.

Every operation is one job of the single catalog worker; the lane's batching is the group commit. What needs no catalog is
answered from soft state in the same turn. All decisions are made by the pure parts that it owns; here they are wired.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actors.core import Actor, Channel, Context, Message, Peer, Token
from actors.errors import MessageTooLarge
from actors.liveness import ServingClock, Sign
from dsa_zmq import __version__
from dsa_zmq.errors import DSAError, Invalid
from dsa_zmq.master.allocation import Allocator
from dsa_zmq.master.calls import CallInFlight, CallTable, Group, failure
from dsa_zmq.master.catalog.jobs import (
    AllocateChecked,
    ChunkCounts,
    CountChunks,
    ExpireUploads,
    LoadNodes,
    LoadStaged,
    MarkStale,
    NodeRow,
    Request,
)
from dsa_zmq.master.desk import Desk, Moment, Next
from dsa_zmq.master.garbage import CATALOG_LANE, Garbage
from dsa_zmq.master.grants import Granter
from dsa_zmq.master.health import HealthCheck
from dsa_zmq.master.members import Members
from dsa_zmq.master.registration import Registrar, StaleMaster, check_version, two_masters
from dsa_zmq.master.settings import LEAST_SETTLE_NS, MasterSettings, nanoseconds
from dsa_zmq.master.uploads import Uploads
from dsa_zmq.model.ids import start_of
from dsa_zmq.protocol.messages import (
    PROTOCOL_VERSION,
    Answer,
    Answers,
    Calls,
    Dropped,
    Fence,
    Heartbeat,
    Hello,
    Hint,
    Refused,
    Register,
    Registered,
    Welcome,
)
from dsa_zmq.protocol.operations import Health, Result
from dsa_zmq.protocol.values import Failure

STATUS_CATALOG = 70  #: the catalog's outcome is unknown: start again, the reply table has the truth
STATUS_STALE = 4  #: another master of a higher term exists: starting again would not help
HINT_TOPIC = "hint"

MAX_EARLY = 100  #: messages kept while the catalog is read at the start; more are lost, and repeated by who sent them

_TICK = "tick"


class MasterActor(Actor):
    """One master process: one term, one catalog worker. Soft state only; everything durable is in the catalog."""

    def __init__(self, settings: MasterSettings, *, cluster: bytes, term: int, master: bytes, secret: bytes) -> None:
        self._settings = settings
        self._cluster = cluster
        self._term = term
        self._master = master
        self._heartbeat_ns = nanoseconds(settings.heartbeat_s)
        self._longest_gap_ns = self._heartbeat_ns * 5 // 4  #: a tick may be a little late
        self._clock = ServingClock(0, self._longest_gap_ns)
        self._missed_ns = 0  #: of our own time, as last noticed
        self._down_ns = nanoseconds(settings.down_s)
        self._unsettled_ns = -1  #: since when nodes are expected to speak again: our start, or the end of a pause
        self._loading = {"nodes", "staged"}  #: what the catalog still has to tell before anything else is done
        self._early: list[tuple[Peer, Message]] = []  #: what came meanwhile
        self._calls = CallTable()
        self._members = Members(nanoseconds(settings.suspect_s), self._down_ns)
        lease_ns = nanoseconds(settings.upload_lease_s)
        self._uploads = Uploads(lease_ns)
        self._granter = Granter(secret, cluster)
        allocator = Allocator(settings.placement, term, self._granter, self._uploads, lease_ns)
        self._desk = Desk(cluster, term, self._members, self._uploads, self._granter, allocator)
        self._registrar = Registrar(cluster, term, master, self._members)
        self._garbage = Garbage(settings, term, self._members, allocator)
        self._waiting: dict[int, AllocateChecked | None] = {}  #: calls that wait for nodes to report
        self._health = HealthCheck(self._members, settings.default_redundancy)
        self._marked_term = 0  #: the highest of another master that our catalog was marked with
        self._is_stale = False  #: a higher one was: nothing more is done but to end

    # --- life -----------------------------------------------------------------------------------------------------

    def on_start(self, ctx: Context) -> None:
        self._clock = ServingClock(ctx.now_ns(), self._longest_gap_ns)
        ctx.run(("nodes",), CATALOG_LANE, LoadNodes())
        ctx.run(("staged",), CATALOG_LANE, LoadStaged())
        ctx.set_timer(_TICK, self._heartbeat_ns)
        self._garbage.start(ctx)
        ctx.log("master-started", term=self._term, cluster=self._cluster.hex(), version=__version__)

    def on_message(self, ctx: Context, sender: Peer, message: Message, payload: Sequence[memoryview]) -> None:
        if self._is_stale:
            return
        if sender.channel is Channel.FEED:
            if isinstance(message, Heartbeat):
                self._on_heartbeat(ctx, sender, message)
        elif self._loading and not isinstance(message, Hello):
            if len(self._early) < MAX_EARLY:
                self._early.append((sender, message))
        else:
            self._on_direct(ctx, sender, message)

    def _on_direct(self, ctx: Context, sender: Peer, message: Message) -> None:
        match message:
            case Calls():
                self._on_calls(ctx, sender, message)
            case Hello():
                self._on_hello(ctx, sender, message)
            case Register():
                self._on_register(ctx, sender, message)
            case Dropped():
                self._garbage.on_dropped(ctx, sender, message)
            case _:
                ctx.log("unexpected-message", peer=sender.address, kind=type(message).__name__)

    def on_timer(self, ctx: Context, token: Token) -> None:
        if self._is_stale:
            return
        if token == _TICK:
            ctx.set_timer(_TICK, self._heartbeat_ns)
            self._on_tick(ctx)
        else:
            self._garbage.collect(ctx, self._at(ctx).served_ns)

    def on_result(self, ctx: Context, token: Token, result: Any) -> None:
        if token == ("marked",):
            self._on_marked(ctx, result)
        if self._is_stale or token == ("marked",):
            return
        if isinstance(result, DSAError):
            result = failure(result)
        if isinstance(result, Exception):
            ctx.log("catalog-failed", job=repr(token), error=f"{type(result).__name__}: {result}")
            ctx.stop(STATUS_CATALOG)
            return
        match token:
            case ("call", serial):
                self._on_call_result(ctx, serial, result)
            case ("register", peer, serial):
                self._on_register_result(ctx, peer, serial, result)
            case ("nodes",):
                self._members.load(result, self._at(ctx).served_ns)
                self._on_loaded(ctx, "nodes")
            case ("staged",):
                self._uploads.adopt(result, self._at(ctx).served_ns)
                self._on_loaded(ctx, "staged")
            case ("garbage", *_):
                self._garbage.on_result(ctx, token, result, self._at(ctx).served_ns)
            case ("health",):
                self._on_counted(ctx, result)
            case ("expire", uploads):
                if isinstance(result, Failure):
                    self._uploads.adopt(uploads, self._at(ctx).served_ns)

    def _on_loaded(self, ctx: Context, what: str) -> None:
        self._loading.discard(what)
        if not self._loading:
            early, self._early = self._early, []
            for sender, message in early:
                self._on_direct(ctx, sender, message)

    def _at(self, ctx: Context) -> Moment:
        return Moment(self._clock.read(ctx.now_ns()), ctx.wall_ns())

    # --- time -----------------------------------------------------------------------------------------------------

    def _on_tick(self, ctx: Context) -> None:
        served_ns = self._at(ctx).served_ns
        if self._clock.missed_ns > self._missed_ns:
            ctx.log("paused", missed_ms=(self._clock.missed_ns - self._missed_ns) // 1_000_000)
            self._missed_ns = self._clock.missed_ns
            self._desk.settling, self._unsettled_ns = True, served_ns  # connections may have broken meanwhile
        ctx.publish(HINT_TOPIC, Hint(self._cluster, self._term, self._master))
        self._log_changes(ctx, served_ns)
        self._garbage.on_tick(ctx, served_ns)
        if expired := self._uploads.expire(served_ns):
            ctx.log("uploads-expired", count=len(expired))
            ctx.run(("expire", tuple(expired)), CATALOG_LANE, ExpireUploads(expired))
        self._settle(ctx)

    def _settle(self, ctx: Context) -> None:
        """Calls that wait for nodes are tried again; for good once all have reported or had time enough."""
        at = self._at(ctx)
        over = at.served_ns >= self._unsettled_ns + max(self._down_ns, LEAST_SETTLE_NS)
        if self._desk.settling and not self._loading and (over or self._members.all_heard(self._unsettled_ns)):
            self._desk.settling = False
            ctx.log("settled", nodes=len(self._members), up=len(self._members.up(at.served_ns)))
        waiting, self._waiting = self._waiting, {}
        for serial, checked in waiting.items():
            call = self._calls.find(serial)
            assert call is not None, "a waiting call is in flight"
            if checked is None:
                self._answer(ctx, call, self._desk.begin(call.operation, at))
            else:
                self._answer(ctx, call, self._desk.complete(call.operation, checked, at), checked)

    def _log_changes(self, ctx: Context, served_ns: int) -> None:
        for change in self._members.look(served_ns):
            ctx.log("node-state", node=change.name, before=change.before, now=change.after)

    # --- clients --------------------------------------------------------------------------------------------------

    def _on_hello(self, ctx: Context, sender: Peer, message: Hello) -> None:
        try:
            check_version(message, "client")
        except DSAError as error:
            ctx.log("client-refused", peer=sender.address, software=message.software[:100], why=error.message)
            ctx.send(sender.address, Refused(message.number, failure(error)))
            return
        hints = str(ctx.endpoint("publish") or "")
        welcome = Welcome(
            message.number, PROTOCOL_VERSION, self._cluster, self._term, "master", self._settings.name, hints
        )
        ctx.send(sender.address, welcome)

    def _on_calls(self, ctx: Context, sender: Peer, message: Calls) -> None:
        at = self._at(ctx)
        group, fresh = self._calls.admit(sender.address, message)
        if not group.waiting and group.answers:
            self._send_answers(ctx, group)
        for call in fresh:
            if isinstance(call.operation, Health):
                self._on_health(ctx, call, at.served_ns)
                continue
            step = self._desk.begin(call.operation, at)
            if step is Next.CATALOG:
                request = Request(call.operation, call.session, call.number, call.done_below, at.wall_ns)
                ctx.run(("call", call.serial), CATALOG_LANE, request)
            else:
                self._answer(ctx, call, step)

    def _on_call_result(self, ctx: Context, serial: int, result: Any) -> None:
        call = self._calls.find(serial)
        assert call is not None, "a call stays in flight until its result is there"
        checked = result if isinstance(result, AllocateChecked) else None
        self._answer(ctx, call, self._desk.complete(call.operation, result, self._at(ctx)), checked)

    def _answer(
        self, ctx: Context, call: CallInFlight, step: Result | Next, checked: AllocateChecked | None = None
    ) -> None:
        """The call's answer is known, or it has to wait for nodes: then its companions do not wait with it."""
        if isinstance(step, Next):
            assert step is Next.WAIT, "the catalog is asked once"
            self._waiting[call.serial] = checked
            self._send_answers(ctx, self._calls.detach(call))
        else:
            self._send_answers(ctx, self._calls.finish(call, step))

    def _send_answers(self, ctx: Context, group: Group | None) -> None:
        if group is not None:
            self._send_some(ctx, group, group.answers)

    def _send_some(self, ctx: Context, group: Group, answers: list[Answer]) -> None:
        """All in one message if they fit, else in halves."""
        try:
            ctx.send(group.peer, Answers(self._term, answers))
        except MessageTooLarge:
            if len(answers) == 1:
                error = Invalid("the answer does not fit into one message", "ask for less at once")
                answers = [Answer(answers[0].number, failure(error))]
                ctx.send(group.peer, Answers(self._term, answers))
                return
            half = len(answers) // 2
            self._send_some(ctx, group, answers[:half])
            self._send_some(ctx, group, answers[half:])

    # --- health ---------------------------------------------------------------------------------------------------

    def _on_health(self, ctx: Context, call: CallInFlight, served_ns: int) -> None:
        if (fresh := self._health.fresh(served_ns)) is not None:
            self._send_answers(ctx, self._calls.finish(call, fresh))
            return
        self._send_answers(ctx, self._calls.detach(call))
        if (job := self._health.ask(call.serial, served_ns)) is not None:
            ctx.run(("health",), CATALOG_LANE, job)

    def _on_counted(self, ctx: Context, result: ChunkCounts | Failure) -> None:
        step = self._health.counted(result, self._at(ctx).served_ns)
        if isinstance(step, CountChunks):
            ctx.run(("health",), CATALOG_LANE, step)
            return
        answer, asking = step
        for serial in asking:
            call = self._calls.find(serial)
            assert call is not None, "who asks for health is in flight"
            self._send_answers(ctx, self._calls.finish(call, answer))

    # --- nodes ----------------------------------------------------------------------------------------------------

    def _on_register(self, ctx: Context, sender: Peer, message: Register) -> None:
        at = self._at(ctx)
        try:
            begun = self._registrar.begin(sender.address, message, at.served_ns, at.wall_ns)
        except StaleMaster as stale:
            self._on_stale(ctx, stale)
            if not self._is_stale:
                self._refuse_node(ctx, sender.address, message, failure(two_masters(stale)))
        except DSAError as error:
            self._refuse_node(ctx, sender.address, message, failure(error))
        else:
            if begun is not None:
                serial, job = begun
                ctx.run(("register", sender.address, serial), CATALOG_LANE, job)

    def _on_stale(self, ctx: Context, stale: StaleMaster) -> None:
        """A node has obeyed another master. That is made durable before we stop: each further start would raise our term,
        in the end above the other's."""
        self._is_stale = stale.seen_term > self._term
        if stale.seen_term > self._marked_term:
            self._marked_term = stale.seen_term
            ctx.log("stale-master", own_term=self._term, seen_term=stale.seen_term, node=stale.node)
            ctx.run(("marked",), CATALOG_LANE, MarkStale(self._term, stale.seen_term, stale.node, ctx.wall_ns()))

    def _on_marked(self, ctx: Context, result: Exception | None) -> None:
        if result is not None:
            ctx.log("stale-mark-failed", error=f"{type(result).__name__}: {result}")
        if self._is_stale:
            ctx.stop(STATUS_STALE)

    def _on_register_result(self, ctx: Context, peer: Any, serial: int, result: NodeRow | Failure) -> None:
        message = self._registrar.finish(peer, serial)
        if message is None:
            return
        if isinstance(result, Failure):
            self._refuse_node(ctx, peer, message, result)
            return
        served_ns = self._at(ctx).served_ns
        if (former := self._members.namesake(result)) is not None:
            why = "shards on the former store are void until its disk returns under this name"
            ctx.log("store-replaced", node=result.name, former=former.row.node, id=result.node, why=why)
        earlier = self._members.register(result, peer, message, served_ns)
        if earlier is not None:
            ctx.send(earlier, Fence(f"start {start_of(result.incarnation)} of this node has registered"))
        self._garbage.forget(result.node)
        ctx.log("node-registered", node=result.name, id=result.node, incarnation=result.incarnation)
        registered = Registered(
            number=message.number,
            cluster=self._cluster,
            node=result.node,
            term=self._term,
            master=self._master,
            key=self._granter.key(result),
            heartbeats=str(ctx.endpoint("subscribe") or ""),
            hints=str(ctx.endpoint("publish") or ""),
            heartbeat_ms=max(1, self._heartbeat_ns // 1_000_000),
        )
        ctx.send(peer, registered)
        self._log_changes(ctx, served_ns)
        self._settle(ctx)

    def _refuse_node(self, ctx: Context, peer: Any, message: Register, why: Failure) -> None:
        ctx.log("node-refused", node=message.name[:100], peer=peer, why=why.message)
        ctx.send(peer, Refused(message.number, why))

    def _on_heartbeat(self, ctx: Context, sender: Peer, message: Heartbeat) -> None:
        if self._members.heartbeat(message, self._at(ctx).served_ns) is Sign.OLDER:
            ctx.log("fencing", node=message.node, incarnation=message.incarnation)
            ctx.send(sender.address, Fence("another process has taken this node's place; a copied directory?"))

    # --- for people and tests -------------------------------------------------------------------------------------

    def statistics(self) -> dict[str, int]:
        """Counts and sizes of everything that is held in memory."""
        return {
            "missed_ms": self._clock.missed_ns // 1_000_000,
            "calls": len(self._calls),
            "calls_refused": self._calls.refused,
            "calls_repeated": self._calls.repeated,
            "calls_waiting": len(self._waiting),
            "nodes": len(self._members),
            "registering": len(self._registrar),
            **self._garbage.statistics(),
            **self._uploads.statistics(),
        }

    def __repr__(self) -> str:
        return f"<MasterActor term={self._term} {self._members!r} {self._calls!r} {self._uploads!r} {self._garbage!r}>"

    def check_invariants(self) -> None:
        for part in (self._calls, self._members, self._uploads, self._garbage, self._health):
            part.check_invariants()
        serials = {call.serial for call in self._calls}
        assert set(self._waiting) <= serials, "who waits for nodes is in flight"
        assert set(self._health) <= serials, "who asks for health is in flight"
        assert self._desk.settling or not self._waiting, "nobody waits for nodes once all had their time"
