"""The client's actor: drives uploads, downloads and single operations over one session and one courier.

Calls, answers of the master, answers of nodes, results of jobs and time each go to the machine concerned; its effects are
carried out in order, and whatever they cause is worked off in the same turn. At the end of a turn everything that may
leave is sent, so that small shards and operations of one turn travel together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
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
    Ticket,
    Whole,
)
from dsa_zmq.client.chain import Sleeper, wake_all
from dsa_zmq.client.courier import Courier
from dsa_zmq.client.download import Download
from dsa_zmq.client.jobs import LANE, VerifyChunk, check
from dsa_zmq.client.local_file import LocalFile
from dsa_zmq.client.session import Session, Settled
from dsa_zmq.client.settings import ClientSettings
from dsa_zmq.client.suspicion import Suspicion
from dsa_zmq.client.tasks import Outcome, Outgoing, Task
from dsa_zmq.client.transfers import Transfer
from dsa_zmq.client.upload import Upload
from dsa_zmq.errors import DSAError, InternalError, Unavailable
from dsa_zmq.model import limits
from dsa_zmq.protocol.messages import Answers, Call, Calls, Pong, PutDone, Refused, ShardData, Welcome
from dsa_zmq.protocol.operations import CloseSession, Renew

TICK_NS = 100_000_000  #: a fifth of the hedge delay
INLINE_BYTES = 64 << 10  #: hashed within the turn: some 10 us, less than the way to a worker and back
STALL_NS = 1_000_000_000  #: nothing came from any source or server for so long: see Budget
RENEW_AT_ONCE = 1000  #: uploads in one renewal

_TICK = "tick"


class ClientActor(Actor):
    """See the module. State is bounded: transfers by their callers, bytes by budget, credit and windows."""

    def __init__(self, settings: ClientSettings, client: bytes, incarnation: int) -> None:
        self._settings = settings
        self._suspicion = Suspicion()
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
        self._ask_timeout = (
            self._progress_timeout
        )  # a transfer's questions may take as long as the transfer may stand still
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
            fx.Carry: self._carry,
            fx.Deliver: self._deliver,
            fx.Described: self._described,
            fx.Finish: self._finish,
            fx.Forget: self._forget,
            fx.Know: self._know,
            fx.Progress: self._progress,
            fx.Release: self._release,
            fx.Reserve: self._reserve,
            fx.Verify: self._verify,
            fx.Want: self._want,
        }

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
        if isinstance(call, StartDownload):
            download = Download(call.owner, call.wanted, self._suspicion, self._courier.name, self._progress_timeout)
            self._transfers[call.owner] = Transfer(download, call.ticket)
            self._todo.append((call.owner, download.start(now_ns)))
        elif isinstance(call, StartUpload):
            self._start_upload(call, now_ns)
        elif isinstance(call, AskMaster):
            self._session.submit(call.operation, call.ticket, now_ns, call.timeout_ns)
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
        if isinstance(message, ShardData):
            self._route(self._courier.shard_data(message, payload, now_ns), now_ns)
        elif isinstance(message, PutDone):
            self._route(self._courier.put_done(message, now_ns), now_ns)
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
        if kind == "verify":
            self._verified(owner, detail, data, result, now_ns)
        elif transfer is not None:
            self._active_ns = now_ns
            self._todo += [(owner, effects) for effects in transfer.was_read(ctx, owner, detail, result, now_ns)]
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
            self._end(transfer.ticket, closed)
        self._transfers.clear()
        for token, result in self._session.fail_all(closed):
            if not isinstance(token, tuple):
                self._end(token, result)
        if self._asleep:
            wake_all(self._asleep)
        if self._session.session:
            close = CloseSession(self._session.session)
            ctx.send(self._session.host, Calls(0, 0, [Call(0, close)]))

    # --- routing -----------------------------------------------------------------------------------------------------

    def _settle(self, settled: list[Settled], now_ns: int) -> None:
        """Answers of the master go to the transfer or the caller that asked."""
        self._active_ns = now_ns
        for token, result in settled:
            if token is None:
                continue
            if isinstance(token, tuple):
                owner, tag = token
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
        for address, message in self._session.flush(now_ns):
            ctx.send(address, message)
        for outgoing in self._courier.flush(now_ns):
            self._send(ctx, outgoing)
        if not self._ticking and (self._transfers or self._session.busy or self._courier.busy):
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
            self._end(transfer.ticket, effect.result)

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
        assert not self._todo, "effects are left over from a turn"
        assert not self._asleep, "callers were left asleep by a turn"
        assert not any(transfer.machine.ended for transfer in self._transfers.values())
