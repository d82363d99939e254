"""One upload or download as the client's actor holds it: its machine, its caller, and its side of the local file."""

from __future__ import annotations

from collections import deque

from actors.core import Context
from dsa_zmq.client.calls import Ticket
from dsa_zmq.client.download import Download
from dsa_zmq.client.effects import Want
from dsa_zmq.client.jobs import LANE, ReadChunks
from dsa_zmq.client.local_file import LocalFile
from dsa_zmq.client.upload import Upload
from dsa_zmq.model.chunking import chunk_length

READ_BYTES = 1 << 20  #: per read job: chunks smaller than that are read several at once
READS_AT_WORK = 4  #: per upload; each worker has its next one waiting


class Transfer:
    """Reads of an upload's file are asked for a few at a time."""

    __slots__ = ("_reads", "_reads_at_work", "file", "machine", "ticket")

    def __init__(self, machine: Upload | Download, ticket: Ticket, file: LocalFile | None = None) -> None:
        self.machine = machine
        self.ticket = ticket
        self.file = file
        self._reads: deque[tuple[int, list[int]]] = deque()  # first chunk, lengths: wanted, not yet asked
        self._reads_at_work = 0

    def __repr__(self) -> str:
        return f"Transfer({self.machine!r}, {len(self._reads)} reads waiting)"

    def want(self, ctx: Context, owner: int, effect: Want) -> None:
        """Chunks may be supplied: by the caller, or read from the file."""
        file = self.file
        if file is None:
            self.ticket.want(effect.until)
            return
        assert isinstance(self.machine, Upload)
        chunk_bytes = self.machine.target.chunk_bytes
        step = max(1, READ_BYTES // chunk_bytes)
        for first in range(effect.first, effect.until, step):
            indices = range(first, min(first + step, effect.until))
            self._reads.append((first, [chunk_length(file.size, chunk_bytes, index) for index in indices]))
        self._read_on(ctx, owner, file, chunk_bytes)

    def was_read(self, ctx: Context, owner: int) -> None:
        """A read has ended well: the next one."""
        if self.file is not None:
            assert isinstance(self.machine, Upload)
            self._read_on(ctx, owner, self.file, self.machine.target.chunk_bytes)

    def read_ended(self) -> None:
        """One read fewer at work."""
        self._reads_at_work -= 1

    def _read_on(self, ctx: Context, owner: int, file: LocalFile, chunk_bytes: int) -> None:
        while self._reads and self._reads_at_work < READS_AT_WORK:
            first, lengths = self._reads.popleft()
            self._reads_at_work += 1
            ctx.run(("read", owner, first, None), LANE, ReadChunks(file, first * chunk_bytes, lengths))
