"""Whether two sides understand each other, and which of them to upgrade if they do not. Pure."""

from __future__ import annotations

from dsa_zmq.errors import Incompatible
from dsa_zmq.protocol.messages import OLDEST_VERSION, PROTOCOL_VERSION
from dsa_zmq.protocol.operations import Operation


def check_versions(*, who: str, version: int, oldest: int, ours: str) -> None:
    """Raises :class:`Incompatible` unless we understand ``who``, and it us.

    ``version`` is the newest protocol that the other side speaks, ``oldest`` the oldest that it understands. ``who`` and
    ``ours`` are the two sides in words, as in "the client". Where both are too far apart each way, ours is the newer.
    """
    if version < OLDEST_VERSION:
        raise Incompatible(
            f"{who} speaks protocol {version}, {ours} needs {OLDEST_VERSION} or later",
            f"upgrade {who} to a build that speaks protocol {OLDEST_VERSION}, or a later one",
        )
    if oldest > PROTOCOL_VERSION:
        raise Incompatible(
            f"{who} needs protocol {oldest} or later, {ours} speaks {PROTOCOL_VERSION}",
            f"upgrade {ours} to a build that speaks protocol {oldest}, or a later one",
        )


def too_new(operation: Operation, master: str, version: int) -> Incompatible:
    """What the caller of an operation is told that came with a later protocol ``version`` than the master's."""
    return Incompatible(
        f"the master at {master} speaks protocol {version}, {type(operation).__name__} needs {operation.since} or later",
        f"upgrade the master to a build that speaks protocol {operation.since}, or a later one",
    )
