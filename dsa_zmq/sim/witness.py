"""Sees every batch of master and nodes, and remembers which shards the catalog has named and given up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actors.core import Job
from dsa_zmq.master.catalog.jobs import Request
from dsa_zmq.node.jobs import DropBatch, PutBatch
from dsa_zmq.node.store import ShardInfo, ShardKey
from dsa_zmq.protocol.operations import Commit, Found, Stage, Staged

ShardAt = tuple[int, int, int]
"""(node number, chunk id, shard index)"""


class Witness:
    """What happened to shards, in the order of ``_clock``."""

    def __init__(self) -> None:
        self._clock = 0
        self.placed: set[ShardAt] = set()  #: were places of the catalog at some time
        self._dropped: dict[tuple[str, ShardKey], int] = {}  # by name of the node
        self._put: dict[tuple[str, ShardKey], int] = {}

    def saw(self, name: str, jobs: Sequence[Job], results: Sequence[Any]) -> None:
        """A batch of the machine with that name had its effect."""
        for job, result in zip(jobs, results, strict=True):
            self._clock += 1
            match job:
                case Request(operation=Stage() | Commit() as operation) if isinstance(result, Staged | Found):
                    for chunk in operation.chunks:
                        self.placed |= {(receipt.node, chunk.chunk, receipt.index) for receipt in chunk.receipts}
                case DropBatch() if not isinstance(result, Exception):
                    self._dropped |= {(name, key): self._clock for key in job.keys}
                case PutBatch() if isinstance(result, list):
                    for stored in result:
                        if isinstance(stored, ShardInfo):
                            self._put[name, stored.key] = self._clock

    def excuses(self, node: int, name: str, chunk: int, index: int) -> bool:
        """Whether a node may hold a shard that the catalog does not name.

        It may if the shard never had a place there (its upload was given up, or it was stored elsewhere in the end), or if
        it was sent there once more after the node had dropped it (a message that came late or twice).
        """
        if (node, chunk, index) not in self.placed:
            return True
        at = (name, ShardKey(chunk, index))
        return at in self._dropped and self._put.get(at, 0) > self._dropped[at]
