"""Answers ``Health``: one count at a time, for all who ask meanwhile. See :mod:`dsa_zmq.master.health`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from actors.core import Context
from dsa_zmq.master.calls import CallInFlight
from dsa_zmq.master.catalog.jobs import CountChunks
from dsa_zmq.master.department import CATALOG_LANE, Department, OnOperation
from dsa_zmq.master.health import HealthCheck
from dsa_zmq.master.office import Office
from dsa_zmq.protocol.operations import Health, HealthReport, Operation


class HealthDesk(Department):
    """See the module."""

    name = "health"

    def __init__(self, office: Office) -> None:
        super().__init__(office)
        self._health = HealthCheck(office.members, office.settings.default_redundancy)

    def operations(self) -> Mapping[type[Operation], OnOperation]:
        return {Health: self._on_health}

    def _on_health(self, ctx: Context, call: CallInFlight) -> None:
        served_ns = self.office.at(ctx).served_ns
        if (fresh := self._health.fresh(served_ns)) is not None:
            self.office.answer(ctx, call.serial, fresh)
            return
        self.office.detach(ctx, call)
        if (job := self._health.ask(call.serial, served_ns)) is not None:
            ctx.run((self.name,), CATALOG_LANE, job)

    def on_result(self, ctx: Context, token: tuple[Any, ...], result: Any) -> None:
        served_ns = self.office.at(ctx).served_ns
        step = self._health.counted(result, served_ns)
        if isinstance(step, CountChunks):
            ctx.run((self.name,), CATALOG_LANE, step)
            return
        answer, asking = step
        if isinstance(answer, HealthReport):
            answer = msgspec.structs.replace(
                self.office.converter.discounted(answer), held=self.office.haste.held(served_ns)
            )
        for serial in asking:
            self.office.answer(ctx, serial, answer)

    def asking(self) -> Iterable[int]:
        return self._health

    def check_invariants(self) -> None:
        self._health.check_invariants()
