"""Real servers: a node comes new and gets its share, the first one is emptied and switched off, and everything is there."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

import dsa_zmq
import dsa_zmq.aio
from dsa_zmq.errors import NotFound, Timeout

pytestmark = [pytest.mark.process, pytest.mark.slow]

PATIENCE_S = 60.0


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_a_node_is_added_and_the_first_one_is_switched_off(tmp_path: Path, processes: bool) -> None:
    rng = random.Random(7)
    files = {f"/d/{number}": rng.randbytes(200_000 + number) for number in range(60)}
    with dsa_zmq.LocalCluster(nodes=3, directory=tmp_path, processes=processes) as cluster:
        store = cluster.connect()
        for path, data in files.items():
            store.write_bytes(path, data)
    with dsa_zmq.LocalCluster(nodes=4, directory=tmp_path, processes=processes) as cluster:
        store = cluster.connect()
        plan = store.admin.plan_rebalance()
        assert plan.moves > 15
        assert plan.apply().wait(PATIENCE_S).state == "done"
        held = {node.name: node.shards for node in store.nodes()}
        assert held["node-4"] > 15
        drained = store.admin.plan_drain("node-1").apply().wait(PATIENCE_S)
        assert (drained.state, drained.note) == ("done", "may be switched off")
        cluster.kill(0)
        assert {path: store.read_bytes(path) for path in files} == files
        report = store.health()
        assert report.healthy_chunks == len(files)


def test_a_node_is_emptied_and_used_again_with_asyncio(tmp_path: Path) -> None:
    rng = random.Random(8)
    files = {f"/d/{number}": rng.randbytes(20_000 + number) for number in range(20)}

    async def look_after(url: str) -> None:
        async with await dsa_zmq.aio.connect(url) as store:
            for path, data in files.items():
                await store.write_bytes(path, data)
            with pytest.raises(NotFound):
                await store.admin.plan_drain("node-9")
            plan = await store.admin.plan_drain("node-1")
            assert (plan.kind, plan.subject, plan.refusal) == ("drain", "node-1", None)
            assert plan.moves > 0
            assert "node-1" in str(plan)
            task = await plan.apply()
            seen: list[str] = []
            ended = await task.wait(PATIENCE_S, lambda info: seen.append(info.state))
            assert (ended.state, ended.note, seen[-1]) == ("done", "may be switched off", "done")
            assert (await task.progress()).state == "done"
            assert [each.plan.subject for each in await store.admin.tasks()] == ["node-1"]
            assert {node.name: node.draining for node in await store.admin.nodes()}["node-1"]
            await task.cancel()
            assert not any(node.draining for node in await store.admin.nodes())
            assert (await store.admin.set_redundancy("/d", "copies=3")).redundancy == "copies=3"
            assert (await store.admin.plan_convert("/d")).moves > 0
            assert (await store.admin.health()).lost_chunks == 0
            assert {path: await store.read_bytes(path) for path in files} == files

    with dsa_zmq.LocalCluster(nodes=3, directory=tmp_path) as cluster:
        asyncio.run(asyncio.wait_for(look_after(cluster.url), 2 * PATIENCE_S))


def test_a_wait_that_is_cancelled_or_late_leaves_the_task_alone(tmp_path: Path) -> None:
    async def look_after(cluster: dsa_zmq.LocalCluster) -> None:
        async with await dsa_zmq.aio.connect(cluster.url) as store:
            for number in range(20):
                await store.write_bytes(f"/{number}", random.Random(number).randbytes(5_000))
            plan = await store.admin.plan_drain("node-1")
            cluster.partition(["node-1"], ["node-2"], ["node-3"])  # nothing can be copied, so it cannot end
            task = await plan.apply()
            with pytest.raises(Timeout):
                await task.wait(0.3)
            waiting = asyncio.create_task(task.wait())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert [each.info.state for each in await store.admin.tasks()] == ["running"]
            await task.cancel()
            assert (await task.wait(PATIENCE_S)).state == "cancelled"

    with dsa_zmq.LocalCluster(nodes=3, directory=tmp_path) as cluster:
        asyncio.run(asyncio.wait_for(look_after(cluster), PATIENCE_S))
