"""One pass over a catalog's namespace, in bounded memory: at any moment there are the directories on the way down, with a
page of names each, and one file."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dsa_zmq.master.catalog.tables import DIRECTORY, FILE
from dsa_zmq.model.ids import ROOT_INODE
from dsa_zmq.salvage.assembly import Assembly, Lack
from dsa_zmq.salvage.namespace import Entry, Namespace
from dsa_zmq.salvage.report import LOST, Fate, Item, Totals, Watcher
from dsa_zmq.salvage.target import looks_there


class Folder(NamedTuple):
    """A directory on the way down."""

    entry: Entry
    path: str  #: in the store; "" for the root
    local: str  #: on this machine; "" if it could not be made
    below: Iterator[Entry]  #: its directories, as far as they were not entered yet

    def path_of(self, entry: Entry) -> str:
        """In the store."""
        return f"{self.path}/{entry.name}"


class Tally:
    """What a file lacks, chunk by chunk."""

    def __init__(self) -> None:
        self.chunks = 0
        self.missing = 0
        self.why = ""
        self.holes: list[tuple[int, int]] = []  #: (offset, length), neighbours joined
        self.offset = 0  #: of the next chunk
        self.needs_library = True  #: for all that is missing

    def add(self, length: int, lack: Lack | None) -> None:
        """The next chunk."""
        self.chunks += 1
        if lack is not None:
            self.missing += 1
            self.why = self.why or lack.why
            self.needs_library = self.needs_library and lack.needs_library
            if self.holes and sum(self.holes[-1]) == self.offset:
                self.holes[-1] = (self.holes[-1][0], self.holes[-1][1] + length)
            else:
                self.holes.append((self.offset, length))
        self.offset += length

    @property
    def fate(self) -> Fate:
        """If nothing else happens."""
        if not self.missing:
            return Fate.WRITTEN
        return Fate.UNREADABLE if self.missing == self.chunks else Fate.DAMAGED


class Walk(ABC):
    """What is done with files and directories is for subclasses to say."""

    def __init__(self, namespace: Namespace, assembly: Assembly, watcher: Watcher) -> None:
        self._namespace = namespace
        self._assembly = assembly
        self._watcher = watcher
        self.totals = Totals()

    def run(self) -> Totals:
        """Go over all. Raises NoSpace, or Corrupt if the catalog cannot be read on."""
        root = self._namespace.root()
        way = [self._open(None, root)]
        while way:
            folder = way[-1]
            entry = next(folder.below, None)
            if entry is None:
                self.leave(way.pop())
            elif any(entry.inode == above.entry.inode for above in way):  # only a catalog with gaps can say so
                self._watcher.met(Item(folder.path_of(entry), Fate.UNREADABLE, why="it contains itself"))
            else:
                way.append(self._open(folder, entry))
        return self.totals

    def _open(self, parent: Folder | None, entry: Entry) -> Folder:
        """Enter a directory, and deal with the files in it."""
        files = self._namespace.entries(entry.inode, FILE)
        below = self._namespace.entries(entry.inode, DIRECTORY)
        if entry.inode == ROOT_INODE:
            files = itertools.chain(files, self._namespace.unnamed(FILE))
            below = itertools.chain(below, self._namespace.unnamed(DIRECTORY))
        folder = Folder(entry, "" if parent is None else parent.path_of(entry), self.enter(parent, entry), below)
        for file in files:
            if file.mode is None:
                self.done(folder, file, Fate.UNREADABLE, why="the catalog has lost what it is")
            else:
                self.file(folder, file)
        return folder

    @abstractmethod
    def enter(self, parent: Folder | None, entry: Entry) -> str:
        """Make a directory; where it is, or "". Without a parent it is the root."""

    @abstractmethod
    def leave(self, folder: Folder) -> None:
        """Everything in it is done with."""

    @abstractmethod
    def file(self, folder: Folder, entry: Entry) -> None:
        """Deal with a file, and say what became of it."""

    def done(
        self,
        folder: Folder,
        entry: Entry,
        fate: Fate,
        tally: Tally | None = None,
        *,
        local: str = "",
        why: str = "",
    ) -> None:
        """Count a file, and tell of it if there is something to tell: why it is not whole, or not under its name."""
        tally = tally or Tally()
        totals = self.totals
        totals.count(fate, entry.size)
        why = why or tally.why
        if fate in LOST:
            totals.library += tally.needs_library and tally.missing > 0
            totals.partial += bool(local)
        elif why and fate is not Fate.REFUSED:
            totals.renamed += 1
        if why:
            holes = tuple(tally.holes) if local else ()
            path = folder.path_of(entry)
            self._watcher.met(Item(path, fate, local, why, entry.size, tally.chunks, tally.missing, holes))
        self._watcher.moved(1, entry.size - tally.offset)


class Look(Walk):
    """Only looks: which files are there already, and of which enough shards seem to be here."""

    def __init__(self, namespace: Namespace, assembly: Assembly, watcher: Watcher, target: Path) -> None:
        super().__init__(namespace, assembly, watcher)
        self._top = str(target)

    def enter(self, parent: Folder | None, entry: Entry) -> str:
        if parent is None:
            return self._top
        self.totals.directories += 1
        return f"{parent.local}/{entry.name}"

    def leave(self, folder: Folder) -> None:
        """Nothing was done to it."""

    def file(self, folder: Folder, entry: Entry) -> None:
        if looks_there(f"{folder.local}/{entry.name}", entry):
            self.done(folder, entry, Fate.SKIPPED)
            return
        tally = Tally()
        for length, wanted in self._namespace.chunks(entry):
            tally.add(length, self._assembly.look(wanted))
            self._watcher.moved(0, length)
        self.done(folder, entry, tally.fate, tally)
