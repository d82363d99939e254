"""The workloads. Bytes are random and unique, so that nothing can be saved by recognising them."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from bench.processes import cpu_s, own_cpu_s
from bench.targets import Target

IN_FLIGHT = 16
SMALL_BYTES = 4096
FOLDERS = 20  #: that the small files are spread over

_T = TypeVar("_T")


@dataclass
class Measure:
    """One line of the result: the median ``rate`` of the rounds, and the CPU seconds of one round."""

    workload: str
    rate: float
    unit: str  #: "B/s", "/s" (operations) or "s" (seconds: less is better)
    amount: float = 0.0  #: bytes or operations of one round
    cpu_client_s: float = 0.0
    cpu_servers_s: dict[str, float] = field(default_factory=dict)  #: by group: master, nodes
    rates: list[float] = field(default_factory=list)


def measure(
    target: Target,
    workload: str,
    unit: str,
    amount: float,
    actions: Sequence[Callable[[], object]],
    after_each: Callable[[], object] = lambda: None,
) -> Measure:
    """Run the actions, each one round of ``amount``: the median rate, and the mean CPU seconds. ``after_each`` is not
    timed."""
    rates = []
    client, servers = own_cpu_s(), server_cpu_s(target)
    for action in actions:
        start = time.perf_counter()
        action()
        rates.append(amount / (time.perf_counter() - start))
        after_each()
    rounds = len(actions)
    spent = {group: (after - servers[group]) / rounds for group, after in server_cpu_s(target).items()}
    return Measure(
        workload, statistics.median(rates), unit, amount, (own_cpu_s() - client) / rounds, spent, rates
    )  # fmt: skip


def server_cpu_s(target: Target) -> dict[str, float]:
    """User and system seconds so far, by group of server processes."""
    groups: dict[str, float] = {}
    for name, pid in target.processes().items():
        group = "master" if name == "master" else "nodes"
        groups[group] = groups.get(group, 0.0) + cpu_s(pid)
    return groups


def side_by_side(work: Callable[[_T], object], items: Iterable[_T]) -> None:
    """Call ``work`` once for each item, :data:`IN_FLIGHT` at a time; the first error is raised here.

    Plain threads that share an iterator: an executor's own work for each call would show in the rates.
    """
    shared = iter(list(items))
    errors: list[BaseException] = []

    def take() -> None:
        try:
            for item in shared:  # next() of a list's iterator is atomic
                work(item)
        except BaseException as error:  # noqa: BLE001 - raised below, in the caller's thread
            errors.append(error)

    threads = [threading.Thread(target=take) for _ in range(IN_FLIGHT)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def make_file(path: Path, size: int) -> Path:
    """A file of random bytes."""
    with path.open("wb") as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))
        file.write(os.urandom(size & 0xFFFFF))
    return path


def big_file(target: Target, scratch: Path, size: int, rounds: int) -> list[Measure]:
    """One file up and down, several times; every byte of the first download is compared.

    The first put and the first get are not counted: memory and disk that are touched for the first time are dear on
    virtual machines. Each put is of a new name; all gets are of one file, so that it comes from the servers' page cache,
    into a new local file.
    """
    sources = [make_file(scratch / f"source{i}.bin", size) for i in range(2)]
    back = scratch / "back.bin"
    target.put(sources[1], "big/warm")
    ups = [lambda i=i: target.put(sources[i % 2], f"big/{i}") for i in range(rounds)]  # type: ignore[misc]
    up = measure(target, "big file up", "B/s", size, ups)
    target.get("big/0", back)
    if not same_bytes(back, sources[0]):
        raise AssertionError("the file that came back differs")
    back.unlink()
    gets = [lambda: target.get("big/0", back)] * rounds
    down = measure(target, "big file down", "B/s", size, gets, back.unlink)
    target.remove("big")
    for path in sources:
        path.unlink()
    return [up, down]


def same_bytes(one: Path, other: Path) -> bool:
    """Whether two files are equal, read piece by piece."""
    with one.open("rb", buffering=0) as left, other.open("rb", buffering=0) as right:
        while True:
            piece = left.read(1 << 20)
            if piece != right.read(1 << 20):
                return False
            if not piece:
                return True


def small_files(target: Target, scratch: Path, count: int, rounds: int) -> list[Measure]:
    """Many files of 4 KiB: one call each with 16 in flight, then through the bulk calls where there are any."""

    def fresh(name: str, files: int) -> dict[str, bytes]:
        return {f"{name}/{i % FOLDERS:02}/{i:06}": os.urandom(SMALL_BYTES) for i in range(files)}

    def check(data: dict[str, bytes], got: dict[str, bytes]) -> None:
        if got != data:
            raise AssertionError("small files came back different")

    def write(item: tuple[str, bytes]) -> None:
        target.write(*item)

    side_by_side(write, fresh("warm", max(IN_FLIGHT, count // 4)).items())
    sets = [fresh(f"small{i}", count) for i in range(rounds)]
    results = [
        measure(
            target, "4 KiB up, one call each", "/s", count,
            [lambda data=data: side_by_side(write, data.items()) for data in sets],  # type: ignore[misc]
        )
    ]  # fmt: skip
    got: dict[str, bytes] = {}

    def read(name: str) -> None:
        got[name] = target.read(name)

    downs = [lambda data=data: side_by_side(read, data) for data in sets]  # type: ignore[misc]
    results.append(measure(target, "4 KiB down, one call each", "/s", count, downs))
    check({name: content for data in sets for name, content in data.items()}, got)
    bulk = target.bulk
    if bulk is not None:
        many = [fresh(f"many{i}", count) for i in range(rounds)]
        bulk.write_many(list(fresh("warm-many", max(IN_FLIGHT, count // 4)).items()))
        ups = [lambda data=data: bulk.write_many(list(data.items())) for data in many]  # type: ignore[misc]
        results.append(measure(target, "4 KiB up, bulk", "/s", count, ups))
        bulked: dict[str, bytes] = {}
        downs = [
            lambda data=data: bulked.update(zip(data, bulk.read_many(list(data)), strict=True))  # type: ignore[misc]
            for data in many
        ]
        results.append(measure(target, "4 KiB down, bulk", "/s", count, downs))
        check({name: content for data in many for name, content in data.items()}, bulked)
        folders = [scratch / f"many{i}" for i in range(rounds)]
        downs = [
            lambda data=data, to=to: bulk.fetch_many(list(data), to)  # type: ignore[misc]
            for data, to in zip(many, folders, strict=True)
        ]
        results.append(measure(target, "4 KiB down, bulk to files", "/s", count, downs))
        for data, folder in zip(many, folders, strict=True):
            check(data, {name: (folder / name).read_bytes() for name in data})
    for name in ("warm", "warm-many", *(f"{kind}{i}" for i in range(rounds) for kind in ("small", "many"))):
        target.remove(name)
    return results


def metadata(target: Target, count: int, rounds: int) -> list[Measure]:
    """Creates of empty files and stats, 16 in flight; then a listing of all with their attributes."""

    def create(name: str) -> None:
        target.write(name, b"")

    sets = [[f"meta{i}/{j:06}" for j in range(count)] for i in range(rounds)]
    side_by_side(create, [f"warm-meta/{j:06}" for j in range(max(IN_FLIGHT, count // 10))])
    ups = [lambda names=names: side_by_side(create, names) for names in sets]  # type: ignore[misc]
    creates = measure(target, "create", "/s", count, ups)
    looks = [lambda names=names: side_by_side(target.stat, names) for names in sets]  # type: ignore[misc]
    stats = measure(target, "stat", "/s", count, looks)

    def listing() -> None:
        if target.list("meta0") != count:
            raise AssertionError("the listing is not complete")

    listing()
    listings = measure(target, f"list {count:,} entries", "s", count, [listing] * max(3, rounds))
    listings.rates = [count / rate for rate in listings.rates]
    listings.rate = statistics.median(listings.rates)
    for name in ("warm-meta", *(f"meta{i}" for i in range(rounds))):
        target.remove(name)
    return [creates, stats, listings]
