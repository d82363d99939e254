"""Numbers off the wire may be larger than a column or a MAC can hold: such requests end before they become keys."""

from __future__ import annotations

import msgspec

from dsa_zmq.errors import Invalid
from dsa_zmq.master.catalog.jobs import Request
from dsa_zmq.protocol.operations import Commit, Operation, Stage

SMALLEST, LARGEST = -(1 << 63), (1 << 63) - 1  #: a signed SQL integer


def check_numbers(job: Request) -> None:
    """Raise Invalid for a number out of range. Only ``mtime_ns`` may be negative."""
    op = job.operation
    if not (0 <= job.session <= LARGEST and 0 <= job.number <= LARGEST and 0 <= job.done_below <= LARGEST):
        raise _out_of_range(op)
    for name, value in zip(op.__struct_fields__, msgspec.structs.astuple(op), strict=True):
        if type(value) is int and not (SMALLEST if name == "mtime_ns" else 0) <= value <= LARGEST:
            raise _out_of_range(op)
    if isinstance(op, Stage | Commit):
        for chunk in op.chunks:
            if not (0 < chunk.chunk <= LARGEST and 0 <= chunk.length <= LARGEST):
                raise _out_of_range(op)
            for receipt in chunk.receipts:
                if not (
                    0 <= receipt.node <= LARGEST and 0 <= receipt.index <= 255 and 0 <= receipt.incarnation <= LARGEST
                ):
                    raise _out_of_range(op)


def _out_of_range(op: Operation) -> Invalid:
    return Invalid(f"a number in {type(op).__name__} is out of range", "use the same software on both sides")
