"""What a turn of :class:`dsa_zmq.master.shipping.Shipping` leads to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from actors.core import Job, Message


class Send(NamedTuple):
    """To a node, over the connection that it registered by."""

    node: int
    message: Message
    payload: Sequence[bytes] = ()


class Ask(NamedTuple):
    """A job of the catalog."""

    token: tuple[Any, ...]
    job: Job


class Wake(NamedTuple):
    """A tick, so much later."""

    delay_ns: int


Effect = Send | Ask | Wake
