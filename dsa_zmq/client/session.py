"""The client's talk with the master: greeting, numbering, batching, retries, the session of stored operations. Pure.

Natural batching: while a message is under way, new operations wait, and then leave together in the next. So a lone caller
waits for nothing, and a hundred callers share a few messages. An answer that takes longer than usual is not waited
for: then a second message may leave (:mod:`~dsa_zmq.client.pace`). Operations that change the catalog (*stored* ones) and
all others wait in separate lines, since the former take as long as a disk's sync.

    greeting --Welcome--> ready --silence or lost connection--> greeting (next host) ...

A stored operation belongs to a session; its answer is kept by the master, so a repeat with the same number is answered
the same. When the master refuses a session (it has ended), nothing of the refused request was run *now*, and none of its
copies will be. If it had been sent once, it therefore never ran, and goes into a new session; if it had been sent before, an
earlier copy may have run, and the caller must hear "outcome unknown", unless it may be repeated in any session.

A session in which nothing was asked for long may have ended without our knowing. So one that was idle is not used again:
else the first change after a quiet night would be of unknown outcome, only because its answer took a moment.
"""

from __future__ import annotations

from collections.abc import Sequence

from actors.core import Address, Message
from actors.requests import Backoff, Requests
from dsa_zmq.client.asked import AskedIn, CallLine, OpenCall, Token
from dsa_zmq.client.greeting import Greeting
from dsa_zmq.client.plausible import implausible
from dsa_zmq.client.repeating import IDLE_NS, may_be_done, may_go_again
from dsa_zmq.client.weight import wire_bytes
from dsa_zmq.errors import DSAError, Incompatible, OutcomeUnknown, Overloaded, Timeout, Unavailable, from_code
from dsa_zmq.model.limits import MAX_CALLS, MAX_OPEN_CALLS
from dsa_zmq.protocol.messages import PROTOCOL_VERSION, Answers, Call, Calls, Refused, Welcome
from dsa_zmq.protocol.operations import STORED, OpenSession, Operation, Result, SessionOpened
from dsa_zmq.protocol.values import Failure
from dsa_zmq.protocol.versions import too_new

MESSAGES_UNDER_WAY = 2  #: per line: one being worked on, one that arrives meanwhile
MESSAGE_BYTES = 256 << 10  #: estimated; a quarter of the limit, so that a wrong estimate does not matter
SILENT_NS = 2_000_000_000  #: calls open and no word from the master for so long: greet again, then other hosts
MAX_SESSIONS = 3  #: a call that several fresh sessions in a row refused is not tried in yet another one
_STORED = frozenset(STORED)

Settled = tuple[Token, Result | Welcome | DSAError]
"""The token of an operation with its answer (never a Failure: those become errors)."""


class Session:
    """Talks to one master at a time, out of ``hosts`` (endpoints, in the order of preference)."""

    def __init__(
        self,
        hosts: Sequence[str],
        client: bytes,
        incarnation: int,
        software: str,
        *,
        request_timeout_ns: int,
        backoff: Backoff | None = None,
    ) -> None:
        self._client = client
        self._incarnation = incarnation
        self._request_timeout_ns = request_timeout_ns
        self._backoff = backoff or Backoff()
        self._requests: Requests[OpenCall] = Requests(self._backoff)
        self._free, self._stored = CallLine(), CallLine()
        self._open_stored: dict[int, None] = {}  # numbers, ascending
        self._number = 0
        self._greeting = Greeting(hosts, software, self._backoff)
        self._connectors: list[tuple[Token, int]] = []
        self._later: list[tuple[int, OpenCall]] = []  # refused as overloaded: when to ask again
        self._too_new: list[Settled] = []  # what the master would not understand, not yet told
        self._session = 0
        self._opening = False
        self._session_ns = 0  #: when the latest was sent that the master has answered in this session
        self._heard_ns = 0
        self.term = 0  #: the highest seen

    def __repr__(self) -> str:
        waiting = len(self._free.waiting) + len(self._stored.waiting)
        return f"Session({self._greeting!r}, {waiting} waiting, {len(self._requests)} open, term {self.term})"

    @property
    def host(self) -> Address:
        """The master that is talked to, or tried."""
        return self._greeting.host

    @property
    def busy(self) -> bool:
        return bool(
            self._requests
            or self._free.waiting
            or self._stored.waiting
            or self._connectors
            or self._later
            or self._too_new
        )

    @property
    def session(self) -> int:
        """The open session's id, 0 if there is none."""
        return self._session

    # --- what the client wants ---------------------------------------------------------------------------------------

    def connect(self, token: Token, now_ns: int, timeout_ns: int) -> list[Settled]:
        """Say hello if that was not done; settled with the :class:`Welcome` or an error."""
        if self._greeting.done and self._greeting.welcome is not None:
            return [(token, self._greeting.welcome)]
        self._connectors.append((token, now_ns + timeout_ns))
        return []

    def submit(self, operation: Operation, token: Token, now_ns: int, timeout_ns: int = 0) -> None:
        """Settle ``token`` with the answer; after ``timeout_ns`` (0: the usual) without one, with an error."""
        timeout_ns = timeout_ns or self._request_timeout_ns
        stored = type(operation) in _STORED
        entry = OpenCall(operation, token, now_ns + timeout_ns, stored, timeout_ns)
        (self._stored if stored else self._free).waiting.append(entry)

    def flush(self, now_ns: int) -> list[tuple[Address, Message]]:
        """The messages that should leave now."""
        if not self._greeting.done:
            hello = self._greeting.due(now_ns) if self.busy else None
            return [(self.host, hello)] if hello is not None else []
        sent: list[tuple[Address, Message]] = []
        self._leave_out()
        if not self._free.waiting and not self._stored.waiting:
            return sent
        if self._session and not self._open_stored and now_ns - self._session_ns >= IDLE_NS:
            self._leave_session()
        if self._stored.waiting and not self._session and not self._opening:
            self._opening = True
            opening = OpenSession(self._client, self._incarnation)
            timeout_ns = self._request_timeout_ns
            self._free.waiting.appendleft(OpenCall(opening, None, now_ns + timeout_ns, False, timeout_ns))
        for line in (self._free, self._stored):
            if not line.waiting or (line is self._stored and not self._session):
                continue
            while line.waiting and line.under_way < MESSAGES_UNDER_WAY:
                if line is self._stored and len(self._open_stored) >= MAX_OPEN_CALLS:
                    break
                if line.under_way and not line.pace.late(now_ns):
                    break
                sent.append((self.host, self._pack(line, now_ns)))
        return sent

    def _leave_out(self) -> None:
        """An operation that the master does not know would be no message to it at all, nor would those that share one with
        it: there would be no answer, only time-outs. So it is refused here."""
        welcome = self._greeting.welcome
        if welcome is None or welcome.version >= PROTOCOL_VERSION:
            return
        for line in (self._free, self._stored):
            for entry in [entry for entry in line.waiting if entry.operation.since > welcome.version]:
                line.waiting.remove(entry)
                self._too_new.append((entry.token, too_new(entry.operation, self.host, welcome.version)))

    def _pack(self, line: CallLine, now_ns: int) -> Calls:
        stored = line is self._stored
        under_way = AskedIn(now_ns)
        if not self._requests:
            self._heard_ns = now_ns  # silence counts from the first question
        line.under_way += 1
        line.pace.sent(now_ns)
        waiting, open_request = line.waiting, self._requests.open
        calls: list[Call] = []
        size = 0
        number = self._number
        while waiting and len(calls) < MAX_CALLS:
            entry = waiting[0]
            size += wire_bytes(entry.operation)
            if calls and size > MESSAGE_BYTES:
                break
            waiting.popleft()
            number += 1
            entry.number, entry.message = number, under_way
            if stored:
                entry.session = self._session
                entry.sessions += 1
                self._open_stored[number] = None
            # A wait in line behind others is their progress, not this one's silence: the time-out starts with the send.
            open_request(number, entry, now_ns, max(entry.deadline_ns, now_ns + entry.timeout_ns))
            calls.append(Call(number, entry.operation))
        self._number = number
        if stored:
            return Calls(self._session, next(iter(self._open_stored)), calls)
        return Calls(0, 0, calls)

    def parting(self, operations: Sequence[Operation]) -> list[tuple[Address, Message]]:
        """What the master should hear when nobody will wait for its answers. An old number would pass for a repetition."""
        calls = [Call(number, operation) for number, operation in enumerate(operations, self._number + 1)]
        self._number += len(calls)
        return [(self.host, Calls(0, 0, calls[at : at + MAX_CALLS])) for at in range(0, len(calls), MAX_CALLS)]

    # --- what the master says ----------------------------------------------------------------------------------------

    def welcomed(self, message: Welcome, now_ns: int) -> list[Settled]:
        """A master (or a node, by mistake) has answered the greeting."""
        error = self._greeting.welcomed(message, self.term)
        if error is not None:
            return self.fail_all(error)
        if not self._greeting.done or self._greeting.welcome is not message:
            return []
        self.term, self._heard_ns = message.term, now_ns
        self._requests.hasten(now_ns)
        settled: list[Settled] = [(token, message) for token, _ in self._connectors]
        self._connectors.clear()
        return settled

    def refused(self, message: Refused) -> list[Settled]:
        """The greeting was refused."""
        error = self._greeting.refused(message)
        return [] if error is None else self.fail_all(error)

    def answers(self, message: Answers, now_ns: int) -> list[Settled]:
        """Answers to calls. Unknown numbers (repeated answers, given-up calls) give nothing."""
        if message.term < self.term:
            return []  # from a master whose time is over: it may not know what its successor has done
        self.term, self._heard_ns = message.term, now_ns
        settled: list[Settled] = []
        for answer in message.answers:
            number, result = answer.number, answer.result
            request = self._requests.find(number)
            if request is None:
                continue
            failure = result if isinstance(result, Failure) else None
            if failure is not None and may_be_done(failure, stored=request.item.stored, tries=request.tries):
                continue
            self._requests.close(number)
            entry = request.item
            asked_in = entry.message
            if asked_in is not None and asked_in.under_way:
                self._line(entry).pace.answered(asked_in.sent_ns, now_ns)
                self._leave(entry)
            elif entry.stored:
                self._open_stored.pop(number, None)
            if failure is not None:
                settled += self._failed(entry, failure, request.tries, now_ns)
            elif why := implausible(entry.operation, result):
                settled += self._not_believed(entry, why)
            else:
                if isinstance(result, SessionOpened):
                    self._opening = False
                    self._session = entry.session = result.session
                else:
                    settled.append((entry.token, result))
                if asked_in is not None and entry.session == self._session:
                    self._session_ns = max(self._session_ns, asked_in.sent_ns)
        return settled

    def _not_believed(self, entry: OpenCall, why: str) -> list[Settled]:
        """An answer that no master of ours gives. What a stored operation has done nobody knows."""
        kind = Unavailable if entry.stored else Incompatible
        asked = type(entry.operation).__name__
        error = kind(
            f"the answer of the master at {self.host} to {asked} makes no sense: it {why}",
            "look into its log, and update the older side",
        )
        if isinstance(entry.operation, OpenSession):
            self._opening = False
            return self._settle_line(self._stored, error)
        return [(entry.token, error)]

    def _failed(self, entry: OpenCall, failure: Failure, tries: int, now_ns: int) -> list[Settled]:
        error = from_code(failure.code, failure.message, failure.remedy, failure.path)
        if isinstance(entry.operation, OpenSession):
            self._opening = False
            return self._settle_line(self._stored, error)
        if isinstance(error, Overloaded) and now_ns < entry.deadline_ns:
            self._later.append((now_ns + self._backoff.delay_ns(entry.refusals + 1), entry))
            entry.refusals += 1
            return []  # nothing was done: it may go again under a new number
        if not entry.stored or not isinstance(error, OutcomeUnknown):
            return [(entry.token, error)]
        if entry.session == self._session:
            self._leave_session()
        ran_maybe = tries > 1 and not may_go_again(entry.operation)
        if ran_maybe or entry.sessions >= MAX_SESSIONS:
            return [(entry.token, error)]
        self._stored.waiting.append(entry)
        return []

    def _leave_session(self) -> None:
        self._session = 0
        self._incarnation += 1  # the master knows sessions by this: a new one, not the ended one

    def _line(self, entry: OpenCall) -> CallLine:
        return self._stored if entry.stored else self._free

    def _leave(self, entry: OpenCall) -> None:
        """This operation's message no longer occupies its line; the operation is open no more."""
        if entry.message is not None and entry.message.under_way:
            entry.message.under_way = False
            self._line(entry).under_way -= 1
        if entry.stored:
            self._open_stored.pop(entry.number, None)

    # --- what goes wrong ---------------------------------------------------------------------------------------------

    def lost(self, now_ns: int) -> None:
        """The connection to the master is gone: greet again, this host first (it may only have been restarted)."""
        if self._greeting.done:
            self._greeting.begin(now_ns + self._backoff.delay_ns(1))

    def tick(self, now_ns: int) -> tuple[list[tuple[Address, Message]], list[Settled]]:
        """Call some ten times a second: what to send again, and what has been given up."""
        settled = [*self._too_new, *self._expire_waiting(now_ns)]
        self._too_new.clear()
        for due_ns, entry in self._later:
            if due_ns <= now_ns:
                (self._stored if entry.stored else self._free).waiting.append(entry)
        self._later = [(due_ns, entry) for due_ns, entry in self._later if due_ns > now_ns]
        again, expired = self._requests.due(now_ns)
        for request in expired:
            entry = request.item
            self._leave(entry)
            problem = f"the master at {self.host} did not answer within {entry.timeout_ns / 1e9:.0f} s"
            if isinstance(entry.operation, OpenSession):
                self._opening = False
                settled += self._settle_line(self._stored, Unavailable(problem, "is it running?"))
            else:
                settled.append((entry.token, Timeout(problem, "is it running?")))
        if not self._greeting.done:
            return [], settled
        if again and now_ns - self._heard_ns >= SILENT_NS:
            self._greeting.begin(now_ns)
            return [], settled
        return self._repeat([request.item for request in again]), settled

    def _repeat(self, entries: list[OpenCall]) -> list[tuple[Address, Message]]:
        sent: list[tuple[Address, Message]] = []
        for stored in (False, True):
            calls: list[Call] = []
            size = 0
            for entry in entries:
                if entry.stored is not stored or (stored and entry.session != self._session):
                    continue  # calls of an ended session are answered by their time-out or by a late refusal
                if entry.message is not None and entry.message.under_way:
                    entry.message.under_way = False
                    (self._stored if stored else self._free).under_way -= 1
                estimate = wire_bytes(entry.operation)
                if calls and (size + estimate > MESSAGE_BYTES or len(calls) >= MAX_CALLS):
                    sent.append((self.host, self._calls(stored, calls)))
                    calls, size = [], 0
                calls.append(Call(entry.number, entry.operation))
                size += estimate
            if calls:
                sent.append((self.host, self._calls(stored, calls)))
        return sent

    def _calls(self, stored: bool, calls: list[Call]) -> Calls:
        return Calls(self._session, next(iter(self._open_stored)), calls) if stored else Calls(0, 0, calls)

    def _expire_waiting(self, now_ns: int) -> list[Settled]:
        """Operations that nobody could be asked to do: definite failures, since they were never sent."""
        settled: list[Settled] = []
        nobody = f"no master answers at {self._greeting.hosts}"
        for token, deadline_ns in self._connectors:
            if deadline_ns <= now_ns:
                settled.append((token, Unavailable(nobody, "is it running, and is the address right?")))
        self._connectors = [entry for entry in self._connectors if entry[1] > now_ns]
        if not self._greeting.done:
            for line in (self._free, self._stored):
                expired = [entry for entry in line.waiting if entry.deadline_ns <= now_ns]
                for entry in expired:
                    line.waiting.remove(entry)
                    if isinstance(entry.operation, OpenSession):
                        self._opening = False
                    else:
                        settled.append((entry.token, Unavailable(nobody, "is it running, and is the address right?")))
        return settled

    def _settle_line(self, line: CallLine, error: DSAError) -> list[Settled]:
        settled: list[Settled] = [(entry.token, error) for entry in line.waiting]
        line.waiting.clear()
        return settled

    def fail_all(self, error: DSAError) -> list[Settled]:
        """The master will not have us, or the client ends: everything fails. A later operation greets again."""
        settled: list[Settled] = [(token, error) for token, _ in self._connectors]
        self._connectors.clear()
        settled += self._settle_line(self._free, error) + self._settle_line(self._stored, error)
        settled += [(entry.token, error) for _, entry in self._later]
        self._later.clear()
        settled += self._too_new
        self._too_new.clear()
        settled = [entry for entry in settled if entry[0] is not None]
        self._opening = False
        for request in list(self._requests):
            self._requests.close(request.number)
            self._leave(request.item)
            if request.item.token is not None:
                settled.append((request.item.token, error))
        return settled
