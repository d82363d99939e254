"""Every socket option of the bus in one table, and how a socket is opened, bound, written and read.

Options set after bind or connect do not apply to it, so all are set when the socket is made. SNDBUF and RCVBUF are left
to the kernel, whose auto-tuning beats any fixed size.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

import zmq

from actors import limits
from actors.core import Address
from actors.errors import BindError
from actors.wire import Buffer

# Plain integers: `|` on pyzmq's enums costs more than the call it is an argument of.
NOBLOCK: Final = int(zmq.NOBLOCK)
MORE: Final = int(zmq.SNDMORE) | NOBLOCK
_READABLE: Final = int(zmq.POLLIN)
MAX_PORT: Final = 65_535
ZERO_COPY_BYTES: Final = 1 << 16  #: below, pyzmq's bookkeeping for a shared buffer costs more than the copy

_EVERY_SOCKET: Final = (
    (zmq.LINGER, 0),  # an orderly stop raises it at the end; everything else drops what is queued
    (zmq.SNDHWM, limits.SEND_QUEUE_MESSAGES),
    (zmq.RCVHWM, limits.SEND_QUEUE_MESSAGES),
)
_REMOTE: Final = (
    (zmq.IPV6, 1),  # else [::1] is ENODEV; tcp://* then takes both families
    (zmq.MAXMSGSIZE, limits.MAX_FRAME_BYTES),  # the default is unlimited
    (zmq.HEARTBEAT_IVL, limits.HEARTBEAT_INTERVAL_MS),
    (zmq.HEARTBEAT_TIMEOUT, limits.HEARTBEAT_TIMEOUT_MS),
    (zmq.HEARTBEAT_TTL, limits.HEARTBEAT_TIMEOUT_MS),
    (zmq.HANDSHAKE_IVL, limits.HANDSHAKE_INTERVAL_MS),
    (zmq.RECONNECT_IVL, limits.RECONNECT_MIN_MS),
    (zmq.RECONNECT_IVL_MAX, limits.RECONNECT_MAX_MS),  # the default is no back-off at all
)
OPTIONS: Final[dict[int, tuple[tuple[int, int], ...]]] = {
    zmq.ROUTER: (
        *_EVERY_SOCKET,
        *_REMOTE,
        (zmq.ROUTER_MANDATORY, 1),  # else a message to an absent or slow peer vanishes without an error
        (zmq.ROUTER_HANDOVER, 1),  # else a peer that reconnects before its old connection died is ignored
    ),
    zmq.DEALER: (*_EVERY_SOCKET, *_REMOTE),
    zmq.PUB: (*_EVERY_SOCKET, *_REMOTE),
    zmq.SUB: (*_EVERY_SOCKET, *_REMOTE),
    zmq.PUSH: _EVERY_SOCKET,  # PUSH and PULL carry jobs within the process only
    zmq.PULL: _EVERY_SOCKET,
}

Socket = zmq.Socket[bytes]
Context = zmq.Context[Socket]
Send = Callable[..., Any]
"""``send(data, flags, copy)`` of a socket."""


def open_socket(context: Context, kind: int, routing_id: bytes | None = None) -> Socket:
    """A socket with its options set, neither bound nor connected. Only the calling thread may use and close it."""
    socket: Socket = context.socket(kind)
    try:
        for option, value in OPTIONS[kind]:
            socket.setsockopt(option, value)
        if routing_id is not None:
            socket.setsockopt(zmq.ROUTING_ID, routing_id)
        if kind == zmq.SUB:
            socket.setsockopt(zmq.SUBSCRIBE, b"")
    except BaseException:
        socket.close(0)
        raise
    return socket


def bind(context: Context, kind: int, endpoint: Address) -> tuple[Socket, Address]:
    """A bound socket and the endpoint it is really bound to, or BindError."""
    socket = open_socket(context, kind)
    try:
        _check_port(endpoint)
        socket.bind(endpoint)
        return socket, _unmapped(socket.getsockopt_string(zmq.LAST_ENDPOINT))
    except (zmq.ZMQError, TypeError, ValueError) as error:
        socket.close(0)
        raise BindError(f"cannot bind {endpoint}: {error}") from error


def _check_port(endpoint: str) -> None:
    """ValueError for a port that libzmq would take modulo 65,536: it would listen, or talk, somewhere else."""
    port = endpoint.rpartition(":")[2]
    if endpoint.startswith("tcp://") and port.isdecimal() and int(port[:9]) > MAX_PORT:
        raise ValueError(f"port {port[:9]} is above {MAX_PORT}")


def _unmapped(endpoint: str) -> Address:
    """An IPv4 endpoint as people write it: with IPv6 on, libzmq reports ``tcp://[::ffff:10.0.0.7]:7710``."""
    prefix = "tcp://[::ffff:"
    return Address("tcp://" + endpoint[len(prefix) :].replace("]", "") if endpoint.startswith(prefix) else endpoint)


def connect(context: Context, kind: int, endpoint: Address, routing_id: bytes | None = None) -> Socket | None:
    """A socket on its way to ``endpoint``, or None if that can never succeed (malformed, no sockets left)."""
    try:
        socket = open_socket(context, kind, routing_id)
    except zmq.ContextTerminated:
        raise
    except zmq.ZMQError:
        return None
    try:
        _check_port(endpoint)
        if endpoint.startswith("tcp://localhost:"):
            socket.setsockopt(zmq.IPV6, 0)  # libzmq tries one address only, [::1], where servers rarely listen
        socket.connect(endpoint)
    except (zmq.ZMQError, TypeError, ValueError):
        socket.close(0)
        return None
    return socket


def terminate(context: Context, name: str, timeout_s: float) -> None:
    """Terminate a context whose sockets are all closed, or about to be; wait no longer than ``timeout_s`` for it.

    Termination waits for lingering messages and for sockets that other threads still hold, without a limit of its own;
    so it gets a thread, which ends with them.
    """
    watchdog = threading.Thread(target=context.term, name=f"{name}:term", daemon=True)
    watchdog.start()
    watchdog.join(max(0.0, timeout_s))


def receive_frames(socket: Socket, most: int) -> list[Buffer]:
    """The frames left of the message that is being received; those beyond ``most`` + 1 are thrown away.

    They are read-only views that keep libzmq's own buffers alive: nothing is copied.
    """
    frame: Any = socket.recv(NOBLOCK, False)  # a zmq.Frame, whose buffer property costs more than a new view
    frames: list[Buffer] = [memoryview(frame).toreadonly()]
    while frame.more:
        frame = socket.recv(NOBLOCK, False)
        if len(frames) <= most:
            frames.append(memoryview(frame).toreadonly())
    return frames


def has_message(socket: Socket) -> bool:
    """Whether a receive would succeed now. Costs half of being told so by an Again, and as much as a small send."""
    return bool(zmq.zmq_poll([(socket, _READABLE)], 0))


def lean_send(socket: Socket) -> Send:
    """The socket's own ``send``, without pyzmq's outer one, which is there for sockets of other kinds than ours and
    takes twice as long."""
    send: Send = super(zmq.Socket, socket).send
    return send


def send_rest(send: Send, frames: Sequence[Buffer], last: zmq.Frame | None = None) -> None:
    """Send the frames that follow one that was accepted (more than none), and ``last`` behind them if it is given.

    A connection may die between two frames. libzmq then swallows the message up to its last frame, which it must
    therefore be given: otherwise the *next* message would be taken for the rest of this one.
    """
    end = len(frames) - 1 if last is None else -1
    for index, frame in enumerate(frames):
        try:
            send(frame, NOBLOCK if index == end else MORE, len(frame) < ZERO_COPY_BYTES)
        except zmq.Again:
            continue
    if last is not None:
        with contextlib.suppress(zmq.Again):
            send(last, NOBLOCK, False)
