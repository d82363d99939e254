"""Every process of a cluster killed at once, under load: all that was acknowledged is there, and nothing half."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from typing import Any

import pytest

import dsa_zmq
from dsa_zmq.errors import DSAError, NotFound

pytestmark = [pytest.mark.process, pytest.mark.slow]

WRITERS = 4
SMALL, LARGE = 20_000, 3_000_000


class Load:
    """Threads that write, replace, rename and remove, and remember for each name what may be there afterwards."""

    def __init__(self, url: str, seed: int, files: dict[str, set[bytes | None]]) -> None:
        self.files = files  #: None: it may be absent. More than one entry: the last operation was not acknowledged
        self.acknowledged = 0
        self.unexpected: list[BaseException] = []
        self._url = url
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(seed, number)) for number in range(WRITERS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let each finish what it has begun."""
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a client hangs"

    def _work(self, seed: int, number: int) -> None:
        generator = random.Random(f"{seed} {number}")
        try:
            with dsa_zmq.connect(self._url) as store:
                count = 0
                while not self._stop.is_set():
                    self._step(store, generator, f"/{number}/{seed}-{count}")
                    count += 1
        except DSAError as error:
            if not error.indefinite:
                self.unexpected.append(error)
        except BaseException as error:  # noqa: BLE001 - asserted on by the test
            self.unexpected.append(error)

    def _step(self, store: Any, generator: random.Random, fresh: str) -> None:
        mine = [
            path for path, may in self.files.items() if path.startswith(fresh[:3]) and len(may) == 1 and None not in may
        ]
        old = generator.choice(mine) if mine else fresh
        what = generator.choices(("new", "replace", "move", "remove"), (6, 2, 1, 1))[0]
        data = generator.randbytes(generator.choice((generator.randrange(1, SMALL), generator.randrange(1, LARGE))))
        if what == "new" or not mine:
            self._expect(fresh, {None}, data, lambda: store.put([data], fresh, if_absent=True))
        elif what == "replace":
            self._expect(old, self.files[old], data, lambda: store.put([data], old))
        elif what == "remove":
            self._expect(old, self.files[old], None, lambda: store.rm(old))
        else:
            (content,) = self.files[old]
            self.files[old], self.files[fresh] = {content, None}, {None, content}
            store.mv(old, fresh)
            self.files[old], self.files[fresh] = {None}, {content}
            self.acknowledged += 1

    def _expect(self, path: str, before: set[bytes | None], after: bytes | None, act: Any) -> None:
        self.files[path] = {*before, after}
        act()
        self.files[path] = {after}
        self.acknowledged += 1


def _check(store: Any, files: dict[str, set[bytes | None]]) -> None:
    listed = {found.path: found for top in store.ls() for found in store.ls(top.path)}
    for path, may in files.items():
        try:
            content: bytes | None = store.read_bytes(path)
        except NotFound:
            content = None
        assert content in may, (
            f"{path} has {content and len(content)} bytes, not {[each and len(each) for each in may]}"
        )
        assert (path in listed) == (content is not None)
        files[path] = {content}
    assert set(listed) <= set(files), "names that nobody gave"


def test_what_was_acknowledged_survives_the_kill_of_every_process(rounds: int, tmp_path: Any) -> None:
    seed = random.SystemRandom().getrandbits(32)
    files: dict[str, set[bytes | None]] = {}
    with dsa_zmq.LocalCluster(4, processes=True, directory=tmp_path / "c") as cluster:
        for round_number in range(2 * rounds):
            print(f"round {round_number} of seed {seed}")  # noqa: T201 - shown when it fails
            generator = random.Random(f"{seed} {round_number}")
            load = Load(cluster.url, seed + round_number, files)
            load.start()
            goal = generator.randrange(5, 60)
            deadline = time.monotonic() + 20
            while load.acknowledged < goal:
                assert not load.unexpected, load.unexpected
                assert time.monotonic() < deadline
                time.sleep(0.002)
            pids = list(cluster.pids().values())
            generator.shuffle(pids)
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            names = ["master", *cluster.names]
            generator.shuffle(names)
            for name in names:
                cluster.restart_server(name)
            cluster.wait_healthy()
            load.stop()
            assert not load.unexpected, load.unexpected
            with cluster.connect() as store:
                _check(store, files)
                health = store.health()
                assert (health.degraded_chunks, health.endangered_chunks, health.lost_chunks) == (0, 0, 0), health
