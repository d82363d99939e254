"""A catalog on a simulated disk, with nodes that write true receipts and a client that numbers its requests."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import msgspec
import pytest

from actors.core import Job
from actors.sim.disk import SimDisk
from dsa_zmq.master.catalog.catalog import Catalog
from dsa_zmq.master.catalog.jobs import CollectGarbage, DropsDone, LoadDrops, NodeRow, RegisterNode, Request
from dsa_zmq.master.catalog.log_jobs import Committed
from dsa_zmq.master.catalog.places import PlaceChange, change_places, fold_places, tally
from dsa_zmq.master.catalog.rows import Missing, Rows
from dsa_zmq.master.catalog.tables import (
    CHUNKS,
    DERIVED,
    HOLDERS,
    INVENTORIES,
    LOGGED,
    META,
    NOT_LOGGED,
    PLACES,
    SESSIONS,
    TABLES,
    PlaceRow,
)
from dsa_zmq.model.hashes import hashes_bytes, shard_hash
from dsa_zmq.model.ids import NONCE_BITS
from dsa_zmq.model.macs import node_key, receipt_mac
from dsa_zmq.model.records import CHANGES, ROWS, read_record, unpack_runs
from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.model.upkeep import Standing
from dsa_zmq.protocol.messages import Register
from dsa_zmq.protocol.operations import Commit, OpenSession, Operation, Stage
from dsa_zmq.protocol.values import Failure, Receipt, StagedChunk

SECRET = b"\x5a" * 32
CHUNK_BYTES = 4096  #: the smallest there is
CLIENT = b"client-0123456789"[:16]
FOR_EVER = 1 << 62
ALL_UP = dict.fromkeys(range(1, 5), Standing.KEEPS)  #: the nodes of a kit


def bare(result: Any) -> Any:
    """A job's own result."""
    return result.result if isinstance(result, Committed) else result


class Kit:
    """One catalog, its nodes and one client session."""

    alive: ClassVar[list[Kit]] = []

    def __init__(self, seed: int = 0, *, nodes: int = 4, disk: SimDisk | None = None, **options: Any) -> None:
        self.alive.append(self)
        self.random = random.Random(seed)
        self.disk = disk or SimDisk(random.Random(seed))
        self.options = options
        self.changes: list[Any] = []
        self.records: list[Any] = []  #: of the log, since this kit was made
        self.catalog: Catalog
        self.open()
        self.initial = self.dump()
        self.now = 1_000
        self.numbers = 0
        self.ids = 1_000
        self.nodes: list[NodeRow] = [self.register(f"n{index}") for index in range(nodes)]
        self.session = self.open_session()

    def open(self, **options: Any) -> None:
        settings = {"default_redundancy": "copies=2", "ballast_bytes": 0, "keeps_log": True, **self.options, **options}
        self.catalog = Catalog.open(
            self.disk, rng=self.random, secret=SECRET, follow=self.changes.extend, wall_ns=1, **settings
        )
        log = self.catalog._batches._log
        self.records += map(read_record, log.read(log.position, 1) if settings["keeps_log"] else [])

    # --- jobs -----------------------------------------------------------------------------------------------------

    def run(self, *jobs: Job) -> list[Any]:
        """The jobs' own results. What they left in the log is in ``records``."""
        results = self.catalog.run(jobs)
        for result in results:
            if isinstance(result, Committed):
                self.records += map(read_record, result.records)
                assert result.position == self.catalog._batches._log.position or len(results) > 1
        return [bare(result) for result in results]

    def one(self, job: Job) -> Any:
        return self.run(job)[0]

    def request(
        self, operation: Operation, *, number: int = 0, session: int | None = None, done_below: int = 0
    ) -> Request:
        """A request with the next number, or with the one given."""
        if not number:
            self.numbers += 1
            number = self.numbers
        self.now += 1
        return Request(operation, self.session if session is None else session, number, done_below, self.now)

    def do(self, operation: Operation, **options: Any) -> Any:
        return self.one(self.request(operation, **options))

    def good(self, operation: Operation, **options: Any) -> Any:
        """The answer, which has to be no failure."""
        result = self.do(operation, **options)
        assert not isinstance(result, Failure), result
        return result

    def bad(self, operation: Operation, **options: Any) -> str:
        """The code of the answer, which has to be a failure that says what and why."""
        result = self.do(operation, **options)
        assert isinstance(result, Failure), result
        assert len(result.message) > 10, result
        return result.code

    def open_session(self, client: bytes = CLIENT, incarnation: int = 1) -> int:
        return int(self.one(Request(OpenSession(client, incarnation), 0, 0, 0, self.now)).session)

    # --- nodes ----------------------------------------------------------------------------------------------------

    def introduction(self, name: str, *, start: int = 1, nonce: int = 0xABC, **fields: Any) -> Register:
        """How node ``name`` introduces itself, in its first start in its own directory unless told otherwise."""
        values: dict[str, Any] = {
            "number": 0, "version": 1, "oldest": 1, "cluster": b"", "name": name, "store_id": name.encode().ljust(16, b"."),
            "incarnation": start << NONCE_BITS | nonce, "address": f"tcp://{name}:7710", "zone": "", "host": f"host-{name}",
            "path": f"/srv/{name}", "disk": name, "capacity": 1 << 40, "used": 0, "free": 0, "seen_term": 0,
            "seen_master": b"",
        }  # fmt: skip
        return Register(**{**values, **fields})

    def register(self, name: str, *, old_is_alive: bool = False, **fields: Any) -> Any:
        return self.one(self.node_job(name, old_is_alive=old_is_alive, **fields))

    def node_job(self, name: str, *, old_is_alive: bool = False, **fields: Any) -> RegisterNode:
        return RegisterNode(self.introduction(name, **fields), old_is_alive, self.now)

    def receipt(
        self, upload: int, chunk: int, index: int, node: NodeRow, shard_hash: bytes, /, **fields: Any
    ) -> Receipt:
        """What ``node`` writes when it holds this shard. ``fields`` change what it is written for."""
        generation = fields.pop("generation", node.generation)
        store_id = fields.pop("store_id", node.store_id)
        incarnation = fields.pop("incarnation", node.incarnation)
        body = {
            "cluster": self.catalog.cluster, "node": node.node, "store_id": store_id, "incarnation": incarnation,
            "upload": upload, "chunk": chunk, "index": index, "shard_hash": shard_hash,
        }  # fmt: skip
        key = node_key(SECRET, node.node, store_id, generation)
        return Receipt(node.node, index, incarnation, receipt_mac(key, **{**body, **fields}))

    # --- uploads --------------------------------------------------------------------------------------------------

    def new_id(self) -> int:
        self.ids += 1
        return self.ids

    def chunk(
        self, upload: int, length: int = CHUNK_BYTES, redundancy: str = "copies=2", chunk: int = 0
    ) -> StagedChunk:
        """A chunk of fresh bytes, held by as many nodes as its redundancy wants."""
        chunk = chunk or self.new_id()
        parsed = parse_redundancy(redundancy)
        hashes = self.random.randbytes(hashes_bytes(parsed))
        receipts = [
            self.receipt(upload, chunk, index, node, shard_hash(hashes, index))
            for index, node in enumerate(self.random.sample(self.nodes, parsed.shards))
        ]
        return StagedChunk(chunk, length, hashes, receipts)

    def commit(self, path: str, length: int = 1000, *, chunk_bytes: int = CHUNK_BYTES, **fields: Any) -> Commit:
        """The commit of a fresh file of so many bytes, on one page."""
        redundancy = fields.get("redundancy", "copies=2")
        upload = self.new_id() if length else 0
        lengths = [min(chunk_bytes, length - start) for start in range(0, length, chunk_bytes)]
        chunks = [self.chunk(upload, size, redundancy) for size in lengths]
        values: dict[str, Any] = {
            "upload": upload, "path": path, "length": length, "chunk_bytes": chunk_bytes, "chunk_count": len(chunks),
            "redundancy": redundancy, "chunks": chunks, "mtime_ns": self.now,
        }  # fmt: skip
        return Commit(**{**values, **fields})

    def stage(self, upload: int, page: int, *, chunk_bytes: int = 16 << 20, redundancy: str = "copies=2") -> Stage:
        """A full page: four chunks of 16 MiB each, unless told otherwise."""
        count = min(256, (64 << 20) // chunk_bytes)
        return Stage(
            upload, page, chunk_bytes, redundancy, [self.chunk(upload, chunk_bytes, redundancy) for _ in range(count)]
        )

    # --- looking --------------------------------------------------------------------------------------------------

    def dump(self, *without: str) -> dict[str, list[Any]]:
        """All rows of all tables, in the order of their keys."""
        database = self.catalog._database
        return {
            table.name: sorted(database.execute(f"SELECT {table.columns} FROM {table.name}"))
            for table in TABLES
            if table.name not in without
        }

    def kept(self) -> dict[str, list[Any]]:
        """As :meth:`dump`, what is kept in copies: not what is derived, nor what is said of the log."""
        rows = self.dump(*[table.name for table in DERIVED])
        return rows | {META.name: [row for row in rows[META.name] if row[0] not in NOT_LOGGED]}

    def number(self, name: str) -> int:
        """A number in ``meta``."""
        return next(int(row[1]) for row in self.dump()["meta"] if row[0] == name)

    def audit(self) -> None:
        assert self.catalog.audit() == []

    def retally(self) -> None:
        """Count anew who holds what, after places were changed by hand."""
        database = self.catalog._database
        database.begin()
        for table in (HOLDERS, INVENTORIES):
            database.execute(f"DELETE FROM {table.name}")
        tally(database)
        database.commit()
        self.reopen()

    def decide(self, rule: Callable[[Rows], Any]) -> Any:
        """Run a rule of the catalog in a transaction of its own, as a job of a batch would be."""
        database, cache = self.catalog._database, self.catalog._batches._cache
        rows = Rows(database, cache, 0, fold_places)
        database.begin()
        mark = rows.mark()
        while True:
            try:
                result = rule(rows)
                break
            except Missing as missing:
                rows.undo(mark)
                rows.fetch(missing)
        rows.settle()
        rows.flush()
        database.commit()
        rows.committed()
        self.audit()
        return result

    def add_place(self, chunk: int, node: int, shard: int) -> None:
        """One more, as a move that has arrived would leave it."""

        def rule(rows: Rows) -> None:
            before = rows.group(PLACES, chunk)
            change_places(rows, [PlaceChange(rows.get(CHUNKS, chunk), before, [*before, PlaceRow(chunk, node, shard)])])

        self.decide(rule)

    def sessions(self) -> list[Any]:
        return self.dump()[SESSIONS.name]

    def collect(self, *, limit: int = 50, wall_ns: int = FOR_EVER, grace_ns: int = 0, **fields: int) -> list[int]:
        """Collect until nothing is left to do; the nodes that have something to drop."""
        job = CollectGarbage(limit, wall_ns, grace_ns, fields.pop("reply_keep_ns", FOR_EVER), **fields)
        for _ in range(1000):
            progress = self.one(job)
            self.audit()
            if not progress.more:
                return list(progress.nodes)
        raise AssertionError("the garbage collection does not end")

    def drop_all(self) -> dict[int, list[Any]]:
        """Let every node drop what it is to drop; what that was."""
        dropped = {}
        for node in self.nodes:
            shards = self.one(LoadDrops(node.node, 10_000))
            if shards:
                self.one(DropsDone(node.node, shards))
                dropped[node.node] = shards
        return dropped

    # --- ends -----------------------------------------------------------------------------------------------------

    def reopen(self, **options: Any) -> None:
        """Close in order and open again."""
        self.catalog.close()
        self.open(**options)

    def power_loss(self, **options: Any) -> None:
        """Lose power, now, and start again."""
        self.disk.power_loss()
        self.open(**options)


@pytest.fixture(autouse=True)
def no_process_outlives_its_test() -> Iterator[None]:
    """Files that are still open are those of a killed process: nothing is written any more."""
    yield
    while Kit.alive:
        Kit.alive.pop().disk.process_crash()


@pytest.fixture
def kit() -> Iterator[Kit]:
    made = Kit()
    yield made
    made.audit()


@pytest.fixture
def staged(kit: Kit) -> StagedChunk:
    """A chunk with two shards."""
    commit = kit.commit("/file", redundancy="copies=2")
    kit.good(commit)
    return commit.chunks[0]


def spare(staged: StagedChunk) -> int:
    """The first node that has no shard of this chunk."""
    return next(node for node in range(1, 5) if node not in {receipt.node for receipt in staged.receipts})


@pytest.fixture(scope="session")
def new_kit() -> Callable[..., Kit]:
    """Makes kits, also inside of generated tests."""
    return Kit


class Copy:
    """The rows of a catalog, as records make them."""

    def __init__(self, *records: Any) -> None:
        self.tables: dict[str, dict[Any, tuple[Any, ...]]] = {table.name: {} for table in LOGGED}
        for record in records:
            self.take(record)

    def take(self, record: Any) -> None:
        if record.kind not in (ROWS, CHANGES):
            return
        for name, rows, removed in unpack_runs(record.body()):
            width, there = WIDTHS[name], self.tables[name]
            assert rows or removed, "a run of nothing"
            assert not {row[:width] for row in rows} & set(removed), "there, and removed"
            there |= {row[:width]: row for row in rows}
            for key in removed:
                there.pop(key, None)

    def dump(self) -> dict[str, list[Any]]:
        return {name: sorted(rows.values()) for name, rows in self.tables.items()}


WIDTHS = {table.name: table.width for table in LOGGED}


@pytest.fixture(scope="session")
def new_copy() -> Callable[..., Copy]:
    """Makes copies of records."""
    return Copy


@pytest.fixture(scope="session")
def to_bytes() -> Callable[[Sequence[Any]], list[bytes]]:
    """Answers as they would travel, to compare."""
    return lambda results: [msgspec.msgpack.encode(result) for result in results]
