"""Being known to the master: asking until it answers, and noticing when it is another one. Pure.

::

    asking --Registered, obeyed--> remembering --durable--> registered --hint of another master, or silence--> asking

While asking again, a node that was registered goes on serving under what it knew: grants say until when.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from dsa_zmq.errors import BY_CODE, DSAError, from_code
from dsa_zmq.protocol.messages import Hint, Refused, Registered

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 5.0
SILENT_HEARTBEATS = 30  #: without a hint, the master is asked: three times what makes a node count as down
PATIENCE = 4  #: attempts without an answer, some 5 s, before that is told; then at twice as many, and so on
FINAL = ("incompatible", "config", "conflict", "already-exists", "denied", "invalid")
"""Refusals that asking again does not change."""


@dataclass(slots=True)
class Registration:
    """Where a node stands with its master."""

    answer_s: float  #: how long to wait for an answer before asking again
    number: int = 0  #: of the latest Register
    tries: int = 0  #: since the last success
    unanswered: int = 0  #: attempts since anything was heard
    asking: bool = False

    def ask(self) -> int:
        """Begin the next attempt; returns its number."""
        self.number += 1
        self.tries += 1
        self.unanswered += 1
        self.asking = True
        return self.number

    def silence_to_tell(self) -> int:
        """After how many attempts nobody has answered, if that is worth a line in the log now; else 0. Each silence is told
        of a few times only, however long it lasts."""
        heard_nothing = self.unanswered - 1  # the latest attempt has just left
        powers = heard_nothing & (heard_nothing - 1) == 0
        return heard_nothing if heard_nothing >= PATIENCE and powers else 0

    def heard(self) -> None:
        """Somebody answers there, whatever it says."""
        self.unanswered = 0

    def pause_s(self, rng: random.Random, *, unanswered: bool) -> float:
        """How long until the next attempt: full jitter, and time for an answer if there was none yet."""
        longest = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(self.tries, 16))
        return rng.uniform(0.0, longest) + (self.answer_s if unanswered else 0.0)

    def is_answer(self, message: Registered | Refused) -> bool:
        """Whether this answers an attempt that still matters (an earlier one's late answer is as good)."""
        return self.asking and 0 < message.number <= self.number

    def settled(self) -> None:
        """The master is obeyed, durably."""
        self.asking = False
        self.tries = 0

    @staticmethod
    def refusal(message: Refused) -> tuple[DSAError, bool]:
        """The error, and whether it is final. A code that this version does not know is not."""
        failure = message.failure
        error = from_code(failure.code, failure.message, failure.remedy, failure.path)
        return error, failure.code in FINAL and failure.code in BY_CODE


def hint_is_news(hint: Hint, *, cluster: bytes, term: int, master: bytes) -> bool | None:
    """True: another master leads, register with it. False: ours is alive. None: not for us, or from the past."""
    if hint.cluster != cluster or hint.term < term:
        return None
    return (hint.term, hint.master) != (term, master)
