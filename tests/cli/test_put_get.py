"""Files and folders to the store and back: the rules for targets, merging, what is kept, what is skipped and said."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from tests.cli.conftest import Dsa

MTIME_NS = 1_234_567_890_123_456_000
ODD_NAMES = [
    "with space", "'quoted' \"twice\"", "new\nline", "tab\there", "ünïcödé-日本語-🙂", "-rf", "--help", "*?[x]",
    "a;b|c&d$(e)",
    "x" * 255, "é" * 127 + "y", "...", "dsa:", "back\\slash", "\x1b[31mred", "%s%n", " ",
]  # fmt: skip


def local_tree(top: Path) -> dict[str, bytes | None]:
    """All that is below a folder: content of files, None for folders."""
    return {
        os.fspath(path.relative_to(top)): None if path.is_dir() else path.read_bytes()
        for path in sorted(top.rglob("*"))
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with some depth, an empty folder and an empty file."""
    top = tmp_path / "data"
    for name in ("a.bin", "sub/b.bin", "sub/deep/c.bin"):
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(3000))
    (top / "empty").mkdir()
    (top / "nothing").touch()
    return top


# --- files -------------------------------------------------------------------------------------------------------------


def test_a_file_gets_the_exact_name_and_its_parents_are_made(dsa: Dsa, tmp_path: Path) -> None:
    source = tmp_path / "x.bin"
    source.write_bytes(content := os.urandom(5000))
    dsa.ok("put", str(source), f"{dsa.home}/new/dir/y.bin")
    assert dsa.tree() == {"new": None, "new/dir": None, "new/dir/y.bin": content}


def test_a_target_ending_in_a_slash_gets_the_file_inside(dsa: Dsa, tmp_path: Path) -> None:
    source = tmp_path / "x.bin"
    source.write_bytes(content := os.urandom(50))
    dsa.ok("put", str(source), f"{dsa.home}/in/")
    assert dsa.store.read_bytes(f"{dsa.home}/in/x.bin") == content
    dsa.ok("get", f"{dsa.home}/in/x.bin", f"{tmp_path}/out/")
    assert (tmp_path / "out/x.bin").read_bytes() == content


def test_several_sources_go_inside(dsa: Dsa, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(os.urandom(10))
    dsa.ok("put", str(tmp_path / "a"), str(tmp_path / "b"), f"{dsa.home}/both")
    assert set(dsa.tree()) == {"both", "both/a", "both/b"}
    dsa.ok("get", f"{dsa.home}/both/a", f"{dsa.home}/both/b", str(tmp_path / "back"))
    assert local_tree(tmp_path / "back") == dsa.tree(f"{dsa.home}/both")


def test_a_file_onto_an_existing_directory_is_refused_with_the_way_inside(dsa: Dsa, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(os.urandom(10))
    ran = dsa("put", str(tmp_path / "x"), dsa.home)
    assert ran.status == 4
    assert f"add / to put the file inside: '{dsa.home}/'" in ran.err
    dsa.ok("put", str(tmp_path / "x"), f"{dsa.home}/x")
    (tmp_path / "there").mkdir()
    ran = dsa("get", f"{dsa.home}/x", str(tmp_path / "there"))
    assert ran.status == 4
    assert "add / to put the file inside" in ran.err
    assert not list((tmp_path / "there").iterdir())


def test_nothing_can_be_put_inside_a_file(dsa: Dsa, tmp_path: Path, folder: Path) -> None:
    (tmp_path / "x").write_bytes(os.urandom(10))
    dsa.ok("put", str(tmp_path / "x"), f"{dsa.home}/x")
    for source in (str(tmp_path / "x"), str(folder)):
        assert dsa("put", source, f"{dsa.home}/x/").status == 4
        assert dsa("put", source, f"{dsa.home}/x/y").status == 4
    assert dsa("put", str(folder), f"{dsa.home}/x").status == 4
    assert dsa("get", f"{dsa.home}/x", f"{tmp_path}/x/").status == 4
    assert list(dsa.tree()) == ["x"]


def test_get_without_a_target_puts_things_into_the_current_folder(
    dsa: Dsa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsa.store.write_bytes(f"{dsa.home}/x", content := os.urandom(10))
    monkeypatch.chdir(tmp_path)
    dsa.store.write_bytes(f"{dsa.home}/d/y", content)
    dsa.ok("get", f"{dsa.home}/x", f"dsa:{dsa.home}/d")  # the prefix says that the last one is no target
    assert local_tree(tmp_path) == {"x": content, "d": None, "d/y": content}
    dsa.ok("get", f"{dsa.home}/d/y")
    assert (tmp_path / "y").read_bytes() == content


def test_a_dot_as_the_target_means_inside(dsa: Dsa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dsa.store.write_bytes(f"{dsa.home}/d/x", content := os.urandom(10))
    monkeypatch.chdir(tmp_path)
    dsa.ok("get", f"{dsa.home}/d", ".")
    assert local_tree(tmp_path) == {"d": None, "d/x": content}
    monkeypatch.chdir(tmp_path / "d")
    dsa.ok("put", ".", f"{dsa.home}/into/")  # a source '.' brings the folder's name along
    assert set(dsa.tree(f"{dsa.home}/into")) == {"d", "d/x"}


def test_the_prefix_is_taken_everywhere(dsa: Dsa, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content := os.urandom(10))
    dsa.ok("put", str(tmp_path / "x"), f"dsa:{dsa.home}/x")
    assert dsa.ok("cat", f"dsa:{dsa.home}/x").out == content
    assert dsa.ok("ls", f"dsa:{dsa.home}").text == "x\n"
    dsa.ok("get", f"dsa:{dsa.home}/x", str(tmp_path / "y"))
    assert (tmp_path / "y").read_bytes() == content


def test_time_and_mode_are_kept_both_ways(dsa: Dsa, tmp_path: Path) -> None:
    source = tmp_path / "run.sh"
    source.write_bytes(os.urandom(100))
    source.chmod(0o750)
    os.utime(source, ns=(MTIME_NS, MTIME_NS))
    dsa.ok("put", str(source), f"{dsa.home}/run.sh")
    found = dsa.store.stat(f"{dsa.home}/run.sh")
    assert (found.mode, found.mtime_ns) == (0o750, MTIME_NS)
    dsa.ok("get", f"{dsa.home}/run.sh", str(tmp_path / "back.sh"))
    status = (tmp_path / "back.sh").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o750, MTIME_NS)


def test_a_named_symbolic_link_is_followed(dsa: Dsa, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content := os.urandom(10))
    (tmp_path / "link").symlink_to("x")
    dsa.ok("put", str(tmp_path / "link"), f"{dsa.home}/")
    assert dsa.tree() == {"link": content}


def test_a_named_pipe_is_read_to_its_end(dsa: Dsa, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, content := os.urandom(5000))
    os.close(writing)
    dsa.ok("put", f"/dev/fd/{reading}", f"{dsa.home}/piped")
    os.close(reading)
    assert dsa.tree() == {"piped": content}


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, 3_000_000])
def test_standard_input_and_output_carry_any_length(dsa: Dsa, size: int) -> None:
    content = os.urandom(size)
    dsa.ok("put", "-", f"{dsa.home}/s", stdin=content)
    assert dsa.ok("get", f"{dsa.home}/s", "-").out == content
    assert dsa.ok("cat", f"{dsa.home}/s", f"{dsa.home}/s").out == content * 2


def test_a_stream_needs_a_name_and_goes_alone(dsa: Dsa, tmp_path: Path) -> None:
    assert dsa("put", "-", f"{dsa.home}/", stdin=b"x").status == 2
    assert dsa("put", "-", "-", f"{dsa.home}/x", stdin=b"x").status == 2
    assert dsa("get", "/a", "/b", "-").status == 2
    assert dsa.tree() == {}


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_come_back_as_they_were(dsa: Dsa, tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(content := os.urandom(64))
    dsa.ok("put", str(tmp_path / "in" / name), f"{dsa.home}/")
    dsa.ok("put", str(tmp_path / "in"), f"{dsa.home}/tree")
    assert dsa.tree() == {name: content, "tree": None, f"tree/{name}": content}
    dsa.ok("get", f"{dsa.home}/tree", str(tmp_path / "out"))
    assert local_tree(tmp_path / "out") == {name: content}


# --- folders -----------------------------------------------------------------------------------------------------------


def test_a_folder_comes_back_as_it_was(dsa: Dsa, tmp_path: Path, folder: Path) -> None:
    dsa.ok("put", str(folder), f"{dsa.home}/data")
    assert dsa.tree(f"{dsa.home}/data") == local_tree(folder)
    dsa.ok("get", f"{dsa.home}/data", str(tmp_path / "back"))
    assert local_tree(tmp_path / "back") == local_tree(folder)


def test_a_folder_goes_inside_a_target_with_a_slash(dsa: Dsa, tmp_path: Path, folder: Path) -> None:
    dsa.ok("put", f"{folder}/", f"{dsa.home}/in/")
    assert dsa.tree(f"{dsa.home}/in/data") == local_tree(folder)
    dsa.ok("get", f"{dsa.home}/in/data", f"{tmp_path}/out/")
    assert local_tree(tmp_path / "out/data") == local_tree(folder)


def test_a_second_run_changes_nothing_and_says_so(dsa: Dsa, tmp_path: Path, folder: Path) -> None:
    dsa.ok("put", str(folder), f"{dsa.home}/data")
    before = {entry.path: entry for entry in dsa.store.glob(f"{dsa.home}/**")}
    ran = dsa.ok("put", str(folder), f"{dsa.home}/data")
    assert ran.err.startswith("stored 0 files")
    assert "; 4 unchanged" in ran.err
    assert {entry.path: entry for entry in dsa.store.glob(f"{dsa.home}/**")} == before
    dsa.ok("get", f"{dsa.home}/data", str(tmp_path / "back"))
    inodes = {path: path.stat().st_ino for path in (tmp_path / "back").rglob("*")}
    assert "fetched 0 files" in (ran := dsa.ok("get", f"{dsa.home}/data", str(tmp_path / "back"))).err
    assert "; 4 unchanged" in ran.err
    assert {path: path.stat().st_ino for path in (tmp_path / "back").rglob("*")} == inodes


def test_only_what_changed_is_copied_again(dsa: Dsa, tmp_path: Path, folder: Path) -> None:
    dsa.ok("put", str(folder), f"{dsa.home}/data")
    dsa.ok("get", f"{dsa.home}/data", str(tmp_path / "back"))
    (folder / "a.bin").write_bytes(os.urandom(3000))  # the same size, a new time
    (folder / "sub/b.bin").chmod(0o700)  # content and time stay
    (folder / "new").write_bytes(os.urandom(10))
    assert dsa.ok("put", str(folder), f"{dsa.home}/data", "--json").objects[0]["files"] == 3
    fetched = dsa.ok("get", f"{dsa.home}/data", str(tmp_path / "back"), "--json").objects[0]
    assert (fetched["files"], fetched["unchanged"]) == (2, 3)
    assert local_tree(tmp_path / "back") == local_tree(folder)
    assert stat.S_IMODE((tmp_path / "back/sub/b.bin").stat().st_mode) == 0o700


def test_all_copies_what_looks_unchanged_too(dsa: Dsa, tmp_path: Path) -> None:
    source = tmp_path / "d" / "x"
    source.parent.mkdir()
    for content in (os.urandom(100), os.urandom(100)):
        source.write_bytes(content)
        os.utime(source, ns=(MTIME_NS, MTIME_NS))
        dsa.ok("put", "--all", str(source.parent), f"{dsa.home}/d")
        dsa.ok("put", "--all", str(source), f"{dsa.home}/x")
        assert dsa.tree() == {"d": None, "d/x": content, "x": content}


def test_a_folder_merges_with_what_is_there(dsa: Dsa, tmp_path: Path, folder: Path) -> None:
    dsa.store.write_bytes(f"{dsa.home}/data/sub/other", other := os.urandom(10))
    dsa.ok("put", str(folder), f"{dsa.home}/data")
    assert dsa.tree(f"{dsa.home}/data") == local_tree(folder) | {"sub/other": other}
    (tmp_path / "back").mkdir()
    (tmp_path / "back/mine").write_bytes(b"mine")
    dsa.ok("get", f"{dsa.home}/data", str(tmp_path / "back"))
    assert local_tree(tmp_path / "back") == local_tree(folder) | {"sub/other": other, "mine": b"mine"}


def test_modes_of_folders_are_kept_and_existing_ones_left_alone(dsa: Dsa, tmp_path: Path) -> None:
    (tmp_path / "d/locked").mkdir(parents=True)
    (tmp_path / "d/locked/x").write_bytes(os.urandom(10))
    (tmp_path / "d/locked").chmod(0o555)
    dsa.ok("put", str(tmp_path / "d"), f"{dsa.home}/d")
    assert dsa.store.stat(f"{dsa.home}/d/locked").mode == 0o555
    (tmp_path / "back").mkdir(mode=0o711)
    (tmp_path / "back").chmod(0o711)
    dsa.ok("get", f"{dsa.home}/d", str(tmp_path / "back"))
    assert stat.S_IMODE((tmp_path / "back/locked").stat().st_mode) == 0o555
    made_ns = dsa.store.stat(f"{dsa.home}/d/locked").mtime_ns
    assert (tmp_path / "back/locked").stat().st_mtime_ns == made_ns
    assert stat.S_IMODE((tmp_path / "back").stat().st_mode) == 0o711


def test_links_and_special_files_are_skipped_and_counted(dsa: Dsa, tmp_path: Path, folder: Path) -> None:
    (folder / "link").symlink_to("a.bin")
    (folder / "sub/dirlink").symlink_to("deep")
    (folder / "dangling").symlink_to("nowhere")
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(folder / "socket"))
    ran = dsa.ok("put", str(folder), f"{dsa.home}/data")
    assert "skipped: 3 symbolic links, 2 special files" in ran.err
    assert set(dsa.tree(f"{dsa.home}/data")) == {
        "a.bin", "sub", "sub/b.bin", "sub/deep", "sub/deep/c.bin", "empty", "nothing",
    }  # fmt: skip


def test_links_are_followed_with_l_but_not_in_circles(dsa: Dsa, tmp_path: Path, folder: Path) -> None:
    (folder / "link").symlink_to("a.bin")
    (folder / "sub/deep/up").symlink_to("../..")
    (folder / "twin").symlink_to("sub/deep")  # seen twice, but not in itself
    (folder / "dangling").symlink_to("nowhere")
    ran = dsa("put", "-L", str(folder), f"{dsa.home}/data")
    assert ran.status == 1
    assert f"{folder}/sub/deep/up leads back to a folder that it is in" in ran.err
    assert f"{folder}/dangling: No such file or directory" in ran.err
    assert "3 failed" in ran.err
    tree = dsa.tree(f"{dsa.home}/data")
    assert tree["link"] == tree["a.bin"] == (folder / "a.bin").read_bytes()
    assert tree["twin/c.bin"] == tree["sub/deep/c.bin"]
    assert "sub/deep/up" not in tree


def test_what_cannot_be_stored_is_said_in_a_line_each_and_the_rest_goes_on(dsa: Dsa, folder: Path) -> None:
    undecodable = os.fsencode(folder) + b"/bad\xff"
    with open(undecodable, "wb") as file:
        file.write(b"x")
    dsa.store.mkdir(f"{dsa.home}/data/a.bin", parents=True)  # where a file must go
    dsa.store.write_bytes(f"{dsa.home}/data/empty", b"")  # where a folder must go
    ran = dsa("put", str(folder), f"{dsa.home}/data")
    assert ran.status == 1
    assert ran.err.count("dsa: ") == 3
    assert "bad\\udcff cannot be stored" in ran.err
    assert f"'{dsa.home}/data/a.bin' is a directory" in ran.err
    assert f"'{dsa.home}/data/empty' is a file" in ran.err
    assert "; 3 failed" in ran.err
    assert dsa.tree(f"{dsa.home}/data")["sub/deep/c.bin"] == (folder / "sub/deep/c.bin").read_bytes()


def test_what_cannot_be_kept_here_is_said_and_the_rest_goes_on(dsa: Dsa, tmp_path: Path, folder: Path) -> None:
    dsa.ok("put", str(folder), f"{dsa.home}/data")
    back = tmp_path / "back"
    (back / "a.bin").mkdir(parents=True)  # where a file must go
    (back / "sub").write_bytes(b"")  # where a directory must go
    ran = dsa("get", f"{dsa.home}/data", str(back))
    assert ran.status == 1
    assert f"{back}/a.bin is a directory" in ran.err
    assert f"{back}/sub is a file" in ran.err
    assert "; 2 failed" in ran.err
    assert local_tree(back) == {"a.bin": None, "sub": b"", "empty": None, "nothing": b""}


def test_two_sources_of_one_name_are_refused_before_anything_moves(dsa: Dsa, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same").write_bytes(os.urandom(10))
    ran = dsa("put", str(tmp_path / "a/same"), str(tmp_path / "b/same"), f"{dsa.home}/")
    assert ran.status == 2
    assert "two of the sources are called 'same'" in ran.err
    assert dsa.tree() == {}


def test_a_missing_source_is_said_before_anything_moves(dsa: Dsa, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    assert dsa("put", str(tmp_path / "x"), str(tmp_path / "missing"), f"{dsa.home}/").status == 1
    assert dsa.tree() == {}
    dsa.store.write_bytes(f"{dsa.home}/x", b"x")
    assert dsa("get", f"{dsa.home}/x", f"{dsa.home}/missing", f"{tmp_path}/out/").status == 3
    assert not (tmp_path / "out").exists()


def test_quiet_says_nothing_and_json_one_object(dsa: Dsa, tmp_path: Path, folder: Path) -> None:
    assert dsa.ok("put", "-q", str(folder), f"{dsa.home}/a") == (0, b"", "")
    ran = dsa.ok("put", "--json", str(folder), f"{dsa.home}/b")
    assert ran.err == ""
    (made,) = ran.objects
    assert made.pop("seconds") >= 0
    assert made == {
        "files": 4, "bytes": 9000, "unchanged": 0, "directories": 4, "symlinks": 0, "special": 0, "failed": 0,
        "missing_shards": 0,
    }  # fmt: skip


def test_at_a_terminal_there_is_a_bar_and_in_a_pipe_none(dsa: Dsa, folder: Path) -> None:
    assert dsa.ok("put", str(folder), f"{dsa.home}/a").err.count("\n") == 1
    assert "\x1b[" in dsa.ok("put", str(folder), f"{dsa.home}/b", terminal=True).err


def test_names_from_the_store_cannot_write_to_the_terminal(dsa: Dsa) -> None:
    ran = dsa("cat", f"{dsa.home}/\x1b]0;title\x07\n")
    assert ran.status == 3
    assert "\x1b" not in ran.err
    assert ran.err.count("\n") == 2  # what is wrong, and what helps
