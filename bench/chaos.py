"""``python -m bench.chaos``: a real cluster under load, whose servers are killed, stopped, restarted and cut off at random.

One fault at a time, each followed by the wait for full redundancy; every read is compared with what may be there, and at
the end everything is read back. Printed: how long each fault took to be noticed (the node is ``down``), to be healed while
the node was still away (if the cluster heals in the time of ``--patience``), and to be healed once it was back; and the
worst read meanwhile. Exit status 1 if a byte was wrong or the cluster did not become healthy.

With ``--netns`` the servers live in network namespaces, and the kernel cuts them off too. This needs root and Linux; where
it cannot be done, that is said, and the exit status is 0.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import dsa_zmq
from bench.chaos_load import CALM, Load
from bench.chaos_net import Impossible, NamespaceCluster, Namespaces
from dsa_zmq.client.store import Store
from dsa_zmq.cluster_faults import REPORT_AGE_S, is_redundant
from dsa_zmq.cluster_servers import MASTER
from dsa_zmq.errors import DSAError

SPEED = 5  #: down after 2 s instead of 10: short, and still long against the pauses of a busy machine
POLL_S = 0.02
NOTICE_S = 60.0  #: within which each fault that silences a node must be noticed
HEALTHY_S = 120.0  #: within which all is to be healthy once everything runs again
CALM_S = 0.5  #: between two faults


@dataclass
class Fault:
    """One kind of fault of a node (or of the master): how it is made and undone."""

    name: str
    make: Callable[[str], object]
    undo: Callable[[str], object]
    silent: bool = True  #: the master hears nothing of the node while it lasts
    master: bool = False  #: it hits the master


@dataclass
class Episode:
    """What one fault came to. Seconds; None: did not happen in time, or is no such fault."""

    fault: str
    server: str
    noticed_s: float | None = None
    redundant_s: float | None = None  #: full redundancy while the node was away
    healthy_s: float | None = None  #: full redundancy once it was back
    problem: str = ""


@dataclass
class Result:
    seed: int
    episodes: list[Episode] = field(default_factory=list)
    tallies: dict[str, object] = field(default_factory=dict)
    files: int = 0
    acknowledged_bytes: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not self.wrong and not any(episode.problem for episode in self.episodes)


class Chaos:
    """Breaks a cluster and watches it."""

    def __init__(self, cluster: dsa_zmq.LocalCluster, store: Store, load: Load, patience_s: float) -> None:
        self._cluster = cluster
        self._store = store
        self._load = load
        self._patience_s = patience_s

    def episode(self, fault: Fault, server: str, away_s: float) -> Episode:
        """Make a fault, watch, undo it, watch. ``away_s``: how long a fault lasts that nothing is waited for."""
        result = Episode(fault.name, server)
        self._load.phase = fault.name if fault.master else f"{fault.name}, of a node"
        fault.make(server)
        begin = time.monotonic()
        if fault.silent:
            if self._within(NOTICE_S, lambda: self._state(server) == "down"):
                result.noticed_s = time.monotonic() - begin
            else:
                result.problem = f"not noticed within {NOTICE_S:g} s"
            self._within(REPORT_AGE_S, lambda: False)  # a report made before the loss was known proves nothing
            if self._within(self._patience_s, self._is_redundant):
                result.redundant_s = time.monotonic() - begin
        else:
            self._within(away_s, lambda: False)
        begin = time.monotonic()
        fault.undo(server)
        try:
            self._cluster.wait_healthy(HEALTHY_S)
            result.healthy_s = time.monotonic() - begin
        except DSAError as error:
            result.problem = f"not healthy within {HEALTHY_S:g} s after it: {error}"
        self._load.phase = CALM
        return result

    def _state(self, name: str) -> str:
        return next((node.state for node in self._store.nodes() if node.name == name), "unknown")

    def _is_redundant(self) -> bool:
        return is_redundant(self._store.health())

    @staticmethod
    def _within(timeout_s: float, holds: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with contextlib.suppress(DSAError):  # the master may be the one that is away
                if holds():
                    return True
            time.sleep(POLL_S)
        return False


def faults_of(cluster: dsa_zmq.LocalCluster) -> list[Fault]:
    """Those that this cluster can have."""
    kinds = [
        Fault("kill -9", cluster.kill, cluster.restart),
        Fault("SIGSTOP", cluster.pause, cluster.resume),
        Fault("cut from the master", lambda node: cluster.partition([node], [MASTER]), lambda _: cluster.heal()),
        Fault(
            "cut from the clients",
            lambda node: cluster.partition(["clients"], [node]),
            lambda _: cluster.heal(),
            silent=False,
        ),
        Fault("kill -9 of the master", cluster.kill, cluster.restart, silent=False, master=True),
        Fault("SIGSTOP of the master", cluster.pause, cluster.resume, silent=False, master=True),
    ]
    if isinstance(cluster, NamespaceCluster):
        spaces = cluster.spaces
        kinds += [
            Fault("unplugging", spaces.unplug, spaces.plug),
            Fault("no route to the master", lambda n: spaces.cut(n, MASTER), lambda n: spaces.mend(n, MASTER)),
            Fault("unplugging of the master", spaces.unplug, spaces.plug, silent=False, master=True),
        ]
    return kinds


def run(
    cluster: dsa_zmq.LocalCluster, seed: int, rounds: int, patience_s: float, tell: Callable[[str], object]
) -> Result:
    """``rounds`` faults in a random order in which each kind comes before any comes again."""
    rng, result = random.Random(seed), Result(seed)
    kinds: list[Fault] = []
    with cluster.connect() as store, cluster.connect() as observer:
        load = Load(store, seed)
        load.start()
        chaos = Chaos(cluster, observer, load, patience_s)
        for _ in range(rounds):
            if not kinds:
                kinds = faults_of(cluster)
                rng.shuffle(kinds)
            fault = kinds.pop()
            server = MASTER if fault.master else rng.choice(cluster.names)
            result.episodes.append(episode := chaos.episode(fault, server, away_s=rng.uniform(0.2, 3)))
            tell(show(episode))
            if episode.problem:
                break
            time.sleep(CALM_S)
        load.stop()
        load.phase = "reading back"
        result.files = load.check_all()
        result.acknowledged_bytes = load.acknowledged_bytes
        result.tallies = {phase: asdict(tally) for phase, tally in load.tallies.items()}
        result.wrong = load.wrong
    return result


def show(one: Episode) -> str:
    """One line."""
    times = [
        f"{what} {value:.2f} s"
        for what, value in (
            ("noticed after", one.noticed_s),
            ("fully redundant without it after", one.redundant_s),
            ("healthy once back after", one.healthy_s),
        )
        if value is not None
    ]
    return f"{one.fault} ({one.server}): {', '.join(times)}{'; ' + one.problem if one.problem else ''}"


def show_result(result: Result) -> str:
    """The summary for people."""
    lines = [f"\n{'while':32} {'reads':>7} {'failed':>7} {'worst':>8}   {'writes':>7} {'failed':>7}"]
    for phase, tally in sorted(result.tallies.items()):
        reads, failed, worst = tally["reads"], tally["failed_reads"], tally["worst_read_s"]
        lines.append(f"{phase:32} {reads:7} {failed:7} {worst:6.2f} s   {tally['writes']:7} {tally['failed_writes']:7}")
    for name in ("noticed_s", "redundant_s", "healthy_s"):
        values = [value for one in result.episodes if (value := getattr(one, name)) is not None]
        text = f"median {sorted(values)[len(values) // 2]:.2f} s, worst {max(values):.2f} s" if values else "never"
        words = {
            "noticed_s": "time to detect",
            "redundant_s": "time to full redundancy",
            "healthy_s": "healthy once back",
        }
        lines.append(f"{words[name]}: {text}")
    for whose in ("of a node", "of the master"):
        worst = max(
            (tally["worst_read_s"] for phase, tally in result.tallies.items() if phase.endswith(whose)), default=0
        )
        lines.append(f"worst read during faults {whose}: {worst:.2f} s")
    lines.append(
        f"{result.files} files read back, {result.acknowledged_bytes / 2**20:,.0f} MiB acknowledged in all: "
        + (f"{len(result.wrong)} WRONG" if result.wrong else "every byte equal")
    )
    return "\n".join([*lines, *result.wrong[:20]])


@contextlib.contextmanager
def started(options: argparse.Namespace, directory: Path) -> Iterator[dsa_zmq.LocalCluster]:
    """The cluster, in namespaces if that was asked for. Impossible if that cannot be."""
    settings = {"nodes": options.nodes, "directory": directory, "speed": options.speed}
    with contextlib.ExitStack() as stack:
        if options.netns:
            names = [MASTER, *(f"node-{number}" for number in range(1, options.nodes + 1))]
            spaces = stack.enter_context(Namespaces(names))
            yield stack.enter_context(NamespaceCluster(spaces, **settings))
        else:
            yield stack.enter_context(dsa_zmq.LocalCluster(processes=True, **settings))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=18, help="faults, one after the other")
    parser.add_argument("--seed", type=int, help="of the order of faults and of the load (default: another each time)")
    parser.add_argument(
        "--speed", type=float, default=SPEED, help="divides the times of liveness and repair; 1: as in life"
    )
    parser.add_argument("--patience", type=float, help="seconds to wait for full redundancy without the node")
    parser.add_argument("--netns", action="store_true", help="each server in a network namespace (root, Linux)")
    parser.add_argument("--scratch", type=Path, help="folder for the cluster's data (default: the system's)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    return parser.parse_args()


def main() -> int:
    options = parse()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was made is removed then, too
    seed = random.SystemRandom().getrandbits(32) if options.seed is None else options.seed
    patience_s = 60 / options.speed if options.patience is None else options.patience
    where = "in network namespaces" if options.netns else "on loopback"
    print(f"{options.nodes} nodes {where}, times divided by {options.speed:g}, seed {seed}", flush=True)
    directory = Path(tempfile.mkdtemp(prefix="dsa-chaos-", dir=options.scratch))
    try:
        with started(options, directory / "cluster") as cluster:
            result = run(cluster, seed, options.rounds, patience_s, lambda line: print(line, flush=True))
    except Impossible as reason:
        print(f"skipped: {reason}")
        return 0
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(show_result(result))
    if options.json:
        options.json.write_text(json.dumps(asdict(result), indent=2) + "\n")
    return 0 if result.good else 1


if __name__ == "__main__":
    sys.exit(main())
