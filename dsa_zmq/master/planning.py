"""Answers ``MakePlan``: who knows the kind of task makes the plan, and whoever asked hears it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from actors.core import Context
from dsa_zmq.errors import Invalid
from dsa_zmq.master.calls import CallInFlight
from dsa_zmq.master.catalog.facts import failure
from dsa_zmq.master.department import Department, OnOperation
from dsa_zmq.master.office import Office
from dsa_zmq.protocol.operations import MakePlan, Operation, Planned
from dsa_zmq.protocol.values import Failure, Plan


class Planning(Department):
    """The other departments enter what they can plan in ``office.plans``."""

    name = "plan"

    def __init__(self, office: Office) -> None:
        super().__init__(office)
        self._asking: dict[int, None] = {}  # an ordered set

    def operations(self) -> Mapping[type[Operation], OnOperation]:
        return {MakePlan: self._on_plan}

    def _on_plan(self, ctx: Context, call: CallInFlight) -> None:
        wanted = call.operation
        assert isinstance(wanted, MakePlan)
        make = self.office.plans.get(wanted.kind)
        if make is None:
            kinds = ", ".join(sorted(self.office.plans))
            error = Invalid(f"'{wanted.kind}' is no kind of task", f"use one of: {kinds}")
            self.office.answer(ctx, call.serial, failure(error))
            return
        self.office.detach(ctx, call)
        self._asking[call.serial] = None
        make(ctx, wanted, lambda ctx, made: self._made(ctx, call.serial, made))

    def _made(self, ctx: Context, serial: int, made: Plan | Failure) -> None:
        self._asking.pop(serial)
        self.office.answer(ctx, serial, made if isinstance(made, Failure) else Planned(made))

    def asking(self) -> Iterable[int]:
        return self._asking
