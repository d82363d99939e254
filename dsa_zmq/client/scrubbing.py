"""Verifying everything, asked for by an administrator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsa_zmq.protocol import operations as op

if TYPE_CHECKING:
    from dsa_zmq.client.store import Store

KIND = "scrub"  #: of the task


def begin_scrub(store: Store, node: str = "") -> None:
    """Have the node of this name, or all of them, verify what they hold. It goes on in the background."""
    store.admin.ask(op.BeginTask(KIND, node), op.Tasks)
