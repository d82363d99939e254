"""Frames to envelopes and back."""

from __future__ import annotations

import os
import struct

import pytest

from actors import wire
from actors.errors import MessageTooLarge, ProtocolError

HEADER = wire.direct_header(17)
FEED = wire.feed_header("node-1", 17)
SMALL = wire.Limits(message_bytes=10, payload_bytes=20, payload_frames=3)


def refused(frames: list[bytes], limits: wire.Limits = wire.DEFAULT_LIMITS) -> str:
    with pytest.raises(ProtocolError) as caught:
        wire.unpack(frames, limits)
    return caught.value.reason


def refused_feed(frames: list[bytes], limits: wire.Limits = wire.DEFAULT_LIMITS) -> str:
    with pytest.raises(ProtocolError) as caught:
        wire.unpack_feed(frames, limits)
    return caught.value.reason


def test_the_header_is_a_fixed_format() -> None:
    assert wire.direct_header(0x0102030405060708) == b"DA\x01\x01\x01\x02\x03\x04\x05\x06\x07\x08"
    assert wire.feed_header("n7", 1) == b"DA\x01\x02" + bytes(7) + b"\x01\x02n7"


def test_what_is_packed_is_unpacked() -> None:
    body, payload = os.urandom(100), [os.urandom(1000), b"", memoryview(os.urandom(70_000))[1:]]
    frames = wire.pack(HEADER, body, payload)
    envelope = wire.unpack(frames)
    assert (envelope.incarnation, envelope.body) == (17, body)
    assert list(envelope.payload) == [bytes(frame) for frame in payload]
    assert len(frames) == 4


def test_payload_is_passed_on_without_a_copy() -> None:
    payload = [os.urandom(10), memoryview(os.urandom(10))]
    assert all(ours is theirs for ours, theirs in zip(payload, wire.pack(HEADER, b"", payload)[1:], strict=True))


def test_a_payload_of_wider_items_is_counted_in_bytes() -> None:
    wide = memoryview(struct.pack("4q", 1, 2, 3, 4)).cast("q")
    assert [len(frame) for frame in wire.pack(HEADER, b"", [wide])] == [wire.HEADER_BYTES, 32]


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
