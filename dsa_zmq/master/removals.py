"""Places that were released because others have what they had: sent off once those others were read, or places again.

The catalog's unverified rows of ``drops`` are the list of what is to be done: after a start they are looked up, so nothing
is lost with the master.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from actors.core import Context
from dsa_zmq.master.catalog.examine_rules import (
    FIRST_DROP,
    DropKey,
    FindUnverified,
    Released,
    ReleasesSettled,
    SettleReleases,
    Unverified,
)
from dsa_zmq.master.department import CATALOG_LANE, Department
from dsa_zmq.master.office import Office
from dsa_zmq.master.settings import nanoseconds
from dsa_zmq.protocol.messages import GOOD
from dsa_zmq.protocol.values import Failure, PlacedShard

AT_ONCE = 100  #: settled in one job of the catalog: a few ms


class Removals(Department):
    """See the module. Others find it as ``office.removals``."""

    name = "removals"

    def __init__(self, office: Office) -> None:
        super().__init__(office)
        self._open: set[DropKey] = set()  #: whose keepers are asked, or that are being settled
        self._sent_off = 0  #: so far
        self._restored = 0
        office.removals = self

    def start(self, ctx: Context) -> None:
        """What an earlier master left is looked up once nodes had time to come: else it would all be restored."""
        self._look_later(ctx)

    def verify(self, ctx: Context, released: Sequence[Released]) -> None:
        """These were released in a transaction whose result is there: have their keepers read, then send them off or
        restore them."""
        fresh = [each for each in released if _key(each) not in self._open]
        for first in range(0, len(fresh), AT_ONCE):
            self._ask(ctx, fresh[first : first + AT_ONCE])

    def _ask(self, ctx: Context, released: Sequence[Released]) -> None:
        self._open |= {_key(each) for each in released}
        shards = [PlacedShard(each.chunk, kept.index, kept.node) for each in released for kept in each.keepers]
        self.office.examiner.ask(ctx, shards, True, lambda ctx, states: self._settle(ctx, released, states))

    def _settle(self, ctx: Context, released: Sequence[Released], states: list[int]) -> None:
        """The keepers were read."""
        said = iter(states)
        read = [
            msgspec.structs.replace(each, keepers=[kept for kept in each.keepers if next(said) == GOOD])
            for each in released
        ]
        standings = self.office.members.standings(self.office.at(ctx).served_ns)
        token = (self.name, "settle", tuple(map(_key, released)))
        ctx.run(token, CATALOG_LANE, SettleReleases(read, standings))

    # --- what an earlier master left ----------------------------------------------------------------------------------

    def _look_later(self, ctx: Context) -> None:
        ctx.set_timer((self.name, "look"), nanoseconds(self.office.settings.pace.start_hold_s))

    def on_timer(self, ctx: Context, token: tuple[Any, ...]) -> None:
        self._look(ctx, FIRST_DROP)

    def _look(self, ctx: Context, after: DropKey) -> None:
        standings = self.office.members.standings(self.office.at(ctx).served_ns)
        ctx.run((self.name, "found"), CATALOG_LANE, FindUnverified(after, standings))

    def on_result(self, ctx: Context, token: tuple[Any, ...], result: Any) -> None:
        match token, result:
            case (_, "settle", keys), _:
                self._open.difference_update(keys)
                self._on_settled(ctx, result)
            case _, Unverified():
                self.verify(ctx, result.released)
                if result.next is not None:
                    self._look(ctx, result.next)
            case _:
                self._look_later(ctx)

    def _on_settled(self, ctx: Context, result: ReleasesSettled | Failure) -> None:
        if isinstance(result, Failure):
            ctx.log("releases-not-settled", why=result.message)
            self._look_later(ctx)
            return
        self._sent_off += result.sent_off
        self._restored += len(result.restored)
        if result.restored:
            ctx.log("places-restored", count=len(result.restored))
            self.office.places_changed(ctx, result.restored)

    def statistics(self) -> Mapping[str, int]:
        return {"releases": len(self._open), "sent_off": self._sent_off, "restored": self._restored}


def _key(released: Released) -> DropKey:
    return released.node, released.chunk, released.shard
