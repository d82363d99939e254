"""The reading of a restore: volume after volume from the nodes that hold them, or one file, into the catalog that is made.

It ends in one of two states: ``read``, or ``exhausted``: all holders of a volume have been tried, and :attr:`Copying.limits`
says how far it can be had, so that who began it may choose anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from actors.core import Address, Context, Job
from dsa_zmq.errors import Conflict, DSAError, Unavailable
from dsa_zmq.master.catalog.rebuild import NO_LIMIT, Preview, Rebuilt, Restoration
from dsa_zmq.master.restore_events import Event, Noted, Reads
from dsa_zmq.master.restore_jobs import RESTORE_LANE, Again, Begin, Fed, Feed, FeedFile, Finish, Look, Next
from dsa_zmq.master.restore_plan import Copy, Step, key_of
from dsa_zmq.master.restore_reading import PIECE_BYTES, WINDOW, Reading
from dsa_zmq.protocol.volumes import VolumeData

NOTHING = Fed(-1, usable=False, reached=False)


class Copying:
    """See the module. ``number`` draws numbers of questions; ``where`` says at which address the holder of a copy is now.
    ``file_bytes``: of the file to read from, -1 for nodes; ``damaged_too``: what is before its damage will do."""

    def __init__(
        self,
        tell: Callable[[Event], None],
        number: Callable[[], int],
        where: Callable[[Copy], Address | None],
        *,
        at_ns: int,
        file_bytes: int,
        damaged_too: bool,
    ) -> None:
        self._tell = tell
        self._number = number
        self._where = where
        self._at_ns = at_ns
        self._file_bytes = file_bytes
        self._damaged_too = damaged_too
        self.state: Literal["idle", "reading", "read", "exhausted"] = "idle"
        self.steps: list[Step] = []
        self.preview: Preview | None = None  #: of what was read
        self.limits: dict[int, int] = {}  #: by volume: the last position that any holder could give
        self._serial = 0  #: of the reading: results of earlier ones are passed over
        self._turn = 0  #: of a holder in it: what is unfit of an earlier one does not count against this one
        self._silent: list[str] = []  #: holders of this volume that did not answer
        self._at = 0  #: index of the step
        self._reading: Reading | None = None
        self._working = 0  #: jobs without a result yet
        self._fed = NOTHING
        self._offset = 0  #: in the file

    @property
    def key(self) -> list[tuple[int, int, int]]:
        """What is read, or was."""
        return key_of(self.steps)

    def begin(self, ctx: Context, steps: Sequence[Step]) -> None:
        """Read these volumes; [] for the file."""
        self.state, self.steps, self.preview = "reading", list(steps), None
        self._serial += 1
        self._working = self._at = self._offset = 0
        self._fed = NOTHING
        self._run(ctx, Begin(self._at_ns, steps[0].upto if steps else NO_LIMIT))
        self._reading = self._begin_reading(steps[0]) if steps else None

    def _begin_reading(self, step: Step) -> Reading:
        self._turn += 1
        self._silent = []
        return Reading(step.volume, step.holders, self._number)

    def finish(self, ctx: Context, restoration: Restoration) -> None:
        """Make the catalog of what was read."""
        self._run(ctx, Finish(restoration))

    def _run(self, ctx: Context, job: Job) -> None:
        self._working += 1
        ctx.run((self._serial, self._turn, type(job).__name__), RESTORE_LANE, job)

    # --- going on -------------------------------------------------------------------------------------------------

    def step(self, ctx: Context) -> None:
        """Ask for what comes next; go on when a volume has been read. To be called again after a while."""
        if self.state != "reading" or self._working > WINDOW:
            return
        if self._reading is None:
            self._step_file(ctx)
        elif self._reading.is_silent(ctx.now_ns()):
            if self._reading.holder is not None:
                self._silent.append(self._reading.holder.node)
            self._leave_holder(ctx, "it does not answer")
        elif not (self._reading.is_over or self._fed.reached):
            self._question(ctx, self._reading)
        elif not self._working:
            self._next_step(ctx)

    def _question(self, ctx: Context, reading: Reading) -> None:
        address = self._where(reading.holder) if reading.holder is not None else None
        for question in reading.questions(ctx.now_ns()):
            if address is not None:
                ctx.send(address, question)

    def _next_step(self, ctx: Context) -> None:
        self._at += 1
        if self._at == len(self.steps):
            self._run(ctx, Look())
            return
        step = self.steps[self._at]
        self._reading = self._begin_reading(step)
        self._fed = NOTHING
        self._run(ctx, Next(step.upto))

    def _step_file(self, ctx: Context) -> None:
        if self._working:
            return
        if self._offset < self._file_bytes and not self._fed.reached:
            self._run(ctx, FeedFile(self._offset, PIECE_BYTES))
        elif self._fed.rest and not self._fed.reached:
            self._use_damaged(ctx, Conflict("the file breaks off within a record"))
        else:
            self._run(ctx, Look())

    def _use_damaged(self, ctx: Context, why: DSAError) -> None:
        """The file is of no use from here on."""
        if not self._fed.usable:
            raise why
        if not self._damaged_too:
            raise Conflict(
                f"the file is damaged behind change {self._fed.position}: {why.message}",
                "use another file; or say --older to restore what is before the damage",
            )
        self._tell(Noted(f"the file is damaged behind change {self._fed.position}: {why.message}"))
        self._run(ctx, Look())

    def on_data(self, ctx: Context, message: VolumeData, payload: Sequence[memoryview]) -> None:
        """An answer of the holder, or of an earlier one."""
        reading = self._reading
        if self.state != "reading" or reading is None or message.volume != reading.volume:
            return
        if message.failure is not None:
            if reading.waits_for(message.number):
                self._leave_holder(ctx, message.failure.message)
            return
        data = bytes(payload[0]) if len(payload) == 1 else b""
        for piece in reading.answer(message.number, message.offset, data, ctx.now_ns()):
            self._run(ctx, Feed(piece))
        self._tell(Reads(reading.got, reading.size))
        self.step(ctx)

    def _leave_holder(self, ctx: Context, why: str) -> None:
        """Read the volume from another node, if there is one left."""
        reading = self._reading
        assert reading is not None, "somebody is read"
        left = reading.holder.node if reading.holder is not None else "any node"
        volume = reading.volume
        if reading.next_holder():
            self._tell(Noted(f"volume {volume:x} cannot be read from {left}: {why}"))
            self._turn += 1
            self._run(ctx, Again())
        elif self._fed.usable and self._fed.position >= self.limits.get(volume, NO_LIMIT):
            self._fed = Fed(self._fed.position, usable=True, reached=True)  # as far as was known to go
            self.step(ctx)
        elif self._silent:  # they may have what is missing
            raise Unavailable(
                f"volume {volume:x} cannot be read: {', '.join(self._silent)} did not answer",
                "look at their logs, then begin again; without them something older would be restored",
            )
        else:
            self._tell(Noted(f"volume {volume:x} cannot be read from {left}: {why}; no other node has more of it"))
            self.limits[volume] = self._fed.position if self._fed.usable else -1
            self.state = "exhausted"

    # --- results --------------------------------------------------------------------------------------------------

    def on_result(self, ctx: Context, token: Any, result: Any) -> Rebuilt | None:
        """The outcome of a job. Raises what ends the restore."""
        if token[0] != self._serial:
            return None
        self._working -= 1
        if isinstance(result, DSAError):
            raise result
        if isinstance(result, Rebuilt):
            return result
        if isinstance(result, Preview):
            if result.moment_ns > self._at_ns or (self._fed.reached and not self._fed.usable):
                raise Conflict(
                    "the file does not reach back to that moment", "name a later one, or use an earlier file"
                )
            if not self._fed.usable:
                raise Conflict("what was read is not a whole catalog", "use another copy of the catalog")
            self.preview, self.state = result, "read"
            return None
        if self.state == "reading":
            self._on_fed(ctx, result, is_past=token[1] != self._turn)
        return None

    def _on_fed(self, ctx: Context, fed: Fed, *, is_past: bool) -> None:
        was_fit = self._fed.unfit is None
        if is_past:  # of a holder that was left, for this or another reason
            fed = msgspec.structs.replace(fed, unfit=None)
        self._fed = fed
        self._offset += fed.size
        if self._reading is None:
            if fed.unfit is not None:
                self._use_damaged(ctx, fed.unfit)
                return
            self._tell(Reads(self._offset, self._file_bytes))
        elif fed.unfit is not None:
            if was_fit:  # what is fed behind it cannot be used either, and says so once more
                self._leave_holder(ctx, fed.unfit.message)
            return
        self.step(ctx)
