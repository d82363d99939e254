"""The whole contract between an actor and the runtime that drives it.

An actor is a plain object that owns its state and only ever reacts. The runtime calls one handler at a time (a *turn*);
every effect that a handler asks for through its :class:`Context` is queued, and released when the handler returns. A
handler that raises has no effects at all: the exception is a bug of ours, the actor is stopped, and the process ends.

Two runtimes drive the same actors: :mod:`actors.zmq` (real sockets, real threads) and :mod:`actors.sim` (one thread,
virtual time, one seed). ``tests/conformance`` runs one suite over both.

Addresses
    An :data:`Address` is either an *endpoint* that somebody listens at (``tcp://10.0.0.7:7710``; in the simulator any
    such string), or the *peer name* of somebody who connected to us (``node-3f2a/17``: a name, a slash, and the
    incarnation of that process). ``ctx.send`` to an endpoint opens a connection at first use; a reply goes to
    ``sender.address``.

Delivery
    At most once, in order per connection while it lives. A message may be lost without notice (queue full, peer gone,
    connection reset), so safety never rests on the transport: requests carry an id, a deadline and a retry.

Payload
    Frames of bytes that travel beside the message without being encoded; large ones are not copied either. They are
    read-only and handed over for good: whoever sends a buffer never writes to it again. Small frames of one message
    arrive as parts of one buffer: whoever keeps one of them keeps all of it, 324 KiB at most.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NewType, Protocol

import msgspec

Address = NewType("Address", str)
"""An endpoint (``tcp://host:port``) or the peer name (``name/incarnation``) of a connected peer."""

Payload = Sequence[bytes | memoryview]
"""Read-only frames beside a message."""

Token = Any
"""What an actor names a timer or a job by: any hashable value. Reusing a live token re-arms the timer."""


class Message(msgspec.Struct, frozen=True):
    """Base of everything that is sent. Concrete messages are tagged, and decoded by the codec that the runtime is given."""


class Job(msgspec.Struct, frozen=True):
    """Disk or CPU work, as data. The runtime runs it on the worker of the named lane and answers with ``on_result``."""


class PeerEvent(enum.Enum):
    """What a runtime may notice about a peer. A hint: silence means nothing, and a lost peer may go unnoticed."""

    GONE = "gone"  #: a send could not be routed, or the connection was lost or refused: queued messages are dropped
    BUSY = "busy"  #: the peer's queue is full: this message was dropped


class Channel(enum.Enum):
    """By which way a message came."""

    DIRECT = "direct"  #: ROUTER/DEALER, addressed to us
    FEED = "feed"  #: PUB/SUB, lossy; only ever a hint


@dataclass(frozen=True, slots=True)
class Peer:
    """The sender of a message, as far as the transport knows it."""

    address: Address  #: where a reply goes
    name: str  #: what it says it is (the part of the peer name before the slash; the endpoint for a server)
    incarnation: int  #: which start of that process sent this
    channel: Channel = Channel.DIRECT
    user_id: str = ""  #: what the transport proved (CURVE key fingerprint); empty on an open transport


class Context(Protocol):
    """What an actor may do during a turn. Valid only until the handler returns."""

    @property
    def self_address(self) -> Address:
        """This actor's own peer name, ``name/incarnation``."""
        ...

    @property
    def random(self) -> random.Random:
        """The actor's own generator; seeded in the simulator, from the system's entropy in life."""
        ...

    def now_ns(self) -> int:
        """Monotonic nanoseconds: for deadlines and leases."""
        ...

    def wall_ns(self) -> int:
        """Nanoseconds since the epoch. May jump: for showing to people, never for timeouts."""
        ...

    def endpoint(self, kind: str) -> Address | None:
        """The bound endpoint of ``"listen"``, ``"publish"`` or ``"subscribe"``, with its real port, or None."""
        ...

    def send(self, to: Address, message: Message, payload: Payload = ()) -> None:
        """Queue a message. At most once; raises ``MessageTooLarge`` if it exceeds the limits."""
        ...

    def disconnect(self, to: Address) -> None:
        """Forget a peer: close its connection and drop what is queued. The next send opens a new one."""
        ...

    def publish(self, topic: str, message: Message) -> None:
        """Publish on this actor's PUB socket. Lossy."""
        ...

    def join_feed(self, *, publish_to: Address | None = None, subscribe_to: Address | None = None) -> None:
        """Connect the PUB or SUB socket to an endpoint, replacing the earlier one of that kind. All topics are received."""
        ...

    def set_timer(self, token: Token, delay_ns: int) -> None:
        """Call ``on_timer(token)`` once, no sooner than ``delay_ns`` from now. Replaces a pending timer of that token."""
        ...

    def cancel_timer(self, token: Token) -> None:
        """Forget a timer; unknown tokens are fine."""
        ...

    def run(self, token: Token, lane: str, job: Job) -> None:
        """Hand a job to a lane. Its result comes as ``on_result(token, result)``; jobs of a lane start in order."""
        ...

    def log(self, event: str, **fields: object) -> None:
        """A structured log line; part of the trace in the simulator."""
        ...

    def stop(self, status: int = 0) -> None:
        """End this actor (and in life its process, with that exit status) after the turn."""
        ...


class Actor:
    """Base class with handlers that do nothing. Handlers never block, and touch no clock, disk, socket or thread."""

    def on_start(self, ctx: Context) -> None:
        """First turn: sockets are bound, nothing was received."""

    def on_message(self, ctx: Context, sender: Peer, message: Message, payload: Sequence[memoryview]) -> None:
        """A decoded message. ``payload`` stays valid as long as it is referenced."""

    def on_timer(self, ctx: Context, token: Token) -> None:
        """A timer came due."""

    def on_result(self, ctx: Context, token: Token, result: Any) -> None:
        """A job ended. ``result`` is its value, or the exception that it raised."""

    def on_peer(self, ctx: Context, peer: Address, event: PeerEvent) -> None:
        """Something happened to a connection."""

    def on_call(self, ctx: Context, call: Any) -> None:
        """Something that the embedding program handed in from another thread (see ``Handle.call``)."""

    def on_stop(self, ctx: Context) -> None:
        """Last turn of an orderly stop. Messages sent here are flushed within the linger time."""

    def check_invariants(self) -> None:
        """Raise AssertionError if the state is impossible. The simulator calls it after every turn."""


LaneHandler = Callable[[Sequence[Job]], Sequence[Any]]
"""Runs a batch of jobs on a worker and returns one result each, in order. A result may be an exception *instance*: the
outcome of that one job. If the handler itself raises, every job of the batch gets that exception."""


@dataclass(frozen=True, slots=True)
class Lane:
    """A queue of jobs with its workers. All jobs waiting when a worker falls idle go to it as one batch, up to
    ``max_batch``; with one worker that is group commit, and batches grow by themselves under load."""

    handler: LaneHandler
    workers: int = 1
    max_batch: int = 256
    on_close: Callable[[], None] | None = None  #: called once, in a worker, after the last batch of an orderly stop


class Codec(Protocol):
    """Messages to bytes and back. ``decode`` raises :class:`actors.errors.ProtocolError` on anything unexpected."""

    def encode(self, message: Message) -> bytes: ...

    def decode(self, data: bytes | memoryview) -> Message: ...


@dataclass(frozen=True, slots=True)
class ActorSpec:
    """Everything a runtime needs to start one actor. A crashed process is restarted from a *new* spec."""

    name: str  #: 1-200 printable ASCII characters without a slash
    incarnation: int  #: grows with every start of the same name, or is random (clients)
    actor: Actor
    codec: Codec
    lanes: Mapping[str, Lane] = field(default_factory=dict)
    listen: Address | None = None  #: bind a ROUTER here (port 0: any free one)
    publish: Address | None = None  #: bind a PUB here
    subscribe: Address | None = None  #: bind a SUB here

    @property
    def address(self) -> Address:
        """The peer name under which others know a connection from this actor."""
        return Address(f"{self.name}/{self.incarnation}")


class Handle(Protocol):
    """The outside's grip on a running actor. All methods may be called from any thread."""

    def call(self, call: Any) -> None:
        """Deliver ``call`` to the actor's ``on_call`` in a turn of its own. Calls of one thread stay in order."""
        ...

    def endpoint(self, kind: str) -> Address | None:
        """As :meth:`Context.endpoint`."""
        ...

    def stop(self, timeout_s: float = 5.0) -> None:
        """Orderly stop: ``on_stop``, flush, close. Idempotent."""
        ...

    def kill(self) -> None:
        """Abrupt stop, like a killed process: no ``on_stop``, nothing is flushed, running jobs are abandoned."""
        ...

    def join(self, timeout_s: float | None = None) -> int | None:
        """Wait for the end; the exit status (0 orderly, 70 our bug), or None on timeout."""
        ...
