"""``python -m bench.repair``: how long a cluster takes to have full redundancy again after losing one of its nodes.

Once with a large file (1 GiB) and once with many small ones (5,500 of 4 KiB, of which a node has about half), each first
in quiet, then with readers and writers in the foreground, whose rates are compared with those before the loss. Times are
counted from the kill and from the moment at which the master called the node down: what lies between is a setting
(``--speed`` divides it), and no merit of anybody. Also printed: bytes on the disks for each byte stored, all copies
included. Times are true to a second, which is the age that a report of the cluster's health may have. Exit status 1 if the
cluster did not heal in time.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import dsa_zmq
from bench.filling import disk_bytes, files_below, fill
from bench.workloads import SMALL_BYTES
from dsa_zmq.app import tune_process
from dsa_zmq.client.store import Store
from dsa_zmq.cluster_faults import REPORT_AGE_S, is_redundant
from dsa_zmq.errors import DSAError
from dsa_zmq.model.limits import SEGMENT_BYTES

MIB = 1 << 20
POLL_S = 0.02
BASE_S = 5.0  #: how long the foreground's rates are measured before the loss
FOREGROUND_BYTES = MIB  #: of each file that it writes and reads


@dataclass
class Healing:
    """One loss and what came after it. Seconds; None: not within the patience."""

    workload: str
    stored_bytes: int
    disk_per_byte: float  #: before the loss
    net_disk_per_byte: float  #: the same without what an empty cluster preallocates
    noticed_s: float | None = None
    redundant_s: float | None = None  #: since the kill
    repaired_bytes: int = 0  #: that the shards of the lost node took
    reads_before: float = 0.0  #: foreground, bytes a second
    reads_during: float = 0.0
    writes_before: float = 0.0
    writes_during: float = 0.0
    worst_read_s: float = 0.0
    worst_write_s: float = 0.0

    @property
    def repair_s(self) -> float | None:
        """From down to full redundancy."""
        if self.noticed_s is None or self.redundant_s is None:
            return None
        return self.redundant_s - self.noticed_s


class Foreground:
    """One reader and one writer, as fast as they can."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ended = threading.Event()
        self.read_bytes = self.written_bytes = 0
        self.worst_read_s = self.worst_write_s = 0.0
        store.write_bytes("/foreground/read", os.urandom(8 * FOREGROUND_BYTES))
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._read, self._write)]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        turn = 0
        while not self._ended.is_set():
            begin, start = time.monotonic(), turn % 8 * FOREGROUND_BYTES
            self.read_bytes += len(self._store.read_bytes("/foreground/read", start, start + FOREGROUND_BYTES))
            self.worst_read_s = max(self.worst_read_s, time.monotonic() - begin)
            turn += 1

    def _write(self) -> None:
        turn = 0
        while not self._ended.is_set():
            data, begin = os.urandom(FOREGROUND_BYTES), time.monotonic()
            try:
                self._store.write_bytes(f"/foreground/{turn % 64}", data)
            except DSAError as error:  # a write under way to the node that died may fail; a read may not
                print(f"a foreground write failed: {error}", file=sys.stderr)
                continue
            self.written_bytes += len(data)
            self.worst_write_s = max(self.worst_write_s, time.monotonic() - begin)
            turn += 1

    def rates(self, action: Callable[[], object]) -> tuple[float, float]:
        """Bytes a second read and written while ``action`` runs."""
        begin, read, written = time.monotonic(), self.read_bytes, self.written_bytes
        action()
        seconds = time.monotonic() - begin
        return (self.read_bytes - read) / seconds, (self.written_bytes - written) / seconds

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


def heal(cluster: dsa_zmq.LocalCluster, store: Store, healing: Healing, patience_s: float) -> None:
    """Kill a node and watch; the figures go into ``healing``."""
    victim = cluster.names[0]
    healing.repaired_bytes = next(node.used for node in store.nodes() if node.name == victim)
    begin = time.monotonic()
    cluster.kill(victim)

    def is_down() -> bool:
        return next(node.state for node in store.nodes() if node.name == victim) == "down"

    if within(patience_s, is_down):
        healing.noticed_s = time.monotonic() - begin
        time.sleep(REPORT_AGE_S)  # a report made before the loss was known proves nothing
        if within(patience_s, lambda: is_redundant(store.health())):
            healing.redundant_s = time.monotonic() - begin


def within(timeout_s: float, holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def measure(options: argparse.Namespace, scratch: Path, workload: str) -> list[Healing]:
    """In quiet, then under load."""
    healings = []
    with (
        dsa_zmq.LocalCluster(
            options.nodes,
            processes=True,
            directory=scratch / workload,
            segment_bytes=SEGMENT_BYTES,
            speed=options.speed,
        ) as cluster,
        cluster.connect() as store,
        cluster.connect() as watcher,
    ):
        empty = disk_bytes(files_below(scratch / workload))
        stored = STORE[workload](store, options)
        taken = disk_bytes(files_below(scratch / workload))
        per_byte, net = taken / stored, (taken - empty) / stored
        print(
            f"{workload}: {stored / MIB:,.0f} MiB stored, {per_byte:.2f} bytes on disk for each of them, {net:.2f} without"
        )
        print(f"  the {empty / MIB:,.0f} MiB of the empty cluster", flush=True)
        quiet = Healing(f"{workload}, quiet", stored, per_byte, net)
        heal(cluster, watcher, quiet, options.patience)
        healings.append(quiet)
        print(show(quiet), flush=True)
        cluster.restart(0)
        cluster.wait_healthy(options.patience)
        foreground = Foreground(store)
        busy = Healing(f"{workload}, with readers and writers", stored, per_byte, net)
        busy.reads_before, busy.writes_before = foreground.rates(lambda: time.sleep(BASE_S))
        busy.reads_during, busy.writes_during = foreground.rates(lambda: heal(cluster, watcher, busy, options.patience))
        foreground.stop()
        busy.worst_read_s, busy.worst_write_s = foreground.worst_read_s, foreground.worst_write_s
        healings.append(busy)
        print(show(busy), flush=True)
    return healings


def store_big(store: Store, options: argparse.Namespace) -> int:
    """One file of random bytes, a piece at a time."""

    def pieces() -> object:
        for start in range(0, options.size, 8 * MIB):
            yield os.urandom(min(8 * MIB, options.size - start))

    store.put(pieces(), "/big")
    return int(options.size)


def store_small(store: Store, options: argparse.Namespace) -> int:
    """Many files, in bulk."""
    return fill(store, "/small", options.small, SMALL_BYTES)


STORE: dict[str, Callable[[Store, argparse.Namespace], int]] = {"big file": store_big, "small files": store_small}


def show(one: Healing) -> str:
    """A few lines."""
    out = io.StringIO()
    out.write(f"{one.workload}:\n")
    if one.noticed_s is None:
        return out.getvalue() + "  the loss was NOT noticed in time"
    out.write(f"  down after {one.noticed_s:.2f} s; {one.repaired_bytes / MIB:,.0f} MiB had lost a copy\n")
    if one.redundant_s is None or one.repair_s is None:
        out.write("  NOT fully redundant in time\n")
    else:
        rate = one.repaired_bytes / max(one.repair_s, 1e-3) / MIB
        out.write(f"  fully redundant {one.redundant_s:.2f} s after the kill, {one.repair_s:.2f} s after it was down")
        out.write(f" ({rate:,.0f} MiB/s)\n")
    if one.reads_before:
        out.write(
            f"  foreground reads {one.reads_before / MIB:,.0f} MiB/s before, {one.reads_during / MIB:,.0f} during "
            f"({one.reads_during / one.reads_before:.2f}); writes {one.writes_before / MIB:,.0f} before, "
            f"{one.writes_during / MIB:,.0f} during ({one.writes_during / max(one.writes_before, 1):.2f}); "
            f"worst read {one.worst_read_s:.2f} s, write {one.worst_write_s:.2f} s\n"
        )
    return out.getvalue().rstrip()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.repair", description=__doc__)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--size", type=int, default=1 << 30, help="bytes of the large file")
    parser.add_argument("--small", type=int, default=5500, help="files of 4 KiB")
    parser.add_argument("--only", choices=tuple(STORE), action="append", help="leave out the others; may be repeated")
    parser.add_argument("--speed", type=float, default=20, help="divides the times before repair begins; 1: as in life")
    parser.add_argument("--patience", type=float, default=120, help="seconds to wait for each step")
    parser.add_argument("--quick", action="store_true", help="as little as possible: the figures mean nothing")
    parser.add_argument("--scratch", type=Path, help="folder for temporary files (default: the system's)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    options = parser.parse_args()
    if options.quick:
        options.size, options.small = 8 * MIB, 50
    tune_process()
    scratch = Path(tempfile.mkdtemp(prefix="dsa-repair-", dir=options.scratch))
    try:
        healings = [one for workload in options.only or STORE for one in measure(options, scratch, workload)]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in healings], indent=2) + "\n")
    return 0 if all(one.redundant_s is not None for one in healings) else 1


if __name__ == "__main__":
    sys.exit(main())
