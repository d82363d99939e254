"""How much of a message an operation takes, for packing several into one. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dsa_zmq.protocol.operations import Allocate, Commit, Copy, Move, Operation, Reallocate, Renew, ReturnSlots, Stage


def wire_bytes(operation: Operation) -> int:
    """About how many bytes it takes on the wire; never too few."""
    weigh = _WEIGHTS.get(type(operation))
    return weigh(operation) if weigh is not None else 256 + 4 * len(getattr(operation, "path", ""))


def _rows(operation: Stage | Commit) -> int:
    chunks = operation.chunks
    return len(chunks) * (64 + 48 * len(chunks[0].receipts)) if chunks else 0


_WEIGHTS: dict[type, Callable[[Any], int]] = {
    Allocate: lambda asked: 256 + 4 * len(asked.path) + 5 * len(asked.lengths),
    Commit: lambda asked: 256 + 4 * len(asked.path) + _rows(asked),
    Copy: lambda asked: 64 + 4 * (len(asked.source) + len(asked.target)),
    Move: lambda asked: 64 + 4 * (len(asked.source) + len(asked.target)),
    Reallocate: lambda asked: 512 + len(asked.shards) * (32 + 9 * len(asked.held[0])),
    Renew: lambda asked: 64 + 9 * len(asked.uploads),
    ReturnSlots: lambda asked: 64 + 9 * len(asked.uploads),
    Stage: lambda asked: 256 + _rows(asked),
}
