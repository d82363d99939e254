"""Salvage: from node directories alone to files, offline, without a master or a node. Nothing in them is changed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dsa_zmq.errors import ConfigError, NoSpace
from dsa_zmq.model.sizes import counted, format_size
from dsa_zmq.salvage.assembly import Assembly
from dsa_zmq.salvage.catalogs import Source, Wish, make_catalog
from dsa_zmq.salvage.names import Names, folds_names
from dsa_zmq.salvage.report import Fate, Totals, Watcher
from dsa_zmq.salvage.scratch import Scratch
from dsa_zmq.salvage.shard_map import ShardMap
from dsa_zmq.salvage.sources import Sources, find_sources
from dsa_zmq.salvage.target import Target
from dsa_zmq.salvage.walk import Look
from dsa_zmq.salvage.writing import Write


@dataclass(frozen=True)
class Options:
    """What is wanted."""

    directories: Sequence[str | os.PathLike[str]]
    target: Path
    wish: Wish = field(default_factory=Wish)
    partial: bool = False  #: files with holes, too
    force: bool = False  #: replace files that are there with another content
    dry_run: bool = False  #: write nothing


@dataclass(frozen=True)
class Salvaged:
    """What came of it."""

    totals: Totals
    nodes: list[str]  #: whose directories were read
    catalog: str  #: which one was used
    moment_ns: int  #: of its last change; 0: not known
    notes: list[str]  #: what was odd


def salvage(options: Options, watcher: Watcher | None = None) -> Salvaged:
    """Write every file that can be made whole. Raises a DSAError if it cannot begin, or cannot go on."""
    watcher = watcher or Watcher()
    target = options.target.absolute()
    sources = find_sources(options.directories, but=target)
    _refuse_inside(target, sources)
    with Scratch(None if options.dry_run else target) as scratch:
        source = make_catalog(options.wish, sources, scratch, watcher.stage)
        shards = ShardMap(scratch.database("shards.sqlite"), sources.nodes)
        try:
            _scan(shards, watcher)
            totals = _go(options, target, source, Assembly(shards), scratch, watcher)
        finally:
            shards.close()
            source.namespace.close()
        if not options.dry_run and hasattr(os, "sync"):
            watcher.stage("waiting for the disk")
            os.sync()
        notes = [*sources.notes, *source.notes, *shards.notes]
        return Salvaged(totals, [node.name for node in sources.nodes], source.text, source.moment_ns, notes)


def _scan(shards: ShardMap, watcher: Watcher) -> None:
    for number, found in enumerate(shards.scan(), 1):
        watcher.stage(f"reading headers: segment {number:,} of {shards.files:,}, {counted(found, 'shard')}")


def _go(
    options: Options, target: Path, source: Source, assembly: Assembly, scratch: Scratch, watcher: Watcher
) -> Totals:
    files, size = source.namespace.totals()
    watcher.expect(files, size)
    if options.dry_run:
        return Look(source.namespace, assembly, watcher, target).run()
    place = Target(target, scratch.path, force=options.force)
    if size > place.free_bytes():
        watcher.stage("counting what is to be written")
        _check_room(Look(source.namespace, assembly, Watcher(), target).run(), place, partial=options.partial)
    names = Names(source.namespace, scratch.database("names.sqlite"), folds=folds_names(scratch.path))
    return Write(source.namespace, assembly, watcher, place, names, partial=options.partial).run()


def _check_room(expected: Totals, place: Target, *, partial: bool) -> None:
    needed = expected.bytes[Fate.WRITTEN] + (expected.bytes[Fate.DAMAGED] if partial else 0)
    free = place.free_bytes()
    if needed > free:
        raise NoSpace(
            f"{format_size(needed)} are to be written, and {place.top} has {format_size(free)} left",
            "give a place with more room; what is there already is not written again",
            place.top,
        )


def _refuse_inside(target: Path, sources: Sources) -> None:
    """Nothing may ever be written into a node's directory, nor mixed with one."""
    real = target.resolve()
    for node in sources.nodes:
        directory = node.path.resolve()
        if directory.is_relative_to(real) or real.is_relative_to(directory):
            raise ConfigError(
                f"{target} and the node's directory {node.path} are within each other",
                "write to a directory elsewhere, best on another disk",
                str(target),
            )
