"""What a client's actor consists of, and how it carries out what its transfers ask for.

Answers of the master and outcomes of tasks go to the transfer or the caller concerned; its effects are carried out in
order, and whatever they cause is worked off in the same turn. At the end of a turn everything that may leave is sent, so
that small shards and operations of one turn travel together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from actors.core import Actor, Context
from dsa_zmq.client import effects as fx
from dsa_zmq.client.budget import Budget
from dsa_zmq.client.calls import (
    Ticket,
)
from dsa_zmq.client.chain import Sleeper, wake_all
from dsa_zmq.client.courier import Courier
from dsa_zmq.client.download import Download
from dsa_zmq.client.jobs import LANE, JoinChunk, SplitChunk, VerifyChunk, check
from dsa_zmq.client.session import Session, Settled
from dsa_zmq.client.settings import ClientSettings
from dsa_zmq.client.slots import Kind, SlotPool, Taken, Turn
from dsa_zmq.client.suspicion import Suspicion
from dsa_zmq.client.tasks import Outcome, Outgoing, Task
from dsa_zmq.client.transfers import Transfer
from dsa_zmq.client.upload import Upload
from dsa_zmq.protocol.messages import Welcome
from dsa_zmq.protocol.operations import AllocatedSlots
from dsa_zmq.protocol.values import Attributes

TICK_NS = 100_000_000  #: a fifth of the hedge delay
INLINE_BYTES = 64 << 10  #: hashed within the turn: some 10 us, less than the way to a worker and back
STALL_NS = 1_000_000_000  #: nothing came from any source or server for so long: see Budget

_TICK = "tick"
_POOL = 0  #: no transfer's owner: answers for the pool of slots


class Carrier(Actor):
    """The turns themselves are in :class:`~dsa_zmq.client.actor.ClientActor`."""

    def __init__(self, settings: ClientSettings, client: bytes, incarnation: int) -> None:
        self._settings = settings
        self._suspicion = Suspicion()
        self._slots = SlotPool(self._suspicion, settings.slots_after)
        self._session = Session(
            settings.hosts,
            client,
            incarnation,
            settings.software,
            request_timeout_ns=int(settings.request_timeout_s * 1e9),
        )
        self._courier = Courier(
            node_credit=settings.node_credit_bytes,
            client_credit=settings.client_credit_bytes,
            dead_ns=int(settings.node_dead_s * 1e9),
            timeout_ns=int(settings.node_timeout_s * 1e9),
            late_ns=int(settings.hedge_s * 1e9),
        )
        self._budget = Budget(settings.buffer_bytes)
        self._progress_timeout = int(settings.progress_timeout_s * 1e9)
        # A transfer's questions may take as long as the transfer may stand still.
        self._ask_timeout = self._progress_timeout
        self._transfers: dict[int, Transfer] = {}
        self._todo: deque[tuple[int, Iterable[fx.Effect]]] = deque()
        self._asleep: list[Sleeper] = []  # whose calls have ended in this turn
        self._ticking = False
        self._moved_ns = 0
        self._active_ns = 0
        self._renewed_ns = 0
        # By type: a look-up instead of up to a dozen comparisons, several times in every turn.
        self._carry_out: dict[type, Callable[[Context, int, Any, int], None]] = {
            fx.Ask: self._ask,
            fx.Begin: self._begin,
            fx.Carry: self._carry,
            fx.Deliver: self._deliver,
            fx.Described: self._described,
            fx.Doubt: self._doubt,
            fx.Encode: self._encode,
            fx.Finish: self._finish,
            fx.Forget: self._forget,
            fx.Join: self._join,
            fx.Know: self._know,
            fx.Progress: self._progress,
            fx.Release: self._release,
            fx.Reserve: self._reserve,
            fx.Verify: self._verify,
            fx.Want: self._want,
        }

    # --- routing -----------------------------------------------------------------------------------------------------

    def _settle(self, settled: list[Settled], now_ns: int) -> None:
        """Answers of the master go to the transfer or the caller that asked."""
        self._active_ns = now_ns
        for token, result in settled:
            if token is None:
                continue
            if isinstance(token, tuple):
                owner, tag = token
                if owner == _POOL:
                    self._on_slots(tag, result, now_ns)
                    continue
                transfer = self._transfers.get(owner)
                if transfer is not None and not isinstance(result, Welcome):
                    self._todo.append((owner, transfer.machine.answered(tag, result, now_ns)))
            else:
                self._end(token, result)

    def _end(self, ticket: Ticket, result: Any) -> None:
        """A caller's call has ended."""
        sleeper = ticket.finish(result)
        if sleeper is not None:
            self._asleep.append(sleeper)

    def _on_slots(self, kind: Kind, result: Any, now_ns: int) -> None:
        """A block of slots has come, or there is none: who waited for it goes on, or asks for itself."""
        if isinstance(result, AllocatedSlots):
            self._route(self._courier.know(result.nodes), now_ns)
        for owner, begin, taken in self._slots.arrived(kind, result, self._epoch(), now_ns):
            self._place(owner, begin, Turn.ASK if taken is None else taken, now_ns)

    def _epoch(self) -> tuple[int, int]:
        return self._session.term, self._session.session

    def _place(self, owner: int, begin: fx.Begin, found: Taken | Turn, now_ns: int) -> None:
        """A small file has a slot, or asks for a place of its own; or one is on its way."""
        if isinstance(found, Taken):
            upload = self._transfers[owner].machine
            assert isinstance(upload, Upload)
            self._todo.append((owner, upload.slotted(found, now_ns)))
        elif found is Turn.ASK:
            self._session.submit(begin.operation, (owner, begin.tag), now_ns, self._ask_timeout)

    def _route(self, outcomes: list[Outcome], now_ns: int) -> None:
        """Outcomes of tasks go to their transfers; what they tell of the node is remembered."""
        for outcome in outcomes:
            task = outcome.task
            transfer = self._transfers.get(task.owner)
            if outcome.late:
                self._suspicion.accuse(task.node, now_ns)
            else:
                if transfer is not None:
                    transfer.carried -= 1
                if outcome.failure is None:
                    self._moved_ns = self._active_ns = now_ns
                    self._suspicion.acquit(task.node)
                elif outcome.failure.code in ("unavailable", "timeout"):
                    self._suspicion.accuse(task.node, now_ns)
            if transfer is not None:
                self._todo.append((task.owner, transfer.machine.outcome(outcome, now_ns)))
            elif outcome.data is not None:
                self._courier.release(task)

    def _verified(self, owner: int, task: Task, data: memoryview | bytes, result: Any, now_ns: int) -> None:
        """These bytes were checked, and written if they are for a file: they are done with."""
        self._courier.release(task)
        transfer = self._transfers.get(owner)
        if transfer is not None:
            assert isinstance(transfer.machine, Download)
            self._todo.append((owner, transfer.machine.verified(task, data, result, now_ns)))

    # --- effects -----------------------------------------------------------------------------------------------------

    def _finish_turn(self, ctx: Context, now_ns: int) -> None:
        if self._todo or self._budget.waiting:
            self._work(ctx, now_ns)
        for kind, operation in self._slots.questions():
            self._session.submit(operation, kind and (_POOL, kind), now_ns)
        for address, message in self._session.flush(now_ns):
            ctx.send(address, message)
        for outgoing in self._courier.flush(now_ns):
            self._send(ctx, outgoing)
        if not self._ticking and (self._transfers or self._session.busy or self._courier.busy or self._slots.held):
            self._ticking = True
            ctx.set_timer(_TICK, TICK_NS)
        if self._asleep:
            wake_all(self._asleep)
            self._asleep = []

    def _send(self, ctx: Context, outgoing: Outgoing) -> None:
        if outgoing.message is None:
            ctx.disconnect(outgoing.address)
        else:
            ctx.send(outgoing.address, outgoing.message, outgoing.payload)

    def _work(self, ctx: Context, now_ns: int) -> None:
        """Carry out what the machines asked for, in order, until nothing is left."""
        todo, carry_out = self._todo, self._carry_out
        while True:
            while todo:
                owner, effects = todo.popleft()
                for effect in effects:
                    carry_out[type(effect)](ctx, owner, effect, now_ns)
            if not self._budget.waiting or not self._grant_room(now_ns):
                return

    def _ask(self, ctx: Context, owner: int, effect: fx.Ask, now_ns: int) -> None:
        self._session.submit(effect.operation, effect.tag and (owner, effect.tag), now_ns, self._ask_timeout)

    def _release(self, ctx: Context, owner: int, effect: fx.Release, now_ns: int) -> None:
        self._courier.release(effect.task)

    def _carry(self, ctx: Context, owner: int, effect: fx.Carry, now_ns: int) -> None:
        transfer = self._transfers.get(owner)
        if transfer is not None:
            transfer.carried += 1
            self._courier.submit(effect.task)

    def _know(self, ctx: Context, owner: int, effect: fx.Know, now_ns: int) -> None:
        if lost := self._courier.know(effect.nodes):
            self._route(lost, now_ns)

    def _finish(self, ctx: Context, owner: int, effect: fx.Finish, now_ns: int) -> None:
        transfer = self._transfers.pop(owner, None)
        if transfer is not None:
            if transfer.carried:
                self._courier.cancel(owner)
            self._budget.leave(owner)
            self._slots.cancel(owner)
            machine, result = transfer.machine, effect.result
            if isinstance(machine, Upload) and isinstance(result, Attributes) and not machine.target.redundancy:
                self._slots.inherited.learn(machine.target.path, machine.redundancy, result.size, result.chunk_bytes)
            self._end(transfer.ticket, result)

    def _begin(self, ctx: Context, owner: int, effect: fx.Begin, now_ns: int) -> None:
        if owner in self._transfers:
            self._place(owner, effect, self._slots.take(owner, effect, self._epoch(), now_ns), now_ns)

    def _doubt(self, ctx: Context, owner: int, effect: fx.Doubt, now_ns: int) -> None:
        self._slots.inherited.doubt(effect.path)

    def _deliver(self, ctx: Context, owner: int, effect: fx.Deliver, now_ns: int) -> None:
        if (transfer := self._transfers.get(owner)) is not None:
            transfer.ticket.deliver(effect.data)

    def _progress(self, ctx: Context, owner: int, effect: fx.Progress, now_ns: int) -> None:
        if (transfer := self._transfers.get(owner)) is not None:
            transfer.ticket.progress(effect.size)

    def _described(self, ctx: Context, owner: int, effect: fx.Described, now_ns: int) -> None:
        if (transfer := self._transfers.get(owner)) is not None:
            transfer.ticket.described(effect.attributes)

    def _reserve(self, ctx: Context, owner: int, effect: fx.Reserve, now_ns: int) -> None:
        if owner in self._transfers:
            self._budget.ask(owner, effect.size)

    def _forget(self, ctx: Context, owner: int, effect: fx.Forget, now_ns: int) -> None:
        self._budget.give(owner, effect.size)

    def _verify(self, ctx: Context, owner: int, effect: fx.Verify, now_ns: int) -> None:
        transfer = self._transfers.get(owner)
        file = transfer.file if transfer is not None and effect.offset >= 0 else None
        if file is None and len(effect.data) <= INLINE_BYTES:
            self._verified(owner, effect.task, effect.data, check(effect.data, effect.hash), now_ns)
        else:
            job = VerifyChunk(effect.data, effect.hash, file, effect.offset)
            ctx.run(("verify", owner, effect.task, effect.data), LANE, job)

    def _encode(self, ctx: Context, owner: int, effect: fx.Encode, now_ns: int) -> None:
        job = SplitChunk(effect.data, effect.hash, effect.redundancy)
        ctx.run(("code", owner, effect.tag, None), LANE, job)

    def _join(self, ctx: Context, owner: int, effect: fx.Join, now_ns: int) -> None:
        if (transfer := self._transfers.get(owner)) is None:
            return
        file = transfer.file if effect.offset >= 0 else None
        job = JoinChunk(effect.shards, effect.redundancy, effect.length, effect.hash, file, effect.offset)
        ctx.run(("code", owner, effect.tag, None), LANE, job)

    def _want(self, ctx: Context, owner: int, effect: fx.Want, now_ns: int) -> None:
        if (transfer := self._transfers.get(owner)) is not None:
            transfer.want(ctx, owner, effect)

    def _grant_room(self, now_ns: int) -> bool:
        """Serve who waits for room in the budget; True if somebody was served."""
        served = self._budget.grant(stalled=now_ns - self._active_ns >= STALL_NS)
        for owner in served:
            machine = self._transfers[owner].machine
            assert isinstance(machine, Upload)
            self._todo.append((owner, machine.reserved(now_ns)))
        return bool(served)
