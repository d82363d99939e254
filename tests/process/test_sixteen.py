"""Which files can be read with which nodes up: every combination, against the table of chained placement."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

import dsa_zmq
from dsa_zmq import config
from dsa_zmq.errors import DSAError, Timeout, Unavailable
from dsa_zmq.model.pace import HealingPace
from dsa_zmq.protocol.operations import Locate

pytestmark = [pytest.mark.process, pytest.mark.slow]

CHUNK_BYTES = 4096
NODES = ("node-1", "node-2", "node-3", "node-4")
TABLE = ((0, 1), (1, 2), (2, 3), (3, 0))  #: chunk by chunk the two nodes that hold it; a file starts anywhere in it
GRAY = (0b1110, 0b1100, 0b1000, 0b1001, 0b0001, 0b0011, 0b0010, 0b0000, 0b0100, 0b0101, 0b0111, 0b0110)
#: twelve of the sixteen: from one to the next one node changes


def holders(first: set[str], second: set[str] | None, chunks: int) -> list[set[str]]:
    """The nodes of each chunk, from those of the first one (and of the second, which tells the direction: there is one)."""
    row = next(row for row, pair in enumerate(TABLE) if {NODES[node] for node in pair} == first)
    pairs = [{NODES[node] for node in TABLE[(row + chunk) % 4]} for chunk in range(chunks)]
    assert second is None or pairs[1] == second
    return pairs


def test_with_any_nodes_down_exactly_the_right_files_can_be_read(
    client: Any, content: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = partial(HealingPace, endangered_delay_s=1e6, degraded_delay_s=1e6)  # repair would change the table
    monkeypatch.setattr(config, "HealingPace", never)
    with dsa_zmq.LocalCluster(4, placement="chained", directory=tmp_path / "c") as cluster:
        reader = client(
            cluster.url, CHUNK_BYTES, progress_timeout_s=0.6, node_timeout_s=0.5, node_dead_s=0.2, hedge_s=0.1
        )
        store = reader.store
        files: dict[str, tuple[bytes, list[set[str]]]] = {}
        names = {node.node: node.name for node in store.nodes()}
        for chunks in (1, 2, 3, 4):
            rows: set[tuple[str, ...]] = set()
            number = 0
            while len(rows) < 4:
                number += 1
                assert number < 80, "not every row of the table begins a file"
                path, data = f"/{chunks}-{number}", content((chunks - 1) * CHUNK_BYTES + 1 + number)
                store.put([data], path)
                places = [
                    {names[place.node] for place in chunk.places}
                    for chunk in store._connection.ask(Locate(path)).chunks
                ]
                expected = holders(places[0], places[1] if chunks > 1 else None, chunks)
                assert places == expected, f"{path} does not lie as the table says"
                if (key := tuple(sorted(places[0]))) not in rows:
                    rows.add(key)
                    files[path] = (data, expected)
        combinations = set()
        up = 0b1111
        for wanted in (0b1111, *GRAY, 0b1110, 0b1010, 0b1011, 0b1101):
            for node in range(4):
                if (up ^ wanted) >> node & 1:
                    (cluster.restart if wanted >> node & 1 else cluster.kill)(node)
            up = wanted
            combinations.add(up)
            _settled(cluster, store, up)
            _until_it_answers(store, up)
            _check(store, files, {NODES[node] for node in range(4) if up >> node & 1})
        assert len(combinations) == 16


def _settled(cluster: Any, store: Any, up: int) -> None:
    """Wait until the master has noticed it all, returns too."""
    deadline = time.monotonic() + 10
    expected = {NODES[node]: "up" if up >> node & 1 else "down" for node in range(4)}
    while True:
        nodes = store.nodes()
        states = {node.name: node.state for node in nodes}
        if states == expected and all(cluster._state(node) in ("up", "known to be down") for node in nodes):
            return
        assert time.monotonic() < deadline, states
        time.sleep(0.01)


def _until_it_answers(store: Any, up: int) -> None:
    """What was just registered has to be on nodes before a read may tell of it, unless the master is alone for a while."""
    deadline = time.monotonic() + 10
    while up:
        try:
            store.stat("/")
        except Timeout:
            assert time.monotonic() < deadline
        else:
            return


def _check(store: Any, files: dict[str, tuple[bytes, list[set[str]]]], up: set[str]) -> None:
    def read(path: str) -> bytes | DSAError:
        try:
            return store.read_bytes(path)
        except DSAError as error:
            return error

    with ThreadPoolExecutor(len(files)) as pool:
        results = dict(zip(files, pool.map(read, files), strict=True))
    for path, (data, chunks) in files.items():
        result = results[path]
        if all(pair & up for pair in chunks):
            assert result == data, f"{path} with {sorted(up)} up: {result!r}"
            continue
        if not up:  # no word of any node: the master cannot know that it is still the one
            assert isinstance(result, Unavailable | Timeout), f"{path}: {result!r}"
            continue
        assert isinstance(result, Unavailable), f"{path} with {sorted(up)} up: {result!r}"
        assert result.exit_status == 7
        lost = [pair for pair in chunks if not pair & up]
        assert path in result.message
        assert any(all(name in result.message for name in pair) for pair in lost), f"{result.message}: not {lost}"
        assert result.remedy
