"""Disks and directories that are full, read-only, dying, damaged, or somebody else's."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import dsa_zmq
from dsa_zmq.errors import Corrupt, NoSpace

pytestmark = [pytest.mark.process, pytest.mark.slow]

NEEDS_MOUNTS = "only root may mount a file system of its own, and containers may forbid it even to root"
EXT4_SHUTDOWN = 0x8004587D  #: from now on every write to this file system is an I/O error, as on a dead disk


def dsa(*line: str | Path, timeout_s: float = 30) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dsa_zmq", *map(str, line)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)


def refused(ended: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    """A server did not start: one message with these words, and a remedy."""
    assert ended.returncode == status, ended
    assert "Traceback" not in ended.stderr
    said = [line for line in ended.stderr.splitlines() if line.startswith(("dsa: ", "  "))]
    assert len(said) >= 2, ended.stderr
    assert all(word in said[-2] for word in words), f"{said[-2]!r} lacks some of {words}"


def tree(top: Path) -> dict[str, bytes]:
    """All files below, but for what every start makes."""
    files = {str(path.relative_to(top)): path for path in top.rglob("*") if path.is_file()}
    contents = {name: path.read_bytes() for name, path in files.items() if path.name != "lock"}
    return {name: data for name, data in contents.items() if data or not name.endswith("-wal")}  # SQLite looks inside


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts file systems of so many MiB: ``tmpfs``, or ``ext4`` in a file."""
    mounts: list[Path] = []

    def mount(kind: str, mebibytes: int) -> Path:
        at = tmp_path / f"mount-{len(mounts)}"
        at.mkdir()
        if kind == "tmpfs":
            command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(at)]
        else:
            image = tmp_path / f"image-{len(mounts)}"
            with image.open("wb") as file:
                file.truncate(mebibytes << 20)
            subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], check=True)
            command = ["mount", "-o", "loop", str(image), str(at)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip(NEEDS_MOUNTS)
        mounts.append(at)
        return at

    yield mount
    for at in reversed(mounts):
        subprocess.run(["umount", "-l", str(at)], check=True)


class OnDisks(dsa_zmq.LocalCluster):
    """A cluster of processes some of whose nodes have directories elsewhere; of equal size, so that all get shards."""

    def __init__(self, nodes: int, redundancy: str, elsewhere: dict[str, Path], directory: Path) -> None:
        super().__init__(nodes, redundancy, processes=True, directory=directory, capacity="80MiB")
        self._elsewhere = elsewhere

    def _node_options(self, name: str) -> Any:
        options = super()._node_options(name)
        return msgspec.structs.replace(options, path=str(self._elsewhere.get(name, options.path)))


# --- full and failing -------------------------------------------------------------------------------------------------


def test_a_full_disk_refuses_puts_keeps_what_it_has_and_takes_more_when_there_is_room(
    mounted: Any, tmp_path: Path, content: Any, eventually: Any
) -> None:
    disk = mounted("tmpfs", 48)
    with OnDisks(1, "copies=1", {"node-1": disk / "node"}, tmp_path / "c") as cluster, cluster.connect() as store:
        kept = content(3 << 20)
        store.put([kept], "/kept")
        with (disk / "filler").open("wb") as filler:  # another program takes all the room
            try:
                while True:
                    filler.write(bytes(1 << 20))
                    filler.flush()
            except OSError:
                pass
        with pytest.raises(NoSpace) as caught:
            _put_without_end(store, content)
        assert caught.value.exit_status == 6
        assert caught.value.remedy
        assert cluster.ended() == []
        names = {found.path for found in store.ls()}
        assert all(len(store.read_bytes(path)) == 3 << 20 for path in names)
        assert store.read_bytes("/kept") == kept
        (disk / "filler").unlink()

        def room_again() -> bool:
            try:
                store.put([kept], "/again")
            except NoSpace:
                return False
            return True

        eventually(room_again)
        assert store.read_bytes("/again") == kept
        assert [node.failure for node in store.nodes()] == [""]


def test_a_node_offers_no_more_than_its_disk_has(tmp_path: Path) -> None:
    with dsa_zmq.LocalCluster(1, "copies=1", directory=tmp_path / "c", capacity="1000TiB") as cluster:
        with cluster.connect() as store:
            (node,) = store.nodes()
        assert node.capacity == shutil.disk_usage(tmp_path).total


def _put_without_end(store: Any, content: Any) -> None:
    for number in range(20):
        store.put([content(3 << 20)], f"/more-{number}")


def test_a_disk_that_dies_under_a_node_costs_nothing_and_is_told(
    mounted: Any, tmp_path: Path, content: Any, eventually: Any
) -> None:
    disk = mounted("ext4", 96)
    with OnDisks(3, "copies=2", {"node-1": disk / "node"}, tmp_path / "c") as cluster, cluster.connect() as store:
        files = {f"/{number}": content(1_500_000) for number in range(6)}
        for path, data in files.items():
            store.put([data], path)
        top = os.open(disk, os.O_RDONLY)
        fcntl.ioctl(top, EXT4_SHUTDOWN, struct.pack("I", 2))
        os.close(top)
        for number in range(6, 12):
            files[f"/{number}"] = content(1_500_000)
            store.put([files[f"/{number}"]], f"/{number}")
        assert all(store.read_bytes(path) == data for path, data in files.items())
        dying = eventually(  # it may be suspect first: clients have told that it does not answer
            lambda: next((node for node in store.nodes() if node.name == "node-1" and node.state == "failed"), None)
        )
        assert dying.failure
        told = dsa("--json", "nodes", "--url", cluster.url)
        assert dying.failure in told.stdout
        ended = dsa("health", "--url", cluster.url)
        assert "node-1" in ended.stdout


def test_a_read_only_disk_is_said_at_the_start(mounted: Any, tmp_path: Path) -> None:
    disk = mounted("tmpfs", 16)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for role, option in (("node", "--path"), ("master", "--dir")):
        for directory in (disk, disk / "new"):
            ended = dsa(role, option, directory, "--port", "0")
            refused(ended, 2, str(directory), "Read-only file system")
            assert "mount it writable" in ended.stderr
    assert os.listdir(disk) == []


def test_a_get_onto_a_full_disk_leaves_nothing(mounted: Any, tmp_path: Path, content: Any) -> None:
    disk = mounted("tmpfs", 4)
    with dsa_zmq.LocalCluster(1, "copies=1", directory=tmp_path / "c") as cluster:
        with cluster.connect() as store:
            store.put([content(9 << 20)], "/large")
        ended = dsa("get", "-q", "/large", disk / "large", "--url", cluster.url)
        refused(ended, 6, f"{disk / 'large'}: No space left on device")
        assert os.listdir(disk) == []


# --- somebody else's --------------------------------------------------------------------------------------------------


def test_a_copied_directory_is_refused_by_name_and_the_original_goes_on(
    tmp_path: Path, content: Any, eventually: Any
) -> None:
    with dsa_zmq.LocalCluster(2, processes=True, directory=tmp_path / "c") as cluster, cluster.connect() as store:
        data = content(200_000)
        store.write_bytes("/file", data)
        shutil.copytree(tmp_path / "c" / "node-1", tmp_path / "copy")
        incarnations = {node.name: node.incarnation for node in store.nodes()}
        for name in ("node-1", "another"):
            ended = dsa("node", "--path", tmp_path / "copy", "--master", cluster.url, "--port", "0", "--name", name)
            assert ended.returncode == 4, ended
            assert "Traceback" not in ended.stderr
            assert "node-1" in ended.stderr
        assert cluster.ended() == []
        assert {node.name: node.incarnation for node in store.nodes()} == incarnations
        store.write_bytes("/more", data)
        assert store.read_bytes("/file") == store.read_bytes("/more") == data


def test_a_directory_from_another_cluster_is_refused_and_not_touched(tmp_path: Path, content: Any) -> None:
    data = content(100_000)
    with dsa_zmq.LocalCluster(1, "copies=1", directory=tmp_path / "a") as one, one.connect() as store:
        store.write_bytes("/file", data)
    with dsa_zmq.LocalCluster(1, "copies=1", directory=tmp_path / "b", processes=True) as other:
        foreign = tmp_path / "a" / "node-1"
        before = {name: data for name, data in tree(foreign).items() if name.endswith(".seg")}
        ended = dsa("node", "--path", foreign, "--master", other.url, "--port", "0", "--name", "stray")
        assert ended.returncode == 2, ended
        assert "another cluster" in ended.stderr
        assert {name: data for name, data in tree(foreign).items() if name.endswith(".seg")} == before
        with other.connect() as store:
            assert [node.name for node in store.nodes()] == ["node-1"]
    with dsa_zmq.LocalCluster(1, "copies=1", directory=tmp_path / "a") as one, one.connect() as store:
        assert store.read_bytes("/file") == data


# --- damage -----------------------------------------------------------------------------------------------------------


def flip(directory: Path, data: bytes) -> int:
    """Change one byte of these contents in every segment of a node that has them; how many that were."""
    flipped = 0
    for segment in directory.glob("segments/*.seg"):
        at = segment.read_bytes().find(data)
        if at >= 0:
            with segment.open("r+b") as file:
                file.seek(at + len(data) // 2)
                file.write(bytes([data[len(data) // 2] ^ 0x40]))
            flipped += 1
    return flipped


@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
def test_a_flipped_byte_is_served_from_the_other_copy_and_two_are_corrupt(
    tmp_path: Path, content: Any, restart: bool
) -> None:
    with dsa_zmq.LocalCluster(2, processes=True, directory=tmp_path / "c") as cluster, cluster.connect() as store:
        data = content(50_000)
        store.write_bytes("/file", data)
        store.write_bytes("/other", other := content(50_000))
        assert flip(tmp_path / "c" / "node-1", data) == 1
        if restart:
            cluster.restart("node-1")
            cluster.wait_up()
        assert store.read_bytes("/file") == data
        cluster.wait_healthy()  # it was mended, if the bad copy was asked
        for node in ("node-1", "node-2"):
            cluster.kill(node)
        assert sum(flip(tmp_path / "c" / node, data) for node in ("node-1", "node-2")) >= 1  # no copy is good now
        for node in ("node-1", "node-2"):
            cluster.restart(node)
        cluster.wait_up()
        target = tmp_path / "target"
        ended = dsa("get", "/file", target, "--url", cluster.url)
        assert ended.returncode == 8, ended
        assert "/file has no good copy left" in ended.stderr
        assert not target.exists()
        with pytest.raises(Corrupt):
            store.read_bytes("/file")
        assert store.read_bytes("/other") == other
        assert cluster.ended() == []


def damage_of(kind: str, catalog: Path) -> None:
    """Something happens to a catalog whose master does not run."""
    data = bytearray(catalog.read_bytes())
    if kind == "header":
        data[:100] = os.urandom(100)
    elif kind == "middle":
        for at in range(4096, len(data), 4096):
            data[at : at + 64] = os.urandom(64)
    elif kind == "half":
        del data[len(data) // 2 :]
    elif kind == "empty":
        data.clear()
    elif kind == "another program's":
        data[:] = b"%PDF-1.4\n" * 2000
    catalog.write_bytes(bytes(data))


@pytest.mark.parametrize("kind", ["header", "middle", "half", "empty", "another program's", "missing"])
def test_a_damaged_catalog_stops_the_master_and_nothing_is_lost(tmp_path: Path, content: Any, kind: str) -> None:
    data = content(100_000)
    directory = tmp_path / "c"
    with dsa_zmq.LocalCluster(2, directory=directory) as cluster, cluster.connect() as store:
        for number in range(30):
            store.write_bytes(f"/folder/{number}", data[number:])
    (catalog,) = (path for path in (directory / "master").iterdir() if path.read_bytes()[:6] == b"SQLite")
    good = tree(directory)
    for extra in directory.glob("master/*-wal"), directory.glob("master/*-shm"):
        assert not list(extra), "an orderly stop leaves the catalog in one file"
    if kind == "missing":
        catalog.unlink()
    else:
        damage_of(kind, catalog)
    damaged = tree(directory / "master")
    ended = dsa("master", "--dir", directory / "master", "--port", "0", timeout_s=10)
    refused(ended, 8, f"catalog '{catalog}' is ")
    assert "\\n" not in ended.stderr
    after = tree(directory / "master")
    assert after == damaged, "a refused start changes nothing"
    for name, bytes_ in good.items():
        (directory / name).write_bytes(bytes_)
    with dsa_zmq.LocalCluster(2, directory=directory) as cluster, cluster.connect() as store:
        assert store.read_bytes("/folder/29") == data[29:]
        assert len(store.ls("/folder")) == 30


@pytest.mark.parametrize("file", ["node.json", "DSA.json"])
@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff\x00\x17garbage", b'{"kind": "node", "format": "x"}'])
def test_a_damaged_identity_of_a_node_is_said_and_harms_nothing(tmp_path: Path, file: str, damage: bytes) -> None:
    with dsa_zmq.LocalCluster(1, "copies=1", directory=tmp_path / "c") as cluster, cluster.connect() as store:
        store.write_bytes("/file", b"x" * 1000)
    node = tmp_path / "c" / "node-1"
    good = (node / file).read_bytes()
    (node / file).write_bytes(damage)
    before = tree(node)
    ended = dsa("node", "--path", node, "--port", "0", timeout_s=10)
    refused(ended, 8 if file == "node.json" else 2, str(node / file))
    assert tree(node) == before
    (node / file).write_bytes(good)
    with dsa_zmq.LocalCluster(1, "copies=1", directory=tmp_path / "c") as cluster, cluster.connect() as store:
        assert store.read_bytes("/file") == b"x" * 1000


def test_a_node_that_lost_its_index_rebuilds_it(tmp_path: Path, content: Any) -> None:
    with dsa_zmq.LocalCluster(1, "copies=1", processes=True, directory=tmp_path / "c") as cluster:
        store = cluster.connect()
        files = {f"/{number}": content(20_000 + number) for number in range(20)}
        for path, data in files.items():
            store.write_bytes(path, data)
        for damage in ("missing", "garbage"):
            cluster.kill(0)
            for path in (tmp_path / "c" / "node-1").glob("index.sqlite*"):
                path.unlink() if damage == "missing" else path.write_bytes(os.urandom(5000))
            cluster.restart(0)
            cluster.wait_healthy()
            assert all(store.read_bytes(path) == data for path, data in files.items())
