"""One upload or download as the actor keeps it: the machine, its caller, and its side of the local file."""

from __future__ import annotations

from collections import deque
from typing import Any

from actors.core import Context
from dsa_zmq.client.calls import Ticket
from dsa_zmq.client.download import Download
from dsa_zmq.client.effects import Effect, Want
from dsa_zmq.client.jobs import LANE, ReadChunks
from dsa_zmq.client.local_file import LocalFile
from dsa_zmq.client.upload import Upload
from dsa_zmq.errors import DSAError
from dsa_zmq.model.chunking import chunk_length

READ_BYTES = 1 << 20  #: per read job: chunks smaller than that are read several at once
READS_AT_WORK = 4  #: per upload; each worker has its next one waiting


class Transfer:
    """``carried``: tasks that the courier has. ``file``: the source, or the target once it is open."""

    __slots__ = ("_reads", "_reads_at_work", "carried", "file", "machine", "ticket")

    def __init__(self, machine: Upload | Download, ticket: Ticket, file: LocalFile | None = None) -> None:
        self.machine = machine
        self.ticket = ticket
        self.file = file
        self.carried = 0
        self._reads_at_work = 0
        self._reads: deque[tuple[int, int]] | None = None  # first chunk, end: wanted, not yet asked

    def __repr__(self) -> str:
        return f"Transfer({self.machine!r}, {len(self._reads or ())} reads waiting)"

    def want(self, ctx: Context, owner: int, effect: Want) -> None:
        """Chunks may be supplied: by the caller, or read from the file."""
        if self.file is None:
            self.ticket.want(effect.until)
            return
        assert isinstance(self.machine, Upload)
        if self._reads is None:
            self._reads = deque()
        step = max(1, READ_BYTES // self.machine.target.chunk_bytes)
        self._reads.extend((at, min(at + step, effect.until)) for at in range(effect.first, effect.until, step))
        self._read_on(ctx, owner, self.file, self.machine.target.chunk_bytes)

    def was_read(self, ctx: Context, owner: int, first: int, result: Any, now_ns: int) -> list[list[Effect]]:
        """A read has ended: its chunks, from ``first`` on, with their hashes; or a DSAError. Returns what the machine wants,
        and begins the next read."""
        upload = self.machine
        assert isinstance(upload, Upload)
        self._reads_at_work -= 1
        if isinstance(result, DSAError):
            self._reads = None
            return [upload.fail(result)]
        wanted = [upload.chunk(index, hash_, data, False, now_ns) for index, (hash_, data) in enumerate(result, first)]
        if self.file is not None:
            self._read_on(ctx, owner, self.file, upload.target.chunk_bytes)
        return wanted

    def _read_on(self, ctx: Context, owner: int, file: LocalFile, size: int) -> None:
        while self._reads and self._reads_at_work < READS_AT_WORK:
            first, until = self._reads.popleft()
            self._reads_at_work += 1
            lengths = [chunk_length(file.size, size, index) for index in range(first, until)]
            ctx.run(("read", owner, first, None), LANE, ReadChunks(file, first * size, lengths))
