"""``python -m bench.upkeep``: what scrubbing and compaction cost, and what they do to those who read and write meanwhile.

Once with files of 1 MiB and once with files of 4 KiB. For each of the two: how many bytes a second are verified, or
appended anew, on all nodes together, in quiet and under load; the CPU seconds of the nodes for each GB, in quiet, without
what they take when idle; and operations of the foreground a second beside those of the same run when nothing else goes on,
measured before and after. Scrubbing is ordered (``dsa scrub now``), so that it takes half of the time while nobody waits;
it reads from the disk, since nobody has read those bytes for long in life either. Compaction keeps its limit. Half of the
files are removed at the beginning, and are garbage after the usual grace.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec

import dsa_zmq
from bench.filling import files_below, fill, forget, name_of
from bench.processes import cpu_s
from bench.workloads import SMALL_BYTES
from dsa_zmq.app import tune_process
from dsa_zmq.client.collecting import begin_collection, plan_collection
from dsa_zmq.client.scrubbing import begin_scrub
from dsa_zmq.client.store import Store
from dsa_zmq.config import NodeOptions

MIB = 1 << 20
GB = 1_000_000_000
SEGMENT = 16 * MIB  #: a quarter of the usual: nearly all that is removed lies in full ones, which alone are compacted
IN_FLIGHT = 4  #: of each kind of work: the machine is busy, and not only with the foreground
READ_FILES = 64  #: that are read again and again
POLL_S = 0.1  #: between two looks at the nodes' figures, which cost them a millisecond
STILL_S = 1.0  #: without any progress: it has ended
PATIENCE_S = 90.0  #: for a step that must come; garbage waits for its grace of 30 s


@dataclass
class Upkeep:
    """One kind of care for one kind of files. Bytes a second are of all nodes together."""

    files: str
    kind: str  #: scrub or compaction
    quiet_bytes_s: float = 0.0
    busy_bytes_s: float = 0.0
    cpu_s_per_gb: float | None = None  #: None: nothing was left to be done in quiet
    alone: dict[str, float] = field(default_factory=dict)  #: operations a second, by kind of work
    during: dict[str, float] = field(default_factory=dict)


class Watched(dsa_zmq.LocalCluster):
    """A cluster whose nodes serve their figures."""

    def _node_options(self, name: str) -> NodeOptions:
        return msgspec.structs.replace(super()._node_options(name), metrics=0)

    def total(self, figure: str) -> int:
        """The sum over the nodes."""
        prefix = f"dsa_node_{figure} "
        found = 0
        for name in self.names:
            with urllib.request.urlopen(f"{self._hold.servers[name].endpoint('metrics')}/metrics", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
            found += next(int(line.removeprefix(prefix)) for line in lines if line.startswith(prefix))
        return found

    def cpu_s(self) -> float:
        """Of the nodes, so far."""
        return sum(cpu_s(pid) for name, pid in self.pids().items() if name in self.names)


class Foreground:
    """Work that people do, one kind at a time, and as fast as it goes."""

    def __init__(self, store: Store, seconds: float) -> None:
        self._store = store
        self._seconds = seconds
        self._sizes = {"4 KiB": SMALL_BYTES, "1 MiB": MIB}
        self._written = 0
        for name, size in self._sizes.items():
            fill(store, f"/foreground/{name}", READ_FILES, size)
        self.kinds: dict[str, Callable[[], object]] = {}
        for name, size in self._sizes.items():
            self.kinds[f"{name} reads"] = lambda name=name: self._read(name)  # type: ignore[misc]
            self.kinds[f"{name} writes"] = lambda size=size: self._write(size)  # type: ignore[misc]

    def _read(self, name: str) -> None:
        self._store.read_bytes(name_of(f"/foreground/{name}", random.randrange(READ_FILES)))

    def _write(self, size: int) -> None:
        self._written += 1  # two threads may take one number: one overwrites the other then
        self._store.write_bytes(f"/foreground/written/{self._written}", os.urandom(size))

    def rate(self, kind: str, goes_on: Callable[[], bool] = lambda: True) -> float:
        """Operations a second, for the usual time, or as long as something goes on."""
        work, ended = self.kinds[kind], threading.Event()
        counts = [0] * IN_FLIGHT
        errors: list[BaseException] = []

        def repeat(mine: int) -> None:
            try:
                while not ended.is_set():
                    work()
                    counts[mine] += 1
            except BaseException as error:  # noqa: BLE001 - raised below, in the caller's thread
                errors.append(error)

        threads = [threading.Thread(target=repeat, args=(mine,)) for mine in range(IN_FLIGHT)]
        begin = time.perf_counter()
        for thread in threads:
            thread.start()
        while time.perf_counter() < begin + self._seconds and goes_on() and not errors:
            time.sleep(POLL_S)
        done, seconds = sum(counts), time.perf_counter() - begin
        ended.set()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return done / seconds

    def rates(self) -> dict[str, float]:
        return {kind: self.rate(kind) for kind in self.kinds}


def within(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not happen within {PATIENCE_S:g} s")
        time.sleep(POLL_S)


def in_quiet(cluster: Watched, figure: str, idle_cpu: float) -> tuple[float, float | None]:
    """Let go on what goes on, until it has ended: bytes a second, CPU seconds for each GB."""
    began, first, cpu = time.monotonic(), cluster.total(figure), cluster.cpu_s()
    last, moved, spent = first, began, cpu
    while time.monotonic() < moved + STILL_S:
        time.sleep(POLL_S)
        now = cluster.total(figure)
        if now != last:
            last, moved, spent = now, time.monotonic(), cluster.cpu_s()
    seconds, size = max(moved - began, POLL_S), last - first
    return size / seconds, (spent - cpu - idle_cpu * seconds) / (size / GB) if size else None


def scrub(cluster: Watched, store: Store, foreground: Foreground, idle_cpu: float, one: Upkeep) -> None:
    """Once in quiet, then once for each kind of foreground."""

    def begin() -> None:
        within(lambda: not any(task.info.state == "running" for task in store.admin.tasks()), "the end of a scrub")
        forget(path for path in files_below(cluster.directory) if path.suffix == ".seg")
        begin_scrub(store)

    def goes_on() -> bool:
        return cluster.total("scrubbing") > 0

    begin()
    one.quiet_bytes_s, one.cpu_s_per_gb = in_quiet(cluster, "scrubbed_bytes", idle_cpu)
    size, seconds = 0, 0.0
    for kind in foreground.kinds:
        begin()
        began, before = time.monotonic(), cluster.total("scrubbed_bytes")
        one.during[kind] = foreground.rate(kind, goes_on)
        size, seconds = size + cluster.total("scrubbed_bytes") - before, seconds + time.monotonic() - began
        within(lambda: not goes_on(), "the end of a scrub")
    one.busy_bytes_s = size / seconds


def compact(cluster: Watched, store: Store, foreground: Foreground, idle_cpu: float, one: Upkeep) -> None:
    """Under load first: how much there is to do is given."""

    if cluster.total("compacted_bytes"):
        print("compaction has begun before its turn: the figures are of less, store fewer files", file=sys.stderr)

    def is_let_go() -> bool:
        """Removing so many files is work of its own, which is not to be measured here."""
        begin_collection(store)
        plan = plan_collection(store)
        return cluster.total("compacted_bytes") > 0 and not plan.moves and not plan.bytes

    within(is_let_go, "the beginning of compaction")
    began, before = time.monotonic(), cluster.total("compacted_bytes")
    one.during = foreground.rates()
    one.busy_bytes_s = (cluster.total("compacted_bytes") - before) / (time.monotonic() - began)
    one.quiet_bytes_s, one.cpu_s_per_gb = in_quiet(cluster, "compacted_bytes", idle_cpu)


#: Scrubbing first: meanwhile the grace of what is removed passes.
CARE: dict[str, Callable[[Watched, Store, Foreground, float, Upkeep], None]] = {"scrub": scrub, "compaction": compact}


def measure(options: argparse.Namespace, scratch: Path, files: str, size: int, count: int) -> list[Upkeep]:
    """The kinds of care for files of one size."""
    with (
        Watched(
            options.nodes,
            processes=True,
            directory=scratch / files,
            segment_bytes=options.segment,
            speed=options.speed,
        ) as cluster,
        cluster.connect() as store,
    ):
        fill(store, ("/kept", "/removed"), count, size)
        foreground = Foreground(store, options.seconds)
        store.rm("/removed", recursive=True)
        before = foreground.rates()
        cpu = cluster.cpu_s()
        time.sleep(STILL_S)
        idle_cpu = (cluster.cpu_s() - cpu) / STILL_S
        found = []
        for kind, run in CARE.items():
            if options.kind in (None, kind):
                found.append(Upkeep(files, kind))
                run(cluster, store, foreground, idle_cpu, found[-1])
        after = foreground.rates()
    for one in found:
        one.alone = {kind: (rate + after[kind]) / 2 for kind, rate in before.items()}
    return found


def show(one: Upkeep) -> str:
    """A few lines."""
    cpu = "-" if one.cpu_s_per_gb is None else f"{one.cpu_s_per_gb:.2f}"
    rates = f"{one.quiet_bytes_s / MIB:,.0f} MiB/s in quiet, {one.busy_bytes_s / MIB:,.0f} under load"
    lines = [f"{one.files}, {one.kind}:", f"  {rates}; {cpu} CPU s/GB"]
    for kind, rate in one.during.items():
        alone = one.alone[kind]
        lines.append(f"  {kind:14} {alone:9,.0f}/s alone {rate:9,.0f}/s during ({rate / max(alone, 1e-9):.2f})")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.upkeep", description=__doc__)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--large", type=int, default=512, help="files of 1 MiB")
    parser.add_argument("--small", type=int, default=50_000, help="files of 4 KiB")
    parser.add_argument("--kind", choices=tuple(CARE), help="leave out the other")
    parser.add_argument("--only", choices=("large", "small"), help="leave out the others")
    parser.add_argument("--seconds", type=float, default=1.2, help="for each kind of foreground work")
    parser.add_argument("--segment", type=int, default=SEGMENT, help="bytes of a segment")
    parser.add_argument("--speed", type=float, default=4, help="divides the time between heartbeats; 1: as in life")
    parser.add_argument("--quick", action="store_true", help="as little as possible: the figures mean nothing")
    parser.add_argument("--scratch", type=Path, help="folder for temporary files (default: the system's)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    options = parser.parse_args()
    if options.quick:
        options.large, options.small, options.seconds, options.segment = 40, 2000, 0.1, 4 * MIB
    tune_process()
    workloads = {"large": ("1 MiB files", MIB, options.large), "small": ("4 KiB files", SMALL_BYTES, options.small)}
    found: list[Upkeep] = []
    scratch = Path(tempfile.mkdtemp(prefix="dsa-upkeep-", dir=options.scratch))
    try:
        for name, workload in workloads.items():
            if options.only in (None, name):
                measured = measure(options, scratch, *workload)
                print("\n".join(map(show, measured)), flush=True)
                found += measured
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in found], indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
