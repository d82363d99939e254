"""Finding node directories: what an operator names may be one, hold several, or be the mount of a disk that has one.

Everything is only ever looked at: the directories may be on read-only mounts, or be images of dying disks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from actors.disk import OsDisk
from dsa_zmq.errors import ConfigError, DSAError, Incompatible
from dsa_zmq.master.catalog.catalog import CATALOG_FILE as CATALOG
from dsa_zmq.model.volumes import DIRECTORY as VOLUMES
from dsa_zmq.model.volumes import SUFFIX as VOLUME
from dsa_zmq.node.identity import FILE as IDENTITY
from dsa_zmq.node.identity import read_identity
from dsa_zmq.node.segment_files import DIRECTORY as SEGMENTS
from dsa_zmq.node.segment_files import SUFFIX as SEGMENT

DEPTH = 4  #: directories below one that was named are looked through so far down
_MARKS = (IDENTITY, SEGMENTS)


@dataclass(frozen=True)
class NodeDirectory:
    """One node's directory."""

    path: Path
    name: str  #: as the node is called; that of the directory if it does not say
    cluster: bytes  #: b"" if it does not say
    segments: tuple[str, ...]  #: paths in it
    volumes: tuple[str, ...]  #: of the catalog, paths in it

    @property
    def disk(self) -> OsDisk:
        return OsDisk(self.path)


@dataclass
class Sources:
    """What there is to read from."""

    nodes: list[NodeDirectory] = field(default_factory=list)
    catalogs: list[Path] = field(default_factory=list)  #: of masters, met on the way
    notes: list[str] = field(default_factory=list)  #: what was odd

    @property
    def cluster(self) -> bytes:
        """Whose nodes these are; b"" if none of them says so."""
        return next((node.cluster for node in self.nodes if node.cluster), b"")


def find_sources(paths: Sequence[str | os.PathLike[str]], but: Path | None = None) -> Sources:
    """All node directories at and below ``paths``, each once, but none in ``but``.

    ConfigError for a path where there is none, Incompatible if they belong to different clusters.
    """
    sources = Sources()
    seen: set[tuple[int, int]] = set()
    for path in paths:
        _search(Path(path).absolute(), sources, seen, _identity(but) if but is not None and but.exists() else None)
    by_cluster = {node.cluster: node.path for node in sources.nodes if node.cluster}
    if len(by_cluster) > 1:
        each = ", ".join(f"{path} to {cluster.hex()[:8]}" for cluster, path in by_cluster.items())
        raise Incompatible(f"these directories belong to different clusters: {each}", "name those of one cluster")
    return sources


def _search(top: Path, sources: Sources, seen: set[tuple[int, int]], but: tuple[int, int] | None) -> None:
    _refuse(top)
    is_of_use = False
    pending = [(top, 0)]
    while pending:
        path, depth = pending.pop()
        try:
            identity = _identity(path)
            inside = sorted(os.listdir(path))
        except OSError as error:
            sources.notes.append(f"{path} cannot be read: {error.strerror or error}")
            continue
        is_node = _is_node(path, inside)
        is_of_use = is_of_use or is_node or CATALOG in inside or identity in seen
        if identity in seen or (identity == but and depth and not is_node):
            continue
        seen.add(identity)
        if is_node:
            sources.nodes.append(_open(path, sources.notes))
        elif depth < DEPTH:
            pending += [(path / name, depth + 1) for name in reversed(inside) if _is_directory(path / name)]
        if CATALOG in inside:
            sources.catalogs.append(path / CATALOG)
    if not is_of_use:
        raise ConfigError(
            f"{top} is no node's directory, and there is none below it",
            "name directories that 'dsa node --path' was given; they have a node.json and segments/",
            str(top),
        )


def _identity(path: Path) -> tuple[int, int]:
    """The same for all paths to one directory."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _refuse(top: Path) -> None:
    """What is no directory cannot be one of a node."""
    if not top.exists():
        raise ConfigError(f"{top} does not exist", "check the path", str(top))
    if not top.is_dir():
        remedy = "mount an image of a disk first, read-only: 'mount -o ro,loop IMAGE DIRECTORY'"
        raise ConfigError(f"{top} is a file, not a directory", remedy, str(top))


def _is_node(path: Path, inside: Iterable[str]) -> bool:
    return any(mark in inside for mark in _MARKS) or (VOLUMES in inside and any(_volumes(path, [])))


def _is_directory(path: Path) -> bool:
    """Links are not followed: they may lead in circles, or away."""
    try:
        return path.is_dir() and not path.is_symlink()
    except OSError:
        return False


def _open(path: Path, notes: list[str]) -> NodeDirectory:
    name, cluster = path.name, b""
    try:
        identity = read_identity(OsDisk(path))
        name, cluster = identity.name or name, identity.cluster
    except (DSAError, OSError) as error:
        what = error.message if isinstance(error, DSAError) else f"{IDENTITY}: {error.strerror or error}"
        notes.append(f"{path}: {what}; what it holds is used all the same")
    segments: tuple[str, ...] = ()
    try:
        segments = tuple(f"{SEGMENTS}/{file}" for file in sorted(os.listdir(path / SEGMENTS)) if file.endswith(SEGMENT))
    except OSError as error:
        notes.append(f"{path}: {SEGMENTS}: {error.strerror or error}")
    return NodeDirectory(path, name, cluster, segments, tuple(_volumes(path, notes)))


def _volumes(path: Path, notes: list[str]) -> Iterator[str]:
    try:
        inside = sorted(os.listdir(path / VOLUMES))
    except FileNotFoundError:
        return
    except OSError as error:
        notes.append(f"{path}: {VOLUMES}: {error.strerror or error}")
        return
    yield from (f"{VOLUMES}/{file}" for file in inside if file.endswith(VOLUME))
