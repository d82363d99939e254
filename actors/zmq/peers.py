"""Both ends of direct connections: the ROUTER that others connect to, and one DEALER per endpoint that we send to.

A DEALER with several connections deals messages round robin, so each endpoint has its own. A ROUTER cannot speak first
to somebody who has not spoken: replies and commands to a peer travel over the connection that the peer opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import zmq

from actors import limits
from actors.core import Address, Channel, Peer, PeerEvent
from actors.errors import ProtocolError
from actors.wire import WRONG_INCARNATION, Buffer, parse_peer_name, unpack
from actors.zmq.inbound import Inbound
from actors.zmq.sockets import (
    MORE,
    NOBLOCK,
    ZERO_COPY_BYTES,
    Socket,
    has_message,
    lean_send,
    receive_frames,
    send_rest,
)
from actors.zmq.unsent import WATCHED_BYTES, Unsent

_MOST_FRAMES: Final = 1 + limits.MAX_PAYLOAD_FRAMES


class Listener:
    """A bound ROUTER and the peers that spoke to it."""

    def __init__(self, socket: Socket, inbound: Inbound, max_peers: int = limits.ROUTER_MAX_PEERS) -> None:
        self.socket = socket
        self._send = lean_send(socket)
        self._inbound = inbound
        self._max_peers = max_peers
        self._unsent = Unsent()
        self._peers: dict[bytes, Peer] = {}  # by routing id; a cache, so the oldest entry may always go

    def __len__(self) -> int:
        return len(self._peers)

    @property
    def unsent_bytes(self) -> int:
        """Large messages that wait for peers to read."""
        return self._unsent.total

    def drain(self) -> bool:
        """Deliver what is there, up to the cap; True if there may be more, False if the socket was found empty."""
        inbound, socket, peers = self._inbound, self.socket, self._peers
        recv = socket.recv
        for count in range(limits.DRAIN_MESSAGES):
            if count == 1 and not has_message(socket):  # most often there is one
                return False
            try:
                routing_id = recv(NOBLOCK)
            except zmq.Again:
                return False
            frames = receive_frames(socket, _MOST_FRAMES)
            try:
                peer = peers.get(routing_id) or self._admit(routing_id)
                envelope = unpack(frames)
                if envelope.incarnation != peer.incarnation:
                    text = f"header says {envelope.incarnation}, peer is {peer.address}"
                    raise ProtocolError(text, reason=WRONG_INCARNATION)
            except ProtocolError as error:
                inbound.refuse(routing_id, error)
                continue
            if not inbound.deliver(peer, envelope):
                return False
        return True

    def _admit(self, routing_id: bytes) -> Peer:
        name, incarnation = parse_peer_name(routing_id)
        if len(self._peers) >= self._max_peers:
            del self._peers[next(iter(self._peers))]
        peer = Peer(Address(routing_id.decode("ascii")), name, incarnation)
        self._peers[routing_id] = peer
        return peer

    def forget(self, to: Address) -> None:
        """Drop what is remembered of a peer; its connection is the peer's to close."""
        self._peers.pop(to.encode("utf-8", "replace"), None)

    def send(self, to: Address, frames: Sequence[Buffer]) -> PeerEvent | None:
        """Queue for a connected peer; the event says why the message was dropped."""
        send = self._send
        peer = to.encode("utf-8", "replace")
        size = sum(map(len, frames))
        watched = size >= WATCHED_BYTES
        if watched and not self._unsent.admits(peer, size):
            return PeerEvent.BUSY
        try:
            send(peer, MORE)
        except zmq.Again:
            return PeerEvent.BUSY
        except zmq.ZMQError as error:
            # EHOSTUNREACH is the answer of ROUTER_MANDATORY; EINVAL is an empty or overlong name.
            if error.errno in (zmq.EHOSTUNREACH, zmq.EINVAL):
                return PeerEvent.GONE
            raise
        if watched:
            send_rest(send, frames[:-1], last=self._unsent.watch(peer, size, frames[-1]))
        elif len(frames) == 1:
            send(frames[0], NOBLOCK)
        else:
            send_rest(send, frames)
        return None


class Link:
    """A DEALER on its way, or connected, to one endpoint. Messages queue until the endpoint can be reached."""

    def __init__(self, endpoint: Address, socket: Socket, inbound: Inbound) -> None:
        self.socket = socket
        self._send = lean_send(socket)
        self._endpoint = endpoint
        self._inbound = inbound
        self._peer = Peer(endpoint, endpoint, 0)  # the incarnation becomes known with the first message

    def drain(self) -> bool:
        """Deliver what is there, up to the cap; True if there may be more, False if the socket was found empty."""
        inbound, socket = self._inbound, self.socket
        for count in range(limits.DRAIN_MESSAGES):
            if count == 1 and not has_message(socket):  # most often there is one
                return False
            try:
                frames = receive_frames(socket, _MOST_FRAMES)
            except zmq.Again:
                return False
            try:
                envelope = unpack(frames)
            except ProtocolError as error:
                inbound.refuse(self._endpoint, error)
                continue
            if envelope.incarnation != self._peer.incarnation:
                self._peer = Peer(self._endpoint, self._endpoint, envelope.incarnation, Channel.DIRECT)
            if not inbound.deliver(self._peer, envelope) or socket.closed:
                return False
        return True

    def send(self, frames: Sequence[Buffer]) -> PeerEvent | None:
        """Queue; the event says why the message was dropped."""
        more = len(frames) > 1
        first = frames[0]
        try:
            self._send(first, MORE if more else NOBLOCK, len(first) < ZERO_COPY_BYTES)
        except zmq.Again:
            return PeerEvent.BUSY
        if more:
            send_rest(self._send, frames[1:])
        return None
