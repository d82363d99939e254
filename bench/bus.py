"""The bus against raw pyzmq, in the same run: small echoes, and 1 MiB payloads one way with small answers.

``python -m bench.bus [--rounds N] [--seconds S]``. Each side is a process of its own; a ratio of 1 means that the bus
costs nothing beyond the sockets. Rounds alternate between the two, and the medians are shown.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import msgspec
import zmq

from actors.core import Actor, ActorSpec, Address, Context, Message, Peer
from actors.zmq import ZmqRuntime
from actors.zmq.memory import tune_malloc

CHUNK = bytes(1 << 20)
WINDOW_SMALL = 64
WINDOW_CHUNKS = 8
SMALL = b"x" * 40  #: about what the bus sends for an Echo


class Echo(Message, frozen=True, tag=True):
    """A request and its answer."""

    number: int
    text: str = "a small message"


class EchoCodec:
    """msgspec, without error handling: nobody else sends here."""

    def __init__(self) -> None:
        self.encode = msgspec.msgpack.Encoder().encode
        self.decode = msgspec.msgpack.Decoder(Echo).decode


class Answering(Actor):
    """Answers every message, without its payload."""

    def on_message(self, ctx: Context, sender: Peer, message: Message, payload: Sequence[memoryview]) -> None:
        ctx.send(sender.address, message)


class Asking(Actor):
    """Keeps a window of requests in flight; a call (endpoint, window, payload, seconds) starts a measurement."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.per_second = 0.0

    def on_call(self, ctx: Context, call: tuple[Address, int, Sequence[bytes], float]) -> None:
        self.to, window, self.payload, seconds = call
        self.count = 0
        self.in_flight = window
        self.started_ns = ctx.now_ns()
        self.running = True
        self.done.clear()
        ctx.set_timer("end", int(seconds * 1e9))
        for number in range(window):
            ctx.send(self.to, Echo(number), self.payload)

    def on_message(self, ctx: Context, sender: Peer, message: Message, payload: Sequence[memoryview]) -> None:
        self.count += 1
        if self.running:
            ctx.send(self.to, message, self.payload)
            return
        self.in_flight -= 1
        if self.in_flight == 0:
            self.done.set()

    def on_timer(self, ctx: Context, token: object) -> None:
        self.running = False
        self.per_second = self.count * 1e9 / (ctx.now_ns() - self.started_ns)


def serve_bus() -> None:
    """A process: the bus's answering side, until its standard input ends."""
    runtime = ZmqRuntime(ActorSpec("server", 1, Answering(), EchoCodec(), listen=Address("tcp://127.0.0.1:0"))).start()
    print(runtime.endpoint("listen"), flush=True)
    sys.stdin.read()
    runtime.kill()


def serve_raw() -> None:
    """A process: the raw answering side."""
    router = zmq.Context.instance().socket(zmq.ROUTER)
    router.bind("tcp://127.0.0.1:0")
    print(router.get_string(zmq.LAST_ENDPOINT), flush=True)
    poller = zmq.Poller()
    poller.register(router, zmq.POLLIN)
    nonblock, more = int(zmq.NOBLOCK), int(zmq.SNDMORE)
    while True:
        poller.poll()
        try:
            while True:
                sender = router.recv(nonblock)
                frame = router.recv(nonblock, False)
                message = frame.bytes
                while frame.more:
                    frame = router.recv(nonblock, False)
                router.send(sender, more)
                router.send(message)
        except zmq.Again:
            continue


def ask_raw(endpoint: str, window: int, payload: Sequence[bytes], seconds: float) -> float:
    """Answers per second that a raw DEALER gets."""
    dealer = zmq.Context.instance().socket(zmq.DEALER)
    dealer.connect(endpoint)
    nonblock, more = int(zmq.NOBLOCK), int(zmq.SNDMORE)

    def send() -> None:
        if payload:
            dealer.send(SMALL, more)
            dealer.send(payload[0], copy=False)
        else:
            dealer.send(SMALL)

    poller = zmq.Poller()
    poller.register(dealer, zmq.POLLIN)
    for _ in range(window):
        send()
    count = 0
    started = time.perf_counter()
    while time.perf_counter() < started + seconds:
        poller.poll()
        try:
            while True:
                dealer.recv(nonblock)
                send()
                count += 1
        except zmq.Again:
            continue
    elapsed = time.perf_counter() - started
    dealer.close(0)
    return count / elapsed


def measure(rounds: int, seconds: float) -> None:
    """Print the table."""
    servers = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.bus", "--serve", kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for kind in ("bus", "raw")
    ]
    bus_at, raw_at = (server.stdout.readline().strip() for server in servers if server.stdout)
    asking = Asking()
    client = ZmqRuntime(ActorSpec("client", 1, asking, EchoCodec())).start()

    def ask_bus(window: int, payload: Sequence[bytes]) -> float:
        asking.done.clear()
        client.call((Address(bus_at), window, payload, seconds))
        asking.done.wait()
        return asking.per_second

    work: list[tuple[str, int, Sequence[bytes], float, str]] = [
        ("echo, 1 in flight", 1, (), 1.0, "/s"),
        (f"echo, {WINDOW_SMALL} in flight", WINDOW_SMALL, (), 1.0, "/s"),
        (f"1 MiB payload, {WINDOW_CHUNKS} in flight", WINDOW_CHUNKS, (CHUNK,), len(CHUNK) / 1e9, "GB/s"),
    ]
    print(f"{'':28}{'bus':>12}{'raw pyzmq':>12}{'':>6}{'ratio':>8}")
    for name, window, payload, factor, unit in work:
        bus, raw = [], []
        for _ in range(rounds):
            bus.append(ask_bus(window, payload) * factor)
            raw.append(ask_raw(raw_at, window, payload, seconds) * factor)
        ours, theirs = statistics.median(bus), statistics.median(raw)
        digits = 2 if unit == "GB/s" else 0
        print(f"{name:28}{ours:12,.{digits}f}{theirs:12,.{digits}f} {unit:>5}{ours / theirs:8.2f}")
    client.kill()
    for server in servers:
        server.kill()
        server.communicate()


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(prog="python -m bench.bus", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--serve", choices=["bus", "raw"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    tune_malloc()
    if options.serve == "bus":
        serve_bus()
    elif options.serve == "raw":
        serve_raw()
    else:
        measure(options.rounds, options.seconds)


if __name__ == "__main__":
    main()
