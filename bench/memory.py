"""How much memory a client takes for a large file of random bytes: ``python -m bench.memory [--size BYTES]``.

Three clients, a process each, against a local cluster of processes: one puts the file by its path, one puts its standard
input, whose length it does not know, and one gets the file back, which is compared. Exit status 1 if any of them was ever
larger than the budget.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

import dsa_zmq
from bench.processes import peak_bytes
from bench.workloads import make_file, same_bytes
from dsa_zmq.model.limits import SEGMENT_BYTES

MIB = 1 << 20
GB = 1_000_000_000

# What each client does; it prints its peak after a line of its own that says it is ready.
CLIENT = """
import sys, os, dsa_zmq
from bench.processes import peak_bytes
what, url, name = sys.argv[1:]
with dsa_zmq.connect(url) as store:
    if what == "put":
        store.put(name, "/put")
    elif what == "stdin":
        store.put(sys.stdin.buffer, "/stdin")
    else:
        store.get("/put", name)
    print(peak_bytes(os.getpid()))
"""


def client(what: str, url: str, name: Path, source: IO[bytes] | int = subprocess.DEVNULL) -> tuple[int, float]:
    """Peak bytes of one client, and the seconds it took."""
    start = time.perf_counter()
    command = [sys.executable, "-c", CLIENT, what, url, str(name)]
    ended = subprocess.run(command, stdin=source, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(ended.stderr)
    return int(ended.stdout), time.perf_counter() - start


def measure(scratch: Path, size: int, nodes: int, redundancy: str) -> dict[str, tuple[int, float]]:
    """Peak bytes and seconds of each kind of client."""
    source, back = make_file(scratch / "source.bin", size), scratch / "back.bin"
    directory = scratch / "cluster"
    results = {}
    with dsa_zmq.LocalCluster(
        nodes, redundancy, processes=True, directory=directory, segment_bytes=SEGMENT_BYTES, speed=1
    ) as cluster:
        results["put a file"] = client("put", cluster.url, source)
        results["get it"] = client("get", cluster.url, back)
        if not same_bytes(source, back):
            raise SystemExit("the file that came back differs")
        back.unlink()
        with subprocess.Popen(["cat", str(source)], stdout=subprocess.PIPE) as pipe:
            assert pipe.stdout is not None
            results["put stdin"] = client("stdin", cluster.url, source, pipe.stdout)
        results["largest server"] = max(peak_bytes(pid) for pid in cluster.pids().values()), 0.0
    return results


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument(
        "--size", type=int, default=4 * GB, help="bytes of the file; it needs six times that on the disk"
    )
    parser.add_argument("--budget", type=int, default=300 * 1_000_000, help="bytes that each client may take")
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--redundancy", default="copies=2")
    parser.add_argument("--scratch", type=Path, help="folder for temporary files (default: the system's)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    options = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="dsa-memory-", dir=options.scratch))
    try:
        results = measure(scratch, options.size, options.nodes, options.redundancy)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for what, (peak, seconds) in results.items():
        rate = f"{options.size / MIB / seconds:,.0f} MiB/s" if seconds else ""
        print(f"{what:16} peak {peak / 1e6:6.0f} MB  {rate}")
    if options.json:
        options.json.write_text(json.dumps({what: peak for what, (peak, _) in results.items()}) + "\n")
    if max(peak for peak, _ in results.values()) > options.budget:
        raise SystemExit(f"over the budget of {options.budget / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
