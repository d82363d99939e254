"""The bytes of a segment: what is found again, whatever happened to them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from actors.sim.disk import SimDisk, SimFile
from dsa_zmq.errors import Incompatible
from dsa_zmq.node import segments
from dsa_zmq.node.segments import (
    ALIGN,
    DROP,
    FILE_HEADER_BYTES,
    PUT,
    RECORD_HEADER_BYTES,
    TRAILER_BYTES,
    FileHeader,
    Found,
    Record,
    decode_file_header,
    decode_record_header,
    encode_entry,
    encode_file_header,
    encode_footer,
    encode_record_header,
    find_generation,
    footer_bytes,
    largest_payload,
    pad,
    read_footer,
    record_bytes,
    scan,
    torn_tail,
)

GENERATION = 0x1122334455667788
GOLDEN = Path(__file__).parent.parent / "golden" / "segment_v1.json"


def payload(number: int, size: int) -> bytes:
    return random.Random(f"payload {number}").randbytes(size)


def build(sizes: list[int | None], size: int = 4096, *, sealed: bool = False) -> tuple[bytes, list[Record]]:
    """A segment with a put of each size, or a drop where it is None."""
    image = bytearray(size)
    image[:FILE_HEADER_BYTES] = encode_file_header(FileHeader(1, GENERATION, size))
    records, entries, offset = [], b"", FILE_HEADER_BYTES
    for number, length in enumerate(sizes, 1):
        data = payload(number, length or 0)
        digest = bytes(32) if length is None else blake3(data).digest()
        record = Record(
            DROP if length is None else PUT, 100 + number, number % 3, (length or 0) * 2, length or 0, digest, number, offset
        )  # fmt: skip
        image[offset : record.end] = encode_record_header(record, GENERATION) + data + pad(record.length)
        entries += encode_entry(record)
        records.append(record)
        offset = record.end
    if sealed:
        footer, at = encode_footer(entries, GENERATION, size)
        assert at >= offset
        image[at:] = footer
    return bytes(image), records


def file_with(image: bytes) -> SimFile:
    file = SimDisk(random.Random(0)).open("segment", create=True)
    file.pwritev([image], 0)
    return file


def found_in(image: bytes) -> list[Found]:
    return list(scan(file_with(image), len(image), GENERATION))


def flipped(image: bytes, at: int, bit: int = 0) -> bytes:
    return image[:at] + bytes([image[at] ^ 1 << bit]) + image[at + 1 :]


@given(
    st.sampled_from([PUT, DROP]), st.integers(0, (1 << 63) - 1), st.integers(0, 255), st.integers(0, 1 << 24),
    st.integers(0, 1 << 24), st.binary(min_size=32, max_size=32), st.integers(0, (1 << 64) - 1),
    st.integers(0, (1 << 64) - 1),
)  # fmt: skip
def test_a_record_header_comes_back(
    kind: int, chunk: int, index: int, whole: int, length: int, digest: bytes, sequence: int, generation: int
) -> None:
    record = Record(kind, chunk, index, whole, length, digest, sequence, 640)
    header = encode_record_header(record, generation)
    assert len(header) == RECORD_HEADER_BYTES
    assert decode_record_header(header, 640, generation) == record
    assert decode_record_header(header, 640, generation ^ 1) is None


@given(st.integers(0, 10_000))
def test_records_are_aligned_and_little_is_wasted(length: int) -> None:
    assert record_bytes(length) % ALIGN == 0
    assert RECORD_HEADER_BYTES + length <= record_bytes(length) < RECORD_HEADER_BYTES + length + ALIGN
    assert len(pad(length)) == record_bytes(length) - RECORD_HEADER_BYTES - length


@pytest.mark.parametrize("size", [4096, 16384, 1 << 26])
def test_the_largest_payload_fits_a_segment_and_one_byte_more_does_not(size: int) -> None:
    room = size - FILE_HEADER_BYTES - footer_bytes(1)
    assert record_bytes(largest_payload(size)) <= room < record_bytes(largest_payload(size) + 1)


def test_a_scan_finds_all_records_in_order() -> None:
    image, records = build([100, None, 1, 700, 0, None, 48])
    assert found_in(image) == [Found(record, True) for record in records]


def test_any_flipped_byte_costs_at_most_the_record_it_hit() -> None:
    image, records = build([100, None, 70, 300])
    end = records[-1].end
    for at in range(FILE_HEADER_BYTES, end):
        found = found_in(flipped(image, at, at % 8))
        whole = [one.record for one in found if one.intact]
        hit = next(record for record in records if record.offset <= at < record.end)
        in_padding = at >= hit.payload_offset + hit.length
        assert whole == [record for record in records if record != hit or in_padding], at
        assert {one.record for one in found} <= set(records)


def test_any_flipped_byte_of_a_footer_makes_it_unbelievable_or_changes_nothing() -> None:
    image, records = build([100, None, 70, 300], sealed=True)
    assert read_footer(file_with(image), len(image), GENERATION) == records
    for at in range(len(image) - footer_bytes(len(records)), len(image)):
        assert read_footer(file_with(flipped(image, at)), len(image), GENERATION) is None
        assert [one.record for one in found_in(flipped(image, at))] == records


def test_a_footer_of_another_generation_does_not_count() -> None:
    image, _ = build([100], sealed=True)
    assert read_footer(file_with(image), len(image), GENERATION + 1) is None


def test_a_record_inside_a_payload_does_not_count() -> None:
    """Not even if it is one of this store, as long as nobody knows the segment's generation."""
    forged = Record(PUT, 666, 0, 10, 10, blake3(b"0123456789").digest(), 99, 0)
    inner = encode_record_header(forged, GENERATION ^ 1) + b"0123456789"
    image, records = build([64 * 5])
    at = records[0].payload_offset + (-records[0].payload_offset % ALIGN)
    image = image[:at] + inner + image[at + len(inner) :]
    found = found_in(flipped(image, records[0].offset))
    assert found == []


def test_a_scan_reads_windows_of_any_alignment(monkeypatch: pytest.MonkeyPatch) -> None:
    image, records = build([900, 60, None, 500, 333], size=8192)
    damaged = flipped(image, records[0].offset + 9)
    for window in (64, 128, 256, 1024):
        monkeypatch.setattr(segments, "SCAN_WINDOW_BYTES", window)
        assert [one.record for one in found_in(image)] == records
        assert [one.record for one in found_in(damaged)] == records[1:]


def test_a_record_that_would_reach_beyond_the_file_does_not_count() -> None:
    image, records = build([3000, 800])
    assert [one.record for one in found_in(image[: records[1].end - 64])] == records[:1]


@pytest.mark.parametrize(("intact", "torn"), [("ttt", 0), ("ttf", 1), ("tff", 2), ("ftf", 1), ("fff", 3), ("", 0)])
def test_only_damage_with_nothing_sound_behind_it_is_a_torn_tail(intact: str, torn: int) -> None:
    _, records = build([10] * len(intact))
    found = [Found(record, mark == "t") for record, mark in zip(records, intact, strict=True)]
    assert torn_tail(found) == found[len(found) - torn :]


def test_a_file_header_comes_back_and_a_damaged_one_does_not() -> None:
    header = FileHeader(7, GENERATION, 1 << 26)
    data = encode_file_header(header)
    assert decode_file_header(data, "x") == header
    for at in range(len(data)):
        assert decode_file_header(flipped(data, at), "x") is None
    assert decode_file_header(bytes(64), "x") is None
    assert decode_file_header(b"", "x") is None


def test_a_segment_of_a_newer_format_is_refused_by_name() -> None:
    body = segments._FILE.pack(b"DSASEGMT", 2, 0, 1, GENERATION, 4096)
    said = (
        r"segments/00000001\.seg has segment format 2, this build reads format 1; upgrade the node .* segment format 2"
    )
    with pytest.raises(Incompatible, match=said):
        decode_file_header(segments._sealed(body), "segments/00000001.seg")


def test_a_generation_is_found_without_the_file_header() -> None:
    for sealed in (False, True):
        image, _ = build([100, 200], sealed=sealed)
        for damaged in (bytes(64) + image[64:], flipped(bytes(64) + image[64:], 64)):
            assert find_generation(file_with(damaged), len(image)) == GENERATION
    assert find_generation(file_with(bytes(4096)), 4096) is None
    assert find_generation(file_with(b""), 0) is None


def test_the_golden_segment_still_reads_and_is_still_what_is_written() -> None:
    golden = json.loads(GOLDEN.read_text())
    image, records = build([100, None, 1, 64], size=1024, sealed=True)
    assert [record._replace(hash=record.hash.hex())._asdict() for record in records] == golden["records"]
    assert image.hex() == "".join(golden["bytes"])
    stored = bytes.fromhex("".join(golden["bytes"]))
    assert decode_file_header(stored[:FILE_HEADER_BYTES], "golden") == FileHeader(1, GENERATION, 1024)
    assert read_footer(file_with(stored), 1024, GENERATION) == records
    assert found_in(stored) == [Found(record, True) for record in records]
    assert len(stored) - TRAILER_BYTES > records[-1].end
