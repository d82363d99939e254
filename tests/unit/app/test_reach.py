"""Why nobody answers: told from what plain TCP sees."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import zmq

from dsa_zmq.errors import Timeout, Unavailable
from dsa_zmq.reach import explain_silence


@contextmanager
def listener(answer: bytes, *, hangs_up: bool = False) -> Iterator[str]:
    """A program that says ``answer`` to the first that connects, and then keeps silent or hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        done = threading.Event()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(answer)
                if not hangs_up:
                    done.wait(10)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"tcp://127.0.0.1:{listening.getsockname()[1]}"
        done.set()
        thread.join(10)


def test_a_closed_port_is_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        at = f"127.0.0.1:{closed.getsockname()[1]}"
    error = explain_silence((f"tcp://{at}",), 5)
    assert isinstance(error, Unavailable)
    assert error.message == f"nobody answers at {at}: Connection refused"


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b"\xff", b""])
def test_another_protocol_is_something_else(answer: bytes) -> None:
    with listener(answer, hangs_up=True) as endpoint:
        error = explain_silence((endpoint,), 5)
    assert isinstance(error, Unavailable)
    assert "something else answers at 127.0.0.1:" in error.message
    assert "7700" in error.remedy


@pytest.mark.slow
def test_silence_may_be_a_master_that_hangs_or_a_server_that_waits_for_its_client_to_speak() -> None:
    with listener(b"") as endpoint:
        error = explain_silence((endpoint,), 5)
    assert isinstance(error, Unavailable)
    assert "says nothing: a master that was stopped or hangs, or no master" in error.message
    assert "7700" in error.remedy


@pytest.mark.slow
def test_a_few_bytes_and_then_silence_are_another_protocol() -> None:
    with listener(b"220 ftp\r\n") as endpoint:
        assert "something else answers" in explain_silence((endpoint,), 5).message


@pytest.mark.parametrize("kind", [zmq.ROUTER, zmq.PUB])
def test_zeromq_without_an_answer_is_called_that(kind: int) -> None:
    with zmq.Context() as context, context.socket(kind) as server:
        server.bind("tcp://127.0.0.1:0")
        error = explain_silence((server.get_string(zmq.LAST_ENDPOINT),), 5)
    assert isinstance(error, Timeout)
    assert "a ZeroMQ program listens at 127.0.0.1:" in error.message
    assert "within 5 s" in error.message


def test_each_of_several_masters_is_explained() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        endpoint = f"tcp://127.0.0.1:{closed.getsockname()[1]}"
    with listener(b"220 ftp\r\n", hangs_up=True) as other:
        message = explain_silence((endpoint, other), 5).message
    assert "nobody answers" in message
    assert "something else answers" in message
