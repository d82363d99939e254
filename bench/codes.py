"""Files in an erasure code: up, down, down without as many nodes as may be lost, and making the shards of one node anew."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from bench.targets import DsaTarget
from bench.workloads import Measure, make_file, measure, same_bytes
from dsa_zmq.model.redundancy import parse_redundancy

CODE = parse_redundancy("ec=4+2")
SPEED = 20  #: divides the times of liveness and repair: before repair begins nothing is to be measured
ROUNDS = 3  #: at most
SIZE_PART = 4  #: of the big file: with six nodes beside the others this is to take some seconds
LEAST_BYTES = 64 << 20  #: less would be made anew before anybody has seen it
POLL_S = 0.01
PATIENCE_S = 60.0
WHOLE = 0.999  #: of the bytes that a node had: when it has so many again, all its shards are made


def open_target(scratch: Path) -> DsaTarget:
    """As many nodes as the code has shards."""
    return DsaTarget(scratch, CODE.shards, CODE.name, speed=SPEED)


def codes(target: DsaTarget, scratch: Path, size: int, rounds: int) -> list[Measure]:
    """As ``big_file``, for files of a part of ``size``. Shards are made anew while there is one file only: their rate is
    limited."""
    size, rounds = max(size // SIZE_PART, LEAST_BYTES), min(rounds, ROUNDS)
    sources = [make_file(scratch / f"source{i}.bin", size) for i in range(2)]
    back = scratch / "back.bin"
    target.put(sources[1], "code/warm")
    anew = repair(target)
    ups = [lambda i=i: target.put(sources[i % 2], f"code/{i}") for i in range(rounds)]  # type: ignore[misc]
    up = measure(target, f"{CODE.name} up", "B/s", size, ups)
    downs = [lambda: target.get("code/0", back)] * rounds
    check(target, back, sources[0])
    down = measure(target, f"{CODE.name} down", "B/s", size, downs, back.unlink)
    for node in target.names()[: CODE.tolerates]:
        target.kill(node)
    check(target, back, sources[0])
    degraded = measure(target, f"{CODE.name} down, {CODE.tolerates} nodes dead", "B/s", size, downs, back.unlink)
    for path in sources:
        path.unlink()
    return [up, down, degraded, anew]


def check(target: DsaTarget, back: Path, source: Path) -> None:
    """The first file comes back as it was; it is not timed."""
    target.get("code/0", back)
    if not same_bytes(back, source):
        raise AssertionError("the file that came back differs")
    back.unlink()


def repair(target: DsaTarget) -> Measure:
    """The shards of a node whose disk was lost, in bytes of them a second: from the first to the last of them. For each byte
    that is made, as many are read from other nodes as the code needs; what a node may copy in a second is limited
    (``node_bytes_s``)."""
    node = target.names()[-1]
    within(lambda: len({target.used(name) for name in target.names()}) == 1)  # all have told the same
    whole = target.used(node)
    target.wipe(node)
    within(lambda: 0 < target.used(node) < whole)
    begun = target.used(node)

    def wait() -> None:
        within(lambda: target.used(node) >= WHOLE * whole)

    return measure(target, f"{CODE.name} shards made anew", "B/s", whole - begun, [wait])


def within(holds: Callable[[], bool]) -> None:
    """Wait for it; TimeoutError if that takes too long."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the cluster was not as it should be within {PATIENCE_S:g} s")
        time.sleep(POLL_S)
