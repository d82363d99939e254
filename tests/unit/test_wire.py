"""Frames to envelopes and back."""

from __future__ import annotations

import os
import struct

import pytest

from actors import limits, wire
from actors.errors import MessageTooLarge, ProtocolError

HEADER = wire.direct_header(17)
FEED = wire.feed_header("node-1", 17)
SMALL = wire.Limits(message_bytes=10, payload_bytes=20, payload_frames=3)


def refused(frames: list[bytes], within: wire.Limits = wire.DEFAULT_LIMITS) -> str:
    with pytest.raises(ProtocolError) as caught:
        wire.unpack(frames, within)
    return caught.value.reason


def refused_feed(frames: list[bytes], within: wire.Limits = wire.DEFAULT_LIMITS) -> str:
    with pytest.raises(ProtocolError) as caught:
        wire.unpack_feed(frames, within)
    return caught.value.reason


def test_the_header_is_a_fixed_format() -> None:
    assert wire.direct_header(0x0102030405060708) == b"DA\x01\x01\x01\x02\x03\x04\x05\x06\x07\x08"
    assert wire.feed_header("n7", 1) == b"DA\x01\x02" + bytes(7) + b"\x01\x02n7"


def test_a_joined_message_is_a_fixed_format() -> None:
    header = wire.direct_header(0x0102030405060708)
    assert wire.pack(header, b"message", [b"one", b"", bytes(258)]) == [
        b"DA\x01\x03\x01\x02\x03\x04\x05\x06\x07\x08\x00\x03\x00\x03\x00\x00\x01\x02messageone" + bytes(258)
    ]


def test_what_is_packed_is_unpacked() -> None:
    body, payload = os.urandom(100), [os.urandom(1000), b"", memoryview(os.urandom(70_000))[1:]]
    frames = wire.pack(HEADER, body, payload)
    envelope = wire.unpack(frames)
    assert (envelope.incarnation, envelope.body) == (17, body)
    assert list(envelope.payload) == [bytes(frame) for frame in payload]
    assert len(frames) == 4


def test_small_payload_is_joined_and_comes_back_as_views_of_one_buffer() -> None:
    body, payload = os.urandom(100), [os.urandom(4096), b"", memoryview(os.urandom(300))[1:], os.urandom(1)]
    (frame,) = wire.pack(HEADER, body, payload)
    envelope = wire.unpack([memoryview(frame)])
    assert (envelope.incarnation, envelope.body) == (17, body)
    assert list(envelope.payload) == [bytes(part) for part in payload]
    assert all(part.obj is frame and part.readonly for part in envelope.payload)


def test_payload_is_joined_up_to_the_limits_and_not_beyond() -> None:
    part = bytes(limits.JOINED_FRAME_BYTES)
    parts = [part] * (limits.JOINED_PAYLOAD_BYTES // len(part))
    body = bytes(limits.JOINED_MESSAGE_BYTES)
    (largest,) = wire.pack(HEADER, body, parts)
    assert len(largest) < 325 << 10, "so much one small part of it may keep in memory"
    assert wire.unpack([largest]).payload == parts
    assert len(wire.pack(HEADER, b"", [part + b"x"])) == 2
    assert len(wire.pack(HEADER, b"", [*parts, b"x"])) == len(parts) + 2
    assert len(wire.pack(HEADER, body + b"x", [b"y"])) == 2
    assert len(wire.pack(HEADER, b"", [b"x"] * limits.MAX_PAYLOAD_FRAMES)) == 1


def test_large_payload_is_passed_on_without_a_copy() -> None:
    payload = [os.urandom(10), memoryview(os.urandom(40_000))]
    assert all(ours is theirs for ours, theirs in zip(payload, wire.pack(HEADER, b"", payload)[1:], strict=True))


def test_a_payload_of_wider_items_is_counted_in_bytes() -> None:
    for count in (4, 8_000):
        wide = memoryview(os.urandom(8 * count)).cast("q")
        assert [bytes(frame) for frame in wire.unpack(wire.pack(HEADER, b"", [wide])).payload] == [bytes(wide)]


@pytest.mark.parametrize(
    "frame",
    [bytearray(b"x"), memoryview(bytearray(b"x")), memoryview(b"abcd")[::2], "text", 7, None],
    ids=["bytearray", "writable", "strided", "str", "int", "None"],
)
def test_a_payload_that_could_change_is_refused(frame: object) -> None:
    with pytest.raises(TypeError, match="read-only"):
        wire.pack(HEADER, b"", [b"fine", frame])  # type: ignore[list-item]


def test_what_fits_the_limits_exactly_is_sent_and_read() -> None:
    frames = wire.pack(HEADER, bytes(10), [bytes(10), bytes(10), b""], SMALL)
    assert len(wire.unpack(frames, SMALL).payload) == 3
    assert len(wire.unpack_feed(wire.pack_feed("t", FEED, bytes(10), SMALL), SMALL).body) == 10


def test_what_exceeds_a_limit_is_not_sent() -> None:
    with pytest.raises(MessageTooLarge, match="message of 11 bytes; at most 10"):
        wire.pack(HEADER, bytes(11), (), SMALL)
    with pytest.raises(MessageTooLarge, match="payload of 4 frames; at most 3"):
        wire.pack(HEADER, b"", [b""] * 4, SMALL)
    with pytest.raises(MessageTooLarge, match="payload of 21 bytes; at most 20"):
        wire.pack(HEADER, b"", [bytes(10), bytes(11)], SMALL)
    with pytest.raises(MessageTooLarge, match="message of 11 bytes"):
        wire.pack_feed("t", FEED, bytes(11), SMALL)
    with pytest.raises(MessageTooLarge, match="topic of 256 bytes"):
        wire.pack_feed("t" * 256, FEED, b"", SMALL)


def test_what_exceeds_a_limit_is_not_read() -> None:
    assert refused([HEADER + bytes(11)], SMALL) == "message_size"
    assert refused([HEADER, *[b""] * 4], SMALL) == "frame_count"
    assert refused([HEADER, bytes(10), bytes(11)], SMALL) == "payload_size"
    assert refused_feed([b"t", FEED + bytes(11)], SMALL) == "message_size"


def test_each_kind_of_malformed_message_has_its_reason() -> None:
    assert refused([]) == "short"
    assert refused([b""]) == "short"
    assert refused([HEADER[:-1]]) == "short"
    assert refused([b"XA" + HEADER[2:]]) == "magic"
    assert refused([HEADER[:2] + b"\x02" + HEADER[3:]]) == "version"
    assert refused([HEADER[:3] + b"\x09" + HEADER[4:]]) == "kind"
    assert refused([FEED]) == "kind"


def joined(*lengths: int, rest: bytes = b"", count: int | None = None) -> bytes:
    table = struct.pack(f">{1 + len(lengths)}H", len(lengths) if count is None else count, *lengths)
    return HEADER[:3] + b"\x03" + HEADER[4:] + table + rest


def test_each_kind_of_malformed_joined_message_has_its_reason() -> None:
    assert refused([joined()]) == "short"
    assert refused([joined()[:-1]]) == refused([joined()[:-2]]) == "short"
    assert refused([joined(1, count=2)]) == refused([joined(1, 1)[:-1]]) == "short"
    assert refused([joined(3, 4, rest=b"123456")]) == "short"
    assert refused([joined(1, rest=b"1"), b""]) == "frame_count"
    assert refused([joined(0, 0, 0, 0)], SMALL) == "frame_count"
    assert refused([joined(0, rest=bytes(11))], SMALL) == "message_size"
    assert refused([joined(10, 11, rest=bytes(21))], SMALL) == "payload_size"
    assert refused([joined(limits.JOINED_FRAME_BYTES + 1, rest=bytes(40_000))]) == "payload_size"
    assert refused([joined(*[30_000] * 9, rest=bytes(270_000))]) == "payload_size"
    assert refused([joined(1, rest=bytes(limits.JOINED_MESSAGE_BYTES + 2))]) == "message_size"


def test_each_kind_of_malformed_feed_message_has_its_reason() -> None:
    assert refused_feed([]) == refused_feed([b"topic"]) == "short"
    assert refused_feed([b"topic", FEED, b""]) == "frame_count"
    assert refused_feed([b"topic", HEADER]) == "kind"
    assert refused_feed([b"topic", FEED[: wire.HEADER_BYTES]]) == "short"
    assert refused_feed([b"topic", FEED[:-1]]) == "name"
    assert refused_feed([b"topic", FEED[: wire.HEADER_BYTES] + b"\x00"]) == "name"
    assert refused_feed([b"topic", FEED[: wire.HEADER_BYTES] + b"\x03a/b"]) == "name"


def test_a_feed_message_names_its_sender() -> None:
    body = os.urandom(50)
    envelope = wire.unpack_feed(wire.pack_feed("topic", FEED, body))
    assert (envelope.name, envelope.incarnation, envelope.body) == ("node-1", 17, body)


@pytest.mark.parametrize(
    "routing_id",
    [
        b"",
        b"name",
        b"/1",
        b"name/",
        b"name/-1",
        b"name/+1",
        b"name/01",
        b"name/1_0",
        b"name/ 1",
        b"name/1\n",
        b"a/b/1",
        b"\x00\x01\x02\x03\x04",
        b"n\xc3\xa4me/1",
        b"tab\t/1",
        b"x" * 201 + b"/1",
        b"name/18446744073709551616",
    ],
)
def test_a_routing_id_that_no_actor_has_is_refused(routing_id: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        wire.parse_peer_name(routing_id)
    assert caught.value.reason == "name"


def test_peer_names_are_parsed_back() -> None:
    for name, incarnation in (("n", 0), ("node 3~!.", 17), ("x" * 200, wire.MAX_INCARNATION)):
        assert wire.parse_peer_name(wire.peer_name(name, incarnation)) == (name, incarnation)
    assert len(wire.peer_name("x" * 200, wire.MAX_INCARNATION)) <= 255


@pytest.mark.parametrize(
    ("name", "incarnation"), [("", 1), ("a/b", 1), ("ä", 1), ("x" * 201, 1), ("a", -1), ("a", 1 << 64)]
)
def test_a_name_that_fits_no_routing_id_is_refused(name: str, incarnation: int) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        wire.peer_name(name, incarnation)
