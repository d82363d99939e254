"""Writes a cluster's directories as an earlier build writes them, and beside them a list of what it stores.

Runs under the build in question: ``PYTHONPATH=BUILD python write_store.py DIRECTORY [--codes]``; its public API is
used, and no more of that than the first build had. See make.py, which packs what this leaves. Contents are random and never
the same twice, from a seed, so that the list is the same whenever it is made.

The master and one node end as by ``kill -9``: there are a WAL beside the catalog, and records that an index does not know.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from blake3 import blake3

import dsa_zmq
from dsa_zmq.client.store import Store

NODES = 4
CHUNK_BYTES = 4096  #: the least: a file of many chunks is small then
SEGMENT_BYTES = 48 << 10  #: so that there are full ones, with footers
MTIME_NS = 1_700_000_000_123_456_789
ODD_NAMES = (
    "-rf", "--", "a b", " leading", "trailing ", "tab\tand\nnewline", "back\\slash", "quote'\"", "*?[a]", "$HOME;`x`",
    "\u00e9", "e\u0301", "\u96ea\u2603", "\U0001f418", "\u202egpj", "x" * 255, "...", ".hidden", "con", "%41", "\x01\x7f",
)  # fmt: skip


class Writer:
    """Stores files and keeps the list."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store = store
        self.random = random.Random(seed)
        self.files: dict[str, dict[str, Any]] = {}

    def put(self, path: str, size: int, mode: int = 0o644) -> None:
        """Store so many new bytes, in place of what may be there."""
        data = self.random.randbytes(size)
        mtime_ns = MTIME_NS + len(self.files)
        found = self.store.put([data] if data else b"", path, mode=mode, mtime_ns=mtime_ns)
        self.files[path] = {"hash": blake3(data).hexdigest(), "size": size, "mode": mode, "mtime_ns": mtime_ns,
                            "version": found.version}  # fmt: skip

    def fill(self, top: str, sizes: Iterable[int]) -> None:
        """Files of all kinds below a directory: one chunk and many, whole and not, empty, odd, replaced, moved, gone."""
        for size in sizes:
            self.put(f"{top}/sizes/{size}", size)
        for mode in (0o400, 0o600, 0o755, 0o4711):
            self.put(f"{top}/modes/{mode:o}", 90 + mode % 50, mode)
        self.put(f"{top}/empty", 0)
        for size in (700, 4096 + 9, 0, 500):
            self.put(f"{top}/replaced", size)
        for name in ("one", "two", "three"):
            self.put(f"{top}/before/deep/er/{name}", 200)
        self.store.mv(f"{top}/before", f"{top}/after")
        self.put(f"{top}/gone", 5000)
        self.put(f"{top}/gone-too/x", 300)
        self.store.rm(f"{top}/gone")
        self.store.rm(f"{top}/gone-too", recursive=True)
        self.store.cp(f"{top}/sizes/12288", f"{top}/copied")
        old = {path: what for path, what in self.files.items() if path.startswith((f"{top}/before/", f"{top}/gone"))}
        for path, what in old.items():
            del self.files[path]
            if path.startswith(f"{top}/before/"):
                self.files[path.replace("/before/", "/after/")] = what
        self.files[f"{top}/copied"] = {**self.files[f"{top}/sizes/12288"], "version": 1}


def write(directory: Path, codes: bool) -> None:
    """Make the cluster in ``directory/cluster`` and the list in ``directory/stored.json``."""
    cluster = dsa_zmq.LocalCluster(NODES, "copies=2", processes=True, directory=directory / "cluster",
                                   segment_bytes=SEGMENT_BYTES, capacity=64 << 20)  # fmt: skip
    directories: dict[str, dict[str, Any]] = {}
    with cluster:
        with dsa_zmq.connect(cluster.url) as store:
            store._sender = type(store._sender)(store._connection, CHUNK_BYTES)  # connect() takes no size of chunks
            writer = Writer(store, seed=20_000)
            few = (1, 4096, 3 * 4096, 4097)
            for top, redundancy, sizes in (
                ("/plain", "", (1, 63, 64, 4095, 4096, 4097, 3 * 4096, 5 * 4096 + 77)),
                ("/thrice", "copies=3", few),
                *([("/coded", "ec=2+1", (1, 4096, 3 * 4096, 6 * 4096 + 77))] if codes else []),
            ):
                store.mkdir(top, redundancy=redundancy)
                writer.fill(top, sizes)
            for name in ODD_NAMES:
                writer.put(f"/odd/{name}/{name}", 40)
            store.mkdir("/nothing/in/here", parents=True, mode=0o700)
            for folder, below, _ in store.walk("/"):
                for found in below:
                    path = f"{folder.rstrip('/')}/{found.name}"
                    directories[path] = {"mode": found.mode, "redundancy": found.redundancy}
            cluster.wait_healthy()
        pids = cluster.pids()
        for name in ("master", "node-3"):
            os.kill(pids[name], signal.SIGKILL)
    listed = {"files": dict(sorted(writer.files.items())), "directories": dict(sorted(directories.items()))}
    (directory / "stored.json").write_text(json.dumps(listed, indent=1) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]), "--codes" in sys.argv[2:])
