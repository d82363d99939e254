"""Writes what a catalog names: each file whole, or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from dsa_zmq.errors import NoSpace
from dsa_zmq.model.ids import ROOT_INODE
from dsa_zmq.salvage.assembly import Assembly, Lack
from dsa_zmq.salvage.names import REFUSED, Names
from dsa_zmq.salvage.namespace import Entry, Namespace
from dsa_zmq.salvage.report import Fate, Item, Watcher
from dsa_zmq.salvage.target import InTheWay, Part, Target
from dsa_zmq.salvage.walk import Folder, Tally, Walk

PARTIAL = ".partial"
_RENAMED = "it has another name here"


class Write(Walk):
    """Writes all there is. With ``partial`` also files with holes, as NAME.partial."""

    def __init__(
        self,
        namespace: Namespace,
        assembly: Assembly,
        watcher: Watcher,
        target: Target,
        names: Names,
        *,
        partial: bool = False,
    ) -> None:
        super().__init__(namespace, assembly, watcher)
        self._target = target
        self._names = names
        self._partial = partial

    # --- directories ------------------------------------------------------------------------------------------------

    def enter(self, parent: Folder | None, entry: Entry) -> str:
        if parent is None:
            return self._target.top
        why = "its directory could not be made"
        for local in self._places(parent, entry) if parent.local else ():
            try:
                self.totals.directories += self._target.make_directory(local)
            except NoSpace:
                raise
            except OSError as error:
                why = error.message if isinstance(error, InTheWay) else f"{local}: {error.strerror}"
                if error.errno in REFUSED:
                    continue
                break
            if os.path.basename(local) != entry.name or os.path.dirname(local) != parent.local:
                self.totals.renamed += 1
                self._watcher.met(Item(f"{parent.path_of(entry)}/", Fate.WRITTEN, local, _RENAMED))
            return local
        self.totals.failed_directories += 1
        self._watcher.met(Item(f"{parent.path_of(entry)}/", Fate.REFUSED, why=why))
        return ""

    def leave(self, folder: Folder) -> None:
        if folder.local and folder.path:
            self._target.finish_directory(folder.local, folder.entry)

    # --- files --------------------------------------------------------------------------------------------------------

    def file(self, folder: Folder, entry: Entry) -> None:
        if not folder.local:
            self.done(folder, entry, Fate.REFUSED, why="its directory could not be made")
            return
        part: Part | None = None
        tally = Tally()
        why = ""
        with contextlib.ExitStack() as cleanup:
            for local in self._places(folder, entry):
                try:
                    if self._target.has(local, entry, self._namespace.chunks(entry)):
                        self._settled(folder, entry, Fate.SKIPPED, tally, local)
                        return
                    if part is None:
                        part = cleanup.enter_context(self._target.writing(entry))
                        self._fill(part, entry, tally)
                    if tally.missing:
                        self._holed(folder, entry, tally, part)
                        return
                    part.put(local)
                    self._settled(folder, entry, Fate.WRITTEN, tally, local)
                    return
                except NoSpace:
                    raise
                except OSError as error:
                    why = error.message if isinstance(error, InTheWay) else f"{local}: {error.strerror or error}"
                    if error.errno not in REFUSED:
                        break
            self.done(folder, entry, Fate.REFUSED, tally, why=why)

    def _fill(self, part: Part, entry: Entry, tally: Tally) -> None:
        """Write what can be had; nothing any more once something is missing and only whole files are wanted."""
        for length, wanted in self._namespace.chunks(entry):
            made = self._assembly.make(wanted)
            if isinstance(made, Lack):
                tally.add(length, made)
                self._watcher.moved(0, length)
                continue
            if self._partial or not tally.missing:
                part.write(made, tally.offset)
            tally.add(length, None)
            self._watcher.moved(0, length)

    def _holed(self, folder: Folder, entry: Entry, tally: Tally, part: Part) -> None:
        """A file that is not whole."""
        if not self._partial or tally.fate is Fate.UNREADABLE:
            self.done(folder, entry, tally.fate, tally)
            return
        why = tally.why
        for local in self._places(folder, entry, PARTIAL):
            try:
                part.put(local)
            except NoSpace:
                raise
            except OSError as error:
                why = f"{tally.why}; {error.strerror or error}"
                if error.errno not in REFUSED:
                    break
            else:
                self.done(folder, entry, tally.fate, tally, local=local)
                return
        self.done(folder, entry, tally.fate, tally, why=why)

    def _settled(self, folder: Folder, entry: Entry, fate: Fate, tally: Tally, local: str) -> None:
        other = os.path.basename(local) != entry.name or os.path.dirname(local) != folder.local
        self.done(folder, entry, fate, tally, local=local, why=_RENAMED if other else "")

    def _places(self, folder: Folder, entry: Entry, suffix: str = "") -> Iterator[str]:
        """Where it may go, the best first: at the end the top, for what lies too deep for this file system."""
        for name in self._names.candidates(folder.entry.inode, entry, suffix):
            yield f"{folder.local}/{name}"
        if folder.local != self._target.top:
            yield f"{self._target.top}/{self._names.safe(ROOT_INODE, entry)}{suffix}"
