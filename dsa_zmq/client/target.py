"""What an upload is to make, and what it has made."""

from __future__ import annotations

from typing import Self

import msgspec

from dsa_zmq.protocol.operations import Allocate, Commit, Stage
from dsa_zmq.protocol.values import Attributes, StagedChunk


class Target(msgspec.Struct, frozen=True):
    """What is to appear in the store. ``length`` is None for a stream. ``degraded``: if there are too few nodes, chunks may
    have fewer shards than their redundancy has, but never so few that none could be lost."""

    path: str
    chunk_bytes: int
    length: int | None
    mtime_ns: int
    mode: int = 0o644
    redundancy: str = ""
    if_absent: bool = False
    if_version: int = 0
    degraded: bool = False

    def allocate(
        self, upload: int, first: int, lengths: list[int], anchor: int, redundancy: str, avoid: list[int]
    ) -> Allocate:
        """Places for the chunks from ``first`` on."""
        return Allocate(
            upload, self.path, self.chunk_bytes, first, lengths, anchor, redundancy, avoid, self.if_absent,
            self.if_version, self.degraded,
        )  # fmt: skip

    def stage(self, upload: int, page: int, redundancy: str, rows: list[StagedChunk]) -> Stage:
        """A page that is there."""
        return Stage(upload, page, self.chunk_bytes, redundancy, rows, self.degraded)

    def commit(
        self, upload: int, length: int, count: int, redundancy: str, rows: list[StagedChunk], *, inherits: bool
    ) -> Commit:
        """All is there: ``count`` chunks of ``length`` bytes, the last page in ``rows``."""
        return Commit(
            upload, self.path, length, self.chunk_bytes, count, redundancy, rows, self.mtime_ns, self.mode,
            self.if_absent, self.if_version, inherits, self.degraded,
        )  # fmt: skip


class Stored(Attributes, frozen=True):
    """A file that was stored without some of its shards. Only its writer knows at once; everybody else counts places."""

    missing_shards: int = 0

    @classmethod
    def of(cls, attributes: Attributes, missing_shards: int) -> Self:
        return cls(**msgspec.structs.asdict(attributes), missing_shards=missing_shards)


def missing_shards(attributes: Attributes) -> int:
    """How many were not made of what was just stored."""
    return attributes.missing_shards if isinstance(attributes, Stored) else 0
