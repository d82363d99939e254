"""The store's local side: sources, targets, temporary files, file objects, pickling, forking, many at once."""

from __future__ import annotations

import io
import os
import pickle
import random
import threading

import pytest

from dsa_zmq.client import connector
from dsa_zmq.client.calls import Cancel, Consumed, StartUpload
from dsa_zmq.client.connector import set_connector
from dsa_zmq.client.store import Store
from dsa_zmq.errors import AlreadyExists, Corrupt, Invalid, IsADirectory, LocalError, NotFound
from dsa_zmq.model.limits import MIN_CHUNK_BYTES as CHUNK
from tests.unit.client.world import content

SIZES = [0, 1, CHUNK, CHUNK + 1, 9 * CHUNK + 7]


def damage(store, path):
    for row in store.world.master.files[path][1]:
        for receipt in row.receipts:
            store.world.nodes[receipt.node].shards[row.chunk, receipt.index] = bytes(row.length)


@pytest.mark.parametrize("size", SIZES)
def test_a_local_file_comes_back_with_its_time_and_mode(store, tmp_path, size):
    source, target = tmp_path / "in", tmp_path / "new" / "out"
    source.write_bytes(content(size))
    source.chmod(0o640)
    os.utime(source, ns=(1_000_000_000, 1_234_567_890_123_456_789))
    put = store.put(source, "/a/b")
    assert (put.size, put.path, put.name) == (size, "/a/b", "b")
    got = store.get("/a/b", target)
    assert got.version == put.version
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_mode & 0o777 == 0o640
    assert target.stat().st_mtime_ns == 1_234_567_890_123_456_789
    assert os.listdir(target.parent) == ["out"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["file", "iterable", "bytes", "bytearray", "view", "array"])
def test_any_source_of_bytes_can_be_put(store, size, kind):
    data = content(size)
    pieces = [data[at : at + 1000] for at in range(0, size, 1000)]
    source = {
        "file": io.BytesIO(data),
        "iterable": iter(pieces),
        "bytes": data,
        "bytearray": bytearray(data),
        "view": memoryview(data),
        "array": [bytearray(piece) for piece in pieces],
    }[kind]
    assert store.put(source, "x").size == size
    assert store.read_bytes("/x") == data


@pytest.mark.parametrize("size", SIZES)
def test_content_is_read_in_every_way(store, size):
    data = content(size)
    store.write_bytes("/x", data)
    target = io.BytesIO()
    store.get("/x", target)
    assert target.getvalue() == data
    assert b"".join(store.iter_bytes("/x")) == data
    assert b"".join(store.iter_bytes("/x", 3, size - 2 if size > 2 else 0)) == data[3 : size - 2 if size > 2 else 0]
    assert store.read_bytes("/x", 1, 5) == data[1:5]


def test_reader_that_stops_early_ends_the_transfer(store):
    store.write_bytes("/x", content(9 * CHUNK))
    pieces = store.iter_bytes("/x")
    next(pieces)
    pieces.close()
    assert isinstance(store.handle.calls[-1], Cancel)


def test_reader_says_what_it_has_consumed(store):
    store.write_bytes("/x", content(3 * CHUNK))
    for _ in store.iter_bytes("/x"):
        pass
    assert sum(call.size for call in store.handle.calls if isinstance(call, Consumed)) == 3 * CHUNK


@pytest.mark.parametrize("size", [100, 9 * CHUNK])
def test_failed_get_leaves_no_file_and_keeps_the_old_one(store, tmp_path, size):
    store.write_bytes("/x", content(size))
    damage(store, "/x")
    target = tmp_path / "out"
    target.write_bytes(b"old")
    run_time(store)
    with pytest.raises(Corrupt):
        store.get("/x", target)
    assert os.listdir(tmp_path) == ["out"]
    assert target.read_bytes() == b"old"


def run_time(store):
    """Let virtual time pass by itself from here on, for what ends only after a while."""

    def tick():
        while not store.handle.stopped:
            with store.handle.lock:
                if store.world.events:
                    store.world.step()

    threading.Thread(target=tick, daemon=True).start()


def test_get_of_what_is_not_there_touches_nothing(store, tmp_path):
    with pytest.raises(NotFound) as caught:
        store.get("/nothing", tmp_path / "new" / "out")
    assert isinstance(caught.value, FileNotFoundError)
    assert not os.listdir(tmp_path)


def test_local_errors_name_the_file(store, tmp_path):
    with pytest.raises(LocalError, match="no-such-file"):
        store.put(tmp_path / "no-such-file", "/x")
    with pytest.raises(LocalError, match="directory"):
        store.put(tmp_path, "/x")
    store.write_bytes("/x", b"1")
    with pytest.raises(LocalError, match="directory"):
        store.get("/x", tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LocalError, match="file/below"):
        store.get("/x", tmp_path / "file" / "below")
    assert isinstance(LocalError("x"), OSError)


def test_file_that_shrinks_while_it_is_read_is_a_local_error(store, tmp_path):
    source = tmp_path / "in"
    source.write_bytes(content(9 * CHUNK))
    call = store.handle.call

    def shrink_before(wanted):
        if isinstance(wanted, StartUpload):
            os.truncate(source, 5 * CHUNK)
        call(wanted)

    store.handle.call = shrink_before
    with pytest.raises(LocalError, match="shorter"):
        store.put(source, "/x")
    assert not store.exists("/x")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError, OSError(5, "bad disk")])
def test_failing_source_leaves_no_name(store, error):
    def pieces():
        yield content(3 * CHUNK)
        raise error

    expected = LocalError if isinstance(error, OSError) else error
    with pytest.raises(expected):
        store.put(pieces(), "/x")
    assert not store.exists("/x")
    assert not store.world.master.uploads
    assert store.world.client.held_bytes == 0


def test_text_source_is_refused(store):
    with pytest.raises(Invalid, match="binary"):
        store.put(io.StringIO("text"), "/x")
    with pytest.raises(Invalid):
        store.put(5, "/x")


def test_root_and_bad_paths_are_refused(store):
    with pytest.raises(IsADirectory):
        store.write_bytes("/", b"")
    with pytest.raises(Invalid):
        store.write_bytes("/a/../b", b"")


def test_progress_adds_up(store, tmp_path):
    source = tmp_path / "in"
    source.write_bytes(content(9 * CHUNK + 1))
    sizes = []
    store.put(source, "/x", progress=sizes.append)
    assert sum(sizes) == 9 * CHUNK + 1
    sizes.clear()
    store.get("/x", tmp_path / "out", progress=sizes.append)
    assert sum(sizes) == 9 * CHUNK + 1


def test_if_absent_is_checked(store):
    store.write_bytes("/x", b"1")
    with pytest.raises(AlreadyExists):
        store.write_bytes("/x", b"2", if_absent=True)
    assert store.read_bytes("/x") == b"1"


# --- file objects ---------------------------------------------------------------------------------------------------


def test_written_file_appears_when_it_is_closed(store):
    data = content(5 * CHUNK + 5)
    with store.open("/x", "wb") as file:
        for at in range(0, len(data), 777):
            assert file.write(data[at : at + 777]) == len(data[at : at + 777])
        assert not store.exists("/x")
        assert file.tell() == len(data)
    assert store.read_bytes("/x") == data


@pytest.mark.parametrize("mode", ["wb", "w"])
def test_written_file_is_discarded_when_the_block_raises(store, mode):
    def write_and_fail():
        with store.open("/x", mode) as file:
            file.write(content(3 * CHUNK) if mode == "wb" else "text" * CHUNK)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    assert not store.exists("/x")
    assert not store.world.master.uploads


@pytest.mark.parametrize("mode", ["wb", "w"])
def test_dropped_writer_publishes_nothing(store, mode):
    file = store.open("/x", mode)
    file.write(b"half" if mode == "wb" else "half")
    del file
    assert not store.exists("/x")


def test_exclusive_open_refuses_an_existing_file(store):
    with store.open("/x", "x") as file:
        file.write("1")
    with pytest.raises(FileExistsError):
        store.open("/x", "xb")
    assert store.read_text("/x") == "1"


def test_text_goes_both_ways(store):
    with store.open("/x", "w") as file:
        print("ein Käse", "zwei", sep="\n", file=file)
    with store.open("/x", "r") as file:
        assert file.readlines() == ["ein Käse\n", "zwei\n"]
    assert store.write_text("/y", "é", "latin-1").size == 1
    assert store.read_text("/y", "latin-1") == "é"


def test_reader_seeks_and_reads_like_a_local_file(store):
    data = content(11 * CHUNK + 11)
    store.write_bytes("/x", data)
    local, rng = io.BytesIO(data), random.Random(7)
    with store.open("/x") as file:
        assert file.seekable()
        for _ in range(60):
            if rng.random() < 0.4:
                position = rng.randrange(len(data) + 10)
                assert file.seek(position) == local.seek(position)
            size = rng.choice([0, 1, 100, CHUNK, 3 * CHUNK])
            assert file.read(size) == local.read(size)
        assert file.seek(-5, io.SEEK_END) == local.seek(-5, io.SEEK_END)
        assert file.read() == local.read()
        with pytest.raises(ValueError):
            file.seek(-1)
    assert file.closed


def test_reader_keeps_to_the_content_it_opened(store):
    store.write_bytes("/x", b"old" * CHUNK)
    file = store.open("/x")
    locate = store.world.master.on_locate
    asked = []
    store.world.master.on_locate = lambda operation: asked.append(operation.content) or locate(operation)
    file.read(10)
    assert asked == [file.raw.stat.content]


def test_impossible_modes_are_refused(store):
    for mode in ("a", "r+", "rw", "", "b"):
        with pytest.raises(Invalid):
            store.open("/x", mode)


# --- many -----------------------------------------------------------------------------------------------------------


def test_many_have_one_outcome_each_in_order(store, tmp_path):
    sizes = [0, 5, CHUNK, 3 * CHUNK] * 60
    for number, size in enumerate(sizes):
        (tmp_path / f"{number}").write_bytes(content(size, number))
    items = [(tmp_path / f"{number}", f"/many/{number}") for number in range(len(sizes))]
    items.insert(7, (tmp_path / "missing", "/many/missing"))
    items.insert(9, (b"given", "/many/given"))
    outcomes = store.put_many(items)
    assert isinstance(outcomes.pop(7), LocalError)
    assert outcomes.pop(8).size == 5
    assert [outcome.size for outcome in outcomes] == sizes
    wanted = [(f"/many/{number}", tmp_path / "back" / f"{number}") for number in range(len(sizes))]
    wanted.insert(3, ("/many/none", tmp_path / "back" / "none"))
    outcomes = store.get_many(wanted)
    assert isinstance(outcomes.pop(3), NotFound)
    assert [outcome.size for outcome in outcomes] == sizes
    for number in range(len(sizes)):
        assert (tmp_path / "back" / f"{number}").read_bytes() == content(sizes[number], number)
    assert len(os.listdir(tmp_path / "back")) == len(sizes)


def test_many_are_got_into_open_files_too(store):
    sizes = [0, 5, CHUNK, 3 * CHUNK, 40 * CHUNK]
    store.put_many((content(size, number), f"/many/{number}") for number, size in enumerate(sizes))
    targets = [io.BytesIO() for _ in sizes]
    wanted = [(f"/many/{number}", target) for number, target in enumerate(targets)]
    with open(os.devnull, "rb") as closed_to_writes:
        outcomes = store.get_many([*wanted, ("/many/none", io.BytesIO()), ("/many/1", closed_to_writes)])
    assert isinstance(outcomes.pop(), LocalError)
    assert isinstance(outcomes.pop(), NotFound)
    assert [outcome.size for outcome in outcomes] == sizes
    assert [target.getvalue() for target in targets] == [content(size, number) for number, size in enumerate(sizes)]


# --- lives ----------------------------------------------------------------------------------------------------------


def test_closed_store_says_so(store):
    store.write_bytes("/x", b"1")
    store.close()
    store.close()
    with pytest.raises(Invalid, match="closed"):
        store.read_bytes("/x")


def test_pickled_store_connects_anew(store, monkeypatch):
    monkeypatch.setattr(connector, "_connector", None)
    made = []

    def connect_lazily(url, options):
        made.append((url, options))
        return Store(lambda: store.handle, url, options=options)

    set_connector(connect_lazily)
    store.write_bytes("/x", b"1")
    copy = pickle.loads(pickle.dumps(store))
    assert made == [("dsa://model", {})]
    assert copy.read_bytes("/x") == b"1"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_child_of_a_fork_starts_its_own_client(store):
    handles = []

    def start():
        handles.append(os.getpid())
        return store.handle

    forked = Store(start, "dsa://model", chunk_bytes=CHUNK)
    forked.write_bytes("/x", b"1")
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if forked.read_bytes("/x") == b"1" and handles == [os.getppid(), os.getpid()] else 2
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert handles == [os.getpid()]


def test_threads_share_a_store(store):
    failures = []

    def work(number):
        try:
            for turn in range(10):
                data = content(2 * CHUNK, number * 100 + turn)
                store.write_bytes(f"/{number}/{turn}", data)
                assert store.read_bytes(f"/{number}/{turn}") == data
        except BaseException as error:  # noqa: BLE001 - shown by the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
