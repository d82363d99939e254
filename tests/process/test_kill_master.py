"""A master killed at the k-th message of its clients: what was acknowledged is there, and nothing happens twice."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from dsa_zmq.errors import DSAError

pytestmark = [pytest.mark.process, pytest.mark.slow]

CHUNK_BYTES = 128 << 10
MOST_MESSAGES = 13  #: that the session below sends: greeting, session, and one or two for each operation


def session(store: Any, root: str, content: Any) -> dict[str, bytes]:
    """Operations that must each have their effect once, though they are repeated: what files there are then. Each fails if
    its own first try is held against it."""
    data = {name: content(size) for name, size in (("one", 1000), ("two", 3 * CHUNK_BYTES + 5), ("three", 50))}
    store.mkdir(root)
    store.write_bytes(f"{root}/one", data["one"], if_absent=True)
    store.put([data["two"]], f"{root}/two", if_absent=True)
    first = store.write_bytes(f"{root}/three", content(10), if_absent=True)
    store.write_bytes(f"{root}/three", data["three"], if_version=first.version)
    store.mv(f"{root}/one", f"{root}/moved")
    store.cp(f"{root}/two", f"{root}/copied")
    store.rm(f"{root}/two")
    return {f"{root}/moved": data["one"], f"{root}/copied": data["two"], f"{root}/three": data["three"]}


@pytest.mark.parametrize(
    ("direction", "when", "counts"),
    [
        ("to server", "before", [1, 4, 7, 10, 13]),
        ("to server", "after", [2, 5, 8, 9, 11]),
        ("to server", "half", [3, 6]),
        ("to client", "before", [3, 6, 8, 11, 12]),
    ],
)
def test_every_operation_has_its_effect_once_whenever_the_master_dies(
    proxied_cluster: Any,
    client: Any,
    trip: Any,
    content: Any,
    rounds: int,
    direction: str,
    when: str,
    counts: list[int],
) -> None:
    cluster = proxied_cluster(2)
    expected: dict[str, bytes] = {}
    for k in counts if rounds == 1 else range(1, MOST_MESSAGES + 1):

        def kill_and_restart(_: str) -> None:
            cluster.kill_master()
            threading.Thread(target=cluster.restart_master).start()

        killer = trip(direction, k, when, kill_and_restart)
        cluster.set_trip(killer, "master")
        files = session(client(cluster.front, chunk_bytes=CHUNK_BYTES).store, f"/{k}", content)
        assert killer.fired.is_set(), f"the session sent fewer than {k} messages"
        cluster.wait_healthy()
        fresh = client(cluster.url).store
        expected |= files
        assert {found.path: found.size for found in fresh.ls(f"/{k}")} == {
            path: len(data) for path, data in files.items()
        }
    for path, data in expected.items():
        assert fresh.read_bytes(path) == data


def test_a_master_that_does_not_come_back_is_a_clear_error_and_leaves_nothing_half(
    proxied_cluster: Any, client: Any, trip: Any, content: Any
) -> None:
    cluster = proxied_cluster(2)
    settings = {"chunk_bytes": CHUNK_BYTES, "request_timeout_s": 1.5, "progress_timeout_s": 1.5}
    for k, stage in ((3, "the allocation"), (4, "the commit")):
        path, data, writer = f"/{k}", content(2 * CHUNK_BYTES), client(cluster.front, **settings).store
        cluster.set_trip(trip("to server", k, "before", lambda _: cluster.kill_master()), "master")
        with pytest.raises(DSAError) as caught:
            writer.put([data], path)
        assert caught.value.exit_status == 7
        assert cluster.proxies["master"].address in str(caught.value), str(caught.value)
        assert caught.value.remedy
        writer.close()  # with what its connection still had for the master
        cluster.set_trip(None, "master")
        cluster.restart_master()
        cluster.wait_healthy()
        store = client(cluster.url).store
        assert not store.exists(path), f"died at {stage}"
        store.write_bytes(path, data, if_absent=True)
        assert store.read_bytes(path) == data


def test_puts_of_many_threads_survive_a_master_that_is_killed_again_and_again(
    proxied_cluster: Any, client: Any, trip: Any, content: Any, rounds: int
) -> None:
    cluster = proxied_cluster(2)
    acknowledged: dict[str, bytes] = {}
    failures: list[BaseException] = []
    stop = threading.Event()
    lock = threading.Lock()

    def work(number: int) -> None:
        store = client(cluster.front, chunk_bytes=CHUNK_BYTES).store
        count = 0
        while not stop.is_set():
            path, data = f"/{number}/{count}", content(1 + (count * 77_777) % (3 * CHUNK_BYTES))
            try:
                store.put([data], path, if_absent=True)
            except BaseException as error:  # noqa: BLE001 - asserted on below
                failures.append(error)
                return
            with lock:
                acknowledged[path] = data
            count += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for round_number in range(3 * rounds):
        killer = trip("to server", 20 + 7 * round_number % 30, "after", lambda _: cluster.kill_master())
        cluster.set_trip(killer, "master")
        assert killer.fired.wait(15), failures
        cluster.restart_master()
    stop.set()
    for thread in threads:
        thread.join(20)
    assert not failures
    assert len(acknowledged) > 10
    fresh = client(cluster.url).store
    names = {found.path for number in range(4) for found in fresh.ls(f"/{number}")}
    assert names == set(acknowledged)
    for path, data in acknowledged.items():
        assert fresh.read_bytes(path) == data
