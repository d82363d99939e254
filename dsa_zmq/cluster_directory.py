"""The directory of a local cluster: its master's directory, and beside it one for each node."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from types import TracebackType
from typing import Self

from actors.disk import OsDisk
from dsa_zmq import app
from dsa_zmq.cluster_servers import MASTER
from dsa_zmq.config import NodeOptions
from dsa_zmq.directory import MARKER, DataDirectory, open_directory
from dsa_zmq.errors import ConfigError, DSAError
from dsa_zmq.master.catalog.catalog import CATALOG_FILE, is_empty
from dsa_zmq.node.identity import FILE as IDENTITY
from dsa_zmq.node.identity import read_identity

_NAME = re.compile(r"node-([1-9][0-9]{0,5})")


def node_name(number: int) -> str:
    """Of the node with this number, from 1 on; also of its directory."""
    return f"node-{number}"


def nodes_in(root: Path) -> list[str]:
    """Names of the nodes here that belong to a cluster. One that cannot be read does."""
    found = []
    with contextlib.suppress(OSError):
        for path in root.iterdir():
            named = _NAME.fullmatch(path.name)
            if named and (path / IDENTITY).exists() and _has_cluster(path):
                found.append(int(named[1]))
    return [node_name(number) for number in sorted(found)]


def _has_cluster(path: Path) -> bool:
    try:
        return bool(read_identity(OsDisk(path)).cluster)
    except (DSAError, OSError):
        return True


def refuse_lost_catalog(root: Path) -> None:
    """Raise ConfigError if nodes here belong to a cluster whose catalog is not here: a new one would not know what they
    hold."""
    if (nodes := nodes_in(root)) and is_empty(OsDisk(root / MASTER), CATALOG_FILE):
        raise ConfigError(
            f"the catalog of the cluster in {root} is lost: {', '.join(nodes)} belong to it, and '{root / MASTER}' has none",
            f"make it anew from its nodes: 'dsa cluster restore --from-nodes --dir {root}'; or give another directory",
            str(root),
        )


class NodesAlone:
    """The nodes of a local cluster without its master, in threads of this process, for as long as a ``with`` block lasts.
    Nobody else uses the directory meanwhile. Raises DSAError."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock: DataDirectory | None = None
        self._servers: list[app.Server] = []

    def __enter__(self) -> Self:
        if (self._root / MARKER).exists():
            self._lock = open_directory(self._root, "local")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.stop()
        if self._lock is not None:
            self._lock.close()

    def start(self, master: str) -> None:
        """Start them; they look for a master at ``master``, which is ``host:port``."""
        for name in nodes_in(self._root):
            options = NodeOptions(master=master, path=str(self._root / name), name=name, host=name, port=0, reserve=0)
            self._servers.append(app.start(options.checked()))
