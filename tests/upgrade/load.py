"""A client that never rests, of whichever build runs it: ``PYTHONPATH=BUILD python load.py URL DIRECTORY SEED``.

It stores, reads back, lists, copies, overwrites and removes until its standard input closes. A line there, with a JSON
object of paths and hashes, makes it read all these and all that it has stored itself, and say ``{"checked": ...}``. In the
end it says ``{"ended": ...}``: what it stored, how many calls that took, the longest of them, and what went wrong.
"""

from __future__ import annotations

import json
import os
import random
import select
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from blake3 import blake3

import dsa_zmq
from dsa_zmq.errors import DSAError

PAUSE_S = 0.005  #: between two rounds, so that on a small machine the servers get their turn
MOST_FILES = 40  #: then it goes on with what is there
SIZES = {"copies": (0, 1, 4_000, 40_000), "codes": (0, 1, 4_000, 80_000)}
"""The last is long enough that a code really cuts it, and each shard fits into the smallest segments that tests use."""


class Load:
    """What was done and what came of it."""

    def __init__(self, store: dsa_zmq.Store, top: str, seed: int) -> None:
        self.store = store
        self.top = top
        self.random = random.Random(seed)
        self.stored: dict[str, str] = {}
        self.calls = 0
        self.longest_s = 0.0
        self.wrong: list[str] = []

    def call(self, what: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Its result, or None if it failed, which is noted."""
        begun = time.monotonic()
        self.calls += 1
        try:
            return function(*arguments, **options)
        except DSAError as error:
            self.wrong.append(f"{what} {arguments[0]} after {time.monotonic() - begun:.2f} s: {error!r}")
        finally:
            self.longest_s = max(self.longest_s, time.monotonic() - begun)
        return None

    def read(self, path: str, expected: str) -> None:
        data = self.call("read", self.store.read_bytes, path)
        if data is not None and blake3(data).hexdigest() != expected:
            self.wrong.append(f"{path} has other bytes")

    def put(self, path: str, sizes: Sequence[int]) -> None:
        data = self.random.randbytes(self.random.choice(sizes))
        if self.call("put", self.store.put, [data], path) is not None:
            self.stored[path] = blake3(data).hexdigest()
        else:
            self.stored.pop(path, None)  # nobody said which one is there

    def round(self, number: int) -> None:
        """A few calls of each kind."""
        kind = ("copies", "codes")[number % 2]
        if len(self.stored) < MOST_FILES:
            self.put(f"{self.top}/{kind}/{number}", SIZES[kind])
        self.put(f"{self.top}/{kind}/changing", SIZES[kind])
        path = self.random.choice(sorted(self.stored))
        self.read(path, self.stored[path])
        if number % 5 == 0:
            other = f"{self.top}/other"
            self.call("cp", self.store.cp, path, other)
            self.read(other, self.stored[path])
            self.call("rm", self.store.rm, other)
            names = self.call("ls", self.store.ls, f"{self.top}/{kind}")
            expected = {name for name in self.stored if name.startswith(f"{self.top}/{kind}/")}
            if names is not None and {found.path for found in names} != expected:
                self.wrong.append(f"the listing of {kind} is not right")


def main(url: str, top: str, seed: int) -> None:
    with dsa_zmq.connect(url, timeout=20) as store:
        load = Load(store, top, seed)
        store.mkdir(f"{top}/copies", parents=True)
        store.mkdir(f"{top}/codes", redundancy="ec=2+1")
        number, rest = 0, b""
        while True:
            load.round(number)
            number += 1
            if not select.select([0], [], [], PAUSE_S)[0]:
                continue
            if not (data := os.read(0, 1 << 20)):
                break
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                for path, expected in {**json.loads(line), **load.stored}.items():
                    load.read(path, expected)
                say(checked=load.stored, wrong=load.wrong)
        say(ended=load.stored, calls=load.calls, longest_s=load.longest_s, wrong=load.wrong)


def say(**what: Any) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
