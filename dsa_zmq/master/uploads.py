"""Uploads in progress: their leases, and what was allocated to them but is not staged yet. Soft state, pure.

Nothing durable depends on it. After a restart every staged upload gets a full lease; an upload that had nothing staged yet
is adopted when its client speaks up. Allocated bytes are subtracted from their nodes' free space until they are staged (a
heartbeat counts them by then), given up, or their lease ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from actors.liveness import Leases
from dsa_zmq.errors import Overloaded

MAX_UPLOADS = 50_000  #: in progress: some 100 MB of memory when all are busy
MAX_UPLOAD_CHUNKS = 4_096  #: allocated and not staged, per upload: 16 pages, clients keep one or two
MAX_CHUNKS = 500_000  #: the same over all uploads: bounds the memory against many greedy clients
EXPIRE_AT_ONCE = 1_000  #: leases ended in one catalog job


@dataclass(slots=True)
class Outstanding:
    """One allocated chunk: its shards' size (of a slot: the most it may be), and their nodes by shard index."""

    shard_bytes: int
    nodes: dict[int, int]  #: shard index -> node


@dataclass(slots=True)
class UploadState:
    """What is known of one upload. An empty redundancy: it was staged before this start and has not allocated since."""

    upload: int
    redundancy: str
    chunks: dict[int, Outstanding] = field(default_factory=dict)
    is_slot: bool = False  #: given ahead, nothing staged: may be returned unused

    def __repr__(self) -> str:
        return f"<upload {self.upload:#x} {self.redundancy or 'adopted'} {len(self.chunks)} chunks allocated>"


class Uploads:
    """The table of uploads. Times are serving time in nanoseconds."""

    def __init__(self, lease_ns: int) -> None:
        self._leases: Leases[int] = Leases(lease_ns)
        self._uploads: dict[int, UploadState] = {}
        self._chunks = 0
        self._reserved: dict[int, int] = {}  #: node -> bytes allocated there and not staged
        self._moving: dict[int, int] = {}  #: node -> bytes of moves that are to arrive there

    def begin(self, upload: int, redundancy: str, served_ns: int) -> UploadState:
        """A new upload, or one of before our start that speaks up, with a full lease. Raises :class:`Overloaded`."""
        state = self._uploads.get(upload)
        if state is None:
            if len(self._uploads) >= MAX_UPLOADS:
                raise Overloaded(f"{MAX_UPLOADS} uploads are in progress", "try again when some of them have ended")
            state = self._uploads[upload] = UploadState(upload, redundancy)
        elif not state.redundancy:
            state.redundancy = redundancy
        self._leases.renew(upload, served_ns)
        return state

    def adopt(self, uploads: Iterable[int], served_ns: int) -> None:
        """Uploads that the catalog has pages of. Their number was bounded when they began."""
        for upload in uploads:
            self._uploads.setdefault(upload, UploadState(upload, ""))
            self._leases.renew(upload, served_ns)

    def slots_to_give(self, asked: int) -> int:
        """How many of so many slots there is room for. They take at most half of the tables: who needs an upload right now
        must not be refused because others may need one later."""
        return max(0, min(asked, MAX_UPLOADS // 2 - len(self._uploads), MAX_CHUNKS // 2 - self._chunks))

    def give_ahead(
        self, upload: int, redundancy: str, chunk: int, shard_bytes: int, nodes: list[int], served_ns: int
    ) -> None:
        """A slot: a new upload with its only chunk. There is room for it."""
        self._uploads[upload] = UploadState(upload, redundancy, is_slot=True)
        self._leases.renew(upload, served_ns)
        self.reserve(upload, chunk, shard_bytes, nodes)

    def take_back(self, upload: int) -> bool:
        """This slot will not be used. No trace of it is needed in the catalog: nobody has sent a shard of it, and should
        somebody do so after all, then either its commit comes before the horizon has passed it, or it is refused.
        False, and no change, if it is no slot."""
        state = self._uploads.get(upload)
        if state is None or not state.is_slot:
            return False
        self.end(upload)
        return True

    def get(self, upload: int) -> UploadState | None:
        return self._uploads.get(upload)

    def renew(self, upload: int, served_ns: int) -> bool:
        """Another full lease. False if no such upload is known."""
        if upload not in self._uploads:
            return False
        self._leases.renew(upload, served_ns)
        return True

    def check_room(self, state: UploadState | None, chunks: int) -> None:
        """Raises :class:`Overloaded` if that many more chunks may not be allocated."""
        if state is not None and len(state.chunks) + chunks > MAX_UPLOAD_CHUNKS:
            raise Overloaded(
                f"more than {MAX_UPLOAD_CHUNKS} chunks of one upload are allocated and not staged",
                "stage what was sent before allocating more",
            )
        if self._chunks + chunks > MAX_CHUNKS:
            raise Overloaded(f"{MAX_CHUNKS} chunks are being uploaded", "try again when some of them are staged")

    def reserve(self, upload: int, chunk: int, shard_bytes: int, nodes: list[int]) -> None:
        """This chunk's shards are about to be sent to these nodes, by shard index."""
        state = self._uploads[upload]
        state.chunks[chunk] = Outstanding(shard_bytes, dict(enumerate(nodes)))
        self._chunks += 1
        for node in nodes:
            self._add(node, shard_bytes)

    def move(self, upload: int, chunk: int, index: int, node: int) -> None:
        """A shard goes to another node instead."""
        outstanding = self._uploads[upload].chunks.get(chunk)
        if outstanding is None:
            return  # allocated before our start: nothing was reserved for it
        before = outstanding.nodes.get(index)
        if before is not None:
            self._add(before, -outstanding.shard_bytes)
        outstanding.nodes[index] = node
        self._add(node, outstanding.shard_bytes)

    def staged(self, upload: int, chunks: Iterable[int], served_ns: int) -> None:
        """These chunks are in the catalog: they are outstanding no more. The upload lives on."""
        state = self._uploads.get(upload)
        if state is None:
            return
        state.is_slot = False
        for chunk in chunks:
            outstanding = state.chunks.pop(chunk, None)
            if outstanding is not None:
                self._release(outstanding)
        self._leases.renew(upload, served_ns)

    def end(self, upload: int) -> None:
        """Committed, aborted, or run out. Unknown ones are fine."""
        self._leases.end(upload)
        state = self._uploads.pop(upload, None)
        if state is not None:
            for outstanding in state.chunks.values():
                self._release(outstanding)

    def expire(self, served_ns: int) -> list[int]:
        """End and return the uploads whose lease has run out, at most :data:`EXPIRE_AT_ONCE`."""
        ended = self._leases.expire(served_ns, EXPIRE_AT_ONCE)
        for upload in ended:
            self.end(upload)
        return ended

    def oldest(self) -> int | None:
        """The smallest upload in progress, None without any."""
        return min(self._uploads, default=None)

    def hold(self, node: int, size_bytes: int) -> None:
        """A move is to bring so many bytes to a node; less than 0: it has, or will not any more."""
        self._moving[node] = self._moving.get(node, 0) + size_bytes
        if not self._moving[node]:
            del self._moving[node]

    def reserved_bytes(self, node: int) -> int:
        """Promised on this node and not there yet: allocated to uploads, or to arrive by moves."""
        return self._reserved.get(node, 0) + self._moving.get(node, 0)

    def statistics(self) -> dict[str, int]:
        return {"uploads": len(self._uploads), "chunks": self._chunks, "bytes": sum(self._reserved.values())}

    def _release(self, outstanding: Outstanding) -> None:
        self._chunks -= 1
        for node in outstanding.nodes.values():
            self._add(node, -outstanding.shard_bytes)

    def _add(self, node: int, size_bytes: int) -> None:
        total = self._reserved.get(node, 0) + size_bytes
        if total:
            self._reserved[node] = total
        else:
            self._reserved.pop(node, None)

    def __len__(self) -> int:
        return len(self._uploads)

    def __contains__(self, upload: int) -> bool:
        return upload in self._uploads

    def __repr__(self) -> str:
        return f"<Uploads {len(self._uploads)} in progress, {self._chunks} chunks allocated>"

    def check_invariants(self) -> None:
        assert set(self._leases) == set(self._uploads), "every upload has a lease, and nothing else"
        reserved: dict[int, int] = {}
        chunks = 0
        for state in self._uploads.values():
            chunks += len(state.chunks)
            for outstanding in state.chunks.values():
                for node in outstanding.nodes.values():
                    reserved[node] = reserved.get(node, 0) + outstanding.shard_bytes
        assert all(size > 0 for size in self._moving.values()), "what was held is let go once"
        assert chunks == self._chunks, "the count of allocated chunks is that of the table"
        assert {node: size for node, size in reserved.items() if size} == self._reserved, "reserved bytes add up"
