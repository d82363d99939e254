"""Bytes that rot: nobody is ever given them, whoever finds them has them mended, and what was mended stays.

The budget: of no chunk do all copies rot, until those that did are found and made anew. Beyond that there is nothing to mend
them from, and all that is promised is that no wrong byte is given to anybody.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from actors.core import Job, Message, Peer
from actors.sim.faults import MS
from dsa_zmq.errors import Corrupt, DSAError
from dsa_zmq.master.catalog.damage_rules import DamageTaken, TakeDamage
from dsa_zmq.master.catalog.examine_rules import Declare
from dsa_zmq.model.erasure import split
from dsa_zmq.model.pace import CarePace
from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.protocol.messages import ShardData
from dsa_zmq.protocol.operations import Locate, Located
from dsa_zmq.sim.audit import open_store
from dsa_zmq.sim.campaign import Scenario, varied
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.ledger import Wrong
from dsa_zmq.sim.machines import Machine, NodeMachine
from dsa_zmq.sim.scenarios.repair import wait_whole
from dsa_zmq.sim.users import User
from dsa_zmq.sim.verdict import settle

FILES = 6
FILE_BYTES = 12_000  #: three chunks: their places are told at once
FOUND_S = 30.0  #: some rounds of scrubbing, over restarts
HURRIED = CarePace(scrub_every_s=3.0, scrub_save_s=0.2, damage_repeat_s=0.5)

Place = tuple[int, int, int]
"""(node, chunk, shard)"""


class Rot:
    """Turns bits of shards, and sees that each is declared damaged once for each time, and never when it is mended."""

    def __init__(self, cluster: SimCluster) -> None:
        self.cluster = cluster
        self.user = cluster.user()
        self.contents: dict[str, bytes] = {}
        self.turned: Counter[Place] = Counter()
        self.declared: Counter[Place] = Counter()
        cluster.on_batch.append(self._look)

    def _look(self, machine: Machine, lane: str, jobs: Sequence[Job], results: Sequence[Any]) -> None:
        for job, result in zip(jobs, results, strict=True):
            match job, result:
                case TakeDamage(), DamageTaken():
                    said, changed = job.shards, result.chunks
                case Declare(), list():  # "absent": what rots at the end of a segment in use is wiped by the next start
                    said, changed = [*job.damaged, *job.absent], result
                case _:
                    continue
            said_of = [(job.node, ref.chunk, ref.index) for ref in said if ref.chunk in changed]
            self.declared.update(place for place in said_of if place in self.turned)

    def fill(self) -> None:
        """Some files."""
        for number in range(FILES):
            self.contents[f"/f{number}"] = self.cluster.ledger.new_content(FILE_BYTES, FILE_BYTES - 3000)
        self.cluster.must(*(self.user.put(path, data) for path, data in self.contents.items()))

    def located(self, path: str) -> Located:
        """Where the catalog has its first page."""
        (located,) = self.cluster.must(self.user.ask(Locate(path)))
        assert isinstance(located, Located), located
        return located

    def places(self) -> list[list[tuple[NodeMachine, Place, bytes]]]:
        """Of each chunk its shards: where they are, and their bytes."""
        found = []
        for path, data in self.contents.items():
            located = self.located(path)
            machines = {node.node: self.cluster.node_at(node.address) for node in located.nodes}
            redundancy = parse_redundancy(located.attributes.redundancy)
            for number, chunk in enumerate(located.chunks):
                at = number * self.cluster.chunk_bytes
                whole = data[at : at + chunk.length]
                shards = [whole] * redundancy.shards if redundancy.alike else split(whole, redundancy)
                found.append(
                    [(machines[p.node], (p.node, chunk.chunk, p.index), bytes(shards[p.index])) for p in chunk.places]
                )
        return found

    def turn(self, machine: NodeMachine, place: Place, data: bytes) -> None:
        """A bit of this shard, wherever the disk has it."""
        draw, disk = self.cluster.random, machine.disk
        at, bit = draw.randrange(len(data)), draw.randrange(8)
        for name in disk.listdir("segments"):
            path = f"segments/{name}"
            content = disk.read_bytes(path)
            start = content.find(data)
            while start >= 0:  # what was mended is there twice
                disk.flip_bit(path, start + at, bit)
                start = content.find(data, start + 1)
        self.turned[place] += 1

    def turn_some(self, share: float) -> None:
        """Of so many chunks one shard each."""
        for places in self.places():
            if len(places) > 1 and self.cluster.random.random() < share:
                self.turn(*self.cluster.random.choice(places))

    def wait_mended(self, seconds: float = FOUND_S) -> None:
        """Until all that has turned was declared, and is made anew: an order that is lost is repeated after 5, 10, 20 s."""
        self.cluster.run_until(lambda: self.turned <= self.declared, seconds)
        wait_whole(self.cluster, seconds=2 * seconds)

    def check(self) -> None:
        """Nothing was declared that was good, and nothing bad is left on the disks of the stopped cluster."""
        for machine in self.cluster.nodes:
            with contextlib.closing(open_store(self.cluster, machine)) as store:
                if left := store.damaged():
                    raise Wrong(f"{machine.name} still has {left}")
        if not self.declared <= self.turned:
            raise Wrong(f"what was mended was declared damaged: {self.declared - self.turned}")

    def read(self, user: User) -> None:
        """Everything; any wrong byte is noticed by the ledger."""
        self.cluster.must(*(user.get(path) for path in self.contents))


def bits_rot_everywhere(cluster: SimCluster) -> None:
    """On all disks, again and again, nobody reads, and nodes are started anew meanwhile: scrubbing finds everything."""
    cluster.supervise()
    cluster.wait_up()
    rot = Rot(cluster)
    rot.fill()
    for _ in range(3):
        rot.turn_some(0.6)
        for _ in range(2):
            cluster.run_for(cluster.random.random() * 2)
            cluster.random.choice(cluster.nodes).crash()
        rot.wait_mended()
    rot.read(cluster.user())
    settle(cluster)
    rot.check()


def rot_found_by_a_read(cluster: SimCluster) -> None:
    """All that a node holds has rotted. Readers get the right bytes from the others, and each damaged shard that a reader
    was refused is mended because of that."""
    cluster.wait_up()
    rot = Rot(cluster)
    rot.fill()
    bad = cluster.random.choice(cluster.nodes)
    for places in rot.places():
        for machine, place, data in places:
            if machine is bad:
                rot.turn(machine, place, data)
    met: Counter[Place] = Counter()

    def look(owner: Machine | User, sender: Peer, message: Message) -> None:
        if isinstance(owner, User) and isinstance(message, ShardData):
            refused = {(got.chunk, got.index) for got in message.shards if _is_corrupt(got)}
            met.update(place for place in rot.turned if place[1:] in refused and not met[place])

    cluster.on_message.append(look)
    for _ in range(4):
        rot.read(cluster.user())
    cluster.on_message.remove(look)
    if not met:
        raise Wrong("no reader came across the damage")
    cluster.run_until(lambda: met <= rot.declared, 5.0)
    wait_whole(cluster)
    rot.wait_mended(2 * FOUND_S)  # also what nobody has read
    settle(cluster)
    rot.check()


def _is_corrupt(got: Any) -> bool:
    return got.failure is not None and got.failure.code == Corrupt.code


def rot_with_only_two_nodes(cluster: SimCluster) -> None:
    """There is no other node to make anything anew on: it is mended where it was."""
    cluster.wait_up()
    rot = Rot(cluster)
    rot.fill()
    for _ in range(3):
        before = {place for places in rot.places() for _, place, _ in places}
        rot.turn_some(0.7)
        rot.wait_mended()
        after = {place for places in rot.places() for _, place, _ in places}
        if before != after:
            raise Wrong(f"places have changed: {before ^ after}")
    settle(cluster)
    rot.check()


def damage_told_twice_and_late(cluster: SimCluster) -> None:
    """Each message may come a second time, much later, and masters die: what was mended meanwhile is never hit."""
    cluster.supervise()
    cluster.wait_up()
    rot = Rot(cluster)
    rot.fill()
    # From here on: late probes make nodes suspect now and then, and of two that would leave too few for a put.
    cluster.world.faults = replace(cluster.world.faults, duplicate=0.3, loss=0.05, jitter_ns=300 * MS)
    for _ in range(4):
        rot.turn_some(0.4)
        cluster.run_for(cluster.random.random() * 3)
        cluster.random.choice([cluster.master, *cluster.nodes]).crash()
        rot.wait_mended(2 * FOUND_S)
    settle(cluster)
    rot.check()


def all_copies_rot(cluster: SimCluster) -> None:
    """Beyond the budget: of some chunks every copy is bad. Reading those is an error, and never anything else."""
    cluster.wait_up()
    cluster.ledger.excusable |= {"corrupt"}
    rot = Rot(cluster)
    rot.fill()
    chunks = rot.places()
    for places in chunks[:2]:  # of the first file
        for machine, place, data in places:
            rot.turn(machine, place, data)
    reader = cluster.user()
    for _ in range(3):
        results = cluster.wait(*(reader.get(path) for path in rot.contents))
        if not isinstance(results[0], DSAError) or any(isinstance(result, DSAError) for result in results[1:]):
            raise Wrong(f"one file is lost, and yet: {results}")
        cluster.run_for(2.0)
    cluster.ledger.check_now()


def _hurried(seed: int) -> Mapping[str, Any]:
    return {**varied(seed), "care": HURRIED}


def _two_nodes(seed: int) -> Mapping[str, Any]:
    return {**_hurried(seed), "nodes": 2}


def _two_or_four_nodes(seed: int) -> Mapping[str, Any]:
    """With two, what was mended is where it was: that is what a late word would hit."""
    return {**_hurried(seed), "nodes": 2 + 2 * (seed % 2)}


def _seldom(seed: int) -> Mapping[str, Any]:
    """The first round is over before there is anything; the next ones begin after the readers have read."""
    return {**varied(seed), "care": replace(HURRIED, scrub_every_s=25.0)}


EVERYWHERE = Scenario(bits_rot_everywhere, options=_hurried)
READ = Scenario(rot_found_by_a_read, options=_seldom)
TWO_NODES = Scenario(rot_with_only_two_nodes, options=_two_nodes)
TWICE = Scenario(damage_told_twice_and_late, options=_two_or_four_nodes)
BEYOND = Scenario(all_copies_rot, options=_hurried)

ROTTING = (EVERYWHERE, READ, TWO_NODES, TWICE, BEYOND)
