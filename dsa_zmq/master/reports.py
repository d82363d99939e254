"""What clients say about nodes. It convicts nobody: others are asked, and the node itself."""

from __future__ import annotations

from collections.abc import Mapping

from actors.core import Address, Context
from dsa_zmq.master.calls import CallInFlight
from dsa_zmq.master.department import Department, OnOperation
from dsa_zmq.master.office import Office
from dsa_zmq.protocol.operations import Done, Operation, Report
from dsa_zmq.protocol.values import PlacedShard

MAX_REMEMBERED = 10_000  #: pairs of client and node whose last report is remembered
MAX_DAMAGED = 100  #: shards of one report that the node is asked to read
AT_MOST_EACH_NS = 1_000_000_000  #: reports of a client about a node; more are answered and forgotten


class Reports(Department):
    """See the module."""

    name = "report"

    def __init__(self, office: Office) -> None:
        super().__init__(office)
        self._last: dict[tuple[Address, int], int] = {}  #: by client and node: when, serving time; oldest first
        self._taken = 0

    def operations(self) -> Mapping[type[Operation], OnOperation]:
        return {Report: self._on_report}

    def _on_report(self, ctx: Context, call: CallInFlight) -> None:
        report = call.operation
        assert isinstance(report, Report)
        if self._counts(call.group.peer, report, self.office.at(ctx).served_ns):
            self._taken += 1
            ctx.log("node-reported", node=report.node, silent=report.silent, damaged=len(report.damaged))
            if report.silent:
                self.office.prober.blame(ctx, report.node, call.group.peer)
            if report.damaged:
                shards = [PlacedShard(shard.chunk, shard.index, report.node) for shard in report.damaged[:MAX_DAMAGED]]
                self.office.examiner.ask(ctx, shards, True, _noted)
        self.office.answer(ctx, call.serial, Done())

    def _counts(self, client: Address, report: Report, served_ns: int) -> bool:
        """Whether it is about the node's present process, and not one of too many."""
        state = self.office.members.get(report.node)
        if state is None or state.row.incarnation != report.incarnation:
            return False
        key = client, report.node
        last_ns = self._last.get(key)
        if last_ns is not None and served_ns - last_ns < AT_MOST_EACH_NS:
            return False
        self._last.pop(key, None)
        self._last[key] = served_ns
        while len(self._last) > MAX_REMEMBERED:
            del self._last[next(iter(self._last))]
        return True

    def statistics(self) -> Mapping[str, int]:
        return {"reports": self._taken}

    def check_invariants(self) -> None:
        assert len(self._last) <= MAX_REMEMBERED


def _noted(ctx: Context, states: list[int]) -> None:
    """What is really damaged has been recorded with the answer, and is made anew because of that."""
