"""Bringing space back in the background, within a budget, and slower while puts wait.

One segment at a time, in steps: a share of what is still needed in it is read (lane of care), then appended elsewhere (lane
of writes); see :mod:`dsa_zmq.node.compactor`. A store that has failed is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actors.core import Context
from dsa_zmq.errors import DSAError
from dsa_zmq.node.compactor import Rewritten, Share
from dsa_zmq.node.department import NodeDepartment, NodeOffice
from dsa_zmq.node.jobs import CARE, WRITE, ChooseSegment, GatherShare, RewriteShare
from dsa_zmq.node.store import Usage

SECOND = 1_000_000_000
LITTLE_ROOM = 0.10  #: of the capacity: with less, compaction begins earlier
REST_BEATS = 10  #: heartbeats after one that could not go on


class Compaction(NodeDepartment):
    """See the module. At most one job or timer is under way."""

    name = "compact"

    def __init__(self, office: NodeOffice) -> None:
        super().__init__(office)
        self._segment = 0  #: that is being rewritten; 0: none
        self._busy = False  #: a job or a timer is under way
        self._rest = 0  #: beats until the next look
        self._fruitless: tuple[int, bool] | None = None  #: what was known when nothing was worth it
        self._gathered = 0  #: bytes of the share under way
        self.rewritten = 0  #: bytes so far
        self.freed = 0  #: segments so far

    def on_beat(self, ctx: Context) -> None:
        self._rest = max(0, self._rest - 1)
        usage = self.office.status.usage
        known = (usage.garbage, has_little_room(usage))
        if self._busy or self._rest or self.office.status.failure or not usage.garbage or known == self._fruitless:
            return
        pace = self.office.pace
        self._busy, self._fruitless = True, known
        share = pace.dead_share_full if known[1] else pace.dead_share
        ctx.run((self.name, "choose"), CARE, ChooseSegment(share))

    def beat(self) -> Mapping[str, int]:
        return {"garbage": self.office.status.usage.garbage}

    def on_timer(self, ctx: Context, token: tuple[Any, ...]) -> None:
        ctx.run((self.name, "gather"), CARE, GatherShare(self._segment, self.office.pace.step_bytes))

    def on_result(self, ctx: Context, token: tuple[Any, ...], result: Any) -> None:
        if isinstance(result, DSAError):
            ctx.log("compaction-stopped", segment=self._segment, reason=str(result))
            self._pause()
            return
        match token[1]:
            case "choose" if result:
                self._segment = result
                self.on_timer(ctx, token)
            case "choose":
                self._busy = False
            case "gather":
                self._on_gathered(ctx, result)
            case _:
                self._on_rewritten(ctx, result)

    def _on_gathered(self, ctx: Context, share: Share | None) -> None:
        if share is None:
            ctx.log("compaction-stopped", segment=self._segment, reason="there is damage in it")
            self._pause()
            return
        self._gathered = share.read_bytes
        ctx.run((self.name, "rewrite"), WRITE, RewriteShare(share))

    def _on_rewritten(self, ctx: Context, result: Rewritten) -> None:
        self.rewritten += result.written_bytes
        self.freed += result.freed
        if not result.ended:
            ctx.set_timer((self.name, "step"), self._wait_ns(self._gathered + result.written_bytes))
        elif result.gone:
            ctx.log("compacted", segment=self._segment, freed=result.freed)
            self._segment, self._busy, self._fruitless = 0, False, None
        else:
            self._pause()

    def _wait_ns(self, size: int) -> int:
        """How long so many bytes, read and written, may take."""
        pace = self.office.pace
        rate = pace.compact_bytes_s * (pace.compact_busy if self.office.data.pending[WRITE] else 1.0)
        return int(size / rate * SECOND)

    def _pause(self) -> None:
        self._segment, self._busy, self._rest, self._fruitless = 0, False, REST_BEATS, None

    def statistics(self) -> Mapping[str, int]:
        return {"compacted_segments": self.freed, "compacted_bytes": self.rewritten}

    def check_invariants(self) -> None:
        assert self._busy or not self._segment, "a segment is only held while something is under way"


def has_little_room(usage: Usage) -> bool:
    """Whether space is short enough to be worth more work."""
    return usage.free < LITTLE_ROOM * usage.capacity
