"""Redundancy: a name, a number of shards, and how many of them are needed."""

from __future__ import annotations

import pytest

from dsa_zmq.errors import Invalid
from dsa_zmq.model.redundancy import (
    ALIGNMENT,
    DEFAULT,
    MAX_COPIES,
    MAX_DATA,
    MAX_PARITY,
    MAX_SHARDS,
    SMALL_BYTES,
    Redundancy,
    kept_as,
    parse_redundancy,
)

MIB = 1 << 20


@pytest.mark.parametrize("copies", range(1, MAX_COPIES + 1))
def test_copies_read_back_by_their_name(copies: int) -> None:
    redundancy = parse_redundancy(f"copies={copies}")
    assert redundancy == Redundancy(shards=copies, needed=1)
    assert redundancy.name == f"copies={copies}"
    assert redundancy.tolerates == copies - 1
    assert redundancy.alike
    assert redundancy.shard_bytes(1001) == 1001
    assert redundancy.stored_bytes(1000) == 1000 * copies


@pytest.mark.parametrize("parity", range(1, MAX_PARITY + 1))
@pytest.mark.parametrize("data", range(2, MAX_DATA + 1))
def test_codes_read_back_by_their_name(data: int, parity: int) -> None:
    redundancy = parse_redundancy(f"ec={data}+{parity}")
    assert redundancy == Redundancy(shards=data + parity, needed=data)
    assert redundancy.name == f"ec={data}+{parity}"
    assert redundancy.tolerates == parity
    assert not redundancy.alike
    assert redundancy.shards <= MAX_SHARDS


@pytest.mark.parametrize(
    ("name", "length", "size"),
    [
        ("ec=2+1", 1, ALIGNMENT),
        ("ec=2+1", 32, ALIGNMENT),
        ("ec=2+1", 33, 2 * ALIGNMENT),
        ("ec=4+2", MIB, MIB // 4),
        ("ec=3+1", MIB, 349_536),
        ("ec=12+4", MIB, 87_392),
    ],
)
def test_a_codes_shards_are_equal_parts_filled_up_to_whole_blocks(name: str, length: int, size: int) -> None:
    redundancy = parse_redundancy(name)
    assert redundancy.shard_bytes(length) == size
    assert redundancy.stored_bytes(length) == redundancy.shards * size


def test_the_default_survives_one_loss() -> None:
    assert parse_redundancy(DEFAULT).tolerates == 1


@pytest.mark.parametrize(
    "text",
    [
        "", "2", "copies", "copies=0", "copies=02", "copies=17", "copies=-1", "copies=2 ", "Copies=2", "copies=٢",
        "ec", "ec=", "ec=4", "ec=4+", "ec=+2", "ec=1+1", "ec=0+2", "ec=4+0", "ec=13+1", "ec=4+5", "ec=04+2", "ec=4+02",
        "ec=4+2 ", " ec=4+2", "EC=4+2", "ec=4-2", "ec=4+2+1", "ec=٤+2", "ec=4+2\n",
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_redundancy(text)
    assert "copies=2" in refused.value.remedy
    assert "ec=4+2" in refused.value.remedy


@pytest.mark.parametrize(
    ("name", "length", "chunk_bytes", "kept"),
    [
        ("ec=4+2", 0, MIB, "copies=3"),
        ("ec=4+2", 1, MIB, "copies=3"),
        ("ec=4+2", SMALL_BYTES, MIB, "copies=3"),
        ("ec=4+2", SMALL_BYTES + 1, MIB, "ec=4+2"),
        ("ec=4+2", MIB, MIB, "ec=4+2"),
        ("ec=2+1", 4096, MIB, "copies=2"),
        ("ec=12+4", 4096, MIB, "copies=5"),
        ("ec=4+2", 4095, 4096, "copies=3"),
        ("ec=4+2", 4096, 4096, "ec=4+2"),
        ("ec=4+2", 4097, 4096, "ec=4+2"),
        ("copies=3", 1, MIB, "copies=3"),
        ("copies=1", SMALL_BYTES, MIB, "copies=1"),
    ],
)
def test_small_contents_are_kept_as_copies_that_survive_as_much(
    name: str, length: int, chunk_bytes: int, kept: str
) -> None:
    assert kept_as(name, length, chunk_bytes) == kept
    assert parse_redundancy(kept).tolerates == parse_redundancy(name).tolerates
