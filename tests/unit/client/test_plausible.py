"""Answers of a master that cannot be: what they say of redundancy, hashes and places has to fit together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from dsa_zmq.client.plausible import implausible
from dsa_zmq.model.hashes import hashes_bytes
from dsa_zmq.model.redundancy import MAX_SHARDS, parse_redundancy
from dsa_zmq.protocol import operations as op
from dsa_zmq.protocol.values import Attributes, ChunkPlaces, ChunkPlan, NodeAddress, Place, UploadSlot

NAMES = ["copies=1", "copies=3", "ec=2+1", "ec=12+4"]
NODES = [NodeAddress(number, f"tcp://10.0.0.{number}:7710", 1) for number in range(1, 18)]
SIZE = 1 << 20


def places(count: int) -> list[Place]:
    return [Place(1 + index, index, bytes(16)) for index in range(count)]


@dataclass
class Answers:
    """What an honest master says of a file of one chunk."""

    redundancy: str

    @property
    def shards(self) -> int:
        return parse_redundancy(self.redundancy).shards

    def located(self, hash_bytes: int = 0, at: list[Place] | None = None, redundancy: str | None = None) -> str:
        name = self.redundancy if redundancy is None else redundancy
        found = Attributes("file", 5, SIZE, 1, 0o644, 1, 77, SIZE, 1, name)
        length = hash_bytes or hashes_bytes(parse_redundancy(self.redundancy))
        chunk = ChunkPlaces(9, SIZE, bytes(length), places(self.shards) if at is None else at)
        return implausible(op.Locate("/a"), op.Located(found, 0, 1, [chunk], NODES, 1))

    def allocated(self, asked: op.Allocate | None = None, **other: Any) -> str:
        answer = op.Allocated(77, self.redundancy, [ChunkPlan(9, places(self.shards))], NODES, 1)
        asked = asked or op.Allocate(0, "/a", SIZE, 0, [SIZE])
        return implausible(asked, msgspec.structs.replace(answer, **other))

    def slots(self, at: list[Place]) -> str:
        return implausible(
            op.AllocateSlots(1, 4096, self.redundancy), op.AllocatedSlots([UploadSlot(77, 9, at)], NODES, 1, 1)
        )


@pytest.fixture(name="answers", params=NAMES)
def _answers(request: pytest.FixtureRequest) -> Answers:
    return Answers(request.param)


def test_honest_answers_are_believed(answers: Answers) -> None:
    assert answers.located() == answers.allocated() == answers.slots(places(answers.shards)) == ""


def test_hashes_have_the_length_of_their_redundancy(answers: Answers) -> None:
    right = hashes_bytes(parse_redundancy(answers.redundancy))
    for wrong in {32, 64, right - 32, right - 1, right + 1, right + 32} - {0, right}:
        assert "chunk 0" in answers.located(wrong)


def test_a_redundancy_that_nobody_knows_is_told(answers: Answers) -> None:
    for name in ("", "ec=13+1", "lrc=12+2+2", "x" * 100):
        assert f"redundancy {name[:20]!r}" in answers.located(redundancy=name)
        assert f"redundancy {name[:20]!r}" in answers.allocated(redundancy=name)


def test_an_upload_keeps_its_redundancy(answers: Answers) -> None:
    goes_on = op.Allocate(77, "/a", SIZE, 1, [SIZE], 9, answers.redundancy)
    assert answers.allocated(goes_on) == ""
    assert answers.allocated(msgspec.structs.replace(goes_on, redundancy="copies=5"))


def test_a_new_chunk_has_one_place_for_each_of_its_shards(answers: Answers) -> None:
    right = places(answers.shards)
    higher = [*right[:-1], Place(right[-1].node, answers.shards, bytes(16))]
    twice = [*right[1:], Place(17, right[-1].index, bytes(16))]
    for wrong in (right[1:], [*right, Place(17, 0, bytes(16))], higher, twice if answers.shards > 1 else []):
        assert "places" in answers.allocated(chunks=[ChunkPlan(9, wrong)])
        assert "places" in answers.slots(wrong)


def test_no_shard_has_a_higher_index_than_there_can_be(answers: Answers) -> None:
    assert answers.located(at=[Place(1, MAX_SHARDS - 1, bytes(16))]) == ""
    for index in (-1, MAX_SHARDS):
        assert "places" in answers.located(at=[Place(1, index, bytes(16))])
