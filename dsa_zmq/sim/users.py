"""Users of a simulated cluster: the shipped client, driven by calls, with every operation in the ledger."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from actors.core import ActorSpec
from actors.sim.runtime import SimHandle
from dsa_zmq.client.calls import AskMaster, Consumed, Feed, StartDownload, StartUpload, Supply, Whole
from dsa_zmq.client.service import client_spec
from dsa_zmq.client.target import Target
from dsa_zmq.client.wanted import Wanted
from dsa_zmq.protocol.operations import Copy as CopyRequest
from dsa_zmq.protocol.operations import ListDirectory, MakeDirectory, Remove, Stat
from dsa_zmq.protocol.operations import Move as MoveRequest
from dsa_zmq.protocol.operations import Operation as Request
from dsa_zmq.protocol.values import Attributes
from dsa_zmq.sim import tree
from dsa_zmq.sim.history import Operation

if TYPE_CHECKING:
    from dsa_zmq.sim.cluster import SimCluster


class Reply:
    """A ticket: the end of one call, and what came on the way."""

    def __init__(self, user: User, operation: Operation | None) -> None:
        self._user = user
        self._operation = operation
        self._then: list[Callable[[], None]] = []
        self.done = False
        self.result: Any = None
        self.parts: list[bytes] = []

    def __repr__(self) -> str:
        return f"<Reply {self._operation} {self.result if self.done else 'open'}>"

    @property
    def data(self) -> bytes:
        return b"".join(self.parts)

    def finish(self, result: Any) -> None:
        """The actor's answer: a result, or a DSAError."""
        self.done, self.result = True, result
        self._user.open.pop(self, None)
        if self._operation is not None:
            self._user.cluster.ledger.answered(self._operation, result, self.data)
        for call in self._then:
            call()

    def lose(self) -> None:
        """The client is dead: nobody will ever answer."""
        if self._operation is not None:
            self._user.cluster.ledger.lost(self._operation)

    def then(self, call: Callable[[], None]) -> None:
        """Call when it is finished."""
        self._then.append(call)

    def want(self, until: int) -> None:
        """See :class:`Source`."""

    def deliver(self, data: memoryview | bytes) -> None:
        self.parts.append(bytes(data))

    def described(self, attributes: Attributes) -> None:
        """Nothing to prepare."""

    def progress(self, size: int) -> None:
        """Nobody watches."""


class Source(Reply):
    """The ticket of an upload of several chunks: supplies them when they are wanted."""

    def __init__(self, user: User, operation: Operation | None, owner: int, data: bytes, chunk_bytes: int) -> None:
        super().__init__(user, operation)
        self._owner = owner
        self._chunks = [data[at : at + chunk_bytes] for at in range(0, len(data), chunk_bytes)]
        self._supplied = 0

    def want(self, until: int) -> None:
        for index in range(self._supplied, min(until, len(self._chunks))):
            chunk = self._chunks[index]
            last = index == len(self._chunks) - 1
            self._user.call(Supply(self._owner, index, blake3(chunk).digest(), chunk, last))
            self._supplied = index + 1


class Reader(Reply):
    """The ticket of a download: consumes at once."""

    def __init__(self, user: User, operation: Operation | None, owner: int) -> None:
        super().__init__(user, operation)
        self._owner = owner

    def deliver(self, data: memoryview | bytes) -> None:
        super().deliver(data)
        self._user.call(Consumed(self._owner, len(data)))


class User:
    """One client process at a time; :meth:`restart` starts another one."""

    def __init__(self, cluster: SimCluster, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.starts = 0
        self.open: dict[Reply, None] = {}  #: an ordered set
        self._owners = 0
        self.handle: SimHandle
        self.process_name = ""
        self.start()

    def __repr__(self) -> str:
        return f"<User {self.name} {self.handle!r}>"

    @property
    def alive(self) -> bool:
        return self.handle.alive

    def start(self) -> None:
        """A new client process."""
        self.starts += 1
        draw = random.Random(f"{self.cluster.seed}:{self.name}:{self.starts}")
        spec = self.dress(client_spec(self.cluster.client_settings(self.name), draw))
        self.process_name = spec.name
        self.handle = self.cluster.spawn(self, spec)

    def dress(self, spec: ActorSpec) -> ActorSpec:
        """What is started instead of the plain client; for users with peculiarities."""
        return spec

    def crash(self) -> None:
        """As kill -9. What was under way is of unknown outcome."""
        self.cluster.world.crash(self.process_name)
        lost, self.open = self.open, {}
        for reply in lost:
            reply.lose()

    def restart(self) -> None:
        self.crash()
        self.start()

    def call(self, call: Any) -> None:
        """Hand a call to the client's actor."""
        self.handle.call(call)

    # --- operations -----------------------------------------------------------------------------------------------

    def put(
        self, path: str, data: bytes, *, if_absent: bool = False, degraded: bool = False, booked: bool = True
    ) -> Reply:
        """Upload a content of the ledger. Not ``booked``: the ledger does not know, so it must never be seen."""
        operation = self.cluster.ledger.begin(self.name, tree.Put(path, len(data), if_absent)) if booked else None
        chunk_bytes = self.cluster.chunk_bytes
        owner = self._owner()
        if len(data) <= chunk_bytes:
            reply = Reply(self, operation)
            target = Target(path, chunk_bytes, len(data), 0, if_absent=if_absent, degraded=degraded)
            return self._begin(reply, StartUpload(owner, target, Whole(blake3(data).digest(), data), reply))
        source = Source(self, operation, owner, data, chunk_bytes)
        target = Target(path, chunk_bytes, None, 0, if_absent=if_absent, degraded=degraded)
        return self._begin(source, StartUpload(owner, target, Feed(), source))

    def get(self, path: str, start: int = 0, stop: int | None = None) -> Reply:
        operation = self.cluster.ledger.begin(self.name, tree.Read(path, start, stop))
        owner = self._owner()
        reader = Reader(self, operation, owner)
        return self._begin(reader, StartDownload(owner, Wanted(path, start, stop), reader))

    def stat(self, path: str) -> Reply:
        return self._ask(tree.Look(path), Stat(path))

    def ls(self, path: str) -> Reply:
        return self._ask(tree.List(path), ListDirectory(path))

    def rm(self, path: str, *, recursive: bool = False) -> Reply:
        return self._ask(tree.Remove(path, recursive), Remove(path, recursive))

    def mkdir(self, path: str, *, redundancy: str = "") -> Reply:
        return self._ask(tree.MakeDirectory(path), MakeDirectory(path, redundancy=redundancy))

    def mv(self, source: str, target: str, *, replace: bool = False) -> Reply:
        return self._ask(tree.Move(source, target, replace), MoveRequest(source, target, replace))

    def cp(self, source: str, target: str, *, replace: bool = False) -> Reply:
        return self._ask(tree.Copy(source, target, replace), CopyRequest(source, target, replace))

    def ask(self, request: Request) -> Reply:
        """Any operation, kept out of the ledger."""
        reply = Reply(self, None)
        return self._begin(reply, AskMaster(request, reply))

    def _ask(self, action: tree.Action, request: Request) -> Reply:
        reply = Reply(self, self.cluster.ledger.begin(self.name, action))
        return self._begin(reply, AskMaster(request, reply))

    def _begin(self, reply: Reply, call: Any) -> Reply:
        self.open[reply] = None
        self.call(call)
        return reply

    def _owner(self) -> int:
        self._owners += 1
        return self._owners
