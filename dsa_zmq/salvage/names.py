"""Names on this machine for names of the store: the same wherever that can be, else a safe one, which is listed."""

from __future__ import annotations

import errno
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import apsw

from dsa_zmq.salvage.namespace import Entry, Namespace
from dsa_zmq.salvage.scratch import NAME as SCRATCH

STEM_BYTES = 100  #: of a safe name: short enough for any file system, long enough to recognise it
EXTENSION_BYTES = 12  #: what is longer is no extension
REFUSED = frozenset((errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTSUP))
"""Errors of file systems that do not take a name."""

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.,+=@ ()")
_NOT_ON_WINDOWS = frozenset('<>:"/\\|?*')
_PORTS = frozenset(f"{kind}{number}" for kind in ("com", "lpt") for number in range(1, 10))
_DEVICES = _PORTS | {"con", "prn", "aux", "nul"}


class Names:
    """Chooses the names of one run."""

    def __init__(
        self, namespace: Namespace, database: apsw.Connection, *, folds: bool, windows: bool = os.name == "nt"
    ) -> None:
        """``folds``: the target takes names for equal that differ in case or in the form of Unicode. ``database`` is an
        empty one, for what has to be remembered then."""
        self._namespace = namespace
        self._database = database
        self._folds = folds
        self._windows = windows
        database.execute(
            "CREATE TABLE taken (parent INTEGER, folded TEXT, inode INTEGER, PRIMARY KEY (parent, folded))"
        )

    def candidates(self, parent: int, entry: Entry, suffix: str = "") -> Iterator[str]:
        """Names to try in the directory ``parent``, the best first; the same in each run. ``suffix`` is put behind each, and
        is then the end of no other name."""
        taken = suffix and self._namespace.has(parent, entry.name + suffix)
        if not taken and not self._is_odd(entry.name) and self._is_free(parent, entry):
            yield entry.name + suffix
        yield self.safe(parent, entry) + suffix

    def safe(self, parent: int, entry: Entry) -> str:
        """A name that every file system takes, and that nothing else in the directory has."""
        stem, extension = os.path.splitext(entry.name)
        if len(extension) > EXTENSION_BYTES or not _PLAIN.issuperset(extension):
            stem, extension = entry.name, ""
        plain = "".join(letter if letter in _PLAIN else _escaped(letter) for letter in stem)
        name = f"{plain[:STEM_BYTES].strip(' .')}~{entry.inode:x}{extension.rstrip(' .')}"
        while self._namespace.has(parent, name):
            name += "~"
        return name

    def _is_odd(self, name: str) -> bool:
        if not name.isprintable() and any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
            return True
        if name in ("", ".", "..", SCRATCH) or "/" in name:  # a volume that somebody made up must not lead elsewhere
            return True
        if not (self._windows or self._folds):
            return False
        # What is not case-sensitive is Windows, or a disk that is: names may lose their end there without a word.
        device = name.split(".", 1)[0].rstrip().lower() in _DEVICES
        return device or name.endswith((".", " ")) or not _NOT_ON_WINDOWS.isdisjoint(name)

    def _is_free(self, parent: int, entry: Entry) -> bool:
        """Of those that the target takes for equal the first one gets the name."""
        if not self._folds:
            return True
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", entry.name).casefold())
        self._database.execute("INSERT OR IGNORE INTO taken VALUES (?, ?, ?)", (parent, folded, entry.inode))
        [(inode,)] = self._database.execute(
            "SELECT inode FROM taken WHERE parent = ? AND folded = ?", (parent, folded)
        ).fetchall()
        return bool(inode == entry.inode)


def folds_names(directory: Path) -> bool:
    """Whether the file system takes names for equal that are not. Makes a file there, and removes it."""
    probe = directory / "Case-\u00e9"
    try:
        probe.touch()
    except OSError:  # such letters do not exist there
        probe = directory / "Case-e"
        probe.touch()
    try:
        others = {probe.name.lower(), unicodedata.normalize("NFD", probe.name)} - {probe.name}
        return any((directory / other).exists() for other in others)
    finally:
        probe.unlink()


def _escaped(letter: str) -> str:
    return "".join(f"%{byte:02X}" for byte in letter.encode("utf-8", "surrogatepass"))
