"""Processes that stand still, and links that carry one way only: users go on, within their time-outs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actors.sim.faults import MS
from dsa_zmq.sim.campaign import Scenario, varied
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.machines import Machine
from dsa_zmq.sim.users import User
from dsa_zmq.sim.verdict import settle

FILES = 4
MAX_BYTES = 26_000
NODE_PAUSE_S = 5.0  #: longer than a client waits for a node, and than the master waits before it calls it down
MASTER_PAUSE_S = 1.5  #: shorter than a client waits for its master


def _files(cluster: SimCluster, user: User) -> list[str]:
    """A few files that are there."""
    paths = [f"/old/{number}" for number in range(FILES)]
    cluster.must(*(user.put(path, cluster.ledger.new_content(MAX_BYTES)) for path in paths))
    return paths


def _work(cluster: SimCluster, user: User, paths: list[str]) -> None:
    """Puts, overwrites and gets side by side. All must succeed."""
    new = cluster.ledger.new_content
    replies = [user.put(f"/new/{number}", new(MAX_BYTES)) for number in range(FILES)]
    replies += [user.get(path) for path in paths]
    replies.append(user.put(paths[0], new(MAX_BYTES)))
    cluster.must(*replies)
    cluster.must(*(user.get(f"/new/{number}") for number in range(FILES)))


def node_stands_still(cluster: SimCluster) -> None:
    """A node is stopped by a signal while shards are under way to it and from it; it wakes up much later."""
    cluster.wait_up()
    user = cluster.user()
    paths = _files(cluster, user)
    node = cluster.random.choice(cluster.nodes)
    cluster.world.after(cluster.random.randrange(8 * MS), node.pause)
    cluster.world.after(int(NODE_PAUSE_S * 1e9), node.resume)
    _work(cluster, user, paths)
    cluster.run_for(NODE_PAUSE_S)
    _work(cluster, user, paths)
    settle(cluster)


def master_stands_still(cluster: SimCluster) -> None:
    """The master is stopped for a while, and finds on waking that it has heard of nobody; nothing fails."""
    cluster.wait_up()
    user = cluster.user()
    paths = _files(cluster, user)
    cluster.world.after(cluster.random.randrange(12 * MS), cluster.master.pause)
    cluster.world.after(int(MASTER_PAUSE_S * 1e9), cluster.master.resume)
    _work(cluster, user, paths)
    _work(cluster, user, paths)
    settle(cluster)


def link_carries_one_way_only(cluster: SimCluster) -> None:
    """A node hears a client and is not heard by it (or the other way round), from some moment of its work on."""
    cluster.wait_up()
    user = cluster.user()
    paths = _files(cluster, user)
    ends: list[list[Machine | User]] = [[cluster.random.choice(cluster.nodes)], [user]]
    if cluster.random.random() < 0.3:
        ends.reverse()
    cluster.world.after(cluster.random.randrange(8 * MS), lambda: cluster.partition(*ends, one_way=True))
    _work(cluster, user, paths)
    _work(cluster, user, paths)
    settle(cluster)


def patient(seed: int) -> Mapping[str, Any]:
    """What nobody holds stays for longer than a read may be held up, as in life."""
    return {**varied(seed), "gc_grace_s": 6.0}


NODE = Scenario(node_stands_still, options=patient)
MASTER = Scenario(master_stands_still, options=patient)
LINK = Scenario(link_carries_one_way_only, options=patient)
