"""One node's copy of one volume of the catalog: what it holds, what is on its way there, what is to be sent next. Pure.

Two streams go to a copy: the parts of the volume's snapshot, and the records of the log. Of each it is known up to where the
node holds it durably (by its own word), and up to where it was sent. Messages to a node arrive in order or not at all; a
``Shipped`` tells all that the node has, so one lost answer is made good by the next::

    asking --Shipped--> steady --nothing heard for the pause--> asking (and what is not held is sent again)

In *asking* one message is out at a time: also one without records, which only asks. A copy with a *trouble* gets nothing
more; it may be made anew, in another volume.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from dsa_zmq.errors import NoSpace
from dsa_zmq.protocol.values import Failure
from dsa_zmq.protocol.volumes import Shipped, VolumeState

MESSAGE_BYTES = 512 << 10  #: of records in one message, if more than one is in it
FLIGHT_BYTES = 2 << 20  #: on the way to one node, for one volume
FLIGHT_MESSAGES = 64  #: the same in messages: one for each batch of the catalog's worker
RETRY_FIRST_NS = 500_000_000
RETRY_MAX_NS = 8_000_000_000
MAX_REFUSALS = 8  #: in a row, without anything taken: what the node has is not what we think

DAMAGED = "its copy is damaged"
FOREIGN = "its copy is of another history of the catalog"
LOST = "it has lost its copy"
NO_ROOM = "it has no room for the catalog's copy"


@dataclass(slots=True)
class ShipCopy:
    """See the module. Times are serving time in nanoseconds."""

    node: int
    state: VolumeState  #: as it said last
    base: int  #: position of the log where the volume begins
    trouble: str = ""  #: why nothing more is sent there
    proved: bool = False  #: the last record of the log that it holds is ours
    asking: bool = True
    sent_parts: int = 0  #: parts of the snapshot below this were sent
    sent: int = 0  #: records up to this position were sent
    reading: bool = False  #: records that it lacks are being read from the catalog
    out: deque[tuple[int, int]] = field(default_factory=deque)  #: (number, bytes) of each message without an answer
    out_bytes: int = 0
    again_ns: int = 0  #: when an answer is late
    pause_ns: int = RETRY_FIRST_NS
    refusals: int = 0
    moved_ns: int = 0  #: when it last took something
    heard: int = 0  #: the newest message that it has answered

    @property
    def usable(self) -> bool:
        """The catalog can be made of it, as of what it holds."""
        state = self.state
        return self.proved and state.complete and not state.damage and state.position >= state.whole >= 0

    # --- sending --------------------------------------------------------------------------------------------------

    def may_send(self) -> bool:
        """Whether one more message may leave."""
        if self.trouble or self.reading:
            return False
        if self.asking:
            return not self.out
        return self.out_bytes < FLIGHT_BYTES and len(self.out) < FLIGHT_MESSAGES

    def sending(self, number: int, size: int, served_ns: int) -> None:
        """A message with so many bytes leaves."""
        if not self.out:
            self.again_ns = served_ns + self.pause_ns
        self.out.append((number, size))
        self.out_bytes += size

    def rewind(self) -> None:
        """What is not known to be there is to be sent again, after the node has said what it has."""
        self.out.clear()
        self.out_bytes = 0
        self.asking = True
        self._go_on()

    def _go_on(self) -> None:
        self.sent_parts, self.sent = self.state.parts, max(self.base, self.state.position)

    def begin_anew(self) -> None:
        """The node has registered: what was on its way is lost."""
        self.pause_ns = RETRY_FIRST_NS
        self.refusals = 0
        self.rewind()

    def is_late(self, served_ns: int) -> bool:
        """Its answer is; if so, the next is waited for longer."""
        if not self.out or self.trouble or served_ns < self.again_ns:
            return False
        self.pause_ns = min(2 * self.pause_ns, RETRY_MAX_NS)
        self.rewind()
        return True

    # --- answers --------------------------------------------------------------------------------------------------

    def take(self, message: Shipped, hash_at: Callable[[int], bytes | None], position: int, served_ns: int) -> bool:
        """The node's answer. ``hash_at`` knows the newer records of the log, which ends at ``position``. False if it is of
        no use: a newer one came before it."""
        if not message.number and message.state.damage and not self.trouble:
            return not self.judge(message.state, hash_at, position)  # the node has found that by itself
        if message.number <= self.heard or self.trouble:
            return False
        self.heard = message.number
        while self.out and self.out[0][0] <= message.number:
            self.out_bytes -= self.out.popleft()[1]
        self.again_ns = served_ns + self.pause_ns
        before = self.state
        if not self.judge(message.state, hash_at, position):
            return True
        if self.state.position > before.position or self.state.parts > before.parts:
            self.moved_ns, self.refusals = served_ns, 0
            self.pause_ns = max(RETRY_FIRST_NS, self.pause_ns // 2)
        if message.failure is not None:
            self._refused(message.failure)
        elif self.state.position < before.position or self.state.parts < before.parts:
            self.asking = True  # it has less than it has said: it must be asked what that means
        if self.asking and not self.out:
            self.asking = message.failure is not None
            self._go_on()
        return True

    def judge(self, state: VolumeState, hash_at: Callable[[int], bytes | None], position: int) -> bool:
        """This is what the node has: is it what was sent, as far as can be told?"""
        before, self.state = self.state, state
        if state.damage:
            self.trouble = f"{DAMAGED}: {state.damage[:200]}"
        elif state.begun < 0:
            self.trouble = LOST if before.begun >= 0 else ""
        elif state.parts < before.parts:
            self.trouble = LOST  # parts cannot be had again
        elif state.position > position or hash_at(state.position) not in (None, state.hash):
            self.trouble, self.proved = FOREIGN, False
        elif hash_at(state.position) is not None:
            self.proved = True
        return not self.trouble

    def _refused(self, failure: Failure) -> None:
        """What was sent could not be appended, and what was sent behind it neither: all that is waited for."""
        self.asking = True
        if failure.code == NoSpace.code:
            self.trouble = NO_ROOM
        elif not self.out:
            self.refusals += 1
            if self.refusals >= MAX_REFUSALS:
                self.trouble = f"it does not take the catalog's records: {failure.message[:300]}"

    def prove(self, previous: bytes) -> None:
        """The catalog's record behind what it has names this as the hash of the one before."""
        if previous == self.state.hash:
            self.proved = True
        else:
            self.trouble, self.proved = FOREIGN, False

    def __repr__(self) -> str:
        what = self.trouble or ("usable" if self.usable else f"{self.state.parts} parts")
        return f"<copy on {self.node}: {what} at {self.state.position}, {len(self.out)} out>"

    def check_invariants(self) -> None:
        assert self.out_bytes == sum(size for _, size in self.out)
        assert len(self.out) <= FLIGHT_MESSAGES
        numbers = [number for number, _ in self.out]
        assert [self.heard, *numbers] == sorted({self.heard, *numbers})
