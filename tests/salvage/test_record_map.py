"""What can be made of many damaged copies of the catalog: the newest that is sound, and never half of a change."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsa_zmq.errors import Conflict, Corrupt, Incompatible
from dsa_zmq.master.catalog.tables import (
    CLUSTER,
    FILE,
    FORMAT,
    INODES,
    LIVE,
    META,
    META_NAMES,
    NAMES,
    NEXT_NODE,
    TABLES,
    InodeRow,
    MetaRow,
    NameRow,
)
from dsa_zmq.model.records import Record
from dsa_zmq.model.volumes import VolumeChain
from dsa_zmq.salvage.catalogs import Source, Wish, make_catalog
from dsa_zmq.salvage.namespace import Namespace
from dsa_zmq.salvage.record_map import RecordMap
from dsa_zmq.salvage.scratch import Scratch
from dsa_zmq.salvage.sources import find_sources
from tests.salvage.copies import KEPT, SECOND, Chronicle, State, data_of, put_volume

pytestmark = pytest.mark.slow

CLUSTER_ID = b"sixteen bytes ok"
FILES = 60  #: in the first state: enough for several records of names


def state(*names: str, cluster: bytes = CLUSTER_ID) -> State:
    """A catalog with these empty files in its root."""
    meta = [MetaRow(name, 1 if name == NEXT_NODE else 3, cluster if name == CLUSTER else b"") for name in META_NAMES]
    rows: dict[str, list[Any]] = {table.name: [] for table in KEPT}
    rows[META.name] = [row for row in meta if row.name != FORMAT]
    rows[INODES.name] = [InodeRow(1, 2, 0o755, 1, "copies=2")]
    for name in names:
        number = (1 << 40) + int(name.split("-")[1])
        rows[NAMES.name].append(NameRow(1, name, LIVE, 1, number, FILE))
        rows[INODES.name].append(InodeRow(number, FILE, 0o644, 1, "copies=2", 1))
    widths = {table.name: table.width for table in TABLES}
    return {name: {row[: widths[name]]: tuple(row) for row in some} for name, some in rows.items()}


def named(*numbers: int) -> list[str]:
    return [f"file-{number:05d}-{'x' * 400}" for number in numbers]


FIRST = named(*range(FILES))


class Copies:
    """Nodes with volumes, and what salvage makes of them."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.runs = 0

    def put(self, node: str, data: bytes, number: int = 1) -> Path:
        (self.top / node / "segments").mkdir(parents=True, exist_ok=True)
        return put_volume(self.top / node, data, number)

    def make(self, at_ns: int | None = None, *, pieces: bool = False) -> tuple[Source, list[str]]:
        """The catalog, and the names in its root."""
        self.runs += 1
        with Scratch(self.top / f"out-{self.runs}") as scratch:
            sources = find_sources([self.top], but=scratch.path)
            source = make_catalog(Wish(None, at_ns, pieces), sources, scratch, lambda text: None)
            names = [entry.name for entry in listed(source.namespace)]
            source.namespace.close()
        return source, names


def listed(namespace: Namespace) -> list[Any]:
    root = namespace.root()
    return [*namespace.entries(root.inode, FILE), *namespace.unnamed(FILE)]


@pytest.fixture
def copies(tmp_path: Path) -> Copies:
    return Copies(tmp_path / "nodes")


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def offsets(*records: list[Record]) -> list[int]:
    """Where each record begins."""
    found, at = [], 0
    for record in (each for some in records for each in some):
        found.append(at)
        at += len(record.data)
    return found


def test_the_newest_state_is_had(copies: Copies) -> None:
    log = Chronicle(state(*FIRST))
    parts = log.snapshot()
    log.change(state(*FIRST[5:], *named(100)), transactions=7)
    copies.put("a", data_of(parts, log.log[:5]))
    copies.put("b", data_of(parts, log.log))
    copies.put("c", data_of(parts, log.log[:3]))
    source, names = copies.make()
    assert names == FIRST[5:] + named(100)
    assert source.moment_ns == log.wall_ns
    assert source.notes == []


def test_half_a_transaction_does_not_count(copies: Copies) -> None:
    log = Chronicle(state(*FIRST))
    parts = log.snapshot()
    log.change(state(*FIRST, *named(100)))
    log.change(state(*FIRST, *named(100, 101)))
    copies.put("a", data_of(parts, log.log[:3]))
    _, names = copies.make()
    assert names == FIRST + named(100)


def test_what_is_damaged_in_one_copy_is_taken_from_another(copies: Copies) -> None:
    log = Chronicle(state(*FIRST))
    parts = log.snapshot()
    log.change(state(*FIRST, *named(*range(100, 110))), transactions=10)
    places = offsets(parts, log.log)
    assert len(parts) > 5
    for node in "abc":
        path = copies.put(node, data_of(parts, log.log))
        for number, at in enumerate(places):
            if number % 3 != ord(node) % 3:
                flip(path, at + 50)
    source, names = copies.make()
    assert names == FIRST + named(*range(100, 110))
    assert len(source.notes) == 3
    assert all("damaged in" in note for note in source.notes)


@settings(max_examples=40)
@given(seed=st.integers(0, 1 << 30))
def test_whatever_is_damaged_the_result_is_a_state_that_there_was(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    rng = random.Random(seed)
    copies = Copies(tmp_path_factory.mktemp("nodes"))
    log = Chronicle(state(*FIRST))
    states = {log.wall_ns: FIRST}
    first = log.snapshot(1)
    then = list(FIRST)
    for number in range(12):
        then = [*then[rng.randrange(3) :], *named(100 + number)]
        log.change(state(*then))
        states[log.wall_ns] = list(then)
        if number == 6:
            begun, second = len(log.log), log.snapshot(2)
    intact = not rng.randrange(4)
    for node in "abc":
        for number, records in (1, first + log.log), (2, second + log.log[begun:]):
            path = copies.put(node, data_of(records), number)
            for _ in range(0 if node == "b" and intact else rng.randrange(6)):
                flip(path, rng.randrange(sum(len(record.data) for record in records)))
    try:
        source, names = copies.make()
    except Corrupt:
        assert not intact
        return
    assert names == states[source.moment_ns] if source.moment_ns in states else FIRST
    assert names == then or not intact


def test_an_older_snapshot_goes_on_with_the_log_of_a_later_volume(copies: Copies) -> None:
    log = Chronicle(state(*FIRST))
    first = log.snapshot(1)
    log.change(state(*FIRST[1:]))
    begun = len(log.log)
    second = log.snapshot(2)
    log.change(state(*FIRST[2:]))
    copies.put("a", data_of(first, log.log[:begun]), 1)
    incomplete = copies.put("b", data_of(second[:1], second[2:], log.log[begun:]), 2)
    source, names = copies.make()
    assert names == FIRST[2:]
    assert any(str(incomplete) not in note for note in source.notes) is False
    copies.put("c", data_of(second, log.log[begun:]), 2)
    assert copies.make()[1] == FIRST[2:]


def test_behind_a_gap_in_the_log_it_ends_and_says_what_else_there_is(copies: Copies) -> None:
    log = Chronicle(state(*FIRST))
    parts = log.snapshot()
    for number in range(5):
        log.change(state(*FIRST, *named(*range(100, 101 + number))))
    copies.put("a", data_of(parts, log.log[:4], log.log[5:]))
    source, names = copies.make()
    assert names == FIRST + named(100, 101)
    assert any("5 later changes" in note and "--pieces" in note for note in source.notes)
    pieces, more = copies.make(pieces=True)
    lost = set(named(102)) - set(more)
    assert set(FIRST + named(100, 101, 102, 103, 104)) == {name for name in more if "unnamed" not in name} | lost
    assert any("made of pieces" in note for note in pieces.notes)


def test_without_a_whole_snapshot_pieces_are_all_there_is(copies: Copies) -> None:
    log = Chronicle(state(*FIRST))
    parts = log.snapshot()
    log.change(state(*FIRST[:-1], *named(100)))
    copies.put("a", data_of(parts[:3], parts[4:], log.log))
    with pytest.raises(Corrupt, match="no copy of the catalog") as refused:
        copies.make()
    assert "--pieces" in refused.value.remedy
    _, names = copies.make(pieces=True)
    assert FIRST[-1] not in names
    assert named(100)[0] in names
    assert len(names) > FILES // 2
    assert all(name in FIRST or name in named(100) or name.startswith("unnamed-") for name in names)


def test_of_pieces_without_names_the_files_are_listed_by_number(copies: Copies) -> None:
    log = Chronicle(state(*FIRST))
    parts = log.snapshot()
    with_names = [number for number, record in enumerate(parts) if b"file-0" in record.body()]
    copies.put("a", data_of([record for number, record in enumerate(parts) if number not in with_names]))
    _, names = copies.make(pieces=True)
    assert len(names) == FILES
    assert all(name.startswith("unnamed-1") for name in names)


def test_of_two_logs_that_of_the_higher_term_counts(copies: Copies) -> None:
    log = Chronicle(state(*FIRST))
    parts = log.snapshot()
    log.change(state(*FIRST[1:]))
    other = Chronicle(log.state, position=log.position, term=2)
    other.hash, other.wall_ns = log.hash, log.wall_ns
    shared = list(log.log)
    for number in range(3):
        log.change(state(*FIRST[2 + number :]))
    other.change(state(*FIRST, *named(200)))
    copies.put("a", data_of(parts, log.log))
    copies.put("b", data_of(parts, shared, other.log))
    source, names = copies.make()
    assert names == FIRST + named(200)
    assert "term 2" in source.text


def test_a_moment_of_the_history_can_be_named(copies: Copies) -> None:
    log = Chronicle(state(*FIRST))
    first = log.snapshot(1)
    moments = {}
    for number in range(6):
        log.change(state(*FIRST[number:]))
        moments[log.wall_ns] = FIRST[number:]
        if number == 3:
            begun, second = len(log.log), log.snapshot(2)
    copies.put("a", data_of(first, log.log[:begun]), 1)
    copies.put("b", data_of(second, log.log[begun:]), 2)
    for moment, names in moments.items():
        assert copies.make(moment)[1] == names
        assert copies.make(moment + SECOND // 2)[1] == names
    assert copies.make(log.wall_ns + 1000 * SECOND)[1] == FIRST[5:]
    with pytest.raises(Conflict, match="cannot be had as of") as refused:
        copies.make(1)
    assert refused.value.remedy.count(" to ") == 2


def test_copies_of_two_clusters_are_refused(copies: Copies) -> None:
    copies.put("a", data_of(Chronicle(state(*FIRST)).snapshot()))
    copies.put("b", data_of(Chronicle(state(*FIRST, cluster=bytes(16))).snapshot()))
    with pytest.raises(Incompatible, match="several clusters"):
        copies.make()


@settings(max_examples=30)
@given(seed=st.integers(0, 1 << 30))
def test_the_stream_of_a_choice_is_a_sound_volume(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    rng = random.Random(seed)
    top = tmp_path_factory.mktemp("volumes")
    log = Chronicle(state(*FIRST))
    parts = log.snapshot()
    for number in range(6):
        log.term += rng.randrange(2)
        log.change(state(*FIRST[number:]))
    records = parts[1:] + log.log
    files = []
    for node in "ab":
        some = sorted(rng.sample(records, rng.randrange(len(records) * 3 // 4, len(records) + 1)), key=records.index)
        (top / node).write_bytes(rng.randbytes(rng.randrange(200)) + data_of(parts[:1], some) + rng.randbytes(50))
        files.append(top / node)
    found = RecordMap(apsw.Connection(":memory:"), files)
    found.scan()
    choice = found.choose()
    if choice is not None:
        chain = VolumeChain()
        assert all(chain.take(record) for record in found.stream(choice))
        assert chain.usable
        assert (chain.ended, chain.position) == (choice.end.position, choice.end.position)
    found.close()


@pytest.mark.parametrize("size", [0, 1, 50, 5_000_000])
def test_a_file_without_records_has_none(tmp_path: Path, size: int) -> None:
    for data in (bytes(size), random.Random(1).randbytes(size), b"\xf1DSL" * min(size, 10_000)):
        (tmp_path / "volume").write_bytes(data)
        found = RecordMap(apsw.Connection(":memory:"), [tmp_path / "volume"])
        found.scan()
        assert found.choose() is None
        assert not found.bytes
        found.close()
