"""Being claimed by who restores a lost master.

A claim is made durable before it is answered: from then on nobody of a lower term is obeyed, so what the answer says is all
that this node will ever hold of an earlier master. The node goes on asking to be registered; a real master, of a term that
is higher still, will do that one day.

Who only asks is told the same, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actors.core import Context, Message
from dsa_zmq.errors import DSAError, Incompatible, Invalid
from dsa_zmq.model.ids import TERM_BITS
from dsa_zmq.node.data_plane import as_failure
from dsa_zmq.node.department import NodeDepartment, NodeOffice, OnOrder
from dsa_zmq.node.identity import check_claim
from dsa_zmq.node.volume_jobs import COPIES, ClaimTaken, ListVolumes, TakeClaim
from dsa_zmq.protocol.messages import OLDEST_VERSION, PROTOCOL_VERSION, Refused
from dsa_zmq.protocol.volumes import Claim, Claimed, VolumeState

_FIRST_VERSION = 2  #: that knows of claims


class Claims(NodeDepartment):
    """See the module. One claim at a time; who is not answered asks again."""

    name = "claims"

    def __init__(self, office: NodeOffice) -> None:
        super().__init__(office)
        self._now: Claim | None = None  #: under way
        self._taken = 0  #: so far

    def orders(self) -> Mapping[type[Message], OnOrder]:
        return {Claim: self._on_claim}

    def _on_claim(self, ctx: Context, message: Claim) -> None:
        if self._now is not None:
            return
        try:
            self._check(message)
        except DSAError as error:
            self._refuse(ctx, message, error)
            return
        self._now = message
        if message.only_asks:
            ctx.run((self.name, "ask"), COPIES, ListVolumes())
        else:
            self.office.being_claimed = True
            ctx.run((self.name, "take"), COPIES, TakeClaim(message.term, message.master, message.cluster))

    def _check(self, message: Claim) -> None:
        if message.version < max(_FIRST_VERSION, OLDEST_VERSION) or message.oldest > PROTOCOL_VERSION:
            raise Incompatible(
                f"this node speaks protocol {PROTOCOL_VERSION}, the other side {message.version}",
                "upgrade the older one",
            )
        if not 0 < message.term < (1 << TERM_BITS) - 1 or len(message.master) != 16:  # a master has to come after it
            raise Invalid("the claim makes no sense")
        check_claim(self.office.identity, message.term, message.master, message.cluster)

    def on_result(self, ctx: Context, token: tuple[Any, ...], result: Any) -> None:
        message, self._now = self._now, None
        assert message is not None, "an answer is to a claim"
        self.office.being_claimed = False
        if isinstance(result, DSAError):
            self._refuse(ctx, message, result)
            return
        states: list[VolumeState] = result
        if isinstance(result, ClaimTaken):
            states = result.states
            self.office.learn(result.identity)
            self._taken += 1
            ctx.log("claimed", term=message.term, obeyed_term=result.identity.obeyed_term)
        self.office.may_read = True
        self._answer(ctx, message, states)

    def _answer(self, ctx: Context, message: Claim, states: list[VolumeState]) -> None:
        known, heard_ns = self.office.identity, self.office.heard_ns
        heard_ms = -1 if heard_ns is None else (ctx.now_ns() - heard_ns) // 1_000_000
        obeyed = known.obeyed_term or known.seen_term
        claimed = Claimed(message.number, known.node, known.name, known.store_id, obeyed, heard_ms, states)
        self.office.tell_master(ctx, claimed)

    def _refuse(self, ctx: Context, message: Claim, error: DSAError) -> None:
        ctx.log("claim-refused", term=message.term, reason=str(error))
        self.office.tell_master(ctx, Refused(message.number, as_failure(error)))

    def statistics(self) -> Mapping[str, int]:
        return {"claims": self._taken}
