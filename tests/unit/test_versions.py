"""Builds that are too far apart: what is refused names the thing, both versions, and which side to upgrade to what."""

from __future__ import annotations

import random
from typing import Any

import apsw
import pytest

from actors.sim.disk import SimDisk
from dsa_zmq.client.greeting import Greeting
from dsa_zmq.client.session import Session
from dsa_zmq.errors import Incompatible
from dsa_zmq.node import index_file, segments
from dsa_zmq.protocol import operations as op
from dsa_zmq.protocol.messages import OLDEST_VERSION, PROTOCOL_VERSION, Calls, Hello, Welcome
from dsa_zmq.protocol.versions import check_versions, too_new
from tests.unit.disk_store.conftest import contents, open_store, put
from tests.unit.disk_store.conftest import segments as files_of

MASTER, CLIENT = "the master", "the client"


def test_the_present_version_and_all_others_that_overlap_are_fine() -> None:
    for version in range(OLDEST_VERSION, PROTOCOL_VERSION + 3):
        for oldest in range(PROTOCOL_VERSION + 1):
            check_versions(who=CLIENT, version=version, oldest=oldest, ours=MASTER)


def test_who_is_too_old_for_us_is_to_be_upgraded_to_what_we_need() -> None:
    with pytest.raises(Incompatible) as caught:
        check_versions(who=CLIENT, version=OLDEST_VERSION - 1, oldest=0, ours=MASTER)
    assert str(caught.value) == (
        f"the client speaks protocol {OLDEST_VERSION - 1}, the master needs {OLDEST_VERSION} or later;"
        f" upgrade the client to a build that speaks protocol {OLDEST_VERSION}, or a later one"
    )


def test_whom_we_are_too_old_for_says_to_what_we_are_to_be_upgraded() -> None:
    newer = PROTOCOL_VERSION + 3
    with pytest.raises(Incompatible) as caught:
        check_versions(who=CLIENT, version=newer, oldest=newer - 1, ours=MASTER)
    assert str(caught.value) == (
        f"the client needs protocol {newer - 1} or later, the master speaks {PROTOCOL_VERSION};"
        f" upgrade the master to a build that speaks protocol {newer - 1}, or a later one"
    )


def test_a_client_says_that_its_master_is_too_old(backoff: Any) -> None:
    greeting = Greeting(["tcp://a:1"], "test", backoff)
    hello = greeting.due(0)
    assert hello is not None
    error = greeting.welcomed(Welcome(hello.number, OLDEST_VERSION - 1, b"c" * 16, 1, "master"), 0)
    assert isinstance(error, Incompatible)
    assert error.message.startswith(f"the master at tcp://a:1 speaks protocol {OLDEST_VERSION - 1}, the client needs")
    assert error.remedy.startswith("upgrade the master at tcp://a:1 to a build that speaks protocol")
    assert not greeting.done


@pytest.fixture
def backoff() -> Any:
    from actors.requests import Backoff

    return Backoff()


# --- operations that the master does not know yet -----------------------------------------------------------------------


class Novel(op.Stat, frozen=True, tag=900):
    """An operation of the next protocol."""

    since = PROTOCOL_VERSION + 1


def welcomed(version: int, *operations: Any) -> tuple[list[Any], dict[int, Any]]:
    """A session that has been asked for these before it knew the master's version, and again after: what it sends and
    settles."""
    session = Session(["tcp://a:1"], b"c" * 16, 1, "test", request_timeout_ns=10**10)
    for token, operation in enumerate(operations):
        session.submit(operation, token, 0)
    ((_, hello),) = session.flush(0)
    assert isinstance(hello, Hello)
    settled = session.welcomed(Welcome(hello.number, version, b"c" * 16, 1, "master"), 0)
    sent = session.flush(0)
    for token, operation in enumerate(operations, len(operations)):
        session.submit(operation, token, 0)
    sent += session.flush(10**9)
    settled += session.tick(10**9)[1]
    assert all(isinstance(message, Calls) for _, message in sent)
    return [call.operation for _, message in sent for call in message.calls], dict(settled)  # type: ignore[union-attr]


def test_what_the_master_does_not_know_is_refused_at_once_and_spoils_no_other_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dsa_zmq.client.session.PROTOCOL_VERSION", PROTOCOL_VERSION + 1)
    sent, settled = welcomed(PROTOCOL_VERSION, op.Stat("/a"), Novel("/b"))
    assert set(sent) == {op.Stat("/a")}
    assert sorted(settled) == [1, 3]
    assert {str(error) for error in settled.values()} == {
        f"the master at tcp://a:1 speaks protocol {PROTOCOL_VERSION}, Novel needs {PROTOCOL_VERSION + 1} or later;"
        f" upgrade the master to a build that speaks protocol {PROTOCOL_VERSION + 1}, or a later one"
    }
    assert isinstance(too_new(Novel("/b"), "x", 1), Incompatible)


def test_a_master_of_the_same_build_is_asked_for_everything() -> None:
    sent, settled = welcomed(PROTOCOL_VERSION + 1, op.Stat("/a"), Novel("/b"))
    assert {type(operation) for operation in sent} == {op.Stat, Novel}
    assert settled == {}


# --- what lies on disks -------------------------------------------------------------------------------------------------


def index_says(disk: SimDisk, version: int) -> None:
    connection = apsw.Connection(disk.sqlite_path("index.sqlite"), vfs=disk.sqlite_vfs)
    for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    connection.execute("UPDATE meta SET value = ? WHERE name = 'version'", (version,))
    connection.close()


@pytest.mark.parametrize("version", [1, 99])
def test_an_index_of_another_build_is_made_anew_from_the_segments_and_said_so(version: int) -> None:
    disk = SimDisk(random.Random(1))
    store = open_store(disk)
    put(store, *range(1, 20))
    before = contents(store)
    store.close()
    index_says(disk, version)
    store = open_store(disk)
    assert contents(store) == before
    (note,) = store.notes
    assert f"it has version {version}, this build uses version {index_file.SCHEMA_VERSION}" in note
    store.close()


def with_version(data: bytes, name: str, version: int) -> bytes:
    """A segment as a build of that segment format would begin it."""
    header = segments.decode_file_header(data[: segments.FILE_HEADER_BYTES], name)
    assert header is not None
    packed = segments._FILE.pack(segments.FILE_MAGIC, version, 0, header.number, header.generation, header.size)
    return segments._sealed(packed) + data[segments.FILE_HEADER_BYTES :]


@pytest.mark.parametrize("at", [0, -1], ids=["a full one", "a spare"])
def test_a_store_with_one_segment_of_a_newer_build_is_refused_and_left_as_it_is(at: int) -> None:
    disk = SimDisk(random.Random(1))
    store = open_store(disk)
    put(store, *range(1, 20))
    store.close()
    index_says(disk, index_file.SCHEMA_VERSION + 1)
    name = sorted(files_of(disk))[at]
    changed = with_version(disk.read_bytes(name), name, segments.FORMAT_VERSION + 1)
    disk.replace_bytes(name, changed)
    for _ in range(2):
        with pytest.raises(Incompatible) as caught:
            open_store(disk)
        newer, ours = segments.FORMAT_VERSION + 1, segments.FORMAT_VERSION
        assert str(caught.value) == (
            f"{name} has segment format {newer}, this build reads format {ours};"
            f" upgrade the node to a build that reads segment format {newer}, such as the one that wrote it"
        )
        assert disk.read_bytes(name) == changed


def test_a_new_segment_format_comes_with_a_new_version_of_the_index() -> None:
    """An older build reads the headers of full segments only while it makes its index anew. With an index that it takes for
    its own it would take the records of a newer segment for damage."""
    segment_format_of_index = {1: 1, 2: 1}  # append; never change
    assert segment_format_of_index[index_file.SCHEMA_VERSION] == segments.FORMAT_VERSION
