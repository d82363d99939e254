"""Whether a history of operations could have happened to one tree, one operation after the other (linearizability).

Each operation that was answered took effect at one instant between its call and its answer. One whose outcome nobody
knows took effect at any instant after its call, or never.

``operation`` is what is recorded; ``footprint`` says which operations can mind each other's order at all; ``episodes`` cuts
a history into parts that do not; ``clues`` finds orders that every explanation has to keep; ``search`` looks for one of an
episode, ``explain`` for one of the whole; ``contradiction`` tells why there is none. Nothing here gives up.
"""

from __future__ import annotations

from dsa_zmq.sim.history.check import NotLinearizable, check
from dsa_zmq.sim.history.operation import NEVER, Operation, Outcome

__all__ = ["NEVER", "NotLinearizable", "Operation", "Outcome", "check"]
