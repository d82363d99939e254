"""Rates of the catalog alone, one thread: ``python -m bench.catalog [seconds per line]``.

Batches of 64, synchronous=FULL, a new database in a temporary directory. Compare rates with the first line, which is the
same number of bare rows by plain SQL in the same run: the machine is noisy, ratios are not.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import apsw

from actors.core import Job
from actors.disk import OsDisk
from dsa_zmq.master.catalog.catalog import Catalog
from dsa_zmq.master.catalog.health import TakeTally
from dsa_zmq.master.catalog.jobs import CollectGarbage, RegisterNode, Request
from dsa_zmq.master.catalog.log_jobs import BeginVolume, Committed, LoadLog, Slice, TakeSlice
from dsa_zmq.model.ids import next_incarnation
from dsa_zmq.model.macs import node_key, receipt_mac
from dsa_zmq.model.records import read_record
from dsa_zmq.protocol.messages import Register
from dsa_zmq.protocol.operations import (
    Commit,
    ListDirectory,
    Locate,
    MakeDirectory,
    OpenSession,
    Operation,
    Remove,
    Stat,
)
from dsa_zmq.protocol.values import Receipt, StagedChunk

BATCH = 64
SLICE_BYTES = 256 << 10
SECRET = b"b" * 32
INCARNATION = next_incarnation(0, 7)  #: of every node: its first start
WALL_NS = 1_700_000_000_000_000_000


class Load:
    """A catalog with four nodes and one session, and requests for it."""

    def __init__(self, directory: str, *, keeps_log: bool = False) -> None:
        self.random = random.Random(7)
        self.catalog = Catalog.open(
            OsDisk(directory), rng=self.random, secret=SECRET, ballast_bytes=0, keeps_log=keeps_log
        )
        registrations = [
            Register(
                0, 1, 1, b"", f"n{i}", bytes([i]) * 16, INCARNATION, f"tcp://h:{i}", "", "h", f"/{i}", "d", 1 << 40,
                0, 0, 0, b"",
            )
            for i in range(4)
        ]  # fmt: skip
        self.nodes = self.run([RegisterNode(message, False, WALL_NS) for message in registrations])
        self.keys = [node_key(SECRET, node.node, node.store_id, node.generation) for node in self.nodes]
        self.session = self.run([Request(OpenSession(b"c" * 16, 1), 0, 0, 0, WALL_NS)])[0].session
        self.number = 0
        self.ids = 1 << 40
        self.files: list[str] = []

    def run(self, jobs: Sequence[Job]) -> list[Any]:
        """The jobs' own results."""
        return [result.result if isinstance(result, Committed) else result for result in self.catalog.run(jobs)]

    def request(self, operation: Operation) -> Request:
        self.number += 1
        return Request(operation, self.session, self.number, max(0, self.number - BATCH), WALL_NS)

    def commit(self) -> Request:
        """A one-chunk file with two copies, as its client would commit it."""
        self.ids += 2
        upload, chunk = self.ids, self.ids + 1
        digest = self.random.randbytes(32)
        receipts = []
        for index in range(2):
            at = (chunk // 2 + index) % 4
            node = self.nodes[at]
            mac = receipt_mac(
                self.keys[at], cluster=self.catalog.cluster, node=node.node, store_id=node.store_id,
                incarnation=INCARNATION, upload=upload, chunk=chunk, index=index, shard_hash=digest,
            )  # fmt: skip
            receipts.append(Receipt(node.node, index, INCARNATION, mac))
        path = f"/data/set-{len(self.files) // 1000:04d}/file-{len(self.files):08d}"
        self.files.append(path)
        staged = StagedChunk(chunk, 4096, digest, receipts)
        return self.request(Commit(upload, path, 4096, 1 << 20, 1, "copies=2", [staged], WALL_NS))

    def any_file(self) -> str:
        return self.random.choice(self.files)

    def read(self, operation: Operation) -> Request:
        return Request(operation, 0, 0, 0, WALL_NS)


def measure(name: str, run: Callable[[Sequence[Job]], object], make: Callable[[], Job], seconds: float) -> float:
    """Operations per second; making the requests is not counted. ``make`` may raise StopIteration when it has no more."""
    spent, done = 0.0, 0
    while spent < seconds:
        try:
            jobs = [make() for _ in range(BATCH)]
        except StopIteration:  # nothing is left to do it to
            break
        start = time.perf_counter()
        run(jobs)
        spent += time.perf_counter() - start
        done += BATCH
    rate = done / spent if spent else 0.0
    print(f"{name:42} {rate:10,.0f} /s")
    return rate


def bare_rows(directory: str, seconds: float) -> None:
    """The same eight rows of a one-chunk file through bare apsw: what the SQL alone costs."""
    connection = apsw.Connection(f"{directory}/bare.sqlite")
    for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")
    for table in range(8):
        connection.execute(f"CREATE TABLE t{table} (a INTEGER PRIMARY KEY, b, c, d, e, f)")
    counter = iter(range(1 << 60))

    def run(jobs: Sequence[int]) -> None:
        connection.execute("BEGIN")
        for table in range(8):
            connection.executemany(
                f"INSERT INTO t{table} VALUES (?,?,?,?,?,?)", [(n, 1, 2, "x", b"y", 3) for n in jobs]
            )
        connection.execute("COMMIT")

    measure("bare SQL: 8 inserts", run, lambda: next(counter), seconds)  # type: ignore[arg-type,return-value]


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    with tempfile.TemporaryDirectory() as directory:
        bare_rows(directory, seconds)
        load = Load(directory)
        run = load.catalog.run
        run([load.commit() for _ in range(BATCH)])
        measure("commit of a one-chunk file, copies=2", run, load.commit, 3 * seconds)
        measure("stat", run, lambda: load.read(Stat(load.any_file())), seconds)
        measure("locate", run, lambda: load.read(Locate(load.any_file())), seconds)
        measure("list 1,000 entries", run, lambda: load.read(ListDirectory("/data/set-0000")), seconds)
        numbers = iter(range(1 << 60))
        measure("make directory", run, lambda: load.request(MakeDirectory(f"/dirs/d{next(numbers)}", True)), seconds)
        files = iter(load.files)
        measure("remove", run, lambda: load.request(Remove(next(files))), seconds / 2)
        start = time.perf_counter()
        slices = 1
        while run([CollectGarbage(250, 2 * WALL_NS, 0, 2 * WALL_NS)])[0].more:
            slices += 1
        each = (time.perf_counter() - start) / slices
        print(f"{'garbage: mean slice of 250 rows':42} {each * 1000:10.1f} ms, {slices} slices")
        start = time.perf_counter()
        run([TakeTally()])
        print(f"{'health: the tallies':42} {(time.perf_counter() - start) * 1000:10.1f} ms")
        load.catalog.close()
    with tempfile.TemporaryDirectory() as directory:
        log_and_snapshot(directory, seconds)


def log_and_snapshot(directory: str, seconds: float) -> None:
    """What the catalog's copies cost its worker: compare the first line with the one without a log."""
    load = Load(directory, keeps_log=True)
    load.run([load.commit() for _ in range(BATCH)])
    measure("commit of a one-chunk file, log kept", load.catalog.run, load.commit, 3 * seconds)
    state = load.run([LoadLog()])[0]
    print(f"{'log: bytes of a file':42} {state.size / len(load.files):10,.0f}")
    begun = load.run([BeginVolume(WALL_NS, "bench")])[0]
    first = read_record(begun.begin)
    assert first is not None
    made = Slice([], b"", 1, first.hash)
    start, slices, size = time.perf_counter(), 0, 0
    while made.cursor or not slices:
        job = TakeSlice(begun.volume, made.cursor, made.part, made.previous, WALL_NS, SLICE_BYTES)
        made = load.run([job])[0]
        slices += 1
        size += sum(map(len, made.records))
    spent = time.perf_counter() - start
    print(f"{'snapshot: files':42} {len(load.files) / spent:10,.0f} /s, {size / len(load.files):.0f} bytes each")
    print(f"{'snapshot: mean slice':42} {spent / slices * 1000:10.1f} ms, {slices} slices")
    load.catalog.close()


if __name__ == "__main__":
    main()
