"""Builds of this software that run side by side, and clusters whose servers are of any of them."""

from __future__ import annotations

import contextlib
import json
import lzma
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import dsa_zmq
from dsa_zmq.client.store import Store
from dsa_zmq.model.ids import start_of
from tests.golden.make import HERE, ROOT, unpack

ARCHIVE = HERE / "build_format2.tar.xz"  #: the previous build
PREVIOUS_FORMAT = 2  #: of the catalog, as that build writes it
PREVIOUS_PROTOCOL = 1  #: the newest that it speaks
START_S = 20.0
STOP_S = 20.0
HEARTBEAT_S = 0.1
NODES = ("node-1", "node-2", "node-3", "node-4")


class Build:
    """The packages in one directory. Everything of it runs in processes of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def start(self, *line: str | Path, **settings: Any) -> subprocess.Popen[Any]:
        """A Python process that imports this build."""
        environment = {**os.environ, "PYTHONPATH": str(self.root)}
        return subprocess.Popen([sys.executable, *map(str, line)], env=environment, cwd=self.root, **settings)

    def run(self, *line: str | Path) -> subprocess.CompletedProcess[str]:
        """The same, waited for."""
        with self.start(*line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            out, err = process.communicate(timeout=60)
            return subprocess.CompletedProcess(line, process.returncode, out, err)

    def dsa(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """The command."""
        return self.run("-m", "dsa_zmq", *words)


def previous_build(directory: Path) -> Build:
    """The previous build, unpacked."""
    root = directory / "previous"
    unpack(lzma.decompress(ARCHIVE.read_bytes()), root)
    build = Build(root)
    told = build.run("-c", "import actors, dsa_zmq; print(actors.__file__, dsa_zmq.__file__)")
    assert told.stdout.split() == [str(root / name / "__init__.py") for name in ("actors", "dsa_zmq")], told.stderr
    return build


def this_build() -> Build:
    return Build(ROOT)


class Server:
    """One server process; it can be replaced by one of another build, at the same ports."""

    def __init__(self, name: str, role: str, directory: Path) -> None:
        self.name = name
        self.ready: dict[str, Any] = {}
        self._role = role
        self._directory = directory
        self._process: subprocess.Popen[Any] | None = None

    def begin(self, build: Build, options: dict[str, Any]) -> None:
        run = self._directory / "run"
        run.mkdir(parents=True, exist_ok=True)
        config, ready = run / f"{self.name}.toml", run / f"{self.name}.ready"
        ready.unlink(missing_ok=True)
        lines = [f"[{self._role}]", *(f"{name} = {json.dumps(value)}" for name, value in options.items())]
        config.write_text("\n".join(lines) + "\n")
        command = ["-m", f"dsa_zmq.{self._role}", "--config", config, "--ready-file", ready, "--end-with-stdin"]
        with (run / f"{self.name}.log").open("ab") as log:
            self._process = build.start(*command, stdin=subprocess.PIPE, stdout=log, stderr=log)

    def wait_ready(self) -> None:
        ready, deadline = self._directory / "run" / f"{self.name}.ready", time.monotonic() + START_S
        while not ready.exists():
            assert self._process is not None
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.005)
        self.ready = json.loads(ready.read_text())
        assert "listen" in self.ready, self.ready

    def log(self) -> str:
        return (self._directory / "run" / f"{self.name}.log").read_text()

    def port(self, kind: str) -> int:
        """The port that it has, or had."""
        return int(self.ready[kind].rpartition(":")[2]) if self.ready else 0

    def stop(self, *, kill: bool = False) -> int:
        """In order, or at once; the exit status."""
        self.end(kill=kill)
        return self.wait()

    def end(self, *, kill: bool = False) -> None:
        """Tell it to stop."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)

    def wait(self) -> int:
        """Until it has stopped; the exit status."""
        assert self._process is not None
        try:
            return self._process.wait(STOP_S)
        finally:
            self._process.kill()
            if self._process.stdin is not None:
                self._process.stdin.close()

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None


class Servers:
    """A master and nodes in ``directory``, each of the build that it is started with. A context manager."""

    def __init__(
        self,
        directory: Path,
        *,
        master: Build,
        nodes: Build,
        names: tuple[str, ...] = NODES,
        segment_bytes: int = 1 << 20,
    ) -> None:
        self.directory = directory
        self.segment_bytes = segment_bytes
        self.names = names
        self._first = {"master": master, **dict.fromkeys(names, nodes)}
        self._servers = {name: Server(name, "node" if name in names else "master", directory) for name in self._first}
        self._store: Store | None = None

    def __enter__(self) -> Servers:
        try:
            self._begin("master", self._first["master"])
            self._servers["master"].wait_ready()
            for name in self.names:
                self._begin(name, self._first[name])
            for name in self.names:
                self._servers[name].wait_ready()
            self.wait_up({})
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._store is not None:
            self._store.close()
        running = [server for server in self._servers.values() if server.runs]
        for server in running:
            server.end()  # all at once: an orderly stop takes a moment
        for server in running:
            server.wait()

    @property
    def url(self) -> str:
        return f"dsa://127.0.0.1:{self._servers['master'].port('listen')}"

    @property
    def store(self) -> Store:
        """A connection of this build, kept for as long as the cluster lives."""
        if self._store is None:
            self._store = dsa_zmq.connect(self.url, timeout=START_S)
        return self._store

    def log(self, name: str) -> str:
        return self._servers[name].log()

    def replace(self, name: str, build: Build, *, kill: bool = False) -> float:
        """Stop one server, start it in the same directory as a process of ``build``, and wait until all are up again. For
        how many seconds it was away."""
        before = self._starts()
        begun = time.monotonic()
        status = self._servers[name].stop(kill=kill)
        assert status == (-signal.SIGKILL if kill else 0), self._servers[name].log()
        self._begin(name, build)
        self._servers[name].wait_ready()
        self.wait_up({name: before[name]} if name in self.names else {})
        return time.monotonic() - begun

    def stop(self, name: str) -> None:
        self._servers[name].stop()

    def _starts(self) -> dict[str, int]:
        return {node.name: start_of(node.incarnation) for node in self.store.nodes()}

    def wait_up(self, before: dict[str, int]) -> None:
        """Every node is up; those of ``before`` with a later start than that. A master that returns is waited for."""
        deadline, states = time.monotonic() + START_S, {}
        while True:
            with contextlib.suppress(ConnectionError, TimeoutError):
                states = {node.name: (node.state, start_of(node.incarnation)) for node in self.store.nodes()}
                if all(
                    name in states and states[name][0] == "up" and states[name][1] > before.get(name, 0)
                    for name in self.names
                ):
                    return
            ended = [name for name, server in self._servers.items() if not server.runs]
            assert not ended, self._servers[ended[0]].log()
            assert time.monotonic() < deadline, states
            time.sleep(0.01)

    def wait_healthy(self) -> None:
        """Nothing is missing, and nothing is being made."""
        deadline = time.monotonic() + START_S
        while True:
            report = self.store.health()
            if not (report.degraded_chunks or report.endangered_chunks or report.lost_chunks or report.moves):
                return
            assert time.monotonic() < deadline, report
            time.sleep(0.02)

    def _begin(self, name: str, build: Build) -> None:
        """With options that every build knows."""
        server, path = self._servers[name], str(self.directory / name)
        if name == "master":
            options: dict[str, Any] = {
                "dir": path, "port": server.port("listen"), "hints_port": server.port("publish"),
                "heartbeats_port": server.port("subscribe"), "heartbeat_s": HEARTBEAT_S, "suspect_s": 0.5, "down_s": 2.0,
            }  # fmt: skip
        else:
            options = {
                "master": self.url.removeprefix("dsa://"), "path": path, "capacity": 64 << 20, "name": name, "host": name,
                "port": server.port("listen"), "reserve": 0, "segment_bytes": self.segment_bytes,
            }  # fmt: skip
        server.begin(build, options)
