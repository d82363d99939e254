"""The node: registers with the master, keeps and serves shards, drops what the master wants no more.

A shell over :mod:`dsa_zmq.node.registration`, :mod:`dsa_zmq.node.data_plane` and the departments
(:mod:`dsa_zmq.node.department`), which take what the master wants of it; everything that takes time is a job.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from actors.core import Actor, Address, Channel, Context, Message, Peer, PeerEvent, Token
from dsa_zmq import __version__
from dsa_zmq.errors import ConfigError, Conflict, DSAError, Incompatible, Invalid
from dsa_zmq.model.addresses import endpoint, split_endpoint, with_host
from dsa_zmq.model.inspection import Inspect
from dsa_zmq.model.pace import CarePace
from dsa_zmq.node.authority import Authority
from dsa_zmq.node.data_plane import DataPlane, as_failure
from dsa_zmq.node.department import NodeOffice, OnDelivery, OnOrder, OnRequest
from dsa_zmq.node.departments import open_departments
from dsa_zmq.node.identity import Identity, check_term
from dsa_zmq.node.jobs import CARE, READ, WRITE, GiveBackStart, LookAtStore, Remember, StoreStatus
from dsa_zmq.node.registration import SILENT_HEARTBEATS, Registration, hint_is_news
from dsa_zmq.node.store import Usage
from dsa_zmq.protocol.messages import (
    OLDEST_VERSION,
    PROTOCOL_VERSION,
    ConfirmShards,
    Fence,
    GetShards,
    Heartbeat,
    Hello,
    Hint,
    Ping,
    Pong,
    PutShards,
    Refused,
    Register,
    Registered,
    Welcome,
)
from dsa_zmq.protocol.versions import check_versions
from dsa_zmq.protocol.volumes import AskVolumes, Claim, ReadVolume

HEARTBEAT_TOPIC = "heartbeat"
SECOND = 1_000_000_000
_DATA = (PutShards, GetShards, ConfirmShards)
_OF_A_RESTORE = (Claim, AskVolumes, ReadVolume)  #: orders that may come from one, and are no sign of a master
_UNANSWERED = "start a master there, or correct the address; it is tried again until one answers"


@dataclass(frozen=True, slots=True)
class Profile:
    """What a node tells the master of itself."""

    master: Address  #: its control endpoint
    advertise: Address | None  #: where others reach our data port; None: where it is bound; port 0: the bound one
    zone: str
    host: str
    path: str
    disk: str


class NodeActor(Actor):
    """One node process. ``notes`` are lines for the log from the opening of the store; ``no_codes`` is why shards of erasure
    codes cannot be made here."""

    def __init__(
        self,
        identity: Identity,
        profile: Profile,
        *,
        answer_s: float,
        pending_bytes: int,
        notes: Sequence[str] = (),
        pace: CarePace | None = None,
        no_codes: ConfigError | None = None,
    ) -> None:
        self._profile = profile
        self._notes = list(notes)
        self._registration = Registration(answer_s)
        self._data = DataPlane(pending_bytes)
        unknown = StoreStatus(Usage(0, 0, 0, 0), "")
        self._office = NodeOffice(profile.master, identity, self._data, unknown, pace or CarePace(), no_codes)
        self._departments = open_departments(self._office)
        self._named = {department.name: department for department in self._departments}
        self._orders: dict[type[Message], OnOrder] = {}
        self._deliveries: dict[type[Message], OnDelivery] = {}
        self._requests: dict[type[Message], OnRequest] = {}
        for department in self._departments:
            self._deliveries.update(department.deliveries())
            self._orders.update(department.orders())
            self._requests.update(department.requests())
        self._looking = False
        self._interval_ns = int(answer_s * SECOND)
        self._asked_ns = 0  # when the latest Register left
        self._accepted: tuple[Authority, Registered] | None = None  # while it is being made durable
        self._refusal: DSAError | None = None  # for good; this process is about to end
        self.ignored: Counter[str] = Counter()  #: messages that no peer of ours would send, by kind

    # --- life -----------------------------------------------------------------------------------------------------

    def on_start(self, ctx: Context) -> None:
        for note in self._notes:
            ctx.log("store-note", note=note)
        no_codes = self._office.no_codes
        ctx.log("erasure-codes", usable=no_codes is None, reason=str(no_codes or ""))
        self._look(ctx)

    def on_timer(self, ctx: Context, token: Token) -> None:
        if token == "register":
            self._register(ctx)
        elif token == "heartbeat":
            ctx.set_timer("heartbeat", self._interval_ns)
            self._look(ctx)
            self._beat(ctx)
            if not (self._office.is_current or self._registration.asking):
                self._register(ctx)  # claimed: a real master will answer one day
        elif token == "silence":
            ctx.log("master-silent")
            self._register(ctx)
        else:
            self._named[token[0]].on_timer(ctx, token)

    def on_peer(self, ctx: Context, peer: Address, event: PeerEvent) -> None:
        if peer == self._profile.master and event is PeerEvent.GONE and self._registration.number:
            self._ask_again(ctx, unanswered=False)

    def on_message(self, ctx: Context, sender: Peer, message: Message, payload: Sequence[memoryview]) -> None:
        if isinstance(message, _DATA) and sender.channel is Channel.DIRECT:
            self._data.on_request(ctx, sender.address, message, payload)
            return
        is_master = sender.address == self._profile.master and sender.channel is Channel.DIRECT
        match message:
            case Ping() if sender.channel is Channel.DIRECT:
                node = self._data.authority.node if self._data.authority else 0
                ctx.send(sender.address, Pong(message.number, node, self._office.identity.incarnation))
            case Hello() if sender.channel is Channel.DIRECT:
                self._welcome(ctx, sender.address, message)
            case Registered() if is_master:
                self._on_registered(ctx, message)
            case Refused() if is_master:
                self._on_refused(ctx, message)
            case Fence() if is_master:
                ctx.log("fenced", reason=message.reason)
                ctx.stop(Conflict.exit_status)
            case Hint() if sender.channel is Channel.FEED:
                self._on_hint(ctx, message)
            case _ if is_master and type(message) in self._orders:
                self._mind_term(ctx, message)
                self._orders[type(message)](ctx, message)
            case _ if is_master and type(message) in self._deliveries:
                self._mind_term(ctx, message)
                self._deliveries[type(message)](ctx, message, payload)
            case _ if sender.channel is Channel.DIRECT and type(message) in self._requests:
                self._requests[type(message)](ctx, sender, message, payload)
            case _:
                self.ignored[type(message).__name__] += 1

    def on_call(self, ctx: Context, call: Any) -> None:
        if isinstance(call, Inspect):
            call.tell(self.statistics())

    def on_result(self, ctx: Context, token: Token, result: Any) -> None:
        if isinstance(result, Exception) and not isinstance(result, DSAError):
            raise result  # our bug: end here, and start again from the disk
        match token:
            case int(serial):
                self._data.on_result(ctx, serial, result)
            case "remember":
                self._on_remembered(ctx, result)
            case "give-back":
                self._on_given_back(ctx, result)
            case "look":
                self._on_status(ctx, result)
            case _:
                self._named[token[0]].on_result(ctx, token, result)

    # --- registration ---------------------------------------------------------------------------------------------

    def _register(self, ctx: Context) -> None:
        usage, profile, known = self._office.status.usage, self._profile, self._office.identity
        message = Register(
            number=self._registration.ask(), version=PROTOCOL_VERSION, oldest=OLDEST_VERSION, cluster=known.cluster,
            name=known.name, store_id=known.store_id, incarnation=known.incarnation, address=self._address(ctx),
            zone=profile.zone, host=profile.host, path=profile.path, disk=profile.disk, capacity=usage.capacity,
            used=usage.used, free=usage.free, seen_term=known.seen_term, seen_master=known.seen_master, node=known.node,
            software=f"dsa-zmq {__version__}",
        )  # fmt: skip
        self._asked_ns = ctx.now_ns()
        ctx.send(profile.master, message)
        if tries := self._registration.silence_to_tell():
            ctx.log("master-unanswering", master=profile.master, tries=tries, remedy=_UNANSWERED)
        self._ask_again(ctx, unanswered=True)

    def _ask_again(self, ctx: Context, *, unanswered: bool) -> None:
        ctx.set_timer("register", int(self._registration.pause_s(ctx.random, unanswered=unanswered) * SECOND))

    def _address(self, ctx: Context) -> str:
        bound = ctx.endpoint("listen") or Address("")
        advertised = self._profile.advertise
        if advertised is None:
            return bound
        host, port = split_endpoint(advertised)
        return endpoint(host, port or split_endpoint(bound)[1])

    def _on_registered(self, ctx: Context, message: Registered) -> None:
        if not self._registration.is_answer(message) or self._accepted is not None or self._refusal is not None:
            return
        self._registration.heard()
        self._office.heard_ns = ctx.now_ns()
        known = self._office.identity
        try:
            check_term(known, message.term, message.master)
            if len(message.cluster) != 16 or len(message.master) != 16 or len(message.key) != 32 or message.node <= 0:
                raise Invalid("the master's answer makes no sense")
        except DSAError as error:
            ctx.log("master-not-obeyed", reason=str(error))
            return  # asks again: the right one may answer then
        authority = Authority(
            message.cluster, message.node, known.store_id, known.incarnation, message.term, message.master, message.key
        )
        self._accepted = (authority, message)
        ctx.run("remember", WRITE, Remember(message.term, message.master, message.cluster, message.node))

    def _on_remembered(self, ctx: Context, result: Identity | DSAError) -> None:
        assert self._accepted is not None, "only an accepted master is remembered"
        (authority, message), self._accepted = self._accepted, None
        if isinstance(result, DSAError):
            ctx.log("master-not-obeyed", reason=str(result))
            if isinstance(result, Incompatible):
                ctx.stop(result.exit_status)
            return
        self._office.learn(result)
        if self._office.identity != result:
            ctx.log("master-not-obeyed", reason="this node was claimed meanwhile, for a restore")
            return  # asks again
        self._data.authority, self._data.is_claimed = authority, False
        self._registration.settled()
        ctx.cancel_timer("register")
        self._interval_ns = max(1, message.heartbeat_ms) * 1_000_000
        feeds = [self._reachable(one) for one in (message.heartbeats, message.hints)]
        ctx.join_feed(publish_to=feeds[0], subscribe_to=feeds[1])
        ctx.set_timer("silence", SILENT_HEARTBEATS * self._interval_ns)
        ctx.set_timer("heartbeat", self._interval_ns)
        ctx.log("registered", node=authority.node, term=authority.term, incarnation=self._office.identity.incarnation)
        for department in self._departments:
            department.on_registered(ctx)
        self._beat(ctx)

    def _reachable(self, feed: str) -> Address | None:
        """A wildcard host means: where the control endpoint is."""
        try:
            return Address(with_host(feed, split_endpoint(self._profile.master)[0]))
        except Invalid:
            return None

    def _on_refused(self, ctx: Context, message: Refused) -> None:
        if not self._registration.is_answer(message):
            return
        self._registration.heard()
        error, final = self._registration.refusal(message)
        ctx.log("registration-refused", code=error.code, reason=str(error), final=final)
        if not final:
            self._ask_again(ctx, unanswered=False)
        elif self._data.authority is not None:
            ctx.stop(error.exit_status)
        elif self._refusal is None and self._accepted is None:
            self._refusal = error
            ctx.cancel_timer("register")
            ctx.run("give-back", WRITE, GiveBackStart())

    def _on_given_back(self, ctx: Context, result: DSAError | None) -> None:
        assert self._refusal is not None, "only a refused start is given back"
        if result is not None:
            ctx.log("start-not-given-back", reason=str(result))
        ctx.stop(self._refusal.exit_status)

    def _on_hint(self, ctx: Context, hint: Hint) -> None:
        authority = self._data.authority
        if authority is None:
            return
        if hint.cluster == authority.cluster:
            self._office.heard_ns = ctx.now_ns()
        news = hint_is_news(hint, cluster=authority.cluster, term=authority.term, master=authority.master)
        if news is None:
            self.ignored["Hint"] += 1
            return
        ctx.set_timer("silence", SILENT_HEARTBEATS * self._interval_ns)
        if news and not self._registration.asking:
            ctx.log("another-master", term=hint.term)
            self._register(ctx)

    def _mind_term(self, ctx: Context, order: Message) -> None:
        """A master is alive. If it is a former one it learns that from us, and stops."""
        if isinstance(order, _OF_A_RESTORE):
            return
        self._office.heard_ns = now_ns = ctx.now_ns()
        term = getattr(order, "term", self._office.identity.seen_term)
        if term < self._office.identity.seen_term:
            asked_lately = self._registration.asking and now_ns - self._asked_ns < self._interval_ns
            if not asked_lately:
                ctx.log("former-master", term=term, seen_term=self._office.identity.seen_term)
                self._register(ctx)

    def _welcome(self, ctx: Context, sender: Address, message: Hello) -> None:
        known = self._office.identity
        ours = f"the node {known.name!r}"
        try:
            check_versions(who="the client", version=message.version, oldest=message.oldest, ours=ours)
        except Incompatible as error:
            ctx.send(sender, Refused(message.number, as_failure(error)))
            return
        about = Welcome(message.number, PROTOCOL_VERSION, known.cluster, known.seen_term, "node", known.name)
        ctx.send(sender, about)

    # --- heartbeats -----------------------------------------------------------------------------------------------

    def _look(self, ctx: Context) -> None:
        if not self._looking:
            self._looking = True
            ctx.run("look", CARE, LookAtStore())

    def _on_status(self, ctx: Context, status: StoreStatus) -> None:
        self._looking = False
        failed = status.failure and not self._office.status.failure
        self._office.status = status
        if failed:
            ctx.log("store-failed", reason=status.failure)
        if not self._registration.number:
            self._register(ctx)
        elif failed:
            self._beat(ctx)

    def _beat(self, ctx: Context) -> None:
        authority, usage = self._data.authority, self._office.status.usage
        if authority is None:
            return
        own: dict[str, int] = {}
        for department in self._departments:
            department.on_beat(ctx)
            own.update(department.beat())
        if not self._office.is_current:
            return  # claimed: a former master must not take this node for one of its own
        beat = Heartbeat(
            node=authority.node, incarnation=authority.incarnation, term=authority.term, used=usage.used, free=usage.free,
            shards=usage.shards, pending_bytes=self._data.pending[WRITE], failure=self._office.status.failure, **own,
        )  # fmt: skip
        ctx.publish(HEARTBEAT_TOPIC, beat)

    def statistics(self) -> dict[str, int]:
        """Its space as of the last heartbeat, sizes of what is held in memory, and counts of what was refused."""
        usage = self._office.status.usage
        return {
            "capacity_bytes": usage.capacity,
            "used_bytes": usage.used,
            "free_bytes": usage.free,
            "garbage_bytes": usage.garbage,
            "shards": usage.shards,
            "shards_damaged": usage.damaged,
            "requests": len(self._data),
            "pending_put_bytes": self._data.pending[WRITE],
            "pending_get_bytes": self._data.pending[READ],
            "shards_refused": self._data.refused,
            "messages_ignored": self.ignored.total(),
            **{name: value for department in self._departments for name, value in department.statistics().items()},
        }

    def check_invariants(self) -> None:
        self._data.check_invariants()
        for department in self._departments:
            department.check_invariants()
        authority = self._data.authority
        assert authority is None or authority.term <= self._office.identity.seen_term, "obeyed only what is remembered"
