"""Simulated machines: one disk and at most one process of the shipped master or node, started anew from the disk."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import random
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import apsw

from actors.core import Actor, ActorSpec, Address, Context, Job, Lane, Message, Peer, PeerEvent, Token
from actors.sim.disk import SimDisk
from actors.sim.runtime import SimHandle
from dsa_zmq.errors import DSAError
from dsa_zmq.master.catalog.catalog import CatalogBroken
from dsa_zmq.master.service import load_or_create_secret, master_spec
from dsa_zmq.node.service import node_spec

if TYPE_CHECKING:
    from dsa_zmq.sim.cluster import SimCluster


class Watched(Actor):
    """An actor whose messages the cluster sees, after the actor has dealt with them.

    While it hangs, its process lives, and so do its connections, but no handler runs; it ends by being killed.
    """

    def __init__(self, actor: Actor, owner: Any, cluster: SimCluster) -> None:
        self.actor = actor
        self._owner = owner
        self._cluster = cluster
        self.hangs = False

    def __repr__(self) -> str:
        return repr(self.actor)

    def on_start(self, ctx: Context) -> None:
        self.actor.on_start(ctx)

    def on_message(self, ctx: Context, sender: Peer, message: Message, payload: Sequence[memoryview]) -> None:
        if not self.hangs:
            self.actor.on_message(ctx, sender, message, payload)
            self._cluster.saw_message(self._owner, sender, message)

    def on_timer(self, ctx: Context, token: Token) -> None:
        if not self.hangs:
            self.actor.on_timer(ctx, token)

    def on_result(self, ctx: Context, token: Token, result: Any) -> None:
        if not self.hangs:
            self.actor.on_result(ctx, token, result)

    def on_peer(self, ctx: Context, peer: Address, event: PeerEvent) -> None:
        if not self.hangs:
            self.actor.on_peer(ctx, peer, event)

    def on_call(self, ctx: Context, call: Any) -> None:
        self.actor.on_call(ctx, call)

    def on_stop(self, ctx: Context) -> None:
        self.actor.on_stop(ctx)

    def check_invariants(self) -> None:
        self.actor.check_invariants()


class Machine:
    """A host. ``kept`` machines are restarted by the cluster's supervisor a while after their process has ended."""

    def __init__(self, cluster: SimCluster, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.disk = self.new_disk()
        self.starts = 0
        self.disks = 1
        self.batches = 0  #: lane batches that had their effect, over all starts
        self.kept = True
        self.refused_starts: list[str] = []  #: why a start failed
        self.handle: SimHandle | None = None
        self.watched: Watched | None = None  #: the actor of the latest process
        self.process_name = ""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.handle!r}>"

    @property
    def alive(self) -> bool:
        return self.handle is not None and self.handle.alive

    @property
    def hung(self) -> bool:
        """Whether the process lives and does nothing."""
        return self.alive and self.watched is not None and self.watched.hangs

    def new_disk(self) -> SimDisk:
        """An empty disk."""
        self.disks = getattr(self, "disks", 0) + 1
        return SimDisk(random.Random(f"{self.cluster.seed}:{self.name}:disk:{self.disks}"))

    def spec(self, draw: random.Random) -> ActorSpec:
        """Open the disk."""
        raise AssertionError("a machine is a master or a node")

    def start(self) -> None:
        """Start a process on the disk. Raises DSAError if the disk's content does not allow it."""
        assert not self.alive, f"{self} runs already"
        self.starts += 1
        spec = self.spec(random.Random(f"{self.cluster.seed}:{self.name}:{self.starts}"))
        lanes = {name: self._watch(name, lane) for name, lane in spec.lanes.items()}
        self.process_name = spec.name
        self.handle = self.cluster.spawn(self, dataclasses.replace(spec, lanes=lanes), disks=[self.disk])

    def start_and_die(self, operations: int, *, power_loss: bool) -> None:
        """A start that is killed after so many changing calls to the disk (or just after it, if it made fewer)."""
        assert not self.alive, f"{self} runs already"
        self.starts += 1
        self.disk.die_after(operations)
        with _unheard_errors():
            try:
                self.spec(random.Random(f"{self.cluster.seed}:{self.name}:{self.starts}"))
            except (DSAError, OSError, apsw.Error, CatalogBroken):
                self.cluster.world.count("died-while-starting")
            if power_loss:
                self.disk.power_loss()
            else:
                self.disk.process_crash()

    def _watch(self, name: str, lane: Lane) -> Lane:
        def run(jobs: Sequence[Job]) -> Sequence[Any]:
            results = lane.handler(jobs)
            self.batches += 1
            self.cluster.saw_batch(self, name, jobs, results)
            return results

        return dataclasses.replace(lane, handler=run)

    def crash(self) -> None:
        """kill -9; nothing happens if there is no process."""
        if self.alive:
            self.cluster.world.crash(self.process_name)

    def power_loss(self) -> None:
        """The host loses power, whether a process runs there or not."""
        if self.alive:
            self.cluster.world.crash(self.process_name, power_loss=True)
        else:
            self.disk.power_loss()

    def stop(self) -> None:
        """Orderly stop."""
        if self.handle is not None:
            self.handle.stop(10.0)
            assert not self.alive, f"{self} does not stop"

    def pause(self) -> None:
        """SIGSTOP."""
        self.cluster.world.pause(self.process_name)

    def hang(self) -> None:
        """The process lives, its connections stay, and nothing is done any more until it is killed."""
        assert self.watched is not None, "what hangs was started"
        self.watched.hangs = True

    def resume(self) -> None:
        """SIGCONT, to whatever process there is now."""
        if self.alive:
            self.cluster.world.resume(self.process_name)

    def copy_disk(self) -> SimDisk:
        """A copy of the disk as it is; no process may be running on it."""
        assert not self.alive, "the copy of a disk in use would be of no moment"
        return copy.deepcopy(self.disk)

    def swap_disk(self, disk: SimDisk) -> SimDisk:
        """Put another disk in; returns the one that was there."""
        assert not self.alive, f"{self} uses its disk"
        taken, self.disk = self.disk, disk
        return taken


@contextlib.contextmanager
def _unheard_errors() -> Iterator[None]:
    """Errors of files that SQLite is closing on a dead disk have no caller; Python would print them."""
    before, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        yield
    finally:
        sys.unraisablehook = before


class MasterMachine(Machine):
    """The master's host."""

    def spec(self, draw: random.Random) -> ActorSpec:
        secret = load_or_create_secret(self.disk, draw)
        return master_spec(self.cluster.master_settings, self.disk, draw, secret, scrambled=self.cluster.scrambled)


class NodeMachine(Machine):
    """A node's host."""

    def spec(self, draw: random.Random) -> ActorSpec:
        return node_spec(self.cluster.node_settings(self.name), self.disk, draw)
