"""The command ``dsa`` as a process of its own: whole trees, streams, signals, closed pipes, exit statuses."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from dsa_zmq.client.store import Store
from dsa_zmq.cluster import LocalCluster
from dsa_zmq.errors import NotFound

pytestmark = [pytest.mark.process, pytest.mark.slow]

PATIENCE_S = 20.0
BIG = 24 << 20


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(nodes=2, speed=4) as running:
        yield running


@pytest.fixture(scope="module")
def store(cluster: LocalCluster) -> Iterator[Store]:
    with cluster.connect() as connected:
        yield connected


def start(
    cluster: LocalCluster, *line: str | bytes, stdin: int | IO[bytes] = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "dsa_zmq", *line]
    environment = os.environ | {"DSA_URL": cluster.url}
    return subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


def run(cluster: LocalCluster, *line: str | bytes, given: bytes | None = None) -> tuple[int, bytes, str]:
    """Status, stdout, stderr."""
    stdin = subprocess.DEVNULL if given is None else subprocess.PIPE
    with start(cluster, *line, stdin=stdin) as process:
        out, err = process.communicate(given, timeout=PATIENCE_S)
    assert b"Traceback" not in err
    return process.returncode, out, err.decode(errors="backslashreplace")


def digests(top: Path) -> dict[str, str]:
    return {
        str(path.relative_to(top)): hashlib.blake2b(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in top.rglob("*")
        if not path.is_symlink()
    }


def await_(condition: object, process: subprocess.Popen[bytes]) -> None:
    """Until ``condition()`` holds, while the process runs."""
    assert callable(condition)
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_real_tree_comes_back_byte_by_byte(cluster: LocalCluster, tmp_path: Path) -> None:
    library = Path(sysconfig.get_paths()["stdlib"]) / "email"
    status, _, err = run(cluster, "put", str(library), "/lib/email")
    assert (status, "stored" in err) == (0, True)
    assert run(cluster, "get", "/lib/email", str(tmp_path / "email"))[0] == 0
    assert digests(tmp_path / "email") == digests(library)
    status, _, err = run(cluster, "put", str(library), "/lib/email")
    assert status == 0
    assert "stored 0 files" in err


def test_streams_of_unknown_length_go_in_and_out(cluster: LocalCluster) -> None:
    content = os.urandom(5_000_001)
    assert run(cluster, "put", "-", "/stream", given=content)[0] == 0
    assert run(cluster, "get", "/stream", "-")[:2] == (0, content)
    assert run(cluster, "cat", "/stream")[:2] == (0, content)


def test_undecodable_names_on_the_line_are_refused_where_they_must_be(cluster: LocalCluster, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/bad\xff"
    with open(name, "wb") as file:
        file.write(content := os.urandom(100))
    assert run(cluster, "put", name, "/good")[0] == 0  # read by any name, stored under a good one
    assert run(cluster, "cat", "/good")[1] == content
    status, _, err = run(cluster, "put", name, "/dir/")
    assert status == 2
    assert "not valid Unicode" in err
    assert run(cluster, "cat", b"/bad\xff")[0] == 2
    assert run(cluster, "get", "/good", os.fsencode(tmp_path) + b"/out\xfe")[0] == 0


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_put_leaves_no_name(cluster: LocalCluster, store: Store, end: signal.Signals) -> None:
    process = start(cluster, "put", "-", f"/interrupted-{end.name}", stdin=subprocess.PIPE)
    with process:
        assert process.stdin is not None
        for _ in range(BIG >> 20):  # more than the pipe holds: the command has begun to read and send
            process.stdin.write(os.urandom(1 << 20))
        process.send_signal(end)
        assert process.wait(PATIENCE_S) == 130
        assert process.stderr is not None
        assert process.stderr.read().strip() == b""
        process.stdin.close()
    with pytest.raises(NotFound):
        store.stat(f"/interrupted-{end.name}")


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_get_leaves_no_file(
    cluster: LocalCluster, store: Store, tmp_path: Path, end: signal.Signals
) -> None:
    piece = os.urandom(1 << 20)
    store.put((os.urandom(16) + piece for _ in range(256)), "/to-interrupt/big")
    with start(cluster, "get", "/to-interrupt", str(tmp_path / "out")) as process:
        await_(lambda: list(tmp_path.rglob("*.part")), process)
        process.send_signal(end)
        assert process.wait(PATIENCE_S) == 130
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_interrupted_put_of_a_tree_leaves_whole_files_only(
    cluster: LocalCluster, store: Store, tmp_path: Path
) -> None:
    content = {f"f{number:04}": os.urandom(40_000) for number in range(1500)}
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    with start(cluster, "put", str(tmp_path), "/half") as process:
        await_(lambda: store.exists("/half") and store.ls("/half"), process)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130
    there = store.ls("/half")
    assert 0 < len(there) < len(content)
    assert all(store.read_bytes(entry.path) == content[entry.name] for entry in there[:: max(1, len(there) // 20)])
    assert run(cluster, "put", str(tmp_path), "/half")[0] == 0  # and a second run completes it
    assert {entry.name: entry.size for entry in store.ls("/half")} == {
        name: len(data) for name, data in content.items()
    }


def test_a_reader_that_leaves_early_is_no_drama(cluster: LocalCluster, store: Store) -> None:
    store.write_bytes("/long", content := os.urandom(BIG))
    with start(cluster, "cat", "/long") as process:
        assert process.stdout is not None
        assert process.stdout.read(10) == content[:10]
        process.stdout.close()
        assert process.wait(PATIENCE_S) == 1
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_a_listing_cut_short_is_no_drama(cluster: LocalCluster, store: Store) -> None:
    store.put_many((b"", f"/many/{'x' * 200}-{number}") for number in range(3000))
    with start(cluster, "ls", "/many") as process:
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait(PATIENCE_S) == 1
        assert process.stderr is not None
        assert process.stderr.read() == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_behind_stdout_is_said(cluster: LocalCluster, store: Store) -> None:
    store.write_bytes("/full", os.urandom(100_000))
    for line in (["cat", "/full"], ["ls", "/"], ["df"]):
        with open("/dev/full", "wb") as full:
            command = [sys.executable, "-m", "dsa_zmq", "--url", cluster.url, *line]
            ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=PATIENCE_S, check=False)
        assert ended.returncode == 1
        assert b"standard output: No space left on device\n  free some space" in ended.stderr
        assert b"Traceback" not in ended.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("line", ["put - /closed", "ls /", "cat /nope", "rm -r /nope"])
def test_closed_standard_streams_are_no_drama(cluster: LocalCluster, line: str, closed: str) -> None:
    command = f'exec "{sys.executable}" -m dsa_zmq --url {cluster.url} {line} {closed}'
    ended = subprocess.run(["sh", "-c", command], capture_output=True, input=b"", timeout=PATIENCE_S, check=False)
    assert ended.returncode in (0, 1, 2, 3)
    assert b"Traceback" not in ended.stderr


def test_bytes_for_a_closed_output_are_an_error_and_not_lost_in_silence(cluster: LocalCluster, store: Store) -> None:
    store.write_bytes("/unheard", os.urandom(1000))
    command = f'exec "{sys.executable}" -m dsa_zmq --url {cluster.url} cat /unheard >&-'
    ended = subprocess.run(["sh", "-c", command], capture_output=True, timeout=PATIENCE_S, check=False)
    assert ended.returncode == 1
    assert b"standard output: Bad file descriptor\n  it is closed" in ended.stderr


def test_an_interrupt_while_modules_are_loaded_ends_without_a_word() -> None:
    interrupted = """
import sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
from dsa_zmq.__main__ import main
sys.exit(main())
"""
    ended = subprocess.run([sys.executable, "-c", interrupted], capture_output=True, timeout=PATIENCE_S, check=False)
    assert (ended.returncode, ended.stderr) == (130, b"")


def test_a_locale_without_unicode_is_no_obstacle(cluster: LocalCluster, store: Store, tmp_path: Path) -> None:
    store.write_bytes("/ascii/ünï", content := os.urandom(10))
    environment = os.environ | {"DSA_URL": cluster.url, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for line in (["ls", "/ascii"], ["ls", "-l", "/ascii"], ["ls", "--json", "/ascii"], ["stat", "/ascii/nope-ü"]):
        command = [sys.executable, "-m", "dsa_zmq", *line]
        ended = subprocess.run(command, capture_output=True, env=environment, timeout=PATIENCE_S, check=False)
        assert ended.returncode == (3 if "nope" in line[-1] else 0), ended.stderr
        assert b"Traceback" not in ended.stderr
    command = [sys.executable, "-m", "dsa_zmq", "get", "/ascii", str(tmp_path / "out")]
    ended = subprocess.run(command, capture_output=True, env=environment, timeout=PATIENCE_S, check=False)
    if ended.returncode == 0:
        assert [path.read_bytes() for path in (tmp_path / "out").iterdir()] == [content]
    else:
        assert b"cannot be kept here" in ended.stderr


def test_completion_proposes_paths_of_the_store(cluster: LocalCluster, store: Store) -> None:
    store.write_bytes("/complete/one/inner", b"")
    store.write_bytes("/complete/other", b"")

    def proposals(words: str, url: str = cluster.url) -> list[str]:
        environment = os.environ | {
            "DSA_URL": url, "_DSA_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")),
        }  # fmt: skip
        command = [sys.executable, "-c", "import sys; from dsa_zmq.cli.main import main; sys.exit(main())"]
        began = time.monotonic()
        ended = subprocess.run(command, capture_output=True, env=environment, timeout=PATIENCE_S, check=False)
        assert time.monotonic() - began < 5
        assert ended.stderr == b""
        return ended.stdout.decode().split()

    assert proposals("dsa ls /complete/o") == ["plain,/complete/one/", "plain,/complete/other"]
    assert proposals("dsa ls /complete/on") == ["plain,/complete/one/", "plain,/complete/one/inner"]
    assert proposals("dsa cp dsa:/complete/ot") == ["plain,dsa:/complete/other"]
    assert proposals("dsa get /complete/ot") == ["plain,/complete/other"]
    assert "file," in proposals("dsa put x")[0]
    assert proposals("dsa put x /complete/ot") == ["plain,/complete/other"]
    assert "plain,health" in proposals("dsa he")
    assert proposals("dsa ls /nope/") == []
    assert proposals("dsa ls /", url="dsa://127.0.0.1:1") == []
    assert proposals("dsa ls /", url="nonsense") == []
