"""What a simulated actor may do during a turn; and how a message is encoded and copied for its way."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from actors import wire
from actors.core import Address, Context, Job, Message, Payload, Token
from actors.sim.network import Packet
from actors.sim.trace import log_detail

if TYPE_CHECKING:
    from actors.sim.process import Process


class SimContext:
    """The :class:`~actors.core.Context` of one turn. Effects are kept, and released by the process after the turn."""

    __slots__ = ("_process", "effects")

    def __init__(self, process: Process) -> None:
        self._process: Process | None = process
        self.effects: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def end(self) -> None:
        """The turn is over: whoever kept the context gets an error from here on."""
        self._process = None

    @property
    def _p(self) -> Process:
        if self._process is None:
            raise RuntimeError("a context is valid only until its handler returns")
        return self._process

    @property
    def self_address(self) -> Address:
        return self._p.address

    @property
    def random(self) -> random.Random:
        return self._p.random

    def now_ns(self) -> int:
        return self._p.clock.monotonic_ns(self._p.world.now_ns)

    def wall_ns(self) -> int:
        return self._p.clock.wall_ns(self._p.world.now_ns)

    def endpoint(self, kind: str) -> Address | None:
        return self._p.endpoints.get(kind)

    def send(self, to: Address, message: Message, payload: Payload = ()) -> None:
        process = self._p
        packet = encode(process, message, payload)
        self.effects.append((process.world.network.send, (process, to, packet)))

    def disconnect(self, to: Address) -> None:
        self.effects.append((self._p.world.network.disconnect, (self._p, to)))

    def publish(self, topic: str, message: Message) -> None:
        packet = encode(self._p, message, ())
        self.effects.append((self._p.world.network.publish, (self._p, packet)))

    def join_feed(self, *, publish_to: Address | None = None, subscribe_to: Address | None = None) -> None:
        # Who publishes to an endpoint looks for a bound SUB there, and the other way round.
        if publish_to is not None:
            self.effects.append((self._p.join, ("subscribe", publish_to)))
        if subscribe_to is not None:
            self.effects.append((self._p.join, ("publish", subscribe_to)))

    def set_timer(self, token: Token, delay_ns: int) -> None:
        self.effects.append((self._p.set_timer, (token, delay_ns)))

    def cancel_timer(self, token: Token) -> None:
        self.effects.append((self._p.cancel_timer, (token,)))

    def run(self, token: Token, lane: str, job: Job) -> None:
        self.effects.append((self._p.lanes[lane].submit, (token, job)))

    def log(self, event: str, **fields: object) -> None:
        self._p.trace("log", log_detail(event, fields))

    def stop(self, status: int = 0) -> None:
        self.effects.append((self._p.request_stop, (status,)))


def encode(process: Process, message: Message, payload: Payload) -> Packet:
    """Encode and copy a message, or raise MessageTooLarge (limits) or TypeError (a payload that could still change)."""
    body = process.spec.codec.encode(message)
    frames = tuple(bytes(frame) for frame in wire.pack(process.header, body, payload))
    size = len(body) + sum(frame.nbytes if isinstance(frame, memoryview) else len(frame) for frame in payload)
    return Packet(frames, tuple(payload), size, message)


if TYPE_CHECKING:
    _checked: type[Context] = SimContext
