"""From the nodes' directories alone: every file byte by byte, or named as not whole; and nothing is changed in them."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dsa_zmq.errors import ConfigError, Incompatible, NotFound
from dsa_zmq.salvage.catalogs import Wish
from dsa_zmq.salvage.report import LOST, Fate, Item
from dsa_zmq.salvage.run import Salvaged
from tests.salvage.conftest import CODED, Fallen, Kept, compare, fingerprint, written
from tests.salvage.copies import Chronicle, data_of, put_volume, state_of

pytestmark = pytest.mark.slow

Run = Callable[..., Salvaged]


def test_all_files_come_back_and_the_directories_stay_as_they_were(
    fallen: Fallen, run: Run, kept: Kept, out: Path, unchanged: Callable[[Sequence[Path]], None]
) -> None:
    unchanged(fallen.nodes)
    result = run(*fallen.nodes)
    compare(fallen, out, kept)
    assert result.totals.files[Fate.WRITTEN] == len(fallen.files)
    assert kept.moves == [len(fallen.files), sum(len(file.data) for file in fallen.files.values())]
    assert result.nodes == [node.name for node in fallen.nodes]
    assert sorted(result.notes) == []
    assert (out / "empty directory").stat().st_mode & 0o777 == 0o700
    assert (out / "locked").stat().st_mode & 0o777 == 0o500
    assert {path for path, item in kept.items.items() if item.local} == {"/new\nline", "/tab\there"}
    assert not (out / ".dsa-salvage").exists()


def test_nothing_in_them_is_even_opened_for_writing(fallen: Fallen, tmp_path: Path) -> None:
    watching = """
import os, sys
from pathlib import Path
tops = tuple(sys.argv[2:])
def hook(event, arguments):
    if event == "open" and str(arguments[0]).startswith(tops):
        assert not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC), arguments
sys.addaudithook(hook)
from dsa_zmq.salvage.run import Options, salvage
salvage(Options(tops, Path(sys.argv[1])))
"""
    line = [sys.executable, "-c", watching, str(tmp_path / "out"), *map(str, fallen.nodes)]
    assert subprocess.run(line, check=False).returncode == 0


def test_a_directory_above_all_of_them_will_do(fallen: Fallen, run: Run, kept: Kept, out: Path) -> None:
    run(fallen.top)
    compare(fallen, out, kept)


@pytest.mark.parametrize("gone", range(6))
def test_without_any_one_node_everything_is_there(fallen: Fallen, run: Run, kept: Kept, out: Path, gone: int) -> None:
    result = run(*(node for number, node in enumerate(fallen.nodes) if number != gone))
    assert not result.totals.lost
    compare(fallen, out, kept)


def test_of_too_few_nodes_what_they_have_is_written_and_the_rest_is_listed(
    fallen: Fallen, run: Run, kept: Kept, out: Path
) -> None:
    result = run(*fallen.nodes[2:])
    compare(fallen, out, kept)
    lost = [path for path, item in kept.items.items() if item.fate in LOST]
    assert 0 < len(lost) == result.totals.lost
    assert all(fallen.files[path].redundancy in ("copies=2", "ec=2+1") for path in lost), (
        "the others survive two losses"
    )
    assert any(file.data and path.startswith(tuple(CODED)) for path, file in fallen.files.items() if path not in lost)


def test_one_node_alone_says_how_much_is_missing_of_each_file(fallen: Fallen, run: Run, kept: Kept, out: Path) -> None:
    run(fallen.nodes[0])
    compare(fallen, out, kept)
    item = kept.items["/of-4700001"]
    assert (item.size, item.chunks) == (4_700_001, 5)
    assert 0 < item.missing <= 5
    assert item.fate is (Fate.DAMAGED if item.missing < 5 else Fate.UNREADABLE), "which node has what is chance"
    assert kept.items["/ec42/of-4700001"].fate is Fate.UNREADABLE
    assert "1 of 4 needed shards" in kept.items["/ec42/of-4700001"].why


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits_never_make_wrong_files(
    fallen: Fallen, run: Run, kept: Kept, out: Path, tmp_path: Path, seed: int
) -> None:
    rng, damaged = random.Random(seed), fallen.copy(tmp_path / "damaged")
    segments = sorted(tmp_path.glob("damaged/*/segments/*.seg"))
    for path in segments:
        with path.open("r+b") as file:
            used = path.read_bytes().rstrip(b"\0")
            for _ in range(rng.choice([0, 3, 40])):
                at = rng.randrange(len(used) or 1)
                file.seek(at)
                file.write(bytes([used[at] ^ 1 << rng.randrange(8) if used else 0]))
    result = run(*damaged.nodes)
    compare(fallen, out, kept)
    assert result.totals.files[Fate.WRITTEN] > len(fallen.files) // 2


def test_a_segment_that_was_cut_off_or_overwritten_costs_what_was_in_it(
    fallen: Fallen, run: Run, kept: Kept, out: Path, tmp_path: Path
) -> None:
    damaged = fallen.copy(tmp_path / "damaged")
    for node in damaged.nodes[:3]:
        first = node / "segments" / "00000001.seg"
        os.truncate(first, first.stat().st_size // 2)
    with (damaged.nodes[3] / "segments" / "00000001.seg").open("r+b") as file:
        file.write(random.Random(1).randbytes(100_000))
    (damaged.nodes[4] / "segments" / "00000001.seg").unlink()
    run(*damaged.nodes)
    compare(fallen, out, kept)


def test_damaged_files_are_written_in_part_only_when_asked(fallen: Fallen, run: Run, kept: Kept, out: Path) -> None:
    result = run(fallen.nodes[0], partial=True)
    there = written(out)
    holed = [path for path, item in kept.items.items() if item.fate is Fate.DAMAGED]
    assert result.totals.partial == len(holed) > 0
    for path in holed:
        data, item = bytearray(fallen.files[path].data), kept.items[path]
        assert item.local == f"{out}{path}.partial"
        assert path not in there
        for offset, length in item.holes:
            data[offset : offset + length] = bytes(length)
        assert there[f"{path}.partial"] == data


def test_a_second_run_goes_on_where_the_first_one_ended(fallen: Fallen, run: Run, kept: Kept, out: Path) -> None:
    class Enough(Kept):
        def moved(self, files: int, size: int) -> None:
            super().moved(files, size)
            if self.moves[0] == 250:
                raise KeyboardInterrupt

    from dsa_zmq.salvage.run import Options, salvage

    with pytest.raises(KeyboardInterrupt):
        salvage(Options(fallen.nodes, out), Enough())
    assert not (out / ".dsa-salvage").exists()
    before = set(written(out))
    assert 240 < len(before) < len(fallen.files)
    second = run(*fallen.nodes)
    compare(fallen, out, kept)
    assert second.totals.files[Fate.SKIPPED] == len(before)
    assert second.totals.files[Fate.WRITTEN] == len(fallen.files) - len(before)
    kept.items.clear()
    before_third = fingerprint([out])
    third = run(*fallen.nodes)
    assert third.totals.files[Fate.SKIPPED] == len(fallen.files)
    changed = [path for path, was in fingerprint([out]).items() if before_third[path] != was and path != str(out)]
    assert not changed


def test_more_directories_later_make_more_files_whole(fallen: Fallen, run: Run, kept: Kept, out: Path) -> None:
    first = run(*fallen.nodes[:2])
    kept.items.clear()
    second = run(*fallen.nodes)
    compare(fallen, out, kept)
    assert second.totals.files[Fate.SKIPPED] == first.totals.files[Fate.WRITTEN]


def test_what_is_in_the_way_stays_unless_force_is_said(fallen: Fallen, run: Run, kept: Kept, out: Path) -> None:
    out.mkdir()
    (out / "of-1").write_bytes(b"?")
    (out / "of-70000").write_text("mine")
    (out / "small").symlink_to("/nowhere")
    (out / "copy of it").mkdir()
    result = run(*fallen.nodes)
    assert (out / "of-70000").read_text() == "mine"
    assert (out / "of-1").read_bytes() == b"?"
    assert kept.items["/of-1"].fate is kept.items["/of-70000"].fate is kept.items["/copy of it"].fate is Fate.REFUSED
    assert kept.items["/small/"] == Item(
        "/small/", Fate.REFUSED, why=f"{out}/small is there already, and is no directory"
    )
    assert result.totals.files[Fate.REFUSED] == 403
    (out / "small").unlink()
    (out / "copy of it").rmdir()
    kept.items.clear()
    run(*fallen.nodes, force=True)
    compare(fallen, out, kept)


def test_a_dry_run_tells_the_same_and_writes_nothing(fallen: Fallen, run: Run, kept: Kept, out: Path) -> None:
    plan = run(*fallen.nodes[2:], dry_run=True)
    assert not out.exists()
    planned = {path: item._replace(why="") for path, item in kept.items.items()}
    kept.items.clear()
    result = run(*fallen.nodes[2:])
    assert plan.totals.files == result.totals.files
    assert plan.totals.bytes == result.totals.bytes
    assert planned == {path: item._replace(why="") for path, item in kept.items.items() if item.fate in LOST}
    kept.items.clear()
    assert run(*fallen.nodes[2:], dry_run=True).totals.files[Fate.WRITTEN] == 2, "under other names: not looked for"


def test_without_a_copy_of_the_catalog_it_says_what_would_help(fallen: Fallen, run: Run, kept: Kept, out: Path) -> None:
    with pytest.raises(NotFound) as refused:
        run(*fallen.nodes[3:])
    assert "--catalog" in refused.value.remedy
    assert str(fallen.catalog) not in refused.value.remedy
    with pytest.raises(NotFound) as refused:
        run(*fallen.nodes[3:], fallen.top / "master", fallen.nodes[3])
    assert f"--catalog {fallen.catalog}" in refused.value.remedy
    assert not [path for path in out.rglob("*") if path.is_file()]


def test_a_stopped_masters_catalog_will_do_and_is_not_touched(
    fallen: Fallen, run: Run, kept: Kept, out: Path, unchanged: Callable[[Sequence[Path]], None]
) -> None:
    unchanged([fallen.catalog.parent])
    run(*fallen.nodes[1:], wish=Wish(fallen.catalog))
    compare(fallen, out, kept)


def test_a_backup_will_do(fallen: Fallen, run: Run, kept: Kept, out: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    backup.write_bytes(data_of(Chronicle(state_of(fallen.catalog)).snapshot()))
    run(*fallen.nodes[3:], fallen.nodes[0], fallen.nodes[1], wish=Wish(backup))
    compare(fallen, out, kept)


@pytest.mark.parametrize("data", [b"", b"SQLite format 3\0 and nonsense", b"plain text", bytes(5000)])
def test_what_is_no_catalog_is_refused(fallen: Fallen, run: Run, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    with pytest.raises((ConfigError, OSError)) as refused:
        run(*fallen.nodes, wish=Wish(tmp_path / "file"))
    assert str(tmp_path / "file") in str(refused.value)


def test_directories_of_two_clusters_are_refused(fallen: Fallen, run: Run, tmp_path: Path) -> None:
    import dsa_zmq

    with dsa_zmq.LocalCluster(1, "copies=1", directory=tmp_path / "other"):
        pass
    with pytest.raises(Incompatible, match="different clusters"):
        run(fallen.nodes[0], tmp_path / "other" / "node-1")
    with pytest.raises(Incompatible, match="the catalog is of cluster"):
        run(tmp_path / "other" / "node-1", wish=Wish(fallen.catalog))


def test_a_damaged_node_json_keeps_nobody_from_reading(
    fallen: Fallen, run: Run, kept: Kept, out: Path, tmp_path: Path
) -> None:
    damaged = fallen.copy(tmp_path / "damaged")
    for node in damaged.nodes:
        (node / "node.json").write_text("{")
    result = run(damaged.top)
    compare(fallen, out, kept)
    assert len(result.notes) == 6


def test_nothing_is_written_into_or_around_a_node(fallen: Fallen, run: Run) -> None:
    for target in (fallen.nodes[0] / "out", fallen.nodes[1], fallen.top):
        for named in (fallen.nodes, [fallen.top]):
            with pytest.raises(ConfigError, match="within each other"):
                run(*named, target=target)


def test_what_is_no_node_is_named(fallen: Fallen, run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "disk.img").touch()
    for path, words in {"empty": "none below it", "disk.img": "mount", "missing": "does not exist"}.items():
        with pytest.raises(ConfigError) as refused:
            run(*fallen.nodes, tmp_path / path)
        assert words in str(refused.value)


def test_two_at_once_are_refused(fallen: Fallen, run: Run, out: Path) -> None:
    from dsa_zmq.salvage.scratch import Scratch

    with Scratch(out), pytest.raises(ConfigError, match="in use"):
        run(*fallen.nodes)


def test_what_a_killed_run_left_is_removed(fallen: Fallen, run: Run, kept: Kept, out: Path) -> None:
    from dsa_zmq.salvage.scratch import Scratch

    with Scratch(out) as left:
        (left.path / "part").write_bytes(b"half")
        os.link(left.path / "part", out.parent / "kept")
    (out / ".dsa-salvage").mkdir()
    (out / ".dsa-salvage" / "DSA.json").write_text('{"kind": "salvage", "format": 1}')
    (out / ".dsa-salvage" / "lock").touch()
    (out / ".dsa-salvage" / "part").write_bytes(b"half")
    run(*fallen.nodes)
    compare(fallen, out, kept)


def test_directories_without_the_right_to_write_are_enough(
    fallen: Fallen, run: Run, kept: Kept, out: Path, tmp_path: Path, unchanged: Callable[[Sequence[Path]], None]
) -> None:
    locked = fallen.copy(tmp_path / "locked")
    for path in sorted(locked.top.rglob("*"), reverse=True):
        path.chmod(0o500 if path.is_dir() else 0o400)
    unchanged(locked.nodes)
    run(*locked.nodes)
    compare(fallen, out, kept)


def test_files_that_need_a_library_are_counted_and_the_others_written(
    fallen: Fallen, run: Run, kept: Kept, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dsa_zmq.model import erasure

    def forget() -> None:
        erasure._checked_library.cache_clear()
        erasure._new_driver.cache_clear()

    forget()
    monkeypatch.setitem(sys.modules, "pyeclib", None)
    try:
        result = run(*fallen.nodes[:5])
    finally:
        forget()
    compare(fallen, out, kept)
    assert 0 < result.totals.library == result.totals.lost
    assert all(path.startswith(tuple(CODED)) for path, item in kept.items.items() if item.fate in LOST)


def test_a_store_that_is_being_written_to_is_read_as_far_as_it_is_known(
    run: Run, kept: Kept, out: Path, tmp_path: Path
) -> None:
    import dsa_zmq

    rng = random.Random(3)
    files = {f"/live/{number}": rng.randbytes(2000) for number in range(100)}
    with dsa_zmq.LocalCluster(3, directory=tmp_path / "c") as cluster, cluster.connect() as store:
        store.put_many([(data, path) for path, data in files.items()])
        state: Any = state_of(tmp_path / "c" / "master" / "catalog.sqlite")
        before = fingerprint([tmp_path / "c" / "node-1" / "segments"])
        put_volume(tmp_path / "c" / "node-1", data_of(Chronicle(state).snapshot()))
        result = run(tmp_path / "c")
        assert store.read_bytes("/live/7") == files["/live/7"]
        assert fingerprint([tmp_path / "c" / "node-1" / "segments"]) == before
    assert result.totals.files[Fate.WRITTEN] == 100
    assert written(out) == files
