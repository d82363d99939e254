"""A run of a plan: safety while it is carried out, then everything heals, and liveness has to follow."""

from __future__ import annotations

import random

from dsa_zmq.sim.campaign import Scenario
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.plan import Plan, draw_plan
from dsa_zmq.sim.scenarios.everything import MAX_BYTES, come_to_rest, free_space
from dsa_zmq.sim.scenarios.trouble import KINDS, Trouble
from dsa_zmq.sim.workload import DIRECTORIES, Steps


def planned(plan: Plan) -> Scenario:
    """What happens by this plan. Its seed is the plan's."""

    def random_cluster(cluster: SimCluster) -> None:
        cluster.supervise()
        cluster.wait_up()
        room = free_space(cluster)
        cluster.wait(cluster.user("founder").mkdir(DIRECTORIES[0], redundancy=plan.redundancies[1]))
        trouble = Trouble(
            cluster,
            lambda: [Steps(cluster, steps, max_bytes=MAX_BYTES) for steps in plan.workers],
            redundancies=plan.redundancies[2:],
            losses=plan.losses,
        )
        for one in plan.rounds:
            if one.weather:
                trouble.weather(one.weather)
            for blow in one.blows:
                cluster.run_for(blow.after_ms / 1000)
                cluster.random = random.Random(blow.seed)
                KINDS[blow.kind](trouble)
            cluster.run_for(cluster.random.random())
            trouble.is_over()
        come_to_rest(cluster, trouble, room)

    return Scenario(random_cluster, options=plan.options, again=f"replay: python -m dsa_zmq.sim --seed {plan.seed}")


def of_seed(seed: int) -> Scenario:
    """The random run of this seed."""
    return planned(draw_plan(seed))
