"""What this machine can do at most, measured in the same run as the workloads, so that ratios mean something anywhere."""

from __future__ import annotations

import multiprocessing
import os
import socket
import statistics
import time
from collections.abc import Callable
from pathlib import Path

BLOCK = 1 << 20
SYNC_BYTES = 4 << 20


def median_of(rounds: int, measure: Callable[[], float]) -> float:
    """Median of ``rounds`` measurements after one that warms up."""
    measure()
    return statistics.median(measure() for _ in range(rounds))


def _sink(listener: socket.socket, connections: int) -> None:
    """Accept, read everything, answer one byte at the end; as often as asked."""
    for _ in range(connections):
        connection, _ = listener.accept()
        buffer = bytearray(BLOCK)
        with connection:
            while connection.recv_into(buffer):
                pass
            connection.sendall(b"!")


def tcp_bytes_per_s(total: int, copies: int, rounds: int) -> float:
    """Bytes of content per second through loopback TCP when each byte is pushed to ``copies`` receiving processes."""
    fork = multiprocessing.get_context("fork")
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(copies)]
    sinks = [fork.Process(target=_sink, args=(listener, rounds + 1), daemon=True) for listener in listeners]
    for sink in sinks:
        sink.start()
    block = os.urandom(BLOCK)

    def once() -> float:
        streams = [socket.create_connection(listener.getsockname()) for listener in listeners]
        start = time.perf_counter()
        for _ in range(total // BLOCK):
            for stream in streams:
                stream.sendall(block)
        for stream in streams:
            stream.shutdown(socket.SHUT_WR)
            stream.recv(1)
        seconds = time.perf_counter() - start
        for stream in streams:
            stream.close()
        return total / seconds

    try:
        return median_of(rounds, once)
    finally:
        for sink in sinks:
            sink.join(5)
        for listener in listeners:
            listener.close()


def copy_bytes_per_s(source: Path, scratch: Path, rounds: int) -> float:
    """``cp`` of a file inside the page cache to a new file."""
    target = scratch / "copy.bin"
    buffer = memoryview(bytearray(BLOCK))

    def once() -> float:
        start = time.perf_counter()
        with source.open("rb", buffering=0) as reader, target.open("xb", buffering=0) as writer:
            while count := reader.readinto(buffer):
                writer.write(buffer[:count])
        seconds = time.perf_counter() - start
        target.unlink()
        return source.stat().st_size / seconds

    return median_of(rounds, once)


def _write_durably(path: Path, size: int) -> None:
    block = os.urandom(BLOCK)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, size)
        for offset in range(0, size, BLOCK):
            os.pwrite(fd, block, offset)
            if offset % SYNC_BYTES == SYNC_BYTES - BLOCK:
                os.fdatasync(fd)
        os.fdatasync(fd)
    finally:
        os.close(fd)


def durable_bytes_per_s(scratch: Path, size: int, copies: int, rounds: int) -> float:
    """Bytes of content per second when each is written to ``copies`` new preallocated files, each by a process of its own,
    with fdatasync after every :data:`SYNC_BYTES`."""
    fork = multiprocessing.get_context("fork")

    def once() -> float:
        paths = [scratch / f"durable{number}.bin" for number in range(copies)]
        writers = [fork.Process(target=_write_durably, args=(path, size), daemon=True) for path in paths]
        start = time.perf_counter()
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        seconds = time.perf_counter() - start
        for path in paths:
            path.unlink()
        return size / seconds

    return median_of(rounds, once)


def syncs_per_s(scratch: Path, count: int = 500) -> float:
    """Appends of 4 KiB, each followed by fdatasync, one after the other."""
    path = scratch / "sync.bin"
    block = os.urandom(4096)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        start = time.perf_counter()
        for _ in range(count):
            os.write(fd, block)
            os.fdatasync(fd)
        return count / (time.perf_counter() - start)
    finally:
        os.close(fd)
        path.unlink()


def _echo(port_pipe: multiprocessing.connection.Connection) -> None:
    import zmq

    router = zmq.Context().socket(zmq.ROUTER)
    port_pipe.send(router.bind_to_random_port("tcp://127.0.0.1"))
    while True:
        frames = router.recv_multipart()
        if frames[-1] == b"stop":
            break
        router.send_multipart(frames)
    router.close(500)


def echoes_per_s(count: int = 20_000, window: int = 64) -> float:
    """Small messages through a ROUTER in another process and back, ``window`` in flight, blocking sockets."""
    import zmq

    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_echo, args=(theirs,), daemon=True)
    process.start()
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.connect(f"tcp://127.0.0.1:{ours.recv()}")
    body = b"x" * 100
    dealer.send(body)
    dealer.recv()
    start = time.perf_counter()
    for _ in range(window):
        dealer.send(body)
    for _ in range(count - window):
        dealer.recv()
        dealer.send(body)
    for _ in range(window):
        dealer.recv()
    seconds = time.perf_counter() - start
    dealer.send(b"stop")
    process.join(5)
    dealer.close(0)
    context.term()
    return count / seconds
