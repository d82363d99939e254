"""PUB and SUB sockets: bound by the actor's specification, or connected by ``join_feed``. Lossy by nature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import zmq

from actors import limits
from actors.core import Address, Channel, Peer
from actors.errors import ProtocolError
from actors.wire import Buffer, Envelope, unpack_feed
from actors.zmq.inbound import Inbound
from actors.zmq.sockets import MORE, NOBLOCK, Socket, receive_frames

_MOST_FRAMES: Final = 2


class FeedReader:
    """A SUB that takes every topic. The sender is whoever the message names: nothing is proved."""

    def __init__(self, socket: Socket, source: str, inbound: Inbound) -> None:
        self.socket = socket
        self._source = source
        self._inbound = inbound
        self._peers: dict[tuple[str, int], Peer] = {}  # a cache, bounded like the listener's

    def drain(self) -> bool:
        """Deliver what is there, up to the cap; True if there may be more."""
        inbound, socket = self._inbound, self.socket
        for _ in range(limits.DRAIN_MESSAGES):
            try:
                frames = receive_frames(socket, _MOST_FRAMES)
            except zmq.Again:
                return False
            try:
                envelope = unpack_feed(frames)
            except ProtocolError as error:
                inbound.refuse(self._source, error)
                continue
            if not inbound.deliver(self._sender(envelope), envelope) or socket.closed:
                return False
        return True

    def _sender(self, envelope: Envelope) -> Peer:
        key = (envelope.name, envelope.incarnation)
        peer = self._peers.get(key)
        if peer is None:
            if len(self._peers) >= limits.ROUTER_MAX_PEERS:
                del self._peers[next(iter(self._peers))]
            address = Address(f"{envelope.name}/{envelope.incarnation}")
            peer = self._peers[key] = Peer(address, envelope.name, envelope.incarnation, Channel.FEED)
        return peer


def publish(socket: Socket, frames: Sequence[Buffer]) -> None:
    """Send to all subscribers that keep up; a PUB drops for the others by itself and never refuses."""
    socket.send(frames[0], MORE)
    socket.send(frames[1], NOBLOCK)
