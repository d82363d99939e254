"""Numbers off the wire may be larger than a column or a MAC can hold: such requests end before they become keys."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, get_args

import msgspec

from dsa_zmq.errors import Invalid
from dsa_zmq.master.catalog.jobs import Request
from dsa_zmq.protocol.operations import Commit, Operation, Stage

SMALLEST, LARGEST = -(1 << 63), (1 << 63) - 1  #: a signed SQL integer


def _numbers_of(kind: type[Any]) -> Callable[[Any], tuple[int, ...]] | None:
    """What reads all numbers of an operation that may not be negative, or None if it has none."""
    names = [field.name for field in msgspec.structs.fields(kind) if field.type is int and field.name != "mtime_ns"]
    return attrgetter(*names, names[0]) if names else None  # one more: a single name would give no tuple


_NUMBERS = {kind: _numbers_of(kind) for kind in get_args(Operation)}


def check_numbers(job: Request) -> None:
    """Raise Invalid for a number out of range. Only ``mtime_ns`` may be negative."""
    op = job.operation
    if not (0 <= job.session <= LARGEST and 0 <= job.number <= LARGEST and 0 <= job.done_below <= LARGEST):
        raise _out_of_range(op)
    read = _NUMBERS[type(op)]
    if read is not None:
        values = read(op)
        if min(values) < 0 or max(values) > LARGEST:
            raise _out_of_range(op)
    if isinstance(op, Commit):
        if not SMALLEST <= op.mtime_ns <= LARGEST:
            raise _out_of_range(op)
    elif not isinstance(op, Stage):
        return
    for chunk in op.chunks:
        if not (0 < chunk.chunk <= LARGEST and 0 <= chunk.length <= LARGEST):
            raise _out_of_range(op)
        for receipt in chunk.receipts:
            if not (0 <= receipt.node <= LARGEST and 0 <= receipt.index <= 255 and 0 <= receipt.incarnation <= LARGEST):
                raise _out_of_range(op)


def _out_of_range(op: Operation) -> Invalid:
    return Invalid(f"a number in {type(op).__name__} is out of range", "use the same software on both sides")
