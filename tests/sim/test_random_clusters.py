"""Random runs by plans: they keep every promise, notice what is wrong, and fail with less and less in them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace as changed

from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.node.disk_store import DiskStore
from dsa_zmq.sim.__main__ import main
from dsa_zmq.sim.campaign import ScenarioFailed, is_red, run_once, run_seeds
from dsa_zmq.sim.front import Front, smaller, written
from dsa_zmq.sim.plan import Blow, Plan, Round, draw_plan, lesser
from dsa_zmq.sim.planting import Planting, planted
from dsa_zmq.sim.scenarios.planned import of_seed
from dsa_zmq.sim.scenarios.planned import planned as by_plan
from dsa_zmq.sim.scenarios.trouble import KINDS

ROOT = Path(__file__).parents[2]
SLICE = 6  #: seeds here; the campaign proper is ``python -m dsa_zmq.sim``


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_random_clusters_keep_every_promise(seeds: range) -> None:
    for seed in seeds[:SLICE]:
        run_once(of_seed(seed), seed)


@pytest.mark.slow
def test_a_plan_has_one_history() -> None:
    plan = small_plan()
    hashes = {run_once(by_plan(each), plan.seed).world.trace_hash() for each in (plan, read_again(plan))}
    assert len(hashes) == 1
    assert run_seeds(by_plan(plan), [plan.seed]).hashes == {plan.seed: hashes.pop()}


def small_plan(seed: int = 3) -> Plan:
    """Of three nodes; little work, and little goes wrong."""
    blows = Blow("someone_dies", 5, 100), Blow("begin_task", 6, 50)
    plan = next(plan for plan in map(draw_plan, range(seed, 1000)) if len(plan.nodes) == 3)
    return changed(plan, workers=(tuple(range(12)), tuple(range(6))), rounds=(Round(0, blows),))


def read_again(plan: Plan) -> Plan:
    return msgspec.json.decode(written(plan), type=Plan)


# --- plans --------------------------------------------------------------------------------------------------------------


def test_a_seed_has_one_plan_and_another_seed_another() -> None:
    assert draw_plan(7) == draw_plan(7) == read_again(draw_plan(7))
    assert len({written(draw_plan(seed)) for seed in range(50)}) == 50


def test_a_plan_can_be_carried_out_within_its_budget() -> None:
    for seed in range(200):
        plan = draw_plan(seed)
        assert 3 <= len(plan.nodes) <= 12
        assert plan.losses >= 1
        assert all(parse_redundancy(each).shards < len(plan.nodes) for each in plan.redundancies)
        assert all(blow.kind in KINDS for one in plan.rounds for blow in one.blows)


def test_plans_have_all_kinds_of_everything() -> None:
    plans = [draw_plan(seed) for seed in range(100)]
    assert {blow.kind for plan in plans for one in plan.rounds for blow in one.blows} == set(KINDS)
    assert {len(plan.nodes) for plan in plans} == set(range(3, 13))
    assert {plan.losses for plan in plans} == {1, 2}


def test_what_is_less_is_less_and_can_still_be_carried_out() -> None:
    for seed in range(20):
        plan = draw_plan(seed)
        for less in lesser(plan):
            assert less != plan
            assert less.size <= plan.size
            assert all(parse_redundancy(each).shards < len(less.nodes) for each in less.redundancies)


def test_a_failure_is_made_as_small_as_it_can_be() -> None:
    plan = changed(
        draw_plan(4), rounds=tuple(Round(9, (Blow("someone_dies", n, 1), Blow("bits_rot", n, 1))) for n in range(3))
    )

    def fails(less: Plan) -> bool:
        blows = [blow for one in less.rounds for blow in one.blows]
        return any(blow.kind == "bits_rot" and blow.seed == 1 for blow in blows) and any(
            5 in each for each in less.workers
        )

    *_, least = smaller(plan, fails, 1000)
    assert least.rounds == (Round(0, (Blow("bits_rot", 1, 1),)),)
    assert least.workers == ((5,),)
    assert not [*smaller(plan, fails, 0)]
    sizes = [less.size for less in smaller(plan, fails, 8)]
    assert plan.size > sizes[0] >= sizes[-1] > least.size


# --- the front door -------------------------------------------------------------------------------------------------------


def drops_are_only_promised(plant: Planting) -> None:
    plant.instead_of(DiskStore, "drop")(lambda shipped, self, keys: list(keys))


@pytest.mark.slow
def test_a_bug_is_found_and_told_with_less_and_the_story_fails_again() -> None:
    front = Front(tries=8, most_failures=1)
    with planted(drops_are_only_promised) as planting:
        (failure,) = front.run([3], small_plan()).failures
        planting.check_itself()
        planting.check_ran()
        assert failure.error == "Wrong"
        assert failure.smallest is not None
        assert failure.smallest.size < small_plan().size
        assert written(failure.smallest) in failure.text
        with pytest.raises(ScenarioFailed, match=r"was to be dropped|wanted by nobody"):
            run_once(by_plan(failure.smallest), failure.seed)
    assert not is_red(by_plan(failure.smallest), failure.seed)


@pytest.mark.slow
def test_the_front_door_says_what_came_of_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "plan").write_text(written(small_plan()))
    assert main(["--plan", str(tmp_path / "plan"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["runs"] == 1
    assert told["failures"] == []
    assert told["operations"] > 18
    assert not told["interrupted"]


@pytest.mark.slow
def test_a_failure_is_exit_status_1_and_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "plan").write_text(written(small_plan()))
    with planted(drops_are_only_promised):
        assert main(["--plan", str(tmp_path / "plan"), "--json", "--shrink", "0"]) == 1
    out, err = capsys.readouterr()
    (failure,) = json.loads(out)["failures"]
    assert failure["seed"] == small_plan().seed
    assert msgspec.convert(failure["plan"], Plan) == small_plan()
    assert failure["text"] in err


@pytest.mark.slow
def test_one_run_can_be_traced(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "plan").write_text(written(small_plan()))
    assert main(["--plan", str(tmp_path / "plan"), "--trace"]) == 0
    out = capsys.readouterr().out
    assert "#0 " in out
    assert run_once(by_plan(small_plan()), small_plan().seed).world.trace_hash() in out


@pytest.mark.slow
def test_a_scenario_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--scenario", "users_work_while_processes_die", "--seeds", "2"]) == 0
    assert capsys.readouterr().out.startswith("2 runs, ")


@pytest.mark.parametrize("line", [["--trace"], ["--scenario", "no such thing"], ["--seeds", "some"]])
def test_what_makes_no_sense_is_a_usage_error(line: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(line)
    assert caught.value.code == 2


def test_no_run_begins_when_the_time_is_over(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--hours", "0"]) == 0
    assert capsys.readouterr().out.startswith("0 runs, ")


@pytest.mark.slow
@pytest.mark.process
def test_ctrl_c_ends_a_campaign_with_what_was_found() -> None:
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "dsa_zmq.sim", "--hours", "1", "--json"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("seed 0, 1 runs, ")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    told = json.loads(out)
    assert told["interrupted"]
    assert told["runs"] >= 1
