"""How much of a message an operation takes, for packing several into one. Pure."""

from __future__ import annotations

from dsa_zmq.protocol.operations import Allocate, Commit, Copy, Move, Operation, Reallocate, Renew, ReturnSlots, Stage


def wire_bytes(operation: Operation) -> int:
    """About how many bytes it takes on the wire; never too few."""
    if isinstance(operation, Stage | Commit):
        receipts = len(operation.chunks[0].receipts) if operation.chunks else 0
        path = len(operation.path) if isinstance(operation, Commit) else 0
        return 256 + 4 * path + len(operation.chunks) * (64 + 48 * receipts)
    if isinstance(operation, Reallocate):
        return 512 + len(operation.shards) * (32 + 9 * len(operation.held[0]))
    if isinstance(operation, Move | Copy):
        return 64 + 4 * (len(operation.source) + len(operation.target))
    if isinstance(operation, ReturnSlots | Renew):
        return 64 + 9 * len(operation.uploads)
    if isinstance(operation, Allocate):
        return 256 + 4 * len(operation.path) + 5 * len(operation.lengths)
    return 256 + 4 * len(getattr(operation, "path", ""))
