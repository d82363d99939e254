"""The client's actor: drives uploads, downloads and single operations over one session and one courier.

Calls, answers of the master, answers of nodes, results of jobs and time each go to the machine concerned; its effects are
carried out in order, and whatever they cause is worked off in the same turn. At the end of a turn everything that may
leave is sent, so that small shards and operations of one turn travel together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from actors.core import Actor, Address, Context, Message, Peer, PeerEvent, Token
from dsa_zmq.client import effects as fx
from dsa_zmq.client.budget import Budget
from dsa_zmq.client.calls import (
    AskMaster,
    Attach,
    Cancel,
    Connect,
    Consumed,
    StartDownload,
    StartUpload,
    Supply,
    Whole,
)
from dsa_zmq.client.courier import Courier
from dsa_zmq.client.download import Download
from dsa_zmq.client.jobs import LANE, VerifyChunk, check
from dsa_zmq.client.local_file import LocalFile
from dsa_zmq.client.session import Session, Settled
from dsa_zmq.client.settings import ClientSettings
from dsa_zmq.client.slots import Kind, SlotPool, Taken, Turn
from dsa_zmq.client.suspicion import Suspicion
from dsa_zmq.client.tasks import Outcome, Outgoing, Task
from dsa_zmq.client.transfers import Transfer
from dsa_zmq.client.upload import Upload
from dsa_zmq.errors import DSAError, InternalError, Unavailable
from dsa_zmq.model import limits
from dsa_zmq.protocol.messages import Answers, Call, Calls, Pong, PutDone, Refused, ShardData, Welcome
from dsa_zmq.protocol.operations import AllocatedSlots, CloseSession, Operation, Renew
from dsa_zmq.protocol.values import Attributes

TICK_NS = 100_000_000  #: a fifth of the hedge delay
INLINE_BYTES = 64 << 10  #: hashed within the turn: some 10 us, less than the way to a worker and back
STALL_NS = 1_000_000_000  #: nothing came from any source or server for so long: see Budget
RENEW_AT_ONCE = 1000  #: uploads in one renewal

_TICK = "tick"
_POOL = 0  #: no transfer's owner: answers for the pool of slots


class ClientActor(Actor):
    """See the module. State is bounded: transfers by their callers, bytes by budget, credit and windows."""

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
        self._ticking = False
        self._moved_ns = 0
        self._active_ns = 0
        self._renewed_ns = 0

    def __repr__(self) -> str:
        return f"ClientActor({self._session!r}, {self._courier!r}, {len(self._transfers)} transfers)"

    @property
    def held_bytes(self) -> int:
        """Bytes of content that uploads hold."""
        machines = (transfer.machine for transfer in self._transfers.values())
        return sum(machine.held_bytes for machine in machines if isinstance(machine, Upload))

    @property
    def credit_out(self) -> int:
        """Bytes on their way between this client and nodes, or being checked."""
        return self._courier.credit_out

    # --- turns -------------------------------------------------------------------------------------------------------

    def on_call(self, ctx: Context, call: Any) -> None:
        now_ns = ctx.now_ns()
        if isinstance(call, AskMaster):
            self._slots.inherited.follow(call.operation)
            self._session.submit(call.operation, call.ticket, now_ns, call.timeout_ns)
        elif isinstance(call, StartUpload):
            self._start_upload(call, now_ns)
        elif isinstance(call, StartDownload):
            download = Download(call.owner, call.wanted, self._suspicion, self._courier.name, self._progress_timeout)
            self._transfers[call.owner] = Transfer(download, call.ticket)
            self._todo.append((call.owner, download.start(now_ns)))
        elif isinstance(call, Connect):
            self._settle(self._session.connect(call.ticket, now_ns, call.timeout_ns), now_ns)
        else:
            self._continue(call, now_ns)
        self._finish_turn(ctx, now_ns)

    def _start_upload(self, call: StartUpload, now_ns: int) -> None:
        upload = Upload(call.owner, call.target, self._suspicion, self._courier.name, self._progress_timeout)
        source = call.source
        self._transfers[call.owner] = Transfer(upload, call.ticket, source if isinstance(source, LocalFile) else None)
        if isinstance(source, Whole):
            self._todo.append((call.owner, upload.start_whole(source.hash, source.data, now_ns)))
        else:
            self._todo.append((call.owner, upload.start(now_ns)))

    def _continue(self, call: Supply | Attach | Consumed | Cancel, now_ns: int) -> None:
        """A call about a transfer that may have ended meanwhile."""
        transfer = self._transfers.get(call.owner)
        if transfer is None:
            return
        machine = transfer.machine
        if isinstance(call, Supply) and isinstance(machine, Upload):
            self._active_ns = now_ns
            self._todo.append((call.owner, machine.chunk(call.index, call.hash, call.data, call.last, now_ns)))
        elif isinstance(call, Consumed) and isinstance(machine, Download):
            self._todo.append((call.owner, machine.consumed(call.size, now_ns)))
        elif isinstance(call, Attach) and isinstance(machine, Download):
            transfer.file = call.file
            self._todo.append((call.owner, machine.attached(now_ns)))
        elif isinstance(call, Cancel):
            self._todo.append((call.owner, machine.fail(call.error or DSAError("given up by the caller"))))

    def on_message(self, ctx: Context, sender: Peer, message: Message, payload: Sequence[memoryview]) -> None:
        now_ns = ctx.now_ns()
        if isinstance(message, PutDone):
            self._route(self._courier.put_done(message, now_ns), now_ns)
        elif isinstance(message, ShardData):
            self._route(self._courier.shard_data(message, payload, now_ns), now_ns)
        elif isinstance(message, Pong):
            outcomes, again = self._courier.pong(message, now_ns)
            for outgoing in again:
                self._send(ctx, outgoing)
            self._route(outcomes, now_ns)
        elif sender.address == self._session.host:
            if isinstance(message, Answers):
                self._settle(self._session.answers(message, now_ns), now_ns)
            elif isinstance(message, Welcome):
                self._settle(self._session.welcomed(message, now_ns), now_ns)
            elif isinstance(message, Refused):
                self._settle(self._session.refused(message), now_ns)
        self._finish_turn(ctx, now_ns)

    def on_result(self, ctx: Context, token: Token, result: Any) -> None:
        now_ns = ctx.now_ns()
        if isinstance(result, BaseException) and not isinstance(result, DSAError):
            result = InternalError(f"a worker failed: {type(result).__name__}: {result}")
        kind, owner, detail, data = token
        transfer = self._transfers.get(owner)
        if kind == "read":
            if transfer is not None:
                transfer.read_ended()
                self._active_ns = now_ns
                self._on_read(ctx, owner, transfer, detail, result, now_ns)
        elif transfer is None:
            self._courier.release(detail)
        else:
            self._on_verified(owner, transfer, detail, data, result, now_ns)
        self._finish_turn(ctx, now_ns)

    def on_timer(self, ctx: Context, token: Token) -> None:
        now_ns = ctx.now_ns()
        self._ticking = False
        messages, settled = self._session.tick(now_ns)
        for address, message in messages:
            ctx.send(address, message)
        self._settle(settled, now_ns)
        outcomes, sends = self._courier.tick(now_ns)
        for outgoing in sends:
            self._send(ctx, outgoing)
        self._route(outcomes, now_ns)
        for owner, transfer in list(self._transfers.items()):
            self._todo.append((owner, transfer.machine.tick(now_ns, self._moved_ns)))
        self._renew_leases(now_ns)
        self._slots.tick(now_ns)
        self._finish_turn(ctx, now_ns)

    def on_peer(self, ctx: Context, peer: Address, event: PeerEvent) -> None:
        now_ns = ctx.now_ns()
        if peer == self._session.host:
            self._session.lost(now_ns)
        else:
            self._route(self._courier.lost(peer), now_ns)
        self._finish_turn(ctx, now_ns)

    def on_stop(self, ctx: Context) -> None:
        """Everybody who waits hears it; the master may forget the session."""
        closed = Unavailable("the connection was closed")
        for transfer in self._transfers.values():
            transfer.ticket.finish(closed)
        self._transfers.clear()
        for token, result in self._session.fail_all(closed):
            if not isinstance(token, tuple):
                token.finish(result)
        self._slots.clear()
        last: list[Operation] = [operation for _, operation in self._slots.questions()]
        if self._session.session:
            last.append(CloseSession(self._session.session))
        if last:
            ctx.send(self._session.host, Calls(0, 0, [Call(*numbered) for numbered in enumerate(last)]))

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
                token.finish(result)

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
            if outcome.late:
                self._suspicion.accuse(task.node, now_ns)
            elif outcome.failure is None:
                self._moved_ns = self._active_ns = now_ns
                self._suspicion.acquit(task.node)
            elif outcome.failure.code in ("unavailable", "timeout"):
                self._suspicion.accuse(task.node, now_ns)
            transfer = self._transfers.get(task.owner)
            if transfer is not None:
                self._todo.append((task.owner, transfer.machine.outcome(outcome, now_ns)))
            elif outcome.data is not None:
                self._courier.release(task)

    def _on_read(self, ctx: Context, owner: int, transfer: Transfer, first: int, result: Any, now_ns: int) -> None:
        upload = transfer.machine
        assert isinstance(upload, Upload)
        if isinstance(result, DSAError):
            self._todo.append((owner, upload.fail(result)))
            return
        for index, (hash_, data) in enumerate(result, first):
            self._todo.append((owner, upload.chunk(index, hash_, data, False, now_ns)))
        transfer.was_read(ctx, owner)

    def _on_verified(
        self, owner: int, transfer: Transfer, task: Task, data: memoryview | bytes, result: Any, now_ns: int
    ) -> None:
        download = transfer.machine
        assert isinstance(download, Download)
        self._todo.append((owner, download.verified(task, data, result, now_ns)))

    # --- effects -----------------------------------------------------------------------------------------------------

    def _finish_turn(self, ctx: Context, now_ns: int) -> None:
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

    def _send(self, ctx: Context, outgoing: Outgoing) -> None:
        if outgoing.message is None:
            ctx.disconnect(outgoing.address)
        else:
            ctx.send(outgoing.address, outgoing.message, outgoing.payload)

    def _work(self, ctx: Context, now_ns: int) -> None:
        """Carry out what the machines asked for, in order, until nothing is left."""
        todo = self._todo
        while True:
            while todo:
                owner, effects = todo.popleft()
                for effect in effects:
                    self._apply(ctx, owner, effect, now_ns)
            if not self._budget.waiting or not self._grant_room(now_ns):
                return

    def _apply(self, ctx: Context, owner: int, effect: fx.Effect, now_ns: int) -> None:
        transfer = self._transfers.get(owner)
        if isinstance(effect, fx.Release):
            self._courier.release(effect.task)
        elif isinstance(effect, fx.Ask):
            self._session.submit(effect.operation, effect.tag and (owner, effect.tag), now_ns, self._ask_timeout)
        elif transfer is None:
            return
        elif isinstance(effect, fx.Carry):
            self._courier.submit(effect.task)
        elif isinstance(effect, fx.Know):
            self._route(self._courier.know(effect.nodes), now_ns)
        elif isinstance(effect, fx.Finish):
            self._finish(owner, transfer, effect.result)
        elif isinstance(effect, fx.Begin):
            self._place(owner, effect, self._slots.take(owner, effect, self._epoch(), now_ns), now_ns)
        elif isinstance(effect, fx.Doubt):
            self._slots.inherited.doubt(effect.path)
        elif isinstance(effect, fx.Verify):
            self._verify(ctx, owner, transfer, effect, now_ns)
        elif isinstance(effect, fx.Deliver):
            transfer.ticket.deliver(effect.data)
        elif isinstance(effect, fx.Progress):
            transfer.ticket.progress(effect.size)
        elif isinstance(effect, fx.Reserve):
            self._budget.ask(owner, effect.size)
        elif isinstance(effect, fx.Forget):
            self._budget.give(owner, effect.size)
        elif isinstance(effect, fx.Want):
            transfer.want(ctx, owner, effect)
        elif isinstance(effect, fx.Described):
            transfer.ticket.described(effect.attributes)

    def _verify(self, ctx: Context, owner: int, transfer: Transfer, effect: fx.Verify, now_ns: int) -> None:
        file = transfer.file if effect.offset >= 0 else None
        if file is None and len(effect.data) <= INLINE_BYTES:
            self._on_verified(owner, transfer, effect.task, effect.data, check(effect.data, effect.hash), now_ns)
        else:
            job = VerifyChunk(effect.data, effect.hash, file, effect.offset)
            ctx.run(("verify", owner, effect.task, effect.data), LANE, job)

    def _grant_room(self, now_ns: int) -> bool:
        """Serve who waits for room in the budget; True if somebody was served."""
        served = self._budget.grant(stalled=now_ns - self._active_ns >= STALL_NS)
        for owner in served:
            machine = self._transfers[owner].machine
            assert isinstance(machine, Upload)
            self._todo.append((owner, machine.reserved(now_ns)))
        return bool(served)

    def _finish(self, owner: int, transfer: Transfer, result: Attributes | DSAError) -> None:
        del self._transfers[owner]
        self._courier.cancel(owner)
        self._budget.leave(owner)
        self._slots.cancel(owner)
        machine = transfer.machine
        if isinstance(machine, Upload) and isinstance(result, Attributes) and not machine.target.redundancy:
            self._slots.inherited.learn(machine.target.path, result.redundancy)
        transfer.ticket.finish(result)

    def _renew_leases(self, now_ns: int) -> None:
        """Uploads that go on keep their lease at the master."""
        if now_ns - self._renewed_ns < limits.UPLOAD_RENEW_S * 1_000_000_000:
            return
        self._renewed_ns = now_ns
        machines = [transfer.machine for transfer in self._transfers.values()]
        uploads = [machine.upload for machine in machines if isinstance(machine, Upload) and machine.upload]
        for first in range(0, len(uploads), RENEW_AT_ONCE):
            self._session.submit(Renew(uploads[first : first + RENEW_AT_ONCE]), None, now_ns)

    def check_invariants(self) -> None:
        self._courier.check()
        self._slots.check()
        assert not self._todo, "effects are left over from a turn"
        assert not any(transfer.machine.ended for transfer in self._transfers.values())
