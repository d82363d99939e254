"""``python -m bench``: run the workloads, print them beside the limits of the same run, write JSON."""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

from bench import limits
from bench.targets import DsaTarget, PosixTarget, S3Target, Target
from bench.workloads import Measure, big_file, metadata, resident_bytes, small_files

# Best durable peer that keeps two copies, medians measured on one two-core machine (4 storage processes, loopback, page
# cache). Shown where no peer is measured in the same run; only the factor of ten in such a comparison means anything.
PEERS = {
    "big file up": (272 * 2**20, "Ceph RADOS 272 MiB/s"),
    "big file down": (720 * 2**20, "GlusterFS 720 MiB/s"),
    "4 KiB up, one call each": (1800, "Ceph RADOS 1,800/s"),
    "4 KiB down, one call each": (10300, "Ceph RADOS 10,300/s"),
    "4 KiB up, bulk": (1800, "Ceph RADOS 1,800/s"),
    "4 KiB down, bulk": (10300, "Ceph RADOS 10,300/s"),
    "create": (4150, "MooseFS 4,150/s"),
    "stat": (13000, "Ceph RADOS 13,000/s"),
}


def show_rate(measure: Measure) -> str:
    if measure.unit == "B/s":
        return f"{measure.rate / 2**20:,.0f} MiB/s"
    if measure.unit == "s":
        return f"{measure.rate * 1000:,.0f} ms"
    return f"{measure.rate:,.0f}/s"


def show(measures: list[Measure], limit: dict[str, float], memory: dict[str, int], name: str) -> None:
    print(f"\n{name}")
    print(f"{'workload':28} {'rate':>12} {'of limit':>22} {'CPU client':>12} {'CPU servers':>12}  peer")
    bounds = {"big file up": ("tcp2x", limit["tcp2x"]), "big file down": ("cp", limit["cp"])}
    for one in measures:
        label, bound = bounds.get(one.workload, ("ROUTER echo", limit["echo"]))
        ratio = "" if one.unit == "s" else f"{one.rate / bound:.2f} of {label}"
        per, suffix = (2**30, "s/GiB") if one.unit == "B/s" else (1000, "ms/op")
        scale = one.amount / per if one.unit == "B/s" else one.amount / 1000
        cpu = [f"{value / scale:.2f} {suffix}" if scale else "" for value in (one.cpu_client_s, one.cpu_servers_s)]
        peer = PEERS.get(one.workload)
        versus = f"{one.rate / peer[0]:.1f}x {peer[1]}" if peer else ""
        print(f"{one.workload:28} {show_rate(one):>12} {ratio:>22} {cpu[0]:>12} {cpu[1]:>12}  {versus}")
    if memory:
        servers = sum(value for key, value in memory.items() if key != "client")
        print("resident: " + ", ".join(f"{key} {value / 2**20:.0f} MiB" for key, value in memory.items()))
        print(f"all servers together, idle: {servers / 2**20:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--redundancy", default="copies=2")
    parser.add_argument("--posix", type=Path, metavar="DIR", help="measure this directory instead of a DSA cluster")
    parser.add_argument("--s3", metavar="URL", help="measure http://KEY:SECRET@host:port/bucket instead")
    parser.add_argument("--size", type=int, default=1 << 30, help="bytes of the big file")
    parser.add_argument("--small", type=int, default=2000, help="files of 4 KiB")
    parser.add_argument("--entries", type=int, default=10_000, help="creates, stats, listed entries")
    parser.add_argument("--rounds", type=int, default=5, help="of the big file and of the limits")
    parser.add_argument("--scratch", type=Path, help="folder for temporary files (default: the system's)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    options = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="dsa-bench-", dir=options.scratch))
    try:
        run(options, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def run(options: argparse.Namespace, scratch: Path) -> None:
    from bench.workloads import make_file

    print("limits of this machine, this run:")
    source = make_file(scratch / "limit.bin", min(options.size, 1 << 30))
    limit = {
        "tcp": limits.tcp_bytes_per_s(min(options.size, 1 << 30), 1, options.rounds),
        "tcp2x": limits.tcp_bytes_per_s(min(options.size, 1 << 30), 2, options.rounds),
        "cp": limits.copy_bytes_per_s(source, scratch, options.rounds),
        "fdatasync": limits.syncs_per_s(scratch),
        "echo": limits.echoes_per_s(),
    }
    source.unlink()
    print(
        f"  TCP {limit['tcp'] / 1e9:.2f} GB/s, every byte twice {limit['tcp2x'] / 1e9:.2f} GB/s, "
        f"cp {limit['cp'] / 1e9:.2f} GB/s, "
        f"fdatasync {limit['fdatasync']:,.0f}/s, ROUTER echo {limit['echo']:,.0f}/s"
    )
    target: Target
    if options.posix:
        target = PosixTarget(options.posix)
    elif options.s3:
        target = S3Target(options.s3)
    else:
        target = DsaTarget(scratch, options.nodes, options.redundancy)
    try:
        memory = resident_bytes(target)
        measures = small_files(target, options.small)
        measures += metadata(target, options.entries)
        measures += big_file(target, scratch, options.size, options.rounds)
        memory_after = resident_bytes(target)
    finally:
        target.close()
    show(measures, limit, memory, target.name)
    if options.json:
        figures = {
            "target": target.name,
            "python": platform.python_version(),
            "limits": limit,
            "measures": [asdict(one) for one in measures],
            "resident_idle_bytes": memory,
            "resident_after_bytes": memory_after,
        }
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
