"""The workloads. Bytes are random and unique, so that nothing can be saved by recognising them."""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from bench.targets import Target

IN_FLIGHT = 16
SMALL_BYTES = 4096


@dataclass
class Measure:
    """One line of the result: ``rate`` per second in ``unit``, CPU seconds of client and servers while it ran."""

    workload: str
    rate: float
    unit: str  #: "B/s", "/s" or "s"
    cpu_client_s: float = 0.0
    cpu_servers_s: float = 0.0
    amount: float = 0.0  #: bytes or operations behind the CPU seconds
    rates: list[float] = field(default_factory=list)


def server_cpu_s(target: Target) -> float:
    """User and system seconds of all server processes so far."""
    ticks = os.sysconf("SC_CLK_TCK")
    total = 0.0
    for pid in target.processes().values():
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / ticks
    return total


def client_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(
    target: Target, workload: str, unit: str, amount: float, actions: Sequence[Callable[[], object]]
) -> Measure:
    """Run the actions (each is one round of ``amount``); the median rate and the mean CPU of the rounds."""
    rates = []
    client, servers = client_cpu_s(), server_cpu_s(target)
    for action in actions:
        start = time.perf_counter()
        action()
        rates.append(amount / (time.perf_counter() - start))
    rounds = len(actions)
    return Measure(
        workload,
        statistics.median(rates),
        unit,
        (client_cpu_s() - client) / rounds,
        (server_cpu_s(target) - servers) / rounds,
        amount,
        rates,
    )


def make_file(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))
        file.write(os.urandom(size & 0xFFFFF))
    return path


def big_file(target: Target, scratch: Path, size: int, rounds: int) -> list[Measure]:
    """One file up and down, several times; every byte of the first download is compared."""
    sources = [make_file(scratch / f"source{i}.bin", size) for i in range(2)]
    back = scratch / "back.bin"
    target.put(sources[0], "big/warm")
    ups = [lambda i=i: target.put(sources[i % 2], f"big/{i}") for i in range(rounds)]
    up = measure(target, "big file up", "B/s", size, ups)
    target.get("big/0", back)
    if back.read_bytes() != sources[0].read_bytes():
        raise AssertionError("the file that came back differs")
    down = measure(
        target, "big file down", "B/s", size, [lambda i=i: target.get(f"big/{i}", back) for i in range(rounds)]
    )
    target.remove("big")
    for path in (*sources, back):
        path.unlink()
    return [up, down]


def small_files(target: Target, count: int) -> list[Measure]:
    """Many files of 4 KiB: one call each with 16 in flight, then through the bulk calls."""
    data = {f"small/{i % 20:02}/{i:06}": os.urandom(SMALL_BYTES) for i in range(count)}
    target.write("small/warm", b"x")
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        up = measure(
            target, "4 KiB up, one call each", "/s", count,
            [lambda: list(pool.map(lambda item: target.write(*item), data.items()))],
        )  # fmt: skip
        got: list[bytes] = []
        down = measure(
            target, "4 KiB down, one call each", "/s", count, [lambda: got.extend(pool.map(target.read, data))]
        )
    if got != list(data.values()):
        raise AssertionError("small files came back different")
    many = {f"many/{i % 20:02}/{i:06}": os.urandom(SMALL_BYTES) for i in range(count)}
    up_many = measure(target, "4 KiB up, bulk", "/s", count, [lambda: target.write_many(many.items())])
    down_many = measure(target, "4 KiB down, bulk", "/s", count, [lambda: target.read_many(many)])
    target.remove("small")
    target.remove("many")
    return [up, down, up_many, down_many]


def metadata(target: Target, count: int) -> list[Measure]:
    """Creates of empty files and stats, 16 in flight; then a listing of all with their attributes."""
    names = [f"meta/{i:06}" for i in range(count)]
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        creates = measure(
            target, "create", "/s", count, [lambda: list(pool.map(lambda name: target.write(name, b""), names))]
        )
        stats = measure(target, "stat", "/s", count, [lambda: list(pool.map(target.stat, names))])
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        if target.list("meta") != count:
            raise AssertionError("the listing is not complete")
        seconds.append(time.perf_counter() - start)
    target.remove("meta")
    return [creates, stats, Measure(f"list {count} entries", statistics.median(seconds), "s", rates=seconds)]


def resident_bytes(target: Target) -> dict[str, int]:
    """Resident memory of each server process and of this one."""
    page = os.sysconf("SC_PAGE_SIZE")
    pids = {**target.processes(), "client": os.getpid()}
    return {name: int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page for name, pid in pids.items()}
