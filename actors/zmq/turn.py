"""The Context of the zmq runtime: collects what a turn asks for, so that it can be released when the turn is over."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Any

from actors.core import ActorSpec, Address, Job, Message, Payload, Token
from actors.wire import direct_header, feed_header, pack, pack_feed
from actors.zmq.counters import Journal
from actors.zmq.pipeline import Pipeline
from actors.zmq.timers import Timers
from actors.zmq.transport import Transport

Effect = tuple[Callable[[Any, Any], None], Any, Any]


class TurnContext:
    """One per runtime; ``active`` only while a handler runs.

    Sends, publishes and connections are queued in ``effects``. Timers and jobs need no queue: nothing comes of them
    before the turn has ended well.
    """

    def __init__(
        self,
        spec: ActorSpec,
        transport: Transport,
        timers: Timers,
        pipeline: Pipeline,
        journal: Journal,
        request_stop: Callable[[int, object], None],
    ) -> None:
        self.active = False
        self.effects: list[Effect] = []
        self._address = spec.address
        self._random = random.Random()  # for jitter and choices; nothing secret comes from here
        self._encode = spec.codec.encode
        self._header = direct_header(spec.incarnation)
        self._feed_header = feed_header(spec.name, spec.incarnation)
        self._transport = transport
        self._send = transport.send
        self._timers = timers
        self._pipeline = pipeline
        self._journal = journal
        self._request_stop = request_stop

    def _check_active(self) -> None:
        if not self.active:
            raise RuntimeError("a context is valid only until the handler returns")

    @property
    def self_address(self) -> Address:
        return self._address

    @property
    def random(self) -> random.Random:
        return self._random

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        return time.time_ns()

    def endpoint(self, kind: str) -> Address | None:
        return self._transport.endpoints.get(kind)

    def send(self, to: Address, message: Message, payload: Payload = ()) -> None:
        if not self.active:
            self._check_active()
        self.effects.append((self._send, to, pack(self._header, self._encode(message), payload)))

    def disconnect(self, to: Address) -> None:
        self._check_active()
        self.effects.append((self._transport.disconnect, to, None))

    def publish(self, topic: str, message: Message) -> None:
        self._check_active()
        frames = pack_feed(topic, self._feed_header, self._encode(message))
        self.effects.append((self._transport.publish, frames, None))

    def join_feed(self, *, publish_to: Address | None = None, subscribe_to: Address | None = None) -> None:
        self._check_active()
        self.effects.append((self._transport.join_feed, publish_to, subscribe_to))

    def set_timer(self, token: Token, delay_ns: int) -> None:
        self._check_active()
        self._timers.set(token, time.monotonic_ns() + max(0, delay_ns))

    def cancel_timer(self, token: Token) -> None:
        self._check_active()
        self._timers.cancel(token)

    def run(self, token: Token, lane: str, job: Job) -> None:
        self._check_active()
        if lane not in self._pipeline:
            raise ValueError(f"{self._address} has no lane {lane!r}")
        self._pipeline.submit(token, lane, job)

    def log(self, event: str, **fields: object) -> None:
        self._journal.write(logging.INFO, event, fields)

    def stop(self, status: int = 0) -> None:
        self._check_active()
        self.effects.append((self._request_stop, status, None))
