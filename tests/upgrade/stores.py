"""Stores that earlier builds have written, and what has to be in them."""

from __future__ import annotations

import json
import lzma
import random
from collections.abc import Collection
from pathlib import Path
from typing import Any

import apsw
from blake3 import blake3

from actors.disk import OsDisk
from dsa_zmq.client.store import Store
from dsa_zmq.cluster import LocalCluster
from dsa_zmq.master.catalog.catalog import CATALOG_FILE, Catalog
from dsa_zmq.master.secret import load_or_create_secret
from tests.golden.make import HERE, unpack
from tests.golden.write_store import NODES, SEGMENT_BYTES

CAPACITY = 64 << 20  #: of each node


class Golden:
    """The directories of one, unpacked, and the list of what it stores."""

    def __init__(self, number: int, directory: Path) -> None:
        self.directory = directory
        self.nodes = [f"node-{number}" for number in range(1, NODES + 1)]
        unpack(lzma.decompress((HERE / f"store_format{number}.tar.xz").read_bytes()), directory)
        listed = json.loads((HERE / f"store_format{number}.json").read_text())
        self.files: dict[str, dict[str, Any]] = listed["files"]
        self.directories: dict[str, dict[str, Any]] = listed["directories"]

    def cluster(self) -> LocalCluster:
        """Today's servers over these directories."""
        return LocalCluster(NODES, directory=self.directory, segment_bytes=SEGMENT_BYTES, capacity=CAPACITY)

    def check(self, store: Store, more: Collection[str] = ()) -> None:
        """Everything is there byte for byte, with its attributes, and nothing else but ``more``."""
        names, directories = set(), {}
        for folder, below, files in store.walk("/"):
            names |= {f"{folder.rstrip('/')}/{found.name}" for found in files}
            directories |= {f"{folder.rstrip('/')}/{found.name}": found for found in below}
        assert names == {*self.files, *more}
        shown = {path: {"mode": it.mode, "redundancy": it.redundancy} for path, it in directories.items()}
        assert shown == self.directories
        for path, expected in self.files.items():
            found = store.stat(path)
            told = {"size": found.size, "mode": found.mode, "mtime_ns": found.mtime_ns, "version": found.version}
            assert {**told, "hash": expected["hash"]} == expected, path
        self.read_all(store)

    def read_all(self, store: Store) -> None:
        """Every file is there byte for byte."""
        for path, expected in self.files.items():
            assert blake3(store.read_bytes(path)).hexdigest() == expected["hash"], path

    def raise_format(self) -> None:
        """Say that a build of the next catalog format has had it. The servers have ended."""
        connection = apsw.Connection(str(self.directory / "master" / CATALOG_FILE))
        connection.execute("UPDATE meta SET number = number + 1 WHERE name = 'format'")
        connection.close()

    def audit(self) -> None:
        """The catalog counts right. The servers have ended."""
        disk = OsDisk(self.directory / "master")
        catalog = Catalog.open(disk, rng=random.Random(0), secret=load_or_create_secret(disk, random.Random(0)))
        try:
            assert catalog.audit() == []
        finally:
            catalog.close()
