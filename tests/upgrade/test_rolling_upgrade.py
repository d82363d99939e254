"""A cluster is upgraded one server at a time, in either order, while clients of both builds use it: nobody notices but by a
short wait, and every byte stays readable at every step."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.golden.write_store import SEGMENT_BYTES
from tests.upgrade.builds import NODES, PREVIOUS_FORMAT, Build

pytestmark = [pytest.mark.process, pytest.mark.slow]

LOAD = Path(__file__).with_name("load.py")
MARGIN_S = 3.0  #: beyond the longest absence of a server: repeats are sent with pauses of up to 2 s
LEAST_CALLS = 100  #: of each client, or it was no load


class Client:
    """A process of load.py."""

    def __init__(self, build: Build, url: str, top: str, seed: int) -> None:
        self.process = build.start(LOAD, url, top, str(seed), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            stream.close()
        self.process.wait()

    def check(self, others: dict[str, str]) -> dict[str, str]:
        """It has read everything that it was acknowledged, and ``others``; returns the former."""
        print(json.dumps(others), file=self.process.stdin, flush=True)
        told = self._told()
        assert told["wrong"] == []
        return dict(told["checked"])

    def end(self) -> dict[str, Any]:
        """What it says in the end."""
        self.process.stdin.close()  # type: ignore[union-attr]
        return self._told()

    def _told(self) -> dict[str, Any]:
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        assert line, f"a client has ended with status {self.process.wait()}"
        return dict(json.loads(line))


@pytest.fixture
def clients(old: Build, new: Build) -> Iterator[Callable[[str], list[Client]]]:
    """One of each build, at work."""
    with ExitStack() as stack:
        yield lambda url: [
            stack.enter_context(Client(build, url, f"/load-{seed}", seed)) for seed, build in enumerate((old, new))
        ]


ORDERS = {"nodes first": (*NODES, "master"), "master first": ("master", *NODES)}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_no_call_fails_and_no_byte_is_lost_while_servers_are_replaced_one_by_one(
    old: Build,
    new: Build,
    servers: Callable[..., Any],
    golden: Callable[[int], Any],
    clients: Callable[[str], list[Client]],
    order: tuple[str, ...],
) -> None:
    stored = golden(PREVIOUS_FORMAT)
    cluster = servers(master=old, nodes=old, segment_bytes=SEGMENT_BYTES)
    working = clients(cluster.url)
    acknowledged: dict[str, str] = {}
    absences = {}
    for step in (None, *order):
        if step is not None:
            absences[step] = cluster.replace(step, new, kill=step == NODES[1])
        for client in working:
            acknowledged |= {p: h for p, h in client.check(lasting(acknowledged)).items() if p not in acknowledged}
        stored.read_all(cluster.store)
    ended = [client.end() for client in working]
    assert [client["wrong"] for client in ended] == [[], []]
    assert min(client["calls"] for client in ended) > LEAST_CALLS
    longest_s = max(client["longest_s"] for client in ended)
    print(f"away {absences}, longest call {longest_s:.2f} s, {[client['calls'] for client in ended]} calls")  # noqa: T201
    assert longest_s < max(absences.values()) + MARGIN_S
    for client, _ in enumerate(ended):
        cluster.store.rm(f"/load-{client}", recursive=True)
    cluster.wait_healthy()
    stored.check(cluster.store)
    for name in ("master", *NODES):
        cluster.stop(name)
    stored.audit()


def lasting(acknowledged: dict[str, str]) -> dict[str, str]:
    """Without what its client goes on to overwrite."""
    return {path: known for path, known in acknowledged.items() if not path.endswith("/changing")}
