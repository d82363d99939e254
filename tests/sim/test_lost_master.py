"""What a restored cluster says, and does, about files that its catalog and its nodes do not agree on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from actors.sim.process import EPOCH_NS
from dsa_zmq.errors import DSAError
from dsa_zmq.protocol.operations import FilesAtRisk, Health
from dsa_zmq.sim.audit import open_store
from dsa_zmq.sim.campaign import small_pages
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.scenarios.lost_master import lose_master, restore, start_master, strict

SETTINGS = {**strict(2), "gc_grace_s": 0.2, "gc_interval_s": 0.1}


@pytest.fixture(name="cluster")
def _cluster() -> Iterator[SimCluster]:
    with small_pages():
        cluster = SimCluster(2, **SETTINGS)
        try:
            cluster.wait_up()
            yield cluster
        finally:
            cluster.close()


def shards_on(cluster: SimCluster) -> int:
    """On the disks of all nodes, none of which is running."""
    count = 0
    for node in cluster.nodes:
        store = open_store(cluster, node)
        count += len(store.list(None, 1000))
        store.close()
    return count


def test_files_whose_chunks_are_gone_are_listed_and_shards_of_later_ones_are_kept(cluster: SimCluster) -> None:
    user: Any = cluster.user()
    cluster.must(*(user.put(path, cluster.ledger.new_content(9000, 8500)) for path in ("/kept", "/gone")))
    cluster.run_for(1.0)
    moment_ns = EPOCH_NS + cluster.world.now_ns
    cluster.run_for(0.5)
    cluster.must(user.rm("/gone"))
    cluster.run_for(5.0)  # its grace is over: there is no history here that would keep it
    cluster.must(user.put("/later", cluster.ledger.new_content(9000, 8500)))
    lose_master(cluster)
    restore(cluster, at_ns=moment_ns)
    start_master(cluster)
    cluster.wait_up()
    cluster.run_for(20.0)
    (report,) = cluster.must(user.ask(Health()))
    assert report.lost_chunks == 3
    (risky,) = cluster.must(user.ask(FilesAtRisk("lost")))
    assert [file.path for file in risky.files] == ["/gone"]
    cluster.ledger.excusable |= {"corrupt"}
    gone, later, kept = cluster.wait(user.get("/gone"), user.get("/later"), user.get("/kept"))
    assert isinstance(gone, DSAError)
    assert later.code == "not-found"
    assert not isinstance(kept, DSAError)
    cluster.stop_supervising()
    cluster.power_loss()
    assert shards_on(cluster) == 2 * (3 + 3), "those of what came later wait for somebody to miss them"
