"""Verifying all that this node holds, again and again: bytes rot although nobody reads them.

In the order of keys, which is about the order on the disk, at a limited rate, and slower while somebody waits for a read or
a write. A round begins a day after the last one began, or when the master orders it; then it rests after each step for as
long as that took: who comes between two steps is not seen to wait by either of them. How far it is survives restarts, but
for the last minute. A store that has failed is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from actors.core import Context, Message
from dsa_zmq.errors import DSAError
from dsa_zmq.node.department import NodeDepartment, NodeOffice, OnOrder
from dsa_zmq.node.jobs import CARE, READ, WRITE
from dsa_zmq.node.scrub_steps import FIRST, LoadScrub, SaveScrub, Scrubbed, ScrubSome, ScrubState
from dsa_zmq.protocol.messages import Noted, Scrub

SECOND = 1_000_000_000
BUSY = 0.25  #: of the rate, while reads or writes wait
REST_BEATS = 10  #: heartbeats after a step that failed


class Scrubbing(NodeDepartment):
    """See the module. At most one step or its timer is under way."""

    name = "scrub"

    def __init__(self, office: NodeOffice) -> None:
        super().__init__(office)
        self._state: ScrubState | None = None  #: None: not loaded
        self._loading = False
        self._busy = False  #: a step, or the pause after one
        self._round = 0  #: in this process: the result of a step of another one does not count
        self._rest = 0  #: beats until the next try
        self._stepped_ns = 0  #: when the last step began
        self._saved_ns = 0
        self._scrubbed = 0  #: shards so far
        self._scrubbed_bytes = 0  #: of them
        self._beat: dict[str, int] = {}

    def orders(self) -> Mapping[type[Message], OnOrder]:
        return {Scrub: self._on_scrub}

    # --- rounds ---------------------------------------------------------------------------------------------------

    def on_beat(self, ctx: Context) -> None:
        self._rest = max(0, self._rest - 1)
        state, now_s = self._state, ctx.wall_ns() // SECOND
        if state is None:
            if not self._loading:
                self._loading = True
                ctx.run((self.name, "load"), CARE, LoadScrub())
            return
        if not state.running and not 0 <= now_s - state.began_s < self.office.pace.scrub_every_s:
            self._begin(ctx, state.order, urgent=False)
        elif state.running and not self._busy and not self._rest:
            self._step(ctx)
        self._beat = _figures(self._state or state, self.office.status.usage.shards, now_s)

    def beat(self) -> Mapping[str, int]:
        return self._beat

    def _on_scrub(self, ctx: Context, message: Scrub) -> None:
        """Begin now, even if a round goes on: it may be past what is to be looked at. Noted once that is kept."""
        if self._state is None or not self.office.obeys(message.term):
            return  # the master asks again
        if message.number != self._state.order:
            self._begin(ctx, message.number, urgent=True)
        else:
            self._save(ctx, note=message.number)

    def _begin(self, ctx: Context, order: int, *, urgent: bool) -> None:
        assert self._state is not None, "how far it was is known"
        now_s = ctx.wall_ns() // SECOND
        self._state = ScrubState(True, began_s=now_s, ended_s=self._state.ended_s, order=order, urgent=urgent)
        self._round += 1
        self._rest = 0
        ctx.log("scrub-begins", urgent=urgent)
        for call in self.office.when_scrubbed:
            call(ctx)
        self._save(ctx, note=order if urgent else 0)
        if not self._busy:
            self._step(ctx)

    def _step(self, ctx: Context) -> None:
        state = self._state
        assert state is not None, "a round goes on"
        if self.office.status.failure:
            self._busy, self._rest = False, REST_BEATS
            return
        self._busy, self._stepped_ns = True, ctx.now_ns()
        ctx.run((self.name, "step", self._round), CARE, ScrubSome(state.after, self.office.pace.step_bytes))

    def on_timer(self, ctx: Context, token: tuple[Any, ...]) -> None:
        self._step(ctx)

    def on_result(self, ctx: Context, token: tuple[Any, ...], result: Any) -> None:
        match token[1]:
            case "load":
                self._loading = False
                if isinstance(result, ScrubState):
                    self._state = result
            case "save":
                self._on_saved(ctx, token[2], result)
            case _:
                self._on_step(ctx, token[2], result)

    def _on_step(self, ctx: Context, round_: int, result: Scrubbed | DSAError) -> None:
        state = self._state
        assert state is not None, "a step is of a round"
        if isinstance(result, DSAError):
            ctx.log("scrub-stopped", reason=str(result))
            self._busy, self._rest = False, REST_BEATS
            return
        self._scrubbed += result.shards
        self._scrubbed_bytes += result.bytes
        if result.damaged:
            ctx.log("scrub-found-damage", shards=result.damaged)
            self._tell(ctx)
        if round_ != self._round:
            self._step(ctx)  # of the new one
            return
        state = self._state = msgspec.structs.replace(
            state,
            after=result.after or state.after,
            shards=state.shards + result.shards,
            damaged=state.damaged + result.damaged,
        )
        if result.after is None:
            self._end(ctx, state)
            return
        if ctx.now_ns() - self._saved_ns >= self.office.pace.scrub_save_s * SECOND:
            self._save(ctx)
        ctx.set_timer((self.name, "step"), self._wait_ns(ctx, result.bytes, urgent=state.urgent))

    def _end(self, ctx: Context, state: ScrubState) -> None:
        self._busy = False
        now_s = ctx.wall_ns() // SECOND
        self._state = msgspec.structs.replace(state, running=False, after=FIRST, ended_s=now_s, urgent=False)
        ctx.log("scrub-ended", shards=state.shards, damaged=state.damaged)
        self._save(ctx)
        self._tell(ctx)  # also what was told before it had a place

    def _tell(self, ctx: Context) -> None:
        for call in self.office.data.when_damaged:
            call(ctx)

    def _wait_ns(self, ctx: Context, size: int, *, urgent: bool) -> int:
        """How long to rest after a step of so many bytes."""
        pending = self.office.data.pending
        waiting = bool(pending[READ] or pending[WRITE])
        if urgent and not waiting:
            return ctx.now_ns() - self._stepped_ns
        rate = self.office.pace.scrub_bytes_s * (BUSY if waiting and not urgent else 1.0)
        return int(size / rate * SECOND)

    # --- keeping it -----------------------------------------------------------------------------------------------

    def _save(self, ctx: Context, *, note: int = 0) -> None:
        """Keep the state; then tell the master that the command of this number was taken in."""
        assert self._state is not None, "there is something to keep"
        self._saved_ns = ctx.now_ns()
        ctx.run((self.name, "save", note), CARE, SaveScrub(self._state))

    def _on_saved(self, ctx: Context, note: int, result: DSAError | None) -> None:
        if result is not None:
            ctx.log("scrub-not-kept", reason=str(result))
        elif note:
            self.office.tell_master(ctx, Noted(note))

    def statistics(self) -> Mapping[str, int]:
        running = self._state is not None and self._state.running
        return {
            "scrubbing": int(running),
            "scrubbed_shards": self._scrubbed,
            "scrubbed_bytes": self._scrubbed_bytes,
        }

    def check_invariants(self) -> None:
        assert not self._busy or self._state is not None, "what goes on is known"


def _figures(state: ScrubState, shards: int, now_s: int) -> dict[str, int]:
    """For the heartbeat. 0 means never, or that none goes on."""
    permille = max(1, min(999, 1000 * state.shards // max(1, shards))) if state.running else 0
    return {"scrubbed_s": max(1, now_s - state.ended_s) if state.ended_s else 0, "scrub_permille": permille}
