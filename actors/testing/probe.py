"""A scripted actor that records what happens to it, and what a runtime must offer to be tested with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from actors.core import Actor, ActorSpec, Address, Context, Handle, Job, Lane, Message, Peer, PeerEvent, Token
from actors.errors import BusError, ProtocolError


class Note(Message, frozen=True, tag="note"):
    """A message with something to recognise it by."""

    number: int
    text: str = ""


class Garbage(Message, frozen=True, tag="garbage"):
    """Goes out as the bytes ``data``, whatever they are: what a stranger or a broken peer may send."""

    data: bytes


class Work(Job, frozen=True):
    """A job for the lanes of a test."""

    number: int


class ProbeCodec:
    """Codec of :class:`Note`; encodes :class:`Garbage` as its bare bytes."""

    def __init__(self) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Note)

    def encode(self, message: Message) -> bytes:
        return message.data if isinstance(message, Garbage) else self._encoder.encode(message)

    def decode(self, data: bytes | memoryview) -> Message:
        try:
            return self._decoder.decode(data)
        except msgspec.MsgspecError as error:
            raise ProtocolError(f"not a probe's message: {error}") from error


@dataclass(frozen=True, slots=True)
class Received:
    """One message as it came in. ``payload`` is what the runtime handed over, not a copy."""

    sender: Peer
    message: Message
    payload: Sequence[memoryview]

    @property
    def number(self) -> int:
        assert isinstance(self.message, Note)
        return self.message.number


Script = Callable[[Context], object]
"""What ``Handle.call`` hands to a probe: runs in a turn of its own."""


class Probe(Actor):
    """Records every event in lists, and runs scripts.

    The lists only grow, one append at a time, so a test may read them from its own thread while the probe runs.

    ``on_call`` runs the function it is given with the context of that turn. ``reply``, ``at_start``, ``at_timer`` and
    ``at_stop`` are run in the turns that their names say, after the event was recorded.
    """

    def __init__(
        self,
        *,
        reply: Callable[[Context, Received], object] | None = None,
        at_start: Script | None = None,
        at_timer: Callable[[Context, Token], object] | None = None,
        at_stop: Script | None = None,
    ) -> None:
        self.turns: list[str] = []  #: the handlers' names, in the order of the turns
        self.messages: list[Received] = []
        self.timers: list[tuple[Token, int]] = []  #: (token, now_ns of the turn)
        self.results: list[tuple[Token, Any]] = []
        self.peers: list[tuple[Address, PeerEvent]] = []
        self.noted: list[Any] = []  #: for scripts, to leave what the test wants to see
        self._reply = reply
        self._at_start = at_start
        self._at_timer = at_timer
        self._at_stop = at_stop

    @property
    def numbers(self) -> list[int]:
        """The numbers of the notes received, in order."""
        return [received.number for received in self.messages]

    def attempt(self, action: Callable[[], object]) -> None:
        """Run ``action`` and note with which error it was refused, or None."""
        try:
            action()
        except (BusError, TypeError) as error:
            self.noted.append(error)
        else:
            self.noted.append(None)

    def on_start(self, ctx: Context) -> None:
        self.turns.append("start")
        if self._at_start is not None:
            self._at_start(ctx)

    def on_message(self, ctx: Context, sender: Peer, message: Message, payload: Sequence[memoryview]) -> None:
        self.turns.append("message")
        received = Received(sender, message, payload)
        self.messages.append(received)
        if self._reply is not None:
            self._reply(ctx, received)

    def on_timer(self, ctx: Context, token: Token) -> None:
        self.turns.append("timer")
        self.timers.append((token, ctx.now_ns()))
        if self._at_timer is not None:
            self._at_timer(ctx, token)

    def on_result(self, ctx: Context, token: Token, result: Any) -> None:
        self.turns.append("result")
        self.results.append((token, result))

    def on_peer(self, ctx: Context, peer: Address, event: PeerEvent) -> None:
        self.turns.append("peer")
        self.peers.append((peer, event))

    def on_call(self, ctx: Context, call: Script) -> None:
        self.turns.append("call")
        call(ctx)

    def on_stop(self, ctx: Context) -> None:
        self.turns.append("stop")
        if self._at_stop is not None:
            self._at_stop(ctx)


def echo(ctx: Context, received: Received) -> None:
    """A ``reply`` that sends message and payload back to where they came from."""
    ctx.send(received.sender.address, received.message, received.payload)


class Harness(Protocol):
    """A runtime under test. Every test gets a new one."""

    virtual_time: bool
    """True if work takes simulated time, so that a lane's handler must not block."""

    def start(self, spec: ActorSpec) -> Handle:
        """Start an actor."""
        ...

    def wait_for(self, predicate: Callable[[], object], timeout_s: float = 5.0) -> None:
        """Return once ``predicate()`` is true (in virtual time: let the world go on); AssertionError on timeout."""
        ...

    def listen_at(self) -> Address:
        """An endpoint to bind, with a port of the system's choice."""
        ...

    def unused_endpoint(self) -> Address:
        """An endpoint, with its port, at which nobody listens yet, and which can be bound later."""
        ...

    def partition(self, a: Running, b: Running, *, one_way: bool = False) -> None:
        """Nothing gets through between the two any more; with ``one_way`` nothing from ``a`` to ``b``."""
        ...

    def heal(self) -> None:
        """Undo all partitions."""
        ...

    def close(self) -> None:
        """End every actor and give everything back."""
        ...


@dataclass(slots=True)
class Running:
    """A probe that runs in a harness."""

    harness: Harness
    probe: Probe
    handle: Handle
    spec: ActorSpec = field(repr=False)

    def endpoint(self, kind: str = "listen") -> Address:
        """The bound endpoint, as soon as it is known."""
        self.harness.wait_for(lambda: self.handle.endpoint(kind) is not None)
        endpoint = self.handle.endpoint(kind)
        assert endpoint is not None
        return endpoint

    def do(self, script: Script) -> None:
        """Run ``script`` in a turn of the probe and wait until that turn is over."""
        done: list[None] = []

        def run(ctx: Context) -> None:
            try:
                script(ctx)
            finally:
                done.append(None)

        self.handle.call(run)
        self.harness.wait_for(lambda: done)

    def send(self, to: Address, *numbers: int, text: str = "") -> None:
        """Send notes with these numbers, in one turn."""

        def script(ctx: Context) -> None:
            for number in numbers:
                ctx.send(to, Note(number, text))

        self.do(script)


def start_probe(
    harness: Harness,
    name: str,
    probe: Probe | None = None,
    *,
    incarnation: int = 1,
    lanes: Mapping[str, Lane] | None = None,
    listen: Address | None = None,
    publish: Address | None = None,
    subscribe: Address | None = None,
) -> Running:
    """Start ``probe`` (default: one that only records) under ``name``."""
    probe = probe or Probe()
    spec = ActorSpec(
        name=name,
        incarnation=incarnation,
        actor=probe,
        codec=ProbeCodec(),
        lanes=lanes or {},
        listen=listen,
        publish=publish,
        subscribe=subscribe,
    )
    return Running(harness, probe, harness.start(spec), spec)


def again_until(harness: Harness, until: Callable[[], object], action: Callable[[], object]) -> None:
    """Do ``action`` again and again until ``until()``: as every request is resent. AssertionError after ten seconds."""
    for _ in range(200):
        action()
        try:
            harness.wait_for(until, timeout_s=0.05)
        except AssertionError:
            continue
        return
    raise AssertionError("200 attempts in ten seconds were in vain")


def pair(harness: Harness, server: Probe | None = None) -> tuple[Running, Running, Address]:
    """A listening probe, one that has reached it, and the endpoint."""
    listening = start_probe(harness, "server", server or Probe(reply=echo), listen=harness.listen_at())
    client = start_probe(harness, "client")
    endpoint = listening.endpoint()
    client.send(endpoint, 0)
    harness.wait_for(lambda: listening.probe.messages)
    return listening, client, endpoint
