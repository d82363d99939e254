"""Who comes to the master: nodes that register and beat, clients that say hello, and news of another master."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actors.core import Address, Context, Message, Peer
from actors.liveness import Sign
from dsa_zmq.errors import DSAError
from dsa_zmq.master.calls import failure
from dsa_zmq.master.catalog.jobs import MarkStale, NodeRow
from dsa_zmq.master.department import CATALOG_LANE, Department, OnMessage
from dsa_zmq.master.office import Office
from dsa_zmq.master.registration import Registrar, StaleMaster, two_masters
from dsa_zmq.master.settings import nanoseconds
from dsa_zmq.model.ids import start_of
from dsa_zmq.protocol.messages import (
    PROTOCOL_VERSION,
    Fence,
    Heartbeat,
    Hello,
    Refused,
    Register,
    Registered,
    Welcome,
)
from dsa_zmq.protocol.values import Failure
from dsa_zmq.protocol.versions import check_versions

STATUS_STALE = 4  #: another master of a higher term exists: starting again would not help
MARKED = ("reception", "marked")
"""Token of the job that marks the catalog as stale. Its result may be an error of the disk, which ends nothing by itself."""


class Reception(Department):
    """See the module."""

    name = "reception"

    def __init__(self, office: Office) -> None:
        super().__init__(office)
        self._members = office.members
        self._registrar = Registrar(office.cluster, office.term, office.master, office.members)
        self._marked_term = 0  #: the highest of another master that our catalog was marked with
        self.is_stale = False  #: a higher one was: nothing more is done but to end

    def messages(self) -> Mapping[type[Message], OnMessage]:
        return {Hello: self._on_hello, Register: self._on_register}

    def _on_hello(self, ctx: Context, sender: Peer, message: Hello) -> None:
        office = self.office
        try:
            check_versions(who="the client", version=message.version, oldest=message.oldest, ours="the master")
        except DSAError as error:
            ctx.log("client-refused", peer=sender.address, software=message.software[:100], why=error.message)
            ctx.send(sender.address, Refused(message.number, failure(error)))
            return
        hints = str(ctx.endpoint("publish") or "")
        welcome = Welcome(
            message.number, PROTOCOL_VERSION, office.cluster, office.term, "master", office.settings.name, hints
        )
        ctx.send(sender.address, welcome)

    # --- registration ---------------------------------------------------------------------------------------------

    def _on_register(self, ctx: Context, sender: Peer, message: Register) -> None:
        at = self.office.at(ctx)
        try:
            begun = self._registrar.begin(sender.address, message, at.served_ns, at.wall_ns)
        except StaleMaster as stale:
            self._on_stale(ctx, stale)
            if not self.is_stale:
                self._refuse(ctx, sender.address, message, failure(two_masters(stale)))
        except DSAError as error:
            self._refuse(ctx, sender.address, message, failure(error))
        else:
            if begun is not None:
                serial, job = begun
                ctx.run((self.name, "register", sender.address, serial), CATALOG_LANE, job)

    def on_result(self, ctx: Context, token: tuple[Any, ...], result: NodeRow | Failure) -> None:
        _, _, peer, serial = token
        message = self._registrar.finish(peer, serial)
        if message is None:
            return
        if isinstance(result, Failure):
            self._refuse(ctx, peer, message, result)
            return
        office, served_ns = self.office, self.office.at(ctx).served_ns
        if (former := self._members.namesake(result)) is not None:
            why = "shards on the former store are void until its disk returns under this name"
            ctx.log("store-replaced", node=result.name, former=former.row.node, id=result.node, why=why)
        earlier = self._members.register(result, peer, message, served_ns)
        office.prober.doubt(result.node, served_ns)
        if earlier is not None:
            ctx.send(earlier, Fence(f"start {start_of(result.incarnation)} of this node has registered"))
        ctx.log("node-registered", node=result.name, id=result.node, incarnation=result.incarnation)
        registered = Registered(
            number=message.number,
            cluster=office.cluster,
            node=result.node,
            term=office.term,
            master=office.master,
            key=office.granter.key(result),
            heartbeats=str(ctx.endpoint("subscribe") or ""),
            hints=str(ctx.endpoint("publish") or ""),
            heartbeat_ms=max(1, nanoseconds(office.settings.heartbeat_s) // 1_000_000),
        )
        ctx.send(peer, registered)
        office.look(ctx)
        office.registered(ctx, result.node)

    def _refuse(self, ctx: Context, peer: Address, message: Register, why: Failure) -> None:
        ctx.log("node-refused", node=message.name[:100], peer=peer, why=why.message)
        ctx.send(peer, Refused(message.number, why))

    # --- news -----------------------------------------------------------------------------------------------------

    def on_heartbeat(self, ctx: Context, sender: Peer, message: Heartbeat) -> None:
        """A node is alive, or another process than the node's present one is."""
        sign = self._members.heartbeat(message, self.office.at(ctx).served_ns)
        if sign is Sign.CURRENT:
            self.office.copies.heard(ctx, message.term)
        elif sign is Sign.OLDER:
            ctx.log("fencing", node=message.node, incarnation=message.incarnation)
            ctx.send(sender.address, Fence("another process has taken this node's place; a copied directory?"))

    def _on_stale(self, ctx: Context, stale: StaleMaster) -> None:
        """A node has obeyed another master. That is made durable before we stop: each further start would raise our term,
        in the end above the other's."""
        own_term = self.office.term
        self.is_stale = stale.seen_term > own_term
        if stale.seen_term > self._marked_term:
            self._marked_term = stale.seen_term
            ctx.log("stale-master", own_term=own_term, seen_term=stale.seen_term, node=stale.node)
            ctx.run(MARKED, CATALOG_LANE, MarkStale(own_term, stale.seen_term, stale.node, ctx.wall_ns()))

    def on_marked(self, ctx: Context, result: Exception | None) -> None:
        """The mark is durable, or cannot be."""
        if result is not None:
            ctx.log("stale-mark-failed", error=f"{type(result).__name__}: {result}")
        if self.is_stale:
            ctx.stop(STATUS_STALE)

    def statistics(self) -> Mapping[str, int]:
        return {"registering": len(self._registrar)}
