"""Disks that die under the reading, or fill up under the writing, cost what they hit and nothing else."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from dsa_zmq.errors import NoSpace
from dsa_zmq.salvage.report import Fate
from dsa_zmq.salvage.run import Salvaged
from dsa_zmq.salvage.shard_map import ShardMap
from dsa_zmq.salvage.sources import find_sources
from tests.salvage.conftest import Fallen, Kept, compare, written
from tests.salvage.copies import large_volume, put_volume

pytestmark = pytest.mark.slow

Run = Callable[..., Salvaged]
SECTOR = 512


@pytest.fixture
def bad_sectors(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, int], None]:
    """Makes sectors of a file unreadable."""
    bad: dict[int, set[int]] = {}
    read = os.pread

    def pread(fd: int, size: int, offset: int) -> bytes:
        sectors = bad.get(os.fstat(fd).st_ino, ())
        if any(at * SECTOR < offset + size and offset < (at + 1) * SECTOR for at in sectors):
            raise OSError(errno.EIO, "Input/output error")
        return read(fd, size, offset)

    def mark(path: Path, sector: int) -> None:
        monkeypatch.setattr(os, "pread", pread)
        bad.setdefault(path.stat().st_ino, set()).add(sector)

    return mark


def test_sectors_that_cannot_be_read_cost_what_they_hit(
    fallen: Fallen, run: Run, kept: Kept, out: Path, bad_sectors: Callable[[Path, int], None]
) -> None:
    rng = random.Random(4)
    for node in fallen.nodes:
        for path in node.glob("segments/*.seg"):
            used = len(path.read_bytes().rstrip(b"\0"))
            for _ in range(6 if used > 100_000 else 0):
                bad_sectors(path, rng.randrange(used // SECTOR))
            bad_sectors(path, 0)
            bad_sectors(path, path.stat().st_size // SECTOR - 1)
    for node, sector in zip(fallen.nodes, (3, 20, 60), strict=False):
        [volume] = node.glob("catalog/*.volume")
        bad_sectors(volume, sector)
    result = run(*fallen.nodes)
    compare(fallen, out, kept)
    assert result.totals.lost < 10


def test_a_directory_that_cannot_be_read_is_named(
    fallen: Fallen, run: Run, kept: Kept, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(path: Any, *arguments: Any, **named: Any) -> int:
        if str(path).startswith(f"{fallen.nodes[1]}/segments/"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *arguments, **named)

    monkeypatch.setattr(os, "open", refuse)
    result = run(*fallen.nodes)
    compare(fallen, out, kept)
    [note] = result.notes
    assert note.startswith(f"{fallen.nodes[1]}/segments/")
    assert "Permission denied" in note


def test_a_segment_that_goes_away_meanwhile_is_done_without(fallen: Fallen, tmp_path: Path) -> None:
    node = tmp_path / "node"
    shutil.copytree(fallen.nodes[0], node)
    shards = ShardMap(apsw.Connection(":memory:"), find_sources([node]).nodes)
    assert list(shards.scan())[-1] == shards.shards > 100
    found = shards.find(next(chunk for (chunk,) in shards._database.execute("SELECT chunk FROM shards")))
    assert shards.read(found[0]) is not None
    shards.close_files()
    for path in node.glob("segments/*.seg"):
        path.unlink()
    assert shards.read(found[0]) is None
    assert shards.read(found[0]) is None
    assert "No such file" in shards.notes[0]
    shards.close()


def test_a_target_without_room_is_refused_before_anything_is_written(
    fallen: Fallen, run: Run, kept: Kept, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = sum(len(file.data) for file in fallen.files.values())
    usage = namedtuple("usage", "total used free")

    def room(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(total, 0, free))

    room(total - 1)
    with pytest.raises(NoSpace, match="are to be written"):
        run(*fallen.nodes)
    assert not written(out)
    kept.items.clear()
    run(*fallen.nodes[:1], partial=True)
    kept.items.clear()
    there = sum(len(data) for path, data in written(out).items() if not path.endswith(".partial"))
    for path in out.rglob("*.partial"):
        path.unlink()
    room(total - there)
    assert run(*fallen.nodes).totals.files[Fate.SKIPPED] > 0


def test_a_target_that_fills_up_keeps_whole_files_only_and_a_later_run_goes_on(
    fallen: Fallen, run: Run, kept: Kept, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = os.pwrite, [5_000_000]

    def pwrite(fd: int, data: Any, offset: int) -> int:
        if len(data) > left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= len(data)
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(NoSpace) as refused:
        run(*fallen.nodes)
    assert "run it again" in refused.value.remedy
    there = written(out)
    assert there
    assert all(fallen.files[path].data == data for path, data in there.items() if "~" not in path)
    assert not (out / ".dsa-salvage").exists()
    left[0] = 1 << 40
    kept.items.clear()
    assert run(*fallen.nodes).totals.files[Fate.SKIPPED] == len(there)
    compare(fallen, out, kept)


def test_a_file_that_is_too_large_for_the_target_is_refused_alone(
    fallen: Fallen, run: Run, kept: Kept, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite

    def pwrite(fd: int, data: Any, offset: int) -> int:
        if offset + len(data) > 4_000_000:
            raise OSError(errno.EFBIG, "File too large")
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    result = run(*fallen.nodes)
    refused = {path for path, item in kept.items.items() if item.fate is Fate.REFUSED}
    assert refused == {path for path, file in fallen.files.items() if len(file.data) > 4_000_000}
    assert result.totals.files[Fate.WRITTEN] == len(fallen.files) - len(refused)


def test_names_that_the_target_refuses_are_replaced_by_safe_ones(
    fallen: Fallen, run: Run, kept: Kept, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, mkdir = os.replace, os.mkdir

    def replace(source: str, target: str) -> None:
        if len(os.path.basename(target)) > 143 or not target.isascii():
            raise OSError(errno.ENAMETOOLONG, "File name too long", target)
        real(source, target)

    def make(path: str | Path, mode: int = 0o777) -> None:
        if str(path).count("/") - str(out).count("/") > 7:
            raise OSError(errno.ENAMETOOLONG, "File name too long", path)
        mkdir(path, mode)

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(os, "mkdir", make)
    run(*fallen.nodes)
    there = written(out)
    assert sorted(there.values()) == sorted(file.data for file in fallen.files.values())
    assert {path for path, item in kept.items.items() if not path.endswith("/")} == {
        "/new\nline", "/tab\there", "/é-nfc", "/e\u0301-nfd", "/日本語", "/" + "a" * 255,
    }  # fmt: skip
    deep = kept.items["/deeper/a/b/c/d/e/f/g/"]
    assert Path(deep.local).parent == out
    assert kept.items.keys() & {"/deeper/a/b/c/d/e/f/g/h/"} == set()
    kept.items.clear()
    assert run(*fallen.nodes).totals.files[Fate.SKIPPED] == len(fallen.files)


MEASURE = """
import resource, sys
from pathlib import Path
from dsa_zmq.salvage.catalogs import Wish
from dsa_zmq.salvage.run import Options, salvage
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
totals = salvage(Options([sys.argv[1]], Path(sys.argv[2]), dry_run=True)).totals
print(sum(totals.files.values()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_number_of_files(tmp_path: Path) -> None:
    grown = []
    for files in (1_000, 100_000):
        node = tmp_path / str(files)
        (node / "segments").mkdir(parents=True)
        put_volume(node, b"".join(large_volume(files, b"sixteen bytes ok")))
        line = [sys.executable, "-c", MEASURE, str(node), str(tmp_path / "out")]
        words = subprocess.run(line, capture_output=True, text=True, check=True).stdout.split()
        assert int(words[0]) == files
        grown.append(int(words[1]))
    unit = 1 if sys.platform == "darwin" else 1024
    assert (grown[1] - grown[0]) * unit < 60_000_000
