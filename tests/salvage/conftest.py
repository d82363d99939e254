"""A cluster that was filled and stopped, and what was in it."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import dsa_zmq
from dsa_zmq.salvage.report import Fate, Item, Watcher
from dsa_zmq.salvage.run import Options, Salvaged, salvage
from tests.salvage.copies import Chronicle, data_of, put_volume, state_of

NODES = 6
CODED = {"/ec42": "ec=4+2", "/ec21": "ec=2+1"}
ODD = (
    "new\nline",
    "tab\there",
    "  spaces  ",
    "-dash",
    "quote'\"",
    "é-nfc",
    "e\u0301-nfd",
    "日本語",
    "a" * 255,
    "%41",
    "CON",
)


@dataclass(frozen=True)
class File:
    """What a file is to be after a salvage."""

    data: bytes
    mode: int = 0o644
    mtime_ns: int = 1_700_000_000_123_456_789
    redundancy: str = "copies=2"


@dataclass
class Fallen:
    """A cluster that is no more: its directory, and all files that were acknowledged."""

    top: Path
    files: dict[str, File] = field(default_factory=dict)

    @property
    def nodes(self) -> list[Path]:
        return [self.top / f"node-{number}" for number in range(1, NODES + 1)]

    @property
    def catalog(self) -> Path:
        return self.top / "master" / "catalog.sqlite"

    def copy(self, top: Path) -> Fallen:
        """Another one to damage, without what tells of the catalog on the master."""
        for node in self.nodes:
            shutil.copytree(node, top / node.name)
        return Fallen(top, self.files)


class Kept(Watcher):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}
        self.moves = [0, 0]

    def moved(self, files: int, size: int) -> None:
        self.moves[0] += files
        self.moves[1] += size

    def met(self, item: Item) -> None:
        assert item.path not in self.items
        self.items[item.path] = item


def contents(seed: int) -> dict[str, File]:
    """Files of all kinds, each with bytes of its own."""
    rng = random.Random(seed)
    files = {"/" + name: File(rng.randbytes(100)) for name in ODD}
    files |= {f"/small/{number % 7}/{number}": File(rng.randbytes(rng.randrange(5000))) for number in range(400)}
    files |= {f"/deep/{'/'.join('abcdefghij')}/{number}": File(rng.randbytes(50)) for number in range(3)}
    for top, redundancy in {"": "copies=2", "/three": "copies=3", **CODED}.items():
        for size in (0, 1, 70_000, 1 << 20, (1 << 20) + 1, 4_700_001):
            files[f"{top}/of-{size}"] = File(rng.randbytes(size), redundancy=redundancy)
    files["/read-only"] = File(b"only to be read", mode=0o400)
    files["/nobody"] = File(b"not even that", mode=0)
    files["/old"] = File(b"from before the epoch", mtime_ns=-1_500_000_000)
    return files


def fill(store: Any, files: dict[str, File]) -> None:
    """Store them all, and some that are overwritten, removed and moved."""
    rng = random.Random(9)
    for directory, redundancy in {"/three": "copies=3", **CODED}.items():
        store.mkdir(directory, redundancy=redundancy)
    store.mkdir("/empty directory", mode=0o700)
    store.mkdir("/locked", mode=0o500)
    for path, file in files.items():
        if file.redundancy == "copies=2":
            store.put([rng.randbytes(len(file.data) // 2)], path)
    for path, file in files.items():
        parts = [file.data[at : at + 300_000] for at in range(0, len(file.data), 300_000)]
        store.put(parts, path, mode=file.mode, mtime_ns=file.mtime_ns)
    for number in range(50):
        store.put([rng.randbytes(3000)], f"/gone/{number}")
    store.rm("/gone", recursive=True)
    store.mv("/deep", "/deeper")
    files |= {path.replace("/deep/", "/deeper/"): files.pop(path) for path in list(files) if path.startswith("/deep/")}
    store.cp("/of-70000", "/copy of it")
    files["/copy of it"] = files["/of-70000"]


@pytest.fixture(scope="session", name="fallen")
def _fallen(tmp_path_factory: pytest.TempPathFactory) -> Fallen:
    """Not to be changed: see :meth:`Fallen.copy`. Three nodes have a copy of the catalog."""
    fallen = Fallen(tmp_path_factory.mktemp("fallen") / "cluster", contents(1))
    with dsa_zmq.LocalCluster(NODES, directory=fallen.top, segment_bytes=8 << 20) as cluster:
        with cluster.connect() as store:
            fill(store, fallen.files)
        for number in range(NODES):
            cluster.kill(number)  # nothing is put in order
    data = data_of(Chronicle(state_of(fallen.catalog)).snapshot())
    for node in fallen.nodes:
        shutil.rmtree(node / "catalog", ignore_errors=True)
    for node in fallen.nodes[:3]:
        put_volume(node, data)
    return fallen


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def run(out: Path, kept: Kept) -> Callable[..., Salvaged]:
    """Salvages directories."""

    def call(*directories: Path, **options: Any) -> Salvaged:
        return salvage(Options(directories, options.pop("target", out), **options), kept)

    return call


def written(out: Path) -> dict[str, bytes]:
    """All files below a folder by their paths in it."""
    found = {}
    for path in Path(out).rglob("*"):
        if path.is_file():
            with os.fdopen(os.open(path, os.O_RDONLY), "rb") as file:
                found["/" + str(path.relative_to(out))] = file.read()
    return found


def compare(fallen: Fallen, out: Path, kept: Kept) -> None:
    """Every file is there byte by byte, or listed as not whole; nothing else is there."""
    there = written(out)
    for path, file in fallen.files.items():
        item = kept.items.get(path)
        if item is not None and item.fate in (Fate.DAMAGED, Fate.UNREADABLE):
            assert path not in there
            assert item.missing
            continue
        local = "/" + str(Path(item.local).relative_to(out)) if item is not None else path
        assert there.pop(local) == file.data, path
        status = os.lstat(f"{out}{local}")
        assert (status.st_mode & 0o777, status.st_mtime_ns) == (file.mode, file.mtime_ns), path
    assert not there


def fingerprint(tops: Sequence[Path]) -> dict[str, tuple[int, int, int, str]]:
    """Everything in these trees: mode, time of change, size and content."""
    found = {}
    for top in tops:
        for path in [top, *sorted(top.rglob("*"))]:
            status = os.lstat(path)
            digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            found[str(path)] = (status.st_mode, status.st_mtime_ns, status.st_size, digest)
    return found


@pytest.fixture
def unchanged() -> Iterator[Callable[[Sequence[Path]], None]]:
    """Holds that trees are the same at the end of the test."""
    before: dict[str, Any] = {}
    tops: list[Path] = []

    def watch(some: Sequence[Path]) -> None:
        tops.extend(some)
        before.update(fingerprint(some))

    yield watch
    assert fingerprint(tops) == before
