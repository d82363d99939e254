"""``connect`` tells apart who does not answer, and why."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import zmq

import dsa_zmq
from dsa_zmq.errors import DSAError, Incompatible, Invalid, Timeout, Unavailable

pytestmark = [pytest.mark.process, pytest.mark.slow]


@contextmanager
def listener(answer: bytes, *, accepts: bool = True) -> Iterator[str]:
    """A program that is no DSA server: it says ``answer`` to whoever connects, or nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        kept = []

        def serve() -> None:
            while accepts:
                try:
                    connection, _ = listening.accept()
                    connection.sendall(answer)
                except OSError:
                    return
                kept.append(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"dsa://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        for connection in kept:
            connection.close()


def failure(url: str, kind: type[DSAError], timeout: float = 0.3) -> DSAError:
    begin = time.monotonic()
    with pytest.raises(kind) as caught:
        dsa_zmq.connect(url, timeout)
    assert time.monotonic() - begin < timeout + 1  # to close
    assert caught.value.remedy
    return caught.value


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    error = failure(f"dsa://127.0.0.1:{port}", Unavailable)
    assert f"nobody answers at 127.0.0.1:{port}: Connection refused" in error.message
    assert "dsa up" in error.remedy


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n"]
)
def test_something_else_answers(answer: bytes) -> None:
    with listener(answer) as url:
        assert "something else answers at 127.0.0.1:" in failure(url, Unavailable).message


def test_whoever_listens_and_says_nothing_may_be_a_master_that_hangs() -> None:
    with listener(b"") as url:
        assert "says nothing: a master that was stopped or hangs" in failure(url, Unavailable).message


def test_a_nodes_port_is_called_that() -> None:
    with dsa_zmq.LocalCluster(1, "copies=1") as cluster:
        with cluster.connect() as store:
            (node,) = store.nodes()
        address = node.address.removeprefix("tcp://")
        assert "is a node, not a master" in failure(f"dsa://{address}", Incompatible).message


def test_a_zeromq_program_that_is_no_master_is_called_that() -> None:
    with zmq.Context() as context, context.socket(zmq.PUB) as server:
        server.bind("tcp://127.0.0.1:0")
        error = failure(server.get_string(zmq.LAST_ENDPOINT).replace("tcp", "dsa"), Timeout)
    assert "a ZeroMQ program listens at" in error.message


def test_an_unknown_host_is_named() -> None:
    assert "host name 'no-such-host.invalid' is not known" in failure("dsa://no-such-host.invalid", Unavailable).message


@pytest.mark.parametrize(
    "url", ["", "localhost", "http://127.0.0.1", "dsa://", "dsa://host:port", "dsa://h:70000", "dsa://a b", "dsa://\0"]
)
def test_a_malformed_address_fails_at_once(url: str) -> None:
    begin = time.monotonic()
    with pytest.raises(Invalid) as caught:
        dsa_zmq.connect(url)
    assert time.monotonic() - begin < 0.25
    assert caught.value.remedy


def test_the_address_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with dsa_zmq.LocalCluster(1, "copies=1") as cluster:
        monkeypatch.setenv("DSA_URL", cluster.url)
        with dsa_zmq.connect() as store:
            assert [node.name for node in store.nodes()] == ["node-1"]
