"""Whole clusters, with the shipped disk store and SQL: every promise holds, whatever happens to machines and messages.

A failure says how to see it again: ``pytest tests/sim -k NAME --first-seed N --seeds 1``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dsa_zmq.sim.campaign import NotDeterministic, Scenario, ScenarioFailed, run_once, run_seeds
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.scenarios import SCENARIOS
from dsa_zmq.sim.scenarios.counted import BATCHES, COMMIT, small_workload
from dsa_zmq.sim.scenarios.storm import STORM

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(3600)  # a long campaign is one test
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_promises_hold(scenario: Scenario, seeds: range) -> None:
    report = run_seeds(scenario, seeds)
    assert sorted(report.hashes) == list(seeds)
    assert report.operations >= len(seeds)


@pytest.mark.slow
def test_the_hash_seed_of_the_interpreter_is_not_an_input() -> None:
    program = (
        "import sys; from dsa_zmq.sim.campaign import run_once; from dsa_zmq.sim.scenarios.storm import STORM; "
        "sys.stdout.write(run_once(STORM, 3).world.trace_hash())"
    )
    hashes = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", program]
        hashes.add(subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout)
    assert hashes == {run_once(STORM, 3).world.trace_hash()}


def test_seeds_have_histories_of_their_own() -> None:
    assert len({run_once(COMMIT, seed).world.trace_hash() for seed in range(3)}) == 3


def test_counted_batches_cover_the_whole_workload() -> None:
    cluster = SimCluster(0)
    cluster.wait_up()
    before = cluster.master.batches
    small_workload(cluster, cluster.user(), patience_s=10.0)
    made = cluster.master.batches - before
    cluster.close()
    assert BATCHES * 2 // 3 <= made <= BATCHES


def test_one_client_may_read_a_file_twice_at_the_same_time() -> None:
    cluster = SimCluster(0)
    cluster.wait_up()
    user = cluster.user()
    cluster.must(user.put("/file", cluster.ledger.new_content(9000, 8500)))
    began_ns = cluster.world.now_ns
    cluster.must(*(user.get("/file") for _ in range(5)))
    assert cluster.world.now_ns - began_ns < 100_000_000
    cluster.close()


def breaks_now_and_then(cluster: SimCluster) -> None:
    """Fails for some seeds, about a file."""
    cluster.wait_up()
    user = cluster.user()
    cluster.must(user.put("/file", cluster.ledger.new_content(9000)))
    assert cluster.seed != 5, "the content of '/file' is gone"


def test_a_failure_names_the_seed_the_story_and_the_way_to_see_it_again() -> None:
    with pytest.raises(ScenarioFailed) as caught:
        run_seeds(Scenario(breaks_now_and_then), range(4, 8))
    text = str(caught.value)
    assert caught.value.seed == 5
    assert "replay: pytest tests/sim -k breaks_now_and_then --first-seed 5 --seeds 1" in text
    assert "the story of /file" in text
    assert "Put(path='/file'" in text
    assert "the last events:" in text


def test_a_scenario_with_a_hidden_input_is_noticed() -> None:
    runs = []

    def looks_outside(cluster: SimCluster) -> None:
        runs.append(cluster)
        cluster.run_for(0.1 * len(runs))

    with pytest.raises(NotDeterministic, match="seed 1 has two histories"):
        run_seeds(Scenario(looks_outside), range(4), recheck_every=2)
