"""Nodes that heartbeats alone would call well: their data port answers nobody, or stopped answering just now."""

from __future__ import annotations

import os
import signal
import socket
from typing import Any

import msgspec
import pytest

import dsa_zmq
from dsa_zmq.config import NodeOptions
from dsa_zmq.protocol.operations import Locate

pytestmark = [pytest.mark.process, pytest.mark.slow]


class Misled(dsa_zmq.LocalCluster):
    """One node says it is where nobody listens, so this cluster is never as it should be."""

    wrong = ""

    def _node_options(self, name: str) -> NodeOptions:
        options = super()._node_options(name)
        return msgspec.structs.replace(options, advertise=self.wrong) if name == "node-2" else options

    def wait_up(self, timeout: float = 0.0) -> None:
        """The test waits for what it wants."""


def test_an_advertised_address_where_nobody_listens_is_said_by_name(
    client: Any, content: Any, tmp_path: Any, eventually: Any
) -> None:
    with socket.socket() as taken:  # bound, and not listening: nobody else gets this port
        taken.bind(("127.0.0.1", 0))
        Misled.wrong = f"127.0.0.1:{taken.getsockname()[1]}"
        with Misled(3, directory=tmp_path / "c", speed=5) as cluster:
            store = client(cluster.url).store
            shown = eventually(lambda: next((n for n in store.nodes() if Misled.wrong in n.reach), None))
            assert (shown.name, shown.state) == ("node-2", "suspect")
            assert "--advertise" in shown.reach
            assert "'node-1'" in shown.reach or "'node-3'" in shown.reach
            eventually(lambda: sum(node.state == "up" for node in store.nodes()) == 2)
            assert any("node-2" in note and Misled.wrong in note for note in store.health().notes)
            data = content(50_000)
            store.put([data], "/file")
            assert store.read_bytes("/file") == data


def test_a_node_that_clients_find_silent_is_suspect_by_their_word_and_two_others(
    client: Any, content: Any, tmp_path: Any, eventually: Any
) -> None:
    with dsa_zmq.LocalCluster(4, processes=True, directory=tmp_path / "c", speed=1) as cluster:
        store = client(cluster.url).store
        data = content(3_000)
        store.put([data], "/file")
        names = {node.node: node.name for node in store.nodes()}
        first = names[store._connection.ask(Locate("/file")).chunks[0].places[0].node]
        pid = cluster.pids()[first]
        os.kill(pid, signal.SIGSTOP)
        try:
            assert store.read_bytes("/file") == data
            shown = eventually(lambda: next((n for n in store.nodes() if n.name == first and n.reach), None))
            assert shown.state in ("suspect", "down")
            assert "got no answer" in shown.reach
        finally:
            os.kill(pid, signal.SIGCONT)
        eventually(lambda: all(node.state == "up" and not node.reach for node in store.nodes()))
