"""``python -m bench``: run the workloads, print them beside the limits of the same run, write JSON.

By default against a local cluster of processes; ``--posix`` and ``--s3`` measure something else with the same code.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

from bench import codes, limits
from bench.processes import resident_bytes
from bench.report import as_json, describe_machine, show, show_limits
from bench.targets import DsaTarget, PosixTarget, S3Target, Target
from bench.workloads import Measure, big_file, make_file, metadata, small_files
from dsa_zmq.app import tune_process
from dsa_zmq.model.limits import CATALOG_COPIES, CATALOG_LEVELS

KINDS = ("small", "meta", "big", "codes")
QUICK = {"size": 16 << 20, "small": 64, "entries": 200, "rounds": 1}  #: only to see that everything works
IDLE_S = 1.0  #: before memory at rest is looked at


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--redundancy", default="copies=2")
    parser.add_argument("--catalog-copies", choices=CATALOG_LEVELS, default=CATALOG_COPIES)
    parser.add_argument("--posix", type=Path, metavar="DIR", help="measure this directory instead of a DSA cluster")
    parser.add_argument("--s3", metavar="URL", help="measure http://KEY:SECRET@host:port/bucket instead")
    parser.add_argument("--only", choices=KINDS, action="append", help="leave out the others; may be repeated")
    parser.add_argument("--size", type=int, default=1 << 30, help="bytes of the big file")
    parser.add_argument("--small", type=int, default=2000, help="files of 4 KiB")
    parser.add_argument("--entries", type=int, default=10_000, help="creates, stats, listed entries")
    parser.add_argument("--rounds", type=int, default=5, help="of everything; medians are shown")
    parser.add_argument("--quick", action="store_true", help="as little as possible: the figures mean nothing")
    parser.add_argument("--scratch", type=Path, help="folder for temporary files (default: the system's)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    options = parser.parse_args()
    if options.quick:
        for name, value in QUICK.items():
            setattr(options, name, value)
    return options


def main() -> None:
    options = parse()
    tune_process()
    machine = describe_machine()
    scratch = Path(tempfile.mkdtemp(prefix="dsa-bench-", dir=options.scratch))
    try:
        limit = measure_limits(scratch, options.size, options.rounds)
        show_limits(limit)
        measures: list[Measure] = []
        memory: dict[str, dict[str, int]] = {}
        name = codes.CODE.name
        for kind in options.only or KINDS:
            if kind != "codes":
                name = run(kind, options, scratch, measures, memory)
            elif not (options.posix or options.s3):
                run_codes(options, scratch, measures)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    show(measures, limit, memory, name)
    if options.json:
        figures = as_json(measures, limit, memory, name, vars(options), machine)
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure_limits(scratch: Path, size: int, rounds: int) -> dict[str, float]:
    """Rates per second of what bounds the workloads: bytes for the first four, operations for the others."""
    source = make_file(scratch / "limit.bin", size)
    try:
        return {
            "tcp": limits.tcp_bytes_per_s(size, 1, rounds),
            "tcp2x": limits.tcp_bytes_per_s(size, 2, rounds),
            "cp": limits.copy_bytes_per_s(source, scratch, rounds),
            "disk2x": limits.durable_bytes_per_s(scratch, size, 2, rounds),
            "fdatasync": limits.syncs_per_s(scratch),
            "echo": limits.echoes_per_s(),
        }
    finally:
        source.unlink()


def open_target(options: argparse.Namespace, scratch: Path) -> Target:
    if options.posix:
        return PosixTarget(options.posix)
    if options.s3:
        return S3Target(options.s3)
    return DsaTarget(scratch, options.nodes, options.redundancy, options.catalog_copies)


def run(
    kind: str, options: argparse.Namespace, scratch: Path, measures: list[Measure], memory: dict[str, dict[str, int]]
) -> str:
    """Measure one kind of workload; returns the target's name.

    Each has a target of its own: what a store does in the background about the files that one kind has removed would
    show in the rates of the next.
    """
    target = open_target(options, scratch)
    try:
        time.sleep(IDLE_S)
        memory.setdefault("idle", memory_of(target))
        match kind:
            case "small":
                measures += small_files(target, scratch, options.small, options.rounds)
            case "meta":
                measures += metadata(target, options.entries, options.rounds)
            case "big":
                measures += big_file(target, scratch, options.size, options.rounds)
        memory[f"after {kind}"] = memory_of(target)
    finally:
        target.close()
    return target.name


def run_codes(options: argparse.Namespace, scratch: Path, measures: list[Measure]) -> None:
    """Beside the others: with nodes of its own, as many as the code needs."""
    target = codes.open_target(scratch)
    try:
        measures += codes.codes(target, scratch, options.size, options.rounds)
    finally:
        target.close()


def memory_of(target: Target) -> dict[str, int]:
    """Resident bytes of each server process and of this one."""
    return {name: resident_bytes(pid) for name, pid in {**target.processes(), "client": os.getpid()}.items()}


if __name__ == "__main__":
    main()
