"""Calls in flight: each is run once however often it is repeated, and answered together with its companions. Pure.

One Calls message is one *group*: its answers leave in one message, in the turn in which the last of them is there. The
calls of a message go to the catalog in one turn and so come back from one batch; waiting for the last one adds no time,
and no timer is needed. A call that takes longer by nature (a health count) is *detached* and answered by itself.

Memory is bounded: so many calls in flight for a peer, so many in all and so much inside them; the others are answered
``overloaded`` at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from actors.core import Address
from dsa_zmq.errors import DSAError, Invalid, Overloaded
from dsa_zmq.model.limits import MAX_CALLS, MAX_OPEN_CALLS
from dsa_zmq.protocol.messages import Answer, Call, Calls
from dsa_zmq.protocol.operations import STORED, Commit, Operation, Reallocate, Result, Stage
from dsa_zmq.protocol.values import Failure

MAX_PEER_CALLS = 2 * MAX_OPEN_CALLS  #: in flight for one peer: all that a session may have open, and as many reads
MAX_ALL_CALLS = 20_000  #: in flight in all: at 10,000 a second the last one waits two seconds
MAX_ALL_ROWS = (
    200_000  #: chunks inside the calls in flight, some 120 MB: a page of an upload weighs more than a look-up
)
_WITH_CHUNKS = (Stage, Commit)
_MAX_NUMBER = (1 << 63) - 1  #: sessions and numbers are signed SQL integers


@dataclass(slots=True)
class Group:
    """Answers that leave together."""

    peer: Address
    waiting: int = 0  #: calls without an answer
    answers: list[Answer] = field(default_factory=list)


@dataclass(slots=True)
class CallInFlight:
    """One call between its arrival and its answer."""

    serial: int  #: names it in job tokens
    session: int
    number: int
    done_below: int
    operation: Operation
    rows: int  #: chunks inside
    group: Group

    def __repr__(self) -> str:
        return f"<call {self.number} of {self.group.peer}: {type(self.operation).__name__}>"


class CallTable:
    """All calls in flight."""

    def __init__(
        self, max_peer: int = MAX_PEER_CALLS, max_all: int = MAX_ALL_CALLS, max_rows: int = MAX_ALL_ROWS
    ) -> None:
        self._max_peer = max_peer
        self._max_all = max_all
        self._max_rows = max_rows
        self._rows = 0
        self._calls: dict[int, CallInFlight] = {}
        self._serials: dict[tuple[Address, int, int], int] = {}
        self._of_peer: Counter[Address] = Counter()
        self._last = 0
        self.refused = 0  #: so far
        self.repeated = 0  #: so far, while their first was still at work

    def admit(self, peer: Address, message: Calls) -> tuple[Group, list[CallInFlight]]:
        """Take a message in. Returns its group, which already holds the refusals, and the calls to be run.

        A call whose like (peer, session, number) is in flight is left out: it is answered once, when that one ends. Of
        more than :data:`MAX_CALLS` calls only so many are answered at all, with a refusal.
        """
        group = Group(peer)
        fresh: list[CallInFlight] = []
        calls, session, done_below = message.calls, message.session, message.done_below
        numbers = [call.number for call in calls]
        doubled: set[int] = set()
        if len(set(numbers)) < len(numbers):
            doubled = {number for number, count in Counter(numbers).items() if count > 1}
        for call in calls if len(calls) <= MAX_CALLS else calls[:MAX_CALLS]:
            key = (peer, session, call.number)
            if key in self._serials:
                self.repeated += 1
                continue
            rows = _rows(call.operation)
            error = self._refusal(peer, message, call, rows, doubled)
            if error is not None:
                self.refused += 1
                group.answers.append(Answer(call.number, failure(error)))
                continue
            self._last = serial = self._last + 1
            opened = CallInFlight(serial, session, call.number, done_below, call.operation, rows, group)
            self._rows += rows
            self._calls[serial] = opened
            self._serials[key] = serial
            self._of_peer[peer] += 1
            fresh.append(opened)
        group.waiting = len(fresh)
        return group, fresh

    def _refusal(self, peer: Address, message: Calls, call: Call, rows: int, doubled: set[int]) -> DSAError | None:
        if len(message.calls) > MAX_CALLS:
            return Invalid(f"{len(message.calls)} calls in one message", f"send at most {MAX_CALLS}")
        session, number = message.session, call.number
        if not (0 <= session <= _MAX_NUMBER and 0 <= message.done_below <= _MAX_NUMBER and 0 <= number <= _MAX_NUMBER):
            return Invalid("session and number must be 0 to 2^63 - 1")
        if number in doubled:  # none of them is run: an answer could not say whose it is
            return Invalid(f"several calls of one message have the number {number}")
        if session == 0 and isinstance(call.operation, STORED):
            return Invalid(f"{type(call.operation).__name__} needs a session", "open a session first")
        if self._of_peer[peer] >= self._max_peer:
            return Overloaded(f"{self._max_peer} calls of this client are in flight", "wait for some answers")
        if len(self._calls) >= self._max_all or self._rows + rows > self._max_rows:
            return Overloaded("the master has too many calls in flight", "try again in a moment")
        return None

    def find(self, serial: int) -> CallInFlight | None:
        return self._calls.get(serial)

    def finish(self, call: CallInFlight, result: Result) -> Group | None:
        """This is the call's answer. Returns its group if it may leave now."""
        group = call.group
        peer = group.peer
        del self._calls[call.serial]
        del self._serials[(peer, call.session, call.number)]
        self._rows -= call.rows
        self._of_peer[peer] = left = self._of_peer[peer] - 1
        if not left:
            del self._of_peer[peer]
        group.answers.append(Answer(call.number, result))
        group.waiting -= 1
        return None if group.waiting else group

    def detach(self, call: CallInFlight) -> Group | None:
        """This call will take longer: it gets a group of its own. Returns the group it leaves if that may leave now."""
        before = call.group
        call.group = Group(before.peer, waiting=1)
        before.waiting -= 1
        return None if before.waiting or not before.answers else before

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[CallInFlight]:
        return iter(self._calls.values())

    def __repr__(self) -> str:
        return f"<CallTable {len(self._calls)} in flight of {len(self._of_peer)} peers>"

    def check_invariants(self) -> None:
        assert len(self._serials) == len(self._calls) <= self._max_all
        assert sum(self._of_peer.values()) == len(self._calls)
        assert all(0 < count <= self._max_peer for count in self._of_peer.values())
        assert sum(call.rows for call in self._calls.values()) == self._rows <= self._max_rows
        waiting = Counter(id(call.group) for call in self._calls.values())
        assert all(call.group.waiting == waiting[id(call.group)] for call in self._calls.values())


def _rows(operation: Operation) -> int:
    """How many chunks or shards an operation carries."""
    if isinstance(operation, _WITH_CHUNKS):
        return len(operation.chunks)
    if isinstance(operation, Reallocate):
        return len(operation.shards)
    return 0


def failure(error: DSAError) -> Failure:
    """An error as it travels."""
    return Failure(error.code, error.message, error.remedy, error.path)
