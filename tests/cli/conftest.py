"""One small cluster for all tests of the client commands; each test has a directory of its own in it."""

from __future__ import annotations

import io
import itertools
import json
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from dsa_zmq.cli.main import main
from dsa_zmq.client.store import Store
from dsa_zmq.cluster import LocalCluster

_homes = itertools.count(1)


class Ran(NamedTuple):
    """How a command ended."""

    status: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The JSON objects on stdout."""
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def error(self) -> dict[str, Any]:
        """The last JSON error on stderr."""
        return dict(json.loads(self.err.splitlines()[-1])["error"])


class Stream(io.TextIOWrapper):
    """A standard stream in memory, as a terminal or as a pipe."""

    def __init__(self, content: bytes, terminal: bool, encoding: str) -> None:
        self.bytes = io.BytesIO(content)
        super().__init__(self.bytes, encoding=encoding, errors="strict" if encoding == "utf-8" else None)
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    def content(self) -> bytes:
        self.flush()
        return self.bytes.getvalue()


class Dsa:
    """Runs commands in this process, against the cluster."""

    def __init__(self, patch: pytest.MonkeyPatch, store: Store, home: str) -> None:
        self.patch = patch
        self.store = store
        self.home = home

    def __call__(self, *line: str, stdin: bytes = b"", terminal: bool = False, encoding: str = "utf-8") -> Ran:
        streams = [Stream(content, terminal, encoding) for content in (stdin, b"", b"")]
        with self.patch.context() as patch:
            for name, stream in zip(("stdin", "stdout", "stderr"), streams, strict=True):
                patch.setattr(sys, name, stream)
            status = main(line)
            _, out, err = (stream.content() for stream in streams)
        assert b"Traceback" not in err
        return Ran(status, out, err.decode(encoding))

    def ok(self, *line: str, **settings: Any) -> Ran:
        """As a call that must end well."""
        ran = self(*line, **settings)
        assert ran.status == 0, ran.err
        return ran

    def tree(self, top: str | None = None) -> dict[str, bytes | None]:
        """All that is below a directory of the store: content of files, None for directories."""
        top = self.home if top is None else top
        found: dict[str, bytes | None] = {}
        for path, directories, files in self.store.walk(top):
            at = path[len(top) :].lstrip("/")
            join = f"{at}/" if at else ""
            found |= {f"{join}{entry.name}": None for entry in directories}
            found |= {f"{join}{entry.name}": self.store.read_bytes(entry.path) for entry in files}
        return found


@pytest.fixture(scope="session")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(nodes=2, speed=4) as running:
        yield running


@pytest.fixture(scope="session")
def store(cluster: LocalCluster) -> Iterator[Store]:
    with cluster.connect() as connected:
        yield connected


@pytest.fixture
def dsa(cluster: LocalCluster, store: Store, monkeypatch: pytest.MonkeyPatch) -> Dsa:
    monkeypatch.setenv("DSA_URL", cluster.url)
    monkeypatch.setenv("COLUMNS", "80")
    home = f"/home-{next(_homes)}"
    store.mkdir(home)
    return Dsa(monkeypatch, store, home)
