"""The data directory of a local cluster: what the cluster was made with, how much room it gets, who runs it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec

from dsa_zmq.config import LocalOptions, check_nodes
from dsa_zmq.directory import owner_of
from dsa_zmq.errors import AlreadyExists, ConfigError, Invalid, NoSpace
from dsa_zmq.machine import held_bytes
from dsa_zmq.model.limits import RESERVE_MIN_BYTES, RESERVE_SHARE
from dsa_zmq.model.placement import DEFAULT_POLICY
from dsa_zmq.model.redundancy import DEFAULT
from dsa_zmq.model.volumes import DIRECTORY as VOLUMES
from dsa_zmq.process import write_atomically

NODES = 4
SHAPE = "cluster.json"  #: what the cluster was made with
STATE = "run/up.json"  #: who runs it now


class Shape(msgspec.Struct, frozen=True):
    """What a local cluster was made with; a later start needs not say it again."""

    nodes: int
    redundancy: str
    placement: str = DEFAULT_POLICY


def default_directory() -> Path:
    """Where ``dsa up`` keeps its data unless told otherwise."""
    import platformdirs

    return Path(platformdirs.user_data_dir("dsa", appauthor=False)) / "local"


def settle_shape(directory: Path, options: LocalOptions) -> Shape:
    """What is there, or what is to be made, after comparing it with what was asked for."""
    file = directory / SHAPE
    try:
        there = msgspec.json.decode(file.read_bytes(), type=Shape)
    except FileNotFoundError:
        there = None
    except (msgspec.MsgspecError, OSError) as error:
        raise ConfigError(
            f"{file} cannot be read: {error}", "restore it: it says nodes, redundancy, placement"
        ) from None
    if there is None:
        shape = Shape(options.nodes or NODES, options.redundancy or DEFAULT, options.placement or DEFAULT_POLICY)
    else:
        for name in ("redundancy", "placement"):
            asked = getattr(options, name)
            if asked is not None and asked != getattr(there, name):
                raise Invalid(
                    f"the cluster in {directory} was made with {getattr(there, name)}, not {asked}",
                    f"leave --{name} out, or give another --dir",
                )
        if options.nodes is not None and options.nodes < there.nodes:
            raise Invalid(
                f"the cluster in {directory} has {there.nodes} nodes, and {options.nodes} would leave data behind",
                f"say --nodes {there.nodes} or more, or leave it out",
            )
        shape = Shape(options.nodes or there.nodes, there.redundancy, there.placement)
    check_nodes(shape.nodes, shape.redundancy)
    if shape != there:
        keep_shape(directory, shape)
    return shape


def keep_shape(directory: Path, shape: Shape) -> None:
    """Write it down for the next start."""
    write_atomically(directory / SHAPE, msgspec.structs.asdict(shape))


def capacity_each(directory: Path, nodes: int) -> int:
    """Bytes for each node: an equal share of what the disk has free and of the shards that they hold already, less the
    reserve, which is also for the catalog's copies."""
    disk = shutil.disk_usage(directory)
    held = held_bytes(directory, but=(VOLUMES,))
    share = (disk.free + held - max(RESERVE_MIN_BYTES, int(disk.total * RESERVE_SHARE))) // nodes
    if share <= 0:
        raise NoSpace(
            f"the disk of {directory} has {disk.free >> 20} MiB free, which is less than its reserve",
            "free some space, or give a --dir on another disk",
        )
    return share


def refuse_second(directory: Path) -> None:
    owner = owner_of(directory)
    if owner is None:
        return
    state = read_state(directory)
    where = f" at {state['url']}" if "url" in state else ""
    raise AlreadyExists(
        f"the cluster in {directory} already runs{where} (process {owner})",
        f"use it, stop it with 'dsa down --dir {directory}', or give another --dir and --port",
    )


def read_state(directory: Path) -> dict[str, Any]:
    try:
        state = json.loads((directory / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}
