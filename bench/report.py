"""The table that people read, and the figures that programs read."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.workloads import Measure

MIB = 2**20

# The best durable peers that keep two copies, medians measured on one two-core machine (4 storage processes, loopback,
# page cache). Shown where no peer is measured in the same run; only the factor of ten in such a comparison means
# anything.
PEERS = {
    "big file up": (272 * MIB, "Ceph RADOS 272 MiB/s"),
    "big file down": (720 * MIB, "GlusterFS 720 MiB/s"),
    "4 KiB up, one call each": (1800, "Ceph RADOS 1,800/s"),
    "4 KiB down, one call each": (10300, "Ceph RADOS 10,300/s"),
    "4 KiB up, bulk": (1800, "Ceph RADOS 1,800/s"),
    "4 KiB down, bulk": (10300, "Ceph RADOS 10,300/s"),
    "create": (4150, "MooseFS 4,150/s"),
    "stat": (13000, "Ceph RADOS 13,000/s"),
}

# Which limits of the same run bound a workload, and their names.
BOUNDS = {
    "big file up": (("tcp2x", "TCP twice"), ("disk2x", "disk twice")),
    "big file down": (("cp", "cp"),),
    "ec=4+2 up": (("tcp2x", "TCP twice"), ("disk2x", "disk twice")),
    "ec=4+2 down": (("cp", "cp"),),
    "ec=4+2 down, 2 nodes dead": (("cp", "cp"),),
    "ec=4+2 shards made anew": (("tcp", "TCP"),),
}
DEFAULT_BOUND = (("echo", "echo"),)


def describe_machine() -> dict[str, Any]:
    """What the figures depend on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count(),
        "memory_bytes": memory,
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def show_limits(limit: dict[str, float]) -> None:
    """One paragraph."""
    print(
        f"limits of this machine, this run: TCP {limit['tcp'] / 1e9:.2f} GB/s, "
        f"every byte twice {limit['tcp2x'] / 1e9:.2f} GB/s, "
        f"cp {limit['cp'] / 1e9:.2f} GB/s,\n  every byte written durably twice {limit['disk2x'] / 1e9:.2f} GB/s, "
        f"fdatasync {limit['fdatasync']:,.0f}/s, ROUTER echo with 64 in flight "
        f"{limit['echo']:,.0f}/s"
    )


def show(measures: Sequence[Measure], limit: dict[str, float], memory: dict[str, dict[str, int]], name: str) -> None:
    """The table."""
    print(f"\n{name}\n{'workload':26} {'rate':>12} {'of limit':>40}   CPU (s/GiB, or ms each)          known peer")
    for one in measures:
        peer = PEERS.get(one.workload)
        versus = f"{one.rate / peer[0]:5.2f}x {peer[1]}" if peer else ""
        print(f"{one.workload:26} {_rate(one):>12} {_of_limit(one, limit):>40}   {_cpu(one):30}  {versus}")
    for when, sizes in memory.items():
        servers = sum(size for process, size in sizes.items() if process != "client")
        each = ", ".join(f"{process} {size / MIB:.0f}" for process, size in sizes.items())
        print(f"resident {when}: servers {servers / MIB:.0f} MiB in all ({each})")


def _rate(one: Measure) -> str:
    if one.unit == "B/s":
        return f"{one.rate / MIB:,.0f} MiB/s"
    return f"{one.rate * 1000:,.0f} ms" if one.unit == "s" else f"{one.rate:,.0f}/s"


def _of_limit(one: Measure, limit: dict[str, float]) -> str:
    if one.unit == "s":
        return ""
    bounds = BOUNDS.get(one.workload, DEFAULT_BOUND)
    return ", ".join(f"{one.rate / limit[key]:.2f} of {label}" for key, label in bounds)


def _cpu(one: Measure) -> str:
    amount = one.amount / 2**30 if one.unit == "B/s" else one.amount / 1000
    spent = {"client": one.cpu_client_s, **one.cpu_servers_s}
    return ", ".join(f"{group} {seconds / amount:.2f}" for group, seconds in spent.items())


def as_json(
    measures: Sequence[Measure],
    limit: dict[str, float],
    memory: dict[str, dict[str, int]],
    name: str,
    options: dict[str, Any],
    machine: dict[str, Any],
) -> dict[str, Any]:
    """Everything, plain."""
    return {
        "target": name,
        "machine": machine,
        "options": {  # the address of an endpoint may hold a secret
            key: str(value) if isinstance(value, Path) else value for key, value in options.items() if key != "s3"
        },
        "limits": limit,
        "measures": [asdict(one) for one in measures],
        "resident_bytes": memory,
    }
