"""Whether the nodes' data ports can be reached, and whether the nodes hear us: what heartbeats cannot tell.

A node that registers beside others is doubted until one of them has got a ``Pong`` of its very process from the address
that it advertises. Then each node is tried again every few seconds, by another one each time, so that each is also asked
something each time. Who cannot be reached by several is suspect at once, and so is who never answers us although its
heartbeats come. Reports of clients only make us ask sooner.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from actors.core import Address, Context, Message, Peer
from dsa_zmq.master.department import Department, OnMessage
from dsa_zmq.master.members import NodeState
from dsa_zmq.master.probes import Probes, Question, Verdict
from dsa_zmq.master.settings import LEAST_SETTLE_NS, nanoseconds
from dsa_zmq.protocol.messages import Probe, Probed

if TYPE_CHECKING:
    from dsa_zmq.master.office import Office

ENOUGH = 2  #: probers that failed, or clients that agree with one of them: each alone may be the one that is cut off
BLAMED_NS = 10_000_000_000  #: how long a client's report counts
LEAST_ANSWER_NS = 2_000_000_000  #: for a prober: it waits half a second or a heartbeat interval itself
MAX_BLAMERS = 100  #: clients remembered for a node


class Prober(Department):
    """See the module. Others find it as ``office.prober``."""

    name = "probe"

    def __init__(self, office: Office) -> None:
        super().__init__(office)
        settings = office.settings
        wait_ns = 2 * max(nanoseconds(settings.pace.probe_wait_s), nanoseconds(settings.heartbeat_s))
        self._probes = Probes(max(LEAST_ANSWER_NS, wait_ns))
        self._period_ns = nanoseconds(settings.pace.probe_s)
        self._next_ns = 0  #: when all are tried again
        self._shift = 0  #: by how many places in the list of nodes the prober is away from the probed
        self._unanswered: dict[int, int] = {}  #: by prober: when the first of the questions left that it did not answer
        self._blamed: dict[int, dict[Address, int]] = {}  #: by node: when each client last complained
        self._failures = 0
        office.prober = self
        office.when_registered.append(self._on_registered)

    def messages(self) -> Mapping[type[Message], OnMessage]:
        return {Probed: self._on_probed}

    def doubt(self, node: int, served_ns: int) -> None:
        """It is about to be up: not before another one has reached it, if there is another one."""
        members = self.office.members
        state = members.get(node)
        if state is None or not state.fresh:
            return
        if any(other.row.node != node for other in members.heard(served_ns)):
            members.doubt(node)

    def blame(self, ctx: Context, node: int, client: Address) -> None:
        """A client says that this node is silent. Two others are asked at once."""
        served_ns = self.office.at(ctx).served_ns
        blamers = self._blamed.setdefault(node, {})
        if client in blamers or len(blamers) < MAX_BLAMERS:
            blamers[client] = served_ns
        heard = self.office.members.heard(served_ns)
        self._send(
            ctx,
            [
                question
                for state in heard
                if state.row.node == node
                for question in self._try(state, heard, served_ns, 2)
            ],
        )

    # --- what happens ---------------------------------------------------------------------------------------------

    def _on_registered(self, ctx: Context, node: int) -> None:
        """It is tried now, and so is who was alone until now."""
        served_ns = self.office.at(ctx).served_ns
        registered = self.office.members.get(node)
        if registered is not None and not registered.proved:
            self._unanswered.pop(node, None)
            self._blamed.pop(node, None)
        heard = self.office.members.heard(served_ns)
        unproved = [state for state in heard if not state.proved]
        self._send(ctx, [question for state in unproved for question in self._try(state, heard, served_ns)])

    def _on_probed(self, ctx: Context, sender: Peer, message: Probed) -> None:
        """A prober's word. Only the connection that it registered by is believed."""
        prober = self.office.node_of(sender.address)
        if not prober:
            return
        self._answered(ctx, prober)
        served_ns = self.office.at(ctx).served_ns
        questions, verdict = self._probes.answered(prober, message.number, message.outcomes, served_ns)
        self._send(ctx, questions)
        if verdict is not None:
            self._judge(ctx, verdict, served_ns)
        self.office.look(ctx)

    def on_tick(self, ctx: Context, served_ns: int) -> None:
        members = self.office.members
        self.office.haste.held(served_ns)  # so that a pause is noticed when it ends, whether anybody asks or not
        self._probes.keep_only(members.__contains__)
        questions, verdicts, late = self._probes.expire(served_ns)
        for question in late:
            self._unheard(ctx, question)
        for verdict in verdicts:
            self._judge(ctx, verdict, served_ns)
        self._forgive(served_ns)
        heard = members.heard(served_ns)
        everybody = served_ns >= self._next_ns
        if everybody:
            self._next_ns = served_ns + self._period_ns
            self._shift += 1
        for state in heard:
            if len(heard) == 1 and state.doubted:
                members.trust(state.row.node, proved=False)  # nobody is left who could try
            elif everybody or (state.doubted and not state.reach):
                questions += self._try(state, heard, served_ns)
        self._send(ctx, questions)
        self.office.look(ctx)

    # --- how it goes ----------------------------------------------------------------------------------------------

    def _try(self, state: NodeState, heard: list[NodeState], served_ns: int, at_once: int = 1) -> list[Question]:
        """Find out about one node. The next in the rotation is asked first, then those that are reached themselves."""
        nodes = [other.row.node for other in heard]
        here = nodes.index(state.row.node)
        others = heard[here + 1 :] + heard[:here]
        if not others:
            return []
        turn = self._shift % len(others)
        others = others[turn:] + others[:turn]
        if state.proved:
            others[1:] = sorted(others[1:], key=_is_doubtful)
        else:  # it waits for this, so whoever answers most probably
            others.sort(key=_is_doubtful)
        address = self.office.members.address(state.row.node)
        return self._probes.begin(address, [other.row.node for other in others], served_ns, at_once)

    def _send(self, ctx: Context, questions: Iterable[Question]) -> None:
        for question in questions:
            self.office.tell(ctx, question.prober, Probe(question.number, self.office.term, [question.target]))

    def _judge(self, ctx: Context, verdict: Verdict, served_ns: int) -> None:
        members, node = self.office.members, verdict.target.node
        state = members.get(node)
        if state is None or members.address(node) != verdict.target:
            return  # it is another process now
        if verdict.reached:
            if state.reach:
                ctx.log("node-reached", node=state.row.name)
            self._blamed.pop(node, None)
            members.trust(node)
        elif not verdict.failed:
            if state.doubted and not state.reach:
                members.doubt(node, "no other node could tell yet whether its data port can be reached")
        else:
            self._failures += 1
            enough = max(len(verdict.failed), len(self._blamed.get(node, ()))) >= ENOUGH
            if enough or not state.proved:
                reach = self._in_words(verdict)
                if reach != state.reach:
                    ctx.log("node-out-of-reach", node=state.row.name, why=reach)
                members.doubt(node, reach)

    def _in_words(self, verdict: Verdict) -> str:
        states = [self.office.members.get(prober) for prober in verdict.failed]
        *others, last = sorted(f"'{state.row.name}'" for state in states if state is not None) or ["another node"]
        names = f"{', '.join(others)} and {last}" if others else last
        what = "reached another process" if verdict.other else "got no answer"
        return f"{names} {what} at {verdict.target.address}; see to its host, or to its --advertise"

    def _answered(self, ctx: Context, prober: int) -> None:
        self._unanswered.pop(prober, None)
        state = self.office.members.get(prober)
        if state is not None and state.deaf:
            ctx.log("node-hears", node=state.row.name)
            self.office.members.deafen(prober, False)

    def _unheard(self, ctx: Context, question: Question) -> None:
        """A prober has not answered. If its heartbeats come, and there was time for it to connect anew, then it does not
        hear us, or cannot reply."""
        members, prober = self.office.members, question.prober
        state = members.get(prober)
        if state is None or not members.heard_since(prober, question.sent_ns):
            return
        first_ns = self._unanswered.setdefault(prober, question.sent_ns)
        if question.sent_ns - first_ns >= LEAST_SETTLE_NS and not state.deaf:
            ctx.log("node-deaf", node=state.row.name)
            members.deafen(prober, True)

    def _forgive(self, served_ns: int) -> None:
        """Reports that are too old, and nodes that have gone, are forgotten."""
        members = self.office.members
        for node, blamers in list(self._blamed.items()):
            left = {client: at_ns for client, at_ns in blamers.items() if served_ns - at_ns < BLAMED_NS}
            if left and node in members:
                self._blamed[node] = left
            else:
                del self._blamed[node]
        for node in [node for node in self._unanswered if node not in members]:
            del self._unanswered[node]

    def statistics(self) -> Mapping[str, int]:
        return {"probes": len(self._probes), "probes_failed": self._failures}

    def __repr__(self) -> str:
        return f"<Prober {self._probes!r}>"

    def check_invariants(self) -> None:
        self._probes.check_invariants()
        assert all(len(blamers) <= MAX_BLAMERS for blamers in self._blamed.values())


def _is_doubtful(state: NodeState) -> bool:
    """Whether this one's word is asked for last."""
    return state.doubted or state.deaf
