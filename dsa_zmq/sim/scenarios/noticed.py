"""Nodes that are stopped, hang, or are cut off in one direction, and a master that was away itself: who is trusted, who is
not, and since when. Users go on all the while."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from actors.core import Address
from actors.sim.faults import SECOND
from dsa_zmq.master.settings import LEAST_SETTLE_NS
from dsa_zmq.protocol.operations import Done, Health, HealthReport, ListNodes, Nodes, Report
from dsa_zmq.protocol.values import NodeInfo
from dsa_zmq.sim.campaign import Scenario
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.ledger import Wrong
from dsa_zmq.sim.machines import Machine, NodeMachine
from dsa_zmq.sim.scenarios.stalled import MAX_BYTES, patient
from dsa_zmq.sim.users import User
from dsa_zmq.sim.verdict import settle

FILES = 4
LOOK_S = 0.05  #: how often states are looked at
SLACK_S = 0.5  #: ticks, and the asking itself
PROBING_S = (
    2.0  #: until nobody's failing to reach a node is known: a round begins, and a prober waits twice half a second
)
DEAF_S = LEAST_SETTLE_NS / SECOND + 5.0  #: until it is known that a node does not hear the master
WORST_READ_S = 0.5  #: a read during the death of a node; hedged after 0.2 s here

DEATH_WRITE_S = 0.3  #: a write during the death of a process: far below any time-out, since its connections end with it

WORSE = ("up", "suspect", "down")


def nodes_of(cluster: SimCluster, user: User) -> dict[str, NodeInfo]:
    """The nodes as the master shows them, by name."""
    (shown,) = cluster.must(user.ask(ListNodes()))
    assert isinstance(shown, Nodes)
    return {info.name: info for info in shown.nodes}


def wait_state(cluster: SimCluster, user: User, wanted: dict[str, str], within_s: float) -> None:
    """Until these nodes are shown in these states, or in worse ones; nobody else may be anything but up meanwhile."""
    end_ns = cluster.world.now_ns + int(within_s * SECOND)
    while True:
        states = {name: info.state for name, info in nodes_of(cluster, user).items()}
        if bad := {name: state for name, state in states.items() if name not in wanted and state != "up"}:
            raise Wrong(f"nothing is wrong with {bad}")
        if all(WORSE.index(states[name]) >= WORSE.index(state) for name, state in wanted.items()):
            return
        if cluster.world.now_ns > end_ns:
            raise Wrong(f"{wanted} is not noticed within {within_s:g} s: {states}")
        cluster.run_for(LOOK_S)


def fill(cluster: SimCluster, user: User) -> list[str]:
    paths = [f"/old/{number}" for number in range(FILES)]
    cluster.must(*(user.put(path, cluster.ledger.new_content(MAX_BYTES)) for path in paths))
    return paths


def read_fast(cluster: SimCluster, user: User, paths: list[str]) -> None:
    """Each file, one after another, within half a second."""
    for path in paths:
        began_ns = cluster.world.now_ns
        cluster.must(user.get(path))
        took_s = (cluster.world.now_ns - began_ns) / SECOND
        if took_s > WORST_READ_S:
            raise Wrong(f"reading {path} took {took_s:g} s")


def _stops(cluster: SimCluster, node: NodeMachine, stop: Callable[[], None]) -> None:
    """A node does nothing any more: noticed in time, no read waits long, no write fails."""
    settings = cluster.master_settings
    user, looker = cluster.user(), cluster.user("looker")
    paths = fill(cluster, user)
    stop()
    read_fast(cluster, user, paths)
    wait_state(cluster, looker, {node.name: "suspect"}, settings.suspect_s + SLACK_S)
    cluster.must(*(user.put(path, cluster.ledger.new_content(MAX_BYTES)) for path in paths))
    wait_state(cluster, looker, {node.name: "down"}, settings.down_s + SLACK_S)
    read_fast(cluster, user, paths)
    settle(cluster)


def paused_node(cluster: SimCluster) -> None:
    """A node is stopped by a signal."""
    cluster.wait_up()
    node = cluster.random.choice(cluster.nodes)
    _stops(cluster, node, node.pause)


def hung_node(cluster: SimCluster) -> None:
    """A node's actor hangs; its process and its connections live."""
    cluster.wait_up()
    node = cluster.random.choice(cluster.nodes)
    _stops(cluster, node, node.hang)


def node_dies_under_writes(cluster: SimCluster) -> None:
    """A process is killed while writes are under way to it: each goes on with another node, without any time-out."""
    cluster.wait_up()
    user = cluster.user()
    paths = fill(cluster, user)
    replies = [user.put(path, cluster.ledger.new_content(MAX_BYTES)) for path in paths * 3]
    cluster.run_for(cluster.random.random() * 0.02)
    dead = cluster.random.choice(cluster.nodes)
    dead.kept = False
    dead.crash()
    died_ns = cluster.world.now_ns
    cluster.must(*replies)
    if (took_s := (cluster.world.now_ns - died_ns) / SECOND) > DEATH_WRITE_S:
        raise Wrong(f"{dead.name} died, and writes took {took_s:g} s longer")
    for path in paths:
        began_ns = cluster.world.now_ns
        cluster.must(user.put(path, cluster.ledger.new_content(MAX_BYTES)))
        if (took_s := (cluster.world.now_ns - began_ns) / SECOND) > DEATH_WRITE_S:
            raise Wrong(f"{dead.name} is dead, and writing {path} took {took_s:g} s")
    dead.kept = True
    settle(cluster)


def master_hears_nobody(cluster: SimCluster) -> None:
    """Nothing gets from the nodes to the master for a while, as when its cable is out; users reach it all the time, or not
    either. Writes wait for the end of that, and none fails."""
    cluster.wait_up()
    user = cluster.user()
    paths = fill(cluster, user)
    settings = cluster.master_settings
    away: list[Machine | User] = [*cluster.nodes]
    if cluster.seed % 2:
        away.append(user)
    cluster.partition([cluster.master], away)
    cluster.run_for(settings.suspect_s + cluster.random.random() * settings.down_s)
    replies = [user.put(path, cluster.ledger.new_content(MAX_BYTES)) for path in paths]
    cluster.run_for(cluster.random.random() * 2)
    cluster.world.heal()
    cluster.must(*replies)
    settle(cluster)


def one_way_cut(cluster: SimCluster) -> None:
    """One direction between one kind of pair carries nothing: between a node and the master, the other nodes, or a user."""
    cluster.wait_up()
    settings = cluster.master_settings
    user, looker = cluster.user(), cluster.user("looker")
    paths = fill(cluster, user)
    node = cluster.random.choice(cluster.nodes)
    others: Collection[Machine] = [other for other in cluster.nodes if other is not node]
    notice: dict[int, tuple[Any, Any, dict[str, str], float]] = {
        0: ([node], [cluster.master], {node.name: "down"}, settings.down_s + SLACK_S),
        1: ([cluster.master], [node], {node.name: "suspect"}, DEAF_S),
        2: (others, [node], {node.name: "suspect"}, PROBING_S),
        3: ([node], others, {node.name: "suspect"}, PROBING_S),
        4: ([user], [node], {}, 0.0),
        5: ([node], [user], {}, 0.0),
        6: ([node], [cluster.random.choice(list(others))], {}, 0.0),
    }
    source, target, wanted, within_s = notice[cluster.seed % len(notice)]
    cluster.partition(source, target, one_way=True)
    wait_state(cluster, looker, wanted, within_s)
    cluster.must(*(user.get(path) for path in paths))
    cluster.must(*(user.put(path, cluster.ledger.new_content(MAX_BYTES)) for path in paths))
    for _ in range(20):
        cluster.run_for(0.2)
        wait_state(cluster, looker, wanted, 0.0)
    settle(cluster)


def wrong_advertise(cluster: SimCluster) -> None:
    """A node tells an address at which nobody answers, or another one does: it is never up, and it is said why."""
    cluster.wait_up()
    user = cluster.user()
    node, other = cluster.random.sample(cluster.nodes, 2)
    elsewhere = cluster.node_settings(other.name).listen
    wrong = Address("tcp://10.0.9.9:7710") if cluster.seed % 2 else elsewhere
    cluster.advertise[node.name] = wrong
    node.crash()
    node.start()
    end_ns = cluster.world.now_ns + int((PROBING_S + SLACK_S) * SECOND)
    while str(wrong) not in (shown := nodes_of(cluster, user)[node.name]).reach:
        if cluster.world.now_ns > end_ns:
            raise Wrong(f"nobody says that {node.name} cannot be reached: {shown}")
        cluster.run_for(LOOK_S)
    if shown.state != "suspect":
        raise Wrong(f"nobody reaches it, and yet: {shown}")
    fill(cluster, user)
    del cluster.advertise[node.name]
    node.crash()
    node.start()
    cluster.wait_up()
    settle(cluster)


def wait_up_again(cluster: SimCluster, user: User, node: NodeMachine) -> None:
    """Until this node is shown as up."""
    end_ns = cluster.world.now_ns + 6 * SECOND
    while nodes_of(cluster, user)[node.name].state != "up":
        if cluster.world.now_ns > end_ns:
            raise Wrong(f"{node.name} is well again, and is not up")
        cluster.run_for(LOOK_S)


def held(cluster: SimCluster, user: User) -> str:
    """Why repair waits, as the master says."""
    cluster.run_for(1.1)  # a report serves for a second
    (report,) = cluster.must(user.ask(Health()))
    assert isinstance(report, HealthReport)
    return report.held


def half_vanish_together(cluster: SimCluster) -> None:
    """Half of the nodes are gone at once: repair is held, and goes on when one of them is back. One alone holds nothing."""
    cluster.wait_up()
    user = cluster.user()
    paths = fill(cluster, user)
    cluster.run_for(cluster.master_settings.pace.start_hold_s)
    first, second = cluster.random.sample(cluster.nodes, 2)
    first.pause()
    wait_state(cluster, user, {first.name: "down"}, cluster.master_settings.down_s + SLACK_S)
    if why := held(cluster, user):
        raise Wrong(f"one is down, and repair is held: {why}")
    second.crash() if cluster.seed % 2 else second.pause()
    wait_state(cluster, user, {first.name: "down", second.name: "down"}, cluster.master_settings.down_s + SLACK_S)
    if "2 of 4 nodes" not in (why := held(cluster, user)):
        raise Wrong(f"half are down, and repair is not held: {why}")
    first.resume()
    wait_up_again(cluster, user, first)
    if why := held(cluster, user):
        raise Wrong(f"enough are back, and repair is held: {why}")
    cluster.must(*(user.put(path, cluster.ledger.new_content(MAX_BYTES)) for path in paths))
    settle(cluster)


def master_was_away(cluster: SimCluster) -> None:
    """The master was stopped for long: it blames nobody, holds repair, and goes on when it has heard all nodes again."""
    cluster.wait_up()
    user = cluster.user()
    fill(cluster, user)
    cluster.run_for(cluster.master_settings.pace.start_hold_s)
    if why := held(cluster, user):
        raise Wrong(f"nothing happened, and repair is held: {why}")
    dead = cluster.random.choice(cluster.nodes)
    dead.kept = False
    dead.crash()
    wait_state(cluster, user, {dead.name: "down"}, cluster.master_settings.down_s + SLACK_S)
    cluster.master.pause()
    cluster.world.run_for(5 * SECOND)
    cluster.master.resume()
    for _ in range(40):  # suspect they may be, while connections are made anew
        states = {name: info.state for name, info in nodes_of(cluster, user).items() if name != dead.name}
        if "down" in states.values():
            raise Wrong(f"the master was away, and blames others: {states}")
        cluster.run_for(0.1)
    wait_state(cluster, user, {dead.name: "down"}, 0.0)
    if why := held(cluster, user):
        raise Wrong(f"all that were there before are heard again, and repair is held: {why}")
    dead.kept = True
    settle(cluster)


def lying_client_reports(cluster: SimCluster) -> None:
    """A client accuses all nodes, again and again; they can be reached, so nobody believes it."""
    cluster.wait_up()
    liar, user = cluster.user(), cluster.user()
    paths = fill(cluster, user)
    for _ in range(20):
        for info in nodes_of(cluster, user).values():
            answer = cluster.must(liar.ask(Report(info.node, info.incarnation, silent=True)))
            if answer != [Done()]:
                raise Wrong(f"a report is answered by {answer}")
        wait_state(cluster, user, {}, 0.0)
        cluster.run_for(0.3)
    cluster.must(*(user.put(path, cluster.ledger.new_content(MAX_BYTES)) for path in paths))
    settle(cluster)


NOTICED = (
    Scenario(paused_node, options=patient),
    Scenario(hung_node, options=patient),
    Scenario(node_dies_under_writes, options=patient),
    Scenario(master_hears_nobody, options=patient),
    Scenario(one_way_cut, options=patient),
    Scenario(wrong_advertise),
    Scenario(half_vanish_together, options=patient),
    Scenario(master_was_away, options=patient),
    Scenario(lying_client_reports),
)
