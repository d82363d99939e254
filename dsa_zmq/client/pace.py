"""When a second message may follow one that is under way. Pure.

Small requests that wait for a moment leave together in one message, and a message costs all processes on its way as much
work as a dozen requests. So while a message is under way others gather, as long as its answer takes no longer than answers
usually do; whoever is alone waits for nobody. After that a second one may follow: the first may be a long one.
"""

from __future__ import annotations

from dataclasses import dataclass

SHORTEST_NS = 1_000_000  #: a usual round on one machine; below, a busy processor would be taken for a slow answer
LONGEST_NS = 50_000_000  #: no memory of slow rounds may hold up requests for longer than people notice
USUAL_ROUNDS = (
    3  #: an answer that takes so many times the usual is late: batches differ, so twice the usual is not rare
)


@dataclass(slots=True)
class Pace:
    """The rounds of one kind of message with one peer."""

    late_ns: int = 0  #: when the answer to the newest message begins to take longer than usual
    round_ns: int = 0  #: a moving mean of the time from message to answer

    def sent(self, now_ns: int) -> None:
        """A message leaves."""
        self.late_ns = now_ns + min(max(SHORTEST_NS, USUAL_ROUNDS * self.round_ns), LONGEST_NS)

    def answered(self, sent_ns: int, now_ns: int) -> None:
        """The answer to the message of ``sent_ns`` has come."""
        self.round_ns += (now_ns - sent_ns - self.round_ns) // 8

    def late(self, now_ns: int) -> bool:
        """Whether the answer to the newest message takes longer than usual."""
        return now_ns >= self.late_ns
