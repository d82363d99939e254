"""Bad days: everything fails a little, all the time, while several users work on the same few files."""

from __future__ import annotations

import random

from actors.sim.faults import SECOND
from dsa_zmq.sim.campaign import Scenario
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.machines import Machine
from dsa_zmq.sim.users import User
from dsa_zmq.sim.verdict import settle
from dsa_zmq.sim.workload import Worker

MAX_BYTES = 26_000  #: of a file: up to seven chunks, on two manifest pages
GAP_S = 0.12  #: between two blows, at most
PATIENCE_S = 90.0  #: virtual, for what is left of the work once the weather is good
PARTLY = 12  #: changing calls to its disk after which a start is killed, at most


def users_work_while_processes_die(cluster: SimCluster) -> None:
    """Messages are lost, doubled and late; nodes, clients and the master die, stand still, lose power, are cut off."""
    draw = cluster.random
    cluster.supervise()
    cluster.wait_up()
    workers = [Worker(cluster, 20, max_bytes=MAX_BYTES) for _ in range(3)]
    for _ in range(25):
        cluster.run_for(draw.random() * GAP_S)
        _blow(cluster, draw, workers)
    cluster.heal()
    cluster.run_until(lambda: not any(worker.left for worker in workers), PATIENCE_S)
    settle(cluster)


def _blow(cluster: SimCluster, draw: random.Random, workers: list[Worker]) -> None:
    """One thing goes wrong, or gets better."""
    machine = draw.choice([cluster.master, *cluster.nodes])
    match draw.randrange(8):
        case 0 | 1:
            machine.crash()
        case 2:
            machine.power_loss()
        case 3:
            _pause(cluster, machine, draw.randrange(SECOND))
        case 4:
            others: list[Machine | User] = [*(worker.user for worker in workers), cluster.master]
            cluster.partition([draw.choice(cluster.nodes)], [draw.choice(others)], one_way=draw.random() < 0.5)
        case 5:
            cluster.world.heal()
        case 6:
            draw.choice(workers).crash()
        case _:
            cluster.world.clock_jump(machine.process_name, draw.randrange(-SECOND, SECOND))


def _pause(cluster: SimCluster, machine: Machine, duration_ns: int) -> None:
    if machine.alive:
        machine.pause()
        cluster.world.after(duration_ns, machine.resume)


def all_lose_power_again_and_again(cluster: SimCluster) -> None:
    """Every machine at once loses what was not synced, at any instant; some lose it once more while they start."""
    draw = cluster.random
    cluster.wait_up()
    workers = [Worker(cluster, 16, max_bytes=MAX_BYTES) for _ in range(3)]
    for _ in range(4):
        cluster.run_for(0.02 + draw.random() * 0.5)
        cluster.power_loss()
        for machine in cluster.machines:
            for _ in range(draw.choice((0, 0, 1, 2))):
                machine.start_and_die(draw.randrange(PARTLY), power_loss=draw.random() < 0.5)
            machine.start()
    cluster.supervise()
    cluster.run_until(lambda: not any(worker.left for worker in workers), PATIENCE_S)
    settle(cluster)


STORM = Scenario(users_work_while_processes_die, rough=True)
POWER = Scenario(all_lose_power_again_and_again)
