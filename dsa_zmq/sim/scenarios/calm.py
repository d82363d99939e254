"""Good days: nothing fails, and everything happens at the same time."""

from __future__ import annotations

from dataclasses import replace

from actors.core import Message, Peer
from actors.sim.faults import MS
from dsa_zmq.protocol.messages import Calls, PutShards
from dsa_zmq.protocol.operations import Commit, Reallocate
from dsa_zmq.sim.campaign import Scenario
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.ledger import Wrong
from dsa_zmq.sim.machines import Machine
from dsa_zmq.sim.users import Reply, User
from dsa_zmq.sim.verdict import settle
from dsa_zmq.sim.workload import Worker

MAX_BYTES = 26_000
ROUNDS = 14


class Traffic:
    """What of the traffic should not be there when nothing fails."""

    def __init__(self) -> None:
        self.detours = 0  #: shards for which another node was asked for
        self.repeats = 0  #: shards that were sent twice, and commits
        self._seen: set[tuple[str, int, int]] = set()

    def look(self, owner: Machine | User, sender: Peer, message: Message) -> None:
        match message:
            case PutShards():
                self._count((owner.name, shard.chunk, shard.index) for shard in message.shards)
            case Calls():
                for call in message.calls:
                    self.detours += isinstance(call.operation, Reallocate)
                    if isinstance(call.operation, Commit):
                        self._count([(sender.name, call.number, -1)])

    def _count(self, things: object) -> None:
        for thing in things:  # type: ignore[attr-defined]
            self.repeats += thing in self._seen
            self._seen.add(thing)


def readers_meet_writers(cluster: SimCluster) -> None:
    """Files are overwritten, moved and read at the same time, over a slow network: each read shows one of them, whole."""
    cluster.world.faults = replace(cluster.world.faults, jitter_ns=8 * MS)
    cluster.wait_up()
    paths = ["/d/one", "/d/two"]
    writers = [cluster.user() for _ in range(2)]
    readers = [cluster.user() for _ in range(3)]
    cluster.must(*(writers[0].put(path, cluster.ledger.new_content(MAX_BYTES, 17_000)) for path in paths))

    def write(user: User, left: int) -> None:
        if left:
            action = cluster.random.randrange(5)
            reply: Reply
            if action < 3:
                reply = user.put(cluster.random.choice(paths), cluster.ledger.new_content(MAX_BYTES, 12_000))
            elif action == 3:
                reply = user.mv(*cluster.random.sample(paths, 2), replace=True)
            else:
                reply = user.cp(*cluster.random.sample(paths, 2), replace=True)
            reply.then(lambda: write(user, left - 1))

    def read(user: User, left: int) -> None:
        if left:
            action = cluster.random.randrange(8)
            path = cluster.random.choice(paths)
            reply = user.ls("/d") if not action else user.stat(path) if action == 1 else user.get(path)
            reply.then(lambda: read(user, left - 1))

    for user in writers:
        write(user, ROUNDS)
    for user in readers:
        read(user, 3 * ROUNDS)
    settle(cluster)


def nothing_fails_and_nothing_is_wasted(cluster: SimCluster) -> None:
    """Users work side by side: every operation ends well, every shard travels once, and nothing is left on the nodes."""
    cluster.wait_up()
    traffic = Traffic()
    cluster.on_message.append(traffic.look)
    workers = [Worker(cluster, 30, max_bytes=MAX_BYTES, if_absent=0.0) for _ in range(3)]
    cluster.run_until(lambda: not any(worker.left for worker in workers), 30)
    found = settle(cluster)
    counts = cluster.ledger.counts()
    if counts["failed"] or counts["unknown"] or traffic.detours or traffic.repeats or found.orphans:
        raise Wrong(f"{counts}, {traffic.detours} detours, {traffic.repeats} repeats, {found.orphans} orphans")


MEETING = Scenario(readers_meet_writers)
CALM = Scenario(nothing_fails_and_nothing_is_wasted)
