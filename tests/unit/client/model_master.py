"""A master in a few lines: sessions and kept answers, receipts that bind an incarnation, pages before the commit.

It complains when the client breaks one of these rules.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from actors.core import Message
from dsa_zmq.model import erasure
from dsa_zmq.model.hashes import chunk_hash, hashes_bytes, shard_hash
from dsa_zmq.model.redundancy import Redundancy, fewest, kept_as, parse_redundancy
from dsa_zmq.protocol import operations as op
from dsa_zmq.protocol.messages import Answer, Answers, Calls, Hello, Welcome
from dsa_zmq.protocol.values import (
    Attributes,
    ChunkPlaces,
    ChunkPlan,
    Failure,
    NodeAddress,
    NodeInfo,
    Place,
    PlacedShard,
    StagedChunk,
    UploadSlot,
)
from tests.unit.client.model_node import mac_of

if TYPE_CHECKING:
    from tests.unit.client.world import World

PAGE_CHUNKS = 4  # set by the fixture


@dataclass
class _Upload:
    plans: dict[int, dict[int, int]] = field(default_factory=dict)  # chunk -> index -> node
    pages: dict[int, list[StagedChunk]] = field(default_factory=dict)
    redundancy: str = ""
    lengths: dict[int, int] = field(default_factory=dict)  # chunk -> bytes, or those of its slot
    born_ns: int = -1  #: of a slot: when it was given


class ModelMaster:
    def __init__(self, world: World, redundancy: str) -> None:
        self.world, self.redundancy = world, redundancy  #: what all directories give
        self.term = 1
        self.ids = itertools.count(100)
        self.sessions: dict[int, dict[int, Any]] = {}
        self.floors: dict[int, int] = {}  # by session
        self.uploads: dict[int, _Upload] = {}
        self.files: dict[str, tuple[Attributes, list[StagedChunk]]] = {}
        self.contents: dict[int, list[StagedChunk]] = {}
        self.calls: list[op.Operation] = []
        self.messages = 0
        self.commits = 0
        self.slots_last_ms = 60_000
        self.given: set[int] = set()  # slots
        self.returned: set[int] = set()
        self.down: set[int] = set()  # nodes that it knows to be

    def handle(self, message: Message, payload: list[bytes]) -> tuple[Message, list[bytes]] | None:
        if isinstance(message, Hello):
            return Welcome(message.number, 1, b"c" * 16, self.term, "master"), []
        assert isinstance(message, Calls)
        self.messages += 1
        answers = []
        for call in message.calls:
            self.calls.append(call.operation)
            if isinstance(call.operation, op.STORED):
                kept = self.sessions.get(message.session)
                if kept is None:
                    answers.append(Answer(call.number, Failure("outcome-unknown", "no such session")))
                    continue
                floor = self.floors[message.session] = max(self.floors.get(message.session, 0), message.done_below)
                for number in [number for number in kept if number < floor]:
                    del kept[number]
                if call.number < floor:
                    continue  # a late repeat: the client has its answer
                if call.number not in kept:
                    kept[call.number] = self.run(call.operation)
                answers.append(Answer(call.number, kept[call.number]))
            else:
                answers.append(Answer(call.number, self.run(call.operation)))
        return Answers(self.term, answers), []

    def run(self, operation: op.Operation) -> op.Result:
        return getattr(self, "on_" + type(operation).__name__.lower())(operation)

    def on_opensession(self, operation: op.OpenSession) -> op.Result:
        session = next(self.ids)
        self.sessions[session] = {}
        return op.SessionOpened(session)

    def on_closesession(self, operation: op.CloseSession) -> op.Result:
        return op.Done(int(self.sessions.pop(operation.session, None) is not None))

    def on_report(self, operation: op.Report) -> op.Result:
        return op.Done()

    def on_renew(self, operation: op.Renew) -> op.Result:
        return op.Done(len(operation.uploads))

    def on_listnodes(self, operation: op.ListNodes) -> op.Result:
        nodes = self.world.nodes.values()
        return op.Nodes(
            [
                NodeInfo(node.number, f"n{node.number}", "up", node.address, "", "", 0, 0, 0, 0, node.incarnation)
                for node in nodes
            ]
        )

    def addresses(self) -> list[NodeAddress]:
        nodes = self.world.nodes.values()
        return [NodeAddress(node.number, node.address, node.incarnation, f"n{node.number}") for node in nodes]

    def choose(self, count: int, barred: set[int], avoid: list[int]) -> list[int]:
        usable = [number for number in self.world.nodes if number not in barred | self.down]
        good = [number for number in usable if number not in avoid]
        rest = [number for number in usable if number in avoid]
        self.world.rng.shuffle(good)
        return (good + rest)[:count]

    def on_allocate(self, operation: op.Allocate) -> op.Result:
        number = operation.upload or next(self.ids)
        name = operation.redundancy or self.redundancy
        if not operation.upload and len(operation.lengths) == 1:
            name = kept_as(name, operation.lengths[0], operation.chunk_bytes)
        upload = self.uploads.setdefault(number, _Upload(redundancy=name))
        assert upload.redundancy == name, "the redundancy changed within an upload"
        redundancy = parse_redundancy(name)
        plans = []
        for length in operation.lengths:
            chosen = self.choose(redundancy.shards, set(), operation.avoid)
            if len(chosen) < fewest(redundancy, operation.degraded):
                return Failure("too-few-nodes", "too few nodes")
            chunk = next(self.ids)
            upload.plans[chunk], upload.lengths[chunk] = dict(enumerate(chosen)), length
            plans.append(ChunkPlan(chunk, [Place(node, index, b"m" * 16) for index, node in enumerate(chosen)]))
        return op.Allocated(number, name, plans, self.addresses(), 0)

    def on_allocateslots(self, operation: op.AllocateSlots) -> op.Result:
        redundancy = parse_redundancy(operation.redundancy)
        assert redundancy.alike, "slots are for small files, which are kept as copies"
        slots = []
        for _ in range(operation.count):
            chosen = self.choose(redundancy.shards, set(), operation.avoid)
            if len(chosen) < redundancy.shards:
                return Failure("too-few-nodes", "too few nodes")
            number, chunk = next(self.ids), next(self.ids)
            self.uploads[number] = _Upload(
                {chunk: dict(enumerate(chosen))}, {}, redundancy.name, {chunk: operation.slot_bytes}, self.world.now
            )
            self.given.add(number)
            places = [Place(node, index, b"m" * 16) for index, node in enumerate(chosen)]
            slots.append(UploadSlot(number, chunk, places))
        return op.AllocatedSlots(slots, self.addresses(), 0, self.slots_last_ms)

    def on_returnslots(self, operation: op.ReturnSlots) -> op.Result:
        for number in operation.uploads:
            assert number in self.given
            assert number not in self.contents, "a slot was returned that was used"
            self.returned.add(number)
        return op.Done(sum(self.uploads.pop(number, None) is not None for number in operation.uploads))

    def on_reallocate(self, operation: op.Reallocate) -> op.Result:
        upload = self.uploads.get(operation.upload)
        if upload is None:
            return Failure("outdated", "upload expired")
        places = []
        redundancy = parse_redundancy(upload.redundancy)
        for shard, length, held in zip(operation.shards, operation.lengths, operation.held, strict=True):
            granted = redundancy.shard_bytes(upload.lengths[shard.chunk])
            assert length <= granted if upload.born_ns >= 0 else length == granted
            others = {node for index, node in upload.plans[shard.chunk].items() if index != shard.index}
            others |= {node for moved, node in places if moved.chunk == shard.chunk}
            chosen = self.choose(1, set(held) | others, operation.avoid)
            if not chosen:
                return Failure("too-few-nodes", "no other node")
            places.append((shard, chosen[0]))
        for shard, node in places:
            upload.plans[shard.chunk][shard.index] = node
        answer = [Place(node, shard.index, b"m" * 16) for shard, node in places]
        return op.Reallocated(answer, self.addresses(), 0)

    def check(self, number: int, operation: op.Stage | op.Commit) -> op.Result | None:
        """Confirm if receipts are of earlier incarnations; Denied if they are wrong."""
        assert number not in self.returned, "a slot was used that had been returned"
        assert number not in self.contents, "an upload is published twice"
        stale: list[PlacedShard] = []
        redundancy = parse_redundancy(operation.redundancy)
        for chunk in operation.chunks:
            assert len({receipt.node for receipt in chunk.receipts}) == len(chunk.receipts)
            assert len(chunk.receipts) >= fewest(redundancy, operation.degraded)
            indexes = {receipt.index for receipt in chunk.receipts}
            assert len(indexes) == len(chunk.receipts)
            assert indexes <= set(range(redundancy.shards))
            assert len(chunk.hash) == hashes_bytes(redundancy)
            for receipt in chunk.receipts:
                node = self.world.nodes[receipt.node]
                if receipt.incarnation != node.incarnation:
                    stale.append(PlacedShard(chunk.chunk, receipt.index, receipt.node))
                    continue
                hash_ = shard_hash(chunk.hash, receipt.index)
                said = (receipt.node, receipt.incarnation, number, chunk.chunk, receipt.index, hash_)
                assert receipt.mac == mac_of(*said), "a receipt for something else"
        if stale:
            return op.Confirm(stale, [b"m" * 16] * len(stale), self.addresses(), 0)
        return None

    def on_stage(self, operation: op.Stage) -> op.Result:
        upload = self.uploads.get(operation.upload)
        if upload is None:
            return Failure("conflict", "upload expired")
        assert len(operation.chunks) == PAGE_CHUNKS, "a staged page is full"
        if operation.page not in upload.pages:
            confirm = self.check(operation.upload, operation)
            if confirm is not None:
                return confirm
            upload.pages[operation.page] = operation.chunks
        return op.Staged(operation.upload, operation.page)

    def on_commit(self, operation: op.Commit) -> op.Result:
        if operation.upload and operation.upload in self.contents:
            attributes, _ = self.files[operation.path]
            known = attributes.content == operation.upload
            return op.Found(attributes) if known else Failure("unavailable", "published before")
        if operation.if_absent and operation.path in self.files:
            return Failure("already-exists", "taken")
        rows: list[StagedChunk] = []
        if operation.upload:
            given = kept_as(self.redundancy, operation.length, operation.chunk_bytes)
            if operation.inherits and operation.redundancy != given:
                return Failure("outdated", "another redundancy")
            upload = self.uploads.get(operation.upload)
            if upload is None:
                return Failure("outdated", "upload expired")
            confirm = self.check(operation.upload, operation)
            if confirm is not None:
                return confirm
            rows = [row for page in sorted(upload.pages) for row in upload.pages[page]] + operation.chunks
            assert sorted(upload.pages) == list(range(len(upload.pages)))
            del self.uploads[operation.upload]
        assert len(rows) == operation.chunk_count
        assert sum(row.length for row in rows) == operation.length
        self.commits += 1
        attributes = Attributes(
            "file", 7, operation.length, operation.mtime_ns, operation.mode, self.commits, operation.upload,
            operation.chunk_bytes, operation.chunk_count, operation.redundancy,
        )  # fmt: skip
        self.files[operation.path] = attributes, rows
        self.contents[operation.upload] = rows
        return op.Found(attributes)

    def on_abort(self, operation: op.Abort) -> op.Result:
        assert operation.upload not in {attributes.content for attributes, _ in self.files.values()}, "aborted a file"
        return op.Done(int(self.uploads.pop(operation.upload, None) is not None))

    def on_stat(self, operation: op.Stat) -> op.Result:
        found = self.files.get(operation.path)
        return op.Found(found[0]) if found else Failure("not-found", "no such file", path=operation.path)

    def on_locate(self, operation: op.Locate) -> op.Result:
        found = self.files.get(operation.path)
        if found is None:
            return Failure("not-found", "no such file", path=operation.path)
        rows = found[1][operation.page * PAGE_CHUNKS :][:PAGE_CHUNKS]
        chunks = []
        for row in rows:
            places = [Place(receipt.node, receipt.index, b"m" * 16) for receipt in row.receipts]
            chunks.append(ChunkPlaces(row.chunk, row.length, row.hash, places))
        pages = -(-len(found[1]) // PAGE_CHUNKS)
        return op.Located(found[0], operation.page, pages, chunks, self.addresses(), 0)

    def bytes_of(self, path: str) -> bytes:
        """The content as some shards of each chunk have it; every shard must be right."""
        attributes, rows = self.files[path]
        redundancy = parse_redundancy(attributes.redundancy)
        return b"".join(self._bytes_of(row, redundancy) for row in rows)

    def _bytes_of(self, row: StagedChunk, redundancy: Redundancy) -> bytes:
        shards = {}
        for receipt in row.receipts:
            data = shards[receipt.index] = self.world.nodes[receipt.node].shards[row.chunk, receipt.index]
            assert blake3(data).digest() == shard_hash(row.hash, receipt.index)
        some = self.world.rng.sample(sorted(shards), redundancy.needed)
        if redundancy.alike:
            return shards[some[0]]
        chunk = erasure.join({index: shards[index] for index in some}, redundancy, row.length)
        assert blake3(chunk).digest() == chunk_hash(row.hash)
        return chunk
