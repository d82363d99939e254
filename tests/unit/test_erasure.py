"""Erasure codes: any so many shards are enough, for every code that is offered; and what the library does not do for us."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from itertools import combinations, islice
from math import comb
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from dsa_zmq.errors import ConfigError, Corrupt
from dsa_zmq.model import erasure
from dsa_zmq.model.redundancy import ALIGNMENT, MAX_DATA, MAX_PARITY, Redundancy, parse_redundancy

GOLDEN = Path(__file__).parents[1] / "golden" / "erasure_v1.json"
CODES = [Redundancy(k + m, k) for k in range(2, MAX_DATA + 1) for m in range(1, MAX_PARITY + 1)]
AT_ONCE = 500  #: patterns of loss in one test: some tenths of a second at most
PARTS = [
    pytest.param(code, first, id=f"{code.name}-{first}")
    for code in CODES
    for first in range(0, comb(code.shards, code.needed), AT_ONCE)
]
codes = st.sampled_from(CODES)


def content(name: str, length: int) -> bytes:
    """The same bytes each time, and no others like them."""
    return blake3(name.encode()).digest(length)


def shards_of(chunk: bytes, code: Redundancy) -> list[bytes]:
    return [bytes(shard) for shard in erasure.split(chunk, code)]


def pick(shards: list[bytes], indexes: tuple[int, ...] | list[int]) -> dict[int, bytes]:
    return {index: shards[index] for index in indexes}


def parity_of(parts: list[bytes], code: Redundancy) -> Iterator[bytes]:
    """By the definition: rows of a Cauchy matrix over GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1, over the data shards."""
    powers = [1]
    while len(powers) < 255:
        doubled = powers[-1] << 1
        powers.append(doubled ^ 0x11D if doubled > 255 else doubled)
    logs = {power: exponent for exponent, power in enumerate(powers)}
    for row in range(code.needed, code.shards):
        total = bytearray(len(parts[0]))
        for column, part in enumerate(parts):
            inverse = -logs[row ^ column]
            for at, byte in enumerate(part):
                total[at] ^= powers[(logs[byte] + inverse) % 255] if byte else 0
        yield bytes(total)


# --- any so many are enough -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "first"), PARTS)
def test_every_pattern_of_losses_that_a_code_tolerates_is_survived(code: Redundancy, first: int) -> None:
    length = code.needed * ALIGNMENT - 5
    chunk = content(code.name, length)
    shards = shards_of(chunk, code)
    for kept in islice(combinations(range(code.shards), code.needed), first, first + AT_ONCE):
        left = pick(shards, kept)
        assert erasure.join(left, code, length) == chunk, kept
        for lost in set(range(code.shards)) - set(kept):
            assert erasure.rebuild(left, lost, code, length) == shards[lost], (kept, lost)


@given(code=codes, length=st.integers(1, 5000), seed=st.integers(0, 1 << 32), data=st.data())
def test_a_chunk_of_any_length_comes_back_from_any_shards_that_are_enough(
    code: Redundancy, length: int, seed: int, data: st.DataObject
) -> None:
    chunk = random.Random(seed).randbytes(length)
    shards = shards_of(chunk, code)
    order = data.draw(st.permutations(range(code.shards)))
    count = data.draw(st.integers(code.needed, code.shards))
    left = pick(shards, order[:count])
    assert erasure.join(left, code, length) == chunk
    wanted = data.draw(st.integers(0, code.shards - 1))
    assert (
        erasure.rebuild(pick(shards, [each for each in order if each != wanted]), wanted, code, length)
        == shards[wanted]
    )


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_a_full_chunk_survives_a_sample_of_losses(code: Redundancy) -> None:
    length = 100_000
    draw = random.Random(code.name)
    chunk = draw.randbytes(length)
    shards = shards_of(chunk, code)
    for _ in range(10):
        kept = draw.sample(range(code.shards), code.needed)
        assert erasure.join(pick(shards, kept), code, length) == chunk


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_one_shard_less_is_too_few(code: Redundancy) -> None:
    shards = shards_of(content("few", 1000), code)
    for use in (erasure.join, lambda left, *rest: erasure.rebuild(left, code.shards - 1, *rest)):
        with pytest.raises(Corrupt, match="too few"):
            use(pick(shards, range(code.needed - 1)), code, 1000)


# --- what shards are --------------------------------------------------------------------------------------------------


@given(code=codes, length=st.integers(1, 3000))
def test_the_first_shards_are_the_chunk_filled_up_with_zeros(code: Redundancy, length: int) -> None:
    chunk = content("plain", length)
    shards = shards_of(chunk, code)
    size = code.shard_bytes(length)
    assert [len(shard) for shard in shards] == [size] * code.shards
    assert b"".join(shards[: code.needed]) == chunk.ljust(code.needed * size, b"\0")
    assert size % ALIGNMENT == 0
    assert code.needed * (size - ALIGNMENT) < length <= code.needed * size


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_parity_is_that_of_the_cauchy_matrix(code: Redundancy) -> None:
    shards = shards_of(content("matrix", code.needed * ALIGNMENT), code)
    assert shards[code.needed :] == list(parity_of(shards[: code.needed], code))


@pytest.mark.parametrize("name", json.loads(GOLDEN.read_text()))
def test_shards_are_those_of_version_1(name: str) -> None:
    written = json.loads(GOLDEN.read_text())[name]
    code = parse_redundancy(written["redundancy"])
    chunk = content(name, written["length"])
    assert blake3(chunk).hexdigest() == written["chunk"]
    assert [blake3(shard).hexdigest() for shard in erasure.split(chunk, code)] == written["shards"]


@pytest.mark.parametrize("name", ["ec=2+1", "ec=4+2", "ec=12+4"])
def test_equal_chunks_have_equal_shards_whatever_buffer_they_are_in(name: str) -> None:
    code = parse_redundancy(name)
    for length in (1000, code.needed * ALIGNMENT * 10):
        chunk = content(name, length)
        shards = shards_of(chunk, code)
        for same in (bytearray(chunk), memoryview(chunk), memoryview(b"x" + chunk)[1:]):
            assert [bytes(shard) for shard in erasure.split(same, code)] == shards
        for kind in (bytes, bytearray, memoryview):
            left = {index: kind(shards[index]) for index in range(code.tolerates, code.shards)}
            assert erasure.join(left, code, length) == chunk
            assert erasure.rebuild(left, 0, code, length) == shards[0]


@given(code=codes, length=st.integers(1, 3000))
def test_one_shard_made_alone_is_that_of_all(code: Redundancy, length: int) -> None:
    chunk = content("alone", length)
    assert [bytes(erasure.shard(chunk, index, code)) for index in range(code.shards)] == shards_of(chunk, code)


def test_to_make_a_shard_with_the_chunks_own_bytes_nothing_is_coded(monkeypatch: pytest.MonkeyPatch) -> None:
    code = parse_redundancy("ec=4+2")
    chunk = content("own", 1000)
    shards = shards_of(chunk, code)
    monkeypatch.setattr(erasure, "_driver", None)
    assert [bytes(erasure.shard(chunk, index, code)) for index in range(4)] == shards[:4]


@pytest.mark.parametrize("name", ["ec=2+1", "ec=3+4", "ec=11+3", "ec=12+4"])
def test_what_is_coded_step_by_step_is_what_is_coded_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code = parse_redundancy(name)
    for length in (122_880, 122_881, 300_001, 1 << 20):
        chunk = content(f"steps {length}", length)
        shards = shards_of(chunk, code)
        with monkeypatch.context() as patch:
            patch.setattr(erasure, "_STEP_BYTES", 1 << 30)
            assert shards_of(chunk, code) == shards


def test_no_header_of_the_library_is_in_a_shard() -> None:
    """It would make the shards of equal bytes differ from one version of the library to another."""
    code = parse_redundancy("ec=4+2")
    assert shards_of(bytes(4 * ALIGNMENT), code) == [bytes(ALIGNMENT)] * 6


def test_data_shards_are_not_copied_where_they_are_full() -> None:
    chunk = content("views", 4 * ALIGNMENT)
    parts = erasure.split(chunk, parse_redundancy("ec=4+2"))[:4]
    assert all(isinstance(part, memoryview) and part.obj is chunk for part in parts)


# --- what the library does not do for us ------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [0, 5])
def test_a_damaged_shard_decodes_silently_to_wrong_bytes(bad: int) -> None:
    """Why each shard is verified before it is used, and the chunk after."""
    code = parse_redundancy("ec=4+2")
    chunk = content("damage", 4 * ALIGNMENT)
    left = pick(shards_of(chunk, code), [0, 2, 4, 5])
    left[bad] = bytes([left[bad][0] ^ 1]) + left[bad][1:]
    assert erasure.join(left, code, len(chunk)) != chunk
    assert erasure.rebuild(left, 1, code, len(chunk)) != chunk[ALIGNMENT : 2 * ALIGNMENT]


@pytest.mark.parametrize("change", [lambda shard: shard[:-1], lambda shard: shard + b"\0", lambda shard: b""])
def test_a_shard_of_another_size_is_refused(change) -> None:  # type: ignore[no-untyped-def]
    code = parse_redundancy("ec=2+2")
    shards = shards_of(content("sizes", 100), code)
    for kept in ([0, 1], [1, 3]):
        for index in kept:
            left = pick(shards, kept)
            left[index] = change(left[index])
            with pytest.raises(Corrupt, match="bytes"):
                erasure.join(left, code, 100)
            with pytest.raises(Corrupt, match="bytes"):
                erasure.rebuild(left, 2, code, 100)
    with pytest.raises(Corrupt, match="bytes"):
        erasure.join(pick(shards, [0, 1]), code, 1000)


def test_shards_that_there_cannot_be_do_not_count() -> None:
    code = parse_redundancy("ec=2+1")
    shards = shards_of(content("beyond", 100), code)
    with pytest.raises(Corrupt, match="too few"):
        erasure.join({0: shards[0], 3: shards[1], -1: shards[2]}, code, 100)


# --- the library itself -----------------------------------------------------------------------------------------------


@pytest.fixture
def fresh_check() -> Iterator[None]:
    """The library is looked for and checked anew, now and after the test."""

    def forget() -> None:
        erasure._checked_library.cache_clear()
        erasure._new_driver.cache_clear()

    forget()
    yield
    forget()


@pytest.mark.usefixtures("fresh_check")
def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyeclib", None)
    with pytest.raises(ConfigError) as refused:
        erasure.check_library()
    assert "dsa-zmq[ec]" in refused.value.remedy
    chunk = content("plain", 100)
    code = parse_redundancy("ec=2+1")
    with pytest.raises(ConfigError):
        erasure.split(chunk, code)
    parts = {0: chunk[:64], 1: chunk[64:].ljust(64, b"\0")}
    assert erasure.join(parts, code, 100) == chunk, "the chunk's own bytes need no decoding"


@pytest.mark.usefixtures("fresh_check")
def test_a_library_that_makes_other_shards_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyeclib import ec_iface

    class Other(ec_iface.ECDriver):  # type: ignore[misc]
        """With the matrix that loses some patterns."""

        def __init__(self, k: int, m: int, ec_type: str) -> None:
            super().__init__(k=k, m=m, ec_type="isa_l_rs_vand")

    monkeypatch.setattr(ec_iface, "ECDriver", Other)
    with pytest.raises(ConfigError, match="other shards"):
        erasure.check_library()
