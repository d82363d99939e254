"""Writes that may be degraded: with fewer shards than their redundancy has, but never with so few that the next loss is the
last.

There are as many nodes as shards, so that whatever is away is missing. ``SHAPES`` are tried in turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dsa_zmq.client.target import missing_shards
from dsa_zmq.errors import DSAError
from dsa_zmq.model.redundancy import fewest, parse_redundancy
from dsa_zmq.sim.campaign import Scenario, varied
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.ledger import Wrong
from dsa_zmq.sim.scenarios.repair import MAX_BYTES, wait_away, wait_whole
from dsa_zmq.sim.users import Reply
from dsa_zmq.sim.verdict import settle

SHAPES = ("ec=4+2", "ec=2+2", "copies=3", "ec=2+3")
PUTS = 4  #: in each state of the cluster


def fewer_shards_will_do(cluster: SimCluster) -> None:
    """Nodes die in the middle of puts until as few are left as will do, and then one more. What was acknowledged survives
    that a node is lost for good, before anything was made anew; all is whole when there are nodes again."""
    redundancy = parse_redundancy(cluster.master_settings.default_redundancy)
    cluster.wait_up()
    away = cluster.random.sample(cluster.nodes, redundancy.shards - fewest(redundancy, True))
    last, lost = cluster.random.sample([node for node in cluster.nodes if node not in away], 2)
    begun = _put_some(cluster, "/a")
    for node in away:
        cluster.run_for(cluster.random.random() * 0.05)
        node.kept = False
        cluster.random.choice((node.crash, node.power_loss))()
    cluster.must(*begun)
    wait_away(cluster)
    _expect_refused(cluster)
    stored = cluster.must(*_put_some(cluster, "/b", min_bytes=cluster.chunk_bytes))
    if not all(map(missing_shards, stored)):
        raise Wrong(f"nobody was told that shards are missing: {stored}")
    begun = _put_some(cluster, "/c")
    cluster.run_for(cluster.random.random() * 0.05)
    last.kept = False
    cluster.random.choice((last.crash, last.power_loss))()
    wait_away(cluster)
    cluster.wait(*begun, *_put_some(cluster, "/d"))
    lost.crash()
    lost.swap_disk(lost.new_disk())
    for node in cluster.random.sample([*away, last, lost], len(away) + 2):
        node.kept = True
        node.start()
    cluster.wait_up()
    wait_whole(cluster, seconds=90.0)
    settle(cluster)


def _put_some(cluster: SimCluster, directory: str, min_bytes: int = 1) -> list[Reply]:
    """Whoever puts one of them has said that fewer shards will do. What is smaller than a chunk may be kept otherwise."""
    puts = range(PUTS)
    contents = [cluster.ledger.new_content(MAX_BYTES, min_bytes) for _ in puts]
    return [cluster.user().put(f"{directory}/{put}", contents[put], degraded=True) for put in puts]


def _expect_refused(cluster: SimCluster) -> None:
    """Whoever has not said so is refused."""
    (refused,) = cluster.wait(cluster.user().put("/whole", cluster.ledger.new_content(MAX_BYTES, cluster.chunk_bytes)))
    if not isinstance(refused, DSAError) or refused.code != "too-few-nodes" or "--degraded" not in refused.remedy:
        raise Wrong(f"with too few nodes, this was the answer to a put: {refused!r}")


def _shaped(seed: int) -> Mapping[str, Any]:
    redundancy = parse_redundancy(SHAPES[seed % len(SHAPES)])
    return {**varied(seed), "redundancy": redundancy.name, "nodes": redundancy.shards}


DEGRADED = Scenario(fewer_shards_will_do, options=_shaped)
