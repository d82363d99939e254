"""Small files in slots that were given ahead, while everything changes that the slots were given for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actors.core import Message, Peer
from actors.sim.faults import SECOND
from dsa_zmq.errors import Outdated
from dsa_zmq.protocol.messages import Calls, PutShards
from dsa_zmq.protocol.operations import AllocateSlots, Commit, Found, ListDirectory, Listing, Stat
from dsa_zmq.sim.campaign import Scenario, varied
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.ledger import Wrong
from dsa_zmq.sim.machines import Machine
from dsa_zmq.sim.users import Reply, User
from dsa_zmq.sim.verdict import settle

ROUNDS = 3  #: each in a directory of its own
BURSTS = 4  #: of one user in a round, one after the other
AT_ONCE = 12  #: files of a burst
MAX_BYTES = 4_000  #: of a file: one chunk
REDUNDANCIES = ("copies=1", "copies=2", "copies=3")


class Slots:
    """What is seen of slots: that they are used, and each for one file only."""

    def __init__(self) -> None:
        self.asked = 0
        self.used = 0
        self._contents: dict[int, bytes] = {}  #: chunk -> hash of the one content that was sent for it

    def look(self, owner: Machine | User, sender: Peer, message: Message) -> None:
        match message:
            case PutShards():
                for put in message.shards:
                    if self._contents.setdefault(put.chunk, put.hash) != put.hash:
                        raise Wrong(f"chunk {put.chunk} was sent with two contents")
            case Calls():
                for call in message.calls:
                    self.asked += isinstance(call.operation, AllocateSlots)
                    self.used += isinstance(call.operation, Commit) and call.operation.inherits


def slots_are_out_when_their_master_dies_and_their_directory_changes(cluster: SimCluster) -> None:
    """Bursts of small files; in the midst of each round the master dies or sessions end, and the directory is moved away and
    made anew with another redundancy. Every file is stored whole, as its directory says; nobody hears of slots."""
    draw = cluster.random
    slots = Slots()
    cluster.on_message.append(slots.look)
    cluster.supervise()
    cluster.wait_up()
    writers = [cluster.user() for _ in range(2)]
    other = cluster.user()
    replies: list[Reply] = []
    for number in range(ROUNDS):
        directory = f"/d{number}"
        cluster.wait(other.mkdir(directory, redundancy=draw.choice(REDUNDANCIES)))
        begun = [_Bursts(cluster, user, f"{directory}/{user.name}", replies) for user in writers]
        cluster.soon(lambda at=directory: _replace(cluster, other, at), draw.randrange(SECOND))  # type: ignore[misc]
        if draw.random() < 0.7:
            cluster.soon(_death_of_the_master(cluster, draw.random() < 0.5), draw.randrange(SECOND))
        if draw.random() < 0.3:
            cluster.soon(draw.choice(cluster.nodes).crash, draw.randrange(SECOND))
        cluster.run_until(lambda: not any(bursts.left for bursts in begun), 60)  # noqa: B023 - it is over before the next
        cluster.run_for(draw.choice((0.0, 0.6, 0.9, 1.5)))
    settle_directories(cluster)
    if bad := [reply for reply in replies if isinstance(reply.result, Outdated)]:
        raise Wrong(f"a user was told of a slot: {bad[0]!r}")
    if not slots.asked or not slots.used:
        raise Wrong(f"no slots were used: {slots.asked} questions, {slots.used} commits")
    settle(cluster)


class _Bursts:
    """One user's files of a round: the next burst begins when the last one has ended."""

    def __init__(self, cluster: SimCluster, user: User, prefix: str, replies: list[Reply]) -> None:
        self._cluster = cluster
        self._user = user
        self._prefix = prefix
        self._replies = replies
        self._open = 0
        self.left = BURSTS
        self._next()

    def _next(self) -> None:
        self._open = AT_ONCE
        for number in range(AT_ONCE):
            path = f"{self._prefix}-{self.left}-{number}"
            reply = self._user.put(path, self._cluster.ledger.new_content(MAX_BYTES, 1))
            self._replies.append(reply)
            reply.then(self._ended)

    def _ended(self) -> None:
        self._open -= 1
        if not self._open:
            self.left -= 1
            if self.left:
                self._cluster.soon(self._next, self._cluster.random.randrange(SECOND // 4))


def _replace(cluster: SimCluster, user: User, directory: str) -> None:
    """Another directory in the place of this one, with another redundancy."""
    redundancy = cluster.random.choice(REDUNDANCIES)

    def make() -> None:
        user.mkdir(directory, redundancy=redundancy)

    user.mv(directory, f"{directory}-old").then(make)


def _death_of_the_master(cluster: SimCluster, power_loss: bool) -> Any:
    return cluster.master.power_loss if power_loss else cluster.master.crash


def settle_directories(cluster: SimCluster) -> None:
    """Each file has the redundancy of the directory that it is in: files are moved only with it."""
    cluster.heal()
    cluster.run_until(lambda: not any(user.open for user in cluster.users if user.alive))
    cluster.wait_up()
    user = cluster.user("inspector")
    (root,) = cluster.must(user.ask(ListDirectory("/")))
    assert isinstance(root, Listing)
    for entry in root.entries:
        found, listing = cluster.must(user.ask(Stat(f"/{entry.name}")), user.ask(ListDirectory(f"/{entry.name}")))
        assert isinstance(found, Found)
        assert isinstance(listing, Listing)
        wanted = found.attributes.redundancy
        for file in listing.entries:
            if file.attributes.redundancy != wanted:
                path = f"/{entry.name}/{file.name}"
                raise Wrong(f"'{path}' has {file.attributes.redundancy}, its directory gives {wanted}")
    user.crash()


def short_sessions(seed: int) -> Mapping[str, Any]:
    """In every other seed sessions end between the rounds."""
    return {**varied(seed), "reply_keep_s": 0.7} if seed % 2 else varied(seed)


AHEAD = Scenario(slots_are_out_when_their_master_dies_and_their_directory_changes, options=short_sessions)
