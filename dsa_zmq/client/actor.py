"""The client's actor: drives uploads, downloads and single operations over one session and one courier.

Calls, answers of the master, answers of nodes, results of jobs and time each go to the machine concerned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actors.core import Address, Context, Message, Peer, PeerEvent, Token
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
from dsa_zmq.client.carrier import Carrier
from dsa_zmq.client.chain import wake_all
from dsa_zmq.client.download import Download
from dsa_zmq.client.local_file import LocalFile
from dsa_zmq.client.transfers import Transfer
from dsa_zmq.client.upload import Upload
from dsa_zmq.errors import DSAError, InternalError, Unavailable
from dsa_zmq.model import limits
from dsa_zmq.protocol.messages import Answers, Pong, PutDone, Refused, ShardData, Welcome
from dsa_zmq.protocol.operations import CloseSession, Operation, Renew

RENEW_AT_ONCE = 1000  #: uploads in one renewal


class ClientActor(Carrier):
    """See the module. State is bounded: transfers by their callers, bytes by budget, credit and windows."""

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
            self._slots.inherited.follow(call.operation)
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
            if kind == "code":
                self._todo.append((owner, transfer.machine.coded(detail, result, now_ns)))
            else:
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
        for report in self._suspicion.reports(self._courier.incarnation, now_ns):
            self._session.submit(report, None, now_ns)
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
        last: list[Operation] = []
        for transfer in self._transfers.values():
            if isinstance(transfer.machine, Upload):
                last += transfer.machine.last_words()
            self._end(transfer.ticket, closed)
        self._transfers.clear()
        for token, result in self._session.fail_all(closed):
            if not isinstance(token, tuple):
                self._end(token, result)
        if self._asleep:
            wake_all(self._asleep)
        self._slots.clear()
        last += [operation for _, operation in self._slots.questions()]
        if self._session.session:
            last.append(CloseSession(self._session.session))
        for address, message in self._session.parting(last):
            ctx.send(address, message)

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
        assert not self._asleep, "callers were left asleep by a turn"
        for transfer in self._transfers.values():
            assert not transfer.machine.ended
            if isinstance(transfer.machine, Download):
                transfer.machine.check()
