"""What the departments of a master share: who is there, what is under way, and how to speak to nodes and clients.

Soft state of one master process. The actor makes it and owns it; departments use it in their turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from actors.core import Address, Context, Message
from actors.errors import MessageTooLarge
from actors.liveness import ServingClock
from dsa_zmq.errors import Invalid
from dsa_zmq.master.allocation import Allocator
from dsa_zmq.master.calls import CallInFlight, CallTable, Group, failure
from dsa_zmq.master.desk import Desk, Moment
from dsa_zmq.master.grants import Granter
from dsa_zmq.master.haste import Haste
from dsa_zmq.master.members import Change, Members
from dsa_zmq.master.reconciling import Reconciling
from dsa_zmq.master.settings import MasterSettings
from dsa_zmq.master.uploads import Uploads
from dsa_zmq.protocol.messages import Answer, Answers
from dsa_zmq.protocol.operations import MakePlan, Result
from dsa_zmq.protocol.values import Failure, Plan

TellPlan = Callable[[Context, "Plan | Failure"], None]
MakeAPlan = Callable[[Context, MakePlan, TellPlan], None]

if TYPE_CHECKING:  # they are departments over this office
    from dsa_zmq.master.converter import Converter
    from dsa_zmq.master.copies import Copies
    from dsa_zmq.master.examiner import Examiner
    from dsa_zmq.master.garbage import Garbage
    from dsa_zmq.master.mover import Mover
    from dsa_zmq.master.probing import Prober
    from dsa_zmq.master.removals import Removals
    from dsa_zmq.master.scrubs import Scrubs
    from dsa_zmq.master.survey import SurveyDesk


@dataclass(slots=True)
class Office:
    """See the module."""

    settings: MasterSettings
    cluster: bytes
    term: int
    master: bytes  #: 16 random bytes of this process
    clock: ServingClock
    members: Members
    uploads: Uploads
    granter: Granter
    allocator: Allocator
    desk: Desk
    calls: CallTable = field(default_factory=CallTable)
    when_registered: list[Callable[[Context, int], None]] = field(default_factory=list)
    """Called with a node's number when it has registered: as another process, or under this term for the first time."""
    when_changed: list[Callable[[Context, Change], None]] = field(default_factory=list)
    """Called with each change of a node's state, as far as the last look has noticed it."""
    when_places: list[Callable[[Context, Sequence[int]], None]] = field(default_factory=list)
    """Called with chunks whose places are not as they should be, or others than the catalog knew: stored with fewer than
    they are to have, missing, damaged, restored, adopted.
    The survey has something to decide about them."""
    examiner: Examiner = field(init=False)
    removals: Removals = field(init=False)
    scrubs: Scrubs = field(init=False)
    garbage: Garbage = field(init=False)
    survey: SurveyDesk = field(init=False)
    mover: Mover = field(init=False)
    prober: Prober = field(init=False)
    converter: Converter = field(init=False)
    copies: Copies = field(init=False)
    haste: Haste = field(init=False)
    """Whether repair and trims are held: see :mod:`dsa_zmq.master.haste`."""
    reconciling: Reconciling = field(default_factory=lambda: Reconciling(0))
    """What is spared after a restore."""
    plans: dict[str, MakeAPlan] = field(default_factory=dict)
    """By kind of task, who makes its plan: called with the wish and with whom to tell, then or in a later turn."""
    when_begun: dict[str, Callable[[Context], None]] = field(default_factory=dict)
    """By kind of task, who has to know at once that one has begun."""

    def __post_init__(self) -> None:
        self.haste = Haste(self.members, self.settings.pace, lambda: self.clock.missed_ns)

    def at(self, ctx: Context) -> Moment:
        """When this turn takes place."""
        return Moment(self.clock.read(ctx.now_ns()), ctx.wall_ns())

    def spares(self, ctx: Context) -> bool:
        """Whether nothing may be dropped yet, after a restore."""
        at = self.at(ctx)
        return self.reconciling.spares([state.row.node for state in self.members.all_up(at.served_ns)], at.wall_ns)

    def look(self, ctx: Context) -> None:
        """Notice how silence has changed the nodes' states, and say so."""
        served_ns = self.at(ctx).served_ns
        for change in self.members.look(served_ns):
            ctx.log("node-state", node=change.name, before=change.before, now=change.after)
            self.haste.changed(change, served_ns)
            for call in self.when_changed:
                call(ctx, change)

    def registered(self, ctx: Context, node: int) -> None:
        """A node has registered: tell all who want to know."""
        for call in self.when_registered:
            call(ctx, node)

    def places_changed(self, ctx: Context, chunks: Sequence[int]) -> None:
        """The catalog has learnt that these chunks' places are others, or too few: tell all who want to know."""
        for call in self.when_places:
            call(ctx, chunks)

    def tell(self, ctx: Context, node: int, message: Message) -> bool:
        """Send to a node over the connection that it registered by. False if it has none."""
        state = self.members.get(node)
        if state is None or state.peer is None:
            return False
        ctx.send(state.peer, message)
        return True

    def node_of(self, peer: Address) -> int:
        """The node that registered over this connection; 0 if none did: what it says is not to be believed."""
        state = self.members.by_peer(peer)
        return 0 if state is None else state.row.node

    # --- answers to clients ---------------------------------------------------------------------------------------

    def detach(self, ctx: Context, call: CallInFlight) -> None:
        """This call takes longer: its companions do not wait for it."""
        self.send_answers(ctx, self.calls.detach(call))

    def answer(self, ctx: Context, serial: int, result: Result) -> None:
        """The answer to a call in flight is known."""
        call = self.calls.find(serial)
        assert call is not None, "a call stays in flight until its answer is there"
        self.send_answers(ctx, self.calls.finish(call, result))

    def send_answers(self, ctx: Context, group: Group | None) -> None:
        """Send what a group has gathered, if it may leave."""
        if group is not None:
            self._send_some(ctx, group, group.answers)

    def _send_some(self, ctx: Context, group: Group, answers: list[Answer]) -> None:
        """All in one message if they fit, else in halves."""
        try:
            ctx.send(group.peer, Answers(self.term, answers))
        except MessageTooLarge:
            if len(answers) == 1:
                error = Invalid("the answer does not fit into one message", "ask for less at once")
                answers = [Answer(answers[0].number, failure(error))]
                ctx.send(group.peer, Answers(self.term, answers))
                return
            half = len(answers) // 2
            self._send_some(ctx, group, answers[:half])
            self._send_some(ctx, group, answers[half:])
