"""From an envelope to a turn: decode, count, deliver. Whatever cannot be read is counted and goes no further."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from actors.core import Codec, Message, Peer
from actors.errors import ProtocolError
from actors.wire import Envelope
from actors.zmq.counters import Counters, Journal
from actors.zmq.cut import Cut

MessageTurn = Callable[[Peer, Message, Sequence[memoryview]], bool]
"""Runs the turn; False once the actor takes no more messages."""


class Inbound:
    """Shared by all receiving sockets of one actor."""

    __slots__ = ("_counters", "_cut", "_decode", "_journal", "_turn")

    def __init__(self, codec: Codec, turn: MessageTurn, counters: Counters, journal: Journal, cut: Cut) -> None:
        self._decode = codec.decode
        self._turn = turn
        self._cut = cut
        self._counters = counters
        self._journal = journal

    def deliver(self, peer: Peer, envelope: Envelope) -> bool:
        """Decode and hand over; False once the actor takes no more messages."""
        if peer.name in self._cut.deaf_to:
            self._counters.cut += 1
            return True
        body, payload = envelope.body, envelope.payload
        try:
            message = self._decode(body)
        except ProtocolError as error:
            self._journal.refuse(error.reason, peer.address, error)
            return True
        except Exception as error:  # noqa: BLE001 - a fault of the codec, but strangers must not end us with it
            self._journal.refuse("codec_failure", peer.address, error, traceback=True)
            return True
        counters = self._counters
        counters.messages_in += 1
        counters.bytes_in += len(body) + sum(map(len, payload)) if payload else len(body)
        return self._turn(peer, message, payload)

    def refuse(self, sender: object, error: ProtocolError) -> None:
        """Count a malformed envelope."""
        self._journal.refuse(error.reason, sender, error)
