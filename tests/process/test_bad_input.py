"""What people get wrong on the command line: one clear message with cause and remedy, the right exit status, no harm."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import dsa_zmq
from dsa_zmq.errors import Invalid, TooFewNodes

pytestmark = [pytest.mark.process, pytest.mark.slow]

PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


class Ended(NamedTuple):
    status: int
    out: bytes
    err: str


def dsa(*line: str | bytes | Path, url: str = "", before: Any = None) -> Ended:
    """Run the command; whatever it is, there is no traceback and no more than a few lines."""
    command = [sys.executable, "-m", "dsa_zmq", *line]
    environment = os.environ | ({"DSA_URL": url} if url else {})
    ended = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        check=False,
        env=environment,
        preexec_fn=before,
    )
    err = ended.stderr.decode(errors="backslashreplace")
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 4
    return Ended(ended.returncode, ended.stdout, err)


def _obey_modes() -> None:
    """Take from root, in a child, the right to read what nobody may."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for right in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            if libc.prctl(PR_CAPBSET_DROP, right, 0, 0, 0):
                raise OSError(ctypes.get_errno(), "prctl")


def complaint(ended: Ended, status: int, *words: str) -> None:
    """It failed with this status, and says what is wrong with what in these words, and below it what to do."""
    assert ended.status == status, ended
    assert ended.out == b"", ended
    first, *rest = ended.err.splitlines()
    assert first.startswith("dsa: "), ended.err
    assert all(word in first for word in words), f"{first!r} lacks some of {words}"
    assert rest, f"no remedy: {ended.err!r}"
    assert rest[0].startswith("  "), f"no remedy: {ended.err!r}"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dsa_zmq.LocalCluster]:
    with dsa_zmq.LocalCluster(2, directory=tmp_path_factory.mktemp("c"), speed=4) as running:
        yield running


@pytest.fixture
def store(cluster: dsa_zmq.LocalCluster) -> Iterator[Any]:
    """With one file in it, which is all there is before and after."""
    with cluster.connect() as store:
        store.write_bytes("/kept", b"as it was")
        yield store
        assert store.read_bytes("/kept") == b"as it was"
        assert [found.path for found in store.ls()] == ["/kept"]


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("http://localhost", "http"),
        ("dsa://", "dsa://"),
        ("dsa://host:port", "port"),
        ("dsa://h:70000", "70000"),
        ("dsa://a b", "a b"),
    ],
)
def test_a_malformed_address(url: str, word: str) -> None:
    complaint(dsa("ls", "--url", url), 2, word)
    ended = dsa("--json", "ls", url=url)
    error = json.loads(ended.err)["error"]
    assert (ended.status, error["code"]) == (2, "invalid")
    assert error["remedy"]


def test_an_unknown_host() -> None:
    complaint(dsa("ls", "--url", "dsa://no-such-host.invalid"), 7, "no-such-host.invalid", "not known")


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    complaint(dsa("ls", "--url", f"dsa://127.0.0.1:{port}"), 7, f"127.0.0.1:{port}", "refused")


def test_something_else_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        at = f"127.0.0.1:{listening.getsockname()[1]}"
        complaint(dsa("ls", "--url", f"dsa://{at}"), 7, at, "something else answers")
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def test_a_nodes_port(cluster: dsa_zmq.LocalCluster, store: Any) -> None:
    at = store.nodes()[0].address.removeprefix("tcp://")
    complaint(dsa("ls", "--url", f"dsa://{at}"), 2, at, "is a node, not a master")


# --- paths ------------------------------------------------------------------------------------------------------------

PATHS = {
    "two dots": ("/a/../kept", "'..'"),
    "a dot": ("/./kept", "'.'"),
    "5,000 characters": ("/" + "x/" * 2500, "more than 4,096"),
    "a name of 256 bytes": ("/" + "ü" * 128, "more than 255"),
    "bytes that are no text": (b"/bad\xff\xfe", "not valid Unicode"),
}


@pytest.mark.parametrize("line", ["put", "get", "ls", "rm"])
@pytest.mark.parametrize("kind", PATHS)
def test_an_impossible_path(cluster: dsa_zmq.LocalCluster, store: Any, tmp_path: Path, line: str, kind: str) -> None:
    (tmp_path / "source").write_bytes(b"x")
    path, word = PATHS[kind]
    lines: dict[str, tuple[Any, ...]] = {
        "put": ("put", tmp_path / "source", path),
        "get": ("get", path, tmp_path / "target"),
        "ls": ("ls", path),
        "rm": ("rm", "-y", "-r", path),
    }
    complaint(dsa(*lines[line], url=cluster.url), 2, word)
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("path", ["/a\0b", "\0", "/a/..", "/" + "y" * 5000, "/\udcff", "/" + "z" * 256])
def test_an_impossible_path_of_a_program(store: Any, tmp_path: Path, path: str) -> None:
    for act in (
        lambda: store.write_bytes(path, b"x"),
        lambda: store.read_bytes(path),
        lambda: store.get(path, tmp_path / "target"),
        lambda: store.stat(path),
        lambda: store.ls(path),
        lambda: store.mkdir(path),
        lambda: store.rm(path, recursive=True),
        lambda: store.mv("/kept", path),
        lambda: store.mv(path, "/new"),
        lambda: store.cp("/kept", path),
        lambda: store.open(path, "wb"),
    ):
        with pytest.raises(Invalid) as caught:
            act()
        assert caught.value.remedy
    assert not (tmp_path / "target").exists()


def test_what_is_not_there(cluster: dsa_zmq.LocalCluster, store: Any, tmp_path: Path) -> None:
    for line in (("cat", "/no"), ("get", "/no", tmp_path / "t"), ("stat", "/no"), ("ls", "/no"), ("mv", "/no", "/x")):
        ended = dsa(*line, url=cluster.url)
        assert (ended.status, ended.out) == (3, b"")
        assert "/no" in ended.err
    complaint(dsa("ls", "/kept/below", url=cluster.url), 4, "/kept")
    assert list(tmp_path.iterdir()) == []


def test_a_node_says_that_no_master_answers_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:  # takes connections, and never says a word
        address = f"127.0.0.1:{other.getsockname()[1]}"
        command = [
            sys.executable,
            "-m",
            "dsa_zmq",
            "node",
            "--master",
            address,
            "--path",
            tmp_path / "n",
            "--port",
            "0",
        ]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as node:
            assert node.stderr is not None
            alarm = threading.Timer(20, node.kill)
            alarm.start()
            said = next((line for line in node.stderr if "master-unanswering" in line), "nothing")
            alarm.cancel()
            node.terminate()
    assert address in said
    assert "correct the address" in said


# --- this machine -----------------------------------------------------------------------------------------------------


def test_a_local_file_that_is_missing(cluster: dsa_zmq.LocalCluster, store: Any, tmp_path: Path) -> None:
    ended = dsa("put", tmp_path / "nowhere", "/new", url=cluster.url)
    complaint(ended, 1, "nowhere: No such file or directory")


def test_a_local_file_that_may_not_be_read(cluster: dsa_zmq.LocalCluster, store: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    secret.chmod(0)
    ended = dsa("put", secret, "/new", url=cluster.url, before=_obey_modes)
    complaint(ended, 1, f"{secret}: Permission denied")


def test_a_local_file_that_fails_while_it_is_read(cluster: dsa_zmq.LocalCluster, store: Any) -> None:
    ended = dsa("put", "/proc/self/mem", "/new", url=cluster.url)  # its first page is not mapped
    complaint(ended, 1, "/proc/self/mem: Input/output error")


def test_a_file_that_does_not_tell_its_size_is_stored_with_all_it_has(
    cluster: dsa_zmq.LocalCluster, store: Any
) -> None:
    source = Path("/proc/version")
    assert source.stat().st_size == 0
    for line in (("put", source, "/version"), ("cp", source, "dsa:/version"), ("put", "/proc/version", "/proc/", "-q")):
        ended = dsa(*line, url=cluster.url)
        assert ended.status == 0, ended
    assert store.read_bytes("/version") == source.read_bytes()
    assert store.read_bytes("/proc/version") == source.read_bytes()
    store.put_many([("/proc/version", "/many")])
    assert store.read_bytes("/many") == source.read_bytes()
    for path in ("/version", "/proc", "/many"):
        store.rm(path, recursive=True)


def test_a_local_target_that_cannot_be_written(cluster: dsa_zmq.LocalCluster, store: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"local")
    ended = dsa("get", "/kept", tmp_path / "file" / "below", url=cluster.url)
    complaint(ended, 1, "Not a directory")
    ended = dsa("get", "/kept", "/proc/version", url=cluster.url)
    complaint(ended, 1, "/proc/version")
    assert (tmp_path / "file").read_bytes() == b"local"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


# --- what the cluster cannot do ---------------------------------------------------------------------------------------


def test_too_few_nodes_for_the_redundancy(tmp_path: Path, eventually: Any) -> None:
    (tmp_path / "source").write_bytes(b"x" * 1000)
    with dsa_zmq.LocalCluster(2, directory=tmp_path / "c") as cluster:
        store = cluster.connect()
        store.write_bytes("/kept", b"as it was")
        cluster.kill(1)
        eventually(lambda: sorted(node.state for node in store.nodes()) == ["down", "up"])
        complaint(dsa("put", tmp_path / "source", "/new", url=cluster.url), 6, "copies=2 needs 2 nodes, 1 is up")
        with pytest.raises(TooFewNodes, match="copies=3 needs 3 nodes"):
            store.mkdir("/three", redundancy="copies=3")
        assert not store.exists("/new")
        assert not store.exists("/three")
        assert store.read_bytes("/kept") == b"as it was"


def test_capacity_exceeded(tmp_path: Path) -> None:
    with dsa_zmq.LocalCluster(2, directory=tmp_path / "c", capacity="48MiB") as cluster:
        (tmp_path / "small").write_bytes(os.urandom(2 << 20))
        (tmp_path / "large").write_bytes(os.urandom(80 << 20))
        assert dsa("put", "-q", tmp_path / "small", "/small", url=cluster.url).status == 0
        complaint(dsa("put", "-q", tmp_path / "large", "/large", url=cluster.url), 6, "free")
        with cluster.connect() as store:
            assert [found.name for found in store.ls()] == ["small"]
            assert store.read_bytes("/small") == (tmp_path / "small").read_bytes()
        assert dsa("put", "-q", tmp_path / "small", "/again", url=cluster.url).status == 0


@pytest.mark.parametrize(
    ("lines", "where", "what"),
    [
        ("127.0.0.1\nwelcome\n1000\nstorage\n", "line 2", "port_of_welcoming_socket"),
        ("127.0.0.1\n7700\nplenty\nstorage\n", "line 3", "storage_space_in_bytes"),
        ("127.0.0.1\n7700\n-5\nstorage\n", "line 3", "storage_space_in_bytes"),
        ("http://x\n7700\n1000\nstorage\n", "line 1", "address_of_master"),
        ("127.0.0.1\n7700\n", "line 3", "storage_space_in_bytes is missing"),
        ("127.0.0.1\n7700\n1000\nstorage\nmore\n", "line 5", "fifth line"),
        ("", "line 1", "address_of_master is missing"),
    ],
)
def test_a_classic_configuration_with_a_mistake(tmp_path: Path, lines: str, where: str, what: str) -> None:
    (tmp_path / "config.dsa").write_text(lines)
    complaint(dsa("node", tmp_path / "config.dsa"), 2, "config.dsa", where, what)
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.dsa"]
