"""The disk, hashing and coding work of a client, run by the workers of its lane ``io``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from blake3 import blake3

from actors.core import Job
from dsa_zmq.client.local_file import LocalFile
from dsa_zmq.errors import Corrupt, DSAError
from dsa_zmq.model import erasure
from dsa_zmq.model.hashes import join_hashes
from dsa_zmq.model.redundancy import Redundancy

LANE = "io"
WORKERS = 2  #: one reads while the other hashes; more brought nothing on two cores
MAX_BATCH = 4  #: results of a batch come together, so a long batch would delay its first one


class ReadChunks(Job, frozen=True):
    """Read ``lengths`` bytes each, one behind the other. Result: a list of (hash, bytes), or LocalError."""

    file: LocalFile
    offset: int
    lengths: list[int]


class VerifyChunk(Job, frozen=True):
    """Check ``data``; with a file, write it at ``offset``. Result: None, Corrupt, or LocalError."""

    data: Any  #: bytes or memoryview
    hash: bytes
    file: LocalFile | None = None
    offset: int = 0


class SplitChunk(Job, frozen=True):
    """Make the shards of a chunk with this hash. Result: (hashes of chunk and shards, the shards by index), or ConfigError.
    Those with the chunk's own bytes are views of ``data``."""

    data: Any  #: bytes or memoryview
    hash: bytes
    redundancy: Redundancy


class JoinChunk(Job, frozen=True):
    """Make a chunk of verified shards; with a file, write it at ``offset``. Result: its bytes (none if they were written),
    Corrupt if it has not this hash, ConfigError or LocalError."""

    shards: dict[int, Any]  #: by index: as many as are needed
    redundancy: Redundancy
    length: int
    hash: bytes
    file: LocalFile | None = None
    offset: int = 0


def run(jobs: Sequence[Job]) -> list[Any]:
    """The lane's handler."""
    return [_run_one(job) for job in jobs]


def _run_one(job: Job) -> Any:
    try:
        if isinstance(job, ReadChunks):
            return _read(job)
        if isinstance(job, VerifyChunk):
            return _verify(job)
        if isinstance(job, SplitChunk):
            return _split(job)
        assert isinstance(job, JoinChunk)
        return _join(job)
    except DSAError as error:
        return error


def _read(job: ReadChunks) -> list[tuple[bytes, bytes]]:
    chunks: list[tuple[bytes, bytes]] = []
    offset = job.offset
    for length in job.lengths:
        data = job.file.read_at(length, offset)
        chunks.append((blake3(data).digest(), data))
        offset += length
    return chunks


def _verify(job: VerifyChunk) -> Corrupt | None:
    problem = check(job.data, job.hash)
    if problem is None and job.file is not None:
        job.file.write_at(job.data, job.offset)
    return problem


def _split(job: SplitChunk) -> tuple[bytes, list[Any]]:
    shards = erasure.split(job.data, job.redundancy)
    return join_hashes(job.hash, [blake3(shard).digest() for shard in shards]), shards


def _join(job: JoinChunk) -> bytes | Corrupt:
    chunk = erasure.join(job.shards, job.redundancy, job.length)
    decoded = max(job.shards) >= job.redundancy.needed
    if decoded and (problem := check(chunk, job.hash)) is not None:
        return problem
    if job.file is None:
        return chunk
    job.file.write_at(chunk, job.offset)
    return b""


def check(data: memoryview | bytes, hash_: bytes) -> Corrupt | None:
    """Whether these are the bytes that the catalog names."""
    return None if blake3(data).digest() == hash_ else Corrupt("bytes do not match their hash")
