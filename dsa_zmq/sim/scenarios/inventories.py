"""What nodes hold and what the catalog says drift apart, and are brought together again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from actors.core import Job, Message, Peer
from actors.sim.faults import MS, NO_FAULTS, SECOND
from dsa_zmq.master.catalog.examine_rules import Adopt, Declare
from dsa_zmq.master.catalog.inventory_rules import JudgeInventory
from dsa_zmq.model.limits import GRANT_S
from dsa_zmq.model.pace import HealingPace
from dsa_zmq.protocol.messages import PutDone
from dsa_zmq.sim.campaign import Scenario, varied
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.ledger import Wrong
from dsa_zmq.sim.machines import Machine
from dsa_zmq.sim.scenarios.repair import fill, wait_away, wait_whole
from dsa_zmq.sim.users import User
from dsa_zmq.sim.verdict import settle
from dsa_zmq.sim.workload import Worker

MAX_BYTES = 26_000
FILES = 6
UPLOADS = 6
ROUNDS = 5
SHIFTS = 20  #: of the workers: in most of the first ones a listing differs already


class Seen:
    """How many shards the catalog learnt something about, because of questions and inventories."""

    def __init__(self, cluster: SimCluster) -> None:
        self.judged = 0  #: slices
        self.declared = 0
        self.adopted = 0
        cluster.on_batch.append(self._look)

    def _look(self, machine: Machine, lane: str, jobs: Sequence[Job], results: Sequence[Any]) -> None:
        for job, result in zip(jobs, results, strict=True):
            match job, result:
                case Declare(), list():
                    self.declared += len(result)
                case Adopt(), list():
                    self.adopted += len(result)
                case JudgeInventory(), _:
                    self.judged += 1


def deleted_while_away(cluster: SimCluster) -> None:
    """Files are removed and overwritten while a node is dead, or cut off: back again, it drops what is wanted no more, and
    nothing else."""
    cluster.wait_up()
    user = cluster.user()
    new = cluster.ledger.new_content
    cluster.must(*(user.put(f"/f{number}", new(MAX_BYTES)) for number in range(FILES)))
    node = cluster.random.choice(cluster.nodes)
    others: list[Machine | User] = [cluster.master, user, *(other for other in cluster.nodes if other is not node)]
    dead = cluster.random.random() < 0.5
    if dead:
        node.crash()
    else:
        cluster.partition([node], others)
    cluster.run_for(2 * cluster.master_settings.down_s)
    cluster.must(*(user.rm(f"/f{number}") for number in range(2)))
    cluster.must(*(user.put(f"/f{number}", new(MAX_BYTES)) for number in range(2, 4)))
    cluster.run_for(cluster.master_settings.gc_grace_s + 1.0)
    if dead:
        node.start()
    cluster.heal()
    expect_no_orphans(cluster)


def orphans_of_given_up_uploads(cluster: SimCluster) -> None:
    """Clients die in the middle of their uploads, here and there after a page is staged. What they left on the nodes goes
    once no such upload can be alive any more, whether the nodes start again or not."""
    cluster.wait_up()
    for number in range(UPLOADS):
        _put_and_die(cluster, number)
    keeper = cluster.user()
    cluster.must(keeper.put("/kept", cluster.ledger.new_content(MAX_BYTES)))
    _let_the_horizon_pass(cluster)
    expect_no_orphans(cluster)


def _let_the_horizon_pass(cluster: SimCluster) -> None:
    """No upload of before now is alive after it; and inventories were compared since."""
    cluster.run_for(cluster.master_settings.upload_lease_s + GRANT_S + 60.0)
    if cluster.random.random() < 0.5:
        for node in cluster.nodes:
            node.crash()
            node.start()
        cluster.run_for(60.0)
    else:
        cluster.run_for(2 * GRANT_S)  # a difference that stays is looked at less and less often


def _put_and_die(cluster: SimCluster, number: int) -> None:
    """An upload of several pages, whose client dies after some acknowledgements."""
    user = cluster.user(f"dying{number}")
    chunk = cluster.chunk_bytes
    count = cluster.random.randint(1, 20)
    heard = 0

    def look(owner: Machine | User, sender: Peer, message: Message) -> None:
        nonlocal heard
        if owner is user and isinstance(message, PutDone):
            heard += 1
            if heard == count:
                cluster.soon(user.crash)

    cluster.on_message.append(look)
    reply = user.put(f"/given-up/{number}", cluster.ledger.new_content(12 * chunk, 11 * chunk + 1))
    cluster.run_until(lambda: reply.done or not user.alive, 60)
    cluster.on_message.remove(look)


def listing_older_than_a_put(cluster: SimCluster) -> None:
    """Inventories are compared all the time while users work, and now and then a listing is late: what was put and committed
    meanwhile is not in it. Nothing is said to be missing, nothing is adopted that was removed."""
    cluster.world.faults = replace(NO_FAULTS, jitter_ns=5 * MS, spike=0.1, spike_ns=300 * MS)
    cluster.wait_up()
    seen = Seen(cluster)
    for _ in range(SHIFTS):
        workers = [Worker(cluster, 20, max_bytes=MAX_BYTES) for _ in range(3)]
        cluster.run_until(lambda workers=workers: not any(worker.left for worker in workers), 120)  # type: ignore[misc]
        if seen.judged:
            break
    else:
        raise Wrong("no listing differed: this shows nothing")
    if seen.declared or seen.adopted:
        raise Wrong(f"nothing was missing, and yet {seen.declared} places went and {seen.adopted} came")
    settle(cluster)


def swapped_for_an_older_copy(cluster: SimCluster) -> None:
    """A node's disk is replaced by a snapshot of itself from while its process ran: no counter tells. What it lacks is found
    missing and made anew; what was removed since is dropped again, once it cannot be of an upload under way."""
    cluster.wait_up()
    user = cluster.user()
    new = cluster.ledger.new_content
    cluster.must(*(user.put(f"/f{number}", new(MAX_BYTES)) for number in range(FILES)))
    node = cluster.random.choice(cluster.nodes)
    older = node.disk.snapshot()
    cluster.must(user.rm("/f0"), *(user.put(f"/f{number}", new(MAX_BYTES, MAX_BYTES - 1)) for number in (1, 2)))
    cluster.run_for(cluster.master_settings.gc_grace_s + 30.0)
    node.crash()
    node.swap_disk(older)
    seen = Seen(cluster)
    node.start()
    cluster.wait_up()
    cluster.run_for(60.0)
    if not seen.declared:
        raise Wrong("the copy lacks what was put later, and nobody noticed")
    cluster.must(*(user.get(f"/f{number}") for number in range(1, FILES)))
    _let_the_horizon_pass(cluster)
    expect_no_orphans(cluster)


def late_doubles_hit_nothing(cluster: SimCluster) -> None:
    """A node dies for a while, again and again, so that its shards are made anew elsewhere, let go, and come back to nodes
    that had them; each message arrives a second time, up to 20 s late. None of them takes away what is there again."""
    cluster.wait_up()
    user = fill(cluster)
    cluster.world.faults = replace(NO_FAULTS, duplicate=1.0, spike_ns=20 * SECOND)
    seen = Seen(cluster)
    node = cluster.random.choice(cluster.nodes)
    for _ in range(ROUNDS):
        node.kept = False
        node.crash()
        wait_away(cluster)
        wait_whole(cluster, down=[node])
        node.kept = True
        node.start()
        cluster.wait_up()
        cluster.run_for(3.0)
        cluster.must(*(user.get(f"/f{number}") for number in range(FILES)))
    _let_comparisons_pass(cluster)
    if seen.declared:
        raise Wrong(f"{seen.declared} shards were taken away from under their places")
    expect_no_orphans(cluster)


def _let_comparisons_pass(cluster: SimCluster) -> None:
    """Each node is compared once more, after the last doubled message."""
    cluster.run_for(20.0)
    for node in cluster.nodes:
        node.crash()
        node.start()
    cluster.wait_up()
    cluster.run_for(5.0)


def expect_no_orphans(cluster: SimCluster) -> None:
    """As :func:`settle`; no node holds anything that the catalog does not name, excused or not."""
    found = settle(cluster)
    if found.orphans:
        raise Wrong(f"{found.orphans} shards on nodes are wanted by nobody")


def comparing(seed: int) -> Mapping[str, Any]:
    """Inventories are compared with each tick."""
    return {**varied(seed), "pace": HealingPace(compare_s=0.05)}


def slowly(seed: int) -> Mapping[str, Any]:
    """For scenarios of an hour."""
    times = {"heartbeat_s": 2.0, "suspect_s": 6.0, "down_s": 12.0, "gc_interval_s": 10.0}
    return {**varied(seed), **times, "pace": HealingPace(differ_s=20.0)}


INVENTORIES = (
    Scenario(deleted_while_away),
    Scenario(orphans_of_given_up_uploads, options=slowly),
    Scenario(listing_older_than_a_put, options=comparing),
    Scenario(swapped_for_an_older_copy, options=slowly),
    Scenario(late_doubles_hit_nothing),
)
