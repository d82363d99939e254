"""Garbage collection, asked for by an administrator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsa_zmq.protocol import operations as op
from dsa_zmq.protocol.values import Plan

if TYPE_CHECKING:
    from dsa_zmq.client.store import Store

KIND = "gc"  #: of the task


def plan_collection(store: Store) -> Plan:
    """What would be let go. Changes nothing."""
    return store.admin.ask(op.MakePlan(KIND), op.Planned).plan


def begin_collection(store: Store) -> None:
    """Begin a round now; it goes on in the background."""
    store.admin.ask(op.BeginTask(KIND), op.Tasks)
