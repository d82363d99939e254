"""Figures for Prometheus: the text, and the server that gives it."""

from __future__ import annotations

import re
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping

import pytest

from dsa_zmq.errors import ConfigError
from dsa_zmq.metrics import CONTENT_TYPE, MetricsServer, exposition

# The text format, as https://prometheus.io/docs/instrumenting/exposition_formats/ has it.
_LINE = re.compile(
    r"# HELP (?P<help>[a-zA-Z_:][a-zA-Z0-9_:]*) \S.*"
    r"|# TYPE (?P<type>[a-zA-Z_:][a-zA-Z0-9_:]*) gauge"
    r'|(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?P<labels>\{[a-z]+="[a-z]+"\})? (?P<value>-?[0-9]+)'
)


def parsed(text: str) -> dict[str, int]:
    """All samples. Each family is declared once, before its samples, which stand together; none is there twice."""
    samples: dict[str, int] = {}
    declared: list[str] = []
    assert text.endswith("\n")
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        assert match is not None, line
        if match["type"]:
            assert match["type"] not in declared
            declared.append(match["type"])
        elif match["name"]:
            assert match["name"] == declared[-1]
            key = match["name"] + (match["labels"] or "")
            assert key not in samples
            samples[key] = int(match["value"])
    return samples


def fetched(port: int, path: str = "/metrics") -> tuple[str, str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return answer.read().decode(), answer.headers["Content-Type"]


def test_statistics_become_samples_and_states_become_labels() -> None:
    figures = {"chunks": 3, "stored_chunks_lost": 2, "moves": 1, "stored_chunks_healthy": 7, "odd name": -1}
    assert parsed(exposition("master", figures)) == {
        "dsa_master_chunks": 3,
        'dsa_master_stored_chunks{state="lost"}': 2,
        'dsa_master_stored_chunks{state="healthy"}': 7,
        "dsa_master_moves": 1,
        "dsa_master_odd_name": -1,
    }


def test_they_are_served_and_a_silent_actor_is_told() -> None:
    now: list[Mapping[str, int] | None] = [{"moves": 4}]
    server = MetricsServer("node", "127.0.0.1", 0, lambda timeout_s: now[0])
    try:
        text, kind = fetched(server.port)
        assert (parsed(text), kind) == ({"dsa_node_moves": 4}, CONTENT_TYPE)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetched(server.port, "/secret")
        now[0] = None
        with pytest.raises(urllib.error.HTTPError, match="503"):
            fetched(server.port)
    finally:
        server.close()


def test_a_port_that_is_taken_is_an_error_with_its_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match="metrics cannot be served"):
        MetricsServer("node", "127.0.0.1", taken.getsockname()[1], lambda timeout_s: {})
