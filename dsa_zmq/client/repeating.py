"""What a refusal of the master says of earlier tries of the same request. Pure."""

from __future__ import annotations

from dsa_zmq.errors import Overloaded
from dsa_zmq.model.limits import REPLY_KEEP_S
from dsa_zmq.protocol.operations import Commit, Operation, Stage
from dsa_zmq.protocol.values import Failure

IDLE_NS = REPLY_KEEP_S * 1_000_000_000 // 2
"""Half of the life of a session in which nothing is asked: what is begun before, with all its repeats, still finds it."""


def may_go_again(operation: Operation) -> bool:
    """Whether a stored operation has its effect once by its very meaning, so that a lost session does not matter. An upload
    is published once; an empty file has none."""
    return isinstance(operation, Stage) or (isinstance(operation, Commit) and operation.upload != 0)


def may_be_done(failure: Failure, *, stored: bool, tries: int) -> bool:
    """Overload is told before anybody looks whether an earlier try was done, so it says nothing of that one: only a further
    try under the same number can have its effect once."""
    return failure.code == Overloaded.code and stored and tries > 1
