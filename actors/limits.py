"""Every limit of the bus, with its unit and its reason."""

from __future__ import annotations

MAX_MESSAGE_BYTES = 1 << 20  #: encoded message without payload: a control message holds one page of rows, never a file
MAX_PAYLOAD_BYTES = (16 << 20) + 4096  #: all frames of one message: the largest chunk and a margin
MAX_PAYLOAD_FRAMES = 1024  #: frames of one message: a batch of small shards
JOINED_MESSAGE_BYTES = 64 << 10  #: a message above this travels apart from its payload: see the next two
JOINED_FRAME_BYTES = 32 << 10  #: payload frames up to this are copied behind their message: cheaper than a frame each
JOINED_PAYLOAD_BYTES = (
    256 << 10
)  #: all joined payload; who keeps one byte of it keeps it all, and its message, in memory
MAX_FRAME_BYTES = MAX_PAYLOAD_BYTES  #: ZMQ_MAXMSGSIZE is per frame

SEND_QUEUE_MESSAGES = 1000  #: high-water mark per connection: a fuse, flow control is byte credit
UNSENT_PEER_BYTES = 64 << 20  #: large messages waiting in a listener for one peer: eight times its usual credit, since
#: a reader at full speed makes some tens of milliseconds' worth before we hear that they were written
UNSENT_ALL_BYTES = 256 << 20  #: the same for all its peers; whoever has nothing waiting gets his message all the same
DRAIN_MESSAGES = 100  #: received per socket before the others get their turn
ROUTER_MAX_PEERS = 10_000  #: distinct peer names remembered by one listener

HEARTBEAT_INTERVAL_MS = 2_000  #: ZMTP ping: notices dead hosts (a hung process still answers it)
HEARTBEAT_TIMEOUT_MS = 6_000
HANDSHAKE_INTERVAL_MS = 5_000
RECONNECT_MIN_MS = 100
RECONNECT_MAX_MS = 5_000
LINGER_MS = 500  #: how long an orderly stop waits for queued messages
