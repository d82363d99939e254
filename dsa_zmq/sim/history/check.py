"""The judge."""

from __future__ import annotations

from collections.abc import Sequence

from dsa_zmq.sim.history.contradiction import tell
from dsa_zmq.sim.history.explain import Explanation
from dsa_zmq.sim.history.operation import Operation
from dsa_zmq.sim.tree import EMPTY, Tree


class NotLinearizable(AssertionError):
    """No order of the operations explains what was seen."""


def check(operations: Sequence[Operation], tree: Tree = EMPTY) -> list[Operation]:
    """An order that explains the history that began with ``tree``, or :class:`NotLinearizable`."""
    counting = [operation for operation in operations if operation.counts]
    explanation = Explanation(counting, tree)
    if not explanation.found:
        raise NotLinearizable(tell(explanation, counting, tree))
    return explanation.order()
