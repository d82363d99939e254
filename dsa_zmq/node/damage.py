"""Telling the master what is in quarantine, until it has noted it: then those places count no more, and are mended.

Found by a read for somebody, by a scrub, by whatever else reads shards: whenever there may be more damage than the master
was told of, and after each registration, all that is in quarantine is told, page by page. The store is asked again before
each repeat, in line with the puts, so a shard that was mended meanwhile is left out.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any

from actors.core import Context, Message
from dsa_zmq.errors import DSAError
from dsa_zmq.node.damage_steps import FindDamage
from dsa_zmq.node.department import NodeDepartment, NodeOffice, OnOrder
from dsa_zmq.node.jobs import WRITE
from dsa_zmq.node.store import ShardKey
from dsa_zmq.protocol.messages import Damage, Noted
from dsa_zmq.protocol.values import ShardRef

SHARDS_AT_ONCE = 500  #: in one Damage: some 8 KB, and a few ms of the catalog
SECOND = 1_000_000_000


class _Step(enum.Enum):
    IDLE = "idle"
    LOOKING = "looking"  #: asking the store
    TELLING = "telling"  #: a Damage is out
    RESTING = "resting"  #: everything was told: not again at once, however often damage is read


class Damages(NodeDepartment):
    """See the module."""

    name = "damage"

    def __init__(self, office: NodeOffice) -> None:
        super().__init__(office)
        self._step = _Step.IDLE
        self._wanted = False  #: to tell all from the beginning, once this is over
        self._serial = 0  #: of the job whose result counts
        self._after: ShardKey | None = None  #: what is up to here is noted
        self._page: Sequence[ShardKey] = ()
        self._number = 0  #: of the Damage that is out, or was
        self._counted = 0  #: in quarantine, at the last beat
        self._noted = 0  #: shards told so far
        office.data.when_damaged.append(self.look)

    def orders(self) -> Mapping[type[Message], OnOrder]:
        return {Noted: self._on_noted}

    def look(self, ctx: Context) -> None:
        """There may be damage that the master does not know of."""
        self._wanted = True
        if self._step is _Step.IDLE and self.office.authority is not None:
            self._begin(ctx)

    def on_registered(self, ctx: Context) -> None:
        """Whoever registered us knows of nothing."""
        ctx.cancel_timer((self.name, "pause"))
        self._counted = self.office.status.usage.damaged
        self._begin(ctx)

    def on_beat(self, ctx: Context) -> None:
        """What was found by nobody who says so."""
        now = self.office.status.usage.damaged
        if now > self._counted:
            self.look(ctx)
        self._counted = now

    def beat(self) -> Mapping[str, int]:
        return {"damaged": self.office.status.usage.damaged}

    def _begin(self, ctx: Context) -> None:
        self._wanted, self._after = False, None
        self._look(ctx)

    def _look(self, ctx: Context) -> None:
        self._step, self._page, self._serial = _Step.LOOKING, (), self._serial + 1
        ctx.run((self.name, self._serial), WRITE, FindDamage(self._after, SHARDS_AT_ONCE))

    def on_result(self, ctx: Context, token: tuple[Any, ...], result: list[ShardKey] | DSAError) -> None:
        if token[1] != self._serial:
            return  # of before the last registration
        if isinstance(result, DSAError):
            ctx.log("damage-not-listed", reason=str(result))
            result = []
        self._page = result
        if not result and self._after is None:
            self._be_idle(ctx)
            return
        if not result:
            self._rest(ctx)
            return
        self._step = _Step.TELLING
        self._number += 1
        term = self.office.authority.term if self.office.authority is not None else 0
        self.office.tell_master(ctx, Damage(self._number, [ShardRef(key.chunk, key.index) for key in result], term))
        self._pause(ctx)

    def _on_noted(self, ctx: Context, message: Noted) -> None:
        if self._step is not _Step.TELLING or message.number != self._number:
            return
        self._noted += len(self._page)
        if len(self._page) < SHARDS_AT_ONCE:
            self._rest(ctx)
        else:
            ctx.cancel_timer((self.name, "pause"))
            self._after = self._page[-1]
            self._look(ctx)

    def on_timer(self, ctx: Context, token: tuple[Any, ...]) -> None:
        """The master has not noted it; or the rest is over."""
        if self._step is _Step.TELLING:
            self._look(ctx)
        elif self._step is _Step.RESTING:
            self._be_idle(ctx)

    def _be_idle(self, ctx: Context) -> None:
        self._step = _Step.IDLE
        if self._wanted:
            self._begin(ctx)

    def _rest(self, ctx: Context) -> None:
        self._step, self._page = _Step.RESTING, ()
        self._pause(ctx)

    def _pause(self, ctx: Context) -> None:
        ctx.set_timer((self.name, "pause"), int(self.office.pace.damage_repeat_s * SECOND))

    def statistics(self) -> Mapping[str, int]:
        return {"damage_noted": self._noted}

    def check_invariants(self) -> None:
        assert (self._step is _Step.TELLING) == bool(self._page), "what is told is known until it is noted"
