"""What each operation needs besides the catalog: some are answered from soft state, some results are completed by it. Pure.

Stored operations and plain reads go to the catalog and come back as they will leave. Places, grants, leases and liveness
are added here.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dsa_zmq.errors import DSAError, Invalid, TooFewNodes
from dsa_zmq.master.allocation import Allocator
from dsa_zmq.master.calls import failure
from dsa_zmq.master.catalog.jobs import AllocateChecked, LocatedRows, Totals
from dsa_zmq.master.grants import Granter, complete_confirm, complete_located
from dsa_zmq.master.haste import vanished_together
from dsa_zmq.master.health import complete_capacity
from dsa_zmq.master.inherited import Inherited
from dsa_zmq.master.members import Members
from dsa_zmq.master.uploads import Uploads
from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.protocol.operations import (
    Abort,
    Allocate,
    AllocateSlots,
    Commit,
    Confirm,
    Done,
    Found,
    ListDirectory,
    ListNodes,
    Nodes,
    Operation,
    Reallocate,
    Renew,
    Result,
    ReturnSlots,
    Stage,
    Staged,
    Stat,
)

MAX_RENEWALS = 10_000  #: uploads in one Renew or ReturnSlots: more than a client can have

_PLAIN_READS = (Stat, ListDirectory)  #: need nothing but the catalog, and change nothing


class Next(enum.Enum):
    """Instead of an answer."""

    CATALOG = "catalog"  #: ask the catalog
    WAIT = "wait"  #: ask again when more nodes have reported, or when the time for that is over


class Moment(NamedTuple):
    """When a turn takes place."""

    served_ns: int  #: for leases and silence
    wall_ns: int  #: for people, and for the expiry of grants


def short_chunks(operation: Operation, result: Any) -> list[int]:
    """The chunks that were taken into the catalog with fewer shards than they should have."""
    if not isinstance(operation, Commit | Stage) or not operation.degraded or not isinstance(result, Found | Staged):
        return []
    shards = parse_redundancy(operation.redundancy).shards
    return [chunk.chunk for chunk in operation.chunks if len(chunk.receipts) < shards]


@dataclass(slots=True)
class Desk:
    """Begins and completes operations. ``settling`` is true after a start or a pause of ours, until all known nodes
    have spoken or had time enough: too few nodes is no answer then, nor while a node is just being tried, nor when many
    have fallen silent within ``patience_ns``, as they do when it is the master that is cut off."""

    cluster: bytes
    term: int
    members: Members
    uploads: Uploads
    granter: Granter
    allocator: Allocator
    patience_ns: int
    settling: bool = True
    hushed: bool = False  #: many were silent when it was last asked whether there are too few
    inherited: Inherited = field(default_factory=Inherited)

    def begin(self, operation: Operation, at: Moment) -> Result | Next:
        """An operation has come in: its answer, or how to go on."""
        if isinstance(operation, _PLAIN_READS):
            return Next.CATALOG
        try:
            match operation:
                case Allocate():
                    redundancy = self.allocator.redundancy_of(operation) or self.inherited.find(operation)
                    return Next.CATALOG if redundancy is None else self._allocate(operation, redundancy, at)
                case Commit() | Stage():
                    self.uploads.renew(operation.upload, at.served_ns)
                    return Next.CATALOG
                case AllocateSlots():
                    up = self.members.up(at.served_ns)
                    return self.allocator.allocate_slots(operation, up, at.served_ns, at.wall_ns)
                case ReturnSlots():
                    return self._take_back(operation)
                case ListNodes():
                    return Nodes(self.members.describe(at.served_ns), self.term, self.cluster)
                case Renew():
                    return self._renew(operation, at)
                case Reallocate():
                    return self.allocator.reallocate(operation, self.members.up(at.served_ns), at.served_ns, at.wall_ns)
                case _:
                    self.inherited.follow(operation)
                    return Next.CATALOG
        except TooFewNodes as error:
            return self._too_few(error, at)
        except DSAError as error:
            return failure(error)

    def pass_on(self, operation: Operation, result: Any) -> bool:
        """Whether this result of the catalog leaves as it is, and all that it means here was done: so with most of them. The
        others are for :meth:`complete`."""
        if isinstance(result, Found) and isinstance(operation, Commit):
            self.uploads.end(operation.upload)
            return True
        return isinstance(operation, _PLAIN_READS)

    def complete(self, operation: Operation, result: Any, at: Moment) -> Result | Next:
        """The catalog's result has come: the answer to leave."""
        try:
            match operation, result:
                case _, LocatedRows():
                    return complete_located(result, self.members, self.granter, at.served_ns, at.wall_ns)
                case Allocate(), AllocateChecked():
                    self.inherited.learn(operation, result.redundancy)
                    return self._allocate(operation, result.redundancy, at)
                case _, Totals():
                    return complete_capacity(result, self.members, self.uploads, at.served_ns)
                case Stage() | Commit(), Confirm():
                    return complete_confirm(
                        result,
                        operation.upload,
                        operation.redundancy,
                        operation.chunks,
                        self.members,
                        self.granter,
                        at.wall_ns,
                    )
                case Stage(), Staged():
                    self.uploads.adopt([operation.upload], at.served_ns)
                    self.uploads.staged(operation.upload, (chunk.chunk for chunk in operation.chunks), at.served_ns)
                case Abort(), Done():
                    self.uploads.end(operation.upload)
                case _:
                    self.inherited.follow(operation)
        except TooFewNodes as error:
            return self._too_few(error, at)
        except DSAError as error:
            return failure(error)
        answer: Result = result
        return answer

    def _too_few(self, error: TooFewNodes, at: Moment) -> Result | Next:
        """There are not enough nodes up: that is an answer only if it is known to be so."""
        self.hushed = vanished_together(self.members, at.served_ns, self.patience_ns)
        return Next.WAIT if self.settling or self.hushed or self.members.undecided() else failure(error)

    def _allocate(self, operation: Allocate, redundancy: str, at: Moment) -> Result | Next:
        up = self.members.up(at.served_ns)
        try:
            return self.allocator.allocate(operation, redundancy, up, at.served_ns, at.wall_ns)
        except TooFewNodes as error:
            found = self._too_few(error, at)
            if not operation.degraded or found is Next.WAIT:  # what may be about to come is waited for all the same
                return found
        return self.allocator.allocate(operation, redundancy, up, at.served_ns, at.wall_ns, degraded=True)

    def _take_back(self, operation: ReturnSlots) -> Done:
        if len(operation.uploads) > MAX_RENEWALS:
            raise Invalid(f"{len(operation.uploads)} slots cannot be returned at once")
        return Done(sum(self.uploads.take_back(upload) for upload in operation.uploads))

    def _renew(self, operation: Renew, at: Moment) -> Done:
        if len(operation.uploads) > MAX_RENEWALS:
            raise Invalid(f"{len(operation.uploads)} uploads cannot be renewed at once")
        return Done(sum(self.allocator.renew(upload, at.served_ns) for upload in operation.uploads))
